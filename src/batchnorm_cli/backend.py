"""Which backend computes, chosen before Keras is imported."""

import ctypes
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from batchnorm_cli.options import BACKENDS, one_of

# Of glibc's malloc.h: how many arrays may be the system's, what is given back, and how many arenas
# threads have: one, because an arena of a thread's own holds no more than 64 MB.
_M_MMAP_MAX, _M_TRIM_THRESHOLD, _M_ARENA_MAX = -4, -1, -8


def need(*modules: str) -> None:
    """Checks that modules of the extra `train` are installed.

    Raises:
        ImportError: one is not.
    """
    for module in modules:
        if find_spec(module) is None:
            raise ImportError(f"{module} is not installed: pip install 'batchnorm[train]'")


def choose_backend(asked: str | None, run: Path | None) -> str:
    """Imports Keras with the backend asked for, else the run's, else the default."""
    need("pydantic")  # which every command reads its files by
    backend = asked or default_backend(run)
    if find_spec(backend) is None:
        raise ImportError(f"{backend} is not installed: pip install 'batchnorm[{backend}]'")
    os.environ["KERAS_BACKEND"] = backend
    if os.path.expanduser("~") == "~":
        # Neither HOME nor the system's list of users has a home. Keras takes this folder then, but
        # the old Keras within TensorFlow 2.21 makes a folder called ~ in the current one.
        os.environ.setdefault("KERAS_HOME", "/tmp/.keras")
    keep_freed_memory()
    with quiet_tensorflow():
        keras = _import_keras()
        # Imports TensorFlow, where it is installed, as saving does on every backend: better now
        # than amid the progress.
        keras.utils.set_random_seed(0)
    return backend


def _import_keras() -> Any:
    """Keras as it is where there is no keras.json, but for the backend.

    A run's results are to depend on its settings alone.
    """
    try:
        import keras
    # Keras 3.15 checks keras.json by assertions, and not at all that it holds an object.
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
    """Lets the C library keep what is freed, unless the environment says how it should allocate.

    glibc asks the system for every large array anew and gives it back, and the faults of its pages
    take longer than the arithmetic: on JAX and PyTorch large inputs take a half to a quarter of the
    time without.
    """
    if any(name.startswith(("MALLOC_", "GLIBC_TUNABLES")) for name in os.environ):
        return
    with suppress(AttributeError, OSError, TypeError):  # another C library
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, -1)
        mallopt(_M_ARENA_MAX, 1)


def default_backend(run: Path | None) -> str:
    """The run's, KERAS_BACKEND's, that of Keras's own file if installed, the first installed."""
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
    # A file that is wrong is reported by whoever needs all of it.
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
    """Keeps TensorFlow's chatter off the terminal, unless the user has set how much there is."""
    if "TF_CPP_MIN_LOG_LEVEL" in os.environ:
        yield
        return
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    # TensorFlow 2.21 logs a few lines as it is imported, whatever that level is.
    try:
        stderr = os.dup(2)
    except OSError:  # it is closed
        yield
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(nowhere)
