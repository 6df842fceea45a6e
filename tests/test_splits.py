import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.data import splits


def images(*values, dtype="uint8"):
    """One image of 2 x 2 a value, whose last pixel is the value and the others 0."""
    X = np.zeros((len(values), 2, 2), dtype)
    X[:, 1, 1] = values
    return X


def test_a_copy_in_two_parts_is_found_with_its_places():
    parts = {"train": images(5, 6, 7), "val": images(8, 6), "test": images(9)}
    assert splits.copies(parts) == [(("train", 1), ("val", 1))]
    place = splits.copies(parts)[0][1]
    assert (place.part, place.row) == ("val", 1)


def test_a_copy_inside_one_part_is_found():
    assert splits.copies({"train": images(1, 2, 1)}) == [(("train", 0), ("train", 2))]


def test_all_places_of_an_image_stand_together_and_in_order():
    parts = {"val": images(3, 4), "train": images(4, 3, 3)}
    assert splits.copies(parts) == [
        (("val", 0), ("train", 1), ("train", 2)),
        (("val", 1), ("train", 0)),
    ]


def test_one_pixel_more_or_a_turned_image_is_no_copy():
    one, turned = images(1), images(1)[:, ::-1]
    assert splits.copies({"a": one, "b": images(2), "c": turned}) == []


def test_images_are_compared_by_their_pixels_not_by_their_memory():
    X = np.arange(8, dtype="uint8").reshape(2, 2, 2)
    columns_first = X.transpose(0, 2, 1).copy().transpose(0, 2, 1)
    parts = {"a": X, "b": columns_first, "c": X[::-1]}
    assert splits.copies(parts) == [
        (("a", 0), ("b", 0), ("c", 1)),
        (("a", 1), ("b", 1), ("c", 0)),
    ]


@pytest.mark.parametrize("parts", [{}, {"train": images(1, 2), "val": images()}])
def test_where_nothing_stands_twice_the_list_is_empty(parts):
    assert splits.copies(parts) == []


@pytest.mark.parametrize("other", [images(1, dtype="float32"), images(1)[:, :1]])
def test_parts_of_different_kinds_are_refused(other):
    message = "images of one shape and dtype in every part, got .* as they were loaded"
    with pytest.raises(ValueError, match=message):
        splits.copies({"train": images(1), "val": other})


IDS = st.lists(st.integers(0, 40), max_size=200).map(np.array) | st.lists(
    st.sampled_from(["Ada", "Bo", "Cy", "Di", "Ed", "Flo", "Gus"]), max_size=40
).map(np.array)
SHARES = st.lists(st.integers(1, 20), min_size=2, max_size=4).map(
    lambda weights: [w / sum(weights) for w in weights]
)


@settings(max_examples=300, deadline=None)
@given(ids=IDS, shares=SHARES, seed=st.integers(0, 2**32))
def test_every_row_falls_into_one_part_with_all_rows_of_its_patient(ids, shares, seed):
    n = len(set(ids.tolist()))
    try:
        parts = splits.split_by_patient(ids, shares, np.random.default_rng(seed))
    except ValueError as error:
        assert "a part would be empty" in str(error) and min(shares) * n <= 1
        return
    assert sorted(np.concatenate(parts)) == list(range(len(ids)))
    assert all((np.diff(rows) > 0).all() for rows in parts)
    patients = [set(ids[rows].tolist()) for rows in parts]
    assert sum(map(len, patients)) == n  # so no patient stands in two
    for share, part in zip(shares, patients, strict=True):
        assert part and abs(len(part) - share * n) <= 1 + 1e-9


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**32), order=st.permutations(range(30)))
def test_the_same_seed_parts_the_same_patients_whatever_the_order(seed, order):
    ids = np.arange(30) // 3
    first, again, other = (
        splits.split_by_patient(i, (0.5, 0.5), np.random.default_rng(seed))
        for i in (ids, ids, ids[order])
    )
    assert all(map(np.array_equal, first, again))
    assert set(ids[first[0]]) == set(ids[order][other[0]])


def test_another_seed_parts_otherwise():
    ids = np.arange(40)
    found = {
        tuple(splits.split_by_patient(ids, (0.5, 0.5), np.random.default_rng(seed))[0])
        for seed in range(20)
    }
    assert len(found) == 20


def test_shares_are_of_patients_not_of_rows():
    ids = np.repeat(np.arange(10), [90, 1, 1, 1, 1, 1, 1, 1, 1, 1])
    parts = splits.split_by_patient(ids, (0.6, 0.2, 0.2), np.random.default_rng(0))
    assert [len(set(ids[rows])) for rows in parts] == [6, 2, 2]


SOUND = "two or more shares above 0 that sum to 1, .*, got "


@pytest.mark.parametrize(
    ("ids", "shares", "message"),
    [
        (np.zeros((4, 1)), (0.5, 0.5), r"one id a row.* got \(4, 1\) with 0 missing"),
        (7, (0.5, 0.5), r"one id a row, .* got \(\) with 0 missing"),
        ([1, np.nan, 2, 3], (0.5, 0.5), r"none missing, .* got \(4,\) with 1 missing"),
        (["a", None, "b", np.nan], (0.5, 0.5), "with 2 missing"),
        (pd.Series(["a", pd.NA, "b"], dtype="string"), (0.5, 0.5), "with 1 missing"),
        (np.array(["2020", "NaT"], "datetime64[D]"), (0.5, 0.5), "with 1 missing"),
        ([1, 2, 3], (1.0,), SOUND + r"\[1.0\]"),
        ([1, 2, 3], 0.5, SOUND + r"\[0.5\]"),
        ([1, 2, 3], (), SOUND + r"\[\]"),
        ([1, 2, 3], (0.5, 0.4), SOUND + r"\[0.5, 0.4\]"),
        ([1, 2, 3], (1.2, -0.2), SOUND + r"\[1.2, -0.2\]"),
        ([1, 2, 3], (0.5, 0.5, 0), SOUND + r"\[0.5, 0.5, 0.0\]"),
        ([1, 2, 3], (0.5, np.nan), SOUND + r"\[0.5, nan\]"),
        ([1, 1, 1, 1], (0.5, 0.5), "1 patients cannot .* empty; take larger shares"),
        ([1, 2, 3, 4], (0.9, 0.1), "4 patients cannot be split into shares of .0.9, 0"),
        ([], (0.5, 0.5), "0 patients cannot be split"),
    ],
)
def test_what_cannot_be_split_is_refused(ids, shares, message):
    with pytest.raises(ValueError, match=message):
        splits.split_by_patient(ids, shares, np.random.default_rng(0))
