"""The frame of the book: its contents, its map, its questions, its glossary.

Made from `_toc.yml`, `book/sections.tsv` and the metadata of the notebooks: `mirrors`
names the sections that a chapter treats, `corrects` what is wrong or missing in them.
`make format` writes each table between two marks of a page.
"""

import posixpath
import re

import yaml
from myst_parser.mdit_to_docutils.base import default_slugify

from tools import chapters

START, END = "<!-- made by `make format`: {} -->", "<!-- end -->"
DOCUMENTS = {
    "1": "a network of 32 and 10 neurons",
    "2": "a network of 128, 128 and 10 neurons",
    "3": "better services",
    "4": "large models, and a table of patients",
    "5": "large models as a service, and images",
}
LATER = {  # chapters that a section is planned for and that nobody has written yet
    "keras/survival": "survival",
    "keras/treatment": "treatment",
    "keras/automated_device": "automated devices",
    "keras/clinical_text": "clinical text",
    "keras/drug_discovery": "drug discovery",
}


def title(page):
    """The page's title."""
    if page.suffix == ".ipynb":
        text = chapters.read(page).cells[0].source
    else:
        text = page.read_text(encoding="utf-8")
    return re.search(r"^# (.+)$", text, re.MULTILINE)[1]


def treated():
    """Each section and question: the chapters that treat it, and what they correct.

    Returns: dict of identifier to {path of the notebook: words, or None}
    """
    found = {entry: {} for entry in chapters.sections()}
    for path in chapters.notebooks():
        metadata = chapters.read(path).metadata
        for entry in metadata.get("mirrors", []):
            found[entry][path] = metadata.get("corrects", {}).get(entry)
    return found


def gaps():
    """What the table of sections asks for and the chapters do not give, in words."""
    found, missing = treated(), []
    for entry, wanted in chapters.planned().items():
        names = {chapters.name(path) for path in found[entry]}
        for chapter in wanted:
            if chapter not in names and chapter not in LATER:
                missing.append(f"{entry}: {chapter} does not list it in its `mirrors`")
        if not names and not set(wanted) & set(LATER):
            missing.append(f"{entry}: no chapter treats it")
    listed = {chapter for wanted in chapters.planned().values() for chapter in wanted}
    missing += [
        f"{chapter}: later, and in no section" for chapter in LATER.keys() - listed
    ]
    for chapter in LATER:
        if (chapters.ROOT / "book" / f"{chapter}.ipynb").exists():
            missing.append(f"{chapter} is written: take it out of LATER")
    return missing


def contents(page):
    """The chapters, part by part."""
    toc = yaml.safe_load((chapters.ROOT / "_toc.yml").read_text(encoding="utf-8"))
    listed = {
        path.relative_to(chapters.ROOT).with_suffix("").as_posix(): path
        for path in chapters.pages()
    }
    lines = []
    for part in toc["parts"]:
        links = [_link(page, listed[chapter["file"]]) for chapter in part["chapters"]]
        lines.append(f"- {part['caption']}: {', '.join(links)}")
    return "\n".join(lines)


def documents(page):
    """Each document, each section: where it is treated, and what is corrected."""
    found, lines = treated(), []
    for entry, heading in chapters.sections().items():
        document, section = entry.split(" ")
        if f"## Document {document}" not in "\n".join(lines):
            lines.append(f"\n## Document {document}: {DOCUMENTS[document]}\n")
        lines.append(f"- **{section}** {heading}")
        for path, words in found[entry].items():
            where = _link(page, path, entry)
            lines.append(f"  - {where}: {words}" if words else f"  - {where}")
        coming = [LATER[c] for c in chapters.planned()[entry] if c in LATER]
        if coming:
            lines.append(f"  - chapters to come: {', '.join(coming)}")
    return "\n".join(lines).strip()


def questions(page):
    """Each question that the documents ask, and where its answer stands."""
    lines = ["| asked in | question | answered in |", "|---|---|---|"]
    for entry, paths in treated().items():
        document, section = entry.split(" ")
        if section.startswith("Q"):
            links = ", ".join(_link(page, path, entry) for path in paths)
            question = chapters.sections()[entry]
            lines.append(f"| document {document}, {section} | {question} | {links} |")
    return "\n".join(lines)


def _link(page, path, entry=None):
    """A link to the chapter, at the heading that names the section if there is one."""
    address = posixpath.relpath(path.as_posix(), page.parent.as_posix())
    if entry and (heading := _heading(path, entry)):
        address += f"#{default_slugify(heading)}"
    return f"[{title(path)}]({address})"


def _heading(path, entry):
    cells = [c.source for c in chapters.read(path).cells if c.cell_type == "markdown"]
    found = re.search(rf"^##+ (.*\({re.escape(entry)}\).*)$", "\n".join(cells), re.M)
    return found and found[1]


TABLES = {
    "index.md": contents,
    "map.md": documents,
    "questions/every_question.md": questions,
}


def written(file):
    """The page with its table made anew."""
    page, make = chapters.ROOT / "book" / file, TABLES[file]
    start = START.format(make.__name__)
    text = page.read_text(encoding="utf-8")
    mark = re.compile(f"{re.escape(start)}.*?{re.escape(END)}", re.DOTALL)
    if len(mark.findall(text)) != 1:
        raise ValueError(f"{file} needs the lines {start!r} and {END!r}, once each")
    return mark.sub(lambda _: f"{start}\n\n{make(page)}\n\n{END}", text)


def glossary():
    """The entries of the glossary: term, chapter that explains it (a path), meaning."""
    page = chapters.ROOT / "book" / "glossary.md"
    entry = re.compile(r"^- \*\*(.+?)\*\*.*?: (.+) → \[.*?\]\((.+?)\)$", re.M)
    return [
        (term, (page.parent / address.partition("#")[0]).resolve(), meaning)
        for term, meaning, address in entry.findall(page.read_text(encoding="utf-8"))
    ]
