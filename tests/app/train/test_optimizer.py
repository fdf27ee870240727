"""Schedules of the learning rate, and weight decay."""

import dataclasses
import re
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import pytest

from batchnorm import BatchNormalization
from batchnorm_app.errors import UserError
from batchnorm_app.train import resnet
from batchnorm_app.train.optimizer import learning_rates
from tests.app import small

EPOCHS, STEPS = 10, 7


def rates(expression: str) -> list[float]:
    """Returns the rates of each step of a training, and of one after it."""
    schedule = learning_rates(expression, 0.5, EPOCHS, STEPS)
    return [float(schedule(step)) for step in range(EPOCHS * STEPS + 1)]


def test_a_constant_rate_is_a_number() -> None:
    assert learning_rates("constant", 0.5, EPOCHS, STEPS) == 0.5


def test_a_cosine_ends_at_zero_with_the_last_step() -> None:
    angles = np.pi * np.arange(EPOCHS * STEPS + 1) / (EPOCHS * STEPS)
    np.testing.assert_allclose(rates("cosine"), 0.25 * (1 + np.cos(angles)), atol=1e-6)


@pytest.mark.parametrize(
    "expression, epochs",
    [("drop:3,6", [3, 6]), ("drop:1", [1]), ("drop:9", [9]), ("drop:1,2,3", [1, 2, 3])],
)
def test_a_rate_drops_with_the_first_step_after_an_epoch(
    expression: str, epochs: list[int]
) -> None:
    actual = rates(expression)
    expected = [
        0.5 / 10 ** sum(step // STEPS >= epoch for epoch in epochs)
        for step in range(EPOCHS * STEPS + 1)
    ]
    np.testing.assert_allclose(actual, expected, rtol=1e-6)
    for count, epoch in enumerate(epochs):
        assert actual[epoch * STEPS - 1] == pytest.approx(0.5 / 10**count)
        assert actual[epoch * STEPS] == pytest.approx(0.05 / 10**count)


@pytest.mark.parametrize(
    "expression",
    [
        "cosin",
        "",
        "drop",
        "drop:",
        "drop:0",
        "drop:0,3",
        "drop:5,3",
        "drop:3,3",
        "drop:10",
        "drop:3,10",
        "drop:3,",
        "drop:,3",
        "drop:3,,6",
        "drop:a",
        "drop:1.5",
        "drop:-1",
        "drop:3 6",
        "dorp:3,6",
        "cosine:3",
    ],
)
def test_a_schedule_that_is_none(expression: str) -> None:
    words = re.escape(f"--schedule {expression}: expected constant, cosine, or drop:EPOCH,EPOCH")
    with pytest.raises(UserError, match=f"^{words}.* 10\\.$"):
        learning_rates(expression, 0.5, EPOCHS, STEPS)


def all_twos() -> keras.Model:
    """A small model with each kind of weight that a ResNet has, all of them 2."""
    model = keras.Sequential(
        [
            keras.Input((4, 4, 1)),
            keras.layers.Conv2D(2, 3, name="convolution"),
            BatchNormalization(name="normalization"),
            keras.layers.Flatten(),
            keras.layers.Dense(2, name="logits"),
        ]
    )
    for variable in model.trainable_variables:
        variable.assign(np.full(variable.shape, 2.0))
    return model


def remaining_shares(model: keras.Model, **changes: Any) -> dict[str, npt.NDArray[Any]]:
    """Returns the factors by which a step without gradients scales the weights."""
    settings = dataclasses.replace(
        small.resnet_settings(Path()), learning_rate=0.5, schedule="drop:1", **changes
    )
    optimizer = resnet.optimizer(settings, model, steps=1)
    optimizer.build(model.trainable_variables)
    zeros = [keras.ops.zeros(variable.shape) for variable in model.trainable_variables]
    optimizer.apply(zeros, model.trainable_variables)
    values = {
        v.path.partition("/")[2]: keras.ops.convert_to_numpy(v) / 2
        for v in model.trainable_variables
    }
    assert set(values) == {
        *("convolution/kernel", "convolution/bias", "logits/kernel", "logits/bias"),
        *("normalization/gamma", "normalization/beta"),
    }
    return values


@pytest.mark.parametrize("decay", ["kernels", "all"])
def test_weights_decay_by_their_share_of_the_rate(decay: str) -> None:
    for path, share in remaining_shares(all_twos(), decay=decay, weight_decay=0.25).items():
        spared = decay == "kernels" and not path.endswith("kernel")
        np.testing.assert_allclose(share, 1.0 if spared else 1 - 0.5 * 0.25, rtol=1e-6)


@pytest.mark.parametrize("decay", ["kernels", "all"])
def test_nothing_decays_unless_asked(decay: str) -> None:
    for share in remaining_shares(all_twos(), decay=decay, weight_decay=0.0).values():
        assert (share == 1).all()


def test_the_decay_is_beside_the_momentum() -> None:
    """A second step takes off the same share of what is left, and the rate has dropped by then."""
    model = all_twos()
    settings = small.resnet_settings(
        Path(), learning_rate=0.5, schedule="drop:1", weight_decay=0.25, momentum=0.9
    )
    optimizer = resnet.optimizer(settings, model, steps=1)
    optimizer.build(model.trainable_variables)
    assert optimizer.momentum == 0.9
    for _ in range(2):
        zeros = [keras.ops.zeros(variable.shape) for variable in model.trainable_variables]
        optimizer.apply(zeros, model.trainable_variables)
    kernel = keras.ops.convert_to_numpy(model.get_layer("logits").kernel)
    np.testing.assert_allclose(kernel, 2 * (1 - 0.5 * 0.25) * (1 - 0.05 * 0.25), rtol=1e-6)
