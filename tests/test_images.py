import functools
import gzip
import hashlib
import io
import os
import pickle
import re
import shutil
import struct
import subprocess
import sys
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits

from helpers.data import fetch, images, splits

MIRROR = os.environ.get("HEALTHBOOK_DATA")
needs_mirror = pytest.mark.skipif(not MIRROR, reason="HEALTHBOOK_DATA is not set")
MNIST = [
    "train-images-idx3-ubyte.gz",
    "train-labels-idx1-ubyte.gz",
    "t10k-images-idx3-ubyte.gz",
    "t10k-labels-idx1-ubyte.gz",
]
LOADERS = {
    "pneumoniamnist.npz": images.pneumonia,
    "breastmnist.npz": images.breast_ultrasound,
    **dict.fromkeys(MNIST, images.mnist),
}
MALIGNANT = [147, 21, 42]


@pytest.fixture(autouse=True)
def neither_network_nor_the_users_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("HEALTHBOOK_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HEALTHBOOK_OFFLINE", "1")
    monkeypatch.delenv("HEALTHBOOK_DATA", raising=False)


@pytest.fixture
def mirror(monkeypatch):
    monkeypatch.setenv("HEALTHBOOK_DATA", str(MIRROR))


def parts(s):
    return [(s.X_train, s.y_train), (s.X_val, s.y_val), (s.X_test, s.y_test)]


def check_form(s, sizes, n_classes=2):
    """Assert the form that Images documents, with parts of these sizes."""
    for (X, y), n in zip(parts(s), sizes, strict=True):
        assert (X.shape, X.dtype) == ((n, 28, 28), np.uint8)
        assert (y.shape, y.dtype) == ((n,), np.int64)
        assert not n or set(y) == set(range(n_classes))
        assert not n or (X.min() < 20 and X.max() > 235)
        assert X.flags.writeable and y.flags.writeable
    assert len(s.classes) == n_classes and all(map(len, s[6:10]))


def events(s):
    return [int(y.sum()) for _, y in parts(s)]


def same(one, other):
    """Whether two sets are equal to the last bit."""
    return all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


# What stands in

loaded = functools.cache(lambda load: load())


@pytest.mark.parametrize(
    ("load", "sizes", "n_classes", "line"),
    [
        (images.mnist, (1297, 0, 500), 10, "scikit-learn's digits at 28 × 28 instead of"
         " MNIST"),
        (images.pneumonia, (4708, 524, 624), 2, "simulated chest radiographs instead of"
         " PneumoniaMNIST"),
        (images.breast_ultrasound, (546, 78, 156), 2, "simulated chest radiographs "
         "instead of BreastMNIST"),
    ],
)  # fmt: skip
def test_what_stands_in_has_the_form_of_the_set_and_one_line_says_so(
    load, sizes, n_classes, line, capsys
):
    s = load()
    assert capsys.readouterr().out == f"Stand-in data: {line} (HEALTHBOOK_OFFLINE=1)\n"
    check_form(s, sizes, n_classes)
    assert s.stand_in is True
    assert same(s, loaded(load))


def test_what_stands_in_for_x_rays_has_their_counts_and_their_copies():
    s = loaded(images.pneumonia)
    assert events(s) == [3494, 389, 390]
    assert (s.target, s.classes) == ("pneumonia", ("normal", "pneumonia"))
    assert "simulated" in s.citation and "Kermany" not in s.citation
    assert shared(s) == [{"train", "val"}] * 8


def shared(s):
    """For each image that stands in more than one part, the parts."""
    found = splits.copies({"train": s.X_train, "val": s.X_val, "test": s.X_test})
    names = [{place.part for place in places} for places in found]
    return [n for n in names if len(n) > 1]


def check_turned(load):
    """Assert that 1 is malignant, and that as_in_file turns labels and words."""
    turned, as_in_file = load(), load(as_in_file=True)
    assert events(turned) == MALIGNANT
    assert (turned.target, turned.classes[0]) == ("malignant", "normal or benign")
    assert (as_in_file.target, as_in_file.classes[0]) == turned.classes
    for (X, y), (X_file, y_file) in zip(parts(turned), parts(as_in_file), strict=True):
        assert np.array_equal(X, X_file) and np.array_equal(y, 1 - y_file)
    return turned


