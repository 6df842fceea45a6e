"""Clinical notes written by a program: of no patient, with the truth beside them.

The tables hold what a note can say; options are parted by "|".

Introduced in: concepts/large_models_and_services
"""

import re
from typing import NamedTuple

import numpy as np

# P(present in the first note | diagnosis), the diagnoses in the order of PATIENTS;
# the last column is P(denied | not present), whatever the diagnosis
#  pneumonia, HF, COPD, asthma, UTI, MI, T2DM, AF; denied
PRESENT = {
    "fever": (0.78, 0.02, 0.20, 0.05, 0.50, 0.04, 0.03, 0.02, 0.60),
    "cough": (0.88, 0.30, 0.80, 0.65, 0.03, 0.04, 0.04, 0.03, 0.50),
    "dyspnoea": (0.65, 0.90, 0.95, 0.92, 0.03, 0.40, 0.05, 0.40, 0.50),
    "chest pain": (0.35, 0.12, 0.10, 0.15, 0.01, 0.90, 0.02, 0.15, 0.60),
    "palpitations": (0.05, 0.15, 0.05, 0.10, 0.02, 0.12, 0.03, 0.80, 0.30),
    "nausea": (0.20, 0.10, 0.05, 0.04, 0.30, 0.35, 0.25, 0.05, 0.30),
    "dysuria": (0.01, 0.01, 0.01, 0.01, 0.85, 0.01, 0.08, 0.01, 0.30),
    "polyuria": (0.01, 0.05, 0.01, 0.01, 0.10, 0.01, 0.80, 0.02, 0.20),
    "wheeze": (0.12, 0.15, 0.80, 0.92, 0.01, 0.02, 0.01, 0.02, 0.40),
    "crackles": (0.80, 0.75, 0.25, 0.05, 0.01, 0.15, 0.01, 0.08, 0.40),
    "leg oedema": (0.03, 0.70, 0.12, 0.01, 0.02, 0.06, 0.05, 0.15, 0.50),
    "loin tenderness": (0.01, 0.01, 0.01, 0.01, 0.40, 0.01, 0.01, 0.01, 0.25),
}
N_NOTES = (0.55, 0.30, 0.15)  # P(1, 2, 3 notes a patient)
RESOLVED = 0.6  # P(a finding has gone by the next note); no new ones come
MISSPELLING = 0.02  # share of the words of four letters or more

