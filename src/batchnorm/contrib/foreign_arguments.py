"""Arguments of other libraries' layers, and contrib's names for them."""

from collections.abc import Collection
from difflib import get_close_matches
from typing import NamedTuple


class Counterpart(NamedTuple):
    """The counterpart of an argument of another library.

    Attributes:
        arguments: names here, of which a function has one at most; empty if there is none.
        note: a remark beside the name, as a sentence.
    """

    arguments: tuple[str, ...] = ()
    note: str = ""


_INITIALIZERS = "It is a dictionary, such as {'beta': ..., 'gamma': ...}."
_AXIS = "It is 'NHWC' for the last axis and 'NCHW' for axis 1."
_CONSTRAINT = "contrib had no constraints; the layers of Keras have."
_AFFINE = "scale=True, center=True is a gamma and a beta."

# Arguments of tf.layers and Keras, then PyTorch, Flax and Sonnet, then of functions people write.
COUNTERPARTS = {
    "momentum": Counterpart(("decay",), "PyTorch's momentum is 1 - decay, Keras's is decay."),
    "axis": Counterpart(("data_format",), _AXIS),
    "activation": Counterpart(("activation_fn",)),
    "name": Counterpart(("scope",)),
    "training": Counterpart(("is_training",)),
    "renorm_momentum": Counterpart(("renorm_decay",)),
    "beta_initializer": Counterpart(("param_initializers",), _INITIALIZERS),
    "gamma_initializer": Counterpart(("param_initializers",), _INITIALIZERS),
    "moving_mean_initializer": Counterpart(("param_initializers",), _INITIALIZERS),
    "moving_variance_initializer": Counterpart(("param_initializers",), _INITIALIZERS),
    "beta_regularizer": Counterpart(("param_regularizers",), _INITIALIZERS),
    "gamma_regularizer": Counterpart(("param_regularizers",), _INITIALIZERS),
    "sample_weight": Counterpart(("batch_weights",), "It is a weight for each example."),
    "mask": Counterpart(("batch_weights",), "It is a weight for each example."),
    "virtual_batch_size": Counterpart(
        note="contrib had no virtual batches; the layer of tf.layers that had them is "
        "batchnorm.BatchNormalization(statistics=Ghost(size, strided=True))."
    ),
    "mode": Counterpart(
        note="Keras 1's mode=0 is what happens without it; mode=1 is "
        "keras.layers.LayerNormalization; mode=2 is training by the batch's statistics always."
    ),
    "synchronized": Counterpart(
        note="contrib normalized each replica by itself; "
        "batchnorm.BatchNormalization(synchronized=True) is one for all replicas."
    ),
    "beta_constraint": Counterpart(note=_CONSTRAINT),
    "gamma_constraint": Counterpart(note=_CONSTRAINT),
    "kernel_constraint": Counterpart(note=_CONSTRAINT),
    "bias_constraint": Counterpart(note=_CONSTRAINT),
    "activity_regularizer": Counterpart(
        note="Add the loss yourself: tf.losses.add_loss(regularizer(outputs))."
    ),
    "groups": Counterpart(note="contrib's convolutions had one group; tf.nn.conv2d has several."),
    "filters": Counterpart(("num_outputs",)),
    "units": Counterpart(("num_outputs",)),
    "strides": Counterpart(("stride",)),
    "dilation_rate": Counterpart(("rate",)),
    "kernel_initializer": Counterpart(("weights_initializer",)),
    "kernel_regularizer": Counterpart(("weights_regularizer",)),
    "bias_initializer": Counterpart(("biases_initializer",)),
    "bias_regularizer": Counterpart(("biases_regularizer",)),
    "use_bias": Counterpart(("biases_initializer",), "None is no biases."),
    "eps": Counterpart(("epsilon",)),
    "variance_epsilon": Counterpart(("epsilon",)),
    "affine": Counterpart(("scale",), _AFFINE),
    "use_scale": Counterpart(("scale",)),
    "create_scale": Counterpart(("scale",)),
    "create_offset": Counterpart(("center",)),
    "decay_rate": Counterpart(("decay",)),
    "use_running_average": Counterpart(("is_training",), "It is the opposite."),
    "num_features": Counterpart(note="The inputs' channels tell it."),
    "track_running_stats": Counterpart(
        note="The moving statistics are always kept; is_training says when they are used."
    ),
    "in_channels": Counterpart(note="The inputs' channels tell it."),
    "out_channels": Counterpart(("num_outputs",)),
    "dilation": Counterpart(("rate",)),
    "bias": Counterpart(("biases_initializer",), "None is no biases."),
    "x": Counterpart(("inputs",)),
    "input": Counterpart(("inputs",)),
    "input_tensor": Counterpart(("inputs",)),
    "is_train": Counterpart(("is_training",)),
    "train": Counterpart(("is_training",)),
    "phase": Counterpart(("is_training",)),
    "phase_train": Counterpart(("is_training",)),
    "ksize": Counterpart(("kernel_size",)),
    "num_filters": Counterpart(("num_outputs",)),
    "num_units": Counterpart(("num_outputs",)),
}


def hint(name: str, arguments: Collection[str]) -> str:
    """Returns a hint to the argument that a function takes instead of an unknown one.

    Args:
        name: of the argument that was passed.
        arguments: the function's, in order.

    Returns:
        One or two sentences: the counterpart, or the closest name, or all names.

    Example:
        >>> hint("eps", ["inputs", "decay", "epsilon"])
        "It is called 'epsilon' here."
        >>> hint("epsilom", ["inputs", "decay", "epsilon"])
        "Did you mean 'epsilon'?"
    """
    counterpart = COUNTERPARTS.get(name, Counterpart())
    texts = [f"It is called {own!r} here." for own in counterpart.arguments if own in arguments]
    if counterpart.note and (texts or not counterpart.arguments):
        texts.append(counterpart.note)
    if not texts and (close := get_close_matches(name, list(arguments), n=1)):
        texts.append(f"Did you mean {close[0]!r}?")
    return " ".join(texts) or f"It takes {', '.join(arguments)}."
