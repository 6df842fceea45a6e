"""Attention: hand values, laws of padding, order and masks, gradients, Keras."""

import copy
import math

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.nn import losses
from helpers.nn.attention import (
    MeanOverTime,
    MultiHeadAttention,
    SinusoidalPositions,
    TransformerEncoder,
    attention_gradients,
    scaled_dot_product_attention,
    sinusoidal_positions,
)
from helpers.nn.embeddings import Embedding
from helpers.nn.gradients import check_gradient, check_layer
from helpers.nn.layers import Dense
from helpers.nn.network import Sequential, flatten, named, walk
from helpers.nn.optimizers import Adam
from helpers.nn.training import Network

MAKERS = {
    "attention": lambda: MultiHeadAttention(2),
    "attention, causal": lambda: MultiHeadAttention(2, causal=True),
    "attention, key_dim": lambda: MultiHeadAttention(3, key_dim=2),
    "positions": SinusoidalPositions,
    "mean": MeanOverTime,
    "encoder": lambda: TransformerEncoder(2, 5),
    "two encoders": lambda: Sequential(
        [SinusoidalPositions(), TransformerEncoder(2, 5), TransformerEncoder(1, 3)]
    ),
}
every_layer = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
both_types = pytest.mark.parametrize("dtype", [np.float32, np.float64])
seeds = st.integers(0, 2**32 - 1)
shapes = st.tuples(st.integers(1, 4), st.integers(1, 6), st.sampled_from([4, 6]))


def built(layer, shape, dtype=np.float64, seed=0):
    """The layer, built, with parameters that are not all 0 or 1."""
    rng = np.random.default_rng(seed)
    layer.build(shape[1:], rng, dtype)
    for array in named(layer, "params").values():
        array += rng.normal(0, 0.3, array.shape)
    return layer


def padded(shape, rng, dtype=np.float64):
    """Sequences with padding anywhere, of which one place at least is real."""
    x = rng.normal(size=shape).astype(dtype)
    real = rng.random(shape[:2]) < 0.6
    real[np.arange(shape[0]), rng.integers(0, shape[1], shape[0])] = True
    return x * real[..., None], real


# Worked by hand


def test_attention_worked_by_hand():
    # scores log 3 and 0 for the first query, after division by sqrt(4); 0, 0 then
    q = np.array([[2 * math.log(3), 0, 0, 0], [0, 0, 0, 0]])
    k = np.array([[1.0, 5, 0, 0], [0, 7, 0, 0]])
    v = np.array([[8.0, 0], [0, 4]])
    a, weights = scaled_dot_product_attention(q, k, v)
    assert weights == pytest.approx(np.array([[3 / 4, 1 / 4], [1 / 2, 1 / 2]]))
    assert a == pytest.approx(np.array([[6, 1], [4, 2]]))
    mask = np.array([[False, True], [False, False]])
    a, weights = scaled_dot_product_attention(q, k, v, mask)
    assert weights.tolist() == [[0, 1], [0, 0]] and a.tolist() == [[0, 4], [0, 0]]


def test_the_gradients_of_attention_worked_by_hand():
    # one query, two keys with the same score: weights 1/2 each
    q, k, v = np.array([[1.0]]), np.array([[2.0], [2.0]]), np.array([[3.0], [7.0]])
    a, weights = scaled_dot_product_attention(q, k, v)
    assert a.tolist() == [[5]]
    dq, dk, dv = attention_gradients(np.array([[1.0]]), weights, q, k, v)
    # slope by the scores: 1/2 (3 - 5) and 1/2 (7 - 5)
    assert dq.tolist() == [[-1 * 2 + 1 * 2]] and dk.tolist() == [[-1], [1]]
    assert dv.tolist() == [[0.5], [0.5]]


