"""LIME and Grad-CAM: hand values, laws, a numeric derivative, refusals."""

import os
import subprocess
import sys

import keras
import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression

from helpers import explain

layers = keras.layers


def test_importing_loads_neither_tensorflow_nor_scikit_learn():
    loaded = subprocess.check_output(
        [sys.executable, "-c", "import sys, helpers.explain; print(*sys.modules)"],
        text=True,
        env={**os.environ, "PYTHONWARNINGS": "error"},
    ).split()
    assert "helpers.explain" in loaded
    assert not {"tensorflow", "keras", "sklearn"} & set(loaded)


# LIME

TABLE = np.random.default_rng(0).normal([50, 1, 0], [10, 0.5, 2], (400, 3))
SLOPES = np.array([0.02, -0.3, 0.0])


def linear(X):
    return X @ SLOPES - 0.5


def step(X):
    return (X[:, 0] > 50).astype(float)


def lime(predict, seed=0, X=TABLE, x=None, **options):
    x = X[0] if x is None else x
    return explain.lime(predict, x, X, np.random.default_rng(seed), **options)


def test_of_a_linear_model_the_weights_are_slope_times_standard_deviation():
    weights, intercept, fidelity = lime(linear)
    np.testing.assert_allclose(weights, SLOPES * TABLE.std(axis=0), atol=1e-5)
    assert intercept == pytest.approx(linear(TABLE[:1])[0], abs=1e-5)
    assert fidelity == pytest.approx(1, abs=1e-8)


def test_weights_are_per_standard_deviation_whatever_the_unit():
    grams, kilograms = TABLE * [1000, 1, 1], TABLE
    in_grams = lime(lambda X: linear(X / [1000, 1, 1]), X=grams)
    np.testing.assert_allclose(in_grams.weights, lime(linear, X=kilograms).weights)


def test_near_a_parabolas_foot_the_weight_is_its_slope_there():
    """Of z² at z = a the best line has slope 2a under any weights even about a."""
    z = np.linspace(-2, 2, 401)[:, None]
    X = z / z.std()
    found = lime(lambda X: X[:, 0] ** 2, X=X, x=np.array([0.5]), n_samples=200_000)
    # a normal step under the weight exp(-d² / w²) is a normal one of variance v
    v = 1 / (1 + 2 / 0.75**2)
    assert found.weights[0] == pytest.approx(1, abs=0.01)
    assert found.intercept == pytest.approx(0.25 + v, abs=0.01)
    # explained (2a)² v; left the variance of the square, 2 v²
    assert found.fidelity == pytest.approx(v / (v + 2 * v**2), abs=0.01)


def test_a_narrower_width_sees_the_slope_of_a_smaller_neighbourhood():
    def bend(X):
        return np.maximum(X[:, 0] - 50, 0)

    x = np.array([60.0, 1, 0])  # one standard deviation into the slope
    near, far = (lime(bend, x=x, width=w, n_samples=5000) for w in (0.5, np.inf))
    assert near.weights[0] == pytest.approx(TABLE[:, 0].std(), rel=0.02)
    assert far.weights[0] < 0.9 * near.weights[0]
    assert near.fidelity > far.fidelity


def test_the_default_width_grows_with_the_root_of_the_number_of_features():
    found, wanted = lime(step), lime(step, width=0.75 * np.sqrt(3))
    np.testing.assert_array_equal(found.weights, wanted.weights)


def test_the_same_seed_explains_alike_and_another_otherwise():
    first, again, other = (lime(step, seed) for seed in (3, 3, 4))
    assert np.array_equal(first.weights, again.weights)
    assert first[1:] == again[1:]
    assert not np.array_equal(first.weights, other.weights)


def test_a_step_is_no_line_and_the_features_that_it_ignores_weigh_little():
    found = lime(step, x=np.array([50.0, 1, 0]), n_samples=5000)
    assert 0.4 < found.fidelity < 0.8
    assert found.weights[0] > 0.2 and np.abs(found.weights[1:]).max() < 0.03


def test_fidelity_is_measured_on_draws_that_the_model_was_not_fitted_to():
    """21 numbers fitted to 40 draws of pure chance are worth nothing on 40 others."""
    chance = np.random.default_rng(1)
    X = chance.normal(size=(50, 20))
    found = lime(lambda X: chance.random(len(X)), X=X, n_samples=40, width=np.inf)
    assert found.fidelity < 0


