"""Imports point one way, and `import batchnorm` brings in Keras and NumPy alone."""

import ast
import graphlib
import inspect
import json
import pkgutil
import sys
from pathlib import Path
from typing import NamedTuple

import keras
import pytest

import batchnorm
from tests.process import output_of

SOURCE = Path(batchnorm.__file__).parent
MODULES = {
    ".".join(path.relative_to(SOURCE.parent).with_suffix("").parts).removesuffix(".__init__"): path
    for folder in (SOURCE, SOURCE.with_name("batchnorm_app"))
    for path in sorted(folder.rglob("*.py"))
}

# The rooms that a room may import. A room of the library is a file or a folder of src/batchnorm,
# one of the application has "app." before its name; "batchnorm" and "app" are the two
# `__init__.py`. A new room needs a line here.
CALL = {"stages", "slots", "kernels", "replicas"}
LAYER = CALL | {"functional", "spectral", "variables", "scale_and_shift", "layer"}
LIBRARY = LAYER | {"batchnorm", "recipes", "blocks", "models", "data", "surgery", "doctor"}
PLAIN = {"app.choices", "app.errors", "app.files", "app.console", "app.progress"}  # of no room
RUNS = PLAIN | {"app.runs"}
WORK = RUNS | {"app.train", "app.evaluate", "app.plots"}
ROOMS: dict[str, set[str]] = {
    "stages": set(),
    "slots": {"stages"},
    "kernels": {"stages"},
    "replicas": {"stages"},
    "spectral": {"slots", "stages"},
    "functional": CALL,
    "scale_and_shift": CALL | {"spectral"},
    "variables": CALL | {"functional", "spectral"},
    "layer": LAYER - {"layer"},
    "recipes": LAYER,
    "blocks": LAYER | {"recipes"},
    "models": LAYER | {"recipes", "blocks"},
    "surgery": LAYER,
    "doctor": LAYER | {"surgery"},
    "contrib": LAYER | {"surgery"},
    "data": set(),
    "reference": set(),
    "batchnorm": LAYER | {"recipes", "blocks", "surgery", "doctor"},
    "__main__": set(),
    "app": set(),
    "app.__main__": {"app.cli"},
    "app.choices": set(),
    "app.errors": set(),
    "app.console": {"app.errors"},
    "app.files": {"app.errors"},
    "app.progress": {"app.console", "app.errors"},
    "app.plots": set(),
    "app.runs": LIBRARY | PLAIN,
    "app.train": LIBRARY | RUNS | {"app.plots"},
    "app.evaluate": LIBRARY | RUNS | {"app.plots", "app.train"},
    "app.benchmark": LIBRARY | WORK,
    "app.report": LIBRARY | RUNS | {"app.plots"},
    "app.launch": LIBRARY | RUNS,
    "app.cli": LIBRARY | WORK | {"contrib", "app.benchmark", "app.launch", "app.report"},
}

# Which other libraries a room may import, and for its modules those that a line names.
DEFAULT = {"keras", "numpy"}
LIBRARIES: dict[str, set[str]] = {
    "reference": {"numpy"},
    "batchnorm.slots.combinations": set(),
    "batchnorm.stages.placement": {
        "keras",
        "numpy",
        "tensorflow",
        "jax",
        "torch",
    },  # their compilers
    "batchnorm.stages.snapshot": {"keras", "torch"},
    "batchnorm.stages.product": {"keras", "torch"},
    "batchnorm.stages.product.torch": {"torch"},
    "batchnorm.kernels.tensorflow": {"keras", "numpy", "tensorflow"},
    "batchnorm.kernels.jax": {"keras", "jax"},
    "batchnorm.kernels.torch": {"keras", "torch"},
    "batchnorm.replicas.tensorflow": {"keras", "tensorflow"},
    "batchnorm.replicas.jax": {"keras", "jax"},
    "batchnorm.replicas.torch": {"keras", "torch"},
    "contrib": {"keras", "numpy", "tensorflow"},
    "app.choices": set(),
    "app.errors": set(),
    "app.console": {"rich"},
    "app.progress": {"keras", "rich"},
    "app.plots": {"keras", "numpy", "matplotlib", "PIL"},
    "app.runs": {"keras", "numpy", "pydantic"},
    "app.train": {"keras", "numpy", "rich", "tensorboard"},
    "batchnorm_app.train.loop": {"keras", "rich", "tensorflow", "torch"},  # their determinism
    "batchnorm_app.train.steps.tensorflow": {"keras", "tensorflow"},
    "batchnorm_app.train.steps.jax": {"keras", "jax"},
    "batchnorm_app.train.steps.torch": {"keras", "torch"},
    "app.evaluate": {"keras", "numpy", "rich"},
    "app.benchmark": {"keras", "numpy", "rich"},
    "batchnorm_app.benchmark.runners.tensorflow": {"keras", "tensorflow"},
    "batchnorm_app.benchmark.runners.jax": {"keras", "jax"},  # and flax, by its name
    "batchnorm_app.benchmark.runners.torch": {"keras", "torch"},
    "app.report": {"keras", "numpy", "jinja2"},
    "app.launch": {"keras", "ray"},
    "app.cli": {"keras", "rich", "typer"},
}
BACKENDS = {"tensorflow", "jax", "torch"}


