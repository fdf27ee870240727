"""What is done with the moments: y, and its gradients in closed form."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch

from batchnorm.affine import Affine
from batchnorm.kernels import reference
from batchnorm.kernels.plan import Plan
from batchnorm.kernels.torch import small
from batchnorm.kernels.torch.layout import Layout, tiled
from batchnorm.kernels.torch.sums import Batch, gradient_sums

Tensor = torch.Tensor


class Work(NamedTuple):
    """What is constant for the gradients.

    Attributes:
        plan: of the input.
        layout: likewise.
        epsilon: added to the variance under the root.
        prior: see `Kernel.train`.
        weights: likewise.
        batch: its moments.
        correction: (r, d), or `None`.
        inverse: 1 / sqrt(variance + epsilon), where PyTorch's own kernel is to do all of it; `None`
            for elsewhere.
    """

    plan: Plan
    layout: Layout
    epsilon: float
    prior: tuple[Tensor, Tensor]
    weights: Tensor | None
    batch: Batch
    correction: Affine | None = None
    inverse: Tensor | None = None

    def plain(self, scale: Tensor) -> bool:
        """Whether one vector holds all that is multiplied by, and the channels vary fastest."""
        return self.layout.last and self.layout.group is None and scale.dim() == 1


class Normalize(torch.autograd.Function):
    """y of x, scale and shift; it keeps x, and nothing else of that size, for the gradients."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, scale: Tensor, shift: Tensor, work: Work, made: list[Tensor]
    ) -> Tensor:
        """The same as `normalize`, unless y is made already."""
        ctx.save_for_backward(x, scale, shift)
        ctx.work = work
        return made.pop() if made else normalize(x, scale, shift, work)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        """The gradients, such that can be differentiated where that is asked for."""
        x, scale, shift = ctx.saved_tensors
        if torch.is_grad_enabled():
            found = _differentiable(dy, (x, scale, shift), ctx.needs_input_grad, ctx.work)
            return *found, None, None
        return *_gradients(dy, x, scale, ctx.needs_input_grad[0], ctx.work), None, None


def normalize(x: Tensor, scale: Tensor, shift: Tensor, work: Work) -> Tensor:
    """Normalizes by the measured moments.

    Args:
        x: the input.
        scale: `(C,)`, or per sample `(*Layout.lead, C)`.
        shift: likewise.
        work: the rest.

    Returns:
        y in `Plan.moments_dtype`, in the memory order of `x`.
    """
    layout, batch = work.layout, work.batch
    view = layout.view(x.to(batch.variance.dtype))
    factors = _Factors(scale, work)
    a, b = factors.of(scale) * factors.step, factors.of(shift)
    if factors.d is not None:
        b = b + factors.of(scale) * factors.d
    b = b - factors.left * a
    y = torch.empty_like(view)
    for (piece, out), (a_, b_, *origin) in layout.pieces([view, y], [a, b, *factors.first]):
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
        lanes = layout.matrix_lanes()
        y = torch.addcmul(
            tiled(shift, lanes), view.view(-1, lanes * layout.channels), tiled(scale, lanes)
        )
    else:
        y = torch.addcmul(layout.of_groups(shift), view, layout.of_groups(scale))
    return layout.restore(y)


