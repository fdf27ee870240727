"""Sums over the batch: its moments, and what the gradients need of it."""

import math
from dataclasses import dataclass

import torch

from batchnorm.kernels.torch.layout import Layout, cuts, tiled

Tensor = torch.Tensor

_WIDTH = 64  # channels that keep the kernels of sums vectorized
# What they add in sequence. Equal terms drift: 64 of them by 1e-6 of the sum, 3000 by 2e-5. Equal
# are the values of a constant channel, and the squares beside an outlier.
_DEPTH = 64
# What comes back is summed, most often about 0. Equal terms drift by 1e-6 of their sum, which is
# nothing beside the terms of dx; fewer in sequence would take longer.
_GRADIENT_DEPTH = 128
_ALL = 2**62
# Where |mean| is at most 3 deviations, that drift and the rounding of x * scale + shift, with the
# mean in the shift, stay at 5e-6 of a deviation; beyond, all is measured anew from the mean.
_NEAR = 3.0**2


@dataclass(frozen=True)
class Batch:
    """What was measured, `(C,)` or `(G, C)`; the mean is `provisional + residual`.

    Attributes:
        provisional: almost the mean.
        residual: what it lacks; `None` where that is nothing, beside the deviation.
        variance: biased.
        count: how much was measured, a scalar or `(G, 1)`.
    """

    provisional: Tensor
    residual: Tensor | None
    variance: Tensor
    count: Tensor

    @property
    def mean(self) -> Tensor:
        """Rounded."""
        return self.provisional if self.residual is None else self.provisional + self.residual


def near(mean: Tensor, variance: Tensor, epsilon: float) -> bool:
    """Whether no mean is large beside its deviation, and all are finite."""
    # One look at all channels: on a CPU it costs what a small operation does.
    low, high = torch.aminmax(torch.addcmul(variance, mean, mean, value=-1 / _NEAR))
    return bool(low.item() >= -epsilon and high.item() < math.inf)


def measure(layout: Layout, view: Tensor, weights: Tensor | None, epsilon: float) -> Batch | None:
    """The moments of a view of `layout`, to the last digit whatever the mean.

    Args:
        layout: of the input.
        view: the input.
        weights: its weights, as `Layout.weights` makes them.
        epsilon: added to the variance under the root.

    Returns:
        `Batch`; `None` where the moments are not finite, or there is no weight.
    """
    if weights is None and layout.last and layout.group is None:
        return _measure_rows(view.view(-1, layout.channels), epsilon)
    return _measure_parts(layout, view, weights, epsilon)


def gradient_sums(
    layout: Layout, view: Tensor, dy: Tensor, origin: Tensor
) -> tuple[Tensor, Tensor]:
    """The sums of dy and of dy * (x - origin).

    Args:
        layout: of the input.
        view: the input.
        dy: a view of what comes back for y.
        origin: `(C,)` for sums `(C,)` over all, or as for `Layout.pieces` for those of each part.
    """
    if origin.dim() > 1:
        found = []
        for (x, d), (about,) in layout.pieces([view, dy], [origin]):
            product = torch.sub(x, about).mul_(d)
            found.append([each.sum(layout.axis) for each in (d, product)])
        of_dy, of_product = (
            torch.cat(each).view(layout.parts, -1, layout.channels).sum(1).unsqueeze(layout.axis)
            for each in zip(*found, strict=True)
        )
        return of_dy, of_product
    channels = layout.channels
    view, dy, total = view.view(-1, channels), dy.view(-1, channels), []
    for start, stop, lanes in cuts(layout.rows, channels, _WIDTH, _GRADIENT_DEPTH, _ALL):
        x, d = (each[start:stop].view(-1, lanes * channels) for each in (view, dy))
        about = tiled(origin, lanes)
        _, of_product, of_dy = torch.ops.aten.native_batch_norm_backward(
            d, x, None, None, None, about, torch.ones_like(about), True, 0.0, [False, True, True]
        )
        total.append(torch.stack([of_dy, of_product]).view(2, lanes, channels).sum(1))
    of_dy, of_product = sum(total[1:], total[0])
    return of_dy, of_product


def _measure_rows(matrix: Tensor, epsilon: float) -> Batch | None:
    count = torch.scalar_tensor(matrix.shape[0], dtype=matrix.dtype)
    mean, variance = _moments(matrix, None)
    if near(mean, variance, epsilon):
        return Batch(mean, None, variance, count)
    residual, variance = _moments(matrix, mean)
    return Batch(mean, residual, variance, count) if _finite(residual, variance) else None


def _finite(mean: Tensor, variance: Tensor) -> bool:
    return bool(torch.isfinite(mean + variance).all())


def _moments(matrix: Tensor, origin: Tensor | None) -> tuple[Tensor, Tensor]:
    """The mean's distance from the origin, and the variance, of each column."""
    rows, channels = matrix.shape
    found, depths = [], []
    depth = _DEPTH if rows > 2 * _DEPTH else rows  # so few are not worth cutting
    for start, stop, lanes in cuts(rows, channels, _WIDTH, depth, _ALL):
        piece = matrix[start:stop].view(-1, lanes * channels)
        if origin is not None:
            piece = piece - tiled(origin, lanes)
        # It writes no y; torch.var_mean takes 20 times as long.
        found.append(torch.batch_norm_update_stats(piece, None, None, 0.0))
        depths += [piece.shape[0]] * lanes
    if len(depths) == 1:
        return found[0]
    means, variances = (
        (torch.cat(each) if len(found) > 1 else each[0]).view(-1, channels)
        for each in zip(*found, strict=True)
    )
    share = None  # of a part in the whole, where parts differ
    if len(set(depths)) > 1:
        share = torch.tensor(depths, dtype=matrix.dtype).div_(rows).view(-1, 1)

    def mean_of(values: Tensor) -> Tensor:
        return values.mean(0) if share is None else (values * share).sum(0)

    mean = mean_of(means)
    offsets = means - mean
    return mean, mean_of(torch.addcmul(variances, offsets, offsets))


def _measure_parts(
    layout: Layout, view: Tensor, weights: Tensor | None, epsilon: float
) -> Batch | None:
    axis, found, counted = layout.axis, [], []
    within = weights is not None and weights.numel() != layout.parts
    large = [view] if weights is None or not within else [view, weights]
    for (piece, *its), _ in layout.pieces(large, [view[:1, :1, :1]]):
        found.append(_weighted(piece, its[0], axis) if its else _unweighted(piece, axis))
        counted += [each.sum(axis) for each in its]
    means, residuals, variances = (
        layout.by_group(torch.cat(each).view(-1, layout.channels))
        for each in zip(*found, strict=True)
    )
    size = means.shape[0] * means.shape[1]  # as many parts, or lanes of parts
    counts, count = None, torch.scalar_tensor(layout.rows // means.shape[0], dtype=view.dtype)
    if within:
        counts = layout.by_group(torch.cat(counted).view(size, 1))
    elif weights is not None:
        lanes = size // layout.parts
        each = weights.squeeze(axis) * (layout.length // lanes)
        counts = layout.by_group(each.repeat_interleave(lanes, 0))
    if counts is not None:
        count = counts.sum(1)
    first, distance, variance = _merge(means, residuals, variances, counts)
    mean = first + distance
    if not _finite(mean, variance) or not (count > 0).all():
        return None
    variance = variance.relu()
    residual = None if near(mean, variance, epsilon) else (first - mean) + distance
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
    """`statistics.merge` along axis 1: one of the means, how far the whole's is, the variance."""
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
