"""`layer_from_arguments` against records of contrib's batch_norm with the same arguments."""

import importlib
from typing import Any

import keras
import numpy as np
import pytest

from batchnorm import BatchNormalization, Exponential, Renorm, ZeroDebiased
from batchnorm.contrib.layer_from_arguments import layer_from_arguments
from batchnorm.slots.old_renorm import OldRenorm
from tests.differentiate import BACKEND, precision, to_numpy
from tests.golden import FOLDER, Case, adjustment, cases, momentum
from tests.test_golden import replay

# What arguments become does not depend on the backend, and tests/test_golden.py replays the layer
# on all: slim's 104, which graphs replay, are followed on PyTorch alone, in 5 seconds.
FOLLOWED = [
    id
    for id, case in cases().items()
    if case.record["api"] == "slim" and (BACKEND == "torch" or not id.startswith("slim/"))
]
golden = pytest.mark.skipif(
    not FOLDER.is_dir(), reason=f"the golden numbers are not here: {FOLDER} is absent"
)


def followed(case: Case, **changed: Any) -> BatchNormalization:
    """Makes the layer of a case, as a user would."""
    options = case.record
    kwargs = options["kwargs"] | {"decay": momentum(case)}
    if kwargs.get("updates_collections") in ("UPDATE_OPS", "my_ops"):
        del kwargs["updates_collections"]  # a layer has none
    if kwargs.pop("batch_weights", None) or options["id"].endswith("_ignored"):
        kwargs["fused"] = False
    if kwargs.pop("adjustment", None) and not options["id"].endswith("_ignored"):
        kwargs["adjustment"] = adjustment(case)
    kwargs.pop("trainable", None)
    version = options["source"].split()[1]
    return layer_from_arguments(
        rank=len(options["shape"]), version=version, dtype=options["dtype"], **kwargs | changed
    )


@golden
@pytest.mark.parametrize("id", FOLLOWED)
def test_replay(id: str) -> None:
    case = cases()[id]
    with precision(case.record["dtype"]):
        replay(case, followed(case))


def test_the_defaults_are_contrib_s() -> None:
    layer = layer_from_arguments()
    assert (layer.axis, layer.epsilon, layer.center, layer.scale) == (-1, 0.001, True, False)
    assert layer.moving == Exponential(0.999, unbiased=True)


