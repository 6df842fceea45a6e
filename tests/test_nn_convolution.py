"""Convolution, pooling, flatten: hand values, laws, gradients, Keras."""

import copy
import math
import os

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers import runtime
from helpers.data.images import mnist
from helpers.nn import convolution, losses, optimizers
from helpers.nn.activations import ReLU, Tanh
from helpers.nn.convolution import AveragePooling2D, Conv2D, Flatten, MaxPooling2D
from helpers.nn.gradients import check_layer
from helpers.nn.layers import Dense
from helpers.nn.network import Sequential, named
from helpers.nn.training import Network

MIRROR = os.environ.get("HEALTHBOOK_DATA")
needs_mirror = pytest.mark.skipif(not MIRROR, reason="HEALTHBOOK_DATA is not set")
MAKERS = {
    "Conv2D": lambda: Conv2D(3, 2),
    "Conv2D, same": lambda: Conv2D(2, (3, 2), padding="same"),
    "Conv2D, stride": lambda: Conv2D(2, 3, 2, padding="same"),
    "MaxPooling2D": lambda: MaxPooling2D(2),
    "AveragePooling2D": lambda: AveragePooling2D((3, 2)),
    "Flatten": Flatten,
}
every_layer = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
poolings = pytest.mark.parametrize("kind", [MaxPooling2D, AveragePooling2D])
both_types = pytest.mark.parametrize("dtype", [np.float32, np.float64])
few = settings(max_examples=25, deadline=None)

seeds = st.integers(0, 2**32 - 1)
pairs = st.tuples(st.integers(1, 4), st.integers(1, 4))
sizes = st.tuples(
    st.integers(1, 3), st.integers(4, 7), st.integers(4, 7), st.integers(1, 3)
)
convolutions = st.builds(
    Conv2D,
    st.integers(1, 3),
    pairs,
    st.integers(1, 4),
    st.sampled_from(["valid", "same"]),
)
layers = (
    convolutions | st.builds(MaxPooling2D, pairs) | st.builds(AveragePooling2D, pairs)
)


def built(layer, shape, dtype=np.float64, seed=0):
    """The layer, built, with a bias that is not 0."""
    rng = np.random.default_rng(seed)
    layer.build(shape[1:], rng, dtype)
    for array in layer.params.values():
        array += rng.normal(0, 0.3, array.shape)
    return layer


def images(shape, seed=0, dtype=np.float64):
    """Images of which no two numbers are nearer than .01: no ties within a window."""
    ranks = np.random.default_rng(seed).permutation(math.prod(shape))
    return (0.01 * (ranks - ranks.size / 2)).reshape(shape).astype(dtype)


def ways(layer, x, da):
    """Output, gradient by the input, and gradients by the parameters, as copies."""
    a, dx = layer.forward(x, training=True), layer.backward(da)
    return [a, dx, *(array.copy() for array in layer.grads.values())]


def assert_near(found, expected, tolerance=1e-5):
    found, expected = np.asarray(found), np.asarray(expected)
    assert found.shape == expected.shape
    assert np.linalg.norm(found - expected) <= tolerance * np.linalg.norm(expected)


# Worked by hand


def test_a_convolution_worked_by_hand():
    layer = Conv2D(1, 2, initial=lambda shape, rng: np.reshape([1, 2, 3, 4], shape))
    assert layer.build((2, 3, 1), None, np.float64) == (1, 2, 1)
    layer.params["b"][:] = 0.5
    x = np.array([[1.0, 0, 2], [0, 1, 3]])[None, ..., None]
    a = layer.forward(x, training=True)
    # the window's weights are 1 2 / 3 4, not turned round
    assert a.ravel().tolist() == [1 + 4 + 0.5, 4 + 3 + 12 + 0.5]
    dx = layer.backward(np.array([10.0, 1]).reshape(a.shape))
    assert dx[0, ..., 0].tolist() == [[10, 20 + 1, 2], [30, 40 + 3, 4]]
    assert layer.grads["W"].ravel().tolist() == [10 * 1, 2, 1, 10 * 1 + 3]
    assert layer.grads["b"].tolist() == [11]


def test_a_convolution_sums_over_channels_and_keeps_filters_apart():
    W = np.array([[1.0, 10], [2, 20], [3, 30]]).reshape(1, 1, 3, 2)
    layer = Conv2D(2, 1, initial=lambda shape, rng: W)
    assert layer.build((1, 1, 3), None, np.float64) == (1, 1, 2)
    layer.params["b"][:] = [0, 7]
    a = layer.forward(np.array([1.0, 1, 2]).reshape(1, 1, 1, 3))
    assert a.ravel().tolist() == [1 + 2 + 6, 10 + 20 + 60 + 7]


