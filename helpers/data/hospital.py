"""A hospital whose three systems export what they hold, and the truth behind it.

Introduced in: challenges/data_quality
"""

from typing import NamedTuple

import numpy as np

from helpers.data.text import check, misspell

# median, spread of its logarithm, unit, decimals; and the log odds of readmission for
# one spread above the median: 0 where a test has nothing to do with it
TESTS = {
    "creatinine": (1.0, 0.35, "mg/dL", 2, 0.50),
    "glucose": (112, 0.28, "mg/dL", 0, 0.40),
    "haemoglobin": (12.8, 0.13, "g/dL", 1, -0.30),
    "sodium": (139, 0.027, "mmol/L", 0, -0.25),
    "potassium": (4.2, 0.11, "mmol/L", 1, 0),
    "calcium": (9.2, 0.06, "mg/dL", 1, 0),
    "magnesium": (2.0, 0.10, "mg/dL", 1, 0),
    "phosphate": (3.4, 0.18, "mg/dL", 1, 0),
    "uric acid": (5.6, 0.25, "mg/dL", 1, 0.12),
    "albumin": (3.9, 0.10, "g/dL", 1, -0.15),
    "bilirubin": (0.7, 0.45, "mg/dL", 1, 0),
    "ALT": (26, 0.50, "U/L", 0, 0),
    "lipase": (35, 0.45, "U/L", 0, 0),
    "CRP": (1.0, 1.10, "mg/dL", 2, 0),
    "white cells": (8.0, 0.30, "10^9/L", 1, 0),
    "platelets": (240, 0.28, "10^9/L", 0, 0),
    "ferritin": (120, 0.85, "µg/L", 0, 0),
    "vitamin B12": (400, 0.40, "pg/mL", 0, 0),
    "TSH": (1.8, 0.55, "mU/L", 2, 0),
    "cholesterol": (185, 0.20, "mg/dL", 0, 0),
}
AGE, STAY, BASE = 0.40, 0.40, -1.8  # for 15 years above 65; one spread above; intercept
SAME_PERSON = 0.5  # share of a test's variance that lies between patients
LATER = 0.35  # P(another visit after more than 30 days | not readmitted before)

# Shares of the cells of a column; a cell has at most one mess.
RATES = {
    "sex": {"missing completely at random": 0.02, "sex code": 0.40},
    "birth_date": {"impossible date": 0.01, "date format": 0.30},
    "patient_id": {"unknown patient": 0.01},  # in visits
    "admitted": {"date format": 0.30},
    "discharged": {"discharge before admission": 0.01, "date format": 0.30},
    "age": {"impossible value": 0.005},
    "temperature": {
        "missing completely at random": 0.04,
        "impossible value": 0.005,
        "unit": 0.15,
        "decimal comma": 0.08,
    },
    "weight": {"impossible value": 0.005, "unit": 0.15, "decimal comma": 0.08},
    "taken": {"outside any visit": 0.01, "date format": 0.30},
    "value": {"missing completely at random": 0.02, "decimal comma": 0.08},
}
NO_UNIT = 0.05  # share of the cells of each unit column that are empty
LAB_UNIT = 0.20  # share of creatinine and glucose in the second unit
MISSING_WEIGHT = {"emergency": 0.30, "planned": 0.05}  # depends on a known variable
MISSING_CREATININE = {"below 1.0": 0.25, "from 1.0": 0.05}  # depends on its own value
DETECTION = 0.3  # mg/dL of CRP; a lower value is exported as "<0.3"
DUPLICATES = 0.04  # share of the patients with a second id, in half of their visits
REPEATED = 0.01  # share of the rows of each table that stand there twice

SECOND_UNITS = {  # unit, factor, shift, decimals
    "temperature": ("°F", 1.8, 32, 1),
    "weight": ("lb", 2.2046, 0, 1),
    "creatinine": ("µmol/L", 88.4, 0, 0),
    "glucose": ("mmol/L", 1 / 18.02, 0, 1),
}
SEX = {"F": ("female", "2"), "M": ("male", "1")}
SYLLABLES = "vro kli zeb dru fyn gwo pel sna tiv mox ruk dov quo hes jor bax".split()


