"""The locations of data sets on the disk, and downloads by Keras."""

import os
from dataclasses import dataclass
from pathlib import Path

from batchnorm.data.dataset import DataError


def keras_datasets() -> Path:
    """Returns Keras's folder of downloaded data sets, under `$KERAS_HOME` or `~/.keras`."""
    home = os.path.expanduser("~")
    # Where neither HOME nor the system's list of users has one, Keras takes /tmp.
    keras_home = os.path.join("/tmp" if home == "~" else home, ".keras")
    return Path(os.path.expanduser(os.environ.get("KERAS_HOME") or keras_home)) / "datasets"


@dataclass(frozen=True)
class DataFiles:
    """The files of a data set, and the folders that they may lie in.

    Attributes:
        files: the names of all files.
        subfolders: the folders within a parent that may hold the files instead of the parent.
        suffixes: possible endings of a name, the preferred one first.
    """

    files: tuple[str, ...]
    subfolders: tuple[str, ...]
    suffixes: tuple[str, ...] = ("",)

    def file(self, folder: Path, name: str) -> Path:
        """Returns the path of a file in a folder, with the preferred suffix if it is missing."""
        paths = [folder / (name + suffix) for suffix in self.suffixes]
        # os.path.isfile says no in a folder that may not be read, where Path.is_file raises.
        return next(filter(os.path.isfile, paths), paths[0])

    def find(self, parent: Path) -> Path | None:
        """Returns the first folder with all files, the parent or a subfolder, or `None`."""
        return next((folder for folder in self._folders(parent) if not self._missing(folder)), None)

    def require(self, parent: str | Path, hint: str) -> Path:
        """Returns the first folder with all files, as `find`; raises instead of returning `None`.

        Args:
            parent: the folder to search; a leading `~` is the home folder.
            hint: the last sentences of an error.

        Raises:
            DataError: there is no such folder, or a file is missing.
        """
        parent = Path(os.path.expanduser(parent))
        folder = self.find(parent)
        if folder is None:
            raise DataError(parent, self._fault(parent), self._expected(), hint)
        return folder

    def _folders(self, parent: Path) -> list[Path]:
        return [parent, *(parent / subfolder for subfolder in self.subfolders)]

    def _missing(self, folder: Path) -> list[str]:
        paths = [self.file(folder, name) for name in self.files]
        return [path.name for path in paths if not os.path.isfile(path)]

    def _expected(self) -> str:
        files = ", ".join(name + self.suffixes[0] for name in self.files)
        return f"{files} in that folder or in its subfolder {' or '.join(self.subfolders)}"

    def _fault(self, parent: Path) -> str:
        if not os.path.isdir(parent):
            return _not_a_folder(parent)
        # The folder that lacks the fewest files is probably the intended one.
        folder = min(self._folders(parent), key=lambda candidate: len(self._missing(candidate)))
        missing = self._missing(folder)
        if len(missing) == len(self.files):
            return "none of the files"
        return f"no {', '.join(missing)} in {folder}"


def _not_a_folder(path: Path) -> str:
    if os.path.islink(path) and not os.path.exists(path):
        return f"a link to {os.readlink(path)}, which does not exist"
    return "a file, not a folder" if os.path.exists(path) else "no such folder"


def download(file: str, origin: str, hint: str, **options: str | bool) -> Path:
    """Downloads a file into Keras's cache.

    Args:
        file: its name in the cache.
        origin: its address.
        hint: the last sentences of an error.
        **options: further arguments of `keras.utils.get_file`.

    Returns:
        The path that Keras returns.

    Raises:
        DataError: the download failed, for whatever reason.
    """
    import keras

    try:
        return Path(keras.utils.get_file(file, origin=origin, **options))
    # Keras raises a bare Exception where the address cannot be reached.
    except Exception as error:
        fault = f"a download that failed ({type(error).__name__}: {error})"
        raise DataError(origin, fault, "the file that Keras downloads from there", hint) from error
