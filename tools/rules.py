"""The rules that every notebook keeps. Each finding says how to mend it."""

import ast
import json
import re
from collections import Counter
from typing import NamedTuple

from tools import chapters, colab

OPENING = ("You will", "You need", "Time", "Mirrors", "Data and limits")
ENDING = ("What can go wrong", "Recap", "Exercises", "Sources")
SHORT = {"setup", "refresher", "questions/short_answers"}  # a few of the sections only
SHORT_SECTIONS = ("You will", "You need", "Time", "Recap")
DIRECTIVES = {"note", "warning", "dropdown"}
WORDS = re.compile(r"\b(simply|just|obviously)\b", re.IGNORECASE)
DRAWS = re.compile(r"\b(plt|figures|ax|axes)\b(\[.*?\])?\.\w+\(|\.(plot|imshow)\(")
ABSOLUTE = re.compile(
    r"(?<![\w.:/~<\\-])/(?:[\w.-]+/)+[\w.-]*|(?<!\w)[A-Za-z]:[\\/]+\w|file:///"
)
FORBIDDEN = {
    r"^\s*[!%]": "shell and magic commands; the book runs plain Python",
    r"\bsys\.path\b": "sys.path; import `helpers`, which is installed",
    r"filterwarnings\(\s*[\"']ignore[\"']\s*\)": "a filter that hides every warning",
    r"except[^:\n]*:\s*pass\b": "`except: pass`, which hides the error",
}


class Finding(NamedTuple):
    """What is wrong, where, and what mends it."""

    file: str
    cell: str
    problem: str
    mend: str

    def __str__(self):
        return f"{self.file}, {self.cell}: {self.problem}\n    mend: {self.mend}"


def check(path):
    """Every rule that this notebook breaks, as a list of findings."""
    file = (
        path.relative_to(chapters.ROOT).as_posix()
        if path.is_relative_to(chapters.ROOT)
        else path.name
    )
    try:
        notebook = chapters.read(path)
    except ValueError as error:
        return [Finding(file, "file", str(error), "restore the file from git")]
    found = []

    def add(cell, problem, mend):
        where = cell if isinstance(cell, str) else f"cell {cell.id!r}"
        found.append(Finding(file, where, problem, mend))

    _ids(path, add)
    _form(path, notebook, add)
    _sections(file, notebook, add)
    _mirrors(notebook, add)
    for cell in notebook.cells:
        (_code if cell.cell_type == "code" else _prose)(cell, add)
        for match in ABSOLUTE.finditer(_literals(cell)):
            add(
                cell,
                f"absolute path {match[0]!r}",
                "name it relative to a folder that the code asks for",
            )
    if not _short(file) and not any(
        "promise" in chapters.tags(c) for c in notebook.cells
    ):
        add(
            "file",
            "no cell is tagged `promise`, so nbval compares nothing",
            "tag the cells whose numbers the prose works by hand, then `make promises`",
        )
    return found


def _short(file):
    return file.removeprefix("book/").removesuffix(".ipynb") in SHORT


