"""Tables: one row a patient, one column a measurement.

Introduced in: concepts/learning_from_data
"""

from typing import NamedTuple

import numpy as np


class Table(NamedTuple):
    """A table of patients and the event to be predicted.

    X: (n_samples, n_features) float64
    y: (n_samples,) int64, 1 = event, 0 = no event
    feature_names: tuple of n_features str
    event: str, what y = 1 means
    licence: str
    citation: str, the source, with its DOI
    stand_in: bool, True if these rows stand in for a set that could not be fetched
    """

    X: np.ndarray
    y: np.ndarray
    feature_names: tuple
    event: str
    licence: str
    citation: str
    stand_in: bool


def breast_cancer():
    """Load the Wisconsin diagnostic breast cancer set, which scikit-learn ships.

    569 fine-needle aspirates of a breast mass, one a patient, from one hospital
    before 1993; 30 measurements of the cell nuclei in a digital image (mean, error
    and worst of ten; the source states no units). scikit-learn codes malignant as 0;
    here, as in the whole book, the event is 1.

    Returns: Table with X (569, 30), y (569,) where 1 = malignant (212 of 569)
    Source: Street, Wolberg and Mangasarian (1993), doi 10.1117/12.148698
    Introduced in: concepts/learning_from_data
    """
    from sklearn.datasets import load_breast_cancer

    raw = load_breast_cancer()
    return Table(
        X=raw.data.astype("float64"),
        y=(raw.target == list(raw.target_names).index("malignant")).astype("int64"),
        feature_names=tuple(map(str, raw.feature_names)),
        event="malignant",
        licence="CC BY 4.0",
        citation="Street, Wolberg and Mangasarian (1993), doi 10.1117/12.148698",
        stand_in=False,
    )
