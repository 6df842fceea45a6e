"""Word vectors: the layer, both ways to learn them, neighbours; hand values, Keras."""

import math
import re
from collections import Counter

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.data.text import clinical_notes
from helpers.nn import losses
from helpers.nn.activations import Tanh
from helpers.nn.attention import MeanOverTime
from helpers.nn.embeddings import (
    Embedding,
    co_occurrences,
    glove,
    glove_loss,
    neighbours,
    skip_gram,
    skip_gram_loss,
)
from helpers.nn.gradients import check_gradient
from helpers.nn.layers import Dense
from helpers.nn.losses import BinaryCrossEntropy
from helpers.nn.network import Sequential, named
from helpers.nn.optimizers import Adam
from helpers.nn.training import Network

seeds = st.integers(0, 2**32 - 1)
both_types = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def built(n_words, size, dtype=np.float64, seed=0):
    layer = Embedding(n_words, size)
    layer.build((3,), np.random.default_rng(seed), dtype)
    layer.params["W"] += 1  # row 0 too, as if weights were copied into it
    return layer


# The layer


def test_an_embedding_worked_by_hand():
    table = [[9, 9], [1, 2], [3, 4]]
    layer = Embedding(3, 2, initial=lambda shape, rng: table)
    assert layer.build((3,), None, np.float64) == (3, 2)
    x = np.array([[2, 1, 0], [2, 0, 0]])
    assert layer.forward(x, training=True).tolist() == [
        [[3, 4], [1, 2], [0, 0]],
        [[3, 4], [0, 0], [0, 0]],
    ]
    da = np.array([[[1.0, 2], [3, 4], [5, 6]], [[10, 20], [7, 7], [7, 7]]])
    assert layer.backward(da) is None
    assert layer.grads["W"].tolist() == [[0, 0], [3, 4], [11, 22]]


@given(seed=seeds, n_words=st.integers(2, 7), size=st.integers(1, 4))
@settings(max_examples=25, deadline=None)
def test_the_gradient_of_an_embedding_agrees_with_central_differences(
    seed, n_words, size
):
    rng = np.random.default_rng(seed)
    x = rng.integers(0, n_words, (4, 3)).astype(float)
    x[0, 0] = 1
    row = Sequential([Embedding(n_words, size), Dense(3), Tanh()])
    row.build((3,), rng, np.float64)
    da = rng.normal(size=(4, 3, 3))
    row.forward(x, training=True)
    row.backward(da, input_gradient=False)
    errors = check_gradient(
        lambda: float(np.vdot(da, row.forward(x))),
        named(row, "params"),
        named(row, "grads"),
    )
    assert set(errors) == {"0.W", "1.W", "1.b"}


@given(seed=seeds, n_words=st.integers(2, 50), size=st.integers(1, 9))
@settings(max_examples=25, deadline=None)
def test_an_embedding_agrees_with_keras(seed, n_words, size):
    rng = np.random.default_rng(seed)
    ours, theirs = built(n_words, size, np.float32, seed), keras.layers.Embedding
    theirs = theirs(n_words, size)
    theirs.build()
    theirs.set_weights([ours.params["W"]])
    x = rng.integers(1, n_words, (5, 6))
    da = rng.normal(size=(5, 6, size)).astype(np.float32)
    with tf.GradientTape() as tape:
        expected = theirs(x)
    asked = theirs.trainable_weights[0].value
    gradient = tape.gradient(expected, asked, output_gradients=da)
    gradient = tf.convert_to_tensor(gradient).numpy()
    assert np.array_equal(ours.forward(x.astype(np.float32), True), expected)
    ours.backward(da)
    assert ours.grads["W"] == pytest.approx(gradient, abs=1e-5)


