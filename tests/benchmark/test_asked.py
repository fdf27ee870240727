import json

import pytest

from batchnorm.benchmark.asked import BACKENDS, MODES, QUICK, USUAL, Asked, able, text
from batchnorm.train.run import RunError


@pytest.mark.parametrize("asked", [Asked(), Asked(**QUICK, modes=("jit",), memory=True)])
def test_it_comes_back_from_json(asked: Asked) -> None:
    assert Asked.from_json(json.loads(json.dumps(asked.to_json()))) == asked


def test_the_modes_are_those_that_a_backend_has() -> None:
    assert Asked().modes_of("tensorflow") == ("eager", "graph", "unsized", "jit")
    assert Asked(modes=("jit", "eager")).modes_of("tensorflow") == ("eager", "jit")
    assert Asked(modes=("graph",)).modes_of("jax") == ()
    assert Asked().usual_mode("tensorflow") == "graph"
    assert Asked(modes=("jit", "eager")).usual_mode("tensorflow") == "eager"
    assert MODES.keys() == USUAL.keys() == BACKENDS.keys()
    assert all(USUAL[backend] in MODES[backend] for backend in BACKENDS)


def test_backends_without_the_mode_are_left_out() -> None:
    assert able([*BACKENDS], Asked(modes=("jit",))) == ["tensorflow", "jax"]
    with pytest.raises(RunError, match=r"no mode graph here: jax has jit; torch has eager\."):
        able(["jax", "torch"], Asked(modes=("graph",)))


def test_a_shape_is_spelled_as_the_command_line_has_it() -> None:
    assert text((64, 56, 56, 64)) == "64x56x56x64"
