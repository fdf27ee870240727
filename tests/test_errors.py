"""Bad input: what came, what is allowed, how to mend it."""

from typing import Any

import keras
import numpy as np
import pytest

from batchnorm import BatchNormalization, Exponential, batch_norm
from tests.differentiate import precision

STATE = {"moving_mean": np.zeros(3, "float32"), "moving_variance": np.ones(3, "float32")}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"momentum": 1.0}, r"momentum must be in \[0, 1\), received 1.0"),
        ({"momentum": -0.1}, r"momentum must be in \[0, 1\), received -0.1"),
        ({"momentum": float("nan")}, r"momentum must be in \[0, 1\), received nan"),
        ({"epsilon": -1e-3}, "epsilon must be at least 0, received -0.001"),
        ({"axis": (1, 3)}, r"axis must be one axis, received \(1, 3\)"),
        ({"moving": 0.9}, r"moving must be an object like Exponential\(0.9\).*received 0.9"),
        ({"moving": Exponential}, r"moving must be an object like Exponential\(0.9\)"),
        ({"moving": keras.layers.Dropout(0.5)}, "moving must be an object like"),
        ({"moving": "ema"}, "moving must be an object .* received 'ema'"),
        ({"moving": Exponential(0.5), "momentum": 0.9}, "Both momentum=0.9 and moving="),
        ({"renorm": True, "renorm_clipping": {"rmx": 1.0}}, r"keys .*\['rmx'\].*rmin, rmax"),
        ({"renorm": True, "renorm_clipping": {"rmax": 1, "rmin": 2}}, "rmin=2, rmax=1"),
        ({"renorm": True, "renorm_clipping": {"rmin": -1.0}}, "rmin=-1.0"),
        ({"renorm": True, "renorm_clipping": {"dmax": -1.0}}, "dmax=-1.0"),
        ({"renorm": True, "renorm_momentum": 1.5}, "renorm_momentum must be in .* received 1.5"),
    ],
)
def test_the_constructor_refuses(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BatchNormalization(**arguments)


@pytest.mark.parametrize("axis", [4, -5])
def test_an_axis_out_of_range(axis: int) -> None:
    with pytest.raises(ValueError, match=f"axis={axis} names no axis .* rank 4: use -4 to 3"):
        BatchNormalization(axis=axis).build((2, 4, 4, 3))
    with pytest.raises(ValueError, match=f"axis={axis} names no axis"):
        batch_norm(np.ones((2, 4, 4, 3), "float32"), STATE, axis=axis)


def test_an_unknown_number_of_channels() -> None:
    with pytest.raises(ValueError, match=r"number of channels, axis -1 of \(None, 4, None\)"):
        BatchNormalization()(keras.Input((4, None)))


def test_other_channels_than_built_for() -> None:
    layer = BatchNormalization()
    layer.build((None, 3))
    with pytest.raises(ValueError, match="expected axis -1"):
        layer(np.ones((2, 4), "float32"))


@pytest.mark.parametrize("training", [True, False])
def test_complex_input(training: bool) -> None:
    with pytest.raises(ValueError, match="complex64 input .* real and imaginary parts"):
        batch_norm(np.ones((2, 3), "complex64"), STATE, training=training)


@pytest.mark.parametrize("shape", [(3,), (2, 5), (2, 4, 4, 3)])
def test_a_mask_that_does_not_fit(shape: tuple[int, ...]) -> None:
    x = np.ones((2, 4, 4, 3), "float32")
    with pytest.raises(ValueError, match=r"do not fit an input of shape \(2, 4, 4, 3\)"):
        BatchNormalization()(x, training=True, mask=np.ones(shape, bool))


def test_a_state_that_lacks_something() -> None:
    x = np.ones((2, 3), "float32")
    with pytest.raises(ValueError, match=r"lacks moving_variance: it needs .* has moving_mean"):
        batch_norm(x, {"moving_mean": np.zeros(3)})
    with pytest.raises(ValueError, match=r"moving_mean is \(2,\), but the input has 3 channels"):
        batch_norm(x, {"moving_mean": np.zeros(2), "moving_variance": np.ones(3)})


def test_a_state_of_integers_is_averaged_in_float32() -> None:
    state = {"moving_mean": [0, 0, 0], "moving_variance": [1, 1, 1]}
    _, new = batch_norm(np.full((2, 3), 5.0, "float32"), state, training=True)
    assert np.allclose(keras.ops.convert_to_numpy(new["moving_mean"]), 0.05)


def test_integers_with_a_float64_layer() -> None:
    x = np.array([[16777217], [16777219], [16777221]])
    with precision("float64"):
        layer = BatchNormalization(dtype="float64", momentum=0.0)
        layer(x, training=True)
        assert float(layer.moving_mean[0]) == 16777219


def test_integers_are_computed_in_float32() -> None:
    x = np.array([[1, 2, 3], [3, 2, 1]])
    y, _ = batch_norm(x, STATE, training=True, epsilon=0.5)
    assert keras.backend.standardize_dtype(y.dtype) == "float32"
    assert np.allclose(y, batch_norm(x.astype("float32"), STATE, training=True, epsilon=0.5)[0])
