"""Gradients by central differences, and a comparison that says what is wrong.

Introduced in: mathematics/backpropagation
"""

import math

import numpy as np

from helpers.nn.network import named, walk


class GradientError(AssertionError):
    """A gradient that the loss itself contradicts."""


def numerical_gradient(f, array, step=1e-5):
    """Differentiate f by each number of the array: (f(x + h) - f(x - h)) / 2h.

    f: function without arguments, that reads `array` and returns a float
    array: float64 array; each number is moved and put back
    step: float > 0, the h
    Returns: array of the same shape
    Raises: ValueError if the array is not float64
    Introduced in: mathematics/backpropagation
    """
    _double("array", array)
    slopes = np.empty_like(array)
    for place in np.ndindex(array.shape):
        value = array[place]
        array[place] = value + step
        above = f()
        array[place] = value - step
        slopes[place] = (above - f()) / (2 * step)
        array[place] = value
    return slopes


def check_gradient(f, arrays, gradients, tolerance=1e-7, step=1e-5):
    """Compare gradients with central differences, array by array.

    f: function without arguments that reads the arrays and returns the loss, a float;
        the same each time
    arrays: dict of name to float64 array, what f depends on
    gradients: dict of the same names to arrays of the same shapes, to be checked
    tolerance: float, the largest |gradient - difference| / (|gradient| + |difference|),
        in Euclidean norms
    step: float > 0, how far each number is moved; a kink closer than that spoils it
    Returns: dict of name to that relative error, 0 best
    Raises: GradientError if one is too large, naming what is right and what is wrong,
        for the first the number in it, both values, and what it looks like;
        ValueError if the arrays cannot be checked
    Introduced in: mathematics/backpropagation
    """
    value = _checkable(f, arrays, gradients)
    claimed = {name: np.array(gradients[name]) for name in arrays}  # f may renew them
    measured = {n: numerical_gradient(f, array, step) for n, array in arrays.items()}
    scale = max(1, abs(value))
    errors = {n: _relative_error(claimed[n], measured[n], scale) for n in arrays}
    wrong = [name for name, error in errors.items() if not error <= tolerance]
    if wrong:
        right = ", ".join(name for name in errors if name not in wrong) or "none"
        name = wrong[0]
        raise GradientError(
            f"right: {right}; wrong: {', '.join(wrong)}\n"
            f"the gradient of {name} is off by {errors[name]:.1e} "
            f"(allowed {tolerance:.0e})\n"
            + _lesson(name, claimed[name], measured[name])
        )
    return errors


def _relative_error(claimed, measured, scale):
    """`scale`: the size of f; below its rounding, two zeros are equal."""
    if not (np.isfinite(claimed).all() and np.isfinite(measured).all()):
        return math.inf
    gap = np.linalg.norm(claimed - measured)
    size = np.linalg.norm(claimed) + np.linalg.norm(measured)
    return float(gap / size) if size > 1e-9 * scale else 0.0


def _checkable(f, arrays, gradients):
    """The value of f, if the arrays and gradients can be compared."""
    if set(arrays) != set(gradients) or not arrays:
        raise ValueError(
            f"check_gradient needs a gradient for each array, got arrays "
            f"{sorted(arrays)} and gradients {sorted(gradients)}"
        )
    for name, array in arrays.items():
        _double(name, array)
        if np.shape(gradients[name]) != array.shape:
            raise ValueError(
                f"the gradient of {name} must have its shape {array.shape}, "
                f"got {np.shape(gradients[name])}"
            )
    first, again = f(), f()
    if not (math.isfinite(first) and math.isfinite(again)):
        raise ValueError(f"f must return a finite number, got {first!r} and {again!r}")
    if first != again:
        raise ValueError(
            f"f must return the same each time, got {first!r} and {again!r}: fix the "
            "batch, and the generator of any Dropout"
        )
    return first


def _double(name, array):
    if not isinstance(array, np.ndarray) or array.dtype != np.float64:
        raise ValueError(
            f"{name} must be a float64 array, got "
            f"{getattr(array, 'dtype', type(array).__name__)}: a coarser type rounds "
            "away what the check looks for"
        )


def _lesson(name, claimed, measured):
    """What a person needs to find the mistake."""
    worst = np.unravel_index(np.abs(claimed - measured).argmax(), claimed.shape)
    place = f"{name}[{', '.join(map(str, worst))}]" if worst else name
    return (
        f"  worst at {place}: backward says {claimed[worst]:.6g}, "
        f"moving it changes the loss by {measured[worst]:.6g} a unit\n"
        f"  {_guess(claimed, measured)}"
    )


def _guess(claimed, measured):
    def like(a, b):
        return a.shape == b.shape and np.linalg.norm(a - b) <= 1e-4 * np.linalg.norm(b)

    if not np.isfinite(claimed).all():
        return "it holds NaN or infinity: look for a division by 0 or a log of 0"
    if not np.isfinite(measured).all():
        return "one step away the loss is NaN or infinite: check it elsewhere"
    if not claimed.any():
        return "it is 0 throughout: was backward called, does it fill this gradient?"
    if like(claimed, measured):
        return (
            "it is right to four digits: look for a kink within the step, a forgotten "
            "epsilon, or float32 on the way"
        )
    if like(claimed, -measured):
        return "it has the right size and the wrong sign: look for a turned difference"
    factor = np.vdot(claimed, measured) / max(np.vdot(measured, measured), 1e-300)
    if factor and like(claimed, factor * measured):
        return (
            f"every value is {factor:.4g} times what it should be: look for a sum that "
            "should be a mean, or a forgotten factor"
        )
    if claimed.ndim == 2 and like(claimed.T, measured):
        return "it is the transpose of what it should be: swap the two factors"
    right = np.isclose(claimed, measured, rtol=1e-4, atol=1e-9)
    return (
        f"{right.sum()} of its {right.size} values are right: look at what the others "
        "share"
    )


def check_layer(layer, x, rng, tolerance=1e-7, step=1e-5):
    """Check a layer's gradients, by its parameters and by its input.

    layer: `Layer`; it is built here, in float64
    x: (n, *shape) float64 array, away from the layer's kinks
    rng: numpy.random.Generator, for weights and for the loss, a random weighted sum
    tolerance, step: as in `check_gradient`
    Returns: dict of name to relative error; the input is "x"
    Raises: as `check_gradient`; ValueError if the layer cannot take such an input
    Introduced in: mathematics/backpropagation
    """
    x = np.array(x, dtype=np.float64)
    layer.build(x.shape[1:], rng, np.float64)
    for array in named(layer, "params").values():
        array += rng.normal(0, 0.1, array.shape)  # a bias of 0 would hide mistakes
    seed = int(rng.integers(2**32))

    def forward():
        for _, inner in walk(layer):
            if hasattr(inner, "rng"):
                inner.rng = np.random.default_rng(seed)  # the same dropout each time
        return layer.forward(x, training=True)

    weights = rng.normal(size=forward().shape)
    dx = layer.backward(weights)
    return check_gradient(
        lambda: float(np.vdot(weights, forward())) + layer.penalty(),
        {"x": x} | named(layer, "params"),
        {"x": dx} | named(layer, "grads"),
        tolerance,
        step,
    )
