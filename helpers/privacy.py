"""Keep patients' data from those who should not see them, and show who looked.

A key is bytes from `new_key`. Keep it apart from what it guards, never print it and
never write it into a notebook: no error message and no repr here shows one.

Introduced in: challenges/privacy
"""

import base64
import hashlib
import hmac
import json
import logging
import math
import os
import sqlite3
import tempfile
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import numpy as np


def new_key():
    """A fresh random key, for `seal`, `pseudonym` or `Records`: one for each use.

    Returns: bytes, 44 characters that hold 32 random bytes
    Introduced in: challenges/privacy
    """
    from cryptography.fernet import Fernet

    return Fernet.generate_key()


def seal(data, keys):
    """Encrypt data, with a code: without a key none can read or change it unseen.

    data: bytes
    keys: list of bytes from `new_key`, newest first; the first one seals
    Returns: bytes, a Fernet token; it shows its length and when it was sealed
    Raises: ValueError if data is not bytes or a key is not from `new_key`
    Source: the Fernet specification, in the package cryptography
    Introduced in: challenges/privacy
    """
    return _fernet(keys).encrypt(_bytes(data))


def unseal(sealed, keys):
    """What was sealed, if one of the keys fits and not one bit was changed.

    sealed: bytes from `seal` or `reseal`
    keys: list of bytes from `new_key`; each is tried
    Returns: bytes, the data
    Raises: ValueError, and nothing is returned, if no key fits or a bit was changed
    Introduced in: challenges/privacy
    """
    return _opened(_fernet(keys).decrypt, sealed)


def reseal(sealed, keys):
    """Rotate keys: open with any of them and seal again with the first.

    sealed, keys: as for `unseal`; put the new key first, drop the old one afterwards
    Returns: bytes
    Raises: ValueError as `unseal` does
    Introduced in: challenges/privacy
    """
    return _opened(_fernet(keys).rotate, sealed)


def replace_file(path, data):
    """Write a file whole or not at all: whatever fails, the old content stays.

    path: where to; data: bytes, best from `seal` or `reseal`
    Returns: None
    Raises: ValueError if data is not bytes; OSError if the folder cannot be written
    Introduced in: challenges/privacy
    """
    path = Path(path)
    number, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with open(number, "wb") as file:
            file.write(_bytes(data))
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise


def _bytes(data):
    if not isinstance(data, bytes):
        raise ValueError(f"expected bytes, got {type(data).__name__}: .encode() a text")
    return data


def _fernet(keys):
    from cryptography.fernet import Fernet, MultiFernet

    if not isinstance(keys, list | tuple) or not keys:
        raise ValueError("expected a list of keys, newest first: [key] if there is one")
    try:
        return MultiFernet([Fernet(_bytes(key)) for key in keys])
    except ValueError:  # from None: the key must not show
        raise ValueError("a key is not 32 bytes in base64: take new_key()") from None


def _opened(use, sealed):
    from cryptography.fernet import InvalidToken

    _bytes(sealed)
    try:  # base64 can leave bits unused at its end: these too must be as they were
        if base64.urlsafe_b64encode(base64.urlsafe_b64decode(sealed)) != sealed:
            raise InvalidToken
        return use(sealed)
    except (InvalidToken, ValueError):
        raise ValueError(
            "cannot unseal: no key fits, or the bytes were changed or cut; "
            "look for the key, or go back to a copy"
        ) from None


def pseudonym(identifier, key):
    """The same patient gets the same name, which none can trace back without the key.

    A plain hash would not do: who knows how identifiers look hashes them all.

    identifier: str, not empty
    key: bytes, 16 or more
    Returns: str, 16 hexadecimal digits; two of 10**6 patients share one with a chance
        of 3 in 10**8
    Raises: ValueError if the identifier or the key is missing or too short
    Source: HMAC-SHA256, RFC 2104. Introduced in: challenges/privacy
    """
    if not isinstance(identifier, str) or not identifier:
        raise ValueError("expected an identifier: text that is not empty")
    return _code(_long_enough(key), identifier)[:16]


def _long_enough(key):
    if not isinstance(key, bytes) or len(key) < 16:
        raise ValueError("expected a key of 16 bytes or more: take new_key()")
    return key


def _code(key, text):
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()