def test_what_stands_in_for_ultrasound_is_turned_as_the_file_is():
    s = check_turned(images.breast_ultrasound)
    assert s.stand_in
    # where y = 1 the radiograph shows pneumonia, which whitens the lungs
    assert s.X_train[s.y_train == 1].mean() > s.X_train[s.y_train == 0].mean() + 5


def test_the_digits_are_scikit_learns_in_their_order_and_as_bright():
    raw, s = load_digits(), loaded(images.mnist)
    X = np.concatenate([s.X_train, s.X_test])
    assert np.array_equal(np.concatenate([s.y_train, s.y_test]), raw.target)
    # 27 = 7 x 27/7: where the coarse grid meets the fine one again, at the corners
    assert np.array_equal(X[:, ::27, ::27], np.rint(raw.images[:, ::7, ::7] * 255 / 16))
    assert np.abs(X.mean(axis=(1, 2)) - raw.images.mean(axis=(1, 2)) * 16).max() < 20
    assert "Alpaydin" in s.citation


# Two photographs


def test_the_photographs_are_as_documented():
    eye, tissue = images.retina(), images.immunohistochemistry()
    assert (eye.pixels.shape, eye.pixels.dtype) == ((1411, 1411, 3), np.uint8)
    assert (tissue.pixels.shape, tissue.pixels.dtype) == ((512, 512, 3), np.uint8)
    assert all(map(len, eye[1:] + tissue[1:]))
    red, green, blue = eye.pixels[600:800, 600:800].mean(axis=(0, 1))
    assert red > green > blue
    assert tissue.pixels.mean() > 128 > eye.pixels.mean()


def test_the_photographs_need_no_home_that_can_be_written(tmp_path):
    (tmp_path / "file").touch()
    nowhere = str(tmp_path / "file" / "home")  # below a file, no folder can be made
    homes = dict.fromkeys(["HOME", "XDG_CACHE_HOME", "LOCALAPPDATA"], nowhere)
    code = (
        "from helpers.data import images as i\n"
        "print(i.retina().pixels.shape, i.immunohistochemistry().pixels.shape)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | homes,
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
    )
    assert done.stdout == "(1411, 1411, 3) (512, 512, 3)\n", done.stderr


# The real files


@needs_mirror
def test_the_real_digits_are_as_documented(mirror, capsys):
    s = images.mnist()
    check_form(s, (60000, 0, 10000), 10)
    assert not s.stand_in and capsys.readouterr().out == ""
    train = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    test = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert [np.bincount(y).tolist() for y in (s.y_train, s.y_test)] == [train, test]
    # a zero is blank in the middle, a one is not
    middle = s.X_train[:, 12:16, 13:15].mean(axis=(1, 2))
    assert middle[s.y_train == 0].mean() < 30 < 150 < middle[s.y_train == 1].mean()


@needs_mirror
def test_the_real_x_rays_are_as_documented(mirror, capsys):
    s = images.pneumonia()
    check_form(s, (4708, 524, 624))
    assert not s.stand_in and capsys.readouterr().out == ""
    assert events(s) == [3494, 389, 390]
    assert shared(s) == [{"train", "val"}] * 8
    for X, surplus in ((s.X_train, 18), (s.X_val, 0), (s.X_test, 3)):
        assert len(X) - len(np.unique(X, axis=0)) == surplus


@needs_mirror
def test_the_real_ultrasound_is_as_documented(mirror, capsys):
    s = check_turned(images.breast_ultrasound)
    check_form(s, (546, 78, 156))
    assert not s.stand_in and capsys.readouterr().out == ""
    assert shared(s) == [{"train", "test"}]
    (one, other), *none = splits.copies({"train": s.X_train, "test": s.X_test})
    assert not none and s.y_train[one.row] != s.y_test[other.row]


# From the mirror, with small files that stand for the known ones


@pytest.fixture
def serve(monkeypatch, tmp_path):
    """A function that makes these bytes the known files, and a mirror serve them."""

    def serve(files):
        for name, content in files.items():
            (tmp_path / name).write_bytes(content)
            sha256 = hashlib.sha256(content).hexdigest()
            known = fetch.FILES[name]._replace(bytes=len(content), sha256=sha256)
            monkeypatch.setitem(fetch.FILES, name, known)
        monkeypatch.setenv("HEALTHBOOK_DATA", str(tmp_path))
        return tmp_path

    return serve


