"""The chapters as files: where they are, how they are read and written."""

import csv
import functools
import re
from pathlib import Path

import nbformat
import yaml

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "_build"
HTML = BUILD / "html"

KERNELSPEC = {"display_name": "Python 3", "language": "python", "name": "python3"}
MIRRORS_CELL = "mirrors"  # id of the cell that `make format` writes


def name(path):
    """The chapter's name, as the table of contents and the page address have it."""
    return path.relative_to(ROOT / "book").with_suffix("").as_posix()


def pages(root=ROOT):
    """Every page of the table of contents, in reading order, as paths."""
    toc = yaml.safe_load((root / "_toc.yml").read_text(encoding="utf-8"))
    files = [toc["root"]]
    for part in toc.get("parts", [{"chapters": toc.get("chapters", [])}]):
        files += [chapter["file"] for chapter in part["chapters"]]
    return [_with_suffix(root / file) for file in files]


def _with_suffix(path):
    for suffix in (".ipynb", ".md"):
        if path.with_suffix(suffix).exists():
            return path.with_suffix(suffix)
    raise FileNotFoundError(f"_toc.yml names {path}, but no .ipynb or .md is there")


def notebooks(root=ROOT):
    """The notebooks of the table of contents, in reading order."""
    return [page for page in pages(root) if page.suffix == ".ipynb"]


def chosen(chapters):
    """The notebooks with these names, all of them if there are none."""
    found = {name(path): path for path in notebooks()}
    wanted = [
        chapter.removesuffix(".ipynb").removeprefix("book/") for chapter in chapters
    ]
    for chapter in wanted:
        if chapter not in found:
            raise SystemExit(f"no chapter {chapter!r}; there are: {', '.join(found)}")
    return [found[chapter] for chapter in wanted or found]


def read(path):
    """The notebook, or a ValueError that says why it is none."""
    try:
        return nbformat.reads(path.read_text(encoding="utf-8"), as_version=4)
    except Exception as error:
        raise ValueError(f"{path} is not a readable notebook: {error}") from error


def text(notebook):
    """The one form in which a notebook is stored: nbformat's own, one line end."""
    return nbformat.writes(notebook, version=4).rstrip("\n") + "\n"


def tags(cell):
    return cell.metadata.get("tags", [])


@functools.cache
def _listed():
    with open(ROOT / "book" / "sections.tsv", encoding="utf-8", newline="") as file:
        return tuple(csv.DictReader(file, delimiter="\t"))


def sections():
    """The documents' sections and questions: identifier ("4 §3.2.1") to title."""
    return {
        identifier(row["document"], row["section"]): row["title"] for row in _listed()
    }


def planned():
    """Each section or question: the names of the chapters, written or not, for it."""
    return {
        identifier(row["document"], row["section"]): row["chapters"].split()
        for row in _listed()
    }


def identifier(document, section):
    return f"{document} {section if section.startswith('Q') else '§' + section}"


def mirrors_line(identifiers):
    """What a chapter mirrors, as a reader sees it, document by document."""
    documents = {}
    for entry in identifiers:
        document, section = entry.split(" ", 1)
        title = re.sub(r"[.:;]$", "", sections().get(entry, ""))
        documents.setdefault(document, []).append(f"{section} *{title}*")
    parts = [f"document {d}: {', '.join(found)}" for d, found in documents.items()]
    line = "; ".join(parts).replace("document", "[document](../map.md)", 1)
    return f"**Mirrors** {line}."


def formatted(notebook):
    """The notebook in its one form: what `make format` writes.

    Outputs and counts go, except a promise's; so does metadata that editors add;
    missing cell ids come from nbformat; the Mirrors cell is written from metadata.
    """
    mirrors = notebook.metadata.get("mirrors", [])
    frame = {"mirrors": mirrors, "corrects": notebook.metadata.get("corrects")}
    notebook = nbformat.from_dict(notebook)
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    notebook.metadata = nbformat.from_dict(
        {
            "kernelspec": KERNELSPEC,
            "language_info": {"name": "python"},
            **{key: value for key, value in frame.items() if value},
        }
    )
    for number, cell in enumerate(notebook.cells):
        kept = {
            key: cell.metadata[key]
            for key in ("mystnb", "tags")
            if cell.metadata.get(key)
        }
        if "solution" in kept.get("tags", []) and "hide-cell" not in kept["tags"]:
            kept["tags"] = [*kept["tags"], "hide-cell"]
        cell.metadata = nbformat.from_dict(kept)
        cell.source = cell.source.strip("\n")
        if not cell.get("id"):
            cell.id = f"cell-{number}"
        if cell.cell_type == "code":
            _strip(cell)
        if cell.id == MIRRORS_CELL and mirrors:
            cell.source = mirrors_line(mirrors)
    return notebook


def _strip(cell):
    """Empty a code cell of what a run left, except the text that it promises."""
    if "promise" not in tags(cell):
        cell.outputs, cell.execution_count = [], None
        return
    cell.execution_count = 1 if cell.outputs else None  # nbval compares if it is set
    for output in cell.outputs:
        output.pop("metadata", None)
        if output.output_type in ("execute_result", "display_data"):
            output["metadata"] = nbformat.from_dict({})
        if "execution_count" in output:
            output.execution_count = 1
