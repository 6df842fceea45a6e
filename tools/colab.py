"""The Colab export: each chapter as one notebook that needs no other file.

Its first cell carries the `helpers` package and installs what is missing, in any
Jupyter; `tools.plain` makes its MyST plain Markdown.
"""

import ast
import base64
import functools
import importlib.util
import inspect
import io
import lzma
import os
import sys
import tomllib
import zipfile

import nbformat
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tools import chapters, plain

FOLDER = chapters.HTML / "colab"
SETUP_CELL = "colab-setup"  # id of the cell that carries the helpers
CORE = {"keras": "Keras", "numpy": "NumPy", "tensorflow": "TensorFlow"}
GIVEN = {"helpers", "IPython", *CORE, *sys.stdlib_module_names}  # never installed
DISTRIBUTIONS = {  # where the import has another name than the package
    "PIL": "pillow",
    "mpl_toolkits": "matplotlib",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
    "yaml": "PyYAML",
}
BY_NAME = {"distribution", "files", "import_module"}  # calls that name a package
COLLAPSED = {"cellView": "form", "jupyter": {"source_hidden": True}}  # Colab, Jupyter
HEAD = """\
# @title Run this cell first: it prepares the session
# @markdown It carries the book's `helpers` and installs only packages that are
# @markdown missing here. TensorFlow, Keras and NumPy stay as they are.
"""
SOLUTION = "# @title Solution\n"


def export(folder=FOLDER, paths=None):
    """Write the export of every notebook, and remove those of former chapters."""
    paths = chapters.notebooks() if paths is None else paths
    references = plain.bibliography()
    texts = {file_name(path): text(path, references) for path in paths}
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in texts.items():
        half = folder / f"{name}.part"  # an interrupted export leaves no half notebook
        half.write_text(content, encoding="utf-8", newline="\n")
        os.replace(half, folder / name)
    for file in folder.iterdir():
        if file.is_file() and file.name not in texts:
            file.unlink()


def file_name(path):
    """The export's file name, for example concepts-learning_from_data.ipynb."""
    return chapters.name(path).replace("/", "-") + ".ipynb"


def text(path, references):
    """The export of one notebook, as the text of its file."""
    source, place = chapters.read(path), "first cell"
    code = [cell.source for cell in source.cells if cell.cell_type == "code"]
    try:
        if any(cell.id == SETUP_CELL for cell in source.cells):
            raise ValueError(f"give the cell {SETUP_CELL!r} another id: it is taken")
        cells = [_code_cell(SETUP_CELL, setup_code(code), COLLAPSED)]
        for cell in source.cells:
            place = f"cell {cell.id!r}"
            cells.append(_cell(cell, path, references))
    except ValueError as error:
        message = f"Colab export of {chapters.name(path)}, {place}: {error}"
        raise ValueError(message) from error
    notebook = nbformat.v4.new_notebook(
        cells=cells,
        metadata={
            "colab": {"provenance": []},
            "kernelspec": chapters.KERNELSPEC,
            "language_info": {"name": "python"},
        },
    )
    nbformat.validate(notebook)
    return chapters.text(notebook)


def _cell(cell, path, references):
    """A cell as the export has it: no outputs, no MyST, a solution collapsed."""
    if cell.cell_type != "code":
        source = plain.markdown(cell.source, path, references)
        return nbformat.v4.new_markdown_cell(source, id=cell.id)
    tags = chapters.tags(cell)
    solution = "solution" in tags
    metadata = {
        **(COLLAPSED if solution else {}),
        **({"tags": ["raises-exception"]} if "raises-exception" in tags else {}),
    }
    return _code_cell(cell.id, SOLUTION * solution + cell.source, metadata)


def _code_cell(name, source, metadata):
    return nbformat.v4.new_code_cell(source, id=name, metadata=metadata)


# The first cell


def setup_code(sources):
    """The first cell for a chapter with these code cells."""
    wanted, core = requirements(sources)
    packed = base64.encodebytes(pack(sources)).decode()
    call = f"prepare(PACKED, wanted={wanted!r}, core={core!r})"
    end = "del PACKED, prepare  # the names are the chapter's own"
    function = inspect.getsource(prepare)
    return f'{HEAD}{function}\n\nPACKED = """\n{packed}"""\n{call}\n{end}'


