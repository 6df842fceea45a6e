"""The frame is whole: every section has its chapter, every term and source its use."""

import re

import pytest
from myst_parser.mdit_to_docutils.base import default_slugify

from tools import chapters, frame, rules

BOOK = chapters.ROOT / "book"
TREATED = frame.treated()
PAGES = {chapters.name(path): path for path in chapters.pages()}


def prose(path):
    """The words of a page: its Markdown."""
    if path.suffix == ".md":
        return path.read_text(encoding="utf-8")
    cells = chapters.read(path).cells
    return "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown")


def test_every_section_and_question_has_its_chapters():
    assert frame.gaps() == []


@pytest.mark.parametrize("entry", chapters.sections())
def test_a_section_that_is_taken_out_is_missed(entry, monkeypatch):
    monkeypatch.setattr(frame, "treated", lambda: TREATED | {entry: {}})
    assert any(gap.startswith(f"{entry}: ") for gap in frame.gaps())


def test_a_chapter_to_come_is_named_until_it_is_written(monkeypatch):
    assert "chapters to come: survival" in frame.written("map.md")
    written = {"challenges/privacy": "privacy"}
    monkeypatch.setattr(frame, "LATER", frame.LATER | written)
    assert frame.gaps() == ["challenges/privacy is written: take it out of LATER"]
    monkeypatch.setattr(frame, "LATER", {})
    missing = [gap for gap in frame.gaps() if "does not list it" in gap]
    assert any("keras/survival" in gap for gap in missing)


@pytest.mark.parametrize("file", frame.TABLES)
def test_the_tables_are_those_that_make_format_writes(file):
    text = (BOOK / file).read_text(encoding="utf-8")
    assert text == frame.written(file), "run `make format`"


def test_a_page_without_its_marks_is_named(monkeypatch, tmp_path):
    (tmp_path / "book").mkdir()
    (tmp_path / "book" / "map.md").write_text("# A map\n")
    monkeypatch.setattr(chapters, "ROOT", tmp_path)
    with pytest.raises(ValueError, match="map.md needs the lines"):
        frame.written("map.md")


def test_a_question_leads_to_the_heading_that_names_it():
    linked = re.findall(
        r"short_answers\.ipynb#([\w-]+)\)", frame.written("questions/every_question.md")
    )
    assert len(linked) == len(set(linked)) >= 4


# --- the glossary


def occurs(term, text):
    """Whether a text uses the term, with or without a plural s, in any case."""
    words = r"\s+".join(map(re.escape, term.split()))
    return re.search(rf"(?<!\w){words}(?:e?s)?(?!\w)", text, re.IGNORECASE) is not None


def strange_terms(rows):
    """What is wrong with rows of the glossary, in words."""
    found = []
    for term, path, _ in rows:
        name = re.sub(r" \(.*\)$", "", term)
        if path not in PAGES.values():
            found.append(f"{term}: {path.name} is no page of the book")
        elif not occurs(name, prose(path)):
            found.append(f"{term}: {path.name} does not use it")
    return found


def test_the_glossary_holds_no_term_that_its_chapter_does_not_use():
    rows = frame.glossary()
    page = (BOOK / "glossary.md").read_text(encoding="utf-8")
    assert len(rows) == sum(line.startswith("- ") for line in page.splitlines())
    assert strange_terms(rows) == []


def unexplained(rows, explained_in):
    """Earlier chapters that use a term of this one and do not link to it."""
    order = chapters.notebooks()
    terms = [term for term, path, _ in rows if path == explained_in]
    return [
        f"{term}: {chapters.name(path)}"
        for path in order[: order.index(explained_in)]
        for term in terms
        if occurs(term, prose(path)) and explained_in.name not in prose(path)
    ]


def test_a_measure_is_explained_or_its_explanation_linked_before_it_is_used():
    measures = PAGES["concepts/measuring_a_model"]
    rows = frame.glossary()
    assert sum(path == measures for _, path, _ in rows) >= 15
    assert unexplained(rows, measures) == []
    late = PAGES["questions/short_answers"]
    assert "ReLU: concepts/learning_from_data" in unexplained(
        [("ReLU", late, "")], late
    )


def test_the_glossary_is_in_order_and_says_a_thing_once():
    terms = [term.lower() for term, _, _ in frame.glossary()]
    assert terms == sorted(set(terms))


def test_a_term_that_nobody_uses_is_found():
    page = BOOK / "setup.ipynb"
    assert strange_terms([("phlogiston", page, "")]) == [
        "phlogiston: setup.ipynb does not use it"
    ]
    assert strange_terms([("network", BOOK / "a.ipynb", "")]) == [
        "network: a.ipynb is no page of the book"
    ]


@pytest.mark.parametrize(
    ("term", "text", "found"),
    [
        ("loss", "two losses", True),
        ("batch", "Batches of", True),
        ("test set", "the test\nset", True),
        ("loss", "glossary", False),
        ("AUC", "an AUC of", True),
    ],
)
def test_a_term_is_found_as_a_word(term, text, found):
    assert occurs(term, text) == found


# --- the references


def cited(texts):
    """The keys that texts cite."""
    roles = re.findall(r"\{cite\}`([^`]+)`", "\n".join(texts))
    return {key.strip() for role in roles for key in role.split(",")}


def test_every_source_is_cited_and_every_citation_has_its_source():
    entries = (BOOK / "references.bib").read_text(encoding="utf-8")
    keys = re.findall(r"^@\w+\{([^,]+),", entries, re.MULTILINE)
    assert len(keys) == len(set(keys))
    assert cited(map(prose, PAGES.values())) == set(keys)


def test_every_source_has_an_address():
    entries = (BOOK / "references.bib").read_text(encoding="utf-8").split("\n@")
    lacking = [
        e.split(",")[0] for e in entries if not re.search(r"^\s*(doi|url)\s*=", e, re.M)
    ]
    assert lacking == []


def test_every_page_is_in_the_table_of_contents(monkeypatch):
    assert rules.orphans() == []
    listed = [page for page in chapters.pages() if page.name != "notation.md"]
    monkeypatch.setattr(chapters, "pages", lambda: listed)
    assert [finding.file for finding in rules.orphans()] == ["book/notation.md"]


# --- links to headings


def lost_links(texts):
    """Links to a heading that is not there. texts: of each page, by its path."""
    slugs = {
        path: {default_slugify(h) for h in re.findall(r"(?m)^#{1,3} +(.+?) *$", text)}
        for path, text in texts.items()
    }
    return [
        f"{chapters.name(path)}: {file}#{heading}"
        for path, text in texts.items()
        for file, heading in re.findall(r"\]\(([^()\s#]*)#([^()\s]+)", text)
        if "://" not in file
        and heading
        not in slugs.get((path.parent / file).resolve() if file else path, ())
    ]


def test_a_link_to_a_heading_leads_to_one():
    texts = {path: prose(path) for path in PAGES.values()}
    assert lost_links(texts) == []
    moved = {
        path: text.replace("## What can", "## What") for path, text in texts.items()
    }
    assert any("#what-can-go-wrong" in lost for lost in lost_links(moved))
