import logging
import os
import random
import subprocess
import sys

import numpy as np
import pytest
from threadpoolctl import threadpool_info

from helpers import runtime


def draws():
    rng = runtime.seed()
    return rng.random(), random.random(), np.random.random()  # noqa: NPY002


def test_one_seed_repeats_every_generator(monkeypatch):
    monkeypatch.setenv("HEALTHBOOK_SEED", "7")
    assert draws() == draws()


def test_another_seed_differs_in_every_generator(monkeypatch):
    monkeypatch.delenv("HEALTHBOOK_SEED", raising=False)
    default = draws()
    monkeypatch.setenv("HEALTHBOOK_SEED", "0")
    assert draws() == default
    monkeypatch.setenv("HEALTHBOOK_SEED", "1")
    assert all(a != b for a, b in zip(draws(), default, strict=True))


def test_keras_is_seeded_where_it_is_loaded(monkeypatch):
    import keras

    monkeypatch.setenv("HEALTHBOOK_SEED", "3")
    runtime.seed()
    first = keras.random.normal((4,))
    runtime.seed()
    assert np.array_equal(first, keras.random.normal((4,)))


def test_advice_on_retracing_is_left_out_and_other_warnings_are_not(caplog):
    import keras  # noqa: F401 - seed() looks whether it is loaded

    runtime.seed()
    logger = logging.getLogger("tensorflow")
    with caplog.at_level("WARNING", logger="tensorflow"):
        logger.propagate, before = True, logger.propagate
        logger.warning("5 out of the last 6 calls triggered tf.function retracing")
        logger.warning("the graph has no %s", "end")
        logger.propagate = before
    assert caplog.messages == ["the graph has no end"]


@pytest.mark.parametrize("text", ["-1", "1.5", "one", "", str(2**32)])
def test_a_bad_seed_says_what_is_expected(monkeypatch, text):
    monkeypatch.setenv("HEALTHBOOK_SEED", text)
    with pytest.raises(
        ValueError, match="expected a whole number from 0 to 4294967295"
    ):
        runtime.seed()


def test_threads_limits_blas_and_restores():
    np.ones((2, 2)) @ np.ones((2, 2))

    def blas():
        return [p["num_threads"] for p in threadpool_info() if p["user_api"] == "blas"]

    before = blas()
    assert before, "no BLAS found: this test would prove nothing"
    with runtime.threads(1):
        assert set(blas()) == {1}
    assert blas() == before


@pytest.mark.parametrize("n", [0, -1, 1.0, True, "2"])
def test_threads_refuses_what_is_no_count(n):
    with pytest.raises(ValueError, match="whole number of at least 1"):
        runtime.threads(n)


def test_report_names_versions_and_device(capsys):
    runtime.report()
    lines = dict(
        line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines()
    )
    assert lines["numpy"] == np.__version__
    assert lines["device"] == runtime.device()
    assert lines["device"].startswith(("CPU, ", "GPU: "))


def test_report_says_what_is_not_installed(capsys, monkeypatch):
    monkeypatch.setattr(runtime, "PACKAGES", ("numpy", "no-such-package"))
    runtime.report()
    assert "no-such-package not installed\n" in capsys.readouterr().out


def test_device_names_a_gpu_where_tensorflow_sees_one(monkeypatch):
    import tensorflow as tf

    gpu = tf.config.PhysicalDevice("/physical_device:GPU:0", "GPU")
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [gpu])
    monkeypatch.setattr(
        tf.config.experimental, "get_device_details", lambda g: {"device_name": "Test"}
    )
    assert runtime.device() == "GPU: Test"


def test_progress_yields_the_items_and_prints_nothing_on_stdout(capsys):
    assert list(runtime.progress(range(3), "steps")) == [0, 1, 2]
    assert capsys.readouterr().out == ""


def test_importing_helpers_loads_nothing_slow():
    program = (
        "import sys, pkgutil, helpers, helpers.claims, helpers.runtime, "
        "helpers.data.tabular; print(*sys.modules)"
    )
    environment = {**os.environ, "PYTHONWARNINGS": "error"}
    loaded = subprocess.check_output(
        [sys.executable, "-c", program], text=True, env=environment
    ).split()
    for slow in ("tensorflow", "keras", "matplotlib", "sklearn", "pandas", "tqdm"):
        assert slow not in loaded
