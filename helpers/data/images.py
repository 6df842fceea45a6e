"""Images, one loader a set: X-rays, ultrasound, digits, and two photographs.

Introduced in: keras/xray_diagnosis
"""

import gzip
import io
import math
import struct
import zipfile
import zlib
from typing import NamedTuple

import numpy as np

from helpers.data.fetch import NotServed, fetch, stand_in

# what the standard library raises for a damaged archive, besides its own errors
_DAMAGED = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    OSError,
    EOFError,
    RuntimeError,  # encrypted, or a compression that is not known
    ValueError,
    OverflowError,
)


class Images(NamedTuple):
    """A set of images, split as its publisher split it.

    X_train, X_val, X_test: (n, 28, 28) uint8, gray values, 0 black to 255 white
    y_train, y_val, y_test: (n,) int64; a set without its own validation part has
        X_val of shape (0, 28, 28) and y_val of shape (0,)
    target: str, what y is; for an event, what y = 1 means
    classes: tuple of str, what y = 0, 1, ... mean
    licence: str
    citation: str, the source, with its DOI if it has one
    stand_in: bool, True if these images stand in for a set that was not served
    """

    X_train: np.ndarray
    y_train: np.ndarray
    X_val: np.ndarray
    y_val: np.ndarray
    X_test: np.ndarray
    y_test: np.ndarray
    target: str
    classes: tuple
    licence: str
    citation: str
    stand_in: bool


class Picture(NamedTuple):
    """One photograph.

    pixels: (height, width, 3) uint8, red, green, blue
    shows: str, what it is
    licence: str
    citation: str, the source
    """

    pixels: np.ndarray
    shows: str
    licence: str
    citation: str


def mnist():
    """Load MNIST, handwritten digits; scikit-learn's digits stand in for it.

    60,000 images for training and 10,000 for the test, by other writers, of employees
    of an American office and of school pupils about 1990. It has no validation part.
    The stand-in: 1,797 digits of 8 x 8 brought to 28 x 28, in their order, the last
    500 as the test.

    Returns: Images, y = 0 to 9, the digit
    Raises: WrongFile if what was served is not MNIST; ValueError if it is damaged
    Source: LeCun et al. (1998), doi 10.1109/5.726791; licence as the Keras
        documentation states it
    Introduced in: keras/first_network
    """
    parts = {"train": 60000, "t10k": 10000}
    try:
        files = {
            name: fetch(name)
            for part in parts
            for name in (
                f"{part}-images-idx3-ubyte.gz",
                f"{part}-labels-idx1-ubyte.gz",
            )
        }
    except NotServed as reason:
        stand_in("MNIST", "scikit-learn's digits at 28 × 28", reason)
        return _digits()
    shapes = [s for n in parts.values() for s in ((n, 28, 28), (n,))]
    X, y, X_test, y_test = (
        _idx(content, name, shape)
        for (name, content), shape in zip(files.items(), shapes, strict=True)
    )
    for name, labels in zip(list(files)[1::2], (y, y_test), strict=True):
        _in_range(labels, 10, name)
    return _images(
        (X, y, X_test[:0], y_test[:0], X_test, y_test),
        target="the digit",
        classes=tuple("0123456789"),
        licence="CC BY-SA 3.0",
        citation="LeCun et al. (1998), doi 10.1109/5.726791",
    )


def pneumonia():
    """Load PneumoniaMNIST, chest X-rays of children; simulated ones stand in for it.

    5,856 frontal X-rays of children of one to five years from one hospital in
    Guangzhou, graded by physicians, cut to a square and shrunk to 28 x 28. Normal or
    pneumonia, nothing else; unreadable images were removed. Age, sex, machine and
    patient are not in the file.

    Traps: the validation part was cut at random, image by image, out of the original
    training part, so images of one child may stand on both sides; the test part is
    the original's own. 8 images stand in both training and validation; 18 of the
    training part are surplus copies, and 3 of the test part. Pneumonia: 3494 of 4708,
    389 of 524, 390 of 624.

    Returns: Images, y = 1 pneumonia, with parts of 4708, 524 and 624
    Raises: WrongFile if what was served is not the set; ValueError if it is damaged
    Source: Kermany et al. (2018), doi 10.1016/j.cell.2018.02.010, as prepared by Yang
        et al. (2023), doi 10.1038/s41597-022-01721-8; CC BY 4.0
    Introduced in: keras/xray_diagnosis
    """
    sizes, events = (4708, 524, 624), (3494, 389, 390)
    parts, simulated = _medmnist("pneumoniamnist.npz", "PneumoniaMNIST", sizes, events)
    return _images(
        parts,
        target="pneumonia",
        classes=("normal", "pneumonia"),
        licence="CC BY 4.0",
        citation="Kermany et al. (2018), doi 10.1016/j.cell.2018.02.010; Yang et al. "
        "(2023), doi 10.1038/s41597-022-01721-8",
        simulated=simulated,
    )