def test_positions_worked_by_hand():
    waves = sinusoidal_positions(3, 5)
    slow, slower = 10_000 ** (2 / 5), 10_000 ** (4 / 5)
    for t in range(3):
        assert waves[t] == pytest.approx(
            [
                math.sin(t),
                math.cos(t),
                math.sin(t / slow),
                math.cos(t / slow),
                math.sin(t / slower),
            ]
        )


def test_one_head_worked_by_hand():
    layer = MultiHeadAttention(1)
    layer.build((2, 1), np.random.default_rng(0), np.float64)
    for name, value in {"Wq": 1, "Wk": 0, "Wv": 2, "Wo": 3, "bv": 1, "bo": 5}.items():
        layer.params[name][...] = value
    # keys are all 0: each place takes the mean of the values 2 x + 1
    x = np.array([[[1.0], [3.0]], [[2.0], [0.0]]])  # the last is padding
    assert layer.forward(x).tolist() == [[[20], [20]], [[20], [0]]]
    assert layer.weights(x).tolist() == [[[[0.5, 0.5]] * 2], [[[1, 0]] * 2]]


def test_the_mean_over_time_leaves_padding_out():
    layer = MeanOverTime()
    assert layer.build((3, 2), None, np.float64) == (2,)
    x = np.array([[[1.0, 2], [0, 0], [3, 0]], [[0, 0]] * 3])
    assert layer.forward(x, training=True).tolist() == [[2, 1], [0, 0]]
    dx = layer.backward(np.array([[2.0, 4], [6, 8]]))
    assert dx.tolist() == [[[1, 2], [0, 0], [1, 2]], [[0, 0]] * 3]


# Laws


@given(seeds, st.floats(-100, 100))
def test_weights_sum_to_one_and_ignore_a_shift_of_the_keys(seed, shift):
    rng = np.random.default_rng(seed)
    q, k, v = (rng.normal(size=(2, n, 4)) for n in (3, 5, 5))
    a, weights = scaled_dot_product_attention(q, k, v)
    assert weights.sum(-1) == pytest.approx(1) and (weights >= 0).all()
    assert (a.min((1, 2)) >= v.min((1, 2))).all() and (a.max() <= v.max()).all()
    other, _ = scaled_dot_product_attention(q, k + shift, v)
    assert other == pytest.approx(a, abs=1e-9)


@given(seeds)
def test_a_mask_is_the_same_as_keys_left_out(seed):
    rng = np.random.default_rng(seed)
    q, k, v = (rng.normal(0, 3, size=(2, n, 4)) for n in (3, 6, 6))
    seen = rng.random(6) < 0.5
    seen[0] = True
    expected, _ = scaled_dot_product_attention(q, k[:, seen], v[:, seen])
    k[:, ~seen] = v[:, ~seen] = 1e6  # whatever stands there
    for mask in (seen, np.tile(seen, (3, 1)), np.tile(seen, (2, 3, 1))):
        a, weights = scaled_dot_product_attention(q, k, v, mask)
        assert a == pytest.approx(expected) and not weights[..., ~seen].any()


@pytest.mark.parametrize("name", ["attention", "attention, key_dim", "encoder"])
@given(seed=seeds, shape=shapes)
@settings(max_examples=20, deadline=None)
def test_without_positions_permuting_the_places_permutes_the_output(name, seed, shape):
    rng = np.random.default_rng(seed)
    layer, (x, _) = built(MAKERS[name](), shape, seed=seed), padded(shape, rng)
    order = rng.permutation(shape[1])
    a = layer.forward(x)
    assert layer.forward(x[:, order]) == pytest.approx(a[:, order], abs=1e-12)


@given(seed=seeds, time=st.integers(2, 6))
@settings(max_examples=20, deadline=None)
def test_with_positions_the_order_counts(seed, time):
    shape = (1, time, 4)
    row = Sequential([SinusoidalPositions(), MultiHeadAttention(2)])
    layer, x = (
        built(row, shape, seed=seed),
        np.random.default_rng(seed).normal(size=shape),
    )
    a = layer.forward(x)
    assert np.abs(layer.forward(x[:, ::-1]) - a[:, ::-1]).max() > 1e-4


