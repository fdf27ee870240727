"""`Plan`: the static facts of one normalization, checked and cached."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from numbers import Integral
from typing import Any

from keras import ops

Tensor = Any

_STATIC = {int, type(None)}


@dataclass(frozen=True)
class Plan:
    """The static facts of one normalization; what follows from them is computed once.

    Attributes:
        shape: of the input, one axis or more; `None` for an unknown size.
        axis: the channel axes, which have statistics of their own, counted from 0, in order.
        dtype: of the input.
        device: of the input, "cpu" or a name of another kind; "" before there is an input.
        mode: "eager" where values exist and operations run now, "graph" where TensorFlow records
            them, "compiled" where a compiler or a transformation reads the code.
        grouped: whether the first channel axis is that of ghost batches.
        weighted: whether elements have weights.
        general_weights: whether weights differ between channels, or carry gradients.
        affine: along which axes scale or shift differ: "channels", also "samples", or any, "map".
        synchronized: whether the moments are those of all replicas.
        rank: the number of axes of the input.
        axes: the measured axes: all but the channel axes.
        moments_dtype: of moments and arithmetic: float64 for float64 input, else float32.
        parameter_shape: of gamma, beta and the state: `(C,)`; for several axes, 1 on all others.
    """

    shape: tuple[int | None, ...]
    axis: tuple[int, ...]
    dtype: str
    device: str = ""
    mode: str = "compiled"
    grouped: bool = False
    weighted: bool = False
    general_weights: bool = False
    affine: str = "channels"
    synchronized: bool = False

    rank: int = field(init=False, repr=False, compare=False)
    axes: tuple[int, ...] = field(init=False, repr=False, compare=False)
    moments_dtype: str = field(init=False, repr=False, compare=False)
    parameter_shape: tuple[int | None, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Computes the derived facts."""
        # Not cached properties: their lock, in Python 3.11, stops torch.compile.
        rank = len(self.shape)
        shape: tuple[int | None, ...] = (self.shape[self.axis[0]],)
        if len(self.axis) > 1:
            shape = tuple(n if axis in self.axis else 1 for axis, n in enumerate(self.shape))
        store = object.__setattr__
        store(self, "rank", rank)
        store(self, "axes", tuple(axis for axis in range(rank) if axis not in self.axis))
        store(self, "moments_dtype", moments_dtype(self.dtype))
        store(self, "parameter_shape", shape)

    def spread(self, value: Tensor) -> Tensor:
        """Makes a value broadcast against the input.

        Args:
            value: a number; `(C,)`, a value per channel, here for each of `axis` a size; the same
                with samples in front, `(N, C)`; a map; or, where the batch is grouped, without
                groups.
        """
        rank, channels = 0 if isinstance(value, int | float) else len(value.shape), len(self.axis)
        if rank == 0 or self.is_map(value):
            return value
        if rank > channels:  # per sample
            return ops.expand_dims(value, self.axes[1:])
        shared = self.axis[:1] if self.grouped and rank < channels else ()
        return ops.expand_dims(value, tuple(sorted(self.axes + shared)))

    def is_map(self, value: Tensor) -> bool:
        """Tells whether a value has the input's rank, and may differ along measured axes.

        Args:
            value: as for `spread`.
        """
        rank = 0 if isinstance(value, int | float) else len(value.shape)
        samples = 0 if 0 in self.axis and not self.grouped else 1
        return rank > len(self.axis) + samples

    def with_facts(
        self,
        affine: Sequence[Tensor],
        weights: Tensor | None = None,
        synchronized: bool = False,
    ) -> "Plan":
        """Returns the plan with the facts that follow from the values of a call.

        Args:
            affine: scale and shift.
            weights: of the rank of the input, or `None`.
            synchronized: see `Plan`.
        """
        channels, kind = len(self.axis), "channels"
        for value in affine:
            if not isinstance(value, int | float) and len(value.shape) > channels:
                kind = "map" if kind == "map" or self.is_map(value) else "samples"
        if kind == "channels" and weights is None and not synchronized:
            return self
        general = weights is not None and (
            any(weights.shape[axis] != 1 for axis in self.axis[self.grouped :])
            or bool(getattr(weights, "requires_grad", False))
        )
        return replace(
            self,
            affine=kind,
            weighted=weights is not None,
            general_weights=general,
            synchronized=synchronized,
        )

    def groups(self, shape: Sequence[int | None], axis: int) -> "Plan":
        """Returns the plan of the input after `Groups.split`.

        Args:
            shape: of that input.
            axis: of the groups, 0 or 1.
        """
        axes = (axis, *(channel + 1 for channel in self.axis))
        return replace(self, shape=static(shape), axis=axes, grouped=True)