@both_types
def test_padding_is_a_row_of_zeros_and_not_trained_whatever_its_weights(dtype):
    layer, x = built(4, 2, dtype), np.array([[0, 1, 0]], dtype)
    a = layer.forward(x, training=True)
    assert layer.params["W"][0].all() and not a[0, [0, 2]].any() and a[0, 1].all()
    layer.backward(np.ones((1, 3, 2), dtype))
    assert not layer.grads["W"][0].any() and layer.grads["W"][1].tolist() == [1, 1]


@both_types
@pytest.mark.parametrize("kind", [np.float32, np.float64, np.uint8, np.int64])
def test_words_may_come_as_any_type_and_are_left_alone(dtype, kind):
    layer, x = built(4, 2, dtype), np.array([[3, 0, 1]], kind)
    x.flags.writeable = False
    a = layer.forward(x, training=True)
    assert a.dtype == dtype and np.array_equal(a[0, 0], layer.params["W"][3])
    layer.backward(np.ones_like(a))
    assert layer.grads["W"].dtype == dtype


def test_vectors_in_another_memory_order_learn_too():
    table = np.arange(6.0).reshape(2, 3).T
    layer = Embedding(3, 2, initial=lambda shape, rng: table)
    layer.build((1,), None, np.float64)
    layer.forward(np.array([[2]]), training=True)
    layer.backward(np.array([[[5.0, 6.0]]]))
    assert layer.grads["W"].tolist() == [[0, 0], [0, 0], [5, 6]]
    layer.params["W"] += 1
    assert table[2].tolist() == [2, 5]  # the caller's own is left alone


def test_there_is_one_way_back_for_each_way_forward():
    layer, x, da = built(4, 2), np.array([[1, 2, 3]]), np.ones((1, 3, 2))
    layer.forward(x, training=True)
    layer.forward(np.array([[0, 0, 0]]))  # a prediction in between
    layer.backward(da)
    assert layer.grads["W"].sum() == 6
    with pytest.raises(RuntimeError, match=r"Embedding\(4, 2\) has nothing to go back"):
        layer.backward(da)


def test_a_network_with_words_overfits_eight_rows():
    rng = np.random.default_rng(0)
    X, y = 1 + rng.permutation(39)[:24].reshape(8, 3), np.arange(8) % 2
    X[:, 2] = 0
    network = Network(
        [Embedding(40, 4), Dense(1)],
        (3,),
        loss=losses.MeanSquaredError(),
        optimizer=Adam(0.05),
        rng=rng,
        dtype=np.float64,
    )
    target = np.repeat(y, 3).reshape(8, 3, 1).astype(float)
    target[:, 2] = 0.5  # padding is the same for all
    network.fit(X, target, n_epochs=200, batch_size=8)
    assert np.abs(network.predict(X)[:, :2] - target[:, :2]).max() < 0.02


# Co-occurrences


def test_co_occurrences_worked_by_hand():
    i, j, count = co_occurrences([[1, 2, 3, 2], [0, 1, 0, 3, 0], [2]], 4, 2)
    found = dict(zip(zip(i.tolist(), j.tolist(), strict=True), count, strict=True))
    # 1 2 . 2: distances 1, 1, 1 and 1 3, 2 2 at 2; then 1 3 at 1, padding left out
    assert found == {
        (1, 2): 1,
        (2, 1): 1,
        (2, 3): 2,
        (3, 2): 2,
        (1, 3): 1.5,
        (3, 1): 1.5,
        (2, 2): 1,  # one pair, each of the two words near the other
    }


sentences = st.lists(st.lists(st.integers(0, 5), max_size=7), min_size=1, max_size=5)


@given(sentences, st.integers(1, 8))
def test_co_occurrences_agree_with_a_count_by_loops(texts, window):
    expected = Counter()
    for text in texts:
        words = [word for word in text if word]
        for s, i in enumerate(words):
            for t, j in enumerate(words):
                if 0 < abs(s - t) <= window:
                    expected[i, j] += 1 / abs(s - t)
    if not expected:
        with pytest.raises(ValueError, match="two words or more, got none"):
            co_occurrences(texts, 6, window)
        return
    i, j, count = co_occurrences(texts, 6, window)
    found = dict(zip(zip(i.tolist(), j.tolist(), strict=True), count, strict=True))
    assert found == pytest.approx(dict(expected)) and len(found) == len(i)