def prepare(packed, wanted, core):
    """Unpack the helpers, and install what is missing; what is there stays."""
    import atexit
    import base64
    import importlib
    import io
    import lzma
    import os
    import shutil
    import subprocess
    import sys
    import tempfile
    import zipfile
    from importlib import metadata, util

    if os.environ.get("KERAS_BACKEND", "tensorflow") != "tensorflow":
        core = {name: core[name] for name in core if name != "tensorflow"}
    lacking = [title for name, title in core.items() if util.find_spec(name) is None]
    if lacking:
        raise ModuleNotFoundError(
            f"This notebook needs {' and '.join(lacking)}, which this Python lacks and "
            "this cell never installs: install it yourself or open the notebook in "
            "Colab, then run this cell again."
        )

    def pin(name):
        try:
            return f"{name}=={metadata.version(name)}\n"
        except metadata.PackageNotFoundError:
            return f"{name}<0\n"  # no version is below 0: pip cannot bring one in

    folder = tempfile.mkdtemp(prefix="helpers-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    missing = [wanted[name] for name in wanted if util.find_spec(name) is None]
    if missing:
        print("installing", ", ".join(missing))
        constraints = os.path.join(folder, "constraints.txt")
        with open(constraints, "w") as file:
            file.writelines(map(pin, ("keras", "numpy", "tensorflow")))
        pip = [sys.executable, "-m", "pip", "install", "--quiet"]
        try:
            subprocess.check_call([*pip, "--constraint", constraints, *missing])
        except (OSError, subprocess.CalledProcessError) as error:
            raise RuntimeError(
                f"pip could not install {', '.join(missing)}: check the network, or "
                "install by hand what is named here, then run this cell again."
            ) from error
    unpacked = io.BytesIO(lzma.decompress(base64.b64decode(packed)))
    zipfile.ZipFile(unpacked).extractall(folder)
    for name in [name for name in sys.modules if name.split(".")[0] == "helpers"]:
        del sys.modules[name]  # another package of that name, or an earlier run
    sys.path.insert(0, folder)
    importlib.invalidate_caches()
    print("ready")


@functools.cache
def modules():
    """Every module of `helpers`: dotted name to (its package, its file)."""
    found = {}
    for file in sorted((chapters.ROOT / "helpers").rglob("*.py")):
        *package, last = file.relative_to(chapters.ROOT).with_suffix("").parts
        dotted = package if last == "__init__" else [*package, last]
        found[".".join(dotted)] = (".".join(package), file)
    return found


def pack(sources):
    """The helpers that this code uses, in a zip file compressed as a whole.

    The same code gives the same bytes each time.
    """
    used = with_helpers(set().union(*map(imports, sources)))
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for file in [file for name, (_, file) in modules().items() if name in used]:
            entry = zipfile.ZipInfo(file.relative_to(chapters.ROOT).as_posix())
            entry.create_system, entry.external_attr = 3, 0o644 << 16  # on any system
            archive.writestr(entry, file.read_bytes(), zipfile.ZIP_STORED)
    return lzma.compress(packed.getvalue(), preset=9)


def requirements(sources):
    """What code and the helpers it uses import: (import to requirement, core).

    core: those of TensorFlow, Keras and NumPy that the code itself needs, import to
        title; the helpers load them late, so only the code tells
    """
    listed = tomllib.loads((chapters.ROOT / "pyproject.toml").read_text("utf-8"))
    listed = {
        canonicalize_name(Requirement(line).name): line
        for line in listed["project"]["dependencies"]
    }
    found = set().union(*[imports(source) for source in sources])
    core = {name.split(".")[0] for name in found} & set(CORE)
    if "keras" in core:
        core.add("tensorflow")
    wanted = {}
    for name in sorted({name.split(".")[0] for name in with_helpers(found)} - GIVEN):
        distribution = canonicalize_name(DISTRIBUTIONS.get(name, name))
        if distribution not in listed:
            raise ValueError(
                f"a chapter or helper imports {name!r}, but the dependencies in "
                f"pyproject.toml list no {distribution!r}: add it there, or its name "
                "in tools.colab.DISTRIBUTIONS"
            )
        wanted[name] = listed[distribution]
    return wanted, {name: CORE[name] for name in sorted(core)}


def with_helpers(names):
    """These imports and those of every helpers module among them, to the last."""
    found, new = set(), set(names)
    while new:
        found |= new
        new = set().union(*map(_module_imports, new)) - found
    return found


@functools.cache
def _module_imports(name):
    if name not in modules():
        return frozenset()
    package, file = modules()[name]  # importing a module runs its package, too
    return imports(file.read_text("utf-8"), package) | {package}


def imports(source, package=""):
    """Dotted names of all that this code imports, in functions too."""
    try:
        tree = ast.parse(source)
    except SyntaxError:  # a cell that shows a mistake; tools.rules finds any other
        return frozenset()
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            base = importlib.util.resolve_name(base, package) if node.level else base
            found |= {base, *(f"{base}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Call) and node.args:
            called = getattr(node.func, "attr", getattr(node.func, "id", None))
            first = getattr(node.args[0], "value", None)
            if called in BY_NAME and isinstance(first, str):
                found.add(first)
    return frozenset(found)