@pytest.mark.parametrize("value", [7, 0.1])  # the std of many 0.1 is not quite 0
def test_a_constant_feature_takes_no_step_and_has_weight_0(value):
    seen = []

    def predict(X):
        seen.append(X)
        return X @ [0.02, 5]

    X = np.stack([TABLE[:, 0], np.full(len(TABLE), value)], axis=1)
    found = lime(predict, X=X, n_samples=300)
    assert found.weights[1] == 0 and found.fidelity == pytest.approx(1)
    (rows,) = seen
    assert rows.shape == (600, 2) and (rows[:, 1] == value).all()
    assert np.std(rows[:, 0]) == pytest.approx(TABLE[:, 0].std(), rel=0.1)


def far_step(X):
    """Differs from 0.3 only where no draw has any weight."""
    return 0.3 + (np.abs(X[:, 0] - TABLE[0, 0]) > 25)


@pytest.mark.parametrize(
    ("predict", "options"),
    [
        (lambda X: np.full(len(X), 0.3), {}),
        (lambda X: np.zeros(len(X)), {}),
        (far_step, {"width": 0.1, "n_samples": 20_000}),
    ],
)
def test_a_constant_risk_has_weights_0_and_no_fidelity(predict, options):
    weights, intercept, fidelity = lime(predict, **options)
    np.testing.assert_allclose(weights, 0, atol=1e-12)
    assert intercept == pytest.approx(predict(TABLE[:1])[0])
    assert np.isnan(fidelity)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"x": TABLE[:1]},
            r"one row x .* got \(1, 3\) and \(400, 3\): take x = X\[i\]",
        ),
        ({"x": TABLE[0, :2]}, r"got \(2,\) and \(400, 3\)"),
        ({"x": 50.0, "X": TABLE[:, 0]}, r"got \(\) and \(400,\)"),
        ({"X": TABLE[:0], "x": TABLE[0]}, r"not empty, got \(3,\) and \(0, 3\)"),
        (
            {"x": np.array([1, np.nan, 2])},
            "x should be finite, got 1 others of 3: fill missing",
        ),
        (
            {"X": np.where(TABLE > 50, np.inf, TABLE), "x": TABLE[0]},
            "X should be finite, got .* others of 1200: fill",
        ),
        (
            {"x": ["57", "old", 1]},
            "x should be .* numbers, got list: code words .*'old'",
        ),
        ({"x": [57, {}, 1]}, "x should be an array of numbers, got list"),
        ({"X": [[1, 2, 3], [1, 2]], "x": TABLE[0]}, "X should be .* numbers, got list"),
        ({"width": 0}, "a width above 0 .* got function, Generator, width=0, n_s"),
        ({"width": np.nan}, "a width above 0 .* width=nan"),
        ({"width": "1"}, "a width above 0 .* width='1'"),
        ({"n_samples": 4}, "5 or more for so many features, got .*, n_samples=4"),
        ({"n_samples": 1000.0}, "an int n_samples, 5 or more .*, n_samples=1000.0"),
        ({"width": 1e-3}, "width=0.001 only 1.0 draws carry the weight"),
        ({"width": 1e-200}, "width=1e-200 only 1.0 draws carry the weight"),
        (
            {"width": 0.05},
            r"width=0.05 only .* draws .* 3 features need 5 or more: take",
        ),
    ],
)
def test_what_cannot_be_explained_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        lime(linear, **change)


@pytest.mark.parametrize(
    ("predict", "message"),
    [
        (lambda X: linear(X)[:, None], r"\(2000,\), got \(2000, 1\): take one column"),
        (lambda X: linear(X)[1:], r"\(2000,\), got \(1999,\): take one column"),
        (lambda X: 0.5, r"one risk a row, \(2000,\), got \(\)"),
        (
            lambda X: np.where(X[:, 0] > 0, np.nan, 0),
            "risks should be finite, got 2000 others of 2000: predict should",
        ),
        (
            lambda X: np.full(len(X), "ill"),
            "risks should be an array of numbers, got n",
        ),
        (lambda X: None, "risks should be finite, got 1 others of 1: predict should"),
        (None, "a function predict, .* got NoneType, Generator"),
    ],
)
def test_a_predict_that_does_not_fit_is_refused(predict, message):
    with pytest.raises(ValueError, match=message):
        lime(predict)