@pytest.mark.parametrize("name", LOADERS)
@pytest.mark.parametrize(
    "spoil", [lambda c: c[:-1], lambda c: c + b"\0", lambda c: b"<html>", lambda c: b""]
)
def test_a_file_that_is_not_the_known_one_is_refused(serve, name, spoil):
    folder = serve(dict.fromkeys(LOADERS, b"known"))
    (folder / name).write_bytes(spoil(b"known"))
    with pytest.raises(fetch.WrongFile, match=f"^{name} is not the file"):
        LOADERS[name]()


@needs_mirror
@pytest.mark.parametrize("name", ["breastmnist.npz", "pneumoniamnist.npz"])
def test_a_real_file_with_one_bit_turned_is_refused(monkeypatch, tmp_path, name):
    content = bytearray((Path(MIRROR) / name).read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / name).write_bytes(content)
    monkeypatch.setenv("HEALTHBOOK_DATA", str(tmp_path))
    with pytest.raises(fetch.WrongFile, match=f"^{name} is not the file"):
        LOADERS[name]()


@pytest.mark.parametrize("name", MNIST)
def test_without_one_of_its_four_files_mnist_is_stood_in_for(serve, name, monkeypatch):
    monkeypatch.setattr(images, "_digits", lambda: "the stand-in")
    folder = serve(dict.fromkeys(MNIST, b"known"))
    (folder / name).unlink()
    assert images.mnist() == "the stand-in"


@needs_mirror
def test_without_one_real_file_mnist_is_stood_in_for(monkeypatch, tmp_path, capsys):
    for name in MNIST[:3]:
        shutil.copy(Path(MIRROR) / name, tmp_path)
    monkeypatch.setenv("HEALTHBOOK_DATA", str(tmp_path))
    assert images.mnist().stand_in
    assert "Stand-in data" in capsys.readouterr().out


def medmnist(sizes, label):
    """The arrays of a MedMNIST file, black, every label the same."""
    arrays = {}
    for part, n in zip(("train", "val", "test"), sizes, strict=True):
        arrays[f"{part}_images"] = np.zeros((n, 28, 28), "uint8")
        arrays[f"{part}_labels"] = np.full((n, 1), label, "uint8")
    return arrays


def test_the_labels_of_a_file_reach_their_part(serve):
    arrays = medmnist((546, 78, 156), 1)
    arrays["train_labels"][:147] = arrays["val_labels"][:21] = 0
    arrays["test_labels"][:42] = 0
    for k, part in enumerate(("train", "val", "test")):
        arrays[f"{part}_images"][:] = k
    serve({"breastmnist.npz": npz(arrays)})
    s = check_turned(images.breast_ultrasound)
    assert [set(X.flat) for X, _ in parts(s)] == [{0}, {1}, {2}]
    assert all(a.flags.writeable for a in s[:6])
    assert s.y_train[:148].tolist() == [1] * 147 + [0] and not s.stand_in


@pytest.mark.parametrize("part", ["train", "val", "test"])
def test_a_label_that_is_no_class_is_refused(serve, part):
    arrays = medmnist((4708, 524, 624), 1)
    arrays[f"{part}_labels"][3] = 2
    serve({"pneumoniamnist.npz": npz(arrays)})
    key = f"{part}_labels in pneumoniamnist.npz"
    with pytest.raises(ValueError, match=f"^{key} cannot .* labels from 0 to 1, .* 2;"):
        images.pneumonia()


def mnist(y_train, y_test):
    """The four files, with images of gray value 1 for training and 2 for the test."""
    X = [np.full((n, 28, 28), v, "uint8") for n, v in ((60000, 1), (10000, 2))]
    y = [
        np.resize(np.array(y, "uint8"), n)
        for y, n in ((y_train, 60000), (y_test, 10000))
    ]
    return dict(zip(MNIST, map(idx, (X[0], y[0], X[1], y[1])), strict=True))


def test_the_digits_of_the_files_reach_their_part(serve):
    serve(mnist([3, 0, 9], [5, 4]))
    s = images.mnist()
    assert (s.X_train.min(), s.X_train.max(), s.X_val.size) == (1, 1, 0)
    assert (s.X_test.min(), s.X_test.max()) == (2, 2)
    assert (s.y_train[:4].tolist(), s.y_test[:3].tolist()) == ([3, 0, 9, 3], [5, 4, 5])
    assert s.classes == tuple("0123456789") and not s.stand_in


