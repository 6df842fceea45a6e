"""Held against numbers by hand, published figures, laws, and those who tamper."""

import hashlib
import hmac
import json
import math
import os
import sqlite3
import subprocess
import sys
import threading
import traceback
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from cryptography.fernet import Fernet
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from helpers import privacy

OLD, NEW, OTHER = (privacy.new_key() for _ in range(3))


# sealing


@given(st.binary(max_size=200))
def test_what_is_sealed_comes_back_with_any_of_the_keys(data):
    sealed = privacy.seal(data, [OLD])
    assert privacy.unseal(sealed, [NEW, OLD]) == data
    assert Fernet(OLD).decrypt(sealed) == data
    assert len(data) < 4 or data not in sealed


def test_the_first_key_seals_and_no_two_sealings_or_keys_are_alike():
    assert Fernet(NEW).decrypt(privacy.seal(b"a", [NEW, OLD])) == b"a"
    assert privacy.seal(b"a", [NEW]) != privacy.seal(b"a", [NEW])
    assert len({OLD, NEW, OTHER}) == 3


@pytest.mark.parametrize("length", [0, 16, 32])  # base64 ends in "==", "=", ""
def test_any_flipped_bit_is_detected(length):
    sealed = privacy.seal(b"a" * length, [OLD])
    for bit in range(8 * len(sealed)):
        changed = bytearray(sealed)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(ValueError, match="cannot unseal: no key fits, or the"):
            privacy.unseal(bytes(changed), [OLD])


def test_a_bit_that_plain_fernet_lets_pass_is_detected():
    # one byte of data: four bits of the last letter before "==" hold nothing
    sealed = bytearray(privacy.seal(b"a", [OLD]))
    assert sealed.endswith(b"==")
    letters = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    sealed[-3] = letters[letters.index(sealed[-3]) ^ 1]
    assert Fernet(OLD).decrypt(bytes(sealed)) == b"a"
    for use in (privacy.unseal, privacy.reseal):
        with pytest.raises(ValueError, match="changed or cut"):
            use(bytes(sealed), [OLD])


@pytest.mark.parametrize(
    "cut", [slice(0), slice(1), slice(-1), slice(-4), slice(4, None)]
)
@pytest.mark.parametrize("use", [privacy.unseal, privacy.reseal])
def test_a_cut_file_and_a_wrong_key_are_detected(use, cut):
    sealed = privacy.seal(b"a patient", [OLD])
    for changed, key in [(sealed[cut], OLD), (sealed + b"A", OLD), (sealed, OTHER)]:
        with pytest.raises(ValueError, match="cannot unseal"):
            use(changed, [key])


def test_after_rotation_the_old_key_is_not_needed_and_does_not_open():
    sealed = privacy.reseal(privacy.seal(b"a patient", [OLD]), [NEW, OLD])
    assert privacy.unseal(sealed, [NEW]) == b"a patient"
    with pytest.raises(ValueError, match="cannot unseal"):
        privacy.unseal(sealed, [OLD])


NO_LISTS = {"empty": [], "one key": OLD, "none": None, "set": {OLD}}


@pytest.mark.parametrize("keys", NO_LISTS.values(), ids=NO_LISTS)
def test_keys_that_are_no_list_are_refused(keys):
    for use in (privacy.seal, privacy.unseal, privacy.reseal):
        with pytest.raises(ValueError, match=r"list of keys, newest first: \[key\]"):
            use(b"a", keys)


@pytest.mark.parametrize("use", [privacy.seal, privacy.unseal, privacy.reseal])
def test_a_bad_key_is_refused_and_not_shown(use):
    for key in (OLD[:-7], OLD[:-1], b"secret" + OLD, OLD.decode(), b"secret", 7):
        with pytest.raises(ValueError, match="not 32 bytes in base64") as caught:
            use(b"a", [NEW, key])
        shown = "".join(traceback.format_exception(caught.value))
        assert OLD.decode()[:20] not in shown and NEW.decode()[:20] not in shown
        assert "secret" not in shown


@pytest.mark.parametrize("data", ["text", None, bytearray(b"a"), 3])
def test_only_bytes_are_sealed(data):
    for use in (privacy.seal, privacy.unseal, privacy.reseal):
        with pytest.raises(ValueError, match="expected bytes, got .*encode"):
            use(data, [OLD])


# a file, whole or not at all


