"""Tables: one row a patient (or an image), one column a measurement.

Introduced in: concepts/learning_from_data
"""

from typing import NamedTuple

import numpy as np

from helpers.data.fetch import FILES, NotServed, fetch, stand_in


class Table(NamedTuple):
    """A table and what is to be predicted from it.

    X: (n_samples, n_features) float64, NaN where nothing was measured
    y: (n_samples,) int64 for an event (1 = event, 0 = none) or a class; float64 for
        a measurement
    feature_names: tuple of n_features str
    target: str, what y is, with its unit; for an event, what y = 1 means
    licence: str
    citation: str, the source, with its DOI
    stand_in: bool, True if these rows stand in for a set that could not be fetched
    """

    X: np.ndarray
    y: np.ndarray
    feature_names: tuple
    target: str
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
        target="malignant",
        licence="CC BY 4.0",
        citation="Street, Wolberg and Mangasarian (1993), doi 10.1117/12.148698",
        stand_in=False,
    )


def diabetes():
    """Load the diabetes set of the LARS paper, which scikit-learn ships, unscaled.

    442 patients with diabetes; the source says neither where nor when they were seen,
    nor who was left out. Ten features at the start, as they were measured:
    scikit-learn's default scales each by all 442 rows, those of a later test set
    included. The source states years for the age and no other unit; sex is 1 or 2
    and it does not say which is which; ltg is "possibly" the logarithm of serum
    triglycerides; 380 of the cholesterol ratios are rounded to whole numbers. y, "a
    quantitative measure of disease progression one year after baseline", runs from
    25 to 346 and has no unit.

    Returns: Table with X (442, 10), y (442,) float64, higher = further progressed
    Licence: the source states none
    Source: Efron, Hastie, Johnstone and Tibshirani (2004),
        doi 10.1214/009053604000000067
    Introduced in: mathematics/gradient_descent
    """
    from sklearn.datasets import load_diabetes

    raw = load_diabetes(scaled=False)
    names = "age_years sex bmi blood_pressure total_cholesterol ldl hdl"
    return Table(
        X=raw.data.astype("float64"),
        y=raw.target.astype("float64"),
        feature_names=(*names.split(), "cholesterol_to_hdl", "ltg", "glucose"),
        target="disease progression a year later (no unit stated)",
        licence="none stated; shipped in scikit-learn (BSD 3-Clause)",
        citation="Efron, Hastie, Johnstone and Tibshirani (2004), "
        "doi 10.1214/009053604000000067",
        stand_in=False,
    )


def digits():
    """Load the handwritten digits of 8x8 pixels, which scikit-learn ships.

    1797 digits, 174 to 183 of each, written on forms by 13 people before 1998; not
    patients. A pixel counts the inked points of a 4x4 block. Writers are not
    identified, so a random split may put one writer on both sides, and the score on
    the test side says little about a new hand.

    Returns: Table with X (1797, 64), whole numbers from 0 (blank) to 16 (ink), row
        by row from the upper left; y (1797,) int64, the digit, 0 to 9
    Source: Alpaydin and Kaynak (1998), doi 10.24432/C50P49, CC BY 4.0: its test part
    Introduced in: challenges/privacy
    """
    from sklearn.datasets import load_digits

    raw = load_digits()
    return Table(
        X=raw.data.astype("float64"),
        y=raw.target.astype("int64"),
        feature_names=tuple(raw.feature_names),
        target="the digit, 0 to 9",
        licence="CC BY 4.0",
        citation="Alpaydin and Kaynak (1998), doi 10.24432/C50P49",
        stand_in=False,
    )


_CLEVELAND = "processed.cleveland.data"
_HEART = {  # column: the values that it can take
    "age_years": range(1, 121),
    "male": range(2),
    "chest_pain_type": range(1, 5),
    "resting_blood_pressure_mm_hg": range(50, 301),
    "cholesterol_mg_dl": range(50, 1001),
    "fasting_glucose_above_120_mg_dl": range(2),
    "resting_ecg": range(3),
    "max_heart_rate_per_min": range(30, 251),
    "exercise_angina": range(2),
    "st_depression_mm": [tenths / 10 for tenths in range(101)],
    "st_slope": range(1, 4),
    "vessels_on_fluoroscopy": range(4),
    "thallium_defect": [3, 6, 7],
}
_WRITTEN = {  # column: the texts that the file may hold, and the number of each
    name: {f"{value:.1f}": value for value in values} for name, values in _HEART.items()
}
_WRITTEN["thallium_defect"]["?"] = _WRITTEN["vessels_on_fluoroscopy"]["?"] = np.nan
_WRITTEN["grade of the disease"] = {str(grade): grade for grade in range(5)}
_N_HEART = 303
_DETRANO = "Detrano et al. (1989), doi 10.1016/0002-9149(89)90524-9"
_HEART_TARGET = "a coronary artery narrowed by more than half"