@pytest.mark.parametrize(
    ("y", "name"), [(([0, 10], [0]), MNIST[1]), (([0], [0, 10]), MNIST[3])]
)
def test_a_digit_above_nine_is_refused(serve, y, name):
    serve(mnist(*y))
    message = f"^{name} cannot .* labels from 0 to 9, .* 10;"
    with pytest.raises(ValueError, match=message):
        images.mnist()


# The IDX format

SHAPE = (3, 4, 4)
PIXELS = np.random.default_rng(0).integers(0, 256, SHAPE, dtype="uint8")


def idx_bytes(a):
    """An array as an IDX file, not yet packed."""
    return struct.pack(f">BBBB{a.ndim}I", 0, 0, 8, a.ndim, *a.shape) + a.tobytes()


def idx(a):
    return gzip.compress(idx_bytes(a), 1, mtime=0)


def changed(content, at, new):
    return content[:at] + new + content[at:][len(new) :]


def turned_bits(content):
    """The content with each of its bits turned in its turn."""
    for at in range(len(content)):
        for bit in range(8):
            yield changed(content, at, bytes([content[at] ^ 1 << bit]))


def is_refusal(error, key=""):
    """Whether the message names the file, what was expected, found, and what to do."""
    return re.fullmatch(
        rf"{key}f\.(gz|npz) cannot be read: expected \S.*, found \S.*; delete the file "
        "and fetch it again",
        str(error),
        re.DOTALL,
    )


def refuses_idx(content, expected, shape=SHAPE):
    with pytest.raises(ValueError, match=expected) as error:
        images._idx(content, "f.gz", shape)
    return is_refusal(error.value)


@pytest.mark.parametrize("shape", [SHAPE, (5,), (0, 4), (1, 1, 1)])
def test_writing_and_reading_an_idx_file_give_the_array_back(shape):
    a = np.random.default_rng(1).integers(0, 256, shape, dtype="uint8")
    got = images._idx(idx(a), "f.gz", shape)
    assert (got.shape, got.dtype) == (shape, np.uint8) and np.array_equal(got, a)


def test_an_idx_file_of_two_gzip_members_is_read():
    raw = idx_bytes(PIXELS)
    content = gzip.compress(raw[:20], mtime=0) + gzip.compress(raw[20:])
    assert np.array_equal(images._idx(content, "f.gz", SHAPE), PIXELS)


@pytest.mark.parametrize("at", range(16))
def test_a_lying_idx_header_is_refused(at):
    raw = idx_bytes(PIXELS)
    for value in {0, 1, 127, 255, raw[at] ^ 1} - {raw[at]}:
        content = gzip.compress(changed(raw, at, bytes([value])))
        assert refuses_idx(content, r"shape \(3, 4, 4\), found a header of 0?")


RAW, GZIP = idx_bytes(PIXELS), idx(PIXELS)
HUGE = struct.pack(">BBBB3I", 0, 0, 8, 3, *[2**32 - 1] * 3)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "found a header of no bytes"),
        (gzip.compress(b"", mtime=0), "found a header of no bytes"),
        (
            gzip.compress(RAW[:9], mtime=0),
            "found a header of 00 00 08 03 00 00 00 03 00;",
        ),
        (gzip.compress(HUGE + RAW[16:], mtime=0), "found a header of .*( ff){12};"),
        (
            gzip.compress(RAW[:-1], mtime=0),
            "expected 64 bytes after unpacking, found 63;",
        ),
        (
            gzip.compress(RAW + b"\0", mtime=0),
            "expected 64 bytes after unpacking, found more;",
        ),
        (GZIP + GZIP, "expected 64 bytes after unpacking, found more;"),
        (GZIP + b"more", "expected a gzip file, found BadGzipFile"),
        (RAW, "expected a gzip file, found BadGzipFile"),
        (b"<html></html>", "expected a gzip file, found BadGzipFile"),
        (changed(GZIP, len(GZIP) - 8, bytes([GZIP[-8] ^ 1])), "CRC check failed"),
        (changed(GZIP, len(GZIP) - 4, b"\0"), "Incorrect length of data"),
    ],
)
def test_what_is_no_idx_file_of_this_shape_is_refused(content, expected):
    assert refuses_idx(content, expected)