def k_anonymity(table, quasi_identifiers):
    """The size of the smallest group of rows that look alike to an outsider.

    table: DataFrame, one row a patient; a missing value counts as a value
    quasi_identifiers: list of columns that an outsider may know, as age and postcode
    Returns: int, k; higher is better, at 1 someone stands alone
    Raises: ValueError if the table is empty or a column not in it
    Source: Sweeney (2002), doi 10.1142/S0218488502001648
    Introduced in: challenges/privacy
    """
    return int(_groups(table, quasi_identifiers).size().min())


def l_diversity(table, quasi_identifiers, sensitive):
    """How many sensitive values the least varied group holds: what k does not see.

    table, quasi_identifiers: as for `k_anonymity`
    sensitive: column that must stay secret, as the diagnosis
    Returns: int, distinct l; higher is better, at 1 a group gives its secret away
    Raises: ValueError as `k_anonymity`, or if the sensitive column identifies, too
    Source: Machanavajjhala et al. (2007), doi 10.1145/1217299.1217302
    Introduced in: challenges/privacy
    """
    groups = _groups(table, quasi_identifiers, sensitive)
    return int(groups[sensitive].nunique(dropna=False).min())


def _groups(table, columns, *sensitive):
    used = [*columns, *sensitive] if isinstance(columns, list | tuple) else []
    if len(set(used)) < len(used) or len(used) <= len(sensitive) or not len(table):
        raise ValueError("expected a table with rows and a list of different columns")
    if missing := [column for column in used if column not in table]:
        raise ValueError(f"no column {missing}: the table has {list(table.columns)}")
    return table.groupby(list(columns), dropna=False, observed=True)


_TABLES = """
CREATE TABLE IF NOT EXISTS value (patient_id TEXT, name TEXT, value,
    PRIMARY KEY (patient_id, name));
CREATE TABLE IF NOT EXISTS trail (number INTEGER PRIMARY KEY, time TEXT, user TEXT,
    role TEXT, patient_id TEXT, columns TEXT, allowed INTEGER, code TEXT);
CREATE TRIGGER IF NOT EXISTS no_update BEFORE UPDATE ON trail
    BEGIN SELECT RAISE(ABORT, 'the trail is append-only'); END;
CREATE TRIGGER IF NOT EXISTS no_delete BEFORE DELETE ON trail
    BEGIN SELECT RAISE(ABORT, 'the trail is append-only'); END;
CREATE TRIGGER IF NOT EXISTS no_replace BEFORE INSERT ON trail
    WHEN NEW.number IS NOT (SELECT COALESCE(MAX(number), 0) + 1 FROM trail)
    BEGIN SELECT RAISE(ABORT, 'the trail is append-only'); END;
"""
_ALL = "SELECT * FROM trail ORDER BY number"
_LAST = "SELECT number, code FROM trail ORDER BY number DESC LIMIT 1"


