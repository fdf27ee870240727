from pathlib import Path

import pytest

from batchnorm.train.run import Run
from tests.train import small


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small data set in official files; not to be changed."""
    folder = tmp_path_factory.mktemp("data")
    small.write_idx(folder)
    return folder


@pytest.fixture(scope="session")
def untrained(tmp_path_factory: pytest.TempPathFactory, data_dir: Path) -> Run:
    """A run of a GAN with a generator that can be called; not to be changed."""
    return small.untrained(tmp_path_factory.mktemp("runs") / "gan", data_dir)
