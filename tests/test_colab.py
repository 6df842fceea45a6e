"""The Colab export: what it turns into what, and that an export runs on its own."""

import ast
import asyncio
import base64
import io
import json
import lzma
import os
import re
import subprocess
import sys
import sysconfig
import zipfile
from importlib import metadata

import nbformat
import pytest
from nbclient import NotebookClient

from tools import chapters, colab, plain, rules, run

SAMPLE = ["setup"]  # exports that are run from end to end: quick chapters
CHAPTER = chapters.ROOT / "book" / "concepts" / "learning_from_data.ipynb"
NAMES = [chapters.name(path) for path in chapters.notebooks()]
ONLY_HELPERS = ["from helpers.claims import claim"]  # needs nothing beyond Python
EMPTY_ZIP = b"PK\5\6" + bytes(18)
NO_HELPERS = base64.b64encode(lzma.compress(EMPTY_ZIP)).decode()


@pytest.fixture(scope="module")
def references():
    return plain.bibliography()


@pytest.fixture
def converted(references):
    """Markdown as the export of a chapter has it."""
    return lambda source: plain.markdown(source, CHAPTER, references)


# Markdown

WILSON = "[Wilson 1927](https://doi.org/10.1080/01621459.1927.10502953)"
STREET = "[Street et al. 1993](https://doi.org/10.1117/12.148698)"
AMBROISE = "[Ambroise and McLachlan 2002](https://doi.org/10.1073/pnas.102102699)"
CONVERSIONS = {
    "note": (":::{note}\ntext\n:::", "> **Note**\n>\n> text"),
    "warning with backticks": (
        "```{warning}\nNot for\nclinical use.\n```",
        "> **Warning**\n>\n> Not for\n> clinical use.",
    ),
    "note with words beside the name": (
        ":::{note} See `x`\n\nmore\n:::",
        "> **Note**\n>\n> See `x`\n>\n> more",
    ),
    "note with an option and a list": (
        ":::{note}\n:class: tip\n\n- one\n- two\n:::",
        "> **Note**\n>\n> - one\n> - two",
    ),
    "note between two lines": (
        "before\n:::{note}\ntext\n:::\nafter",
        "before\n\n> **Note**\n>\n> text\n\nafter",
    ),
    "maths in a note, where Jupyter would set the >": (
        ":::{note}\n$$\na > b\n$$\n:::",
        "> **Note**\n>\n> $$ a > b $$",
    ),
    "dropdown with code": (
        ":::{dropdown} Why `a<b`?\n```python\nx = [1, 2]\n\nprint(x[::-1])\n```\n:::",
        "<details>\n<summary>Why <code>a&lt;b</code>?</summary>\n\n"
        "```python\nx = [1, 2]\n\nprint(x[::-1])\n```\n\n</details>",
    ),
    "open dropdown, in a list": (
        "1. a\n\n   :::{dropdown} T\n   :open:\n   b\n   :::\n\n2. c",
        "1. a\n\n   <details open>\n   <summary>T</summary>\n\n   b\n\n   </details>\n"
        "\n2. c",
    ),
    "dropdown in a note": (
        "::::{note}\n:::{dropdown} T\n{cite}`wilson1927`\n:::\n::::",
        f"> **Note**\n>\n> <details>\n> <summary>T</summary>\n>\n> ({WILSON})\n>\n"
        "> </details>",
    ),
    "note in a dropdown in backticks": (
        "````{dropdown} T\n```{note}\ntext\n```\n````",
        "<details>\n<summary>T</summary>\n\n> **Note**\n>\n> text\n\n</details>",
    ),
    "citation in a sentence": (
        "in 1993 {cite}`street1993`, and",
        f"in 1993 ({STREET}), and",
    ),
    "two citations": (
        "{cite}`ambroise2002, wilson1927`",
        f"({AMBROISE}; {WILSON})",
    ),
    "link to a chapter": (
        "[Check your machine](../setup.ipynb), then",
        "Check your machine (chapter setup), then",
    ),
    "link to a place in a chapter": (
        '**[the *recap*](../setup.ipynb#recap "title")**',
        "**the *recap* (chapter setup)**",
    ),
    "link to a page": ("[all](../references.md)", "all (page references)"),
    "links that stay": (
        *["[here](#recap) [there](https://example.org/a.ipynb) <https://example.org>"]
        * 2,
    ),
    "code stays": (*["`{cite}` and ``{note} `x` `` and `[a](b.ipynb)`"] * 2,),
    "fences stay": (
        *["~~~\n:::{note}\n~~~\n````md\n```{tip}\n{cite}`x` [a](b.md)\n```\n````"] * 2,
    ),
    "maths stays": (*["$a_{cite}$, $[0,1](a)$ and\n\n$$\nx\n= [a](b)\n$$"] * 2,),
    "money is no maths": (
        "from $5 [a](../setup.ipynb) to $6",
        "from $5 a (chapter setup) to $6",
    ),
    "a stray backtick hides nothing": (
        "a ` alone\n\n{cite}`wilson1927`",
        f"a ` alone\n\n({WILSON})",
    ),
    "a table stays": (*["| a | b |\n|:---|---:|\n| 1 | `:::` |"] * 2,),
}


