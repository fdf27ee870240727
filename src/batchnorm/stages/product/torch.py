"""On PyTorch: a product that autocast does not reach, nor its gradients."""

from typing import Any

import torch

Tensor = torch.Tensor


class Product(torch.autograd.Function):
    """The product of two matrices; its gradients are such products again.

    A backward pass within the scope of autocast would take those of a plain product in half
    precision.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(a: Tensor, b: Tensor) -> Tensor:
        """The product, `(N, M)`."""
        return plain(a, b)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        """Keeps the matrices."""
        ctx.save_for_backward(*inputs)
        ctx.save_for_forward(*inputs)

    @staticmethod
    def backward(ctx: Any, d: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """The gradients of both."""
        a, b = ctx.saved_tensors
        of_a, of_b = ctx.needs_input_grad
        return product(d, b.mT) if of_a else None, product(a.mT, d) if of_b else None

    @staticmethod
    def jvp(ctx: Any, of_a: Tensor | None, of_b: Tensor | None) -> Tensor:
        """The derivative along tangents of both."""
        a, b = ctx.saved_tensors
        along_a = torch.zeros_like(a) if of_a is None else of_a
        along_b = torch.zeros_like(b) if of_b is None else of_b
        return plain(along_a, b) + plain(a, along_b)


class Compiled(torch.autograd.Function):
    """The same for torch.compile, which refuses functions with `jvp` (PyTorch 2.13)."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor) -> Tensor:
        """The product, `(N, M)`."""
        ctx.save_for_backward(a, b)
        return plain(a, b)

    @staticmethod
    def backward(ctx: Any, d: Tensor) -> tuple[Tensor, Tensor]:
        """The gradients of both."""
        a, b = ctx.saved_tensors
        return plain(d, b.mT), plain(a.mT, d)


def product(a: Tensor, b: Tensor) -> Tensor:
    """The product of two matrices, whatever autocast is set to."""
    function = Compiled if torch.compiler.is_compiling() else Product
    result: Tensor = function.apply(a, b)  # type: ignore[no-untyped-call]
    return result


def plain(a: Tensor, b: Tensor) -> Tensor:
    """The product alone, with PyTorch's gradients."""
    with torch.autocast(a.device.type, enabled=False):
        return a @ b