def test_a_file_is_replaced(tmp_path):
    path = tmp_path / "records"
    for data in (b"first", b"", b"second and longer"):
        privacy.replace_file(path, data)
        assert path.read_bytes() == data
    privacy.replace_file(str(path), b"third")
    assert path.read_bytes() == b"third"
    assert os.listdir(tmp_path) == ["records"]


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_failure_leaves_the_old_file_and_nothing_beside_it(
    tmp_path, monkeypatch, step
):
    path = tmp_path / "records"
    path.write_bytes(b"old")

    def full(*_):
        raise OSError("no space left")

    monkeypatch.setattr(os, step, full)
    with pytest.raises(OSError, match="no space left"):
        privacy.replace_file(path, b"new")
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["records"]


def test_the_file_is_never_seen_half_written(tmp_path, monkeypatch):
    path, replace, seen = tmp_path / "records", os.replace, []
    path.write_bytes(b"old")

    def look(name, target):
        seen.append((path.read_bytes(), Path(name).read_bytes()))
        replace(name, target)

    monkeypatch.setattr(os, "replace", look)
    privacy.replace_file(path, b"new")
    assert seen == [(b"old", b"new")]


def test_bad_input_leaves_the_old_file(tmp_path):
    path = tmp_path / "records"
    path.write_bytes(b"old")
    with pytest.raises(ValueError, match="expected bytes, got str"):
        privacy.replace_file(path, "new")
    assert path.read_bytes() == b"old" and os.listdir(tmp_path) == ["records"]
    with pytest.raises(FileNotFoundError):
        privacy.replace_file(tmp_path / "none" / "records", b"new")


# pseudonyms


def test_a_pseudonym_is_an_hmac():
    # RFC 4231, test case 7 has a long key; its digest starts so
    key = b"\xaa" * 131
    text = (
        "This is a test using a larger than block-size key and a larger than "
        "block-size data. The key needs to be hashed before being used by the HMAC "
        "algorithm."
    )
    assert privacy.pseudonym(text, key) == "9b09ffa71b942fcb"


@given(st.text(min_size=1, max_size=20), st.text(min_size=1, max_size=20))
def test_equal_patients_have_equal_pseudonyms_and_others_do_not(one, other):
    assert privacy.pseudonym(one, OLD) == privacy.pseudonym(one, OLD)
    assert (privacy.pseudonym(one, OLD) == privacy.pseudonym(other, OLD)) == (
        one == other
    )
    assert privacy.pseudonym(one, OLD) != privacy.pseudonym(one, NEW)
    assert len(privacy.pseudonym(one, OLD)) == 16


def test_a_plain_hash_falls_to_trying_all_and_a_pseudonym_does_not():
    identifiers = [f"{n:04}" for n in range(10_000)]
    tried = {hashlib.sha256(text.encode()).hexdigest(): text for text in identifiers}
    assert tried[hashlib.sha256(b"0815").hexdigest()] == "0815"
    starts = {digest[:16] for digest in tried}
    assert privacy.pseudonym("0815", OLD) not in starts


@pytest.mark.parametrize("identifier", ["", None, 815, b"0815", math.nan])
def test_a_missing_identifier_is_refused(identifier):
    with pytest.raises(ValueError, match="text that is not empty"):
        privacy.pseudonym(identifier, OLD)


@pytest.mark.parametrize("key", [b"", b"short secret", "x" * 44, None])
def test_a_short_key_is_refused_and_not_shown(key, tmp_path):
    for use in (
        lambda: privacy.pseudonym("0815", key),
        lambda: privacy.Records(tmp_path / "r", key, {"nurse": {"name"}}),
    ):
        with pytest.raises(ValueError, match="key of 16 bytes or more") as caught:
            use()
        assert "secret" not in str(caught.value) and "0815" not in str(caught.value)
    assert not os.listdir(tmp_path)


# k-anonymity and what it misses

WARD = pd.DataFrame(
    {
        "age": ["60-69", "60-69", "60-69", "70-79", "70-79"],
        "postcode": ["10", "10", "10", "20", "20"],
        "diagnosis": ["flu", "HIV", "flu", "HIV", "HIV"],
    }
)


def test_k_and_l_worked_by_hand():
    assert privacy.k_anonymity(WARD, ["age", "postcode"]) == 2
    assert privacy.l_diversity(WARD, ["age", "postcode"], "diagnosis") == 1
    assert privacy.l_diversity(WARD[:3], ["age"], "diagnosis") == 2
    assert privacy.k_anonymity(WARD, ["age", "diagnosis"]) == 1
    assert isinstance(privacy.k_anonymity(WARD, ("age",)), int)


