"""Files from the network, each verified by its SHA-256 wherever it came from.

A file is looked for in the user's cache, then in the folder that HEALTHBOOK_DATA names
(an offline mirror), then at its official address; only what was downloaded and is right
enters the cache. What happens when it cannot be had as it should be:

- nobody serves it (no network, a time-out, a connection that breaks off, any status but
  200, or HEALTHBOOK_OFFLINE=1, which asks no address): `NotServed`, and the loader
  serves its stand-in and says so;
- what is served is wrong (another SHA-256: truncated, altered, a web page):
  `WrongFile`, and nothing stands in for it or replaces it.

HEALTHBOOK_CACHE names another folder for the cache. A cache that cannot be written
stops nobody: the file is used all the same, and one line says how to mend it.

Introduced in: setup
"""

import hashlib
import html
import io
import os
import sys
import time
import uuid
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

CONNECT, READ, TOTAL = 10, 30, 300  # seconds: to connect, between two reads, in all
SPARE = 2**20  # bytes beyond the expected size after which a download is given up


class File(NamedTuple):
    """A file of a data set, as its publisher serves it.

    bytes: int, its size
    sha256: str, 64 hexadecimal digits
    url: str, its official address
    """

    bytes: int
    sha256: str
    url: str


_MEDMNIST = "https://zenodo.org/records/10519652/files/{}?download=1"
_MNIST = "https://ossci-datasets.s3.amazonaws.com/mnist/{}"
_UCI = "https://archive.ics.uci.edu/ml/machine-learning-databases/heart-disease/{}"
# fmt: off
FILES = {
    name: File(size, sha256, address.format(name))
    for address, name, size, sha256 in [
        (_MEDMNIST, "pneumoniamnist.npz", 4170669,
         "e1792d3f03751cb101e99f19a63b3c1941436c988665f47853417b05be250cd8"),
        (_MEDMNIST, "breastmnist.npz", 559580,
         "3a22d2a4625e7dd8903f0f59030e81a3d0c222bece2e5e10927456cb50efdec1"),
        (_UCI, "processed.cleveland.data", 18461,
         "a74b7efa387bc9d108d7d0115d831fe9b414b29ae7124f331b622b4efa0427c8"),
        (_MNIST, "train-images-idx3-ubyte.gz", 9912422,
         "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609"),
        (_MNIST, "train-labels-idx1-ubyte.gz", 28881,
         "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c"),
        (_MNIST, "t10k-images-idx3-ubyte.gz", 1648877,
         "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6"),
        (_MNIST, "t10k-labels-idx1-ubyte.gz", 4542,
         "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6"),
    ]
}
# fmt: on


class NotServed(Exception):
    """Nobody served the file; the message is the reason, in a few words."""


class WrongFile(ValueError):
    """What was served is not the file that the book knows."""


def fetch(name):
    """The verified bytes of one of FILES.

    name: str, a key of FILES
    Returns: bytes, whose SHA-256 is the expected one
    Raises: NotServed if nobody served the file; WrongFile if what was served is not
        it; ValueError if a setting or the name is not known; OSError if a file is
        there and cannot be read
    Introduced in: setup
    """
    offline, (place, at) = _offline(), _find(name)
    if place != "address":
        return _verified(at.read_bytes(), name, place, at)
    if offline:
        raise NotServed("HEALTHBOOK_OFFLINE=1")
    content = _verified(_download(name), name, place, at)
    _keep(content, _cache() / name)
    return content


def where(name):
    """Where `fetch` would find a file: "cache", "mirror" or "address".

    Introduced in: setup
    """
    return _find(name)[0]


def stand_in(what, instead, reason):
    """Show one line, in the page a warning box: other data stand in for a set.

    what: str, the set that was not served
    instead: str, what stands in for it
    reason: NotServed, why
    Returns: None
    Introduced in: setup
    """
    from IPython.display import display

    display(_Notice(f"Stand-in data: {instead} instead of {what} ({reason})"))


class _Notice(str):
    """A line that a page shows as a warning box."""

    def __repr__(self):
        return str(self)

    def _repr_html_(self):
        title, text = html.escape(self).split(": ", 1)
        return (
            '<div class="admonition warning"><p class="admonition-title">'
            f"{title}</p><p>{text}</p></div>"
        )


def _cache():
    from platformdirs import user_cache_dir

    return Path(os.environ.get("HEALTHBOOK_CACHE") or user_cache_dir("healthbook"))


def _folders():
    """The folders to look in, in order; None where no mirror is named."""
    mirror = os.environ.get("HEALTHBOOK_DATA")
    if mirror and not (os.path.isdir(mirror) and os.access(mirror, os.X_OK)):
        raise ValueError(
            f"HEALTHBOOK_DATA names {mirror!r}, which is no folder that can be "
            "entered: correct it, or unset it to do without a mirror of the data"
        )
    return {"cache": _cache(), "mirror": Path(mirror) if mirror else None}


