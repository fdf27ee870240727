import csv
import json
import os
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from batchnorm.data import load
from batchnorm.layer import BatchNormalization
from batchnorm_app.errors import UserError
from batchnorm_app.runs.history import Epoch, NonFiniteError
from batchnorm_app.runs.run import Run
from batchnorm_app.train import lenet, optimizer
from batchnorm_app.train.loop import make_repeatable
from batchnorm_app.train.start import resume
from tests.app import small
from tests.app.runs.test_run import full_disk

FILES = [
    "checkpoint.npz",
    "config.json",
    "curves.png",
    "feature_maps.png",
    "history.csv",
    "model.keras",
    "results.json",
    "statistics",
    "statistics.png",
    "tensorboard",
]


def state(run: Run) -> dict[str, bytes]:
    """Returns all bits of weights, statistics and optimizer, and of the history but its times."""
    with np.load(run.checkpoint) as arrays:
        history = arrays["history"][:, :-1].tobytes()
        return {name: arrays[name].tobytes() for name in arrays.files} | {"history": history}


def test_a_finished_run_has_everything(finished: Run) -> None:
    assert sorted(path.name for path in finished.folder.iterdir()) == FILES
    with finished.history.open() as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == Epoch._fields
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    rates = [0.01 * (1 + np.cos(np.pi * epoch / 3)) / 2 for epoch in range(3)]
    assert [float(row["learning_rate"]) for row in rows] == pytest.approx(rates, rel=1e-4)
    results = json.loads(finished.results.read_text())
    assert results["test_accuracy"] == pytest.approx(float(rows[-1]["val_accuracy"]))
    assert results["gap"] == results["test_accuracy_batch_statistics"] - results["test_accuracy"]


def saved(run: Run) -> keras.Model:
    """Returns the model of a run's file, after a comparison with its checkpoint."""
    model = keras.models.load_model(run.model, compile=False)
    with np.load(run.checkpoint) as arrays:
        for index, variable in enumerate(model.variables):
            value = keras.ops.convert_to_numpy(variable)
            np.testing.assert_array_equal(value, arrays[f"variable {index}"])
    return model


def test_the_saved_model_is_the_trained_one(finished: Run) -> None:
    assert saved(finished).name == "lenet"


def test_a_killed_run_resumes_bit_for_bit(tmp_path: Path, data_dir: Path, finished: Run) -> None:
    run = Run(tmp_path / "run")
    small.kill(run, small.settings(data_dir), batch=4)
    with np.load(run.checkpoint) as arrays:
        assert len(arrays["history"]) == 1
    assert not run.model.exists()
    resume(run, {}, small.silent())
    assert state(run) == state(finished)


def test_a_run_killed_before_its_last_row_gets_it(tmp_path: Path, data_dir: Path) -> None:
    run = Run(tmp_path / "run")
    small.train(run.folder, small.settings(data_dir))
    complete = run.history.read_text()
    run.history.write_text("\n".join(complete.splitlines()[:-1]) + "\n")
    run.results.unlink()
    resume(run, {}, small.silent())
    assert run.history.read_text() == complete


@pytest.mark.parametrize(
    "name, layer_type",
    [("ours", BatchNormalization), ("keras", keras.layers.BatchNormalization), ("none", None)],
)
def test_seed_and_normalization_decide_the_model(
    data_dir: Path, name: str, layer_type: type[keras.layers.Layer] | None
) -> None:
    def weights(seed: int) -> list[bytes]:
        run_settings = small.settings(data_dir, normalization=name)
        make_repeatable(seed)
        model = lenet.build(run_settings, load(run_settings.data, run_settings.data_dir))
        layer_types = {type(layer) for layer in model.layers if "normalization" in layer.name}
        assert layer_types == ({layer_type} if layer_type else set())
        return [keras.ops.convert_to_numpy(weight).tobytes() for weight in model.weights]

    assert weights(1) == weights(1) != weights(2)


def test_a_full_disk_loses_one_epoch_at_most(
    tmp_path: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run(tmp_path / "run")
    fsync = os.fsync

    def fill(descriptor: int) -> None:
        (full_disk if run.history.exists() else fsync)(descriptor)

    monkeypatch.setattr(os, "fsync", fill)
    with pytest.raises(UserError, match=r"00002\.npz cannot be written: .*No space left"):
        small.train(run.folder, small.settings(data_dir))
    assert not list(run.folder.rglob(".*"))
    with np.load(run.checkpoint) as arrays:
        assert len(arrays["history"]) == 1


class Burst(keras.optimizers.schedules.LearningRateSchedule):
    """A rate that makes all weights infinite after half of the steps."""

    def __init__(self, rate: float, steps: int) -> None:
        self.steps = steps

    def __call__(self, step: Any) -> Any:
        return keras.ops.where(step < self.steps // 2, 0.01, 1e30)

    def get_config(self) -> dict[str, Any]:
        return {"rate": 0.01, "steps": self.steps}


def test_the_last_good_state_outlives_a_loss_that_is_not_finite(
    tmp_path: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(optimizer.SCHEDULES, "burst", Burst)
    monkeypatch.setattr("batchnorm_app.runs.settings.SCHEDULES", ("cosine", "burst"))
    run = Run(tmp_path / "run")
    run_settings = small.settings(data_dir, schedule="burst", optimizer="sgd", epochs=4)
    with pytest.raises(NonFiniteError, match=r"nan at epoch 3, step \d.*those of epoch 2"):
        small.train(run.folder, run_settings)
    with np.load(run.checkpoint) as arrays:
        assert len(arrays["history"]) == 2
        assert all(np.isfinite(arrays[name]).all() for name in arrays.files)
    test_the_saved_model_is_the_trained_one(run)


def test_a_first_epoch_that_is_not_finite_leaves_no_state(tmp_path: Path, data_dir: Path) -> None:
    run_settings = small.settings(data_dir, optimizer="sgd", learning_rate=1e30)
    with pytest.raises(NonFiniteError, match="epoch 1, step .*nothing to keep"):
        small.train(tmp_path / "run", run_settings)
    assert not Run(tmp_path / "run").checkpoint.exists()


def test_a_setting_that_does_not_fit_the_data_leaves_no_folder(
    tmp_path: Path, data_dir: Path
) -> None:
    with pytest.raises(UserError, match="from 2 to 300"):
        small.train(tmp_path / "run", small.settings(data_dir, batch_size=400))
    assert not (tmp_path / "run").exists()


def test_another_backend_is_refused(tmp_path: Path, data_dir: Path) -> None:
    other = "jax" if keras.config.backend() != "jax" else "torch"
    with pytest.raises(UserError, match=f"set KERAS_BACKEND={other}"):
        small.train(tmp_path / "run", small.settings(data_dir, backend=other))


@pytest.mark.parametrize("content", [b"", b"PK damaged", None])
def test_a_damaged_checkpoint_is_an_error(
    tmp_path: Path, data_dir: Path, content: bytes | None
) -> None:
    run = Run(tmp_path / "run")
    run.create(small.settings(data_dir))
    if content is None:
        np.savez(run.checkpoint, history=np.zeros((1, 7)))
    else:
        run.checkpoint.write_bytes(content)
    with pytest.raises(UserError, match="damaged|not a checkpoint of this model"):
        resume(run, {}, small.silent())
