"""Programs that a notebook starts, and that cannot outlive it.

A program left behind by a notebook that failed holds its port and its memory until
somebody notices. So each one gets a guard, a small second process that holds one end
of a pipe, the notebook holding the other: whatever becomes of the notebook (its end, an
interrupt, a kill), the pipe closes, and the guard ends the program.

Introduced in: challenges/cost_and_scale
"""

import os
import queue
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

GRACE = 5  # seconds that a program gets to end by itself when its notebook is gone
POSIX = os.name == "posix"


class Process:
    """A running program; also a context manager that stops it.

    pid: int, of the program, not of its guard
    running: bool
    """

    def __init__(self, guard, pid):
        self._guard = guard
        self.pid = pid
        self._code = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def __repr__(self):
        state = "running" if self.running else f"ended with {self._code}"
        return f"Process(pid={self.pid}, {state})"

    @property
    def running(self):
        if self._guard.poll() is not None:
            self._close()
        return self._code is None

    def wait(self, timeout):
        """Wait for the program's own end.

        timeout: seconds, at least 0
        Returns: int, its exit code; -9 means that signal 9 ended it
        Raises: subprocess.TimeoutExpired if it is still running then
        """
        if self._code is None:
            self._guard.wait(timeout)
            self._close()
        return self._code

    def stop(self, timeout=10):
        """Ask the program to end (SIGTERM); kill it and its children if it does not.

        timeout: seconds that it gets, at least 0
        Returns: int, its exit code; of a program that had ended already, that one
        """
        if not 0 <= timeout < float("inf"):
            raise ValueError(f"timeout: expected seconds from 0, got {timeout!r}")
        if self.running:
            try:
                self._guard.stdin.write(f"{timeout}\n".encode())
                self._guard.stdin.close()
            except OSError:  # it ended in this very moment
                self._guard.stdin = None
            self._guard.wait()
            self._close()
        return self._code

    def _close(self):
        if self._code is None:
            said = self._guard.stdout.read().strip()
            self._guard.stdout.close()
            if self._guard.stdin:
                self._guard.stdin.close()
            self._code = int(said) if said else self._guard.returncode


def start(command, *, log, environment=None):
    """Start a program that ends at the latest when this Python does.

    command: list of str, the program and its arguments; for Python, sys.executable
    log: path of a file that takes what the program prints, errors included; a file that
        is there is written over
    environment: dict of variables beside those of this process, or None. Secrets belong
        here: everybody on the machine can read the command.
    Returns: Process
    Raises: ValueError if there is no such program; OSError if log cannot be written
    Introduced in: challenges/cost_and_scale
    """
    command = [str(part) for part in command]
    if not command or not shutil.which(command[0]):
        raise ValueError(
            f"command: expected a program that can be run, got {command[:1]}; for "
            "Python name sys.executable"
        )
    house = str(Path(__file__).resolve().parents[1])  # so that it can import helpers
    more = dict(environment or {})
    paths = more.get("PYTHONPATH", os.environ.get("PYTHONPATH"))
    more["PYTHONPATH"] = os.pathsep.join([house, paths] if paths else [house])
    with open(log, "wb") as stderr:
        guard = subprocess.Popen(
            [sys.executable, "-IS", os.path.abspath(__file__), *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            env={**os.environ, **more},
            **_apart(),
        )
    first = guard.stdout.readline()
    if not first.strip():
        guard.stdin.close()
        guard.stdout.close()
        words = Path(log).read_text(errors="replace").strip().splitlines()
        raise ValueError(
            f"{command[0]} could not be started (exit code {guard.wait()}): "
            f"{words[-1] if words else 'it said nothing'}"
        )
    return Process(guard, int(first))


def _apart():
    """Out of reach of a Ctrl-C that is meant for the notebook."""
    if POSIX:
        return {"start_new_session": True}
    return {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}


def _guard(command):
    """Run the command; end it when told to, or when nobody holds the pipe any more."""
    program = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=sys.stderr, **_apart()
    )
    print(program.pid, flush=True)
    events = queue.Queue()

    def watch(event, wait):
        events.put((event, wait()))

    for event, wait in [("ended", program.wait), ("told", lambda: os.read(0, 64))]:
        threading.Thread(target=watch, args=(event, wait), daemon=True).start()
    event, said = events.get()
    if event == "told":
        program.terminate()
        try:
            program.wait(float(said) if said.strip() else GRACE)
        except subprocess.TimeoutExpired:
            program.kill()
    if POSIX:
        try:
            os.killpg(program.pid, signal.SIGKILL)  # whatever it started itself
        except ProcessLookupError:
            pass  # nothing was left
    try:
        print(program.wait(), flush=True)
    except BrokenPipeError:
        os._exit(0)  # nobody is left to be told


if __name__ == "__main__":
    _guard(sys.argv[1:])
