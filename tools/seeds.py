"""Run a chapter's claims under five seeds and show their spread."""

import json
import sys
import tempfile
from pathlib import Path

from tools import chapters, run

SEEDS = range(5)


def seeds(names):
    """Print every claim's value under each seed; exit with 1 if one is false."""
    failed = [path for path in chapters.chosen(names) if not _chapter(path)]
    if failed:
        sys.exit("Claims failed in: " + ", ".join(map(chapters.name, failed)))


def _chapter(path):
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / f"{seed}.jsonl" for seed in SEEDS]
        more = [
            {"HEALTHBOOK_SEED": str(seed), "HEALTHBOOK_CLAIMS": str(file)}
            for seed, file in zip(SEEDS, files, strict=True)
        ]
        runs = run.execute([path] * len(SEEDS), environments=more, allow_errors=True)
        rows = [_rows(file) for file in files]
    print(f"\n{chapters.name(path)}: seeds {SEEDS[0]} to {SEEDS[-1]}")
    statements = list(dict.fromkeys(s for claims in rows for s in claims))
    good = all([_line(statement, rows) for statement in statements])
    for seed, done in zip(SEEDS, runs, strict=True):
        for cell, error in _errors(done.notebook):
            good = False
            print(f"  seed {seed}, cell {cell!r}: {error}")
    return good


def _rows(file):
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    return {claim["statement"]: claim for claim in map(json.loads, lines)}


def _line(statement, rows):
    """Print one claim; return whether it was made and held under every seed."""
    made = [claims.get(statement) for claims in rows]
    values = "  ".join(f"{c['value']:8.4g}" if c else "       –" for c in made)
    bounds = sorted({f"{c['relation']} {c['bound']:.4g}" for c in made if c})
    good = all(c and c["holds"] for c in made)
    print(
        f"  {'holds' if good else 'FALSE'}  {values}   "
        f"{', '.join(bounds):12} {statement}"
    )
    return good


def _errors(notebook):
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if (
                output.output_type == "error"
                and "raises-exception" not in chapters.tags(cell)
            ):
                yield cell.id, f"{output.ename}: {output.evalue}"
