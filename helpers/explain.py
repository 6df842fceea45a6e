"""What one prediction rests on: LIME for a row of a table, Grad-CAM for an image.

Both look at the model alone, and say nothing about what causes the disease.

Introduced in: challenges/interpretability
"""

from numbers import Integral, Real
from typing import NamedTuple

import numpy as np

BATCH = 64  # images at a time; the maps of a whole data set would fill the memory


class Explanation(NamedTuple):
    """A linear model that stands in for another one, near one row.

    weights: (n_features,) float64, change of the risk per standard deviation
    intercept: float, the risk that the linear model gives the row itself
    fidelity: float, weighted R² on draws that it was not fitted to: 1 best, 0 no better
        than their mean, below 0 worse; NaN if their risk is constant: if its spread
        is under a billionth of the largest
    """

    weights: np.ndarray
    intercept: float
    fidelity: float


def lime(predict, x, X, rng, *, n_samples=1000, width=None):
    """Explain the risk of one row by a linear model fitted around it (LIME).

    Rows are drawn around x: each feature takes a normal step of its own, as wide as
    its standard deviation in X, whatever the others do. So the draws leave the data:
    they pair values that no patient has, and give fractions to what is counted. Near
    draws weigh more: exp(-d² / width²), d the Euclidean distance in standard
    deviations. A low fidelity says that no straight line describes this model here.

    predict: callable, takes (n, n_features) float64, returns (n,) finite risks; it is
        called once, with 2 * n_samples rows: one half to fit, one to measure fidelity
    x: (n_features,) finite numbers, the row to explain
    X: (n, n_features) finite numbers, the rows that give the standard deviations; a
        feature that is constant there takes no step and has weight 0
    rng: numpy.random.Generator
    n_samples: int, how many rows to fit to
    width: float, above 0, in standard deviations; None for 0.75 * sqrt(n_features)
    Returns: Explanation; where the risk is constant its weights are 0, its fidelity NaN
    Raises: ValueError if an argument is not as above, or n_samples or width leave too
        little to fit to
    Source: Ribeiro et al. (2016), doi 10.1145/2939672.2939778; the default width is
        that of the authors' program, which takes the square root of the kernel
    Introduced in: challenges/interpretability
    """
    from sklearn.linear_model import Ridge

    x, X = _row_and_table(x, X)
    width = 0.75 * len(x) ** 0.5 if width is None else width
    fits = callable(predict) and isinstance(rng, np.random.Generator)
    fits = fits and isinstance(width, Real) and isinstance(n_samples, Integral)
    if not fits or not width > 0 or n_samples < len(x) + 2:
        raise ValueError(
            "lime needs a function predict, rng=np.random.default_rng(...), a width "
            f"above 0 and an int n_samples, {len(x) + 2} or more for so many features, "
            f"got {type(predict).__name__}, {type(rng).__name__}, width={width!r}, "
            f"n_samples={n_samples!r}"
        )
    varies = np.ptp(X, axis=0) > 0  # the std of a constant may be 1e-17
    steps = rng.normal(size=(2, n_samples, len(x))) * varies
    weight = _nearness(steps, width)
    risk = _risks(predict, (x + steps * X.std(axis=0)).reshape(-1, len(x)))
    fitted, asked = risk.reshape(2, -1)  # the second half judges the fit to the first
    local = Ridge(alpha=1e-3).fit(steps[0], fitted, sample_weight=weight[0])
    fidelity = local.score(steps[1], asked, sample_weight=weight[1])
    spread = np.cov(asked, aweights=weight[1], ddof=0) ** 0.5
    constant = spread <= 1e-9 * np.abs(asked).max()
    fidelity = float("nan") if constant else float(fidelity)
    return Explanation(local.coef_, float(local.intercept_), fidelity)


def _finite(name, values, mend, dtype=float):
    """The values as an array, if all are finite numbers."""
    try:
        array = np.asarray(values, dtype)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{name} should be an array of numbers, got {type(values).__name__}: code "
            f"words as numbers, give all rows one shape ({error})"
        ) from error
    if wrong := np.sum(~np.isfinite(array)):
        raise ValueError(
            f"{name} should be finite, got {wrong} others of {array.size}: {mend}"
        )
    return array


