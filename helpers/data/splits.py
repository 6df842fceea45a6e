"""Splits that keep patients apart, and a look for images on both sides of one.

Introduced in: keras/xray_diagnosis
"""

import hashlib
from collections import defaultdict
from typing import NamedTuple

import numpy as np


class Place(NamedTuple):
    """Where an image stands: the name of the part, and its row there."""

    part: str
    row: int


def copies(parts):
    """Find images that stand more than once, by hashing their pixels.

    Only exact copies are found; two images of one patient differ.

    parts: dict of name (str) to images, each (n, height, width), of one dtype
    Returns: list of tuples, one for each image that stands more than once, with all
        its places as Place(part, row), in order
    Raises: ValueError if the parts differ in dtype or in the shape of an image
    Introduced in: keras/xray_diagnosis
    """
    kinds = {
        (np.shape(images)[1:], np.asarray(images).dtype) for images in parts.values()
    }
    if len(kinds) > 1:
        raise ValueError(
            f"copies needs images of one shape and dtype in every part, got {kinds}: "
            "give all parts as they were loaded"
        )
    places = defaultdict(list)
    for part, images in parts.items():
        for row, image in enumerate(images):
            digest = hashlib.sha256(np.ascontiguousarray(image)).digest()
            places[digest].append(Place(part, row))
    return [tuple(found) for found in places.values() if len(found) > 1]


def split_by_patient(patient_id, shares, rng):
    """Split rows so that all rows of one patient fall into one part.

    patient_id: (n_samples,) of any type that can be compared, none missing
    shares: two or more numbers above 0 that sum to 1: the share of the *patients*,
        rounded to whole ones, that each part gets
    rng: numpy.random.Generator
    Returns: tuple of index arrays, one a part, each in rising order
    Raises: ValueError if the shares or ids are not as above, or a part would be empty
    Introduced in: challenges/data_quality
    """
    import pandas as pd

    patient_id, shares = np.asarray(patient_id), np.ravel(shares).astype(float)
    missing = pd.isna(patient_id)  # np.isin would find no part for a NaN
    if patient_id.ndim != 1 or missing.any():
        raise ValueError(
            "split_by_patient needs one id a row, none missing, shape (n_samples,), "
            f"got {patient_id.shape} with {np.sum(missing)} missing"
        )
    if len(shares) < 2 or not (shares > 0).all() or not np.isclose(shares.sum(), 1):
        raise ValueError(
            "split_by_patient needs two or more shares above 0 that sum to 1, for "
            f"example (0.6, 0.2, 0.2), got {shares.tolist()}"
        )
    patients = rng.permutation(np.unique(patient_id))
    ends = np.rint(np.cumsum(shares)[:-1] * len(patients)).astype(int)
    parts = np.split(patients, ends)
    if not all(map(len, parts)):
        raise ValueError(
            f"{len(patients)} patients cannot be split into shares of "
            f"{shares.tolist()}: a part would be empty; take larger shares"
        )
    return tuple(np.flatnonzero(np.isin(patient_id, part)) for part in parts)
