"""Inputs so small that calls are what takes the time: PyTorch's own kernels need fewest."""

from typing import NamedTuple

import torch

from batchnorm.kernels.torch.layout import Layout
from batchnorm.kernels.torch.sums import Batch, near

Tensor = torch.Tensor

_ROWS = 256  # that PyTorch's own kernels add up as well as any


class Normalized(NamedTuple):
    """A batch that is measured and normalized.

    Attributes:
        y: what it has become.
        batch: its moments.
        inverse: 1 / sqrt(variance + epsilon).
    """

    y: Tensor
    batch: Batch
    inverse: Tensor


def fits(layout: Layout, scale: Tensor) -> bool:
    """Whether an input is small, with the channels last, and the scale is `(C,)`."""
    return layout.rows <= _ROWS and layout.last and layout.group is None and scale.dim() == 1


def train(
    layout: Layout, x: Tensor, scale: Tensor, shift: Tensor, epsilon: float
) -> Normalized | None:
    """Normalizes a batch by its moments; `None` where it does not fit, or its mean is large."""
    rows = layout.rows
    if not fits(layout, scale) or rows == 1:  # of which PyTorch has no variance
        return None
    # With momentum 1 they become the batch's, the variance that of the population.
    mean, variance = torch.zeros(2, layout.channels, dtype=scale.dtype).unbind()
    y, _, inverse = torch.native_batch_norm(
        *(layout.matrix(x.to(scale.dtype)), scale, shift, mean, variance, True, 1.0, epsilon)
    )
    variance *= (rows - 1) / rows
    if not near(mean, variance, epsilon):
        return None
    count = torch.scalar_tensor(rows, dtype=scale.dtype)
    return Normalized(layout.restore(y), Batch(mean, None, variance, count), inverse)


def gradients(
    layout: Layout,
    dy: Tensor,
    x: Tensor,
    scale: Tensor,
    batch: Batch,
    inverse: Tensor,
    of_x: bool,
) -> tuple[Tensor | None, Tensor, Tensor]:
    """The gradients of x, if it is asked for, scale and shift."""
    dx, dscale, dshift = torch.ops.aten.native_batch_norm_backward(
        *(layout.matrix(dy), layout.matrix(x), scale, None, None, batch.provisional, inverse),
        *(True, 0.0, [of_x, True, True]),
    )
    return layout.restore(dx) if of_x else None, dscale, dshift


def infer(
    layout: Layout,
    x: Tensor,
    mean: Tensor,
    variance: Tensor,
    scale: Tensor,
    shift: Tensor,
    epsilon: float,
) -> Tensor:
    """See `Kernel.infer`; for an input that fits, and a mean that is not large."""
    y, _, _ = torch.native_batch_norm(
        *(layout.matrix(x), scale, shift, mean.contiguous(), variance.contiguous()),
        *(False, 0.0, epsilon),
    )
    return layout.restore(y)
