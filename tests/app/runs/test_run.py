import errno
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from batchnorm_app.errors import UserError
from batchnorm_app.files import atomic, write_json
from batchnorm_app.runs import lock
from batchnorm_app.runs.run import Run
from batchnorm_app.runs.settings import Settings
from tests.app.runs import damage
from tests.app.small import gan_settings, settings


def full_disk(_: int) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_file_appears_whole_and_alone(tmp_path: Path) -> None:
    with atomic(tmp_path / "a.txt") as temporary:
        temporary.write_text("whole")
        assert temporary.suffix == ".txt"
        assert not (tmp_path / "a.txt").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]
    assert (tmp_path / "a.txt").read_text() == "whole"


def test_a_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"is": "old"})
    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(UserError, match="a.json cannot be written: .*No space left on device"):
        write_json(path, {"is": "new"})
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]
    assert json.loads(path.read_text()) == {"is": "old"}


def test_an_error_in_the_block_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), atomic(tmp_path / "a.txt") as temporary:
        temporary.write_text("half")
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_two_processes_have_names_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with atomic(tmp_path / "a.txt") as first:
        first.write_text("first")
        monkeypatch.setattr(os, "getpid", lambda: 1)
        with atomic(tmp_path / "a.txt") as second:
            second.write_text("second")
        assert first.read_text() == "first"
    assert (tmp_path / "a.txt").read_text() == "first"


@pytest.mark.parametrize("kind", [settings, gan_settings])
def test_the_config_names_settings_and_versions(
    tmp_path: Path, kind: Callable[[Path], Settings]
) -> None:
    run, expected = Run(tmp_path / "a" / "b"), kind(tmp_path)
    run.create(expected)
    config = json.loads(run.config.read_text())
    assert run.settings() == expected
    assert {"python", "batchnorm", "keras", "numpy"} < config["versions"].keys()
    assert any(expected.backend in name for name in config["versions"])
    assert config["platform"]


def test_frames_are_in_the_order_of_their_steps(tmp_path: Path) -> None:
    frames = [Run(tmp_path).frame(step) for step in (5, 50, 1_000_000)]
    assert sorted(frames) == frames
    assert {frame.parent for frame in frames} == {Run(tmp_path).frames}


def test_new_and_empty_folders_are_free(tmp_path: Path) -> None:
    Run(tmp_path).refuse_to_overwrite(overwrite=False)
    Run(tmp_path / "new").refuse_to_overwrite(overwrite=False)


def test_a_folder_in_use_is_refused(tmp_path: Path) -> None:
    Run(tmp_path).create(settings(tmp_path))
    with pytest.raises(UserError, match="not empty: --resume .*--overwrite .*--output"):
        Run(tmp_path).refuse_to_overwrite(overwrite=False)
    Run(tmp_path).refuse_to_overwrite(overwrite=True)
    with pytest.raises(UserError, match="is a file"):
        Run(tmp_path / "config.json").refuse_to_overwrite(overwrite=True)


@pytest.mark.parametrize("config", [None, "{}", "[]", "no json", '{"settings": {"epochs": 3}}'])
def test_only_runs_are_deleted(tmp_path: Path, config: str | None) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    if config is not None:
        (tmp_path / "config.json").write_text(config)
    with pytest.raises(UserError, match="deletes nothing but runs.*is not a run"):
        Run(tmp_path).refuse_to_overwrite(overwrite=True)


def write_everything(run: Run) -> None:
    """A file under each name that a run or a command writes."""
    run.create(settings(Path("nowhere")))
    for path in vars(run).values():
        if path.suffix and path != run.config:
            path.write_text("old")
    events = [run.tensorboard / name / "events.out.tfevents.1.host" for name in ("train", "test")]
    for path in (run.epoch_statistics(3), run.frame(40), *events):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("old")


