import re
from datetime import datetime

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression

from helpers.data import hospital

KEYS = {"patients": "patient_id", "visits": "visit_id", "labs": "lab_id"}
CLEAN = {"age_years": "age", "temperature_c": "temperature", "weight_kg": "weight"}
FORMATS = {"-": "%Y-%m-%d", ".": "%d.%m.%Y", "/": "%m/%d/%Y"}


@pytest.fixture(scope="module")
def messy():
    return hospital.messy_hospital(1200, np.random.default_rng(0))


@pytest.fixture(scope="module")
def raw(messy):
    """The exports without their repeated rows, by key."""
    return {
        table: getattr(messy, table).drop_duplicates(key).set_index(key, drop=False)
        for table, key in KEYS.items()
    }


@pytest.fixture(scope="module")
def true(messy):
    """What the truth says of each exported cell, by key."""
    truth = messy.truth
    people = truth.patients.assign(key=truth.patients["patient_id"])
    second = truth.links.merge(truth.patients, on="patient_id")
    people = pd.concat([people, second.rename(columns={"second_id": "key"})])
    visits = truth.visits.rename(columns=CLEAN)
    visits = visits.assign(temperature_unit="°C", weight_unit="kg")
    return {
        "patients": people.set_index("key").rename_axis(None),
        "visits": visits.set_index("visit_id", drop=False),
        "labs": truth.labs.set_index("lab_id", drop=False),
    }


@pytest.fixture(scope="module")
def log(messy):
    return messy.truth.log.query("column != ''")


def cells(log, kind, raw, true):
    """(exported cell, logged true value, true row) of each mess of the kind."""
    rows = log[log["kind"] == kind]
    assert len(rows) > 0
    for table, part in rows.groupby("table"):
        truth = true[table].loc[part["row_key"]].to_dict("records")
        for key, column, value, row in zip(
            part["row_key"], part["column"], part["true_value"], truth, strict=True
        ):
            yield raw[table].at[key, column], value, row


def date(text):
    return datetime.strptime(text, FORMATS[re.search(r"\D", text)[0]])


def plain(true):
    """A true cell as an orderly system would write it; numbers as numbers."""
    return f"{true:%Y-%m-%d}" if isinstance(true, pd.Timestamp) else true


def agrees(raw, true):
    if isinstance(true, str):
        return raw == true
    return bool(re.fullmatch(r"\d+(\.\d+)?", str(raw))) and float(raw) == true


def test_the_log_holds_every_deviation_and_nothing_else(raw, true, log):
    found = set()
    for table, frame in raw.items():
        truth = true[table].loc[frame.index]
        for column in frame:
            pairs = zip(
                frame.index, frame[column], map(plain, truth[column]), strict=True
            )
            found |= {(table, k, column) for k, r, t in pairs if not agrees(r, t)}
    logged = list(zip(log["table"], log["row_key"], log["column"], strict=True))
    assert len(set(logged)) == len(logged)  # a cell has at most one mess
    assert set(logged) == found


def test_the_log_knows_the_true_value(true, log):
    for table, key, column, value in log[
        ["table", "row_key", "column", "true_value"]
    ].itertuples(index=False):
        assert agrees(value, plain(true[table].at[key, column]))


def test_repeated_rows_are_exact_copies_and_all_are_logged(messy):
    log = messy.truth.log.query("kind == 'repeated row'")
    assert (log["column"] == "").all() and log["true_value"].isna().all()
    for table, key in KEYS.items():
        frame = getattr(messy, table)
        copies = frame[frame.duplicated(key)]
        assert frame.duplicated().sum() == len(copies) > 0
        assert sorted(copies[key]) == sorted(log.loc[log["table"] == table, "row_key"])


def test_dates_are_right_in_another_format(raw, true, log):
    signs = set()
    for cell, value, _ in cells(log, "date format", raw, true):
        assert cell != value and date(cell) == date(value)
        signs.add(cell[2])
    assert signs == {".", "/"}


def test_impossible_dates_keep_the_year(raw, true, log):
    for cell, value, _ in cells(log, "impossible date", raw, true):
        assert cell[:4] == value[:4]
        with pytest.raises(ValueError, match="day"):
            date(cell)


