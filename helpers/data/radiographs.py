"""Simulated chest radiographs, which stand in for images that nobody served.

Introduced in: keras/xray_diagnosis
"""

import numpy as np

SEED = 2018
SHARED = 8  # images that stand in both training and validation, as in PneumoniaMNIST
# how a clear chest and one with pneumonia are taken elsewhere: in units of the grid
# (half an image is 1) and of brightness
ELSEWHERE = {"size": (0.08, 0.02), "down": (0.06, 0.02), "haze": (0.04, 0.0)}


def simulate(sizes, events):
    """Draw training, validation and test images of 28 x 28, the same at every call.

    Keeps: two dark lungs between ribs, spine, heart and diaphragm, in children who
    differ in size, position and exposure; pneumonia as soft opacities in a lung, or a
    haze over both, from faint to dense, so that some cannot be told from a clear
    chest; one to three images a patient, of whom some fall into training and others
    into validation; a test part of other patients, one image each, taken elsewhere,
    where above all clear chests look different; the sizes and shares of the parts; 8
    images that stand in both training and validation.

    Does not keep: any real child, disease or machine. The anatomy is a drawing, the
    opacities are round, nothing else is ever wrong, and what a model reaches here says
    nothing of what it reaches on X-rays.

    sizes: three int, how many images training, validation and test have; training and
        validation at least 8 of each class for the shared ones
    events: three int, how many of them are y = 1, pneumonia
    Returns: X_train, y_train, X_val, y_val, X_test, y_test: X (n, 28, 28) uint8,
        y (n,) int64
    Introduced in: keras/xray_diagnosis
    """
    rng = np.random.default_rng(SEED)
    n_train, n_val, n_test = sizes
    y = [
        rng.permutation(np.arange(n) < m).astype("int64")
        for n, m in zip(sizes, events, strict=True)
    ]
    y_known = np.concatenate(y[:2])
    X = _images(y_known, _patients(y_known, rng), rng, elsewhere=0)
    X_train, X_val = X[:n_train], X[n_train:]
    for row in rng.choice(n_val, SHARED, replace=False):
        X_val[row] = X_train[rng.choice(np.flatnonzero(y[0] == y[1][row]))]
    X_test = _images(y[2], np.arange(n_test), rng, elsewhere=1)
    return X_train, y[0], X_val, y[1], X_test, y[2]


def _patients(y, rng):
    """A patient for each image: one to three images of one class, spread by chance."""
    patient = np.empty(len(y), "int64")
    for label in (0, 1):
        rows = rng.permutation(np.flatnonzero(y == label))
        sizes = rng.integers(1, 4, size=len(rows))
        patient[rows] = np.repeat(np.arange(len(rows)), sizes)[: len(rows)] * 2 + label
    return patient


def _images(y, patient, rng, elsewhere):
    """Draw one image a row: what belongs to the patient once, the rest anew."""
    from scipy.special import expit

    _, who = np.unique(patient, return_inverse=True)
    n = who.max() + 1

    def own(spread, again=0.3):
        """A property of the patient, a little different in each image."""
        value = rng.normal(0, spread, n)[who] + rng.normal(0, again * spread, len(y))
        return value[:, None, None]

    def moved(name):
        return elsewhere * np.where(y == 1, *ELSEWHERE[name][::-1])[:, None, None]

    v, u = np.mgrid[-1:1:28j, -1:1:28j]
    size = 1 + own(0.08) + moved("size")
    tilt = own(0.04)
    x = (u - own(0.05) - tilt * v) / size
    down = (v - own(0.06) - moved("down")) / size
    width, edge = 0.27 + own(0.025), 9 + own(1.5)

    def lung(side):
        r = ((x - side * (0.40 + 0.10 * down)) / width) ** 2 + (
            (down - 0.1) / 0.85
        ) ** 2
        return expit(edge * (1 - r))

    def blob(cx, cy, sx, sy):
        return np.exp(-(((x - cx) / sx) ** 2) - ((down - cy) / sy) ** 2)

    dome = expit(18 * (down - 0.50 - 0.6 * (np.abs(x) - 0.35) ** 2))
    lungs = np.maximum(lung(-1), lung(1)) * (1 - dome)
    ribs = np.cos(2 * np.pi * (3.2 * down + 0.9 * x**2) + own(1.0, 0.1))
    outside = expit(14 * (x**2 + 0.35 * down**2 - 1.05 - 0.2 * down))
    picture = 0.60 + 0.02 * down - 0.45 * outside
    picture = picture + 0.22 * blob(0, 0, 0.16, 3) + 0.12 * blob(0.17, 0.3, 0.26, 0.3)
    picture = picture + 0.16 * dome + 0.03 * ribs * (1 - dome)
    ill = y[:, None, None] * _severity(len(y), rng)
    dense = np.zeros_like(picture)
    for _ in range(2):
        side = rng.choice((-1, 1), len(y))[:, None, None]
        cx = 0.4 * side + rng.normal(0, 0.08, (len(y), 1, 1))
        cy = rng.uniform(-0.3, 0.4, (len(y), 1, 1))
        dense = dense + rng.uniform(0, 1.3, (len(y), 1, 1)) * blob(cx, cy, 0.24, 0.28)
    haze = rng.uniform(0.2, 0.8, (len(y), 1, 1))
    air = 1 - ill * np.clip(haze + dense, 0, 1) - 0.10 * np.abs(own(1.0))
    picture = picture - 0.34 * lungs * np.clip(air, 0.05, 1) + moved("haze") * lungs
    picture = (
        picture * (1 + own(0.10)) + own(0.04) + rng.normal(0, 0.012, picture.shape)
    )
    return np.rint(255 * np.clip(picture, 0, 1)).astype("uint8")


def _severity(n, rng):
    """How much air a pneumonia takes, from hardly any to nearly all."""
    return rng.beta(3.0, 1.5, (n, 1, 1))
