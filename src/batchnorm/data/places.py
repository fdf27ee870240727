"""Where data sets lie on a disk, and how Keras fetches one that does not."""

import os
from dataclasses import dataclass
from pathlib import Path

from batchnorm.data.dataset import DataError


def keras_datasets() -> Path:
    """The folder in which Keras keeps what it downloads, under `$KERAS_HOME` or `~/.keras`."""
    home = os.path.expanduser("~")
    # Where neither HOME nor the system's list of users has one, Keras takes /tmp.
    keras_home = os.path.join("/tmp" if home == "~" else home, ".keras")
    return Path(os.path.expanduser(os.environ.get("KERAS_HOME") or keras_home)) / "datasets"


@dataclass(frozen=True)
class Layout:
    """The files that make a data set whole, and the folders that they may lie in.

    Attributes:
        files: The names of all the files.
        subfolders: Where they may be inside a folder that does not hold them itself.
        suffixes: What may follow a name, the preferred one first.
    """

    files: tuple[str, ...]
    subfolders: tuple[str, ...]
    suffixes: tuple[str, ...] = ("",)

    def file(self, folder: Path, name: str) -> Path:
        """The file of this name in a folder, or the one that should be there."""
        paths = [folder / (name + suffix) for suffix in self.suffixes]
        # os.path.isfile says no in a folder that may not be read, where Path.is_file raises.
        return next(filter(os.path.isfile, paths), paths[0])

    def find(self, parent: Path) -> Path | None:
        """The first folder that holds every file: the parent itself or one of its subfolders."""
        return next((folder for folder in self._folders(parent) if not self._lacks(folder)), None)

    def require(self, parent: str | Path, mend: str) -> Path:
        """The same as `find`, where not finding is an error.

        Args:
            parent: The folder to look in; a leading `~` is the home folder.
            mend: The advice an error ends with.

        Returns:
            The folder that holds every file.

        Raises:
            DataError: There is no such folder, or it lacks a file.
        """
        parent = Path(os.path.expanduser(parent))
        folder = self.find(parent)
        if folder is None:
            raise DataError(parent, self._fault(parent), self._expected(), mend)
        return folder

    def _folders(self, parent: Path) -> list[Path]:
        return [parent, *(parent / subfolder for subfolder in self.subfolders)]

    def _lacks(self, folder: Path) -> list[str]:
        paths = [self.file(folder, name) for name in self.files]
        return [path.name for path in paths if not os.path.isfile(path)]

    def _expected(self) -> str:
        files = ", ".join(name + self.suffixes[0] for name in self.files)
        return f"{files} in that folder or in its subfolder {' or '.join(self.subfolders)}"

    def _fault(self, parent: Path) -> str:
        if not os.path.isdir(parent):
            return _not_a_folder(parent)
        # The nearest miss is the folder that the files were meant to be in.
        folder = min(self._folders(parent), key=lambda candidate: len(self._lacks(candidate)))
        lacks = self._lacks(folder)
        if len(lacks) == len(self.files):
            return "none of the files"
        return f"no {', '.join(lacks)} in {folder}"


def _not_a_folder(path: Path) -> str:
    if os.path.islink(path) and not os.path.exists(path):
        return f"a link to {os.readlink(path)}, which does not exist"
    return "a file, not a folder" if os.path.exists(path) else "no such folder"


def download(file: str, origin: str, mend: str, **options: str | bool) -> Path:
    """Fetch a file into Keras's cache, by Keras.

    Args:
        file: The name that the cache shall know it by.
        origin: Its address.
        mend: The advice an error ends with.
        **options: Further arguments of `keras.utils.get_file`.

    Returns:
        The path that Keras answers with.

    Raises:
        DataError: The download failed, for whatever reason.
    """
    import keras

    try:
        return Path(keras.utils.get_file(file, origin=origin, **options))
    # Keras raises a bare Exception where the address cannot be reached.
    except Exception as error:
        found = f"a download that failed ({type(error).__name__}: {error})"
        raise DataError(origin, found, "the file that Keras downloads from there", mend) from error
