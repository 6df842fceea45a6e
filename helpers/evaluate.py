"""What a clinic asks of a model, and scikit-learn does not answer.

An interval is a tuple (low, estimate, high), as `figures.intervals` draws it.

Introduced in: concepts/learning_from_data
"""

import warnings
from typing import NamedTuple

import numpy as np


def proportion(k, n):
    """A share of patients with its 95 % interval after Wilson, which SciPy computes.

    It covers 95 of 100 truths on average, but 84 to 99 for a share so rare that fewer
    than 3 are expected.

    k: int, how many; 0 to n
    n: int, of how many; 1 or more
    Returns: (low, k / n, high), floats from 0 to 1
    Raises: ValueError if k or n is not a whole number in its range
    Source: Wilson (1927), doi 10.1080/01621459.1927.10502953
    Introduced in: concepts/learning_from_data
    """
    from scipy.stats import binomtest

    hits, of = _number("k", k), _number("n", n)
    if not (0 <= hits <= of < 2**53 and of >= 1) or hits % 1 or of % 1:
        raise ValueError(
            f"proportion(k, n) needs whole numbers, 0 <= k <= n and n >= 1, got k={k}, "
            f"n={n}: count with np.sum over an array of True and False"
        )
    low, high = binomtest(int(hits), int(of)).proportion_ci(method="wilson")
    return float(low), hits / of, float(high)


def area(y, score):
    """The area under the ROC curve with its 95 % interval after DeLong.

    The interval is normal on the logit of the area, so that it stays below 1. It
    takes rows as independent: with several rows a patient, use `bootstrap`. With few
    events and a high area it lies too high: of 100 truths it covers 89 with 15 events
    of 200 and an area of 0.95, 78 with 5 events, 94 with 15 events and 0.80.

    y: (n_samples,) array of 0 or 1; 1 means the event happened; two of each or more
    score: (n_samples,) finite numbers, higher for more likely
    Returns: (low, area, high), floats from 0 to 1; (1, 1, 1) or (0, 0, 0) if the
        scores separate the classes, when the method knows no interval
    Raises: ValueError if the shapes differ, y is not 0 and 1, or a score not finite
    Source: DeLong et al. (1988), doi 10.2307/2531595
    Introduced in: challenges/imbalance
    """
    from scipy.special import expit, logit

    (value,), cov = _delong(y, score)
    if not 0 < value < 1:
        return (float(value),) * 3
    half = 1.959964 * np.sqrt(cov[0, 0]) / (value * (1 - value))
    low, high = expit(logit(value) + np.array([-half, half]))
    return float(low), float(value), float(high)


def area_difference(y, score, other):
    """How much larger one area under the ROC curve is than another, on the same rows.

    Rather too wide, covering 97 to 98 of 100 truths, where some 15 events meet two
    scores that hardly differ.

    y: (n_samples,) array of 0 or 1; 1 means the event happened; two of each or more
    score, other: (n_samples,) finite numbers, higher for more likely
    Returns: (low, area of score minus area of other, high), the 95 % interval after
        DeLong; above 0 speaks for `score`
    Raises: ValueError as `area` does
    Source: DeLong et al. (1988), doi 10.2307/2531595
    Introduced in: challenges/imbalance
    """
    areas, cov = _delong(y, score, other)
    half = 1.959964 * np.sqrt(max(cov[0, 0] + cov[1, 1] - 2 * cov[0, 1], 0))
    gain = areas[0] - areas[1]
    return float(gain - half), float(gain), float(gain + half)


def _delong(y, *scores):
    """The areas and their covariance, from what each row contributes to them."""
    from scipy.stats import rankdata

    events, others, ranks = [], [], rankdata
    for score in scores:
        checked, score = _checked(y, score, risk=False)
        sick, well = score[checked == 1], score[checked == 0]
        if min(len(sick), len(well)) < 2:
            raise ValueError(
                "an area with its interval needs two rows or more of each class, got "
                f"{len(sick)} events of {len(score)}: take more rows"
            )
        both = ranks(np.concatenate([sick, well]))
        events.append((both[: len(sick)] - ranks(sick)) / len(well))
        others.append(1 - (both[len(sick) :] - ranks(well)) / len(sick))
    events, others = np.array(events), np.array(others)
    cov = [np.atleast_2d(np.cov(v)) / v.shape[1] for v in (events, others)]
    return events.mean(axis=1), cov[0] + cov[1]


