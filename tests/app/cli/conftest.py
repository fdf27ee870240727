from collections.abc import Iterator
from pathlib import Path

import pytest

from batchnorm_app.train import start
from tests.app import small
from tests.app.cli.calling import BACKEND, Begun, train


@pytest.fixture(scope="package", autouse=True)
def left_as_it_was() -> Iterator[None]:
    with small.backend_left_as_it_was():
        yield


@pytest.fixture(scope="package")
def finished(tmp_path_factory: pytest.TempPathFactory, data_dir: Path) -> Path:
    """A run made by the command line; not to be changed."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KERAS_BACKEND", BACKEND)
        result = train(data_dir, folder)
    assert result.exit_code == 0, result.output
    return folder


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("KERAS_BACKEND", BACKEND)
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "3")
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> list[Begun]:
    """The trainings that a command starts, none of which takes place."""
    trainings: list[Begun] = []
    monkeypatch.setattr(start, "start", lambda *args: trainings.append(Begun(*args[:3])))
    return trainings
