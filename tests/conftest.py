from pathlib import Path

import pytest

from tests.train import small


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small data set in official files; not to be changed."""
    folder = tmp_path_factory.mktemp("data")
    small.write_idx(folder)
    return folder
