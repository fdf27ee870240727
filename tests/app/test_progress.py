"""The display of a long task's stage."""

import io
from collections.abc import Callable

import pytest
from rich.console import Console

from batchnorm_app.progress import Stage

pytestmark = pytest.mark.no_backend


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Sets the time, in seconds."""
    now = [100.0]
    monkeypatch.setattr("batchnorm_app.progress.time.perf_counter", lambda: now[0])
    return lambda seconds: now.__setitem__(0, seconds)


def test_lines_where_there_is_no_terminal(clock: Callable[[float], None]) -> None:
    console = Console(file=io.StringIO(), width=100)
    with Stage(console, "Learning", then="Measuring") as stage:
        stage.set_params({"epochs": 3, "steps": 2})
        stage.on_train_begin()
        clock(104.0)
        stage.on_epoch_end(0, {"accuracy": 0.5})
        clock(110.0)
        stage.on_epoch_end(1, {"accuracy": 0.75})
        stage.on_train_end()
        clock(120.5)
    assert isinstance(console.file, io.StringIO)
    assert console.file.getvalue().splitlines() == [
        "Learning ...",
        "  epoch 1/3  accuracy 0.5000  4.0 s, about 8 s left",
        "  epoch 2/3  accuracy 0.7500  10.0 s, about 5 s left",
        "Measuring ...",
        "  20.5 s",
    ]


def test_a_bar_on_a_terminal() -> None:
    console = Console(file=io.StringIO(), width=100, force_terminal=True)
    with Stage(console, "Learning", then="Measuring") as stage:
        stage.set_params({"epochs": 3, "steps": 2})
        stage.on_train_begin()
        for batch in (0, 1):
            stage.on_train_batch_end(batch)
        stage.on_epoch_end(0, {"accuracy": 0.5})
        (task,) = stage.bar.tasks
        assert (task.completed, task.total, task.description) == (2, 6, "Learning")
        stage.on_train_end()
    assert isinstance(console.file, io.StringIO)
    shown = console.file.getvalue()
    assert "Measuring" in shown and "accuracy" not in shown and " s\n" not in shown


def test_an_error_is_not_told_as_an_end() -> None:
    console = Console(file=io.StringIO(), width=100)
    with pytest.raises(KeyboardInterrupt), Stage(console, "Making", 2) as stage:
        stage.advance()
        raise KeyboardInterrupt
    assert isinstance(console.file, io.StringIO)
    assert console.file.getvalue() == "Making ...\n"
    assert not stage.bar.live.is_started