class Truth(NamedTuple):
    """What the messy tables should have said.

    patients: DataFrame, a row a person: patient_id, name, sex (F or M), birth_date
    visits: DataFrame: visit_id, patient_id, admission (emergency or planned), admitted,
        discharged, age_years (int64), temperature_c, weight_kg, readmitted_30d (int64)
    labs: DataFrame: lab_id, patient_id, visit_id, taken, test, value, unit (that of
        TESTS throughout)
    links: DataFrame: second_id, patient_id; two ids of one person
    log: DataFrame, a row a mess: table, row_key, column ("" for a whole row), kind,
        true_value (text; None for a whole row)
    effects: Series, log odds of readmission for one spread of each test and of the
        stay, and for 15 years of age; 0 for a test that is not associated
    """

    patients: object
    visits: object
    labs: object
    links: object
    log: object
    effects: object


class Hospital(NamedTuple):
    """Three tables as exported: every cell is text or None, but readmitted_30d.

    patients: DataFrame: patient_id, name, sex, birth_date
    visits: DataFrame: visit_id, patient_id, admission, admitted, discharged, age,
        temperature, temperature_unit, weight, weight_unit, readmitted_30d (int64,
        1 = the same person is admitted again 1 to 30 days after this discharge)
    labs: DataFrame: lab_id, patient_id, taken, test, value, unit
    truth: Truth
    licence: str
    citation: str
    stand_in: bool, False: the tables replace no other set
    """

    patients: object
    visits: object
    labs: object
    truth: Truth
    licence: str
    citation: str
    stand_in: bool


def messy_hospital(n_patients, rng):
    """Simulate what three systems of a hospital export, and the truth behind it.

    Adults first admitted from 2015 to 2019, about two visits each, 20 tests a visit.
    Dates are 2016-03-09, or 09.03.2016 (day first), or 03/09/2016 (month first); sex
    is M or F, male or female, 1 (male) or 2. Row keys are right; an id that links two
    tables may be wrong. A missing unit shows in the range of the value, but not in
    every weight.

    n_patients: int, at least 20
    rng: numpy.random.Generator
    Returns: Hospital
    Raises: ValueError or TypeError if an argument is not as above
    Keeps: the messes of real exports, at the rates above; values missing by chance, by
        a known variable and by themselves; units, formats and ids that contradict each
        other; visits of a person that resemble each other; an outcome that depends on
        age, stay and six of twenty tests, on two of them weakly.
    Does not keep: tests that depend on each other, on age, sex or illness (here CRP
        says nothing); messes that pile up in a ward or a year, two in one cell; tests
        ordered for a reason; death, transfer, an end of observation; hours; real rates
        of readmission and of messes.
    Source: written for this book; haemoglobin, sodium and length of stay also stand in
        the score for readmission of Donzé et al. (2013),
        doi 10.1001/jamainternmed.2013.3023. Introduced in: challenges/data_quality
    """
    import pandas as pd

    check(n_patients, 20, rng)
    people = _people(n_patients, rng)
    visits, z = _visits(people, rng)
    labs = _labs(visits, z, rng)
    records, raw_id = _second_ids(people, visits, rng)
    exports = (
        _export_patients(records, rng),
        _export_visits(visits, raw_id, rng),
        _export_labs(labs, visits, raw_id, rng),
    )
    tables = [export.table() for export in exports]
    entries = [entry for export in exports for entry in export.entries]
    links = records.loc[records["raw_id"] != records["patient_id"]]
    return Hospital(
        *tables,
        truth=Truth(
            patients=people[["patient_id", "name", "sex", "birth_date"]],
            visits=visits,
            labs=labs,
            links=links[["second_id", "patient_id"]].reset_index(drop=True),
            log=pd.concat(entries, ignore_index=True),
            effects=_effects(),
        ),
        licence="CC BY 4.0",
        citation="simulated for Neural Networks for Healthcare, in Python",
        stand_in=False,
    )


def _effects():
    import pandas as pd

    tests = {test: float(row[4]) for test, row in TESTS.items()}
    return pd.Series({"age_years": AGE, "stay_days": STAY} | tests)


