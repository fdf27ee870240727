"""Runs of a version before the moves: they resume, and end with that version's numbers."""

import csv
import json
from pathlib import Path

import keras
import numpy as np
import pytest

import batchnorm
from batchnorm_app.runs.run import Run
from batchnorm_app.train.start import resume
from tests.app import small
from tests.compare import assert_close
from tests.differentiate import Array
from tests.fixtures.unpack import unpack

# On the machine that wrote the runs the numbers are the same bit for bit. A processor with vectors
# of another length rounds otherwise; a step left out or done twice is off by 1e-2.
TOLERANCE = 1e-5
KINDS = ("lenet", "gan")
torch_alone = pytest.mark.skipif(
    keras.backend.backend() != "torch", reason="a checkpoint belongs to the backend that wrote it"
)


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    return unpack("before_move/runs", tmp_path)


def history(run: Run) -> Array:
    """All columns but the last, the seconds."""
    with run.history.open() as file:
        _, *rows = csv.reader(file)
    return np.array(rows, float)[:, :-1]


def weights(run: Run) -> list[Array]:
    model = keras.saving.load_model(run.model, compile=False)
    return [keras.ops.convert_to_numpy(variable) for variable in model.variables]


@torch_alone
@pytest.mark.parametrize("kind", KINDS)
def test_a_stopped_run_resumes_and_ends_as_the_undisturbed_one(kind: str, runs: Path) -> None:
    stopped, finished = (Run(runs / f"{kind}_{name}") for name in ("stopped", "finished"))
    assert len(history(stopped)) == 1 and not stopped.results.exists()
    resume(stopped, {}, small.silent())
    assert_close(history(stopped), history(finished), TOLERANCE)
    for actual, expected in zip(weights(stopped), weights(finished), strict=True):
        assert_close(actual, expected, TOLERANCE)
    results = [json.loads(run.results.read_text()) for run in (stopped, finished)]
    assert results[0].keys() == results[1].keys()
    for name in results[1]:
        if "seconds" not in name:
            assert_close(results[0][name], results[1][name], TOLERANCE)


@pytest.mark.parametrize("kind", KINDS)
def test_a_finished_run_is_not_trained_again(kind: str, runs: Path) -> None:
    run = Run(runs / f"{kind}_finished")
    before = {path: path.read_bytes() for path in run.folder.rglob("*") if path.is_file()}
    resume(run, {}, small.silent())
    assert before == {path: path.read_bytes() for path in run.folder.rglob("*") if path.is_file()}
    layers = keras.saving.load_model(run.model, compile=False)._flatten_layers()
    assert any(isinstance(layer, batchnorm.BatchNormalization) for layer in layers)


@torch_alone
@pytest.mark.parametrize("kind", KINDS)
def test_the_comparison_can_fail(kind: str, runs: Path) -> None:
    """With other settings a run would not end as it did."""
    stopped, finished = (Run(runs / f"{kind}_{name}") for name in ("stopped", "finished"))
    config = json.loads(stopped.config.read_text())
    config["settings"]["seed"] += 1
    stopped.config.write_text(json.dumps(config))
    resume(stopped, {}, small.silent())
    with pytest.raises(AssertionError):
        assert_close(history(stopped), history(finished), TOLERANCE)
