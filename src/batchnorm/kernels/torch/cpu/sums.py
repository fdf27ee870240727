"""Sums over the batch: its moments, and the sums in its gradients."""

import math
from typing import NamedTuple

import torch

from batchnorm.kernels.torch.cpu.layout import Layout, cuts, tiled

Tensor = torch.Tensor

_WIDTH = 64  # channels that keep the kernels of sums vectorized
# Rows that they add in sequence. Equal terms drift: 64 of them by 1e-6 of the sum, 3000 by 2e-5.
# Equal are the values of a constant channel, and the squares beside an outlier.
_DEPTH = 64
# dy is summed, whose mean most often is about 0. Equal terms drift by 1e-6 of their sum, which is
# nothing beside the terms of dx; fewer in sequence would take longer.
_GRADIENT_DEPTH = 128
_ALL = 2**62
# Where |mean| is at most 3 deviations, that drift and the rounding of x * scale + shift, with the
# mean in the shift, stay at 5e-6 of a deviation; beyond, all is measured anew from the mean.
_SMALL_MEAN = 3.0**2


class Batch(NamedTuple):
    """The moments of a batch, `(C,)` or `(G, C)`; the mean is `provisional + residual`.

    Attributes:
        provisional: the mean, rounded.
        residual: the mean less `provisional`; `None` where that is nothing beside the deviation.
        variance: biased.
        count: elements, or the sum of their weights; a scalar or `(G, 1)`.
    """

    provisional: Tensor
    residual: Tensor | None
    variance: Tensor
    # Shadows the method of a tuple, which nobody needs here.
    count: Tensor  # type: ignore[assignment]

    @property
    def mean(self) -> Tensor:
        """The mean as one number per channel, rounded."""
        return self.provisional if self.residual is None else self.provisional + self.residual


def mean_is_small(mean: Tensor, variance: Tensor, epsilon: float) -> bool:
    """Returns True where no mean is large beside its deviation, and all are finite."""
    # One look at all channels: on a CPU it costs as much as a small operation.
    low, high = torch.aminmax(torch.addcmul(variance, mean, mean, value=-1 / _SMALL_MEAN))
    return bool(low.item() >= -epsilon and high.item() < math.inf)


def measure(layout: Layout, view: Tensor, weights: Tensor | None, epsilon: float) -> Batch | None:
    """Measures a view of `layout`, to the last digit whatever the mean.

    Args:
        layout: of the input.
        view: the input.
        weights: its weights, as `Layout.weights` makes them.
        epsilon: added to the variance under the root.

    Returns:
        `Batch`; `None` where the moments are not finite, or there is no weight.
    """
    if weights is None and layout.plain:
        return _measure_rows(view.view(-1, layout.channels), epsilon)
    return _measure_parts(layout, view, weights, epsilon)


def gradient_sums(
    layout: Layout, view: Tensor, dy: Tensor, origin: Tensor
) -> tuple[Tensor, Tensor]:
    """Adds up dy, and dy * (x - origin).

    Args:
        layout: of the input.
        view: the input.
        dy: a view of the gradient of y.
        origin: `(C,)` for sums `(C,)` over all, or as for `Layout.pieces` for those of each part.
    """
    if origin.dim() > 1:
        return _gradient_sums_of_parts(layout, view, dy, origin)
    channels = layout.channels
    view, dy, totals = view.view(-1, channels), dy.view(-1, channels), []
    for start, stop, lanes in cuts(layout.rows, channels, _WIDTH, _GRADIENT_DEPTH, _ALL):
        x = view[start:stop].view(-1, lanes * channels)
        d = dy[start:stop].view(-1, lanes * channels)
        mean, mask = tiled(origin, lanes), [False, True, True]
        # Its gradient of the scale is the sum of products, if 1 is passed as 1 / deviation.
        _, sum_product, sum_dy = torch.ops.aten.native_batch_norm_backward(
            d, x, None, None, None, mean, torch.ones_like(mean), True, 0.0, mask
        )
        totals.append(torch.stack([sum_dy, sum_product]).view(2, lanes, channels).sum(1))
    sum_dy, sum_product = sum(totals[1:], totals[0])
    return sum_dy, sum_product


def _gradient_sums_of_parts(
    layout: Layout, view: Tensor, dy: Tensor, origin: Tensor
) -> tuple[Tensor, Tensor]:
    axis, sums = layout.axis, []
    for (x, d), (mean,) in layout.pieces([view, dy], [origin]):
        product = torch.sub(x, mean).mul_(d)
        sums.append((d.sum(axis), product.sum(axis)))
    sum_dy, sum_product = (
        torch.cat(values).view(layout.parts, -1, layout.channels).sum(1).unsqueeze(axis)
        for values in zip(*sums, strict=True)
    )
    return sum_dy, sum_product


def _measure_rows(matrix: Tensor, epsilon: float) -> Batch | None:
    count = torch.scalar_tensor(matrix.shape[0], dtype=matrix.dtype)
    mean, variance = _moments(matrix, None)
    if mean_is_small(mean, variance, epsilon):
        return Batch(mean, None, variance, count)
    residual, variance = _moments(matrix, mean)
    return Batch(mean, residual, variance, count) if _finite(residual, variance) else None


