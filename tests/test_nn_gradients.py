"""The gradient check: what it lets pass, what it finds, and what it says then."""

import math
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.nn.activations import Tanh
from helpers.nn.gradients import (
    GradientError,
    check_gradient,
    check_layer,
    numerical_gradient,
)
from helpers.nn.layers import BatchNormalization, Dense, Dropout, Layer
from helpers.nn.losses import L2, MeanSquaredError
from helpers.nn.network import Sequential

seeds = st.integers(0, 2**32 - 1)


class Regression:
    """Four patients, three measurements, a linear model with three outputs."""

    def __init__(self, seed=0):
        rng = np.random.default_rng(seed)
        self.x, self.y = rng.normal(size=(4, 3)), rng.normal(size=(4, 3))
        self.arrays = {"W": rng.normal(size=(3, 3)), "b": rng.normal(size=3)}

    def gap(self):
        return self.x @ self.arrays["W"] + self.arrays["b"] - self.y

    def loss(self):
        return float(np.square(self.gap()).mean())

    def gradients(self):
        da = 2 * self.gap() / self.y.size
        return {"W": self.x.T @ da, "b": da.sum(axis=0)}

    def check(self, **changed):
        return check_gradient(self.loss, self.arrays, self.gradients() | changed)


# What is right passes


def test_a_slope_worked_by_hand():
    x = np.array([[3.0, -1.0]])
    slopes = numerical_gradient(lambda: x[0, 0] ** 2 + 5 * x[0, 1], x)
    assert slopes == pytest.approx(np.array([[6, 5]]))
    assert x.tolist() == [[3, -1]]
    # half a step down and half a step up the kink of |x| gives 0, exactly
    x = np.zeros(())
    assert numerical_gradient(lambda: abs(x), x) == 0
    # (1.5^3 - .5^3) / 1: a large step shows
    x = np.ones(1)
    assert numerical_gradient(lambda: x[0] ** 3, x, step=0.5).tolist() == [3.25]


@given(seeds)
@settings(max_examples=25, deadline=None)
def test_right_gradients_pass_and_the_arrays_are_put_back(seed):
    model = Regression(seed)
    before = {name: array.copy() for name, array in model.arrays.items()}
    errors = model.check()
    assert errors.keys() == {"W", "b"} and max(errors.values()) < 1e-8
    for name, array in model.arrays.items():
        assert np.array_equal(array, before[name])


def test_a_gradient_of_nothing_is_0():
    array = np.ones((2, 3))
    assert check_gradient(lambda: 7, {"W": array}, {"W": 0 * array}) == {"W": 0}
    assert check_gradient(lambda: 7, {"W": np.ones(0)}, {"W": []}) == {"W": 0}


def test_the_rounding_of_a_large_loss_is_no_gradient():
    rng = np.random.default_rng(0)
    x, b = rng.normal(120, 300, size=(50, 30)), rng.normal(size=30)

    def loss():  # about 10^5, and the same for each b but for rounding
        z = x + b
        return float(np.square(z - z.mean(axis=0)).mean())

    assert check_gradient(loss, {"b": b}, {"b": np.zeros(30)}) == {"b": 0}
    with pytest.raises(GradientError):
        check_gradient(loss, {"b": b}, {"b": np.full(30, 0.001)})


def test_f_may_renew_the_gradients():
    layer, loss = Dense(2), MeanSquaredError()
    layer.build((3,), np.random.default_rng(0), np.float64)
    x, y = np.random.default_rng(1).normal(size=(2, 4, 3))
    y = y[:, :2]

    def f():
        value, da = loss.value_and_gradient(y, layer.forward(x, training=True))
        layer.backward(da)
        return value

    f()
    assert set(check_gradient(f, layer.params, layer.grads)) == {"W", "b"}


# What is wrong is found, and explained

MISTAKES = {
    "a turned sign": (lambda dW: -dW, "the wrong sign: look for a turned difference"),
    "a sum for a mean": (lambda dW: 12 * dW, "every value is 12 times .* a sum that"),
    "a forgotten 2": (
        lambda dW: dW / 2,
        "every value is 0.5 times .* forgotten factor",
    ),
    "a sign and a 2": (lambda dW: -2 * dW, "every value is -2 times"),
    "turned round": (lambda dW: dW.T, "it is the transpose .* swap the two factors"),
    "never filled": (lambda dW: 0 * dW, "0 throughout: was backward called"),
    "NaN": (lambda dW: np.where(dW == dW.max(), np.nan, dW), "NaN or infinity: look"),
    "infinity": (lambda dW: dW + np.inf, "NaN or infinity: look for a division by 0"),
    "float32": (lambda dW: dW.astype(np.float32) * 1.00001, "to four digits: .* kink"),
    "one wrong row": (lambda dW: dW * [[1], [3], [1]], "6 of its 9 values are right"),
    "one wrong value": (lambda dW: dW + (dW == dW.max()), "8 of its 9 values are"),
    "something else": (lambda dW: dW[::-1] ** 2 + 9, "0 of its 9 values are right"),
}


