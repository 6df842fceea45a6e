import numpy as np
from sklearn.datasets import load_breast_cancer

from helpers.data import tabular


def test_breast_cancer_codes_malignant_as_the_event():
    table, raw = tabular.breast_cancer(), load_breast_cancer()
    assert table.event == "malignant"
    assert (table.y.sum(), len(table.y)) == (212, 569)
    assert np.array_equal(table.y == 1, raw.target_names[raw.target] == "malignant")


def test_breast_cancer_has_the_documented_shapes_and_no_gap():
    table = tabular.breast_cancer()
    assert (table.X.shape, table.X.dtype) == ((569, 30), np.float64)
    assert table.y.dtype == np.int64
    assert len(table.feature_names) == 30 and np.isfinite(table.X).all()
    assert not table.stand_in


def test_malignant_nuclei_are_larger():
    # a swapped coding would turn this round
    table = tabular.breast_cancer()
    area = table.X[:, table.feature_names.index("mean area")]
    assert area[table.y == 1].mean() > 1.5 * area[table.y == 0].mean()