@pytest.mark.parametrize(
    "kernel, stride, expected",
    [
        (3, 1, [1 + 2, 1 + 2 + 3, 2 + 3 + 4, 3 + 4]),
        (2, 1, [1 + 2, 2 + 3, 3 + 4, 4]),  # an odd zero goes to the end
        (3, 2, [1 + 2 + 3, 3 + 4]),
        (1, 3, [1, 4]),
        (9, 4, [1 + 2 + 3 + 4]),
    ],
)
def test_same_padding_worked_by_hand(kernel, stride, expected):
    layer = Conv2D(
        1,
        (1, kernel),
        stride,
        "same",
        initial=lambda shape, rng: np.ones(shape),
    )
    layer.build((1, 4, 1), None, np.float64)
    assert layer.forward(np.arange(1.0, 5).reshape(1, 1, 4, 1)).ravel().tolist() == (
        expected
    )


def test_pooling_worked_by_hand():
    x = np.array([[1.0, 5, 2, 9], [3, 4, 8, 9], [9, 9, 9, 9]])[None, :, :3, None]
    da = np.full((1, 1, 1, 1), 8.0)
    for layer, expected, gradient in [
        (MaxPooling2D(2), 5, [[0, 8, 0], [0, 0, 0], [0, 0, 0]]),
        (AveragePooling2D(2), 13 / 4, [[2, 2, 0], [2, 2, 0], [0, 0, 0]]),
    ]:
        assert layer.build((3, 3, 1), None, np.float64) == (1, 1, 1)
        assert layer.forward(x, training=True).tolist() == [[[[expected]]]]
        assert layer.backward(da)[0, ..., 0].tolist() == gradient


@pytest.mark.parametrize(
    "window, first",
    [
        ([[7, 7], [7, 7]], (0, 0)),
        ([[1, 7], [7, 1]], (0, 1)),
        ([[1, 1], [7, 7]], (1, 0)),
    ],
)
def test_of_equal_numbers_the_first_row_by_row_gets_the_gradient(window, first):
    x = np.array(window, float)[None, ..., None]
    layer = built(MaxPooling2D(2), x.shape)
    layer.forward(x, training=True)
    dx = layer.backward(np.ones((1, 1, 1, 1)))[0, ..., 0]
    assert dx[first] == 1 and dx.sum() == 1


def test_flatten_goes_row_by_row_with_the_channels_innermost():
    layer, x = Flatten(), np.arange(24.0).reshape(2, 2, 3, 2)
    assert layer.build((2, 3, 2), None, np.float64) == (12,)
    a = layer.forward(x, training=True)
    assert a.tolist() == [list(range(12)), list(range(12, 24))]
    assert np.array_equal(layer.backward(a), x)


# Laws


@given(seeds, sizes, pairs)
@few
def test_an_image_moved_by_a_pixel_gives_sums_moved_by_a_pixel(seed, shape, kernel):
    x = np.random.default_rng(seed).normal(size=shape)
    layer = built(Conv2D(2, kernel), shape, seed=seed)
    moved = layer.forward(np.roll(x, (1, 1), axis=(1, 2)))
    assert moved[:, 1:, 1:] == pytest.approx(layer.forward(x)[:, :-1, :-1])


@given(seeds, sizes)
@few
def test_a_window_of_one_pixel_or_of_all_is_a_dense_layer(seed, shape):
    x = np.random.default_rng(seed).normal(size=shape)
    for size, rows in [((1, 1), x), (shape[1:3], x.reshape(len(x), 1, 1, -1))]:
        layer = built(Conv2D(2, size), shape, seed=seed)
        dense = built(Dense(2), rows.shape)
        dense.params["W"][:] = layer.params["W"].reshape(-1, 2)
        dense.params["b"][:] = layer.params["b"]
        assert layer.forward(x) == pytest.approx(dense.forward(rows))


