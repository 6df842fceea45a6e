"""Shares with their intervals."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers import evaluate


def test_a_share_worked_by_hand():
    # Wilson (1927) with z = 1.96 for 8 of 10
    z, n, p = 1.959964, 10, 0.8
    middle = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    low, share, high = evaluate.proportion(8, 10)
    assert share == 0.8
    assert (low, high) == pytest.approx((middle - half, middle + half), abs=1e-6)


@given(st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_the_interval_holds_the_share_and_stays_between_0_and_1(pair):
    low, share, high = evaluate.proportion(*pair)
    assert 0 <= low <= share + 1e-12 and share - 1e-12 <= high <= 1
    assert high - low > 0


def test_counts_from_numpy_are_taken():
    found = np.array([True, False, True])
    assert evaluate.proportion(found.sum(), found.size)[1] == pytest.approx(2 / 3)


@pytest.mark.parametrize("pair", [(3, 2), (-1, 2), (0, 0), (0.5, 2), (1, 2.5)])
def test_what_is_no_count_is_refused(pair):
    with pytest.raises(ValueError, match="needs whole numbers.*got k="):
        evaluate.proportion(*pair)
