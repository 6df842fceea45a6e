"""Layers with weights, and what every layer has in common.

Introduced in: mathematics/backpropagation
"""

import math

import numpy as np


def glorot_uniform(shape, rng):
    """Draw weights that keep signal and gradient of one size through tanh layers.

    shape: (..., n_in, n_out); what stands before the last two is a filter's extent
    rng: numpy.random.Generator
    Returns: float64 array of that shape, uniform within +- sqrt(6 / (fan_in + fan_out))
    Source: Glorot & Bengio (2010). Introduced in: mathematics/activations
    """
    fan_in, fan_out = _fans(shape)
    limit = math.sqrt(6 / (fan_in + fan_out))
    return rng.uniform(-limit, limit, shape)


def he_normal(shape, rng):
    """Draw weights that make up for the half of the signal that ReLU cuts off.

    shape: (..., n_in, n_out); what stands before the last two is a filter's extent
    rng: numpy.random.Generator
    Returns: float64 array of that shape, normal, standard deviation sqrt(2 / fan_in)
    Source: He et al. (2015), doi 10.1109/ICCV.2015.123
    Introduced in: mathematics/activations
    """
    fan_in, _ = _fans(shape)
    return rng.normal(0, math.sqrt(2 / fan_in), shape)


def _fans(shape):
    """How many numbers feed one output, and how many outputs one number feeds."""
    extent = math.prod(shape[:-2])
    return extent * shape[-2], extent * shape[-1]


class Layer:
    """What every layer has: parameters, their gradients, a way there and a way back.

    params: dict of name to array, what training changes
    grads: dict of the same names to arrays of the same shapes, filled by `backward`
    state: dict of name to array, what is kept with the weights and not trained
    Introduced in: mathematics/backpropagation
    """

    def __init__(self):
        self.params, self.grads, self.state = {}, {}, {}

    def __repr__(self):
        return f"{type(self).__name__}()"

    def build(self, shape, rng, dtype):
        """Make the parameters for inputs of this shape.

        shape: tuple, of one patient's input, without the batch
        rng: numpy.random.Generator, for the first weights
        dtype: numpy.float32 or numpy.float64
        Returns: tuple, the shape of one patient's output
        Raises: ValueError if the layer cannot take such an input
        """
        return shape

    def add(self, name, value, dtype):
        """Hold a parameter under this name, and room for its gradient."""
        self.params[name] = np.array(value, dtype=dtype)  # never the caller's own
        self.grads[name] = np.zeros_like(self.params[name])

    def sublayers(self):
        """The layers inside this one, if any."""
        return []

    def forward(self, x, training=False):
        """Compute the output for x, and keep what `backward` needs if training.

        x: (n, *shape) array
        Returns: (n, *output shape) array; x itself is left as it is
        """
        raise NotImplementedError

    def backward(self, da, input_gradient=True):
        """Turn the loss's gradient by the output into those by parameters and input.

        da: (n, *output shape) array, from the layer after this one
        input_gradient: False spares the work where nobody asks, in the first layer
        Returns: (n, *shape) array, the gradient by the input; None if not asked for
        Raises: RuntimeError if no `forward(x, training=True)` went before
        """
        raise NotImplementedError

    def keep(self, *values):
        """Keep values from the way forward for one way back."""
        self._kept = values

    def kept(self):
        """The values kept, once: they belong to one batch."""
        values = getattr(self, "_kept", None)
        if values is None:
            raise RuntimeError(
                f"{self!r} has nothing to go back through: call "
                "forward(x, training=True) first, once for each backward"
            )
        self._kept = None
        return values

    def penalty(self):
        """What this layer's weights add to the loss; 0 without regularisation."""
        return 0.0


class Dense(Layer):
    """Each output is a weighted sum of all inputs plus a bias: x W + b.

    n_out: int, 1 or more
    initial: function (shape, rng) -> array, for W; b begins at 0
    regularizer: `losses.L1`, `losses.L2` or None; acts on W, not on b
    Shapes: x (n, ..., n_in), W (n_in, n_out), b (n_out,), output (n, ..., n_out)
    Raises: ValueError if n_out is not a whole number of at least 1, or the regularizer
        is not made yet
    Introduced in: mathematics/backpropagation
    """

    def __init__(self, n_out, *, initial=glorot_uniform, regularizer=None):
        super().__init__()
        whole = hasattr(n_out, "__index__") and not isinstance(n_out, bool)
        if not whole or n_out < 1:
            raise ValueError(f"Dense needs a whole number of outputs >= 1, got {n_out}")
        made = hasattr(regularizer, "gradient") and not isinstance(regularizer, type)
        if regularizer is not None and not made:
            raise ValueError(
                "Dense needs a regularizer that is made first, as losses.L2(0.01), "
                f"got {regularizer!r}"
            )
        self.n_out, self.initial, self.regularizer = int(n_out), initial, regularizer

    def __repr__(self):
        return f"Dense({self.n_out})"

    def build(self, shape, rng, dtype):
        if not shape or shape[-1] < 1:
            raise ValueError(
                f"expected one or more numbers in the input's last axis, got {shape}"
            )
        size = (shape[-1], self.n_out)
        self.add("W", self.initial(size, rng), dtype)
        self.add("b", np.zeros(self.n_out), dtype)
        return (*shape[:-1], self.n_out)

    def forward(self, x, training=False):
        if training:
            self.keep(x)
        z = x @ self.params["W"]
        z += self.params["b"]
        return z

    def backward(self, da, input_gradient=True):
        (x,) = self.kept()
        W, dW = self.params["W"], self.grads["W"]
        rows, d_rows = x.reshape(-1, x.shape[-1]), da.reshape(-1, self.n_out)
        np.matmul(rows.T, d_rows, out=dW)
        np.add.reduce(d_rows, axis=0, out=self.grads["b"])
        if self.regularizer is not None:
            dW += self.regularizer.gradient(W)
        return da @ W.T if input_gradient else None

    def penalty(self):
        return 0.0 if self.regularizer is None else self.regularizer(self.params["W"])


