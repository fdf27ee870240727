"""Scale and shift from the condition of a call: given, per class, or from a vector."""

from dataclasses import dataclass
from numbers import Integral
from typing import Any, ClassVar, Protocol, runtime_checkable

import keras
from keras import ops

from batchnorm.slots.slot import Slot
from batchnorm.stages.labels import row_lookup
from batchnorm.stages.product import product
from batchnorm.stages.tensors import cast, dtype_of, reshaped, tensor

Tensor = Any


@runtime_checkable
class FromCondition(Protocol):
    """Protocol of the `affine` slot: scale and shift computed from each call's condition.

    Attributes:
        replaces: arguments of the layer that are refused beside it.
    """

    replaces: ClassVar[tuple[str, ...]]

    def rows(self, condition_shape: Any) -> int | None:
        """Returns the number of rows of gamma and beta; `None` if the layer has neither."""

    def __call__(self, condition: Tensor, gamma: Tensor, beta: Tensor) -> tuple[Tensor, Tensor]:
        """Scale and shift `(N, C)`; `gamma` and `beta` are `(rows, C)`, or `None` for 1 and 0."""


_INITIALIZERS = ("beta_initializer", "gamma_initializer")


@keras.saving.register_keras_serializable(package="batchnorm")
@dataclass(frozen=True, repr=False)
class Given(Slot):
    """Scale and shift are handed to each call, `layer(x, condition=(scale, shift))`.

    y = (x - mean) / sqrt(variance + epsilon) * scale + shift

    The layer owns neither gamma nor beta. Each of the two is a number; `(C,)`, per channel;
    `(N, C)`, per sample; or a map of the rank of the inputs, such as `(N, H, W, C)` or `(N, C, L)`
    with `axis=1`, and 1 on axes along which it is the same.

    Example:
        >>> Given()
        Given()

    References:
        Park, Liu, Wang, Zhu 2019, "Semantic image synthesis with spatially-adaptive
        normalization", arXiv:1903.07291, equation 1, for maps.
    """

    replaces: ClassVar[tuple[str, ...]] = (
        *("center", "scale", *_INITIALIZERS, "beta_regularizer", "gamma_regularizer"),
        *("beta_constraint", "gamma_constraint"),
    )

    def rows(self, condition_shape: Any) -> None:
        """The layer has no gamma and beta."""

    def __call__(self, condition: Tensor, gamma: Tensor, beta: Tensor) -> tuple[Tensor, Tensor]:
        """The condition itself.

        Raises:
            ValueError: it is not a pair.
        """
        if not isinstance(condition, tuple | list) or len(condition) != 2:
            raise ValueError(
                "affine=Given() needs condition=(scale, shift) in each call, each a number, (C,), "
                f"(N, C) or a map of the inputs' rank; received {_description(condition)}."
            )
        return condition[0], condition[1]


@keras.saving.register_keras_serializable(package="batchnorm")
@dataclass(frozen=True, repr=False)
class PerClass(Slot):
    """One gamma and one beta per class, `layer(x, condition=labels)`.

    y = (x - mean) / sqrt(variance + epsilon) * gamma[labels] + beta[labels]

    The layer's gamma and beta are tables `(n, C)`, ones and zeros to begin with. Labels are `(N,)`
    or `(N, 1)`, integers in [0, n); or mixtures of classes, `(N, n)`, floating point, whose gamma
    and beta are `labels @ gamma` and `labels @ beta`.

    Args:
        classes: n, how many there are.

    Raises:
        ValueError: `classes` is not a positive integer; in a call, labels of another shape or type,
            or outside [0, n). In compiled code such a label makes its sample NaN.

    Example:
        >>> PerClass(10)
        PerClass(classes=10)

    References:
        Dumoulin, Shlens, Kudlur 2017, "A learned representation for artistic style",
        arXiv:1610.07629, equation 5; De Vries et al. 2017, arXiv:1707.00683.
    """

    classes: int
    replaces: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        """Checks the number."""
        _check_positive("PerClass(classes)", self.classes, "How many classes are there?")

    def rows(self, condition_shape: Any) -> int:
        """A row per class."""
        return self.classes

    def __call__(self, condition: Tensor, gamma: Tensor, beta: Tensor) -> tuple[Tensor, Tensor]:
        """The rows of the labels."""
        lookup = row_lookup(condition, self.classes)
        scale, shift = (None if table is None else lookup(table) for table in (gamma, beta))
        return scale, shift


