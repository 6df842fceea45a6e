"""The fetcher against servers on the loopback: what it serves, refuses and keeps."""

import _thread
import contextlib
import csv
import errno
import hashlib
import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from helpers.data import fetch

GOOD = bytes(range(256)) * 256
SHA = hashlib.sha256(GOOD).hexdigest()
PAGE = b"\n<html><title>403 Forbidden</title></html>"
NAME = "heart.gz"
PATIENCE = 5  # seconds that a slow server goes on, if the test does not end before
REAL_FILES = fetch.FILES
MIRROR = os.environ.get("HEALTHBOOK_DATA") or "."
needs_mirror = pytest.mark.skipif(
    not os.path.isfile(os.path.join(MIRROR, "MANIFEST.tsv")),
    reason="HEALTHBOOK_DATA names no folder that holds MANIFEST.tsv",
)
posix_only = pytest.mark.skipif(os.name != "posix", reason="needs POSIX permissions")


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.server.asked.append(self.headers)
        self.close_connection = True
        self.server.answers[self.path](self)

    def log_message(self, *_):
        """Say nothing: the tests look at what is printed."""


class Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked = []
        self.answers = {"/good": answer(), "/gone": answer(404)}
        self.over = threading.Event()
        self.halfway = threading.Event()
        self.outwaited = False  # did a client stay to the end of a slow answer?

    def handle_error(self, *_):
        """Say nothing of a client that hung up."""

    def stop(self):
        self.over.set()
        self.shutdown()
        self.server_close()


# What a server may do: each is called with the handler of one request.


