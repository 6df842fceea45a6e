import json

import numpy as np
import pytest

from helpers.claims import RELATIONS, ClaimError, claim, fails


@pytest.mark.parametrize(
    ("value", "relation", "bound"),
    [(2, ">", 1), (2, ">=", 2), (1, "<", 2), (2, "<=", 2), (2, "==", 2.0)],
)
def test_a_true_claim_prints_one_line_with_value_and_bound(
    capsys, value, relation, bound
):
    claim("two and one", value, relation, bound)
    assert (
        capsys.readouterr().out
        == f"claim holds: two and one: {value} {relation} {bound:.4g}\n"
    )


@pytest.mark.parametrize(
    ("value", "relation", "bound"),
    [(1, ">", 1), (1, ">=", 2), (2, "<", 2), (3, "<=", 2), (2, "==", 2.1)],
)
def test_a_false_claim_raises_with_value_and_bound(value, relation, bound):
    with pytest.raises(ClaimError, match=f"two and one: {value} {relation} {bound}"):
        claim("two and one", value, relation, bound)


def test_every_relation_is_tried_above():
    assert set(RELATIONS) == {">", ">=", "<", "<=", "=="}


@pytest.mark.parametrize("value", [np.float32(0.5), np.array(0.5), np.array([0.5])[0]])
def test_scalars_of_numpy_are_numbers(value):
    claim("half", value, "==", 0.5)


def test_a_scalar_of_keras_is_a_number():
    keras = pytest.importorskip("keras")
    claim("half", keras.ops.convert_to_tensor(0.5), "==", 0.5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("", 1, ">", 0), "needs its statement in words"),
        (("s", 1, "=>", 0), "unknown relation '=>'.*use one of > >= < <= =="),
        (("s", np.ones(3), ">", 0), r"value of a claim is one number.*shape \(3,\)"),
        (("s", 1, ">", None), "bound of a claim is one number, got None"),
        (("s", float("nan"), ">", 0), "value of a claim is a finite number, got nan"),
        (("s", 1, "<", float("inf")), "bound of a claim is a finite number, got inf"),
    ],
)
def test_bad_input_says_what_was_expected(arguments, message):
    with pytest.raises(ValueError, match=message):
        claim(*arguments)


def test_on_stand_in_data_a_claim_is_skipped_by_name(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("HEALTHBOOK_CLAIMS", str(tmp_path / "claims"))
    claim("real only", 0, ">", 1, stand_in=True)
    assert capsys.readouterr().out == "skipped (stand-in data): real only\n"
    assert not (tmp_path / "claims").exists()


def test_claims_are_recorded_for_the_seeds_true_or_false(monkeypatch, tmp_path):
    monkeypatch.setenv("HEALTHBOOK_CLAIMS", str(tmp_path / "claims"))
    claim("true", 2, ">", 1)
    with pytest.raises(ClaimError):
        claim("false", 0, ">", 1)
    rows = [json.loads(line) for line in (tmp_path / "claims").read_text().splitlines()]
    assert [(row["statement"], row["holds"]) for row in rows] == [
        ("true", True),
        ("false", False),
    ]


def test_an_announced_failure_is_printed_and_does_not_stop_the_page(capsys):
    with fails(KeyError, "age"):
        {}["age"]
    assert capsys.readouterr().out == "KeyError: 'age'\n"


def test_of_a_long_message_the_paragraphs_with_the_words_are_shown(capsys):
    shape = "\x1b[1mexpected shape (None, 784)\x1b[0m"
    long = "\n\n".join(["In layer 3.", shape, "Arguments: x", "last"])
    with fails(ValueError, "expected shape", "last"):
        raise ValueError(long)
    out = capsys.readouterr().out
    assert out == "ValueError: expected shape (None, 784) ... last\n"


def test_words_that_span_paragraphs_show_the_whole_message(capsys):
    with fails(ValueError, "one\n\ntwo"):
        raise ValueError("one\n\ntwo")
    assert capsys.readouterr().out == "ValueError: one\n\ntwo\n"


@pytest.mark.parametrize(
    ("step", "got"),
    [
        (lambda: None, "nothing failed"),
        (lambda: int("x"), "got ValueError: invalid literal"),
        (lambda: {}["sex"], "got KeyError: 'sex'"),
    ],
)
def test_a_page_stops_if_it_does_not_fail_as_announced(step, got):
    with pytest.raises(ClaimError, match=f"expected a KeyError with 'age'.*{got}"):
        with fails(KeyError, "age"):
            step()


def test_a_subclass_is_another_failure():
    with pytest.raises(ClaimError, match="got KeyError"), fails(LookupError, "age"):
        {}["age"]


@pytest.mark.parametrize("words", [(), ("",), (" ", "x"), (1,)])
def test_a_type_alone_is_no_reason(words):
    with pytest.raises(ValueError, match="needs words of the message"):
        with fails(KeyError, *words):
            {}["age"]


def test_an_interrupt_is_not_swallowed():
    with pytest.raises(KeyboardInterrupt), fails(KeyError, "age"):
        raise KeyboardInterrupt
