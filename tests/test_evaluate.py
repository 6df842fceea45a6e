"""Held against papers, scikit-learn, SciPy, numbers by hand, laws and simulation."""

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.special import expit
from sklearn.calibration import CalibratedClassifierCV, calibration_curve
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import brier_score_loss, roc_auc_score

from helpers import evaluate

Y, P = [1, 0, 1, 0], [0.9, 0.4, 0.3, 0.2]


def test_a_share_worked_by_hand():
    # Wilson (1927) with z = 1.96 for 8 of 10
    z, n, p = 1.959964, 10, 0.8
    middle = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    low, share, high = evaluate.proportion(8, 10)
    assert share == 0.8
    assert (low, high) == pytest.approx((middle - half, middle + half), abs=1e-6)


@pytest.mark.parametrize(
    ("k", "n", "ends"),
    [
        (81, 263, (0.2553, 0.3662)),
        (15, 148, (0.0624, 0.1605)),
        (0, 20, (0.0000, 0.1611)),
        (1, 29, (0.0061, 0.1718)),
    ],
)
def test_intervals_of_a_share_are_those_that_newcombe_published(k, n, ends):
    # doi 10.1002/(SICI)1097-0258(19980430)17:8<857::AID-SIM777>3.0.CO;2-E, method 3
    assert evaluate.proportion(k, n)[::2] == pytest.approx(ends, abs=5e-5)


