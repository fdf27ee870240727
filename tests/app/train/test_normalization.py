"""The command line's normalizations, against layers that are made by hand."""

import re
from typing import Any

import keras
import numpy as np
import pytest

from batchnorm import BatchNormalization, Cumulative, Exponential, Ghost, PerClass, Renorm
from batchnorm.slots.moving import ZeroDebiased
from batchnorm_app.errors import UserError
from batchnorm_app.runs.expressions import GRAMMAR
from batchnorm_app.train.normalization import normalization
from tests.calling import called

ARGUMENTS: dict[str, dict[str, Any]] = {
    "ours": {},
    "ghost:32": {"statistics": Ghost(32)},
    "ghost:2": {"statistics": Ghost(2)},
    "ghost:16.0": {"statistics": Ghost(16)},
    "renorm": {"renorm": Renorm(rmax=3.0, dmax=5.0)},
    "renorm:2,4": {"renorm": Renorm(rmax=2.0, dmax=4.0)},
    "renorm:1,0": {"renorm": Renorm(rmax=1.0, dmax=0.0)},
    "zero-debiased": {"moving": ZeroDebiased(0.99)},
    "cumulative": {"moving": Cumulative()},
    "momentum:0.9": {"moving": Exponential(0.9)},
    "momentum:0": {"moving": Exponential(0.0)},
    "momentum:0.9+zero-debiased": {"moving": ZeroDebiased(0.9)},
    "zero-debiased+momentum:0.9": {"moving": ZeroDebiased(0.9)},
    "ghost:32+zero-debiased": {"statistics": Ghost(32), "moving": ZeroDebiased(0.99)},
    "zero-debiased+ghost:32": {"statistics": Ghost(32), "moving": ZeroDebiased(0.99)},
    "renorm+cumulative": {"renorm": Renorm(rmax=3.0, dmax=5.0), "moving": Cumulative()},
    "momentum:0.5+renorm:2,1+zero-debiased+ghost:8": {
        "statistics": Ghost(8),
        "renorm": Renorm(rmax=2.0, dmax=1.0),
        "moving": ZeroDebiased(0.5),
    },
}


def configuration(layer: keras.layers.Layer) -> dict[str, Any]:
    """All that makes a layer, but for its name, which Keras numbers."""
    config: dict[str, Any] = layer.get_config()
    del config["name"]
    return config


@pytest.mark.parametrize("expression", ARGUMENTS)
def test_an_expression_fills_exactly_these_slots(expression: str) -> None:
    maker = normalization(expression)
    assert maker is not None
    layer = maker()
    assert type(layer) is BatchNormalization
    assert configuration(layer) == configuration(BatchNormalization(**ARGUMENTS[expression]))
    for slot in ("statistics", "renorm", "moving"):
        assert (getattr(layer, slot) or None) == ARGUMENTS[expression].get(slot)
    assert maker() is not layer


def test_keras_is_keras_and_none_is_none() -> None:
    maker = normalization("keras")
    assert maker is not None
    assert type(maker()) is keras.layers.BatchNormalization
    assert configuration(maker()) == configuration(keras.layers.BatchNormalization())
    assert normalization("none") is None


def test_further_options_are_taken() -> None:
    maker = normalization("ghost:8+zero-debiased")
    assert maker is not None
    layer = maker(name="conditional", affine=PerClass(3))
    assert (layer.name, layer.affine) == ("conditional", PerClass(3))
    assert (layer.statistics, layer.moving) == (Ghost(8), ZeroDebiased(0.99))
    maker = normalization("keras")
    assert maker is not None and maker(name="plain", scale=False).get_config()["scale"] is False


