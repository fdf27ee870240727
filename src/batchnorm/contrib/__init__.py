"""`tf.contrib.layers.batch_norm` for graph code on today's TensorFlow, and its migration to Keras.

`layer_from_arguments` and `load_checkpoint` work on every backend. All other names are those of
`batchnorm.contrib.tensorflow`, which is imported at the first access to one of them.
"""

import importlib
from typing import TYPE_CHECKING, Any

from batchnorm.contrib.checkpoint.mismatch import CheckpointMismatch as CheckpointMismatch
from batchnorm.contrib.checkpoint.report import Report as Report
from batchnorm.contrib.layer_from_arguments import layer_from_arguments as layer_from_arguments
from batchnorm.contrib.load_checkpoint import load_checkpoint as load_checkpoint

_TF_SLIM_NAMES = frozenset(
    "apply_regularization avg_pool2d avg_pool3d bias_add conv2d_in_plane conv2d_transpose "
    "conv3d_transpose convolution2d_transpose dropout flatten group_norm instance_norm layer_norm "
    "linear max_pool2d max_pool3d maxout one_hot_encoding pool relu relu6 repeat separable_conv2d "
    "separable_convolution2d softmax spatial_softmax stack sum_regularizer unit_norm".split()
)

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
        raise AttributeError(f"module 'batchnorm.contrib' has no attribute {name!r}{_hint(name)}")
    return getattr(graph, name)


def _hint(name: str) -> str:
    """Returns a hint to tf_slim for a function of `tf.contrib.layers` that is not here; else ""."""
    if name not in _TF_SLIM_NAMES:
        return ""
    return (
        f": tf_slim has it, and it runs on today's TensorFlow: pip install tf_slim, and call "
        f"tf_slim.{name}; contrib.patch_tf_slim() makes tf_slim's batch_norm run, too"
    )
