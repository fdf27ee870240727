import errno
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from batchnorm.train.run import Run, RunError, atomic, write_json
from batchnorm.train.settings import Settings
from tests.train.small import gan_settings, settings


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
    with pytest.raises(RunError, match="a.json cannot be written: .*No space left on device"):
        write_json(path, {"is": "new"})
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]
    assert json.loads(path.read_text()) == {"is": "old"}


def test_an_error_in_the_block_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), atomic(tmp_path / "a.txt") as temporary:
        temporary.write_text("half")
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", [settings, gan_settings])
def test_the_config_names_settings_and_versions(
    tmp_path: Path, kind: Callable[[Path], Settings]
) -> None:
    run, asked = Run(tmp_path / "a" / "b"), kind(tmp_path)
    run.create(asked)
    config = json.loads(run.config.read_text())
    assert run.settings() == asked
    assert {"python", "batchnorm", "keras", "numpy"} < config["versions"].keys()
    assert any(asked.backend in name for name in config["versions"])
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
    with pytest.raises(RunError, match="not empty: --resume .*--overwrite .*--output"):
        Run(tmp_path).refuse_to_overwrite(overwrite=False)
    Run(tmp_path).refuse_to_overwrite(overwrite=True)
    with pytest.raises(RunError, match="is a file"):
        Run(tmp_path / "config.json").refuse_to_overwrite(overwrite=True)


@pytest.mark.parametrize("config", [None, "{}", "[]", "no json", '{"settings": {"epochs": 3}}'])
def test_only_runs_are_deleted(tmp_path: Path, config: str | None) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    if config is not None:
        (tmp_path / "config.json").write_text(config)
    with pytest.raises(RunError, match="deletes nothing but runs.*is not a run"):
        Run(tmp_path).refuse_to_overwrite(overwrite=True)


def test_overwriting_leaves_nothing_of_the_old_run(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "kept").touch()
    run = Run(tmp_path / "run")
    run.create(settings(tmp_path))
    run.tensorboard.mkdir()
    (run.tensorboard / "old").touch()
    (run.folder / "link").symlink_to(elsewhere)
    run.create(settings(tmp_path, epochs=5))
    assert list(run.folder.iterdir()) == [run.config]
    assert run.settings() == settings(tmp_path, epochs=5)
    assert (elsewhere / "kept").exists()
