"""Scale and shift of a call of the layer: its gamma and beta, or those that a condition selects."""

from typing import Any

from keras import ops

from batchnorm.slots.condition import Given
from batchnorm.spectral import divided
from batchnorm.stages.affine import fitted
from batchnorm.stages.plan import plan_of
from batchnorm.stages.tensors import dtype_of

Tensor = Any
Layer = Any  # a `BatchNormalization`


def scale_and_shift(
    layer: Layer, inputs: Tensor, condition: Any, training: bool
) -> tuple[Tensor | None, Tensor | None]:
    """Computes the gamma and beta that the layer hands to `batch_norm`.

    Args:
        layer: any, built.
        inputs: of the call.
        condition: of the call.
        training: whether spectral normalization makes a step.

    Returns:
        Scale and shift, `None` for 1 and 0.

    Raises:
        ValueError: the condition is missing, the layer takes none, or it does not fit.
    """
    affine = layer.affine
    if affine is None:
        if condition is not None:
            raise ValueError(
                "A condition was given to a layer whose gamma and beta depend on none: make it "
                "with affine=PerClass(n), FromEmbedding() or Given()."
            )
        return layer.gamma, layer.beta
    if condition is None:
        raise ValueError(
            f"affine={affine} needs a condition in each call, layer(x, condition=...)."
        )
    if isinstance(affine, Given):
        return _from_outside(layer, inputs, *affine(condition, None, None))
    condition = ops.convert_to_tensor(condition)
    shape, samples = tuple(condition.shape), inputs.shape[0]
    if shape and None not in (shape[0], samples) and shape[0] != samples:
        raise ValueError(
            f"A condition of shape {shape} was given for {samples} samples: each sample needs its "
            "own."
        )
    gamma, beta = layer.gamma, layer.beta
    if getattr(affine, "spectral_normalization", False):
        gamma, beta = (_divided(layer, name, training) for name in ("gamma", "beta"))
    if not getattr(affine, "bias", False):
        scale, shift = affine(condition, gamma, beta)
        return scale, shift
    biases = {name: getattr(layer, name, None) for name in ("gamma_bias", "beta_bias")}
    scale, shift = affine(condition, gamma, beta, **biases)
    return scale, shift


def _from_outside(layer: Layer, inputs: Tensor, *pair: Tensor) -> tuple[Tensor, Tensor]:
    """Checks the scale and shift of `Given`, and fits them to the inputs."""
    plan = plan_of(inputs.shape, layer.axis, dtype_of(inputs))
    names = ("The scale of condition=(scale, shift)", "The shift of condition=(scale, shift)")
    scale, shift = (
        fitted(name, value, inputs.shape, plan.axis, plan.moments_dtype)
        for name, value in zip(names, pair, strict=True)
    )
    return scale, shift


def _divided(layer: Layer, name: str, training: bool) -> Tensor | None:
    """A matrix divided by its largest singular value; training updates the vector for it."""
    matrix = getattr(layer, name)
    if matrix is None:
        return None
    rows = ops.reshape(matrix.value, (matrix.shape[0], -1))
    vector = getattr(layer, f"{name}_u")
    normalized, direction = divided(rows, vector.value, iterations=1 if training else 0)
    if training:
        vector.assign(direction)
    return ops.reshape(normalized, matrix.shape)
