"""The command line, in this process where that is possible."""

import gzip
import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import keras
import pytest
from typer.testing import CliRunner, Result

import batchnorm_cli
from batchnorm import data
from batchnorm.train.checkpoint import Checkpoint
from batchnorm.train.normalization import NORMALIZATIONS
from batchnorm.train.optimizer import OPTIMIZERS, SCHEDULES
from batchnorm.train.start import MODELS
from tests.train import small

BACKEND = keras.config.backend()


@pytest.fixture(scope="module", autouse=True)
def left_as_it_was() -> Iterator[None]:
    with small.backend_left_as_it_was():
        yield


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, data_dir: Path) -> Path:
    """A run made by the command line; not to be changed."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KERAS_BACKEND", BACKEND)
        result = train(data_dir, folder)
    assert result.exit_code == 0, result.output
    return folder


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("KERAS_BACKEND", BACKEND)
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "3")
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(tmp_path)


def call(*arguments: object) -> Result:
    return CliRunner().invoke(batchnorm_cli.app, [str(argument) for argument in arguments])


def train(data_dir: Path, output: Path, *more: object) -> Result:
    chosen = ("--data", "fashion-mnist", "--data-dir", data_dir, "--output", output)
    return call("train", "lenet", *chosen, "--epochs", 2, "--batch-size", 32, *more)


def error(result: Result, code: int = 1) -> str:
    """The text of an error that was told in words."""
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    return " ".join(result.stderr.replace("│", " ").split())


def test_the_names_are_those_of_the_package() -> None:
    assert batchnorm_cli.MODELS == tuple(MODELS)
    assert batchnorm_cli.DATA == data.NAMES
    assert batchnorm_cli.OPTIMIZERS == tuple(OPTIMIZERS)
    assert batchnorm_cli.SCHEDULES == tuple(SCHEDULES)
    assert batchnorm_cli.NORMALIZATIONS == tuple(NORMALIZATIONS)


def test_help_does_not_wait_for_a_backend() -> None:
    code = "import batchnorm_cli, sys; sys.exit('keras' in sys.modules or 'numpy' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
    for command in ((), ("train",), ("features",)):
        assert call(*command, "--help").exit_code == 0


def test_version() -> None:
    assert call("--version").stdout.startswith("batchnorm 0.")


@pytest.mark.parametrize(
    "arguments, nearest",
    [
        (["lenett"], "lenet"),
        (["lenet", "--data", "fashion-mnits"], "fashion-mnist"),
        (["lenet", "--backend", "pytorch"], "torch"),
        (["lenet", "--optimizer", "Adam"], "adam"),
        (["lenet", "--schedule", "cosin"], "cosine"),
        (["lenet", "--normalization", "our"], "ours"),
    ],
)
def test_an_unknown_name_gets_the_nearest_and_all(arguments: list[str], nearest: str) -> None:
    text = error(call("train", *arguments), code=2)
    assert f"did you mean '{nearest}'? Allowed: " in text


@pytest.mark.parametrize(
    "option, value", [("--epochs", 0), ("--batch-size", 1), ("--seed", -1), ("--image-size", 8)]
)
def test_numbers_out_of_range_are_refused(option: str, value: int) -> None:
    assert option in error(call("train", "lenet", option, value), code=2)


def hide(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        batchnorm_cli, "find_spec", lambda name: None if name in names else find(name)
    )


def test_a_backend_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    hide(monkeypatch, "torch")
    text = error(call("train", "lenet", "--backend", "torch"))
    assert "pip install 'batchnorm[torch]'" in text


def test_no_backend_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    hide(monkeypatch, *batchnorm_cli.BACKENDS)
    assert "pip install 'batchnorm[" in error(call("train", "lenet"))


@pytest.mark.parametrize("missing", ["matplotlib", "tensorboard"])
def test_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    hide(monkeypatch, missing)
    text = error(call("train", "lenet"))
    assert missing in text and "pip install 'batchnorm[train]'" in text


def test_the_extra_is_named_without_typer() -> None:
    code = "import sys; sys.modules['typer'] = None; import batchnorm_cli"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ran.returncode == 1
    assert "pip install 'batchnorm[train]'" in ran.stderr
    assert "Traceback" not in ran.stderr


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
    assert batchnorm_cli.default_backend(None) == chosen


def test_a_run_closes_with_its_table(finished: Path, data_dir: Path) -> None:
    result = train(data_dir, finished, "--resume")
    assert result.exit_code == 0
    for text in ("finished already", "inference mode", "own statistics", "gap", str(finished)):
        assert text in result.stdout


def test_a_folder_in_use_is_refused(finished: Path, data_dir: Path) -> None:
    assert "--resume continues" in error(train(data_dir, finished))


def test_overwriting_deletes_nothing_but_runs(tmp_path: Path, data_dir: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    assert "deletes nothing but runs" in error(train(data_dir, tmp_path, "--overwrite"))
    assert (tmp_path / "thesis.tex").exists()


def test_resuming_what_is_not_a_run(tmp_path: Path, data_dir: Path) -> None:
    assert "is not a run" in error(train(data_dir, tmp_path, "--resume"))
    assert "--resume needs --output" in error(call("train", "lenet", "--resume"), code=2)


def test_resuming_with_other_settings(finished: Path, data_dir: Path) -> None:
    text = error(train(data_dir, finished, "--resume", "--seed", 5, "--optimizer", "adam"))
    assert "seed: this run's is 0, received 5" in text
    assert "optimizer" not in text
    other = "jax" if BACKEND != "jax" else "torch"
    text = error(call("train", "lenet", "--output", finished, "--resume", "--backend", other))
    assert f"backend: this run's is {BACKEND}, received {other}" in text


def test_an_interrupted_run_says_how_to_continue(
    tmp_path: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "a run"
    monkeypatch.setattr(Checkpoint, "on_epoch_end", interrupt)
    text = error(train(data_dir, folder), code=130)
    assert text == f"Interrupted. To continue: batchnorm train lenet --output '{folder}' --resume"


def interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def test_an_interruption_before_the_run(
    tmp_path: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batchnorm_cli, "choose_backend", interrupt)
    assert error(train(data_dir, tmp_path / "run"), code=130) == "Interrupted."


def test_a_loss_that_is_not_finite(tmp_path: Path, data_dir: Path) -> None:
    more = ("--learning-rate", 1e30, "--optimizer", "sgd")
    text = error(train(data_dir, tmp_path / "run", *more))
    assert "epoch 1, step" in text


def test_garbage_for_data(tmp_path: Path, data_dir: Path) -> None:
    folder = tmp_path / "data"
    shutil.copytree(data_dir, folder)
    file = "train-images-idx3-ubyte.gz"
    (folder / file).write_bytes(gzip.compress(b"garbage" * 9))
    assert file in error(train(folder, tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_features_of_an_image(finished: Path, tmp_path: Path) -> None:
    picture = tmp_path / "maps.png"
    result = call("features", finished, "--image", 3, "--output", picture)
    assert result.exit_code == 0, result.output
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert str(picture) in result.stdout


def test_features_in_a_format_that_is_none(finished: Path, tmp_path: Path) -> None:
    for name in ("map", "map.foo"):
        text = error(call("features", finished, "--output", tmp_path / name))
        assert f"{name} is no picture's name: it must end in .png, .pdf" in text


def test_features_of_an_image_that_is_not_there(finished: Path) -> None:
    assert "0 to 49" in error(call("features", finished, "--image", 50))


@pytest.mark.parametrize("content", [None, b"", b"garbage"])
def test_features_of_a_run_without_its_model(
    finished: Path, tmp_path: Path, content: bytes | None
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    (folder / "model.keras").unlink()
    if content is not None:
        (folder / "model.keras").write_bytes(content)
    text = error(call("features", folder))
    assert ("does not exist" if content is None else "is damaged") in text


def test_features_of_what_is_no_run(tmp_path: Path) -> None:
    assert "is not a run" in error(call("features", tmp_path))
    assert "is not a run" in error(call("features", tmp_path / "nowhere"))


def test_tensorflow_is_kept_quiet_unless_asked(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with batchnorm_cli.quiet_tensorflow():
        os.write(2, b"loud\n")
    monkeypatch.delenv("TF_CPP_MIN_LOG_LEVEL")
    with batchnorm_cli.quiet_tensorflow():
        os.write(2, b"silent\n")
    os.write(2, b"after\n")
    assert capfd.readouterr().err == "loud\nafter\n"
