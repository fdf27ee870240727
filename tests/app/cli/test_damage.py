"""The commands on a run whose files were damaged: one line that names the file and the remedy."""

import shutil
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import pytest

from batchnorm_app.runs.run import Run
from batchnorm_app.train import results
from tests.app.cli.calling import BACKEND, call
from tests.app.runs import damage

pytestmark = pytest.mark.skipif(BACKEND != "torch", reason="files are read alike on every backend")
Damages = Callable[[], Iterator[tuple[str, damage.Damage]]]

# Of a finished run of a LeNet: the file, the command that reads it, and its own damages.
CLASSIFIER: dict[str, tuple[str, Damages]] = {
    "checkpoint.npz": ("train lenet --resume --output", lambda: _checkpoints()),
    "config.json": ("statistics", damage.settings),
    "results.json": ("train lenet --resume --output", lambda: damage.numbers(*results._ROWS)),
    "statistics/00002.npz": ("statistics", damage.arrays),
    "model.keras": ("features", damage.models),
}
# Of a GAN.
GENERATOR: dict[str, tuple[str, Damages]] = {
    "model.keras": ("sample", damage.models),
    "config.json": ("sample", lambda: iter(())),
}


def _checkpoints() -> Iterator[tuple[str, damage.Damage]]:
    yield from damage.arrays()
    yield from damage.history()


def check(
    folder: Path, file: str, command: str, damages: Iterator[tuple[str, damage.Damage]]
) -> int:
    """Tries damages of a file; returns how many ended the command."""
    path = folder / file
    content, wrong, told = path.read_bytes(), [], 0
    for name, change in damages:
        if file == "checkpoint.npz":
            Run(folder).results.unlink(missing_ok=True)
        change(path)
        result = call(*command.split(), folder)
        lines = result.stderr.strip().split("\n")
        if result.exit_code == 1 and damage.is_told(lines[0], path) and len(lines) == 1:
            told += 1
        elif result.exit_code != 0:
            wrong.append(f"{name}: {result.exit_code} {result.stderr} {result.exception!r}")
        if path.is_dir():
            path.rmdir()
        path.unlink(missing_ok=True)
        path.write_bytes(content)
    assert not wrong, "\n".join(wrong)
    return told


def every_damage(own: Damages, flips: int) -> Iterator[tuple[str, damage.Damage]]:
    yield from damage.everywhere(flips)
    yield from own()


@pytest.fixture
def folder(finished: Path, tmp_path: Path) -> Path:
    shutil.copytree(finished, tmp_path / "run")
    return tmp_path / "run"


@pytest.mark.parametrize("file", CLASSIFIER)
def test_some_damages_of_a_classifier(folder: Path, file: str) -> None:
    """All of them are read by tests/app/runs/test_damage.py, without the commands."""
    command, own = CLASSIFIER[file]
    some = [*damage.everywhere(0)][3::6] + [*own()][::9]
    assert check(folder, file, command, iter(some)) >= len(some) - 2


@pytest.mark.parametrize("file", GENERATOR)
def test_some_damages_of_a_generator(untrained: Run, tmp_path: Path, file: str) -> None:
    shutil.copytree(untrained.folder, tmp_path / "run")
    command, own = GENERATOR[file]
    some = [*islice(every_damage(own, 0), 3, None, 8)]
    assert check(tmp_path / "run", file, command, iter(some)) >= len(some) - 2


@pytest.mark.slow
@pytest.mark.parametrize("file", CLASSIFIER)
def test_all_damages_of_a_classifier(folder: Path, file: str) -> None:
    command, own = CLASSIFIER[file]
    assert check(folder, file, command, every_damage(own, 20)) > 20


@pytest.mark.slow
@pytest.mark.parametrize("file", GENERATOR)
def test_all_damages_of_a_generator(untrained: Run, tmp_path: Path, file: str) -> None:
    shutil.copytree(untrained.folder, tmp_path / "run")
    command, own = GENERATOR[file]
    assert check(tmp_path / "run", file, command, every_damage(own, 10)) > 15


def test_the_model_of_another_run(folder: Path, untrained: Run, tmp_path: Path) -> None:
    shutil.copy(folder / "model.keras", tmp_path / "lenet.keras")
    shutil.copy(untrained.model, folder / "model.keras")
    shutil.copytree(untrained.folder, tmp_path / "gan")
    shutil.copy(tmp_path / "lenet.keras", tmp_path / "gan" / "model.keras")
    for command in (("features", folder), ("sample", tmp_path / "gan")):
        result = call(*command)
        assert result.exit_code == 1 and "is not the model of this run" in result.stderr
        assert damage.is_told(result.stderr.strip(), command[1] / "model.keras")