def test_an_idx_file_cut_anywhere_is_refused():
    for n in range(len(GZIP)):
        assert refuses_idx(GZIP[:n], "expected (a gzip|an IDX) file")


def peak_memory(refuse, *given):
    """Bytes that Python held at most while it refused what was given."""
    tracemalloc.start()
    try:
        assert refuse(*given)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


BOMB = bytes(2**24)


def test_a_gzip_bomb_is_not_unpacked():
    bomb = gzip.compress(RAW + BOMB, 1, mtime=0)
    assert peak_memory(refuses_idx, bomb, "found more") < 2**20
    bomb = gzip.compress(HUGE + BOMB, 1, mtime=0)
    assert peak_memory(refuses_idx, bomb, "a header of") < 2**20


# The npz format

ARRAYS = {"images": PIXELS, "labels": np.array([[1], [0], [1]], "uint8")}
SHAPES = {key: a.shape for key, a in ARRAYS.items()}
FORMAT = "{'descr': '|u1', 'fortran_order': False, 'shape': (3, 4, 4), }"
STORED, DEFLATED = zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED


def npy(a, version=(1, 0)):
    file = io.BytesIO()
    np.lib.format.write_array(file, a, version)
    return file.getvalue()


def npy_of(header, data=RAW[16:]):
    """An npy file with this header, whatever it says."""
    header = header.encode().ljust(117) + b"\n"
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(header)) + header + data


def npz(members, method=DEFLATED, extra=b""):
    """A zip file of arrays, or of bytes in their place; members: dict, or pairs."""
    pairs = members.items() if isinstance(members, dict) else members
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for key, a in pairs:
            member = zipfile.ZipInfo(f"{key}.npy")  # of 1980, so always the same bytes
            member.extra = extra
            content = a if isinstance(a, bytes) else npy(a)
            archive.writestr(member, content, method)
    return file.getvalue()


NPZ = {method: npz(ARRAYS, method) for method in (STORED, DEFLATED)}


def entry(at, code, *values, file=NPZ[DEFLATED]):
    """A file in whose directory the first entry has these values from this place on."""
    start = file.index(b"PK\1\2")
    return changed(file, start + at, struct.pack(f"<{code}", *values))


FLAGS, METHOD, CRC, PACKED_SIZE, SIZE, OFFSET = 8, 10, 16, 20, 24, 42
FAR = struct.pack("<HHQ", 1, 8, 2**63)  # an offset of 64 bits, for want of 32


def reads_npz(content):
    got = images._npz(content, "f.npz", SHAPES)
    return list(got) == list(ARRAYS) and all(
        got[key].dtype == np.uint8 and np.array_equal(got[key], ARRAYS[key])
        for key in ARRAYS
    )


def refuses_npz(content, expected, key=""):
    with pytest.raises(ValueError, match=expected) as error:
        images._npz(content, "f.npz", SHAPES)
    return is_refusal(error.value, key)


@pytest.mark.parametrize("method", NPZ)
def test_writing_and_reading_an_npz_file_give_the_arrays_back(method):
    assert reads_npz(NPZ[method])
    assert reads_npz(npz(list(ARRAYS.items())[::-1], method))


@pytest.mark.parametrize(
    ("members", "found"),
    [
        ({}, []),
        ({"images": PIXELS}, ["images.npy"]),
        (ARRAYS | {"more": PIXELS}, ["images.npy", "labels.npy", "more.npy"]),
        ({"images": PIXELS, "label": PIXELS}, ["images.npy", "label.npy"]),
        ({"../images": PIXELS, "labels": PIXELS}, ["../images.npy", "labels.npy"]),
        ({"\timages": PIXELS, "labels": PIXELS}, ["\timages.npy", "labels.npy"]),
    ],
)
def test_other_arrays_than_expected_are_refused(members, found):
    expected = f"expected the arrays images, labels, found {found};"
    assert refuses_npz(npz(members), re.escape(expected))


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_an_array_that_stands_twice_is_refused():
    twice = npz([*ARRAYS.items(), ("labels", 1 - ARRAYS["labels"])])
    assert refuses_npz(twice, "'images.npy', 'labels.npy', 'labels.npy'")


