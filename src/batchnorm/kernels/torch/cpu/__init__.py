"""On PyTorch's CPU: its own kernels, products that stay in the cache, gradients in closed form.

A batch is measured by the kernels of PyTorch's batch normalization, on a view in which the channels
vary fastest, or part by part. One-pass moments are used where a check shows them accurate;
elsewhere they are recomputed about the mean. README.md in the folder above names the paths.
"""

from numbers import Real
from typing import Any

import torch

from batchnorm.kernels import reference
from batchnorm.kernels.kernel import Call, Correction
from batchnorm.kernels.torch.cpu import fused
from batchnorm.kernels.torch.cpu.arithmetic import Normalize, Saved, apply, normalize
from batchnorm.kernels.torch.cpu.layout import Layout, layout_of
from batchnorm.kernels.torch.cpu.sums import Batch, mean_is_small, measure
from batchnorm.stages.affine import Affine
from batchnorm.stages.moments import CheckedMoments, Moments, SplitMoments
from batchnorm.stages.plan import Plan

Tensor = Any

_LARGE = 1e12  # 1e14 squares of this still fit into float32
_DTYPES = {"float32": torch.float32, "float64": torch.float64}


def supports(plan: Plan) -> bool:
    """Returns True for eager calls on a CPU, one channel axis, one replica and no maps."""
    return (
        plan.mode == "eager"
        and plan.device == "cpu"
        and len(plan.axis) == (2 if plan.grouped else 1)
        and 0 not in plan.shape
        and not (plan.synchronized or plan.affine == "map" or plan.general_weights)
    )


def train(plan: Plan, call: Call) -> tuple[Tensor, Moments]:
    """Normalizes by the batch's own moments; see `Kernel.train`."""
    x, affine, epsilon, prior, weights, _, correction = call
    layout, dtype = layout_of(x.shape, x.stride(), plan.axis), _DTYPES[plan.moments_dtype]
    scale, shift = _affine(layout, affine, dtype)
    normalized = hidden = None
    with torch.no_grad():
        if layout.small and weights is None and correction is None and scale.dim() == 1:
            normalized = fused.train(layout, x, scale, shift, epsilon)
        batch = normalized.batch if normalized else _measure(layout, x.to(dtype), weights, epsilon)
        if batch is None and weights is not None:
            hidden = _hidden(x, weights)
            batch = _measure(layout, x.masked_fill(hidden, 0.0).to(dtype), weights, epsilon)
    if batch is None:  # not finite, or without weight
        return reference.train(plan, call)
    if hidden is not None:
        x = torch.where(hidden, plan.spread(batch.mean), x)
    step = None if correction is None else _corrected(correction, batch)
    inverse = normalized.inverse if normalized else None
    saved = Saved(plan, layout, epsilon, prior, weights, batch, step, inverse)
    if torch.is_grad_enabled() and (x.requires_grad or scale.requires_grad or shift.requires_grad):
        ready = [normalized.y] if normalized else []
        y = Normalize.apply(x, scale, shift, saved, ready)  # type: ignore[no-untyped-call]
    else:
        y = normalized.y if normalized else normalize(x, scale, shift, saved)
    return y, CheckedMoments(batch.count, batch.mean, batch.variance)


def infer(
    plan: Plan, x: Tensor, mean: Tensor, variance: Tensor, affine: Affine, epsilon: float
) -> Tensor:
    """Normalizes by statistics; see `Kernel.infer`."""
    if not mean_is_small(mean, variance, epsilon):
        return reference.infer(plan, x, mean, variance, affine, epsilon)
    dtype = variance.dtype
    layout, x = layout_of(x.shape, x.stride(), plan.axis), x.to(dtype)
    scale, shift = _affine(layout, affine, dtype)
    constant = not (mean.requires_grad or variance.requires_grad)
    if layout.small and scale.dim() == 1 and constant:
        return fused.infer(layout, x, mean, variance, scale, shift, epsilon)
    scale = scale * (variance + epsilon).rsqrt()
    return apply(layout, x, scale, shift - mean * scale)


def _measure(layout: Layout, x: Tensor, weights: Tensor | None, epsilon: float) -> Batch | None:
    by_part = None if weights is None else layout.weights(weights)
    return measure(layout, layout.view(x), by_part, epsilon)


def _hidden(x: Tensor, weights: Tensor) -> Tensor:
    """Finds elements without weight that would not be finite times 0, or squared."""
    return (weights == 0) & ~(x.abs() < _LARGE)


def _corrected(correction: Correction, batch: Batch) -> Affine:
    residual = torch.zeros_like(batch.provisional) if batch.residual is None else batch.residual
    return correction(SplitMoments(batch.provisional, residual, batch.count, batch.variance))


def _affine(layout: Layout, affine: Affine, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Returns scale and shift as tensors, both `(C,)` or both per sample."""
    scale, shift = affine
    if isinstance(scale, Real):
        scale = torch.full((1,), float(scale), dtype=dtype)
    if isinstance(shift, Real):
        shift = torch.full((1,), float(shift), dtype=dtype)
    shape: tuple[int, ...] = (layout.channels,)
    if scale.dim() > 1 or shift.dim() > 1:
        shape = (*layout.lead, *shape)
    # PyTorch's own kernels read an expanded tensor as if it were contiguous (2.13).
    if scale.shape != shape:
        scale = scale.expand(shape).contiguous()
    if shift.shape != shape:
        shift = shift.expand(shape).contiguous()
    return scale, shift