def bootstrap(statistic, *columns, rng, patient_id=None, n_resamples=1000):
    """The 95 % interval of any statistic, by drawing patients anew; SciPy computes it.

    Bias-corrected and accelerated (BCa), or percentiles where BCa does not exist, as
    where all draws lie on one side of the estimate. With patient_id, whole patients
    are drawn, with all their rows: these are not independent witnesses. Where few
    patients decide it is too narrow: it covers 92 of 100 truths for a skewed mean of
    20 or a Brier difference of 60, 89 for the weighted share of a group of 30. For a
    median of counts it is too wide: all 100.

    statistic: callable, takes the columns and returns one number
    columns: one or more arrays, each (n_samples, ...), one row a measurement
    rng: numpy.random.Generator
    patient_id: (n_samples,) of any type that can be sorted, none missing; None for
        one row each
    n_resamples: int, 40 to 1,000,000, how often to draw; 1000 moves an end by a few
        hundredths of the interval's width from one rng to the next
    Returns: (low, estimate, high), floats
    Raises: ValueError if there is no column, the columns differ in length, an id is
        missing, there are fewer than two patients, the statistic of some draw is not a
        finite number, or statistic, rng or n_resamples is not as above
    Source: Efron (1987), doi 10.1080/01621459.1987.10478410
    Introduced in: challenges/calibration_and_decisions
    """
    import pandas as pd
    from scipy.stats import DegenerateDataWarning
    from scipy.stats import bootstrap as draw

    draws = _number("n_resamples", n_resamples)
    known = callable(statistic) and isinstance(rng, np.random.Generator)
    if not (known and 40 <= draws <= 1e6) or draws % 1:
        raise ValueError(
            "bootstrap needs a function of the columns, a numpy.random.Generator and "
            f"40 to 1,000,000 draws, got {statistic!r:.60}, rng={rng!r:.60} and "
            f"n_resamples={n_resamples!r:.60}: as in bootstrap(np.mean, x, rng=rng)"
        )
    columns = [np.atleast_1d(_array("a column", column, None)) for column in columns]
    if patient_id is None:
        patient_id = np.arange(len(columns[0]) if columns else 0)
    ids = np.ravel(_array("patient_id", patient_id, None))
    lengths = [len(column) for column in (*columns, ids)]
    patient, patients = pd.factorize(ids, sort=True)  # missing: -1
    if not columns or len(set(lengths)) > 1 or len(patients) < 2 or min(patient) < 0:
        raise ValueError(
            "bootstrap needs columns and ids of one length, from two patients or more, "
            f"none missing, got lengths {lengths}, {len(patients)} patients and "
            f"{np.sum(patient < 0)} ids missing"
        )
    sorted_rows = np.argsort(patient, kind="stable")
    rows = np.split(sorted_rows, np.cumsum(np.bincount(patient))[:-1])
    single = len(rows) == len(sorted_rows)  # then no list of rows, which would be slow

    def of(drawn):
        chosen = (
            sorted_rows[drawn] if single else np.concatenate([rows[k] for k in drawn])
        )
        found = statistic(*(column[chosen] for column in columns))
        value = _number("the statistic of a draw", found)
        if not np.isfinite(value):
            raise ValueError(
                f"the statistic of a draw is {found!s:.60}, not a finite number: "
                "perhaps the draw holds no event; take more patients, or another "
                "statistic"
            )
        return value

    patients = np.arange(len(rows))
    quiet = warnings.catch_warnings(action="ignore", category=DegenerateDataWarning)
    with quiet, np.errstate(invalid="ignore"):
        drawn = draw((patients,), of, vectorized=False, n_resamples=int(draws), rng=rng)
    low, high = drawn.confidence_interval
    if np.isnan(low):  # no draw lies above the estimate, or none below it
        low, high = np.quantile(drawn.bootstrap_distribution, (0.025, 0.975))
    return float(low), of(patients), float(high)


