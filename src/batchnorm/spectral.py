"""`SpectralNormalization`: a layer whose kernel is divided by its largest singular value."""

from collections.abc import Sequence
from numbers import Integral
from typing import Any

import keras
from keras import ops

from batchnorm.slots.representation import layer_text
from batchnorm.stages.snapshot import snapshot

Tensor = Any
Variable = Any

# Their kernels are (..., out, in).
_TRANSPOSED = tuple(getattr(keras.layers, f"Conv{rank}DTranspose") for rank in (1, 2, 3))


@keras.saving.register_keras_serializable(package="batchnorm")
class SpectralNormalization(keras.layers.Wrapper):
    """Spectral normalization: a layer, applied with its kernel divided by the kernel's norm.

    v = kernel @ u / sqrt(sum((kernel @ u)²)),  u = v @ kernel / sqrt(sum((v @ kernel)²))
    sigma = v @ kernel @ u,  y = x @ (kernel / sigma) + bias

    where the kernel is a matrix with the output channels in its columns; y is a dense layer's.
    Where `training=True` and neither this layer nor the wrapped one is frozen, v and u are updated
    so, `power_iterations` times, and u is kept for the next call. Elsewhere u stays, and v alone
    follows from it. Gradients take u and v for constants, and flow through sigma. The layer's own
    kernel stays what the optimizer trains, and is what regularizers and files get. A kernel of
    zeros stays as it is.

    The output channels are the kernel's last axis, for depthwise convolutions, as in Keras, the
    `depth_multiplier`; in transposed convolutions, where Keras takes the input's, the last but one.

    Args:
        layer: the layer to be normalized, one with a `kernel`, such as Dense, EinsumDense or any
            convolution but the separable ones, or with `embeddings`. What its call changes,
            such as counters, is kept; its `lora_rank` and quantization have no meaning here.
        power_iterations: updates of u in each training call, at least 1.
        **kwargs: those of `keras.layers.Layer`, such as `name`. How the layer computes is up to
            the `dtype` of its own; u, `(channels,)`, and sigma are never half precision.

    Call arguments:
        inputs: what the wrapped layer takes.
        training: whether to update u; handed on to the wrapped layer.

    Returns:
        What the wrapped layer returns, in its compute dtype.

    Raises:
        ValueError: `layer` is not a layer; `power_iterations` is not a positive integer; when it is
            built or called, the layer has no kernel of floating point numbers to divide.

    Example:
        >>> import keras, numpy as np
        >>> layer = SpectralNormalization(keras.layers.Dense(1, kernel_initializer="ones"))
        >>> y = layer(np.ones((1, 4)))  # four ones have length 2
        >>> keras.ops.convert_to_numpy(y).tolist()
        [[2.0]]

    References:
        Miyato et al. 2018, arXiv:1802.05957, Algorithm 1 and equations (8) to (12).
    """

    autocast: bool
    u: Variable

    def __init__(self, layer: keras.layers.Layer, power_iterations: int = 1, **kwargs: Any) -> None:
        if not isinstance(layer, keras.layers.Layer):
            raise ValueError(
                "layer must be a Keras layer that has a kernel, such as keras.layers.Dense(8), "
                f"received {layer!r}."
            )
        is_integer = isinstance(power_iterations, Integral)
        if not is_integer or isinstance(power_iterations, bool) or power_iterations < 1:
            raise ValueError(
                f"power_iterations must be an integer of at least 1, received {power_iterations!r}."
                " It is how often a training call updates u; 1 is the default."
            )
        super().__init__(layer, **kwargs)
        self.power_iterations = int(power_iterations)
        self.supports_masking = layer.supports_masking
        self.autocast = False  # the wrapped layer casts inputs and variables itself

    @property
    def compute_dtype(self) -> str:
        """The dtype of the variables.

        With a dtype of its own Keras would cast the kernel before it is measured.
        """
        return str(self.variable_dtype)

    def build(self, input_shape: Sequence[int | None]) -> None:
        """Builds the layer where it is not, and makes u, `(channels,)`, of random direction."""
        super().build(input_shape)
        self.input_spec = self.layer.input_spec
        self.u = self.add_weight(
            name="u",
            shape=(self._kernel().shape[self._channels()],),
            initializer=random_direction,
            dtype="float64" if self.layer.variable_dtype == "float64" else "float32",
            trainable=False,
            autocast=False,
        )

    def call(self, inputs: Tensor, training: bool | None = None) -> Tensor:
        """Applies the layer with the normalized kernel; see the class."""
        kernel = self._kernel()
        learns = bool(training and self.trainable and self.layer.trainable)
        iterations = self.power_iterations if learns else 0
        normalized, u = divided(kernel.value, self.u.value, iterations, self._channels())
        # This scope hides the one around it, of JAX's trainer for instance: it needs all values.
        values = [(variable, variable.value) for variable in self.layer.variables]
        with keras.StatelessScope(collect_losses=True, initialize_variables=False) as scope:
            for variable, value in values:
                # Not as `state_mapping`, which Keras 3.15 casts to floatx where autocast is off.
                scope.add_update((variable, normalized if variable is kernel else value))
            outputs = self.layer(inputs, training=training)
        for variable, value in values:
            new = scope.get_current_value(variable)
            if variable is not kernel and new is not value:
                variable.assign(new)
        for loss in scope.losses:
            self.layer.add_loss(loss)
        if learns:
            self.u.assign(u)
        return outputs

    def compute_output_shape(self, input_shape: Sequence[int | None]) -> Any:
        """The layer's."""
        return self.layer.compute_output_shape(input_shape)

    def compute_output_spec(self, *args: Any, **kwargs: Any) -> Any:
        """Shape and dtype, from a trace: Keras would give the outputs this wrapper's dtype."""
        return keras.Operation.compute_output_spec(self, *args, **kwargs)

    def compute_mask(self, inputs: Tensor, previous_mask: Tensor | None = None) -> Any:
        """The layer's."""
        return self.layer.compute_mask(inputs, previous_mask)

    def get_config(self) -> dict[str, Any]:
        """The layer's configuration, the number of iterations, and Keras's."""
        return {**super().get_config(), "power_iterations": self.power_iterations}

    def __repr__(self) -> str:
        """Keras's, and the arguments."""
        return layer_text(self, {"layer": self.layer, "power_iterations": self.power_iterations})

    def _kernel(self) -> Variable:
        kernel = getattr(self.layer, "kernel", None)
        if kernel is None:
            kernel = getattr(self.layer, "embeddings", None)
        reason = "which has no kernel and no embeddings"
        if kernel is not None:
            dtype = keras.backend.standardize_dtype(getattr(kernel, "value", kernel).dtype)
            if isinstance(kernel, keras.Variable) and keras.backend.is_float_dtype(dtype):
                return kernel
            reason = f"whose kernel is a {type(kernel).__name__} of {dtype}"
        raise ValueError(
            f"SpectralNormalization received the layer {self.layer.name!r} of type "
            f"{type(self.layer).__name__}, {reason}: it divides a floating point keras.Variable of "
            "that name, such as that of Dense, Conv2D or Embedding without LoRA or quantization."
        )

    def _channels(self) -> int:
        """The axis of the kernel that holds the output channels."""
        return -2 if isinstance(self.layer, _TRANSPOSED) else -1


