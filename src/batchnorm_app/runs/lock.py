"""A lock file: at most one process trains in the folder of a run."""

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from batchnorm_app.errors import UserError

NAME = ".batchnorm.lock"
_NO_LINK = getattr(os, "O_NOFOLLOW", 0)
_UNSUPPORTED = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP}

if sys.platform == "win32":
    import msvcrt

    # A byte far after the process's number, so that others can still read the number.
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

    The system releases the lock when the process ends, for any reason; a lock file that is left
    behind has no effect.

    Args:
        folder: an existing folder.

    Raises:
        UserError: another process holds the lock, or the lock file cannot be written.
    """
    path = folder / NAME
    descriptor = _acquire(path)
    try:
        yield
    finally:
        # Windows does not delete an open file; a lock file without a lock has no effect.
        with suppress(OSError):
            path.unlink()
        os.close(descriptor)


def check_unlocked(folder: Path) -> None:
    """Raises if a process trains in a folder.

    Raises:
        UserError: another process holds the lock.
    """
    if (folder / NAME).is_file():
        with locked(folder):
            pass


def _acquire(path: Path) -> int:
    """Returns the descriptor of a lock file that is locked and still at its path."""
    while True:
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | _NO_LINK, 0o666)
        except OSError as error:
            raise UserError(f"{path} cannot be written: {error.strerror}.") from error
        try:
            _lock(descriptor)
        except OSError as error:
            owner = os.read(descriptor, 20).decode("ascii", "replace").strip()
            if error.errno not in _UNSUPPORTED:
                os.close(descriptor)
                raise UserError(_locked_message(path.parent, owner)) from error
        # The previous owner may have deleted the file between the two calls.
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(descriptor), os.stat(path)):
                break
        os.close(descriptor)
    os.ftruncate(descriptor, 0)
    os.write(descriptor, str(os.getpid()).encode("ascii"))
    return descriptor


def _locked_message(folder: Path, owner: str) -> str:
    process = f"process {owner}" if owner.isdecimal() else "another process"
    return (
        f"{process} is training in {folder}: wait until it has ended, or name another folder with "
        "--output."
    )
