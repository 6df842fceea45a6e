"""What a clinic asks of a model, and scikit-learn does not answer.

Introduced in: concepts/learning_from_data
"""


def proportion(k, n):
    """A share of patients with its 95 % interval after Wilson, which SciPy computes.

    k: int, how many; 0 to n
    n: int, of how many; 1 or more
    Returns: (low, k / n, high), floats from 0 to 1
    Raises: ValueError if k or n is not a whole number in its range
    Source: Wilson (1927), doi 10.1080/01621459.1927.10502953
    Introduced in: concepts/learning_from_data
    """
    from scipy.stats import binomtest

    if int(k) != k or int(n) != n or not 0 <= k <= n or n < 1:
        raise ValueError(
            f"proportion(k, n) needs whole numbers, 0 <= k <= n and n >= 1, got k={k}, "
            f"n={n}: count with np.sum over an array of True and False"
        )
    low, high = binomtest(int(k), int(n)).proportion_ci(method="wilson")
    return float(low), float(k / n), float(high)