@settings(deadline=None)
@given(st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_the_interval_holds_the_share_and_stays_between_0_and_1(pair):
    low, share, high = evaluate.proportion(*pair)
    assert 0 <= low <= share + 1e-12 and share - 1e-12 <= high <= 1
    assert high - low > 0


def test_counts_from_numpy_are_taken():
    found = np.array([True, False, True])
    assert evaluate.proportion(found.sum(), found.size)[1] == pytest.approx(2 / 3)


@pytest.mark.parametrize("pair", [(3, 2), (-1, 2), (0, 0), (0.5, 2), (1, 2.5)])
def test_what_is_no_count_is_refused(pair):
    with pytest.raises(ValueError, match="needs whole numbers.*got k="):
        evaluate.proportion(*pair)


def test_the_interval_of_a_share_covers_the_truth_in_95_of_100():
    # without simulation: the chance of each count, for many true shares
    truth, counts = np.linspace(0.05, 0.95, 181), np.arange(41)
    low, _, high = np.array([evaluate.proportion(k, 40) for k in counts]).T
    chance = stats.binom.pmf(counts, 40, truth[:, None])
    covered = (low <= truth[:, None]) & (truth[:, None] <= high)
    assert 0.945 < (chance * covered).sum(axis=1).mean() < 0.96


def test_the_interval_of_a_share_that_is_rare_covers_as_it_happens():
    for n in (20, 50, 200, 500):
        truth, counts = np.linspace(0.1, 2.9, 141) / n, np.arange(n + 1)
        low, _, high = np.array([evaluate.proportion(k, n) for k in counts]).T
        chance = stats.binom.pmf(counts, n, truth[:, None])
        covered = (low <= truth[:, None]) & (truth[:, None] <= high)
        covers = (chance * covered).sum(axis=1)
        assert 0.835 < covers.min() < 0.86 and 0.98 < covers.max() < 0.995


# DeLong et al. (1988): albumin, total protein, K-G score, outcome
OVARIAN = np.array(
    """
    3.0 5.8 10 0  3.2 6.3  5 1  3.9 6.8  3 1  2.8 4.8  6 0  3.2 5.8  3 1  0.9 4.0  5 0
    2.5 5.7  8 0  1.6 5.6  5 1  3.8 5.7  5 1  3.7 6.7  6 1  3.2 5.4  4 1  3.8 6.6  6 1
    4.1 6.6  5 1  3.6 5.7  5 1  4.3 7.0  4 1  3.6 6.7  4 0  2.3 4.4  6 1  4.2 7.6  4 0
    4.0 6.6  6 0  3.5 5.8  6 1  3.8 6.8  7 1  3.0 4.7  8 0  4.5 7.4  5 1  3.7 7.4  5 1
    3.1 6.6  6 1  4.1 8.2  6 1  4.3 7.0  5 1  4.3 6.5  4 1  3.2 5.1  5 1  2.6 4.7  6 1
    3.3 6.8  6 0  1.7 4.0  7 0  3.7 6.1  5 1  3.3 6.3  7 1  4.2 7.7  6 1  3.5 6.2  5 1
    2.9 5.7  9 0  2.1 4.8  7 1  2.8 6.2  8 0  4.0 7.0  7 1  3.3 5.7  6 1  3.7 6.9  5 1
    3.6 6.6  5 1
    """.split(),
    float,
).reshape(43, 4)
ALBUMIN, PROTEIN, KG, OUTCOME = OVARIAN.T
KG = 10 - KG  # higher for the event, as the others


def logit_interval(value, error):
    """By hand: the interval of an area from its standard error."""
    half = 1.959964 * error / (value * (1 - value))
    middle = math.log(value / (1 - value))
    return [1 / (1 + math.exp(-(middle + by))) for by in (-half, half)]


@pytest.mark.parametrize(
    ("score", "value", "error"),
    [(ALBUMIN, 0.7366, 0.0927), (KG, 0.7258, 0.1028), (PROTEIN, 0.6478, 0.1000)],
)
def test_areas_and_their_errors_are_those_that_delong_published(score, value, error):
    low, found, high = evaluate.area(OUTCOME, score)
    assert found == pytest.approx(value, abs=5e-5)
    assert [low, high] == pytest.approx(logit_interval(value, error), abs=2e-4)


@pytest.mark.parametrize(
    ("score", "published"),
    [(ALBUMIN, (-0.1761, 0.0108, 0.1976)), (PROTEIN, (-0.2830, -0.0780, 0.1271))],
)
def test_differences_of_areas_are_those_that_delong_published(score, published):
    found = evaluate.area_difference(OUTCOME, score, KG)
    assert found == pytest.approx(published, abs=1e-4)


def test_the_area_is_that_which_hanley_and_mcneil_published():
    ratings = np.repeat([1, 2, 3, 4, 5] * 2, [33, 6, 6, 11, 2, 3, 2, 2, 11, 33])
    y = np.repeat([0, 1], [58, 51])
    low, value, high = evaluate.area(y, ratings)
    assert value == pytest.approx(0.8932, abs=5e-5)
    assert [low, high] == pytest.approx(logit_interval(0.8932, 0.0307), abs=2e-4)


def test_one_alarm_in_eleven_is_right_as_gigerenzer_published():
    ppv, npv = evaluate.predictive_values(0.90, 0.91, 0.01)
    # of 10,000: 90 + 891 alarms; 9,009 silent well and 10 missed
    assert ppv == pytest.approx(90 / 981) and npv == pytest.approx(9009 / 9019)
    assert round(98 * float(ppv)) == 9


FEW = st.lists(st.integers(-8, 8), min_size=2, max_size=12)
TIED = st.tuples(FEW, FEW).map(
    lambda both: (np.repeat([1, 0], [len(both[0]), len(both[1])]), np.hstack(both))
)


def pairs(y, score):
    """For each event (row) and other (column): 1 if ranked rightly, 1/2 if equal."""
    gap = score[y == 1][:, None] - score[y == 0]
    return (gap > 0) + (gap == 0) / 2


@settings(max_examples=100, deadline=None)
@given(TIED)
def test_the_area_is_that_of_scikit_learn_with_ties(rows):
    assert evaluate.area(*rows)[1] == pytest.approx(roc_auc_score(*rows))


@settings(max_examples=100, deadline=None)
@given(TIED)
def test_the_error_of_an_area_is_that_of_counting_pairs(rows):
    won = pairs(*rows)
    assume(0 < won.mean() < 1)
    variance = sum(np.var(won.mean(axis=k), ddof=1) / won.shape[1 - k] for k in (0, 1))
    low, _, high = evaluate.area(*rows)
    hand = logit_interval(won.mean(), math.sqrt(variance))
    assert [low, high] == pytest.approx(hand, abs=1e-6)


@settings(max_examples=100, deadline=None)
@given(TIED, st.randoms(use_true_random=False))
def test_the_error_of_a_difference_is_that_of_counting_pairs(rows, random):
    y, score = rows
    other = score + [random.randint(-4, 4) for _ in y]
    more = pairs(y, score) - pairs(y, other)
    variance = sum(
        np.var(more.mean(axis=k), ddof=1) / more.shape[1 - k] for k in (0, 1)
    )
    half = 1.959964 * math.sqrt(variance)
    hand = (more.mean() - half, more.mean(), more.mean() + half)
    found = evaluate.area_difference(y, score, other)
    assert found == pytest.approx(hand, abs=1e-6)
    turned = evaluate.area_difference(y, other, score)[::-1]
    assert [-end for end in turned] == pytest.approx(found, abs=1e-6)


@settings(max_examples=100, deadline=None)
@given(TIED)
def test_only_the_order_of_the_scores_makes_the_area(rows):
    y, score = rows
    found = evaluate.area(y, score)
    assert evaluate.area(y, np.exp(score / 3)) == pytest.approx(found)
    turned = [1 - end for end in evaluate.area(y, -score)[::-1]]
    assert turned == pytest.approx(found)


def test_scores_that_separate_the_classes_have_an_area_without_a_width():
    y, score = [0, 0, 1, 1, 1], np.arange(5)
    assert evaluate.area(y, score) == (1, 1, 1)
    assert evaluate.area(y, -score) == (0, 0, 0)
    assert evaluate.area(y, np.ones(5)) == (0.5, 0.5, 0.5)


def test_outcomes_may_be_true_and_false_and_in_lists():
    found = evaluate.area([True, False, True, False], [3, 1, 2, 2])
    assert found == evaluate.area(np.array([1.0, 0, 1, 0]), np.array([3, 1, 2, 2]))


def test_the_interval_of_an_area_covers_the_truth_in_95_of_100():
    rng, n = np.random.default_rng(1), 2000
    y, truth = np.repeat([1, 0], [30, 60]), 0.8
    shift = math.sqrt(2) * stats.norm.ppf(truth)  # of normal scores with this area
    low, _, high = np.array(
        [evaluate.area(y, rng.normal(shift * y)) for _ in range(n)]
    ).T
    assert 0.93 < np.mean((low <= truth) & (truth <= high)) < 0.97


@pytest.mark.parametrize(
    ("events", "truth", "least", "most"),
    [(15, 0.8, 0.92, 0.955), (15, 0.95, 0.87, 0.91), (5, 0.95, 0.75, 0.81)],
)
def test_with_few_events_and_a_high_area_the_interval_lies_too_high(
    events, truth, least, most
):
    rng, y = np.random.default_rng(16), np.repeat([1, 0], [events, 200 - events])
    shift = math.sqrt(2) * stats.norm.ppf(truth)
    low, _, high = np.array(
        [evaluate.area(y, rng.normal(shift * y)) for _ in range(1500)]
    ).T
    assert least < np.mean((low <= truth) & (truth <= high)) < most
    assert np.mean(low > truth) > 1.2 * np.mean(high < truth)


@pytest.mark.parametrize(
    ("areas", "alike", "n_rows", "least", "most"),
    [
        ((0.85, 0.75), 0.5, (40, 60), 0.93, 0.97),
        ((0.86, 0.85), 0.99, (40, 160), 0.93, 0.97),
        ((0.8, 0.8), 0.999, (15, 185), 0.965, 0.995),  # so the docstring warns
    ],
)
def test_the_interval_of_a_difference_covers_the_truth_in_95_of_100(
    areas, alike, n_rows, least, most
):
    rng, n = np.random.default_rng(2), 1500
    y, truth = np.repeat([1, 0], n_rows), areas[0] - areas[1]
    shift = math.sqrt(2) * stats.norm.ppf(areas)
    # two models err on the same patients
    root = np.linalg.cholesky([[1, alike], [alike, 1]])
    found = []
    for _ in range(n):
        scores = shift * y[:, None] + rng.normal(size=(len(y), 2)) @ root.T
        found.append(evaluate.area_difference(y, *scores.T))
    low, gain, high = np.array(found).T
    assert least < np.mean((low <= truth) & (truth <= high)) < most
    assert gain.mean() == pytest.approx(truth, abs=0.01)


def test_the_bootstrap_gives_the_bca_interval_of_another_program():
    # R's package boot, 1,000,000 draws, as SciPy's own tests print it (32.31, 91.43)
    x = [10, 12, 12.5, 12.5, 13.9, 15, 21, 22, 23, 34, 50, 81, 89, 121, 134, 213]
    rng = np.random.default_rng(17)
    low, mean, high = evaluate.bootstrap(np.mean, x, rng=rng, n_resamples=40_000)
    assert (low, high) == pytest.approx((32.31, 91.43), rel=0.01)
    assert mean == pytest.approx(np.mean(x))


def sensitivity(y, alarm):
    return alarm[y == 1].mean()


def test_with_one_row_a_patient_the_bootstrap_is_that_of_scipy():
    data = np.random.default_rng(3)
    y, alarm = np.array([1, 0] * 30), data.random(60) < 0.7
    found = evaluate.bootstrap(
        sensitivity, y, alarm, rng=np.random.default_rng(4), n_resamples=400
    )
    known = stats.bootstrap(
        (y, alarm),
        sensitivity,
        paired=True,
        vectorized=False,
        n_resamples=400,
        rng=np.random.default_rng(4),
    ).confidence_interval
    assert found == pytest.approx((known.low, sensitivity(y, alarm), known.high))
    assert found[0] < found[1] < found[2]


@pytest.mark.parametrize(
    ("statistic", "x"),
    [
        (lambda x: np.unique(x).sum(), np.sqrt(np.arange(30))),  # every draw lies below
        (np.median, np.repeat([1, 2, 3, 4, 5], [5, 5, 9, 5, 5])),  # one row moves none
        (np.mean, np.full(9, 0.25)),
    ],
)
@pytest.mark.filterwarnings("error")
def test_percentiles_are_taken_where_the_other_interval_does_not_exist(statistic, x):
    found = evaluate.bootstrap(statistic, x, rng=np.random.default_rng(6))
    known = stats.bootstrap(
        (x,),
        statistic,
        method="percentile",
        vectorized=False,
        n_resamples=1000,
        rng=np.random.default_rng(6),
    ).confidence_interval
    assert found == pytest.approx((known.low, statistic(x), known.high))


def test_a_row_that_stands_three_times_tells_no_more_than_once():
    x = np.random.default_rng(7).gamma(2, size=25)
    ids = np.array([f"patient {k:02}" for k in range(25)])
    once = evaluate.bootstrap(np.mean, x, rng=np.random.default_rng(8))
    thrice = evaluate.bootstrap(
        np.mean,
        np.repeat(x, 3),
        rng=np.random.default_rng(8),
        patient_id=np.repeat(ids, 3),
    )
    assert thrice == pytest.approx(once)


def test_patients_are_drawn_whole_wherever_their_rows_stand():
    data, sizes = np.random.default_rng(9), np.array([2, 3, 5, 2, 7, 4, 3, 2, 6, 3])
    ids = data.permutation(np.repeat(np.arange(10), sizes))
    X = data.normal(size=(len(ids), 2)) + ids[:, None]

    def gap(X, ids):
        assert (np.bincount(ids, minlength=10) % sizes == 0).all()
        return X[:, 0].mean() - 2 * X[:, 1].mean()

    moved = np.argsort(ids, kind="stable")
    found, again = (
        evaluate.bootstrap(
            gap,
            X[rows],
            ids[rows],
            rng=np.random.default_rng(10),
            patient_id=ids[rows],
            n_resamples=200,
        )
        for rows in (np.arange(len(ids)), moved)
    )
    assert found == pytest.approx(again)
    assert found[1] == pytest.approx(gap(X, ids))


def test_the_rows_of_a_patient_stay_in_their_order():
    rng, visit = np.random.default_rng(22), np.arange(400)
    ids = rng.permutation(np.repeat(np.arange(8), 50))

    def first_visit(visit):
        assert (np.diff(visit.reshape(-1, 50)) > 0).all()
        return visit.reshape(-1, 50)[:, 0].mean()

    evaluate.bootstrap(first_visit, visit, rng=rng, patient_id=ids, n_resamples=41)


def test_two_patients_are_enough_to_draw_from():
    # each twice with a chance of 1/4: the percentiles, and BCa, are the two values
    rng = np.random.default_rng(23)
    assert evaluate.bootstrap(np.mean, [1, 3], rng=rng) == pytest.approx((1, 2, 3))


def test_the_bootstrap_covers_the_truth_in_95_of_100():
    rng, truth, hits = np.random.default_rng(11), 0.75, []
    for _ in range(400):
        y, chance = rng.random(60) < 0.75, rng.random(60)
        found = evaluate.bootstrap(
            sensitivity, y, chance < truth, rng=rng, n_resamples=300
        )
        hits.append(found[0] <= truth <= found[2])
    assert 0.93 < np.mean(hits) < 0.97


def said_and_came(rng, n):
    z = rng.normal(-1.5, 1.2, n)
    return (rng.random(n) < expit(z)).astype(float), z


def benefit(y, z):
    alarm = z >= math.log(0.2 / 0.8)
    return np.mean(alarm * (y - (1 - y) * 0.2 / 0.8))


def brier_difference(y, z):
    return np.mean((expit(z + 0.5) - y) ** 2 - (expit(1.5 * z) - y) ** 2)


@pytest.mark.parametrize("statistic", [benefit, brier_difference])
def test_the_bootstrap_covers_net_benefits_and_brier_differences(statistic):
    rng, hits = np.random.default_rng(18), []
    truth = statistic(*said_and_came(rng, 2_000_000))
    for _ in range(200):
        rows = said_and_came(rng, 200)
        low, _, high = evaluate.bootstrap(statistic, *rows, rng=rng, n_resamples=200)
        hits.append(low <= truth <= high)
    assert 0.92 < np.mean(hits) < 0.97


@pytest.mark.parametrize(
    ("statistic", "draw", "runs", "truth", "least", "most"),
    [
        (np.mean, lambda rng: rng.exponential(size=20), 400, 1, 0.88, 0.93),
        (np.median, lambda rng: rng.poisson(3.2, 60), 80, 3, 0.98, 1),
    ],
)
def test_the_bootstrap_covers_too_little_or_too_much_where_the_docstring_says_so(
    statistic, draw, runs, truth, least, most
):
    rng, hits = np.random.default_rng(19), []
    for _ in range(runs):
        low, _, high = evaluate.bootstrap(
            statistic, draw(rng), rng=rng, n_resamples=200
        )
        hits.append(low <= truth <= high)
    assert least <= np.mean(hits) <= most


def clustered(rng, n_patients):
    """Three rows a patient, found or missed; rows of a patient are much alike."""
    ids = np.repeat(np.arange(n_patients), 3)
    return rng.random(len(ids)) < rng.beta(0.75, 0.25, n_patients)[ids], ids


def test_with_three_rows_a_patient_the_bootstrap_covers_if_told_of_patients():
    rng, hits = np.random.default_rng(12), []
    for _ in range(400):
        found, ids = clustered(rng, 80)
        low, _, high = evaluate.bootstrap(
            np.mean, found, rng=rng, patient_id=ids, n_resamples=300
        )
        hits.append(low <= 0.75 <= high)
    assert 0.93 < np.mean(hits) < 0.97


def test_with_three_rows_a_patient_the_bootstrap_misses_if_not_told():
    rng, hits = np.random.default_rng(13), []
    for _ in range(150):
        found, _ = clustered(rng, 30)
        low, _, high = evaluate.bootstrap(np.mean, found, rng=rng, n_resamples=200)
        hits.append(low <= 0.75 <= high)
    assert np.mean(hits) < 0.9


SHARE = st.floats(0.01, 0.99)


@settings(max_examples=100, deadline=None)
@given(SHARE, SHARE, SHARE, SHARE)
def test_an_alarm_is_worth_elsewhere_what_its_odds_say(found, passed, here, there):
    factor = there / (1 - there) / (here / (1 - here))
    ppv, npv = evaluate.predictive_values(found, passed, np.array([here, there]))
    assert evaluate.multiply_odds(ppv[0], factor) == pytest.approx(ppv[1])
    assert evaluate.multiply_odds(1 - npv[0], factor) == pytest.approx(1 - npv[1])


def test_where_there_is_no_alarm_or_no_silence_its_worth_is_not_a_number():
    ppv, npv = evaluate.predictive_values(1, [1, 0, 0.5], [0, 1, 0])
    assert ppv == pytest.approx([np.nan, 1, 0], nan_ok=True)
    assert npv == pytest.approx([1, np.nan, 1], nan_ok=True)


def test_odds_worked_by_hand():
    assert evaluate.multiply_odds(0.5, 1 / 5) == pytest.approx(1 / 6)
    # odds of 1 to 4 become 3 to 4; of 3 to 1, 9 to 1
    assert evaluate.multiply_odds([[0.2, 0.75]], 3) == pytest.approx(
        np.array([[3 / 7, 0.9]])
    )


@settings(max_examples=300, deadline=None)
@given(st.lists(st.floats(0, 1), max_size=9), st.floats(1e-6, 1e6))
def test_multiplied_odds_are_risks_and_can_be_divided_again(p, factor):
    there = evaluate.multiply_odds(p, factor)
    assert ((there >= 0) & (there <= 1)).all()  # not 1 + 2e-16: `reliability` refuses
    assert (np.diff(there[np.argsort(p)]) >= 0).all()
    back = evaluate.multiply_odds(there, 1 / factor)
    assert back == pytest.approx(np.array(p), abs=1e-9)


@pytest.mark.parametrize("factor", [1e-17, 0.2, 0.3, 1, 7, 1e17])
def test_what_is_certain_stays_certain(factor):
    assert evaluate.multiply_odds([0, 1], factor).tolist() == [0, 1]


def test_the_odds_take_the_weight_of_a_class_back_out():
    # a weight of 4 for events doubles the odds twice: fit a risk, without features
    y = np.repeat([1, 0], [10, 90])
    weighted = np.average(y, weights=np.where(y == 1, 4, 1))
    assert evaluate.multiply_odds(weighted, 1 / 4) == pytest.approx(0.1)


def test_a_threshold_worked_by_hand():
    y, p = [1, 0, 1, 0, 0, 0, 1], [0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3]
    # from 0.9: 2 missed; from 0.7: 1 missed and 1 false; from 0.3: 4 false
    assert evaluate.cheapest_threshold(y, p, price=0.5) == 0.9
    assert evaluate.cheapest_threshold(y, p, price=2) == 0.7
    assert evaluate.cheapest_threshold(y, p, price=4) == 0.3
    assert evaluate.cheapest_threshold(y, p, price=3) == 0.7  # both cost 4
    assert evaluate.cheapest_threshold([0, 0], [0.9, 0.1], price=100) == np.inf
    assert evaluate.cheapest_threshold([0, 1], [0.5, 0.5], price=1) == np.inf
    assert evaluate.cheapest_threshold([0, 1], [0.5, 0.5], price=1.25) == 0.5


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 1), st.integers(0, 10)), min_size=1, max_size=20),
    st.sampled_from([0.125, 0.5, 1, 1.5, 3, 10]),
)
def test_no_threshold_costs_less_and_none_that_is_higher_as_little(rows, price):
    y, p = np.array(rows).T
    p = p / 10

    def cost(threshold):
        return price * (y[p < threshold]).sum() + (1 - y[p >= threshold]).sum()

    all_of_them = [*np.unique(p), np.inf]
    least = min(map(cost, all_of_them))
    best = max(one for one in all_of_them if cost(one) == least)
    assert evaluate.cheapest_threshold(y, p, price) == best


