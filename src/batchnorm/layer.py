"""`BatchNormalization`: Keras's layer with every stage replaced; it keeps state and config."""

import functools
import inspect
from collections.abc import Callable, Sequence
from numbers import Real
from typing import Any

import keras

from batchnorm import variables
from batchnorm.functional import batch_norm, check_epsilon
from batchnorm.scale_and_shift import scale_and_shift
from batchnorm.slots import arguments, combinations
from batchnorm.slots import old_renorm as old_renorm  # registers its class for files
from batchnorm.slots.condition import FromCondition, Given
from batchnorm.slots.ghost import Ghost
from batchnorm.slots.moving import Exponential, Moving
from batchnorm.slots.renorm import Renorm
from batchnorm.slots.representation import changed, layer_text
from batchnorm.slots.slot import deserialized, slot_value
from batchnorm.stages.adjustment import Adjustment
from batchnorm.stages.labels import refuse_wide
from batchnorm.stages.plan import channel_axes, moments_dtype, plan_of
from batchnorm.stages.tensors import cast, dtype_name

Tensor = Any


@keras.saving.register_keras_serializable(package="batchnorm")
class BatchNormalization(keras.layers.BatchNormalization):
    """Batch normalization, with Keras's arguments, weights and files.

    y = (x - mean) / sqrt(variance + epsilon) * gamma + beta

    with the batch's mean and (biased) variance where `training=True`, and the moving ones
    elsewhere and where `trainable=False`. All arguments that are not listed are those of
    `keras.layers.BatchNormalization`, with the same defaults.

    Args:
        axis: the channel axis: -1 for channels last, 1 for channels first; or several axes that
            keep statistics of their own, such as `(1, 3)`.
        momentum: what a step keeps of the moving statistics, in [0, 1), or a schedule as in
            `Exponential`; not used beside `moving`.
        epsilon: added to the variance under the root, in units of the input squared; at least 0.
        renorm: batch renormalization: `True` for Keras's, with `renorm_clipping` and
            `renorm_momentum`, or `Renorm(...)`, whose limits may be schedules.
        statistics: how a batch is measured: `None` for whole, `Ghost(size)` for groups of samples.
        moving: how the moving statistics follow the batches': `Exponential(momentum)`, which is
            the default, `ZeroDebiased(momentum)` or `Cumulative()`.
        adjustment: in training, a function from the shape of the inputs to a pair (scale, shift),
            each as for `Given`, that come after renorm and before gamma and beta. If it takes a
            `seed`, that is a `keras.random.SeedGenerator` of the layer's.
        affine: `None` for gamma and beta; `PerClass(n)`, `FromEmbedding()` or `Given()` for a scale
            and a shift that depend on the condition of a call.
        activation: what is done in the end: whatever `keras.activations.get` takes.
        **kwargs: those of `keras.layers.Layer`, such as `name` and `dtype`. Weights and moving
            statistics are never half precision: with `dtype="float16"` they are float32.

    Call arguments:
        inputs: `(N, ..., C)`, or with the channels at `axis`; any rank.
        training: whether to use and to record the statistics of this batch.
        mask: elements that count in the statistics: boolean, or weights like `sample_weight`, of
            any shape that broadcasts against the inputs without their channel axis: `(N,)`,
            `(N, ...)`. Masks that Keras propagates are taken.
        sample_weight: how often each element counts in the statistics, at least 0, of such shapes.
            With a mask the two multiply.
        condition: what `affine` makes scale and shift of: labels for `PerClass`, vectors for
            `FromEmbedding`, the pair (scale, shift) itself for `Given`.

    Returns:
        y, shaped like the inputs, in the layer's compute dtype.

    Raises:
        ValueError: an argument is out of range, has no meaning beside another one or goes by
            another name here; `synchronized=True` without TensorFlow; inputs without a static
            number of channels, complex ones; weights that do not fit or are negative, masks above
            1; a condition that is missing, that nothing asks for, or that `affine` cannot use.
        TypeError: an argument of a call is unknown.

    Example:
        >>> import keras, numpy as np
        >>> layer = BatchNormalization(epsilon=0.0)
        >>> y = layer(np.array([[1.0], [3.0]]), training=True)
        >>> keras.ops.convert_to_numpy(y).tolist()
        [[-1.0], [1.0]]

    References:
        Ioffe and Szegedy 2015, arXiv:1502.03167, Algorithms 1 and 2; with `renorm`
        Ioffe 2017, arXiv:1702.03275, Algorithm 1.
    """

    autocast: bool

    def __init__(
        self,
        axis: int | Sequence[int] = -1,
        momentum: Any = 0.99,
        epsilon: float = 1e-3,
        center: bool = True,
        scale: bool = True,
        beta_initializer: Any = "zeros",
        gamma_initializer: Any = "ones",
        moving_mean_initializer: Any = "zeros",
        moving_variance_initializer: Any = "ones",
        beta_regularizer: Any = None,
        gamma_regularizer: Any = None,
        beta_constraint: Any = None,
        gamma_constraint: Any = None,
        renorm: bool | Renorm = False,
        renorm_clipping: dict[str, float] | None = None,
        renorm_momentum: float = 0.99,
        synchronized: bool = False,
        statistics: Ghost | None = None,
        moving: Moving | None = None,
        adjustment: Adjustment | None = None,
        affine: FromCondition | None = None,
        activation: Any = None,
        **kwargs: Any,
    ) -> None:
        arguments.refuse_unfamiliar(type(self).__name__, kwargs, _DEFAULTS.keys() | _KERAS)
        axis, momentum, renorm = channel_axes(axis), deserialized(momentum), deserialized(renorm)
        center, scale = arguments.flag("center", center), arguments.flag("scale", scale)
        synchronized = arguments.flag("synchronized", synchronized)
        statistics = slot_value("statistics", statistics, Ghost, "Ghost(32)")
        moving = slot_value("moving", moving, Moving, "ZeroDebiased(0.9)")
        arguments.refuse_affine(affine)
        affine = slot_value("affine", affine, FromCondition, "PerClass(10)")
        if not isinstance(renorm, bool):
            renorm = slot_value("renorm", renorm, Renorm, "Renorm(rmax=3, dmax=5), True") or False
        values = locals()  # the arguments, checked
        combinations.check(values, {n for n in _DEFAULTS if values[n] != _DEFAULTS[n]})
        Exponential(momentum)  # refuses what is out of range
        if renorm is True:
            Renorm.from_clipping(renorm_clipping, renorm_momentum)  # likewise
        super().__init__(
            epsilon=check_epsilon(epsilon),
            center=center and not isinstance(affine, Given),
            scale=scale and not isinstance(affine, Given),
            beta_initializer=beta_initializer,
            gamma_initializer=gamma_initializer,
            moving_mean_initializer=moving_mean_initializer,
            moving_variance_initializer=moving_variance_initializer,
            beta_regularizer=beta_regularizer,
            gamma_regularizer=gamma_regularizer,
            beta_constraint=beta_constraint,
            gamma_constraint=gamma_constraint,
            renorm=bool(renorm),
            renorm_clipping=renorm_clipping,
            renorm_momentum=renorm_momentum,
            synchronized=synchronized,
            **kwargs,
        )
        # Keras's constructor would refuse these values. tf.keras saved even one axis as a list.
        self.axis = axis if isinstance(axis, int) or len(axis) > 1 else axis[0]
        self.momentum = float(momentum) if isinstance(momentum, Real) else momentum
        self.renorm = renorm
        self.statistics, self.moving, self.affine = statistics, moving, affine
        self.adjustment = slot_value("adjustment", adjustment, Callable, "lambda shape: (2.0, 0.0)")
        seeded = adjustment and "seed" in inspect.signature(self.adjustment).parameters
        self.seed_generator = keras.random.SeedGenerator() if seeded else None
        self.activation = None if activation is None else keras.activations.get(activation)
        # Keras would make half precision of weights and conditions too.
        self.casts, self.autocast = self.autocast, False

    def __call__(self, *inputs: Any, **options: Any) -> Any:
        """Calls the layer as Keras does; refuses arguments by the name that they have here."""
        if inputs:
            arguments.refuse_inputs(inputs[0])
        if len(inputs) > 1:
            place = self.call_signature_parameters.index("training")
            arguments.refuse_training(inputs[place] if len(inputs) > place else None)
        for name in options:
            if name not in self.call_signature_parameters:
                arguments.refuse_call(options, self.call_signature_parameters)
        for value in inputs[1:]:
            refuse_wide(value)
        if options.get("condition") is not None:
            refuse_wide(options["condition"])
            dtype = moments_dtype(self.variable_dtype)
            options["condition"] = arguments.with_tensors(options["condition"], dtype)
        return super().__call__(*inputs, **options)

    def build(self, inputs_shape: Sequence[int | None], condition_shape: Any = None) -> None:
        """Creates gamma, beta, moving_mean and moving_variance in this order, then the slots' own.

        Each is `(C,)`; for several axes it has the rank of the inputs, and 1 on all other axes.
        With `affine=` gamma and beta have rows of this shape.
        """
        plan = plan_of(inputs_shape, self.axis, self.compute_dtype)
        combinations.check({**vars(self), "axis": plan.axis}, set())  # an axis from the end is 0
        axes = (self.axis,) if isinstance(self.axis, int) else self.axis
        sizes = {axis: inputs_shape[axis] for axis in axes}
        if None in sizes.values():
            raise ValueError(
                f"BatchNormalization needs to know the number of channels, axis {self.axis} of "
                f"{tuple(inputs_shape)}: give that axis a size in keras.Input, or choose another."
            )
        rows = None if self.affine is None else self.affine.rows(condition_shape)
        rules = variables.rules_of(self)
        shape = plan.parameter_shape
        variables.create_variables(self, shape, rules.moving, rules.renorm, rows)
        self.input_spec = keras.InputSpec(ndim=len(inputs_shape), axes=sizes)

    def call(
        self,
        inputs: Tensor,
        training: bool | None = None,
        mask: Tensor | None = None,
        sample_weight: Tensor | None = None,
        condition: Any = None,
    ) -> Tensor:
        """Normalizes the inputs; see the class."""
        arguments.refuse_training(training)
        if mask is None:  # Keras hands it on to layers with one tensor argument alone
            mask = getattr(inputs, "_keras_mask", None)
        dtype = dtype_name(inputs.dtype)
        if dtype != self.compute_dtype and (
            (self.compute_dtype == "float64" and keras.backend.is_int_dtype(dtype))
            or (self.casts and keras.backend.is_float_dtype(dtype))
        ):
            inputs = cast(inputs, self.compute_dtype)
        training = bool(training and self.trainable)
        if self.affine is None and condition is None:
            gamma, beta = self.gamma, self.beta
        else:
            gamma, beta = scale_and_shift(self, inputs, condition, training)
        rules = variables.rules_of(self)
        state = variables.state_variables(self, rules.names)
        y, advanced = batch_norm(
            inputs,
            state,
            gamma,
            beta,
            training=training,
            axis=self.axis,
            epsilon=self.epsilon,
            statistics=self.statistics,
            moving=rules.moving,
            renorm=rules.renorm,
            adjustment=self.adjustment if self.seed_generator is None else self._seeded_adjustment,
            activation=self.activation,
            mask=mask,
            sample_weight=sample_weight,
            synchronized=self.synchronized,
        )
        if training:
            for name, variable in state.items():
                variable.assign(advanced[name])
        return cast(y, self.compute_dtype)

    def get_config(self) -> dict[str, Any]:
        """Returns Keras's configuration, with the slots that are used."""
        config: dict[str, Any] = super().get_config()
        serialize = keras.saving.serialize_keras_object
        if not isinstance(self.axis, int):
            config["axis"] = list(self.axis)
        config["momentum"] = serialize(self.momentum)
        config["renorm"] = serialize(self.renorm)
        for name in ("statistics", "moving", "adjustment", "affine"):
            if (value := getattr(self, name)) is not None:
                config[name] = serialize(value)
        if self.activation is not None:
            config["activation"] = keras.activations.serialize(self.activation)
        # What a slot replaces is refused beside it.
        for name in combinations.replaced(vars(self)):
            del config[name]
        return config

    def load_own_variables(self, store: Any) -> None:
        """Loads a file's variables; a missing state of renorm is computed from the others.

        Keras's own would refuse a file of plain batch normalization.
        """
        if not variables.load_plain(self, store):
            super().load_own_variables(store)

    def __repr__(self) -> str:
        """Returns Keras's text, with the arguments that are not at their defaults."""
        hidden = combinations.replaced(vars(self))
        return layer_text(self, changed(self, _plain(), [n for n in _DEFAULTS if n not in hidden]))

    def _seeded_adjustment(self, shape: Sequence[Tensor]) -> Any:
        return self.adjustment(shape, seed=self.seed_generator)


_DEFAULTS = {
    name: parameter.default
    for name, parameter in inspect.signature(BatchNormalization).parameters.items()
    if parameter.default is not parameter.empty
}
_KERAS = ("name", "dtype", "trainable", "autocast", "activity_regularizer", "input_shape")


@functools.cache
def _plain() -> BatchNormalization:
    return BatchNormalization(name="plain")