def _row_and_table(x, X):
    """x and X as float, if one is a row of the other."""
    mend = "fill missing values first, as the model's own preparation does"
    x, X = _finite("x", x, mend), _finite("X", X, mend)
    if X.ndim != 2 or not X.size or x.shape != X.shape[1:]:
        raise ValueError(
            "lime needs one row x (n_features,) and a table X (n, n_features), not "
            f"empty, got {x.shape} and {X.shape}: take x = X[i], of a frame X.iloc[i]"
        )
    return x, X


def _risks(predict, rows):
    """The risk of every row, from one call."""
    mend = "predict should return numbers for values that far from x, too"
    risk = _finite("risks", predict(rows), mend)
    if risk.shape != (len(rows),):
        raise ValueError(
            f"predict should give one risk a row, ({len(rows)},), got {risk.shape}: "
            "take one column, as in lambda X: model.predict_proba(X)[:, 1]"
        )
    return risk


def _nearness(steps, width):
    """The weight of each draw, on average 1, (2, n_samples)."""
    distance = np.sum(steps**2, axis=-1)
    # counted from the nearest draw: far from x every weight would round to 0
    square = np.clip(width, 1e-9, 1e9) ** 2  # beyond, no weight would change
    weight = np.exp((distance.min(axis=1, keepdims=True) - distance) / square)
    weight /= weight.mean(axis=1, keepdims=True)
    effective = len(weight[0]) / np.mean(weight**2, axis=1).max()
    if effective < steps.shape[-1] + 2:
        raise ValueError(
            f"with width={width:.3g} only {effective:.1f} draws carry the weight, in "
            f"effect, and {steps.shape[-1]} features need {steps.shape[-1] + 2} or "
            "more: take a larger width or more samples"
        )
    return weight


def grad_cam(model, images, *, layer=None, output=0):
    """Map where a convolutional network finds what raises one of its outputs.

    The score is the neuron of the last Dense layer before its activation: where a
    sigmoid or softmax is sure, its own slope is 0. Each channel of the layer's output
    is weighted by its mean slope (d score / d channel, over height and width); what
    the sum has above 0 is kept, and enlarged to the images, bilinear.

    The maps are not scaled, each to its own maximum or otherwise: a map of zeros means
    that nothing here raises the score, and maps of one model and output compare. The
    layer's map is coarse, so that an edge in the picture is no edge of the finding.

    model: keras.Model, Sequential or functional, of one input and one output, that
        ends in Dense, or in Dense and then Activation or Softmax, and computes in more
        than float16; it runs as in prediction, without dropout
    images: (n, height, width, channels), in the units that the model takes
    layer: str, name of a layer with output (n, height, width, channels), called once;
        a model inside is one layer. None for the last Conv2D, if no model follows it.
        If an activation is a layer of its own, name that one, whose output counts
    output: int, which neuron of the last layer; 0 for a single one, which is the event
    Returns: (n, height, width) float32, 0 or more, in units of the score (log-odds
        before a sigmoid); higher where more speaks for the output
    Raises: ValueError if the model, layer, images or output are not as above, or no
        finite slope comes through; RuntimeError if Keras does not run on TensorFlow
    Source: Selvaraju et al. (2020), doi 10.1007/s11263-019-01228-7
    Introduced in: challenges/interpretability
    """
    import keras

    if keras.backend.backend() != "tensorflow":
        raise RuntimeError(
            f"grad_cam needs Keras on TensorFlow, got {keras.backend.backend()}: set "
            "the environment variable KERAS_BACKEND=tensorflow before Keras is imported"
        )
    dense, features = _last_dense(model)
    if not isinstance(output, Integral) or output not in range(dense.units):
        raise ValueError(
            f"the model has outputs 0 to {dense.units - 1}, got output={output!r}"
        )
    images = _images(model, images)
    channels = _channels(model, features, layer)
    both = keras.Model(model.inputs[0], [channels, features])
    neuron = dense.kernel[:, int(output)]  # the bias has no part in the slope
    starts = range(0, len(images), BATCH)
    return np.concatenate([_maps(both, neuron, images[i : i + BATCH]) for i in starts])