# Losses


def test_the_loss_of_one_pair_worked_by_hand():
    both = np.zeros((2, 4, 2))
    both[0, 1], both[1, 2], both[1, 3] = [1, 2], [math.log(3), 0], [0, math.log(2) / 2]
    one, gradient = skip_gram_loss(
        both, np.array([1]), np.array([2]), np.array([[3, 3]])
    )
    # sigmoid(log 3) = 3/4, sigmoid(log 2) = 2/3, and so 1/3 for each of two of noise
    assert one == pytest.approx(-math.log(3 / 4) - 2 * math.log(1 / 3))
    assert gradient[1, 2] == pytest.approx(-1 / 4 * both[0, 1])
    assert gradient[1, 3] == pytest.approx(2 * 2 / 3 * both[0, 1])
    v = -1 / 4 * both[1, 2] + 2 * 2 / 3 * both[1, 3]
    assert gradient[0, 1] == pytest.approx(v)
    assert not gradient[0, [0, 2, 3]].any() and not gradient[1, :2].any()


def test_the_loss_of_one_count_worked_by_hand():
    both = np.zeros((2, 3, 3))
    both[0, 1], both[1, 2] = [1, 2, 0.5], [3, 4, 0.25]
    pair = np.array([1]), np.array([2])
    # 3 + 8 + .5 + .25 - log e^10 = 1.75; the weight is (e^10 / (16 e^10))^(3/4) = 1/8
    count = np.exp([10.0])
    loss, gradient = glove_loss(both, *pair, count, x_max=16 * math.exp(10))
    assert loss == pytest.approx(1.75**2 / 8)
    assert gradient[0, 1] == pytest.approx(2 * 1.75 / 8 * np.array([3, 4, 1]))
    assert gradient[1, 2] == pytest.approx(2 * 1.75 / 8 * np.array([1, 2, 1]))
    assert glove_loss(both, *pair, count, x_max=1)[0] == pytest.approx(1.75**2)


@given(seed=seeds, n=st.integers(1, 9), size=st.integers(1, 4), noise=st.integers(1, 3))
@settings(max_examples=25, deadline=None)
def test_the_gradients_of_both_losses_agree_with_central_differences(
    seed, n, size, noise
):
    rng = np.random.default_rng(seed)
    both = rng.normal(size=(2, 5, size + 1))
    i, j, words = (rng.integers(1, 5, shape) for shape in (n, n, (n, noise)))
    count = rng.uniform(0.1, 3, n)
    for loss in (
        lambda: skip_gram_loss(both, i, j, words),
        lambda: glove_loss(both, i, j, count, 2),
    ):
        gradient = loss()[1]
        check_gradient(lambda: loss()[0], {"both": both}, {"both": gradient})  # noqa: B023


def test_products_of_a_thousand_stay_finite():
    both = np.full((2, 3, 1), math.sqrt(1000), np.float32)
    with np.errstate(all="raise", under="ignore"):
        loss, gradient = skip_gram_loss(
            both, np.array([1]), np.array([2]), np.array([[1]])
        )
    assert loss == pytest.approx(1000, rel=1e-6) and gradient.dtype == np.float32
    assert np.isfinite(gradient).all()


# Training


def pairs_of_twins(n, rng):
    """Sentences in which 1 and 2, 3 and 4, ... are synonyms; 1 goes with 3, 5 with 7.

    One of ten sentences mixes the two topics.
    """
    topic = rng.integers(0, 2, n)
    other = np.where(rng.random(n) < 0.1, 1 - topic, topic)
    left, right = rng.integers(1, 3, n), rng.integers(3, 5, n)
    return np.column_stack([left + 4 * topic, right + 4 * other]).tolist()


