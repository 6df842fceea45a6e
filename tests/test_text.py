import re
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.data import text

# An independent reading of the notes: nothing below comes from the module's tables.
LEXICON = {
    "fever": "fevers?|pyrexia",
    "cough": "cough(?:ing)?",
    "dyspnoea": "dyspnoea|sob|shortness of breath|breathlessness",
    "chest pain": "chest pain|pain in the chest",
    "palpitations": "palpitations|heart racing",
    "nausea": "nausea|queasiness",
    "dysuria": "dysuria|burning on urination|pain on passing urine",
    "polyuria": "polyuria|excessive urination",
    "wheeze": "(?:expiratory )?wheez(?:e|ing)",
    "crackles": "crackles|crepitations|rales",
    "leg oedema": "leg oedema|ankle swelling|swelling of the legs",
    "loin tenderness": "(?:loin|flank) tenderness",
}
BEFORE = r"\b(?:no(?! improvement| change)|denies|without|negative for)\b"
AFTER = r"\b(?:denied|absent|resolved|gone)$"
DECIDING = re.compile(
    r"\b(?:no|denies|denied|without|negative|absent|resolved|gone|but|longer|if|"
    r"improvement|unchanged|still)\b",
    re.IGNORECASE,
)
TITLES = {
    ("Chief complaint", "CC"),
    ("History", "HPI"),
    ("Past history", "PMH"),
    ("Family history", "FH"),
    ("Medications", "Meds"),
    ("Examination", "O/E"),
    ("Laboratory", "Labs"),
    ("Assessment and plan", "A/P"),
}


def sections(note):
    return dict(line.split(": ", 1) for line in note.split("\n"))


def statements(note):
    """(finding, 1 or 0) for each mention that is about the patient now."""
    for title, body in sections(note).items():
        if title in ("Family history", "FH"):
            continue
        for sentence in re.split(r"\.(?:\s|$)", body.lower()):
            if re.search(r"\bif\b|years ago", sentence):
                continue
            for part in sentence.split(" but "):
                for finding, words in LEXICON.items():
                    for match in re.finditer(rf"\b(?:{words})\b", part):
                        denied = re.search(BEFORE, part[: match.start()])
                        denied = denied or re.search(AFTER, part)
                        yield finding, 0 if denied else 1


def temperature(note):
    found = re.search(r"(?:\bT|[Tt]emperature) (\d+\.\d) °([CF])", note)
    if not found:
        return None
    value = float(found[1])
    return value if found[2] == "C" else round((value - 32) / 1.8, 1)


@pytest.fixture(scope="module")
def notes():
    return text.clinical_notes(1500, np.random.default_rng(0), misspelling=0)


@pytest.fixture(scope="module")
def first(notes):
    """(n_notes,) bool, the first note of each patient."""
    return np.diff(notes.patient_id, prepend=-1) == 1


def test_an_independent_reader_finds_exactly_the_status(notes):
    for note, row in zip(notes.texts, notes.status, strict=True):
        read = dict.fromkeys(notes.findings, -1)
        for finding, said in statements(note):
            assert read[finding] in (-1, said), f"{finding} contradicted in:\n{note}"
            read[finding] = said
        assert list(read.values()) == row.tolist(), note


def test_words_alone_do_not_give_the_status(notes):
    # the traps are there: a search for the words is wrong in most notes
    words = [re.compile(rf"\b(?:{w})\b", re.IGNORECASE) for w in LEXICON.values()]
    found = np.array([[bool(w.search(note)) for w in words] for note in notes.texts])
    assert (found != (notes.status == 1)).any(1).mean() > 0.8
    # and where nothing is said of the patient, something is said of others
    assert (found & (notes.status == -1)).any(1).mean() > 0.1


def test_a_patient_is_told_to_return_only_for_what_is_not_there(notes):
    for note, row in zip(notes.texts, notes.status, strict=True):
        after = " ".join(re.findall(r"\bif ([^.]*)\.", note))
        for words, said in zip(LEXICON.values(), row, strict=True):
            assert said != 1 or not re.search(rf"\b(?:{words})\b", after.lower())


def test_same_words_in_another_order_say_another_thing(notes):
    told = [
        dict(statements(f"History: {first}, no {second}."))
        for first, second in (("fever", "cough"), ("cough", "fever"))
    ]
    assert told == [{"fever": 1, "cough": 0}, {"cough": 1, "fever": 0}]
    for pattern in (r"\w+, no \w+", "but no", "no .* but", "no longer", "no improv"):
        assert any(re.search(pattern, note, re.IGNORECASE) for note in notes.texts)