@pytest.mark.parametrize("source, expected", CONVERSIONS.values(), ids=CONVERSIONS)
def test_markdown(converted, source, expected):
    assert converted(source) == expected


REFUSED = {
    ":::{tip}\nx\n:::": ":::{tip}",
    "```{code-block} python\nx\n```": "code-block",
    ":::{note}\nx": "never closed",
    "```python\nx": "never closed",
    "a\n:::\nb": ":::",
    "> :::{note}\n> x\n> :::": "> :::{note}",
    "> ```{note}\n> x\n> ```": "```{note}",
    "- ```{note}\n  x\n  ```": "```{note}",
    ":::{dropdown} {ref}`x`\ny\n:::": "{ref}`x`",
    ":::{note}\n:::{tip}\nx\n:::\n:::": "{tip}",
    "see {numref}`x`": "{numref}`x`",
    "[see {cite}`wilson1927`](#x)": "{cite}`wilson1927`",
    "(place)=\n## Title": "(place)=",
    "{cite}`wilson1927,nobody2000`": "'nobody2000', which book/references.bib",
    "[a](nowhere.ipynb)": "not there",
    "[a][b]\n\n[b]: ../setup.ipynb": "../setup.ipynb",
    '<a href="../setup.ipynb">a</a>': "../setup.ipynb",
    "![a](figure.png)": "figure.png",
    "[a](table.csv)": "table.csv",
}


@pytest.mark.parametrize("source, named", REFUSED.items(), ids=REFUSED)
def test_markdown_that_no_export_can_show(converted, source, named):
    with pytest.raises(ValueError, match=re.escape(named)):
        converted(source)


@pytest.mark.parametrize(
    "fields, expected",
    [
        (r"author={M{\"u}ller, A and others}, year=2001", "Müller et al. 2001"),
        ("author={{World Health Organization}}", "World Health Organization n.d."),
        ("author={van der Laan, M and {\\O}re, B}, year=7", "van der Laan and Øre 7"),
        ("editor={Doe, J}, year=1, url={https://a.b}", "[Doe 1](https://a.b)"),
        (
            r"author={Doe, J}, year=1, doi={10.1016/S0(05)1\_2}",
            "[Doe 1](https://doi.org/10.1016/S0%2805%291_2)",
        ),
    ],
)
def test_citation(tmp_path, fields, expected):
    (tmp_path / "a.bib").write_text(f"@misc{{a, {fields}}}", encoding="utf-8")
    references = plain.parse_file(tmp_path / "a.bib").entries
    assert plain.markdown("{cite}`a`", CHAPTER, references) == f"({expected})"


def test_a_citation_needs_an_author(tmp_path):
    (tmp_path / "a.bib").write_text("@misc{a, year=1}", encoding="utf-8")
    references = plain.parse_file(tmp_path / "a.bib").entries
    with pytest.raises(ValueError, match="'a' in .*no author"):
        plain.markdown("{cite}`a`", CHAPTER, references)


# The notebook


@pytest.fixture
def chapter(tmp_path, monkeypatch):
    """Write a chapter of these cells into a book of its own; returns its path."""
    monkeypatch.setattr(chapters, "name", lambda path: f"part/{path.stem}")

    def write(*cells, stem="trial"):
        path = tmp_path / f"{stem}.ipynb"
        notebook = nbformat.v4.new_notebook(cells=cells)
        path.write_text(chapters.text(notebook), encoding="utf-8")
        return path

    return write


