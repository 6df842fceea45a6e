"""Attention: each place of a sequence looks at all others and takes what it needs.

A row whose features are all 0 is padding, as in keras.layers.Masking: `Embedding`
makes such rows for word 0. No layer here looks at padding, and each makes rows of 0
of it again, so that the next one sees it too; Dense and the normalizations do not, so
put none in between. Measurements that may all be 0 in one row, as means of standardised
columns are, need one more column, of ones.

Introduced in: mathematics/attention
"""

import math

import numpy as np

from helpers.nn.activations import ReLU
from helpers.nn.layers import (
    Dense,
    Layer,
    LayerNormalization,
    glorot_uniform,
    he_normal,
    whole,
)
from helpers.nn.network import Sequential


def scaled_dot_product_attention(q, k, v, mask=None):
    """For each query, average the values, weighted by how well their keys fit.

    The weights are softmax(q k^T / sqrt(key_dim)).

    q: (..., n_queries, key_dim) float array
    k: (..., n_keys, key_dim) float array
    v: (..., n_keys, value_dim) float array
    mask: bool array that broadcasts to (..., n_queries, n_keys), True where a query
        may look, or None for everywhere; a query that may look nowhere gets zeros
    Returns: (..., n_queries, value_dim) array; and the weights, (..., n_queries,
        n_keys), each row from 0 to 1 with sum 1
    Raises: ValueError if the shapes do not fit, or the mask is not made of bool
    Source: Vaswani et al. (2017), doi 10.48550/arXiv.1706.03762
    Introduced in: mathematics/attention
    """
    _fit(q, k, v, mask)
    # held as (..., n_keys, n_queries): NumPy reduces the last axis but one far faster
    fit = k @ (q * (1 / math.sqrt(q.shape[-1]))).swapaxes(-1, -2)
    if mask is not None:
        # adding is faster than choosing, and 0 and -infinity are exact
        allowed = np.atleast_2d(mask).swapaxes(-1, -2)
        fit += np.where(allowed, 0, -np.inf).astype(fit.dtype)
    top = fit.max(axis=-2, keepdims=True)
    fit -= top if mask is None else np.where(np.isfinite(top), top, 0)
    np.exp(fit, out=fit)
    total = fit.sum(axis=-2, keepdims=True)
    fit /= total if mask is None else np.where(total == 0, 1, total)
    weights = fit.swapaxes(-1, -2)
    return weights @ v, weights


def attention_gradients(da, weights, q, k, v):
    """Turn the gradient by the output of attention into those by q, k and v.

    da: (..., n_queries, value_dim) array
    weights: what `scaled_dot_product_attention` returned
    q, k, v: what it was given, with the same axes before the last two
    Returns: three arrays, shaped as q, k and v
    Introduced in: mathematics/attention
    """
    held = weights.swapaxes(-1, -2)  # (..., n_keys, n_queries), as d
    d = v @ da.swapaxes(-1, -2)
    # back through softmax; da . a would be the same sum, and rounded otherwise than d
    d -= np.einsum("...kq,...kq->...q", d, held)[..., None, :]
    d *= held
    scale = 1 / math.sqrt(q.shape[-1])
    dq, dk = d.swapaxes(-1, -2) @ k, d @ q
    dq *= scale
    dk *= scale
    return dq, dk, held @ da


