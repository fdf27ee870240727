"""From the command line to a finished run: start one, or take one up again."""

from collections.abc import Mapping
from typing import Any, Protocol

import keras
from rich.console import Console

from batchnorm.train import classify
from batchnorm.train.gan import training
from batchnorm.train.run import Run, RunError
from batchnorm.train.settings import Settings


class Training(Protocol):
    """What a kind of model is trained by; a module of this package is one."""

    def prepare(self, settings: Any) -> Any:
        """Reads the data and builds the networks, before the folder of the run is touched."""

    def finish(self, run: Run, settings: Any, prepared: Any, console: Console) -> None:
        """Trains on from the run's checkpoint, or from the beginning, to its results."""

    def show(self, run: Run, console: Console) -> None:
        """Prints the closing table of a finished run."""


TRAININGS: dict[str, Training] = {"lenet": classify, "resnet": classify, "gan": training}


def start(run: Run, settings: Settings, overwrite: bool, console: Console) -> None:
    """Trains a model and fills the run's folder.

    Args:
        run: where; a new or empty folder, or a run to be deleted.
        settings: what to train, and how.
        overwrite: whether the run that is there may be deleted.
        console: shows the progress and the closing table.

    Raises:
        RunError: the folder is taken, the settings do not fit the data, a loss is not finite, a
            file cannot be written, or another process trains in the folder.
        DataError: the data cannot be read.
    """
    run.refuse_to_overwrite(overwrite)
    prepared = _prepare(settings)
    with run.created(settings, overwrite) as foreign:
        if foreign:
            line = f"Not of a run, and kept in {run.folder}: {', '.join(foreign)}"
            console.print(line, markup=False, highlight=False, soft_wrap=True)
        _finish(run, settings, prepared, console)


def resume(run: Run, given: Mapping[str, Any], console: Console) -> None:
    """Trains on from the last checkpoint; a finished run shows its table again.

    Args:
        run: an unfinished or finished run.
        given: settings that the user insists on; they must be the run's.
        console: shows the progress and the closing table.

    Raises:
        RunError: the folder is not a run, its settings are others than those given, a loss is not
            finite, a file cannot be read or written, or another process trains in the folder.
        DataError: the data cannot be read.
    """
    settings = run.settings()
    differences = settings.differences(given)
    if differences:
        raise RunError(
            f"{run.folder} was started with other settings ({'; '.join(differences)}): resume it "
            "without them, or start another run in another folder."
        )
    if _show_finished(run, settings, console):
        return
    with run.locked():
        # Another process may have finished it meanwhile.
        if not _show_finished(run, settings, console):
            _finish(run, settings, _prepare(settings), console)


def _show_finished(run: Run, settings: Settings, console: Console) -> bool:
    if run.results.exists():
        console.print(f"{run.folder} is finished already.", markup=False, soft_wrap=True)
        TRAININGS[settings.model].show(run, console)
        return True
    return False


def _prepare(settings: Settings) -> Any:
    if settings.backend != keras.config.backend():
        raise RunError(
            f"the run's backend is {settings.backend}, but Keras was imported with "
            f"{keras.config.backend()}: set KERAS_BACKEND={settings.backend} beforehand."
        )
    return TRAININGS[settings.model].prepare(settings)


def _finish(run: Run, settings: Settings, prepared: Any, console: Console) -> None:
    training = TRAININGS[settings.model]
    training.finish(run, settings, prepared, console)
    training.show(run, console)
