"""Words as vectors: a layer that looks them up, and two ways to learn them from text.

A word is a whole number from 1; 0 is padding, which stands where a sentence is over.

Introduced in: mathematics/word_embeddings
"""

import reprlib

import numpy as np

from helpers.nn.activations import sigmoid
from helpers.nn.layers import Layer, whole
from helpers.nn.optimizers import Adam

BATCH = 1024  # pairs of words to a step
MOST_WORDS = 2**24  # above it float32, in which a network hands words on, has gaps


def small_uniform(shape, rng):
    """Draw vectors so short that what is learned soon outweighs them.

    shape: (n_words, size)
    rng: numpy.random.Generator
    Returns: float64 array of that shape, uniform within +- 0.05, as in Keras
    Introduced in: mathematics/word_embeddings
    """
    return rng.uniform(-0.05, 0.05, shape)


class Embedding(Layer):
    """Look up the vector of each word; padding, word 0, is a row of zeros.

    The rows of zeros tell later layers where padding is, whatever stands in row 0 of
    W, which is not trained; a word whose vector is all 0 passes for padding too. It
    must be the first layer, as words have no gradient: `backward` returns None.

    n_words: int, 2 to 2**24; words are 0 to n_words - 1
    size: int, 1 or more, numbers in a vector
    initial: function (shape, rng) -> array, for W; `lambda shape, rng: vectors` starts
        from vectors that are there
    Shapes: x (n, time) whole numbers, in any dtype; W (n_words, size); output
        (n, time, size)
    Raises: ValueError if a count or the shape of W is wrong; in `forward`, if x holds
        anything but words
    Introduced in: mathematics/word_embeddings
    """

    def __init__(self, n_words, size, *, initial=small_uniform):
        super().__init__()
        _counts(n_words, size)
        self.n_words, self.size, self.initial = int(n_words), int(size), initial

    def __repr__(self):
        return f"Embedding({self.n_words}, {self.size})"

    def build(self, shape, rng, dtype):
        if len(shape) != 1:
            raise ValueError(f"expected (time,), one word a place, got {shape}")
        size = self.n_words, self.size
        W = self.initial(size, rng)
        if np.shape(W) != size:
            raise ValueError(
                f"expected first vectors of shape {size}, got {np.shape(W)}"
            )
        self.add("W", W, dtype)
        return (*shape, self.size)

    def words(self, x):
        """The whole numbers in x, as indices.

        x: array of numbers
        Returns: array of the same shape, of type intp
        Raises: ValueError if one is not a whole number from 0 to n_words - 1
        """
        wrong = ~((x >= 0) & (x < self.n_words) & (x == np.floor(x)))
        if wrong.any():
            raise ValueError(
                f"{self!r}: expected whole numbers from 0 to {self.n_words - 1}, "
                f"got {x[wrong][0]}"
            )
        return x.astype(np.intp)

    def forward(self, x, training=False):
        words = self.words(x)
        if training:
            self.keep(words)
        a = self.params["W"].take(words, axis=0)
        a[words == 0] = 0
        return a

    def backward(self, da, input_gradient=True):
        (words,) = self.kept()
        dW = self.grads["W"]
        dW[...] = _sum_rows(self.n_words, words, da)
        dW[0] = 0


def co_occurrences(sentences, n_words, window):
    """Count how often two words stand near each other, a far one for less.

    sentences: list of lists of whole numbers, 0 to n_words - 1; 0 is left out
    n_words: int, 2 to 2**24
    window: int, 1 or more; words d <= window places apart add 1 / d
    Returns: three (n,) arrays, word i, word j and their count > 0; (i, j) stands as
        well as (j, i), each once
    Raises: ValueError if an argument is not as above, or there is no such pair
    Source: Pennington et al. (2014), doi 10.3115/v1/D14-1162
    Introduced in: mathematics/word_embeddings
    """
    parts = _near(*_flat(sentences, n_words), window)
    key = np.concatenate([i.astype(np.int64) * n_words + j for _, i, j in parts])
    share = np.concatenate([np.full(len(i), 1 / d) for d, i, _ in parts])
    pairs, place = np.unique(key, return_inverse=True)
    return *np.divmod(pairs, n_words), np.bincount(place, share)