def test_for_calibrated_risks_the_price_alone_gives_the_threshold():
    # of 10 rows with risk k / 10, k have the event
    p = np.repeat(np.arange(1, 10) / 10, 10)
    y = np.tile(np.arange(10), 9) < np.repeat(np.arange(1, 10), 10)
    assert evaluate.cheapest_threshold(y, p, price=3) == 0.3  # 1 / (1 + 3) and above


@pytest.mark.parametrize(("n", "n_groups"), [(200, 10), (200, 7), (123, 5), (30, 1)])
def test_groups_are_those_of_scikit_learn_where_risks_do_not_repeat(n, n_groups):
    rng = np.random.default_rng(n)
    p = rng.random(n) ** 2
    y = rng.random(n) < p
    groups = evaluate.reliability(y, p, n_groups)
    share, said = calibration_curve(y, p, n_bins=n_groups, strategy="quantile")
    assert [group.said for group in groups] == pytest.approx(said)
    assert [group.share for group in groups] == pytest.approx(share)
    sizes = [group.n for group in groups]
    assert sum(sizes) == n and max(sizes) - min(sizes) <= 1
    for _, *interval, size in groups:
        assert interval == [*evaluate.proportion(round(interval[1] * size), size)]


def test_groups_worked_by_hand():
    y, p = [0, 1, 0, 1, 1, 0], [0.2, 0.9, 0.1, 0.8, 0.7, 0.3]
    low, high = evaluate.reliability(y, p, n_groups=2)
    assert (low.n, high.n) == (3, 3) and (low.share, high.share) == (0, 1)
    assert (low.said, high.said) == pytest.approx((0.2, 0.8))
    assert high[1:4] == evaluate.proportion(3, 3)
    # a row on the border belongs to the lower group
    assert [g.n for g in evaluate.reliability([0, 0, 1], [0.1, 0.2, 0.3], 2)] == [2, 1]