@pytest.mark.parametrize(
    "arguments, attribute, expected",
    [
        ({"decay": 0.9, "fused": False}, "momentum", 0.9),
        ({"fused": False}, "moving", None),
        ({"rank": 3}, "moving", None),
        ({"rank": 5, "version": "1.15"}, "moving", None),
        ({"rank": 5}, "moving", Exponential(0.999, unbiased=True)),
        ({"dtype": "float64"}, "moving", None),
        (
            {"zero_debias_moving_mean": True, "decay": 0.5},
            "moving",
            ZeroDebiased(0.5, unbiased=True, variance=False),
        ),
        (
            {"zero_debias_moving_mean": True, "rank": 3},
            "moving",
            ZeroDebiased(0.999, variance=False),
        ),
        ({"renorm": True}, "renorm", Renorm(rmin=0.0)),
        (
            {"renorm": True, "renorm_clipping": {"rmax": 3.0}, "renorm_decay": 0.9},
            "renorm",
            Renorm(rmin=0.0, rmax=3.0, momentum=0.9),
        ),
        ({"renorm": True, "version": "1.13.2"}, "renorm", OldRenorm(rmin=0.0)),
        ({"data_format": "NCHW"}, "axis", 1),
        ({"scope": "block/bn"}, "name", "block_bn"),
        ({"activation_fn": keras.activations.relu}, "activation", keras.activations.relu),
        ({"reuse": None, "trainable": True, "outputs_collections": None}, "trainable", True),
    ],
)
def test_arguments(arguments: dict[str, Any], attribute: str, expected: Any) -> None:
    layer = layer_from_arguments(**arguments)
    assert getattr(layer, attribute) == expected
    assert type(getattr(layer, attribute)) is type(expected)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"inputs": np.ones((2, 3))}, "Call the layer with them"),
        ({"is_training": True}, r"layer\(x, training=...\)"),
        ({"batch_weights": np.ones(2)}, r"sample_weight=...\), and fused=False"),
        ({"reuse": True}, "Call the same layer again"),
        ({"variables_collections": ["mine"]}, "There are no collections"),
        ({"outputs_collections": "mine"}, "There are no collections"),
        ({"updates_collections": "mine"}, "'mine' has no counterpart"),
        ({"trainable": False}, r"layer\.gamma\.trainable"),
        ({"decai": 0.9}, "Did you mean 'decay'"),
        ({"data_format": "NHCW"}, "either NCHW or NHWC"),
        ({"data_format": "channels_last"}, "channels_last NHWC"),
        ({"decay": 1.0}, r"\[0, 1\)"),
        ({"param_initializers": {"bata": "zeros"}}, "'bata'.*beta, gamma"),
        ({"param_regularizers": {"moving_mean": "l2"}}, "'moving_mean'.*beta, gamma"),
        ({"renorm": True, "renorm_clipping": {"rmax": 0.5}}, "rmax should be at least 1"),
        ({"version": "two"}, "version"),
        ({"version": 1.15}, r"version.*1\.15"),
        ({"rank": None}, "rank.*None"),
        ({"momentum": 0.9}, "called 'decay' here"),
        ({"axis": 1}, "called 'data_format' here.*'NCHW' for axis 1"),
        ({"eps": 1e-5}, "called 'epsilon' here"),
        ({"mode": 0}, "mode=0 is what happens without it"),
        ({"virtual_batch_size": 8}, r"statistics=Ghost\(size, strided=True\)"),
        ({"training": True}, "called 'is_training' here"),
        ({"rank": 1}, "rank"),
    ],
)
def test_refusals(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        layer_from_arguments(**arguments)


def test_the_layer_can_be_saved() -> None:
    layer = layer_from_arguments(
        zero_debias_moving_mean=True, renorm=True, version="1.13", activation_fn=keras.ops.relu
    )
    copy = BatchNormalization.from_config(layer.get_config())
    assert (copy.moving, copy.renorm) == (layer.moving, layer.renorm)
    assert copy.activation is keras.activations.relu


def test_what_is_tensorflow_s_becomes_keras_s() -> None:
    tf = pytest.importorskip("tensorflow")
    layer = layer_from_arguments(
        scale=True,
        activation_fn=tf.nn.relu,
        param_initializers={
            "beta": tf.compat.v1.constant_initializer(2.0),
            "gamma": tf.compat.v1.random_uniform_initializer(3.0, 4.0),
            "moving_mean": tf.compat.v1.zeros_initializer(),
            "moving_variance": keras.initializers.Constant(5.0),
        },
        param_regularizers={
            "beta": keras.regularizers.L2(0.5),
            "gamma": importlib.import_module("batchnorm.contrib").l2_regularizer(0.5),
        },
    )
    layer.build((2, 6))
    assert layer.activation is keras.activations.relu
    np.testing.assert_array_equal(to_numpy(layer.beta), 2.0)
    assert layer.gamma_initializer.minval == 3.0 and layer.gamma_initializer.maxval == 4.0
    np.testing.assert_array_equal(to_numpy(layer.moving_mean), 0.0)
    np.testing.assert_array_equal(to_numpy(layer.moving_variance), 5.0)
    losses = sorted(float(to_numpy(loss)) for loss in layer.losses)
    half = float(0.5 * (to_numpy(layer.gamma) ** 2).sum() / 2)
    np.testing.assert_allclose(losses, sorted([0.5 * 6 * 4.0, half]), rtol=1e-6)
    config = layer.get_config()["gamma_regularizer"]
    assert config["class_name"] == "L1L2" and config["config"] == {"l1": 0.0, "l2": 0.25}


def l2_regularizer(scale: float) -> Any:
    """As tf_slim's."""

    def l2(weights: Any) -> Any:
        return weights.dtype.base_dtype

    l2.__module__ = "tf_slim.layers.regularizers"
    return l2


def test_a_regularizer_of_tf_slim_needs_its_variables() -> None:
    words = r"l2_regularizer of tf_slim.*batchnorm.contrib's.*L2\(scale / 2\)"
    with pytest.raises(ValueError, match=words):
        layer_from_arguments(param_regularizers={"beta": l2_regularizer(0.1)})