def predictive_values(sensitivity, specificity, prevalence):
    """What an alarm and what silence is worth where so many have the disease.

    sensitivity, specificity: float or array, 0 to 1
    prevalence: float or array, 0 to 1, the share with the disease where it is used
    Returns: (ppv, npv), floats or arrays: share of the alarms that are right, and of
        the silent who are well; NaN where there is no alarm, or no silence
    Raises: ValueError if a value is outside 0 to 1, or shapes do not fit together
    Source: Bayes' rule; a worked example in Gigerenzer et al. (2007),
        doi 10.1111/j.1539-6053.2008.00033.x
    Introduced in: challenges/calibration_and_decisions
    """
    given = {
        "sensitivity": sensitivity,
        "specificity": specificity,
        "prevalence": prevalence,
    }
    shares = [_array(name, value) for name, value in given.items()]
    for name, value in zip(given, shares, strict=True):
        if not ((value >= 0) & (value <= 1)).all():
            raise ValueError(
                f"predictive_values needs shares from 0 to 1, got {name}={given[name]}"
            )
    try:
        found, passed, sick = np.broadcast_arrays(*shares)
    except ValueError:
        raise ValueError(
            "predictive_values needs shapes that fit together, got "
            f"{[share.shape for share in shares]}: take numbers, or arrays of one shape"
        ) from None
    right, wrong = sick * found, (1 - sick) * (1 - passed)
    calm, missed = (1 - sick) * passed, sick * (1 - found)
    with np.errstate(invalid="ignore"):  # 0 / 0: nobody to ask
        return right / (right + wrong), calm / (calm + missed)


def multiply_odds(p, factor):
    """The risk whose odds p / (1 - p) are so many times as high.

    Carries risks to a place with another prevalence (factor: odds of the event there
    over odds where the model learned), and takes class weights or resampling back out
    (factor: 1 / weight of an event). Both hold if the model is calibrated.

    p: float or (n_samples,) array, risk, 0 to 1
    factor: float, above 0
    Returns: risks of the shape of p
    Raises: ValueError if a risk is outside 0 to 1 or the factor not above 0
    Source: Saerens et al. (2002), doi 10.1162/089976602753284446
    Introduced in: challenges/imbalance
    """
    p, times = _array("p", p), _number("factor", factor)
    wrong = np.sum(~((p >= 0) & (p <= 1)))
    if wrong or not 0 < times < np.inf:
        raise ValueError(
            "multiply_odds needs risks from 0 to 1 and a finite factor above 0, got "
            f"{wrong} of {p.size} risks outside and factor {factor}: take "
            "the sigmoid of log-odds, and as factor new odds over old"
        )
    return times * p / (times * p + (1 - p))  # so put, 1 stays 1 to the last bit


def cheapest_threshold(y, p, price):
    """The threshold that would have cost least on these rows.

    Chosen on the rows that it is judged on it looks too good: choose on one part,
    count the cost on another. For calibrated risks 1 / (1 + price) needs no rows.

    y: (n_samples,) array of 0 or 1; 1 means the event happened
    p: (n_samples,) array, predicted risk, 0 to 1; from the threshold on counts as alarm
    price: float, above 0: one missed event costs as much as this many false alarms
    Returns: float, the highest of the cheapest: one of the risks, or inf for no alarm
    Raises: ValueError if y, p or the price is not as above
    Introduced in: challenges/calibration_and_decisions
    """
    y, p = _checked(y, p)
    dear = _number("price", price)
    if not 0 < dear < np.inf:
        raise ValueError(
            f"cheapest_threshold needs a price above 0, got {price}: how many false "
            "alarms are as bad as one missed event?"
        )
    order = np.argsort(-p, kind="stable")
    saved = np.cumsum(np.where(y[order] == 1, dear, -1.0))
    last = np.append(p[order][1:] != p[order][:-1], True)  # equal risks go together
    best = np.argmax(np.where(last, saved, -np.inf))
    return float(p[order][best]) if saved[best] > 0 else np.inf


class Group(NamedTuple):
    """Rows with similar risks: what was said, and what came, with its interval.

    said: float, mean risk
    low, share, high: floats, the share with the event and its 95 % interval
    n: int, rows
    """

    said: float
    low: float
    share: float
    high: float
    n: int


def reliability(y, p, n_groups=10):
    """Compare risk and outcome in groups of rows with similar risks.

    y: (n_samples,) array of 0 or 1; 1 means the event happened
    p: (n_samples,) array, predicted risk, 0 to 1
    n_groups: int, how many, cut at the quantiles of the risk
    Returns: list of Group, in rising order of the risk; fewer than n_groups if risks
        repeat, since equal ones are not parted
    Raises: ValueError if y or p is not as above, or there are fewer rows than groups
    Source: as scikit-learn's calibration_curve(strategy="quantile"), with intervals
    Introduced in: keras/tabular_diagnosis
    """
    y, p = _checked(y, p)
    group = _groups(p, n_groups)
    return [
        Group(
            float(p[group == k].mean()),
            *proportion(y[group == k].sum(), np.sum(group == k)),
            int(np.sum(group == k)),
        )
        for k in np.unique(group)
    ]