def test_as_many_draws_must_count_as_there_are_numbers_to_fit():
    """Kish: draws of the weights w tell as much as (sum w)² / sum w² equal ones."""
    refused = []
    for seed in range(20):
        steps = np.random.default_rng(seed).normal(size=(2, 12, 3))
        w = np.exp(-np.sum(steps**2, axis=2))
        count = np.min(w.sum(axis=1) ** 2 / (w**2).sum(axis=1))
        try:
            lime(linear, seed, n_samples=12, width=1)
            refused.append(False)
        except ValueError as error:
            assert f"only {count:.1f} draws carry" in str(error)
            refused.append(True)
        assert refused[-1] == (count < 5)
    assert 0 < sum(refused) < 20
    assert lime(linear, n_samples=5, width=np.inf).weights[1] < -0.1


@pytest.mark.parametrize(
    ("predict", "known"),
    [
        (lambda X: 1e-12 * linear(X), True),
        (lambda X: 1 + 1e-5 * linear(X), True),
        (lambda X: -1 - 1e-12 * linear(X), False),
        (lambda X: np.where(np.arange(len(X)) < 1000, 0.3, X[:, 1]), True),
        (lambda X: np.where(np.arange(len(X)) < 1000, X[:, 1], 0.3), False),
    ],
)
def test_constant_is_what_varies_by_rounding_alone_where_fidelity_is_measured(
    predict, known
):
    assert np.isfinite(lime(predict).fidelity) == known


def test_a_seed_in_place_of_a_generator_is_refused():
    with pytest.raises(ValueError, match="rng=np.random.default_rng.* function, int,"):
        explain.lime(linear, TABLE[0], TABLE, 0)


def test_a_frame_lists_and_whole_numbers_are_read_like_the_array():
    whole, found = TABLE.round().astype(int), lime(step, X=TABLE.round())
    for X in (pd.DataFrame(whole), whole.tolist(), whole.astype("int16")):
        x = X.iloc[0] if isinstance(X, pd.DataFrame) else X[0]
        np.testing.assert_allclose(lime(step, X=X, x=x).weights, found.weights)


@pytest.mark.parametrize("n_features", [1, 200])
def test_one_feature_and_many_are_explained(n_features):
    X = np.random.default_rng(0).normal(size=(300, n_features))
    found = lime(lambda X: 0.3 + 0.1 * X[:, -1], X=X)
    wanted = np.zeros(n_features)
    wanted[-1] = 0.1 * X[:, -1].std()
    np.testing.assert_allclose(found.weights, wanted, atol=1e-4)


def test_a_width_beyond_every_draw_weighs_all_alike():
    found = [lime(step, width=width).weights for width in (1e6, 1e200, np.inf)]
    np.testing.assert_allclose(found[:2], [found[2]] * 2)


def test_other_seeds_agree_better_the_more_is_drawn():
    """16 times the draws: the standard error of a weight is a quarter."""
    few, many = (
        np.std([lime(step, seed, n_samples=n).weights for seed in range(20)], axis=0)
        for n in (500, 8000)
    )
    assert 2.5 < np.mean(few / many) < 6.5


def finds_what_raises_the_risk(y):
    """Whether LIME, asked about a model of y, blames the two features that count."""
    model = LogisticRegression().fit(PATIENTS, y)
    told = [
        lime(lambda X: model.predict_proba(X)[:, 1], X=PATIENTS, x=x).weights
        for x in PATIENTS[:10]
    ]
    direction = np.mean(told, axis=0) / np.linalg.norm(np.mean(told, axis=0))
    return direction @ [0.8, -0.6, 0, 0, 0, 0] > 0.95


PATIENTS = np.random.default_rng(5).normal(size=(600, 6))
EVENTS = (
    PATIENTS @ [4, -3, 0, 0, 0, 0] + np.random.default_rng(6).logistic(size=600) > 0
)


def test_a_model_of_the_diagnoses_is_explained_by_them_and_one_of_shuffled_is_not():
    assert finds_what_raises_the_risk(EVENTS)
    shuffled = (np.random.default_rng(s).permutation(EVENTS) for s in range(8))
    assert not any(map(finds_what_raises_the_risk, shuffled))


