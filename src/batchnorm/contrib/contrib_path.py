"""The code path that contrib's batch_norm took for its arguments, on which its numbers depend."""

from collections.abc import Mapping
from typing import Any, NamedTuple

UPDATE_OPS = "update_ops"  # tf.GraphKeys.UPDATE_OPS
PARAMETERS = ("beta", "gamma")
VARIABLES = (*PARAMETERS, "moving_mean", "moving_variance")


class ContribPath(NamedTuple):
    """The properties of a code path of `tf.contrib.layers.batch_norm`.

    Attributes:
        unbiased: its fused kernel ran, which reports n / (n - 1) times the variance.
        layer: it called `tf.layers`, whose layers record nothing where `trainable=False`.
        by_hand: it computed everything itself, with zero-debias's variables in MODEL_VARIABLES.
    """

    unbiased: bool
    layer: bool
    by_hand: bool


def contrib_path(
    rank: int,
    dtype: str,
    *,
    fused: bool | None = None,
    batch_weights: Any = None,
    renorm: bool = False,
    adjustment: Any = None,
    zero_debias_moving_mean: bool = False,
    updates_collections: Any = UPDATE_OPS,
    version: tuple[int, int] = (2, 15),
) -> ContribPath:
    """Returns the code path that contrib's batch_norm took for its arguments.

    Args:
        rank: of the inputs.
        dtype: of the inputs.
        fused: as for `batch_norm`; so are all following arguments but the last.
        batch_weights: likewise.
        renorm: likewise.
        adjustment: likewise.
        zero_debias_moving_mean: likewise.
        updates_collections: likewise.
        version: of TensorFlow, major and minor.
    """
    default_collection = updates_collections == UPDATE_OPS
    can_fuse = fused in (None, True) and not renorm and batch_weights is None and adjustment is None
    if can_fuse and (
        rank == 2 or (rank == 4 and (zero_debias_moving_mean or not default_collection))
    ):
        return ContribPath(unbiased=True, layer=False, by_hand=False)
    layer = batch_weights is None and default_collection and not zero_debias_moving_mean
    ranks = (4,) if version < (2, 0) else (4, 5)
    fuses = layer and can_fuse and rank in ranks and dtype != "float64"
    return ContribPath(unbiased=fuses, layer=layer, by_hand=not layer)


def axis_of(data_format: str) -> int:
    """Returns the channels' axis: -1 for NHWC, 1 for NCHW.

    Raises:
        ValueError: the format is neither.
    """
    if data_format not in ("NCHW", "NHWC"):
        raise ValueError(
            f"data_format has to be either NCHW or NHWC. Received {data_format!r}; the rank may be "
            "any from 2. Keras's channels_first is NCHW here, channels_last NHWC."
        )
    return 1 if data_format == "NCHW" else -1


def check_parameters(
    initializers: Mapping[str, Any] | None, regularizers: Mapping[str, Any] | None
) -> None:
    """Raises for names of parameters that do not exist, which contrib ignored.

    Args:
        initializers: `param_initializers`.
        regularizers: `param_regularizers`.

    Raises:
        ValueError: a name is not that of a variable.
    """
    for argument, functions, allowed in (
        ("param_initializers", initializers, VARIABLES),
        ("param_regularizers", regularizers, PARAMETERS),
    ):
        if unknown := sorted(set(functions or {}) - set(allowed)):
            raise ValueError(
                f"{argument} has {', '.join(map(repr, unknown))}. Allowed: {', '.join(allowed)}."
            )