ROWS = st.lists(
    st.tuples(st.integers(0, 1), st.integers(0, 6)), min_size=1, max_size=40
).flatmap(lambda rows: st.tuples(st.just(rows), st.integers(1, len(rows))))


@settings(max_examples=100, deadline=None)
@given(ROWS)
def test_equal_risks_are_never_put_into_two_groups(drawn):
    rows, n_groups = drawn
    y, p = np.array(rows).T
    groups = evaluate.reliability(y, p / 6, n_groups)
    assert 1 <= len(groups) <= n_groups and sum(group.n for group in groups) == len(y)
    assert (np.diff([group.said for group in groups]) > 0).all()
    ends = np.cumsum([group.n for group in groups])[:-1]
    assert (np.sort(p)[ends] > np.sort(p)[ends - 1]).all()
    events = sum(group.share * group.n for group in groups)
    assert events == pytest.approx(y.sum())


def test_a_brier_score_worked_by_hand():
    parts = evaluate.brier_parts([0, 1, 1, 1], [0.2, 0.2, 0.8, 0.8], n_groups=2)
    # said 0.2 and 0.8, found 1/2 and 1, of all 3/4
    assert parts == pytest.approx((0.19, 0.065, 0.0625, 0.1875, 0), abs=1e-12)
    assert parts._fields[1:3] == ("miscalibration", "resolution")
    hidden = evaluate.brier_parts([0, 1], [0, 1], n_groups=1)
    assert hidden == (0, 0, 0, 0.25, -0.25)


