"""What one prediction rests on: LIME for a row of a table, Grad-CAM for an image.

Both look at the model alone, and say nothing about what causes the disease.

Introduced in: challenges/interpretability
"""

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
    Raises: ValueError if a shape does not fit, a number is not finite, or n_samples or
        width leave too little to fit to
    Source: Ribeiro et al. (2016), doi 10.1145/2939672.2939778; the default width is
        that of the authors' program, which takes the square root of the kernel
    Introduced in: challenges/interpretability
    """
    from sklearn.linear_model import Ridge

    x, X = _row_and_table(x, X)
    width = 0.75 * np.sqrt(len(x)) if width is None else width
    if not width > 0 or n_samples < len(x) + 2:
        raise ValueError(
            "lime needs a width above 0 and more samples than numbers to fit, "
            f"{len(x) + 2} or more, got width={width}, n_samples={n_samples}"
        )
    varies = np.ptp(X, axis=0) > 0  # the std of a constant may be 1e-17
    steps = rng.normal(size=(2, n_samples, len(x))) * varies
    weight = _nearness(steps, width)
    risk = _risks(predict, x + steps * X.std(axis=0))
    local = Ridge(alpha=1e-3).fit(steps[0], risk[0], sample_weight=weight[0])
    fidelity = _weighted_r2(risk[1], local.predict(steps[1]), weight[1])
    return Explanation(local.coef_, float(local.intercept_), fidelity)


def _row_and_table(x, X):
    """x and X as float, if one is a row of the other."""
    x, X = np.asarray(x, float), np.asarray(X, float)
    if X.ndim != 2 or not X.size or x.shape != X.shape[1:]:
        raise ValueError(
            "lime needs one row x (n_features,) and a table X (n, n_features), not "
            f"empty, got {x.shape} and {X.shape}: take x = X[i]"
        )
    wrong = np.sum(~np.isfinite(x)) + np.sum(~np.isfinite(X))
    if wrong:
        raise ValueError(
            f"lime needs finite numbers, got {wrong} others in x and X: fill missing "
            "values first, as the model's own preparation does"
        )
    return x, X


def _risks(predict, rows):
    """The risk of every row, (2, n_samples), from one call."""
    risk = np.asarray(predict(rows.reshape(-1, rows.shape[-1])), float)
    if risk.shape != (rows.shape[0] * rows.shape[1],):
        raise ValueError(
            f"predict should give one risk a row, ({rows.shape[0] * rows.shape[1]},), "
            f"got {risk.shape}: take one column, as in lambda X: "
            "model.predict_proba(X)[:, 1]"
        )
    if not np.isfinite(risk).all():
        raise ValueError(
            f"predict gave {np.sum(~np.isfinite(risk))} risks that are not finite, of "
            f"{len(risk)}: the model may not be made for values that far from x"
        )
    return risk.reshape(rows.shape[:2])


def _nearness(steps, width):
    """The weight of each draw, on average 1, (2, n_samples)."""
    distance = np.sum(steps**2, axis=-1)
    # counted from the nearest draw: far from x every weight would round to 0
    weight = np.exp((distance.min(axis=1, keepdims=True) - distance) / width**2)
    weight /= weight.mean(axis=1, keepdims=True)
    effective = len(weight[0]) / np.mean(weight**2, axis=1).max()
    if effective < steps.shape[-1] + 2:
        raise ValueError(
            f"with width={width:.3g} only {effective:.1f} draws carry the weight, in "
            f"effect, and {steps.shape[-1]} features need {steps.shape[-1] + 2} or "
            "more: take a larger width or more samples"
        )
    return weight


def _weighted_r2(risk, fitted, weight):
    """1 minus the weighted mean squares of the gaps, over those about the mean."""
    spread = np.average((risk - np.average(risk, weights=weight)) ** 2, weights=weight)
    if spread <= (1e-9 * np.abs(risk).max()) ** 2:
        return float("nan")
    return float(1 - np.average((risk - fitted) ** 2, weights=weight) / spread)


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
        ends in Dense, or in Dense and then Activation or Softmax; it runs as in
        prediction, without dropout
    images: (n, height, width, channels), in the units that the model takes
    layer: str, name of a layer with output (n, height, width, channels), not one inside
        another model; None for the last Conv2D. If an activation is a layer of its
        own, name that one: the map is of the layer's own output
    output: int, which neuron of the last layer; 0 for a single one, which is the event
    Returns: (n, height, width) float32, 0 or more, in units of the score (log-odds
        before a sigmoid); higher where more speaks for the output
    Raises: ValueError if the model, layer, images or output are not as above;
        RuntimeError if Keras does not run on TensorFlow
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
    if output not in range(dense.units):
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
    slope = tf.reduce_mean(tape.gradient(score, channels), axis=(1, 2), keepdims=True)
    maps = tf.nn.relu(tf.reduce_sum(slope * channels, axis=-1, keepdims=True))
    return tf.image.resize(maps, images.shape[1:3], "bilinear")[..., 0].numpy()


def _source(tensor):
    """The layer that made a tensor of a model, and what it made it from.

    A layer's own `input` and `output` would be those of its first call, and may belong
    to another model that it was borrowed from.
    """
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
            "write a subclass of keras.Model, which knows none, as a functional model"
        )
    last, before = _source(outputs[0])
    if isinstance(last, Activation | Softmax):
        last, before = _source(before[0])
    if not isinstance(last, Dense) or len(before[0].shape) != 2:
        raise ValueError(
            "grad_cam needs a model that ends in Dense with output (n, n_outputs), or "
            "in such a Dense and then Activation or Softmax, got "
            f"{type(last).__name__} with output {outputs[0].shape}"
        )
    return last, before[0]


def _images(model, images):
    """The images as float32, if the model takes them."""
    images, wanted = np.asarray(images, "float32"), model.inputs[0].shape[1:]
    fits = len(wanted) == images.ndim - 1 == 3 and all(
        w in (None, got) for w, got in zip(wanted, images.shape[1:], strict=True)
    )
    if not fits or not images.size:
        raise ValueError(
            f"the model takes images (n, {', '.join(map(str, wanted))}), one or more, "
            f"got {images.shape}: a missing channel is added by images[..., None], one "
            "image is images[i : i + 1]"
        )
    if not np.isfinite(images).all():
        raise ValueError(
            "grad_cam needs finite pixels, got "
            f"{np.sum(~np.isfinite(images))} others: fill or leave out these images"
        )
    return images


def _channels(model, features, layer):
    """What the named layer hands on in this model, (n, height, width, channels)."""
    from keras.layers import Conv2D

    found, queue = {}, [features]
    for tensor in queue:  # which grows: from the last layer back to the images
        made_by, before = _source(tensor)
        if getattr(made_by, "data_format", None) == "channels_first":
            raise ValueError(
                f"grad_cam reads (n, height, width, channels), got {made_by.name!r} "
                'with channels_first: build it with data_format="channels_last"'
            )
        if len(tensor.shape) == 4:
            found.setdefault(made_by.name, tensor)
        queue += [b for b in before if all(b is not known for known in queue)]
    named = [each for each in model.layers if each.name in found]
    if layer is None:
        layer = next((e.name for e in named[::-1] if isinstance(e, Conv2D)), None)
    if layer not in [each.name for each in named]:
        raise ValueError(
            "grad_cam needs a layer with output (n, height, width, channels), got "
            f"{layer!r}: name one of {[each.name for each in named]}"
            + ("; there is no Conv2D to take by default" if layer is None else "")
        )
    return found[layer]
