"""Starts or resumes a run."""

from collections.abc import Mapping
from typing import Any, Protocol

import keras
from rich.console import Console

from batchnorm_app.console import say
from batchnorm_app.errors import UserError
from batchnorm_app.runs.run import Run
from batchnorm_app.runs.settings import Settings
from batchnorm_app.train import classifier
from batchnorm_app.train.gan import training


class Training(Protocol):
    """The training of a kind of model; a module of this package."""

    def prepare(self, settings: Any) -> Any:
        """Reads the data and builds the networks, before the run's folder is touched."""

    def finish(self, run: Run, settings: Any, setup: Any, console: Console) -> None:
        """Trains from the run's checkpoint, or from the beginning, and writes the results."""

    def show(self, run: Run, console: Console) -> None:
        """Prints the closing table of a finished run."""


TRAININGS: dict[str, Training] = {"lenet": classifier, "resnet": classifier, "gan": training}


def start(run: Run, settings: Settings, overwrite: bool, console: Console) -> None:
    """Trains a model and fills the run's folder.

    Args:
        run: a new or empty folder, or a run to delete.
        settings: of the training.
        overwrite: delete a run in that folder.
        console: shows the progress and the closing table.

    Raises:
        UserError: the folder is in use, the settings do not fit the data, a loss is not finite, a
            file cannot be written, or another process trains in the folder.
        DataError: the data cannot be read.
    """
    run.refuse_to_overwrite(overwrite)
    setup = _prepare(settings)
    with run.created(settings, overwrite) as foreign:
        if foreign:
            line = f"Left in {run.folder} (not part of a run): {', '.join(foreign)}"
            say(line, console)
        _finish(run, settings, setup, console)


def resume(run: Run, options: Mapping[str, Any], console: Console) -> None:
    """Resumes a run from its last checkpoint; shows the table of a finished one.

    Args:
        run: a run, finished or not.
        options: settings that the user repeats; they must equal the run's.
        console: shows the progress and the closing table.

    Raises:
        UserError: the folder is not a run, its settings differ from the options, a loss is not
            finite, a file cannot be read or written, or another process trains in the folder.
        DataError: the data cannot be read.
    """
    settings = run.settings()
    differences = settings.differences(options)
    if differences:
        raise UserError(
            f"{run.folder} was started with other settings ({'; '.join(differences)}): resume it "
            "without them, or start another run in another folder."
        )
    if _show_finished(run, settings, console):
        return
    with run.locked():
        # Another process may have finished it in the meantime.
        if not _show_finished(run, settings, console):
            _finish(run, settings, _prepare(settings), console)


def _show_finished(run: Run, settings: Settings, console: Console) -> bool:
    if run.results.exists():
        say(f"{run.folder} is already finished.", console)
        TRAININGS[settings.model].show(run, console)
        return True
    return False


def _prepare(settings: Settings) -> Any:
    if settings.backend != keras.config.backend():
        raise UserError(
            f"the run's backend is {settings.backend}, but Keras was imported with "
            f"{keras.config.backend()}: set KERAS_BACKEND={settings.backend} beforehand."
        )
    return TRAININGS[settings.model].prepare(settings)


def _finish(run: Run, settings: Settings, setup: Any, console: Console) -> None:
    training = TRAININGS[settings.model]
    training.finish(run, settings, setup, console)
    training.show(run, console)