def answer(status=200, body=GOOD, length=None, **headers):
    """An answer; its length is that of the body, another text, or not sent ("")."""
    length = str(len(body)) if length is None else length

    def send(handler):
        handler.send_response(status)
        if length:
            headers["Content-Length"] = length
        for key, value in headers.items():
            handler.send_header(key.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(body)

    return send


def redirect(to):
    return answer(302, PAGE, Location=to)


def broken(head, then=None):
    """The head of an answer, half of the body, and what comes instead of the rest."""

    def send(handler):
        handler.wfile.write(head + GOOD[: len(GOOD) // 2])
        handler.server.halfway.set()
        if then:
            then(handler)

    return send


def silent(handler):
    handler.server.outwaited = not handler.server.over.wait(PATIENCE)


def repeated(chunk, pause):
    """Sends the chunk again and again."""

    def send(handler):
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end and not handler.server.over.wait(pause):
            handler.wfile.write(chunk)
        handler.server.outwaited = not handler.server.over.is_set()

    return send


def reset(handler):
    linger = b"\1\0\0\0\0\0\0\0" if os.name == "posix" else b"\1\0\0\0"
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    socket.close(handler.connection.detach())


OK = b"HTTP/1.1 200 OK\r\n"
SIZED = OK + b"Content-Length: %d\r\n\r\n" % len(GOOD)
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n" % (len(GOOD) // 2)
ENDLESS = repeated(bytes(2**16), 0.002)

RIGHT = {
    "with its length": answer(),
    "without a length": answer(length=""),
    "and the connection kept open": broken(
        SIZED, lambda h: (h.wfile.write(GOOD[len(GOOD) // 2 :]), silent(h))
    ),
    "with a length that is no number": answer(length="many"),
    "in chunks": answer(
        body=b"8000\r\n%b\r\n8000\r\n%b\r\n0\r\n\r\n" % (GOOD[:32768], GOOD[32768:]),
        length="",
        Transfer_Encoding="chunked",
    ),
    "a .gz declared as encoded": answer(Content_Encoding="gzip"),
    "after a redirect": redirect("/good"),
    "after a redirect whose body never ends": broken(
        b"HTTP/1.1 302 Found\r\nLocation: /good\r\n\r\n", ENDLESS
    ),
}
WRONG = {
    "a page with status 200": PAGE,
    "nothing": b"",
    "a short file": GOOD[:-1],
    "a long file": GOOD + b"\0",
    "one byte altered": GOOD[:999] + b"?" + GOOD[1000:],
}
NOT_SERVED = {
    "403": (answer(403, PAGE), "answered with status 403"),
    "404": (answer(404, PAGE), "answered with status 404"),
    "500": (answer(500, PAGE), "answered with status 500"),
    "204": (answer(204, b""), "answered with status 204"),
    "206 with the right file": (answer(206), "answered with status 206"),
    "404 with the right file": (answer(404), "answered with status 404"),
    "304 with the right file": (answer(304), "answered with status 304"),
    "302 to nowhere": (answer(302), "answered with status 302"),
    "302 to a 404": (redirect("/gone"), "answered with status 404"),
    "302 to itself": (redirect("/file"), "gave no full answer: TooManyRedirects"),
    "302 to a file": (redirect("file:///etc/passwd"), "full answer: InvalidSchema"),
    "302 to no address": (redirect("http://["), "gave no full answer: "),
    "no HTTP": (lambda h: h.wfile.write(PAGE), "full answer: ConnectionError"),
    "nothing at all": (lambda h: None, "full answer: ConnectionError"),
    "length not reached": (
        broken(SIZED),
        "full answer: (IncompleteRead|ProtocolError)",
    ),
    "chunks not ended": (
        broken(CHUNKED),
        "full answer: (IncompleteRead|ProtocolError)",
    ),
    "a reset": (broken(SIZED, reset), "gave no full answer: "),
}
SLOW = {
    "before the first byte": (silent, "READ", "gave no full answer: ReadTimeout"),
    "half-way": (broken(SIZED, silent), "READ", "full answer: ReadTimeoutError"),
    "trickle of a body": (
        broken(SIZED, repeated(b"?", 0.02)),
        "TOTAL",
        "took longer than 0.4 s",
    ),
    "trickle of a header": (
        repeated(OK + b"X: y\r\n", 0.02),
        "TOTAL",
        "took longer than 0.4 s",
    ),
}


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


@pytest.fixture(autouse=True)
def settings(monkeypatch, cache):
    monkeypatch.delenv("HEALTHBOOK_DATA", raising=False)
    monkeypatch.delenv("HEALTHBOOK_OFFLINE", raising=False)
    monkeypatch.setenv("HEALTHBOOK_CACHE", str(cache))
    for variable in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(variable, "*")
    for limit, seconds in {"CONNECT": 5, "READ": 5, "TOTAL": 10}.items():
        monkeypatch.setattr(fetch, limit, seconds)
    monkeypatch.setattr(fetch, "SPARE", 2**17)


@pytest.fixture
def address(monkeypatch):
    """A function that gives NAME its official address."""

    def set_address(url):
        monkeypatch.setattr(fetch, "FILES", {NAME: fetch.File(len(GOOD), SHA, url)})

    set_address("http://book.invalid/file")
    return set_address


@pytest.fixture
def server(address):
    server = Server()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    server.answers["/file"] = answer()
    address(f"http://127.0.0.1:{server.server_port}/file")
    yield server
    server.stop()
    thread.join()


@pytest.fixture
def mirror(monkeypatch, tmp_path):
    folder = tmp_path / "mirror"
    folder.mkdir()
    monkeypatch.setenv("HEALTHBOOK_DATA", str(folder))
    return folder


def files(folder):
    """The names of all that is in a folder, hidden files too."""
    return sorted(os.listdir(folder)) if folder.is_dir() else []


def fill(folder, content):
    folder.mkdir(exist_ok=True)
    (folder / NAME).write_bytes(content)


def check_wrong(error, found, at, cache):
    """The message names all that is needed to mend it."""
    url = fetch.FILES[NAME].url
    for part in (
        f"{NAME} is not the file that the book knows, and is not used\n",
        f"  expected: {len(GOOD)} bytes, SHA-256 {SHA}\n",
        f"{len(found)} bytes, SHA-256 {hashlib.sha256(found).hexdigest()}",
        f"  at:       {at}\n",
        f"  fetch {url} by hand and save it as {cache / NAME}\n",
        "set HEALTHBOOK_OFFLINE=1 to build on stand-in data",
    ):
        assert part in str(error)


# --- what the address serves


@pytest.mark.parametrize("serve", RIGHT.values(), ids=RIGHT)
def test_the_right_file_is_served_and_kept(server, cache, serve):
    server.answers["/file"] = serve
    assert fetch.where(NAME) == "address"
    assert fetch.fetch(NAME) == GOOD
    assert not server.outwaited
    assert files(cache) == [NAME] and (cache / NAME).read_bytes() == GOOD
    assert fetch.where(NAME) == "cache"
    server.stop()
    assert fetch.fetch(NAME) == GOOD


@pytest.mark.parametrize("length", [None, ""], ids=["with length", "without length"])
@pytest.mark.parametrize("body", WRONG.values(), ids=WRONG)
def test_a_wrong_file_is_refused_and_not_kept(server, cache, body, length):
    server.answers["/file"] = answer(body=body, length=length)
    with pytest.raises(fetch.WrongFile) as error:
        fetch.fetch(NAME)
    check_wrong(error.value, body, fetch.FILES[NAME].url, cache)
    assert ("(a web page?)" in str(error.value)) == (body == PAGE)
    assert files(cache) == []


def test_an_endless_stream_is_given_up(server, cache):
    server.answers["/file"] = broken(OK + b"\r\n", ENDLESS)
    with pytest.raises(fetch.WrongFile, match="found:    the first ") as error:
        fetch.fetch(NAME)
    n = int(re.search("the first ([0-9]+) bytes", str(error.value))[1])
    assert len(GOOD) + fetch.SPARE < n <= len(GOOD) + fetch.SPARE + 2**16
    found = GOOD[: len(GOOD) // 2] + bytes(n - len(GOOD) // 2)
    check_wrong(error.value, found, fetch.FILES[NAME].url, cache)
    assert files(cache) == []


@pytest.mark.parametrize(("serve", "reason"), NOT_SERVED.values(), ids=NOT_SERVED)
def test_what_is_not_served_is_said_and_not_kept(server, cache, serve, reason):
    server.answers["/file"] = serve
    with pytest.raises(fetch.NotServed, match=f"^127[.]0[.]0[.]1 .*{reason}") as error:
        fetch.fetch(NAME)
    assert len(str(error.value)) < 60
    assert server.asked and files(cache) == []


@pytest.mark.parametrize(("serve", "limit", "reason"), SLOW.values(), ids=SLOW)
def test_what_is_too_slow_is_not_served(
    server, cache, monkeypatch, serve, limit, reason
):
    monkeypatch.setattr(fetch, limit, 0.4)
    server.answers["/file"] = serve
    with pytest.raises(fetch.NotServed, match=f"^127[.]0[.]0[.]1 .*{reason}$"):
        fetch.fetch(NAME)
    assert server.asked and files(cache) == []


def test_a_refused_connection_is_not_served(address, cache):
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        address(f"http://127.0.0.1:{deaf.getsockname()[1]}/file")
        with pytest.raises(fetch.NotServed, match=r"^127\.0\.0\.1 .*ConnectionError$"):
            fetch.fetch(NAME)
    assert files(cache) == []


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's way with a queue")
def test_a_connection_that_nobody_takes_is_not_served(address, cache, monkeypatch):
    monkeypatch.setattr(fetch, "CONNECT", 0.4)
    with socket.socket() as deaf, socket.socket() as first:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(0)  # the first may wait, and the next is not heard
        first.connect(deaf.getsockname())
        address(f"http://127.0.0.1:{deaf.getsockname()[1]}/file")
        with pytest.raises(fetch.NotServed, match=r"^127\.0\.0\.1 .*ConnectTimeout$"):
            fetch.fetch(NAME)
    assert files(cache) == []


def test_a_name_that_does_not_resolve_is_not_served(address, cache):
    address("http://book.invalid/file")
    with pytest.raises(fetch.NotServed, match=r"^book\.invalid "):
        fetch.fetch(NAME)
    assert files(cache) == []


def test_a_name_whose_look_up_hangs_is_not_served(server, cache, monkeypatch):
    monkeypatch.setattr(fetch, "TOTAL", 0.4)
    monkeypatch.setattr(
        socket, "getaddrinfo", lambda *_: [server.over.wait(PATIENCE)][1:]
    )
    with pytest.raises(fetch.NotServed, match=r"took longer than 0\.4 s$"):
        fetch.fetch(NAME)
    assert server.asked == [] and files(cache) == []


def test_a_wrong_setting_of_the_certificates_is_not_taken_for_no_network(
    address, cache, monkeypatch
):
    address("https://127.0.0.1/file")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nowhere")
    with pytest.raises(OSError, match="invalid path: /nowhere"):
        fetch.fetch(NAME)
    assert files(cache) == []


def test_a_proxy_is_asked_where_one_is_set(server, address, cache, monkeypatch):
    for variable in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(variable)
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{server.server_port}")
    address("http://book.invalid/file")
    server.answers["http://book.invalid/file"] = answer(502, PAGE)
    with pytest.raises(fetch.NotServed, match=r"^book\.invalid .* status 502$"):
        fetch.fetch(NAME)
    assert files(cache) == []
    server.answers["http://book.invalid/file"] = answer()
    assert fetch.fetch(NAME) == GOOD


def test_the_file_is_asked_for_as_it_is_stored_and_by_the_name_of_the_book(server):
    fetch.fetch(NAME)
    (headers,) = server.asked
    assert headers["Accept-Encoding"] == "identity"
    assert headers["User-Agent"] == "healthbook"


def test_a_terminal_shows_the_progress(server, monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert fetch.fetch(NAME) == GOOD
    assert "100%" in capsys.readouterr().err


# --- which place is asked


def test_the_cache_comes_before_the_mirror_and_the_mirror_before_the_address(
    server, cache, mirror
):
    fill(mirror, GOOD)
    assert fetch.where(NAME) == "mirror"
    assert fetch.fetch(NAME) == GOOD
    assert files(cache) == [] and files(mirror) == [NAME]
    fill(cache, GOOD)
    fill(mirror, PAGE)
    assert fetch.where(NAME) == "cache"
    assert fetch.fetch(NAME) == GOOD
    assert server.asked == []


def test_a_mirror_without_the_file_leaves_it_to_the_address(server, cache, mirror):
    assert fetch.where(NAME) == "address"
    assert fetch.fetch(NAME) == GOOD
    assert files(cache) == [NAME] and files(mirror) == []


@pytest.mark.parametrize("found", WRONG.values(), ids=WRONG)
def test_a_wrong_file_in_the_cache_is_refused_and_left(server, cache, mirror, found):
    fill(cache, found)
    fill(mirror, GOOD)
    with pytest.raises(fetch.WrongFile) as error:
        fetch.fetch(NAME)
    check_wrong(error.value, found, cache / NAME, cache)
    assert f"  delete {cache / NAME} to have it fetched again\n" in str(error.value)
    assert "or delete it and set HEALTHBOOK_OFFLINE=1" in str(error.value)
    assert files(cache) == [NAME] and (cache / NAME).read_bytes() == found
    assert server.asked == []


@pytest.mark.parametrize("found", WRONG.values(), ids=WRONG)
def test_a_wrong_file_in_the_mirror_is_refused_and_left(server, cache, mirror, found):
    fill(mirror, found)
    with pytest.raises(fetch.WrongFile) as error:
        fetch.fetch(NAME)
    check_wrong(error.value, found, mirror / NAME, cache)
    assert "or unset HEALTHBOOK_DATA and set HEALTHBOOK_OFFLINE=1" in str(error.value)
    assert files(cache) == [] and (mirror / NAME).read_bytes() == found
    assert server.asked == []


def test_offline_asks_no_address(server, cache, monkeypatch):
    monkeypatch.setenv("HEALTHBOOK_OFFLINE", "1")
    with pytest.raises(fetch.NotServed, match="^HEALTHBOOK_OFFLINE=1$"):
        fetch.fetch(NAME)
    assert server.asked == [] and files(cache) == []


def test_offline_serves_the_cache_and_the_mirror(server, cache, mirror, monkeypatch):
    monkeypatch.setenv("HEALTHBOOK_OFFLINE", "1")
    fill(mirror, GOOD)
    assert fetch.fetch(NAME) == GOOD
    (mirror / NAME).unlink()
    fill(cache, GOOD)
    assert fetch.fetch(NAME) == GOOD
    assert server.asked == []


@pytest.mark.parametrize("ask", [fetch.fetch, fetch.where])
def test_an_unknown_name_is_refused(server, cache, ask):
    with pytest.raises(ValueError, match=f"'heart': expected one of {NAME}$"):
        ask("heart")
    assert server.asked == [] and files(cache) == []


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("HEALTHBOOK_OFFLINE", "yes", "'yes': expected 1 to ask no address, or 0"),
        ("HEALTHBOOK_OFFLINE", "1 ", "'1 ': expected 1"),
        ("HEALTHBOOK_DATA", "/nowhere", "'/nowhere', which is no folder .* unset it"),
        ("HEALTHBOOK_DATA", __file__, "which is no folder"),
    ],
)
def test_a_wrong_setting_is_refused_even_where_the_file_is_in_the_cache(
    server, cache, monkeypatch, variable, value, message
):
    fill(cache, GOOD)
    monkeypatch.setenv(variable, value)
    with pytest.raises(ValueError, match=f"^{variable} .*{message}"):
        fetch.fetch(NAME)
    assert server.asked == []


@pytest.mark.parametrize("variable", ["HEALTHBOOK_OFFLINE", "HEALTHBOOK_DATA"])
def test_an_empty_setting_is_none(server, monkeypatch, variable):
    monkeypatch.setenv(variable, "")
    assert fetch.fetch(NAME) == GOOD


# --- a cache that does not keep what is given to it


def check_unkept(printed, folder, reason=""):
    """One line says what could not be kept, where, why, and what mends it."""
    assert printed.count("\n") == 1
    start = f"{NAME} could not be kept in {folder} ({reason}"
    assert printed.startswith(start) and "HEALTHBOOK_CACHE" in printed


def test_a_cache_below_a_file_stops_nobody(server, tmp_path, monkeypatch, capsys):
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("HEALTHBOOK_CACHE", str(tmp_path / "file" / "cache"))
    assert fetch.fetch(NAME) == GOOD
    check_unkept(capsys.readouterr().err, tmp_path / "file" / "cache")
    assert files(tmp_path) == ["file"]


def test_a_folder_in_the_place_of_the_file_stops_nobody(server, cache, capsys):
    (cache / NAME).mkdir(parents=True)
    assert fetch.fetch(NAME) == GOOD
    check_unkept(capsys.readouterr().err, cache)
    assert files(cache) == [NAME] and files(cache / NAME) == []


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_disk_that_fills_up_stops_nobody(server, cache, monkeypatch, capsys, step):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, step, full)
    assert fetch.fetch(NAME) == GOOD
    check_unkept(capsys.readouterr().err, cache, "No space left on device")
    assert files(cache) == []


def test_an_interrupted_write_leaves_nothing(server, cache, monkeypatch):
    def interrupt(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        fetch.fetch(NAME)
    assert files(cache) == []


@posix_only
def test_a_kept_file_may_be_read_by_whom_the_umask_lets(server, cache):
    old = os.umask(0o022)
    try:
        fetch.fetch(NAME)
    finally:
        os.umask(old)
    assert stat.S_IMODE((cache / NAME).stat().st_mode) == 0o644


def test_one_that_was_faster_is_no_fault(server, cache, monkeypatch, capsys):
    sync = os.fsync

    def meanwhile(handle):
        monkeypatch.setattr(os, "fsync", sync)
        assert fetch.fetch(NAME) == GOOD
        sync(handle)

    monkeypatch.setattr(os, "fsync", meanwhile)
    assert fetch.fetch(NAME) == GOOD
    assert files(cache) == [NAME] and len(server.asked) == 2
    assert capsys.readouterr().err == ""


# --- processes of their own

DRIVER = """
import hashlib, os, sys, time
from helpers.data import fetch
name, size, sha256, url, before = sys.argv[1:]
fetch.FILES = {name: fetch.File(int(size), sha256, url)}
exec(before)
try:
    print(hashlib.sha256(fetch.fetch(name)).hexdigest())
except (fetch.NotServed, OSError, ValueError) as error:
    print(type(error).__name__, error)
"""


@pytest.fixture
def start(address):
    """A function that starts a process: it fetches NAME and prints the SHA-256.

    before: str, code to run first; within: list, a command that runs the process
    """
    with contextlib.ExitStack() as ends:

        def start(before="", within=()):
            file, root = fetch.FILES[NAME], Path(fetch.__file__).parents[2]
            run = [sys.executable, "-W", "error", "-c", DRIVER, NAME, *map(str, file)]
            process = subprocess.Popen(
                [*within, *run, before],
                env={**os.environ, "PYTHONPATH": str(root)},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            ends.enter_context(process)
            ends.callback(process.kill)
            return process

        yield start


def test_two_processes_at_once_get_the_file(server, start, cache):
    both = threading.Barrier(2)
    server.answers["/file"] = broken(
        SIZED, lambda h: (both.wait(30), h.wfile.write(GOOD[len(GOOD) // 2 :]))
    )
    processes = [start(), start()]
    assert [process.communicate(timeout=30) for process in processes] == [
        (f"{SHA}\n", "")
    ] * 2
    assert len(server.asked) == 2
    assert files(cache) == [NAME] and (cache / NAME).read_bytes() == GOOD


def test_one_killed_while_it_downloads_leaves_nothing(server, start, cache):
    server.answers["/file"] = broken(SIZED, silent)
    process = start()
    assert server.halfway.wait(30)
    process.kill()
    process.wait()
    assert files(cache) == []
    server.answers["/file"] = answer()
    assert fetch.fetch(NAME) == GOOD
    assert files(cache) == [NAME]


def test_what_one_killed_while_it_writes_leaves_is_not_taken_and_removed(
    server, start, cache
):
    process = start(
        "os.fsync = lambda _: (print('writing', flush=True), time.sleep(60))"
    )
    assert process.stdout.readline() == "writing\n"
    process.kill()
    process.wait()
    (left,) = files(cache)
    assert re.fullmatch(rf"\.{NAME}\..*\.part", left)
    assert fetch.where(NAME) == "address"
    assert fetch.fetch(NAME) == GOOD
    assert files(cache) == [NAME]


def test_a_download_given_up_holds_up_no_process(server, start, cache):
    server.answers["/file"] = broken(SIZED, silent)
    printed, errors = start("fetch.TOTAL = 0.4").communicate(timeout=30)
    assert printed == "NotServed 127.0.0.1 took longer than 0.4 s\n"
    assert not server.outwaited
    assert errors == "" and files(cache) == []


def test_the_thread_of_a_download_given_up_ends(server, monkeypatch):
    monkeypatch.setattr(fetch, "TOTAL", 0.4)
    server.answers["/file"] = broken(SIZED, repeated(b"?" * 99, 0.02))
    before = set(threading.enumerate())
    with pytest.raises(fetch.NotServed, match="took longer than"):
        fetch.fetch(NAME)
    for thread in set(threading.enumerate()) - before:
        thread.join()
    assert not server.outwaited


@pytest.fixture
def interruptible():
    """As where the tests do not run in the background."""
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, handler)


def test_an_interrupt_ends_a_download_and_leaves_nothing(server, cache, interruptible):
    # as on Windows, this interrupt does not end the wait for a lock
    server.answers["/file"] = broken(
        SIZED, lambda handler: (_thread.interrupt_main(), silent(handler))
    )
    with pytest.raises(KeyboardInterrupt):
        fetch.fetch(NAME)
    assert not server.outwaited
    assert files(cache) == []


# --- file systems of their own, where this machine lets us make them


def possible(*command):
    if not shutil.which(command[0]):
        return False
    return subprocess.run(command, capture_output=True).returncode == 0


MOUNT = ["unshare", "-rm", "sh", "-c"]
OWN_MOUNT = (
    'mount -t tmpfs -o "$0" tmpfs "$1" && shift && "$@"; ls -A "$HEALTHBOOK_CACHE"'
)


@pytest.mark.skipif(
    not possible(*MOUNT, "mount -t tmpfs tmpfs /tmp"), reason="no tmpfs can be mounted"
)
@pytest.mark.parametrize(
    ("options", "reason"),
    [("ro", "Read-only file system"), ("size=4k", "No space left on device")],
)
def test_a_file_system_that_takes_nothing_stops_nobody(
    server, start, cache, options, reason
):
    cache.mkdir()
    printed, errors = start(
        within=[*MOUNT, OWN_MOUNT, options, str(cache)]
    ).communicate(timeout=30)
    assert printed == f"{SHA}\n"
    check_unkept(errors, cache, reason)


# root may read everything, except in a name space that knows no root
AS_USER = ["unshare", "-U"] if hasattr(os, "geteuid") and os.geteuid() == 0 else ["env"]
as_user = pytest.mark.skipif(
    os.name != "posix" or not possible(*AS_USER, "true"),
    reason="needs a user whom permissions bind",
)


@pytest.fixture
def forbid():
    """A function that takes all permissions from a path until the test is over."""
    forbidden = []

    def forbid(path):
        forbidden.append((path, path.stat().st_mode))
        path.chmod(0)

    yield forbid
    for path, mode in forbidden:
        path.chmod(mode)


@as_user
def test_a_cache_that_may_not_be_entered_stops_nobody(server, start, cache, forbid):
    cache.mkdir()
    forbid(cache)
    printed, errors = start(within=AS_USER).communicate(timeout=30)
    assert printed == f"{SHA}\n"
    check_unkept(errors, cache, "Permission denied")


@as_user
def test_a_file_in_the_cache_that_may_not_be_read_is_an_error(
    server, start, cache, forbid
):
    fill(cache, GOOD)
    forbid(cache / NAME)
    printed, errors = start(within=AS_USER).communicate(timeout=30)
    assert printed.startswith("PermissionError ") and str(cache / NAME) in printed
    assert errors == "" and server.asked == []


@as_user
def test_a_mirror_that_may_not_be_entered_is_a_wrong_setting(
    server, start, mirror, forbid
):
    forbid(mirror)
    printed, errors = start(within=AS_USER).communicate(timeout=30)
    assert printed.startswith(f"ValueError HEALTHBOOK_DATA names '{mirror}', which is")
    assert errors == "" and server.asked == []


# --- what the reader sees


def test_stand_in_prints_one_line(capsys):
    fetch.stand_in("the set", "a simulated table", fetch.NotServed("host: status 403"))
    printed = capsys.readouterr().out
    line = "Stand-in data: a simulated table instead of the set (host: status 403)"
    assert printed == f"{line}\n"


def test_stand_in_is_a_warning_box_on_a_page_and_escapes_html(monkeypatch):
    shown = []
    monkeypatch.setattr("IPython.display.display", shown.append)
    fetch.stand_in("<a>", "B & C: D", fetch.NotServed("no <b>"))
    (notice,) = shown
    assert repr(notice) == "Stand-in data: B & C: D instead of <a> (no <b>)"
    assert repr(notice) == "Stand-in data: B & C: D instead of <a> (no <b>)"
    assert notice._repr_html_() == (
        '<div class="admonition warning">'
        '<p class="admonition-title">Stand-in data</p>'
        "<p>B &amp; C: D instead of &lt;a&gt; (no &lt;b&gt;)</p></div>"
    )


# --- the real files


def test_every_real_file_is_asked_for_by_its_name_and_over_https():
    for name, file in REAL_FILES.items():
        assert file.url.startswith("https://") and f"/{name}" in file.url
        assert re.fullmatch("[0-9a-f]{64}", file.sha256)


@needs_mirror
@pytest.mark.parametrize("name", REAL_FILES)
def test_the_files_are_those_of_the_manifest_and_the_mirror_has_them(monkeypatch, name):
    with open(Path(MIRROR, "MANIFEST.tsv"), encoding="utf-8", newline="") as lines:
        manifest = {row["file"]: row for row in csv.DictReader(lines, delimiter="\t")}
    row, file = manifest[name], REAL_FILES[name]
    assert file == (int(row["bytes"]), row["sha256"], row["official_url"])
    monkeypatch.setenv("HEALTHBOOK_DATA", MIRROR)
    monkeypatch.setenv("HEALTHBOOK_OFFLINE", "1")
    assert fetch.where(name) == "mirror"
    assert len(fetch.fetch(name)) == file.bytes