class Dropout(Layer):
    """In training, silence each number with chance `rate`, and scale up the rest.

    rate: float, 0 <= rate < 1; the rest is divided by 1 - rate, so the mean stays
    Raises: ValueError if the rate is outside
    Source: Srivastava et al. (2014). Introduced in: mathematics/backpropagation
    """

    def __init__(self, rate):
        super().__init__()
        if not 0 <= rate < 1:
            raise ValueError(f"Dropout needs a rate with 0 <= rate < 1, got {rate}")
        self.rate = rate

    def __repr__(self):
        return f"Dropout({self.rate})"

    def build(self, shape, rng, dtype):
        self.rng, self.dtype = rng, dtype
        return shape

    def forward(self, x, training=False):
        if not training:
            return x
        mask = self.rng.random(x.shape, dtype=np.float32) >= self.rate
        factor = mask.astype(self.dtype) / self.dtype(1 - self.rate)
        self.keep(factor)
        return x * factor

    def backward(self, da, input_gradient=True):
        (factor,) = self.kept()
        return da * factor


class _Normalization(Layer):
    """Shift and scale to mean 0 and variance 1, then by the learned beta and gamma."""

    def __init__(self, epsilon):
        super().__init__()
        if not epsilon > 0:
            raise ValueError(f"{type(self).__name__} needs epsilon > 0, got {epsilon}")
        self.epsilon = float(epsilon)

    def build(self, shape, rng, dtype):
        if not shape or shape[-1] < 1:
            raise ValueError(
                f"expected one or more numbers in the input's last axis, got {shape}"
            )
        self.add("gamma", np.ones(shape[-1]), dtype)
        self.add("beta", np.zeros(shape[-1]), dtype)
        return shape

    def _forward(self, x, mean, variance, over, training):
        """`over`: the axes that mean and variance are taken over."""
        scale = 1 / np.sqrt(variance + x.dtype.type(self.epsilon))
        normal = (x - mean) * scale
        if training:
            self.keep(normal, scale, over)
        return normal * self.params["gamma"] + self.params["beta"]

    def backward(self, da, input_gradient=True):
        normal, scale, over = self.kept()
        rows = tuple(range(da.ndim - 1))
        np.sum(da * normal, axis=rows, out=self.grads["gamma"])
        np.sum(da, axis=rows, out=self.grads["beta"])
        if not input_gradient:
            return None
        d = da * self.params["gamma"]
        # mean and variance depend on x too: their share leaves d without its mean
        # and without its part along `normal`
        along = (d * normal).mean(over, keepdims=True)
        return scale * (d - d.mean(over, keepdims=True) - normal * along)


class BatchNormalization(_Normalization):
    """Normalise each feature over the batch; for one patient, over earlier batches.

    momentum: float in [0, 1), how much of the old running mean and variance stays
    epsilon: float > 0, added to the variance
    Shapes: x (n, ..., n_features), as the output; gamma, beta (n_features,)
    Raises: ValueError if momentum or epsilon is outside
    Source: Ioffe & Szegedy (2015). Introduced in: mathematics/backpropagation
    """

    def __init__(self, momentum=0.99, epsilon=1e-3):
        super().__init__(epsilon)
        if not 0 <= momentum < 1:
            raise ValueError(
                f"BatchNormalization needs 0 <= momentum < 1, got {momentum}"
            )
        self.momentum = float(momentum)

    def build(self, shape, rng, dtype):
        super().build(shape, rng, dtype)
        self.state["mean"] = np.zeros(shape[-1], dtype)
        self.state["variance"] = np.ones(shape[-1], dtype)
        return shape

    def forward(self, x, training=False):
        mean, variance = self.state["mean"], self.state["variance"]
        if not training:
            scale = self.params["gamma"] / np.sqrt(variance + self.epsilon)
            return (x - mean) * scale + self.params["beta"]
        over = tuple(range(x.ndim - 1))
        now = x.mean(over), x.var(over)
        for running, new in zip((mean, variance), now, strict=True):
            running *= self.momentum
            running += (1 - self.momentum) * new
        return self._forward(x, *now, over, training)


class LayerNormalization(_Normalization):
    """Normalise the features of each row by themselves; the batch plays no part.

    epsilon: float > 0, added to the variance
    Shapes: x (n, ..., n_features), as the output; gamma, beta (n_features,)
    Raises: ValueError if epsilon is not above 0
    Source: Ba et al. (2016), doi 10.48550/arXiv.1607.06450
    Introduced in: mathematics/backpropagation
    """

    def __init__(self, epsilon=1e-3):
        super().__init__(epsilon)

    def forward(self, x, training=False):
        mean, variance = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
        return self._forward(x, mean, variance, -1, training)


def whole(value, name, least=1):
    """Refuse what is not a whole number of at least so much."""
    if isinstance(value, bool) or not hasattr(value, "__index__") or value < least:
        raise ValueError(
            f"{name} must be a whole number of at least {least}, got {value!r}"
        )