def test_sex_is_recoded_and_not_changed(raw, true, log):
    codes = {("F", "female"), ("F", "2"), ("M", "male"), ("M", "1")}
    assert codes == {
        (value, cell) for cell, value, _ in cells(log, "sex code", raw, true)
    }


def test_second_units_are_the_same_quantity(raw, true, log):
    back = {
        "temperature": lambda v: (v - 32) / 1.8,
        "weight": lambda v: v * 0.45359,
        "creatinine": lambda v: v / 88.4,
        "glucose": lambda v: v * 18.02,
    }
    value = log[(log["kind"] == "unit") & ~log["column"].str.contains("unit")]
    assert {"temperature", "weight", "value"} == set(value["column"])
    for table, key, column, true_value in value[
        ["table", "row_key", "column", "true_value"]
    ].itertuples(index=False):
        row = raw[table].loc[key]
        measure = row["test"] if column == "value" else column
        assert back[measure](float(row[column])) == pytest.approx(
            float(true_value), abs=0.02 * float(true_value)
        )
        unit = row["unit" if column == "value" else f"{column}_unit"]
        assert unit in (hospital.SECOND_UNITS[measure][0], None)


@pytest.mark.parametrize("measure", ["creatinine", "glucose", "temperature"])
def test_without_a_unit_the_range_tells_it(raw, log, measure):
    table = "visits" if measure == "temperature" else "labs"
    frame = raw[table]
    column = measure if table == "visits" else "value"
    if table == "labs":
        frame = frame[frame["test"] == measure]
    kinds = log[(log["table"] == table) & (log["column"] == column)]
    kinds = kinds.set_index("row_key")["kind"].reindex(frame.index)
    second = frame.loc[kinds == "unit", column].astype(float)
    first = frame.loc[kinds.isna(), column].astype(float)
    assert second.min() > first.max() or second.max() < first.min()


def test_commas_and_impossible_values(raw, true, log):
    for cell, value, _ in cells(log, "decimal comma", raw, true):
        assert "." in value and cell == value.replace(".", ",")
    wrong = log[log["kind"] == "impossible value"]
    found = {
        (column, raw["visits"].at[key, column])
        for key, column in zip(wrong["row_key"], wrong["column"], strict=True)
    }
    assert {("age", "210"), ("weight", "0")} <= found
    assert all(c != "temperature" or float(v) >= 350 for c, v in found)


def test_below_detection_is_all_and_only_low_crp(messy, raw, true, log):
    for cell, value, row in cells(log, "below detection", raw, true):
        assert cell == "<0.3" and row["test"] == "CRP" and float(value) < 0.3
    low = messy.truth.labs.query("test == 'CRP' and value < 0.3")["lab_id"]
    assert raw["labs"].loc[low, "value"].isin(["<0.3", None]).all()


def test_second_ids_lead_to_one_person(messy, raw, true, log):
    links, people = messy.truth.links, raw["patients"]
    assert len(links) > 20 and links["second_id"].is_unique
    assert not links["second_id"].isin(messy.truth.patients["patient_id"]).any()
    for second, first in links.itertuples(index=False):
        person, record = true["patients"].loc[first], people.loc[second]
        birth = person["birth_date"]
        swapped = (
            birth.day != birth.month and record["birth_date"] == f"{birth:%Y-%d-%m}"
        )
        assert (record["name"] != person["name"]) != swapped
    runs_as_second = raw["visits"]["patient_id"].isin(links["second_id"])
    runs_as_first = raw["visits"]["patient_id"].isin(links["patient_id"])
    assert runs_as_second.sum() > 10 and runs_as_first.sum() > 10


def test_unknown_patients_are_in_no_record(raw, true, log):
    for cell, _, _ in cells(log, "unknown patient", raw, true):
        assert cell not in raw["patients"].index
    rest = set(raw["visits"]["patient_id"]) - set(raw["patients"].index)
    unknown = [cell for cell, _, _ in cells(log, "unknown patient", raw, true)]
    assert rest == set(unknown)
    assert set(raw["labs"]["patient_id"]) <= set(raw["patients"].index)


