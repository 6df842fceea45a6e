import io
from importlib import metadata

import numpy as np
import pandas as pd
import pytest

from helpers.data import trials


@pytest.fixture(scope="module")
def trial():
    return trials.actg175()


@pytest.fixture(scope="module")
def raw():
    """The file as lifelines ships it."""
    return pd.read_csv(io.BytesIO(trials._content()))


def test_every_field_has_the_documented_form(trial):
    n = 2139
    assert (trial.baseline.shape, trial.later.shape) == ((n, 15), (n, 5))
    for name in ("patient_id", "arm", "time_days", "event"):
        values = getattr(trial, name)
        assert (values.shape, values.dtype) == ((n,), np.int64), name
    assert len(set(trial.patient_id)) == n
    assert set(trial.arm) == {0, 1, 2, 3} and len(trial.arm_names) == 4
    assert set(trial.event) == {0, 1}
    assert not trial.stand_in


def test_the_groups_are_as_large_as_documented(trial):
    assert list(np.bincount(trial.arm)) == [532, 522, 524, 561]
    assert trial.event.sum() == 521
    assert (trial.baseline["male"] == 0).sum() == 368
    assert trial.baseline["non_white"].sum() == 617
    age, karnofsky = trial.baseline["age_years"], trial.baseline["karnofsky_score"]
    assert (age.min(), age.max()) == (12, 70)
    assert (karnofsky.min(), karnofsky.max()) == (70, 100)


def test_the_event_is_progression_most_frequent_under_zidovudine_alone(trial):
    # about the published shares (32, 18, 20 and 22 % of all randomised); were the
    # coding of event or arm turned round, they would be elsewhere
    shares = [trial.event[trial.arm == arm].mean() for arm in range(4)]
    assert np.allclose(shares, [0.32, 0.18, 0.20, 0.22], atol=0.025)
    assert trial.arm_names[0] == "zidovudine"


def test_who_had_the_event_was_followed_for_less_long(trial):
    days = trial.time_days
    assert (days.min(), days.max()) == (14, 1231)
    assert days[trial.event == 1].mean() < days[trial.event == 0].mean() - 200


def test_198_patients_are_censored_before_two_years(trial):
    assert ((trial.event == 0) & (trial.time_days < 730)).sum() == 198


def test_the_only_gaps_are_the_797_counts_of_week_96(trial):
    counts = trial.later["cd4_week_96_per_mm3"]
    assert counts.isna().sum() == 797
    assert trial.baseline.notna().all(axis=None)
    assert trial.later.drop(columns=counts.name).notna().all(axis=None)
    assert (trial.later["cd4_week_96_counted"] == counts.notna()).all()


def test_the_gaps_are_not_by_chance(trial):
    off = trial.later["off_treatment_before_week_96"] == 1
    gap = trial.later["cd4_week_96_per_mm3"].isna()
    assert gap[off].mean() == pytest.approx(0.66, abs=0.005)
    assert gap[~off].mean() == pytest.approx(0.21, abs=0.005)


def test_nothing_that_is_known_only_later_stands_in_the_baseline(trial, raw):
    for name in ("cd420", "cd820", "cd496", "offtrt", "r", "cens", "days"):
        assert not any(raw[name].equals(trial.baseline[c]) for c in trial.baseline)
    assert (trial.time_days < 140).sum() == 21


def test_the_baseline_contradicts_itself_where_documented(trial):
    cd4 = trial.baseline["cd4_per_mm3"]
    assert [(cd4 < 200).sum(), (cd4 > 500).sum(), (cd4 == 0).sum()] == [164, 213, 3]
    days = trial.baseline["antiretroviral_before_days"]
    stratum = trial.baseline["antiretroviral_stratum"]
    up_to_a_year, longer = (stratum == 2) & (days > 366), (stratum == 3) & (days <= 364)
    assert (up_to_a_year | longer).sum() == 11


def test_every_column_of_the_file_is_passed_on_or_left_out_for_a_reason(raw):
    known = {**trials._BASELINE, **trials._LATER}
    elsewhere = {"pidnum", "arms", "days", "cens"}
    left_out = set(raw.columns[1:]) - set(known) - elsewhere
    assert left_out == {"zprior", "treat", "str2"}
    assert (raw["zprior"] == 1).all() and (raw["strat"] == 1).sum() == 886
    assert (raw["treat"] == (raw["arms"] > 0)).all()
    assert (raw["str2"] == (raw["strat"] > 1)).all()


def test_the_docstring_maps_every_column_to_its_name_in_the_file():
    text = " ".join(trials.actg175.__doc__.split())
    for old, new in {**trials._BASELINE, **trials._LATER}.items():
        assert f"{new} ({old})" in text or f"{new} (the file's {old})" in text, new


def test_columns_bear_the_values_of_the_file(trial, raw):
    first = trial.baseline.iloc[0]
    # row 1 of the file: 48 years, 89.8 kg, a white woman, CD4 422, CD8 566
    assert (first["age_years"], first["weight_kg"]) == (48, 89.8128)
    assert (first["male"], first["non_white"]) == (0, 0)
    assert (first["cd4_per_mm3"], first["cd8_per_mm3"]) == (422, 566)
    later = trial.later.iloc[0]
    assert list(later) == [477, 324, 660, 1, 0]
    assert (trial.time_days[0], trial.event[0], trial.arm[0]) == (948, 0, 2)


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda content: content.replace(b',"cd496"', b"", 1), "found [0-9a-f]{64}; "),
        (lambda content: content[:-9], "found [0-9a-f]{64}; "),
        (lambda content: b"", "found no such file; "),
        (None, "found no such file; "),
    ],
)
def test_a_wheel_with_another_file_is_refused(monkeypatch, tmp_path, change, found):
    class Wheel:
        version = "9.9"

        def locate_file(self, name):
            return tmp_path / name

    if change:
        path = tmp_path / trials._FILE
        path.parent.mkdir(parents=True)
        path.write_bytes(change(trials._content()))
    monkeypatch.setattr(metadata, "distribution", lambda name: Wheel())
    message = rf"ACTG175.csv in lifelines 9\.9: expected .*{found}install the lifelines"
    with pytest.raises(ValueError, match=message):
        trials.actg175()
