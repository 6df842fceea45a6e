"""A claim is a statement the book makes, checked by the cell that makes it.

Introduced in: concepts/learning_from_data
"""

import contextlib
import json
import math
import operator
import os
import re

RELATIONS = {
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
    "==": operator.eq,
}


class ClaimError(AssertionError):
    """A statement of the book that its own numbers do not support."""


def claim(statement, value, relation, bound, *, stand_in=False):
    """Check one statement and print one line; raise if the statement is false.

    statement: str, what the book claims, in words
    value: finite number that was measured (Python, NumPy or Keras scalar)
    relation: one of ">", ">=", "<", "<=", "=="
    bound: finite number; leave room for another processor, not for being wrong
    stand_in: True if the data set is a stand-in for one that could not be fetched
        and the statement holds for the real one only; then nothing is checked, and
        the line says so
    Returns: None
    Raises: ClaimError if the statement is false;
        ValueError if the value or bound is not one finite number, the relation is
        unknown or the statement is empty
    Introduced in: concepts/learning_from_data
    """
    if not isinstance(statement, str) or not statement.strip():
        raise ValueError(f"a claim needs its statement in words, got {statement!r}")
    if relation not in RELATIONS:
        raise ValueError(
            f"unknown relation {relation!r} in the claim {statement!r}: "
            f"use one of {' '.join(RELATIONS)}"
        )
    if stand_in:
        print(f"skipped (stand-in data): {statement}")
        return
    value, bound = _number(value, "value"), _number(bound, "bound")
    holds = RELATIONS[relation](value, bound)
    _record(statement, value, relation, bound, holds)
    line = f"{statement}: {value:.4g} {relation} {bound:.4g}"
    if not holds:
        raise ClaimError(f"claim is false: {line}")
    print(f"claim holds: {line}")


@contextlib.contextmanager
def fails(kind, *words):
    """Run code that the page says will fail, and check that it fails for that reason.

    Used as `with fails(ValueError, "expected shape"):`. Prints the error as it reaches
    a reader, shortened to the paragraphs that hold the words.

    kind: type of the error, an Exception
    words: one or more str, each of which the message must hold
    Raises: ClaimError if the code runs through, raises another type, or says something
        else; ValueError if no words are given
    Introduced in: keras/first_network
    """
    if not words or not all(isinstance(w, str) and w.strip() for w in words):
        raise ValueError(
            f"fails({kind.__name__}, ...) needs words of the message, got {words!r}: "
            "the type alone does not say why it failed"
        )
    try:
        yield
    except Exception as error:
        said = re.sub(r"\x1b\[\d*m", "", str(error))  # bold and colour of a terminal
        missing = [w for w in words if w not in said]
        if type(error) is not kind or missing:
            raise ClaimError(
                f"expected a {kind.__name__} with {' and '.join(map(repr, words))}, "
                f"got {type(error).__name__}: {said}"
            ) from error
        told = [part for part in said.split("\n\n") if any(w in part for w in words)]
        print(f"{kind.__name__}: {' ... '.join(told or [said]).strip()}")
        return
    raise ClaimError(
        f"expected a {kind.__name__} with {' and '.join(map(repr, words))}, "
        "and nothing failed"
    )


def _number(value, name):
    """The value as a float; an array is no number, and NaN proves nothing."""
    try:
        number = float(value)
    except (TypeError, ValueError) as error:
        shape = getattr(value, "shape", None)
        got = f"an array of shape {shape}" if shape else repr(value)
        raise ValueError(
            f"the {name} of a claim is one number, got {got}: "
            "reduce it first, for example with .mean() or .max()"
        ) from error
    if not math.isfinite(number):
        raise ValueError(
            f"the {name} of a claim is a finite number, got {number}: "
            "look for an empty mean, a division by zero or a diverged training"
        )
    return number


def _record(statement, value, relation, bound, holds):
    """Append the claim to the file that `make seeds` names, if there is one."""
    path = os.environ.get("HEALTHBOOK_CLAIMS")
    if path:
        row = dict(
            statement=statement,
            value=value,
            relation=relation,
            bound=bound,
            holds=bool(holds),
        )
        with open(path, "a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
