"""A network that is trained: layers, a loss and an optimizer brought together.

Introduced in: mathematics/backpropagation
"""

import copy
import math
from collections.abc import Mapping

import numpy as np

from helpers.nn import storage
from helpers.nn.activations import Sigmoid, Softmax
from helpers.nn.layers import whole
from helpers.nn.losses import BinaryCrossEntropy, Loss
from helpers.nn.network import Sequential, flatten, named, walk
from helpers.nn.optimizers import Optimizer


class Network(Sequential):
    """Layers in a row that learn from patients.

    layers: list of `Layer`, of this network alone
    input_shape: tuple, of one patient's input; (30,) for 30 measurements
    loss: `Loss`
    optimizer: `Optimizer`, for this network alone
    rng: numpy.random.Generator; draws first weights, order of patients, dropout
    dtype: numpy.float32 for speed, numpy.float64 for checks
    Raises: ValueError if the parts do not fit together, naming the layer
    Introduced in: mathematics/backpropagation
    """

    def __init__(self, layers, input_shape, *, loss, optimizer, rng, dtype=np.float32):
        super().__init__(layers)
        _expect(loss, Loss, "loss", "losses.MeanSquaredError()")
        _expect(optimizer, Optimizer, "optimizer", "optimizers.Adam()")
        _expect(rng, np.random.Generator, "rng", "numpy.random.default_rng(0)")
        self.dtype = np.dtype(dtype).type
        if self.dtype not in (np.float32, np.float64):
            raise ValueError(f"dtype must be float32 or float64, got {dtype}")
        self.loss, self.optimizer, self.rng = loss, optimizer, rng
        self.input_shape = _shape(input_shape)
        self._own_layers()
        before = rng.bit_generator.state
        try:
            self.output_shape = self.build(self.input_shape, rng, self.dtype)
            self._fits_loss()
        except ValueError:
            rng.bit_generator.state = before
            raise
        self.theta, self.gradient = flatten(self)
        _keep_freed_memory()
        self._running = list(named(self, "state").values())
        for _, inner in walk(self):
            inner.network_made = True

    def _own_layers(self):
        for name, inner in walk(self):
            if hasattr(inner, "network_made"):
                raise ValueError(
                    f"layer {name}, counted from 0, {inner!r}, already belongs to a "
                    "network, whose weights it would lose: make it anew"
                )

    def _fits_loss(self):
        last, p_wanted = self.layers[-1], not self.loss.from_logits
        while isinstance(last, Sequential):
            last = last.layers[-1]
        ends = isinstance(last, Sigmoid | Softmax)
        if ends and self.loss.from_logits:
            raise ValueError(
                f"layer {len(self.layers)}, {last!r}, already makes risks and "
                f"{self.loss!r} would bend them again: leave the layer out, which is "
                "more exact, or say from_logits=False"
            )
        if hasattr(self.loss, "accuracy") and p_wanted and not ends:
            raise ValueError(
                f"{self.loss!r} expects risks and layer {len(self.layers)}, {last!r}, "
                "makes any number: say from_logits=True, or end with Sigmoid or Softmax"
            )
        if not self.output_shape or (
            hasattr(self.loss, "accuracy")
            and not isinstance(self.loss, BinaryCrossEntropy)
            and self.output_shape[-1] < 2
        ):
            raise ValueError(
                f"{self.loss!r} needs two outputs or more, one a class, and layer "
                f"{len(self.layers)}, {last!r}, makes {self.output_shape}: for one "
                "risk use BinaryCrossEntropy"
            )

    def __deepcopy__(self, memo):
        """A copy whose layers look into its own `theta` again, so that it can learn."""
        twin = copy.copy(self)
        memo[id(self)] = twin
        vars(twin).update(copy.deepcopy(vars(self), memo))
        twin.theta, twin.gradient = flatten(twin)
        return twin

    def count_params(self):
        """How many numbers training changes."""
        return self.theta.size

    def train_on_batch(self, X, y, weights=None):
        """One step: forward, backward, and the optimizer's move.

        X: (n, *input_shape) array
        y: targets for the loss
        weights: (n,) array or None, how much each patient counts
        Returns: float, the loss before the step
        Raises: ValueError if anything does not fit; ArithmeticError if the loss or its
            gradient is not finite, and then no step is made
        """
        X, y = self._checked(X, y)
        weights = self._checked_weights(weights, len(X))
        return self._step(np.asarray(X, self.dtype), y, weights)[0]

    def loss_and_gradients(self, X, y, weights=None):
        """Forward and backward without a step; fills `grads` of every layer.

        X, y, weights: as in `train_on_batch`
        Returns: float, the loss with its penalties
        Raises: ValueError if anything does not fit
        """
        X, y = self._checked(X, y)
        weights = self._checked_weights(weights, len(X))
        return self._forward_backward(np.asarray(X, self.dtype), y, weights)[0]

    def _forward_backward(self, x, y, weights):
        output = self.forward(x, training=True)
        value, gradient = self.loss.value_and_gradient(y, output, weights)
        self.backward(gradient, input_gradient=False)
        return value + self.penalty(), output

    def _step(self, x, y, weights):
        before = [array.copy() for array in self._running]
        with np.errstate(over="ignore", invalid="ignore"):  # the sum below tells
            value, output = self._forward_backward(x, y, weights)
            size = float(self.gradient @ self.gradient)
            total = value + size + sum(float(array.sum()) for array in self._running)
        if not math.isfinite(total):
            for array, kept in zip(self._running, before, strict=True):
                array[...] = kept
            raise ArithmeticError(
                f"training diverged: at step {self.optimizer.n_steps + 1} the loss is "
                f"{value:g}, its gradient {math.sqrt(size):g} long; the learning rate, "
                f"{self.optimizer.learning_rate:g}, is too large for these inputs: "
                "lower it, or scale the inputs"
            )
        self.optimizer.step(self.theta, self.gradient)
        return value, output

    def fit(
        self,
        X,
        y,
        *,
        n_epochs,
        batch_size=32,
        validation=None,
        patience=None,
        class_weight=None,
        progress=None,
    ):
        """Train in batches, the patients in a new random order each epoch.

        X: (n, *input_shape) array; a float32 one is read where it is, never copied
        y: targets for the loss
        n_epochs: int, 1 or more, how often each patient is seen
        batch_size: int, 1 or more; the last batch of an epoch holds the rest
        validation: (X_val, y_val) or None, judged after each epoch
        patience: int or None; stop after so many epochs in which the validation loss
            did not fall below its lowest, and go back to the weights of that one
        class_weight: dict of class number to weight, or None for 1 each
        progress: function (iterable, label) -> iterable, as `runtime.progress`
        Returns: dict of lists, one value an epoch: "loss", the mean over its batches
            while the weights moved, "accuracy" if the loss has one, and both with
            "val_" in front
        Raises: ValueError if anything does not fit, before anything is computed;
            ArithmeticError if the loss or its gradient is not finite; the weights
            are then those before that step
        """
        X, y = self._checked(X, y)
        whole(n_epochs, "n_epochs")
        whole(batch_size, "batch_size")
        weights = None if class_weight is None else self._weights(y, class_weight)
        stop = _Patience(patience, validation)
        if validation is not None:
            validation = self._checked(*_pair(validation), "validation ")
        history = {}
        epochs = range(n_epochs)
        for _ in epochs if progress is None else progress(epochs, "epochs"):
            row = self._epoch(X, y, weights, batch_size)
            if validation is not None:
                judged = self._evaluate(*validation)
                row |= {f"val_{name}": value for name, value in judged.items()}
            for name, value in row.items():
                history.setdefault(name, []).append(value)
            if stop.now(row, self):
                break
        stop.restore(self)
        return history

    def _epoch(self, X, y, weights, batch_size):
        order = self.rng.permutation(len(X))
        sums = {}
        for start in range(0, len(X), batch_size):
            rows = order[start : start + batch_size]
            x = X[rows].astype(self.dtype, copy=False)
            chosen = None if weights is None else weights[rows]
            value, output = self._step(x, y[rows], chosen)
            self._add(sums, value, y[rows], output)
        return {name: float(total / len(X)) for name, total in sums.items()}

    def _add(self, sums, value, y, output):
        sums["loss"] = sums.get("loss", 0) + value * len(y)
        if hasattr(self.loss, "accuracy"):
            right = self.loss.accuracy(y, output) * len(y)
            sums["accuracy"] = sums.get("accuracy", 0) + right

    def predict(self, X, batch_size=1024):
        """Predict for each patient, with dropout off and running means.

        X: (n, *input_shape) array
        batch_size: int, 1 or more, how many at once; the answer is the same
        Returns: (n, *output_shape) array, (n,) if there is one output: risks where
            the loss is a cross-entropy, from logits or not; else the output itself
        Raises: ValueError if X does not fit
        """
        X = self._checked_inputs(X)
        whole(batch_size, "batch_size")
        outputs = [output for _, output in self._outputs(X, batch_size)]
        p = self.loss.prediction(np.concatenate(outputs))
        return p[:, 0] if self.output_shape == (1,) else p

    def _outputs(self, X, batch_size):
        for start in range(0, len(X), batch_size):
            rows = slice(start, start + batch_size)
            yield rows, self.forward(X[rows].astype(self.dtype, copy=False))

    def evaluate(self, X, y):
        """Judge on patients that were not trained on.

        X, y: as in `fit`
        Returns: dict with "loss", penalties included, and "accuracy" if the loss has it
        Raises: ValueError if X or y do not fit
        """
        return self._evaluate(*self._checked(X, y))

    def _evaluate(self, X, y):
        sums = {}
        for rows, output in self._outputs(X, 1024):
            self._add(sums, self.loss(y[rows], output), y[rows], output)
        judged = {name: float(total / len(X)) for name, total in sums.items()}
        return judged | {"loss": judged["loss"] + self.penalty()}

    def _checked(self, X, y, what=""):
        X = self._checked_inputs(X, what)
        try:
            y = self.loss.targets(y, self.output_shape, self.dtype)
        except ValueError as error:
            place, last = len(self.layers), self.layers[-1]
            raise ValueError(f"{what}y for layer {place}, {last!r}: {error}") from error
        if len(X) != len(y):
            raise ValueError(
                f"{what}X and y must have one row a patient each, got {len(X)} rows "
                f"and {len(y)} targets"
            )
        return X, y

    def _checked_inputs(self, X, what=""):
        first = self.layers[0]
        try:
            X = np.asarray(X)
        except ValueError as error:
            raise ValueError(
                f"layer 1, {first!r}: expected {what}X with rows of one shape: {error}"
            ) from error
        if X.dtype.kind not in "buif":
            raise ValueError(
                f"layer 1, {first!r}: expected numbers, got {what}X of type {X.dtype}: "
                "encode text and categories as numbers first"
            )
        if X.shape[1:] != self.input_shape or len(X) == 0:
            raise ValueError(
                f"layer 1, {first!r}: expected {what}X of shape "
                f"{('n', *self.input_shape)} with n of 1 or more, got {X.shape}: "
                f"{_hint(X, self.input_shape)}"
            )
        most = np.finfo(self.dtype).max
        if not (-most <= X.min() and X.max() <= most):  # NaN compares false
            rows = [i for i, row in enumerate(X) if not (np.abs(row) <= most).all()]
            raise ValueError(
                f"layer 1, {first!r}: expected finite numbers, got NaN, infinity or "
                f"more than {most:.0e} in {len(rows)} rows of {what}X, the first in "
                f"row {rows[0]}: fill them or leave these patients out"
            )
        if hasattr(first, "words"):  # an Embedding refuses what is no word of its own
            first.words(X)
        return X

    def _checked_weights(self, weights, n):
        if weights is None:
            return None
        weights = np.asarray(weights)
        if (
            weights.shape != (n,)
            or weights.dtype.kind not in "buif"
            or not (0 <= weights.min() and weights.max() < math.inf)
        ):
            raise ValueError(
                f"weights must be {n} finite numbers of 0 or more, one a patient, got "
                f"shape {weights.shape}, type {weights.dtype}: {weights}"
            )
        return weights.astype(self.dtype)

    def _weights(self, y, class_weight):
        if not isinstance(class_weight, Mapping):
            raise ValueError(
                "class_weight must be a dict such as {0: 1, 1: 5}, "
                f"got {class_weight!r}"
            )
        classes = _classes(self.loss, y)
        known = np.unique(classes)
        missing = [int(k) for k in known if k not in class_weight]
        wrong = {k: w for k, w in class_weight.items() if not 0 <= w < math.inf}
        if missing or wrong:
            raise ValueError(
                "class_weight needs a weight of 0 or more for each class in y, "
                f"{known.tolist()}; missing: {missing}, not usable: {wrong}"
            )
        table = np.array([class_weight.get(k, 0) for k in range(int(known[-1]) + 1)])
        return table[classes].astype(self.dtype)

    def _held(self):
        """All that training changes, by name: parameters and running means."""
        return named(self, "params") | named(self, "state")

    def save(self, path):
        """Write the weights, all at once or not at all.

        path: str or Path, of the .npz file; one that is there is replaced
        Raises: OSError if it cannot be written; a former file is then still whole
        """
        storage.write(path, self._held())

    def load(self, path):
        """Read weights that a network of the same layers saved.

        path: str or Path, of a file that `save` wrote
        Raises: OSError if it cannot be read; ValueError if it is damaged, or of
            another network; this one then keeps the weights it has
        """
        arrays, found = self._held(), storage.read(path)
        wanted = {name: array.shape for name, array in arrays.items()}
        got = {name: array.shape for name, array in found.items()}
        if wanted != got:
            differ = [
                f"{name}: expected {wanted.get(name, 'none')}, "
                f"got {got.get(name, 'none')}"
                for name in sorted(wanted.keys() | got.keys())
                if wanted.get(name) != got.get(name)
            ]
            raise ValueError(
                f"{path} was saved by another network than {self!r}; "
                + "; ".join(differ[:3])
            )
        for name, array in arrays.items():
            array[...] = found[name]