@pytest.mark.parametrize("expression", ["ours", "keras", "ghost:4+zero-debiased", "renorm"])
def test_a_made_layer_normalizes(expression: str) -> None:
    maker = normalization(expression)
    assert maker is not None
    layer = maker(epsilon=0.0)
    x = np.random.default_rng(0).normal(50, 3, (8, 2)).astype("float32")
    layer.build(x.shape)
    y = called(layer, x)
    groups = x.reshape(2, 4, 2) if "ghost" in expression else x[None]
    normalized = (groups - groups.mean(1, keepdims=True)) / groups.std(1, keepdims=True)
    expected = normalized.reshape(8, 2)
    if expression == "renorm":  # from a running mean of 0 and deviation of 1
        expected = expected * np.minimum(x.std(0), 3) + 5
    np.testing.assert_allclose(y, expected, atol=1e-3)
    moved = keras.ops.convert_to_numpy(layer.moving_mean)
    share = 1.0 if "zero-debiased" in expression else 0.01
    np.testing.assert_allclose(moved, share * x.mean(0), rtol=1e-4)


@pytest.mark.parametrize(
    "expression, words",
    [
        ("gost:32", "'gost' is unknown; did you mean 'ghost'?"),
        ("our", "'our' is unknown; did you mean 'ours'?"),
        ("kears", "'kears' is unknown; did you mean 'keras'?"),
        ("zerodebiased", "'zerodebiased' is unknown; did you mean 'zero-debiased'?"),
        ("ghost:8+renom", "'renom' is unknown; did you mean 'renorm'?"),
        ("Ghost:8", "'Ghost' is unknown; did you mean 'ghost'?"),
        ("", "'' is unknown"),
        ("+", "'' is unknown"),
        ("ghost:8+", "'' is unknown"),
        ("ghost", "ghost takes 1 numbers, received 0."),
        ("ghost:", "'', after ghost, is not a number."),
        ("ghost:1", "the size of a group must be an integer from 2 to 1,000,000, not 1."),
        ("ghost:-4", "the size of a group must be an integer from 2 to 1,000,000, not -4."),
        ("ghost:2.5", "the size of a group must be an integer from 2 to 1,000,000, not 2.5."),
        ("ghost:x", "'x', after ghost, is not a number."),
        ("ghost:32,64", "ghost takes 1 numbers, received 2."),
        ("ghost:nan", "the size of a group must be an integer from 2 to 1,000,000, not nan."),
        ("ghost:inf", "the size of a group must be an integer from 2 to 1,000,000, not inf."),
        ("ghost:1e400", "the size of a group must be an integer from 2 to 1,000,000, not inf."),
        ("renorm:", "'', after renorm, is not a number."),
        ("renorm:3", "renorm takes 0 or 2 numbers, received 1."),
        ("renorm:3,5,7", "renorm takes 0 or 2 numbers, received 3."),
        ("renorm:0.5,5", "rmax should be at least 1"),
        ("renorm:3,-1", "dmax should be non-negative"),
        ("renorm:nan,nan", "rmax should be at least 1"),
        ("zero-debiased:3", "zero-debiased takes 0 numbers, received 1."),
        ("cumulative:3", "cumulative takes 0 numbers, received 1."),
        ("keras+ghost:32", "keras cannot be joined with others."),
        ("ours+renorm", "ours cannot be joined with others."),
        ("ghost:32+none", "none cannot be joined with others."),
        ("ours:3", "ours cannot be joined with others."),
        ("ghost:8+ghost:16", "ghost is repeated."),
        ("cumulative+zero-debiased", "zero-debiased has no effect beside cumulative"),
        ("cumulative+momentum:0.5", "momentum has no effect beside cumulative"),
        ("momentum", "momentum takes 1 numbers, received 0."),
        ("momentum:1", "momentum should be in [0, 1)"),
        ("momentum:-0.1", "momentum should be in [0, 1)"),
        ("momentum:nan", "momentum should be in [0, 1)"),
        ("zero-debiased+momentum:1", "momentum should be in [0, 1)"),
    ],
)
def test_an_expression_outside_the_grammar_shows_the_grammar(expression: str, words: str) -> None:
    with pytest.raises(UserError, match=re.escape(words)) as caught:
        normalization(expression)
    assert str(caught.value).startswith(f"--normalization {expression}: ")
    assert str(caught.value).endswith(GRAMMAR)


def test_the_grammar_names_every_word() -> None:
    words = {word.partition(":")[0] for expression in ARGUMENTS for word in expression.split("+")}
    named = {re.split(r"[:\[ ]", line.strip())[0] for line in GRAMMAR.splitlines()}
    assert words | {"keras", "none"} <= named