@pytest.mark.parametrize(
    ("member", "found"),
    [
        (PIXELS.astype("int64"), "'<i8'.*, more bytes"),
        (PIXELS.view("int8"), r"'\|i1'"),
        (PIXELS > 9, r"'\|b1'"),
        (PIXELS[:2], r"\(2, 4, 4\).*, 32 bytes"),
        (PIXELS.reshape(3, 16), r"\(3, 16\).*, 48 bytes"),
        (PIXELS.reshape(4, 3, 4), r"\(4, 3, 4\)"),
        (np.asfortranarray(PIXELS), "'fortran_order': True"),
        (npy(PIXELS, (2, 0)), r"NUMPY\\x02\\x00"),
        (npy(PIXELS, (3, 0)), r"NUMPY\\x03\\x00"),
        (npy(PIXELS)[:-1], "47 bytes"),
        (npy(PIXELS) + b"\0", "more bytes"),
        (npy_of(FORMAT.replace("(3, 4, 4)", str((2**40,) * 3))), "1099511627776, 10"),
        (npy_of(FORMAT.replace("(3", "(3L")), "3L, 4, 4"),  # as Python 2 wrote it
        (npy_of(FORMAT.replace("|u1", "a8")), "'a8'"),  # deprecated: NumPy warns
        (npy_of(FORMAT.replace("'|u1'", "(" * 50)), r"\(\("),
        (npy_of("__import__('os')"), "__import__"),
        (b"", "b'', 0 bytes"),
        (b"\x93NUMPY\1\0\xff\xff", "NUMPY.*, 0 bytes"),
        (b"<html></html>", "<html>"),
    ],
)
def test_an_array_of_another_kind_is_refused(member, found):
    content = npz(ARRAYS | {"images": member})
    expected = f"expected format 1.0, {re.escape(FORMAT)}, 48 bytes, found .*{found}"
    assert refuses_npz(content, expected, "images in ")