def breast_ultrasound(*, as_in_file=False):
    """Load BreastMNIST, breast ultrasound; simulated chest X-rays stand in for it.

    780 images of women of 25 to 75 years in Cairo, 2018, cut to a square and shrunk
    to 28 x 28. The file codes 0 = malignant, 1 = normal or benign; here, as in the
    whole book, the event is 1, so the labels are turned. 1 image stands in both
    training and test, with the other label. The stand-in is good for running the
    code, for nothing else: it has no ultrasound in it.

    as_in_file: bool, True for the labels as the file has them
    Returns: Images, y = 1 malignant (or, as in the file, normal or benign), with parts
        of 546, 78 and 156
    Raises: WrongFile if what was served is not the set; ValueError if it is damaged
    Source: Al-Dhabyani et al. (2020), doi 10.1016/j.dib.2019.104863, as prepared by
        Yang et al. (2023), doi 10.1038/s41597-022-01721-8; CC BY 4.0
    Introduced in: keras/xray_diagnosis
    """
    sizes, harmless = (546, 78, 156), (399, 57, 114)
    events = [n - m for n, m in zip(sizes, harmless, strict=True)]
    parts, simulated = _medmnist("breastmnist.npz", "BreastMNIST", sizes, events)
    if as_in_file == simulated:  # the file has malignant = 0, the simulation 1
        parts[1::2] = [1 - y for y in parts[1::2]]
    classes = ("normal or benign", "malignant")[:: -1 if as_in_file else 1]
    return _images(
        parts,
        target=classes[1],
        classes=classes,
        licence="CC BY 4.0",
        citation="Al-Dhabyani et al. (2020), doi 10.1016/j.dib.2019.104863; Yang et "
        "al. (2023), doi 10.1038/s41597-022-01721-8",
        simulated=simulated,
    )


def retina():
    """Load a photograph of the back of a healthy left eye, which scikit-image ships.

    Returns: Picture, pixels (1411, 1411, 3)
    Source: Haeggstroem (2014), doi 10.15347/wjm/2014.008
    Introduced in: mathematics/convolution
    """
    import skimage.data

    return Picture(
        skimage.data.retina(),
        "retina of a left eye",
        "CC0 1.0",
        "Haeggstroem (2014), doi 10.15347/wjm/2014.008",
    )


def immunohistochemistry():
    """Load a photograph of stained tissue, which scikit-image ships.

    Glands of a colon: the protein FHL2 in brown (DAB), the rest counterstained in
    blue (haematoxylin).

    Returns: Picture, pixels (512, 512, 3)
    Source: Center for Microscopy and Molecular Imaging, as scikit-image states
    Introduced in: mathematics/convolution
    """
    import skimage.data

    return Picture(
        skimage.data.immunohistochemistry(),
        "glands of a colon, stained",
        "no known copyright restrictions",
        "Center for Microscopy and Molecular Imaging, as shipped by scikit-image",
    )


def _images(parts, *, target, classes, licence, citation, simulated=False):
    """The six arrays as Images, labels as int64."""
    if simulated:
        licence, citation = "CC BY 4.0", "simulated for this book, helpers.data"
    # astype copies: an array over the bytes of a file cannot be written to
    parts = [p.astype(("uint8", "int64")[k % 2]) for k, p in enumerate(parts)]
    return Images(*parts, target, classes, licence, citation, simulated)