@every_layer
@given(seed=seeds, shape=shapes)
@settings(max_examples=20, deadline=None)
def test_padding_never_changes_an_answer_or_a_gradient(make, seed, shape):
    """Each sequence by itself, without padding, gives the same."""
    rng = np.random.default_rng(seed)
    x, real = padded(shape, rng)
    layer = built(make(), shape, seed=seed)
    da = rng.normal(size=layer.forward(x, training=True).shape)
    a, dx = layer.forward(x, training=True), layer.backward(da)
    found = {name: array.copy() for name, array in named(layer, "grads").items()}
    sums = {name: np.zeros_like(array) for name, array in found.items()}
    for i, seen in enumerate(real):
        places = seen if a.ndim == 3 else slice(None)
        one = layer.forward(x[i : i + 1, seen], training=True)[0]
        assert a[i][places] == pytest.approx(one, abs=1e-10)
        d = layer.backward(da[i : i + 1][:, places])[0]
        assert dx[i, seen] == pytest.approx(d, abs=1e-10)
        for name, array in named(layer, "grads").items():
            sums[name] += array
    assert found == {n: pytest.approx(array, abs=1e-10) for n, array in sums.items()}
    assert a.ndim == 2 or not a[~real].any()
    assert not dx[~real].any()


@given(seed=seeds, shape=shapes, place=st.integers(0, 5))
@settings(max_examples=30, deadline=None)
def test_a_causal_mask_never_looks_ahead(seed, shape, place):
    rng = np.random.default_rng(seed)
    layer = built(MultiHeadAttention(2, causal=True), shape, seed=seed)
    x, _ = padded(shape, rng)
    a = layer.forward(x)
    x[:, place:] = 100 * rng.normal(size=x[:, place:].shape)
    assert np.array_equal(layer.forward(x)[:, :place], a[:, :place])
    assert not np.triu(layer.weights(x), 1).any()


def test_without_a_causal_mask_it_does_look_ahead():
    layer = built(MultiHeadAttention(2), (1, 3, 4))
    x = np.random.default_rng(0).normal(size=(1, 3, 4))
    a = layer.forward(x)
    x[:, 2] += 1
    assert np.abs(layer.forward(x)[:, :2] - a[:, :2]).min() > 1e-6


@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 20))
def test_the_product_of_two_positions_depends_on_their_distance(i, j, start):
    waves = sinusoidal_positions(40, 6)
    pair = waves[start + i] @ waves[start + j]
    assert pair == pytest.approx(waves[i] @ waves[j])


@both_types
def test_a_sequence_of_padding_alone_gives_zeros(dtype):
    for make in MAKERS.values():
        x = np.zeros(
            (2, 3, 4) if make is not MAKERS["attention, key_dim"] else (2, 3, 6)
        )
        x = x.astype(dtype)
        layer = built(make(), x.shape, dtype)
        a = layer.forward(x, training=True)
        dx = layer.backward(np.ones_like(a))
        assert not a.any() and not dx.any()
        assert not any(array.any() for array in named(layer, "grads").values())


# Gradients by central differences


# one draw in hundreds meets the kink of an encoder's ReLU
same_draws = settings(max_examples=10, deadline=None, derandomize=True)


@given(seed=seeds, masked=st.booleans())
@settings(max_examples=20, deadline=None)
def test_the_gradients_of_attention_agree_with_central_differences(seed, masked):
    rng = np.random.default_rng(seed)
    q, k, v = (rng.normal(size=shape) for shape in ((2, 3, 4), (2, 5, 4), (2, 5, 3)))
    mask = rng.random((2, 3, 5)) < 0.5 if masked else None
    a, weights = scaled_dot_product_attention(q, k, v, mask)
    da = rng.normal(size=a.shape)
    gradients = attention_gradients(da, weights, q, k, v)
    check_gradient(
        lambda: float(np.vdot(da, scaled_dot_product_attention(q, k, v, mask)[0])),
        {"q": q, "k": k, "v": v},
        dict(zip("qkv", gradients, strict=True)),
    )


