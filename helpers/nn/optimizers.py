"""Ways to turn a gradient into a step.

Each works in place on one flat array of all parameters, in blocks that stay in the
processor's cache while they are passed over several times.

Introduced in: mathematics/gradient_descent
"""

import math

import numpy as np

BLOCK = 32_768  # numbers; the five float32 arrays of Adam then take 640 kB


class Optimizer:
    """What all have in common: a learning rate, a count of steps, some memory.

    learning_rate: float > 0; may be changed between steps
    Raises: ValueError if it is not a positive finite number
    Introduced in: mathematics/gradient_descent
    """

    slots = 0  # how many numbers an optimizer remembers for each parameter

    def __init__(self, learning_rate):
        if not 0 < learning_rate < math.inf:
            raise ValueError(
                f"{type(self).__name__} needs a positive, finite learning_rate, "
                f"got {learning_rate}"
            )
        self.learning_rate = learning_rate
        self.n_steps, self._known = 0, None

    def step(self, params, gradient):
        """Move the parameters one step, in place; the gradient is left as it is.

        params: (n,) float array
        gradient: (n,) array of the same dtype
        Raises: ValueError if the two do not fit, or do not fit the steps before
        """
        known = self._known or ((params.size,), params.dtype)
        for name, given in (("params", params), ("gradient", gradient)):
            if (given.shape, given.dtype) != known or known[1].kind != "f":
                raise ValueError(
                    f"{type(self).__name__} steps on floats in a row, {known[0]} of "
                    f"{known[1]}, got {name} of shape {given.shape}, {given.dtype}: "
                    "make a new optimizer for another network"
                )
        if self._known is None:
            self._known = known
            self._memory = np.zeros((self.slots, params.size), params.dtype)
            self._scratch = np.empty(min(BLOCK, params.size), params.dtype)
        self.n_steps += 1
        for start in range(0, params.size, BLOCK):
            block = slice(start, start + BLOCK)
            theta = params[block]
            self._update(
                theta,
                gradient[block],
                self._scratch[: theta.size],
                *self._memory[:, block],
            )


def _share(value, name):
    if not 0 <= value < 1:
        raise ValueError(f"{name} must be at least 0 and below 1, got {value}")
    return value


def _small(epsilon):
    if not 0 < epsilon < 1:
        raise ValueError(f"epsilon must be above 0 and below 1, got {epsilon}")
    return epsilon


class SGD(Optimizer):
    """Step against the gradient; with momentum, keep a part of the last step.

    learning_rate: float > 0
    momentum: float in [0, 1), the part that is kept
    Raises: ValueError if one is outside
    Source: Robbins & Monro (1951), doi 10.1214/aoms/1177729586; Polyak (1964),
        doi 10.1016/0041-5553(64)90137-5. Introduced in: mathematics/gradient_descent
    """

    def __init__(self, learning_rate=0.01, momentum=0.0):
        super().__init__(learning_rate)
        self.momentum = _share(momentum, "momentum")
        self.slots = 1 if momentum else 0

    def _update(self, theta, g, scratch, velocity=None):
        np.multiply(g, self.learning_rate, out=scratch)
        if velocity is None:
            theta -= scratch
        else:
            velocity *= self.momentum
            velocity -= scratch
            theta += velocity


class RMSprop(Optimizer):
    """Divide the gradient by its own recent size, parameter by parameter.

    learning_rate: float > 0
    rho: float in [0, 1), how much of the running mean of squares stays
    epsilon: float between 0 and 1, keeps the division finite
    Raises: ValueError if one is outside
    Source: Tieleman & Hinton (2012), lecture 6.5 of Neural Networks for Machine
        Learning. Introduced in: mathematics/gradient_descent
    """

    slots = 1

    def __init__(self, learning_rate=0.001, rho=0.9, epsilon=1e-7):
        super().__init__(learning_rate)
        self.rho, self.epsilon = _share(rho, "rho"), _small(epsilon)

    def _update(self, theta, g, scratch, square):
        np.multiply(g, g, out=scratch)
        scratch *= 1 - self.rho
        square *= self.rho
        square += scratch
        np.add(square, self.epsilon, out=scratch)
        np.sqrt(scratch, out=scratch)
        np.divide(g, scratch, out=scratch)
        scratch *= self.learning_rate
        theta -= scratch


class Adam(Optimizer):
    """Momentum over RMSprop, both corrected for having begun at 0.

    learning_rate: float > 0
    beta_1, beta_2: floats in [0, 1), how much of the running means of the gradient
        and of its square stays
    epsilon: float between 0 and 1, keeps the division finite
    Raises: ValueError if one is outside
    Source: Kingma & Ba (2014), doi 10.48550/arXiv.1412.6980, the form before
        section 2.1, as Keras has it. Introduced in: mathematics/gradient_descent
    """

    slots = 2

    def __init__(self, learning_rate=0.001, beta_1=0.9, beta_2=0.999, epsilon=1e-7):
        super().__init__(learning_rate)
        self.beta_1, self.beta_2 = _share(beta_1, "beta_1"), _share(beta_2, "beta_2")
        self.epsilon = _small(epsilon)

    def _update(self, theta, g, scratch, total, total_square):
        # The memory holds sums, m / (1 - beta_1) and v / (1 - beta_2): that spares two
        # passes over it, and the factors join those of one number at the end.
        t, root = self.n_steps, math.sqrt(1 - self.beta_2)
        correction = math.sqrt(1 - self.beta_2**t) / (1 - self.beta_1**t)
        total *= self.beta_1
        total += g
        total_square *= self.beta_2
        np.multiply(g, g, out=scratch)
        total_square += scratch
        np.sqrt(total_square, out=scratch)
        scratch += self.epsilon / root
        np.divide(total, scratch, out=scratch)
        scratch *= self.learning_rate * correction * (1 - self.beta_1) / root
        theta -= scratch