def _keep_freed_memory():
    """Have one batch's memory kept for the next: up to half the time of large layers.

    On Linux the C library hands arrays of 128 kB or more back to the system at once,
    until it has seen one of up to 32 MB freed; this one is not even touched.
    """
    np.empty(2**25 - 2**16, np.uint8)


def _expect(value, kind, name, example):
    if not isinstance(value, kind):
        raise ValueError(f"{name} must be made first, as in {example}; got {value!r}")


def _shape(input_shape):
    if not isinstance(input_shape, tuple | list) or not input_shape:
        raise ValueError(
            "input_shape must be the shape of one patient's input, as (30,) for 30 "
            f"measurements; got {input_shape!r}"
        )
    for size in input_shape:
        whole(size, "each size in input_shape")
    return tuple(map(int, input_shape))


def _pair(validation):
    if not isinstance(validation, tuple | list) or len(validation) != 2:
        raise ValueError(
            "validation must be a pair, (X_val, y_val), got "
            f"{type(validation).__name__}"
        )
    return validation


def _hint(X, shape):
    if X.ndim and len(X) and math.prod(X.shape[1:]) == math.prod(shape):
        return f"X.reshape(len(X), *{shape}) would fit"
    if X.shape == shape:
        return "one patient is X[None], a batch of one"
    return "look at X.shape"