class MultiHeadAttention(Layer):
    """Self-attention: each place looks at the sequence through several heads.

    Each head makes its own queries, keys and values of x and looks by itself; what the
    heads find is brought together by Wo. `list(params.values())` has the order and the
    shapes of `get_weights()` of keras.layers.MultiHeadAttention.

    n_heads: int, 1 or more
    key_dim: int or None, numbers in a query, key and value of a head; None for
        features / n_heads
    causal: bool, True if a place may look at itself and earlier ones only
    Shapes: x (n, time, features), as the output; Wq, Wk, Wv (features, n_heads,
        key_dim), bq, bk, bv (n_heads, key_dim), Wo (n_heads, key_dim, features),
        bo (features,)
    Raises: ValueError if a count is no whole number of at least 1, or n_heads does not
        divide the features and key_dim is None
    Source: Vaswani et al. (2017), doi 10.48550/arXiv.1706.03762
    Introduced in: mathematics/attention
    """

    def __init__(self, n_heads, key_dim=None, causal=False):
        super().__init__()
        whole(n_heads, "n_heads")
        whole(1 if key_dim is None else key_dim, "key_dim")
        self.n_heads, self.key_dim, self.causal = n_heads, key_dim, bool(causal)

    def __repr__(self):
        return f"MultiHeadAttention({self.n_heads}, {self.key_dim}, {self.causal})"

    def build(self, shape, rng, dtype):
        features = _features(shape)
        if self.key_dim is None and features % self.n_heads:
            raise ValueError(
                f"expected features that {self.n_heads} heads can share evenly, got "
                f"{shape}: choose other heads, or a key_dim"
            )
        key_dim = self.key_dim or features // self.n_heads
        size = (self.n_heads, key_dim)
        for part in "qkv":
            W = glorot_uniform((features, math.prod(size)), rng)
            self.add(f"W{part}", W.reshape(features, *size), dtype)
            self.add(f"b{part}", np.zeros(size), dtype)
        Wo = glorot_uniform((math.prod(size), features), rng)
        self.add("Wo", Wo.reshape(*size, features), dtype)
        self.add("bo", np.zeros(features), dtype)
        return shape

    def weights(self, x):
        """How much each place looks at each other one.

        x: (n, time, features) array
        Returns: (n, n_heads, time, time) array; [i, h, s, t] is how much s looks at t;
            a row sums to 1, that of padding too, or to 0 if s may look nowhere
        """
        return self._look(x, _real(x))[-1]

    def _look(self, x, real):
        """a, q, k, v and weights of all heads, each (n, n_heads, time, ...)."""
        W, b = self._joined("W"), self._joined("b")
        rows = _rows(x) @ W
        rows += b.reshape(-1)
        size = (*x.shape[:2], 3, *self.params["bq"].shape)
        q, k, v = rows.reshape(size).transpose(2, 0, 3, 1, 4)
        a, weights = scaled_dot_product_attention(q, k, v, self._mask(x, real))
        return a, q, k, v, weights

    def _joined(self, kind):
        """Wq, Wk, Wv side by side, so that one product does for three."""
        parts = [self.params[f"{kind}{part}"] for part in "qkv"]
        joined = np.stack(parts, axis=-3)
        return joined.reshape(len(joined), -1) if kind == "W" else joined

    def _mask(self, x, real):
        """Where each place may look, True; None if everywhere."""
        earlier = np.tri(x.shape[1], dtype=bool) if self.causal else None
        if real is None:
            return earlier
        keys = real.swapaxes(-1, -2)[:, None] > 0
        return keys if earlier is None else keys & earlier

    def forward(self, x, training=False):
        real = _real(x)
        a, q, k, v, weights = self._look(x, real)
        found = a.swapaxes(1, 2).reshape(len(_rows(x)), -1)
        if training:
            self.keep(x, real, found, weights, q, k, v)
        out = found @ self.params["Wo"].reshape(-1, x.shape[-1])
        out += self.params["bo"]
        return _silent(out.reshape(x.shape), real)

    def backward(self, da, input_gradient=True):
        x, real, found, weights, q, k, v = self.kept()
        d_rows = _rows(_silent(da, real))
        Wo, dWo = self.params["Wo"], self.grads["Wo"]
        dWo[...] = (found.T @ d_rows).reshape(dWo.shape)
        self.grads["bo"][...] = d_rows.sum(axis=0)
        d_found = d_rows @ Wo.reshape(-1, x.shape[-1]).T
        n, n_heads, time, key_dim = q.shape
        d_a = d_found.reshape(n, time, n_heads, key_dim).swapaxes(1, 2)
        d = np.empty((n, time, 3, n_heads, key_dim), x.dtype)
        parts = attention_gradients(d_a, weights, q, k, v)
        for place, part in enumerate(parts):
            d[:, :, place] = part.swapaxes(1, 2)
        return self._back(x, d, input_gradient)

    def _back(self, x, d, input_gradient):
        """From the gradients d by q, k and v, those by the weights and by x."""
        rows = d.reshape(len(_rows(x)), -1)
        dW = (_rows(x).T @ rows).reshape(x.shape[-1], *d.shape[2:])
        db = d.sum(axis=(0, 1))
        for place, part in enumerate("qkv"):
            self.grads[f"W{part}"][...] = dW[:, place]
            self.grads[f"b{part}"][...] = db[place]
        if input_gradient:
            return (rows @ self._joined("W").T).reshape(x.shape)


def sinusoidal_positions(time, size):
    """Waves that tell places apart, from fast ones to slow ones.

    At place t, number 2 i is sin(t / 10000^(2 i / size)) and number 2 i + 1 its cosine.

    time: int, 1 or more, how many places
    size: int, 1 or more, numbers for each
    Returns: (time, size) float64 array, -1 to 1
    Raises: ValueError if one is no whole number of at least 1
    Source: Vaswani et al. (2017), doi 10.48550/arXiv.1706.03762
    Introduced in: mathematics/attention
    """
    whole(time, "time")
    whole(size, "size")
    number = np.arange(size)
    angle = np.arange(time)[:, None] / 10_000 ** ((number - number % 2) / size)
    return np.where(number % 2, np.cos(angle), np.sin(angle))