# share of the patients, share of women, age: mean and standard deviation; pulse,
# systolic pressure and, in those short of breath, breaths a minute and saturation
PATIENTS = {
    "pneumonia": (0.18, 0.48, 64, 16, 94, 120, 25, 91),
    "HF": (0.16, 0.50, 76, 8, 92, 136, 24, 92),
    "COPD": (0.13, 0.45, 69, 8, 96, 134, 26, 89),
    "asthma": (0.10, 0.60, 36, 9, 102, 124, 25, 93),
    "UTI": (0.14, 0.80, 50, 16, 84, 124, 20, 95),
    "MI": (0.11, 0.33, 65, 10, 90, 132, 22, 94),
    "T2DM": (0.10, 0.45, 58, 10, 84, 134, 20, 96),
    "AF": (0.08, 0.45, 74, 6, 128, 126, 22, 95),
}
NORMAL = (74, 126, 15, 97)
# median, spread of its logarithm; unit, decimals; unit, decimals in the second
# system, and the factor and the shift that lead there
LABS = {
    "WBC": (7.5, 0.2, "x10^3/µL", 1, "x10^9/L", 1, 1, 0),
    "CRP": (0.3, 0.5, "mg/dL", 1, "mg/L", 0, 10, 0),
    "Hb": (13.4, 0.08, "g/dL", 1, "g/L", 0, 10, 0),
    "Cr": (0.9, 0.18, "mg/dL", 2, "µmol/L", 0, 88.4, 0),
    "glucose": (102, 0.1, "mg/dL", 0, "mmol/L", 1, 1 / 18.02, 0),
    "troponin": (900, 0.7, "pg/mL", 0, "ng/L", 0, 1, 0),
    "NT-proBNP": (4500, 0.6, "pg/mL", 0, "ng/L", 0, 1, 0),
    "HbA1c": (10.2, 0.1, "%", 1, "mmol/mol", 0, 10.93, -23.5),
    "TSH": (1.8, 0.4, "µIU/mL", 1, "mU/L", 1, 1, 0),
}
ROUTINE = tuple(LABS)[:5]
ACUTE = {  # medians on the first day, where they are others; tests done only here
    "pneumonia": {"WBC": 14.5, "CRP": 14},
    "HF": {"Cr": 1.25, "NT-proBNP": 4500},
    "COPD": {"WBC": 10.5, "CRP": 2.5},
    "asthma": {"WBC": 8.5},
    "UTI": {"WBC": 12.5, "CRP": 7},
    "MI": {"WBC": 10, "glucose": 130, "troponin": 900},
    "T2DM": {"glucose": 300, "HbA1c": 10.2},
    "AF": {"TSH": 1.8},
}
PAST = {  # its drug; P(has it) below 60 and from 60 years on
    "HTN": ("amlodipine 5 mg po od", 0.15, 0.50),
    "T2DM": ("metformin 500 mg po bid", 0.06, 0.20),
    "high cholesterol": ("atorvastatin 20 mg po od", 0.10, 0.35),
    "hypothyroidism": ("levothyroxine 75 µg po od", 0.04, 0.08),
    "osteoarthritis": ("paracetamol 1 g po prn", 0.04, 0.30),
    "depression": ("sertraline 50 mg po od", 0.10, 0.10),
    "reflux": ("omeprazole 20 mg po od", 0.10, 0.15),
}
# The treatment is "severe" while a finding of "severe_if" is present; else "mild", and
# at follow-up "after". "known": what 7 of 10 took before for a disease that lasts
SAID = {
    "pneumonia": {
        "span": "two days|three days|five days",
        "story": "started after a cold|appetite is poor|others at home are ill too",
        "sign": "bronchial breathing over the right lung|right lung base dull",
        "test": "CXR shows consolidation of the right lower lobe of the lung",
        "mild": "amoxicillin 500 mg po tid for 5 days|doxycycline 100 mg po bid",
        "severe_if": "dyspnoea",
        "severe": "ceftriaxone 2 g IV od and azithromycin 500 mg po od|"
        "co-amoxiclav 1.2 g IV tid and doxycycline 100 mg po bid",
        "after": "finish the antibiotics|see again in two weeks",
        "unlikely": "HF|pulmonary embolism",
    },
    "HF": {
        "span": "a week|ten days|two weeks",
        "story": "gained 4 kg in two weeks|ran out of tablets a month ago",
        "sign": "JVP raised|third heart sound",
        "test": "CXR shows a large heart|ejection fraction of the heart 35 %",
        "mild": "furosemide 40 mg po od",
        "severe_if": "dyspnoea",
        "severe": "furosemide 40 mg IV bid|furosemide 80 mg IV od",
        "after": "furosemide 40 mg po od and bisoprolol 2.5 mg po od|"
        "furosemide 40 mg po od and spironolactone 25 mg po od",
        "known": "ramipril 2.5 mg po od",
        "unlikely": "pneumonia|nephrotic syndrome",
    },
    "COPD": {
        "span": "three days|five days|a week",
        "story": "third exacerbation this year|smoked for 40 years",
        "sign": "barrel chest|prolonged expiration",
        "test": "CXR shows hyperinflated lungs|FEV1 45 % of predicted",
        "mild": "prednisolone 30 mg po od and salbutamol 2.5 mg nebulised prn",
        "severe_if": "fever",
        "severe": "prednisolone 30 mg po od and doxycycline 100 mg po bid",
        "after": "tiotropium 18 µg inhaled od",
        "known": "tiotropium 18 µg inhaled od",
        "unlikely": "HF|pneumonia",
    },
    "asthma": {
        "span": "a day|two days|four days",
        "story": "worse at night|triggered by pollen|has a new cat",
        "sign": "prolonged expiration|chest hyperresonant",
        "test": "peak flow 55 % of the best|peak flow 250 L/min",
        "mild": "budesonide 200 µg inhaled bid",
        "severe_if": "dyspnoea",
        "severe": "salbutamol 5 mg nebulised prn and prednisolone 40 mg po od",
        "after": "budesonide 200 µg inhaled bid",
        "known": "salbutamol 100 µg inhaled prn",
        "unlikely": "pneumonia|vocal cord dysfunction",
    },
    "UTI": {
        "span": "two days|three days|four days",
        "story": "urine is cloudy|drinks little|similar infection last year",
        "sign": "suprapubic tenderness|bladder tender",
        "test": "urine dipstick shows nitrites and leucocytes|urine culture sent",
        "mild": "nitrofurantoin 50 mg po qid|trimethoprim 200 mg po bid",
        "severe_if": "fever|loin tenderness",
        "severe": "ceftriaxone 1 g IV od|ciprofloxacin 500 mg po bid",
        "after": "finish the antibiotics|see again in two weeks",
        "unlikely": "kidney stone|appendicitis",
    },
    "MI": {
        "span": "one hour|two hours|six hours",
        "story": "sudden onset at rest|onset while climbing stairs|is sweating",
        "sign": "pale and sweating|fourth heart sound",
        "test": "ECG shows ST elevation in V2 to V4|ECG shows ST depression in V5",
        "mild": "aspirin 300 mg po and ticagrelor 180 mg po, coronary angiography|"
        "aspirin 300 mg po and clopidogrel 600 mg po, coronary angiography",
        "after": "aspirin 75 mg po od and atorvastatin 80 mg po od|"
        "aspirin 75 mg po od and clopidogrel 75 mg po od",
        "unlikely": "aortic dissection|pericarditis",
    },
    "T2DM": {
        "span": "three weeks|five weeks|two months",
        "story": "very thirsty|lost 5 kg in two months|vision is blurred",
        "sign": "tongue dry|reduced sensation in both feet",
        "test": "blood ketones 0.3 mmol/L|retinal photograph booked",
        "mild": "metformin 500 mg po bid",
        "severe_if": "polyuria",
        "severe": "insulin glargine 10 units sc od and metformin 500 mg po bid",
        "after": "metformin 1 g po bid",
        "unlikely": "type 1 diabetes|ketoacidosis",
    },
    "AF": {
        "span": "six hours|ten hours|a day",
        "story": "noticed an irregular pulse at home|onset after a heavy meal",
        "sign": "irregularly irregular pulse|heart sounds of varying loudness",
        "test": "ECG shows absent P waves and an irregular rhythm",
        "mild": "bisoprolol 2.5 mg po od and apixaban 5 mg po bid|"
        "metoprolol 50 mg po bid and apixaban 5 mg po bid",
        "after": "apixaban 5 mg po bid and bisoprolol 5 mg po od",
        "unlikely": "hyperthyroidism|pulmonary embolism",
    },
}
WORDS = {
    "fever": "fever|fevers|pyrexia",
    "cough": "cough|coughing",
    "dyspnoea": "dyspnoea|SOB|breathlessness",
    "chest pain": "chest pain|pain in the chest",
    "palpitations": "palpitations|heart racing",
    "nausea": "nausea|queasiness",
    "dysuria": "dysuria|burning on urination|pain on passing urine",
    "polyuria": "polyuria|excessive urination",
    "wheeze": "wheeze|wheezing|expiratory wheeze",
    "crackles": "crackles|crepitations|rales",
    "leg oedema": "leg oedema|ankle swelling|swelling of the legs",
    "loin tenderness": "loin tenderness|flank tenderness",
}
SIGNS = {
    "lungs": ("wheeze", "crackles"),
    "legs": ("leg oedema",),
    "kidneys": ("loin tenderness",),
}
SYMPTOMS = tuple(PRESENT)[:8]  # the others are signs
# yes: "a and b" present; no: "a or b" denied, all: "a and b", each: "no a, no b"
TOLD = {
    "yes": "c/o {yes} for {span}|reports {yes}|has {yes}|{yes} for {span}",
    "no": "denies {no}|no {no}|{each}|negative for {no}|{all} denied|is without {no}",
    "both": "{yes} but no {no}|{yes}, {each}|no {no} but {yes}|{yes} without {no}|"
    "denies {no} but reports {yes}|{yes} for {span}, negative for {no}",
}
TOLD_LATER = {
    "yes": "still has {yes}|no improvement in {yes}|{yes} unchanged|no change in {yes}",
    "no": "no longer has {no}|{all} resolved|{all} gone",
    "both": "no longer has {no} but still has {yes}|no improvement in {yes} but no "
    "longer has {no}",
}
SEEN = {
    "yes": "{place}: {yes}|{yes} on examination of the {place}",
    "no": "{place}: no {no}|{place}: no evidence of {no}|{place} without {no}|"
    "{place}: {all} absent",
    "both": "{place}: {yes} but no {no}|{place}: {yes}, {each}|{place}: no {no} but "
    "{yes}|{place}: {yes}, no evidence of {no}",
}
# Mentions that do not count: of a relative, of years ago, of what may come
TRAPS = ("chest pain", "palpitations", "dyspnoea", "leg oedema", "fever")
FAMILY = (
    "mother with {trap} for years|father had {trap} at 58, cause unknown|"
    "sister with {trap} since childhood|mother had MI at 70|father died of HF|"
    "no family hx of T2DM|brother with asthma"
)
LONG_AGO = "{trap} ten years ago, never explained|{trap} three years ago, settled"
COME_BACK = "return if {trap}|come back at once if {trap}|call if {trap} at home"
SOCIAL = "lives alone|lives with family|no longer smokes|drinks little alcohol"
GENERAL = "alert and oriented|abdomen soft|no murmur|no rash|no neck stiffness"
COMPLAINT = "{yes}|{yes} for {span}"
REVIEW = "planned review|review after discharge|follow-up visit"
PLAN = (
    "impression {disease}, start {drug}|{disease}: {drug}|treat {disease} with {drug}|"
    "most likely {disease}, give {drug}|{disease}, plan: {drug}|{drug} for {disease}"
)
AFTER = "{disease}: {drug}|plan: {drug}|{disease}, {drug}"
SECTIONS = dict(
    pair.split(" = ")
    for pair in (
        "Chief complaint = CC|History = HPI|Past history = PMH|Family history = FH|"
        "Medications = Meds|Examination = O/E|Laboratory = Labs|"
        "Assessment and plan = A/P"
    ).split("|")
)
ABBREVIATIONS = dict(
    pair.split(" = ")
    for pair in (
        "SOB = shortness of breath|c/o = complains of|hx = history|yo = -year-old|"
        "HTN = hypertension|T2DM = type 2 diabetes|HF = heart failure|"
        "COPD = chronic obstructive pulmonary disease|MI = myocardial infarction|"
        "UTI = urinary tract infection|AF = atrial fibrillation|CXR = chest X-ray|"
        "ECG = electrocardiogram|JVP = jugular venous pressure|T = temperature|"
        "HR = pulse rate|BP = blood pressure|RR = respiratory rate|"
        "SpO2 = oxygen saturation|WBC = white cells|Hb = haemoglobin|Cr = creatinine|"
        "po = by mouth|IV = intravenously|sc = subcutaneously|od = once a day|"
        "bid = twice a day|tid = three times a day|qid = four times a day|"
        "prn = as needed"
    ).split("|")
)
# Never misspelt: words that decide whether a finding is present, and a unit
SPARED = frozenset(
    "denies denied without negative evidence longer absent resolved gone still "
    "improvement change unchanged mmol".split()
)
_SHORT = "|".join(map(re.escape, ABBREVIATIONS))
_SHORT = re.compile(rf"(?<![A-Za-z/])({_SHORT})\b")
_WORD = re.compile(r"\b[A-Za-z][a-z]{3,}\b")
KEYBOARD = ("qwertyuiop", "asdfghjkl", "zxcvbnm")