def _classes(loss, y):
    """The class number of each patient, for `class_weight`."""
    if not hasattr(loss, "accuracy"):
        raise ValueError(f"class_weight needs a loss for classes, got {loss!r}")
    if y.dtype.kind in "iu":
        classes = y
    elif isinstance(loss, BinaryCrossEntropy):
        classes = (y[:, 0] > 0.5).astype(np.intp)
    else:
        classes = y.argmax(axis=-1)
    if classes.ndim != 1 or (isinstance(loss, BinaryCrossEntropy) and y.shape[1] != 1):
        raise ValueError(f"class_weight needs one class a patient, got y {y.shape}")
    return classes


class _Patience:
    """Remembers the epoch of the lowest validation loss, and when to stop waiting."""

    def __init__(self, patience, validation):
        self.patience, self.best, self.waited, self.arrays = patience, math.inf, 0, None
        if patience is None:
            return
        whole(patience, "patience")
        if validation is None:
            raise ValueError("patience needs validation=(X_val, y_val) to watch")

    def now(self, row, network):
        if self.patience is None:
            return False
        if row["val_loss"] < self.best:
            self.best, self.waited = row["val_loss"], 0
            self.arrays = {n: array.copy() for n, array in network._held().items()}
        else:
            self.waited += 1
        return self.waited >= self.patience

    def restore(self, network):
        if self.arrays is not None:
            for name, array in network._held().items():
                array[...] = self.arrays[name]