def _groups(p, n_groups):
    """The group of each row: equal shares, and equal risks never apart."""
    n = _number("n_groups", n_groups)
    if not 1 <= n <= len(p) or n % 1:
        raise ValueError(
            f"{len(p)} rows cannot be put into {n_groups} groups: take a whole number "
            "from 1 to the number of rows"
        )
    edges = np.quantile(p, np.linspace(0, 1, int(n) + 1)[1:-1])
    return np.searchsorted(edges, p)


class BrierParts(NamedTuple):
    """score = miscalibration - resolution + uncertainty + within, each a float.

    score: the Brier score, 0 best
    miscalibration: mean squared gap of said and found in the groups, 0 best
    resolution: how far the groups' shares lie from the share of all, more is better
    uncertainty: share of all times its complement; no model changes it
    within: what grouping hides: 0 if the risks of a group are equal
    """

    score: float
    miscalibration: float
    resolution: float
    uncertainty: float
    within: float


def brier_parts(y, p, n_groups=10):
    """Take the Brier score apart: how wrong the risks are, and how much they tell.

    y: (n_samples,) array of 0 or 1; 1 means the event happened
    p: (n_samples,) array, predicted risk, 0 to 1
    n_groups: int, as in `reliability`; the parts, not the score, depend on it
    Returns: BrierParts
    Raises: ValueError as `reliability` does
    Source: Brier (1950), doi 10.1175/1520-0493(1950)078<0001:VOFEIT>2.0.CO;2; Murphy
        (1973), doi 10.1175/1520-0450(1973)012<0595:ANVPOT>2.0.CO;2
    Introduced in: challenges/calibration_and_decisions
    """
    y, p = _checked(y, p)
    _, group, n = np.unique(
        _groups(p, n_groups), return_inverse=True, return_counts=True
    )
    said, share = (np.bincount(group, v) / n for v in (p, y))
    score, base, part = np.mean((p - y) ** 2), y.mean(), n / len(y)
    miscalibration = np.sum(part * (said - share) ** 2)
    resolution, uncertainty = np.sum(part * (share - base) ** 2), base * (1 - base)
    within = score - (miscalibration - resolution + uncertainty)
    parts = score, miscalibration, resolution, uncertainty, within
    return BrierParts(*map(float, parts))


def temperature(y, z):
    """The number by which to divide the logits so that they fit the outcomes best.

    y: (n_samples,) array of 0 or 1; 1 means the event happened
    z: (n_samples,) array, log-odds before the sigmoid; the risk becomes
        sigmoid(z / temperature)
    Returns: float, above 0; above 1 if the model was too sure of itself
    Raises: ValueError if y or z is not as above, if every z has the sign of its
        outcome (then the best temperature is 0), or if z tells nothing or the
        opposite of the outcome (then it is infinite or negative)
    Source: Guo et al. (2017), doi 10.48550/arXiv.1706.04599
    Introduced in: challenges/calibration_and_decisions
    """
    from scipy.optimize import brentq
    from scipy.special import expit

    y, z = _checked(y, z, risk=False)
    size = np.abs(z).max() or 1.0
    z = z / size  # so that the solver's tolerance fits logits of any size

    def slope(beta):  # of the mean cross-entropy, by beta = 1 / temperature; rising
        return np.mean((expit(beta * z) - y) * z)

    apart, high = ((2 * y - 1) * z >= 0).all(), 1.0
    while slope(high) < 0 and not apart:
        high *= 2
    if slope(0.0) >= 0 or apart:
        raise ValueError(
            "no temperature above 0 fits best: "
            + (
                "the sign of z gives every outcome; take rows that are harder"
                if slope(0.0) < 0
                else "z is not higher for events; was it turned around?"
            )
        )
    return float(size / brentq(slope, 0.0, high))


