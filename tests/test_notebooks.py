"""Every notebook keeps the rules, and every rule refuses a notebook that does not."""

import copy
import os
import re
import subprocess
import sys

import nbformat
import pytest

from tools import chapters, rules, run

NOTEBOOKS = {chapters.name(path): path for path in chapters.notebooks()}
GOOD = NOTEBOOKS["concepts/learning_from_data"]


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_the_notebook_keeps_every_rule(name):
    found = rules.check(NOTEBOOKS[name])
    assert not found, "\n" + "\n".join(map(str, found))


def test_every_public_helper_names_a_chapter_that_imports_it():
    found = rules.introductions()
    assert not found, "\n" + "\n".join(map(str, found))


# --- each rule is shown to refuse a broken copy of a good notebook ----------------


def cell(notebook, kind, promise=False):
    """The first cell of a kind, with or without a promise."""
    return next(
        c
        for c in notebook.cells
        if c.cell_type == kind and ("promise" in chapters.tags(c)) == promise
    )


def drawing(notebook):
    return next(c for c in notebook.cells if "mystnb" in c.metadata)


def with_text(notebook, text):
    notebook.cells[2].source += text


def with_code(notebook, code):
    cell(notebook, "code").source += code


def output():
    return nbformat.v4.new_output("stream", name="stdout", text="1\n")


def stores_output(nb):
    cell(nb, "code").outputs = [output()]


def stores_count(nb):
    cell(nb, "code").execution_count = 3


def promise_stores_nothing(nb):
    cell(nb, "code", promise=True).outputs = []


def promise_without_count(nb):
    cell(nb, "code", promise=True).execution_count = None


def promises_a_picture(nb):
    data = {"image/png": "AAAA", "text/plain": "<Figure>"}
    cell(nb, "code", promise=True).outputs = [
        nbformat.v4.new_output("display_data", data=data)
    ]


def no_promise_at_all(nb):
    for c in nb.cells:
        if c.cell_type == "code":
            c.metadata.tags = [t for t in chapters.tags(c) if t != "promise"]
            c.outputs, c.execution_count = [], None


def no_alt_text(nb):
    del drawing(nb).metadata["mystnb"]


def editor_metadata(nb):
    nb.cells[2].metadata["scrolled"] = True


def other_kernel(nb):
    nb.metadata.kernelspec["name"] = "conda-env"


def mirrors_unknown(nb):
    nb.metadata.mirrors.append("6 §1")


def corrects_nothing(nb):
    del nb.metadata["corrects"]


def corrects_another_section(nb):
    nb.metadata.corrects["1 §1"] = "not what this chapter treats"


def corrects_at_length(nb):
    nb.metadata.corrects[nb.metadata.mirrors[0]] = "word " * 23


def mirrors_line_altered(nb):
    next(c for c in nb.cells if c.id == "mirrors").source += " And more."


def mirrors_cell_gone(nb):
    nb.cells = [c for c in nb.cells if c.id != "mirrors"]


def section_gone(nb):
    for c in nb.cells:
        c.source = c.source.replace("## Recap", "## In short")


def section_out_of_order(nb):
    recap = next(c for c in nb.cells if c.id == "recap")
    nb.cells.remove(recap)
    nb.cells.append(recap)


def no_title(nb):
    nb.cells[0].source = nb.cells[0].source.removeprefix("# ")


def second_title(nb):
    nb.cells[4].source += "\n\n# Another"


def no_question(nb):
    nb.cells[0].source = nb.cells[0].source.splitlines()[0]


