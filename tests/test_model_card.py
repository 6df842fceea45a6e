"""The model card and the TRIPOD+AI answers: every link leads to its cell.

A line is supported by `[words](page.ipynb#heading "cell its-id")`: the page, the
heading and the cell must exist, the cell must stand under that heading, and must be
code that checks or prints, or a text that says something.
"""

import ast
import copy
import functools
import re
from typing import NamedTuple

import pytest
from myst_parser.mdit_to_docutils.base import default_slugify

from tools import chapters

PAGE = chapters.ROOT / "book" / "challenges" / "before_a_patient.ipynb"
LINK = re.compile(r"\[([^\]]+)\]\(([^()\s]*)\s+\"cell ([\w-]+)\"\)")
STATES = ("done", "partly", "missing")
CARD = [  # the sections of a model card, Mitchell et al. (2019)
    "model details",
    "intended use",
    "factors",
    "metrics",
    "evaluation data",
    "training data",
    "quantitative analyses",
    "ethical considerations",
    "caveats",
]
ITEMS = (  # the items of TRIPOD+AI, Collins et al. (2024), as the page groups them
    "1 2 3a 3b 3c 4",
    "5a 5b 6a 6b 6c 7 8a 8b 8c 9a 9b 9c 10 11",
    "12a 12b 12c 12d 12e 12f 12g 13 14 15 16",
    "17 18a 18b 18c 18d 18e 18f 19",
    "20a 20b 20c 21 22 23a 23b 24",
    "25 26 27a 27b 27c",
)

read = functools.cache(chapters.read)


class Link(NamedTuple):
    """One line's support: where it stands, and what it names."""

    where: str
    words: str
    target: str
    cell: str


class Item(NamedTuple):
    """One answer to TRIPOD+AI."""

    number: str
    state: str
    links: list


def links(notebook):
    """Every link of the page that names a cell."""
    return [
        Link(cell.id, *found)
        for cell in notebook.cells
        if cell.cell_type == "markdown"
        for found in LINK.findall(cell.source)
    ]


def table(source):
    """The rows of the table in a text, without its head, each a list of cells."""
    lines = [line for line in source.splitlines() if line.startswith("|")]
    return [[part.strip() for part in line.strip("|").split("|")] for line in lines[2:]]


def text(notebook, wanted):
    return next(cell.source for cell in notebook.cells if cell.id == wanted)


def answers(notebook):
    """The answers, one list a group, in the order of the page."""
    groups = [c for c in notebook.cells if re.fullmatch(r"tripod-\d", c.id)]
    return [
        [
            Item(number, state, LINK.findall(where))
            for number, _, state, where in table(group.source)
        ]
        for group in groups
    ]


def tally(notebook):
    """The counts of the code cell: one (done, partly, missing) a group."""
    tree = ast.parse(text(notebook, "tally"))
    value = next(
        node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and node.targets[0].id == "tally"
    )
    return list(ast.literal_eval(value).values())


def headings(cell):
    """The slugs of a text's headings below the title."""
    found = []
    if cell.cell_type == "markdown":
        found = re.findall(r"^#{2,} +(.+?) *$", cell.source, re.MULTILINE)
    return [default_slugify(heading) for heading in found]


def under(notebook, wanted):
    """The cell and the slugs of the headings that may lead to it; "" is the top."""
    above = ""
    for cell in notebook.cells:
        own = headings(cell)
        if cell.id == wanted:
            return cell, {above, *own}
        above = own[-1] if own else above
    raise KeyError(wanted)


def supports(cell):
    """Whether a cell shows anything: code checks or prints, a text says something."""
    if cell.cell_type != "code":
        return len(cell.source.split()) >= 20
    called = {
        node.func.id if isinstance(node.func, ast.Name) else node.func.attr
        for node in ast.walk(ast.parse(cell.source))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name | ast.Attribute)
    }
    return bool(called & {"claim", "print", "fails", "assert_allclose"})


def broken(link, own):
    """What is wrong with a link, in words; None if nothing is. own: its notebook."""
    file, _, fragment = link.target.partition("#")
    path = (PAGE.parent / file).resolve() if file else PAGE
    if file and path not in chapters.notebooks():
        return f"{file} is no chapter of the book"
    notebook = read(path) if file else own
    try:
        cell, allowed = under(notebook, link.cell)
    except KeyError:
        return f"{chapters.name(path)} has no cell {link.cell!r}"
    if fragment not in allowed:
        return f"{link.cell!r} stands under {sorted(allowed)}, not {fragment!r}"
    if not supports(cell):
        return f"{link.cell!r} neither checks nor prints nor says anything"
    return None