class Import(NamedTuple):
    """One import: of which module, and whether it runs when a function does, or never."""

    module: str
    within: bool


def imports(source: str, importer: str = "batchnorm.somewhere") -> set[Import]:
    """All imports of a module; of a package's names those that are modules are modules."""
    tree = ast.parse(source)
    functions = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
    within = {
        id(node)
        for block in ast.walk(tree)
        if isinstance(block, functions)
        or (isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING")
        for node in ast.walk(block)
    }
    result = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{importer}, line {node.lineno}: imports are absolute here"
            paths = [f"{node.module}.{alias.name}" for alias in node.names]
            modules = [path if path in MODULES else str(node.module) for path in paths]
        else:
            continue
        result |= {Import(module, id(node) in within) for module in modules}
    return result


def room(module: str) -> str:
    package, *parts = module.split(".")
    if package == "batchnorm_app":
        return ".".join(["app", *parts[:1]])
    return parts[0] if parts else package


def ours(module: str) -> bool:
    return module.split(".")[0] in ("batchnorm", "batchnorm_app")


def libraries(module: str) -> set[str]:
    """The libraries of the nearest line: the module's, a package's around it, or the room's."""
    parts = module.split(".")
    paths = [".".join(parts[:length]) for length in range(len(parts), 1, -1)]
    lines = (LIBRARIES[name] for name in (*paths, room(module)) if name in LIBRARIES)
    return next(lines, DEFAULT)


def wrong(importer: str, source: str) -> list[str]:
    """The imports of a module that its room does not allow."""
    rooms = ROOMS[room(importer)] | {room(importer)}
    packages = libraries(importer) | sys.stdlib_module_names
    return [
        f"{importer} imports {name}"
        for name in sorted({imported.module for imported in imports(source, importer)})
        if not (
            name in MODULES and room(name) in rooms
            if ours(name)
            else name.split(".")[0] in packages
        )
    ]


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_one_way(module: str) -> None:
    assert room(module) in ROOMS, f"{module} has no place in the table of rooms"
    assert wrong(module, MODULES[module].read_text("utf-8")) == []


@pytest.mark.parametrize(
    "module, source",
    [
        ("batchnorm.stages.labels", "from batchnorm.slots.condition import PerClass"),
        ("batchnorm.stages.moments", "from batchnorm.layer import BatchNormalization"),
        ("batchnorm.stages.moments", "from batchnorm import layer"),
        ("batchnorm.stages.moments", "import batchnorm"),
        ("batchnorm.stages.moments", "from batchnorm import BatchNormalization"),
        ("batchnorm.slots.combinations", "import keras"),
        ("batchnorm.reference", "from keras import ops"),
        ("batchnorm.reference", "def f():\n    from batchnorm.stages.moments import moments"),
        ("batchnorm.layer", "def f():\n    from batchnorm.models import lenet"),
        ("batchnorm.layer", "try:\n    import tensorflow as tf\nexcept ImportError:\n    pass"),
        ("batchnorm.functional", "from batchnorm_app.train import run"),
        ("batchnorm.kernels.jax.cpu", "import torch"),
        ("batchnorm.models.lenet", "from matplotlib.figure import Figure"),
        ("batchnorm_app.plots.curves", "from batchnorm.data import load"),
        ("batchnorm_app.runs.run", "from batchnorm_app.train.start import start"),
        ("batchnorm_app.train.start", "from batchnorm_app.cli.train import train"),
        ("batchnorm_app.errors", "import keras"),
        ("batchnorm.slots.ghost", "from batchnorm.functional import batch_norm"),
        ("batchnorm.contrib.load_checkpoint", "from batchnorm.models.lenet import lenet"),
        ("batchnorm.data.idx", "from batchnorm.nowhere import x"),
    ],
)
def test_a_wrong_import_is_reported(module: str, source: str) -> None:
    assert len(wrong(module, source)) == 1


def test_the_rooms_have_no_circle() -> None:
    assert len(list(graphlib.TopologicalSorter(ROOMS).static_order())) == len(ROOMS)


def test_the_modules_have_no_circle() -> None:
    graph = {
        module: {i.module for i in imports(path.read_text("utf-8"), module) if ours(i.module)}
        for module, path in MODULES.items()
    }
    assert set(graphlib.TopologicalSorter(graph).static_order()) >= set(MODULES)


def test_the_library_never_imports_the_application() -> None:
    library = {name for name in ROOMS if not name.startswith("app")}
    assert all(ROOMS[name] <= library for name in library)


def test_the_root_of_the_library_is_small() -> None:
    modules = [path.name for path in SOURCE.glob("*.py") if path.name != "__init__.py"]
    assert len(modules) <= 8, modules


def test_backends_are_imported_when_they_are_needed() -> None:
    """A backend is imported within a function, or by a module that is imported within one."""
    for module, path in MODULES.items():
        for imported in imports(path.read_text("utf-8"), module):
            parts = imported.module.split(".")
            is_backend = parts[0] in BACKENDS or (ours(imported.module) and BACKENDS & {*parts})
            if is_backend and not BACKENDS & {*module.split(".")}:
                assert imported.within, f"{module} imports {imported.module} before it is needed"


@pytest.mark.parametrize("module", [name for name in MODULES if room(name) == "app.cli"])
def test_the_command_line_chooses_the_backend_before_keras_is_imported(module: str) -> None:
    for imported in imports(MODULES[module].read_text("utf-8"), module):
        if imported.module.split(".")[0] in ("keras", "batchnorm"):
            assert imported.within, f"{module} imports {imported.module} before --backend is read"


@pytest.mark.parametrize("arguments", [[], ["--help"], ["train", "lenet", "--help"]])
def test_the_help_imports_neither_keras_nor_a_backend(arguments: list[str], tmp_path: Path) -> None:
    program = """
import sys
import batchnorm_app.cli
sys.argv[0] = "batchnorm"
try:
    if sys.argv[1:]:
        batchnorm_app.cli.main()
except SystemExit as end:
    assert not end.code, end.code
print()
print(*{"keras", "tensorflow", "jax", "torch"} & {name.split(".")[0] for name in sys.modules})
"""
    assert output_of(program, *arguments, folder=tmp_path).splitlines()[-1] == ""


PROGRAM = """
import importlib.machinery, json, sys

hidden, tried = set(sys.argv[1:]), []

class Finder(importlib.machinery.PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name.split(".")[0] in hidden:
            tried.append(name)
            return None
        return super().find_spec(name, path, target)

sys.meta_path[sys.meta_path.index(importlib.machinery.PathFinder)] = Finder

import keras  # which tries JAX, Matplotlib and more by itself
before = set(sys.modules)
tried.clear()
import batchnorm
after = set(sys.modules)

layer = batchnorm.BatchNormalization(epsilon=0.0)
y = layer(keras.ops.convert_to_tensor([[1.0], [3.0]]), training=True)
print(json.dumps({
    "backend": keras.backend.backend(),
    "imported": sorted({name.split(".")[0] for name in after - before}),
    "tried": tried,
    "hidden": sorted(hidden & {name.split(".")[0] for name in sys.modules}),
    "y": [round(float(value), 5) for value in y[:, 0]],
}))
"""
# What the extras `tensorflow`, `jax`, `torch`, `train` and `test` install and Keras does not need.
OPTIONAL = BACKENDS | {"jaxlib", "matplotlib", "typer", "tensorboard", "hypothesis", "pytest"}


def test_importing_brings_in_nothing_but_keras(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a bare install, where whatever is tried beyond Keras shows, also within `try`."""
    # JAX's cache of compilations, which `make test` turns on, tries TensorFlow's file system.
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    backend = keras.backend.backend()
    own = {backend, "jaxlib"} if backend == "jax" else {backend}
    printed = output_of(PROGRAM, *(OPTIONAL - own), folder=tmp_path)
    report = json.loads(printed.splitlines()[-1])
    assert set(report["imported"]) - sys.stdlib_module_names == {"batchnorm"}
    assert report["tried"] == []
    assert report["hidden"] == []
    assert report["backend"] == backend
    assert report["y"] == [-1.0, 1.0]


def test_the_public_names_are_all_there_and_nothing_else() -> None:
    modules = {name for name in MODULES if name.startswith("batchnorm.")}
    names = {name for name in vars(batchnorm) if not name.startswith("_")}
    names -= {name.split(".")[1] for name in modules}
    assert names - {"version"} == set(batchnorm.__all__)
    assert len(batchnorm.__all__) == len(set(batchnorm.__all__))
    assert batchnorm.__all__ == sorted(batchnorm.__all__)


@pytest.mark.parametrize("name", batchnorm.__all__)
def test_public_names_are_documented(name: str) -> None:
    value = getattr(batchnorm, name)
    text = value.__doc__ or ""
    assert text.split("\n\n")[0].rstrip().endswith("."), f"{name} has no sentence to start with"
    sections = {line.strip() for line in text.splitlines()}
    assert sections & {"Args:", "Attributes:"} or not inspect.signature(value).parameters
    if inspect.isfunction(value):
        assert {"Returns:", "Example:"} <= sections
    elif inspect.isclass(value):
        assert text not in [base.__doc__ for base in value.__mro__[1:]], f"{name}: inherited"


def test_every_module_can_be_found_and_is_documented() -> None:
    names = {info.name for info in pkgutil.walk_packages([str(SOURCE)], "batchnorm.")}
    assert names == {name for name in MODULES if name.startswith("batchnorm.")}
    for module, path in MODULES.items():
        assert ast.get_docstring(ast.parse(path.read_text("utf-8"))), f"{module} says nothing"


@pytest.mark.parametrize("name", ["utils", "base", "common", "helpers", "misc"])
def test_no_file_is_called_after_nothing(name: str) -> None:
    assert [module for module in MODULES if module.split(".")[-1] == name] == []


@pytest.mark.parametrize("module", MODULES)
def test_files_are_short(module: str) -> None:
    # The design says "about 250".
    assert len(MODULES[module].read_text("utf-8").splitlines()) <= 300
