"""Files from the network, each verified by its SHA-256 wherever it came from.

A file is looked for in the user's cache, then in the folder that HEALTHBOOK_DATA names
(an offline mirror), then at its official address; only what was downloaded and is right
enters the cache. What happens when it cannot be had as it should be:

- nobody serves it (no network, a time-out, a connection that breaks off, any status but
  200, or HEALTHBOOK_OFFLINE=1, which asks no address): `NotServed`, and the loader
  serves its stand-in and says so;
- what is served is wrong (another SHA-256: truncated, altered, a web page):
  `WrongFile`, and nothing stands in for it.

HEALTHBOOK_CACHE names another folder for the cache.

Introduced in: keras/xray_diagnosis
"""

import hashlib
import html
import io
import multiprocessing
import os
import sys
import tempfile
from multiprocessing.pool import ThreadPool
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
FILES = {
    name: File(size, sha256, address.format(name))
    for name, size, sha256, address in [
        (
            "pneumoniamnist.npz",
            4170669,
            "e1792d3f03751cb101e99f19a63b3c1941436c988665f47853417b05be250cd8",
            _MEDMNIST,
        ),
        (
            "breastmnist.npz",
            559580,
            "3a22d2a4625e7dd8903f0f59030e81a3d0c222bece2e5e10927456cb50efdec1",
            _MEDMNIST,
        ),
        (
            "processed.cleveland.data",
            18461,
            "a74b7efa387bc9d108d7d0115d831fe9b414b29ae7124f331b622b4efa0427c8",
            _UCI,
        ),
        (
            "train-images-idx3-ubyte.gz",
            9912422,
            "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
            _MNIST,
        ),
        (
            "train-labels-idx1-ubyte.gz",
            28881,
            "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
            _MNIST,
        ),
        (
            "t10k-images-idx3-ubyte.gz",
            1648877,
            "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
            _MNIST,
        ),
        (
            "t10k-labels-idx1-ubyte.gz",
            4542,
            "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
            _MNIST,
        ),
    ]
}


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
    Introduced in: keras/xray_diagnosis
    """
    if name not in FILES:
        raise ValueError(f"unknown file {name!r}: expected one of {', '.join(FILES)}")
    for folder in _folders():
        if (folder / name).is_file():
            return _verified((folder / name).read_bytes(), name, folder / name)
    if _offline():
        raise NotServed("HEALTHBOOK_OFFLINE=1")
    content = _verified(_download(name), name, FILES[name].url)
    _keep(content, _cache() / name)
    return content


def where(name):
    """Where `fetch` would find a file: "cache", "mirror" or "address".

    Introduced in: setup
    """
    names = ("cache", "mirror")
    for place, folder in zip(names, _folders(), strict=False):
        if (folder / name).is_file():
            return place
    return "address"


def stand_in(what, instead, reason):
    """Show one line, in the page a warning box: other data stand in for a set.

    what: str, the set that was not served
    instead: str, what stands in for it
    reason: NotServed, why
    Returns: None
    Introduced in: keras/xray_diagnosis
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
    import pooch

    return Path(os.environ.get("HEALTHBOOK_CACHE") or pooch.os_cache("healthbook"))


def _folders():
    """The folders to look in, in order."""
    mirror = os.environ.get("HEALTHBOOK_DATA")
    if mirror and not os.path.isdir(mirror):
        raise ValueError(
            f"HEALTHBOOK_DATA names {mirror!r}, which is no folder: correct it, or "
            "unset it to do without a mirror of the data"
        )
    return [_cache(), Path(mirror)] if mirror else [_cache()]


def _offline():
    setting = os.environ.get("HEALTHBOOK_OFFLINE", "0")
    if setting not in ("", "0", "1"):
        raise ValueError(
            f"HEALTHBOOK_OFFLINE is {setting!r}: expected 1 to ask no address, or 0"
        )
    return setting == "1"


def _verified(content, name, place):
    """The content, if it is the file; else an error with the ways out."""
    file, found = FILES[name], hashlib.sha256(content).hexdigest()
    if found == file.sha256:
        return content
    page = content.lstrip()[:1] == b"<"
    online = place == file.url
    mend = "" if online else f"  delete it, or replace it: {place}\n"
    raise WrongFile(
        f"{name} is not the file that the book knows, and is not used\n"
        f"  expected: {file.bytes} bytes, SHA-256 {file.sha256}\n"
        f"  found:    {len(content)} bytes, SHA-256 {found}"
        f"{' (a web page?)' if page else ''}\n"
        f"  at:       {place}\n"
        f"Ways out:\n{mend}"
        f"  fetch {file.url} by hand and save it as {_cache() / name}\n"
        "  or set HEALTHBOOK_OFFLINE=1, which builds on stand-in data"
        f"{'' if online else ' once no wrong file is there'}"
    )


class _Buffer(io.BytesIO):
    """Where a download goes; it refuses far more than was expected."""

    def __init__(self, name):
        super().__init__()
        self.name, self.limit = name, FILES[name].bytes + SPARE

    def write(self, chunk):
        if self.tell() + len(chunk) > self.limit:
            _verified(self.getvalue() + chunk, self.name, FILES[self.name].url)
        return super().write(chunk)


def _download(name):
    """What the official address serves, not yet verified."""
    import requests
    from pooch import HTTPDownloader

    url, buffer = FILES[name].url, _Buffer(name)
    host = urlsplit(url).hostname
    download = HTTPDownloader(
        progressbar=sys.stderr.isatty(),
        timeout=(CONNECT, READ),
        headers={"Accept-Encoding": "identity"},  # else a .gz may come unpacked
        hooks={"response": _only_200},
    )
    try:
        with ThreadPool(1) as pool:  # the timeouts above do not end a slow trickle
            pool.apply_async(download, (url, buffer, None)).get(TOTAL)
    except multiprocessing.TimeoutError as error:
        raise NotServed(f"{host} took longer than {TOTAL} s") from error
    except requests.RequestException as error:
        raise NotServed(f"{host}: {_reason(error)}") from error
    return buffer.getvalue()


def _only_200(response, **_):
    import requests

    if response.status_code != 200 and not response.is_redirect:
        raise requests.HTTPError(f"status {response.status_code}")


def _reason(error):
    import requests

    if isinstance(error, requests.HTTPError):
        return str(error)
    if isinstance(error, requests.Timeout):
        return "no answer in time"
    return f"no connection, or it broke off ({type(error).__name__})"


def _keep(content, path):
    """Put a verified file into the cache, in one step; if it cannot be, say so."""
    part = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, part = tempfile.mkstemp(
            dir=path.parent, prefix=f".{path.name}.", suffix=".part"
        )
        with open(handle, "wb") as file:
            file.write(content)
        os.replace(part, path)
        # what a killed process left; one that still writes finds the file in place
        for left in path.parent.glob(f".{path.name}.*.part"):
            left.unlink(missing_ok=True)
    except OSError as error:
        if part:
            Path(part).unlink(missing_ok=True)
        if path.is_file():
            return
        print(
            f"{path.name} could not be kept in {path.parent} ({error.strerror}) and "
            "will be fetched again: free some space there, or let HEALTHBOOK_CACHE "
            "name a folder that can be written",
            file=sys.stderr,
        )
