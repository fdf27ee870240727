"""Curves of loss and accuracy over the epochs of a training."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

_PANELS = {"Loss (cross-entropy)": "loss", "Accuracy": "accuracy"}


def curves(history: Sequence[Mapping[str, float]], path: Path) -> None:
    """Draws loss and accuracy of training and test images over the epochs, side by side.

    Args:
        history: for each epoch `epoch`, counted from 1, `loss`, `accuracy`, `val_loss` and
            `val_accuracy`.
        path: the picture to write; its suffix names the format.
    """
    figure = Figure(figsize=(10, 4), layout="constrained")
    epochs = [row["epoch"] for row in history]
    # A line through a single point is invisible without a marker; many markers hide the line.
    marker = "o" if len(epochs) <= 20 else ""
    for axes, (title, name) in zip(figure.subplots(1, 2), _PANELS.items(), strict=True):
        for key, label in ((name, "training"), (f"val_{name}", "test")):
            values = [row[key] for row in history]
            axes.plot(epochs, values, marker=marker, markersize=4, label=label)
        axes.set(title=title, xlabel="Epoch", ylabel=title)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        axes.legend()
    figure.savefig(path, dpi=150)
