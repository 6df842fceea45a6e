"""Randomised trials: who entered, what was given, what came of it and when.

Introduced in: challenges/data_quality
"""

import hashlib
import io
from importlib import metadata
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    import pandas as pd


class Trial(NamedTuple):
    """A trial: one row a patient, in the same order in every field.

    baseline: DataFrame (n_samples, p), known when the patient was randomised
    later: DataFrame (n_samples, q), known only afterwards: no feature for a forecast
        made at the start
    patient_id: (n_samples,) int64, no two alike
    arm: (n_samples,) int64, the treatment by lot, an index into arm_names
    arm_names: tuple of str
    time_days: (n_samples,) int64, days from the start to the event, or to the last
        day on which the patient was known to be without it
    event: (n_samples,) int64, 1 = event, 0 = censored
    licence: str
    citation: str, the source, with its DOI
    stand_in: bool, True if these rows stand in for a set that could not be fetched
    """

    baseline: "pd.DataFrame"
    later: "pd.DataFrame"
    patient_id: np.ndarray
    arm: np.ndarray
    arm_names: tuple
    time_days: np.ndarray
    event: np.ndarray
    licence: str
    citation: str
    stand_in: bool


_FILE = "lifelines/datasets/ACTG175.csv"
_SHA256 = "56fba31fa0d7bfbff9667b7149fd96a97c352e72aa582871a62a935e812f0e07"
_BASELINE = {  # name in the file: name here
    "age": "age_years",
    "wtkg": "weight_kg",
    "hemo": "haemophilia",
    "homo": "homosexual_activity",
    "drugs": "injected_drugs",
    "karnof": "karnofsky_score",
    "oprior": "other_antiretroviral_before",
    "z30": "zidovudine_last_30_days",
    "preanti": "antiretroviral_before_days",
    "race": "non_white",
    "gender": "male",
    "strat": "antiretroviral_stratum",
    "symptom": "symptomatic",
    "cd40": "cd4_per_mm3",
    "cd80": "cd8_per_mm3",
}
_LATER = {
    "cd420": "cd4_week_20_per_mm3",
    "cd820": "cd8_week_20_per_mm3",
    "cd496": "cd4_week_96_per_mm3",
    "r": "cd4_week_96_counted",
    "offtrt": "off_treatment_before_week_96",
}


def actg175():
    """Load AIDS Clinical Trials Group study 175, which lifelines ships.

    2139 of the 2467 people with HIV, 12 to 70 years old and most with 200 to 500 CD4
    cells per mm3, whom the trial randomised in the United States from 1991 to 1992;
    368 women, 617 not white. The file does not say why the others are missing; all
    in it have a count at week 20. Drugs and outlook are those of before 1996.

    event: the CD4 count halved, AIDS, or death, whichever came first (521 of 2139);
        the file calls it cens
    arm: 0 zidovudine (532), 1 with didanosine (522), 2 with zalcitabine (524), 3
        didanosine alone (561); the file's arms

    baseline, 0 = no and 1 = yes where no unit or code is named:
    age_years (the file's age); weight_kg (wtkg); haemophilia (hemo);
    homosexual_activity (homo); injected_drugs (drugs), ever; karnofsky_score
    (karnof), 70 to 100, 100 = no complaint; other_antiretroviral_before (oprior),
    other than zidovudine; zidovudine_last_30_days (z30); antiretroviral_before_days
    (preanti); non_white (race); male (gender); antiretroviral_stratum (strat), 1
    none before, 2 up to a year, 3 longer; symptomatic (symptom); cd4_per_mm3 (cd40),
    cd8_per_mm3 (cd80), cells in blood

    later:
    cd4_week_20_per_mm3 (cd420), cd8_week_20_per_mm3 (cd820), counts of week 20 +- 5;
    cd4_week_96_per_mm3 (cd496), of week 96 +- 5, NaN if not counted;
    cd4_week_96_counted (r), 0 if it is NaN; off_treatment_before_week_96 (offtrt)

    Left out: zprior (1 for all, the 886 untreated too), treat (arm > 0), str2
    (stratum > 1).

    Traps: `later` is known only after the start; the days of 21 patients end before
    week 20. 797 of the counts of week 96 are missing, and not by chance: 66 % of
    those off treatment, 21 % of the others. 198 patients are censored before day
    730: whether they had the event within two years is not known, so "no" is wrong
    for them, and so is leaving them out. The count at the start is under 200 for 164
    (0 for 3) and over 500 for 213. In 11 rows of strata 2 and 3 the days of
    treatment before contradict the stratum.

    Returns: Trial with baseline (2139, 15), later (2139, 5)
    Raises: ValueError if the installed lifelines ships another file
    Licence: none stated for the data; lifelines is MIT
    Source: Hammer et al. (1996), doi 10.1056/NEJM199610103351501; columns as in the
        R package speff2trial
    Introduced in: challenges/data_quality
    """
    import pandas as pd

    frame = pd.read_csv(io.BytesIO(_content()))
    return Trial(
        baseline=frame[list(_BASELINE)].rename(columns=_BASELINE),
        later=frame[list(_LATER)].rename(columns=_LATER),
        patient_id=frame["pidnum"].to_numpy("int64"),
        arm=frame["arms"].to_numpy("int64"),
        arm_names=(
            "zidovudine",
            "zidovudine + didanosine",
            "zidovudine + zalcitabine",
            "didanosine",
        ),
        time_days=frame["days"].to_numpy("int64"),
        event=frame["cens"].to_numpy("int64"),
        licence="none stated for the data; shipped in lifelines (MIT)",
        citation="Hammer et al. (1996), doi 10.1056/NEJM199610103351501",
        stand_in=False,
    )


def _content():
    """The verified bytes of the file, found without importing lifelines (2 s)."""
    wheel = metadata.distribution("lifelines")
    try:
        content = wheel.locate_file(_FILE).read_bytes()
    except FileNotFoundError:
        content = b""
    found = hashlib.sha256(content).hexdigest()
    if found != _SHA256:
        raise ValueError(
            f"{_FILE} in lifelines {wheel.version}: expected SHA-256 {_SHA256}, found "
            f"{found if content else 'no such file'}; install the lifelines that "
            "requirements.txt names"
        )
    return content
