import io

import pytest
from rich.console import Console

from batchnorm_app.runs.history import Epoch
from batchnorm_app.train.epoch_bar import EpochBar

pytestmark = pytest.mark.no_backend

FINISHED = Epoch(1, 0.1, 2.0, 0.25, 3.0, 0.125, 9.0)


def output(terminal: bool) -> str:
    text = io.StringIO()
    console = Console(file=text, force_terminal=terminal, width=120, color_system=None)
    epochs = [FINISHED]
    with EpochBar(console, epochs, total=12, steps=2) as bar:
        for step in range(2):
            bar.on_train_batch_end(step, {"loss": 0.75, "accuracy": 0.8})
        epochs.append(FINISHED._replace(epoch=2, loss=0.75, accuracy=0.8, val_accuracy=0.5))
        bar.on_epoch_end(1)
    return text.getvalue()


def test_a_line_an_epoch_where_there_is_no_terminal() -> None:
    assert output(terminal=False) == (
        "epoch  2/12  loss 0.7500  accuracy 0.8000  test loss 3.0000  test accuracy 0.5000  9.0 s\n"
    )


def test_a_bar_on_a_terminal() -> None:
    text = output(terminal=True)
    assert "epoch 2/12" in text
    assert "loss 0.7500  accuracy 0.8000 test accuracy 0.5000" in text
    assert "\n\n" not in text
