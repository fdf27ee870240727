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
COMMAND = SOURCE.with_name("batchnorm_cli")
MODULES = {
    ".".join(path.relative_to(SOURCE.parent).with_suffix("").parts).removesuffix(".__init__"): path
    for folder in (COMMAND, SOURCE)
    for path in sorted(folder.rglob("*.py"))
}

VALUES = {"casting", "product", "representation", "slots", "schedule", "snapshot", "tracing"}
STAGES = VALUES | {
    "labels",
    "affine",
    "condition",
    "ghost",
    "moving",
    "renorm",
    "statistics",
    "weights",
}
LAYER = STAGES | {"kernels", "training", "functional", "layer"}
# Which rooms of the house a room may import: those below it. A room is a file or a folder of
# src/batchnorm; "batchnorm" is the front door, __init__.py. A new room needs a line here.
ROOMS: dict[str, set[str]] = {
    "arguments": set(),
    "representation": set(),
    "slots": {"representation"},
    "schedule": {"casting", "representation"},
    "tracing": set(),
    "casting": set(),
    "combinations": set(),
    "product": set(),
    "snapshot": {"tracing"},
    "labels": {"casting", "product", "tracing"},
    "affine": {"casting"},
    "condition": {"casting", "slots", "labels", "product"},
    "scale_and_shift": {"affine", "casting", "condition", "kernels", "spectral"},
    "ghost": {"casting", "slots", "tracing"},
    "summation": {"casting", "tracing"},
    "weights": {"casting", "tracing"},
    "statistics": {"casting", "summation", "tracing", "weights"},
    "moving": {"schedule", "slots", "statistics"},
    "renorm": {"affine", "moving", "schedule", "slots", "statistics"},
    "kernels": {"affine", "statistics", "summation", "tracing"},
    "replicas": {"statistics"},
    "training": STAGES | {"kernels"},
    "functional": STAGES | {"kernels", "replicas", "training"},
    "spectral": {"representation", "snapshot"},
    "variables": {"kernels", "spectral"},
    "layer": STAGES
    | {"arguments", "combinations", "kernels", "functional", "scale_and_shift", "variables"},
    "recipes": LAYER,
    "blocks": LAYER | {"recipes", "spectral"},
    "models": LAYER | {"recipes", "spectral", "blocks"},
    "surgery": LAYER | {"recipes"},
    "doctor": LAYER | {"recipes"},
    "contrib": LAYER | {"recipes"},
    "data": set(),
    "plots": set(),
    "reference": set(),
    "train": LAYER | {"recipes", "models", "data", "plots", "variables"},
    "benchmark": LAYER | {"recipes", "models", "plots", "train"},
    "batchnorm": LAYER | {"recipes", "spectral", "blocks"},
    "__main__": set(),
    "batchnorm_cli": {"batchnorm", "benchmark", "train", "data", "models", "contrib"},
}

