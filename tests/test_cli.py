"""The command line, in this process where that is possible."""

import gzip
import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, get_type_hints

import keras
import pytest
from typer.core import TyperGroup
from typer.main import get_command
from typer.testing import CliRunner, Result

import batchnorm_cli
from batchnorm import data
from batchnorm.train import start
from batchnorm.train.checkpoint import Checkpoint
from batchnorm.train.gan import evaluate as scoring
from batchnorm.train.gan import training as gan
from batchnorm.train.gan.evaluate import Asked
from batchnorm.train.normalization import NORMALIZATIONS
from batchnorm.train.optimizer import OPTIMIZERS, SCHEDULES
from batchnorm.train.run import Run, write_json
from batchnorm.train.settings import KINDS, GanSettings
from batchnorm_cli import backend as choosing
from batchnorm_cli import options
from batchnorm_cli import train as training
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
    commands = get_command(training.app)
    assert isinstance(commands, TyperGroup)
    assert tuple(commands.commands) == tuple(start.TRAININGS) == tuple(KINDS)
    assert options.DATA == data.NAMES
    assert options.OPTIMIZERS == tuple(OPTIMIZERS)
    assert options.SCHEDULES == tuple(SCHEDULES)
    assert options.NORMALIZATIONS == tuple(NORMALIZATIONS)
    for name, command in commands.commands.items():
        settings = set(get_type_hints(KINDS[name])) - {"model"}
        given = {parameter.name for parameter in command.params} - {"help"}
        assert given - settings == {"output", "resume", "overwrite"}
        assert settings <= given


def test_help_does_not_wait_for_a_backend() -> None:
    code = "import batchnorm_cli, sys; sys.exit('keras' in sys.modules or 'numpy' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
    for command in ("", "train", "train lenet", "train gan", "features", "sample", "evaluate"):
        ran = call(*command.split(), "--help")
        assert ran.exit_code == 0 and f" {command} [OPTIONS]".replace("  ", " ") in ran.output


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
        (["gann"], "gan"),
        (["gan", "--conditioning", "klass"], "class"),
        (["gan", "--data", "cifar"], "cifar10"),
    ],
)
def test_an_unknown_name_gets_the_nearest_and_all(arguments: list[str], nearest: str) -> None:
    text = error(call("train", *arguments), code=2)
    assert f"did you mean '{nearest}'? Allowed: " in text


def test_an_unknown_command_gets_the_nearest_and_all() -> None:
    text = error(call("train", "lenett", "--epochs", 3), code=2)
    assert "'lenett' is unknown; did you mean 'lenet'? Allowed: lenet, gan." in text
    text = error(call("smaple"), code=2)
    assert "did you mean 'sample'? Allowed: " in text and "train" in text
    assert "No such option: --modle" in error(call("train", "--modle", "lenet"), code=2)


@pytest.mark.parametrize(
    "command, option, value",
    [
        ("train lenet", "--epochs", 0),
        ("train lenet", "--batch-size", 1),
        ("train lenet", "--seed", -1),
        ("train lenet", "--image-size", 8),
        ("train gan", "--width", 0),
        ("train gan", "--steps", 0),
        ("train gan", "--batch-size", 1),
        ("train gan", "--latent-size", 0),
        ("train gan", "--discriminator-steps", 0),
        ("train gan", "--samples-every", 0),
        ("train gan", "--average", 1),
        ("train gan", "--average", -0.5),
        ("train gan", "--average", "nan"),
        ("sample run", "--count", 0),
        ("sample run", "--seed", -1),
        ("evaluate run", "--count", 0),
        ("evaluate run", "--train-count", 127),
        ("evaluate run", "--judge-epochs", 0),
    ],
)
def test_numbers_out_of_range_are_refused(command: str, option: str, value: object) -> None:
    assert option in error(call(*command.split(), option, value), code=2)


