import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LinearRegression

from helpers.data import tabular
from helpers.data.fetch import WrongFile

FILE = "processed.cleveland.data"
MIRROR = os.environ.get("HEALTHBOOK_DATA")
needs_mirror = pytest.mark.skipif(not MIRROR, reason="HEALTHBOOK_DATA is not set")


@pytest.fixture(autouse=True)
def neither_network_nor_the_users_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("HEALTHBOOK_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HEALTHBOOK_OFFLINE", "1")


def column(table, name):
    return table.X[:, table.feature_names.index(name)]


def test_breast_cancer_codes_malignant_as_the_event():
    table, raw = tabular.breast_cancer(), load_breast_cancer()
    assert table.target == "malignant"
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
    area = column(table, "mean area")
    assert area[table.y == 1].mean() > 1.5 * area[table.y == 0].mean()


def test_diabetes_is_unscaled_and_in_the_documented_form():
    table = tabular.diabetes()
    assert (table.X.shape, table.X.dtype) == ((442, 10), np.float64)
    assert (table.y.shape, table.y.dtype) == ((442,), np.float64)
    assert (table.y.min(), table.y.max()) == (25, 346)
    assert len(table.feature_names) == 10 and np.isfinite(table.X).all()
    age = column(table, "age_years")
    assert (age.min(), age.max()) == (19, 79)
    assert set(column(table, "sex")) == {1, 2}
    assert not table.stand_in


def test_diabetes_columns_bear_the_right_names():
    table = tabular.diabetes()
    ratio = column(table, "total_cholesterol") / column(table, "hdl")
    given_ratio = column(table, "cholesterol_to_hdl")
    assert np.abs(given_ratio - ratio).max() < 0.65
    assert (given_ratio % 1 == 0).sum() == 380
    assert (column(table, "ldl") < column(table, "total_cholesterol")).all()


def test_least_squares_reaches_the_known_fit_on_diabetes():
    table = tabular.diabetes()
    r2 = LinearRegression().fit(table.X, table.y).score(table.X, table.y)
    assert r2 == pytest.approx(0.518, abs=5e-4)


def test_digits_have_the_documented_form():
    table = tabular.digits()
    assert (table.X.shape, table.X.dtype) == ((1797, 64), np.float64)
    assert (table.X.min(), table.X.max()) == (0, 16)
    assert np.array_equal(table.X, np.rint(table.X))
    counts = np.bincount(table.y, minlength=10)
    assert table.y.dtype == np.int64
    assert (counts.min(), counts.max(), len(counts)) == (174, 183, 10)
    assert len(table.feature_names) == 64 and not table.stand_in


def test_a_zero_is_blank_in_the_middle_and_a_one_is_not():
    table = tabular.digits()
    middle = table.X.reshape(-1, 8, 8)[:, 3:5, 3:5].mean(axis=(1, 2))
    assert middle[table.y == 0].mean() < 2 < 10 < middle[table.y == 1].mean()


def as_file(table):
    """The table as the bytes of the Cleveland file."""
    rows = [
        ["?" if np.isnan(value) else f"{value:.1f}" for value in x] + [str(grade)]
        for x, grade in zip(table.X, table.y, strict=True)
    ]
    return "".join(",".join(row) + "\n" for row in rows).encode()


def check_heart(table):
    """Assert the form that heart_disease documents; gaps may be other ones."""
    assert (table.X.shape, table.X.dtype) == ((303, 13), np.float64)
    assert (table.y.shape, table.y.dtype) == ((303,), np.int64)
    assert set(table.y) <= {0, 1}
    assert not np.isnan(table.X[:, :-2]).any()
    codes = {
        "male": {0, 1},
        "chest_pain_type": {1, 2, 3, 4},
        "fasting_glucose_above_120_mg_dl": {0, 1},
        "resting_ecg": {0, 1, 2},
        "exercise_angina": {0, 1},
        "st_slope": {1, 2, 3},
        "vessels_on_fluoroscopy": {0, 1, 2, 3},
        "thallium_defect": {3, 6, 7},
    }
    for name, known in codes.items():
        values = column(table, name)
        assert set(values[~np.isnan(values)]) <= known, name
    ranges = {
        "age_years": (1, 120),
        "resting_blood_pressure_mm_hg": (50, 300),
        "cholesterol_mg_dl": (50, 1000),
        "max_heart_rate_per_min": (30, 250),
        "st_depression_mm": (0, 10),
    }
    for name, (low, high) in ranges.items():
        assert low <= column(table, name).min(), name
        assert column(table, name).max() <= high, name


