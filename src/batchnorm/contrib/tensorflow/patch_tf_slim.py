"""`patch_tf_slim` makes tf_slim's `batch_norm` work on today's TensorFlow."""

import importlib
from types import CellType, TracebackType
from typing import Any

from batchnorm.contrib.tensorflow.batch_norm import batch_norm


class SlimPatch:
    """The replacement of tf_slim's `batch_norm`; as a context manager it ends with the block.

    Args:
        cell: of the function that tf_slim's calls.
        replacement: of that function.
    """

    def __init__(self, cell: CellType, replacement: Any) -> None:
        self._cell, self._original = cell, cell.cell_contents
        cell.cell_contents = replacement
        self._active = True

    def undo(self) -> None:
        """Restores tf_slim's own function; a second call does nothing."""
        if self._active:
            self._cell.cell_contents = self._original
            self._active = False

    def __enter__(self) -> "SlimPatch":
        """Returns the patch, which is in force already."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Undoes the patch."""
        self.undo()


def patch_tf_slim() -> SlimPatch:
    """Makes `tf_slim.batch_norm` call `batchnorm.contrib.batch_norm`.

    On TensorFlow with Keras 3 it is the one function of tf_slim that fails. The patch reaches all
    existing references to it: in `tf_slim.layers`, `tf_slim.nets` and nets of other packages, in
    defaults such as `normalizer_fn=slim.batch_norm`, in tables of arguments, and in scopes of
    tf_slim's `arg_scope`. A second call changes nothing.

    Returns:
        The patch: its `undo()`, or the end of a `with` block, undoes it.

    Raises:
        ImportError: tf_slim is not installed.
        RuntimeError: tf_slim is not built as version 1.1 is.

    Example:
        >>> from batchnorm import contrib
        >>> patch = contrib.patch_tf_slim()
        >>> import tensorflow.compat.v1 as tf, tf_slim as slim
        >>> with tf.Graph().as_default():
        ...     y = slim.batch_norm(tf.zeros([2, 8, 8, 3]), scale=True)
        ...     [variable.op.name for variable in tf.trainable_variables()]
        ['BatchNorm/beta', 'BatchNorm/gamma']
        >>> patch.undo()
    """
    try:
        layers = importlib.import_module("tf_slim.layers.layers")
    except ModuleNotFoundError as error:
        if str(error.name).partition(".")[0] != "tf_slim":
            raise
        raise ImportError("tf_slim is not installed: pip install tf_slim") from error
    slim_batch_norm = layers.batch_norm
    # tf_slim 1.1's add_arg_scope wraps a function that it keeps in a closure, by the name `func`.
    # References to the wrapper are in too many places to replace; what it calls is in one.
    names = getattr(getattr(slim_batch_norm, "__code__", None), "co_freevars", ())
    key = getattr(slim_batch_norm, "_key_op", None)
    if slim_batch_norm is batch_norm or "func" not in names or key is None:
        raise RuntimeError(
            "tf_slim's batch_norm is not the one of tf_slim 1.1 that can be patched. Set it "
            "yourself, before nets are imported: `slim.batch_norm = contrib.batch_norm`, and the "
            "same in tf_slim.layers and tf_slim.layers.layers."
        )

    def replacement(*args: Any, **kwargs: Any) -> Any:
        return batch_norm(*args, **kwargs)

    replacement._key_op = key  # type: ignore[attr-defined]  # by which tf_slim's arg_scope knows it
    return SlimPatch(slim_batch_norm.__closure__[names.index("func")], replacement)