class Notes(NamedTuple):
    """Clinical notes, and what each says of each finding.

    texts: tuple of n_notes str; a line is a section, "Title: sentences."
    patient_id: (n_notes,) int64, 0 to n_patients - 1, in order; the notes of a patient
        follow each other in time
    findings: tuple of 12 str
    status: (n_notes, 12) int8, 1 = present, 0 = denied, -1 = not mentioned
    diagnosis: (n_notes,) int64, index into diagnosis_names; one a patient
    diagnosis_names: tuple of 8 str
    written: str, by whom
    licence: str
    citation: str
    stand_in: bool, False: the notes replace no other set
    """

    texts: tuple
    patient_id: np.ndarray
    findings: tuple
    status: np.ndarray
    diagnosis: np.ndarray
    diagnosis_names: tuple
    written: str
    licence: str
    citation: str
    stand_in: bool


class _Patient(NamedTuple):
    disease: str
    woman: bool
    age: int
    weight_kg: float
    past: tuple  # keys of PAST
    known: bool  # the disease lasts, and was there before
    second: bool  # units of the second system


def clinical_notes(n_patients, rng, misspelling=MISSPELLING):
    """Write clinical notes, one to three a patient, and what each says.

    Adults with one of eight medical diagnoses, a first note and then follow-up notes
    of the same illness; no children, no pregnancy, no surgery, no mental illness. The
    notes of a patient share age, past, drugs and units: split by patient. The
    assessment, and at times past history and drugs, name the diagnosis: cut them off
    before predicting it.

    n_patients: int, at least 1
    rng: numpy.random.Generator
    misspelling: float, 0 to 1, share of the words of four letters or more with one
        typing error; none in titles, in units and in words that decide a status. The
        same seed gives the same notes, whatever the share.
    Returns: Notes. "no" and its like reach forward, "denied" and its like back, both as
        far as a "but" or the end of the sentence; "no longer has" denies, "no
        improvement in" does not. Findings of relatives, of years ago and after "if"
        are not the patient's now: they do not count as mentioned.
    Raises: ValueError or TypeError if an argument is not as above
    Keeps: sections, telegraphic style, abbreviations, two systems of units, typing
        errors, negation and its traps; findings, drugs, doses, vital signs and
        laboratory values that fit the diagnosis; 38 °C or more if and only if fever
        is present; findings that resolve.
    Does not keep: real frequencies (PRESENT is a judgement, not a survey); findings
        that depend on each other, on age or sex; doubt ("possible"); contradictions,
        errors of fact, copied text; second diagnoses, complications, allergies; why a
        finding is not mentioned, here chance; names and dates.
    Source: written for this book. Introduced in: concepts/large_models_and_services
    """
    check(n_patients, 1, rng)
    if not 0 <= misspelling <= 1:
        raise ValueError(f"misspelling is a share, 0 to 1, got {misspelling!r}")
    rows = [row for patient in range(n_patients) for row in _notes(patient, rng)]
    patient_id, diagnosis, status, texts = zip(*rows, strict=True)
    return Notes(
        texts=tuple(_misspelt(text, misspelling, rng) for text in texts),
        patient_id=np.array(patient_id, dtype="int64"),
        findings=tuple(PRESENT),
        status=np.array(status, dtype="int8"),
        diagnosis=np.array(diagnosis, dtype="int64"),
        diagnosis_names=tuple(ABBREVIATIONS.get(name, name) for name in PATIENTS),
        written="by a program, for this book; of no patient",
        licence="CC BY 4.0",
        citation="simulated for Neural Networks for Healthcare, in Python",
        stand_in=False,
    )