def _people(n, rng):
    import pandas as pd

    admitted = np.datetime64("2015-01-01") + rng.integers(0, 5 * 365, n)
    age_days = np.ceil(365.25 * rng.normal(66, 15, n).clip(18, 95)).astype(int)
    sex = rng.choice(["F", "M"], n)
    part = np.array(SYLLABLES)[rng.integers(0, len(SYLLABLES), (n, 5))]
    ids = [f"P{k}" for k in 100000 + rng.permutation(2 * n)]
    return pd.DataFrame(
        {
            "patient_id": ids[:n],
            "second_id": ids[n:],
            "name": [f"{a}{b} {c}{d}{e}".title() for a, b, c, d, e in part],
            "sex": sex,
            "birth_date": (admitted - age_days).astype("datetime64[ns]"),
            "admitted": admitted,
            "weight_kg": rng.normal(np.where(sex == "M", 84, 71), 12).clip(45, 130),
        }
    )


def _stays(people, rng):
    """Person, first day, length, age, outcome and (n, n_tests) state of each stay.

    Whether a patient comes again within 30 days follows from the state in this stay.
    """
    slopes = _effects().to_numpy()[2:]
    own = rng.standard_normal((len(people), len(TESTS)))
    birth = people["birth_date"].to_numpy("datetime64[D]")
    person, day = np.arange(len(people)), people["admitted"].to_numpy("datetime64[D]")
    while len(person):
        n = len(person)
        noise = rng.standard_normal((n, len(TESTS)))
        z = np.sqrt(SAME_PERSON) * own[person] + np.sqrt(1 - SAME_PERSON) * noise
        z_stay, z = rng.standard_normal(n), z.clip(-3, 3)
        stay = np.rint(5 * np.exp(0.6 * z_stay)).clip(1, 45).astype(int)
        age = (day - birth[person]).astype(int) / 365.25
        log_odds = BASE + AGE * (age - 65) / 15 + STAY * z_stay + z @ slopes
        back = rng.random(n) < 1 / (1 + np.exp(-log_odds))
        yield person, day, stay, age, back, z
        gap = np.where(back, rng.integers(1, 31, n), rng.integers(31, 500, n))
        again = back | (rng.random(n) < LATER)
        person, day = person[again], (day + stay + gap)[again]


def _visits(people, rng):
    import pandas as pd

    columns = zip(*_stays(people, rng), strict=True)
    person, day, stay, age, back, z = map(np.concatenate, columns)
    n, kg = len(person), people["weight_kg"].to_numpy()[person]
    visits = pd.DataFrame(
        {
            "patient_id": people["patient_id"].to_numpy()[person],
            "admission": rng.choice(["emergency", "planned"], n, p=[0.65, 0.35]),
            "admitted": day.astype("datetime64[ns]"),
            "discharged": (day + stay).astype("datetime64[ns]"),
            "age_years": age.astype("int64"),
            "temperature_c": rng.normal(37, 0.6, n).clip(35.2, 40.5).round(1),
            "weight_kg": (kg + rng.normal(0, 1.5, n)).round(1),
            "readmitted_30d": back.astype("int64"),
        }
    )
    order = np.lexsort([person, day])
    visits = visits.iloc[order].reset_index(drop=True)
    visits.insert(0, "visit_id", [f"V{k}" for k in range(100000, 100000 + n)])
    return visits, z[order]


def _labs(visits, z, rng):
    import pandas as pd

    n, k = z.shape
    median, spread, unit, digits, _ = map(np.array, zip(*TESTS.values(), strict=True))
    values = median * np.exp(spread * z)
    stay = (visits["discharged"] - visits["admitted"]).dt.days.to_numpy()[:, None]
    after = np.floor(rng.random((n, k)) * (stay + 1)).astype("timedelta64[D]")
    taken = visits["admitted"].to_numpy()[:, None] + after
    return pd.DataFrame(
        {
            "lab_id": [f"L{i}" for i in range(1000000, 1000000 + n * k)],
            "patient_id": np.repeat(visits["patient_id"].to_numpy(), k),
            "visit_id": np.repeat(visits["visit_id"].to_numpy(), k),
            "taken": taken.ravel(),
            "test": np.tile([*TESTS], n),
            "value": np.stack(
                [v.round(d) for v, d in zip(values.T, digits, strict=True)], axis=1
            ).ravel(),
            "unit": np.tile(unit, n),
        }
    )