def hide(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(choosing, "find_spec", lambda name: None if name in names else find(name))


def test_a_backend_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    hide(monkeypatch, "torch")
    text = error(call("train", "lenet", "--backend", "torch"))
    assert "pip install 'batchnorm[torch]'" in text


def test_no_backend_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    hide(monkeypatch, *options.BACKENDS)
    assert "pip install 'batchnorm[" in error(call("train", "lenet"))


@pytest.mark.parametrize("missing", ["matplotlib", "tensorboard"])
def test_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    hide(monkeypatch, missing)
    text = error(call("train", "lenet"))
    assert missing in text and "pip install 'batchnorm[train]'" in text


@pytest.mark.parametrize("missing", ["typer", "rich"])
def test_the_extra_is_named_without(missing: str) -> None:
    code = f"import sys; sys.modules['{missing}'] = None; import batchnorm_cli"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ran.returncode == 1
    assert "pip install 'batchnorm[train]'" in ran.stderr
    assert "Traceback" not in ran.stderr


def test_a_gan_needs_pillow(monkeypatch: pytest.MonkeyPatch, untrained: Run) -> None:
    hide(monkeypatch, "PIL")
    for command in (("train", "gan"), ("sample", untrained.folder)):
        assert "PIL is not installed: pip install 'batchnorm[train]'" in error(call(*command))


def test_the_command_is_a_module_too() -> None:
    command = [sys.executable, "-m", "batchnorm_cli", "--version"]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    assert ran.stdout.startswith("batchnorm 0.")


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


def interrupt(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def test_an_interruption_before_the_run(
    tmp_path: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "choose_backend", interrupt)
    assert error(train(data_dir, tmp_path / "run"), code=130) == "Interrupted."


class Begun(NamedTuple):
    """What a training was started with."""

    run: Run
    settings: Any
    overwrite: bool


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> list[Begun]:
    """The trainings that a command starts, none of which takes place."""
    found: list[Begun] = []
    monkeypatch.setattr(start, "start", lambda *given: found.append(Begun(*given[:3])))
    return found


def test_the_options_of_a_gan_are_its_settings(begun: list[Begun], tmp_path: Path) -> None:
    assert call("train", "gan").exit_code == 0
    ((run, settings, overwrite),) = begun
    assert run.folder.parent == Path("runs") and run.folder.name.startswith("gan-")
    assert not overwrite
    assert settings == GanSettings(
        model="gan",
        data="fashion-mnist-sample",
        data_dir=None,
        steps=1000,
        conditioning="class",
        width=16,
        batch_size=64,
        learning_rate=2e-3,
        discriminator_learning_rate=1e-3,
        schedule="cosine",
        latent_size=64,
        discriminator_steps=1,
        average=0.998,
        samples_every=50,
        seed=0,
        backend=BACKEND,
    )
    asked = "--data cifar10 --data-dir . --steps 9 --conditioning none --width 3 --batch-size 4 "
    asked += "--learning-rate 0.5 --discriminator-learning-rate 0.25 --schedule constant "
    asked += "--latent-size 5 --discriminator-steps 2 "
    asked += "--average 0 --samples-every 7 --seed 8 --output run --overwrite"
    assert call("train", "gan", *asked.split()).exit_code == 0
    assert begun[1].run.folder == Path("run") and begun[1].overwrite
    assert begun[1].settings == GanSettings(
        model="gan",
        data="cifar10",
        data_dir=str(tmp_path),
        steps=9,
        conditioning="none",
        width=3,
        batch_size=4,
        learning_rate=0.5,
        discriminator_learning_rate=0.25,
        schedule="constant",
        latent_size=5,
        discriminator_steps=2,
        average=0.0,
        samples_every=7,
        seed=8,
        backend=BACKEND,
    )


@pytest.mark.parametrize("steps, every", [(1, 1), (20, 1), (21, 2), (41, 3), (1000, 50)])
def test_twenty_pictures_at_most(begun: list[Begun], steps: int, every: int) -> None:
    call("train", "gan", "--steps", steps)
    assert begun[0].settings.samples_every == every


def test_only_what_is_given_must_be_the_runs(
    untrained: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The interval that was resolved from --steps was not given."""
    given: list[Any] = []
    monkeypatch.setattr(start, "resume", lambda run, values, console: given.append(values))
    command = ("train", "gan", "--output", untrained.folder, "--resume")
    for more in ((), ("--steps", 9), ("--samples-every", 4)):
        assert call(*command, *more).exit_code == 0
    assert given == [{"model": "gan"} | more for more in ({}, {"steps": 9}, {"samples_every": 4})]


def test_a_gan_is_not_resumed_as_another_model(finished: Path, untrained: Run) -> None:
    text = error(call("train", "gan", "--output", finished, "--resume", "--steps", 9))
    assert "other settings (model: this run's is lenet, received gan)" in text
    text = error(call("train", "lenet", "--output", untrained.folder, "--resume", "--epochs", 9))
    assert "other settings (model: this run's is gan, received lenet)" in text


def test_an_interrupted_gan_says_how_to_continue(
    tmp_path: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gan, "prepare", lambda settings: None)
    monkeypatch.setattr(gan, "finish", interrupt)
    text = error(call("train", "gan", "--output", tmp_path / "run"), code=130)
    command = f"batchnorm train gan --output {tmp_path / 'run'} --resume"
    assert text == f"Interrupted. To continue: {command}"


def test_a_gan_that_is_trained_says_where_its_samples_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = {"steps": 9, "seconds": 1.8, "milliseconds_a_step": 200.0}
    monkeypatch.setattr(gan, "prepare", lambda settings: None)
    monkeypatch.setattr(gan, "finish", lambda run, *_: write_json(run.results, results))
    run = Run(tmp_path / "run")
    result = call("train", "gan", "--steps", 9, "--output", run.folder)
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines() == [
        f"9 steps in 1.8 s, 200 ms each; samples: {run.samples}",
        f"How good they are: batchnorm evaluate {run.folder}",
    ]
    assert run.settings().to_json()["samples_every"] == 1


def test_a_picture_of_samples(untrained: Run, tmp_path: Path) -> None:
    picture = tmp_path / "a.png"
    result = call("sample", untrained.folder, "--mix", "0:3", "--count", 2, "--output", picture)
    assert result.exit_code == 0, result.output
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert f"Drawn: {picture}" in result.stdout


def test_samples_of_classes_and_of_mixtures(
    untrained: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []

    def keep(run: Run, *given: Any) -> Path:
        asked.append((run.folder, *given))
        return Path("drawn.png")

    monkeypatch.setattr("batchnorm.train.gan.sample.draw", keep)
    monkeypatch.setattr("batchnorm.train.gan.sample.mix", keep)
    for more in ("", "--classes 0,3,Bag --count 4 --seed 5 --output a.pdf", "--mix 0:Bag"):
        result = call("sample", untrained.folder, *more.split())
        assert result.exit_code == 0, result.output
        assert result.stdout == "Drawn: drawn.png\n"
    assert asked == [
        (untrained.folder, None, 10, 0, None),
        (untrained.folder, ["0", "3", "Bag"], 4, 5, Path("a.pdf")),
        (untrained.folder, ["0", "Bag"], 10, 0, None),
    ]


@pytest.mark.parametrize(
    "given, code, words",
    [
        ("--mix 0:3 --classes 0", 2, "--mix and --classes exclude each other"),
        ("--classes 0,bog", 1, "'bog' is no class; did you mean 'Bag'? Allowed: 0 T-shirt/top, 1"),
        ("--mix 3", 1, "a mixture is of two classes, such as 0:3"),
        ("--mix 0:3:4", 1, "a mixture is of two classes, such as 0:3"),
        ("--mix 0:3 --count 1", 1, "at least 2 images; received 1"),
        ("--output a.txt", 1, "a.txt is no picture's name"),
        ("--output nowhere/a.png", 1, "nowhere/a.png cannot be written"),
    ],
)
def test_samples_that_cannot_be_drawn(untrained: Run, given: str, code: int, words: str) -> None:
    assert words in error(call("sample", untrained.folder, *given.split()), code)


def test_commands_for_the_wrong_run(finished: Path, untrained: Run, tmp_path: Path) -> None:
    for command in ("sample", "evaluate"):
        text = error(call(command, finished))
        assert f"{finished} is a run of lenet, which generates nothing" in text
        assert "is not a run" in error(call(command, tmp_path / "nowhere"))
    assert "is a run of gan, which looks at no image" in error(call("features", untrained.folder))


def test_the_options_of_an_evaluation(untrained: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(
        scoring, "evaluate", lambda run, asks, console: asked.append((run.folder, asks))
    )
    given = "--count 5 --train-count 128 --judge a.keras --features b.keras --judge-epochs 3"
    for more in ("", f"{given} --seed 4"):
        result = call("evaluate", untrained.folder, *more.split())
        assert result.exit_code == 0, result.output
    assert asked == [
        (untrained.folder, Asked()),
        (
            untrained.folder,
            Asked(
                count=5,
                train_count=128,
                judge=Path("a.keras"),
                features=Path("b.keras"),
                judge_epochs=3,
                seed=4,
            ),
        ),
    ]


def test_evaluations_that_fail_are_told_in_words(
    untrained: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bad.keras").write_bytes(b"garbage")
    for option in ("--judge", "--features"):
        assert "bad.keras is damaged" in error(
            call("evaluate", untrained.folder, option, "bad.keras")
        )
        text = error(call("evaluate", untrained.folder, option, "none.keras"))
        assert "none.keras does not exist" in text
    monkeypatch.setattr(scoring, "train_judge", interrupt)
    assert error(call("evaluate", untrained.folder), code=130).endswith("Interrupted.")


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
    with choosing.quiet_tensorflow():
        os.write(2, b"loud\n")
    monkeypatch.delenv("TF_CPP_MIN_LOG_LEVEL")
    with choosing.quiet_tensorflow():
        os.write(2, b"silent\n")
    os.write(2, b"after\n")
    assert capfd.readouterr().err == "loud\nafter\n"