def misspell(word, rng):
    """Make one typing error after the first letter of a word.

    A neighbouring key is hit, or a letter is dropped, doubled or swapped with the next.

    word: str, at least three letters a to z, of which the first may be a capital
    rng: numpy.random.Generator
    Returns: str, another than the word
    Introduced in: challenges/data_quality
    """
    at, kind = rng.integers(1, len(word) - 1), rng.integers(4)
    start, letter, end = word[:at], word[at], word[at + 1 :]
    if kind == 0:
        row = next(row for row in KEYBOARD if letter in row)
        i = row.index(letter)
        near = row[max(i - 1, 0) : i] + row[i + 1 : i + 2]
        return start + near[rng.integers(len(near))] + end
    if kind == 1:
        return start + end
    if kind == 2 or letter == end[0]:
        return start + letter + letter + end
    return start + end[0] + letter + end[1:]


def check(n_patients, least, rng):
    """Refuse what a simulation of patients cannot be drawn from.

    n_patients: int, at least `least`
    rng: numpy.random.Generator
    Raises: TypeError or ValueError if an argument is not as above
    Introduced in: concepts/large_models_and_services
    """
    if not isinstance(n_patients, int | np.integer) or isinstance(n_patients, bool):
        raise TypeError(f"n_patients must be a whole number, got {n_patients!r}")
    if n_patients < least:
        raise ValueError(f"n_patients must be at least {least}, got {n_patients}")
    if not isinstance(rng, np.random.Generator):
        raise TypeError(
            f"rng must be a numpy.random.Generator, got {type(rng).__name__}: "
            "make one by np.random.default_rng(seed)"
        )


