"""Losses: how wrong a prediction is, and in which direction it should move.

A loss is a mean over the numbers of a batch, so its size does not depend on how many
patients the batch has. `value_and_gradient` gives both at once.

Introduced in: mathematics/losses
"""

import math

import numpy as np

from helpers.nn.activations import sigmoid, softmax


class Loss:
    """What all losses have in common.

    from_logits: True if the network ends before its sigmoid or softmax; the loss then
        applies it, which is exact where a rounded risk of 0 or 1 is not
    Introduced in: mathematics/losses
    """

    from_logits = False

    def __repr__(self):
        return f"{type(self).__name__}()"

    def __call__(self, y, output, weights=None):
        """The loss alone.

        y: targets, as `targets` returns them
        output: (n, *shape) floats, the network's
        weights: (n,) array or None, how much each patient counts
        Returns: float, 0 best
        """
        return self.value_and_gradient(y, output, weights)[0]

    def targets(self, y, shape, dtype):
        """Check the targets against a network's output, before anything is computed.

        y: array of n targets
        shape: tuple, of one patient's output
        dtype: of the network
        Returns: array that `value_and_gradient` takes
        Raises: ValueError if shape, type or range do not fit
        """
        y = _numbers(y, self)
        if y.shape[1:] != shape:
            if shape != (1,) or y.ndim != 1:
                raise ValueError(
                    f"{self!r} compares outputs of shape {shape} with targets of the "
                    f"same shape, got y of shape {y.shape}: expected {('n', *shape)}"
                )
            y = y[:, None]
        return y.astype(dtype)

    def value_and_gradient(self, y, output, weights=None):
        """The mean loss of a batch, and its gradient by the output.

        y: targets, as `targets` returns them
        output: (n, *shape) floats, the network's
        weights: (n,) array or None, how much each patient counts; the sum is still
            divided by the number of patients, as Keras does
        Returns: float, 0 best; and an array of the output's shape
        Raises: ValueError if weights are not one number of 0 or more for each patient
        """
        losses, slopes = self._each(y, output)
        if weights is not None:
            weights = _one_each(weights, len(losses))
            losses = losses * _column(weights, losses)
            slopes = slopes * _column(weights, slopes)
        return float(losses.sum()) / losses.size, slopes / output.dtype.type(
            losses.size
        )

    def prediction(self, output):
        """What the network predicts: its output, or the risk if that is a logit."""
        return output


def _numbers(y, loss):
    """Targets as a finite array, with at least one patient."""
    y = np.asarray(y)
    if y.ndim == 0 or y.size == 0 or y.dtype.kind not in "buif":
        raise ValueError(
            f"{loss!r} needs one target or more, as numbers, got an array of shape "
            f"{y.shape} and type {y.dtype}"
        )
    if not (np.isfinite(np.min(y)) and np.isfinite(np.max(y))):
        raise ValueError(
            f"{loss!r} got targets that are NaN or infinite, the first in row "
            f"{np.argwhere(~np.isfinite(y))[0][0]}: leave these patients out"
        )
    return y


def _one_each(weights, n):
    weights = np.asarray(weights)
    if weights.shape != (n,) or not ((weights >= 0) & (weights < math.inf)).all():
        raise ValueError(
            f"weights must be one finite number of 0 or more for each of {n} patients, "
            f"got shape {weights.shape}, the first {weights.ravel()[:3]}"
        )
    return weights


def _column(weights, values):
    return weights.reshape(-1, *[1] * (values.ndim - 1)).astype(values.dtype)


class MeanSquaredError(Loss):
    """Mean of (output - y)^2. Introduced in: mathematics/losses"""

    def _each(self, y, output):
        gap = output - y
        return gap * gap, 2 * gap


class MeanAbsoluteError(Loss):
    """Mean of |output - y|; slope 0 at equality. Introduced in: mathematics/losses"""

    def _each(self, y, output):
        gap = output - y
        return np.abs(gap), np.sign(gap)


class _CrossEntropy(Loss):
    def __init__(self, from_logits=True):
        self.from_logits = from_logits

    def __repr__(self):
        return f"{type(self).__name__}(from_logits={self.from_logits})"


class BinaryCrossEntropy(_CrossEntropy):
    """-ln p where y = 1, -ln(1 - p) where y = 0.

    from_logits: True for outputs z with p = sigmoid(z); False for p itself, which is
        kept from 0 and 1 by 1e-7, as Keras does
    Introduced in: mathematics/losses
    """

    def targets(self, y, shape, dtype):
        y = super().targets(y, shape, dtype)
        if y.min() < 0 or y.max() > 1:
            raise ValueError(
                f"{self!r} needs targets from 0 to 1, got {y.min():g} to {y.max():g}: "
                "1 means that the event happened"
            )
        return y

    def _each(self, y, output):
        if self.from_logits:
            losses = (
                np.maximum(output, 0) - output * y + np.log1p(np.exp(-np.abs(output)))
            )
            return losses, sigmoid(output) - y
        p = _clip(output)
        losses = -(y * np.log(p) + (1 - y) * np.log(1 - p))
        return losses, np.where(p == output, (p - y) / (p * (1 - p)), 0)

    def prediction(self, output):
        return sigmoid(output) if self.from_logits else output

    def accuracy(self, y, output):
        """The share of outputs on the right side of a risk of one half."""
        return float(((self.prediction(output) > 0.5) == (y > 0.5)).mean())