def test_discharge_before_admission(raw, true, log):
    for cell, _, row in cells(log, "discharge before admission", raw, true):
        assert date(cell) < row["admitted"]


def test_labs_outside_lie_in_no_visit_of_the_person(messy, raw, true, log):
    visits = dict(list(messy.truth.visits.groupby("patient_id")))
    for cell, _, row in cells(log, "outside any visit", raw, true):
        own = visits[row["patient_id"]]
        assert not (
            (own["admitted"] <= date(cell)) & (date(cell) <= own["discharged"])
        ).any()


def within(count, n, rate):
    return abs(count - n * rate) <= 4.5 * np.sqrt(n * rate * (1 - rate)) + 1


@pytest.mark.parametrize(
    ("column", "kind", "rate"),
    [(c, k, rate) for c, kinds in hospital.RATES.items() for k, rate in kinds.items()],
)
def test_messes_come_at_their_rate(messy, raw, log, column, kind, rate):
    table = "visits" if column == "patient_id" else None
    table = table or next(t for t, frame in raw.items() if column in frame)
    rows = raw[table]
    if (column, kind) == ("value", "decimal comma"):
        digits = {test: row[3] for test, row in hospital.TESTS.items()}
        rows = rows[rows["test"].map(digits) > 0]
    mine = log[(log["table"] == table) & (log["column"] == column)]
    if kind != "missing completely at random":  # these come first
        first = ["duplicate patient", "day and month swapped", "below detection"]
        rows = rows.drop(mine.loc[mine["kind"].isin(first), "row_key"], errors="ignore")
    assert within((mine["kind"] == kind).sum(), len(rows), rate)


def test_other_rates(messy, raw, log):
    for table, column in (("visits", "temperature_unit"), ("labs", "unit")):
        empty = raw[table][column].isna().sum()
        assert within(empty, len(raw[table]), hospital.NO_UNIT)
    for test in ("creatinine", "glucose"):
        keys = raw["labs"].index[raw["labs"]["test"] == test]
        converted = log.query("kind == 'unit' and column == 'value'")["row_key"].isin(
            keys
        )
        assert within(converted.sum(), len(keys), hospital.LAB_UNIT)
    assert within(len(messy.truth.links), 1200, hospital.DUPLICATES)
    copies = len(messy.labs) - len(raw["labs"])
    assert within(copies, len(raw["labs"]), hospital.REPEATED)


def test_values_are_missing_for_the_stated_reasons(messy, raw, log):
    for admission, rate in hospital.MISSING_WEIGHT.items():
        weight = raw["visits"].loc[
            messy.truth.visits["admission"].to_numpy() == admission
        ]
        assert within(weight["weight"].isna().sum(), len(weight), rate)
    creatinine = messy.truth.labs.query("test == 'creatinine'")
    gone = creatinine["lab_id"].isin(log.query("kind == 'missing by value'")["row_key"])
    low = creatinine["value"] < 1
    assert within(gone[low].sum(), low.sum(), hospital.MISSING_CREATININE["below 1.0"])
    assert within(
        gone[~low].sum(), (~low).sum(), hospital.MISSING_CREATININE["from 1.0"]
    )


def test_truth_is_clean(messy):
    truth = messy.truth
    for table, key in KEYS.items():
        frame = getattr(truth, table)
        assert frame[key].is_unique and frame.notna().all().all()
    assert set(truth.visits["patient_id"]) == set(truth.patients["patient_id"])
    stay = truth.visits["discharged"] - truth.visits["admitted"]
    assert stay.dt.days.between(1, 45).all()
    assert truth.visits["age_years"].between(18, 110).all()
    assert truth.visits["temperature_c"].between(35, 41).all()
    assert truth.visits["weight_kg"].between(38, 140).all()
    labs = truth.labs.merge(truth.visits, on=["visit_id", "patient_id"], validate="m:1")
    assert len(labs) == len(truth.labs) == len(truth.visits) * len(hospital.TESTS)
    assert labs["taken"].between(labs["admitted"], labs["discharged"]).all()
    age = truth.visits.merge(truth.patients, on="patient_id")
    years = (age["admitted"] - age["birth_date"]).dt.days / 365.25
    assert (years.astype(int) == age["age_years"]).all()


