"""Everything that must hold before a change lands, the quick steps first."""

import subprocess
import sys
import time

from tools import run
from tools.chapters import ROOT

PYTEST = [sys.executable, "-m", "pytest", "-q"]
TWO = ["-n", "2"]  # at a time
STEPS = {
    "lint": [sys.executable, "-m", "ruff", "check", "."],
    "format": [sys.executable, "-m", "ruff", "format", "--check", "."],
    "unit tests and notebook rules": [*PYTEST, "tests", "-m", "not built", *TWO],
    "every cell of every notebook": [
        *[*PYTEST, "--nbval", "book", *TWO, "--dist", "loadfile", "-v"],
        *["-W", "default", "-p", "tools.kernels", "-p", "tools.keep"],
    ],
    "the book": [sys.executable, "-m", "tools", "book"],
    "the built pages and exports": [*PYTEST, "tests", "-m", "built", *TWO, "-v", "-rs"],
}


def test():
    """Run the steps; stop at the first that fails, and say which."""
    environment = run.environment(HEALTHBOOK_SEED="0")  # the promises' seed
    for number, (title, command) in enumerate(STEPS.items(), start=1):
        print(f"\n== {number}/{len(STEPS)} {title}", flush=True)
        start = time.monotonic()
        code = subprocess.call(command, cwd=ROOT, env=environment)
        print(f"== {title}: {time.monotonic() - start:.0f} s", flush=True)
        if code:
            sys.exit(f"\nFailed at step {number}/{len(STEPS)}: {title}")