@pytest.mark.parametrize("kind", ["object", "category", "string"])
def test_a_missing_value_counts_as_a_value(kind):
    table = WARD.assign(age=["a", "a", None, None, None]).astype({"age": kind})
    assert privacy.k_anonymity(table, ["age"]) == 2
    assert privacy.k_anonymity(table[:3], ["age"]) == 1
    table["diagnosis"] = pd.Series(["flu", None, "flu", None, None], dtype=kind)
    assert privacy.l_diversity(table, ["age"], "diagnosis") == 2
    table["age"] = ["a", "a", "a", "b", "b"]
    assert privacy.l_diversity(table, ["age"], "diagnosis") == 1


def test_a_category_that_nobody_has_is_no_group():
    table = WARD.assign(age=pd.Categorical(WARD["age"], ["60-69", "70-79", "80-89"]))
    assert privacy.k_anonymity(table, ["age"]) == 2


rows = st.lists(st.tuples(*[st.integers(0, 2)] * 3), min_size=1, max_size=30)


@settings(deadline=None)
@given(rows)
def test_knowing_more_never_hides_better(rows):
    table = pd.DataFrame(rows, columns=["a", "b", "c"])
    groups = {}
    for a, b, c in rows:
        groups.setdefault((a, b), []).append(c)
    k, diversity = (
        privacy.k_anonymity(table, ["a", "b"]),
        privacy.l_diversity(table, ["a", "b"], "c"),
    )
    assert k == min(map(len, groups.values()))
    assert diversity == min(len(set(group)) for group in groups.values()) <= k
    assert k <= privacy.k_anonymity(table, ["a"]) <= len(table)


@pytest.mark.parametrize(
    ("table", "columns"),
    [(WARD[:0], ["age"]), (WARD, []), (WARD, "age"), (WARD, ["age", "age"])],
)
def test_no_rows_or_no_columns_are_refused(table, columns):
    with pytest.raises(ValueError, match="table with rows and a list of different"):
        privacy.k_anonymity(table, columns)
    with pytest.raises(ValueError, match="table with rows and a list of different"):
        privacy.l_diversity(table, columns, "diagnosis")


def test_an_unknown_column_is_named():
    with pytest.raises(ValueError, match=r"no column \['sex'\]: the table has \['age'"):
        privacy.k_anonymity(WARD, ["age", "sex"])
    with pytest.raises(ValueError, match=r"no column \['stage'\]"):
        privacy.l_diversity(WARD, ["age"], "stage")
    with pytest.raises(ValueError, match="different columns"):
        privacy.l_diversity(WARD, ["age"], "age")


# roles and the trail

ROLES = {"nurse": {"name", "temperature"}, "researcher": {"temperature"}}
ANN = {"name": "Ann Example", "temperature": 38.5}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "ward.sqlite"


@pytest.fixture
def records(path):
    records = privacy.Records(path, OLD, ROLES)
    records.add("p1", ANN)
    return records


def run(path, *statements):
    """What somebody does to the file behind our back."""
    with closing(sqlite3.connect(path)) as connection, connection:
        for statement in statements:
            connection.execute(statement)


def fill(records):
    for user in ("eve", "bob", "eve", "zoe"):
        records.read(user, "nurse", "p1", ["temperature"])


def test_a_role_reads_its_columns_in_the_order_asked(records):
    assert records.read("eve", "nurse", "p1", ["temperature", "name"]) == ANN
    assert list(records.read("eve", "nurse", "p1", ["temperature", "name"])) == [
        "temperature",
        "name",
    ]
    only = records.read("eve", "researcher", "p1", ("temperature",))
    assert only == {"temperature": 38.5}


def test_each_read_leaves_a_row_that_says_who_when_what(records):
    before = datetime.now(UTC)
    records.read("eve", "nurse", "p1", ["name"])
    with pytest.raises(PermissionError):
        records.read("bob", "researcher", "p1", ["temperature", "name"])
    first, second = records.trail()
    assert [first[c] for c in ("number", "user", "role", "patient_id", "allowed")] == [
        *(1, "eve", "nurse", "p1", 1)
    ]
    assert json.loads(first["columns"]) == ["name"]
    assert (second["number"], second["user"], second["allowed"]) == (2, "bob", 0)
    assert json.loads(second["columns"]) == ["temperature", "name"]
    when = [datetime.fromisoformat(row["time"]) for row in (first, second)]
    assert before <= when[0] <= when[1] <= datetime.now(UTC)
    assert when[0].utcoffset().total_seconds() == 0
    assert "Ann" not in str(records.trail()) and "38.5" not in str(records.trail())


