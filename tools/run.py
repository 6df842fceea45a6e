"""Run notebooks in fresh kernels, two at a time, and say how it goes."""

import asyncio
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import nbformat
import psutil
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbval.plugin import coalesce_streams

from tools import chapters, kernels

AT_ONCE = 2
CELL_TIMEOUT = 600  # seconds
SAMPLE = 0.2  # seconds between two looks at a kernel's memory


class Run(NamedTuple):
    """One notebook that ran.

    notebook: the notebook with its outputs
    seconds: how long it took
    memory: int, most resident bytes seen of the kernel and its children
    error: what failed, in words, or None
    """

    path: object
    notebook: object
    seconds: float
    memory: int
    error: str | None


def environment(**more):
    """The environment of a run: this one, with every scratch file inside _build.

    So a run neither reads a user's settings nor needs a home that can be written.
    """
    scratch = chapters.BUILD / "scratch"
    scratch.mkdir(parents=True, exist_ok=True)
    places = {
        "JUPYTER_RUNTIME_DIR": scratch / "jupyter-runtime",
        "JUPYTER_CONFIG_DIR": scratch / "jupyter-config",
        "JUPYTER_DATA_DIR": scratch / "jupyter-data",
        "IPYTHONDIR": scratch / "ipython",
        "MPLCONFIGDIR": scratch / "matplotlib",
        "KERAS_HOME": scratch / "keras",
    }
    return {
        **os.environ,
        **{key: str(place) for key, place in places.items()},
        "JUPYTER_PREFER_ENV_PATH": "1",
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
        **more,
    }


def execute(paths, *, environments=None, allow_errors=False, done=None):
    """Run each notebook and return the runs, in the order of the paths.

    environments: one dict of further variables a path, or None
    allow_errors: go on after a failing cell instead of ending the notebook there
    done: called with each Run that did not fail, as soon as it ends
    After a failure no further notebook is started.
    """
    os.environ.update(environment())
    environments = environments or [{}] * len(paths)
    runs = _all(paths, environments, allow_errors, done)
    # in a thread of its own: in the main thread nbclient would take Ctrl-C for itself
    return ThreadPoolExecutor(1).submit(asyncio.run, runs).result()


async def _all(paths, environments, allow_errors, done):
    places, failed = asyncio.Semaphore(AT_ONCE), asyncio.Event()

    async def one(number, path, more):
        async with places:
            if failed.is_set():
                return None
            head = f"  [{number}/{len(paths)}] {chapters.name(path)}"
            print(f"{head} ...", flush=True)
            run = await _one(path, more, allow_errors)
            if run.error:
                failed.set()
                print(f"{head} FAILED after {run.seconds:.1f} s", flush=True)
            else:
                print(
                    f"{head} {run.seconds:.1f} s, {run.memory / 1e6:.0f} MB", flush=True
                )
                if done:
                    done(run)
            return run

    jobs = [
        one(k + 1, *pair)
        for k, pair in enumerate(zip(paths, environments, strict=True))
    ]
    return [run for run in await asyncio.gather(*jobs) if run]


async def _one(path, more, allow_errors):
    notebook = chapters.read(path)
    client = NotebookClient(
        notebook,
        timeout=CELL_TIMEOUT,
        kernel_name="python3",
        record_timing=False,  # times in cell metadata would be part of the cache key
        allow_errors=allow_errors,
        resources={"metadata": {"path": str(path.parent)}},
    )
    peak = [0]
    watch = asyncio.create_task(_watch(client, peak))
    start, error = time.monotonic(), None
    log = chapters.BUILD / "scratch" / f"{chapters.name(path).replace('/', '-')}.log"
    try:
        with open(log, "wb") as stderr:  # what a kernel says outside of its cells
            await _patiently(client, env=environment(**more), stderr=stderr)
    except (CellExecutionError, CellTimeoutError, DeadKernelError) as failure:
        error = _failure(path, notebook, failure, log)
    finally:
        watch.cancel()
    return Run(path, notebook, time.monotonic() - start, peak[0], error)


async def _patiently(client, **options):
    """Execute; with a new kernel if the first one never answers."""
    for _ in range(kernels.TRIES - 1):
        try:
            return await client.async_execute(**options)
        except RuntimeError as error:
            if not kernels.silent(error):
                raise
            print(f"  a kernel is started again: {error}", flush=True)
    return await client.async_execute(**options)


async def _watch(client, peak):
    """Keep the largest resident size of the kernel and its children."""
    while True:
        await asyncio.sleep(SAMPLE)
        pid = getattr(getattr(client.km, "provisioner", None), "pid", None)
        if pid:
            try:
                kernel = psutil.Process(pid)
                family = [kernel, *kernel.children(recursive=True)]
                peak[0] = max(peak[0], sum(p.memory_info().rss for p in family))
            except psutil.NoSuchProcess:
                continue  # it ended between the two looks


def _failure(path, notebook, failure, log):
    """Notebook, cell and error in a few lines."""
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    ran = [cell for cell in code if cell.execution_count is not None or cell.outputs]
    failing = [c for c in code if any(o.output_type == "error" for o in c.outputs)]
    expected = [c for c in failing if "raises-exception" in chapters.tags(c)]
    cell = next((c for c in failing if c not in expected), ran[-1] if ran else code[0])
    if isinstance(failure, CellExecutionError):
        error = f"{failure.ename}: {failure.evalue}"
    elif isinstance(failure, CellTimeoutError):
        error = f"the cell ran longer than {CELL_TIMEOUT} s"
    else:
        words = log.relative_to(chapters.ROOT)
        error = f"the kernel died (out of memory?); its last words: {words}"
    place = path.relative_to(chapters.ROOT).as_posix()
    return f"notebook {place}\ncell     {cell.id!r}\nerror    {error}"


def stop_at_failure(runs):
    """Exit with the failures as the last lines, if there are any."""
    failures = [run.error for run in runs if run.error]
    if failures:
        sys.exit("\nA cell failed.\n" + "\n\n".join(failures))


def warnings(notebook):
    """Python warnings that a run left on the error streams of its cells."""
    return [
        line
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if output.get("name") == "stderr"
        for line in output.text.splitlines()
        if "Warning: " in line
    ]


def promised(notebook, run):
    """The notebook with each promise cell's text taken from the run."""
    fresh = {cell.id: cell for cell in run.notebook.cells}
    for cell in notebook.cells:
        if "promise" in chapters.tags(cell):
            outputs = [o for o in fresh[cell.id].outputs if o.get("name") != "stderr"]
            merged = coalesce_streams(outputs)  # as nbval does before it compares
            cell.outputs = [nbformat.from_dict(output) for output in merged]
            cell.execution_count = 1
    return chapters.formatted(notebook)
