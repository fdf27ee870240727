"""The folder of a run: what lies where, who may write there, and files that are never half."""

import json
import os
import platform
import shutil
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from batchnorm.train.settings import Settings


class RunError(ValueError):
    """A run that cannot go on as asked; the message says why and what to do."""


class Run:
    """The files of one run.

    Args:
        folder: where they lie.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config = folder / "config.json"
        self.checkpoint = folder / "checkpoint.npz"
        self.history = folder / "history.csv"
        self.model = folder / "model.keras"
        self.tensorboard = folder / "tensorboard"
        self.curves = folder / "curves.png"
        self.feature_maps = folder / "feature_maps.png"
        self.statistics = folder / "statistics"
        self.statistics_picture = folder / "statistics.png"
        self.samples = folder / "samples.png"
        self.frames = folder / "frames"
        self.animation = folder / "samples.gif"
        self.sample = folder / "sample.png"
        self.judge = folder / "judge.keras"
        self.scores = folder / "scores.json"
        self.results = folder / "results.json"

    def frame(self, step: int) -> Path:
        """The picture of the samples after a step."""
        return self.frames / f"{step:07d}.png"

    def epoch_statistics(self, epoch: int) -> Path:
        """The statistics of the normalization layers after an epoch, counted from 1."""
        return self.statistics / f"{epoch:05d}.npz"

    def settings(self) -> Settings:
        """What the run's `config.json` says was asked.

        Raises:
            RunError: there is no such file, or it was not written by `create`.
        """
        try:
            return Settings.from_json(json.loads(self.config.read_text("utf-8"))["settings"])
        except FileNotFoundError:
            raise RunError(
                f"{self.folder} is not a run: there is no {self.config.name} in it. "
                "Name the folder that `batchnorm train --output` named."
            ) from None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RunError(
                f"{self.folder} is not a run: its {self.config.name} was not written by "
                f"`batchnorm train`, or was changed ({error})."
            ) from error

    def refuse_to_overwrite(self, overwrite: bool) -> None:
        """Checks that `create` may use the folder, before anything slow is done.

        Args:
            overwrite: whether a run that is already there may be deleted.

        Raises:
            RunError: there is something that may not be deleted.
        """
        if self.folder.exists() and not self.folder.is_dir():
            raise RunError(f"{self.folder} is a file, not a folder: name another with --output.")
        if not self.folder.is_dir() or not any(self.folder.iterdir()):
            return
        if not overwrite:
            raise RunError(
                f"{self.folder} exists and is not empty: --resume continues the run in it, "
                "--overwrite deletes it, --output names another folder."
            )
        try:
            self.settings()
        except RunError as error:
            raise RunError(f"--overwrite deletes nothing but runs. {error}") from error

    def create(self, settings: Settings) -> None:
        """Makes the folder, empty but for `config.json`.

        A run that is there is deleted: ask `refuse_to_overwrite` first.

        Args:
            settings: what was asked.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        # The folder may be a link or the current one, so it stays; its config.json goes last, so
        # that a deletion cut short can be taken up by another --overwrite.
        for path in sorted(self.folder.iterdir(), key=lambda path: path == self.config):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
        config = {
            "settings": settings.to_json(),
            "versions": _versions(settings.backend),
            "platform": platform.platform(),
        }
        write_json(self.config, config)


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """A file that appears whole or not at all, whenever the process ends or the disk is full.

    Args:
        path: the file to make or to replace.

    Yields:
        The name to write to, beside it and with the same suffix; what is written takes the place
        of `path` when the block ends, and is deleted if the block raises.

    Raises:
        RunError: the file cannot be written.
    """
    # Always the same name, so that what a killed process left is written over by the next one.
    temporary = path.with_name(f".{path.stem}.part{path.suffix}")
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise RunError(f"{path} cannot be written: {error}. It is as it was before.") from error
    finally:
        temporary.unlink(missing_ok=True)


def read_arrays(path: Path, mend: str) -> dict[str, npt.NDArray[Any]]:
    """The arrays of an `.npz` file.

    Args:
        path: the file.
        mend: the advice that an error ends with.

    Raises:
        RunError: it is damaged.
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise RunError(f"{path} is damaged ({error}): {mend}") from error


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Writes a JSON file, whole or not at all.

    Args:
        path: the file.
        value: what to write.
    """
    with atomic(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2) + "\n", "utf-8")


def _versions(backend: str) -> dict[str, str]:
    # On a processor without a graphics card TensorFlow's distribution has another name.
    names = ("tensorflow", "tensorflow-cpu") if backend == "tensorflow" else (backend,)
    found = {"python": platform.python_version()}
    for name in ("batchnorm", "keras", "numpy", *names):
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found
