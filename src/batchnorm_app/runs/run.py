"""A run's folder: file names, overwrite rules, and the lock against other processes."""

import platform
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from batchnorm_app.errors import UserError, one_line
from batchnorm_app.files import delete_temporary, read_json, target_of, write_json
from batchnorm_app.runs import lock
from batchnorm_app.runs.settings import KINDS, Settings

_EPOCH = re.compile(r"[0-9]{5,7}\.npz")
_FRAME = re.compile(r"[0-9]{7,8}\.png")
_EVENTS = re.compile(r"events\.out\.tfevents\..*")
_NOT_A_RUN_HINT = (
    "restore it from a copy, or name another folder: the one that `batchnorm train --output` named."
)


class Run:
    """The files of one run.

    Args:
        folder: the folder that holds them.
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
        """Returns the path of the picture of samples after a step."""
        return self.frames / f"{step:07d}.png"

    def epoch_statistics(self, epoch: int) -> Path:
        """Returns the path of the layers' statistics after an epoch, counted from 1."""
        return self.statistics / f"{epoch:05d}.npz"

    def statistics_files(self) -> dict[int, Path]:
        """Returns the files of statistics by epoch, without copies of other names."""
        files = self.statistics.iterdir() if self.statistics.is_dir() else ()
        epochs = {int(path.stem): path for path in files if _EPOCH.fullmatch(path.name)}
        return {n: path for n, path in epochs.items() if n and path == self.epoch_statistics(n)}

    def settings(self) -> Settings:
        """Reads the settings in the run's `config.json`.

        Raises:
            UserError: the file does not exist, or was not written by `create`.
        """
        if not self.config.exists():
            raise UserError(
                f"{self.folder} is not a run: there is no {self.config.name} in it. "
                "Name the folder that `batchnorm train --output` named."
            )
        try:
            values = read_json(self.config, _NOT_A_RUN_HINT)
        except UserError as error:
            raise UserError(f"{self.folder} is not a run: {error}") from error
        try:
            return Settings.from_json(values.get("settings"))
        except ValueError as error:
            own = "correct it, or start again with --overwrite."
            hint = own if self._is_run() else _NOT_A_RUN_HINT
            raise UserError(
                f"{self.folder} is not a run: its {self.config.name} was not written by "
                f"`batchnorm train`, or was changed ({one_line(error, 700)}): {hint}"
            ) from error

    def _is_run(self) -> bool:
        """Returns whether config.json is a run's, even if values in it are invalid."""
        with suppress(UserError):
            settings = read_json(self.config, "").get("settings")
            return isinstance(settings, dict) and str(settings.get("model")) in KINDS
        return False

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keeps other processes out of the folder, and deletes temporary files of killed ones.

        Raises:
            UserError: the folder does not exist, or another process trains in it.
        """
        if not self.folder.is_dir():
            self.settings()  # raises, with advice
        with lock.locked(self.folder):
            for folder in (self.folder, self.statistics, self.frames):
                for path in folder.iterdir() if folder.is_dir() else ():
                    if self._is_left_over(path):
                        delete_temporary(path)
            yield

    def refuse_to_overwrite(self, overwrite: bool) -> None:
        """Raises unless `create` may use the folder, before anything slow is done.

        Args:
            overwrite: whether an existing run may be deleted.

        Raises:
            UserError: the folder has contents that may not be deleted, or another process trains
                in it.
        """
        if self.folder.is_symlink() and not self.folder.exists():
            raise UserError(
                f"{self.folder} is a link to {self.folder.readlink()}, which does not exist: "
                "create that folder, or name another with --output."
            )
        if self.folder.exists() and not self.folder.is_dir():
            raise UserError(f"{self.folder} is a file, not a folder: name another with --output.")
        if not self.folder.is_dir():
            return
        lock.check_unlocked(self.folder)
        self._refuse_contents(overwrite)

    def _refuse_contents(self, overwrite: bool) -> None:
        # Nothing but temporary files is left by a process killed before it wrote config.json.
        contents = [path for path in self.folder.iterdir() if not self._is_left_over(path)]
        if not contents:
            return
        if not overwrite:
            raise UserError(
                f"{self.folder} exists and is not empty: --resume continues the run in it, "
                "--overwrite deletes its files, --output names another folder."
            )
        if not self._is_run():
            try:
                self.settings()
            except UserError as error:
                raise UserError(f"--overwrite deletes nothing but runs. {error}") from error

    @contextmanager
    def created(self, settings: Settings, overwrite: bool) -> Iterator[list[str]]:
        """Creates the folder with a new `config.json`, and keeps other processes out of it.

        Args:
            settings: of the run.
            overwrite: whether an existing run may be deleted.

        Yields:
            The names of files and folders in it that are not a run's.

        Raises:
            UserError: as for `refuse_to_overwrite`: the folder may have changed since.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(
                f"{self.folder} cannot be created: {error.strerror}. Name another folder with "
                "--output."
            ) from error
        with self.locked():
            self._refuse_contents(overwrite)
            yield self.create(settings)

    def create(self, settings: Settings) -> list[str]:
        """Writes `config.json`, and deletes the files of a previous run, but no others.

        Args:
            settings: of the run.

        Returns:
            The names of files and folders in it that are not a run's.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        # The results go first: if this is interrupted, a run without them can be resumed.
        for path in self._written():
            path.unlink()
        for folder in (*self._event_folders(), self.tensorboard, self.statistics, self.frames):
            with suppress(OSError):  # it is missing, or holds other files too
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
        """Returns whether a file is left from a killed process: a lock or a temporary file."""
        target = target_of(path) or ""
        if path.parent == self.folder:
            return path.name == lock.NAME or self.folder / target in (self.config, *self._files())
        return bool((_EPOCH if path.parent == self.statistics else _FRAME).fullmatch(target))

    def _event_folders(self) -> list[Path]:
        return [self.tensorboard / name for name in ("train", "test", "statistics", "samples")]

    def _files(self) -> tuple[Path, ...]:
        """Returns the files that training and commands write beside config.json, results first."""
        numbers = (self.results, self.scores, self.checkpoint, self.history, self.model, self.judge)
        pictures = (self.curves, self.feature_maps, self.features, self.statistics_picture)
        return (*numbers, *pictures, self.samples, self.animation, self.sample)

    def _written(self) -> Iterator[Path]:
        """Yields the existing files of a run, but for config.json."""
        for path in self._files():
            if path.is_file() or path.is_symlink():
                yield path
        patterns = [(self.statistics, _EPOCH), (self.frames, _FRAME)]
        for folder, name in (*patterns, *((events, _EVENTS) for events in self._event_folders())):
            for path in folder.iterdir() if folder.is_dir() else ():
                if name.fullmatch(path.name) and (path.is_file() or path.is_symlink()):
                    yield path


def _versions(backend: str) -> dict[str, str]:
    # TensorFlow's distribution without GPU support has a name of its own.
    names = ("tensorflow", "tensorflow-cpu") if backend == "tensorflow" else (backend,)
    versions = {"python": platform.python_version()}
    for name in ("batchnorm", "keras", "numpy", *names):
        with suppress(PackageNotFoundError):
            versions[name] = version(name)
    return versions
