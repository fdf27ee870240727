"""The steps that the command and benchmarks/steps.py share."""

import runpy
import sys
from pathlib import Path

import numpy as np
import pytest

from batchnorm.benchmark import models
from tests.train.small import backend_left_as_it_was

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "steps.py"


def test_steps_are_those_of_a_training() -> None:
    made = [models.compiled((16, 16, 1), expression) for expression in ("ours", "keras")]
    made[1].set_weights(made[0].get_weights())
    before = made[0].get_weights()
    ours, theirs = models.steps(made, 8)
    for _ in range(2):
        assert float(ours()) == pytest.approx(float(theirs()), abs=1e-3)  # type: ignore[arg-type]
    assert not np.allclose(made[0].get_weights()[0], before[0])


def test_the_script(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    given = ["--model", "lenet", "--batch-size", "4", "--steps", "1", "ghost:2"]
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), *given])
    with backend_left_as_it_was():
        runpy.run_path(str(SCRIPT), run_name="__main__")
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[0] for line in lines[2:]] == ["ghost:2", "keras", "a batch, moved"]