def skip_gram(
    sentences,
    n_words,
    size,
    *,
    window,
    n_negative,
    n_epochs,
    learning_rate,
    rng,
    progress=None,
):
    """Learn vectors that tell a word's neighbours from words drawn at random.

    sentences: list of lists of whole numbers, 0 to n_words - 1; 0 is left out
    n_words: int, 2 to 2**24
    size: int, 1 or more, numbers in a vector
    window: int, 1 or more, how many places apart neighbours stand at most
    n_negative: int, 1 or more, random words to each neighbour, drawn in proportion to
        their count to the power of 3/4
    n_epochs: int, 1 or more, how often each pair of neighbours is seen
    learning_rate: float > 0, of `Adam`; some 0.01
    rng: numpy.random.Generator
    progress: function (iterable, label) -> iterable, as `runtime.progress`
    Returns: (n_words, size) float32 array; zeros for padding and words without
        neighbours
    Raises: ValueError if an argument is not as above, or no two words are neighbours;
        ArithmeticError if the vectors do not stay finite
    Source: Mikolov et al. (2013), doi 10.48550/arXiv.1310.4546
    Introduced in: mathematics/word_embeddings
    """
    optimizer = _checked(n_words, size, n_epochs, learning_rate, rng)
    whole(n_negative, "n_negative")
    words, sentence = _flat(sentences, n_words)
    parts = _near(words, sentence, window)
    centre = np.concatenate([i for _, i, _ in parts])
    near = np.concatenate([j for _, _, j in parts])
    share = np.bincount(words, minlength=n_words) ** 0.75
    below = share.cumsum() / share.sum()

    def gradient(both, rows):
        noise = below.searchsorted(rng.random((len(rows), n_negative)), side="right")
        return skip_gram_loss(both, centre[rows], near[rows], noise)[1]

    both = _first((2, n_words, size), centre, rng)
    _descend(both, gradient, len(centre), n_epochs, optimizer, rng, progress)
    return both[0]


def skip_gram_loss(both, centre, near, noise):
    """How badly the vectors tell neighbours from noise, and which way is better.

    Each pair costs -log sigmoid(v . u) for the neighbour's u, and -log sigmoid(-v . u)
    for each word of noise.

    both: (2, n_words, size) float array; [0] the v of words in the centre, [1] the u
        of words near it
    centre, near: (n,) arrays of words, pairs of neighbours
    noise: (n, n_negative) array of words
    Returns: float, the mean over the pairs, 0 best; and its gradient, shaped as `both`
    Source: Mikolov et al. (2013), doi 10.48550/arXiv.1310.4546
    Introduced in: mathematics/word_embeddings
    """
    words = np.column_stack([near, noise])
    v, u = both[0][centre], both[1][words]
    z = (u @ v[:, :, None])[:, :, 0]
    z[:, 0] *= -1  # now each costs log(1 + e^z)
    slope = sigmoid(z) / len(z)
    slope[:, 0] *= -1
    n_words = both.shape[1]
    dv = _sum_rows(n_words, centre, (slope[:, None] @ u)[:, 0])
    du = _sum_rows(n_words, words, slope[:, :, None] * v[:, None])
    return float(np.logaddexp(0, z).sum() / len(z)), np.stack([dv, du])


def glove(
    sentences,
    n_words,
    size,
    *,
    window,
    n_epochs,
    learning_rate,
    rng,
    x_max=100,
    progress=None,
):
    """Learn vectors whose products are the logarithms of how often words meet.

    sentences: list of lists of whole numbers, 0 to n_words - 1; 0 is left out
    n_words: int, 2 to 2**24
    size: int, 1 or more, numbers in a vector
    window: int, 1 or more, as in `co_occurrences`
    n_epochs: int, 1 or more, how often each count is seen
    learning_rate: float > 0, of `Adam`; some 0.01
    rng: numpy.random.Generator
    x_max: float > 0, the count from which on a pair weighs 1
    progress: function (iterable, label) -> iterable, as `runtime.progress`
    Returns: (n_words, size) float32 array, the sum of both vectors of each word; zeros
        for padding and words without neighbours
    Raises: ValueError if an argument is not as above, or no two words are neighbours;
        ArithmeticError if the vectors do not stay finite
    Source: Pennington et al. (2014), doi 10.3115/v1/D14-1162
    Introduced in: mathematics/word_embeddings
    """
    optimizer = _checked(n_words, size, n_epochs, learning_rate, rng)
    if not 0 < x_max < np.inf:
        raise ValueError(f"x_max must be a finite number above 0, got {x_max!r}")
    i, j, count = co_occurrences(sentences, n_words, window)

    def gradient(both, rows):
        return glove_loss(both, i[rows], j[rows], count[rows], x_max)[1]

    both = _first((2, n_words, size + 1), i, rng)
    _descend(both, gradient, len(i), n_epochs, optimizer, rng, progress)
    return both[0, :, :-1] + both[1, :, :-1]


def glove_loss(both, i, j, count, x_max=100):
    """How far products of vectors are from log counts, and which way is better.

    Each pair costs (v . u + b + c - log count)^2, weighted by (count / x_max)^(3/4),
    at most 1.

    both: (2, n_words, size + 1) float array; [0] the v of each word and, last, its b;
        [1] the u and c
    i, j: (n,) arrays of words
    count: (n,) array, above 0
    x_max: float > 0
    Returns: float, the mean over the pairs, 0 best; and its gradient, shaped as `both`
    Source: Pennington et al. (2014), doi 10.3115/v1/D14-1162
    Introduced in: mathematics/word_embeddings
    """
    v, u = both[0][i], both[1][j]
    gap = (v[:, :-1] * u[:, :-1]).sum(1) + v[:, -1] + u[:, -1] - np.log(count)
    weight = np.minimum(1, (count / x_max) ** 0.75)
    slope = ((2 / len(i)) * weight * gap).astype(both.dtype)[:, None]
    v[:, -1] = u[:, -1] = 1  # the slopes of b and c
    parts = (
        _sum_rows(both.shape[1], i, slope * u),
        _sum_rows(both.shape[1], j, slope * v),
    )
    return float((weight * gap * gap).mean()), np.stack(parts)


