"""On PyTorch's CPU: its own kernels, products that stay in the cache, gradients in closed form.

A batch is measured by the kernels of PyTorch's batch normalization, on a view in which the channels
vary fastest, or part by part. Fast moments are used where they are exact enough, which is looked
at, and taken again from the mean where they are not.
"""

from numbers import Real
from typing import Any

import torch
from torch.autograd.forward_ad import unpack_dual

from batchnorm.affine import Affine
from batchnorm.kernels import reference
from batchnorm.kernels.plan import Correction, Plan
from batchnorm.kernels.torch import small
from batchnorm.kernels.torch.arithmetic import Normalize, Work, apply, normalize
from batchnorm.kernels.torch.layout import Layout, layout_of
from batchnorm.kernels.torch.sums import Batch, measure, near
from batchnorm.statistics import Measured, Moments, Settled, Total
from batchnorm.tracing import compiling

Tensor = Any

_LARGE = 1e12  # the squares of so much fit into float32
_PLAIN = (torch.Tensor, torch.nn.Parameter)  # what subclasses of these do is their own


def supports(plan: Plan) -> bool:
    """Plans with one channel axis, in groups or not, of one replica."""
    return len(plan.axis) == (2 if plan.grouped else 1) and not plan.synchronized


def train(
    plan: Plan,
    x: Tensor,
    affine: Affine,
    epsilon: float,
    prior: tuple[Tensor, Tensor],
    weights: Tensor | None = None,
    total: Total | None = None,
    correction: Correction | None = None,
) -> tuple[Tensor, Moments]:
    """See `Kernel.train`."""
    if _served(plan, x, affine, epsilon, weights):
        found = layout_of(tuple(x.shape), x.stride(), plan.axis)
        scale, shift = _affine(found, affine, getattr(torch, plan.moments_dtype))
        with torch.no_grad():
            quick = None
            if weights is None and correction is None:
                quick = small.train(found, x, scale, shift, epsilon)
            batch = quick.batch if quick else _measure(plan, found, x, weights, epsilon)
            hidden = None if batch is not None or weights is None else _hidden(x, weights)
            if hidden is not None:
                batch = _measure(plan, found, x.masked_fill(hidden, 0.0), weights, epsilon)
        if batch is not None:
            if hidden is not None:
                x = torch.where(hidden, plan.spread(batch.mean), x)
            step = None if correction is None else _corrected(correction, batch)
            work = Work(
                *(plan, found, epsilon, prior, weights, batch, step),
                inverse=quick.inverse if quick else None,
            )
            if torch.is_grad_enabled() and (
                x.requires_grad or scale.requires_grad or shift.requires_grad
            ):
                made = [quick.y] if quick else []
                y = Normalize.apply(x, scale, shift, work, made)  # type: ignore[no-untyped-call]
            else:
                y = quick.y if quick else normalize(x, scale, shift, work)
            return y, Settled(batch.count, batch.mean, batch.variance)
    return reference.train(plan, x, affine, epsilon, prior, weights, total, correction)


def infer(
    plan: Plan, x: Tensor, mean: Tensor, variance: Tensor, affine: Affine, epsilon: float
) -> Tensor:
    """See `Kernel.infer`."""
    if not _served(plan, x, affine, epsilon, None) or not near(mean, variance, epsilon):
        return reference.infer(plan, x, mean, variance, affine, epsilon)
    found, x = layout_of(tuple(x.shape), x.stride(), plan.axis), x.to(variance.dtype)
    scale, shift = _affine(found, affine, variance.dtype)
    if small.fits(found, scale) and not (mean.requires_grad or variance.requires_grad):
        return small.infer(found, x, mean, variance, scale, shift, epsilon)
    scale = scale * (variance + epsilon).rsqrt()
    return apply(found, x, scale, shift - mean * scale)


def _served(plan: Plan, x: Tensor, affine: Affine, epsilon: float, weights: Tensor | None) -> bool:
    """Whether what comes is plain tensors in memory, and what is done with them is done now."""
    if compiling() or torch._C._get_tracing_state() is not None:
        return False
    if torch._C._are_functorch_transforms_active() or torch._C._len_torch_dispatch_stack():
        return False
    if not isinstance(epsilon, Real) or x.device.type != "cpu" or not x.numel():
        return False
    given = [value for value in affine if not isinstance(value, Real)]
    if any(map(plan.is_map, given)):
        return False
    if weights is not None and (weights.requires_grad or weights.shape[plan.axis[-1]] != 1):
        return False
    return all(
        type(value) in _PLAIN and unpack_dual(value).tangent is None for value in (x, *given)
    )


def _measure(
    plan: Plan, found: Layout, x: Tensor, weights: Tensor | None, epsilon: float
) -> Batch | None:
    view = found.view(x.to(getattr(torch, plan.moments_dtype)))
    each = None if weights is None else found.weights(weights)
    return measure(found, view, each, epsilon)


def _hidden(x: Tensor, weights: Tensor) -> Tensor:
    """What has no weight, and would not be finite times 0, or squared."""
    return (weights == 0) & ~(x.abs() < _LARGE)


def _corrected(correction: Correction, batch: Batch) -> Affine:
    residual = torch.zeros_like(batch.provisional) if batch.residual is None else batch.residual
    moments = Moments(batch.count, batch.mean, batch.variance)
    return correction(Measured(batch.provisional, residual, moments))


def _affine(found: Layout, affine: Affine, dtype: torch.dtype) -> list[Tensor]:
    """Scale and shift, both `(C,)` or both per sample."""
    values = [
        torch.full((1,), float(value), dtype=dtype) if isinstance(value, Real) else value
        for value in affine
    ]
    shape: tuple[int, ...] = (found.channels,)
    if any(value.dim() > 1 for value in values):
        shape = (*found.lead, *shape)
    # PyTorch's own kernels read a value that is expanded as if it were not.
    return [v if v.shape == shape else v.expand(shape).contiguous() for v in values]