def _ids(path, add):
    """Ids as the file has them: reading it with nbformat would mend them silently."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    for cell, count in Counter(cell.get("id") for cell in cells).items():
        if cell is None:
            add("file", f"{count} cells have no id", "make format")
        elif count > 1:
            add(f"cell {cell!r}", "the cell id stands twice", "give one another id")


def _form(path, notebook, add):
    for cell in notebook.cells:
        if cell.cell_type != "code":
            continue
        promised = "promise" in chapters.tags(cell)
        if not promised and (cell.outputs or cell.execution_count is not None):
            add(
                cell,
                "stores an output or a count, and is not tagged `promise`",
                "make format",
            )
        if promised and (not cell.outputs or cell.execution_count is None):
            add(
                cell,
                "is tagged `promise` and stores nothing to compare",
                "make promises",
            )
        for output in cell.outputs if promised else []:
            data = set(output.get("data", {"text/plain": ""}))
            if output.get("name") == "stderr" or data != {"text/plain"}:
                add(
                    cell,
                    "promises something that is not plain text",
                    "promise what the cell prints; leave figures and tables to claims",
                )
    if path.read_text(encoding="utf-8") != chapters.text(chapters.formatted(notebook)):
        add("file", "is not in the one stored form", "make format")


def _sections(file, notebook, add):
    prose = [c for c in notebook.cells if c.cell_type == "markdown"]
    if not prose or not prose[0].source.startswith("# "):
        add(
            "first cell",
            "does not begin with the title, `# ...`",
            "write the title there",
        )
    titles = [
        c for c in prose if re.search(r"^# ", _outside_fences(c.source), re.MULTILINE)
    ]
    for cell in titles[1:]:
        add(cell, "a second title, `# ...`", "make it `##`")
    if not _short(file) and prose and "?*" not in prose[0].source:
        add(
            prose[0],
            "the title is not followed by the clinical question, `*...?*`",
            "ask it there, in one sentence",
        )
    wanted = SHORT_SECTIONS if _short(file) else OPENING + ENDING
    text = "\n\n".join(c.source for c in prose)
    position = 0
    for section in wanted:
        mark = re.compile(rf"^#+ {section}\b|\*\*{section}\b[.:]?\*\*", re.MULTILINE)
        match = mark.search(text, position)
        if match is None:
            where = "out of order" if mark.search(text) else "missing"
            add(
                "file",
                f"the section {section!r} is {where}",
                "keep this order: " + ", ".join(wanted),
            )
        else:
            position = match.start() + 1


def _mirrors(notebook, add):
    known = chapters.sections()
    entries = notebook.metadata.get("mirrors", [])
    for entry in entries:
        if entry not in known:
            add(
                "metadata",
                f"mirrors {entry!r}, which book/sections.tsv does not list",
                'write it as there, for example "4 §3.2.1" or "2 Q1"',
            )
    corrects = notebook.metadata.get("corrects", {})
    if set(corrects) != set(entries):
        add(
            "metadata",
            f"`corrects` speaks of {list(corrects)}, `mirrors` of {list(entries)}",
            "say of each section that it mirrors what it corrects",
        )
    for entry, words in corrects.items():
        if not 3 <= len(words.split()) <= 22 or words.endswith("."):
            add(
                "metadata",
                f"`corrects` says of {entry!r}: {words!r}",
                "write 3 to 22 words for the map, without a full stop",
            )
    if entries and not any(c.id == chapters.MIRRORS_CELL for c in notebook.cells):
        add(
            "file",
            f"mirrors sections but has no cell {chapters.MIRRORS_CELL!r}",
            "add an empty Markdown cell with that id, then make format",
        )


def _code(cell, add):
    tags = chapters.tags(cell)
    for pattern, what in FORBIDDEN.items():
        if re.search(pattern, cell.source, re.MULTILINE):
            add(cell, f"uses {what}", "leave it out")
    alt = cell.metadata.get("mystnb", {}).get("image", {}).get("alt", "")
    draws = DRAWS.search(
        re.sub(r"^(from|import) .*", "", cell.source, flags=re.MULTILINE)
    )
    if draws and not alt.strip():
        add(
            cell,
            f"draws ({draws[0]!r}) and has no alternative text",
            'add the metadata {"mystnb": {"image": {"alt": "chart, axes, finding"}}}',
        )
    if "raises-exception" not in tags:
        try:
            ast.parse(cell.source)
        except SyntaxError as error:
            add(cell, f"is not Python: {error}", "mend the syntax")


def _prose(cell, add):
    text = _outside_fences(cell.source)
    for directive in re.findall(
        r"^\s*(?::{3,}|`{3,})\{([\w-]+)\}", cell.source, re.MULTILINE
    ):
        if directive not in DIRECTIVES:
            add(
                cell,
                f"uses the directive {directive!r}",
                f"use one of {', '.join(sorted(DIRECTIVES))}, or plain Markdown",
            )
    for role in re.findall(r"\{([\w:-]+)\}`", text):
        if role != "cite":
            add(cell, f"uses the role {role!r}", "use {cite} or a Markdown link")
    for word in WORDS.findall(re.sub(r"`[^`\n]*`", "", text)):
        add(cell, f"says {word!r}", "leave the word out")
    lost = re.search(r"[^\n -\U0010ffff]\w*", cell.source)
    if lost:
        add(
            cell,
            f"holds the control character {lost[0]!r}, as a lost backslash leaves it",
            "write the formula again, with its backslash",
        )
    if cell.get("attachments"):
        add(cell, "has an attachment", "draw it in a cell")


def _outside_fences(source):
    """The prose without blocks of code, directives kept."""
    return re.sub(r"```(?!\{).*?```", "", source, flags=re.DOTALL)


def _literals(cell):
    """What may hold a path: the prose, or the strings and comments of the code."""
    if cell.cell_type == "code":
        outputs = [o.get("text", "") or str(o.get("data", "")) for o in cell.outputs]
        return "\n".join([cell.source, *outputs])
    return re.sub(r"https?://\S+", "", cell.source)


def orphans():
    """Pages under book/ that the table of contents does not name."""
    listed = set(chapters.pages())
    return [
        Finding(
            path.relative_to(chapters.ROOT).as_posix(),
            "file",
            "is not in _toc.yml",
            "add it there, or delete the file",
        )
        for path in sorted((chapters.ROOT / "book").rglob("*"))
        if path.suffix in (".ipynb", ".md")
        and path not in listed
        and ".ipynb_checkpoints" not in path.parts
    ]


def introductions():
    """Public helpers whose `Introduced in:` names no chapter that uses them.

    A chapter that book/sections.tsv plans and nobody has written yet may be named.
    """
    found = []
    planned = {chapter for listed in chapters.planned().values() for chapter in listed}
    unwritten = {
        chapter
        for chapter in planned
        if not (chapters.ROOT / "book" / f"{chapter}.ipynb").exists()
    }
    for module in sorted((chapters.ROOT / "helpers").rglob("*.py")):
        tree = ast.parse(module.read_text(encoding="utf-8"))
        dotted = ".".join(module.relative_to(chapters.ROOT).with_suffix("").parts)
        dotted = dotted.removesuffix(".__init__")
        for node in tree.body:
            public = isinstance(node, ast.FunctionDef | ast.ClassDef)
            if not public or node.name.startswith("_"):
                continue
            chapter = _introduced(node) or _introduced(tree)
            file = module.relative_to(chapters.ROOT).as_posix()
            if chapter is None:
                found.append(
                    Finding(
                        file,
                        node.name,
                        "has no `Introduced in:`",
                        "name the chapter that introduces it",
                    )
                )
            elif chapter not in unwritten and not imports(chapter, dotted):
                found.append(
                    Finding(
                        file,
                        node.name,
                        f"is introduced in {chapter!r}, which does not import {dotted}",
                        "import it there, or correct the docstring",
                    )
                )
    return found


def _introduced(node):
    match = re.search(r"Introduced in:\s*(\S+)", ast.get_docstring(node) or "")
    return match and match[1]


def imports(chapter, module):
    """Whether the chapter's code imports this module, or a helper that does."""
    path = chapters.ROOT / "book" / f"{chapter}.ipynb"
    if not path.exists():
        return False
    code = [c.source for c in chapters.read(path).cells if c.cell_type == "code"]
    return module in colab.with_helpers(set().union(*map(colab.imports, code)))