@every_layer
@given(seed=seeds, shape=shapes)
@same_draws
def test_the_gradients_agree_with_central_differences(make, seed, shape):
    rng = np.random.default_rng(seed)
    errors = check_layer(make(), rng.normal(size=shape), rng, tolerance=1e-6)
    assert set(errors) == {"x", *named(built(make(), shape), "params")}


@every_layer
@given(seed=seeds, shape=shapes)
@same_draws
def test_the_gradients_by_the_parameters_agree_with_padding_too(make, seed, shape):
    rng = np.random.default_rng(seed)
    layer, (x, _) = built(make(), shape, seed=seed), padded(shape, rng)
    da = rng.normal(size=layer.forward(x, training=True).shape)
    layer.backward(da)
    params = named(layer, "params")
    if params:
        check_gradient(
            lambda: float(np.vdot(da, layer.forward(x))),
            params,
            named(layer, "grads"),
            1e-6,
        )


# Agreement with Keras


# Keras warns of a softmax over one place
longer = shapes.filter(lambda shape: shape[1] > 1)


def assert_near(ours, theirs, what, tolerance=1e-5):
    theirs = np.asarray(theirs)
    assert ours.dtype == np.float32 and ours.shape == theirs.shape, what
    gap = np.abs(ours - theirs).max() / max(1, np.abs(theirs).max())
    assert gap <= tolerance, (what, gap)


def compare(ours, call, weights, x, real, da, tolerance=1e-5):
    """Forward and gradients of our layer and of a function of Keras."""
    a, dx = ours.forward(x, training=True), ours.backward(da)
    watched = tf.convert_to_tensor(x)
    with tf.GradientTape() as tape:
        tape.watch(watched)
        # what stands in padded rows is of no use there, and 0 here
        expected = call(watched) * real[..., None]
    asked = [watched, *(weight.value for weight in weights)]
    wanted = tape.gradient(expected, asked, output_gradients=da)
    assert_near(a, expected, "forward")
    for place, pair in enumerate(
        zip([dx, *named(ours, "grads").values()], wanted, strict=True)
    ):
        assert_near(*pair, f"gradient {place}", tolerance)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("with_padding", [False, True])