@pytest.mark.parametrize("spoil, hint", MISTAKES.values(), ids=MISTAKES)
@given(seed=seeds)
@settings(max_examples=10, deadline=None)
def test_each_typical_mistake_is_found_and_named(spoil, hint, seed):
    model = Regression(seed)
    right = model.gradients()["W"]
    wrong = np.asarray(spoil(right))
    with pytest.raises(GradientError, match=hint) as raised:
        model.check(W=wrong)
    found = re.search(
        r"the gradient of W is off by (\S+) \(allowed 1e-07\)\n"
        r"  worst at W\[(\d), (\d)\]: backward says (\S+), "
        r"moving it changes the loss by (\S+) a unit\n",
        str(raised.value),
    )
    assert float(found[1]) > 1e-7
    place = int(found[2]), int(found[3])
    gap = np.abs(wrong - right)
    if np.isfinite(wrong).all():
        assert gap[place] == pytest.approx(gap.max(), rel=1e-5)
    else:
        assert not np.isfinite(wrong[place])
    assert float(found[4]) == pytest.approx(wrong[place], rel=1e-5, nan_ok=True)
    assert float(found[5]) == pytest.approx(right[place], rel=1e-4, abs=1e-8)


def test_right_and_wrong_arrays_are_told_apart():
    model = Regression()
    with pytest.raises(
        GradientError,
        match=r"^right: W; wrong: b\nthe gradient of b is off .*\n.*at b\[\d\]",
    ):
        model.check(b=4 * model.gradients()["b"])


def test_a_number_alone_has_no_place():
    x = np.array(3.0)
    assert check_gradient(lambda: x**2, {"x": x}, {"x": 6.0})["x"] < 1e-7
    with pytest.raises(GradientError, match="worst at x: backward says -6, moving"):
        check_gradient(lambda: x**2, {"x": x}, {"x": -6.0})


def test_a_wrong_value_among_many_right_ones_is_counted():
    x = np.linspace(1, 2, 1000)
    wrong = 2 * x
    wrong[17] = 0
    with pytest.raises(GradientError, match=r"x\[17\]: .*\n  999 of its 1000 values"):
        check_gradient(lambda: np.vdot(x, x), {"x": x}, {"x": wrong})


def test_a_loss_that_is_not_finite_one_step_away_is_told():
    x = np.array([1.0, 2.0])
    with pytest.raises(GradientError, match="one step away the loss is NaN or inf"):
        check_gradient(
            lambda: math.nan if x[1] > 2 else x.sum(), {"x": x}, {"x": np.ones(2)}
        )


def test_tolerance_and_step_are_the_readers_to_set():
    model = Regression()
    nearly = {name: 1.001 * value for name, value in model.gradients().items()}
    errors = check_gradient(model.loss, model.arrays, nearly, tolerance=1e-3)
    assert errors["W"] == pytest.approx(0.001 / 2.001, rel=1e-4)
    x = np.array([1e-3])
    slope = {"x": np.array([1.0])}
    check_gradient(lambda: abs(x[0]), {"x": x}, slope)
    with pytest.raises(GradientError):  # the step crosses the kink at 0
        check_gradient(lambda: abs(x[0]), {"x": x}, slope, step=0.01)


# What cannot be checked is refused


@pytest.mark.parametrize(
    "array, got",
    [
        (np.ones(3, np.float32), "float32"),
        (np.ones(3, int), "int64"),
        ([1.0, 2.0, 3.0], "list"),
    ],
)
def test_an_array_that_is_not_float64_is_refused(array, got):
    with pytest.raises(ValueError, match=f"W must be a float64 array, got {got}: a co"):
        check_gradient(lambda: 0.0, {"W": array}, {"W": np.zeros(3)})
    with pytest.raises(ValueError, match=f"array must be a float64 array, got {got}"):
        numerical_gradient(lambda: 0.0, array)


def test_an_f_that_draws_anew_is_refused():
    rng, model = np.random.default_rng(0), Regression()
    with pytest.raises(
        ValueError, match="the same each time.*generator of any Dropout"
    ):
        check_gradient(rng.random, model.arrays, model.gradients())


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_an_f_that_is_not_finite_is_refused(value):
    model = Regression()
    with pytest.raises(ValueError, match=f"must return a finite number, got {value}"):
        check_gradient(lambda: value, model.arrays, model.gradients())