def test_readmission_is_what_the_visits_show(messy):
    visits = messy.truth.visits.sort_values(["patient_id", "admitted"])
    after = visits.groupby("patient_id")["admitted"].shift(-1) - visits["discharged"]
    assert not (after.dt.days < 1).any()
    assert (visits["readmitted_30d"] == after.dt.days.between(1, 30)).all()
    assert 0.12 < visits["readmitted_30d"].mean() < 0.3
    assert visits["patient_id"].value_counts().between(1, 60).all()


def test_a_model_finds_the_stated_effects():
    truth = hospital.messy_hospital(3000, np.random.default_rng(1)).truth
    visits, effects = truth.visits, truth.effects
    values = truth.labs.pivot(index="visit_id", columns="test", values="value")
    X = values.loc[visits["visit_id"], list(hospital.TESTS)]
    for test, (median, spread, *_) in hospital.TESTS.items():
        X[test] = np.log(X[test] / median) / spread
    stay = (visits["discharged"] - visits["admitted"]).dt.days.to_numpy()
    age = (visits["age_years"].to_numpy() - 65) / 15
    X = np.column_stack([age, np.log(stay / 5) / 0.6, X])
    y = visits["readmitted_30d"].to_numpy()
    model = LogisticRegression(C=1e6, max_iter=1000).fit(X, y)
    p = model.predict_proba(X)[:, 1]
    design = np.column_stack([np.ones(len(X)), X])
    variance = np.linalg.inv(design.T @ (design * (p * (1 - p))[:, None])).diagonal()
    gap = (model.coef_[0] - effects) / np.sqrt(variance[1:])
    assert (gap.abs() < 4).all(), gap
    assert (effects[["age_years", "stay_days", "creatinine", "glucose"]] > 0).all()
    assert (effects == 0).sum() >= 10


def test_exports_are_text_and_the_truth_is_typed(messy):
    for table in KEYS:
        types = getattr(messy, table).drop(columns="readmitted_30d", errors="ignore")
        assert all(dtype.kind == "O" for dtype in types.dtypes)
        kinds = {type(v) for column in types for v in types[column]}
        assert kinds <= {str, type(None)}
    assert messy.visits["readmitted_30d"].dtype == np.int64
    truth = messy.truth
    assert truth.patients["birth_date"].dtype == truth.labs["taken"].dtype == "M8[ns]"
    assert truth.visits["age_years"].dtype == np.int64
    assert truth.labs["value"].dtype == truth.visits["weight_kg"].dtype == np.float64
    assert list(truth.log) == ["table", "row_key", "column", "kind", "true_value"]
    assert (messy.licence, messy.stand_in) == ("CC BY 4.0", False)


def test_the_seed_decides():
    one, same, other = (
        hospital.messy_hospital(30, np.random.default_rng(seed)) for seed in (1, 1, 2)
    )
    for a, b in zip(
        (*one[:3], *one.truth[:5]), (*same[:3], *same.truth[:5]), strict=True
    ):
        pd.testing.assert_frame_equal(a, b)
    assert not one.patients.equals(other.patients)


@pytest.mark.parametrize("seed", range(5))
def test_a_small_hospital_stands(seed):
    small = hospital.messy_hospital(20, np.random.default_rng(seed))
    assert len(small.truth.patients) == 20 <= len(small.patients)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((19, np.random.default_rng(0)), ValueError, "at least 20, got 19"),
        ((30.0, np.random.default_rng(0)), TypeError, "whole number, got 30.0"),
        ((True, np.random.default_rng(0)), TypeError, "whole number, got True"),
        ((30, 0), TypeError, "numpy.random.Generator, got int: make one by"),
    ],
)
def test_messy_hospital_refuses_what_it_cannot_use(arguments, error, message):
    with pytest.raises(error, match=message):
        hospital.messy_hospital(*arguments)