@pytest.mark.parametrize(
    ("role", "columns"),
    [
        ("researcher", ["name"]),
        ("researcher", ["temperature", "name"]),
        ("nurse", ["weight"]),
        ("nurse", ['name" FROM value; --']),
        ("boss", ["temperature"]),
        ("Nurse", ["temperature"]),
    ],
)
def test_a_denied_read_gives_nothing_and_leaves_a_trace(records, role, columns):
    with pytest.raises(PermissionError, match="may not read") as caught:
        records.read("bob", role, "p1", columns)
    assert "Ann" not in str(caught.value) and "38.5" not in str(caught.value)
    (row,) = records.trail()
    assert (row["user"], row["role"], row["allowed"]) == ("bob", role, 0)
    assert records.verify() == 1


@pytest.mark.parametrize("patient_id", ["p2", "P1", "p1' OR '1'='1", "%"])
def test_looking_for_an_unknown_patient_leaves_a_trace(records, patient_id):
    with pytest.raises(LookupError, match=r"no \['name'\] of this patient"):
        records.read("bob", "nurse", patient_id, ["name"])
    assert records.trail()[0]["patient_id"] == patient_id


def test_no_trace_no_data(records, path):
    run(path, "CREATE TRIGGER full BEFORE INSERT ON trail BEGIN "
        "SELECT RAISE(ABORT, 'no room'); END")  # fmt: skip
    with pytest.raises(sqlite3.IntegrityError, match="no room"):
        records.read("eve", "nurse", "p1", ["name"])


def test_the_trace_is_kept_before_the_data_are_fetched(records, path):
    run(path, "DROP TABLE value")
    with pytest.raises(sqlite3.OperationalError, match="no such table: value"):
        records.read("eve", "nurse", "p1", ["name"])
    assert [row["user"] for row in records.trail()] == ["eve"]


@pytest.mark.parametrize(
    "request_",
    [
        ("", "nurse", "p1", ["name"]),
        (None, "nurse", "p1", ["name"]),
        ("eve", None, "p1", ["name"]),
        ("eve", "nurse", 1, ["name"]),
        ("eve", "nurse", "p1", []),
        ("eve", "nurse", "p1", "name"),
        ("eve", "nurse", "p1", [1]),
        ("eve", "nurse", "p1", None),
    ],
)
def test_a_request_that_makes_no_sense_is_refused(records, request_):
    with pytest.raises(ValueError, match="expected user, role, patient_id: text"):
        records.read(*request_)


def test_adding_is_all_or_nothing_and_overwrites_nothing(records, path):
    with pytest.raises(ValueError, match="there already: none was added"):
        records.add("p1", {"temperature": 36.0})
    assert records.read("eve", "nurse", "p1", ["temperature"]) == {"temperature": 38.5}
    with pytest.raises(ValueError, match="plain numbers, text or None"):
        records.add("p2", {"name": "Bo", "temperature": [37]})
    with pytest.raises(ValueError, match=r"no role reads \['weight'\]"):
        records.add("p2", {"name": "Bo", "weight": 70})
    with pytest.raises(LookupError):
        records.read("eve", "nurse", "p2", ["name"])
    records.add("p2", {"name": "Bo"})
    records.add("p2", {"temperature": None})
    assert records.read("eve", "nurse", "p2", ["name", "temperature"]) == {
        **{"name": "Bo", "temperature": None}
    }


@pytest.mark.parametrize(
    ("patient_id", "values"), [("", ANN), (1, ANN), ("p2", {}), ("p2", [1])]
)
def test_nothing_to_add_is_refused(records, patient_id, values):
    with pytest.raises(ValueError, match="expected a patient_id, text, and a dict"):
        records.add(patient_id, values)


@pytest.mark.parametrize(
    "roles", [None, ["nurse"], {"nurse": "name"}, {"nurse": set()}, {1: {"name"}}]
)
def test_roles_that_make_no_sense_are_refused(path, roles):
    with pytest.raises(ValueError, match="expected roles like"):
        privacy.Records(path, OLD, roles)
    assert not path.exists()


def test_what_is_no_store_is_refused_and_left_alone(tmp_path, path):
    path.write_bytes(b"something else, and long enough to look at" * 100)
    with pytest.raises(ValueError, match="is no store of records: file is not a data"):
        privacy.Records(path, OLD, ROLES)
    assert path.read_bytes().startswith(b"something else")
    with pytest.raises(ValueError, match="is no store of records: unable to open"):
        privacy.Records(tmp_path / "none" / "r", OLD, ROLES)