def _misspelt(text, rate, rng):
    def typo(match):
        kept = match[0].lower() in SPARED or rng.random() >= rate
        return match[0] if kept else misspell(match[0], rng)

    lines = (line.partition(": ") for line in text.split("\n"))
    return "\n".join(
        title + colon + _WORD.sub(typo, body) for title, colon, body in lines
    )


def _notes(patient, rng):
    """The notes of a patient: patient, diagnosis, status, text."""
    who, before = _patient(rng), None
    for _ in range(1 + rng.choice(3, p=N_NOTES)):
        status = _status(who, before, rng)
        text = _text(who, status, before, rng)
        yield patient, list(PATIENTS).index(who.disease), [*status.values()], text
        before = status


def _patient(rng):
    shares = [row[0] for row in PATIENTS.values()]
    disease = list(PATIENTS)[rng.choice(len(shares), p=shares)]
    _, women, mean, spread, *_ = PATIENTS[disease]
    age = round(mean + spread * _z(rng))
    woman = bool(rng.random() < women)
    past = tuple(
        name
        for name, (_, young, old) in PAST.items()
        if rng.random() < (old if age >= 60 else young) and name != disease
    )
    known = "known" in SAID[disease] and rng.random() < 0.7
    weight_kg = (72 if woman else 84) + 12 * _z(rng)
    return _Patient(disease, woman, age, weight_kg, past, known, rng.random() < 0.5)