@settings(max_examples=100, deadline=None)
@given(ROWS)
def test_the_parts_add_up_to_the_score_of_scikit_learn(drawn):
    rows, n_groups = drawn
    y, p = np.array(rows).T
    parts = evaluate.brier_parts(y, p / 6, n_groups)
    known = brier_score_loss(y, p / 6, pos_label=1)
    assert parts.score == pytest.approx(known, abs=1e-12)
    total = parts.miscalibration - parts.resolution + parts.uncertainty + parts.within
    assert total == pytest.approx(parts.score, abs=1e-12)
    base = np.mean(y)
    assert parts.uncertainty == pytest.approx(base * (1 - base))
    assert parts.miscalibration >= 0 and -1e-12 <= parts.resolution
    assert parts.resolution <= parts.uncertainty + 1e-12
    groups = evaluate.reliability(y, p / 6, n_groups)
    weights = np.array([group.n for group in groups]) / len(y)
    said, _, share, _, _ = np.array(groups).T
    assert parts.miscalibration == pytest.approx(weights @ (said - share) ** 2)
    assert parts.resolution == pytest.approx(weights @ (share - base) ** 2, abs=1e-12)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 1), min_size=40, max_size=40))
def test_grouping_hides_nothing_where_risks_take_few_values(y):
    p = np.repeat([0.1, 0.3, 0.5, 0.9], 10)
    assert evaluate.brier_parts(y, p, 4).within == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("events", [1, 3, 7])
def test_to_say_the_share_of_all_is_calibrated_and_tells_nothing(events):
    y = np.repeat([1, 0], [events, 9])
    parts = evaluate.brier_parts(y, np.full(len(y), y.mean()))
    assert parts[1:3] == pytest.approx((0, 0), abs=1e-12)
    assert parts.score == pytest.approx(parts.uncertainty)


def test_a_temperature_worked_by_hand():
    # two of three right on each side, so that sigmoid(1 / temperature) = 2 / 3
    found = evaluate.temperature([1, 1, 0, 0, 0, 1], [1, 1, 1, -1, -1, -1])
    assert found == pytest.approx(1 / math.log(2))


@pytest.mark.parametrize("scale", [1e-300, 0.01, 0.5, 1, 3, 200, 1e12, 1e300])
def test_the_temperature_is_that_of_a_logistic_regression_through_zero(scale):
    rng = np.random.default_rng(14)
    z = rng.normal(-1, 2, 400)
    y = rng.random(400) < expit(z)
    found = evaluate.temperature(y, scale * z)
    model = LogisticRegression(C=np.inf, fit_intercept=False, tol=1e-10, max_iter=1000)
    model.fit(z[:, None], y)
    assert found == pytest.approx(scale / model.coef_[0, 0], rel=1e-6)


@pytest.mark.parametrize(
    ("y", "z"), [([1, 1, 0], [2, -1, -1]), ([0, 0, 1], [-2, 1, 1])]
)
def test_one_class_alone_may_hold_the_logits_of_the_wrong_sign(y, z):
    beta = 1 / evaluate.temperature(y, z)
    # where the slope is 0, by hand
    assert 2 * expit(-beta) + 2 * expit(-2 * beta) == pytest.approx(1)


def test_the_temperature_is_that_of_scikit_learn():
    rng = np.random.default_rng(20)
    X = rng.normal(size=(300, 2))
    y = (rng.random(300) < expit(X @ [2, -1] - 1)).astype(int)
    model = FrozenEstimator(LogisticRegression(C=100).fit(X[:40], y[:40]))
    cooled = CalibratedClassifierCV(model, method="temperature").fit(X[40:], y[40:])
    z = model.decision_function(X)
    risk = expit(z / evaluate.temperature(y[40:], z[40:]))
    assert risk == pytest.approx(cooled.predict_proba(X)[:, 1], abs=1e-6)


def test_the_temperature_of_a_model_that_is_three_times_too_sure_is_three():
    rng = np.random.default_rng(15)
    z = rng.normal(0, 2, 20_000)
    y = rng.random(20_000) < expit(z)
    assert evaluate.temperature(y, 3 * z) == pytest.approx(3, rel=0.05)


@pytest.mark.parametrize(
    ("y", "z"),
    [
        ([1, 0], [1e-4, -1e-4]),
        ([1, 0], [2, -2]),
        ([1, 0], [800, -800]),
        ([1, 0, 1, 0, 0], [2.5, -0.1, 7, -30, 0]),
        ([1, 1], [1, 2]),
    ],
)
def test_logits_that_separate_the_classes_have_no_temperature(y, z):
    with pytest.raises(ValueError, match="sign of z gives every outcome; take rows"):
        evaluate.temperature(y, z)


@pytest.mark.parametrize(
    ("y", "z"), [([1, 0], [-1, 1]), ([1, 0, 1], [0, 0, 0]), ([1, 0], [1, 1])]
)
def test_logits_that_tell_nothing_or_the_opposite_have_no_temperature(y, z):
    with pytest.raises(ValueError, match="z is not higher for events; was it turned"):
        evaluate.temperature(y, z)


