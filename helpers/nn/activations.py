"""Activation functions, their derivatives, and the layers that apply them.

Introduced in: mathematics/activations
"""

import math

import numpy as np

from helpers.nn.layers import Layer


def sigmoid(z):
    """1 / (1 + e^-z), from 0 to 1, without overflow at any z.

    z: array of floats, any shape
    Returns: array of the same shape and dtype
    Introduced in: mathematics/activations
    """
    small = np.exp(-np.abs(z))  # at most 1, whatever the sign of z
    return np.where(z >= 0, 1, small) / (1 + small)


def softmax(z):
    """Turn each row of logits into shares that sum to 1, without overflow.

    z: (..., n_classes) array of floats
    Returns: array of the same shape and dtype, each row from 0 to 1 with sum 1
    Introduced in: mathematics/activations
    """
    p = np.exp(z - z.max(axis=-1, keepdims=True))
    p /= p.sum(axis=-1, keepdims=True)
    return p


def relu(z):
    """max(0, z).

    z: array of floats, any shape
    Returns: array of the same shape and dtype
    Introduced in: mathematics/activations
    """
    return np.maximum(z, 0)


def gelu(z):
    """z times a smooth step from 0 to 1: z / 2 (1 + tanh(...)), the tanh form.

    It stays within .0005 of z P(N < z), N standard normal, which needs erf.

    z: array of floats, any shape
    Returns: array of the same shape and dtype
    Source: Hendrycks & Gimpel (2016), doi 10.48550/arXiv.1606.08415
    Introduced in: mathematics/activations
    """
    return 0.5 * z * (1 + _gelu_tanh(z))


GELU_SCALE, GELU_CUBE = math.sqrt(2 / math.pi), 0.044715


def _gelu_tanh(z):
    return np.tanh(GELU_SCALE * z * (1 + GELU_CUBE * z * z))


class _Elementwise(Layer):
    """A function of each number by itself: going back multiplies by its slope."""

    def forward(self, x, training=False):
        a = self.function(x)
        if training:
            self.keep(x, a)
        return a

    def backward(self, da, input_gradient=True):
        return da * self.slope(*self.kept())


class Sigmoid(_Elementwise):
    """`sigmoid` as a layer. Introduced in: mathematics/activations"""

    function = staticmethod(sigmoid)

    def slope(self, z, a):
        """a (1 - a), at most 1/4."""
        return a * (1 - a)


class Tanh(_Elementwise):
    """Hyperbolic tangent, from -1 to 1. Introduced in: mathematics/activations"""

    function = staticmethod(np.tanh)

    def slope(self, z, a):
        """1 - a^2, at most 1."""
        return 1 - a * a


class ReLU(_Elementwise):
    """`relu` as a layer. Introduced in: mathematics/activations"""

    function = staticmethod(relu)

    def slope(self, z, a):
        """1 where z > 0, else 0; at the kink we say 0, as Keras does."""
        return z > 0


class GELU(_Elementwise):
    """`gelu` as a layer. Introduced in: mathematics/activations"""

    function = staticmethod(gelu)

    def slope(self, z, a):
        """The derivative of the tanh form, by the product and the chain rule."""
        t = _gelu_tanh(z)
        inner = GELU_SCALE * (1 + 3 * GELU_CUBE * z * z)
        return 0.5 * (1 + t) + 0.5 * z * (1 - t * t) * inner


class Softmax(Layer):
    """`softmax` of the last axis as a layer. Introduced in: mathematics/activations"""

    def build(self, shape, rng, dtype):
        if not shape or shape[-1] < 2:
            raise ValueError(
                "expected two or more numbers in the input's last axis, one a class, "
                f"got {shape}: for one risk use Sigmoid"
            )
        return shape

    def forward(self, x, training=False):
        a = softmax(x)
        if training:
            self.keep(a)
        return a

    def backward(self, da, input_gradient=True):
        """Each share depends on all logits of its row: a (da - sum of a da)."""
        (a,) = self.kept()
        return a * (da - (a * da).sum(axis=-1, keepdims=True))