# Grad-CAM

SQUARE = np.array([[1.0, 2], [3, 4]])[None, :, :, None]


def noise(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def built(*stack, shape=(8, 8, 1), seed=0):
    """A Sequential whose weights are of size 0.5, biases too."""
    model = keras.Sequential([keras.Input(shape), *stack])
    model.set_weights(
        [
            0.5 * noise(*w.shape, seed=seed + k)
            for k, w in enumerate(model.get_weights())
        ]
    )
    return model


def small(*ending, seed=0):
    """Two convolutions, 8 x 8 to 6 x 6 to 3 x 3 to 2 x 2, and an ending."""
    return built(
        layers.Conv2D(3, 3, activation="relu", name="first"),
        layers.MaxPooling2D(name="pool"),
        layers.Conv2D(4, 2, activation="tanh", name="second"),
        layers.Flatten(),
        layers.Dense(5, "tanh"),
        *ending or [layers.Dense(1)],
        seed=seed,
    )


def by_hand(*dense):
    """Channels x and -x, whose means go into one Dense."""
    model = keras.Sequential(
        [
            keras.Input((2, 2, 1)),
            layers.Conv2D(2, 1),
            layers.GlobalAveragePooling2D(),
            layers.Dense(len(dense[0]), "sigmoid"),
        ]
    )
    kernel, bias = np.array([1.0, -1]).reshape(1, 1, 1, 2), np.zeros(2)
    model.set_weights([kernel, bias, np.array(dense), np.zeros(len(dense[0]))])
    return model


def test_a_map_worked_by_hand():
    """d score / d channel is 3/4 and 1/4; 3/4 x - 1/4 x = x/2, and below 0 nothing."""
    model = by_hand([3.0], [1.0])
    for images, wanted in ((SQUARE, SQUARE / 2), (-SQUARE, 0 * SQUARE)):
        maps = explain.grad_cam(model, images)
        assert maps.shape == (1, 2, 2) and maps.dtype == np.float32
        np.testing.assert_allclose(maps, wanted[..., 0], atol=1e-6)


def test_each_output_has_its_own_map_and_maps_are_not_scaled():
    """Slopes of (3, 1) / 4 and of (2, 10) / 4: x / 2, and -2 x."""
    model = by_hand([3.0, 2], [1.0, 10])
    images = np.concatenate([SQUARE, -SQUARE, 10 * SQUARE])
    first, second = (explain.grad_cam(model, images, output=k) for k in (0, 1))
    x = SQUARE[0, ..., 0]
    np.testing.assert_allclose(first, [x / 2, 0 * x, 5 * x], atol=1e-6)
    np.testing.assert_allclose(second, [0 * x, 2 * x, 0 * x], atol=1e-6)


def test_a_coarse_map_is_enlarged_bilinear():
    """Means of 2 x 2 pixels; between them 3/4 of the nearer, 1/4 of the other."""
    model = keras.Sequential(
        [
            keras.Input((4, 4, 1)),
            layers.Conv2D(1, 2, strides=2),
            layers.Flatten(),
            layers.Dense(1),
        ]
    )
    model.set_weights(
        [np.full((2, 2, 1, 1), 0.25), np.zeros(1), np.ones((4, 1)), np.zeros(1)]
    )
    images = np.repeat([0.0, 0, 8, 8], 4).reshape(1, 4, 4, 1)
    maps = explain.grad_cam(model, images)
    np.testing.assert_allclose(maps[0], np.repeat([[0.0], [2], [6], [8]], 4, axis=1))


@pytest.mark.parametrize("output", [0, 1, 2])
def test_where_means_go_into_dense_the_map_is_the_class_activation_map(output):
    """d score / d A is W / number of places: Zhou et al. (2016), whose CAM is W A."""
    model = built(
        layers.Conv2D(4, 3, padding="same", activation="relu", name="convolution"),
        layers.GlobalAveragePooling2D(),
        layers.Dense(3, "softmax"),
        shape=(6, 5, 2),
    )
    images = noise(4, 6, 5, 2)
    A, W = np.asarray(model.layers[0](images)), model.get_weights()[2]
    maps = explain.grad_cam(model, images, output=output)
    wanted = np.maximum(A @ W[:, output], 0) / 30
    np.testing.assert_allclose(maps, wanted, rtol=1e-5, atol=1e-7)
    assert 0 < np.mean(wanted > 0) < 1


def test_a_tensor_that_is_taken_twice_is_one_output():
    x = keras.Input((2, 2, 1))
    a = layers.Conv2D(1, 1)(x)
    z = layers.Dense(1)(layers.GlobalAveragePooling2D()(layers.Multiply()([a, a])))
    model = keras.Model(x, z)
    model.set_weights([np.full((1, 1, 1, 1), 2.0), np.zeros(1), np.eye(1), np.zeros(1)])
    # score = mean(a²), its mean slope mean(2 a) / 4 = 2.5; 2.5 a = 5 x
    np.testing.assert_allclose(explain.grad_cam(model, SQUARE), 5 * SQUARE[..., 0])


def slopes(score, A, step=1e-5):
    """d score / d A, number by number, by central differences."""
    found = np.zeros_like(A)
    for place in np.ndindex(A.shape):
        up, down = A.copy(), A.copy()
        up[place] += step
        down[place] -= step
        found[place] = (score(up) - score(down)) / (2 * step)
    return found


@pytest.mark.parametrize("seed", range(3))
def test_the_map_agrees_with_a_numeric_derivative(seed):
    model, images = small(layers.Dense(2, "softmax"), seed=seed), noise(2, 8, 8, 1)
    *_, W_1, b_1, W_2, b_2 = (w.astype(float) for w in model.get_weights())

    def score(A):
        return (np.tanh(A.ravel() @ W_1 + b_1) @ W_2 + b_2)[1]

    pooled = model.get_layer("pool")(model.get_layer("first")(images))
    channels = np.asarray(model.get_layer("second")(pooled), float)
    wanted = [
        np.maximum((slopes(score, A).mean(axis=(0, 1)) * A).sum(axis=-1), 0)
        for A in channels
    ]
    maps = explain.grad_cam(model, images, output=1)
    # a pixel in the corner takes the value of the corner of the 2 x 2 map
    np.testing.assert_allclose(maps[:, ::7, ::7], wanted, rtol=1e-4, atol=1e-6)
    assert np.max(wanted) > 0.01


def functional(model):
    x = a = keras.Input(model.input_shape[1:])
    for layer in model.layers:
        a = layer(a)
    return keras.Model(x, a)


def test_sequential_and_functional_models_agree_on_every_layer():
    model, images = small(), noise(4, 8, 8, 1)
    other = functional(small())
    for layer in (None, "first", "pool", "second"):
        maps = explain.grad_cam(model, images, layer=layer)
        np.testing.assert_array_equal(
            maps, explain.grad_cam(other, images, layer=layer)
        )
        assert maps.shape == (4, 8, 8) and maps.min() >= 0 and maps.max() > 0
    names = ("first", "second")
    first, second = (explain.grad_cam(model, images, layer=name) for name in names)
    np.testing.assert_array_equal(second, explain.grad_cam(model, images))
    assert not np.allclose(first, second)


def test_layers_borrowed_from_another_model_are_read_in_this_one():
    """Their `output` is that of the first model, which has another beginning."""
    model, images = small(), noise(3, 8, 8, 1)
    borrowed = keras.Sequential(
        [keras.Input((8, 8, 1)), layers.Rescaling(1 / 255), *model.layers]
    )
    for layer in (None, "first"):
        np.testing.assert_allclose(
            explain.grad_cam(borrowed, images * 255, layer=layer),
            explain.grad_cam(model, images, layer=layer),
            rtol=1e-4,
            atol=1e-6,
        )


def test_a_model_inside_another_is_one_layer_named_by_its_own_name():
    model, images = small(), noise(3, 8, 8, 1)
    base = keras.Sequential([keras.Input((8, 8, 1)), *model.layers[:3]], name="base")
    whole = keras.Sequential([keras.Input((8, 8, 1)), base, *model.layers[3:]])
    np.testing.assert_allclose(
        explain.grad_cam(whole, images, layer="base"),
        explain.grad_cam(model, images),
        atol=1e-6,
    )
    adapted = keras.Sequential(
        [keras.Input((8, 8, 1)), layers.Conv2D(1, 1, name="to"), *whole.layers]
    )
    for outer, names in ((whole, r"\['base'\]"), (adapted, r"\['to', 'base'\]")):
        with pytest.raises(
            ValueError, match=rf"got None: name one of {names}; a model"
        ):
            explain.grad_cam(outer, images)


@pytest.mark.parametrize("order", [1, -1])
def test_a_way_around_the_layer_is_no_part_of_its_slope(order):
    """score = mean(3 x) + mean(x): the convolution's slope is 1/4, its map 3 x / 4."""
    x = keras.Input((2, 2, 1))
    a = layers.Conv2D(1, 1, name="three")(x)
    z = layers.Dense(1)(layers.GlobalAveragePooling2D()(layers.Add()([a, x][::order])))
    model = keras.Model(x, z)
    model.set_weights([np.full((1, 1, 1, 1), 3.0), np.zeros(1), np.eye(1), np.zeros(1)])
    maps = explain.grad_cam(model, SQUARE)
    np.testing.assert_allclose(maps, 0.75 * SQUARE[..., 0], atol=1e-6)
    whole = explain.grad_cam(model, SQUARE, layer=model.layers[0].name)
    np.testing.assert_allclose(whole, SQUARE[..., 0], atol=1e-6)


ENDINGS = {
    "sigmoid": lambda: [layers.Dense(2, "sigmoid")],
    "softmax": lambda: [layers.Dense(2, "softmax")],
    "Activation": lambda: [layers.Dense(2), layers.Activation("sigmoid")],
    "Softmax": lambda: [layers.Dense(2), layers.Softmax()],
}


@pytest.mark.parametrize("ending", ENDINGS.values(), ids=ENDINGS)
@pytest.mark.parametrize("output", [0, 1])
def test_where_the_output_is_saturated_the_map_is_that_of_the_linear_copy(
    ending, output
):
    plain, model, images = small(layers.Dense(2)), small(*ending()), noise(3, 8, 8, 1)
    *weights, bias = plain.get_weights()
    model.set_weights([*weights, np.array([200.0, -200.0])])
    assert set(np.ravel(model(images))) == {0, 1}
    maps = explain.grad_cam(model, images, output=output)
    np.testing.assert_array_equal(maps, explain.grad_cam(plain, images, output=output))
    assert maps.max() > 0.01


def test_a_map_does_not_depend_on_the_other_images():
    model, images = small(), noise(2 * explain.BATCH + 2, 8, 8, 1)
    maps = explain.grad_cam(model, images)
    some = [0, explain.BATCH - 1, explain.BATCH, len(images) - 1]
    assert maps.shape == (len(images), 8, 8)
    for k in some:
        alone = explain.grad_cam(model, images[k : k + 1])[0]
        np.testing.assert_allclose(maps[k], alone, rtol=1e-4, atol=1e-6)


def test_the_model_runs_as_in_prediction_and_stays_as_it_was():
    model = built(
        layers.RandomFlip(),
        layers.Conv2D(3, 3),
        layers.BatchNormalization(),
        layers.Activation("relu", name="after"),
        layers.Dropout(0.5),
        layers.Flatten(),
        layers.Dense(1, "sigmoid"),
    )
    model.layers[2].set_weights([np.full(3, v, "float32") for v in (1, 0, 0.1, 2)])
    model.trainable = False
    images = (noise(3, 8, 8, 1) * 40 + 128).astype("uint8")
    before = model.get_weights()
    maps = explain.grad_cam(model, images, layer="after")
    np.testing.assert_array_equal(maps, explain.grad_cam(model, images, layer="after"))
    assert all(map(np.array_equal, before, model.get_weights()))
    assert maps.max() > 0 and not model.trainable


def test_a_sequential_without_input_is_read_once_it_was_called():
    model = keras.Sequential(
        [layers.Conv2D(2, 3), layers.Flatten(), layers.Dense(1, "sigmoid")]
    )
    message = "got Sequential with 0 and 0: begin a Sequential with .* call it once"
    with pytest.raises(ValueError, match=message):
        explain.grad_cam(model, noise(3, 8, 8, 1))
    model(noise(5, 8, 8, 1))
    assert explain.grad_cam(model, noise(3, 8, 8, 1)).shape == (3, 8, 8)


def test_images_of_any_size_are_read_where_the_model_takes_them():
    stack = (layers.Conv2D(2, 3), layers.GlobalAveragePooling2D(), layers.Dense(1))
    model = built(*stack, shape=(None, None, 3))
    assert explain.grad_cam(model, noise(2, 9, 7, 3)).shape == (2, 9, 7)


class Subclass(keras.Model):
    pass


class Rounded(layers.Layer):
    def call(self, x):
        return keras.ops.cast(keras.ops.cast(x, "int32"), "float32")


def half_precision():
    stack = layers.Conv2D(2, 3, dtype="mixed_float16"), layers.Flatten()
    return ends_in(*stack, layers.Dense(1))


def two_calls():
    x, both = keras.Input((8, 8, 1), name="input"), layers.Conv2D(1, 1, name="both")
    return keras.Model(x, layers.Dense(1)(layers.Flatten()(both(both(x)))))


def two_outputs():
    x = keras.Input((8, 8, 1))
    return keras.Model(x, [layers.Dense(1)(layers.Flatten()(x)) for _ in range(2)])


def not_a_number(k):
    """NaN in the weights of one layer, and so in the channels or in the slope alone."""
    stack = layers.Conv2D(2, 3), layers.GlobalAveragePooling2D(), layers.Dense(1)
    model = built(*stack)
    model.layers[k].set_weights([w + np.nan for w in model.layers[k].get_weights()])
    return model


def two_inputs():
    pair = [keras.Input((8, 8, 1)), keras.Input((8, 8, 1))]
    return keras.Model(pair, layers.Dense(1)(layers.Flatten()(layers.Add()(pair))))


def channels_first():
    stack = layers.Conv2D(2, 1, data_format="channels_first"), layers.Flatten()
    return keras.Sequential([keras.Input((8, 8, 1)), *stack, layers.Dense(1)])


def ends_in(*stack, shape=(8, 8, 1)):
    return keras.Sequential([keras.Input(shape), *stack])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (Subclass, "got Subclass with 0 and 0: .* write a subclass of keras.Model"),
        (two_inputs, "got Functional with 2 and 1: .* or a model of several as a func"),
        (half_precision, "not float16, .* with channels_last, float16: build it with"),
        (two_calls, r"called once, got 'both': name one of \['input'\]"),
        (two_outputs, "got Functional with 1 and 2: "),
        (
            lambda: ends_in(layers.Reshape((8, 8)), layers.LSTM(2)),
            r"ends in Dense .* got LSTM with output \(None, 2\)",
        ),
        (
            lambda: ends_in(
                layers.Conv2D(1, 3), Rounded(), layers.Flatten(), layers.Dense(1)
            ),
            "finite slopes from the score back to the layer, got none: mend",
        ),
        (lambda: not_a_number(0), "got NaN or infinity: mend weights that are not fin"),
        (lambda: not_a_number(-1), "got NaN or infinity: mend weights that are not fi"),
        (lambda: ends_in(small()), "got Sequential with .*: end it there, and call"),
        (lambda: None, "got NoneType with 0 and 0"),
        (channels_first, "with channels_first, float32: build it with data_format="),
        (lambda: ends_in(layers.Flatten()), r"got Flatten with output \(None, 64\)"),
        (
            lambda: ends_in(layers.Conv2D(1, 3), layers.Dense(2)),
            r"ends in Dense .* got Dense with output \(None, 6, 6, 2\)",
        ),
        (
            lambda: ends_in(layers.Flatten(), layers.Dense(2), layers.Dropout(0.1)),
            "got Dropout with output",
        ),
        (
            lambda: ends_in(layers.MaxPooling2D(name="p"), *small().layers[-3:]),
            r"got None: name one of \['p'\]; .* by default the last Conv2D is taken",
        ),
    ],
)
def test_a_model_that_cannot_be_read_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        explain.grad_cam(make(), noise(2, 8, 8, 1))


