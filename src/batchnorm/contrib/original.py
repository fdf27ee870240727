"""Which of its three ways the original batch_norm went, as far as the numbers show it."""

from collections.abc import Mapping
from typing import Any, NamedTuple

UPDATE_OPS = "update_ops"  # tf.GraphKeys.UPDATE_OPS
PARAMETERS = ("beta", "gamma")
VARIABLES = (*PARAMETERS, "moving_mean", "moving_variance")


class Original(NamedTuple):
    """What followed from the way that `tf.contrib.layers.batch_norm` went.

    Attributes:
        unbiased: its fused kernel ran, which reports n / (n - 1) times the variance.
        layer: it went through `tf.layers`, whose layers record nothing where `trainable=False`.
        by_hand: it did everything itself, and made model variables of its zero-debias's own.
    """

    unbiased: bool
    layer: bool
    by_hand: bool


def original(
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
) -> Original:
    """The way that an original went.

    Args:
        rank: of the inputs.
        dtype: of the inputs.
        fused: as for `batch_norm`, and so are all that follow but the last.
        batch_weights: likewise.
        renorm: likewise.
        adjustment: likewise.
        zero_debias_moving_mean: likewise.
        updates_collections: likewise.
        version: of TensorFlow, up to the minor one.

    Returns:
        `Original`.
    """
    usual = updates_collections == UPDATE_OPS
    can_fuse = fused in (None, True) and not renorm and batch_weights is None and adjustment is None
    if can_fuse and (rank == 2 or (rank == 4 and (zero_debias_moving_mean or not usual))):
        return Original(unbiased=True, layer=False, by_hand=False)
    layer = batch_weights is None and usual and not zero_debias_moving_mean
    ranks = (4,) if version < (2, 0) else (4, 5)
    runs = layer and can_fuse and rank in ranks and dtype != "float64"
    return Original(unbiased=runs, layer=layer, by_hand=not layer)


def axis_of(data_format: str) -> int:
    """The channels' axis: -1 for NHWC, 1 for NCHW.

    Raises:
        ValueError: it is neither.
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
    """Refuses names that the original passed over in silence.

    Args:
        initializers: `param_initializers`.
        regularizers: `param_regularizers`.

    Raises:
        ValueError: there is no such variable.
    """
    for argument, given, allowed in (
        ("param_initializers", initializers, VARIABLES),
        ("param_regularizers", regularizers, PARAMETERS),
    ):
        if unknown := sorted(set(given or {}) - set(allowed)):
            raise ValueError(
                f"{argument} has {', '.join(map(repr, unknown))}. Allowed: {', '.join(allowed)}."
            )