def learn(train, texts, n_words=10, size=3, **options):
    options = {"window": 2, "n_epochs": 40, "learning_rate": 0.05} | options
    if train is skip_gram:
        options = {"n_negative": 3} | options
    options = {"rng": np.random.default_rng(0)} | options
    return train(texts, n_words, size, **options)


trainers = pytest.mark.parametrize("train", [skip_gram, glove])


@trainers
def test_words_with_the_same_neighbours_get_the_same_direction(train):
    vectors = learn(train, pairs_of_twins(2000, np.random.default_rng(0)))
    for word in range(1, 9):
        twin = word + 1 if word % 2 else word - 1
        cosines = dict(zip(*neighbours(vectors, word, 7), strict=True))
        other_topic = [near for near in cosines if (near > 4) != (word > 4)]
        assert cosines[twin] > 0.8
        assert cosines[twin] > 0.05 + max(cosines[near] for near in other_topic)


@trainers
def test_training_is_repeatable_and_the_vectors_have_their_shape(train):
    texts = pairs_of_twins(50, np.random.default_rng(0))
    one, two = (learn(train, texts, n_epochs=2) for _ in range(2))
    other = learn(train, texts, n_epochs=2, rng=np.random.default_rng(1))
    assert one.shape == (10, 3) and one.dtype == np.float32
    assert np.array_equal(one, two) and not np.array_equal(one, other)


@trainers
def test_padding_and_words_without_neighbours_get_zeros(train):
    vectors = learn(train, [[1, 2, 0, 0], [0, 2, 3], [4], [0], []], n_epochs=3)
    assert vectors.any(axis=1).tolist() == [0, 1, 1, 1] + [0] * 6


@trainers
def test_padding_in_a_sentence_changes_nothing(train):
    texts = pairs_of_twins(50, np.random.default_rng(0))
    padded = [[0, left, 0, right, 0, 0] for left, right in texts]
    assert np.array_equal(
        learn(train, texts, n_epochs=2), learn(train, padded, n_epochs=2)
    )


@trainers
def test_progress_sees_every_epoch(train):
    seen = []

    def progress(epochs, label):
        for epoch in epochs:
            seen.append((epoch, label))
            yield epoch

    learn(train, [[1, 2]], n_epochs=3, progress=progress)
    assert seen == [(0, "epochs"), (1, "epochs"), (2, "epochs")]


def test_skip_gram_draws_noise_by_counts_to_the_power_of_three_quarters(monkeypatch):
    drawn, loss = Counter(), skip_gram_loss

    def watched(both, centre, near, noise):
        drawn.update(noise.ravel().tolist())
        return loss(both, centre, near, noise)

    monkeypatch.setattr("helpers.nn.embeddings.skip_gram_loss", watched)
    learn(skip_gram, [[1] * 16, [2] * 81, [4] * 256], n_negative=9, n_epochs=30)
    assert set(drawn) == {1, 2, 4}
    n, shares = drawn.total(), np.array([8, 27, 64]) / 99
    error = np.sqrt(shares * (1 - shares) / n)
    assert (np.abs([drawn[word] / n for word in (1, 2, 4)] - shares) < 5 * error).all()


def test_products_of_skip_gram_come_near_what_theory_says(monkeypatch):
    """log(P(i, j) / (P(i) P_noise(j) k)): Levy & Goldberg (2014)."""
    kept, loss = {}, skip_gram_loss

    def watched(both, *pairs):
        kept["both"] = both
        return loss(both, *pairs)

    monkeypatch.setattr("helpers.nn.embeddings.skip_gram_loss", watched)
    texts = [[1, 2]] * 300 + [[2, 3]] * 200 + [[1, 3]] * 100 + [[3, 3]] * 50
    k = 2
    learn(
        skip_gram, texts, 4, 4, window=1, n_negative=k, n_epochs=200, learning_rate=0.01
    )
    i, j, count = co_occurrences(texts, 4, 1)
    words = np.bincount(np.concatenate(texts), minlength=4)
    noise = words**0.75 / (words**0.75).sum()
    share = count / words[i]
    v, u = kept["both"]
    assert (v[i] * u[j]).sum(1) == pytest.approx(np.log(share / noise[j] / k), abs=0.15)