class _Export:
    """A table as a system exports it: text, spoilt column by column, and the log.

    truth: DataFrame of text, its index the key; columns: those that are exported
    """

    def __init__(self, name, truth, columns, rng):
        self.name, self.truth, self.rng, self.entries = name, truth, rng, []
        self.cells = {column: truth[column].to_numpy(copy=True) for column in columns}

    def note(self, column, kind, rows):
        """Log a mess in the rows, (n,) bool; column "" means the whole row."""
        import pandas as pd

        true = self.truth.loc[rows, column].to_numpy() if column else None
        entry = {"table": self.name, "row_key": self.truth.index[rows]}
        entry |= {"column": column, "kind": kind, "true_value": true}
        self.entries.append(pd.DataFrame(entry))

    def put(self, column, kind, rows, values):
        """Replace the cells of the rows, and log it."""
        self.cells[column][rows] = values
        self.note(column, kind, rows)

    def draw(self, column, rates):
        """Spoil a column: each cell at most once, each kind at its rate.

        rates: dict, kind: float or (n,) array
        Returns: (n,) bool, the rows in a second unit
        """
        u, start = self.rng.random(len(self.truth)), np.zeros(len(self.truth))
        second = np.zeros(len(u), dtype=bool)
        for kind, rate in rates.items():
            rows, start = (u >= start) & (u < start + rate), start + rate
            values = MESS[kind](self.truth[rows], column, self.rng)
            self.put(column, kind, rows, values)
            second |= rows & (kind == "unit")
        return second

    def units(self, column, second, measures):
        """Empty some cells of a unit column; name the second unit in the others."""
        empty = self.rng.random(len(self.truth)) < NO_UNIT
        self.put(column, "unit missing", empty, None)
        rows = second & ~empty
        self.put(column, "unit", rows, [SECOND_UNITS[m][0] for m in measures[rows]])

    def table(self):
        import pandas as pd

        table = pd.DataFrame(self.cells, index=self.truth.index)
        twice = self.rng.random(len(table)) < REPEATED
        self.note("", "repeated row", twice)
        return pd.concat([table, table[twice]]).sort_index(kind="stable").reset_index()


def _other_format(rows, column, rng):
    day_first = rng.random(len(rows)) < 0.5
    dates = (date.split("-") for date in rows[column])
    return [
        f"{day}.{month}.{year}" if first else f"{month}/{day}/{year}"
        for (year, month, day), first in zip(dates, day_first, strict=True)
    ]


def _sex_code(rows, column, rng):
    pick = rng.integers(0, 2, len(rows))
    return [SEX[sex][i] for sex, i in zip(rows[column], pick, strict=True)]


def _in_second_unit(rows, column, rng):
    measures = rows["test"] if column == "value" else [column] * len(rows)
    return [
        f"{float(value) * factor + shift:.{digits}f}"
        for value, (_, factor, shift, digits) in zip(
            rows[column], map(SECOND_UNITS.get, measures), strict=True
        )
    ]


def _impossible(rows, column, rng):
    if column == "temperature":  # the decimal point is lost
        return [value.replace(".", "") for value in rows[column]]
    return {"age": "210", "weight": "0"}[column]


def _days_before(rows, column, rng):
    admitted = rows["admitted"].to_numpy("datetime64[D]")
    return np.datetime_as_string(admitted - rng.integers(1, 6, len(rows)))


MESS = {  # (rows of the truth, column, rng): the cells instead
    "missing completely at random": lambda rows, column, rng: None,
    "missing by admission": lambda rows, column, rng: None,
    "missing by value": lambda rows, column, rng: None,
    "below detection": lambda rows, column, rng: f"<{DETECTION}",
    "decimal comma": lambda rows, column, rng: rows[column].str.replace(".", ","),
    "unit": _in_second_unit,
    "impossible value": _impossible,
    "sex code": _sex_code,
    "date format": _other_format,
    "impossible date": lambda rows, column, rng: rows[column].str[:4] + "-02-30",
    "discharge before admission": _days_before,
    "outside any visit": lambda rows, column, rng: rows["outside"],
    "duplicate patient": lambda rows, column, rng: rows["raw_id"],
    "unknown patient": lambda rows, column, rng: [
        f"P{k}" for k in rng.integers(900000, 1000000, len(rows))
    ],
}


def _as_text(frame, key, digits):
    """Dates as 2016-03-09, numbers with these digits after the point; the key apart."""
    frame = frame.set_index(key)
    for column in frame.select_dtypes("datetime"):
        frame[column] = np.datetime_as_string(frame[column].to_numpy("datetime64[D]"))
    for column, n in digits.items():
        pairs = zip(frame[column], np.broadcast_to(n, len(frame)), strict=True)
        frame[column] = [f"{value:.{n}f}" for value, n in pairs]
    return frame


