"""The two commands on a small book: what is run again, what fails, what is said."""

import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys

import nbformat
import psutil
import pytest

from tools import chapters, run
from tools.test import STEPS

ROOT = chapters.ROOT
TABLE = b"a\n1\n"
TABLE_HASH = hashlib.sha256(TABLE).hexdigest()


def notebook(path, *sources, tags=()):
    cells = [nbformat.v4.new_markdown_cell(f"# {path.stem}", id="title")]
    for number, source in enumerate(sources):
        cell = nbformat.v4.new_code_cell(source, id=f"code-{number}")
        if tags:
            cell.metadata["tags"] = list(tags)
        cells.append(cell)
    path.write_text(
        chapters.text(chapters.formatted(nbformat.v4.new_notebook(cells=cells)))
    )


@pytest.fixture
def book(tmp_path):
    """A book of two short chapters, built by a copy of the real tools."""
    root = tmp_path / "ein Büchlein"
    root.mkdir()
    for folder in ("tools", "helpers", "book"):
        ignore = shutil.ignore_patterns("*.ipynb", "__pycache__", ".ipynb_checkpoints")
        shutil.copytree(ROOT / folder, root / folder, ignore=ignore)
    for file in ("_config.yml", "requirements.txt", "pyproject.toml"):
        shutil.copy(ROOT / file, root / file)
    with open(root / "helpers" / "data" / "fetch.py", "a") as file:
        file.write(
            f"\nFILES = {{'table.csv': File(4, {TABLE_HASH!r}, 'http://a.invalid')}}"
        )
    (root / "_toc.yml").write_text(
        "format: jb-book\nroot: book/index\n"
        "chapters:\n  - file: book/one\n  - file: book/two\n"
    )
    (root / "book" / "index.md").write_text("# Small\n")
    notebook(root / "book" / "one.ipynb", "print('first', 1 + 1)")
    notebook(root / "book" / "two.ipynb", "print('second', 2 + 2)")
    return root


def tools(root, *arguments, **environment):
    data = {"HEALTHBOOK_CACHE": str(root / "cache"), "HEALTHBOOK_DATA": ""}
    done = subprocess.run(
        [sys.executable, "-m", "tools", *arguments],
        cwd=root,
        capture_output=True,
        text=True,
        env={**os.environ, **data, **environment},
    )
    done.text = done.stdout + done.stderr
    return done


def ran(done):
    """The notebooks that this build ran."""
    return sorted(
        line.split()[1] for line in done.stdout.splitlines() if line.endswith(" ...")
    )


def page(root, name):
    return (root / "_build" / "html" / "book" / f"{name}.html").read_text("utf-8")


def test_a_build_runs_what_changed_and_nothing_else(book):
    first = tools(book, "book")
    assert first.returncode == 0, first.text
    assert ran(first) == ["one", "two"]
    last = first.stdout.splitlines()
    assert "index.html" in last[-1] and last[-1].split()[-1].startswith("file://")
    assert any(line.startswith("one ") and line.endswith(" MB") for line in last)
    assert "first 2" in page(book, "one")

    again = tools(book, "book")
    assert again.returncode == 0 and ran(again) == []

    notebook(book / "book" / "two.ipynb", "print('changed', 3 + 3)")
    one_changed = tools(book, "book")
    assert ran(one_changed) == ["two"]
    assert "changed 6" in page(book, "two")

    with open(book / "helpers" / "claims.py", "a") as file:
        file.write("\n# another version\n")
    assert ran(tools(book, "book")) == ["one", "two"]

    assert "table.csv is not served: a.invalid" in one_changed.stdout
    (book / "cache").mkdir()
    (book / "cache" / "table.csv").write_bytes(TABLE)
    assert ran(tools(book, "book")) == ["one", "two"]
    assert ran(tools(book, "book")) == []


def nbval(root):
    """The step of `make test` that runs every cell, on the small book."""
    step = STEPS["every cell of every notebook"]
    data = {"HEALTHBOOK_CACHE": str(root / "cache"), "HEALTHBOOK_DATA": ""}
    environment = {**run.environment(HEALTHBOOK_SEED="0"), **data}
    command = [*step, "-c", os.devnull, "--rootdir", str(root)]
    command += ["-p", "no:cacheprovider"]
    return subprocess.run(command, cwd=root, capture_output=True, env=environment)


def test_what_nbval_ran_and_found_right_is_not_run_again(book):
    draw = (
        "import sys, time, matplotlib.pyplot as plt\n"
        "print('before')\nplt.plot([1]); plt.show()\nprint('after')\n"
        "print('a warning', file=sys.stderr)\ntime.time()"
    )
    notebook(book / "book" / "one.ipynb", draw, "x = 1", "1 / 0")
    assert nbval(book).returncode == 1
    stopped = tools(book, "book")
    assert stopped.returncode and ran(stopped) == ["one"]  # for a cell of it failed

    notebook(book / "book" / "one.ipynb", draw, "x = 1", "x")
    assert nbval(book).returncode == 0
    built = tools(book, "book")
    assert built.returncode == 0 and ran(built) == [], built.text
    figure = re.compile(r'src="([^"]*_images/\w+\.png)"')
    kept, image = page(book, "one"), figure.search(page(book, "one"))[1]

    shutil.rmtree(book / "_build")
    assert ran(tools(book, "book")) == ["one", "two"]
    again = page(book, "one")
    assert figure.search(again)[1] == image  # named after what it holds
    times = re.compile(r"\b1\d{9}\.\d+")
    assert times.findall(kept) != times.findall(again)
    assert times.sub("", kept) == times.sub("", again)  # the same page from both


