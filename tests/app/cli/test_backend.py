"""Required packages, and the choice of the backend."""

import ctypes
import errno
import os
import pwd
import subprocess
import sys
import types
from pathlib import Path

import pytest

from batchnorm.data.locations import keras_datasets
from batchnorm_app import choices
from batchnorm_app.cli import backend as choosing
from batchnorm_app.runs.run import Run
from tests.app.cli.calling import BACKEND, call, error, hide


def test_a_backend_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    hide(monkeypatch, "torch")
    text = error(call("train", "lenet", "--backend", "torch"))
    assert "pip install 'batchnorm[torch]'" in text


def test_no_backend_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    hide(monkeypatch, *choices.BACKENDS)
    assert "pip install 'batchnorm[" in error(call("train", "lenet"))


@pytest.mark.parametrize("missing", ["matplotlib", "pydantic", "tensorboard"])
def test_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    hide(monkeypatch, missing)
    text = error(call("train", "lenet"))
    assert missing in text and "pip install 'batchnorm[train]'" in text


@pytest.mark.parametrize("missing", ["typer", "rich"])
def test_the_extra_is_named_without(missing: str) -> None:
    code = f"import sys; sys.modules['{missing}'] = None; import batchnorm_app.cli"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ran.returncode == 1
    assert "pip install 'batchnorm[train]'" in ran.stderr
    assert "Traceback" not in ran.stderr


def test_a_gan_needs_pillow(monkeypatch: pytest.MonkeyPatch, untrained: Run) -> None:
    hide(monkeypatch, "PIL")
    for command in (("train", "gan"), ("sample", untrained.folder)):
        assert "PIL is not installed: pip install 'batchnorm[train]'" in error(call(*command))


@pytest.mark.parametrize(
    "variable, configured, hidden, chosen",
    [
        ("jax", "torch", (), "jax"),
        ("", "torch", (), "torch"),
        ("", "torch", ("torch",), "tensorflow"),
        ("", "torch", ("torch", "tensorflow"), "jax"),
        ("", None, (), "tensorflow"),
    ],
)
def test_the_default_backend(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    variable: str,
    configured: str | None,
    hidden: tuple[str, ...],
    chosen: str,
) -> None:
    if configured:
        (tmp_path / "keras.json").write_text(f'{{"backend": "{configured}"}}')
    monkeypatch.setenv("KERAS_BACKEND", variable)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    hide(monkeypatch, *hidden)
    assert choosing.default_backend(None) == chosen


def test_a_user_without_a_home(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container that runs with a number of a user that its list has not."""
    monkeypatch.delenv("HOME")
    monkeypatch.delenv("KERAS_HOME", raising=False)
    monkeypatch.setattr(pwd, "getpwuid", lambda user: {}[user])
    with pytest.raises(RuntimeError):
        Path.home()
    monkeypatch.setenv("KERAS_BACKEND", "")
    assert choosing.default_backend(None) in choices.BACKENDS
    assert keras_datasets() == Path("/tmp/.keras/datasets")
    choosing.choose_backend(BACKEND, None)
    # Else TensorFlow makes a folder called ~ in the current one.
    assert os.environ["KERAS_HOME"] == "/tmp/.keras"


def test_standard_error_may_be_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    def closed(descriptor: int) -> int:
        raise OSError(errno.EBADF, "Bad file descriptor")

    monkeypatch.delenv("TF_CPP_MIN_LOG_LEVEL")
    monkeypatch.setattr(os, "dup", closed)
    with choosing.quiet_tensorflow():
        assert os.environ["TF_CPP_MIN_LOG_LEVEL"] == "3"


def test_tensorflow_is_kept_quiet_unless_asked(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with choosing.quiet_tensorflow():
        os.write(2, b"loud\n")
    monkeypatch.delenv("TF_CPP_MIN_LOG_LEVEL")
    with choosing.quiet_tensorflow():
        os.write(2, b"silent\n")
    os.write(2, b"after\n")
    assert capfd.readouterr().err == "loud\nafter\n"


@pytest.mark.parametrize("name", [None, "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES"])
def test_freed_memory_is_kept_unless_the_environment_says_how(
    name: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in [name for name in os.environ if name.startswith(("MALLOC_", "GLIBC_"))]:
        monkeypatch.delenv(variable)
    if name is not None:
        monkeypatch.setenv(name, "1")
    calls: list[tuple[int, int]] = []
    library = types.SimpleNamespace(mallopt=lambda *options: calls.append(options))
    monkeypatch.setattr(ctypes, "CDLL", lambda name: library)
    choosing.keep_freed_memory()
    assert calls == ([] if name else [(-4, 0), (-1, -1), (-8, 1)])


def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda name: types.SimpleNamespace())
    choosing.keep_freed_memory()


_MODEL = """
import hashlib, sys
from pathlib import Path
from batchnorm_app.cli.backend import choose_backend
choose_backend(None, None)
from batchnorm_app.train import classifier
from tests.app import small
setup = classifier.prepare(small.settings(Path(sys.argv[1])))
print(setup.model.get_config(), setup.optimizer.get_config())
for weight in setup.model.get_weights():
    print(weight.dtype, hashlib.sha256(weight.tobytes()).hexdigest())
"""
_KERAS_JSON = '{"floatx": "float16", "epsilon": 0.1, "image_data_format": "channels_first"}'


@pytest.mark.skipif(BACKEND != "torch", reason="Keras reads its file before it has a backend")
def test_keras_json_changes_no_run(tmp_path: Path, data_dir: Path) -> None:
    """The whole model, its optimizer and its first weights, bit for bit."""
    printed = set()
    for number, content in enumerate((None, _KERAS_JSON)):
        home = tmp_path / str(number)
        home.mkdir()
        if content:
            (home / "keras.json").write_text(content)
        ran = subprocess.run(
            [sys.executable, "-c", _MODEL, str(data_dir)],
            cwd=Path(__file__).parents[3],
            env=os.environ | {"KERAS_HOME": str(home)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert ran.returncode == 0, ran.stderr
        printed.add(ran.stdout)
    (text,) = printed
    assert "float32" in text and "float16" not in text and "channels_first" not in text


@pytest.mark.skipif(BACKEND != "jax", reason="Keras reads its file before it has a backend")
def test_a_keras_json_that_keras_cannot_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "keras.json").write_text('{"floatx": "float8"}')
    ran = subprocess.run(
        [sys.executable, "-m", "batchnorm_app", "train", "lenet", "--output", "run"],
        env=os.environ | {"KERAS_HOME": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 1 and "Traceback" not in ran.stderr
    assert f"If {tmp_path / 'keras.json'} is wrong, correct or delete it." in ran.stderr