def test_roles_changed_by_the_caller_change_nothing(path):
    roles = {"researcher": {"temperature"}, "nurse": {"name"}}
    records = privacy.Records(path, OLD, roles)
    roles["researcher"].add("name")
    with pytest.raises(PermissionError):
        records.read("bob", "researcher", "p1", ["name"])


def test_the_store_opens_again_and_the_chain_goes_on(records, path):
    fill(records)
    again = privacy.Records(str(path), OLD, ROLES)
    assert again.read("eve", "nurse", "p1", ["name"]) == {"name": "Ann Example"}
    assert again.verify(records.head()) == 5
    path.unlink()  # on Windows only if no connection is left open


def test_the_key_shows_nowhere(records, path):
    fill(records)
    secret = OLD.decode()
    assert secret not in repr(records) and secret not in str(records.trail())
    assert OLD not in path.read_bytes()


def test_rows_written_side_by_side_keep_the_chain(records):
    def look():
        for _ in range(10):
            records.read("eve", "nurse", "p1", ["name"])

    threads = [threading.Thread(target=look) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert records.verify() == 40


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE trail SET user = 'bob' WHERE number = 2",
        "UPDATE OR REPLACE trail SET number = 9 WHERE number = 2",
        "DELETE FROM trail WHERE number = 4",
        "DELETE FROM trail",
        "INSERT OR REPLACE INTO trail SELECT 2, time, 'bob', role, patient_id, columns,"
        " allowed, code FROM trail WHERE number = 2",
        "INSERT INTO trail (number, user) VALUES (0, 'bob')",
        "INSERT INTO trail (number, user) VALUES (9, 'bob')",
        "INSERT INTO trail (user) VALUES ('bob')",
    ],
)
def test_the_trail_takes_no_change(records, path, statement):
    fill(records)
    before = records.trail()
    with pytest.raises(sqlite3.IntegrityError, match="the trail is append-only"):
        run(path, statement)
    assert records.trail() == before


FREE = [f"DROP TRIGGER no_{what}" for what in ("update", "delete", "replace")]
LAST = "time, user, role, patient_id, columns, allowed, code FROM trail"


@pytest.mark.parametrize(
    ("statements", "row"),
    [
        *(
            ([f"UPDATE trail SET {column} = {value} WHERE number = 2"], 2)
            for column, value in {
                "time": "'2000-01-01T00:00:00+00:00'",
                "user": "'eve'",
                "role": "'researcher'",
                "patient_id": "'p2'",
                "columns": "'[\"name\"]'",
                "allowed": "0",
                "code": "'0'",
            }.items()
        ),
        (["UPDATE trail SET user = NULL WHERE number = 3"], 3),
        (["UPDATE trail SET user = x'00' WHERE number = 3"], 3),
        (["UPDATE trail SET code = NULL WHERE number = 4"], 4),
        (["DELETE FROM trail WHERE number = 1"], 1),
        (["DELETE FROM trail WHERE number = 2"], 2),
        # and the rest moved up
        (
            [
                "DELETE FROM trail WHERE number = 2",
                "UPDATE trail SET number = number - 1 WHERE number > 2",
            ],
            2,
        ),
        # two rows swapped
        (
            [
                "UPDATE trail SET number = 9 WHERE number = 2",
                "UPDATE trail SET number = 2 WHERE number = 3",
                "UPDATE trail SET number = 3 WHERE number = 9",
            ],
            2,
        ),
        # one put in at the end, as the last one again
        ([f"INSERT INTO trail SELECT 5, {LAST} WHERE number = 4"], 5),
    ],
)
def test_tampering_shows_at_its_row(records, path, statements, row):
    fill(records)
    head = records.head()
    assert records.verify() == records.verify(head) == 4
    run(path, *FREE, *statements)
    for kept in ("", head):
        message = f"not as it was written at row {row}$"
        with pytest.raises(ValueError, match=message):
            records.verify(kept)


@pytest.mark.parametrize("first", [1, 3, 4])
def test_a_cut_end_shows_only_to_who_kept_a_head(records, path, first):
    fill(records)
    head = records.head()
    run(path, *FREE, f"DELETE FROM trail WHERE number >= {first}")
    assert records.verify() == first - 1  # what a chain alone cannot see
    with pytest.raises(ValueError, match="lacks the head: rows were cut off"):
        records.verify(head)
    fill(records)
    with pytest.raises(ValueError, match="lacks the head"):
        records.verify(head)


