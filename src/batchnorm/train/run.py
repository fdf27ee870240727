"""The folder of a run: what lies where, and who may write there."""

import platform
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from batchnorm.train import lock
from batchnorm.train.errors import RunError, one_line
from batchnorm.train.files import (
    atomic,
    delete_temporary,
    read_json,
    target_of,
    write_json,
)
from batchnorm.train.settings import KINDS, Settings

__all__ = ["Run", "RunError", "atomic", "write_json"]

_EPOCH = re.compile(r"[0-9]{5,7}\.npz")
_FRAME = re.compile(r"[0-9]{7,8}\.png")
_EVENTS = re.compile(r"events\.out\.tfevents\..*")
_NO_RUN = (
    "restore it from a copy, or name another folder: the one that `batchnorm train --output` named."
)


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
        self.features = folder / "features.png"
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

    def statistics_files(self) -> dict[int, Path]:
        """Returns the files of the statistics by their epochs; copies of them are left out."""
        files = self.statistics.iterdir() if self.statistics.is_dir() else ()
        epochs = {int(path.stem): path for path in files if _EPOCH.fullmatch(path.name)}
        return {n: path for n, path in epochs.items() if n and path == self.epoch_statistics(n)}

    def settings(self) -> Settings:
        """What the run's `config.json` says was asked.

        Raises:
            RunError: there is no such file, or it was not written by `create`.
        """
        if not self.config.exists():
            raise RunError(
                f"{self.folder} is not a run: there is no {self.config.name} in it. "
                "Name the folder that `batchnorm train --output` named."
            )
        try:
            values = read_json(self.config, _NO_RUN)
        except RunError as error:
            raise RunError(f"{self.folder} is not a run: {error}") from error
        try:
            return Settings.from_json(values.get("settings"))
        except ValueError as error:
            hint = "correct it, or start again with --overwrite." if self._is_run() else _NO_RUN
            raise RunError(
                f"{self.folder} is not a run: its {self.config.name} was not written by "
                f"`batchnorm train`, or was changed ({one_line(error, 700)}): {hint}"
            ) from error

    def _is_run(self) -> bool:
        """Tells whether config.json is a run's, if perhaps with impossible values."""
        with suppress(RunError):
            settings = read_json(self.config, "").get("settings")
            return isinstance(settings, dict) and str(settings.get("model")) in KINDS
        return False

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keeps other processes from training in the folder, and deletes what killed ones left.

        Raises:
            RunError: there is no such folder, or another process trains in it.
        """
        if not self.folder.is_dir():
            self.settings()
        with lock.locked(self.folder):
            for folder in (self.folder, self.statistics, self.frames):
                for path in folder.iterdir() if folder.is_dir() else ():
                    if self._is_left_over(path):
                        delete_temporary(path)
            yield

    def refuse_to_overwrite(self, overwrite: bool) -> None:
        """Checks that `create` may use the folder, before anything slow is done.

        Args:
            overwrite: whether a run that is already there may be deleted.

        Raises:
            RunError: there is something that may not be deleted, or another process trains there.
        """
        if self.folder.is_symlink() and not self.folder.exists():
            raise RunError(
                f"{self.folder} is a link to {self.folder.readlink()}, which does not exist: "
                "create that folder, or name another with --output."
            )
        if self.folder.exists() and not self.folder.is_dir():
            raise RunError(f"{self.folder} is a file, not a folder: name another with --output.")
        if not self.folder.is_dir():
            return
        lock.check_unlocked(self.folder)
        self._refuse_contents(overwrite)

    def _refuse_contents(self, overwrite: bool) -> None:
        # A process that was killed before config.json was whole has left nothing of a run.
        contents = [path for path in self.folder.iterdir() if not self._is_left_over(path)]
        if not contents:
            return
        if not overwrite:
            raise RunError(
                f"{self.folder} exists and is not empty: --resume continues the run in it, "
                "--overwrite deletes its files, --output names another folder."
            )
        if not self._is_run():
            try:
                self.settings()
            except RunError as error:
                raise RunError(f"--overwrite deletes nothing but runs. {error}") from error

    @contextmanager
    def created(self, settings: Settings, overwrite: bool) -> Iterator[list[str]]:
        """Makes the folder with a new `config.json`, and keeps other processes out of it.

        Args:
            settings: what was asked.
            overwrite: whether a run that is already there may be deleted.

        Yields:
            The names of files and folders that were there and were not written by a run.

        Raises:
            RunError: as for `refuse_to_overwrite`, which another process may have made true.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunError(
                f"{self.folder} cannot be created: {error.strerror}. Name another folder with "
                "--output."
            ) from error
        with self.locked():
            self._refuse_contents(overwrite)
            yield self.create(settings)

    def create(self, settings: Settings) -> list[str]:
        """Writes `config.json`, and deletes what a run before has written, but nothing else.

        Args:
            settings: what was asked.

        Returns:
            The names of files and folders that are not of a run.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        # The results go first: a run without them, should this be cut short, is one to be resumed.
        for path in self._written():
            path.unlink()
        for folder in (*self._event_folders(), self.tensorboard, self.statistics, self.frames):
            with suppress(OSError):  # it holds something else, too
                folder.rmdir()
        config = {
            "settings": settings.to_json(),
            "versions": _versions(settings.backend),
            "platform": platform.platform(),
        }
        write_json(self.config, config)
        own = {self.config.name, lock.NAME}
        return sorted(path.name for path in self.folder.iterdir() if path.name not in own)

    def _is_left_over(self, path: Path) -> bool:
        """Tells whether a file is of a process that was killed: its lock, or half of a file."""
        target = target_of(path) or ""
        if path.parent == self.folder:
            return path.name == lock.NAME or self.folder / target in (self.config, *self._files())
        return bool((_EPOCH if path.parent == self.statistics else _FRAME).fullmatch(target))

    def _event_folders(self) -> list[Path]:
        return [self.tensorboard / name for name in ("train", "test", "statistics", "samples")]

    def _files(self) -> tuple[Path, ...]:
        """The files that a run and the commands write beside config.json, results first."""
        numbers = (self.results, self.scores, self.checkpoint, self.history, self.model, self.judge)
        pictures = (self.curves, self.feature_maps, self.features, self.statistics_picture)
        return (*numbers, *pictures, self.samples, self.animation, self.sample)

    def _written(self) -> Iterator[Path]:
        """What is there of the files that a run and the commands write, but for config.json."""
        for path in self._files():
            if path.is_file() or path.is_symlink():
                yield path
        places = [(self.statistics, _EPOCH), (self.frames, _FRAME)]
        for folder, name in (*places, *((events, _EVENTS) for events in self._event_folders())):
            for path in folder.iterdir() if folder.is_dir() else ():
                if name.fullmatch(path.name) and (path.is_file() or path.is_symlink()):
                    yield path


def _versions(backend: str) -> dict[str, str]:
    # On a processor without a graphics card TensorFlow's distribution has another name.
    names = ("tensorflow", "tensorflow-cpu") if backend == "tensorflow" else (backend,)
    found = {"python": platform.python_version()}
    for name in ("batchnorm", "keras", "numpy", *names):
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found