def code(source, name="code", *tags, **more):
    metadata = {"tags": list(tags), "mystnb": {"image": {"alt": "a"}}}
    return nbformat.v4.new_code_cell(source, id=name, metadata=metadata, **more)


def prose(source, name="prose"):
    return nbformat.v4.new_markdown_cell(source, id=name)


def test_cells(chapter, tmp_path):
    output = nbformat.v4.new_output("stream", text="1\n")
    path = chapter(
        code("print(1)", "a", "promise", outputs=[output], execution_count=1),
        code("x = 1", "b", "solution", "hide-cell"),
        code("1 +", "c", "raises-exception"),
    )
    colab.export(tmp_path / "out", [path])
    text = (tmp_path / "out" / "part-trial.ipynb").read_text(encoding="utf-8")
    _, promise, solution, failing = nbformat.reads(text, as_version=4).cells
    assert text.endswith("}\n")
    assert (promise.outputs, promise.execution_count) == ([], None)
    assert promise.metadata == {}
    assert solution.source == "# @title Solution\nx = 1"
    assert solution.metadata == colab.COLLAPSED
    assert failing.metadata == {"tags": ["raises-exception"]}


def test_an_export_twice_is_the_same_and_leaves_no_former_chapter(chapter, tmp_path):
    out = tmp_path / "out"
    colab.export(out, [chapter(prose("a")), chapter(prose("b"), stem="former")])
    first = {file.name: file.read_bytes() for file in out.iterdir()}
    (out / "part-trial.ipynb.part").write_text("half")  # an interrupted export
    colab.export(out, [tmp_path / "trial.ipynb"])
    second = {file.name: file.read_bytes() for file in out.iterdir()}
    assert sorted(first) == ["part-former.ipynb", "part-trial.ipynb"]
    assert second == {"part-trial.ipynb": first["part-trial.ipynb"]}


def test_an_export_that_fails_writes_nothing(chapter, tmp_path):
    good = chapter(prose("a"), stem="good")
    bad = chapter(prose("a\n\n{eq}`x`", "here"))
    with pytest.raises(ValueError, match=r"part/trial, cell 'here': .*\{eq\}`x`"):
        colab.export(tmp_path / "out", [good, bad])
    assert not (tmp_path / "out").exists()


