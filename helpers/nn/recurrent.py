"""Layers that read a sequence step by step and carry a state along.

Introduced in: mathematics/recurrence
"""

import math
from numbers import Real

import numpy as np

from helpers.nn.layers import Layer, glorot_uniform


def orthogonal(shape, rng):
    """Draw weights that turn a vector and keep its length, however often applied.

    shape: (n_in, n_out); the shorter side's vectors have length 1 and right angles
    rng: numpy.random.Generator
    Returns: float64 array of that shape, each such matrix as likely as another
    Source: Saxe et al. (2013), doi 10.48550/arXiv.1312.6120
    Introduced in: mathematics/recurrence
    """
    q, r = np.linalg.qr(rng.normal(size=(max(shape), min(shape))))
    q *= np.sign(np.diag(r))  # else qr's own choice of signs favours some matrices
    return q if shape[0] >= shape[1] else q.T


def _sigmoid(z):
    """`activations.sigmoid` in place: (1 + tanh(z / 2)) / 2 overflows at no z."""
    z *= 0.5
    np.tanh(z, out=z)
    z += 1
    z *= 0.5


# A prediction reads so many sequences at once: every step of each takes room
AT_ONCE = 128


class _Recurrent(Layer):
    """The way through time and back; a cell says what happens in one step.

    `_step(blocks, inner, old, new)` and `_step_back(blocks, old, new, d, dz)` work in
    place on arrays of one step:
    blocks: (n_blocks, n, units); first, one for each gate, x W + b, then what the way
        back needs
    inner: (n_gates, n, units), h U
    old, new: (n_states, n, units), the states before and after; h stands first
    d: as new, the gradient by it; then by old, but for what goes through U
    dz: (n_shares, n, n_gates * units), the gradients by x W, in dz[0], and h U, dz[-1]
    """

    n_gates, n_blocks, n_states, n_shares = 1, 1, 1, 1

    def __init__(self, units, *, return_sequences=False, mask_value=None):
        super().__init__()
        kind = type(self).__name__
        whole = hasattr(units, "__index__") and not isinstance(units, bool)
        if not whole or units < 1:
            raise ValueError(f"{kind} needs a whole number of units >= 1, got {units}")
        number = isinstance(mask_value, Real) and math.isfinite(mask_value)
        if mask_value is not None and not number:
            raise ValueError(
                f"{kind} needs a mask_value that is a finite number, as 0.0, or None, "
                f"got {mask_value!r}"
            )
        self.units, self.return_sequences = int(units), bool(return_sequences)
        # Python's own float takes the type of the input that it is compared with
        self.mask_value = None if mask_value is None else float(mask_value)

    def __repr__(self):
        options = ", return_sequences=True" if self.return_sequences else ""
        if self.mask_value is not None:
            options += f", mask_value={self.mask_value:g}"
        return f"{type(self).__name__}({self.units}{options})"

    def build(self, shape, rng, dtype):
        if len(shape) != 2 or min(shape) < 1:
            raise ValueError(
                "expected sequences, (time, n_features), each 1 or more, got "
                f"{shape}: one measurement a step is X[..., None], and words become "
                "features in an Embedding"
            )
        self._rooms, size = {}, self.n_gates * self.units
        self.add("W", glorot_uniform((shape[1], size), rng), dtype)
        self.add("U", orthogonal((self.units, size), rng), dtype)
        self.add("b", self._first_bias(size), dtype)
        return (shape[0], self.units) if self.return_sequences else (self.units,)

    def _first_bias(self, size):
        return np.zeros(size)

    def forward(self, x, training=False):
        if not training and len(x) > AT_ONCE:
            starts = range(0, len(x), AT_ONCE)
            return np.concatenate([self.forward(x[i : i + AT_ONCE]) for i in starts])
        steps = x.swapaxes(0, 1).copy()  # time first, so that each step is one block
        n_steps, n, _ = steps.shape
        rooms = self._rooms if training else {}
        blocks = _room(
            rooms, "blocks", (n_steps, self.n_blocks, n, self.units), x.dtype
        )
        states = _room(
            rooms, "states", (self.n_states, n_steps + 1, n, self.units), x.dtype
        )
        states[:, 0] = 0
        self._input_share(steps, blocks[:, : self.n_gates])
        U, inner = self._by_gate("U"), np.empty_like(blocks[0, : self.n_gates])
        skipped = self._skipped(steps)
        for t in range(n_steps):
            np.matmul(states[0, t], U, out=inner)
            self._step(blocks[t], inner, states[:, t], states[:, t + 1])
            if skipped is not None:
                np.copyto(states[:, t + 1], states[:, t], where=skipped[t])
        if training:
            self.keep(steps, blocks, states, skipped)
        return self._output(states[0], skipped)

    def _by_gate(self, name):
        """Weights as (n_gates, rows, units): whole blocks are faster than columns."""
        array = self.params[name]
        return array.reshape(len(array), self.n_gates, -1).swapaxes(0, 1).copy()

    def _input_share(self, steps, gates):
        """Fill in x W + b, for all steps at once."""
        np.matmul(steps[:, None], self._by_gate("W"), out=gates)
        gates += self._bias()[0]

    def _bias(self):
        return self.params["b"].reshape(self.n_shares, self.n_gates, 1, self.units)

    def _skipped(self, steps):
        """Which steps are padding, (time, n, 1); None if no step is."""
        if self.mask_value is None:
            return None
        skipped = (steps == self.mask_value).all(-1, keepdims=True)
        return skipped if skipped.any() else None

    def _output(self, h, skipped):
        """Copies: a view would keep the states of all steps in memory."""
        if not self.return_sequences:
            return h[-1].copy()
        output = h[1:].swapaxes(0, 1).copy()
        if skipped is not None:
            np.copyto(output, 0, where=skipped.swapaxes(0, 1))
        return output

    def backward(self, da, input_gradient=True):
        steps, blocks, states, skipped = self.kept()
        n_steps, n, _ = steps.shape
        shape = self.n_shares, n_steps, n, self.n_gates * self.units
        dz = _room(self._rooms, "dz", shape, steps.dtype)
        d = np.zeros_like(states[:, 0])
        if not self.return_sequences:
            d[0] = da
        elif skipped is not None:
            da = np.where(skipped.swapaxes(0, 1), 0, da)
        for t in reversed(range(n_steps)):
            if self.return_sequences:
                d[0] += da[:, t]
            after = None if skipped is None else d.copy()
            self._step_back(blocks[t], states[:, t], states[:, t + 1], d, dz[:, t])
            d[0] += dz[-1, t] @ self.params["U"].T
            if skipped is not None:
                np.copyto(d, after, where=skipped[t])
        if skipped is not None:
            np.copyto(dz, 0, where=skipped)
        self._fill_gradients(steps, states[0, :-1], dz)
        if not input_gradient:
            return None
        return (dz[0] @ self.params["W"].T).swapaxes(0, 1)

    def _fill_gradients(self, steps, h, dz):
        """Sum over patients and all steps at once, in one product for each weight."""
        np.matmul(_rows(steps).T, _rows(dz[0]), out=self.grads["W"])
        np.matmul(_rows(h).T, _rows(dz[-1]), out=self.grads["U"])
        self.grads["b"][...] = dz.sum((1, 2)).reshape(self.grads["b"].shape)


