"""Trainings of a ResNet, from the settings to a folder of results, with interruptions."""

import csv
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from batchnorm.data import Dataset
from batchnorm.layer import BatchNormalization
from batchnorm_app.errors import UserError
from batchnorm_app.runs.history import Epoch
from batchnorm_app.runs.run import Run
from batchnorm_app.train import classifier, resnet
from batchnorm_app.train.augment import Augmented
from batchnorm_app.train.batches import Shuffled
from batchnorm_app.train.epoch_bar import EpochBar
from batchnorm_app.train.recorder import read_statistics
from batchnorm_app.train.start import resume
from tests.app import small
from tests.app.train.test_loop import FILES, saved, state

EPOCHS = 2


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of official files with few images: three steps an epoch."""
    folder = tmp_path_factory.mktemp("few")
    small.write_idx(folder, train=100, test=32)
    return folder


@pytest.fixture(scope="module")
def complete(tmp_path_factory: pytest.TempPathFactory, few: Path) -> Run:
    """A run without interruptions; read-only."""
    return small.train(tmp_path_factory.mktemp("runs") / "complete", small.resnet_settings(few))


@pytest.fixture(autouse=True)
def policy() -> Iterator[None]:
    """Checks that a run restores the global dtype policy, even after an error."""
    before = keras.config.dtype_policy()
    yield
    after = keras.config.dtype_policy()
    keras.config.set_dtype_policy(before)
    assert after == before


def images(side: int, classes: int = 10) -> Dataset:
    split = small.split(40)._replace(images=np.zeros((40, side, side, 3), np.uint8))
    return Dataset("squares", split, split, tuple(map(str, range(classes))))


def test_a_finished_run_has_everything(complete: Run) -> None:
    assert sorted(path.name for path in complete.folder.iterdir()) == FILES
    with complete.history.open() as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == Epoch._fields
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert [float(row["learning_rate"]) for row in rows] == pytest.approx([0.01, 0.005], rel=1e-4)
    results = json.loads(complete.results.read_text())
    assert results["test_accuracy"] == pytest.approx(float(rows[-1]["val_accuracy"]))
    folders = sorted(path.name for path in complete.tensorboard.iterdir())
    assert folders == ["statistics", "test", "train"]
    for path in (complete.curves, complete.feature_maps, complete.statistics_picture):
        assert path.read_bytes().startswith(b"\x89PNG")


def test_the_saved_model_is_the_trained_one(complete: Run) -> None:
    layers = saved(complete)._flatten_layers()
    kinds = {type(layer) for layer in layers if "norm" in layer.name}
    assert kinds == {BatchNormalization}


@pytest.mark.slow  # tests/app/train/test_loop.py kills a LeNet in the same loop
def test_a_killed_run_resumes_bit_for_bit(tmp_path: Path, few: Path, complete: Run) -> None:
    """Although a thread augments its images ahead of the training."""
    run = Run(tmp_path / "run")
    small.kill(run, small.resnet_settings(few), batch=1)
    with np.load(run.checkpoint) as arrays:
        assert len(arrays["history"]) == 1
    assert not run.model.exists()
    resume(run, {}, small.silent())
    assert state(run) == state(complete)
    for epoch in (1, 2):
        expected, actual = (
            read_statistics(finished.epoch_statistics(epoch)) for finished in (complete, run)
        )
        assert list(actual) == list(expected) and len(actual) == 4 * 7
        for name, value in expected.items():
            np.testing.assert_array_equal(actual[name], value)


@pytest.mark.slow
def test_half_precision_is_resumed_bit_for_bit(
    tmp_path: Path, few: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the loss scale of mixed_float16, which overflows halve and good steps raise.

    The folder is copied in the second epoch, as a kill would leave it, while the training goes on.
    """
    run = Run(tmp_path / "copy")

    def copy(self: EpochBar, batch: int, logs: object) -> None:
        if len(self.epochs) == 1 and batch == 1:
            shutil.copytree(tmp_path / "complete", run.folder)

    run_settings = small.resnet_settings(few, precision="mixed_float16", augment=False)
    with monkeypatch.context() as patch:
        patch.setattr(EpochBar, "on_train_batch_end", copy)
        expected = small.train(tmp_path / "complete", run_settings)
    assert not run.results.exists()
    resume(run, {}, small.silent())
    assert state(run) == state(expected)
    model, optimizer = classifier.prepare(run_settings)[-2:]
    model.compile(optimizer)
    model.optimizer.build(model.trainable_variables)
    names = [variable.name for variable in (*model.variables, *model.optimizer.variables)]
    assert "dynamic_scale" in names and len(names) == len(state(run)) - 1
    with np.load(run.checkpoint) as arrays:
        assert arrays[f"variable {names.index('step_counter')}"] == EPOCHS * (100 // 32)


def test_brain_floats_train(few: Path) -> None:
    run_settings = small.resnet_settings(few, precision="mixed_bfloat16", normalization="keras")
    data, train, model, optimizer = classifier.prepare(run_settings)
    for name, dtype in (
        ("convolution", "bfloat16"),
        ("stage_1_block_1", "bfloat16"),
        ("normalization", "bfloat16"),
        ("logits", "float32"),
    ):
        assert model.get_layer(name).compute_dtype == dtype
    assert {variable.dtype for variable in model.variables} == {"float32"}
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss)
    before = [np.array(keras.ops.convert_to_numpy(variable)) for variable in model.variables]
    assert np.isfinite(model.train_on_batch(*train[0]))
    for variable, old in zip(model.variables, before, strict=True):
        new = keras.ops.convert_to_numpy(variable)
        assert np.isfinite(new).all() and (new != old).any(), variable.path


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"depth": 21}, r"No ResNet of basic blocks \(6n \+ 2\) or .*Nearest: 20 and 26\."),
        ({"depth": 26, "block": "bottleneck"}, "No ResNet of bottleneck blocks"),
        ({"depth": 2}, "No ResNet of"),
        ({"normalization": "our"}, "'our' is unknown; did you mean 'ours'"),
        ({"batch_size": 101}, "a batch of 101 out of 100 .* from 2 to 100"),
        ({"batch_size": 1, "augment": False}, "greater than or equal to 2"),
        ({"schedule": "drop:2"}, 'schedule is "drop:2": expected .* before the last, 2'),
        ({"schedule": "drop:1,"}, 'schedule is "drop:1,": expected'),
        ({"depth": 21, "precision": "mixed_bfloat16"}, "No ResNet of"),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_invalid_settings_leave_no_folder(
    tmp_path: Path, few: Path, changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(ValueError, match=words):  # from the settings, or a UserError
        small.train(tmp_path / "run", small.resnet_settings(few, **changes))
    assert not (tmp_path / "run").exists()


def test_images_that_cannot_be_halved_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_settings = small.resnet_settings(tmp_path)
    with pytest.raises(ValueError, match="at least 4x4 pixels; received 3x3"):
        resnet.build(run_settings, images(3))
    monkeypatch.setattr(classifier, "load", lambda *_: images(3))
    with pytest.raises(UserError, match="at least 4x4 pixels; received 3x3"):
        small.train(tmp_path / "run", run_settings)
    assert not (tmp_path / "run").exists()


def test_the_data_decide_the_shapes_of_the_model() -> None:
    model = resnet.build(small.resnet_settings(Path()), images(4, classes=3))
    assert (model.input_shape, model.output_shape) == ((None, 4, 4, 3), (None, 3))


def test_images_are_augmented_by_default() -> None:
    for augment, batches_class in ((True, Augmented), (False, Shuffled)):
        batches = resnet.batches(small.resnet_settings(Path(), augment=augment), images(4))
        assert type(batches) is batches_class and (batches.batch_size, batches.seed) == (32, 7)
