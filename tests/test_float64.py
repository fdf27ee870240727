"""Float64 in every slot: numbers, schedules and sums of float32 would show at the eighth digit."""

from typing import Any

import keras
import numpy as np
import pytest

from batchnorm import (
    BatchNormalization,
    Cumulative,
    Exponential,
    FromEmbedding,
    Ghost,
    Given,
    PerClass,
    Ramp,
    Renorm,
    ZeroDebiased,
    batch_norm,
)
from tests import oracle
from tests.calling import called
from tests.compare import assert_close
from tests.differentiate import Array, precision, tensors, to_numpy

DRAW = np.random.default_rng(0)
SHAPE = (6, 5, 3)
X = DRAW.normal(1.7, 0.9, SHAPE)
NAMES = ("moving_mean", "moving_variance", "moving_stddev", "renorm_mean", "renorm_stddev")
STATE = {name: DRAW.uniform(0.7, 1.9, 3) for name in NAMES}
WEIGHTS = DRAW.uniform(0.1, 1.1, SHAPE[:2])
ROWS = DRAW.normal(size=(4, 3)), DRAW.normal(size=(4, 3))
LABELS = np.array([0, 3, 1, 1, 2, 0], "int32")
SHARES = DRAW.dirichlet(np.ones(4), 6)
VECTORS = DRAW.normal(size=(6, 4))
RAMP = Ramp(0.3, 0.9, begin=0, end=7)  # 0.3 + 0.6 * 2 / 7 at step 2
RAMPED = 0.3 + 0.6 * (2 / 7)

# What the layer is made with, and the same for the oracle.
SLOTS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "plain": ({}, {}),
    "epsilon": ({"epsilon": 0.0123}, {"epsilon": 0.0123}),
    "momentum": ({"momentum": 0.7}, {"rate": 1 - 0.7}),
    "a large rate": ({"momentum": 0.1}, {"rate": 1 - 0.1}),
    "unbiased": ({"moving": Exponential(0.7, unbiased=True)}, {"rate": 0.3, "unbiased": True}),
    "zero-debiased": ({"moving": ZeroDebiased(0.7)}, {"rate": 0.3 / (1 - 0.7**3)}),
    "cumulative": ({"moving": Cumulative()}, {"rate": 1 / 3}),
    "ramp": ({"momentum": RAMP}, {"rate": 1 - RAMPED}),
    "ghosts": ({"statistics": Ghost(2)}, {"ghost": (2, False)}),
    "ghosts of unequal size": ({"statistics": Ghost(4)}, {"ghost": (4, False)}),
    "strided ghosts": ({"statistics": Ghost(2, strided=True)}, {"ghost": (2, True)}),
    "renorm": (
        {"renorm": Renorm(0.8, 1.1, 0.3, momentum=0.7)},
        {"renorm": (0.8, 1.1, 0.3, 1 - 0.7)},
    ),
    "ghosts with renorm": (
        {"statistics": Ghost(2), "renorm": Renorm(None, 1.1, 0.3, momentum=0.7)},
        {"ghost": (2, False), "renorm": (1 / 1.1, 1.1, 0.3, 1 - 0.7)},
    ),
    "a ramp in renorm": (
        {"renorm": Renorm(rmin=RAMP, rmax=1.1, dmax=RAMP, momentum=RAMP)},
        {"renorm": (RAMPED, 1.1, RAMPED, 1 - RAMPED)},
    ),
    "adjustment": ({"adjustment": lambda shape: (1.3, -0.4)}, {"adjustment": (1.3, -0.4)}),
}
RATE = 1 - 0.99


def layer_of(options: dict[str, Any]) -> BatchNormalization:
    layer = BatchNormalization(dtype="float64", **options)
    layer.build(SHAPE)
    for variable in layer.non_trainable_variables:
        variable.assign(STATE.get(variable.name, 2))
    layer.gamma.assign(ROWS[0][0])
    layer.beta.assign(ROWS[1][0])
    return layer


@pytest.mark.parametrize("slot", SLOTS)
def test_slots(slot: str) -> None:
    options, same = SLOTS[slot]
    weights = WEIGHTS if "a" in slot.split() or "unbiased" in slot else None
    with precision("float64"):
        layer = layer_of(options)
        weighed = {} if weights is None else {"sample_weight": tensors([weights])[0]}
        y = called(layer, tensors([X])[0], **weighed)
        values = {v.name: to_numpy(v.value) for v in layer.non_trainable_variables}
    state = {name: value for name, value in STATE.items() if name in values}
    gamma, beta = (rows[0] for rows in ROWS)
    right = oracle.step(X, state, gamma, beta, **{"rate": RATE, "weights": weights, **same})
    assert y.dtype == "float64"
    assert_close(y, right.y, 1e-14)
    for name, value in right.state.items():
        assert_close(values[name], value, 1e-14)


def normalized(training: bool) -> Array:
    state = {name: STATE[name] for name in NAMES[:2]}
    return oracle.step(X, state, training=training).y


CONDITIONS: dict[str, Any] = {
    "labels": (PerClass(4), LABELS, *(rows[LABELS] for rows in ROWS)),
    "mixtures": (PerClass(4), SHARES, *(SHARES @ rows for rows in ROWS)),
    "vectors": (FromEmbedding(4, offset=0.3), VECTORS, 0.3 + VECTORS @ ROWS[0], VECTORS @ ROWS[1]),
    "numbers": (Given(), (1.3, -0.4), 1.3, -0.4),
    "given rows": (Given(), (VECTORS[:, :3], VECTORS[:, 1:]), VECTORS[:, :3], VECTORS[:, 1:]),
}


@pytest.mark.parametrize("name", CONDITIONS)
def test_conditions(name: str, training: bool = True) -> None:
    affine, condition, scale, shift = CONDITIONS[name]
    with precision("float64"):
        layer = BatchNormalization(dtype="float64", affine=affine)
        layer.build(SHAPE, None if name in ("numbers", "given rows") else np.shape(condition))
        for place, variable in enumerate(layer.trainable_variables):
            variable.assign(ROWS[place])
        for variable in NAMES[:2]:
            getattr(layer, variable).assign(STATE[variable])
        converted = condition
        if name != "numbers":
            pair = isinstance(condition, tuple)
            converted = tuple(tensors(condition)) if pair else tensors([condition])[0]
        y = called(layer, tensors([X])[0], training, condition=converted)
    rows = (np.reshape(value, (-1, 1, 3)) if np.ndim(value) else value for value in (scale, shift))
    multiplied, added = rows
    assert_close(y, normalized(training) * multiplied + added, 1e-14)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("beta", [-0.4, [-0.4, 0.1, 0.7], np.array([-0.4, 0.1, 0.7])], ids=str)
def test_numbers_given_to_the_function(beta: Any, training: bool) -> None:
    with precision("float64"):
        x, mean, variance = tensors([X, *(STATE[name] for name in NAMES[:2])])
        state = {"moving_mean": mean, "moving_variance": variance}
        y, _ = batch_norm(x, state, 1.3, beta, training=training)
        y = to_numpy(y)
    assert_close(y, normalized(training) * 1.3 + beta, 1e-14)


def test_a_schedule_of_keras_has_float32s_digits() -> None:
    """Keras computes them so; those of this package follow the step's dtype."""
    with precision("float64"):
        step = tensors([np.float64(2)])[0]
        assert_close(to_numpy(RAMP(step)), RAMPED, 1e-15)
    assert keras.backend.standardize_dtype(RAMP(2).dtype) == "float32"
