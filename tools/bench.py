"""How long the book's network takes, beside Keras, scikit-learn and bare products.

Every rival does the same work in one process, turn by turn, with the same number of
threads; a ratio is the median over the turns. Seconds depend on the machine and on
what else it does; ratios taken turn by turn do so much less.
"""

import json
import os
import statistics
import subprocess
import sys
import time
import warnings

from tools import run
from tools.chapters import ROOT

TURNS = 5
RIVALS = ("helpers.nn", "Keras", "scikit-learn", "bare products")


def bench():
    """Print one table for one thread and one for two."""
    for n_threads in (1, 2):
        environment = run.environment(TF_CPP_MIN_LOG_LEVEL="3")
        command = [sys.executable, "-m", "tools.bench", str(n_threads)]
        done = subprocess.run(
            command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, check=True
        )
        _table(n_threads, json.loads(done.stdout.splitlines()[-1]))


def _table(n_threads, works):
    print(f"\n{n_threads} thread{'s' * (n_threads > 1)}, median of {TURNS} turns")
    print(f"{'work':42}{'':16}{'seconds':>9}{'times ours':>12}{'from – to':>14}")
    for work, seconds in works.items():
        for rival in filter(seconds.get, RIVALS):
            ratios = [
                r / o for r, o in zip(seconds[rival], seconds[RIVALS[0]], strict=True)
            ]
            print(
                f"{work if rival == RIVALS[0] else '':42}{rival:16}"
                f"{statistics.median(seconds[rival]):9.3f}"
                f"{statistics.median(ratios):12.2f}"
                f"{min(ratios):8.2f} – {max(ratios):.2f}"
            )


def timed(rivals):
    """Each rival's seconds, turn by turn, after one turn that does not count.

    rivals: dict of name to function without arguments
    """
    seconds = {name: [] for name in rivals}
    for turn in range(-1, TURNS):
        for name, work in rivals.items():
            start = time.perf_counter()
            work()
            if turn >= 0:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def dense():
    """784-128-128-10, batches of 32, Adam, one epoch of 60,000 rows."""
    import keras
    import numpy as np
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.neural_network import MLPClassifier

    from helpers.nn.activations import ReLU
    from helpers.nn.layers import Dense
    from helpers.nn.losses import SparseCategoricalCrossEntropy
    from helpers.nn.optimizers import Adam
    from helpers.nn.training import Network

    warnings.simplefilter("ignore", ConvergenceWarning)  # one epoch is meant
    rng = np.random.default_rng(0)
    X = rng.random((60_000, 784), dtype=np.float32)
    y = rng.integers(0, 10, len(X))
    ours = Network(
        [Dense(128), ReLU(), Dense(128), ReLU(), Dense(10)],
        (784,),
        loss=SparseCategoricalCrossEntropy(),
        optimizer=Adam(),
        rng=rng,
    )
    layer = keras.layers.Dense
    theirs = keras.Sequential(
        [layer(128, activation="relu"), layer(128, activation="relu"), layer(10)]
    )
    theirs.compile(
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        optimizer="adam",
    )
    third = MLPClassifier((128, 128), batch_size=32, max_iter=1, random_state=0)
    W1, W2, W3 = (
        rng.random(size, dtype=np.float32)
        for size in ((784, 128), (128, 128), (128, 10))
    )
    a, out = X[:32, :128], X[:32, :10]
    a, out = np.ascontiguousarray(a), np.ascontiguousarray(out)

    def products():
        for start in range(0, len(X), 32):
            x = X[start : start + 32]
            x @ W1, a @ W2, a @ W3, x.T @ a, a.T @ a, a.T @ out, out @ W3.T, a @ W2.T

    return {
        "helpers.nn": lambda: ours.fit(X, y, n_epochs=1, batch_size=32),
        "Keras": lambda: theirs.fit(X, y, epochs=1, batch_size=32, verbose=0),
        "scikit-learn": lambda: third.fit(X, y),
        "bare products": products,
    }


def _pair(layers, their_layers, shape, n, n_classes=10):
    """One epoch of n rows by 32 with Adam, ours beside Keras's."""
    import keras
    import numpy as np

    from helpers.nn.losses import SparseCategoricalCrossEntropy
    from helpers.nn.optimizers import Adam
    from helpers.nn.training import Network

    rng = np.random.default_rng(0)
    X = rng.random((n, *shape), dtype=np.float32)
    y = rng.integers(0, n_classes, n)
    loss = SparseCategoricalCrossEntropy()
    ours = Network(layers, shape, loss=loss, optimizer=Adam(), rng=rng)
    theirs = keras.Sequential([keras.Input(shape), *their_layers])
    theirs.compile(
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        optimizer="adam",
    )
    return {
        "helpers.nn": lambda: ours.fit(X, y, n_epochs=1, batch_size=32),
        "Keras": lambda: theirs.fit(X, y, epochs=1, batch_size=32, verbose=0),
    }


def convolution():
    """The 32-64-64 convolution net on 28 x 28, 10,000 images."""
    from keras import layers

    from helpers.nn.activations import ReLU
    from helpers.nn.convolution import Conv2D, Flatten, MaxPooling2D
    from helpers.nn.layers import Dense

    ours, theirs = [], []
    for filters in (32, 64, 64):
        ours += [Conv2D(filters, 3), ReLU(), MaxPooling2D(2)]
        theirs += [layers.Conv2D(filters, 3, activation="relu"), layers.MaxPooling2D(2)]
    ours.pop(), theirs.pop()  # the third has no pooling
    ours += [Flatten(), Dense(64), ReLU(), Dense(10)]
    theirs += [layers.Flatten(), layers.Dense(64, activation="relu"), layers.Dense(10)]
    return _pair(ours, theirs, (28, 28, 1), 10_000)


def lstm():
    """An LSTM of 64 units over 100 steps of 16 features, 1,600 sequences."""
    from keras import layers

    from helpers.nn.layers import Dense
    from helpers.nn.recurrent import LSTM

    return _pair(
        [LSTM(64), Dense(10)], [layers.LSTM(64), layers.Dense(10)], (100, 16), 1_600
    )


def attention():
    """Self-attention of 4 heads over 64 places of 64 features, 3,200 sequences."""
    import keras
    from keras import layers

    from helpers.nn.attention import MeanOverTime, MultiHeadAttention
    from helpers.nn.layers import Dense

    class SelfAttention(layers.MultiHeadAttention):
        def call(self, x):
            return super().call(x, x)

        def build(self, shape):
            super().build(shape, shape)

        def compute_output_spec(self, x):
            return keras.KerasTensor(x.shape, x.dtype)

    return _pair(
        [MultiHeadAttention(4), MeanOverTime(), Dense(10)],
        [SelfAttention(4, 16), layers.GlobalAveragePooling1D(), layers.Dense(10)],
        (64, 64),
        3_200,
    )


WORKS = {
    "784-128-128-10, Adam, 60,000 rows by 32": dense,
    "convolution 32-64-64, 10,000 images": convolution,
    "LSTM 64, 100 steps, 1,600 sequences": lstm,
    "attention, 64 places of 64, 3,200": attention,
}


def _main(n_threads):
    import tensorflow as tf

    from helpers import runtime

    tf.config.threading.set_intra_op_parallelism_threads(n_threads)
    tf.config.threading.set_inter_op_parallelism_threads(n_threads)
    tf.config.set_visible_devices([], "GPU")  # threads are compared, not devices
    with runtime.threads(n_threads):
        works = {name: timed(work()) for name, work in WORKS.items()}
    print(json.dumps(works))


if __name__ == "__main__":
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    _main(int(sys.argv[1]))