@keras.saving.register_keras_serializable(package="batchnorm")
@dataclass(frozen=True, repr=False)
class FromEmbedding(Slot):
    """Scale and shift are linear in a vector, `layer(x, condition=vectors)`.

    y = (x - mean) / sqrt(variance + epsilon) * scale + shift
    scale = offset + vectors @ gamma + gamma_bias,  shift = vectors @ beta + beta_bias

    The layer's gamma and beta are matrices `(D, C)`, the vectors are `(N, D)`: embeddings of
    classes, which layers can share, with or without a part of the latents (BigGAN), or the latents
    themselves (self-modulation).

    Args:
        units: D, the size of a vector; `None` to take it from the first call.
        offset: added to the scale; 1 begins near plain normalization.
        initializer: of both matrices, anything that `keras.initializers.get` takes.
        bias: whether the layer has gamma_bias and beta_bias, `(C,)`, trainable, zeros to begin
            with; without them they are 0 in the formula.
        spectral_normalization: whether each matrix is divided by its largest singular value, as
            `SpectralNormalization` does it: a call with `training=True` makes one step of the power
            iteration, whose vectors are the layer's variables gamma_u and beta_u, not trainable.

    Raises:
        ValueError: `units` is not a positive integer, `initializer` is `None`, or `bias` or
            `spectral_normalization` is not a bool; in a call, vectors of another shape.

    Example:
        >>> FromEmbedding(128, bias=True)  # doctest: +NORMALIZE_WHITESPACE
        FromEmbedding(units=128, offset=1.0, initializer='glorot_uniform', bias=True,
            spectral_normalization=False)

    References:
        Brock, Donahue, Simonyan 2019, "Large scale GAN training", arXiv:1809.11096, appendix B;
        Chen et al. 2019, "On self modulation for generative adversarial networks",
        arXiv:1810.01365, equation 2; Miyato et al. 2018, arXiv:1802.05957, Algorithm 1.
    """

    units: int | None = None
    offset: float = 1.0
    initializer: Any = "glorot_uniform"
    bias: bool = False
    spectral_normalization: bool = False
    replaces: ClassVar[tuple[str, ...]] = _INITIALIZERS

    def __post_init__(self) -> None:
        """Checks the size, the initializer and the flags."""
        if self.units is not None:
            _check_positive("FromEmbedding(units)", self.units, "None takes it from the vectors.")
        if keras.initializers.get(self.initializer) is None:
            raise ValueError("FromEmbedding(initializer) must say how the matrices begin.")
        for name in ("bias", "spectral_normalization"):
            if not isinstance(value := getattr(self, name), bool):
                raise ValueError(
                    f"FromEmbedding({name}) must be True or False; received {value!r}."
                )

    def rows(self, condition_shape: Any) -> int:
        """A row for each number of a vector.

        Raises:
            ValueError: the condition is not `(N, D)`.
        """
        if condition_shape is None and self.units is not None:
            return self.units
        return _size(condition_shape, self.units)

    def __call__(
        self,
        condition: Tensor,
        gamma: Tensor,
        beta: Tensor,
        gamma_bias: Tensor = None,
        beta_bias: Tensor = None,
    ) -> tuple[Tensor, Tensor]:
        """The vectors times the matrices, and the biases."""
        condition = ops.convert_to_tensor(condition)
        if not keras.backend.is_float_dtype(dtype_of(condition)):
            raise ValueError(
                f"FromEmbedding needs vectors of a floating-point type, received {condition.dtype}."
                " For the numbers of classes make the layer with affine=PerClass(n)."
            )
        scale = None if gamma is None else self.offset + _product(condition, gamma, gamma_bias)
        return scale, None if beta is None else _product(condition, beta, beta_bias)


def _product(vectors: Tensor, matrix: Tensor, bias: Tensor | None) -> Tensor:
    matrix = tensor(matrix)
    units, *channels = matrix.shape
    _size(vectors.shape, units)
    rows = product(cast(vectors, dtype_of(matrix)), reshaped(matrix, (units, -1)))
    rows = reshaped(rows, (-1, *channels))
    return rows if bias is None else rows + tensor(bias)


def _size(shape: Any, units: int | None) -> int:
    """Returns the size of the vectors; raises unless the shape is `(N, units)`."""
    size = shape[1] if shape is not None and len(shape) == 2 else None
    if not isinstance(size, int) or units not in (None, size):
        raise ValueError(
            f"FromEmbedding needs condition=vectors of shape (N, {units or 'D'}) in each call; "
            f"received {'no tensor' if shape is None else f'shape {tuple(shape)}'}."
        )
    return size


def _description(value: Any) -> str:
    """Describes a tensor by its shape, any other value by its `repr`."""
    shape = getattr(value, "shape", None)
    return repr(value) if shape is None else f"one tensor of shape {tuple(shape)}"


def _check_positive(name: str, value: Any, hint: str) -> None:
    if isinstance(value, bool) or not isinstance(value, Integral) or value < 1:
        raise ValueError(f"{name} must be a positive integer; received {value!r}. {hint}")