def test_glove_explains_the_counts(monkeypatch):
    kept, loss = [], glove_loss

    def watched(*arguments):
        kept.append(loss(*arguments)[0])
        return loss(*arguments)

    monkeypatch.setattr("helpers.nn.embeddings.glove_loss", watched)
    texts = pairs_of_twins(500, np.random.default_rng(0))
    learn(glove, texts, size=4, n_epochs=400, learning_rate=0.03)
    assert kept[-1] < 1e-3 * kept[0]


def test_vectors_of_notes_know_abbreviations():
    rng = np.random.default_rng(0)
    lines = [
        re.findall("[a-z]+", line.lower())
        for text in clinical_notes(250, rng).texts
        for line in re.split(r"\. |\n", text)
    ]
    counts = Counter(word for line in lines for word in line)
    number = {word: i for i, word in enumerate(sorted(counts), start=1)}
    texts = [[number[word] for word in line] for line in lines]
    vectors = learn(
        skip_gram, texts, len(number) + 1, 24, n_epochs=4, learning_rate=0.01
    )
    for word, other in [("sob", "dyspnoea"), ("pyrexia", "fever"), ("man", "woman")]:
        assert number[other] in neighbours(vectors, number[word], 5)[0]


# Neighbours


def test_neighbours_worked_by_hand():
    vectors = [[7, 7], [1, 0], [0, 2], [3, 4], [0, 0], [-5, 0], [2, 0]]
    words, cosines = neighbours(vectors, 1, 3)
    assert words.tolist() == [6, 3, 2]  # neither padding nor the row of zeros
    assert cosines == pytest.approx([1, 0.6, 0])
    words, cosines = neighbours(vectors, np.int64(1), 99)
    assert words.tolist() == [6, 3, 2, 5] and cosines[-1] == pytest.approx(-1)


@given(seeds, st.floats(0.01, 100))
def test_neighbours_do_not_depend_on_lengths(seed, factor):
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(9, 4))
    scaled = vectors * rng.uniform(0.1, factor + 0.1, (9, 1))
    words, cosines = neighbours(vectors, 3, 7)
    again, same = neighbours(scaled, 3, 7)
    assert np.array_equal(words, again) and same == pytest.approx(cosines)
    assert (np.diff(cosines) <= 0).all() and np.abs(cosines).max() <= 1 + 1e-12


# Bad input


@pytest.mark.parametrize(
    "x, wrong", [(4, 4), (-1, -1), (1.5, 1.5), (math.nan, "nan"), (1e9, 1e9)]
)
def test_an_embedding_refuses_what_is_no_word(x, wrong):
    layer = built(4, 2)
    with pytest.raises(
        ValueError,
        match=rf"Embedding\(4, 2\): expected whole numbers from 0 to 3, got {wrong}",
    ):
        layer.forward(np.array([[0, 3, x]]), training=True)


@pytest.mark.parametrize("shape", [(), (3, 2), (2, 3, 4)])
def test_an_embedding_refuses_a_shape_that_is_no_sentence(shape):
    with pytest.raises(ValueError, match=r"expected \(time,\), one word a place, got"):
        Embedding(4, 2).build(shape, np.random.default_rng(0), np.float32)


def test_an_embedding_refuses_vectors_of_another_shape():
    layer = Embedding(4, 2, initial=lambda shape, rng: np.ones((4, 3)))
    with pytest.raises(
        ValueError, match=r"expected first vectors of shape \(4, 2\), g"
    ):
        layer.build((3,), None, np.float32)


