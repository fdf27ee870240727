"""One process at a time in the folder of a run."""

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from batchnorm.train.errors import RunError

NAME = ".batchnorm.lock"
_NO_LINK = getattr(os, "O_NOFOLLOW", 0)
_UNSUPPORTED = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP}

if sys.platform == "win32":
    import msvcrt

    # A byte far behind the number of the process, which others can read so.
    _BYTE = 1 << 30

    def _lock(descriptor: int) -> None:
        os.lseek(descriptor, _BYTE, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        os.lseek(descriptor, 0, os.SEEK_SET)
else:
    import fcntl

    def _lock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keeps other processes out of a folder.

    The system releases the lock when the process ends, however it does; a lock file that is
    left behind has no effect.

    Args:
        folder: which exists.

    Raises:
        RunError: another process has it, or the lock file cannot be written.
    """
    path = folder / NAME
    descriptor = _acquire(path)
    try:
        yield
    finally:
        # Windows deletes no open file, and a lock file without a lock has no effect.
        with suppress(OSError):
            path.unlink()
        os.close(descriptor)


def check_unlocked(folder: Path) -> None:
    """Checks that no process trains in a folder.

    Raises:
        RunError: one does.
    """
    if (folder / NAME).is_file():
        with locked(folder):
            pass


def _acquire(path: Path) -> int:
    """The descriptor of a lock file that is locked and still lies at its path."""
    while True:
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | _NO_LINK, 0o666)
        except OSError as error:
            raise RunError(f"{path} cannot be written: {error.strerror}.") from error
        try:
            _lock(descriptor)
        except OSError as error:
            owner = os.read(descriptor, 20).decode("ascii", "replace").strip()
            if error.errno not in _UNSUPPORTED:
                os.close(descriptor)
                raise RunError(_taken(path.parent, owner)) from error
        # The owner before may have deleted the file between the two calls.
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(descriptor), os.stat(path)):
                break
        os.close(descriptor)
    os.ftruncate(descriptor, 0)
    os.write(descriptor, str(os.getpid()).encode("ascii"))
    return descriptor


def _taken(folder: Path, owner: str) -> str:
    process = f"process {owner}" if owner.isdecimal() else "another process"
    return (
        f"{process} is training in {folder}: wait until it has ended, or name another folder with "
        "--output."
    )