def faults(notebook):
    """Everything that is wrong with the card and the answers, in words."""
    found = [
        f"{link.where}, {link.words!r}: {wrong}"
        for link in links(notebook)
        if (wrong := broken(link, notebook))
    ]
    card = table(text(notebook, "card"))
    if [row[0] for row in card] != CARD:
        found.append("the card has not the nine sections")
    found += [f"card, {row[0]!r}: no cell" for row in card if not LINK.search(row[-1])]
    groups = answers(notebook)
    if [" ".join(item.number for item in group) for group in groups] != list(ITEMS):
        found.append("not the 52 items, each once and in order")
    for item in (item for group in groups for item in group):
        if item.state not in STATES:
            found.append(f"item {item.number}: the state {item.state!r} is unknown")
        elif (item.state == "missing") == bool(item.links):
            found.append(f"item {item.number}: {item.state}, {len(item.links)} cells")
    counts = [
        tuple(sum(item.state == state for item in group) for state in STATES)
        for group in groups
    ]
    if counts != tally(notebook):
        found.append(f"the cell 'tally' says {tally(notebook)}, the tables {counts}")
    return found


NOTEBOOK = chapters.read(PAGE)
LINKS = links(NOTEBOOK)


@pytest.mark.parametrize(
    "link", LINKS, ids=[f"{link.where}-{link.cell}-{link.words}" for link in LINKS]
)
def test_the_linked_cell_is_there_and_shows_something(link):
    assert broken(link, NOTEBOOK) is None


def test_card_and_answers_are_whole():
    assert faults(NOTEBOOK) == []
    assert sum(len(items.split()) for items in ITEMS) == 52


def test_no_link_of_the_page_to_a_chapter_escapes_the_test():
    """In the tables every link names its cell."""
    for cell in NOTEBOOK.cells:
        if cell.id in ("card", "errors") or cell.id.startswith("tripod-"):
            bare = LINK.sub("", cell.source)
            assert "](" not in bare, cell.id


# --- each rule is shown to refuse a broken copy ------------------------------------

BROKEN = {
    "a chapter that is gone": (
        "card",
        "interpretability.ipynb",
        "gone.ipynb",
        "no chapter",
    ),
    "a cell that is gone": ("card", "cell told-apart", "cell gone", "no cell 'gone'"),
    "a cell of this page that is gone": ("card", "cell train", "cell gone", "no cell"),
    "another heading": ("card", "#and-on-real-lungs", "#recap", "stands under"),
    "no heading": ("card", "#and-on-real-lungs", "", "stands under"),
    "a cell that shows nothing": (
        "tripod-1",
        'ipynb "cell you-will"',
        'ipynb "cell imports"',
        "neither checks",
    ),
    "a cell under no heading of this kind": (
        "tripod-6",
        '#what-can-go-wrong "cell again-after"',
        '#recap "cell mirrors"',
        "stands under",
    ),
    "a section that is gone": ("card", "| factors |", "| fact |", "nine sections"),
    "a section without a cell": (
        "card",
        '"cell interval"',
        "",
        "'metrics': no cell",
    ),
    "an item twice": ("tripod-2", "| 6c |", "| 6b |", "each once"),
    "an unknown state": ("tripod-3", "| done |", "| almost |", "is unknown"),
    "done without a cell": ("tripod-4", "| missing |", "| done |", "done, 0 cells"),
    "missing with a cell": ("tripod-3", "| done |", "| missing |", "missing, 1 cells"),
    "another count": ("tally", "(3, 6, 2)", "(4, 5, 2)", "the tables"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_copy_is_refused(name):
    where, old, new, word = BROKEN[name]
    notebook = copy.deepcopy(NOTEBOOK)
    cell = next(cell for cell in notebook.cells if cell.id == where)
    assert old in cell.source
    cell.source = cell.source.replace(old, new, 1)
    found = faults(notebook)
    assert any(word in fault for fault in found), found


@pytest.mark.parametrize("kind", ["code", "markdown"])
def test_an_emptied_cell_of_this_page_is_noticed(kind):
    wanted = "train" if kind == "code" else "consent"
    notebook = copy.deepcopy(NOTEBOOK)
    cell = next(cell for cell in notebook.cells if cell.id == wanted)
    cell.source = "x = 1" if kind == "code" else "## Consent, three times\n\nSee there."
    assert any("neither checks" in fault for fault in faults(notebook))