def heart_disease():
    """Load the Cleveland heart disease set, or a simulated table in its place.

    303 patients who were referred for coronary angiography at the Cleveland Clinic
    from 1981 to 1984, 206 of them men, 29 to 77 years old; y is what the angiogram
    showed (139 of 303). Missing is everybody whom no doctor sent there: risks learnt
    here are those of the referred. 13 features, known before the angiogram:

    chest_pain_type: 1 typical angina, 2 atypical, 3 other pain, 4 no symptom
    resting_ecg: 0 normal, 1 ST-T abnormality, 2 left ventricular hypertrophy
    st_depression_mm: by exercise, relative to rest, 0 to 6.2; UCI states no unit: an
        electrocardiogram is read in mm
    st_slope: of the ST segment at peak exercise, 1 up, 2 flat, 3 down
    vessels_on_fluoroscopy: major vessels coloured by fluoroscopy, 0 to 3; 4 gaps
    thallium_defect: scan, 3 normal, 6 fixed, 7 reversible defect; 2 gaps
    male, fasting_glucose_above_120_mg_dl, exercise_angina: 0 no, 1 yes
    age_years, resting_blood_pressure_mm_hg, cholesterol_mg_dl,
        max_heart_rate_per_min: as their names say

    Traps: the codes are names, not amounts: thallium 6 is not twice 3. Disease is most
    frequent in those without a symptom (chest pain 4: 105 of 144), sent for another
    reason. The file grades y from 0 to 4; here 1 to 4 are the event.

    Returns: Table with X (303, 13), NaN in the 6 gaps; y (303,) int64
    Raises: WrongFile if what was served is not the file; ValueError if it cannot be
        read
    Source: Detrano et al. (1989), doi 10.1016/0002-9149(89)90524-9; UCI,
        doi 10.24432/C52P4X, CC BY 4.0
    Introduced in: keras/tabular_diagnosis
    """
    try:
        content = fetch(_CLEVELAND)
    except NotServed as reason:
        stand_in("Cleveland heart disease", "a simulated table", reason)
        return simulated_heart_disease()
    X, y = _read_heart(content)
    return Table(
        X=X,
        y=y,
        feature_names=tuple(_HEART),
        target=_HEART_TARGET,
        licence="CC BY 4.0",
        citation=f"{_DETRANO}; UCI, doi 10.24432/C52P4X",
        stand_in=False,
    )


def simulated_heart_disease():
    """A simulated table in the form of the Cleveland set; no row is a patient.

    Keeps: the columns, their codes and ranges, 303 rows, 139 events, the gaps (4 in
    the vessels, 2 in the thallium scan); about the mean, spread and shares of each
    column; the direction in which each moves with the risk, roughly how far, and so
    how well a logistic regression does.
    Does not keep: any patient; how features go together, other than through one
    hidden severity of the disease; skew; interactions; why a value is missing (here
    by chance).

    Returns: Table as of heart_disease, the same at every call, with stand_in=True
    Introduced in: keras/tabular_diagnosis
    """
    rng = np.random.default_rng(1989)
    *features, outcome = _simulated_columns(rng, _N_HEART)
    X = np.column_stack(features).astype("float64")
    X[rng.choice(_N_HEART, 4, replace=False), -2] = np.nan
    X[rng.choice(_N_HEART, 2, replace=False), -1] = np.nan
    return Table(
        X=X,
        y=outcome.astype("int64"),
        feature_names=tuple(_HEART),
        target=_HEART_TARGET,
        licence="MIT, as the book's code",
        citation=f"simulated in the form of {_DETRANO}",
        stand_in=True,
    )


def _simulated_columns(rng, n):
    """The columns of _HEART and the outcome, each (n,), bound by a hidden severity."""
    severity = rng.normal(size=n)

    def score(loading):  # standard normal; loading: its correlation with the severity
        return loading * severity + np.sqrt(1 - loading**2) * rng.normal(size=n)

    def measured(mean, sd, low, high, loading):
        return np.clip(np.rint(mean + sd * score(loading)), low, high) + 0.0  # no -0

    def coded(codes, counts, loading):  # codes from the least severe to the most
        return np.repeat(codes, counts)[score(loading).argsort().argsort()]

    return [
        measured(54, 9, 29, 77, 0.3),
        coded([0, 1], [97, 206], 0.5),
        coded([2, 3, 1, 4], [50, 86, 23, 144], 0.7),
        measured(132, 18, 94, 200, 0.2),
        measured(247, 52, 126, 564, 0.15),
        coded([0, 1], [258, 45], 0.1),
        coded([0, 2, 1], [151, 148, 4], 0.25),
        measured(150, 23, 71, 202, -0.6),
        coded([0, 1], [204, 99], 0.7),
        measured(7, 14, 0, 62, 0.6) / 10,
        coded([1, 2, 3], [142, 140, 21], 0.6),
        coded([0, 1, 2, 3], [180, 65, 38, 20], 0.7),
        coded([3, 6, 7], [168, 18, 117], 0.8),
        coded([0, 1], [164, 139], 0.97),
    ]


def _read_heart(content):
    """X (303, 13) float64 and y (303,) int64 from the bytes of the Cleveland file."""
    try:
        lines = content.decode("ascii").removesuffix("\n").split("\n")
    except UnicodeDecodeError as error:
        found = content[error.start : error.end]
        raise _unreadable(f"byte {error.start}", "ASCII text", found) from error
    if len(lines) != _N_HEART:
        raise _unreadable("the file", f"{_N_HEART} lines", len(lines))
    table = np.array([_read_row(row, line) for row, line in enumerate(lines, 1)])
    return table[:, :-1], (table[:, -1] > 0).astype("int64")


def _read_row(row, line):
    """The 14 numbers of one line of the Cleveland file."""
    fields = line.split(",")
    if len(fields) != len(_WRITTEN):
        raise _unreadable(f"line {row}", f"{len(_WRITTEN)} columns", len(fields))
    for field, (name, known) in zip(fields, _WRITTEN.items(), strict=True):
        if field not in known:
            texts = list(known)
            some = [*texts[:2], "...", texts[-1]] if len(texts) > 5 else texts
            place = f"line {row}, column {name}"
            raise _unreadable(place, f"one of {', '.join(some)}", field[:40])
    return [
        known[field] for field, known in zip(fields, _WRITTEN.values(), strict=True)
    ]


def _unreadable(place, expected, found):
    return ValueError(
        f"{_CLEVELAND}, {place}: expected {expected}, found {found!r}; delete the file "
        f"and fetch {FILES[_CLEVELAND].url} anew"
    )