def net_benefit(y, p, threshold, *, prevalence=None):
    """Right alarms, less false ones at the price that the threshold implies, a row.

    Treating nobody has 0; for treating everybody give p = 1 in every row.

    y: (n_samples,) array of 0 or 1; 1 means the event happened
    p: (n_samples,) array, predicted risk, 0 to 1; from the threshold on counts as alarm
    threshold: float or array, above 0 and below 1: who treats from this risk on holds
        one right alarm as dear as (1 - threshold) / threshold false ones
    prevalence: float, above 0 and below 1, share of events where it will be used, if
        that is not the share in y; p must be the risks there (`multiply_odds`)
    Returns: float or array of the shape of threshold; at most the share of events
    Raises: ValueError if y, p, a threshold or the prevalence is not as above, or if a
        prevalence is given and y holds one class only
    Source: Vickers and Elkin (2006), doi 10.1177/0272989X06295361
    Introduced in: challenges/calibration_and_decisions
    """
    y, p = _checked(y, p)
    t, share = _array("threshold", threshold), y.mean()
    if not ((t > 0) & (t < 1)).all():
        raise ValueError(
            f"net_benefit needs thresholds above 0 and below 1, got {threshold}: "
            "0.2 if one right alarm is worth four false ones"
        )
    there = share if prevalence is None else _number("prevalence", prevalence)
    if prevalence is not None and not (0 < there < 1 and 0 < share < 1):
        raise ValueError(
            "net_benefit carries results to a prevalence above 0 and below 1, from "
            f"rows of both classes, got {prevalence} and a share of events of {share}"
        )
    alarm = p >= t[..., None]
    right, wrong = ((alarm & (y == k)).mean(axis=-1) for k in (1, 0))
    if prevalence is not None:
        right, wrong = right * there / share, wrong * (1 - there) / (1 - share)
    return right - wrong * t / (1 - t)


def conformal_limit(scores, coverage):
    """The score that a new row stays below or at with this chance, or a little more.

    scores: (n,) finite numbers, how strange each row of a calibration part was, whose
        rows the model did not learn from and that come from where the new row comes
    coverage: float, above 0 and below 1
    Returns: float, the ceil((n + 1) * coverage)-th smallest score
    Raises: ValueError if the scores are not as above, or too few for the coverage
    Source: Angelopoulos and Bates (2023), doi 10.1561/2200000101
    Introduced in: challenges/fairness_and_shift
    """
    scores, chance = _array("scores", scores), _number("coverage", coverage)
    if scores.ndim != 1 or not np.isfinite(scores).all() or not 0 < chance < 1:
        raise ValueError(
            "conformal_limit needs finite scores of shape (n,) and a coverage above 0 "
            f"and below 1, got shape {scores.shape} and {coverage}"
        )
    place = int(np.ceil(round((len(scores) + 1) * chance, 9)))  # 9.000000001 is 9
    if place > len(scores):
        raise ValueError(
            f"{len(scores)} scores are too few for a coverage of {coverage}: take at "
            f"least {int(np.ceil(round(chance / (1 - chance), 9)))}"
        )
    return float(np.sort(scores)[place - 1])


def _checked(y, p, *, risk=True):
    """y as int and p as float, if they are what they should be."""
    given, y, p = y, _array("y", y), _array("predictions", p)
    if y.ndim != 1 or y.shape != p.shape or not len(y):
        raise ValueError(
            "outcomes and predictions need one shape (n_samples,), one row at least, "
            f"got {y.shape} and {p.shape}: a network's output loses its axis by [:, 0]"
        )
    if not np.isin(y, (0, 1)).all():
        raise ValueError(
            "an outcome is 0 or 1, 1 for the event, got "
            f"{list(dict.fromkeys(np.asarray(given).tolist()))[:5]}: compare first, as "
            "in y == 'ill'"
        )
    fine = np.isfinite(p) & ((p >= 0) & (p <= 1) if risk else True)
    if not fine.all():
        raise ValueError(
            f"predictions are finite{' risks from 0 to 1' if risk else ''}, got "
            f"{np.sum(~fine)} others, the first {p[~fine][0]:.4g}"
            + (": take the sigmoid of log-odds first" if risk else "")
        )
    return y.astype(int), p


def _array(name, value, dtype=float):
    """As floats, or as it is for dtype None; not text, dates or what is masked."""
    try:
        array = np.asarray(value)
        other = array.dtype.kind in "SUMmc" or array.dtype.names
        if np.ma.is_masked(value) or (dtype and other):
            raise TypeError
        return array.astype(float, copy=False) if dtype else array
    except (TypeError, ValueError, OverflowError):
        raise ValueError(
            f"{name} must be {'numbers' if dtype else 'of one shape'}, none missing or "
            f"masked, got {value!r:.60}: compare first, as in y == 'ill', or leave out "
            "the rows without a number"
        ) from None


def _number(name, value):
    """As one float, or NaN, which no caller takes, for several."""
    array = _array(name, value)
    return array.item() if array.size == 1 else np.nan
