"""Normalization by measured moments, and its gradients in closed form."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch

from batchnorm.kernels import reference
from batchnorm.kernels.kernel import Call
from batchnorm.kernels.torch.cpu import fused
from batchnorm.kernels.torch.cpu.layout import Layout, tiled
from batchnorm.kernels.torch.cpu.sums import Batch, gradient_sums
from batchnorm.stages.affine import Affine
from batchnorm.stages.plan import Plan

Tensor = torch.Tensor


class Saved(NamedTuple):
    """The constants of the backward pass.

    Attributes:
        plan: of the input.
        layout: likewise.
        epsilon: added to the variance under the root.
        prior: see `Call`.
        weights: likewise.
        batch: its moments.
        correction: (r, d), or `None`.
        inverse: 1 / sqrt(variance + epsilon) where PyTorch's fused kernel computes the gradients;
            `None` for elsewhere.
    """

    plan: Plan
    layout: Layout
    epsilon: float
    prior: tuple[Tensor, Tensor]
    weights: Tensor | None
    batch: Batch
    correction: Affine | None
    inverse: Tensor | None


class Normalize(torch.autograd.Function):
    """y of x, scale and shift; it keeps x, and nothing else of that size, for the gradients."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, scale: Tensor, shift: Tensor, saved: Saved, ready: list[Tensor]
    ) -> Tensor:
        """Returns the y in `ready`, or computes it by `normalize`."""
        ctx.save_for_backward(x, scale, shift)
        ctx.saved = saved
        # y comes in a list, into which autograd does not look: a tensor among the arguments is an
        # input, and an input that is returned becomes a view (PyTorch 2.13, custom_function.cpp).
        return ready.pop() if ready else normalize(x, scale, shift, saved)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        """Computes the gradients, by differentiable operations if they are to be differentiated."""
        x, scale, shift = ctx.saved_tensors
        if torch.is_grad_enabled():
            inputs = (x, scale, shift)
            return *_differentiable(dy, inputs, ctx.needs_input_grad, ctx.saved), None, None
        return *_gradients(dy, x, scale, ctx.needs_input_grad[0], ctx.saved), None, None


def normalize(x: Tensor, scale: Tensor, shift: Tensor, saved: Saved) -> Tensor:
    """Normalizes by the measured moments.

    Args:
        x: the input.
        scale: `(C,)`, or per sample `(*Layout.lead, C)`.
        shift: likewise.
        saved: the rest.

    Returns:
        y in `Plan.moments_dtype`, in the memory order of `x`.
    """
    layout = saved.layout
    view = layout.view(x.to(saved.batch.variance.dtype))
    factors = _Factors(scale, saved)
    scale, b = factors.for_scale(scale), factors.for_scale(shift)
    a = scale * factors.step
    if factors.d is not None:
        b = b + scale * factors.d
    b = b - factors.shift_origin * a
    y = torch.empty_like(view)
    for (piece, out), (a_, b_, *origin) in layout.pieces([view, y], [a, b, *factors.centre]):
        deviation = torch.sub(piece, *origin, out=out) if origin else piece
        torch.addcmul(b_, deviation, a_, out=out)
    return layout.restore(y)