def test_a_net_benefit_worked_by_hand():
    y = [1, 1, 1, 0, 0, 0, 0, 0, 0, 0]
    p = [0.9, 0.2, 0.1, 0.8, 0.3, 0.2, 0.1, 0.1, 0, 0]
    # from 0.2: 2 right and 3 false of 10, a false one worth 1/4 of a right one
    assert evaluate.net_benefit(y, p, 0.2) == pytest.approx(0.2 - 0.3 / 4)
    found = evaluate.net_benefit(y, p, [[0.2, 0.5], [0.85, 0.95]])
    by_hand = np.array([[0.125, 0.1 - 0.1], [0.1, 0]])
    assert found.shape == (2, 2) and found == pytest.approx(by_hand)


def test_to_treat_all_is_worth_what_vickers_published():
    # doi 10.1186/s41512-019-0064-7: of 100 men 25 have the cancer; a threshold of 10 %
    y = np.repeat([1, 0], [25, 75])
    found = evaluate.net_benefit(y, np.ones(100), 0.1)
    assert found == pytest.approx(0.167, abs=5e-4)


@settings(max_examples=100, deadline=None)
@given(ROWS, st.floats(0.01, 0.99))
def test_net_benefit_has_the_bounds_of_all_nobody_and_the_events(drawn, threshold):
    y, p = np.array(drawn[0]).T
    base, odds = np.mean(y), threshold / (1 - threshold)
    everybody = evaluate.net_benefit(y, np.ones(len(y)), threshold)
    assert everybody == pytest.approx(base - (1 - base) * odds)
    assert evaluate.net_benefit(y, np.zeros(len(y)), threshold) == 0
    assert evaluate.net_benefit(y, y, threshold) == pytest.approx(base)
    assert evaluate.net_benefit(y, p / 6, threshold) <= base + 1e-12


@settings(max_examples=50, deadline=None)
@given(ROWS, st.integers(1, 4), st.integers(1, 4), st.floats(0.05, 0.95))
def test_net_benefit_elsewhere_is_that_of_rows_with_that_share(drawn, a, b, threshold):
    y, p = np.array(drawn[0]).T
    assume(0 < np.mean(y) < 1)
    times = np.where(y == 1, a, b)  # each row so often as if the share were that
    there = np.repeat(y, times), np.repeat(p / 6, times)
    share = float(there[0].mean())
    found = evaluate.net_benefit(y, p / 6, threshold, prevalence=share)
    assert found == pytest.approx(evaluate.net_benefit(*there, threshold), abs=1e-12)
    assert found <= share + 1e-12


@pytest.mark.parametrize(
    ("y", "prevalence", "message"),
    [
        (Y, 0, "a prevalence above 0 and below 1, .* got 0 and"),
        (Y, 1, "got 1 and a share of events of 0.5"),
        (Y, np.nan, "got nan and"),
        (
            [0, 0, 0, 0],
            0.1,
            "from rows of both classes, got 0.1 and .* of 0.0",
        ),
        (
            [1, 1, 1, 1],
            0.1,
            "from rows of both classes, got 0.1 and .* of 1.0",
        ),
    ],
)
def test_net_benefit_is_carried_to_a_prevalence_from_both_classes(
    y, prevalence, message
):
    with pytest.raises(ValueError, match=message):
        evaluate.net_benefit(y, P, 0.5, prevalence=prevalence)


def test_a_limit_worked_by_hand():
    scores = [3, 1, 4, 1.5, 9, 2, 6, 5, 3.5]
    assert evaluate.conformal_limit(scores, 0.9) == 9
    assert evaluate.conformal_limit(scores, 0.5) == 3.5
    assert evaluate.conformal_limit(scores, 0.01) == 1
    with pytest.raises(ValueError, match="8 scores are too few .* at least 9$"):
        evaluate.conformal_limit(scores[:8], 0.9)


