"""Layers, activations and first weights: hand values, laws, gradients, Keras."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.nn import losses
from helpers.nn.activations import (
    GELU,
    ReLU,
    Sigmoid,
    Softmax,
    Tanh,
    gelu,
    relu,
    sigmoid,
    softmax,
)
from helpers.nn.gradients import check_layer
from helpers.nn.layers import (
    BatchNormalization,
    Dense,
    Dropout,
    Layer,
    LayerNormalization,
    glorot_uniform,
    he_normal,
)
from helpers.nn.network import Sequential


def signs(shape, rng):
    """Weights of -1 or 1: far from the kink of L1."""
    return rng.choice([-1.0, 1.0], shape)


FUNCTIONS = [sigmoid, softmax, relu, gelu]
MAKERS = {
    "Dense": lambda: Dense(3),
    "Dense, L1": lambda: Dense(4, initial=signs, regularizer=losses.L1(0.3)),
    "Dense, L2": lambda: Dense(1, regularizer=losses.L2(np.float64(0.3))),
    "Dropout": lambda: Dropout(np.float64(0.4)),
    "BatchNormalization": BatchNormalization,
    "BatchNormalization, other": lambda: BatchNormalization(
        np.float64(0.5), np.float64(0.1)
    ),
    "LayerNormalization": LayerNormalization,
    "LayerNormalization, other": lambda: LayerNormalization(np.float64(0.1)),
    "Sigmoid": Sigmoid,
    "Tanh": Tanh,
    "ReLU": ReLU,
    "GELU": GELU,
    "Softmax": Softmax,
}
every_layer = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
both_types = pytest.mark.parametrize("dtype", [np.float32, np.float64])

seeds = st.integers(0, 2**32 - 1)
# n patients, perhaps t times, f features; enough of each that no gradient is all but 0
shapes = st.tuples(st.integers(4, 7), st.integers(3, 6)) | st.tuples(
    st.integers(3, 4), st.integers(2, 3), st.integers(3, 5)
)


def built(layer, shape, dtype=np.float64, seed=0):
    """The layer, built, with parameters that are not all 0 or 1."""
    rng = np.random.default_rng(seed)
    layer.build(shape[1:], rng, dtype)
    for array in layer.params.values():
        array += rng.normal(0, 0.3, array.shape)
    return layer


def locked(array):
    """The array, such that writing to it raises."""
    array.flags.writeable = False
    return array


# Worked by hand


def test_dense_worked_by_hand():
    layer = Dense(3, initial=lambda shape, rng: [[1, 0, -1], [2, 1, 0]])
    assert layer.build((2,), None, np.float64) == (3,)
    layer.params["b"][:] = [0.5, 0, 0]
    x, da = np.array([[1.0, 2.0]]), np.array([[1.0, 0.0, 2.0]])
    assert layer.forward(x, training=True).tolist() == [[5.5, 2, -1]]
    assert layer.backward(da).tolist() == [[1 - 2, 2]]
    assert layer.grads["W"].tolist() == [[1, 0, 2], [2, 0, 4]]
    assert layer.grads["b"].tolist() == [1, 0, 2]


def test_activations_worked_by_hand():
    assert sigmoid(np.array([0, math.log(3)])) == pytest.approx([0.5, 0.75])
    assert softmax(np.log([[1.0, 2, 5], [1, 1, 2]])) == pytest.approx(
        np.array([[1, 2, 5], [2, 2, 4]]) / 8
    )
    assert relu(np.array([-2.0, 0, 3])).tolist() == [0, 0, 3]
    inner = math.sqrt(2 / math.pi) * (1 + 0.044715)
    assert gelu(np.array([0.0, 1])) == pytest.approx([0, (1 + math.tanh(inner)) / 2])


def test_the_slope_at_the_kink_of_relu_is_0():
    layer = ReLU()
    layer.forward(np.array([[-1.0, 0.0, 1e-300]]), training=True)
    assert layer.backward(np.full((1, 3), 5.0)).tolist() == [[0, 0, 5]]


def test_batch_normalization_worked_by_hand():
    layer = BatchNormalization(momentum=0.9, epsilon=5)
    layer.build((1,), None, np.float64)
    layer.params["gamma"][:], layer.params["beta"][:] = 6, 1
    x = np.array([[0.0], [4.0]])  # mean 2, variance 4, and sqrt(4 + 5) = 3
    assert layer.forward(x, training=True) == pytest.approx(np.array([[-3], [5]]))
    assert layer.state["mean"] == pytest.approx(0.9 * 0 + 0.1 * 2)
    assert layer.state["variance"] == pytest.approx(0.9 * 1 + 0.1 * 4)
    expected = (x - 0.2) / math.sqrt(1.3 + 5) * 6 + 1
    assert layer.forward(x) == pytest.approx(expected)
    assert layer.state["mean"] == pytest.approx(0.2)  # a prediction moves nothing


def test_layer_normalization_worked_by_hand():
    layer = LayerNormalization(epsilon=5)
    layer.build((2,), None, np.float64)
    layer.params["gamma"][:], layer.params["beta"][:] = [6, 3], [0, 1]
    assert layer.forward(np.array([[0.0, 4.0], [7.0, 7.0]])) == pytest.approx(
        np.array([[-4, 3], [0, 1]])
    )


def test_a_penalty_counts_the_weights_and_not_the_bias():
    for regularizer, price, slope in [
        (losses.L1(0.1), 0.1 * 5, [[0.1], [-0.1]]),
        (losses.L2(0.1), 0.1 * 13, [[0.4], [-0.6]]),
    ]:
        layer = Dense(
            1, initial=lambda shape, rng: [[2], [-3]], regularizer=regularizer
        )
        layer.build((2,), None, np.float64)
        layer.params["b"][:] = 100
        assert layer.penalty() == pytest.approx(price)
        layer.forward(np.zeros((1, 2)), training=True)
        layer.backward(np.ones((1, 1)))
        assert layer.grads["W"] == pytest.approx(np.array(slope))
        assert layer.grads["b"].tolist() == [1]
    assert Dense(1).penalty() == 0


# Laws


rows = st.lists(st.floats(-50, 50), min_size=2, max_size=6).map(np.array)


@given(rows, st.floats(-500, 500))
def test_softmax_sums_to_one_and_ignores_a_shift(z, shift):
    p = softmax(z)
    assert p.sum() == pytest.approx(1) and (p >= 0).all()
    assert softmax(z + shift) == pytest.approx(p, abs=1e-12)
    assert softmax(np.stack([z, -z]))[0] == pytest.approx(p)


@given(rows)
def test_the_halves_of_each_function_fit_together(z):
    assert sigmoid(z) + sigmoid(-z) == pytest.approx(1)
    assert relu(z) - relu(-z) == pytest.approx(z)
    assert gelu(z) - gelu(-z) == pytest.approx(z)
    assert softmax(np.stack([z, 0 * z], axis=1))[:, 0] == pytest.approx(sigmoid(z))


def test_gelu_stays_as_near_to_the_exact_form_as_stated():
    z = np.linspace(-10, 10, 20_001)
    exact = np.array([v * 0.5 * math.erfc(-v / math.sqrt(2)) for v in z])
    assert 0.0004 < np.abs(gelu(z) - exact).max() < 0.0005


@pytest.mark.parametrize("function", [*FUNCTIONS, np.tanh])
def test_nan_is_passed_on_and_not_hidden(function):
    a = function(np.array([[np.nan, 1.0], [2.0, 1.0]]))
    assert np.isnan(a[0, 0]) and np.isfinite(a[1]).all()


@given(seeds, shapes)
def test_batch_normalization_ignores_shift_and_scale(seed, shape):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=shape)
    layer = built(BatchNormalization(epsilon=1e-12), shape, seed=seed)
    a = layer.forward(x, training=True)
    over = tuple(range(x.ndim - 1))
    assert a.mean(over) == pytest.approx(layer.params["beta"], abs=1e-9)
    assert a.std(over) == pytest.approx(np.abs(layer.params["gamma"]), abs=1e-6)
    again = layer.forward(x * 7 + rng.normal(size=shape[-1]), training=True)
    assert again == pytest.approx(a, abs=1e-6)


@given(seeds, shapes)
def test_layer_normalization_looks_at_one_row_at_a_time(seed, shape):
    x = np.random.default_rng(seed).normal(size=shape)
    layer = built(LayerNormalization(), shape, seed=seed)
    a = layer.forward(x, training=True)
    assert layer.forward(x + 3, training=True) == pytest.approx(a, abs=1e-9)
    assert layer.forward(x[1:]) == pytest.approx(a[1:])


@pytest.mark.parametrize("make", [lambda: Dense(3), LayerNormalization])
@given(seed=seeds, shape=shapes)
@settings(max_examples=25, deadline=None)
def test_the_gradients_of_two_batches_add_up(make, seed, shape):
    rng = np.random.default_rng(seed)
    layer = built(make(), shape, seed=seed)
    x, da = rng.normal(size=shape), rng.normal(size=layer.forward(np.ones(shape)).shape)
    sums = {name: 0 for name in layer.grads}
    for part in (slice(0, 2), slice(2, None)):
        layer.forward(x[part], training=True)
        layer.backward(da[part])
        sums = {name: sums[name] + layer.grads[name] for name in sums}
    layer.forward(x, training=True)
    layer.backward(da)
    for name, gradient in layer.grads.items():
        assert gradient == pytest.approx(sums[name], abs=1e-12)


# Gradients by central differences


@every_layer
@given(seed=seeds, shape=shapes)
@settings(max_examples=15, deadline=None)
def test_the_gradients_agree_with_central_differences(make, seed, shape):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=shape)
    x += np.sign(x) * 0.01  # away from the kink of ReLU
    errors = check_layer(make(), x, rng, tolerance=1e-7)
    assert set(errors) == {"x", *built(make(), shape).params}


@given(seed=seeds, shape=shapes)
@settings(max_examples=15, deadline=None)
def test_the_gradients_of_a_row_of_layers_agree_too(seed, shape):
    rng = np.random.default_rng(seed)
    row = Sequential(
        [
            Dense(6, regularizer=losses.L2(0.1)),
            BatchNormalization(),
            GELU(),
            Dropout(0.3),
            Dense(4, initial=signs, regularizer=losses.L1(0.1)),
            LayerNormalization(),
            Softmax(),
        ]
    )
    errors = check_layer(row, rng.normal(size=shape), rng)
    assert len(errors) == 1 + 8


# Agreement with Keras


def keras_gelu(z):
    return keras.activations.gelu(z, approximate=True)


KERAS = {
    "Dense": lambda: keras.layers.Dense(3),
    "Dense, L1": lambda: keras.layers.Dense(
        4, kernel_regularizer=keras.regularizers.L1(0.3)
    ),
    "Dense, L2": lambda: keras.layers.Dense(
        1, kernel_regularizer=keras.regularizers.L2(0.3)
    ),
    "BatchNormalization": keras.layers.BatchNormalization,
    "BatchNormalization, other": lambda: keras.layers.BatchNormalization(
        momentum=0.5, epsilon=0.1
    ),
    "LayerNormalization": keras.layers.LayerNormalization,
    "LayerNormalization, other": lambda: keras.layers.LayerNormalization(epsilon=0.1),
    "Sigmoid": lambda: keras.layers.Activation("sigmoid"),
    "Tanh": lambda: keras.layers.Activation("tanh"),
    "ReLU": keras.layers.ReLU,
    "GELU": lambda: keras.layers.Activation(keras_gelu),
    "Softmax": keras.layers.Softmax,
}


def assert_near(ours, theirs, what, tolerance=1e-5):
    theirs = np.asarray(theirs)
    assert ours.dtype == np.float32 and ours.shape == theirs.shape, what
    gap = np.abs(ours - theirs).max() / max(1, np.abs(theirs).max())
    assert gap <= tolerance, (what, gap)


@pytest.mark.parametrize("name", KERAS)
@given(seed=seeds, shape=shapes, scale=st.sampled_from([0.1, 1, 20]))
@settings(max_examples=12, deadline=None)
def test_forward_and_gradients_agree_with_keras(name, seed, shape, scale):
    rng = np.random.default_rng(seed)
    ours, theirs = built(MAKERS[name](), shape, np.float32, seed), KERAS[name]()
    theirs.build(shape)
    theirs.set_weights(
        [array.copy() for array in (*ours.params.values(), *ours.state.values())]
    )
    for batch in range(3):  # the running mean and variance have time to move
        x = rng.normal(batch * scale, scale, shape).astype(np.float32)
        a = ours.forward(x, training=True)
        da = rng.normal(size=a.shape).astype(np.float32)
        watched = tf.convert_to_tensor(x)
        with tf.GradientTape() as tape:
            tape.watch(watched)
            expected = theirs(watched, training=True)
            loss = tf.reduce_sum(expected * da) + sum(theirs.losses)
        asked = [watched, *(weight.value for weight in theirs.trainable_weights)]
        wanted = tape.gradient(loss, asked)
        found = [ours.backward(da), *ours.grads.values()]
        assert_near(a, expected, "forward")
        for place, pair in enumerate(zip(found, wanted, strict=True)):
            assert_near(*pair, f"gradient {place}")
    assert_near(ours.forward(x), theirs(x, training=False), "inference")
    for kept, weight in zip(
        ours.state.values(), theirs.non_trainable_weights, strict=True
    ):
        assert_near(kept, weight, weight.name)
    if theirs.losses:
        assert ours.penalty() == pytest.approx(float(theirs.losses[0]), rel=1e-5)


def test_dropout_scales_up_what_stays_as_keras_does():
    layer, ones = built(Dropout(0.3), (100, 50), np.float32), np.ones((100, 50), "f4")
    values = np.unique(layer.forward(ones, training=True))
    assert values == pytest.approx([0, 1 / 0.7], rel=1e-6)
    theirs = keras.layers.Dropout(0.3, seed=0)(ones, training=True)
    assert values == pytest.approx(np.unique(theirs), rel=1e-6)


# Dropout


@pytest.mark.parametrize("rate", [0, 0.2, 0.5, 0.9])
@both_types
def test_dropout_keeps_the_mean(rate, dtype):
    shape = (500, 200)
    layer = built(Dropout(rate), shape, dtype)
    a = layer.forward(np.ones(shape, dtype), training=True)
    error = math.sqrt(rate / (1 - rate) / a.size)
    assert abs(a.mean(dtype=float) - 1) <= 5 * error + 1e-6
    assert abs((a == 0).mean() - rate) <= 5 * math.sqrt(rate * (1 - rate) / a.size)


def test_dropout_goes_back_through_the_numbers_that_it_let_pass():
    shape = (20, 30)
    layer, ones = built(Dropout(0.5), shape), np.ones(shape)
    first = layer.forward(ones, training=True)
    assert np.array_equal(layer.backward(ones), first)
    second = layer.forward(ones, training=True)
    assert not np.array_equal(first, second)
    assert np.array_equal(layer.backward(ones), second)


def test_dropout_does_nothing_to_a_prediction():
    layer, x = built(Dropout(0.5), (4, 3)), np.arange(12.0).reshape(4, 3)
    assert np.array_equal(layer.forward(x), x)


# What every layer keeps to


@every_layer
@both_types
@pytest.mark.parametrize("shape", [(5, 4), (3, 2, 4)])
def test_type_and_shape_are_kept_and_the_inputs_left_alone(make, dtype, shape):
    rng = np.random.default_rng(0)
    layer = make()
    one = layer.build(shape[1:], rng, dtype)
    x = locked(rng.normal(size=shape).astype(dtype))
    for training in (False, True):
        a = layer.forward(x, training)
        assert (a.shape, a.dtype) == ((len(x), *one), dtype)
    dx = layer.backward(locked(rng.normal(size=a.shape).astype(dtype)))
    assert (dx.shape, dx.dtype) == (x.shape, dtype)
    for name, array in layer.params.items():
        assert array.dtype == layer.grads[name].dtype == dtype
        assert array.shape == layer.grads[name].shape
    assert all(array.dtype == dtype for array in layer.state.values())


@every_layer
def test_there_is_one_way_back_for_each_way_forward(make):
    layer, x = built(make(), (4, 3)), np.ones((4, 3))
    nothing = r"has nothing to go back through: call forward\(x, training=True\)"
    a = layer.forward(x)
    with pytest.raises(RuntimeError, match=nothing) as raised:
        layer.backward(a)
    assert str(raised.value).startswith(repr(layer))
    layer.forward(x, training=True)
    layer.backward(a)
    with pytest.raises(RuntimeError, match=nothing):
        layer.backward(a)


@every_layer
def test_a_prediction_in_between_leaves_the_way_back_alone(make):
    rng = np.random.default_rng(0)
    layer, x = built(make(), (4, 3)), rng.normal(size=(4, 3))
    layer.forward(x, training=True)
    da = rng.normal(size=layer.forward(x).shape)
    expected = layer.backward(da)
    if not isinstance(layer, Dropout):  # which draws anew
        layer.forward(x, training=True)
        layer.forward(rng.normal(size=(9, 3)))
        assert np.array_equal(layer.backward(da), expected)


@pytest.mark.parametrize("make", [lambda: Dense(2), BatchNormalization])
def test_the_first_layer_spares_the_gradient_by_its_input(make):
    rng = np.random.default_rng(0)
    layer, x = built(make(), (5, 2)), rng.normal(size=(5, 2))
    da, found = rng.normal(size=(5, 2)), []
    for asked in (True, False):
        layer.forward(x, training=True)
        dx = layer.backward(da, input_gradient=asked)
        assert (dx is None) is not asked
        found.append({name: array.copy() for name, array in layer.grads.items()})
    for name in layer.grads:
        assert np.array_equal(found[0][name], found[1][name])


EDGES = np.array([[-1000, 0, 1000], [1000, 1000, 1000], [-1000, -1000, -999]])


@every_layer
@both_types
def test_inputs_of_a_thousand_stay_finite(make, dtype):
    layer, x = built(make(), EDGES.shape, dtype), EDGES.astype(dtype)
    with np.errstate(all="raise", under="ignore"):
        a = layer.forward(x, training=True)
        dx = layer.backward(np.ones_like(a))
        assert np.isfinite(a).all() and np.isfinite(dx).all()
        assert np.isfinite(layer.forward(x)).all()


@both_types
def test_functions_of_a_thousand_are_exact(dtype):
    x = EDGES.astype(dtype)
    with np.errstate(all="raise", under="ignore"):
        assert sigmoid(x[0]).tolist() == [0, 0.5, 1]
        assert softmax(x[:2]) == pytest.approx(np.array([[0, 0, 1], [1 / 3] * 3]))
        assert gelu(x[0]).tolist() == relu(x[0]).tolist() == [0, 0, 1000]
    for function in FUNCTIONS:
        assert function(x).dtype == dtype


@both_types
def test_a_batch_of_one_and_a_flat_row_normalise_to_beta(dtype):
    for layer, x in [
        (BatchNormalization(), np.array([[3, 5, 7]], dtype)),
        (LayerNormalization(), np.full((1, 3), 5, dtype)),
    ]:
        built(layer, x.shape, dtype)
        assert np.array_equal(layer.forward(x, training=True)[0], layer.params["beta"])
        dx = layer.backward(np.array([[1, 2, 3]], dtype))
        assert np.isfinite(dx).all() and abs(dx.sum()) < 1e-4


# First weights


@pytest.mark.parametrize("shape", [(300, 200), (5, 5, 40, 60)])
def test_first_weights_have_the_spread_of_their_papers(shape):
    extent = math.prod(shape[:-2])
    fan_in, fan_out = extent * shape[-2], extent * shape[-1]
    W = glorot_uniform(shape, np.random.default_rng(0))
    limit = math.sqrt(6 / (fan_in + fan_out))
    assert W.shape == shape and 0.999 * limit < np.abs(W).max() <= limit
    assert W.std() == pytest.approx(limit / math.sqrt(3), rel=0.02)
    assert abs(W.mean()) < 5 * W.std() / math.sqrt(W.size)
    theirs = np.asarray(keras.initializers.GlorotUniform(seed=0)(shape))
    assert np.abs(W).max() == pytest.approx(np.abs(theirs).max(), rel=0.001)

    W = he_normal(shape, np.random.default_rng(0))
    assert W.shape == shape and abs(W.mean()) < 5 * W.std() / math.sqrt(W.size)
    assert W.std() == pytest.approx(math.sqrt(2 / fan_in), rel=0.02)
    theirs = np.asarray(keras.initializers.HeNormal(seed=0)(shape))
    assert W.std() == pytest.approx(theirs.std(), rel=0.03)


@pytest.mark.parametrize("initial, layer", [(glorot_uniform, Layer), (he_normal, ReLU)])
def test_first_weights_keep_the_signal_through_ten_layers(initial, layer):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 300))
    for _ in range(10):
        x = x @ initial((300, 300), rng)
        x = relu(x) if layer is ReLU else x
    assert 0.5 < np.square(x).mean() < 2


def test_a_seed_draws_the_same_weights_and_the_bias_begins_at_0():
    one, two = Dense(3), Dense(3)
    for layer in (one, two):
        layer.build((4,), np.random.default_rng(5), np.float32)
    assert np.array_equal(one.params["W"], two.params["W"])
    assert one.params["W"].dtype == np.float32 and not one.params["b"].any()


def test_weights_that_are_handed_in_are_copied():
    W = np.ones((2, 3))
    layer = Dense(3, initial=lambda shape, rng: W)
    layer.build((2,), None, np.float64)
    layer.params["W"] += 1
    assert (W == 1).all()


# Bad input


@pytest.mark.parametrize("n_out", [0, -1, 2.5, True, None, "3", math.nan, math.inf])
def test_a_dense_layer_refuses_what_is_no_count(n_out):
    with pytest.raises(ValueError, match=f"Dense needs a whole number.*got {n_out}"):
        Dense(n_out)


@pytest.mark.parametrize("regularizer", [0.01, "l2", losses.L2])
def test_a_dense_layer_refuses_what_is_no_regularizer(regularizer):
    with pytest.raises(ValueError, match="made first, as losses.L2.*got"):
        Dense(3, regularizer=regularizer)


@pytest.mark.parametrize("rate", [-0.1, 1, 1.5, math.nan])
def test_dropout_refuses_a_rate_outside(rate):
    with pytest.raises(ValueError, match=f"Dropout needs a rate .*got {rate}"):
        Dropout(rate)


@pytest.mark.parametrize("momentum", [-0.1, 1, math.nan])
def test_batch_normalization_refuses_a_momentum_outside(momentum):
    with pytest.raises(ValueError, match=f"0 <= momentum < 1, got {momentum}"):
        BatchNormalization(momentum)


@pytest.mark.parametrize("kind", [BatchNormalization, LayerNormalization])
@pytest.mark.parametrize("epsilon", [0, -1e-3, math.nan])
def test_a_normalization_refuses_an_epsilon_of_0(kind, epsilon):
    with pytest.raises(ValueError, match=f"{kind.__name__} needs epsilon > 0, got"):
        kind(epsilon=epsilon)


@pytest.mark.parametrize(
    "make", [lambda: Dense(2), BatchNormalization, LayerNormalization, Softmax]
)
@pytest.mark.parametrize("shape", [(), (0,), (3, 0)])
def test_an_input_without_numbers_is_refused(make, shape):
    with pytest.raises(ValueError, match="expected (one|two) or more numbers in the"):
        make().build(shape, np.random.default_rng(0), np.float32)


def test_softmax_refuses_a_single_class():
    with pytest.raises(ValueError, match=r"got \(1,\): for one risk use Sigmoid"):
        Softmax().build((1,), None, np.float32)


def test_a_layer_of_its_own_kind_must_say_both_ways():
    for way in (Layer().forward, Layer().backward):
        with pytest.raises(NotImplementedError):
            way(np.ones((1, 1)))
