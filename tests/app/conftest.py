from collections.abc import Iterator
from pathlib import Path

import pytest

from batchnorm_app.runs.run import Run
from tests.app import small


@pytest.fixture(scope="package", autouse=True)
def left_as_it_was() -> Iterator[None]:
    with small.backend_left_as_it_was():
        yield


@pytest.fixture(scope="package")
def finished(tmp_path_factory: pytest.TempPathFactory, data_dir: Path) -> Run:
    """A run that nobody interrupted; not to be changed."""
    return small.train(tmp_path_factory.mktemp("runs") / "whole", small.settings(data_dir))