def gaps(table):
    """How many values are missing, by column that misses any."""
    missing = np.isnan(table.X).sum(axis=0)
    return {n: int(k) for n, k in zip(table.feature_names, missing, strict=True) if k}


def test_the_simulated_table_keeps_what_it_says():
    table = tabular.simulated_heart_disease()
    check_heart(table)
    assert gaps(table) == {"vessels_on_fluoroscopy": 4, "thallium_defect": 2}
    assert table.y.sum() == 139 and table.stand_in
    assert column(table, "age_years").min() >= 29
    assert column(table, "st_depression_mm").max() <= 6.2


def test_the_simulated_risk_goes_the_documented_way_with_every_feature():
    table = tabular.simulated_heart_disease()
    X = table.X.copy()
    chest_pain = table.feature_names.index("chest_pain_type")
    X[:, chest_pain] = X[:, chest_pain] == 4
    sick, well = (np.nanmean(X[table.y == y], axis=0) for y in (1, 0))
    falls = [
        name
        for name, up in zip(table.feature_names, sick > well, strict=True)
        if not up
    ]
    assert falls == ["max_heart_rate_per_min"]


def test_the_simulated_table_is_the_same_whatever_the_seed(monkeypatch):
    first = tabular.simulated_heart_disease()
    monkeypatch.setenv("HEALTHBOOK_SEED", "4")
    np.random.default_rng(4).random()
    second = tabular.simulated_heart_disease()
    assert as_file(first) == as_file(second)
    # the first row by value: a changed draw is a changed set
    assert as_file(first).split(b"\n")[0] == (
        b"70.0,1.0,4.0,96.0,231.0,0.0,0.0,122.0,0.0,2.4,1.0,2.0,3.0,0"
    )


def test_writing_and_reading_give_the_table_back():
    table = tabular.simulated_heart_disease()
    X, y = tabular._read_heart(as_file(table))
    assert np.array_equal(X, table.X, equal_nan=True)
    assert np.array_equal(y, table.y)


def test_any_grade_of_disease_is_the_event():
    lines = as_file(tabular.simulated_heart_disease()).split(b"\n")
    for row, grade in enumerate(b"01234"):
        lines[row] = lines[row][:-1] + bytes([grade])
    assert list(tabular._read_heart(b"\n".join(lines))[1][:5]) == [0, 1, 1, 1, 1]


def corrupt_line(line, replacement):
    lines = as_file(tabular.simulated_heart_disease()).split(b"\n")
    lines[line - 1] = replacement
    return b"\n".join(lines)


GOOD = b"63.0,1.0,1.0,145.0,233.0,1.0,2.0,150.0,0.0,2.3,3.0,0.0,6.0,0"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file: expected 303 lines, found 1"),
        (b"<html>", "the file: expected 303 lines, found 1"),
        (corrupt_line(1, GOOD + b"\n" + GOOD), "expected 303 lines, found 304"),
        (corrupt_line(2, GOOD[5:]), "line 2: expected 14 columns, found 13"),
        (corrupt_line(2, GOOD + b",0"), "line 2: expected 14 columns, found 15"),
        (corrupt_line(3, b""), "line 3: expected 14 columns, found 1"),
        (corrupt_line(4, GOOD + b"\r"), r"line 4, column grade.*found '0\\r'"),
        (corrupt_line(5, GOOD[:-1] + b"5"), "column grade.*0, 1, 2, 3, 4, found '5'"),
        (
            corrupt_line(6, GOOD.replace(b"233.0", b"many")),
            r"line 6, column cholesterol_mg_dl: expected one of 50\.0, 51\.0, \.\.\., "
            r"1000\.0, found 'many'; delete the file and fetch https://archive",
        ),
        (corrupt_line(7, GOOD.replace(b"63.0", b"?")), "column age_years.*found '?'"),
        (corrupt_line(7, GOOD.replace(b"63.0", b"nan")), "age_years.*found 'nan'"),
        (corrupt_line(7, GOOD.replace(b"63.0", b"6_3")), "age_years.*found '6_3'"),
        (corrupt_line(7, GOOD.replace(b"63.0", b"630.0")), "age_years.*'630.0'"),
        (corrupt_line(8, GOOD.replace(b",6.0,", b",5.0,")), "thallium_defect.*'5.0'"),
        (corrupt_line(1, GOOD + b"\xff"), "expected ASCII text, found b'.xff'"),
    ],
)
def test_a_file_in_another_form_is_refused(content, message):
    with pytest.raises(ValueError, match=message):
        tabular._read_heart(content)