def _second_ids(people, visits, rng):
    """The records of the patients' system, and the id under which each visit runs."""
    import pandas as pd

    double = people[rng.random(len(people)) < DUPLICATES]
    second = visits["patient_id"].map(double.set_index("patient_id")["second_id"])
    used = second.notna() & (rng.random(len(visits)) < 0.5)
    records = [
        people.assign(raw_id=people["patient_id"]),
        double.assign(raw_id=double["second_id"]),
    ]
    raw_id = second.where(used, visits["patient_id"])
    return pd.concat(records), raw_id.set_axis(visits["visit_id"])


def _export_patients(records, rng):
    truth = _as_text(records, "raw_id", {}).rename_axis("patient_id")
    export = _Export("patients", truth, ["name", "sex", "birth_date"], rng)
    second = truth.index != truth["patient_id"]
    export.note("patient_id", "duplicate patient", second)
    year, month, day = truth["birth_date"].str.split("-", expand=True).to_numpy().T
    swapped = second & (day <= "12") & (day != month)
    names = [name.split(" ") for name in truth["name"][second & ~swapped]]
    misspelt = [f"{first} {misspell(last, rng)}" for first, last in names]
    export.put("name", "name spelled differently", second & ~swapped, misspelt)
    dates = (year + "-" + day + "-" + month)[swapped]
    export.put("birth_date", "day and month swapped", swapped, dates)
    export.draw("sex", RATES["sex"])
    rates = {kind: rate * ~swapped for kind, rate in RATES["birth_date"].items()}
    export.draw("birth_date", rates)
    return export


def _export_visits(visits, raw_id, rng):
    truth = visits.rename(columns={"temperature_c": "temperature"})
    truth = truth.rename(columns={"weight_kg": "weight", "age_years": "age"})
    digits = {"age": 0, "temperature": 1, "weight": 1}
    truth = _as_text(truth, "visit_id", digits)
    truth = truth.assign(temperature_unit="°C", weight_unit="kg", raw_id=raw_id)
    columns = "patient_id admission admitted discharged age temperature "
    columns += "temperature_unit weight weight_unit readmitted_30d"
    export = _Export("visits", truth, columns.split(), rng)
    second = (truth["raw_id"] != truth["patient_id"]).to_numpy()
    export.draw("patient_id", {"duplicate patient": second} | RATES["patient_id"])
    for column in ("admitted", "discharged", "age"):
        export.draw(column, RATES[column])
    missing = truth["admission"].map(MISSING_WEIGHT).to_numpy()
    first = {"temperature": {}, "weight": {"missing by admission": missing}}
    for column, rates in first.items():
        converted = export.draw(column, rates | RATES[column])
        export.units(f"{column}_unit", converted, np.full(len(truth), column))
    return export


def _export_labs(labs, visits, raw_id, rng):
    digits = labs["test"].map({test: row[3] for test, row in TESTS.items()})
    last = visits.groupby("patient_id")["discharged"].max().dt.date
    last = labs["patient_id"].map(last).to_numpy("datetime64[D]")
    outside = np.datetime_as_string(last + rng.integers(31, 400, len(labs)))
    number, test = labs["value"].to_numpy(), labs["test"].to_numpy()
    truth = _as_text(labs, "lab_id", {"value": digits})
    truth = truth.assign(outside=outside, raw_id=truth["visit_id"].map(raw_id))
    columns = ["patient_id", "taken", "test", "value", "unit"]
    export = _Export("labs", truth, columns, rng)
    second = (truth["raw_id"] != truth["patient_id"]).to_numpy()
    export.draw("patient_id", {"duplicate patient": second})
    export.draw("taken", RATES["taken"])
    low = np.where(
        number < 1, *(MISSING_CREATININE[k] for k in ("below 1.0", "from 1.0"))
    )
    rates = {
        "missing by value": low * (test == "creatinine"),
        "missing completely at random": RATES["value"]["missing completely at random"],
        "below detection": (test == "CRP") & (number < DETECTION),
        "unit": LAB_UNIT * np.isin(test, [*SECOND_UNITS]),
        "decimal comma": RATES["value"]["decimal comma"] * (digits > 0).to_numpy(),
    }
    export.units("unit", export.draw("value", rates), test)
    return export
