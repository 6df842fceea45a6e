"""What a chapter needs from the machine: seeds, threads, device, progress.

Introduced in: setup
"""

import logging
import os
import platform
import random
import sys
from importlib import metadata

import numpy as np

PACKAGES = ("numpy", "scikit-learn", "matplotlib", "tensorflow", "keras")


def seed():
    """Seed every generator of the session once, and return the chapter's own.

    The seed is the environment variable HEALTHBOOK_SEED, 0 if it is not set. Keras
    is seeded if it is loaded, so import it first; TensorFlow's advice on retracing,
    which a page that builds several models would print again and again, is left out.

    Returns: numpy.random.Generator, to be handed to whatever draws at random
    Raises: ValueError if HEALTHBOOK_SEED is not a whole number from 0 to 2**32 - 1
    Introduced in: setup
    """
    text = os.environ.get("HEALTHBOOK_SEED", "0")
    if not text.isdecimal() or int(text) >= 2**32:
        raise ValueError(
            f"HEALTHBOOK_SEED is {text!r}: expected a whole number from 0 to "
            f"{2**32 - 1}; unset it for the default, 0"
        )
    value = int(text)
    random.seed(value)
    np.random.seed(value)  # noqa: NPY002 - libraries still draw from it
    if "keras" in sys.modules:
        sys.modules["keras"].utils.set_random_seed(value)
        logging.getLogger("tensorflow").addFilter(_no_advice)
    return np.random.default_rng(value)


def _no_advice(record):
    return "triggered tf.function retracing" not in record.getMessage()


def threads(n):
    """Limit the linear algebra below NumPy and SciPy to n threads, in a `with`.

    Small matrices are faster on one thread, most of all on a busy machine.
    TensorFlow has its own threads, which this leaves alone.

    n: int, 1 or more
    Returns: context manager; leaving it restores the former limits
    Raises: ValueError if n is not a whole number of at least 1
    Introduced in: setup
    """
    from threadpoolctl import threadpool_limits

    if not isinstance(n, int) or isinstance(n, bool) or n < 1:
        raise ValueError(f"threads(n) needs a whole number of at least 1, got {n!r}")
    return threadpool_limits(limits=n, user_api="blas")


def device():
    """Name the device on which TensorFlow will place a model.

    Returns: str, "GPU: <model>" if TensorFlow sees one, else "CPU, <n> cores"
    Raises: ImportError if TensorFlow is not installed
    Introduced in: setup
    """
    import tensorflow as tf

    names = [
        tf.config.experimental.get_device_details(gpu).get("device_name", gpu.name)
        for gpu in tf.config.list_physical_devices("GPU")
    ]
    return f"GPU: {', '.join(names)}" if names else f"CPU, {os.cpu_count()} cores"


def report():
    """Print the Python, the packages and the device of this session.

    Returns: None
    Introduced in: setup
    """
    print(f"python       {platform.python_version()} on {platform.platform()}")
    for package in PACKAGES:
        try:
            print(f"{package:12} {metadata.version(package)}")
        except metadata.PackageNotFoundError:
            print(f"{package:12} not installed")
    print(f"device       {device()}")


def progress(iterable, label):
    """Loop over the iterable with a progress bar on the error stream.

    The bar is seen while a notebook runs and leaves no output in the page.

    iterable: anything a `for` takes
    label: str, what one step is, for example "networks trained"
    Returns: iterator over the same items
    Introduced in: concepts/learning_from_data
    """
    from tqdm import tqdm

    return tqdm(iterable, desc=label, leave=False)