class SinusoidalPositions(Layer):
    """Add `sinusoidal_positions` to the rows; padding is not counted and stays 0.

    Shapes: x (n, time, features), as the output
    Source: Vaswani et al. (2017), doi 10.48550/arXiv.1706.03762
    Introduced in: mathematics/attention
    """

    def build(self, shape, rng, dtype):
        features = _features(shape)
        self.waves = sinusoidal_positions(shape[0], features).astype(dtype)
        return shape

    def forward(self, x, training=False):
        real = _real(x)
        if training:
            self.keep(real)
        if real is None:
            return x + self.waves[: x.shape[1]]  # a shorter sequence fits too
        place = np.cumsum(real[..., 0] > 0, axis=1) - 1
        return (x + self.waves[place]) * real

    def backward(self, da, input_gradient=True):
        (real,) = self.kept()
        return _silent(da, real)


class MeanOverTime(Layer):
    """The mean of the rows that are not padding, one row a patient; 0 if all are.

    Shapes: x (n, time, features), output (n, features)
    Introduced in: mathematics/attention
    """

    def build(self, shape, rng, dtype):
        return (_features(shape),)

    def forward(self, x, training=False):
        real = x.any(axis=-1, keepdims=True)
        share = real / np.maximum(real.sum(axis=1, keepdims=True), 1)
        share = share.astype(x.dtype)
        if training:
            self.keep(share)
        return (x * share).sum(axis=1)

    def backward(self, da, input_gradient=True):
        (share,) = self.kept()
        return da[:, None] * share


class TransformerEncoder(Layer):
    """Attention, then two dense layers at each place; each adds to what came in.

    LayerNormalization follows each of the two sums, as in the paper ("post-norm").

    n_heads: int, 1 or more; must divide the features
    n_hidden: int, 1 or more, outputs of the first dense layer; the paper takes 4 times
        the features
    Shapes: x (n, time, features), as the output; 2 features or more
    Raises: ValueError if a count is no whole number of at least 1
    Source: Vaswani et al. (2017), doi 10.48550/arXiv.1706.03762
    Introduced in: mathematics/attention
    """

    def __init__(self, n_heads, n_hidden):
        super().__init__()
        whole(n_hidden, "n_hidden")
        self.n_hidden, self.attention = n_hidden, MultiHeadAttention(n_heads)
        self.norm_1, self.norm_2 = LayerNormalization(), LayerNormalization()
        self.feed_forward = None  # made when the number of features is known

    def __repr__(self):
        return f"TransformerEncoder({self.attention.n_heads}, {self.n_hidden})"

    def sublayers(self):
        layers = [self.attention, self.norm_1, self.feed_forward, self.norm_2]
        return [layer for layer in layers if layer is not None]

    def build(self, shape, rng, dtype):
        if _features(shape) < 2:
            raise ValueError(f"expected (time, 2 features or more), got {shape}")
        self.feed_forward = Sequential(
            [Dense(self.n_hidden, initial=he_normal), ReLU(), Dense(shape[-1])]
        )
        for layer in self.sublayers():
            layer.build(shape, rng, dtype)
        return shape

    def forward(self, x, training=False):
        real = _real(x)
        if training:
            self.keep(real)
        a = x + self.attention.forward(x, training)
        a = self.norm_1.forward(a, training)
        a = a + self.feed_forward.forward(a, training)
        return _silent(self.norm_2.forward(a, training), real)

    def backward(self, da, input_gradient=True):
        (real,) = self.kept()
        d = self.norm_2.backward(_silent(da, real))
        d = self.norm_1.backward(d + self.feed_forward.backward(d))
        dx = self.attention.backward(d, input_gradient)
        return d + dx if input_gradient else None


def _real(x):
    """1 for each row of x that is not padding, 0 for padding; None if there is none."""
    real = x.any(axis=-1, keepdims=True)
    return None if real.all() else real.astype(x.dtype)


def _silent(a, real):
    """a, with 0 where there is padding."""
    return a if real is None else a * real


def _rows(x):
    return x.reshape(-1, x.shape[-1])


def _features(shape):
    if len(shape) != 2 or min(shape) < 1:
        raise ValueError(f"expected (time, features), each 1 or more, got {shape}")
    return shape[-1]


def _fit(q, k, v, mask):
    """Refuse shapes that do not fit together."""
    one, two, three = (np.shape(array) for array in (q, k, v))
    try:
        size = (*np.broadcast_shapes(one[:-2], two[:-2]), one[-2], two[-2])
        np.broadcast_shapes(size[:-2], three[:-2])
        fit = one[-1] == two[-1] and two[-2] == three[-2]
    except (IndexError, ValueError):
        fit = False
    if not fit:
        raise ValueError(
            "expected q (..., n_queries, key_dim), k (..., n_keys, key_dim), "
            f"v (..., n_keys, value_dim), got {one}, {two}, {three}"
        )
    if mask is not None:
        _fit_mask(np.asarray(mask), size)


def _fit_mask(mask, size):
    if mask.dtype != bool:
        raise ValueError(
            f"expected a mask of bool, True where a query may look, got {mask.dtype}"
        )
    places = zip(mask.shape[::-1], size[::-1], strict=False)
    if mask.ndim > len(size) or not all(one in (1, full) for one, full in places):
        raise ValueError(f"expected a mask that broadcasts to {size}, got {mask.shape}")