# Which other libraries a room may import, and for its modules those that a line names.
USUAL = {"keras", "numpy"}
LIBRARIES: dict[str, set[str]] = {
    "reference": {"numpy"},
    "combinations": set(),
    "plots": {"keras", "numpy", "matplotlib", "PIL"},
    "train": {"keras", "numpy", "pydantic", "rich", "tensorboard"},
    "tracing": {"keras", "numpy", "tensorflow", "jax", "torch"},  # what compiles the code
    "snapshot": {"keras", "torch"},
    "product": {"keras", "torch"},
    "batchnorm.train.fit": {"keras", "rich", "tensorflow", "torch"},  # their determinism
    "batchnorm.train.steps.tensorflow": {"keras", "tensorflow"},
    "batchnorm.train.steps.jax": {"keras", "jax"},
    "batchnorm.train.steps.torch": {"keras", "torch"},
    "benchmark": {"keras", "numpy", "rich"},
    "batchnorm.benchmark.runners.tensorflow": {"keras", "tensorflow"},
    "batchnorm.benchmark.runners.jax": {"keras", "jax"},  # and flax, by its name
    "batchnorm.benchmark.runners.torch": {"keras", "torch"},
    "batchnorm_cli": {"keras", "rich", "typer"},
    "contrib": {"keras", "numpy", "tensorflow"},
    "batchnorm.kernels.tensorflow": {"keras", "tensorflow"},
    "batchnorm.kernels.jax": {"keras", "jax"},
    "batchnorm.kernels.tensorflow.closed_form": {"keras", "tensorflow"},
    "batchnorm.kernels.tensorflow.inference": {"keras", "numpy", "tensorflow"},
    "batchnorm.kernels.tensorflow.measure": {"tensorflow"},
    "batchnorm.kernels.tensorflow.passes": {"tensorflow"},
    "batchnorm.kernels.tensorflow.sums": {"tensorflow"},
    "batchnorm.kernels.tensorflow.layout": {"keras", "tensorflow"},
    "batchnorm.kernels.torch": {"keras", "torch"},
    "batchnorm.kernels.torch.arithmetic": {"keras", "torch"},
    "batchnorm.kernels.torch.layout": {"keras", "torch"},
    "batchnorm.kernels.torch.small": {"keras", "torch"},
    "batchnorm.kernels.torch.sums": {"keras", "torch"},
    "batchnorm.replicas.tensorflow": {"keras", "tensorflow"},
    "batchnorm.replicas.jax": {"keras", "jax"},
    "batchnorm.replicas.torch": {"keras", "torch"},
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
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{importer}, line {node.lineno}: imports are absolute here"
            whole = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [name if name in MODULES else str(node.module) for name in whole]
        else:
            continue
        found |= {Import(name, id(node) in within) for name in names}
    return found


def room(module: str) -> str:
    parts = module.split(".")
    return parts[1] if parts[0] == "batchnorm" and len(parts) > 1 else parts[0]


def ours(module: str) -> bool:
    return module.split(".")[0] in ("batchnorm", "batchnorm_cli")


def wrong(importer: str, source: str) -> list[str]:
    """The imports of a module that its room does not allow."""
    allowed = ROOMS[room(importer)] | {room(importer)}
    libraries = LIBRARIES.get(importer, LIBRARIES.get(room(importer), USUAL))
    found = []
    for name in sorted({found.module for found in imports(source, importer)}):
        if ours(name):
            fits = name in MODULES and room(name) in allowed
        else:
            fits = name.split(".")[0] in libraries | sys.stdlib_module_names
        if not fits:
            found.append(f"{importer} imports {name}")
    return found


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_one_way(module: str) -> None:
    assert room(module) in ROOMS, f"{module} has no place in the table of rooms"
    assert wrong(module, MODULES[module].read_text("utf-8")) == []


@pytest.mark.parametrize(
    "module, source",
    [
        ("batchnorm.labels", "from batchnorm.condition import PerClass"),
        ("batchnorm.statistics", "from batchnorm.layer import BatchNormalization"),
        ("batchnorm.statistics", "from batchnorm import layer"),
        ("batchnorm.statistics", "import batchnorm"),
        ("batchnorm.statistics", "from batchnorm import BatchNormalization"),
        ("batchnorm.combinations", "import keras"),
        ("batchnorm.reference", "from keras import ops"),
        ("batchnorm.reference", "def f():\n    from batchnorm.statistics import moments"),
        ("batchnorm.layer", "def f():\n    from batchnorm.models import lenet"),
        ("batchnorm.layer", "try:\n    import tensorflow as tf\nexcept ImportError:\n    pass"),
        ("batchnorm.functional", "from batchnorm.train import run"),
        ("batchnorm.kernels.jax", "import torch"),
        ("batchnorm.models.lenet", "from matplotlib.figure import Figure"),
        ("batchnorm.plots.curves", "from batchnorm.data import load"),
        ("batchnorm.data.idx", "from batchnorm.nowhere import x"),
    ],
)
def test_a_wrong_import_would_be_found(module: str, source: str) -> None:
    assert len(wrong(module, source)) == 1


def test_the_rooms_have_no_circle() -> None:
    assert len(list(graphlib.TopologicalSorter(ROOMS).static_order())) == len(ROOMS)


def test_the_modules_have_no_circle() -> None:
    graph = {
        module: {i.module for i in imports(path.read_text("utf-8"), module) if ours(i.module)}
        for module, path in MODULES.items()
    }
    assert set(graphlib.TopologicalSorter(graph).static_order()) >= set(MODULES)


def test_backends_are_imported_when_they_are_needed() -> None:
    """A backend is imported within a function, or by a module that is imported within one."""
    for module, path in MODULES.items():
        for found in imports(path.read_text("utf-8"), module):
            named = found.module.split(".")
            is_backend = named[0] in BACKENDS or (ours(found.module) and BACKENDS & {*named})
            if is_backend and not BACKENDS & {*module.split(".")}:
                assert found.within, f"{module} imports {found.module} before it is needed"


@pytest.mark.parametrize("module", [name for name in MODULES if room(name) == "batchnorm_cli"])
def test_the_command_line_chooses_the_backend_before_keras_is_imported(module: str) -> None:
    for found in imports(MODULES[module].read_text("utf-8"), module):
        if found.module.split(".")[0] in ("keras", "batchnorm"):
            assert found.within, f"{module}: {found.module} is imported before --backend is read"


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
    found = {name for name in vars(batchnorm) if not name.startswith("_")}
    found -= {name.split(".")[1] for name in modules}
    assert found - {"version"} == set(batchnorm.__all__)
    assert len(batchnorm.__all__) == len(set(batchnorm.__all__))
    assert batchnorm.__all__ == sorted(batchnorm.__all__)


@pytest.mark.parametrize("name", batchnorm.__all__)
def test_public_names_are_documented(name: str) -> None:
    thing = getattr(batchnorm, name)
    text = thing.__doc__ or ""
    assert text.split("\n\n")[0].rstrip().endswith("."), f"{name} has no sentence to start with"
    sections = {line.strip() for line in text.splitlines()}
    assert sections & {"Args:", "Attributes:"} or not inspect.signature(thing).parameters
    if inspect.isfunction(thing):
        assert {"Returns:", "Example:"} <= sections
    elif inspect.isclass(thing):
        assert text not in [base.__doc__ for base in thing.__mro__[1:]], f"{name}: inherited"


def test_every_module_can_be_found_and_is_documented() -> None:
    found = {info.name for info in pkgutil.walk_packages([str(SOURCE)], "batchnorm.")}
    assert found == {name for name in MODULES if name.startswith("batchnorm.")}
    for module, path in MODULES.items():
        assert ast.get_docstring(ast.parse(path.read_text("utf-8"))), f"{module} says nothing"


@pytest.mark.parametrize("name", ["utils", "base", "common", "helpers", "misc"])
def test_no_file_is_called_after_nothing(name: str) -> None:
    assert [module for module in MODULES if module.split(".")[-1] == name] == []


@pytest.mark.parametrize("module", MODULES)
def test_files_are_short(module: str) -> None:
    # The design says "about 250".
    assert len(MODULES[module].read_text("utf-8").splitlines()) <= 300
