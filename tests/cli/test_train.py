"""`batchnorm train`: runs, runs that go on, and those that do not come about."""

import gzip
import shutil
from pathlib import Path

import pytest

from batchnorm.train.checkpoint import Checkpoint
from batchnorm.train.gan import training as gan
from batchnorm.train.run import Run, write_json
from batchnorm_cli import train as training
from tests.cli.calling import BACKEND, call, error, interrupt, train


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


def test_an_interruption_before_the_run(
    tmp_path: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "choose_backend", interrupt)
    assert error(train(data_dir, tmp_path / "run"), code=130) == "Interrupted."


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


@pytest.mark.parametrize(
    "given, words",
    [
        ("resnet --depth 21", "No ResNet of basic blocks (6n + 2)"),
        ("resnet --depth 21 --block bottleneck", "Nearest: 20 and 29."),
        ("resnet --depth 8 --batch-size 400", "the batch size must be from 2 to 300"),
        ("resnet --depth 8 --schedule drop:9,3", "--schedule drop:9,3: expected constant, cosine"),
        ("resnet --depth 8 --schedule drop:3,", "--schedule drop:3,: expected constant, cosine"),
        ("lenet --schedule cosin", "--schedule cosin: expected constant, cosine, or drop:"),
        (
            "lenet --normalization our",
            "'our' is unknown; did you mean 'ours'?",
        ),
        ("resnet --normalization gost:32", "'gost' is unknown; did you mean 'ghost'?"),
        ("gan --normalization renorm:3", "behind renorm 1 numbers were received, expected 0 or 2."),
        ("gan --normalization keras", "choose one of ours, or --conditioning none"),
        ("gan --normalization none", "choose one of ours, or --conditioning none"),
    ],
)
def test_what_makes_no_training_is_told_before_there_is_a_folder(
    tmp_path: Path, data_dir: Path, given: str, words: str
) -> None:
    chosen = ("--data", "fashion-mnist", "--data-dir", data_dir, "--output", tmp_path / "run")
    text = error(call("train", *given.split(), *chosen))
    assert words in text
    # The words that would have been right stand below a wrong one.
    assert ("ghost:SIZE" in text) == ("unknown" in text or "behind renorm" in text)
    assert not (tmp_path / "run").exists()