def test_an_interrupted_export_leaves_no_half_notebook(chapter, tmp_path, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(colab.os, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        colab.export(tmp_path / "out", [chapter(prose("a"))])
    assert not list((tmp_path / "out").glob("*.ipynb"))


def test_the_id_of_the_first_cell_is_taken(chapter, references):
    with pytest.raises(ValueError, match="part/trial, first cell: .*another id"):
        colab.text(chapter(prose("a", colab.SETUP_CELL)), references)


# The first cell


def test_the_helpers_unpack_byte_for_byte(tmp_path):
    code = [
        "from helpers import explain",
        "def late():\n    import helpers.data.trials",
    ]
    unpacked = io.BytesIO(lzma.decompress(colab.pack(code)))
    zipfile.ZipFile(unpacked).extractall(tmp_path)
    helpers = chapters.ROOT / "helpers"
    names = ["__init__", "explain", "data/__init__", "data/trials"]
    sources = [helpers / f"{name}.py" for name in names]
    copies = [tmp_path / file.relative_to(chapters.ROOT) for file in sources]
    assert {file for file in tmp_path.rglob("*") if file.is_file()} == set(copies)
    for file, copy in zip(sources, copies, strict=True):
        assert copy.read_bytes() == file.read_bytes()


def test_packing_twice_gives_the_same_small_file():
    everything = [f"import {name}" for name in colab.modules()]
    assert colab.pack(everything) == colab.pack(everything)
    assert len(colab.pack(ONLY_HELPERS)) < len(colab.pack(everything)) / 5


@pytest.mark.parametrize("path", chapters.notebooks(), ids=chapters.name)
def test_the_first_cell_of_a_chapter_is_small(path):
    code = [c.source for c in chapters.read(path).cells if c.cell_type == "code"]
    assert len(colab.setup_code(code)) < 100_000


def test_the_first_cell_is_python_3_10_and_a_form():
    source = colab.setup_code(ONLY_HELPERS)
    assert source.startswith("# @title ")
    ast.parse(source, feature_version=(3, 10))


@pytest.mark.parametrize(
    "source, wanted, core",
    [
        ("import os, json", "", ""),
        ("from IPython.display import display", "", ""),
        ("import numpy as np", "", "numpy"),
        ("from keras import layers", "", "keras tensorflow"),
        ("from sklearn.base import clone", "scikit-learn", ""),
        ("def f():\n    import scipy.stats", "scipy", ""),
        ("from importlib import resources\nresources.files('scipy.io')", "scipy", ""),
        ("from importlib import metadata\nmetadata.distribution('tqdm')", "tqdm", ""),
        ("1 +", "", ""),
    ],
)
def test_requirements(source, wanted, core):
    found, needed = colab.requirements([source])
    assert set(found.values()) == set(wanted.split())
    assert set(needed) == set(core.split())


@pytest.mark.parametrize(
    "source, least",
    [
        ("from helpers import claims, runtime", "threadpoolctl tqdm"),
        ("import helpers.figures as f", "matplotlib"),
        ("from helpers.data import tabular", "scikit-learn"),
    ],
)
def test_requirements_of_the_helpers(source, least):
    found, core = colab.requirements([source])
    assert set(least.split()) <= set(found.values())
    assert core == {}  # the helpers load TensorFlow late, so nothing is refused


def test_requirements_pass_through_every_helper(monkeypatch, tmp_path):
    folder = tmp_path / "helpers" / "data"
    folder.mkdir(parents=True)
    (folder.parent / "__init__.py").write_text("")
    (folder / "__init__.py").write_text("import tqdm")
    (folder / "fetch.py").write_text("from ..near import x")
    (folder / "images.py").write_text("from . import fetch")
    (folder.parent / "near.py").write_text("import scipy")
    (folder.parent / "far.py").write_text("import matplotlib")
    (tmp_path / "pyproject.toml").write_text(
        '[project]\ndependencies = ["SciPy>=1", "tqdm", "matplotlib"]'
    )
    monkeypatch.setattr(chapters, "ROOT", tmp_path)
    _forget()
    try:
        wanted, _ = colab.requirements(["from helpers.data import images"])
        assert wanted == {"scipy": "SciPy>=1", "tqdm": "tqdm"}
    finally:
        _forget()


def _forget():
    colab.modules.cache_clear()
    colab._module_imports.cache_clear()


def test_an_import_that_is_not_listed():
    with pytest.raises(ValueError, match=r"'medmnist'.*pyproject\.toml"):
        colab.requirements(["import medmnist"])


STUBS = """
import importlib.metadata, importlib.util, subprocess
missing, find = {missing!r}, importlib.util.find_spec
version = importlib.metadata.version

def find_spec(name, package=None):
    return None if name in missing else find(name, package)

def read_version(name):
    if name in missing:
        raise importlib.metadata.PackageNotFoundError(name)
    return version(name)

def check_call(command, **options):
    print(*command[1:command.index("--constraint")], sep="|")
    print(*command[command.index("--constraint") + 2:], sep="|")
    print(open(command[command.index("--constraint") + 1]).read())
    if {fails!r}:
        raise subprocess.CalledProcessError(1, command)

importlib.util.find_spec, subprocess.check_call = find_spec, check_call
importlib.metadata.version = read_version
"""
THREE = ["import keras\nimport sklearn\nfrom helpers import runtime"]


def temporary(folder):
    """Where temporary files go, on any system; and pip, if called, finds nothing."""
    return {"PIP_NO_INDEX": "1", **dict.fromkeys(("TMPDIR", "TEMP"), str(folder))}


def python(tmp_path, script, *, interpreter=sys.executable, **environment):
    """Run a script in a folder of its own; nothing leads it to the book."""
    scratch, folder = tmp_path / "scratch", tmp_path / "work"
    for place in (scratch, folder):
        place.mkdir(exist_ok=True)
    (folder / "script.py").write_text(script, encoding="utf-8")
    kept = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    return subprocess.run(
        [str(interpreter), "script.py"],
        cwd=folder,
        env={**kept, **temporary(scratch), **environment},
        capture_output=True,
        text=True,
        encoding="utf-8",
    )


def prepared(tmp_path, missing=(), fails=False, **environment):
    """Run the first cell of a chapter where these packages are missing."""
    stubs = STUBS.format(missing=missing, fails=fails)
    return python(tmp_path, stubs + colab.setup_code(THREE), **environment)


def test_nothing_missing_installs_nothing(tmp_path):
    done = prepared(tmp_path)
    assert (done.returncode, done.stdout) == (0, "ready\n"), done.stderr


def test_what_is_missing_is_installed_and_the_core_pinned(tmp_path):
    done = prepared(tmp_path, missing=("sklearn", "tqdm"))
    assert done.returncode == 0, done.stderr
    said, command, packages, *pins = done.stdout.split("\n")
    assert said == "installing scikit-learn, tqdm"
    assert command == "-m|pip|install|--quiet"
    assert packages == "scikit-learn|tqdm"
    core = ("keras", "numpy", "tensorflow")
    versions = [f"{name}=={metadata.version(name)}" for name in core]
    assert [pin for pin in pins if pin] == [*versions, "ready"]


def test_pip_cannot_bring_in_a_core_package_that_is_not_there(tmp_path):
    done = prepared(tmp_path, ("tqdm", "tensorflow"), KERAS_BACKEND="jax")
    assert done.returncode == 0, done.stderr
    assert "tensorflow<0\n" in done.stdout and "|tensorflow" not in done.stdout


@pytest.mark.parametrize("name, title", [("tensorflow", "TensorFlow"), ("keras", "K")])
def test_a_missing_core_is_said_in_one_sentence(tmp_path, name, title):
    done = prepared(tmp_path, missing=(name, "tqdm"))
    last = done.stderr.strip().splitlines()[-1]
    assert done.returncode == 1 and done.stdout == ""
    assert last.startswith(f"ModuleNotFoundError: This notebook needs {title}")
    assert last.count(".") == 1


def test_a_failing_pip_says_what_to_do(tmp_path):
    done = prepared(tmp_path, missing=("tqdm",), fails=True)
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("RuntimeError: pip could not install tqdm: check the")


def test_our_helpers_win_and_leave_no_file(tmp_path):
    other = tmp_path / "work" / "helpers"
    other.mkdir(parents=True)
    (other / "__init__.py").write_text("")
    (other / "claims.py").write_text("other = True")
    show = "import helpers.claims as c; print(hasattr(c, 'other'), c.__file__)\n"
    setup = colab.setup_code(ONLY_HELPERS) + "\n"
    done = python(tmp_path, show + setup + show + setup + show)
    assert done.returncode == 0, done.stderr
    before, _, first, _, second = done.stdout.splitlines()
    assert before.startswith("True ")
    files = [line.removeprefix("False ") for line in (first, second)]
    assert len({before, *files}) == 3
    assert all(file.startswith(str(tmp_path / "scratch")) for file in files)
    assert not list((tmp_path / "scratch").iterdir())


# An environment without the helpers


@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    """A Python that has every package of this one, and neither helpers nor pip.

    The packages come by one line of a .pth file. Python reads no .pth file in a
    folder that was added so; that is how the editable helpers stay out.
    """
    home = tmp_path_factory.mktemp("bare")
    subprocess.check_call([sys.executable, "-m", "venv", "--without-pip", str(home)])
    places = {key: str(home) for key in ("base", "platbase", "installed_base")}
    paths = sysconfig.get_paths("venv", vars=places)
    with open(os.path.join(paths["purelib"], "packages.pth"), "w") as file:
        for place in sys.path:
            if os.path.basename(place) in ("site-packages", "dist-packages"):
                print(place, file=file)
    interpreter = os.path.join(paths["scripts"], os.path.basename(sys.executable))
    done = python(home, "import helpers", interpreter=interpreter)
    assert "No module named 'helpers'" in done.stderr, (
        "this test needs a Python that cannot import `helpers`; install the package "
        f"with --editable, as tools/install.py does\n{done.stderr}"
    )
    return interpreter


USE = "\nfrom helpers.claims import claim\nclaim('one is one', 1, '==', 1)"


def test_the_first_cell_brings_the_helpers(bare, tmp_path):
    done = python(tmp_path, colab.setup_code(ONLY_HELPERS) + USE, interpreter=bare)
    assert done.stdout == "ready\nclaim holds: one is one: 1 == 1\n", done.stderr


def test_without_its_pack_the_first_cell_brings_nothing(bare, tmp_path):
    source = colab.setup_code(ONLY_HELPERS)
    emptied = re.sub(r'"""\n[\w+/=\n]+"""', f'"{NO_HELPERS}"', source)
    assert emptied != source
    done = python(tmp_path, emptied + USE, interpreter=bare)
    assert "ModuleNotFoundError: No module named 'helpers'" in done.stderr


# The exports of the built book


def exported(name):
    path = colab.FOLDER / f"{name.replace('/', '-')}.ipynb"
    if not path.exists():
        pytest.fail(f"{path.name} is not in _build: run `python -m tools book` first")
    return path


@pytest.mark.built
def test_the_folder_holds_the_chapters_and_nothing_else():
    expected = [colab.file_name(path) for path in chapters.notebooks()]
    assert sorted(os.listdir(colab.FOLDER)) == sorted(expected)


@pytest.mark.built
@pytest.mark.parametrize("name", NAMES)
def test_structure(name):
    text = exported(name).read_text(encoding="utf-8")
    notebook = nbformat.reads(text, as_version=4)
    nbformat.validate(notebook)
    assert text.endswith("}\n")
    assert (notebook.nbformat, notebook.nbformat_minor) == (4, 5)
    assert notebook.metadata.kernelspec == chapters.KERNELSPEC
    assert notebook.metadata.colab == {"provenance": []}
    setup, *cells = notebook.cells
    assert setup.id == colab.SETUP_CELL and setup.metadata == colab.COLLAPSED
    ids = [cell.id for cell in notebook.cells]
    assert len(set(ids)) == len(ids)
    source = chapters.read(chapters.ROOT / "book" / f"{name}.ipynb")
    assert [cell.id for cell in cells] == [cell.id for cell in source.cells]
    before, after = [
        [cell.source.removeprefix(colab.SOLUTION) for cell in cells_ if is_code(cell)]
        for cells_ in (source.cells, cells)
    ]
    assert after == before
    assert not any(cell.outputs for cell in cells if is_code(cell))


def is_code(cell):
    return cell.cell_type == "code"


@pytest.mark.built
@pytest.mark.parametrize("name", NAMES)
def test_nothing_of_the_book_is_left(name):
    setup, *cells = nbformat.read(exported(name), as_version=4).cells
    for cell in cells:
        assert not {"mystnb", "myst"} & set(cell.metadata), cell.id
        assert set(chapters.tags(cell)) <= {"raises-exception"}, cell.id
        assert not rules.ABSOLUTE.search(re.sub(r"https?://\S+", "", cell.source))
        if not is_code(cell):
            words = re.sub(r"(?s)^(```+|~~~+).*?^\1|`[^`\n]+`", "", cell.source)
            for left in (r"\{cite\}", ":::", r"\]\((?!\w+:)[^)#]+\.(ipynb|md)\b"):
                assert not re.search(left, words), (cell.id, left)
    shown = re.sub(r'"""\n[\w+/=\n]+"""', "", setup.source)  # the pack looks like paths
    assert not rules.ABSOLUTE.search(shown)


@pytest.mark.built
@pytest.mark.parametrize("name", SAMPLE)
def test_an_export_runs_on_its_own(name, bare, tmp_path, monkeypatch):
    folder, scratch = tmp_path / "empty", tmp_path / "scratch"
    kernel = tmp_path / "jupyter" / "kernels" / "bare"
    for place in (folder, scratch, kernel):
        place.mkdir(parents=True)
    argv = [bare, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    spec = {"argv": argv, "display_name": "bare", "language": "python"}
    (kernel / "kernel.json").write_text(json.dumps(spec), encoding="utf-8")
    places = {"JUPYTER_PATH": str(tmp_path / "jupyter"), **temporary(scratch)}
    for key, value in run.environment(**places).items():
        monkeypatch.setenv(key, value)
    for key in ("PYTHONPATH", "PYTHONHOME"):
        monkeypatch.delenv(key, raising=False)
    (folder / "only.ipynb").write_bytes(exported(name).read_bytes())
    notebook = nbformat.read(folder / "only.ipynb", as_version=4)
    client = NotebookClient(
        notebook,
        timeout=run.CELL_TIMEOUT,
        kernel_name="bare",
        resources={"metadata": {"path": str(folder)}},
    )
    with open(tmp_path / "kernel.log", "wb") as log:
        asyncio.run(client.async_execute(stderr=log))
    printed = [
        output.text
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if output.get("name") == "stdout"
    ]
    assert printed[0] == "ready\n"  # and no word of installing
    assert "claim holds: " in "".join(printed)  # a false one had raised
    assert os.listdir(folder) == ["only.ipynb"]
    assert not list(scratch.glob("helpers-*"))