def _room(rooms, name, shape, dtype):
    """An array to be filled, in the last batch's memory: getting new is slow."""
    size = math.prod(shape)
    if name not in rooms or rooms[name].size < size:
        rooms[name] = np.empty(size, dtype)
    return rooms[name][:size].reshape(shape)


def _rows(array):
    return array.reshape(-1, array.shape[-1])


class SimpleRNN(_Recurrent):
    """h = tanh(x W + h U + b), h the step before's output, 0 before the first.

    units: int, 1 or more, how many numbers h has
    return_sequences: True for h after each step, False for the last alone
    mask_value: float or None; a step whose features all equal it is padding: the state
        passes by it, and in a sequence it comes out as 0, so that a next layer with
        mask_value=0.0 skips it too; choose a value that no measured step has
    Shapes: x (n, time, n_features), output (n, units) or (n, time, units);
        W (n_features, units), U (units, units), b (units,), as in Keras
    Raises: ValueError if units or mask_value is of no use, or the input no sequence
    Source: Elman (1990), doi 10.1207/s15516709cog1402_1
    Introduced in: mathematics/recurrence
    """

    def _step(self, blocks, inner, old, new):
        np.tanh(blocks[0] + inner[0], out=new[0])

    def _step_back(self, blocks, old, new, d, dz):
        np.multiply(d[0], 1 - new[0] ** 2, out=dz[0])
        d[0] = 0


