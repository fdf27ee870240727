"""`repr` of layers, of what fills their slots and of schedules: readable, without addresses."""

import functools
import warnings
from typing import Any

import keras
import numpy as np
import pytest

from batchnorm import (
    BasicBlock,
    BatchNormalization,
    ConditionalBatchNormalization,
    ConditionalResidualBlock,
    Cumulative,
    Exponential,
    FromEmbedding,
    Ghost,
    GhostBatchNormalization,
    Given,
    PerClass,
    Ramp,
    Renorm,
    ResidualBlock,
    SpectralNormalization,
    ZeroDebiased,
)
from batchnorm.slots.old_renorm import OldRenorm
from batchnorm.slots.representation import text

COSINE = keras.optimizers.schedules.CosineDecay(0.9, 100)


def doubled(shape: Any) -> tuple[float, float]:
    return 2.0, 0.0


VALUES: list[tuple[Any, str]] = [
    (Ghost(32), "Ghost(size=32, strided=False)"),
    (Ramp(1.0, 3.0, 5, 10), "Ramp(first=1.0, last=3.0, begin=5, end=10)"),
    (
        Renorm(rmax=Ramp(1.0, 3.0, 5, 10), dmax=5.0),
        "Renorm(rmin=None, rmax=Ramp(first=1.0, last=3.0, begin=5, end=10), dmax=5.0, "
        "momentum=0.99)",
    ),
    (OldRenorm(rmax=2.0), "OldRenorm(rmin=None, rmax=2.0, dmax=None, momentum=0.99)"),
    (
        Exponential(COSINE),
        "Exponential(momentum=CosineDecay(initial_learning_rate=0.9, decay_steps=100), "
        "unbiased=False)",
    ),
    (ZeroDebiased(0.9), "ZeroDebiased(momentum=0.9, unbiased=False, variance=True)"),
    (Cumulative(), "Cumulative(unbiased=False)"),
    (PerClass(10), "PerClass(classes=10)"),
    (Given(), "Given()"),
    (
        FromEmbedding(initializer=keras.initializers.Orthogonal(0.5)),
        "FromEmbedding(units=None, offset=1.0, initializer=Orthogonal(gain=0.5), bias=False, "
        "spectral_normalization=False)",
    ),
]


@pytest.mark.parametrize(("value", "expected"), VALUES, ids=str)
def test_values_of_slots(value: Any, expected: str) -> None:
    assert repr(value) == str(value) == expected


LAYERS: list[tuple[dict[str, Any], str]] = [
    ({}, ""),
    ({"epsilon": 1e-3, "renorm": False, "momentum": 0.99, "gamma_initializer": "ones"}, ""),
    ({"statistics": Ghost(32)}, ", statistics=Ghost(size=32, strided=False)"),
    ({"axis": (1, 3), "momentum": COSINE}, f", axis=(1, 3), momentum={text(COSINE)}"),
    ({"renorm": True}, ", renorm=True"),
    (
        {"renorm": True, "renorm_clipping": {"rmax": 3.0}},
        ", renorm=True, renorm_clipping={'rmax': 3.0}",
    ),
    ({"moving": Cumulative()}, ", moving=Cumulative(unbiased=False)"),
    ({"center": False, "epsilon": 1e-5}, ", epsilon=1e-05, center=False"),
    ({"affine": Given()}, ", affine=Given()"),
    (
        {"gamma_initializer": keras.initializers.Constant(2.0)},
        ", gamma_initializer=Constant(value=2.0)",
    ),
    ({"beta_regularizer": keras.regularizers.L2(0.5)}, ", beta_regularizer=L2(l2=0.5)"),
    ({"gamma_constraint": "non_neg"}, ", gamma_constraint=NonNeg()"),
    ({"adjustment": doubled, "activation": "relu"}, ", adjustment=doubled, activation=relu"),
    ({"dtype": "mixed_float16", "trainable": False}, ", trainable=False, dtype='mixed_float16'"),
]


@pytest.mark.parametrize(("options", "expected"), LAYERS)
def test_layers(options: dict[str, Any], expected: str) -> None:
    layer = BatchNormalization(**options, name="layer")
    assert repr(layer) == str(layer)
    assert repr(layer).startswith(f"<BatchNormalization name=layer{expected}")
    if not expected:
        assert repr(layer) == "<BatchNormalization name=layer, built=False>"
        layer(np.ones((2, 3), "float32"))
        assert repr(layer) == "<BatchNormalization name=layer, built=True>"


def test_what_has_no_configuration() -> None:
    """A lambda, about which Keras would warn, and a partial function, which shows an address."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        functions: list[Any] = [lambda shape: (1.0, 0.0), functools.partial(doubled)]
        for function in functions:
            shown = repr(BatchNormalization(adjustment=function))
            assert "adjustment=" in shown and " at 0x" not in shown


def test_recipes_blocks_and_spectral_normalization() -> None:
    ghost = "statistics=Ghost(size=4, strided=False)"
    dense = keras.layers.Dense(3, name="dense")
    block = ResidualBlock(8, lambda: GhostBatchNormalization(4), name="b")
    layers: list[tuple[Any, str]] = [
        (
            GhostBatchNormalization(4, name="g"),
            f"<BatchNormalization name=g, {ghost}, built=False>",
        ),
        (
            ConditionalBatchNormalization(7, name="c"),
            "<ConditionalBatchNormalization name=c, affine=PerClass(classes=7), built=False>",
        ),
        (
            SpectralNormalization(dense, name="s"),
            f"<SpectralNormalization name=s, layer={dense}, power_iterations=1, built=False>",
        ),
        (
            block,
            f"<ResidualBlock name=b, filters=8, normalization=BatchNormalization({ghost}), "
            "built=False>",
        ),
        (
            ConditionalResidualBlock(8, 7, name="b"),
            "<ConditionalResidualBlock name=b, filters=8, "
            "normalization=ConditionalBatchNormalization(classes=7), built=False>",
        ),
        (
            BasicBlock(8, normalization=None, name="b"),
            "<BasicBlock name=b, filters=8, normalization=None, built=False>",
        ),
    ]
    for layer, expected in layers:
        assert repr(layer) == expected


def test_containers() -> None:
    value = {"a": [COSINE, 1.0], "b": (None,), "c": (), "d": (1, "x")}
    assert text(value) == f"{{'a': [{text(COSINE)}, 1.0], 'b': (None,), 'c': (), 'd': (1, 'x')}}"