class Records:
    """Patients' values in an SQLite file, and a trail of who asked for which.

    Each row of the trail ends in a code, an HMAC of the row and of the code before
    it: who edits the file without the key breaks the chain at that row. Who cuts off
    its end, or has the key, does not: against that an auditor keeps a `head`. Who the
    user is must be made sure elsewhere; who opens the file itself leaves no trace.

    path: the file, made if it is not there; its folder must be
    key: bytes, 16 or more
    roles: dict from a role to the set of columns that it may read
    Raises: ValueError if an argument is not as said or the file is not such a store
    Introduced in: challenges/privacy
    """

    def __init__(self, path, key, roles):
        sets = roles.values() if isinstance(roles, dict) else [None]
        if not all(isinstance(names, set | frozenset) for names in sets) or not all(
            _texts([role]) and _texts(names) for role, names in roles.items()
        ):
            raise ValueError(
                'expected roles like {"nurse": {"temperature"}}, with sets'
            )
        self._path, self._key = Path(path).absolute(), _long_enough(key)
        self._roles = {role: frozenset(names) for role, names in roles.items()}
        try:
            with self._connection() as connection:
                connection.executescript(_TABLES)
        except sqlite3.DatabaseError as error:
            raise ValueError(f"{path} is no store of records: {error}") from None

    @contextmanager
    def _connection(self):
        connection = sqlite3.connect(self._path, isolation_level=None)
        try:
            yield connection
        finally:
            connection.close()  # rolls back what was not committed; Windows needs it

    def add(self, patient_id, values):
        """Store values of a patient, all or none; this leaves no row in the trail.

        patient_id: str; values: dict from columns of the roles to numbers or text
        Raises: ValueError if a column is in no role or a value there already
        """
        known = frozenset().union(*self._roles.values())
        if not _texts([patient_id]) or not isinstance(values, dict) or not values:
            raise ValueError("expected a patient_id, text, and a dict with values")
        if unknown := [name for name in values if name not in known]:
            raise ValueError(f"no role reads {unknown}: columns are {sorted(known)}")
        rows = [(patient_id, name, value) for name, value in values.items()]
        try:
            with self._connection() as connection:
                connection.execute("BEGIN IMMEDIATE")
                connection.executemany("INSERT INTO value VALUES (?, ?, ?)", rows)
                connection.execute("COMMIT")
        except sqlite3.IntegrityError:
            raise ValueError("a value is there already: none was added") from None
        except (sqlite3.InterfaceError, sqlite3.ProgrammingError):
            raise ValueError("expected plain numbers, text or None: .item()") from None

    def read(self, user, role, patient_id, columns):
        """What a role may see of a patient; the trail keeps who asked, and if in vain.

        user, role, patient_id: str; columns: list of str
        Returns: dict from column to value, after the trail's row is on the disk
        Raises: PermissionError if the role or one of the columns is not allowed;
            LookupError if there is no such patient or value; both leave a row.
            ValueError if an argument is not as said, which leaves none
        """
        names = columns if isinstance(columns, list | tuple) else []
        if not _texts([user, role, patient_id]) or not _texts(names):
            raise ValueError("expected user, role, patient_id: text; columns: a list")
        allowed = set(names) <= self._roles.get(role, frozenset())
        asked = (user, role, patient_id, json.dumps(list(names)), int(allowed))
        with self._connection() as connection:
            connection.execute("BEGIN IMMEDIATE")
            number, code = connection.execute(_LAST).fetchone() or (0, "")
            row = (number + 1, datetime.now(UTC).isoformat(), *asked)
            row += (_code(self._key, code + json.dumps(row)),)
            connection.execute("INSERT INTO trail VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)
            connection.execute("COMMIT")
            if not allowed:
                raise PermissionError(f"role {role!r} may not read {list(names)}")
            query = "SELECT name, value FROM value WHERE patient_id = ?"
            values = dict(connection.execute(query, (patient_id,)))
        if missing := [name for name in names if name not in values]:
            raise LookupError(f"the store holds no {missing} of this patient")
        return {name: values[name] for name in names}

    def trail(self):
        """The trail, oldest first: a list of dicts, one a read, allowed or denied."""
        with self._connection() as connection:
            connection.row_factory = sqlite3.Row
            return [dict(row) for row in connection.execute(_ALL)]

    def head(self):
        """The code of the last row, "" if there is none: for an auditor to keep."""
        rows = self.trail()
        return rows[-1]["code"] if rows else ""

    def verify(self, head=""):
        """Go through the chain; with a head kept elsewhere, a cut end shows, too.

        head: str from an earlier `head`
        Returns: int, the number of rows, all as they were written
        Raises: ValueError that names the first row changed, missing or put in, or says
            that the head is not there: rows were cut off, or all was written anew
        """
        code, codes = "", {""}
        for number, row in enumerate(self.trail(), 1):
            *fields, found = row.values()
            code = _code(self._key, code + json.dumps(fields, default=repr))
            if found != code:
                raise ValueError(f"the trail is not as it was written at row {number}")
            codes.add(code)
        if head not in codes:
            raise ValueError("the trail lacks the head: rows were cut off or replaced")
        return len(codes) - 1


def _texts(values):
    """Whether these are texts, one or more, none empty."""
    return len(values) > 0 and all(isinstance(v, str) and v for v in values)


def private_gradient(gradients, clip, noise, rng, size=None):
    """The mean gradient of a batch in which no single patient weighs much or shows.

    gradients: (batch, n_parameters), one row a patient; no row is fine if size is given
    clip: longest L2 norm that a row keeps, above 0; None leaves all as they are
    noise: 0 or more; the sum gets Gaussian noise of standard deviation noise * clip
    rng: numpy.random.Generator, used if noise is above 0; who knows its seed takes the
        noise off again
    size: what to divide by, if not the rows: the expected batch of Poisson sampling
    Returns: (n_parameters,); with clip None and noise 0 the plain mean
    Raises: ValueError if an argument is not as said, or noise comes without a clip
    Source: Abadi et al. (2016), algorithm 1, doi 10.1145/2976749.2978318
    Introduced in: challenges/privacy
    """
    gradients = np.asarray(gradients, dtype=float)
    size = len(gradients) if size is None and gradients.ndim else size
    fits = gradients.ndim == 2 and np.isfinite(gradients).all()
    if not fits or not 0 < size < math.inf:
        raise ValueError(
            "expected finite gradients (batch, n_parameters), one row a patient, got "
            f"shape {gradients.shape}, and a size above 0, got {size}"
        )
    fits = noise == 0 if clip is None else 0 < clip < math.inf
    if not fits or not 0 <= noise < math.inf:
        raise ValueError(
            f"expected noise of 0 or more and a clip above 0, got noise={noise}, "
            f"clip={clip}: clip=None goes with noise=0 only"
        )
    if clip is not None:
        norms = np.linalg.norm(gradients, axis=1, keepdims=True)
        gradients = gradients / np.maximum(1, norms / clip)
    total = gradients.sum(axis=0)
    if noise:
        if not isinstance(rng, np.random.Generator):
            raise ValueError("noise needs rng, a numpy.random.Generator")
        total += rng.normal(scale=noise * clip, size=total.shape)
    return total / size


def epsilon(noise, rate, steps, delta):
    """How much a trained model may tell about one patient: an upper bound.

    With her row and without it, P(S) <= exp(epsilon) * P'(S) + delta for every set S
    of models, and the other way round. It holds if every step drew each row by itself
    with the same chance and all steps are counted; dp-accounting computes it.

    noise: as for `private_gradient`
    rate: chance of a patient to be in a batch, above 0, at most 1
    steps: int, 1 or more
    delta: what the bound lets be added, 0 to 1, far below 1 / number of patients
    Returns: float, lower is more private; inf without noise
    Raises: ValueError if an argument is not as said
    Source: Mironov et al. (2019), doi 10.48550/arXiv.1908.10530
    Introduced in: challenges/privacy
    """
    if not (0 <= noise < math.inf and 0 < rate <= 1 and 0 < delta < 1):
        raise ValueError(
            "expected noise >= 0, 0 < rate <= 1 and 0 < delta < 1, got "
            f"noise={noise}, rate={rate}, delta={delta}"
        )
    if not steps >= 1 or steps % 1 != 0:
        raise ValueError(f"expected a whole number of steps, 1 or more, got {steps}")
    import dp_accounting

    step = dp_accounting.PoissonSampledDpEvent(
        rate, dp_accounting.GaussianDpEvent(noise)
    )
    logger = logging.getLogger("absl")
    logger.addFilter(_matters)
    try:
        accountant = dp_accounting.rdp.RdpAccountant().compose(step, int(steps))
        return float(accountant.get_epsilon(delta))
    finally:
        logger.removeFilter(_matters)


def _matters(record):
    """An order of the accounting that does not converge is left out: no harm done."""
    return "failed to converge" not in record.getMessage()


def federated_average(weights, sizes):
    """One model from those of several hospitals, each weighing as its patients do.

    weights: list with one list of arrays a hospital, as Keras's get_weights gives it
    sizes: list of how many patients each hospital trained on, 1 or more
    Returns: list of arrays, shaped as one hospital's
    Raises: ValueError if the hospitals differ in number or shapes, or are not finite
    Source: McMahan et al. (2017), doi 10.48550/arXiv.1602.05629
    Introduced in: challenges/privacy
    """
    weights = [[np.asarray(a, dtype=float) for a in arrays] for arrays in weights]
    fits = len(weights) == len(sizes) > 0
    if not fits or not all(1 <= size < math.inf for size in sizes):
        raise ValueError(
            f"expected a size of 1 or more for each hospital, got {len(weights)} "
            f"hospitals and sizes {list(sizes)}"
        )
    for number, arrays in enumerate(weights):
        shapes, first = ([a.shape for a in part] for part in (arrays, weights[0]))
        if shapes != first or not all(np.isfinite(a).all() for a in arrays):
            raise ValueError(
                f"hospital {number} has arrays of shapes {shapes}, expected {first}, "
                "all finite: send every hospital the same model"
            )
    return [
        np.average(arrays, axis=0, weights=sizes)
        for arrays in zip(*weights, strict=True)
    ]
