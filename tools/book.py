"""Build the HTML book: run what changed, render, export, say where it is."""

import hashlib
import os
import shutil
import subprocess
import sys
import time
from urllib.parse import urlsplit

from jupyter_cache import get_cache
from jupyter_cache.base import CacheBundleIn

from helpers.data import fetch
from tools import chapters, colab, run
from tools.chapters import BUILD, HTML, ROOT

CACHE = BUILD / ".jupyter_cache"  # where myst-nb looks for executed notebooks
DOCTREES = BUILD / ".doctrees"


def build():
    """Build the book; every failure ends the process with a message."""
    start = time.monotonic()
    forget_stale()
    paths, cache = chapters.notebooks(), get_cache(str(CACHE))
    changed = [path for path in paths if _record(cache, path) is None]
    print(f"Running {len(changed)} of {len(paths)} notebooks", flush=True)
    if changed:
        run.stop_at_failure(run.execute(changed, done=lambda r: keep(cache, r)))
    lost = [chapters.name(path) for path in paths if _record(cache, path) is None]
    if lost:  # else myst-nb would quietly run them again
        sys.exit(f"These notebooks ran and are not in the cache: {lost}")
    _render()
    colab.export()
    _report(cache, paths, time.monotonic() - start)


def _digest(files, *texts):
    digest = hashlib.sha256(repr(texts).encode())
    for file in sorted(files):
        digest.update(f"\0{file.relative_to(ROOT).as_posix()}\0".encode())
        digest.update(file.read_bytes())
    return digest.hexdigest()


def _data():
    """The data settings, and the files that can be had: fetched before they are read.

    So chapters that run side by side do not fetch a file twice, and a page made on
    stand-in data is made again once the real file is there.
    """
    settings = {k: v for k, v in os.environ.items() if k.startswith("HEALTHBOOK_")}
    settings.setdefault("HEALTHBOOK_SEED", "0")
    served, silent = [], set()
    for name, file in fetch.FILES.items():
        host = urlsplit(file.url).hostname
        try:
            if host in silent and fetch.where(name) == "address":
                continue  # waited for it once
            fetch.fetch(name)
            served.append(name)
        except fetch.NotServed as reason:
            print(f"{name} is not served: {reason}", flush=True)
            silent.add(host)
        except (ValueError, OSError) as error:
            sys.exit(str(error))
    return sorted(settings.items()), served


def forget_stale():
    """Drop results and pages that were made from something that has changed.

    The cache knows a notebook by its code alone. What the code calls is the key
    here: helpers, lock, Python and data for the results; in addition the
    configuration for the pages, which Sphinx rereads only if their own file changed.
    """
    helpers = (ROOT / "helpers").rglob("*.py")
    results = _digest([*helpers, ROOT / "requirements.txt"], sys.version, _data())
    look = [
        p
        for p in (ROOT / "book").rglob("*")
        if p.suffix in (".css", ".js", ".html", ".bib")
    ]
    look += [ROOT / "_config.yml", ROOT / "_toc.yml", ROOT / "tools" / "html.py"]
    pages = _digest(look, results)
    if _stamp("results") != results:
        shutil.rmtree(CACHE, ignore_errors=True)
    if _stamp("pages") != pages:
        shutil.rmtree(DOCTREES, ignore_errors=True)
        shutil.rmtree(HTML, ignore_errors=True)
    BUILD.mkdir(exist_ok=True)
    (BUILD / "results.key").write_text(results)
    (BUILD / "pages.key").write_text(pages)


def _stamp(name):
    file = BUILD / f"{name}.key"
    return file.read_text() if file.exists() else None


def _record(cache, path):
    try:
        return cache.match_cache_notebook(chapters.read(path))
    except KeyError:
        return None


def keep(cache, done):
    """Put a notebook that ran where myst-nb finds it."""
    done.notebook.metadata.update(  # the kernel is part of the cache's key
        kernelspec=chapters.KERNELSPEC,
        language_info={"name": "python", "pygments_lexer": "ipython3"},
    )
    bundle = CacheBundleIn(
        done.notebook,
        str(done.path),
        data={"execution_seconds": done.seconds, "memory": done.memory},
    )
    cache.cache_notebook_bundle(bundle, check_validity=False, overwrite=True)


def _render():
    """Jupyter Book, with every warning an error and its exit code kept."""
    program = "from jupyter_book.cli.main import main; main()"
    command = ["build", str(ROOT), "-W", "--keep-going"]
    code = subprocess.call([sys.executable, "-c", program, *command], cwd=ROOT)
    if code:
        # Sphinx says a page's warnings only when it reads the page: make it reread
        shutil.rmtree(DOCTREES, ignore_errors=True)
        sys.exit(
            f"\nThe pages were not built (exit code {code}): see the warnings above."
        )


def _report(cache, paths, seconds):
    width = max(len(chapters.name(path)) for path in paths)
    print(f"\n{'chapter':{width}}  seconds  memory")
    for path in paths:
        data = _record(cache, path).data
        took, memory = data["execution_seconds"], data["memory"] / 1e6
        print(f"{chapters.name(path):{width}}  {took:7.1f}  {memory:8.0f} MB")
    print(f"\nBuilt in {seconds:.1f} s: {(HTML / 'index.html').as_uri()}")


def executed(path):
    """The notebook with the outputs of its last build; build first."""
    cache = get_cache(str(CACHE))
    try:
        return cache.merge_match_into_notebook(chapters.read(path))[1]
    finally:
        cache.db.dispose()  # else Python 3.13 warns of an unclosed database