@example(99, (55, 100))  # 100 * 0.55 is 55.00000000000001
@settings(max_examples=300, deadline=None)
@given(
    st.integers(1, 400),
    st.integers(2, 200).flatmap(
        lambda below: st.tuples(st.integers(1, below - 1), st.just(below))
    ),
)
def test_the_place_of_the_limit_is_that_of_whole_numbers(n, share):
    above, below = share
    place = -(-(n + 1) * above // below)  # rounds up, without a float
    scores = np.random.default_rng(n).permutation(n) + 1
    if place <= n:
        assert evaluate.conformal_limit(scores, above / below) == place
        return
    least = -(-above // (below - above))
    with pytest.raises(ValueError, match=f"^{n} scores .* at least {least}$"):
        evaluate.conformal_limit(scores, above / below)
    assert evaluate.conformal_limit(range(least), above / below) < least


@pytest.mark.parametrize("n", [9, 25, 100])
def test_new_rows_stay_below_the_limit_as_often_as_promised_on_average(n):
    rng, inside = np.random.default_rng(n), []
    for _ in range(2000):
        limit = evaluate.conformal_limit(rng.normal(size=n), 0.9)
        inside.append(np.mean(rng.normal(size=50) <= limit))
    promised = math.ceil(round((n + 1) * 0.9, 6)) / (n + 1)
    assert promised >= 0.9  # and more than 0.9 for 25 and 100
    assert np.mean(inside) == pytest.approx(promised, abs=0.008)


TAKES_SCORES = {
    "area": evaluate.area,
    "area_difference": lambda y, score: evaluate.area_difference(y, score, score),
    "temperature": evaluate.temperature,
}
TAKES_RISKS = {
    "cheapest_threshold": lambda y, p: evaluate.cheapest_threshold(y, p, 2),
    "reliability": lambda y, p: evaluate.reliability(y, p, 2),
    "brier_parts": lambda y, p: evaluate.brier_parts(y, p, 2),
    "net_benefit": lambda y, p: evaluate.net_benefit(y, p, 0.5),
}
TAKES_BOTH = TAKES_SCORES | TAKES_RISKS
COLUMN = np.array(P)[:, None]


@pytest.mark.parametrize("name", TAKES_BOTH)
@pytest.mark.parametrize(
    ("y", "p", "message"),
    [
        (Y, P[:3], r"one shape .* got \(4,\) and \(3,\)"),
        (Y, COLUMN, r"got \(4,\) and \(4, 1\): a network's .* by \[:, 0\]"),
        (COLUMN > 0.3, COLUMN, r"got \(4, 1\) and \(4, 1\)"),
        (1, 0.5, r"got \(\) and \(\)"),
        ([], [], r"one row at least, got \(0,\) and \(0,\)"),
        ([1, 2, 1, 0], P, r"an outcome is 0 or 1, .* got \[1, 2, 0\]"),
        ([1, 0.5, 1, 0], P, "an outcome is 0 or 1, 1 for the event"),
        ([1, np.nan, 1, 0], P, r"an outcome is 0 or 1, .*nan"),
        (
            ["ill", "well", "ill", "well"],
            P,
            r"numbers, .* got \['ill', 'well', .* compare first",
        ),
        (Y, [0.9, np.nan, 0.3, 0.2], "are finite.* got 1 others, the first nan"),
        (Y, [0.9, 0.1, np.inf, -np.inf], "are finite.* got 2 others, the first inf"),
    ],
)
def test_outcomes_and_predictions_that_do_not_fit_are_refused(name, y, p, message):
    with pytest.raises(ValueError, match=message):
        TAKES_BOTH[name](y, p)


@pytest.mark.parametrize("name", TAKES_RISKS)
@pytest.mark.parametrize("wrong", [-0.1, 1.5])
def test_log_odds_are_not_taken_for_risks(name, wrong):
    message = f"risks from 0 to 1, got 1 others, the first {wrong}: take the sigmoid"
    with pytest.raises(ValueError, match=message):
        TAKES_RISKS[name](Y, [0.9, wrong, 0.3, 0.2])


@pytest.mark.parametrize("name", ["area", "area_difference"])
@pytest.mark.parametrize(("value", "events"), [(0, 0), (1, 4)])
def test_an_area_needs_both_classes(name, value, events):
    message = (
        f"two rows or more of each class, got {events} events of 4: take more rows"
    )
    with pytest.raises(ValueError, match=message):
        TAKES_SCORES[name]([value] * 4, P)


@pytest.mark.parametrize("name", ["area", "area_difference"])
def test_one_event_has_no_spread_and_so_no_interval(name):
    with pytest.raises(ValueError, match="of each class, got 1 events of 4"):
        TAKES_SCORES[name]([1, 0, 0, 0], P)


def test_the_other_score_is_looked_at_as_well():
    with pytest.raises(ValueError, match=r"got \(4,\) and \(3,\)"):
        evaluate.area_difference(Y, P, P[:3])
    with pytest.raises(ValueError, match="are finite, got 1 others, the first nan"):
        evaluate.area_difference(Y, P, [1, 2, np.nan, 3])


@pytest.mark.parametrize(
    ("columns", "ids", "message"),
    [
        ((Y, P[:3]), None, r"one length, .* got lengths \[4, 3, 4\]"),
        ((Y, P), [1, 2, 3], r"got lengths \[4, 4, 3\], 3 patients"),
        ((Y, P), [7, 7, 7, 7], "two patients or more, .* 1 patients"),
        (([1], [0.5]), None, ", 1 patients"),
        ((), None, "needs columns"),
        ((Y, P), [1, 2, np.nan, 2], "2 patients and 1 ids missing"),
        (([], []), None, r"got lengths \[0, 0, 0\], 0 patients"),
    ],
)
def test_columns_that_cannot_be_drawn_from_are_refused(columns, ids, message):
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match=message):
        evaluate.bootstrap(sensitivity, *columns, rng=rng, patient_id=ids)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_statistic_that_some_draw_does_not_have_is_refused(value):
    def share_found(y, p):  # as if no event were no news
        return (p[y == 1] > 0.5).mean() if y.any() else value

    with pytest.raises(ValueError, match=f"a draw is {value}, .* perhaps .* no event"):
        evaluate.bootstrap(share_found, Y, P, rng=np.random.default_rng(0))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ((1.1, 0.9, 0.1), "shares from 0 to 1, got sensitivity=1.1"),
        ((0.9, -0.1, 0.1), "got specificity=-0.1"),
        ((0.9, 0.9, [0.1, 10]), r"got prevalence=\[0.1, 10\]"),
        ((0.9, 0.9, np.nan), "got prevalence=nan"),
    ],
)
def test_what_is_no_share_has_no_predictive_values(given, message):
    with pytest.raises(ValueError, match=message):
        evaluate.predictive_values(*given)


@pytest.mark.parametrize(
    ("p", "factor", "message"),
    [
        ([0.5, 1.5], 2, "got 1 of 2 risks outside and factor 2"),
        (-0.5, 2, "got 1 of 1 risks outside"),
        ([0.5, np.nan], 2, "got 1 of 2 risks outside"),
        (0.5, 0, "a finite factor above 0, got .* factor 0"),
        (0.5, -1, "factor -1"),
        (0.5, np.inf, "factor inf"),
        (0.5, np.nan, "factor nan"),
    ],
)
def test_odds_are_multiplied_for_risks_and_by_a_factor_above_0(p, factor, message):
    with pytest.raises(ValueError, match=message):
        evaluate.multiply_odds(p, factor)


@pytest.mark.parametrize("price", [0, -1, np.inf, np.nan])
def test_a_missed_event_has_a_price_above_0(price):
    message = f"a price above 0, got {price}: how many false"
    with pytest.raises(ValueError, match=message):
        evaluate.cheapest_threshold(Y, P, price)


@pytest.mark.parametrize("of", [evaluate.reliability, evaluate.brier_parts])
@pytest.mark.parametrize("n_groups", [0, -1, 5, 2.5])
def test_rows_are_put_into_a_whole_number_of_groups(of, n_groups):
    with pytest.raises(ValueError, match=f"4 rows cannot be put into {n_groups} gro"):
        of(Y, P, n_groups)


@pytest.mark.parametrize("threshold", [0, 1, [0.5, 1.2], np.nan, [-0.1]])
def test_thresholds_of_0_and_1_have_no_price(threshold):
    with pytest.raises(ValueError, match="thresholds above 0 and below 1, got "):
        evaluate.net_benefit(Y, P, threshold)


@pytest.mark.parametrize(
    ("scores", "coverage", "message"),
    [
        ([[1, 2]], 0.5, r"scores of shape \(n,\) .* got shape \(1, 2\) and 0.5"),
        (3, 0.5, r"got shape \(\)"),
        ([1, np.nan], 0.5, "needs finite scores"),
        ([1, np.inf], 0.5, "needs finite scores"),
        ([1, 2], 0, "above 0 and below 1, got .* and 0$"),
        ([1, 2], 1, "and 1$"),
        ([1, 2], np.nan, "and nan$"),
        ([], 0.5, "0 scores are too few for a coverage of 0.5: take at least 1"),
    ],
)
def test_scores_and_coverages_without_a_limit_are_refused(scores, coverage, message):
    with pytest.raises(ValueError, match=message):
        evaluate.conformal_limit(scores, coverage)


