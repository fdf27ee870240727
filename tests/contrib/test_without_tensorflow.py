"""The parts of contrib that work without TensorFlow."""

from pathlib import Path

import keras
import pytest

from tests.process import output_of

PROGRAM = """
import sys
sys.modules["tensorflow"] = None  # as if it were not installed
from batchnorm import contrib
layer = contrib.layer_from_arguments(decay=0.9, fused=False)
layer.build((2, 3))
print(layer.momentum)
for use in (lambda: contrib.batch_norm, lambda: contrib.load_checkpoint("model.ckpt", layer)):
    try:
        use()
    except ImportError as error:
        print(error)
"""


@pytest.mark.skipif(keras.backend.backend() == "tensorflow", reason="Keras needs TensorFlow here")
def test_without_tensorflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)  # JAX's looks for TensorFlow's
    momentum, graph, file = output_of(PROGRAM, folder=tmp_path).splitlines()
    assert momentum == "0.9"
    assert graph.startswith("batchnorm.contrib.batch_norm adds to graphs of TensorFlow's")
    assert file.startswith("Checkpoints are read by TensorFlow")
    assert graph.endswith(install := "pip install 'batchnorm[tensorflow]'")
    assert file.endswith(install)
