import json

import pytest

from batchnorm_app.benchmark.request import (
    BACKENDS,
    DEFAULT_MODES,
    MODES,
    QUICK,
    BenchmarkRequest,
    format_shape,
    supported_backends,
)
from batchnorm_app.errors import UserError

pytestmark = pytest.mark.no_backend


@pytest.mark.parametrize(
    "settings", [BenchmarkRequest(), BenchmarkRequest(**QUICK, modes=("jit",), memory=True)]
)
def test_settings_survive_json(settings: BenchmarkRequest) -> None:
    assert BenchmarkRequest.from_json(json.loads(json.dumps(settings.to_json()))) == settings


def test_the_modes_are_those_that_a_backend_has() -> None:
    assert BenchmarkRequest().modes_of("tensorflow") == ("eager", "graph", "unsized", "jit")
    assert BenchmarkRequest(modes=("jit", "eager")).modes_of("tensorflow") == ("eager", "jit")
    assert BenchmarkRequest(modes=("graph",)).modes_of("jax") == ()
    assert BenchmarkRequest().default_mode("tensorflow") == "graph"
    assert BenchmarkRequest(modes=("jit", "eager")).default_mode("tensorflow") == "eager"
    assert MODES.keys() == DEFAULT_MODES.keys() == BACKENDS.keys()
    assert all(DEFAULT_MODES[backend] in MODES[backend] for backend in BACKENDS)


def test_backends_without_the_mode_are_left_out() -> None:
    assert supported_backends([*BACKENDS], BenchmarkRequest(modes=("jit",))) == [
        "tensorflow",
        "jax",
    ]
    with pytest.raises(UserError, match=r"no mode graph here: jax has jit; torch has eager\."):
        supported_backends(["jax", "torch"], BenchmarkRequest(modes=("graph",)))


def test_a_shape_is_spelled_as_the_command_line_has_it() -> None:
    assert format_shape((64, 56, 56, 64)) == "64x56x56x64"