def moments_dtype(dtype: str) -> str:
    """Returns the dtype in which values are computed: float64 for float64, else float32."""
    return "float64" if dtype == "float64" else "float32"


def static(shape: Sequence[Any]) -> tuple[int | None, ...]:
    """Returns a shape with `None` for a compiler's symbols."""
    return tuple(size if isinstance(size, int) else None for size in shape)


def plan_of(
    shape: Sequence[Any],
    axis: int | Sequence[int],
    dtype: str,
    device: str = "",
    mode: str = "compiled",
) -> Plan:
    """Returns the plan of an input, checked.

    Args:
        shape: of the input; a size that is not a number is unknown.
        axis: the channel axis, or several; negative ones count from the end.
        dtype: of the input.
        device: see `Plan`.
        mode: see `Plan`.

    Returns:
        `Plan`, with the axes counted from 0.

    Raises:
        ValueError: an axis is not an integer, out of range or repeated, or `dtype` is complex.
    """
    sizes = tuple(shape)
    if not _STATIC.issuperset(map(type, sizes)):
        sizes = static(sizes)
    return _plan(sizes, axis if type(axis) is int else channel_axes(axis), dtype, device, mode)


def channel_axes(axis: Any) -> int | tuple[int, ...]:
    """Checks the type of a channel axis, or of several.

    Args:
        axis: an integer, or a sequence of integers; those of NumPy, too.

    Returns:
        An `int`, or a tuple of them.

    Raises:
        ValueError: it is something else.
    """
    values = axis.tolist() if hasattr(axis, "tolist") else axis
    values = values if isinstance(values, Sequence) and not isinstance(axis, str) else [values]
    integers = [isinstance(value, Integral) and not isinstance(value, bool) for value in values]
    if not integers or not all(integers):
        raise ValueError(
            f"axis must be an integer, or several like (1, 3); received {axis!r}. It is the "
            "channel axis: -1 for channels last (NHWC), 1 for channels first (NCHW)."
        )
    axes = tuple(int(value) for value in values)
    return axes if isinstance(axis, Sequence) or len(axes) != 1 else axes[0]


@lru_cache(1024)
def _plan(
    shape: tuple[int | None, ...],
    axis: int | tuple[int, ...],
    dtype: str,
    device: str,
    mode: str,
) -> Plan:
    axes, rank = (axis,) if isinstance(axis, int) else axis, len(shape)
    for index in axes:
        if not -rank <= index < rank:
            raise ValueError(
                f"axis={axis} names no axis of an input of rank {rank}: use {-rank} to {rank - 1}, "
                "-1 for channels last, 1 for channels first."
            )
    channels = tuple(sorted({index % rank for index in axes}))
    if len(channels) < len(axes) or not channels:
        raise ValueError(f"axis={axis} must name at least one axis, and none of them twice.")
    if dtype.startswith("complex"):
        raise ValueError(
            f"Batch normalization of {dtype} input is not defined here: normalize the real and "
            "imaginary parts as two channels, ops.stack([ops.real(x), ops.imag(x)], axis=-1)."
        )
    return Plan(shape, channels, dtype, device, mode)