def _digits():
    """scikit-learn's digits as a stand-in for MNIST."""
    from scipy.ndimage import zoom
    from sklearn.datasets import load_digits

    raw = load_digits()
    X = np.rint(zoom(raw.images, (1, 3.5, 3.5), order=1) * (255 / 16)).astype("uint8")
    y, last = raw.target, len(raw.target) - 500
    images = _images(
        (X[:last], y[:last], X[:0], y[:0], X[last:], y[last:]),
        target="the digit",
        classes=tuple("0123456789"),
        licence="CC BY 4.0",
        citation="Alpaydin and Kaynak (1998), doi 10.24432/C50P49",
    )
    return images._replace(stand_in=True)


def _medmnist(name, title, sizes, events):
    """The six arrays of a MedMNIST file and False, or simulated ones and True."""
    from helpers.data import radiographs

    try:
        content = fetch(name)
    except NotServed as reason:
        stand_in(title, "simulated chest radiographs", reason)
        return list(radiographs.simulate(sizes, events)), True
    parts, shapes = ("train", "val", "test"), {}
    for part, n in zip(parts, sizes, strict=True):
        shapes[f"{part}_images"], shapes[f"{part}_labels"] = (n, 28, 28), (n, 1)
    arrays = _npz(content, name, shapes)
    for key in list(arrays)[1::2]:
        _in_range(arrays[key], 2, f"{key} in {name}")
        arrays[key] = arrays[key][:, 0].astype("int64")
    return list(arrays.values()), False


def _damaged(name, expected, found):
    return ValueError(
        f"{name} cannot be read: expected {expected}, found {found}; delete the file "
        "and fetch it again"
    )


def _in_range(labels, n_classes, name):
    if labels.max(initial=0) >= n_classes:
        raise _damaged(name, f"labels from 0 to {n_classes - 1}", f"{labels.max()}")


def _idx(content, name, shape):
    """The uint8 array of an IDX file in gzip, of this shape."""
    header = struct.pack(f">BBBB{len(shape)}I", 0, 0, 8, len(shape), *shape)
    size = len(header) + math.prod(shape)
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(content)) as file:
            raw = file.read(size + 1)  # one more, so that the end and its CRC are read
    except _DAMAGED as error:
        raise _damaged(name, "a gzip file", repr(error)) from error
    if not raw.startswith(header):
        found = f"a header of {raw[: len(header)].hex(' ') or 'no bytes'}"
        raise _damaged(name, f"an IDX file of unsigned bytes, shape {shape}", found)
    if len(raw) != size:
        found = f"{'more' if len(raw) > size else len(raw)}"
        raise _damaged(name, f"{size} bytes after unpacking", found)
    return np.frombuffer(raw, "uint8", offset=len(header)).reshape(shape)


def _npz(content, name, shapes):
    """The uint8 arrays of an npz file: exactly these names, each of its shape.

    Nothing is unpickled or evaluated, and no more unpacked than the shapes need.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            names = sorted(archive.namelist())
            members = {
                key: _member(archive, f"{key}.npy", math.prod(shape))
                for key, shape in shapes.items()
                if f"{key}.npy" in names
            }
    except _DAMAGED as error:
        raise _damaged(name, "a zip file of arrays", repr(error)) from error
    if names != sorted(f"{key}.npy" for key in shapes):
        raise _damaged(name, f"the arrays {', '.join(shapes)}", f"{names}")
    return {
        key: _array(members[key], f"{key} in {name}", shape)
        for key, shape in shapes.items()
    }


def _member(archive, member, size):
    """The bytes of one array, at most a header and one byte more than this size."""
    known = zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED
    if archive.getinfo(member).compress_type not in known:  # others unpack unbounded
        raise NotImplementedError(f"{member} in a compression other than deflate")
    with archive.open(member) as file:
        return file.read(size + 2**17)  # past the end, so that its CRC is read


def _array(raw, name, shape):
    """The uint8 array of an npy file of format 1.0, in C order, of this shape."""
    header = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}"
    start, size = 10 + int.from_bytes(raw[8:10], "little"), math.prod(shape)
    found, pixels = raw[:8] + raw[10:start].rstrip(), raw[start:]
    if found != b"\x93NUMPY\1\0" + header.encode() or len(pixels) != size:
        n = "more" if len(pixels) > size else len(pixels)
        raise _damaged(
            name,
            f"format 1.0, {header}, {size} bytes",
            f"{found[:200]!r}, {n} bytes",
        )
    return np.frombuffer(pixels, "uint8").reshape(shape)