def _maps(both, neuron, images):
    """The maps of one batch."""
    import tensorflow as tf

    images = tf.constant(images)
    with tf.GradientTape() as tape:
        tape.watch(images)  # a frozen model has no variable that would be watched
        channels, features = both(images, training=False)
        score = tf.linalg.matvec(features, tf.cast(neuron, features.dtype))
    slope = tape.gradient(score, channels)
    if slope is None or not np.isfinite(slope * channels).all():
        raise ValueError(
            "grad_cam needs finite slopes from the score back to the layer, got "
            f"{'none' if slope is None else 'NaN or infinity'}: mend weights that are "
            "not finite, or name a layer behind what has no slope (rounding, say)"
        )
    slope = tf.reduce_mean(slope, axis=(1, 2), keepdims=True)
    maps = tf.nn.relu(tf.reduce_sum(slope * channels, axis=-1, keepdims=True))
    return tf.image.resize(maps, images.shape[1:3], "bilinear")[..., 0].numpy()


def _source(tensor):
    """The layer that made a tensor of a model, and what it made it from."""
    # layer.input and layer.output would be of its first call, maybe in another model
    operation, call, _ = tensor._keras_history
    return operation, operation._inbound_nodes[call].input_tensors


def _last_dense(model):
    """The Dense layer that ends the model, and the tensor that goes into it."""
    from keras.layers import Activation, Dense, Softmax

    inputs, outputs = getattr(model, "inputs", ()), getattr(model, "outputs", ())
    if not len(inputs) == len(outputs) == 1:
        raise ValueError(
            "grad_cam needs a Keras model that knows its one input and one output, "
            f"got {type(model).__name__} with {len(inputs)} and {len(outputs)}: begin "
            "a Sequential with keras.Input(shape), or call it once on some images; "
            "write a subclass of keras.Model, which knows none, or a model of several "
            "as a functional one of one input and one output"
        )
    last, before = _source(outputs[0])
    if isinstance(last, Activation | Softmax):
        last, before = _source(before[0])
    if not isinstance(last, Dense) or len(before[0].shape) != 2:
        raise ValueError(
            "grad_cam needs a model that ends in Dense with output (n, n_outputs), or "
            "in such a Dense and then Activation or Softmax, got "
            f"{type(last).__name__} with output {outputs[0].shape}: end it there, and "
            "call the layers of a model inside it one by one"
        )
    return last, before[0]


def _images(model, images):
    """The images as float32, if the model takes them."""
    images = _finite("images", images, "fill or leave out these", "float32")
    wanted = model.inputs[0].shape[1:]
    fits = len(wanted) == images.ndim - 1 == 3 and all(
        w in (None, got) for w, got in zip(wanted, images.shape[1:], strict=True)
    )
    if not fits or not images.size:
        raise ValueError(
            "grad_cam needs one or more images (n, height, width, channels); the model "
            f"takes (n, {', '.join(map(str, wanted))}), got {images.shape}: a missing "
            "channel is added by images[..., None], one image is images[i : i + 1]"
        )
    return images


def _channels(model, features, layer):
    """What the named layer hands on in this model, (n, height, width, channels)."""
    from keras import Model
    from keras.layers import Conv2D

    made = _made_before(features)
    ours = [each for each in model.layers if each.name in made]
    maps = {e.name: made[e.name][0] for e in ours if len(made[e.name]) == 1}
    names = [name for name, tensor in maps.items() if len(tensor.shape) == 4]
    if layer is None:
        last = next((e for e in ours[::-1] if isinstance(e, Conv2D | Model)), None)
        layer = last.name if isinstance(last, Conv2D) else None
    if layer not in names:
        raise ValueError(
            "grad_cam needs a layer with output (n, height, width, channels), called "
            f"once, got {layer!r}: name one of {names}; a model inside another is one "
            "layer, and by default the last Conv2D is taken, if no model follows it"
        )
    return maps[layer]


def _made_before(features):
    """What each layer made on the way to the features, by the layer's name."""
    made, queue = {}, [features]
    for tensor in queue:  # which grows: from the last layer back to the images
        made_by, before = _source(tensor)
        data_format = getattr(made_by, "data_format", None)
        if data_format == "channels_first" or tensor.dtype == "float16":
            raise ValueError(
                "grad_cam reads channels last, not float16, where slopes round to 0, "
                f"got {made_by.name!r} with {data_format}, {tensor.dtype}: build it "
                'with data_format="channels_last", dtype="float32"'
            )
        made.setdefault(made_by.name, []).append(tensor)
        for each in before:
            if all(each is not known for known in queue):
                queue.append(each)
    return made