class Planted:
    """An object that makes a folder when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_no_object_is_unpickled(tmp_path):
    pickle.loads(pickle.dumps(Planted(tmp_path / "works")))
    assert (tmp_path / "works").is_dir()
    objects = np.full(SHAPE, None)
    objects[0, 0, 0] = Planted(tmp_path / "ran")
    assert refuses_npz(npz(ARRAYS | {"images": objects}), r"'\|O'", "images in ")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"", "File is not a zip file"),
        (b"<!doctype html><title>403 Forbidden</title>", "File is not a zip file"),
        (npy(PIXELS), "File is not a zip file"),
        (entry(FLAGS, "H", 1), "encrypted"),
        (entry(FLAGS, "H", 0x20), "patched"),
        (entry(METHOD, "H", 99), "a compression other than deflate"),
        (entry(METHOD, "H", STORED), "CRC"),
        (npz(ARRAYS, zipfile.ZIP_BZIP2), "a compression other than deflate"),
        (npz(ARRAYS, zipfile.ZIP_LZMA), "a compression other than deflate"),
        (entry(CRC, "I", 0), "CRC"),
        (entry(SIZE, "I", 0), "CRC"),
        (entry(SIZE, "I", 150), "CRC"),
        (entry(SIZE, "I", 150, file=NPZ[STORED]), "CRC"),
        (entry(PACKED_SIZE, "I", 20), "CRC"),
        (entry(PACKED_SIZE, "I", 20, file=NPZ[STORED]), "CRC"),
        (entry(PACKED_SIZE, "II", 9**9, 9**9, file=NPZ[STORED]), "EOFError|Overlap"),
        (entry(OFFSET, "I", 1), "magic"),
        (entry(OFFSET, "I", NPZ[DEFLATED].rindex(b"PK\3\4")), "differ"),
        (entry(OFFSET, "I", 2**31), "Truncated"),
        (entry(OFFSET, "I", 2**32 - 1, file=npz(ARRAYS, extra=FAR)), "OverflowError"),
    ],
)
def test_what_is_no_sound_zip_file_is_refused(content, found):
    assert refuses_npz(content, f"^f.npz .* a zip file of arrays, found .*({found})")


@pytest.mark.parametrize("method", NPZ)
def test_sizes_that_lie_upwards_do_no_harm(method):
    assert reads_npz(entry(SIZE, "I", 2**31, file=NPZ[method]))
    # of two entries that overlap, newer Pythons refuse to read one
    assert right_or_refused(reads_npz, entry(PACKED_SIZE, "I", 2**31, file=NPZ[method]))


@pytest.mark.parametrize("method", NPZ)
def test_an_npz_file_cut_anywhere_is_refused(method):
    for n in range(len(NPZ[method])):
        assert refuses_npz(NPZ[method][:n], "a zip file of arrays")


def test_a_zip_bomb_is_not_unpacked():
    for member in (npy(PIXELS) + BOMB, npy_of(FORMAT, BOMB), BOMB):
        bomb = npz(ARRAYS | {"images": member})
        assert peak_memory(refuses_npz, bomb, "more bytes", "images in ") < 2**20
    bomb = npz(ARRAYS | {"images": BOMB}, zipfile.ZIP_BZIP2)
    assert peak_memory(refuses_npz, bomb, "compression") < 2**20
    bomb = npz(ARRAYS | {"more": BOMB})
    assert peak_memory(refuses_npz, bomb, "more.npy") < 2**20


# Corrupted files: the right data, to the last bit, or the error that the reader needs

FAULTS = st.tuples(
    st.sampled_from(["turn", "overwrite", "delete", "insert", "double", "truncate"]),
    st.integers(-1000, 1000),  # negative: from the end, where a zip has its directory
    st.integers(1, 4) | st.integers(1, 200),
    st.binary(min_size=1, max_size=9) | st.just(b"\xff" * 4),
)


def corrupted(content, faults):
    """The bytes with each fault in them, one after the other."""
    for kind, place, length, new in faults:
        at = place % (len(content) + 1)
        before, chunk, rest = content[:at], content[at:][:length], content[at:][length:]
        after = {
            "turn": bytes([b ^ 1 << length % 8 for b in chunk[:1]]) + chunk[1:] + rest,
            "overwrite": new + (chunk + rest)[len(new) :],
            "delete": rest,
            "insert": new + chunk + rest,
            "double": chunk + chunk + rest,
            "truncate": b"",
        }
        content = before + after[kind]
    return content


def reads_idx(content):
    return np.array_equal(images._idx(content, "f.gz", SHAPE), PIXELS)


def right_or_refused(read, content):
    try:
        return read(content)
    except ValueError as error:
        return is_refusal(error, "((images|labels) in )?")


FILES = pytest.mark.parametrize(
    ("read", "content"),
    [(reads_idx, GZIP), (reads_npz, NPZ[STORED]), (reads_npz, NPZ[DEFLATED])],
    ids=["idx", "stored", "deflated"],
)


@FILES
def test_a_file_with_one_bit_turned_is_read_right_or_refused(read, content):
    for other in turned_bits(content):
        assert right_or_refused(read, other)


@FILES
@settings(max_examples=1000, deadline=None)
@given(faults=st.lists(FAULTS, min_size=1, max_size=3))
def test_a_corrupted_file_is_read_right_or_refused(read, content, faults):
    assert right_or_refused(read, corrupted(content, faults))


# With checksums made anew, so that the parsers alone stand between fault and reader


@settings(max_examples=300, deadline=None)
@given(faults=st.lists(FAULTS, min_size=1, max_size=2))
def test_a_corrupted_idx_file_in_sound_gzip_is_read_as_it_is_or_refused(faults):
    raw = corrupted(RAW, faults)

    def reads(content):
        return idx_bytes(images._idx(content, "f.gz", SHAPE)) == raw

    assert right_or_refused(reads, gzip.compress(raw, 1, mtime=0))


@settings(max_examples=300, deadline=None)
@given(faults=st.lists(FAULTS, min_size=1, max_size=2))
def test_a_corrupted_npy_file_in_sound_zip_is_read_as_it_is_or_refused(faults):
    raw = corrupted(npy(PIXELS), faults)

    def reads(content):
        got = images._npz(content, "f.npz", SHAPES)["images"]
        return got.shape == SHAPE and raw.endswith(got.tobytes())

    assert right_or_refused(reads, npz(ARRAYS | {"images": raw}, STORED))


def test_pixels_behind_the_longest_header_are_checked_too():
    header = FORMAT.encode().ljust(65526)
    raw = b"\x93NUMPY\1\0" + struct.pack("<H", 65526) + header + PIXELS.tobytes()
    content = npz(ARRAYS | {"images": raw + b"more"}, STORED)
    at = content.index(PIXELS.tobytes())
    assert refuses_npz(changed(content, at, bytes(48)), "found", "(images in )?")
