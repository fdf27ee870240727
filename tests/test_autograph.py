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
    said = json.loads(output_of(PROGRAM, folder=Path.cwd()).splitlines()[-1])
    assert said["heard"] == 1  # of an assignment expression that is there on purpose
    assert said["messages"] == []
    made = {"BatchRenormalization", "ConditionalBatchNormalization", "GhostBatchNormalization"}
    assert set(said["public"]) - made - {"state_names"} <= set(said["called"])