def random_direction(shape: Sequence[int], dtype: Any = None) -> Tensor:
    """Draws a vector of length 1, as an initializer of u."""
    return _unit(keras.initializers.RandomNormal(stddev=1.0)(shape, dtype=dtype))


def divided(
    kernel: Tensor, u: Tensor, iterations: int, channels: int = -1
) -> tuple[Tensor, Tensor]:
    """Divides a kernel by its largest singular value, as the power iteration estimates it.

    Args:
        kernel: a matrix, or more axes that are taken for rows.
        u: a vector over the output channels.
        iterations: updates of u beforehand.
        channels: the axis of the output channels, -1 or -2.

    Returns:
        The kernel divided by sigma, in its dtype, and the new u.
    """
    wide = ops.cast(kernel, u.dtype)
    # Reshaped first: `moveaxis` refuses TensorFlow's variables, which `cast` may return.
    matrix = ops.reshape(wide, (-1, *wide.shape[-2:]))
    matrix = ops.moveaxis(matrix, channels, -1)
    matrix = ops.reshape(matrix, (-1, matrix.shape[-1]))
    # Both are new tensors outside of any graph, u too where it is not updated: PyTorch keeps
    # them for gradients, and a later call writes into the variable.
    u = snapshot({"u": u}, iterations > 0)["u"]
    fixed, u = ops.stop_gradient(matrix), ops.stop_gradient(u)
    u = _unit(u, u)
    v = _unit(_times(fixed, u))
    for step in range(iterations):
        v = _unit(_times(fixed, u)) if step else v
        u = _unit(_times(ops.transpose(fixed), v), u)
    sigma = ops.sum(v * _times(matrix, u))
    return ops.cast(wide / ops.where(sigma == 0, 1.0, sigma), kernel.dtype), u


def _times(matrix: Tensor, vector: Tensor) -> Tensor:
    """Multiplies exactly: `matmul` rounds to TF32 on a GPU, and float64 to float32 on PyTorch."""
    return ops.sum(matrix * vector, axis=1)


def _unit(vector: Tensor, otherwise: Tensor | float = 0.0) -> Tensor:
    """The vector divided by its length; `otherwise` where it has no direction, being 0 or NaN."""
    # The squares of small numbers would be 0, and those of large ones infinite.
    # Not `ops.max`, which torch.compile cannot read (Keras 3.15).
    largest = ops.amax(ops.abs(vector))
    vector = vector / ops.where(largest > 0, largest, 1.0)
    length = ops.sqrt(ops.sum(ops.square(vector)))
    usable = length > 0
    return ops.where(usable, vector / ops.where(usable, length, 1.0), otherwise)
