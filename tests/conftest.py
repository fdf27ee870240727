from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import keras
import pytest

from batchnorm_app.runs.run import Run
from tests.app import small

BACKEND: str = keras.backend.backend()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Fails a test that is marked `no_backend`, or a fixture of it, when it calls PyTorch.

    `make test` runs these tests in its last pass alone, which is PyTorch's: there, and by the only
    one of the three that can be watched from outside, the mark is proved.
    """
    is_marked = item.get_closest_marker("no_backend") is not None
    with without_torch() if is_marked and BACKEND == "torch" else nullcontext():
        return (yield)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks as slow on JAX what compiles for seconds there."""
    for item in items:
        if BACKEND == "jax" and item.get_closest_marker("slow_on_jax") is not None:
            item.add_marker(pytest.mark.slow)


def without_torch() -> AbstractContextManager[object]:
    """Returns a context in which every call of a function of PyTorch is an error."""
    from torch.overrides import TorchFunctionMode

    class Refusal(TorchFunctionMode):
        def __torch_function__(
            self,
            function: Callable[..., Any],
            types: Sequence[type],
            arguments: Sequence[Any] = (),
            options: Mapping[str, Any] | None = None,
        ) -> Any:
            raise AssertionError(f"a test that is marked no_backend calls PyTorch: {function}")

    return Refusal()


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
