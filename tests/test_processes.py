"""The programs that a notebook starts: they end with it, whatever becomes of it."""

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest
from jupyter_client.manager import start_new_kernel

from helpers import processes

SLEEP = [sys.executable, "-c", "import time; time.sleep(60)"]
STUBBORN = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("ready", flush=True)
time.sleep(60)
"""
PARENT = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
print(child.pid, flush=True)
child.wait()
"""
NOTEBOOK = """
import sys, time
from helpers import processes
program = processes.start([sys.executable, "-c", "import time; time.sleep(60)"],
                          log=sys.argv[1])
print(program.pid, flush=True)
{}
"""
posix = pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")


def gone(pid, seconds=10):
    """Whether the process has ended, or does within that time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if psutil.Process(pid).status() == "zombie":
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.05)
    return False


def printed(log, seconds=20):
    """The first line of a log, as soon as it is there."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if "\n" in (text := log.read_text()):
            return text.splitlines()[0]
        time.sleep(0.05)
    raise AssertionError(f"nothing in {log.name} after {seconds} s")


def test_a_program_runs_and_its_output_is_kept(tmp_path):
    command = [sys.executable, "-c", "import sys; print('out'); sys.exit('err')"]
    program = processes.start(command, log=tmp_path / "log")
    assert program.wait(20) == 1
    assert not program.running
    assert sorted((tmp_path / "log").read_text().split()) == ["err", "out"]
    assert program.stop() == 1
    assert repr(program) == f"Process(pid={program.pid}, ended with 1)"


def test_stop_ends_it(tmp_path):
    program = processes.start(SLEEP, log=tmp_path / "log")
    assert program.running and psutil.pid_exists(program.pid)
    assert program.stop() == (-signal.SIGTERM if os.name == "posix" else 1)
    assert not program.running and gone(program.pid)


@posix
def test_a_program_that_does_not_listen_is_killed(tmp_path):
    log = tmp_path / "log"
    program = processes.start([sys.executable, "-c", STUBBORN], log=log)
    assert printed(log) == "ready"
    assert program.stop(timeout=0.2) == -signal.SIGKILL


@posix
def test_a_program_ends_in_its_own_way_when_asked(tmp_path):
    polite = STUBBORN.replace("signal.SIG_IGN", "lambda *_: sys.exit(3)")
    command = [sys.executable, "-c", "import sys" + polite]
    program = processes.start(command, log=tmp_path / "log")
    printed(tmp_path / "log")
    assert program.stop() == 3


@posix
def test_what_the_program_started_ends_too(tmp_path):
    with processes.start([sys.executable, "-c", PARENT], log=tmp_path / "log"):
        grandchild = int(printed(tmp_path / "log"))
        assert psutil.pid_exists(grandchild)
    assert gone(grandchild)


def test_it_is_stopped_when_the_block_fails(tmp_path):
    with pytest.raises(ZeroDivisionError):
        with processes.start(SLEEP, log=tmp_path / "log") as program:
            1 / 0  # noqa: B018 - the failing cell
    assert gone(program.pid)


def test_wait_has_an_end(tmp_path):
    with processes.start(SLEEP, log=tmp_path / "log") as program:
        with pytest.raises(subprocess.TimeoutExpired):
            program.wait(0.1)
        assert program.running


@pytest.mark.parametrize(
    "end", ["", "raise RuntimeError('a failing cell')", "time.sleep(60)"]
)
def test_it_is_gone_when_its_notebook_is(tmp_path, end):
    notebook = subprocess.Popen(
        [sys.executable, "-c", NOTEBOOK.format(end), str(tmp_path / "log")],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    with notebook:
        pid = int(notebook.stdout.readline())
        if "sleep" in end:
            notebook.kill()
    assert gone(pid)


@posix
def test_an_interrupted_notebook_leaves_nothing(tmp_path):
    notebook = subprocess.Popen(
        [
            sys.executable,
            "-c",
            NOTEBOOK.format("time.sleep(60)"),
            str(tmp_path / "log"),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    with notebook:
        pid = int(notebook.stdout.readline())
        notebook.send_signal(signal.SIGINT)
    assert gone(pid)


def test_a_secret_travels_in_the_environment(tmp_path):
    command = [sys.executable, "-c", "import os; print(os.environ['KEY'])"]
    program = processes.start(command, log=tmp_path / "log", environment={"KEY": "s3"})
    assert program.wait(20) == 0
    assert (tmp_path / "log").read_text().strip() == "s3"


def test_helpers_can_be_imported_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    command = [sys.executable, "-S", "-c", "import helpers"]
    program = processes.start(command, log=tmp_path / "log")
    assert program.wait(20) == 0, (tmp_path / "log").read_text()


def test_no_such_program(tmp_path):
    with pytest.raises(ValueError, match=r"expected a program .* got \['no-such'\]"):
        processes.start(["no-such", "-x"], log=tmp_path / "log")
    with pytest.raises(ValueError, match=r"got \[\]"):
        processes.start([], log=tmp_path / "log")


@posix
def test_a_program_that_cannot_start(tmp_path):
    (script := tmp_path / "script").write_bytes(b"\x00not a program")
    script.chmod(0o755)
    with pytest.raises(ValueError, match=r"could not be started .*Exec format error"):
        processes.start([script], log=tmp_path / "log")


@pytest.mark.parametrize("timeout", [-1, float("nan"), float("inf")])
def test_stop_wants_seconds(tmp_path, timeout):
    with processes.start(SLEEP, log=tmp_path / "log") as program:
        with pytest.raises(ValueError, match="timeout: expected seconds from 0"):
            program.stop(timeout)
        assert program.running


@pytest.fixture
def kernel(tmp_path):
    """A kernel of its own, in which a program has been started; and that one's id."""
    manager, client = start_new_kernel(kernel_name="python3", cwd=str(tmp_path))
    cell = NOTEBOOK.format("").replace("sys.argv[1]", "'log'")
    pids = []

    def hear(message):
        if message["msg_type"] == "stream":
            pids.append(int(message["content"]["text"]))

    client.execute_interactive(cell, timeout=60, output_hook=hear)
    yield manager, client, pids[0]
    client.stop_channels()
    manager.shutdown_kernel(now=True)


@pytest.mark.parametrize("end", ["fails", "is interrupted", "is killed"])
def test_no_program_outlives_a_kernel_that(kernel, end):
    manager, client, pid = kernel
    if end == "fails":
        reply = client.execute_interactive("1 / 0", timeout=60, output_hook=len)
        assert reply["content"]["ename"] == "ZeroDivisionError"
    elif end == "is interrupted":
        question = client.execute("print('begun', flush=True); time.sleep(60)")
        while client.get_iopub_msg(timeout=60)["msg_type"] != "stream":
            pass  # until the cell runs, the kernel would take the interrupt for itself
        manager.interrupt_kernel()
        reply = client.get_shell_msg(timeout=60)
        assert reply["parent_header"]["msg_id"] == question
        assert reply["content"]["ename"] == "KeyboardInterrupt"
    assert psutil.pid_exists(pid)
    manager.shutdown_kernel(now=end == "is killed")
    assert gone(pid)