BROKEN = {
    stores_output: ("stores an output or a count", "make format"),
    stores_count: ("stores an output or a count", "make format"),
    promise_stores_nothing: ("stores nothing to compare", "make promises"),
    promise_without_count: ("stores nothing to compare", "make promises"),
    promises_a_picture: ("not plain text", "leave figures and tables to claims"),
    no_promise_at_all: ("nbval compares nothing", "make promises"),
    no_alt_text: ("no alternative text", '"alt"'),
    editor_metadata: ("not in the one stored form", "make format"),
    other_kernel: ("not in the one stored form", "make format"),
    mirrors_unknown: ("'6 §1', which book/sections.tsv does not list", "4 §3.2.1"),
    corrects_nothing: ("`corrects` speaks of []", "that it mirrors what it corrects"),
    corrects_another_section: (
        "`corrects` speaks of",
        "that it mirrors what it corrects",
    ),
    corrects_at_length: ("`corrects` says of", "3 to 22 words"),
    mirrors_line_altered: ("not in the one stored form", "make format"),
    mirrors_cell_gone: ("has no cell 'mirrors'", "make format"),
    section_gone: ("section 'Recap' is missing", "keep this order"),
    section_out_of_order: ("section 'Exercises' is out of order", "keep this order"),
    no_title: ("does not begin with the title", "write the title"),
    second_title: ("a second title", "##"),
    no_question: ("not followed by the clinical question", "ask it"),
}
TEXTS = {
    "\nSee /home/someone/data.csv": "absolute path '/home/someone/data.csv'",
    "\nSee C:\\data\\x.csv": "absolute path",
    "\nWe simply add.": "says 'simply'",
    "\n:::{tip}\nx\n:::": "uses the directive 'tip'",
    "\nsee {numref}`figure`": "uses the role 'numref'",
    "\n$$\n\x08egin{aligned}\n$$": r"the control character '\x08egin'",
    "\n$\tanh z$": r"the control character '\tanh'",
}
CODE = {
    "\n!pip install x": "shell and magic",
    "\n%matplotlib inline": "shell and magic",
    '\nimport sys; sys.path.append("x")': "sys.path",
    '\nimport warnings; warnings.filterwarnings("ignore")': "hides every warning",
    "\ntry:\n    x = 1\nexcept ValueError:\n    pass": "except: pass",
    '\nopen("/srv/data/a.csv")': "absolute path '/srv/data/a.csv'",
    "\nfor": "is not Python",
    "\nplt.plot([1])": "no alternative text",
    "\nfigures.axes()": "no alternative text",
}


def findings(tmp_path, breaks):
    notebook = copy.deepcopy(chapters.read(GOOD))
    breaks(notebook)
    path = tmp_path / "broken.ipynb"
    path.write_text(chapters.text(notebook), encoding="utf-8")
    return rules.check(path)


def test_the_good_notebook_is_good(tmp_path):
    assert not findings(tmp_path, lambda notebook: None)


@pytest.mark.parametrize("breaks", BROKEN, ids=lambda f: f.__name__)
def test_a_broken_notebook_is_refused_with_what_mends_it(tmp_path, breaks):
    problem, mend = BROKEN[breaks]
    found = findings(tmp_path, breaks)
    assert any(problem in f.problem and mend in f.mend for f in found), found
    assert all(f.file == "broken.ipynb" and f.cell for f in found)


@pytest.mark.parametrize("text", TEXTS)
def test_prose_that_breaks_a_rule_is_refused(tmp_path, text):
    found = findings(tmp_path, lambda notebook: with_text(notebook, text))
    assert any(TEXTS[text] in f.problem for f in found), found
    assert any(f.cell == "cell 'mirrors'" for f in found)


@pytest.mark.parametrize("code", CODE)
def test_code_that_breaks_a_rule_is_refused(tmp_path, code):
    found = findings(tmp_path, lambda notebook: with_code(notebook, code))
    assert any(CODE[code] in f.problem for f in found), found
    assert any(f.cell == "cell 'imports'" for f in found)


@pytest.mark.filterwarnings("ignore:Non-unique cell id", "ignore:Cell is missing an id")
@pytest.mark.parametrize(
    ("altered", "problem"),
    [
        ('   "id": "mirrors",\n', "the cell id stands twice"),
        ("", "1 cells have no id"),
    ],
)
def test_ids_that_are_missing_or_stand_twice_are_refused(tmp_path, altered, problem):
    path = tmp_path / "broken.ipynb"
    text = GOOD.read_text("utf-8").replace('   "id": "corrected",\n', altered)
    path.write_text(text, "utf-8")
    assert any(problem in f.problem for f in rules.check(path))


