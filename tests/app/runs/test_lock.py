"""One process at a time trains in a folder."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from batchnorm_app.errors import UserError
from batchnorm_app.runs import lock

pytestmark = pytest.mark.no_backend

# Loads the module from its file: a package that brings in Keras would take seconds.
_HOLDER = """
import importlib.util, sys, types
from pathlib import Path
errors = types.ModuleType("batchnorm_app.errors")
errors.UserError = ValueError
sys.modules |= {"batchnorm": types.ModuleType("batchnorm"), "batchnorm_app.errors": errors}
spec = importlib.util.spec_from_file_location("lock", sys.argv[1])
lock = importlib.util.module_from_spec(spec)
spec.loader.exec_module(lock)
with lock.locked(Path(sys.argv[2])):
    print("locked", flush=True)
    sys.stdin.read()
"""


def holder(folder: Path) -> subprocess.Popen[str]:
    """Another process that has locked a folder, until its input is closed."""
    command = [sys.executable, "-c", _HOLDER, str(lock.__file__), str(folder)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "locked\n"
    return process


def test_another_process_is_named(tmp_path: Path) -> None:
    with holder(tmp_path) as process:
        for use in (lock.check_unlocked, lambda folder: lock.locked(folder).__enter__()):
            with pytest.raises(UserError, match=f"process {process.pid} is training in .*--output"):
                use(tmp_path)
        process.communicate()
    assert list(tmp_path.iterdir()) == []
    with lock.locked(tmp_path):
        assert (tmp_path / lock.NAME).read_text() == str(os.getpid())


def test_a_killed_process_leaves_no_lock(tmp_path: Path) -> None:
    with holder(tmp_path) as process:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert (tmp_path / lock.NAME).read_text() == str(process.pid)
    lock.check_unlocked(tmp_path)
    with lock.locked(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_folder_is_locked_once(tmp_path: Path) -> None:
    with lock.locked(tmp_path):
        with pytest.raises(UserError, match=f"process {os.getpid()} is training"):
            lock.check_unlocked(tmp_path)
        assert (tmp_path / lock.NAME).exists()


def test_an_owner_that_is_not_a_number_is_not_named(tmp_path: Path) -> None:
    with lock.locked(tmp_path):
        (tmp_path / lock.NAME).write_text("\x1b[31m")
        with pytest.raises(UserError, match="^another process is training"):
            lock.check_unlocked(tmp_path)


def test_a_lock_file_that_was_deleted_meanwhile_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its owner deletes it between this process's opening and locking."""
    take, count = lock._lock, 0

    def delete_first(descriptor: int) -> None:
        nonlocal count
        count += 1
        if count == 1:
            (tmp_path / lock.NAME).unlink()
        take(descriptor)

    monkeypatch.setattr(lock, "_lock", delete_first)
    with lock.locked(tmp_path):
        assert (tmp_path / lock.NAME).exists() and count == 2


def test_a_lock_file_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / lock.NAME).symlink_to(tmp_path / "thesis.tex")
    with pytest.raises(UserError, match="lock cannot be written"), lock.locked(tmp_path):
        pass
    assert not (tmp_path / "thesis.tex").exists()
    with pytest.raises(UserError, match="cannot be written"), lock.locked(tmp_path / "nowhere"):
        pass
