"""`tf.contrib.layers.batch_norm` for graph code on today's TensorFlow, and the way out of it.

`layer_from_arguments` and `load_checkpoint` are for every backend. All other names are those of
`batchnorm.contrib.tensorflow`, which is imported when the first of them is asked for.
"""

import importlib
from typing import TYPE_CHECKING, Any

from batchnorm.contrib.checkpoint.report import Report as Report
from batchnorm.contrib.layer_from_arguments import layer_from_arguments as layer_from_arguments
from batchnorm.contrib.load_checkpoint import load_checkpoint as load_checkpoint

if TYPE_CHECKING:
    from batchnorm.contrib.tensorflow import *  # noqa: F403


def __getattr__(name: str) -> Any:
    graph = None
    if not name.startswith("_"):
        try:
            graph = importlib.import_module("batchnorm.contrib.tensorflow")
        except ModuleNotFoundError as missing:
            if str(missing.name).split(".")[0] != "tensorflow":
                raise
            raise ImportError(
                f"batchnorm.contrib.{name} adds to graphs of TensorFlow's, which is not installed: "
                "pip install 'batchnorm[tensorflow]'"
            ) from missing
    if graph is not None and name == "tensorflow":
        return graph
    if graph is None or name not in graph.__all__:
        raise AttributeError(f"module 'batchnorm.contrib' has no attribute {name!r}")
    return getattr(graph, name)
