"""LeNet: its layers, sizes and normalizations."""

from typing import Any

import keras
import numpy as np
import pytest

from batchnorm import BatchNormalization
from batchnorm.models.lenet import lenet


def names(model: keras.Model, kind: Any) -> list[str]:
    return [layer.name for layer in model.layers if isinstance(layer, kind)]


def test_the_layers_and_their_parameters() -> None:
    model = lenet()
    shapes = [layer.output.shape[1:] for layer in model.layers if "convolution" in layer.name]
    assert shapes == [(24, 24, 6), (8, 8, 16)]
    assert names(model, BatchNormalization) == [f"normalization_{n}" for n in "1234"]
    assert names(model, keras.layers.Activation) == [f"sigmoid_{n}" for n in "1234"]
    # 5*5*1*6+6, 5*5*6*16+16, 256*120+120, 120*84+84, 84*10+10; gamma and beta of 226 channels.
    weights = 156 + 2416 + 30840 + 10164 + 850
    trainable = sum(int(np.prod(w.shape)) for w in model.trainable_weights)
    assert trainable == weights + 2 * 226
    assert model.output_shape == (None, 10)


def test_it_gives_logits() -> None:
    assert model_activation(lenet()) is keras.activations.linear


def model_activation(model: keras.Model) -> object:
    return model.get_layer("logits").activation


@pytest.mark.parametrize(
    ("normalization", "kind", "count"),
    [
        (BatchNormalization, BatchNormalization, 4),
        (keras.layers.BatchNormalization, keras.layers.BatchNormalization, 4),
        (lambda: BatchNormalization(momentum=0.5), BatchNormalization, 4),
        (None, keras.layers.BatchNormalization, 0),
    ],
)
def test_normalization(normalization: type | None, kind: type, count: int) -> None:
    model = lenet(normalization=normalization)
    normalizations = [
        layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)
    ]
    assert len(normalizations) == count and all(type(layer) is kind for layer in normalizations)


@pytest.mark.parametrize(
    ("image_shape", "image_size", "seen"),
    [
        ((28, 28, 1), None, (28, 28, 1)),
        ((28, 28, 1), 28, (28, 28, 1)),
        ((28, 28, 1), 32, (32, 32, 1)),  # padding alone
        ((28, 28, 1), 224, (224, 224, 1)),  # a factor alone
        ((28, 28, 1), 61, (61, 61, 1)),  # both
        ((28, 28, 1), 16, (16, 16, 1)),  # smaller
        ((32, 32, 3), None, (32, 32, 3)),
        ((20, 30, 3), 32, (32, 32, 3)),
    ],
)
def test_sizes(
    image_shape: tuple[int, int, int], image_size: int | None, seen: tuple[int, int, int]
) -> None:
    model = lenet(image_shape, classes=7, image_size=image_size)
    assert model.get_layer("convolution_1").input.shape[1:] == seen
    assert model.predict(np.zeros((2, *image_shape), "uint8"), verbose=0).shape == (2, 7)


def test_an_enlarged_image_is_padded_with_zeros_and_keeps_its_values() -> None:
    model = lenet(image_size=61)
    image = np.full((1, 28, 28, 1), 255, "uint8")
    before = keras.Model(model.input, model.get_layer("convolution_1").input)
    prepared = before.predict(image, verbose=0)[0, ..., 0]
    assert np.allclose(prepared[2:58, 2:58], 1.0, atol=1e-6)
    assert np.count_nonzero(prepared) == 56 * 56


@pytest.mark.parametrize("image_size", [15, 1])
def test_too_small(image_size: int) -> None:
    with pytest.raises(ValueError, match=f"at least 16x16 pixels; received {image_size}x"):
        lenet(image_size=image_size)


def test_too_small_as_they_are() -> None:
    with pytest.raises(ValueError, match="received 8x12. Enlarge them with image_size=16"):
        lenet((8, 12, 1))