def test_who_has_the_key_can_write_all_anew_but_not_to_a_kept_head(records, tmp_path):
    fill(records)
    forged = privacy.Records(tmp_path / "forged", OLD, ROLES)
    for user in ("eve", "eve", "eve", "eve"):
        with pytest.raises(LookupError):
            forged.read(user, "nurse", "p1", ["temperature"])
    assert forged.verify() == 4
    with pytest.raises(ValueError, match="lacks the head: .* or replaced"):
        forged.verify(records.head())


def test_a_head_stays_good_while_the_trail_grows(records):
    heads = [records.head()]
    for _ in range(3):
        records.read("eve", "nurse", "p1", ["name"])
        heads.append(records.head())
    assert heads[0] == "" and len(set(heads)) == 4
    assert [records.verify(head) for head in heads] == [3] * 4
    with pytest.raises(ValueError, match="lacks the head"):
        records.verify("0" * 64)


def test_with_another_key_no_row_fits(records, path):
    fill(records)
    with pytest.raises(ValueError, match="at row 1$"):
        privacy.Records(path, OTHER, ROLES).verify()


def test_an_auditor_can_work_out_the_chain(records):
    fill(records)
    code = ""
    for row in records.trail():
        *fields, found = row.values()
        text = (code + json.dumps(fields)).encode()
        code = hmac.new(OLD, text, hashlib.sha256).hexdigest()
        assert code == found


# DP-SGD


def test_a_private_gradient_worked_by_hand():
    # rows of length 5 and 1: the first is halved by a clip of 2.5
    gradients = [[3.0, 4.0], [1.0, 0.0]]
    found = privacy.private_gradient(gradients, 2.5, 0, None)
    np.testing.assert_allclose(found, [(1.5 + 1) / 2, (2 + 0) / 2])
    found = privacy.private_gradient(gradients, 2.5, 0, None, size=10)
    np.testing.assert_allclose(found, [0.25, 0.2])


batches = hnp.arrays(
    float,
    hnp.array_shapes(min_dims=2, max_dims=2, max_side=6),
    elements=st.floats(-1e3, 1e3),
)


@given(batches)
def test_without_clip_and_noise_it_is_the_plain_mean(gradients):
    found = privacy.private_gradient(gradients, None, 0, None)
    np.testing.assert_array_equal(found, gradients.mean(axis=0))
    found = privacy.private_gradient(gradients, 1e6, 0, None)
    np.testing.assert_array_equal(found, gradients.mean(axis=0))


@given(batches, st.floats(1e-3, 1e3))
def test_one_patient_moves_the_sum_by_the_clip_at_most(gradients, clip):
    whole = privacy.private_gradient(gradients, clip, 0, None, size=1)
    without = privacy.private_gradient(gradients[1:], clip, 0, None, size=1)
    moved = np.linalg.norm(whole - without)
    assert moved <= clip * (1 + 1e-9)
    length = np.linalg.norm(gradients[0])
    np.testing.assert_allclose(moved, min(clip, length), rtol=1e-6, atol=1e-9)


def test_the_noise_has_the_deviation_asked_for():
    rng, many = np.random.default_rng(0), np.zeros((4, 100_000))
    noise = privacy.private_gradient(many, 0.5, 3.0, rng)
    assert noise.std() == pytest.approx(3.0 * 0.5 / 4, rel=0.02)
    assert abs(noise.mean()) < 5 * 0.375 / math.sqrt(100_000)
    noise = privacy.private_gradient(many, 0.5, 3.0, rng, size=8)
    assert noise.std() == pytest.approx(3.0 * 0.5 / 8, rel=0.02)


def test_noise_comes_from_the_generator_and_on_top_of_the_clipped_mean():
    batch = np.array([[3.0, 4.0], [1.0, 0.0]])
    found = privacy.private_gradient(batch, 2.5, 2.0, np.random.default_rng(7))
    plain = privacy.private_gradient(batch, 2.5, 0, None)
    noise = np.random.default_rng(7).normal(scale=5.0, size=2)
    np.testing.assert_allclose(found, plain + noise / 2)
    assert (batch == [[3, 4], [1, 0]]).all()


def test_an_empty_poisson_batch_is_noise_alone():
    found = privacy.private_gradient(
        np.empty((0, 3)), 1.0, 2.0, np.random.default_rng(7), size=5
    )
    expected = np.random.default_rng(7).normal(scale=2.0, size=3) / 5
    np.testing.assert_allclose(found, expected)