@given(seeds, sizes, st.integers(1, 4))
@few
def test_a_mean_is_a_convolution_whose_weights_are_all_equal(seed, shape, size):
    x = np.random.default_rng(seed).normal(size=shape)[..., :1]
    share = 1 / size**2
    one = Conv2D(1, size, size, initial=lambda shape, rng: np.full(shape, share))
    one.build(x.shape[1:], None, np.float64)
    mean = built(AveragePooling2D(size), x.shape)
    da = np.random.default_rng(seed).normal(size=mean.forward(x).shape)
    for found, expected in zip(ways(mean, x, da), ways(one, x, da), strict=False):
        assert found == pytest.approx(expected, abs=1e-12)


@given(seeds, sizes, pairs)
@few
def test_the_largest_is_above_the_mean_and_comes_through_relu_alike(seed, shape, size):
    x = images(shape, seed)
    top, mean = built(MaxPooling2D(size), shape), built(AveragePooling2D(size), shape)
    assert (top.forward(x) >= mean.forward(x) - 1e-12).all()
    assert np.array_equal(
        top.forward(ReLU().forward(x)), ReLU().forward(top.forward(x))
    )


@poolings
@given(seed=seeds, shape=sizes, size=pairs)
@few
def test_pooling_hands_the_whole_gradient_back(kind, seed, shape, size):
    rng = np.random.default_rng(seed)
    layer, x = built(kind(size), shape), rng.integers(0, 3, shape).astype(float)
    da = rng.normal(size=layer.forward(x, training=True).shape)
    dx = layer.backward(da)
    assert dx.sum() == pytest.approx(da.sum(), abs=1e-12)


@given(seeds, sizes, convolutions)
@few
def test_the_gradients_of_two_batches_add_up(seed, shape, layer):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(4, *shape[1:]))
    da = rng.normal(size=built(layer, shape, seed=seed).forward(x).shape)
    one, two = (ways(layer, x[part], da[part]) for part in (slice(1), slice(1, None)))
    a, dx, dW, db = ways(layer, x, da)
    assert a == pytest.approx(np.concatenate([one[0], two[0]]))
    assert dx == pytest.approx(np.concatenate([one[1], two[1]]))
    assert dW == pytest.approx(one[2] + two[2], abs=1e-12)
    assert db == pytest.approx(one[3] + two[3], abs=1e-12)


@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize("n_bytes", [1, 8000])
def test_how_many_images_are_copied_at_a_time_changes_nothing(
    monkeypatch, padding, n_bytes
):
    shape = (7, 6, 5, 2)
    rng = np.random.default_rng(0)
    x, layer = rng.normal(size=shape), Conv2D(3, 3, padding=padding)
    da = rng.normal(size=built(layer, shape).forward(x).shape)
    expected = ways(layer, x, da)
    monkeypatch.setattr(convolution, "BLOCK_BYTES", n_bytes)
    for found, wanted in zip(ways(built(layer, shape), x, da), expected, strict=True):
        assert found == pytest.approx(wanted)


# Gradients by central differences


@given(seeds, sizes, layers)
@few
def test_the_gradients_agree_with_central_differences(seed, shape, layer):
    rng = np.random.default_rng(seed)
    errors = check_layer(layer, images(shape, seed), rng, tolerance=1e-7)
    assert set(errors) == {"x", *layer.params}


@given(seeds)
@settings(max_examples=5, deadline=None)
def test_the_gradients_of_a_row_of_layers_agree_too(seed):
    rng = np.random.default_rng(seed)
    row = Sequential(
        [
            Conv2D(3, 3, padding="same"),
            AveragePooling2D(2),
            Conv2D(2, 2, stride=2),
            Flatten(),
            Dense(2),
        ]
    )
    errors = check_layer(row, rng.normal(size=(2, 9, 8, 2)), rng)
    assert len(errors) == 1 + 6


# Agreement with Keras


def keras_layer(layer, shape):
    """The same layer in Keras, with the same weights."""
    if isinstance(layer, Conv2D):
        twin = keras.layers.Conv2D(
            layer.filters, layer.kernel_size, layer.stride, layer.padding
        )
    else:
        twin = getattr(keras.layers, type(layer).__name__)(layer.size)
    twin.build((None, *shape[1:]))
    twin.set_weights(list(layer.params.values()))
    return twin


def keras_ways(twin, x, da):
    with tf.GradientTape() as tape:
        x = tf.convert_to_tensor(x)
        tape.watch(x)
        a = twin(x)
        total = tf.reduce_sum(a * da)
    return [a, *tape.gradient(total, [x, *twin.trainable_weights])]


