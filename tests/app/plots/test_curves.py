from pathlib import Path

import pytest
from matplotlib.figure import Figure

from batchnorm_app.plots.curves import curves

pytestmark = pytest.mark.no_backend


@pytest.mark.parametrize("epochs", [1, 3, 40])
def test_two_panels_of_two_curves(tmp_path: Path, figures: list[Figure], epochs: int) -> None:
    history = [
        {"epoch": n, "loss": 2 / n, "accuracy": 1 - 1 / n, "val_loss": 3 / n, "val_accuracy": 0.5}
        for n in range(1, epochs + 1)
    ]
    curves(history, tmp_path / "curves.png")
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
    loss, accuracy = figures[0].axes
    assert (loss.get_xlabel(), accuracy.get_xlabel()) == ("Epoch", "Epoch")
    assert (loss.get_ylabel(), accuracy.get_ylabel()) == ("Loss (cross-entropy)", "Accuracy")
    for axes, names in ((loss, ("loss", "val_loss")), (accuracy, ("accuracy", "val_accuracy"))):
        for line, name in zip(axes.lines, names, strict=True):
            assert list(line.get_xdata()) == list(range(1, epochs + 1))  # type: ignore[arg-type]
            assert list(line.get_ydata()) == [row[name] for row in history]  # type: ignore[arg-type]
        assert [line.get_label() for line in axes.lines] == ["training", "test"]