def test_a_model_of_signals_is_refused():
    stack = layers.Conv1D(1, 3), layers.Flatten(), layers.Dense(1)
    with pytest.raises(
        ValueError, match=r"channels\); the model takes \(n, 8, 1\), got"
    ):
        explain.grad_cam(ends_in(*stack, shape=(8, 1)), noise(2, 8, 1))


@pytest.mark.parametrize(
    ("images", "options", "message"),
    [
        (
            noise(2, 8, 8),
            {},
            r"one or more images .* takes \(n, 8, 8, 1\), got \(2, 8, 8\): a miss",
        ),
        (noise(8, 8, 1), {}, r"got \(8, 8, 1\): .* one image is images\[i : i \+ 1\]"),
        (noise(2, 9, 8, 1), {}, r"got \(2, 9, 8, 1\)"),
        (noise(2, 7, 8, 1), {}, r"got \(2, 7, 8, 1\)"),
        (noise(2, 8, 8, 3), {}, r"got \(2, 8, 8, 3\)"),
        (noise(0, 8, 8, 1), {}, r"one or more .* got \(0, 8, 8, 1\)"),
        (np.full((2, 8, 8, 1), np.nan), {}, "be finite, got 128 others of 128: fill"),
        ([noise(8, 8, 1), noise(9, 8, 1)], {}, "images should be an array .* got list"),
        ({"images": noise(2, 8, 8, 1)}, {}, "images should be an array .* got dict"),
        (noise(2, 8, 8, 1), {"output": 1}, "outputs 0 to 0, got output=1"),
        (noise(2, 8, 8, 1), {"output": -1}, "got output=-1"),
        (noise(2, 8, 8, 1), {"output": 0.5}, "got output=0.5"),
        (noise(2, 8, 8, 1), {"output": np.array([0])}, r"got output=array\(\[0\]\)"),
        (
            noise(2, 8, 8, 1),
            {"layer": "third"},
            r"got 'third': name one of \['first', 'pool', 'second'\];",
        ),
        (
            noise(2, 8, 8, 1),
            {"layer": "flatten"},
            "got 'flatten': name one of .'first'",
        ),
    ],
)
def test_images_and_options_that_do_not_fit_are_refused(images, options, message):
    with pytest.raises(ValueError, match=message):
        explain.grad_cam(small(), images, **options)