@pytest.mark.parametrize(
    ("gradients", "size"),
    [
        ([1.0, 2.0], None),
        (3.0, None),
        (np.empty((0, 3)), None),
        ([[1.0, math.nan]], None),
        ([[1.0, math.inf]], None),
        ([[1.0]], 0),
        ([[1.0]], -2),
        ([[1.0]], math.nan),
        ([[1.0]], math.inf),
    ],
)
def test_bad_gradients_are_refused(gradients, size):
    with pytest.raises(ValueError, match="expected finite gradients .* got shape"):
        privacy.private_gradient(gradients, 1.0, 0, None, size=size)


@pytest.mark.parametrize(
    ("clip", "noise"),
    [
        (None, 1.0),
        (0, 0),
        (-1, 0),
        (1, -1),
        (1, math.nan),
        (math.nan, 0),
        (1, math.inf),
        (math.inf, 1),
    ],
)
def test_bad_clip_and_noise_are_refused(clip, noise):
    with pytest.raises(ValueError, match="noise of 0 or more and a clip above 0, got"):
        privacy.private_gradient([[1.0]], clip, noise, np.random.default_rng(0))


@pytest.mark.parametrize("rng", [None, 0, np.random])
def test_noise_needs_a_generator(rng):
    with pytest.raises(ValueError, match="noise needs rng, a numpy.random.Generator"):
        privacy.private_gradient([[1.0]], 1.0, 1.0, rng)


# epsilon


@pytest.mark.parametrize(
    ("n", "batch", "noise", "epochs", "delta", "published"),
    [
        # test_compute_dp_sgd_privacy of TensorFlow Privacy, which uses dp-accounting
        (60_000, 150, 1.3, 15, 1e-5, 0.7242234026109595),
        (100_000, 100, 1.0, 30, 1e-7, 1.4154988495444842),
    ],
)
def test_epsilon_is_the_published_one(n, batch, noise, epochs, delta, published):
    found = privacy.epsilon(noise, batch / n, epochs * n // batch, delta)
    assert found == pytest.approx(published, rel=1e-9)


def test_epsilon_of_one_gaussian_is_the_exact_one():
    # dp-accounting's test_compute_epsilon_delta_gaussian: (1, 1e-6) exactly
    assert privacy.epsilon(4.530877117, 1, 1, 1e-6) == pytest.approx(1, rel=1e-6)


def test_epsilon_is_below_the_bound_of_abadi_et_al():
    # section 3.2: 1.26 by the moments accountant; the conversion is tighter today
    assert 0.9 < privacy.epsilon(4, 0.01, 10_000, 1e-5) < 1.26


@settings(deadline=None, max_examples=12)
@given(
    st.floats(0.5, 8), st.floats(1e-3, 0.5), st.integers(1, 2000), st.floats(1e-8, 0.01)
)
def test_more_noise_less_epsilon_more_steps_more(noise, rate, steps, delta):
    epsilon = privacy.epsilon(noise, rate, steps, delta)
    assert 0 <= privacy.epsilon(2 * noise, rate, steps, delta) <= epsilon
    assert epsilon <= privacy.epsilon(noise, rate, 2 * steps, delta)
    assert epsilon <= privacy.epsilon(noise, 2 * rate, steps, delta) < math.inf
    assert epsilon <= privacy.epsilon(noise, rate, steps, delta / 2)


def test_epsilon_moves_and_is_a_float():
    values = [privacy.epsilon(noise, 0.1, 100, 1e-3) for noise in (0.5, 1, 2)]
    assert values[0] > 2 * values[1] > 4 * values[2] > 0
    assert type(values[0]) is float
    assert privacy.epsilon(1.0, 0.1, 200, 1e-3) > 1.2 * values[1]
    assert privacy.epsilon(1.0, 0.1, 100.0, 1e-3) == values[1]


def test_only_what_does_no_harm_is_quiet_and_only_inside(caplog):
    import dp_accounting
    from absl import logging

    step = dp_accounting.PoissonSampledDpEvent(0.1, dp_accounting.GaussianDpEvent(0.3))
    dp_accounting.rdp.RdpAccountant().compose(step, 10)
    assert "failed to converge" in caplog.text  # else there is nothing to quiet
    caplog.clear()
    logger = logging.get_absl_logger()
    filters, level = list(logger.filters), logger.level
    assert 0 < privacy.epsilon(0.3, 0.1, 10, 1e-5) < math.inf
    assert not caplog.records
    privacy.epsilon(0.3, 0.1, 10, 1e-5)
    logging.warning("it failed to converge")
    assert "it failed to converge" in caplog.text
    assert (logger.filters, logger.level) == (filters, level)


def test_other_warnings_of_the_accounting_are_heard(monkeypatch, caplog):
    import dp_accounting
    from absl import logging

    def warn(*_):
        logging.warning("Negative Renyi divergence")
        raise ZeroDivisionError

    monkeypatch.setattr(dp_accounting.rdp.RdpAccountant, "get_epsilon", warn)
    filters = list(logging.get_absl_logger().filters)
    with pytest.raises(ZeroDivisionError):
        privacy.epsilon(**GOOD)
    assert "Negative Renyi divergence" in caplog.text
    assert logging.get_absl_logger().filters == filters


def test_without_noise_there_is_no_bound():
    assert privacy.epsilon(0, 0.01, 1, 1e-5) == math.inf


GOOD = {"noise": 1.0, "rate": 0.1, "steps": 10, "delta": 1e-5}


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("noise", [-1, math.nan, math.inf]),
        ("rate", [0, -0.1, 1.1, math.nan]),
        ("delta", [0, 1, -1, math.nan]),
        ("steps", [0, -1, 1.5, math.nan, math.inf]),
    ],
)
def test_bad_arguments_of_epsilon_are_refused(name, values):
    for value in values:
        with pytest.raises(ValueError, match=f"expected .*{name}.*got.*{value}"):
            privacy.epsilon(**{**GOOD, name: value})


