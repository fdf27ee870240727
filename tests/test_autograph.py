"""Public functions within `tf.function` and `tf.map_fn`: AutoGraph logs nothing about them."""

import json
from pathlib import Path

import keras
import pytest

from tests.process import output_of

PROGRAM = "from tests.autograph_calls import main; main()"


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="AutoGraph is TensorFlow's")
def test_nothing_is_logged() -> None:
    """In a process of its own, because AutoGraph warns of a function once."""
    result = json.loads(output_of(PROGRAM, folder=Path.cwd()).splitlines()[-1])
    assert result["heard"] == 1  # of an assignment expression that is there on purpose
    assert result["messages"] == []
    recipes = {"BatchRenormalization", "ConditionalBatchNormalization", "GhostBatchNormalization"}
    assert set(result["public"]) - recipes - {"state_names"} <= set(result["called"])