def test_another_backend_is_refused(monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "torch")
    with pytest.raises(
        RuntimeError, match="got torch: set .* KERAS_BACKEND=tensorflow"
    ):
        explain.grad_cam(small(), noise(1, 8, 8, 1))


def striped(n, rng):
    """Two patches of stripes an image; upright in one of them where y = 1.

    Returns images, y, and the row and column where the first patch begins.
    """
    images = rng.normal(0, 0.1, (n, 12, 12)).astype("float32")
    y, rows = np.arange(n) % 2, rng.integers(0, 9, (n, 2))
    columns = rng.permuted(np.tile([1, 7], (n, 1)), axis=1)
    upright = np.tile([1, -1, 1, -1], (4, 1))
    for k in range(n):
        for stripes, i, j in zip(
            (upright if y[k] else upright.T, upright.T),
            rows[k],
            columns[k],
            strict=True,
        ):
            images[k, i : i + 4, j : j + 4] += stripes
    return images[..., None], y, np.stack([rows[:, 0], columns[:, 0]], axis=1)


def share_inside(maps, places):
    """How much of the maps lies in the first patch and a pixel around it."""
    inside = [
        one[max(i - 1, 0) : i + 5, j - 1 : j + 5].sum()
        for one, (i, j) in zip(maps, places, strict=True)
    ]
    return sum(inside) / maps.sum()


def test_a_trained_model_finds_the_patch_and_one_of_random_weights_does_not():
    keras.utils.set_random_seed(0)
    images, y, places = striped(256, np.random.default_rng(0))
    model = ends_in(
        layers.Conv2D(8, 3, activation="relu"),
        layers.Conv2D(8, 3, activation="relu"),
        layers.GlobalAveragePooling2D(),
        layers.Dense(1, "sigmoid"),
        shape=(12, 12, 1),
    )
    model.compile(optimizer=keras.optimizers.Adam(0.02), loss="binary_crossentropy")
    model.fit(images, y, epochs=8, verbose=0)
    trained = explain.grad_cam(model, images)
    random = explain.grad_cam(keras.models.clone_model(model), images)
    ill = y == 1
    # seeds 0 to 7: 0.71 to 0.83; 0.14 to 0.44; below 0.12; -0.23 to 0.68
    assert share_inside(trained[ill], places[ill]) > 0.6
    assert share_inside(random[ill], places[ill]) < 0.55
    assert trained[~ill].mean() < 0.3 * trained[ill].mean()
    assert np.corrcoef(trained[ill].ravel(), random[ill].ravel())[0, 1] < 0.8