class _Factors:
    """The moments and the correction as they go with pieces of a view."""

    def __init__(self, scale: Tensor, work: Work) -> None:
        self.layout, self.plain, batch = work.layout, work.plain(scale), work.batch
        self.each = scale.dim() > 1
        self.deviation = self.over((batch.variance + work.epsilon).rsqrt())
        self.step, self.d = self.deviation, None
        if work.correction is not None:
            r, self.d = map(self.over, work.correction)
            self.step = self.step * r
        self.origin = self.over(batch.provisional)
        self.residual = None if batch.residual is None else self.over(batch.residual)
        # The mean in two: what x is centred on first, and what is left for the shift. With all of
        # it in the shift there is a pass over x less, and fewer digits.
        self.first = [] if self.residual is None else [self.origin]
        self.left = self.origin if self.residual is None else self.residual

    def over(self, value: Tensor) -> Tensor:
        """A value per channel, or per group and channel."""
        return value if self.plain else self.layout.of_groups(value)

    def of(self, value: Tensor) -> Tensor:
        """A scale or a shift."""
        return self.layout.of_samples(value) if self.each else self.over(value)

    def whole(self, values: Tensor) -> Tensor:
        """Sums of parts as those of the batch, or of groups."""
        if self.plain:
            return values
        total = self.layout.by_group(values.squeeze(self.layout.axis)).sum(1)
        return total[0] if self.layout.group is None else total

    def like_scale(self, values: Tensor) -> Tensor:
        """Sums of parts as those that belong to the scale and the shift."""
        if self.plain:
            return values
        values = values.squeeze(self.layout.axis)
        return self.layout.by_sample(values) if self.each else values.sum(0)


def _gradients(
    dy: Tensor, x: Tensor, scale: Tensor, of_x: bool, work: Work
) -> tuple[Tensor | None, Tensor, Tensor]:
    layout, batch = work.layout, work.batch
    if work.inverse is not None:
        dx, dscale, dshift = small.gradients(
            *(layout, dy, x.to(dy.dtype), scale, batch, work.inverse, of_x)
        )
        return None if dx is None else dx.to(x.dtype), dscale, dshift
    view, dy = layout.view(x.to(batch.variance.dtype)), layout.view(dy)
    factors = _Factors(scale, work)
    of_dy, of_product = gradient_sums(layout, view, dy, factors.origin)
    if factors.residual is not None:
        of_product = of_product - factors.residual * of_dy
    dscale = of_product * factors.step
    if factors.d is not None:
        dscale = dscale + of_dy * factors.d
    dx = None
    if of_x:
        a = factors.of(scale) * factors.step
        mean, slope = (
            factors.over(factors.whole(a * total) / batch.count) for total in (of_dy, of_product)
        )
        dx = _dx(view, dy, a, mean, slope * factors.deviation**2, factors, work)
        dx = layout.restore(dx).to(x.dtype)
    return dx, factors.like_scale(dscale), factors.like_scale(of_dy)


def _dx(
    view: Tensor,
    dy: Tensor,
    a: Tensor,
    mean: Tensor,
    slope: Tensor,
    factors: _Factors,
    work: Work,
) -> Tensor:
    """It is dy * a - weights * (mean + slope * (x - x's mean))."""
    layout, dx = work.layout, torch.empty_like(view)
    b = factors.left * slope - mean
    large, small = [view, dy, dx], [a, b, -slope, *factors.first]
    if work.weights is not None:
        large.append(layout.weights(work.weights))
        small = [layout.of_groups(value) if value.dim() == 1 else value for value in small]
    for (x, d, out, *weights), (a_, b_, slope_, *origin) in layout.pieces(large, small):
        deviation = torch.sub(x, *origin, out=out) if origin else x
        torch.addcmul(b_, deviation, slope_, out=out)
        if weights:
            out.mul_(weights[0])
        out.addcmul_(d, a_)
    return dx


def _differentiable(
    dy: Tensor, inputs: tuple[Tensor, Tensor, Tensor], needed: Sequence[bool], work: Work
) -> list[Tensor | None]:
    """The gradients by way of the reference, whose operations all have gradients."""
    # New nodes: where one of the inputs comes of another, its share belongs to that one alone.
    x, scale, shift = nodes = [value.view_as(value) for value in inputs]
    step = work.correction
    y, _ = reference.train(
        *(work.plan, x, Affine(scale, shift), work.epsilon, work.prior, work.weights),
        correction=None if step is None else lambda measured: step,
    )
    wanted = [node for node, need in zip(nodes, needed, strict=False) if need]
    found = iter(torch.autograd.grad(y, wanted, dy, create_graph=True))
    return [next(found) if need else None for need in needed[:3]]