def test_json_in_another_layout_is_refused(tmp_path):
    path = tmp_path / "broken.ipynb"
    path.write_text(GOOD.read_text(encoding="utf-8").replace("\n ", "\n  "), "utf-8")
    assert [f.mend for f in rules.check(path)] == ["make format"]


def test_a_file_that_is_no_notebook_is_refused(tmp_path):
    path = tmp_path / "broken.ipynb"
    path.write_text("{")
    assert "not a readable notebook" in rules.check(path)[0].problem


def test_formatting_mends_what_make_format_promises_to_mend():
    notebook = copy.deepcopy(chapters.read(GOOD))
    for breaks in (stores_output, stores_count, editor_metadata, other_kernel):
        breaks(notebook)
    mirrors_line_altered(notebook)
    assert chapters.text(chapters.formatted(notebook)) == GOOD.read_text("utf-8")


def test_a_solution_is_folded_by_format():
    notebook = chapters.read(GOOD)
    cell(notebook, "code").metadata.tags = ["solution"]
    formatted = chapters.formatted(notebook)
    assert cell(formatted, "code").metadata.tags == ["solution", "hide-cell"]


@pytest.mark.parametrize(
    ("code", "problem"),
    [
        ("def f():\n    pass", "has no `Introduced in:`"),
        ('def f():\n    """Introduced in: nowhere"""', "does not import helpers.m"),
        ('"""Introduced in: a"""\ndef f():\n    pass', None),
        ('"""Introduced in: planned"""\ndef f():\n    pass', None),
        ("def _private():\n    pass", None),
    ],
)
def test_a_helper_without_its_chapter_is_found(monkeypatch, tmp_path, code, problem):
    (tmp_path / "helpers").mkdir()
    (tmp_path / "book").mkdir()
    (tmp_path / "helpers" / "m.py").write_text(code)
    source = nbformat.v4.new_code_cell("from helpers import figures, m")
    nbformat.write(nbformat.v4.new_notebook(cells=[source]), tmp_path / "book/a.ipynb")
    monkeypatch.setattr(chapters, "ROOT", tmp_path)
    monkeypatch.setattr(chapters, "planned", lambda: {"1 §1": ["a", "planned"]})
    assert [f.problem for f in rules.introductions()] == [
        *(
            [f"is introduced in 'nowhere', which {problem}"]
            if "nowhere" in code
            else []
        ),
        *([problem] if problem and "nowhere" not in code else []),
    ]


def test_the_section_list_covers_the_five_documents():
    documents = {identifier.split()[0] for identifier in chapters.sections()}
    assert documents == {"1", "2", "3", "4", "5"}
    for identifier in chapters.sections():
        assert re.fullmatch(r"[1-5] (§[1-7](\.\d){0,2}|Q\d)", identifier)


# --- nbval: what `make test` runs over every notebook -----------------------------


def nbval(folder):
    command = [sys.executable, "-m", "pytest", "-q", "--nbval", str(folder)]
    command += ["-p", "no:cacheprovider", "-c", os.devnull, "--rootdir", str(folder)]
    environment = run.environment()
    return subprocess.run(
        command, capture_output=True, text=True, cwd=folder, env=environment
    )


def promise_notebook(path, output):
    source = nbformat.v4.new_code_cell("print(1 + 1)", metadata={"tags": ["promise"]})
    source.outputs = [nbformat.v4.new_output("stream", name="stdout", text=output)]
    source.execution_count = 1
    notebook = nbformat.v4.new_notebook(cells=[source])
    notebook.metadata["kernelspec"] = chapters.KERNELSPEC
    nbformat.write(notebook, path)


def test_nbval_passes_a_kept_promise_and_fails_an_altered_one(tmp_path):
    promise_notebook(tmp_path / "kept.ipynb", "2\n")
    kept = nbval(tmp_path)
    assert kept.returncode == 0, kept.stdout + kept.stderr
    promise_notebook(tmp_path / "kept.ipynb", "3\n")
    altered = nbval(tmp_path)
    assert altered.returncode == 1
    assert "1 failed" in altered.stdout and "mismatch" in altered.stdout