def _status(who, before, rng):
    """The status of each finding in a note, given that in the note before."""
    status = {}
    for name, (*present, denied) in PRESENT.items():
        share = present[list(PATIENTS).index(who.disease)]
        if before:
            had = before[name] == 1
            share, denied = had * (1 - RESOLVED), 1 if had else denied
        absent = 0 if rng.random() < denied else -1
        status[name] = 1 if rng.random() < share else absent
    return status


def _text(who, status, before, rng):
    first = before is None
    span = _say(SAID[who.disease]["span"], rng)
    trap, inborn = _trap(TRAPS, status, rng), _trap(TRAPS[:-1], status, rng)
    sections = (
        _complaint(status, first, span, rng),
        _history(who, status, before, span, rng),
        _past(who, trap, rng),
        _some(0.5, _say(FAMILY, rng, trap=inborn), rng),
        _medications(who, rng),
        _examination(who, status, first, rng),
        _laboratory(who, status, first, rng),
        _assessment(who, status, first, trap, rng),
    )
    short = rng.random() < 0.5
    return "\n".join(
        f"{SECTIONS[title] if short else title}: {_sentences(clauses, short, rng)}"
        for title, clauses in zip(SECTIONS, sections, strict=True)
        if clauses
    )


def _trap(names, status, rng):
    """Words for one of the findings that the patient does not have."""
    words = [WORDS[name] for name in names if status[name] != 1] or ["fainting"]
    return _say("|".join(words), rng)