@pytest.mark.parametrize("heads, key_dim", [(2, None), (3, 5)])
@given(seed=seeds, shape=longer, scale=st.sampled_from([0.1, 1, 4]))
@settings(max_examples=6, deadline=None)
def test_attention_agrees_with_keras(
    causal, with_padding, heads, key_dim, seed, shape, scale
):
    rng = np.random.default_rng(seed)
    x, real = padded(shape, rng, np.float32)
    if with_padding:  # a place that may look nowhere is 0 here and a mean there
        x[:, 0] = rng.normal(size=x[:, 0].shape)
        real[:, 0] = True
    else:
        x, real = rng.normal(size=shape).astype(np.float32), np.ones(shape[:2], bool)
    x *= np.float32(scale)
    ours = built(MultiHeadAttention(heads, key_dim, causal), shape, np.float32, seed)
    theirs = keras.layers.MultiHeadAttention(heads, key_dim or shape[-1] // heads)
    theirs.build(shape, shape)
    theirs.set_weights(list(ours.params.values()))
    mask = np.broadcast_to(real[:, None], (shape[0], shape[1], shape[1]))
    compare(
        ours,
        lambda t: theirs(t, t, attention_mask=mask, use_causal_mask=causal),
        theirs.trainable_weights,
        x,
        real.astype(np.float32),
        rng.normal(size=shape).astype(np.float32),
        # with scores of a hundred float32 leaves 3e-5 in both, measured in float64
        1e-4 if scale > 1 else 1e-5,
    )
    _, scores = theirs(
        x, x, attention_mask=mask, use_causal_mask=causal, return_attention_scores=True
    )
    assert_near(ours.weights(x), scores, "weights")


@given(seed=seeds, shape=longer)
@settings(max_examples=15, deadline=None)
def test_an_encoder_agrees_with_one_put_together_in_keras(seed, shape):
    rng = np.random.default_rng(seed)
    ours = built(TransformerEncoder(2, 7), shape, np.float32, seed)
    attention = keras.layers.MultiHeadAttention(2, shape[-1] // 2)
    norm_1, norm_2 = (keras.layers.LayerNormalization() for _ in range(2))
    hidden, out = keras.layers.Dense(7, "relu"), keras.layers.Dense(shape[-1])
    attention.build(shape, shape)
    hidden.build(shape)
    out.build((*shape[:2], 7))
    layers = [attention, norm_1, hidden, out, norm_2]
    for layer in (norm_1, norm_2):
        layer.build(shape)
    weights = list(named(ours, "params").values())
    for layer in layers:
        n = len(layer.trainable_weights)
        layer.set_weights(weights[:n])
        weights = weights[n:]
    x, real = padded(shape, rng, np.float32)

    def call(t):
        mask = np.broadcast_to(real[:, None], (shape[0], shape[1], shape[1]))
        a = norm_1(t + attention(t, t, attention_mask=mask))
        return norm_2(a + out(hidden(a)))

    compare(
        ours,
        call,
        [weight for layer in layers for weight in layer.trainable_weights],
        x,
        real.astype(np.float32),
        rng.normal(size=shape).astype(np.float32),
    )


def test_the_mean_over_time_agrees_with_keras():
    rng = np.random.default_rng(0)
    x, real = padded((5, 4, 3), rng, np.float32)
    layer = built(MeanOverTime(), x.shape, np.float32)
    expected = keras.layers.GlobalAveragePooling1D()(x, mask=tf.constant(real))
    assert_near(layer.forward(x), expected, "mean")


# What every layer keeps to


@every_layer
@both_types
@pytest.mark.parametrize("with_padding", [False, True])
def test_type_and_shape_are_kept_and_the_inputs_left_alone(make, dtype, with_padding):
    rng = np.random.default_rng(0)
    layer, (x, _) = make(), padded((3, 5, 6), rng, dtype)
    if not with_padding:
        x = rng.normal(size=x.shape).astype(dtype)
    one = layer.build(x.shape[1:], rng, dtype)
    x.flags.writeable = False
    for training in (False, True):
        a = layer.forward(x, training)
        assert (a.shape, a.dtype) == ((len(x), *one), dtype)
    da = rng.normal(size=a.shape).astype(dtype)
    da.flags.writeable = False
    dx = layer.backward(da)
    assert (dx.shape, dx.dtype) == (x.shape, dtype)
    for name, array in named(layer, "params").items():
        assert array.dtype == named(layer, "grads")[name].dtype == dtype
        assert array.shape == named(layer, "grads")[name].shape


@every_layer
def test_there_is_one_way_back_for_each_way_forward(make):
    rng = np.random.default_rng(0)
    shape = (2, 3, 6)
    layer, x = built(make(), shape), rng.normal(size=shape)
    a = layer.forward(x)
    with pytest.raises(
        RuntimeError, match="has nothing to go back through: call forwa"
    ):
        layer.backward(a)
    layer.forward(x, training=True)
    layer.forward(rng.normal(size=(5, 3, 6)))  # a prediction in between
    dx = layer.backward(a)
    with pytest.raises(
        RuntimeError, match="has nothing to go back through: call forwa"
    ):
        layer.backward(a)
    layer.forward(x, training=True)
    assert np.array_equal(layer.backward(a), dx)


@pytest.mark.parametrize("name", ["attention", "encoder"])
def test_the_first_layer_spares_the_gradient_by_its_input(name):
    rng = np.random.default_rng(0)
    shape, found = (2, 3, 4), []
    layer, x, da = built(MAKERS[name](), shape), *rng.normal(size=(2, *shape))
    for asked in (True, False):
        layer.forward(x, training=True)
        assert (layer.backward(da, input_gradient=asked) is None) is not asked
        found.append({n: array.copy() for n, array in named(layer, "grads").items()})
    assert all(np.array_equal(found[0][n], found[1][n]) for n in found[0])


@both_types
@pytest.mark.parametrize("with_padding", [False, True])
def test_inputs_of_a_thousand_stay_finite(dtype, with_padding):
    rng = np.random.default_rng(0)
    for make in MAKERS.values():
        x, _ = padded((3, 4, 6), rng, dtype)
        if not with_padding:
            x = rng.normal(size=x.shape).astype(dtype)
        x *= 1000
        layer = built(make(), x.shape, dtype)
        with np.errstate(all="raise", under="ignore"):
            a = layer.forward(x, training=True)
            dx = layer.backward(np.ones_like(a))
        assert np.isfinite(a).all() and np.isfinite(dx).all()


def test_all_parameters_of_an_encoder_are_found_and_flattened():
    layer = built(TransformerEncoder(2, 5), (1, 3, 4))
    kinds = [type(inner).__name__ for _, inner in walk(layer)]
    assert kinds == [
        "TransformerEncoder",
        "MultiHeadAttention",
        "LayerNormalization",
        "Sequential",
        "Dense",
        "ReLU",
        "Dense",
        "LayerNormalization",
    ]
    x = np.random.default_rng(0).normal(size=(1, 3, 4))
    before = layer.forward(x, training=True)
    theta, gradient = flatten(layer)
    assert theta.size == 4 * (4 * 4 + 4) + 2 * 8 + (4 * 5 + 5) + (5 * 4 + 4)
    layer.backward(x)
    assert np.array_equal(layer.forward(x), before) and gradient.any()
    theta += 1
    assert not np.array_equal(layer.forward(x), before)


# Training


def order_task(n, time, rng):
    """Words 1 and 2 once each among others, then padding; does 1 come first?"""
    X, y = rng.integers(3, 6, (n, time)), rng.integers(0, 2, n)
    for row, first in zip(X, y, strict=True):
        length = rng.integers(4, time + 1)
        row[np.sort(rng.choice(length, 2, replace=False))] = (1, 2) if first else (2, 1)
        row[length:] = 0
    return X, y


def transformer(positions, rng):
    start = [Embedding(6, 16)] + [SinusoidalPositions()] * positions
    return Network(
        [*start, TransformerEncoder(2, 32), MeanOverTime(), Dense(1)],
        (8,),
        loss=losses.BinaryCrossEntropy(from_logits=True),
        optimizer=Adam(0.003),
        rng=rng,
    )


def test_order_is_learnt_with_positions_and_cannot_be_without():
    rng = np.random.default_rng(1)
    X, y = order_task(1024, 8, rng)
    X_val, y_val = order_task(500, 8, rng)
    with_positions, without = (transformer(positions, rng) for positions in (1, 0))
    for network in (with_positions, without):
        network.fit(X, y, n_epochs=12)
    assert with_positions.evaluate(X_val, y_val)["accuracy"] > 0.95
    assert without.evaluate(X_val, y_val)["accuracy"] < 0.6
    more = np.pad(X_val[:, :7], ((0, 0), (1, 0)))  # the padding in front instead
    short = X_val[:, 7] == 0
    assert with_positions.predict(more)[short] == pytest.approx(
        with_positions.predict(X_val)[short], abs=1e-5
    )


def test_a_transformer_is_saved_copied_and_repeated(tmp_path):
    X, y = order_task(8, 8, np.random.default_rng(0))
    one, two = (transformer(True, np.random.default_rng(5)) for _ in range(2))
    for network in (one, two):
        network.fit(X, y, n_epochs=3)
    assert np.array_equal(one.theta, two.theta)
    twin = copy.deepcopy(one)
    one.save(tmp_path / "weights.npz")
    two.fit(X, y, n_epochs=60, batch_size=8)
    assert two.evaluate(X, y)["loss"] < 0.1  # eight rows are overfitted
    twin.train_on_batch(X, y)
    assert not np.array_equal(twin.theta, one.theta)
    two.load(tmp_path / "weights.npz")
    assert np.array_equal(two.predict(X), one.predict(X))


def test_layers_that_do_not_fit_together_are_refused_by_name():
    with pytest.raises(
        ValueError, match=r"layer 1, TransformerEncoder\(2, 32\): expected \(time, feat"
    ):
        Network(
            [TransformerEncoder(2, 32), Dense(1)],
            (8,),
            loss=losses.MeanSquaredError(),
            optimizer=Adam(),
            rng=np.random.default_rng(0),
        )


# Bad input


@pytest.mark.parametrize("count", [0, -1, 2.5, True, "3", math.nan])
def test_a_count_must_be_a_whole_number(count):
    for make, name in [
        (lambda: MultiHeadAttention(count), "n_heads"),
        (lambda: MultiHeadAttention(2, key_dim=count), "key_dim"),
        (lambda: TransformerEncoder(count, 5), "n_heads"),
        (lambda: TransformerEncoder(2, count), "n_hidden"),
        (lambda: sinusoidal_positions(count, 2), "time"),
        (lambda: sinusoidal_positions(2, count), "size"),
    ]:
        with pytest.raises(ValueError, match=f"{name} must be a whole number .*, got"):
            make()


@every_layer
@pytest.mark.parametrize("shape", [(), (4,), (0, 4), (3, 0), (2, 3, 4)])
def test_a_shape_that_is_no_sequence_is_refused(make, shape):
    with pytest.raises(
        ValueError, match=r"expected \(time, features\), each 1 or more"
    ):
        make().build(shape, np.random.default_rng(0), np.float32)


def test_features_that_the_heads_cannot_share_are_refused():
    for layer in (MultiHeadAttention(3), TransformerEncoder(3, 5)):
        with pytest.raises(ValueError, match=r"3 heads can share evenly, got \(5, 4\)"):
            layer.build((5, 4), np.random.default_rng(0), np.float32)
    with pytest.raises(ValueError, match=r"2 features or more\), got \(5, 1\)"):
        TransformerEncoder(1, 5).build((5, 1), np.random.default_rng(0), np.float32)


@pytest.mark.parametrize(
    "q, k, v",
    [
        ((3, 4), (5, 6), (5, 2)),
        ((3, 4), (5, 4), (6, 2)),
        ((4,), (5, 4), (5, 2)),
        ((2, 3, 4), (3, 5, 4), (3, 5, 2)),
    ],
)
def test_queries_keys_and_values_that_do_not_fit_are_refused(q, k, v):
    with pytest.raises(ValueError, match=r"expected q \(\.\.\., n_queries, key_dim\)"):
        scaled_dot_product_attention(np.ones(q), np.ones(k), np.ones(v))


@pytest.mark.parametrize(
    "mask, message",
    [
        (np.ones((3, 5)), "a mask of bool, True where a query may look, got float64"),
        (np.ones((5, 3), bool), r"that broadcasts to \(3, 5\), got \(5, 3\)"),
        (np.ones((2, 3, 5), bool), r"that broadcasts to \(3, 5\), got \(2, 3, 5\)"),
    ],
)
def test_a_mask_that_does_not_fit_is_refused(mask, message):
    with pytest.raises(ValueError, match=f"expected .*{message}"):
        scaled_dot_product_attention(
            np.ones((3, 4)), np.ones((5, 4)), np.ones((5, 2)), mask
        )
