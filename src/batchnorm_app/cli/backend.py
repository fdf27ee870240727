"""Chooses the backend, before Keras is imported, and the process's other settings."""

import ctypes
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from batchnorm_app.choices import BACKENDS
from batchnorm_app.cli.options import one_of

# Of glibc's malloc.h: the number of arrays mapped by the system, the memory to give back, and the
# number of arenas: one, because the arena of a thread holds no more than 64 MB.
_M_MMAP_MAX, _M_TRIM_THRESHOLD, _M_ARENA_MAX = -4, -1, -8


def need(*modules: str) -> None:
    """Raises unless modules of the extra `train` are installed.

    Raises:
        ImportError: a module is missing.
    """
    for module in modules:
        if find_spec(module) is None:
            raise ImportError(f"{module} is not installed: pip install 'batchnorm[train]'")


def choose_backend(name: str | None, run: Path | None) -> str:
    """Imports Keras with the named backend, else the run's, else the default; returns its name."""
    need("pydantic")  # every command checks files with it
    backend = name or default_backend(run)
    if find_spec(backend) is None:
        raise ImportError(f"{backend} is not installed: pip install 'batchnorm[{backend}]'")
    os.environ["KERAS_BACKEND"] = backend
    if os.path.expanduser("~") == "~":
        # The user has no home folder. Keras uses this one then, but the old Keras inside
        # TensorFlow 2.21 creates a folder called ~ in the current one.
        os.environ.setdefault("KERAS_HOME", "/tmp/.keras")
    keep_freed_memory()
    with quiet_tensorflow():
        keras = _import_keras()
        # This imports TensorFlow if it is installed, as saving does on every backend: better now
        # than while a progress bar is shown.
        keras.utils.set_random_seed(0)
    return backend


def _import_keras() -> Any:
    """Imports Keras with its default configuration, whatever keras.json says.

    The results of a run depend on its settings only.
    """
    try:
        import keras
    # Keras 3.15 checks keras.json by assertions, but not that it holds an object.
    except (AssertionError, AttributeError, RecursionError, TypeError, ValueError) as error:
        raise ImportError(
            f"Keras cannot be imported ({type(error).__name__} {error}). If {_keras_json()} is "
            "wrong, correct or delete it."
        ) from error
    keras.config.set_floatx("float32")
    keras.config.set_dtype_policy("float32")
    keras.config.set_image_data_format("channels_last")
    keras.config.set_epsilon(1e-7)
    return keras


def keep_freed_memory() -> None:
    """Makes glibc keep freed memory, unless the environment configures its allocator.

    By default it maps every large array anew and gives it back, and the page faults take longer
    than the arithmetic: without them large inputs need a half to a quarter of the time on JAX and
    PyTorch.
    """
    if any(name.startswith(("MALLOC_", "GLIBC_TUNABLES")) for name in os.environ):
        return
    with suppress(AttributeError, OSError, TypeError):  # another C library
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, -1)
        mallopt(_M_ARENA_MAX, 1)


def default_backend(run: Path | None) -> str:
    """Returns the run's backend, else KERAS_BACKEND, else keras.json's, else one installed."""
    recorded = _read(run / "config.json", "settings", "backend") if run else None
    if recorded in BACKENDS:
        return str(recorded)
    if os.environ.get("KERAS_BACKEND"):
        return str(one_of(BACKENDS)(os.environ["KERAS_BACKEND"]))
    installed = [name for name in BACKENDS if find_spec(name)]
    configured = _read(_keras_json(), "backend")
    return str(configured) if configured in installed else next(iter(installed), BACKENDS[0])


def _keras_json() -> Path:
    home = os.environ.get("KERAS_HOME") or os.path.join("~", ".keras")
    return Path(os.path.expanduser(home), "keras.json")


def _read(path: Path, *keys: str) -> Any:
    # An invalid file is reported by the code that needs all of it.
    try:
        small = path.is_file() and path.stat().st_size <= 1 << 20  # and no pipe
        value: Any = json.loads(path.read_text("utf-8")) if small else None
        for key in keys:
            value = value[key]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return value


@contextmanager
def quiet_tensorflow() -> Iterator[None]:
    """Silences the log of TensorFlow's import, unless the user has set its level."""
    if "TF_CPP_MIN_LOG_LEVEL" in os.environ:
        yield
        return
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    # TensorFlow 2.21 logs a few lines during its import at any level.
    try:
        stderr = os.dup(2)
    except OSError:  # it is closed
        yield
        return
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    try:
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(null)