# federated averaging


def test_a_federated_average_worked_by_hand():
    small = [np.array([[1.0, 2.0]]), np.array([0.0])]
    large = [np.array([[5.0, 6.0]]), np.array([4.0])]
    found = privacy.federated_average([small, large], [1, 3])
    np.testing.assert_allclose(found[0], [[4.0, 5.0]])
    np.testing.assert_allclose(found[1], [3.0])
    assert len(found) == 2 and small[0][0, 0] == 1.0


def test_one_step_in_five_hospitals_is_one_step_on_all_patients():
    # the gradient of a mean loss, from each hospital's own mean
    rng = np.random.default_rng(0)
    sizes, weights, step = [10, 20, 30, 40, 7], rng.normal(size=3), 0.1
    X, y = rng.normal(size=(sum(sizes), 3)), rng.normal(size=sum(sizes))

    def stepped(X, y):
        return weights - step * 2 * X.T @ (X @ weights - y) / len(y)

    ends = np.cumsum(sizes)[:-1]
    parts = zip(np.split(X, ends), np.split(y, ends), strict=True)
    (found,) = privacy.federated_average([[stepped(*part)] for part in parts], sizes)
    np.testing.assert_allclose(found, stepped(X, y), rtol=1e-12)


@given(
    hnp.arrays(float, (4, 3), elements=st.floats(-1e3, 1e3)), st.permutations(range(4))
)
def test_order_and_unit_of_size_do_not_matter(values, order):
    sizes = np.array([1, 2, 3, 10])
    (plain,) = privacy.federated_average([[v] for v in values], sizes)
    (other,) = privacy.federated_average([[values[k]] for k in order], 5 * sizes[order])
    np.testing.assert_allclose(plain, other, rtol=1e-9, atol=1e-9)
    (same,) = privacy.federated_average([[values[0]]] * 4, sizes)
    np.testing.assert_allclose(same, values[0], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    "sizes", [[], [1], [1, 2, 3], [1, 0], [1, -1], [1, math.nan], [1, math.inf]]
)
def test_sizes_that_do_not_fit_are_refused(sizes):
    with pytest.raises(
        ValueError, match="a size of 1 or more for each hospital, got 2"
    ):
        privacy.federated_average([[np.ones(2)], [np.ones(2)]], sizes)
    with pytest.raises(ValueError, match="got 0 hospitals"):
        privacy.federated_average([], [])


@pytest.mark.parametrize(
    "second",
    [
        [np.ones(3)],
        [np.ones((2, 1))],
        [],
        [np.ones(2), np.ones(1)],
        [np.array([1.0, math.nan])],
    ],
)
def test_a_hospital_that_does_not_fit_is_named(second):
    with pytest.raises(ValueError, match="hospital 1 has arrays of shapes .* expected"):
        privacy.federated_average([[np.ones(2)], second], [1, 1])


def test_the_module_loads_without_the_heavy_packages():
    code = (
        "import sys, helpers.privacy\n"
        "heavy = {'cryptography', 'dp_accounting', 'pandas', 'scipy'}\n"
        "print(*heavy & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.stdout.strip(), done.returncode) == ("", 0), done.stderr