def _finite(mean: Tensor, variance: Tensor) -> bool:
    return bool(torch.isfinite(mean + variance).all())


def _moments(matrix: Tensor, origin: Tensor | None) -> tuple[Tensor, Tensor]:
    """Measures each column: the mean's distance from the origin, and the variance."""
    rows, channels = matrix.shape
    moments, depths = [], []
    depth = _DEPTH if rows > 2 * _DEPTH else rows  # so few are not worth cutting
    for start, stop, lanes in cuts(rows, channels, _WIDTH, depth, _ALL):
        piece = matrix[start:stop].view(-1, lanes * channels)
        if origin is not None:
            piece = piece - tiled(origin, lanes)
        # It writes no y; torch.var_mean takes 20 times as long.
        moments.append(torch.batch_norm_update_stats(piece, None, None, 0.0))
        depths += [piece.shape[0]] * lanes
    means, variances = moments[0]
    if len(depths) == 1:
        return means, variances
    share = None  # of a part in the whole, where parts differ
    if len(moments) > 1:
        means, variances = map(torch.cat, zip(*moments, strict=True))
        if len(set(depths)) > 1:
            share = torch.tensor(depths, dtype=matrix.dtype).div_(rows).view(-1, 1)
    means, variances = means.view(-1, channels), variances.view(-1, channels)
    mean = _average(means, share)
    offsets = means - mean
    return mean, _average(torch.addcmul(variances, offsets, offsets), share)


def _average(values: Tensor, share: Tensor | None) -> Tensor:
    return values.mean(0) if share is None else (values * share).sum(0)


def _measure_parts(
    layout: Layout, view: Tensor, weights: Tensor | None, epsilon: float
) -> Batch | None:
    axis, moments, totals = layout.axis, [], []
    by_element = weights is not None and weights.numel() != layout.parts
    large = [view] if weights is None or not by_element else [view, weights]
    # `pieces` cuts by part only if a small value has an axis of parts; this one is not used.
    placeholder = view[:1, :1, :1]
    for (piece, *elements), _ in layout.pieces(large, [placeholder]):
        if elements:
            moments.append(_weighted(piece, elements[0], axis))
            totals.append(elements[0].sum(axis))
        else:
            moments.append(_unweighted(piece, axis))
    means, residuals, variances = (
        layout.by_group(torch.cat(values).view(-1, layout.channels))
        for values in zip(*moments, strict=True)
    )
    size = means.shape[0] * means.shape[1]  # of all parts, or lanes of parts
    counts, count = None, torch.scalar_tensor(layout.rows // means.shape[0], dtype=view.dtype)
    if by_element:
        counts = layout.by_group(torch.cat(totals).view(size, 1))
    elif weights is not None:
        lanes = size // layout.parts
        by_part = weights.squeeze(axis) * (layout.length // lanes)
        counts = layout.by_group(by_part.repeat_interleave(lanes, 0))
    if counts is not None:
        count = counts.sum(1)
    first, distance, variance = _merge(means, residuals, variances, counts)
    mean = first + distance
    if not _finite(mean, variance) or not (count > 0).all():
        return None
    variance = variance.relu()
    residual = None if mean_is_small(mean, variance, epsilon) else (first - mean) + distance
    if layout.group is None:
        mean, variance, count = mean[0], variance[0], count.reshape(())
        residual = None if residual is None else residual[0]
    return Batch(mean, residual, variance, count)


def _unweighted(x: Tensor, axis: int) -> tuple[Tensor, Tensor, Tensor]:
    mean = x.mean(axis, keepdim=True)
    deviation = x - mean
    residual = deviation.mean(axis)
    spread = deviation.mul_(deviation).mean(axis)
    return mean.squeeze(axis), residual, torch.addcmul(spread, residual, residual, value=-1)


def _weighted(x: Tensor, weights: Tensor, axis: int) -> tuple[Tensor, Tensor, Tensor]:
    total = weights.sum(axis, keepdim=True)
    share = weights / total.where(total != 0, 1.0)
    mean = (x * share).sum(axis, keepdim=True)
    deviation = x - mean
    product = deviation * share
    residual = product.sum(axis)
    spread = product.mul_(deviation).sum(axis)
    return mean.squeeze(axis), residual, torch.addcmul(spread, residual, residual, value=-1)


def _merge(
    means: Tensor, residuals: Tensor, variances: Tensor, counts: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Merges parts along axis 1: one of their means, the whole's distance from it, the variance."""
    if counts is None:
        first = means[:, :1]
    else:
        heaviest = counts.argmax(1, keepdim=True).expand(-1, -1, means.shape[-1])
        first = means.gather(1, heaviest)
    offsets = (means - first).add_(residuals)

    def mean_of(values: Tensor) -> Tensor:
        if counts is None:
            return values.mean(1, keepdim=True)
        return (values * counts).sum(1, keepdim=True) / counts.sum(1, keepdim=True)

    distance = mean_of(offsets)
    offsets = offsets - distance
    variance = mean_of(torch.addcmul(variances, offsets, offsets))
    return first[:, 0], distance[:, 0], variance[:, 0]