def neighbours(vectors, word, n):
    """Find the words whose vectors point most nearly the same way.

    vectors: (n_words, size) float array; a row of zeros is no vector
    word: int, 1 to n_words - 1
    n: int, 1 or more, how many; fewer where there are not so many
    Returns: two arrays, the words, nearest first, and their cosines, -1 to 1; neither
        padding nor the word itself
    Raises: ValueError if an argument is not as above, or the word has no vector
    Introduced in: mathematics/word_embeddings
    """
    vectors = np.asarray(vectors, dtype=float)
    whole(n, "n")
    if vectors.ndim != 2 or not np.isfinite(vectors).all():
        raise ValueError(
            f"vectors must be finite, (n_words, size), got shape {vectors.shape}"
        )
    length = np.linalg.norm(vectors, axis=1)
    whole(word, "word")
    if word >= len(vectors) or not length[word]:
        raise ValueError(f"word {word} has no vector: it is not among the words")
    others = np.flatnonzero(length)
    others = others[(others != 0) & (others != word)]
    cosine = vectors[others] @ vectors[word] / length[others] / length[word]
    best = np.argsort(-cosine, kind="stable")[:n]
    return others[best], cosine[best]


def _sum_rows(n_words, words, rows):
    """For each word, the sum of its rows: (n_words, size)."""
    size = rows.shape[-1]
    places = words[..., None] * size + np.arange(size)
    total = np.zeros(n_words * size, rows.dtype)
    # on one axis this takes NumPy's fast way, several times that over rows
    np.add.at(total, places.ravel(), rows.ravel())
    return total.reshape(n_words, size)


def _first(shape, words, rng):
    """First vectors, of a length near 1/3; zeros for words that are not in `words`."""
    both = rng.uniform(-0.5, 0.5, shape) / np.sqrt(shape[-1])
    both[:, np.bincount(words, minlength=shape[1]) == 0] = 0
    return both.astype(np.float32)


def _descend(both, gradient, n, n_epochs, optimizer, rng, progress):
    """Move both tables against gradient(both, rows), n rows an epoch, in place."""
    epochs = range(n_epochs)
    for _ in epochs if progress is None else progress(epochs, "epochs"):
        order = rng.permutation(n)
        for start in range(0, n, BATCH):
            rows = order[start : start + BATCH]
            optimizer.step(both.reshape(-1), gradient(both, rows).reshape(-1))
        if not np.isfinite(both).all():
            raise ArithmeticError(
                f"training diverged: lower the learning rate, {optimizer.learning_rate}"
            )


def _checked(n_words, size, n_epochs, learning_rate, rng):
    """The optimizer, if all these can be used."""
    _counts(n_words, size)
    whole(n_epochs, "n_epochs")
    if not isinstance(rng, np.random.Generator):
        raise ValueError(
            f"rng must be made first, as in numpy.random.default_rng(0), got {rng!r}"
        )
    return Adam(learning_rate)


def _flat(sentences, n_words):
    """All words in a row, without padding, and the number of each one's sentence."""
    _counts(n_words)
    rows = [np.asarray(sentence) for sentence in sentences]
    for place, row in enumerate(rows):
        whole = row.ndim == 1 and (row.dtype.kind in "iu" or not row.size)
        if not whole or (row.size and not (0 <= row.min() and row.max() < n_words)):
            raise ValueError(
                f"sentence {place}: expected a list of whole numbers from 0 to "
                f"{n_words - 1}, got {reprlib.repr(sentences[place])}"
            )
    words = np.concatenate([np.empty(0, int), *rows]).astype(int)
    sentence = np.repeat(np.arange(len(rows)), [row.size for row in rows])
    return words[words > 0], sentence[words > 0]


def _near(words, sentence, window):
    """For each distance d up to the window: d, and words i and j that far apart."""
    whole(window, "window")
    parts = []
    for d in range(1, min(window, len(words) - 1) + 1):
        same = sentence[d:] == sentence[:-d]
        i, j = words[:-d][same], words[d:][same]
        parts.append((d, np.concatenate([i, j]), np.concatenate([j, i])))
    if not any(len(i) for _, i, _ in parts):
        raise ValueError("expected sentences of two words or more, got none")
    return parts


def _counts(n_words, size=1):
    whole(n_words, "n_words", 2)
    whole(size, "size")
    if n_words > MOST_WORDS:
        raise ValueError(f"n_words must be at most {MOST_WORDS}, got {n_words}")