def test_overwriting_leaves_nothing_of_the_old_run(tmp_path: Path) -> None:
    run = Run(tmp_path / "run")
    write_everything(run)
    assert len(list(run.folder.rglob("*"))) > 20
    with run.created(settings(tmp_path, epochs=5), overwrite=True) as foreign:
        assert foreign == []
        assert sorted(run.folder.iterdir()) == [run.folder / lock.NAME, run.config]
    assert list(run.folder.iterdir()) == [run.config]
    assert run.settings() == settings(tmp_path, epochs=5)


def test_overwriting_keeps_what_no_run_writes(tmp_path: Path) -> None:
    run = Run(tmp_path / "run")
    write_everything(run)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    mine = [
        elsewhere / "kept",
        run.folder / "thesis.tex",
        run.folder / "notes" / "model.keras",
        run.statistics / "00001 (copy).npz",
        run.frames / "best.png",
        run.tensorboard / "train" / "notes",
        run.folder / ".hidden.part",
    ]
    for path in mine:
        path.parent.mkdir(exist_ok=True)
        path.write_text("mine")
    (run.folder / "link").symlink_to(elsewhere)
    run.model.unlink()
    run.model.symlink_to(elsewhere / "kept")
    with run.created(settings(tmp_path), overwrite=True) as foreign:
        pass
    folders = ["frames", "link", "notes", "statistics", "tensorboard", "thesis.tex"]
    assert foreign == sorted([".hidden.part", *folders])
    assert all(path.read_text() == "mine" for path in mine)
    assert not run.model.is_symlink() and not run.frame(40).exists()


def test_a_deletion_cut_short_leaves_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which is to be trained on, or to be overwritten again."""
    run = Run(tmp_path / "run")
    write_everything(run)
    remove, count = Path.unlink, 0

    def stop(path: Path, missing_ok: bool = False) -> None:
        nonlocal count
        count += 1
        if count == 4:
            raise KeyboardInterrupt
        remove(path, missing_ok)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Path, "unlink", stop)
        run.create(settings(tmp_path))
    assert not run.results.exists()
    run.refuse_to_overwrite(overwrite=True)
    assert run.settings() == settings(Path("nowhere"))


@pytest.mark.parametrize("process", ["", "-1", f"-{2**31 - 2}"])
def test_a_folder_of_a_process_killed_before_its_first_file_is_free(
    tmp_path: Path, process: str
) -> None:
    (tmp_path / f".config.part{process}.json").write_text("{")
    (tmp_path / lock.NAME).write_text("1")
    run = Run(tmp_path)
    for overwrite in (False, True):
        run.refuse_to_overwrite(overwrite)
    with run.created(settings(tmp_path), overwrite=False) as foreign:
        assert foreign == ([f".config.part{process}.json"] if process == "-1" else [])
    assert run.settings() == settings(tmp_path)


def test_a_changed_run_may_be_overwritten(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.create(settings(tmp_path))
    damage.change_setting(run.config, "epochs", 0)
    with pytest.raises(UserError, match="epochs is 0: expected .*start again with --overwrite"):
        run.settings()
    run.refuse_to_overwrite(overwrite=True)


def test_a_link_to_nowhere_is_told(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "gone")
    with pytest.raises(UserError, match="link is a link to .*gone, which does not exist"):
        Run(tmp_path / "link").refuse_to_overwrite(overwrite=False)


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be created: Not a directory. Name another"):
        with Run(tmp_path / "file" / "run").created(settings(tmp_path), overwrite=False):
            pass


def test_files_of_a_killed_process_are_deleted(tmp_path: Path) -> None:
    """But not those that a process is writing, which holds no lock to draw a picture, say."""
    run = Run(tmp_path)
    run.create(settings(tmp_path))
    run.statistics.mkdir()
    dead = [run.statistics / ".00003.part-2147483646.npz", tmp_path / ".model.part.keras"]
    alive = tmp_path / f".features.part-{os.getppid()}.png"
    for path in (*dead, alive):
        path.touch()
    with run.locked():
        assert not any(path.exists() for path in dead) and alive.exists()