def assert_as_keras(layer, x, seed):
    da = np.random.default_rng(seed).normal(size=layer.forward(x).shape).astype("f4")
    found, wanted = ways(layer, x, da), keras_ways(keras_layer(layer, x.shape), x, da)
    for pair in zip(found, wanted, strict=True):
        assert_near(*pair)


# two of each at least: a single sum may cancel to 0, and then no digit is left of it
@given(
    seeds,
    st.tuples(
        st.integers(2, 3), st.integers(4, 9), st.integers(4, 9), st.integers(2, 3)
    ),
    layers,
)
@few
def test_forward_and_gradients_agree_with_keras(seed, shape, layer):
    if isinstance(layer, Conv2D):
        layer.filters += 1
    built(layer, shape, np.float32, seed)
    assert_as_keras(layer, images(shape, seed, np.float32), seed)


@given(seeds, sizes, pairs)
@few
def test_ties_are_broken_as_tensorflow_breaks_them(seed, shape, size):
    x = np.random.default_rng(seed).integers(0, 3, shape).astype(np.float32)
    assert_as_keras(built(MaxPooling2D(size), shape, np.float32), x, seed)


def image_network(dtype=np.float32):
    """The book's network for digits."""
    return Network(
        [
            *(Conv2D(32, 3), ReLU(), MaxPooling2D(2)),
            *(Conv2D(64, 3), ReLU(), MaxPooling2D(2)),
            *(Conv2D(64, 3), ReLU(), Flatten()),
            *(Dense(64), ReLU(), Dense(10)),
        ],
        (28, 28, 1),
        loss=losses.SparseCategoricalCrossEntropy(),
        optimizer=optimizers.Adam(),
        rng=np.random.default_rng(0),
        dtype=dtype,
    )


def test_the_network_for_digits_agrees_with_keras():
    rng = np.random.default_rng(0)
    X, y = rng.random((16, 28, 28, 1), dtype=np.float32), rng.integers(0, 10, 16)
    ours, make = image_network(), keras.layers
    theirs = keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            *(make.Conv2D(32, 3, activation="relu"), make.MaxPooling2D(2)),
            *(make.Conv2D(64, 3, activation="relu"), make.MaxPooling2D(2)),
            *(make.Conv2D(64, 3, activation="relu"), make.Flatten()),
            *(make.Dense(64, activation="relu"), make.Dense(10)),
        ]
    )
    theirs.set_weights(list(named(ours, "params").values()))
    assert ours.count_params() == theirs.count_params() == 93_322
    with tf.GradientTape() as tape:
        output = theirs(X, training=True)
        loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(y, output))
    assert ours.loss_and_gradients(X, y) == pytest.approx(float(loss), rel=1e-5)
    assert_near(ours.forward(X), output)
    wanted = tape.gradient(loss, theirs.trainable_weights)
    for pair in zip(named(ours, "grads").values(), wanted, strict=True):
        assert_near(*pair)


# In a network


def test_a_network_learns_where_a_line_lies():
    """Eight images, a bright row or a bright column each."""
    rng = np.random.default_rng(0)
    X, y = rng.normal(0, 0.1, (8, 8, 8, 1)), np.arange(8) % 2
    for image, upright, place in zip(X, y, rng.integers(0, 8, 8), strict=True):
        np.moveaxis(image, 0, upright)[place] += 1
    network = Network(
        [Conv2D(4, 3, padding="same"), ReLU(), MaxPooling2D(2), Flatten(), Dense(2)],
        (8, 8, 1),
        loss=losses.SparseCategoricalCrossEntropy(),
        optimizer=optimizers.Adam(0.01),
        rng=rng,
    )
    history = network.fit(X, y, n_epochs=60, batch_size=4)
    assert history["loss"][-1] < 0.05 and history["accuracy"][-1] == 1
    twin = copy.deepcopy(network)
    twin.fit(X, y, n_epochs=1)
    assert not np.array_equal(twin.theta, network.theta)


def test_a_seed_trains_the_same_weights():
    X, y = images((40, 28, 28, 1), dtype=np.float32) / 100, np.arange(40) % 10
    one, two = image_network(), image_network()
    for network in (one, two):
        network.fit(X, y, n_epochs=1)
    assert np.array_equal(one.theta, two.theta)


# What every layer keeps to


def locked(array):
    """The array, such that writing to it raises."""
    array.flags.writeable = False
    return array