def _sentences(clauses, short, rng):
    """The clauses as sentences, most abbreviations kept or most written out."""

    def expand(match):
        kept = rng.random() < (0.85 if short else 0.15)
        return match[0] if kept else ABBREVIATIONS[match[0]]

    clauses = [_SHORT.sub(expand, clause) for clause in clauses]
    return " ".join(clause[0].upper() + clause[1:] + "." for clause in clauses)


def _z(rng):
    return np.clip(rng.standard_normal(), -2, 2)


def _say(options, rng, **words):
    """One of the options, its gaps filled."""
    options = options.split("|")
    return options[rng.integers(len(options))].format(**words)


def _some(share, clause, rng):
    """The clause, in this share of the notes."""
    return [clause] if rng.random() < share else []


def _list(words, last):
    return f" {last} ".join([", ".join(words[:-1])] * (len(words) > 1) + words[-1:])


def _state(yes, no, forms, rng, **words):
    """Clauses that say which findings are present and which are denied."""
    yes, no = ([_say(WORDS[name], rng) for name in names] for names in (yes, no))
    words |= {"yes": _list(yes, "and"), "no": _list(no, "or"), "all": _list(no, "and")}
    words["each"] = ", ".join(f"no {word}" for word in no)
    if yes and no and rng.random() < 0.5:
        return [_say(forms["both"], rng, **words)]
    clauses = [_say(forms[key], rng, **words) for key in ("yes", "no") if words[key]]
    return clauses[:: rng.choice([-1, 1])]


def _with(status, value, names, rng):
    """The names with this status, in random order."""
    names = [name for name in names if status[name] == value]
    return [names[i] for i in rng.permutation(len(names))]


def _complaint(status, first, span, rng):
    if not first:
        return [_say(REVIEW, rng)]
    yes = _with(status, 1, SYMPTOMS, rng)[:2]
    return _state(yes, [], {"yes": COMPLAINT}, rng, span=span) or ["feels unwell"]


def _history(who, status, before, span, rng):
    yes, no = (_with(status, value, SYMPTOMS, rng) for value in (1, 0))
    opening = f"{who.age}yo {'woman' if who.woman else 'man'}"
    if before is None:
        n = rng.integers(len(no) + 1)
        told = _state(yes, no[:n], TOLD, rng, span=span)
        told += _state([], no[n:], TOLD, rng)
        story = _say(SAID[who.disease]["story"], rng)
        return [opening, *told, *_some(0.7, story, rng)]
    gone = [name for name in no if before[name] == 1]
    never = [name for name in no if before[name] != 1]
    later = _state(yes, gone, TOLD_LATER, rng) + _state([], never, TOLD, rng)
    return _some(0.5, opening, rng) + (later or ["feels well"])