def test_a_missing_gradient_is_refused():
    model = Regression()
    gradients = model.gradients()
    for given_ in ({"W": gradients["W"]}, gradients | {"c": 0}, {}):
        with pytest.raises(
            ValueError, match=r"for each array, got arrays \['W', 'b'\]"
        ):
            check_gradient(model.loss, model.arrays, given_)
    with pytest.raises(ValueError, match="needs a gradient for each array"):
        check_gradient(model.loss, {}, {})


def test_a_gradient_of_another_shape_is_refused():
    model = Regression()
    with pytest.raises(
        ValueError, match=r"of b must have its shape \(3,\), got \(1, 3"
    ):
        model.check(b=model.gradients()["b"][None])


# Layers


class Wrong(Dense):
    """A Dense layer with one of the mistakes that are made."""

    def __init__(self, mistake, **options):
        super().__init__(3, **options)
        self.mistake = mistake

    def backward(self, da, input_gradient=True):
        dx = super().backward(da, input_gradient)
        dW, db = self.grads["W"], self.grads["b"]
        if self.mistake == "mean":
            dW /= len(da)
        elif self.mistake == "bias":
            db[:] = da[0]
        elif self.mistake == "transposed":
            return da @ self.params["W"]
        elif self.mistake == "penalty":
            dW -= self.regularizer.gradient(self.params["W"])
        return dx


@pytest.mark.parametrize(
    "mistake, message",
    [
        ("mean", r"gradient of W is off(.|\n)* 0.2 times what it should be"),
        ("bias", r"gradient of b is off(.|\n)* 0 of its 3 values are right"),
        ("transposed", r"gradient of x is off(.|\n)* 0 of its 15 values are right"),
        ("penalty", r"gradient of W is off"),
    ],
)
@pytest.mark.parametrize("place", ["", "1."])
def test_a_wrong_layer_is_found_alone_and_in_a_row(mistake, message, place):
    rng = np.random.default_rng(0)
    layer = Wrong(mistake, regularizer=L2(0.3) if mistake == "penalty" else None)
    if place:
        layer = Sequential([Tanh(), layer])
        message = re.sub("of ([Wb])", r"of 1\\.\1", message)
    with pytest.raises(GradientError, match=message):
        check_layer(layer, rng.normal(size=(5, 3)), rng)


class Forgetful(Dropout):
    """Dropout that goes back without its factor."""

    def backward(self, da, input_gradient=True):
        return da * (super().backward(da) != 0)


class Steep(Layer):
    """A square whose derivative is taken of the wrong array, the output."""

    def forward(self, x, training=False):
        if training:
            self.keep(x * x)
        return x * x

    def backward(self, da, input_gradient=True):
        (a,) = self.kept()
        return 2 * a * da


def test_a_forgotten_dropout_factor_is_named():
    rng = np.random.default_rng(0)
    with pytest.raises(GradientError, match=r"of x .*(.|\n)* 0.75 times what"):
        check_layer(Forgetful(0.25), rng.normal(size=(6, 4)), rng)


def test_a_derivative_of_the_output_for_the_input_is_found():
    rng = np.random.default_rng(0)
    with pytest.raises(GradientError, match=r"x\[\d, \d\]: backward says"):
        check_layer(Steep(), rng.normal(size=(6, 4)), rng)


class HalfBatch(BatchNormalization):
    """Batch normalisation that forgets that mean and variance depend on x."""

    def backward(self, da, input_gradient=True):
        _, scale, _ = self._kept
        super().backward(da)
        return da * self.params["gamma"] * scale


def test_a_mean_that_is_taken_for_a_constant_is_found():
    rng = np.random.default_rng(0)
    with pytest.raises(GradientError, match="the gradient of x is off"):
        check_layer(HalfBatch(), rng.normal(size=(6, 4)), rng)


def test_a_layer_is_checked_by_each_parameter_and_the_input():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(5, 3))
    before = x.copy()
    row = Sequential([Dense(4, regularizer=L2(0.1)), Dropout(0.5), Dense(2)])
    errors = check_layer(row, x.astype(np.float32), rng)
    assert set(errors) == {"x", "0.W", "0.b", "2.W", "2.b"}
    assert max(errors.values()) < 1e-7
    check_layer(row, x, rng)
    assert np.array_equal(x, before)


def test_an_input_that_the_layer_cannot_take_is_refused():
    with pytest.raises(ValueError, match="expected one or more numbers in the input"):
        check_layer(Dense(2), np.ones((5, 0)), np.random.default_rng(0))