def test_a_wrong_file_and_a_wrong_setting_end_the_build_with_their_message(book):
    mirror = book / "mirror"
    mirror.mkdir()
    (mirror / "table.csv").write_bytes(TABLE[:-1])
    done = tools(book, "book", HEALTHBOOK_DATA=str(mirror))
    assert done.returncode != 0 and ran(done) == []
    assert done.text.startswith("table.csv is not the file that the book knows")

    done = tools(book, "book", HEALTHBOOK_DATA="no such folder")
    assert done.returncode != 0 and done.text.count("\n") == 1
    assert "HEALTHBOOK_DATA names 'no such folder', which is no folder" in done.text


def test_a_failing_cell_ends_the_build_and_is_named_last(book):
    notebook(book / "book" / "two.ipynb", "x = 1", "1 / 0")
    done = tools(book, "book")
    assert done.returncode != 0
    assert done.text.rstrip().splitlines()[-3:] == [
        "notebook book/two.ipynb",
        "cell     'code-1'",
        "error    ZeroDivisionError: division by zero",
    ]


def test_an_exception_that_the_cell_announces_is_no_failure(book):
    notebook(book / "book" / "two.ipynb", "1 / 0", tags=["raises-exception"])
    done = tools(book, "book")
    assert done.returncode == 0, done.text
    assert "ZeroDivisionError" in page(book, "two")


def test_a_kernel_that_dies_is_named(book):
    notebook(book / "book" / "two.ipynb", "import os; os._exit(1)")
    done = tools(book, "book")
    assert done.returncode != 0
    assert "notebook book/two.ipynb" in done.text and "kernel died" in done.text


def test_a_warning_of_the_pages_fails_this_build_and_the_next(book):
    (book / "book" / "index.md").write_text("# Small\n\n[gone](nowhere.md)\n")
    first, again = tools(book, "book"), tools(book, "book")
    assert first.returncode != 0 and again.returncode != 0
    assert "nowhere.md" in first.text and "nowhere.md" in again.text


def test_promises_are_renewed_and_shown(book):
    notebook(book / "book" / "two.ipynb", "print(2 + 2)", tags=["promise"])
    done = tools(book, "promises", "two")
    assert done.returncode == 0, done.text
    assert '+      "4\\n"' in done.stdout
    stored = chapters.read(book / "book" / "two.ipynb").cells[1]
    assert (stored.outputs[0].text, stored.execution_count) == ("4\n", 1)
    assert tools(book, "promises", "two").stdout.count("\n+") == 0


def test_seeds_show_the_spread_and_refuse_a_claim_that_one_seed_breaks(book):
    source = (
        "from helpers import runtime\nfrom helpers.claims import claim\n"
        "value = runtime.seed().random()\n"
        "claim('a draw is a draw', value, '<', {})"
    )
    notebook(book / "book" / "two.ipynb", source.format(1))
    good = tools(book, "seeds", "two")
    assert good.returncode == 0, good.text
    line = next(s for s in good.stdout.splitlines() if "a draw is a draw" in s)
    values = line.split()[1:6]
    assert line.split()[0] == "holds" and len(set(values)) == 5
    notebook(book / "book" / "two.ipynb", source.format(0.6))  # seed 0 draws .64
    bad = tools(book, "seeds", "two")
    assert bad.returncode != 0
    assert "FALSE" in bad.stdout and "seed 0, cell 'code-0': ClaimError" in bad.stdout


def test_a_chapter_that_is_not_there_is_named_with_those_that_are(book):
    done = tools(book, "seeds", "three")
    assert done.returncode != 0
    assert "no chapter 'three'; there are: one, two" in done.text


def test_no_kernel_is_left_when_a_run_is_interrupted(book):
    notebook(book / "book" / "two.ipynb", "import time; time.sleep(300)")
    process = subprocess.Popen(
        [sys.executable, "-m", "tools", "book"],
        cwd=book,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        # a shell's background job hands down that SIGINT is to be ignored
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    for line in process.stdout:
        if "one" in line and line.rstrip().endswith("MB"):
            break  # the short chapter is through, the long one sleeps
    children = psutil.Process(process.pid).children(recursive=True)
    assert children, "no kernel was running"
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=60)
    assert process.returncode != 0
    assert "run the same command again" in said and "Traceback" not in said
    gone, alive = psutil.wait_procs(children, timeout=10)
    assert not alive


def test_warnings_are_found_in_what_a_cell_wrote_to_the_error_stream(book, monkeypatch):
    monkeypatch.setattr(chapters, "ROOT", book)
    path = book / "book" / "one.ipynb"
    notebook(path, "import warnings; warnings.warn('look here')")
    (done,) = run.execute([path])
    assert len(run.warnings(done.notebook)) == 1
    notebook(path, "import sys; print('only a bar', file=sys.stderr)")
    (done,) = run.execute([path])
    assert run.warnings(done.notebook) == []


@pytest.mark.built
@pytest.mark.parametrize("path", chapters.notebooks(), ids=chapters.name)
def test_no_chapter_of_the_built_book_warned(path):
    from tools.book import executed

    assert run.warnings(executed(path)) == []


INSTALL = ROOT / "tools" / "install.py"


@pytest.mark.parametrize("version", [(3, 10), (3, 14), (2, 7)])
def test_another_python_gets_one_clear_sentence(version):
    program = (
        f"import runpy, sys; sys.version_info = {(*version, 0, 'final', 0)}\n"
        f"runpy.run_path({str(INSTALL)!r}, run_name='__main__')"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True
    )
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert (
        f"3.11, 3.12 or 3.13, and this is Python {version[0]}.{version[1]}"
        in done.stderr
    )