def apply(layout: Layout, x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """`x * scale + shift` in one differentiable operation, whose bits no gradient changes.

    Args:
        layout: of `x`.
        x: the input.
        scale: `(C,)`, or per sample `(*Layout.lead, C)`.
        shift: likewise.
    """
    view = layout.view(x)
    if scale.dim() > 1:
        y = torch.addcmul(layout.of_samples(shift), view, layout.of_samples(scale))
    elif layout.last:
        lanes = layout.row_lanes
        matrix = view.view(-1, lanes * layout.channels)
        y = torch.addcmul(tiled(shift, lanes), matrix, tiled(scale, lanes))
    else:
        y = torch.addcmul(layout.of_groups(shift), view, layout.of_groups(scale))
    return layout.restore(y)


class _Factors:
    """The moments and the correction, shaped for the pieces of a view."""

    def __init__(self, scale: Tensor, saved: Saved) -> None:
        self.layout, batch = saved.layout, saved.batch
        self.per_sample = scale.dim() > 1
        # One vector holds each factor, and the pieces are rows of a matrix.
        self.plain = self.layout.plain and not self.per_sample
        self.inverse = self.per_channel((batch.variance + saved.epsilon).rsqrt())
        self.step, self.d = self.inverse, None
        if saved.correction is not None:
            r, self.d = map(self.per_channel, saved.correction)
            self.step = self.step * r
        self.origin = self.per_channel(batch.provisional)
        # The mean in two: `centre` is subtracted from x, `shift_origin` within the shift. With all
        # of it in the shift there is a pass over x less, and fewer digits.
        self.residual, self.centre, self.shift_origin = None, [], self.origin
        if batch.residual is not None:
            self.residual = self.shift_origin = self.per_channel(batch.residual)
            self.centre = [self.origin]

    def per_channel(self, value: Tensor) -> Tensor:
        """Fits a value per channel, or per group and channel."""
        return value if self.plain else self.layout.of_groups(value)

    def for_scale(self, value: Tensor) -> Tensor:
        """Fits a scale or a shift."""
        return self.layout.of_samples(value) if self.per_sample else self.per_channel(value)

    def per_group(self, values: Tensor) -> Tensor:
        """Adds up sums of parts to those of the batch, or of groups."""
        if self.plain:
            return values
        total = self.layout.by_group(values.squeeze(self.layout.axis)).sum(1)
        return total[0] if self.layout.group is None else total

    def like_scale(self, values: Tensor) -> Tensor:
        """Adds up sums of parts to the shape of the scale and the shift."""
        if self.plain:
            return values
        values = values.squeeze(self.layout.axis)
        return self.layout.by_sample(values) if self.per_sample else values.sum(0)


def _gradients(
    dy: Tensor, x: Tensor, scale: Tensor, needs_dx: bool, saved: Saved
) -> tuple[Tensor | None, Tensor, Tensor]:
    layout, batch = saved.layout, saved.batch
    if saved.inverse is not None:
        dx, dscale, dshift = fused.gradients(
            layout, dy, x.to(dy.dtype), scale, batch, saved.inverse, needs_dx
        )
        return None if dx is None else dx.to(x.dtype), dscale, dshift
    view, dy = layout.view(x.to(batch.variance.dtype)), layout.view(dy)
    factors = _Factors(scale, saved)
    sum_dy, sum_product = gradient_sums(layout, view, dy, factors.origin)
    if factors.residual is not None:
        sum_product = sum_product - factors.residual * sum_dy
    dscale = sum_product * factors.step
    if factors.d is not None:
        dscale = dscale + sum_dy * factors.d
    dx = None
    if needs_dx:
        a = factors.for_scale(scale) * factors.step
        mean = factors.per_channel(factors.per_group(a * sum_dy) / batch.count)
        slope = factors.per_channel(factors.per_group(a * sum_product) / batch.count)
        dx = _dx(view, dy, a, mean, slope * factors.inverse**2, factors, saved)
        dx = layout.restore(dx).to(x.dtype)
    return dx, factors.like_scale(dscale), factors.like_scale(sum_dy)


def _dx(
    view: Tensor,
    dy: Tensor,
    a: Tensor,
    mean: Tensor,
    slope: Tensor,
    factors: _Factors,
    saved: Saved,
) -> Tensor:
    """Computes dy * a - weights * (mean + slope * (x - x's mean))."""
    layout, dx = saved.layout, torch.empty_like(view)
    b = factors.shift_origin * slope - mean
    large, small = [view, dy, dx], [a, b, -slope, *factors.centre]
    if saved.weights is not None:
        large.append(layout.weights(saved.weights))
        small = [layout.of_groups(value) if value.dim() == 1 else value for value in small]
    for (x, d, out, *weights), (a_, b_, slope_, *origin) in layout.pieces(large, small):
        deviation = torch.sub(x, *origin, out=out) if origin else x
        torch.addcmul(b_, deviation, slope_, out=out)
        if weights:
            out.mul_(weights[0])
        out.addcmul_(d, a_)
    return dx


def _differentiable(
    dy: Tensor, inputs: tuple[Tensor, Tensor, Tensor], needed: Sequence[bool], saved: Saved
) -> list[Tensor | None]:
    """Computes the gradients by way of the reference, whose operations all have gradients."""
    # New nodes: where one of the inputs comes of another, its share belongs to that one alone.
    nodes = [value.view_as(value) for value in inputs]
    x, scale, shift = nodes
    step = saved.correction
    correction = None if step is None else lambda moments: step
    affine = Affine(scale, shift)
    call = Call(x, affine, saved.epsilon, saved.prior, saved.weights, None, correction)
    y, _ = reference.train(saved.plan, call)
    sources = [node for node, need in zip(nodes, needed, strict=False) if need]
    slopes = iter(torch.autograd.grad(y, sources, dy, create_graph=True))
    return [next(slopes) if need else None for need in needed[:3]]