MASKED = np.ma.array(P, mask=[1, 0, 0, 0])
NO_NUMBERS = {
    "text": ["0.9", "b", "c", "d"],
    "masked": MASKED,
    "missing": pd.Series([True, None, True, False], dtype="boolean"),
    "dates": np.array(["2020-01-01"] * 4, "datetime64[D]"),
    "complex": np.array(P) + 1j,
    "records": np.zeros(4, [("a", float)]),
    "ragged": [[1, 2], [3]],
    "huge": [10**400] * 4,
}
TAKES_NUMBERS = {
    "y": lambda bad: evaluate.area(bad, P),
    "predictions": lambda bad: evaluate.area(Y, bad),
    "sensitivity": lambda bad: evaluate.predictive_values(bad, 0.9, 0.1),
    "prevalence": lambda bad: evaluate.net_benefit(Y, P, 0.2, prevalence=bad),
    "p": lambda bad: evaluate.multiply_odds(bad, 2),
    "factor": lambda bad: evaluate.multiply_odds(P, bad),
    "price": lambda bad: evaluate.cheapest_threshold(Y, P, bad),
    "threshold": lambda bad: evaluate.net_benefit(Y, P, bad),
    "n_groups": lambda bad: evaluate.reliability(Y, P, bad),
    "scores": lambda bad: evaluate.conformal_limit(bad, 0.5),
    "coverage": lambda bad: evaluate.conformal_limit(P, bad),
    "k": lambda bad: evaluate.proportion(bad, 4),
    "n": lambda bad: evaluate.proportion(1, bad),
    "the statistic of a draw": lambda bad: evaluate.bootstrap(
        lambda x: bad, P, rng=np.random.default_rng(0)
    ),
    "n_resamples": lambda bad: evaluate.bootstrap(
        np.mean, P, rng=np.random.default_rng(0), n_resamples=bad
    ),
}


@pytest.mark.parametrize("kind", NO_NUMBERS)
@pytest.mark.parametrize("name", TAKES_NUMBERS)
def test_what_is_no_number_is_refused_by_its_name(name, kind):
    message = rf"^({name}|predictions) must be numbers, none missing or masked, got "
    with pytest.raises(ValueError, match=message) as caught:
        TAKES_NUMBERS[name](NO_NUMBERS[kind])
    assert "compare first" in str(caught.value) and len(str(caught.value)) < 220


@pytest.mark.parametrize("name", [*"kn", "factor", "price", "n_groups", "coverage"])
def test_several_numbers_are_not_taken_for_one(name):
    with pytest.raises(ValueError, match=r"got.*\[1, 2\]|into \[1, 2\]|and \[1, 2\]"):
        TAKES_NUMBERS[name]([1, 2])
    with pytest.raises(ValueError, match=r"a draw is \[1, 2\], not a finite number"):
        TAKES_NUMBERS["the statistic of a draw"]([1, 2])


def test_one_number_may_come_in_an_array():
    one = np.array([2])
    assert evaluate.multiply_odds(0.5, one) == pytest.approx(2 / 3)
    assert evaluate.proportion(one, np.array(4)) == evaluate.proportion(2, 4)
    assert evaluate.net_benefit(Y, P, 0.2, prevalence=np.array([0.5])).shape == ()


@pytest.mark.parametrize("pair", [(1, np.inf), (np.nan, 2), (1, 2**53), (np.inf, 9)])
def test_counts_without_end_are_refused(pair):
    with pytest.raises(ValueError, match="needs whole numbers.*got k="):
        evaluate.proportion(*pair)


def test_series_frames_and_nullable_columns_are_taken_by_place():
    index = pd.Index([9, 7, 5, 3])
    y, p = pd.Series(Y, index, dtype="Int64"), pd.Series(P, index[::-1])
    assert evaluate.area(y, p) == evaluate.area(Y, P)
    found, known = (
        evaluate.bootstrap(
            np.mean, x, rng=np.random.default_rng(21), patient_id=ids, n_resamples=40
        )
        for x, ids in ((p, pd.DataFrame({"id": [1, 1, 2, 3]})), (P, [1, 1, 2, 3]))
    )
    assert found == known
    assert evaluate.area(y, np.ma.array(P)) == evaluate.area(Y, P)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"rng": 7}, "a numpy.random.Generator .* rng=7 and"),
        ({"rng": None}, "rng=None and"),
        ({"n_resamples": 0}, "40 to 1,000,000 draws, .*n_resamples=0: as"),
        ({"n_resamples": -1}, "n_resamples=-1: as"),
        ({"n_resamples": 39}, "n_resamples=39: as"),
        ({"n_resamples": 99.5}, "n_resamples=99.5: as"),
        ({"n_resamples": 10**6 + 1}, "n_resamples=1000001: as"),
        ({"n_resamples": np.nan}, "n_resamples=nan: as"),
        ({"statistic": Y}, r"a function of the columns, .* got \[1, 0, 1, 0\], rng="),
    ],
)
def test_a_bootstrap_without_function_rng_or_enough_draws_is_refused(changed, message):
    given = {"statistic": np.mean, "rng": np.random.default_rng(0)} | changed
    with pytest.raises(ValueError, match=message):
        evaluate.bootstrap(given.pop("statistic"), P, **given)


@pytest.mark.parametrize(
    ("columns", "ids", "message"),
    [
        (
            (MASKED,),
            None,
            "a column must be of one shape, none missing or masked, got ",
        ),
        (([[1, 2], [3]],), None, "a column must be of one shape"),
        ((0.5,), None, r"got lengths \[1, 1\], 1 patients"),
        ((P, 0.5), None, r"got lengths \[4, 1, 4\]"),
        ((P,), 3, r"got lengths \[4, 1\], 1 patients"),
        ((P,), MASKED, "patient_id must be of one shape, none missing or masked"),
    ],
)
def test_columns_and_ids_that_are_none_are_refused(columns, ids, message):
    with pytest.raises(ValueError, match=message):
        evaluate.bootstrap(
            np.mean, *columns, rng=np.random.default_rng(0), patient_id=ids
        )


@pytest.mark.parametrize("name", TAKES_NUMBERS)
def test_nothing_is_no_number(name):
    if name != "prevalence":  # where it means: as in y
        with pytest.raises(ValueError, match="got|into None|is None"):
            TAKES_NUMBERS[name](None)


def test_shares_whose_shapes_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"got \[\(2,\), \(\), \(3,\)\]: take numbers"):
        evaluate.predictive_values([0.9, 0.8], 0.9, [0.1, 0.2, 0.3])
    ppv, npv = evaluate.predictive_values([[0.9], [0.8]], 0.9, [0.1, 0.2, 0.3])
    assert ppv.shape == npv.shape == (2, 3)
