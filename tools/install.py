"""Make .venv and install the lock into it, unless that is done.

Standard library only, and written so that any Python can read it: the first thing
it does is to refuse, in one sentence, a Python that the book cannot use.
"""

from __future__ import print_function

import hashlib
import os
import subprocess
import sys
import time

if not (3, 11) <= sys.version_info[:2] <= (3, 13):
    sys.exit(
        "The book needs Python 3.11, 3.12 or 3.13, and this is Python {0}.{1}: name "
        "another, for example  make book PYTHON=python3.12".format(*sys.version_info)
    )

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
VENV = os.path.join(ROOT, ".venv")
STAMP = os.path.join(VENV, "installed")


def fingerprint():
    """The lock, the package, the Python and the folder (a moved .venv is broken)."""
    digest = hashlib.sha256(repr((sys.version, ROOT)).encode())
    for name in ("requirements.txt", "pyproject.toml"):
        with open(os.path.join(ROOT, name), "rb") as file:
            digest.update(file.read())
    return digest.hexdigest()


def installed():
    if not os.path.exists(STAMP):
        return None
    with open(STAMP) as file:
        return file.read()


def main():
    wanted = fingerprint()
    if installed() == wanted:
        return
    start = time.monotonic()
    print(
        "Installing into .venv (about 3 GB; a few minutes the first time)", flush=True
    )
    subprocess.check_call([sys.executable, "-m", "venv", "--clear", VENV])
    scripts = "Scripts" if os.name == "nt" else "bin"
    pip = [os.path.join(VENV, scripts, "python"), "-m", "pip", "install", "--compile"]
    # --compile: without bytecode every kernel spends ten more seconds on imports
    subprocess.check_call(pip + ["-r", os.path.join(ROOT, "requirements.txt")])
    subprocess.check_call(
        pip + ["--quiet", "--no-deps", "--no-build-isolation", "--editable", ROOT]
    )
    with open(STAMP, "w") as file:
        file.write(wanted)
    print("Installed in {:.0f} s".format(time.monotonic() - start), flush=True)


if __name__ == "__main__":
    try:
        main()
    except subprocess.CalledProcessError as error:
        sys.exit(
            "Installing failed (see above): {0}\nCheck the network and the free disk "
            "space, then run the same command again.".format(" ".join(error.cmd))
        )
    except KeyboardInterrupt:
        sys.exit("\nInterrupted; run the same command again to go on.")
