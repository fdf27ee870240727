"""The example: a TensorFlow 1 training, and its checkpoint in a Keras model."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from batchnorm import data
from batchnorm.contrib import load_checkpoint
from batchnorm.models.lenet import lenet

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "tf1_lenet.py"


def train(folder: Path, *arguments: str) -> list[tuple[int, float]]:
    """Runs the example, and returns the steps and test accuracies that it prints."""
    ran = subprocess.run(
        [sys.executable, EXAMPLE, "--output", folder, *arguments],
        env=os.environ | {"KERAS_BACKEND": "tensorflow"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    accuracies = re.findall(r"step (\d+): test accuracy ([\d.]+)", ran.stdout)
    return [(int(step), float(accuracy)) for step, accuracy in accuracies]


@pytest.mark.slow
def test_it_trains_and_its_checkpoint_loads(tmp_path: Path) -> None:
    pytest.importorskip("tensorflow")
    first = train(tmp_path, "--epochs", "9")
    assert [step for step, _ in first] == [120 * epoch for epoch in range(1, 10)]
    (last,) = train(tmp_path, "--epochs", "10")  # from where it ended
    assert last[0] == 1200 and last[1] >= 0.84
    model = lenet()
    report = load_checkpoint(tmp_path, model)
    assert {loaded.how for loaded in report.loaded} == {"name"}
    test = data.load("fashion-mnist-sample").test
    right = model.predict(test.images.astype("float32"), verbose=0).argmax(1) == test.labels
    assert abs(np.mean(right) - last[1]) < 6e-4  # it prints three digits