@pytest.mark.parametrize("count", [0, -1, 2.5, True, None, "3", math.nan])
def test_a_count_must_be_a_whole_number(count):
    with pytest.raises(
        ValueError, match=r"n_words must be a whole number of at least 2"
    ):
        Embedding(count, 2)
    with pytest.raises(ValueError, match="size must be a whole number of at least 1"):
        Embedding(2, count)
    for train in (skip_gram, glove):
        for name in ("window", "n_epochs"):
            with pytest.raises(ValueError, match=f"{name} must be a whole number"):
                learn(train, [[1, 2]], **{name: count})
        with pytest.raises(ValueError, match="size must be a whole number"):
            learn(train, [[1, 2]], size=count)
    with pytest.raises(ValueError, match="n_negative must be a whole number"):
        learn(skip_gram, [[1, 2]], n_negative=count)
    with pytest.raises(ValueError, match="n must be a whole number"):
        neighbours(np.eye(3), 1, count)


def test_more_words_than_float32_tells_apart_are_refused():
    with pytest.raises(ValueError, match="n_words must be at most 16777216, got 16777"):
        Embedding(2**24 + 1, 1)


@trainers
@pytest.mark.parametrize(
    "texts, place",
    [
        ([[1, 2], [3, 10]], 1),
        ([[1, -2]], 0),
        ([[1.0, 2.0]], 0),
        ([["fever", "cough"]], 0),
        ([1, 2, 3], 0),
        ([[[1, 2], [3, 4]]], 0),
        (["fever"], 0),
        ([[True, False]], 0),
    ],
)
def test_sentences_of_anything_but_words_are_refused(train, texts, place):
    message = f"sentence {place}: expected a list of whole numbers from 0 to 9, got"
    with pytest.raises(ValueError, match=message):
        learn(train, texts)


@trainers
@pytest.mark.parametrize("texts", [[], [[]], [[1], [2]], [[0, 1, 0]]])
def test_sentences_without_neighbours_are_refused(train, texts):
    with pytest.raises(ValueError, match="sentences of two words or more, got none"):
        learn(train, texts)


@trainers
def test_a_learning_rate_that_diverges_is_reported(train):
    with np.errstate(all="ignore"), pytest.raises(ArithmeticError, match="diverged"):
        learn(train, [[1, 2]] * 5, learning_rate=1e38, n_epochs=9)


@trainers
def test_a_wrong_learning_rate_or_generator_is_refused(train):
    with pytest.raises(ValueError, match="positive, finite learning_rate, got 0"):
        learn(train, [[1, 2]], learning_rate=0)
    with pytest.raises(ValueError, match="rng must be made first, as .*got 0"):
        learn(train, [[1, 2]], rng=0)


@pytest.mark.parametrize("x_max", [0, -1, math.nan, math.inf])
def test_glove_refuses_an_x_max_outside(x_max):
    with pytest.raises(ValueError, match=f"x_max .* above 0, got {x_max}"):
        learn(glove, [[1, 2]], x_max=x_max)


def test_neighbours_refuse_a_word_without_vector_and_wrong_vectors():
    vectors = np.eye(4)
    vectors[2] = 0
    for word in (2, 4):
        with pytest.raises(ValueError, match=f"word {word} has no vector"):
            neighbours(vectors, word, 1)
    with pytest.raises(ValueError, match="word must be a whole number of at least 1"):
        neighbours(vectors, 0, 1)
    for wrong in (np.ones(3), np.full((3, 2), math.nan)):
        with pytest.raises(ValueError, match="vectors must be finite"):
            neighbours(wrong, 1, 1)


def test_a_wrong_word_is_refused_before_anything_is_computed():
    network = Network(
        [Embedding(5, 3), MeanOverTime(), Dense(1)],
        (4,),
        loss=BinaryCrossEntropy(),
        optimizer=Adam(),
        rng=np.random.default_rng(0),
    )
    before, X = network.theta.copy(), np.ones((64, 4), dtype=int)
    X[63, 3] = 5
    with pytest.raises(ValueError, match="whole numbers from 0 to 4, got 5"):
        network.fit(X, np.ones(64), n_epochs=1)
    assert (network.theta == before).all()
