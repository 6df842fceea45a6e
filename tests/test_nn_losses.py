"""Losses and penalties: hand values, laws, gradients, Keras, targets refused."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.nn.activations import softmax
from helpers.nn.gradients import check_gradient
from helpers.nn.losses import (
    L1,
    L2,
    BinaryCrossEntropy,
    CategoricalCrossEntropy,
    Loss,
    MeanAbsoluteError,
    MeanSquaredError,
    SparseCategoricalCrossEntropy,
)

LOSSES = [
    MeanSquaredError(),
    MeanAbsoluteError(),
    BinaryCrossEntropy(),
    BinaryCrossEntropy(from_logits=False),
    CategoricalCrossEntropy(),
    CategoricalCrossEntropy(from_logits=False),
    SparseCategoricalCrossEntropy(),
    SparseCategoricalCrossEntropy(from_logits=False),
]
every_loss = pytest.mark.parametrize("loss", LOSSES, ids=repr)
both_types = pytest.mark.parametrize("dtype", [np.float32, np.float64])

seeds = st.integers(0, 2**32 - 1)
shapes = st.tuples(st.integers(1, 6), st.integers(2, 5)) | st.tuples(
    st.integers(1, 4), st.integers(1, 3), st.integers(2, 4)
)


def drawn(loss, shape, rng, dtype=np.float64):
    """Targets and outputs that the loss takes, the outputs away from its kinks."""
    if isinstance(loss, SparseCategoricalCrossEntropy):
        y = rng.integers(0, shape[-1], shape[:-1])
    elif isinstance(loss, CategoricalCrossEntropy):
        y = rng.dirichlet(np.ones(shape[-1]), shape[:-1])
    elif isinstance(loss, BinaryCrossEntropy):
        y = rng.integers(0, 2, shape)
    else:
        y = rng.normal(0, 3, shape)
    y = loss.targets(y, shape[1:], dtype)
    if isinstance(loss, MeanAbsoluteError):
        output = y + rng.choice([-1, 1], shape) * rng.uniform(0.1, 3, shape)
    elif hasattr(loss, "accuracy") and not loss.from_logits:
        output = rng.uniform(0.05, 0.95, shape)
    else:
        output = rng.normal(0, 3, shape)
    return y, output.astype(dtype)


# Worked by hand


def test_errors_worked_by_hand():
    y, output = np.array([[1.0, 2], [3, 4]]), np.array([[1.0, 4], [0, 5]])
    value, gradient = MeanSquaredError().value_and_gradient(y, output)
    assert value == (0 + 4 + 9 + 1) / 4
    assert gradient.tolist() == [[0, 2 * 2 / 4], [2 * -3 / 4, 2 * 1 / 4]]
    value, gradient = MeanAbsoluteError().value_and_gradient(y, output)
    assert value == (0 + 2 + 3 + 1) / 4
    assert gradient.tolist() == [[0, 0.25], [-0.25, 0.25]]


def test_binary_cross_entropy_worked_by_hand():
    y, p = np.array([[1.0], [0.0]]), np.array([[0.8], [0.6]])
    expected = -(math.log(0.8) + math.log(0.4)) / 2
    of_p, by_p = BinaryCrossEntropy(from_logits=False).value_and_gradient(y, p)
    of_z, by_z = BinaryCrossEntropy().value_and_gradient(y, np.log(p / (1 - p)))
    assert of_p == pytest.approx(expected) and of_z == pytest.approx(expected)
    assert by_p == pytest.approx(np.array([[-1 / 0.8], [1 / 0.4]]) / 2)
    assert by_z == pytest.approx((p - y) / 2)


@pytest.mark.parametrize(
    "kind", [CategoricalCrossEntropy, SparseCategoricalCrossEntropy]
)
def test_categorical_cross_entropy_worked_by_hand(kind):
    p = np.array([[1, 2, 5], [2, 2, 4]]) / 8
    shares = np.array([[0.0, 0, 1], [1, 0, 0]])
    y = shares if kind is CategoricalCrossEntropy else np.array([2, 0])
    expected = (math.log(8 / 5) + math.log(8 / 2)) / 2
    value, gradient = kind().value_and_gradient(y, np.log(p))
    assert value == pytest.approx(expected)
    assert gradient == pytest.approx((p - shares) / 2)
    value, gradient = kind(from_logits=False).value_and_gradient(y, p)
    assert value == pytest.approx(expected)
    # a share taken from the others too: by p the slope is 1 - [true] / p
    assert gradient == pytest.approx((1 - shares / p) / 2)


def test_penalties_worked_by_hand():
    W = np.array([[1.0, -2.0], [0.0, 3.0]])
    assert L1(0.1)(W) == pytest.approx(0.1 * 6)
    assert L1(0.1).gradient(W) == pytest.approx(np.array([[0.1, -0.1], [0, 0.1]]))
    assert L2(0.1)(W) == pytest.approx(0.1 * 14)
    assert L2(0.1).gradient(W) == pytest.approx(0.2 * W)
    assert L1(0)(W) == L2(0)(W) == 0


def test_weights_worked_by_hand():
    y, output = np.zeros((2, 1)), np.array([[1.0], [2.0]])
    value, gradient = MeanSquaredError().value_and_gradient(y, output, [3, 0.5])
    assert value == (3 * 1 + 0.5 * 4) / 2  # by the number of patients, not of weights
    assert gradient.tolist() == [[3 * 2 / 2], [0.5 * 4 / 2]]


def test_predictions_and_accuracy_worked_by_hand():
    z = np.array([[0.0], [math.log(3)], [-5.0]])
    for loss, output in [
        (BinaryCrossEntropy(), z),
        (BinaryCrossEntropy(from_logits=False), 1 / (1 + np.exp(-z))),
    ]:
        assert loss.prediction(output)[:2] == pytest.approx(np.array([[0.5], [0.75]]))
        assert loss.accuracy(np.array([[0.0], [1], [1]]), output) == pytest.approx(
            2 / 3
        )
    z, y = np.log([[1.0, 2, 5], [5, 2, 1], [1, 3, 4]]), np.array([2, 1, 2])
    for kind, target in [
        (CategoricalCrossEntropy, np.eye(3)[y]),
        (SparseCategoricalCrossEntropy, y),
    ]:
        assert kind().prediction(z) == pytest.approx(np.exp(z) / 8)
        assert kind(from_logits=False).prediction(z) is z
        assert kind().accuracy(target, z) == pytest.approx(2 / 3)
    assert MeanSquaredError().prediction(z) is z
    assert not hasattr(MeanSquaredError(), "accuracy")


# Laws


@every_loss
@given(seed=seeds, shape=shapes)
@settings(max_examples=25, deadline=None)
def test_a_loss_is_never_below_0_and_a_mean_over_the_batch(loss, seed, shape):
    rng = np.random.default_rng(seed)
    y, output = drawn(loss, shape, rng)
    value, gradient = loss.value_and_gradient(y, output)
    assert value >= 0 and loss(y, output) == value
    twice, half = loss.value_and_gradient(
        np.concatenate([y, y]), np.concatenate([output, output])
    )
    assert twice == pytest.approx(value)
    assert half == pytest.approx(np.concatenate([gradient, gradient]) / 2)


@every_loss
@given(seed=seeds, shape=shapes)
@settings(max_examples=25, deadline=None)
def test_a_whole_weight_counts_as_so_many_patients(loss, seed, shape):
    rng = np.random.default_rng(seed)
    y, output = drawn(loss, shape, rng)
    times = rng.integers(0, 4, len(y))
    value, gradient = loss.value_and_gradient(y, output, times)
    if times.sum():
        repeated = loss(np.repeat(y, times, axis=0), np.repeat(output, times, axis=0))
        assert value == pytest.approx(repeated * times.sum() / len(y))
    else:
        assert value == 0
    assert not gradient[times == 0].any()


@every_loss
@given(seed=seeds, shape=shapes)
@settings(max_examples=25, deadline=None)
def test_the_gradients_agree_with_central_differences(loss, seed, shape):
    rng = np.random.default_rng(seed)
    y, output = drawn(loss, shape, rng)
    for weights in (None, rng.uniform(0, 2, len(y))):
        _, gradient = loss.value_and_gradient(y, output, weights)
        check_gradient(
            lambda weights=weights: loss(y, output, weights),
            {"output": output},
            {"output": gradient},
            tolerance=1e-7,
        )


@pytest.mark.parametrize("penalty", [L1(0.3), L2(0.3)])
@given(seed=seeds)
@settings(max_examples=25, deadline=None)
def test_the_gradients_of_penalties_agree_with_central_differences(penalty, seed):
    W = np.random.default_rng(seed).normal(size=(3, 4))
    W += np.sign(W) * 0.01  # away from the kink of L1
    check_gradient(lambda: penalty(W), {"W": W}, {"W": penalty.gradient(W)})


@given(seeds, shapes, st.booleans())
def test_class_numbers_and_rows_of_shares_agree(seed, shape, from_logits):
    sparse = SparseCategoricalCrossEntropy(from_logits)
    y, output = drawn(sparse, shape, np.random.default_rng(seed))
    shares = np.eye(shape[-1])[y]
    value, gradient = sparse.value_and_gradient(y, output)
    dense = CategoricalCrossEntropy(from_logits).value_and_gradient(shares, output)
    assert value == pytest.approx(dense[0])
    assert gradient == pytest.approx(dense[1], abs=1e-12)


@pytest.mark.parametrize(
    "kind", [CategoricalCrossEntropy, SparseCategoricalCrossEntropy]
)
@given(seed=seeds, shape=shapes, shift=st.floats(-100, 100))
@settings(max_examples=25, deadline=None)
def test_a_shift_of_all_logits_changes_nothing(kind, seed, shape, shift):
    y, z = drawn(kind(), shape, np.random.default_rng(seed))
    value, gradient = kind().value_and_gradient(y, z)
    shifted, slopes = kind().value_and_gradient(y, z + shift)
    assert shifted == pytest.approx(value, abs=1e-9)
    assert slopes == pytest.approx(gradient, abs=1e-9)
    of_p = kind(from_logits=False)(y, softmax(z / 2))  # halved, none is below 1e-7
    assert of_p == pytest.approx(kind()(y, z / 2))


@every_loss
def test_outputs_stored_in_columns_give_the_same(loss):
    y, output = drawn(loss, (4, 3), np.random.default_rng(0))
    value, gradient = loss.value_and_gradient(y, output)
    for other in (np.asfortranarray(output), np.repeat(output, 2, axis=1)[:, ::2]):
        again, slopes = loss.value_and_gradient(y, other)
        assert again == pytest.approx(value)
        assert slopes == pytest.approx(gradient)


# Agreement with Keras

KERAS = {
    MeanSquaredError: keras.losses.MeanSquaredError,
    MeanAbsoluteError: keras.losses.MeanAbsoluteError,
    BinaryCrossEntropy: keras.losses.BinaryCrossentropy,
    CategoricalCrossEntropy: keras.losses.CategoricalCrossentropy,
    SparseCategoricalCrossEntropy: keras.losses.SparseCategoricalCrossentropy,
}


def assert_as_keras(loss, y, output, weights=None):
    """Value and gradient within 1e-5, of the largest number or of 1."""
    options = {"from_logits": loss.from_logits} if hasattr(loss, "accuracy") else {}
    theirs, watched = KERAS[type(loss)](**options), tf.convert_to_tensor(output)
    each = None
    if weights is not None:  # Keras would take (n,) for the last axis of (n, t)
        each = weights.reshape(-1, *[1] * (output.ndim - 2))
    with tf.GradientTape() as tape:
        tape.watch(watched)
        expected = theirs(y, watched, sample_weight=each)
    value, gradient = loss.value_and_gradient(y, output, weights)
    assert value == pytest.approx(float(expected), rel=1e-5, abs=1e-5)
    wanted = tape.gradient(expected, watched).numpy()
    gap = np.abs(gradient - wanted).max() / max(1, np.abs(wanted).max())
    assert gap <= 1e-5


@every_loss
@given(seed=seeds, shape=shapes, weighted=st.booleans())
@settings(max_examples=25, deadline=None)
def test_values_and_gradients_agree_with_keras(loss, seed, shape, weighted):
    rng = np.random.default_rng(seed)
    y, output = drawn(loss, shape, rng, np.float32)
    weights = rng.uniform(0, 2, len(y)).astype(np.float32) if weighted else None
    assert_as_keras(loss, y, output, weights)


EDGES = np.array([[-1000, 0, 1000], [1000, 1000, 1000], [-1000, -1000, -999]])
RISKS = np.array([[0, 0, 1], [1e-9, 0.5, 0.5], [1, 0, 0]])


def at_the_edge(loss, dtype):
    """For three rows of extreme outputs, right and wrong targets."""
    output = EDGES if loss.from_logits or not hasattr(loss, "accuracy") else RISKS
    classes = [np.array([2, 0, 0]), np.array([0, 1, 2])]
    if not isinstance(loss, SparseCategoricalCrossEntropy):
        classes = [np.eye(3)[y] for y in classes]
    return [(loss.targets(y, (3,), dtype), output.astype(dtype)) for y in classes]


@every_loss
def test_outputs_of_a_thousand_agree_with_keras(loss):
    for y, output in at_the_edge(loss, np.float32):
        if isinstance(loss, SparseCategoricalCrossEntropy) and not loss.from_logits:
            continue  # there Keras clips first and scales to sum 1 after
        assert_as_keras(loss, y, output)


@every_loss
@both_types
def test_outputs_of_a_thousand_stay_finite(loss, dtype):
    for y, output in at_the_edge(loss, dtype):
        with np.errstate(all="raise", under="ignore"):
            value, gradient = loss.value_and_gradient(y, output)
        assert math.isfinite(value) and np.isfinite(gradient).all()


def test_a_hopeless_logit_is_priced_in_full_and_a_rounded_risk_is_not():
    y, z = np.array([[1.0]]), np.array([[-1000.0]])
    assert BinaryCrossEntropy().value_and_gradient(y, z) == (1000, [[-1]])
    clipped = BinaryCrossEntropy(from_logits=False).value_and_gradient(y, 0 * z)
    assert clipped == (pytest.approx(-math.log(1e-7)), [[0]])
    z = np.array([[-1000.0, 1000.0]])
    for loss, target in [
        (CategoricalCrossEntropy(), np.array([[1.0, 0.0]])),
        (SparseCategoricalCrossEntropy(), np.array([0])),
    ]:
        value, gradient = loss.value_and_gradient(target, z)
        assert value == 2000 and gradient.tolist() == [[-1, 1]]


def test_penalties_agree_with_keras():
    W = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    W[0, 0] = 0
    for ours, theirs in [
        (L1(0.3), keras.regularizers.L1(0.3)),
        (L2(0.3), keras.regularizers.L2(0.3)),
    ]:
        watched = tf.convert_to_tensor(W)
        with tf.GradientTape() as tape:
            tape.watch(watched)
            expected = theirs(watched)
        assert ours(W) == pytest.approx(float(expected), rel=1e-5)
        gap = np.abs(ours.gradient(W) - tape.gradient(expected, watched).numpy())
        assert gap.max() <= 1e-6


# What every loss keeps to


@every_loss
@both_types
@pytest.mark.parametrize("shape", [(5, 3), (2, 4, 3)])
def test_the_type_is_kept_and_the_inputs_left_alone(loss, dtype, shape):
    rng = np.random.default_rng(0)
    y, output = drawn(loss, shape, rng, dtype)
    assert y.dtype in (dtype, np.intp)
    y.flags.writeable = output.flags.writeable = False
    for weights in (None, rng.uniform(size=len(y))):
        value, gradient = loss.value_and_gradient(y, output, weights)
        assert type(value) is float
        assert (gradient.shape, gradient.dtype) == (output.shape, dtype)
    assert loss.prediction(output).dtype == dtype


def test_penalties_keep_the_type():
    W = np.ones((2, 3), np.float32)
    for kind in (L1, L2):
        penalty = kind(np.float64(0.1))
        assert type(penalty(W)) is float
        assert penalty.gradient(W).dtype == np.float32


# Targets


def test_targets_come_in_the_form_of_the_output():
    y = MeanSquaredError().targets([1, 2, 3], (1,), np.float32)
    assert y.dtype == np.float32 and y.tolist() == [[1], [2], [3]]
    y = BinaryCrossEntropy().targets([True, False], (1,), np.float64)
    assert y.dtype == np.float64 and y.tolist() == [[1], [0]]
    y = SparseCategoricalCrossEntropy().targets([2.0, 0.0], (3,), np.float32)
    assert y.dtype == np.intp and y.tolist() == [2, 0]
    y = SparseCategoricalCrossEntropy().targets([[0], [1]], (1, 2), np.float32)
    assert y.tolist() == [[0], [1]]


@every_loss
@pytest.mark.parametrize(
    "y",
    [[], np.empty((3, 0)), 1.0, ["sick", "well"], [None, 1], [1j, 0]],
    ids=["empty", "no columns", "one number", "words", "objects", "complex"],
)
def test_what_is_no_list_of_numbers_is_refused(loss, y):
    with pytest.raises(ValueError, match="needs one target or more, as numbers, got"):
        loss.targets(y, (3,), np.float32)


@every_loss
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_targets_that_are_not_finite_are_refused(loss, bad):
    y = np.zeros(5) if isinstance(loss, SparseCategoricalCrossEntropy) else np.eye(5)
    y[3:] = bad
    with pytest.raises(ValueError, match="NaN or infinite, the first in row 3: leave"):
        loss.targets(y, (5,), np.float32)


@every_loss
def test_targets_of_another_shape_are_refused(loss):
    sparse = isinstance(loss, SparseCategoricalCrossEntropy)
    expected = r"expected y of shape \('n',\)" if sparse else r"expected \('n', 3\)"
    for shape in [(4, 2), (4, 3, 1), (4, 1), *([] if sparse else [(4,)])]:
        with pytest.raises(ValueError, match=expected) as raised:
            loss.targets(np.zeros(shape), (3,), np.float32)
        assert str(raised.value).startswith(repr(loss))
        assert str(shape) in str(raised.value)


@pytest.mark.parametrize("y", [[0, 2], [-1, 1], [0.5, 1.01]])
def test_binary_targets_outside_0_and_1_are_refused(y):
    with pytest.raises(ValueError, match=f"from 0 to 1, got {y[0]:g} to {y[1]:g}"):
        BinaryCrossEntropy().targets(y, (1,), np.float32)


@pytest.mark.parametrize("wrong", [[0.5, 0.6, 0], [0, 0, 0], [-1, 1, 1], [1, 1, 1]])
def test_rows_that_are_no_shares_are_refused_and_shown(wrong):
    y = np.array([[0, 0, 1], wrong, [0.2, 0.3, 0.5]])
    shown = r"\[\s*" + r"\s+".join(rf"{v:g}\.?" for v in wrong) + r"\s*\]"
    with pytest.raises(ValueError, match=f"sum to 1, .* for example {shown}: for cl"):
        CategoricalCrossEntropy().targets(y, (3,), np.float64)


def test_shares_may_be_rounded():
    y = np.full((2, 7), 1 / 7, np.float32)
    assert np.array_equal(CategoricalCrossEntropy().targets(y, (7,), np.float32), y)


@pytest.mark.parametrize("y", [[0, 3], [-1, 2], [0, 0.5]])
def test_class_numbers_outside_are_refused(y):
    with pytest.raises(
        ValueError, match=f"from 0 to 2, since .* 3 outputs; got {y[0]} to {y[1]}"
    ):
        SparseCategoricalCrossEntropy().targets(y, (3,), np.float32)


@pytest.mark.parametrize(
    "weights", [[1.0], [1, 1, 1, 1], [[1], [1], [1]], [1, -1, 1], [1, math.nan, 1], 2.0]
)
def test_weights_that_do_not_fit_are_refused(weights):
    y = output = np.zeros((3, 1))
    with pytest.raises(ValueError, match="one finite number .* each of 3 patients"):
        MeanSquaredError().value_and_gradient(y, output, weights)


@pytest.mark.parametrize("kind", [L1, L2])
@pytest.mark.parametrize("strength", [-0.1, math.nan, math.inf])
def test_a_penalty_refuses_a_strength_outside(kind, strength):
    with pytest.raises(ValueError, match=f"{kind.__name__} needs .*got {strength}"):
        kind(strength)


def test_a_loss_says_in_its_name_what_it_takes():
    assert repr(BinaryCrossEntropy(False)) == "BinaryCrossEntropy(from_logits=False)"
    assert repr(MeanSquaredError()) == "MeanSquaredError()"
    assert Loss.from_logits is MeanSquaredError().from_logits is False
