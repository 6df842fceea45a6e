"""Steps against textbook formulas and against Keras."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.nn.optimizers import BLOCK, SGD, Adam, RMSprop

BOTH = pytest.mark.parametrize("dtype", [np.float32, np.float64])
FOUR = {
    "SGD": (lambda: SGD(0.02), lambda k: k.SGD(0.02)),
    "momentum": (lambda: SGD(0.02, 0.9), lambda k: k.SGD(0.02, momentum=0.9)),
    "RMSprop": (lambda: RMSprop(0.01), lambda k: k.RMSprop(0.01)),
    "Adam": (lambda: Adam(0.005), lambda k: k.Adam(0.005)),
}
EACH = pytest.mark.parametrize("name", FOUR)


def walk_along(optimizer, theta, gradients):
    """The parameters after these gradients; theta itself stays."""
    theta = theta.copy()
    for gradient in gradients:
        optimizer.step(theta, gradient)
    return theta


def draw(n, n_steps=20, dtype=np.float64):
    """Parameters of size 1, and gradients of sizes from .001 to 10, some 0."""
    rng = np.random.default_rng(0)
    size = 10 ** rng.uniform(-3, 1, (n_steps, n))
    gradients = rng.normal(size=(n_steps, n)) * size * (rng.random(n) > 0.1)
    return rng.normal(size=n).astype(dtype), gradients.astype(dtype)


def test_a_step_of_gradient_descent_worked_by_hand():
    # 1 - .1 * 2 and -1 - .1 * -4
    theta = np.array([1.0, -1.0])
    SGD(0.1).step(theta, np.array([2.0, -4.0]))
    assert theta == pytest.approx([0.8, -0.6], abs=1e-15)


def test_two_steps_with_momentum_worked_by_hand():
    # v = -.2, then .5 * -.2 - .1 = -.2
    theta, optimizer = np.array([1.0]), SGD(0.1, momentum=0.5)
    optimizer.step(theta, np.array([2.0]))
    assert theta == pytest.approx([0.8], abs=1e-15)
    optimizer.step(theta, np.array([1.0]))
    assert theta == pytest.approx([0.6], abs=1e-15)


def test_the_first_step_of_rmsprop_worked_by_hand():
    # the mean of squares is .1 * 3^2 = .9; 1 - .01 * 3 / sqrt(.9)
    theta = np.array([1.0])
    RMSprop(0.01, rho=0.9).step(theta, np.array([3.0]))
    assert theta == pytest.approx([1 - 0.03 / math.sqrt(0.9)], abs=1e-8)


@given(st.floats(1e-3, 1e6), st.sampled_from([-1, 1]))
def test_the_first_step_of_adam_is_the_learning_rate_whatever_the_gradient(size, sign):
    theta = np.zeros(1)
    Adam(0.01).step(theta, np.array([sign * size]))
    # epsilon stands beside sqrt(v) before the correction: it counts 1 / sqrt(.001)
    assert theta == pytest.approx([-sign * 0.01], rel=1e-7 / size * 32 + 1e-12)


def textbook(name, theta, gradients):
    """The formulas as the sources write them, without any economy."""
    m, v = np.zeros_like(theta), np.zeros_like(theta)
    for t, g in enumerate(gradients, start=1):
        if name == "SGD":
            theta = theta - 0.02 * g
        elif name == "momentum":
            m = 0.9 * m - 0.02 * g
            theta = theta + m
        elif name == "RMSprop":
            v = 0.9 * v + 0.1 * g**2
            theta = theta - 0.01 * g / np.sqrt(v + 1e-7)
        else:
            m = 0.9 * m + 0.1 * g
            v = 0.999 * v + 0.001 * g**2
            rate = 0.005 * np.sqrt(1 - 0.999**t) / (1 - 0.9**t)
            theta = theta - rate * m / (np.sqrt(v) + 1e-7)
    return theta


@EACH
@pytest.mark.parametrize("n", [1, 7, BLOCK, BLOCK + 1, 2 * BLOCK + 5])
def test_twenty_steps_follow_the_textbook_through_every_block(name, n):
    theta, gradients = draw(n)
    moved = walk_along(FOUR[name][0](), theta, gradients)
    np.testing.assert_allclose(
        moved, textbook(name, theta, gradients), rtol=0, atol=1e-13
    )


def test_adam_takes_its_other_shares_as_the_textbook_does():
    theta, gradients = draw(50)
    moved = walk_along(Adam(0.1, 0.5, 0.8, 1e-3), theta, gradients)
    m = v = 0
    for t, g in enumerate(gradients, start=1):
        m, v = 0.5 * m + 0.5 * g, 0.8 * v + 0.2 * g**2
        rate = 0.1 * math.sqrt(1 - 0.8**t) / (1 - 0.5**t)
        theta = theta - rate * m / (np.sqrt(v) + 1e-3)
    np.testing.assert_allclose(moved, theta, rtol=0, atol=1e-13)


@EACH
@BOTH
def test_twenty_steps_are_those_of_keras(name, dtype):
    import keras

    ours, theirs = FOUR[name]
    theta, gradients = draw(200, dtype=dtype)
    moved = walk_along(ours(), theta, gradients)
    held = keras.Variable(theta, dtype=np.dtype(dtype).name)
    optimizer = theirs(keras.optimizers)
    for gradient in gradients:
        optimizer.apply([keras.ops.convert_to_tensor(gradient)], [held])
    assert moved.dtype == dtype
    np.testing.assert_allclose(moved, np.asarray(held), rtol=0, atol=1e-6)


@EACH
def test_numbers_do_not_see_each_other(name):
    theta, gradients = draw(BLOCK + 3, n_steps=3)
    order = np.random.default_rng(1).permutation(theta.size)
    moved = walk_along(FOUR[name][0](), theta, gradients)
    again = walk_along(FOUR[name][0](), theta[order], gradients[:, order])
    np.testing.assert_array_equal(again, moved[order])


@EACH
@BOTH
def test_a_step_leaves_the_gradient_and_a_zero_gradient_leaves_the_parameters(
    name, dtype
):
    theta, gradients = draw(9, dtype=dtype)
    kept = gradients.copy()
    walk_along(FOUR[name][0](), theta, gradients)
    np.testing.assert_array_equal(gradients, kept)
    still = walk_along(FOUR[name][0](), theta, np.zeros_like(gradients))
    np.testing.assert_array_equal(still, theta)


@EACH
def test_arrays_that_are_not_contiguous_are_stepped_in_place(name):
    theta, gradients = draw(2 * BLOCK + 6, n_steps=3)
    wide, strided = theta.copy(), gradients[:, ::2]
    optimizer = FOUR[name][0]()
    for gradient in strided:
        optimizer.step(wide[::2], gradient)
    moved = walk_along(FOUR[name][0](), theta[::2].copy(), strided.copy())
    np.testing.assert_array_equal(wide[::2], moved)
    np.testing.assert_array_equal(wide[1::2], theta[1::2])


@EACH
@settings(max_examples=25, deadline=None)
@given(curve=st.floats(0.5, 5), start=st.floats(-1, 1))
def test_a_bowl_is_walked_down(name, curve, start):
    theta, optimizer = np.array([start]), FOUR[name][0]()
    for _ in range(800):
        optimizer.step(theta, curve * theta)
    assert abs(theta[0]) <= 0.05


def test_the_learning_rate_may_be_changed_between_steps():
    theta, optimizer = np.array([1.0]), SGD(0.1)
    optimizer.step(theta, np.array([1.0]))
    optimizer.learning_rate = 0.5
    optimizer.step(theta, np.array([1.0]))
    assert theta == pytest.approx([0.4])
    assert optimizer.n_steps == 2


@EACH
@pytest.mark.parametrize(
    "params, gradient, got",
    [
        (np.zeros(4), np.zeros(4), r"params of shape \(4,\), float64"),
        (np.zeros(3), np.zeros(4), r"gradient of shape \(4,\), float64"),
        (np.zeros(3), np.zeros((3, 1)), r"gradient of shape \(3, 1\), float64"),
        (np.zeros(3), np.zeros(3, "f4"), r"gradient of shape \(3,\), float32"),
        (np.zeros(3, "f4"), np.zeros(3, "f4"), r"params of shape \(3,\), float32"),
    ],
)
def test_what_does_not_fit_the_steps_before_is_refused(name, params, gradient, got):
    optimizer = FOUR[name][0]()
    theta = np.ones(3)
    optimizer.step(theta, np.ones(3))
    with pytest.raises(
        ValueError, match=rf"floats in a row, \(3,\) of float64, got {got}"
    ):
        optimizer.step(params, gradient)
    assert optimizer.n_steps == 1 and not params.any()
    again = FOUR[name][0]()
    other = np.ones(3)
    for _ in range(2):
        again.step(other, np.ones(3))
    optimizer.step(theta, np.ones(3))
    np.testing.assert_array_equal(theta, other)


@EACH
@pytest.mark.parametrize(
    "params, gradient, got",
    [
        (np.zeros(3), np.zeros(2), r"gradient of shape \(2,\)"),
        (np.zeros(3), np.zeros(3, "f4"), r"gradient of shape \(3,\), float32"),
        (np.zeros((2, 3)), np.zeros((2, 3)), r"params of shape \(2, 3\)"),
        (np.zeros(3, int), np.zeros(3, int), r"params of shape \(3,\), int"),
    ],
)
def test_a_refused_first_step_leaves_the_optimizer_new(name, params, gradient, got):
    optimizer = FOUR[name][0]()
    with pytest.raises(ValueError, match=got):
        optimizer.step(params, gradient)
    assert optimizer.n_steps == 0 and not params.any()
    optimizer.step(np.zeros(5, "f4"), np.zeros(5, "f4"))


@pytest.mark.parametrize("rate", [0, -0.1, math.nan, math.inf])
@pytest.mark.parametrize("kind", [SGD, RMSprop, Adam])
def test_a_learning_rate_out_of_range_is_refused(kind, rate):
    with pytest.raises(
        ValueError, match=f"{kind.__name__} needs a positive, finite.* got {rate}"
    ):
        kind(rate)


@pytest.mark.parametrize(
    "kind, name",
    [(SGD, "momentum"), (RMSprop, "rho"), (Adam, "beta_1"), (Adam, "beta_2")],
)
@pytest.mark.parametrize("share", [-0.1, 1, math.nan])
def test_a_share_that_never_forgets_or_turns_is_refused(kind, name, share):
    with pytest.raises(ValueError, match=f"{name} must be at least 0 and below 1, got"):
        kind(**{name: share})


@pytest.mark.parametrize("kind", [RMSprop, Adam])
@pytest.mark.parametrize("epsilon", [0, -1e-7, 1, math.nan])
def test_an_epsilon_that_is_not_small_is_refused(kind, epsilon):
    with pytest.raises(ValueError, match="epsilon must be above 0 and below 1, got"):
        kind(epsilon=epsilon)