@every_layer
@both_types
def test_type_and_shape_are_kept_and_the_inputs_left_alone(make, dtype):
    layer, x = make(), locked(images((3, 5, 7, 2), dtype=dtype))
    one = layer.build(x.shape[1:], np.random.default_rng(0), dtype)
    for training in (False, True):
        a = layer.forward(x, training)
        assert (a.shape, a.dtype) == ((len(x), *one), dtype)
    dx = layer.backward(locked(np.ones_like(a)))
    assert (dx.shape, dx.dtype) == (x.shape, dtype)
    for name, array in layer.params.items():
        assert array.dtype == layer.grads[name].dtype == dtype


@every_layer
def test_an_answer_stays_when_the_layer_goes_on(make):
    layer, x = built(make(), (3, 6, 6, 2)), images((3, 6, 6, 2))
    a = layer.forward(x, training=True)
    dx = layer.backward(np.ones_like(a))
    before = a.copy(), dx.copy()
    layer.forward(x[::-1] + 1, training=True)
    layer.backward(a + 1)
    assert np.array_equal(a, before[0]) and np.array_equal(dx, before[1])


@every_layer
def test_there_is_one_way_back_for_each_way_forward(make):
    layer, x = built(make(), (3, 6, 6, 2)), images((3, 6, 6, 2))
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
    layer, x = built(make(), (3, 6, 6, 2)), images((3, 6, 6, 2))
    da = layer.forward(x)
    expected = ways(layer, x, da)
    layer.forward(x, training=True)
    layer.forward(images((9, 6, 6, 2), seed=1))
    assert np.array_equal(layer.backward(da), expected[1])
    for array, wanted in zip(layer.grads.values(), expected[2:], strict=True):
        assert np.array_equal(array, wanted)


def test_the_first_layer_spares_the_gradient_by_its_input():
    layer, x = built(Conv2D(2, 3), (3, 6, 6, 2)), images((3, 6, 6, 2))
    da = layer.forward(x)
    _, _, dW, db = ways(layer, x, da)
    layer.forward(x, training=True)
    assert layer.backward(da, input_gradient=False) is None
    assert np.array_equal(layer.grads["W"], dW)
    assert np.array_equal(layer.grads["b"], db)


def test_nan_is_passed_on_and_not_hidden():
    x = images((2, 4, 4, 1))
    x[0, 1, 1] = np.nan
    for layer in (Conv2D(1, 2), MaxPooling2D(2), AveragePooling2D(2)):
        a = built(layer, x.shape).forward(x)
        assert np.isnan(a[0, 0, 0, 0]) and np.isfinite(a[1]).all()


# Bad input


@pytest.mark.parametrize("name", ["filters", "stride"])
@pytest.mark.parametrize("value", [0, -1, 2.5, True, None, "3", math.nan, (1, 2)])
def test_a_convolution_refuses_what_is_no_count(name, value):
    options = {"filters": 2, "kernel_size": 3, name: value}
    with pytest.raises(ValueError, match=f"Conv2D needs {name}.*got ") as raised:
        Conv2D(**options)
    assert str(raised.value).endswith(repr(value))


@pytest.mark.parametrize("size", [0, -1, 2.5, True, None, "3", (3, 0), (3,), (3, 3, 3)])
def test_sizes_that_are_none_are_refused(size):
    for make, name in [
        (lambda: Conv2D(2, size), "Conv2D needs kernel_size"),
        (lambda: MaxPooling2D(size), "MaxPooling2D needs size"),
        (lambda: AveragePooling2D(size), "AveragePooling2D needs size"),
    ]:
        with pytest.raises(ValueError, match="a pair of them, got") as raised:
            make()
        assert str(raised.value).startswith(name)
        assert str(raised.value).endswith(repr(size))


@pytest.mark.parametrize("padding", ["full", None, 1])
def test_a_convolution_refuses_another_padding(padding):
    with pytest.raises(ValueError, match=f"valid or same, got {padding!r}"):
        Conv2D(2, 3, padding=padding)


@pytest.mark.parametrize(
    "make", [lambda: Conv2D(2, 1), lambda: MaxPooling2D(1), lambda: AveragePooling2D(1)]
)
@pytest.mark.parametrize(
    "shape", [(28, 28), (784,), (4, 4, 0), (0, 4, 1), (4, 4, 1, 1)]
)
def test_what_is_no_image_is_refused(make, shape):
    with pytest.raises(ValueError, match=r"images as \(height, width, channels\), got"):
        make().build(shape, np.random.default_rng(0), np.float32)


