"""Small inputs: call overhead dominates, so PyTorch's fused kernels do each pass in one call."""

from typing import NamedTuple

import torch

from batchnorm.kernels.torch.cpu.layout import Layout
from batchnorm.kernels.torch.cpu.sums import Batch, mean_is_small

Tensor = torch.Tensor


class Normalized(NamedTuple):
    """A batch that is measured and normalized.

    Attributes:
        y: the normalized input.
        batch: its moments.
        inverse: 1 / sqrt(variance + epsilon).
    """

    y: Tensor
    batch: Batch
    inverse: Tensor


def train(
    layout: Layout, x: Tensor, scale: Tensor, shift: Tensor, epsilon: float
) -> Normalized | None:
    """Normalizes a batch by its moments, for a small layout and a scale `(C,)`.

    Returns:
        `Normalized`; `None` where there is one row, or the mean is large.
    """
    rows = layout.rows
    if rows == 1:  # PyTorch raises: one row has no unbiased variance
        return None
    dtype = scale.dtype
    # With momentum 1 the running values become the batch's, the variance that of the population.
    mean, variance = torch.zeros(2, layout.channels, dtype=dtype).unbind()
    matrix = layout.matrix(x.to(dtype))
    y, _, inverse = torch.native_batch_norm(
        matrix, scale, shift, mean, variance, True, 1.0, epsilon
    )
    variance *= (rows - 1) / rows
    if not mean_is_small(mean, variance, epsilon):
        return None
    count = torch.scalar_tensor(rows, dtype=dtype)
    return Normalized(layout.restore(y), Batch(mean, None, variance, count), inverse)


def gradients(
    layout: Layout,
    dy: Tensor,
    x: Tensor,
    scale: Tensor,
    batch: Batch,
    inverse: Tensor,
    needs_dx: bool,
) -> tuple[Tensor | None, Tensor, Tensor]:
    """Computes the gradients of x, if it needs one, scale and shift."""
    dy, x, mask = layout.matrix(dy), layout.matrix(x), [needs_dx, True, True]
    dx, dscale, dshift = torch.ops.aten.native_batch_norm_backward(
        dy, x, scale, None, None, batch.provisional, inverse, True, 0.0, mask
    )
    return layout.restore(dx) if needs_dx else None, dscale, dshift


def infer(
    layout: Layout,
    x: Tensor,
    mean: Tensor,
    variance: Tensor,
    scale: Tensor,
    shift: Tensor,
    epsilon: float,
) -> Tensor:
    """Normalizes by statistics whose mean is small; see `Kernel.infer`."""
    matrix, mean, variance = layout.matrix(x), mean.contiguous(), variance.contiguous()
    y, _, _ = torch.native_batch_norm(matrix, scale, shift, mean, variance, False, 0.0, epsilon)
    return layout.restore(y)
