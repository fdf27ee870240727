"""The state of a normalization: its checks on the way in, and what a step may do to it."""

from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any

from keras import ops

from batchnorm.stages.moments import CheckedMoments, Moments, average
from batchnorm.stages.plan import Plan, moments_dtype
from batchnorm.stages.tensors import cast, dtype_name, tensor

Tensor = Any
State = Mapping[str, Tensor]

_MANY = 2.0**60


def check_state(state: State, names: Sequence[str], plan: Plan) -> dict[str, Tensor]:
    """Returns the state as tensors in float32 or float64, with one size for each channel axis.

    Args:
        state: by name.
        names: of the values that are used.
        plan: of the input.

    Raises:
        ValueError: a name is missing, or a shape does not fit.
    """
    tensors = {}
    for name in names:
        if name not in state:
            raise ValueError(_missing(state, names, plan))
        value = tensor(state[name])
        expected = () if name == "step" else plan.parameter_shape
        if tuple(value.shape) != expected and not _fits(value.shape, expected):
            raise ValueError(
                f"{name} is {tuple(value.shape)}, but for an input of shape {plan.shape} with "
                f"its channels at axis {', '.join(map(str, plan.axis))} it must be {expected}. Is "
                "axis the channels' axis?"
            )
        if name != "step":
            dtype = dtype_name(value.dtype)
            if dtype not in ("float32", "float64"):
                value = cast(value, moments_dtype(dtype))
            if len(plan.axis) > 1:
                value = ops.squeeze(value, plan.axes)
        tensors[name] = value
    return tensors


def _fits(shape: Sequence[Any], expected: Sequence[int | None]) -> bool:
    # `torch.jit.trace` makes tensors of sizes; a plan does not know these.
    return len(shape) == len(expected) and all(
        size is None or size == actual for actual, size in zip(shape, expected, strict=True)
    )


def _missing(state: State, names: Sequence[str], plan: Plan) -> str:
    missing = [name for name in names if name not in state]
    return (
        f"The state lacks {', '.join(missing)}: it needs {', '.join(names)}, each "
        f"{plan.parameter_shape}{', step an integer scalar' if 'step' in names else ''}; it has "
        f"{', '.join(state) or 'nothing'}."
    )


def like_parameters(state: State, plan: Plan) -> dict[str, Tensor]:
    """Returns a state in the shapes that `check_state` received.

    Args:
        state: with one size for each channel axis.
        plan: of the input.
    """
    if len(plan.axis) == 1:
        return dict(state)
    return {
        name: value if name == "step" else ops.expand_dims(value, plan.axes)
        for name, value in state.items()
    }


def bessel(moments: Moments, unit: Tensor = 1.0) -> Moments:
    """Replaces the variance by the population's, estimated: times n / (n - 1) where n > 1.

    Args:
        moments: their count is n in units of `unit`.
        unit: as `weights.scaled` returns it.
    """
    count = ops.cast(moments.count, moments.variance.dtype) * unit
    # From there on n - 1 is n, and an infinite n would make NaN.
    count = ops.where(count < _MANY, count, _MANY)
    # relu(n - 2) + 1 is n - 1, but at least 1: a weight sum just above 1 must not blow up.
    factor = ops.where(count > 1, count / (ops.relu(count - 2) + 1), 1.0)
    return moments._replace(variance=moments.variance * factor)


def update(moving: Tensor, batch: Tensor, rate: Tensor) -> Tensor:
    """Advances a moving statistic by one step: `moving + rate * (batch - moving)`.

    From a rate of 1/2 on it is `batch - (1 - rate) * (batch - moving)`: the old value contributes
    in the share that it keeps, and so does its rounding. Either form leaves a value that equals the
    batch's as it is, and goes past neither of the two, which `(1 - rate) * moving + rate * batch`
    does not promise. At rate 1 it is the batch, whatever the old value was, NaN too.
    """
    change = batch - moving
    if isinstance(rate, Real):
        if rate == 1:
            return batch
        return moving + rate * change if rate < 0.5 else batch - (1 - rate) * change
    late = ops.where(ops.equal(rate, 1), batch, batch - (1 - rate) * change)
    return ops.where(rate < 0.5, moving + rate * change, late)


def accept(state: State, advanced: State, batch: Moments) -> State:
    """Returns the advanced state where the batch is usable, and the state elsewhere.

    A batch is usable where it has weight and its moments are finite. A moment that is not finite
    bars all channels: a step that overflows in one is a bad step.

    Args:
        state: before the batch.
        advanced: after it.
        batch: its moments.
    """
    if isinstance(batch, CheckedMoments):
        return advanced
    usable = ops.all(ops.isfinite(batch.mean + batch.variance)) & (batch.count > 0)
    return {
        name: ops.where(ops.any(usable) if name == "step" else usable, value, state[name])
        for name, value in advanced.items()
    }


def detached(batch: Moments, dtype: str) -> Moments:
    """Returns moments in the dtype of the state, without gradients.

    The state may be finer than the batch; and on PyTorch the state of a custom loop would drag
    along the graphs of all steps before.
    """
    if isinstance(batch, CheckedMoments) and dtype == dtype_name(batch.mean.dtype):
        return batch
    mean, variance = (cast(ops.stop_gradient(value), dtype) for value in batch[1:])
    return Moments(batch.count, mean, variance)  # a cast may overflow


def merge_groups(batch: Moments, state: State) -> Moments:
    """Returns the average over ghost batches, if the moments are those of several."""
    grouped = len(batch.mean.shape) > len(state["moving_mean"].shape)
    return average(batch) if grouped else batch