def test_layers_that_do_not_fit_together_are_named():
    def network(*layers, shape=(6, 6, 1)):
        return Sequential(layers).build(shape, np.random.default_rng(0), np.float32)

    small = r"at least 5 x 4 pixels, one window, got \(3, 3, 1\)"
    with pytest.raises(ValueError, match=r"layer 2, Conv2D\(2, \(5, 4\), .*" + small):
        network(MaxPooling2D(2), Conv2D(2, (5, 4)))
    with pytest.raises(
        ValueError, match=r"layer 2, MaxPooling2D\(\(5, 4\)\).*" + small
    ):
        network(AveragePooling2D(2), MaxPooling2D((5, 4)))
    with pytest.raises(ValueError, match=r"layer 2, Conv2D.*got \(36,\): X\[\.\.\., N"):
        network(Flatten(), Conv2D(2, 3))
    assert network(MaxPooling2D(2), Conv2D(2, 5, padding="same")) == (3, 3, 2)


def test_a_network_refuses_images_without_a_channel_before_it_computes():
    network = image_network()
    with pytest.raises(ValueError, match=r"layer 1, Conv2D\(32.*\(5, 28, 28\).*would"):
        network.predict(np.zeros((5, 28, 28)))
    X = np.zeros((5, 28, 28, 1))
    X[3, 0, 0] = np.nan
    with pytest.raises(ValueError, match="layer 1, Conv2D.*NaN.*the first in row 3"):
        network.predict(X)


# MNIST


def digits(monkeypatch, tmp_path):
    """10,000 training images of MNIST from the mirror, and its test."""
    monkeypatch.setenv("HEALTHBOOK_CACHE", str(tmp_path))
    monkeypatch.setenv("HEALTHBOOK_OFFLINE", "1")
    raw = mnist()
    assert not raw.stand_in
    X, X_test = (
        np.divide(part, 255, dtype="f4")[..., None]
        for part in (raw.X_train[:10_000], raw.X_test)
    )
    return X, raw.y_train[:10_000], X_test, raw.y_test


def reader_of_digits(bend, optimizer):
    layers = [Conv2D(32, 3), MaxPooling2D(2), bend(), Conv2D(64, 3), MaxPooling2D(2)]
    layers += [bend(), Conv2D(64, 3), bend(), Flatten(), Dense(64), bend(), Dense(10)]
    loss = losses.SparseCategoricalCrossEntropy()
    rng = np.random.default_rng(0)
    return Network(layers, (28, 28, 1), loss=loss, optimizer=optimizer, rng=rng)


@needs_mirror
def test_digits_are_read_97_times_in_100_from_ten_thousand(monkeypatch, tmp_path):
    X, y, X_test, y_test = digits(monkeypatch, tmp_path)
    network = reader_of_digits(ReLU, optimizers.Adam())
    with runtime.threads(1):
        network.fit(X, y, n_epochs=4)
        assert network.evaluate(X_test, y_test)["accuracy"] >= 0.97


# With ReLU one sum of millions falls within rounding of the kink, on the other side in
# Keras, and the curves part by up to .4 in a hundred steps, though either is right.
@needs_mirror
def test_keras_follows_the_same_losses_for_a_hundred_steps(monkeypatch, tmp_path):
    X, y, _, _ = digits(monkeypatch, tmp_path)
    network, layer = reader_of_digits(Tanh, optimizers.SGD(0.1)), keras.layers
    theirs = []
    for filters in (32, 64):
        theirs += [layer.Conv2D(filters, 3), layer.MaxPooling2D(2)]
        theirs += [layer.Activation("tanh")]
    theirs += [layer.Conv2D(64, 3, activation="tanh"), layer.Flatten()]
    theirs += [layer.Dense(64, activation="tanh"), layer.Dense(10)]
    model = keras.Sequential([keras.Input((28, 28, 1)), *theirs])
    model.set_weights(list(named(network, "params").values()))
    model.compile(
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        optimizer=keras.optimizers.SGD(0.1),
    )
    curves = [], []
    for rows in np.arange(6400, 9600).reshape(100, 32):
        curves[0].append(network.train_on_batch(X[rows], y[rows]))
        model.reset_metrics()
        curves[1].append(float(model.train_on_batch(X[rows], y[rows])))
    assert curves[0][-1] < 0.7 < curves[0][0]
    np.testing.assert_allclose(*curves, rtol=0, atol=1e-3)