def _clip(p):
    return np.clip(p, p.dtype.type(1e-7), 1 - p.dtype.type(1e-7))


class CategoricalCrossEntropy(_CrossEntropy):
    """-ln of the share given to the true class; targets are rows of shares.

    from_logits: True for outputs z with p = softmax(z); False for p itself, scaled to
        sum 1 and kept from 0 and 1 by 1e-7, as Keras does
    Introduced in: mathematics/losses
    """

    def targets(self, y, shape, dtype):
        y = super().targets(y, shape, dtype)
        wrong = (y < 0).any(axis=-1) | ~np.isclose(y.sum(axis=-1), 1, atol=1e-5)
        if wrong.any():
            raise ValueError(
                f"{self!r} needs rows of shares that sum to 1, as 0 0 1 for the third "
                f"of three classes, got for example {y[wrong][0]}: for class numbers "
                "use SparseCategoricalCrossEntropy"
            )
        return y

    def _each(self, y, output):
        total = y.sum(axis=-1, keepdims=True)
        if self.from_logits:
            shifted = output - output.max(axis=-1, keepdims=True)
            log_sum = np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
            return (y * (log_sum - shifted)).sum(-1), total * softmax(output) - y
        size = output.sum(axis=-1, keepdims=True)
        share = output / size
        p = _clip(share)
        slope = np.where(p == share, -y / p, 0)
        back = (slope - (slope * share).sum(axis=-1, keepdims=True)) / size
        return -(y * np.log(p)).sum(-1), back

    def prediction(self, output):
        return softmax(output) if self.from_logits else output

    def accuracy(self, y, output):
        """The share of rows whose largest output is that of the true class."""
        return float((output.argmax(axis=-1) == y.argmax(axis=-1)).mean())


class SparseCategoricalCrossEntropy(CategoricalCrossEntropy):
    """`CategoricalCrossEntropy` with targets as class numbers, 0 to n_classes - 1.

    from_logits: as there
    Introduced in: mathematics/losses
    """

    def targets(self, y, shape, dtype):
        y, n_classes = _numbers(y, self), shape[-1]
        if y.shape[1:] != shape[:-1]:
            raise ValueError(
                f"{self!r} needs one class number for each row of outputs {shape}: "
                f"expected y of shape {('n', *shape[:-1])}, got {y.shape}"
            )
        if y.min() < 0 or y.max() >= n_classes or (y.astype(np.intp) != y).any():
            raise ValueError(
                f"{self!r} needs whole class numbers from 0 to {n_classes - 1}, since "
                f"the network has {n_classes} outputs; got {y.min():g} to {y.max():g}"
            )
        return y.astype(np.intp)

    def _each(self, y, output):
        if not self.from_logits:
            one_hot = np.eye(output.shape[-1], dtype=output.dtype)[y]
            return super()._each(one_hot, output)
        p = output.reshape(-1, output.shape[-1])
        # in rows even if p came in columns, so that p.ravel() below is a view
        p = np.subtract(p, np.maximum.reduce(p, axis=1, keepdims=True), order="C")
        true = np.arange(0, p.size, p.shape[1]) + y.ravel()
        losses = p.take(true)
        np.exp(p, out=p)
        total = np.add.reduce(p, axis=1, keepdims=True)
        losses = np.log(total[:, 0]) - losses
        p /= total
        p.ravel()[true] -= 1
        return losses.reshape(y.shape), p.reshape(output.shape)

    def accuracy(self, y, output):
        """The share of rows whose largest output is that of the true class."""
        return np.count_nonzero(output.argmax(axis=-1) == y) / y.size


class _Regularizer:
    """A price on large weights, added to the loss.

    strength: float, 0 or more
    Raises: ValueError if it is below 0 or not finite
    """

    def __init__(self, strength):
        if not 0 <= strength < math.inf:
            raise ValueError(
                f"{type(self).__name__} needs a strength of 0 or more, got {strength}"
            )
        self.strength = float(strength)


class L1(_Regularizer):
    """strength times the sum of |w|: draws weights to 0, around which steps tremble.

    strength: float, 0 or more
    Raises: ValueError if it is below 0 or not finite
    Introduced in: mathematics/losses
    """

    def __call__(self, W):
        return self.strength * float(np.abs(W).sum())

    def gradient(self, W):
        return self.strength * np.sign(W)


class L2(_Regularizer):
    """strength times the sum of w^2 (no half, as in Keras): draws weights towards 0.

    strength: float, 0 or more
    Raises: ValueError if it is below 0 or not finite
    Introduced in: mathematics/losses
    """

    def __call__(self, W):
        return self.strength * float(np.vdot(W, W))

    def gradient(self, W):
        return 2 * self.strength * W
