"""Layers for images: convolution, pooling, and the way on to Dense.

Images are arrays (n, height, width, channels), as in Keras.

Introduced in: mathematics/convolution
"""

import math

import numpy as np

from helpers.nn.layers import Layer, glorot_uniform

BLOCK_BYTES = 2**20  # of windows copied at a time: what a core's own cache holds


class Conv2D(Layer):
    """Each output is the weighted sum of a small window of the image, plus a bias.

    The weights are not turned round first: mathematics calls this a correlation.

    filters: int, 1 or more, how many sums of each window, the output's channels
    kernel_size: int or pair of ints, 1 or more, height and width of a window in pixels
    stride: int, 1 or more, pixels from one window to the next, down and across
    padding: "valid" keeps the windows inside the image; "same" lets them reach over
        its edge, where they read 0, and makes ceil(pixels / stride) of them
    initial: function (shape, rng) -> array, for W; b begins at 0
    Shapes: x (n, height, width, channels), W (*kernel_size, channels, filters),
        b (filters,), output (n, windows down, windows across, filters)
    Raises: ValueError if an option is outside
    Source: LeCun et al. (1998), doi 10.1109/5.726791
    Introduced in: mathematics/convolution
    """

    def __init__(
        self, filters, kernel_size, stride=1, padding="valid", *, initial=glorot_uniform
    ):
        super().__init__()
        for name, value in {"filters": filters, "stride": stride}.items():
            if not _whole(value):
                raise ValueError(
                    f"Conv2D needs {name}, a whole number >= 1, got {value!r}"
                )
        if padding not in ("valid", "same"):
            raise ValueError(f"Conv2D needs padding valid or same, got {padding!r}")
        self.filters, self.stride = int(filters), int(stride)
        self.padding, self.initial = padding, initial
        self.kernel_size = _pair("Conv2D", "kernel_size", kernel_size)

    def __repr__(self):
        return (
            f"Conv2D({self.filters}, {self.kernel_size}, stride={self.stride}, "
            f"padding={self.padding!r})"
        )

    def build(self, shape, rng, dtype):
        *size, channels = _image(shape)
        if self.padding == "valid":
            _room(shape, self.kernel_size)
        kernel = (*self.kernel_size, channels, self.filters)
        self.add("W", self.initial(kernel, rng), dtype)
        self.add("b", np.zeros(self.filters), dtype)
        self._plan(size, channels, dtype)
        return (*self._windows, self.filters)

    def _plan(self, size, channels, dtype):
        """For each weight, which windows read which pixels; and room for copies."""
        (n_down, rows), (n_across, columns) = (
            _along(*axis, self.stride, self.padding)
            for axis in zip(size, self.kernel_size, strict=True)
        )
        self._windows = (n_down, n_across)
        self._reads = [
            ((i, j), (rows[i][0], columns[j][0]), (rows[i][1], columns[j][1]))
            for i, j in np.ndindex(self.kernel_size)
        ]
        one = (*self._windows, *self.kernel_size, channels)
        n = max(1, BLOCK_BYTES // (math.prod(one) * np.dtype(dtype).itemsize))
        # what lies over the edge is never written, and stays 0
        self._copies = np.zeros((n, *one), dtype)

    def _blocks(self, x):
        """A few images at a time: which, and their windows, each copied to one row."""
        for start in range(0, len(x), len(self._copies)):
            images = slice(start, start + len(self._copies))
            part = x[images]
            copies = self._copies[: len(part)]
            for weight, windows, pixels in self._reads:
                copies[:, *windows, *weight] = part[:, *pixels]
            yield images, copies.reshape(len(part) * math.prod(self._windows), -1)

    def forward(self, x, training=False):
        if training:
            self.keep(x)
        W = self.params["W"].reshape(-1, self.filters)
        b = np.tile(self.params["b"], self._windows[1])  # longer rows add faster
        z = np.empty((len(x), *self._windows, self.filters), W.dtype)
        for images, rows in self._blocks(x):
            np.matmul(rows, W, out=z[images].reshape(len(rows), -1))
            z[images].reshape(-1, len(b))[...] += b
        return z

    def backward(self, da, input_gradient=True):
        (x,) = self.kept()
        dW, db = self.grads["W"].reshape(-1, self.filters), self.grads["b"]
        dW[...], db[...] = 0, 0
        dx = np.zeros(x.shape, da.dtype) if input_gradient else None
        for images, rows in self._blocks(x):
            d = da[images].reshape(len(rows), -1)
            dW += rows.T @ d
            db += np.ones(len(d), d.dtype) @ d  # a sum, many times faster than `sum`
            if input_gradient:
                self._hand_back(d, dx[images])
        return dx

    def _hand_back(self, d, dx):
        """Each weight hands its share of the gradient to the pixels that it read."""
        share = np.empty((len(d), dx.shape[-1]), d.dtype)
        of_window = share.reshape(len(dx), *self._windows, -1)
        for weight, windows, pixels in self._reads:
            np.matmul(d, self.params["W"][weight].T, out=share)
            dx[:, *pixels] += of_window[:, *windows]


def _along(n_pixels, n_weights, stride, padding):
    """How many windows along an axis; for each weight, which read which pixels."""
    n, before = (n_pixels - n_weights) // stride + 1, 0
    if padding == "same":
        n = -(-n_pixels // stride)
        before = max((n - 1) * stride + n_weights - n_pixels, 0) // 2
    return n, [_inside(n, n_pixels, stride, w - before) for w in range(n_weights)]


def _inside(n, n_pixels, stride, shift):
    """Which windows find pixel stride * window + shift in the image; those pixels."""
    found = [w for w in range(n) if 0 <= stride * w + shift < n_pixels]
    if not found:
        return slice(0), slice(0)
    first, last = stride * found[0] + shift, stride * found[-1] + shift
    return slice(found[0], found[-1] + 1), slice(first, last + 1, stride)


class _Pooling(Layer):
    """One number for each window of each channel; windows side by side."""

    def __init__(self, size):
        super().__init__()
        self.size = _pair(type(self).__name__, "size", size)

    def __repr__(self):
        return f"{type(self).__name__}({self.size})"

    def build(self, shape, rng, dtype):
        *size, channels = _image(shape)
        _room(shape, self.size)
        self._windows = tuple(n // k for n, k in zip(size, self.size, strict=True))
        return (*self._windows, channels)

    def _parts(self, x, axis):
        """The first pixel of each window along this axis, the second, and so on."""
        size, n = self.size[axis - 1], self._windows[axis - 1]
        before = (slice(None),) * axis
        return [x[*before, start : n * size : size] for start in range(size)]

    def _blank(self, shape, dtype):
        """Room for a gradient by the input: 0 where no window read."""
        dx = np.empty(shape, dtype)
        height, width = (n * k for n, k in zip(self._windows, self.size, strict=True))
        dx[:, height:] = 0
        dx[:, :, width:] = 0
        return dx


class MaxPooling2D(_Pooling):
    """The largest number of each window, channel by channel.

    size: int or pair of ints, 1 or more, height and width of a window in pixels; rows
        and columns at the end that do not fill a window are dropped
    Shapes: x (n, height, width, channels),
        output (n, height // size, width // size, channels)
    Raises: ValueError if the size is outside
    Introduced in: mathematics/convolution
    """

    def forward(self, x, training=False):
        across, columns = _largest(self._parts(x, 2))
        a, rows = _largest(self._parts(across, 1))
        if training:
            self.keep(x.shape, columns, rows)
        return a

    def backward(self, da, input_gradient=True):
        """Of equal numbers the first, row by row, gets it all, as in TensorFlow."""
        shape, columns, rows = self.kept()
        d = self._blank((*shape[:2], *da.shape[2:]), da.dtype)
        _to_the_largest(da, self._parts(d, 1), rows)
        dx = self._blank(shape, da.dtype)
        _to_the_largest(d, self._parts(dx, 2), columns)
        return dx


def _largest(parts):
    """The largest, number by number; and for each later part, where it led so far."""
    best, led = parts[0], []
    for part in parts[1:]:
        led.append(part > best)
        best = np.maximum(best, part)
    return best, led


def _to_the_largest(d, parts, led):
    """Hand the gradient to the part that led last, which is the largest."""
    if not led:
        parts[0][...] = d
    for part, here in zip(parts[:0:-1], led[::-1], strict=True):
        share = d * here
        part[...] = share
        d = np.subtract(d, share, out=parts[0])


class AveragePooling2D(_Pooling):
    """The mean of each window, channel by channel.

    size, Shapes, Raises: as in `MaxPooling2D`
    Introduced in: mathematics/convolution
    """

    def forward(self, x, training=False):
        if training:
            self.keep(x.shape)
        a = sum(self._parts(sum(self._parts(x, 2)), 1))
        a /= math.prod(self.size)
        return a

    def backward(self, da, input_gradient=True):
        (shape,) = self.kept()
        dx = self._blank(shape, da.dtype)
        share = da / math.prod(self.size)
        for across in self._parts(dx, 2):
            for part in self._parts(across, 1):
                part[...] = share
        return dx


class Flatten(Layer):
    """Write each patient's numbers in one row, as Dense reads them.

    Shapes: x (n, height, width, channels), output (n, height * width * channels)
    Introduced in: mathematics/convolution
    """

    def build(self, shape, rng, dtype):
        return (math.prod(shape),)

    def forward(self, x, training=False):
        if training:
            self.keep(x.shape)
        return x.reshape(len(x), math.prod(x.shape[1:]))

    def backward(self, da, input_gradient=True):
        (shape,) = self.kept()
        return da.reshape(shape)


def _image(shape):
    if len(shape) != 3 or min(shape) < 1:
        raise ValueError(
            f"expected images as (height, width, channels), got {shape}: X[..., None] "
            "gives gray ones their channel"
        )
    return shape


def _room(shape, window):
    if shape[0] < window[0] or shape[1] < window[1]:
        raise ValueError(
            f"expected images of at least {window[0]} x {window[1]} pixels, one "
            f"window, got {shape}"
        )


def _whole(value):
    return hasattr(value, "__index__") and not isinstance(value, bool) and value >= 1


def _pair(layer, name, value):
    pair = value if isinstance(value, tuple | list) else (value, value)
    if len(pair) != 2 or not all(map(_whole, pair)):
        raise ValueError(
            f"{layer} needs {name}, a whole number >= 1 or a pair of them, "
            f"got {value!r}"
        )
    return tuple(map(int, pair))