def _offline():
    setting = os.environ.get("HEALTHBOOK_OFFLINE", "0")
    if setting not in ("", "0", "1"):
        raise ValueError(
            f"HEALTHBOOK_OFFLINE is {setting!r}: expected 1 to ask no address, or 0"
        )
    return setting == "1"


def _find(name):
    """Where a file is: "cache" or "mirror" and its path, or "address" and its URL."""
    if name not in FILES:
        raise ValueError(f"unknown file {name!r}: expected one of {', '.join(FILES)}")
    for place, folder in _folders().items():
        # of a cache that may not be entered, Path.is_file would raise
        if folder and os.path.isfile(folder / name):
            return place, folder / name
    return "address", FILES[name].url


def _verified(content, name, place, at):
    """The content, if it is the file; else an error with the ways out."""
    file, found = FILES[name], hashlib.sha256(content).hexdigest()
    if found == file.sha256:
        return content
    cut = place == "address" and len(content) > file.bytes + SPARE
    page = content.lstrip()[:1] == b"<"
    again = {"cache": f"  delete {at} to have it fetched again\n"}
    first = {"cache": "delete it and ", "mirror": "unset HEALTHBOOK_DATA and "}
    raise WrongFile(
        f"{name} is not the file that the book knows, and is not used\n"
        f"  expected: {file.bytes} bytes, SHA-256 {file.sha256}\n"
        f"  found:    {'the first ' if cut else ''}{len(content)} bytes, "
        f"SHA-256 {found}{' (a web page?)' if page else ''}\n"
        f"  at:       {at}\n"
        f"Ways out:\n{again.get(place, '')}"
        f"  fetch {file.url} by hand and save it as {_cache() / name}\n"
        f"  or {first.get(place, '')}set HEALTHBOOK_OFFLINE=1 to build on stand-in data"
    )


def _download(name):
    """What the official address serves, not yet verified."""
    from multiprocessing.pool import ThreadPool

    from requests import RequestException
    from urllib3.exceptions import HTTPError

    host, end = urlsplit(FILES[name].url).hostname, time.monotonic() + TOTAL
    # in a thread: time-outs on a socket end neither a trickle nor the look-up of a
    # name; once the buffer is closed the thread fails at its next write, and ends
    with io.BytesIO() as content, ThreadPool(1) as pool:
        answer = pool.apply_async(_read, (FILES[name], content))
        while not answer.ready() and time.monotonic() < end:
            answer.wait(0.1)  # Windows heeds Ctrl-C only between two waits
        if not answer.ready():
            raise NotServed(f"{host} took longer than {TOTAL} s")
        try:
            answer.get()
        # ValueError: of a malformed redirect, which requests does not expect
        except (RequestException, HTTPError, ValueError) as error:
            kind = type(error).__name__
            raise NotServed(f"{host} gave no full answer: {kind}") from error
        return content.getvalue()


def _read(file, content):
    """Write what the official address of a file serves to content."""
    import requests
    from tqdm import tqdm

    def close_redirect(response, **_):
        if response.is_redirect:  # requests would read its body, however long
            response.close()

    response = requests.get(
        file.url,
        # Zenodo has refused clients that call themselves python-requests
        headers={"Accept-Encoding": "identity", "User-Agent": "healthbook"},
        timeout=(CONNECT, READ),
        stream=True,
        hooks={"response": close_redirect},
    )
    size = file.bytes
    with response, tqdm(total=size, unit="B", unit_scale=True, disable=None) as bar:
        if response.status_code != 200:
            host = urlsplit(response.url).hostname
            raise NotServed(f"{host} answered with status {response.status_code}")
        # raw: else a .gz that the server declares as encoded would come unpacked
        while content.tell() <= size + SPARE and (
            chunk := response.raw.read1(2**16, decode_content=False)
        ):
            content.write(chunk)
            bar.update(len(chunk))


def _keep(content, path):
    """Put a verified file into the cache, in one step; if it cannot be, say so."""
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(part, "xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())  # else a crash may leave the name alone
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)
        # what a killed process left; one that still writes finds the file in place
        for left in path.parent.glob(f".{path.name}.*.part"):
            left.unlink(missing_ok=True)
    except OSError as error:
        if not os.path.isfile(path):
            print(
                f"{path.name} could not be kept in {path.parent} ({error.strerror}) "
                "and will be fetched again: make room for it there, or let "
                "HEALTHBOOK_CACHE name a folder that can be written",
                file=sys.stderr,
            )
