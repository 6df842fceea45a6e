"""Recurrent layers: hand values, padding, gradients, Keras, first weights, training."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.nn import losses, optimizers, recurrent
from helpers.nn.embeddings import Embedding
from helpers.nn.gradients import check_gradient, check_layer
from helpers.nn.layers import Dense
from helpers.nn.network import Sequential
from helpers.nn.recurrent import GRU, LSTM, SimpleRNN, orthogonal
from helpers.nn.training import Network

CELLS = [SimpleRNN, LSTM, GRU]
every_cell = pytest.mark.parametrize("cell", CELLS)
both_outputs = pytest.mark.parametrize("return_sequences", [False, True])
both_types = pytest.mark.parametrize("dtype", [np.float32, np.float64])

seeds = st.integers(0, 2**32 - 1)
# n patients, time, features, units
sizes = st.tuples(*(st.integers(1, most) for most in (4, 6, 4, 4)))


def built(layer, shape, dtype=np.float64, seed=0):
    """The layer, built, with biases that are not all 0 or 1."""
    rng = np.random.default_rng(seed)
    layer.build(shape[1:], rng, dtype)
    for array in layer.params.values():
        array += rng.normal(0, 0.3, array.shape)
    return layer


def set_params(layer, **values):
    for name, value in values.items():
        layer.params[name][...] = value


def padded(x, padding, value=0.0):
    """x, with steps that are `value` throughout where `padding` (n, time) says so."""
    return np.where(padding[:, :, None], x.dtype.type(value), x)


def locked(array):
    """The array, such that writing to it raises."""
    array.flags.writeable = False
    return array


# Worked by hand


def test_two_steps_of_a_simple_rnn_worked_by_hand():
    layer = SimpleRNN(1)
    assert layer.build((2, 1), np.random.default_rng(0), np.float64) == (1,)
    set_params(layer, W=1, U=2, b=0.5)
    # h is 0.5, then 0.2
    first, second = math.atanh(0.5) - 0.5, math.atanh(0.2) - 2 * 0.5 - 0.5
    a = layer.forward(np.array([[[first], [second]]]), training=True)
    assert a == pytest.approx(np.array([[0.2]]))
    dx = layer.backward(np.array([[1.0]]))
    late = 1 - 0.2**2
    early = late * 2 * (1 - 0.5**2)
    assert dx == pytest.approx(np.array([[[early], [late]]]))
    assert layer.grads["W"] == pytest.approx(first * early + second * late)
    assert layer.grads["U"] == pytest.approx(0.5 * late)
    assert layer.grads["b"] == pytest.approx(early + late)


def test_two_steps_of_an_lstm_worked_by_hand():
    layer = LSTM(1)
    layer.build((2, 1), np.random.default_rng(0), np.float64)
    i, f, g, o = 0.75, 0.5, 0.8, 0.9
    set_params(layer, W=0, U=0, b=[math.log(3), 0, math.atanh(g), math.log(9)])
    a = layer.forward(np.zeros((1, 2, 1)), training=True)
    before, c = i * g, f * i * g + i * g  # 0.6, 0.9
    assert a == pytest.approx(np.array([[o * math.tanh(0.9)]]))
    layer.backward(np.array([[1.0]]))
    dc = o * (1 - math.tanh(c) ** 2)
    both = dc + dc * f  # the first step's c reaches h through the forget gate
    assert layer.grads["b"] == pytest.approx(
        [
            both * g * i * (1 - i),
            dc * before * f * (1 - f),
            both * i * (1 - g * g),
            math.tanh(c) * o * (1 - o),
        ]
    )


def test_two_steps_of_a_gru_worked_by_hand():
    layer = GRU(1)
    layer.build((2, 1), np.random.default_rng(0), np.float64)
    u, r, g = 0.5, 0.75, 0.6
    seen = (math.atanh(g) - 0.3) / r  # the state's share, before r
    set_params(layer, W=0, U=0, b=[[0, math.log(2), 0.3], [0, math.log(1.5), seen]])
    a = layer.forward(np.zeros((1, 2, 1)), training=True)
    assert a == pytest.approx(np.array([[0.45]]))  # 0.3 after the first step
    layer.backward(np.array([[1.0]]))
    du = ((0.3 - g) + u * (0 - g)) * u * (1 - u)
    dg = (1 + u) * (1 - u) * (1 - g * g)
    dr = dg * seen * r * (1 - r)
    assert layer.grads["b"] == pytest.approx(np.array([[du, dr, dg], [du, dr, dg * r]]))


def test_a_padded_step_worked_by_hand():
    layer = SimpleRNN(1, return_sequences=True, mask_value=-9)
    layer.build((3, 1), np.random.default_rng(0), np.float64)
    set_params(layer, W=1, U=2, b=0)
    x = np.array([[[math.atanh(0.5)], [-9.0], [math.atanh(0.2) - 1]]])
    a = layer.forward(x, training=True)
    assert a == pytest.approx(np.array([[[0.5], [0], [0.2]]]))
    dx = layer.backward(np.array([[[0.0], [100], [1]]]))
    assert dx == pytest.approx(np.array([[[0.96 * 2 * 0.75], [0], [0.96]]]))
    assert layer.grads["U"] == pytest.approx(0.5 * 0.96)


# Padding


@every_cell
@given(seed=seeds, size=sizes, data=st.data())
@settings(max_examples=25, deadline=None)
def test_a_padded_position_never_changes_an_answer(cell, seed, size, data):
    """A batch of patients, padded anywhere, against each of them alone, without."""
    rng = np.random.default_rng(seed)
    n, time, n_features, units = size
    padding = np.array(
        data.draw(
            st.lists(
                st.lists(st.booleans(), min_size=time, max_size=time).filter(
                    lambda row: not all(row)
                ),
                min_size=n,
                max_size=n,
            )
        )
    )
    value = data.draw(st.sampled_from([0.0, -1.0, 0.1, 999.0]))
    shape = (n, time, n_features)
    x = padded(rng.normal(size=shape), padding, value)
    for sequences in (False, True):
        options = {"return_sequences": sequences, "mask_value": value}
        layer = built(cell(units, **options), shape, seed=seed)
        plain = built(cell(units, return_sequences=sequences), shape, seed=seed)
        da = rng.normal(size=layer.forward(x).shape)
        a, sums = layer.forward(x, training=True), 0
        dx = layer.backward(da)
        assert not dx[padding].any()
        if sequences:
            assert not a[padding].any()
        for row, steps in enumerate(~padding):
            alone = plain.forward(x[row : row + 1, steps], training=True)[0]
            chosen = (row, steps) if sequences else row
            assert a[chosen] == pytest.approx(alone, abs=1e-12)
            d_alone = plain.backward(da[chosen][None])[0]
            assert dx[row, steps] == pytest.approx(d_alone, abs=1e-12)
            sums = sums + np.concatenate([g.ravel() for g in plain.grads.values()])
        found = np.concatenate([g.ravel() for g in layer.grads.values()])
        assert found == pytest.approx(sums, abs=1e-11)


@every_cell
@both_outputs
def test_a_sequence_of_padding_alone_comes_out_as_0(cell, return_sequences):
    layer = cell(3, return_sequences=return_sequences, mask_value=0.0)
    built(layer, (2, 4, 2))
    a = layer.forward(np.zeros((2, 4, 2)), training=True)
    assert not a.any()
    assert not layer.backward(np.ones_like(a)).any()
    assert not any(gradient.any() for gradient in layer.grads.values())


@every_cell
def test_without_a_mask_value_a_step_of_zeros_is_a_step(cell):
    layer = built(cell(3), (1, 2, 2))
    x = np.array([[[1.0, 2.0], [0.0, 0.0]]])
    assert np.abs(layer.forward(x) - layer.forward(x[:, :1])).min() > 1e-3


@every_cell
@both_types
def test_a_step_is_padding_if_all_its_features_are(cell, dtype):
    layer = built(cell(3, mask_value=np.float64(0.1)), (1, 2, 2), dtype)
    measured = np.array([[[1, 2], [0.1, 0.2]]], dtype)
    padding = np.array([[[1, 2], [0.1, 0.1]]], dtype)  # 0.1 in the input's own type
    first = layer.forward(measured[:, :1])
    assert np.array_equal(layer.forward(padding), first)
    assert not np.array_equal(layer.forward(measured), first)


def words_network(seed, dtype=np.float32):
    rng = np.random.default_rng(seed)
    layers = [
        Embedding(9, 4),
        GRU(3, return_sequences=True, mask_value=0.0),
        LSTM(5, mask_value=0.0),
        Dense(1),
    ]
    return Network(
        layers,
        (6,),
        loss=losses.BinaryCrossEntropy(),
        optimizer=optimizers.Adam(0.02),
        rng=rng,
        dtype=dtype,
    )


def test_padding_of_words_is_skipped_through_a_row_of_layers():
    network = words_network(0, np.float64)
    text = np.array([[3, 1, 8, 4, 0, 0], [5, 5, 2, 0, 0, 0]])
    p = network.predict(text)
    assert network.predict(np.roll(text, 2, axis=1)) == pytest.approx(p, abs=1e-12)
    assert network.predict(text[:, [0, 5, 1, 2, 4, 3]]) == pytest.approx(p, abs=1e-12)
    row = Sequential(network.layers)  # which, not a Network, takes any length
    longer = np.pad(text, ((0, 0), (0, 7)))
    assert row.forward(longer) == pytest.approx(row.forward(text), abs=1e-12)
    assert row.forward(text[1:, :3]) == pytest.approx(row.forward(text)[1:], abs=1e-12)


# Gradients by central differences


@every_cell
@both_outputs
@given(seed=seeds, size=sizes)
@settings(max_examples=10, deadline=None)
def test_the_gradients_agree_with_central_differences(
    cell, return_sequences, seed, size
):
    rng = np.random.default_rng(seed)
    layer = cell(size[3], return_sequences=return_sequences)
    errors = check_layer(layer, rng.normal(size=size[:3]), rng, tolerance=1e-6)
    assert set(errors) == {"x", "W", "U", "b"}


@every_cell
@both_outputs
@given(seed=seeds, size=sizes)
@settings(max_examples=10, deadline=None)
def test_the_gradients_agree_around_padding_too(cell, return_sequences, seed, size):
    rng = np.random.default_rng(seed)
    layer = cell(size[3], return_sequences=return_sequences, mask_value=0.0)
    built(layer, size[:3], seed=seed)
    padding = rng.random(size[:2]) < 0.4
    padding[0, 0] = False
    measured = rng.normal(size=(np.count_nonzero(~padding), size[2]))

    def forward():
        x = np.zeros(size[:3])
        x[~padding] = measured
        return layer.forward(x, training=True)

    weights = rng.normal(size=forward().shape)
    dx = layer.backward(weights)
    check_gradient(
        lambda: float(np.vdot(weights, forward())),
        {"x": measured} | layer.params,
        {"x": dx[~padding]} | layer.grads,
        tolerance=1e-6,
    )


@every_cell
@both_outputs
def test_the_gradients_agree_over_50_steps(cell, return_sequences):
    rng = np.random.default_rng(0)
    layer = cell(4, return_sequences=return_sequences)
    check_layer(layer, rng.normal(size=(2, 50, 3)), rng, tolerance=1e-5)


# Agreement with Keras


def assert_near(ours, theirs, what, tolerance=1e-5):
    theirs = np.asarray(theirs)
    assert ours.dtype == np.float32 and ours.shape == theirs.shape, what
    gap = np.abs(ours - theirs).max() / max(1, np.abs(theirs).max())
    assert gap <= tolerance, (what, gap)


@every_cell
@both_outputs
# inputs of 20 saturate tanh: its rounding, times 20, then parts either from float64
@given(seed=seeds, size=sizes, scale=st.sampled_from([0.1, 1, 3]), some=st.booleans())
@settings(max_examples=10, deadline=None)
def test_forward_and_gradients_agree_with_keras(
    cell, return_sequences, seed, size, scale, some
):
    rng = np.random.default_rng(seed)
    options = {"return_sequences": return_sequences}
    ours = built(cell(size[3], mask_value=0.0, **options), size[:3], np.float32, seed)
    theirs = getattr(keras.layers, cell.__name__)(
        # padding comes out as 0, so that a next layer can know it, not as the last h
        size[3],
        zero_output_for_mask=return_sequences,
        **options,
    )
    theirs.build(size[:3])
    theirs.set_weights([array.copy() for array in ours.params.values()])
    padding = rng.random(size[:2]) < (0.4 if some else 0)
    x = padded(rng.normal(0, scale, size[:3]).astype(np.float32), padding)
    a = ours.forward(x, training=True)
    da = rng.normal(size=a.shape).astype(np.float32)
    watched = tf.convert_to_tensor(x)
    with tf.GradientTape() as tape:
        tape.watch(watched)
        expected = theirs(watched, mask=tf.constant(~padding) if some else None)
        loss = tf.reduce_sum(expected * da)
    asked = [watched, *(weight.value for weight in theirs.trainable_weights)]
    assert_near(a, expected, "forward")
    assert_near(ours.forward(x), expected, "inference")
    found = [ours.backward(da), *ours.grads.values()]
    for place, pair in enumerate(zip(found, tape.gradient(loss, asked), strict=True)):
        assert_near(*pair, f"gradient {place}")


def test_a_row_of_layers_over_words_agrees_with_keras():
    network = words_network(1)
    theirs = keras.Sequential(
        [
            keras.layers.Embedding(9, 4, mask_zero=True),
            keras.layers.GRU(3, return_sequences=True),
            keras.layers.LSTM(5),
            keras.layers.Dense(1),
        ]
    )
    text = np.random.default_rng(2).integers(1, 9, (7, 6))
    text[np.arange(6) >= np.arange(7)[:, None]] = 0  # 0 to 6 words
    text = text[1:]  # Keras, too, has nothing to say of no word at all
    theirs.build((None, 6))
    network.theta += np.random.default_rng(3).normal(0, 0.3, network.theta.size)
    theirs.set_weights([a for layer in network.layers for a in layer.params.values()])
    assert_near(network.forward(text), theirs(text), "forward")


# What every layer keeps to


@every_cell
@both_outputs
@both_types
@pytest.mark.parametrize("mask_value", [None, 0.0])
def test_type_and_shape_are_kept_and_the_inputs_left_alone(
    cell, return_sequences, dtype, mask_value
):
    rng = np.random.default_rng(0)
    layer = cell(3, return_sequences=return_sequences, mask_value=mask_value)
    one = layer.build((5, 2), rng, dtype)
    assert one == ((5, 3) if return_sequences else (3,))
    x = rng.normal(size=(4, 5, 2)).astype(dtype)
    x[1, 3:] = 0
    locked(x)
    for training in (False, True):
        a = layer.forward(x, training)
        assert (a.shape, a.dtype) == ((4, *one), dtype)
    dx = layer.backward(locked(rng.normal(size=a.shape).astype(dtype)))
    assert (dx.shape, dx.dtype) == (x.shape, dtype)
    for name, array in layer.params.items():
        assert array.dtype == layer.grads[name].dtype == dtype
        assert array.shape == layer.grads[name].shape


@every_cell
@both_outputs
def test_a_change_of_the_output_leaves_the_way_back_alone(cell, return_sequences):
    layer = built(cell(3, return_sequences=return_sequences), (1, 1, 2))
    x, found = np.ones((1, 1, 2)), []
    for change in (0, 5):
        a = layer.forward(x, training=True)
        da = np.ones_like(a)
        a += change
        found.append(layer.backward(da))
    assert np.array_equal(*found)


@every_cell
def test_there_is_one_way_back_for_each_way_forward(cell):
    layer, x = built(cell(3), (4, 3, 2)), np.ones((4, 3, 2))
    nothing = rf"{cell.__name__}\(3\) has nothing to go back through"
    a = layer.forward(x)
    with pytest.raises(RuntimeError, match=nothing):
        layer.backward(a)
    layer.forward(x, training=True)
    layer.backward(a)
    with pytest.raises(RuntimeError, match=nothing):
        layer.backward(a)


@every_cell
@both_outputs
def test_a_prediction_in_between_leaves_the_way_back_alone(cell, return_sequences):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(4, 3, 2))
    layer = built(cell(3, return_sequences=return_sequences), x.shape)
    da = rng.normal(size=layer.forward(x, training=True).shape)
    expected = layer.backward(da)
    layer.forward(x, training=True)
    for shape in (x.shape, (9, 7, 2)):
        layer.forward(rng.normal(size=shape))
    assert np.array_equal(layer.backward(da), expected)


@every_cell
@both_outputs
def test_nothing_of_one_batch_reaches_the_next(cell, return_sequences):
    rng = np.random.default_rng(0)
    used = built(cell(3, return_sequences=return_sequences), (4, 3, 2))
    first = None
    for shape in [(4, 3, 2), (2, 3, 2), (5, 9, 2), (4, 3, 2)]:
        x, new = (
            rng.normal(size=shape),
            built(cell(3, return_sequences=return_sequences), shape),
        )
        a = used.forward(x, training=True)
        assert np.array_equal(a, new.forward(x, training=True))
        da = rng.normal(size=a.shape)
        dx = used.backward(da)
        assert np.array_equal(dx, new.backward(da))
        for name, gradient in used.grads.items():
            assert np.array_equal(gradient, new.grads[name])
        first = first or [(a, a.copy()), (dx, dx.copy())]
    assert all(np.array_equal(*pair) for pair in first)
    used.build((3, 2), rng, np.float32)
    assert (
        used.forward(np.ones((4, 3, 2), np.float32), training=True).dtype == np.float32
    )


@every_cell
def test_the_first_layer_spares_the_gradient_by_its_input(cell):
    rng = np.random.default_rng(0)
    layer, x, found = built(cell(3), (4, 5, 2)), rng.normal(size=(4, 5, 2)), []
    for asked in (True, False):
        layer.forward(x, training=True)
        dx = layer.backward(np.ones((4, 3)), input_gradient=asked)
        assert (dx is None) is not asked
        found.append({name: array.copy() for name, array in layer.grads.items()})
    for name in layer.grads:
        assert np.array_equal(found[0][name], found[1][name])


@every_cell
@both_outputs
def test_many_patients_are_predicted_as_one_by_one(cell, return_sequences):
    n = 2 * recurrent.AT_ONCE + 3
    x = np.random.default_rng(0).normal(size=(n, 3, 2))
    layer = built(cell(2, return_sequences=return_sequences), x.shape)
    a = layer.forward(x)
    assert a == pytest.approx(layer.forward(x, training=True), abs=1e-12)
    for row in (0, recurrent.AT_ONCE - 1, recurrent.AT_ONCE, n - 1):
        assert a[row] == pytest.approx(layer.forward(x[row : row + 1])[0], abs=1e-12)


@every_cell
@both_types
def test_inputs_of_a_thousand_stay_finite(cell, dtype):
    layer = built(cell(3, return_sequences=True), (2, 4, 2), dtype)
    x = 1000 * np.random.default_rng(0).choice([-1, 0, 1], (2, 4, 2)).astype(dtype)
    with np.errstate(all="raise", under="ignore"):
        a = layer.forward(x, training=True)
        assert np.abs(a).max() <= 1
        assert np.isfinite(layer.backward(np.ones_like(a))).all()


def test_a_layer_says_its_options():
    assert repr(GRU(4)) == "GRU(4)"
    layer = LSTM(np.int64(4), return_sequences=True, mask_value=-1)
    assert repr(layer) == "LSTM(4, return_sequences=True, mask_value=-1)"


# First weights


@pytest.mark.parametrize("shape", [(5, 5), (5, 20), (20, 5), (1, 1)])
def test_orthogonal_weights_keep_lengths(shape):
    W = orthogonal(shape, np.random.default_rng(0))
    assert W.shape == shape and W.dtype == np.float64
    square = W @ W.T if shape[0] <= shape[1] else W.T @ W
    assert square == pytest.approx(np.eye(min(shape)), abs=1e-12)


def test_orthogonal_weights_turn_either_way():
    rng = np.random.default_rng(0)
    assert {orthogonal((1, 1), rng)[0, 0] for _ in range(50)} == {-1, 1}
    corners = [np.diag(orthogonal((3, 3), rng)) for _ in range(2000)]
    # an entry's variance is 1/3
    assert np.abs(np.mean(corners, axis=0)).max() < 5 * math.sqrt(1 / 3 / 2000)


@every_cell
def test_first_weights_are_those_of_keras_in_kind(cell):
    ours, theirs = cell(40), getattr(keras.layers, cell.__name__)(40)
    ours.build((7, 30), np.random.default_rng(0), np.float32)
    theirs.build((None, 7, 30))
    W, U, b = theirs.get_weights()
    assert [array.shape for array in ours.params.values()] == [
        W.shape,
        U.shape,
        b.shape,
    ]
    assert np.abs(ours.params["W"]).max() == pytest.approx(np.abs(W).max(), rel=0.01)
    product = ours.params["U"] @ ours.params["U"].T
    assert product == pytest.approx(U @ U.T, abs=1e-5)
    assert np.array_equal(ours.params["b"], b)  # an LSTM's forget gate begins at 1


# Training


@every_cell
def test_each_layer_learns_what_came_first(cell):
    """The same marks in each sequence, so that their order alone tells."""
    rng = np.random.default_rng(0)
    X = np.zeros((8, 12, 2), np.float32)
    y = np.arange(8) % 2
    for row, x in enumerate(X):
        early, late = sorted(rng.choice(12, 2, replace=False))
        x[early, y[row]] = x[late, 1 - y[row]] = 1
    network = Network(
        [cell(8), Dense(1)],
        (12, 2),
        loss=losses.BinaryCrossEntropy(),
        optimizer=optimizers.Adam(0.02),
        rng=rng,
    )
    history = network.fit(X, y, n_epochs=150, batch_size=4)
    assert history["loss"][-1] < 0.05
    assert network.evaluate(X, y)["accuracy"] == 1


def test_the_same_seed_trains_the_same_network_on_words():
    text = np.random.default_rng(0).integers(0, 9, (20, 6))
    y, found = np.arange(20) % 2, []
    for _ in range(2):
        network = words_network(4)
        before = network.evaluate(text, y)["loss"]
        network.fit(text, y, n_epochs=30, batch_size=8)
        assert network.evaluate(text, y)["loss"] < before - 0.05
        found.append(network.theta)
    assert np.array_equal(*found)


# Bad input


@every_cell
@pytest.mark.parametrize("units", [0, -1, 2.5, True, None, "3", math.nan, math.inf])
def test_a_layer_refuses_what_is_no_count(cell, units):
    wrong = f"{cell.__name__} needs a whole number of units >= 1, got {units}"
    with pytest.raises(ValueError, match=wrong):
        cell(units)


@every_cell
@pytest.mark.parametrize("mask_value", [math.nan, -math.inf, "0", [0.0], np.zeros(2)])
def test_a_layer_refuses_a_mask_value_that_no_step_can_equal(cell, mask_value):
    with pytest.raises(ValueError, match=f"{cell.__name__} needs a mask_value that is"):
        cell(3, mask_value=mask_value)


@every_cell
@pytest.mark.parametrize("shape", [(), (30,), (0, 3), (3, 0), (5, 4, 3)])
def test_a_layer_refuses_what_is_no_sequence(cell, shape):
    with pytest.raises(ValueError, match="expected sequences, .* got .*X.*Embedding"):
        cell(3).build(shape, np.random.default_rng(0), np.float32)


def test_a_network_names_the_layer_that_lost_the_sequence():
    wrong = r"layer 2, GRU\(3\): expected sequences, \(time, n_features\).*got \(4,\)"
    with pytest.raises(ValueError, match=wrong):
        Network(
            [LSTM(4), GRU(3), Dense(1)],
            (5, 2),
            loss=losses.BinaryCrossEntropy(),
            optimizer=optimizers.Adam(),
            rng=np.random.default_rng(0),
        )
