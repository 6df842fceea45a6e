"""Arrays in a file: written all at once, read without pickle, never half.

Introduced in: mathematics/backpropagation
"""

import io
import os
import tempfile
import zipfile
import zlib
from pathlib import Path

import numpy as np


def write(path, arrays):
    """Write named arrays to an .npz file, all at once or not at all.

    path: str or Path; a file that is there is replaced
    arrays: dict of name to float array
    Raises: OSError if it cannot be written; a former file is then still whole
    Introduced in: mathematics/backpropagation
    """
    path = Path(path)
    handle, name = tempfile.mkstemp(dir=path.parent, suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            np.savez(file, **arrays)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


# what zipfile and NumPy raise for a damaged archive
_DAMAGED = (zipfile.BadZipFile, zlib.error, ValueError, EOFError, OSError, RuntimeError)


def read(path):
    """Read the arrays that `write` wrote.

    path: str or Path
    Returns: dict of name to float array
    Raises: OSError if the file cannot be read; ValueError if it is damaged, or holds
        anything but finite numbers
    Introduced in: mathematics/backpropagation
    """
    content = Path(path).read_bytes()
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            if archive.testzip() is not None:  # np.load may leave an end unread
                raise zipfile.BadZipFile(f"bad checksum of {archive.testzip()}")
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            found = {name: file[name] for name in file.files}
    except _DAMAGED as error:
        raise ValueError(
            f"{path} is not a file that Network.save wrote, or it is damaged "
            f"({error}): save it anew"
        ) from error
    for name, array in found.items():
        if array.dtype.kind != "f" or not np.isfinite(array).all():
            raise ValueError(f"{path} is damaged: {name} is not made of finite numbers")
    return found