def _past(who, trap, rng):
    had = [*who.past, *[who.disease] * who.known]
    return [
        _list(had, "and") or "previously well",
        *_some(0.5, _say(SOCIAL, rng), rng),
        *_some(0.15, _say(LONG_AGO, rng, trap=trap), rng),
    ]


def _medications(who, rng):
    drugs = {name: PAST[name][0] for name in who.past}
    if who.known:
        drugs[who.disease] = SAID[who.disease]["known"]
    told = [drug + rng.choice(["", f" for {name}"]) for name, drug in drugs.items()]
    return [", ".join(told) or "none"]


def _examination(who, status, first, rng):
    organs = [
        _state(*(_with(status, v, names, rng) for v in (1, 0)), SEEN, rng, place=place)
        for place, names in SIGNS.items()
    ]
    return [
        *_some(0.6, _say(GENERAL, rng), rng),
        *_vitals(who, status, first, rng),
        *(clause for i in rng.permutation(len(organs)) for clause in organs[i]),
        *_some(0.7 * first, _say(SAID[who.disease]["sign"], rng), rng),
    ]


def _vitals(who, status, first, rng):
    ill, breathless = np.array(PATIENTS[who.disease][4:]), status["dyspnoea"] == 1
    share = np.array([1, 1, breathless, breathless]) * (1 if first else 0.5)
    noise = rng.standard_normal(4) * (6, 9, 1.2, 1)
    pulse, systolic, breaths, oxygen = NORMAL + share * (ill - NORMAL) + noise
    fever = status["fever"] == 1
    celsius = round(rng.uniform(*((38, 39.6) if fever else (36.1, 37.3))), 1)
    kg = who.weight_kg
    parts = [
        f"T {celsius:.1f} °C" if who.second else f"T {celsius * 1.8 + 32:.1f} °F",
        f"HR {pulse + 12 * fever:.0f}/min",
        f"BP {systolic:.0f}/{0.6 * systolic:.0f} mmHg",
        f"RR {breaths:.0f}/min",
        f"SpO2 {min(oxygen, 100):.0f} %",
        f"weight {kg:.0f} kg" if who.second else f"weight {kg * 2.2046:.0f} lb",
    ]
    parts = [part for part in parts if rng.random() < 0.85]
    return [", ".join(parts)] if parts else []


def _laboratory(who, status, first, rng):
    extra = [test for test in ACUTE[who.disease] if first and test not in ROUTINE]
    values = [
        f"{test} {_measured(test, who, status, first, rng)}"
        for test in (*ROUTINE, *extra)
        if rng.random() < 0.85
    ]
    return _some(1 if first else 0.6, ", ".join(values), rng) if values else []


def _measured(test, who, status, first, rng):
    """A value and its unit; half way to normal at follow-up, or without fever."""
    median, spread, unit, digits, unit_2, digits_2, factor, shift = LABS[test]
    ill = ACUTE[who.disease].get(test, median)
    if not first or (test in ("WBC", "CRP") and status["fever"] != 1):
        ill = np.sqrt(ill * median)
    if test == "glucose" and "T2DM" in who.past:
        ill *= 1.5
    value = ill * np.exp(spread * _z(rng))
    if who.second:
        return f"{factor * value + shift:.{digits_2}f} {unit_2}"
    return f"{value:.{digits}f} {unit}"


def _assessment(who, status, first, trap, rng):
    disease, said = who.disease, SAID[who.disease]
    severe = any(status.get(name) == 1 for name in said.get("severe_if", "").split("|"))
    usual = "mild" if first else "after"
    drug = _say(said["severe" if severe else usual], rng)
    if not first:
        return [_say(AFTER, rng, disease=disease, drug=drug)]
    return [
        *_some(0.7, _say(said["test"], rng), rng),
        _say(PLAN, rng, disease=disease, drug=drug),
        *_some(0.4, _say(said["unlikely"], rng) + " unlikely", rng),
        *_some(0.4, _say(COME_BACK, rng, trap=trap), rng),
    ]
