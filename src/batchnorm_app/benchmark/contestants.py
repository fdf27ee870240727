"""The layers that each benchmark variant compares."""

from collections.abc import Callable
from typing import Any, NamedTuple

import keras

from batchnorm.layer import BatchNormalization
from batchnorm.slots.condition import PerClass
from batchnorm.slots.ghost import Ghost
from batchnorm_app.benchmark.inputs import CLASSES, EPSILON, MOMENTUM, Array, Inputs
from batchnorm_app.benchmark.published import MomentsThenGather, NormalizedThenGain
from batchnorm_app.benchmark.runners import CallArguments, Runner

OURS, PLAIN, KERAS = "batchnorm", "batchnorm plain", "Keras"
GATHER, GAIN = "moments+gather", "Keras+gain"


class Contestant(NamedTuple):
    """One implementation that a case measures.

    Attributes:
        target: the object that the backend's runner calls.
        arguments: of the layer's call, beside x.
    """

    target: Any
    arguments: CallArguments


class _Entry(NamedTuple):
    """A layer, not yet built, and the arguments of its call beside x."""

    layer: keras.layers.Layer
    arguments: dict[str, Array] = {}


def contestants(runner: Runner, variant: str, inputs: Inputs) -> dict[str, Contestant]:
    """Returns the contestants of a variant by name, ours first.

    Args:
        runner: the backend's.
        variant: of `VARIANTS`.
        inputs: give the shape, and the initial values of gamma and beta.

    Returns:
        The contestants, without the framework's own layer where it is not installed.
    """
    by_name = {
        name: Contestant(
            runner.from_layer(_built(entry.layer, inputs)),
            {key: runner.tensor(value) for key, value in entry.arguments.items()},
        )
        for name, entry in _ENTRIES[variant](inputs).items()
    }
    if variant == "plain":
        try:
            by_name[runner.NATIVE] = Contestant(runner.native(inputs), {})
        except ImportError:
            pass
    return by_name


def _plain(inputs: Inputs) -> dict[str, _Entry]:
    return {OURS: _Entry(_ours()), KERAS: _Entry(_keras())}


def _conditional(inputs: Inputs) -> dict[str, _Entry]:
    labels = {"condition": inputs.labels}
    return {
        OURS: _Entry(_ours(affine=PerClass(CLASSES)), labels),
        PLAIN: _Entry(_ours()),
        GATHER: _Entry(MomentsThenGather(CLASSES), labels),
        GAIN: _Entry(NormalizedThenGain(CLASSES), labels),
    }


def _weighted(inputs: Inputs) -> dict[str, _Entry]:
    return {
        OURS: _Entry(_ours(), {"sample_weight": inputs.weights}),
        PLAIN: _Entry(_ours()),
        KERAS: _Entry(_keras(), {"mask": inputs.mask}),
    }


def _renorm(inputs: Inputs) -> dict[str, _Entry]:
    return {
        OURS: _Entry(_ours(renorm=True)),
        PLAIN: _Entry(_ours()),
        KERAS: _Entry(_keras(renorm=True)),
    }


def _ghost(inputs: Inputs) -> dict[str, _Entry]:
    return {OURS: _Entry(_ours(statistics=Ghost(inputs.group))), PLAIN: _Entry(_ours())}


_ENTRIES: dict[str, Callable[[Inputs], dict[str, _Entry]]] = {
    "plain": _plain,
    "conditional": _conditional,
    "weighted": _weighted,
    "renorm": _renorm,
    "ghost": _ghost,
}


def _ours(**options: Any) -> keras.layers.Layer:
    return BatchNormalization(momentum=MOMENTUM, epsilon=EPSILON, **options)


def _keras(**options: Any) -> keras.layers.Layer:
    return keras.layers.BatchNormalization(momentum=MOMENTUM, epsilon=EPSILON, **options)


def _built(layer: keras.layers.Layer, inputs: Inputs) -> keras.layers.Layer:
    layer.build(inputs.shape)
    for variable, rows in ((layer.gamma, inputs.gamma), (layer.beta, inputs.beta)):
        variable.assign(rows if len(variable.shape) == 2 else rows[0])
    return layer
