"""Kernels that do not answer are started again, and other failures are not hidden."""

import asyncio
import inspect

import jupyter_client.client
import nbval.kernel
import pytest

from tools import kernels, run

SILENT = [
    "Kernel didn't respond in 60 seconds",
    "Kernel died before replying to kernel_info",
]


class Start:
    """Fails with these errors, one a call, then starts; also as nbclient does."""

    def __init__(self, *errors):
        self.errors, self.calls = list(errors), 0

    def __call__(self, name="kernel"):
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)
        return name

    async def async_execute(self, name="kernel"):
        return self(name)


def patiently(start, **options):
    return asyncio.run(run._patiently(start, **options))


def nbvals(start, **options):
    return kernels.patient(start)(**options)


both = pytest.mark.parametrize("start", [nbvals, patiently])


@both
@pytest.mark.parametrize("words", SILENT)
def test_a_silent_kernel_is_started_again(start, words, capsys):
    attempt = Start(RuntimeError(words), RuntimeError(words))
    assert start(attempt, name="python3") == "python3"
    assert attempt.calls == 3
    assert capsys.readouterr().out.count(f"started again: {words}") == 2


@both
def test_it_ends_when_the_kernel_stays_silent(start):
    attempt = Start(*(RuntimeError(SILENT[0]) for _ in range(9)))
    with pytest.raises(RuntimeError, match="didn't respond"):
        start(attempt)
    assert attempt.calls == kernels.TRIES


@both
@pytest.mark.parametrize(
    "error", [RuntimeError("Kernel died"), ValueError("Kernel didn't respond")]
)
def test_any_other_failure_is_left_alone(start, error):
    attempt = Start(error)
    with pytest.raises(type(error), match=str(error)):
        start(attempt)
    assert attempt.calls == 1


def test_the_words_are_those_of_the_library():
    source = inspect.getsource(jupyter_client.client)
    assert "Kernel didn't respond in %d seconds" in source
    assert SILENT[1] in source


def test_nbval_starts_its_kernels_so(monkeypatch):
    attempt = Start(RuntimeError(SILENT[0]))
    monkeypatch.setattr(nbval.kernel, "start_new_kernel", attempt)
    kernels.pytest_configure()
    assert nbval.kernel.start_new_kernel("python3") == "python3"
