"""Keep what nbval ran and found right, so that `make book` need not run it again.

A pytest plugin. The pages then show the outputs that were compared, not those of a
second run.
"""

import nbformat
import psutil
import pytest
from jupyter_cache import get_cache
from nbval.plugin import IPyNbCell

from tools import book, run

KEPT = pytest.StashKey()


def pytest_configure(config):
    """Empty the cache of what is stale, once, before the workers fill it."""
    if not hasattr(config, "workerinput"):
        book.forget_stale()
        get_cache(str(book.CACHE)).db.dispose()  # the file is made here, by one alone


def pytest_runtest_makereport(item, call):
    """Note a cell that passed; after a notebook's last one, cache the notebook."""
    if not isinstance(item, IPyNbCell) or call.when != "call" or call.excinfo:
        return
    cells = [c for c in item.parent.nb.cells if c.cell_type == "code"]
    kept = item.parent.stash.setdefault(KEPT, [])
    kept.append((item.test_outputs, call.duration, _memory(item.parent.kernel.km)))
    if len(kept) < len(cells):
        return
    outputs, seconds, memory = zip(*kept, strict=True)
    for number, cell in enumerate(cells):
        cell.outputs = [nbformat.from_dict(output) for output in outputs[number]]
        cell.execution_count = number + 1
    done = run.Run(item.path, item.parent.nb, sum(seconds), max(memory), None)
    cache = get_cache(str(book.CACHE))
    book.keep(cache, done)
    cache.db.dispose()


def _memory(manager):
    """Resident bytes of a kernel and its children, at the end of a cell."""
    try:
        kernel = psutil.Process(manager.provisioner.pid)
        family = [kernel, *kernel.children(recursive=True)]
        return sum(process.memory_info().rss for process in family)
    except psutil.NoSuchProcess:
        return 0
