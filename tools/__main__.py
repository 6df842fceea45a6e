"""The command behind make: python -m tools book|test|format|promises|seeds|bench."""

import argparse
import contextlib
import difflib
import os
import subprocess
import sys

import psutil

from tools import chapters, run


def format_sources():
    """Bring code and notebooks into their one form."""
    for command in (["check", "--fix-only", "--quiet"], ["format", "--quiet"]):
        subprocess.check_call(
            [sys.executable, "-m", "ruff", *command, str(chapters.ROOT)]
        )
    from tools import frame

    for path in sorted((chapters.ROOT / "book").rglob("*.ipynb")):
        before, after = (
            path.read_text(encoding="utf-8"),
            chapters.text(chapters.formatted(chapters.read(path))),
        )
        if before != after:
            path.write_text(after, encoding="utf-8", newline="\n")
            print(f"formatted {path.relative_to(chapters.ROOT)}")
    for file in frame.TABLES:
        page, after = chapters.ROOT / "book" / file, frame.written(file)
        if page.read_text(encoding="utf-8") != after:
            page.write_text(after, encoding="utf-8", newline="\n")
            print(f"made the table of book/{file} anew")


def promises(names):
    """Renew the promised outputs and show the difference."""
    runs = run.execute(chapters.chosen(names))
    run.stop_at_failure(runs)
    for done in runs:
        before = done.path.read_text(encoding="utf-8")
        after = chapters.text(run.promised(chapters.read(done.path), done))
        place = done.path.relative_to(chapters.ROOT).as_posix()
        sys.stdout.writelines(
            difflib.unified_diff(
                before.splitlines(keepends=True),
                after.splitlines(keepends=True),
                place,
                place,
            )
        )
        done.path.write_text(after, encoding="utf-8", newline="\n")


def main():
    parser = argparse.ArgumentParser(prog="python -m tools", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("book", help="run what changed and build the HTML")
    commands.add_parser("test", help="lint, unit tests, every cell, the built HTML")
    commands.add_parser("format", help="bring code and notebooks into their one form")
    commands.add_parser("bench", help="time the book's network beside others")
    for command, text in (
        ("promises", "renew the outputs that cells promise"),
        ("seeds", "run claims under five seeds"),
    ):
        sub = commands.add_parser(command, help=text)
        sub.add_argument(
            "chapters", nargs="*", help="for example concepts/learning_from_data"
        )
    arguments = parser.parse_args()
    if arguments.command == "book":
        from tools import book

        book.build()
    elif arguments.command == "test":
        from tools import test

        test.test()
    elif arguments.command == "format":
        format_sources()
    elif arguments.command == "bench":
        from tools import bench

        bench.bench()
    elif arguments.command == "promises":
        promises(arguments.chapters)
    else:
        from tools import seeds

        seeds.seeds(arguments.chapters)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        for child in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):  # it ended by itself
                child.kill()  # kernels, and whatever they started
        print("\nInterrupted; run the same command again to go on.", flush=True)
        os._exit(130)  # no clean-up that would wait for the killed kernels
