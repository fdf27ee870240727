"""The steps that the command and experiments/training_steps.py share."""

import runpy
import sys
from pathlib import Path

import numpy as np
import pytest

from batchnorm_app.benchmark import training_steps
from tests.app.small import backend_left_as_it_was

pytestmark = pytest.mark.slow_on_jax

SCRIPT = Path(__file__).resolve().parents[3] / "experiments" / "training_steps.py"


def test_steps_train_the_models() -> None:
    models = [
        training_steps.compiled_model((16, 16, 1), expression) for expression in ("ours", "keras")
    ]
    models[1].set_weights(models[0].get_weights())
    before = models[0].get_weights()
    ours, keras = training_steps.steps(models, 8)
    for _ in range(2):
        assert float(ours()) == pytest.approx(float(keras()), abs=1e-3)  # type: ignore[arg-type]
    assert not np.allclose(models[0].get_weights()[0], before[0])


def test_the_script(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ["--model", "lenet", "--batch-size", "4", "--steps", "1", "ghost:2"]
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), *arguments])
    with backend_left_as_it_was():
        runpy.run_path(str(SCRIPT), run_name="__main__")
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[0] for line in lines[2:]] == ["ghost:2", "keras", "augmentation"]
