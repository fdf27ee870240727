"""`batchnorm train`: runs, runs that go on, and those that do not come about."""

import gzip
import json
import os
import shutil
import signal
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from batchnorm_app.cli import train as training
from batchnorm_app.files import write_json
from batchnorm_app.runs.checkpoint import Checkpoint
from batchnorm_app.runs.run import Run
from batchnorm_app.train import classifier
from batchnorm_app.train.gan import training as gan
from tests.app import small
from tests.app.cli.calling import BACKEND, call, error, interrupt, train
from tests.app.runs import damage

pytestmark = pytest.mark.slow_on_jax


def test_a_run_closes_with_its_table(finished: Path, data_dir: Path) -> None:
    result = train(data_dir, finished, "--resume")
    assert result.exit_code == 0
    for text in ("already finished", "inference mode", "own statistics", "gap", str(finished)):
        assert text in result.stdout


def test_a_narrow_terminal_loses_no_digit(
    finished: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    result = train(data_dir, finished, "--resume")
    assert result.exit_code == 0 and "\u2026" not in result.stdout
    gap = json.loads((finished / "results.json").read_text())["gap"]
    assert f"{gap:+.4f}" in "".join(
        character for character in result.stdout if character in "+-.0123456789"
    )


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


def test_sigterm_ends_a_run_as_control_c_does(
    tmp_path: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All files of the first epoch are whole, and the run goes on."""
    folder = tmp_path / "run"
    write = Checkpoint.on_epoch_end

    def terminate(self: Checkpoint, epoch: int, logs: object = None) -> None:
        write(self, epoch, logs)
        os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patched:
        patched.setattr(Checkpoint, "on_epoch_end", terminate)
        text = error(train(data_dir, folder), code=143)
    assert text == f"Terminated. To continue: batchnorm train lenet --output {folder} --resume"
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    names = ["checkpoint.npz", "config.json", "history.csv", "statistics"]
    assert sorted(path.name for path in folder.iterdir()) == names
    assert train(data_dir, folder, "--resume").exit_code == 0


def test_a_folder_in_which_a_process_trains(finished: Path, data_dir: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    (folder / "results.json").unlink()
    with Run(folder).locked():
        for option in ("--resume", "--overwrite"):
            text = error(train(data_dir, folder, option))
            assert f"process {os.getpid()} is training in {folder}: wait" in text
    assert (folder / "checkpoint.npz").exists()


def test_of_two_processes_in_a_new_folder_one_trains(
    tmp_path: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other one was first to finish reading the data."""
    run, prepare = Run(tmp_path / "run"), classifier.prepare
    with ExitStack() as stack:

        def begin_another(settings: Any) -> Any:
            stack.enter_context(run.created(small.settings(data_dir), overwrite=False))
            return prepare(settings)

        monkeypatch.setattr(classifier, "prepare", begin_another)
        text = error(train(data_dir, run.folder, "--seed", 5))
        assert f"process {os.getpid()} is training in {run.folder}" in text
    assert run.settings() == small.settings(data_dir)


def test_a_run_with_fewer_epochs_than_it_has_done(
    finished: Path, data_dir: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    (folder / "results.json").unlink()
    damage.change_setting(folder / "config.json", "epochs", 1)
    text = error(train(data_dir, folder, "--resume", "--epochs", 1))
    assert "checkpoint.npz holds 2 epochs, but" in text and "asks for epochs=1: set it back" in text


def test_what_overwriting_keeps_is_told(
    tmp_path: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Run(tmp_path / "run").create(small.gan_settings(data_dir))
    (tmp_path / "run" / "thesis.tex").touch()
    monkeypatch.setattr(gan, "prepare", lambda settings: None)
    monkeypatch.setattr(gan, "finish", interrupt)
    result = call("train", "gan", "--output", tmp_path / "run", "--overwrite")
    assert f"Left in {tmp_path / 'run'} (not part of a run): thesis.tex" in result.stdout
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == [
        "config.json",
        "thesis.tex",
    ]


@pytest.mark.parametrize(
    "raised, code",
    [
        (MemoryError("Unable to allocate 94. GiB"), 1),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried 94 GB"), 1),
        (RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 94 bytes"), 1),
    ],
)
def test_too_little_memory_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, raised: Exception, code: int
) -> None:
    def fail(settings: Any) -> None:
        raise raised

    monkeypatch.setattr(gan, "prepare", fail)
    text = error(call("train", "gan", "--output", tmp_path / "run"), code)
    assert "not enough memory. Try a smaller --batch-size" in text and "94" in text


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
        f"To score them: batchnorm evaluate {run.folder}",
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
    "options, code, words",
    [
        ("resnet --depth 21", 1, "No ResNet of basic blocks (6n + 2)"),
        ("resnet --depth 21 --block bottleneck", 1, "Nearest: 20 and 29."),
        ("resnet --depth 8 --batch-size 400", 1, "the batch size must be from 2 to 300"),
        ("resnet --schedule drop:9,3", 2, "--schedule drop:9,3: expected constant, cosine"),
        ("resnet --schedule drop:3,", 2, "--schedule drop:3,: expected constant, cosine"),
        ("lenet --schedule cosin", 2, "--schedule cosin: expected constant, cosine, or drop:"),
        ("lenet --normalization our", 2, "'our' is unknown; did you mean 'ours'?"),
        ("lenet --normalization ghost:1e30", 2, "must be an integer from 2 to 1,000,000"),
        ("lenet --normalization renorm:1e40,5", 2, "'1e40,5', after renorm, is above 1e+30"),
        ("resnet --normalization gost:32", 2, "'gost' is unknown; did you mean 'ghost'?"),
        ("gan --normalization renorm:3", 2, "renorm takes 0 or 2 numbers, received 1"),
        ("gan --normalization keras", 2, "choose one of ours, or --conditioning none"),
        ("gan --normalization none", 2, "choose one of ours, or --conditioning none"),
    ],
)
def test_what_makes_no_training_is_told_before_there_is_a_folder(
    tmp_path: Path, data_dir: Path, options: str, code: int, words: str
) -> None:
    data = ("--data", "fashion-mnist", "--data-dir", data_dir, "--output", tmp_path / "run")
    text = error(call("train", *options.split(), *data), code)
    assert words in text
    # The words that would have been right stand below a wrong one.
    assert ("ghost:SIZE" in text) == ("--normalization" in options)
    assert not (tmp_path / "run").exists()