def test_shapes_types_and_origin(notes):
    n = len(notes.texts)
    assert notes.status.shape == (n, 12) and notes.status.dtype == np.int8
    assert set(np.unique(notes.status)) == {-1, 0, 1}
    assert notes.patient_id.shape == notes.diagnosis.shape == (n,)
    assert notes.patient_id.dtype == notes.diagnosis.dtype == np.int64
    assert np.array_equal(np.unique(notes.patient_id), np.arange(1500))
    assert len(notes.diagnosis_names) == 8 and "heart failure" in notes.diagnosis_names
    assert notes.findings == tuple(LEXICON)
    assert (notes.licence, notes.stand_in) == ("CC BY 4.0", False)


def test_a_patient_has_one_to_three_notes_in_order_with_one_diagnosis(notes, first):
    counts = np.bincount(notes.patient_id)
    assert set(counts) == {1, 2, 3}
    assert (np.diff(notes.patient_id) >= 0).all()
    assert np.array_equal(notes.diagnosis, notes.diagnosis[first][notes.patient_id])


def test_findings_are_as_frequent_as_the_table_says(notes, first):
    status, diagnosis = notes.status[first], notes.diagnosis[first]
    for i, (*present, denied) in enumerate(text.PRESENT.values()):
        for d, share in enumerate(present):
            rows = status[diagnosis == d, i]
            spread = np.sqrt(share * (1 - share) / len(rows))
            assert abs((rows == 1).mean() - share) < 4.5 * spread + 1 / len(rows)
        others = status[status[:, i] != 1, i]
        spread = np.sqrt(denied * (1 - denied) / len(others))
        assert abs((others == 0).mean() - denied) < 4.5 * spread


def test_the_table_says_what_a_clinician_expects():
    likely = {name: row[:-1] for name, row in text.PRESENT.items()}
    names = list(text.PATIENTS)
    assert names[np.argmax(likely["dysuria"])] == "UTI"
    assert names[np.argmax(likely["chest pain"])] == "MI"
    assert names[np.argmax(likely["wheeze"])] == "asthma"
    assert names[np.argmax(likely["leg oedema"])] == "HF"
    assert all(0 < share < 1 for row in text.PRESENT.values() for share in row)
    assert sum(row[0] for row in text.PATIENTS.values()) == pytest.approx(1)


def test_findings_resolve_and_none_is_new(notes, first):
    later = np.flatnonzero(~first)
    before, now = notes.status[later - 1], notes.status[later]
    assert not (now[before != 1] == 1).any()
    gone = now[before == 1] == 0
    assert (now[before == 1] != -1).all()
    spread = np.sqrt(text.RESOLVED * (1 - text.RESOLVED) / len(gone))
    assert abs(gone.mean() - text.RESOLVED) < 4.5 * spread


def test_temperature_agrees_with_fever(notes):
    fever = notes.status[:, notes.findings.index("fever")] == 1
    taken = [temperature(note) for note in notes.texts]
    warm = [t >= 38 for t in taken if t is not None]
    assert len(warm) > 0.7 * len(taken)
    assert warm == [f for f, t in zip(fever, taken, strict=True) if t is not None]
    assert all(36 <= t <= 40 for t in taken if t is not None)


@pytest.mark.parametrize(
    ("name", "pattern", "low", "high"),
    [
        ("pulse", r"(?:HR|ulse rate) (\d+)/min", 40, 170),
        ("systolic pressure", r"(\d+)/\d+ mmHg", 80, 180),
        ("breaths", r"(?:RR|respiratory rate) (\d+)/min", 9, 32),
        ("saturation", r"(?:SpO2|xygen saturation) (\d+) %", 84, 100),
        ("age", r"(\d+)(?:yo|-year-old)", 18, 100),
        ("kilograms", r"eight (\d+) kg", 40, 110),
        ("pounds", r"eight (\d+) lb", 95, 245),
        ("glucose, conventional", r"lucose (\d+) mg/dL", 60, 500),
        ("glucose, second system", r"lucose (\d+\.\d) mmol/L", 3.5, 28),
        ("creatinine, conventional", r"(?:Cr|reatinine) (\d\.\d+) mg/dL", 0.5, 2),
        ("creatinine, second system", r"(?:Cr|reatinine) (\d+) µmol/L", 45, 180),
        ("HbA1c, second system", r"HbA1c (\d+) mmol/mol", 60, 120),
    ],
)
def test_values_are_plausible(notes, name, pattern, low, high):
    values = [float(v) for note in notes.texts for v in re.findall(pattern, note)]
    assert len(values) > 20
    assert low <= min(values) and max(values) <= high