class LSTM(_Recurrent):
    """A memory c beside the output h; gates i, f, o say what it takes, keeps, shows.

    c = f c + i g and h = o tanh(c), where g = tanh(z), and i, f, o = sigmoid(z), each
    of its own z = x W + h U + b.

    units, return_sequences, mask_value: as in `SimpleRNN`
    Shapes: x (n, time, n_features), output (n, units) or (n, time, units);
        W (n_features, 4 units), U (units, 4 units), b (4 units,), as in Keras, the
        columns for i, f, g, o
    Raises: ValueError if units or mask_value is of no use, or the input no sequence
    Source: Hochreiter & Schmidhuber (1997), doi 10.1162/neco.1997.9.8.1735;
        Gers et al. (2000), doi 10.1162/089976600300015015, for f
    Introduced in: mathematics/recurrence
    """

    n_gates, n_blocks, n_states = 4, 5, 2

    def _first_bias(self, size):
        return np.repeat([0.0, 1, 0, 0], self.units)  # at first, f keeps most of c

    def _step(self, blocks, inner, old, new):
        z, (i, f, g, o, tanh_c), c = blocks[:4], blocks, new[1]
        z += inner
        _sigmoid(z[:2])
        np.tanh(g, out=g)
        _sigmoid(o)
        np.multiply(f, old[1], out=c)
        c += i * g
        np.tanh(c, out=tanh_c)
        np.multiply(o, tanh_c, out=new[0])

    def _step_back(self, blocks, old, new, d, dz):
        (i, f, g, o, tanh_c), (dh, dc) = blocks, d
        dc += dh * o * (1 - tanh_c * tanh_c)
        slopes = (
            dc * g * i * (1 - i),
            dc * old[1] * f * (1 - f),
            dc * i * (1 - g * g),
            dh * tanh_c * o * (1 - o),
        )
        np.concatenate(slopes, axis=1, out=dz[0])
        dc *= f
        dh[...] = 0


class GRU(_Recurrent):
    """An update gate u mixes the old output with a new one; r resets what that sees.

    h = u h + (1 - u) g, where u and r = sigmoid(x W + b0 + h U + b1), and
    g = tanh(x W + b0 + r (h U + b1)), each with its own columns. This is Keras's
    default form, reset_after; the paper's resets h before the product.

    units, return_sequences, mask_value: as in `SimpleRNN`
    Shapes: x (n, time, n_features), output (n, units) or (n, time, units);
        W (n_features, 3 units), U (units, 3 units), b (2, 3 units), as in Keras, the
        columns for u, r, g
    Raises: ValueError if units or mask_value is of no use, or the input no sequence
    Source: Cho et al. (2014), doi 10.3115/v1/D14-1179
    Introduced in: mathematics/recurrence
    """

    n_gates, n_blocks, n_shares = 3, 4, 2

    def _first_bias(self, size):
        return np.zeros((2, size))

    def _step(self, blocks, inner, old, new):
        z, (u, r, g, seen), (h,) = blocks[:2], blocks, old
        inner += self._bias()[1]
        z += inner[:2]
        _sigmoid(z)
        seen[...] = inner[2]
        g += r * seen
        np.tanh(g, out=g)
        np.add(g, u * (h - g), out=new[0])

    def _step_back(self, blocks, old, new, d, dz):
        (u, r, g, seen), (h,), (dh,) = blocks, old, d
        dg = dh * (1 - u) * (1 - g * g)
        du = dh * (h - g) * u * (1 - u)
        dr = dg * seen * r * (1 - r)
        np.concatenate((du, dr, dg), axis=1, out=dz[0])
        np.concatenate((du, dr, dg * r), axis=1, out=dz[1])
        dh *= u
