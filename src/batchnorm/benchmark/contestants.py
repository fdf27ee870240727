"""Who takes part in which variant."""

from collections.abc import Callable
from typing import Any, NamedTuple

import keras

from batchnorm.benchmark.inputs import CLASSES, EPSILON, MOMENTUM, Array, Inputs
from batchnorm.benchmark.published import MomentsThenGather, NormalizedThenGain
from batchnorm.benchmark.runners import Given, Runner
from batchnorm.condition import PerClass
from batchnorm.ghost import Ghost
from batchnorm.layer import BatchNormalization

OURS, PLAIN, KERAS = "batchnorm", "batchnorm plain", "Keras"
GATHER, GAIN = "moments+gather", "Keras+gain"


class Contestant(NamedTuple):
    """One way to do the work of a case.

    Attributes:
        runs: what the backend's runner calls.
        given: arguments of the layer's call beside x.
    """

    runs: Any
    given: Given


class _Entry(NamedTuple):
    """A layer, not yet built, and what it is called with."""

    layer: keras.layers.Layer
    given: dict[str, Array] = {}


def contestants(runner: Runner, variant: str, inputs: Inputs) -> dict[str, Contestant]:
    """The contestants of a variant by name, ours first.

    Args:
        runner: the backend's.
        variant: of `VARIANTS`.
        inputs: say the shape, and what is trained begins with their gamma and beta.

    Returns:
        The contestants, without the framework's own where it is not installed.
    """
    found = {
        name: Contestant(
            runner.of_layer(_built(entry.layer, inputs)),
            {key: runner.tensor(value) for key, value in entry.given.items()},
        )
        for name, entry in _ENTRIES[variant](inputs).items()
    }
    if variant == "plain":
        try:
            found[runner.OWN] = Contestant(runner.own(inputs), {})
        except ImportError:
            pass
    return found


def _plain(inputs: Inputs) -> dict[str, _Entry]:
    return {OURS: _Entry(_ours()), KERAS: _Entry(_keras())}


def _conditional(inputs: Inputs) -> dict[str, _Entry]:
    given = {"condition": inputs.labels}
    return {
        OURS: _Entry(_ours(affine=PerClass(CLASSES)), given),
        PLAIN: _Entry(_ours()),
        GATHER: _Entry(MomentsThenGather(CLASSES), given),
        GAIN: _Entry(NormalizedThenGain(CLASSES), given),
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