def contents():
    """The files to corrupt: the simulated one, and the real one where it is."""
    return [
        pytest.param(as_file(tabular.simulated_heart_disease()), id="simulated"),
        pytest.param(
            (Path(MIRROR) / FILE).read_bytes() if MIRROR else None,
            id="real",
            marks=needs_mirror,
        ),
    ]


FAULTS = st.tuples(
    st.sampled_from(["flip", "delete", "insert", "truncate", "double"]),
    st.integers(0, 20000),
    st.integers(1, 3) | st.integers(1, 200),
    st.text("0123456789.,?\n", min_size=1, max_size=3).map(str.encode)
    | st.binary(min_size=1, max_size=9),
)


def corrupted(content, faults):
    """The bytes with each fault in them, one after the other."""
    for kind, place, length, new in faults:
        at = place % (len(content) + 1)
        before, chunk, rest = content[:at], content[at:][:length], content[at:][length:]
        content = (
            before
            + {
                "flip": new + content[at + len(new) :],
                "delete": rest,
                "insert": new + chunk + rest,
                "truncate": b"",
                "double": chunk + chunk + rest,
            }[kind]
        )
    return content


@pytest.mark.parametrize("content", contents())
@settings(max_examples=1000, deadline=None)
@given(faults=st.lists(FAULTS, min_size=1, max_size=3))
def test_a_corrupted_file_is_read_in_the_documented_form_or_refused(content, faults):
    try:
        X, y = tabular._read_heart(corrupted(content, faults))
    except ValueError as error:
        assert str(error).startswith(f"{FILE}, ") and "anew" in str(error)
    else:
        check_heart(tabular.simulated_heart_disease()._replace(X=X, y=y))


@needs_mirror
@settings(max_examples=1000, deadline=None)
@given(faults=st.lists(FAULTS, min_size=1, max_size=3))
def test_the_loader_serves_the_right_file_or_none(tmp_path_factory, faults):
    folder = tmp_path_factory.getbasetemp() / "mirror"
    folder.mkdir(exist_ok=True)
    right = (Path(MIRROR) / FILE).read_bytes()
    served = corrupted(right, faults)
    (folder / FILE).write_bytes(served)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HEALTHBOOK_DATA", str(folder))
        if served == right:
            assert tabular.heart_disease().y.sum() == 139
        else:
            with pytest.raises(WrongFile, match=f"{FILE} is not the file"):
                tabular.heart_disease()


@needs_mirror
def test_the_real_table_is_as_documented():
    table = tabular.heart_disease()
    check_heart(table)
    assert gaps(table) == {"vessels_on_fluoroscopy": 4, "thallium_defect": 2}
    assert table.y.sum() == 139 and not table.stand_in
    age, male = column(table, "age_years"), column(table, "male")
    assert (age.min(), age.max(), male.sum()) == (29, 77, 206)
    assert column(table, "st_depression_mm").max() == 6.2
    painless = column(table, "chest_pain_type") == 4
    assert (painless.sum(), table.y[painless].sum()) == (144, 105)


def test_what_is_not_served_is_stood_in_for_and_said(monkeypatch, capsys):
    monkeypatch.delenv("HEALTHBOOK_DATA", raising=False)
    table = tabular.heart_disease()
    assert table.stand_in
    assert table.feature_names == tabular.simulated_heart_disease().feature_names
    line = "Stand-in data: a simulated table instead of Cleveland heart disease"
    assert line in capsys.readouterr().out


def test_what_is_served_wrong_is_refused_and_not_stood_in_for(monkeypatch, tmp_path):
    monkeypatch.setenv("HEALTHBOOK_DATA", str(tmp_path))
    (tmp_path / FILE).write_bytes(as_file(tabular.simulated_heart_disease()))
    with pytest.raises(WrongFile, match="is not the file that the book knows"):
        tabular.heart_disease()