def test_treatment_fits_the_illness(notes):
    # nitrofurantoin does not treat an infection that has reached the kidney
    fever, loin = (notes.findings.index(f) for f in ("fever", "loin tenderness"))
    upper = (notes.status[:, [fever, loin]] == 1).any(1)
    lower_drug = np.array(["itrofurantoin" in note for note in notes.texts])
    assert lower_drug.sum() > 10 and not (lower_drug & upper).any()
    # what lowers glucose is given in diabetes only
    diabetes = notes.diagnosis == notes.diagnosis_names.index("type 2 diabetes")
    for note in np.array(notes.texts)[~diabetes]:
        assert "insulin" not in note.lower()
        assert "etformin" not in note or re.search("T2DM|2 diabetes", note)


def test_notes_of_a_patient_share_what_identifies_the_patient(notes, first):
    starts = np.flatnonzero(first)
    pairs = [(i, i + 1) for i in starts if i + 1 < len(first) and not first[i + 1]]
    for i, j in pairs:
        ages = [re.search(r"(\d+)(?:yo|-year)", notes.texts[k]) for k in (i, j)]
        if all(ages):
            assert ages[0][1] == ages[1][1]
        units = [re.search("°[CF]", notes.texts[k]) for k in (i, j)]
        if all(units):
            assert units[0][0] == units[1][0]


def test_sections_stand_in_order_under_long_or_short_titles(notes):
    order = list(text.SECTIONS.items())
    assert set(order) == TITLES
    for note in notes.texts:
        titles = list(sections(note))
        style = 0 if titles[0] == "Chief complaint" else 1
        known = [pair[style] for pair in order]
        assert titles == [title for title in known if title in titles]
        assert {known[0], known[1], known[-1]} <= set(titles)


@pytest.mark.parametrize(("short", "long"), text.ABBREVIATIONS.items())
def test_every_abbreviation_is_used_and_written_out(notes, short, long):
    everything = "\n".join(notes.texts)
    assert re.search(rf"(?<![A-Za-z/]){short}\b", everything, re.IGNORECASE)
    assert re.search(re.escape(long), everything, re.IGNORECASE)


def test_misspellings_come_at_the_stated_rate_and_spare_what_decides(notes):
    rate = 0.1
    noisy = text.clinical_notes(1500, np.random.default_rng(0), misspelling=rate)
    assert np.array_equal(noisy.status, notes.status)
    changed = eligible = 0
    for clean, typed in zip(notes.texts, noisy.texts, strict=True):
        assert list(sections(clean)) == list(sections(typed))
        assert DECIDING.findall(clean) == DECIDING.findall(typed)
        clean, typed = (" ".join(sections(n).values()).split() for n in (clean, typed))
        for a, b in zip(clean, typed, strict=True):
            long = re.search(r"\b[A-Za-z][a-z]{3,}\b", a)
            eligible += bool(long) and long[0].lower() not in text.SPARED
            changed += a != b
    assert abs(changed / eligible - rate) < 4.5 * np.sqrt(rate * (1 - rate) / eligible)


def test_without_misspellings_the_vocabulary_is_small(notes):
    clean = Counter(re.findall(r"[a-z]{4,}", " ".join(notes.texts).lower()))
    noisy = text.clinical_notes(300, np.random.default_rng(0))
    typed = Counter(re.findall(r"[a-z]{4,}", " ".join(noisy.texts).lower()))
    assert len(clean) < 400 and set(typed) - set(clean)


def test_the_seed_decides():
    a, b, c = (text.clinical_notes(30, np.random.default_rng(s)) for s in (1, 1, 2))
    assert a.texts == b.texts and np.array_equal(a.status, b.status)
    assert a.texts != c.texts


@given(
    st.text("abcdefghijklmnopqrstuvwxyz", min_size=3, max_size=12),
    st.integers(0, 2**32 - 1),
)
def test_a_typing_error_changes_a_word_by_one_step(word, seed):
    typed = text.misspell(word, np.random.default_rng(seed))
    assert typed != word and typed[0] == word[0]
    assert abs(len(typed) - len(word)) <= 1
    if len(typed) == len(word):
        differ = [i for i, (a, b) in enumerate(zip(word, typed, strict=True)) if a != b]
        assert len(differ) == 1 or sorted(typed) == sorted(word)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((0, np.random.default_rng(0)), ValueError, "at least 1, got 0"),
        ((2.0, np.random.default_rng(0)), TypeError, "whole number, got 2.0"),
        ((True, np.random.default_rng(0)), TypeError, "whole number, got True"),
        ((3, 0), TypeError, "numpy.random.Generator, got int: make one by"),
        ((3, np.random.default_rng(0), 1.5), ValueError, "a share, 0 to 1, got 1.5"),
    ],
)
def test_clinical_notes_refuses_what_it_cannot_use(arguments, error, message):
    with pytest.raises(error, match=message):
        text.clinical_notes(*arguments)
