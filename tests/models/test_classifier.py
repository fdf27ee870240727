"""The judge's classifier: its layers, sizes and initial weights."""

import keras
import numpy as np
import pytest

from batchnorm import BatchNormalization
from batchnorm.models.classifier import FEATURES, classifier


def test_the_layers_and_their_parameters() -> None:
    model = classifier()
    shapes = [layer.output.shape[1:] for layer in model.layers if "convolution" in layer.name]
    assert shapes == [(14, 14, 32), (7, 7, 64), (4, 4, 128)]
    # No biases but the last layer's; gamma and beta of 352 channels.
    kernels = 9 * 1 * 32 + 9 * 32 * 64 + 9 * 64 * 128 + 2048 * 128 + 128 * 10
    trainable = sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)
    assert trainable == kernels + 10 + 2 * (32 + 64 + 128 + 128)
    assert model.output_shape == (None, 10)
    assert model.get_layer("logits").activation is keras.activations.linear


@pytest.mark.parametrize(
    ("image_shape", "classes", "width"),
    [((28, 28, 1), 10, 32), ((32, 32, 3), 7, 8), ((9, 16, 3), 2, 4), ((2, 1, 2), 1, 8)],
)
def test_sizes(image_shape: tuple[int, int, int], classes: int, width: int) -> None:
    model = classifier(image_shape, classes, width)
    both = keras.Model(model.input, [model.output, model.get_layer(FEATURES).output])
    images = np.random.default_rng(0).integers(0, 256, (3, *image_shape)).astype("uint8")
    logits, features = both.predict(images, verbose=0)
    assert logits.shape == (3, classes)
    assert features.shape == (3, 4 * width)
    assert features.min() == 0 < features.max()


def test_the_logits_are_those_of_the_features() -> None:
    model = classifier()
    images = np.random.default_rng(0).integers(0, 256, (3, 28, 28, 1)).astype("uint8")
    both = keras.Model(model.input, [model.output, model.get_layer(FEATURES).output])
    logits, features = both.predict(images, verbose=0)
    kernel, bias = model.get_layer("logits").get_weights()
    np.testing.assert_allclose(logits, features @ kernel + bias, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "normalization",
    [
        BatchNormalization,
        keras.layers.BatchNormalization,
        keras.layers.LayerNormalization,
        lambda: BatchNormalization(momentum=0.5),
    ],
)
def test_normalization(normalization: type) -> None:
    model = classifier(normalization=normalization)
    normalizations = [model.get_layer(f"normalization_{number}") for number in "1234"]
    assert [type(layer) for layer in normalizations] == [type(normalization())] * 4
    assert getattr(normalizations[0], "momentum", None) == getattr(
        normalization(), "momentum", None
    )


def test_the_first_weights_depend_on_the_seed_alone() -> None:
    layers = []
    for seed, elsewhere in ((3, 0), (3, 1), (4, 0)):
        keras.utils.set_random_seed(elsewhere)
        layers.append([weight for weight in classifier(seed=seed).get_weights() if weight.ndim > 1])
    for one, same, other in zip(*layers, strict=True):
        np.testing.assert_array_equal(one, same)
        assert (one != other).mean() > 0.99
    # He: the second moment of a kernel is 2 / inputs of a neuron; here 2 / 2048.
    assert np.mean(layers[0][3] ** 2) * 1024 == pytest.approx(1, rel=0.02)


def test_without_a_seed_the_first_weights_depend_on_keras() -> None:
    layers = []
    for elsewhere in (0, 0, 1):
        keras.utils.set_random_seed(elsewhere)
        layers.append(classifier(width=4).get_weights()[0])
    np.testing.assert_array_equal(layers[0], layers[1])
    assert (layers[0] != layers[2]).all()


@pytest.mark.parametrize(
    ("image_shape", "classes", "width"),
    [((0, 28, 1), 10, 32), ((28, 28, 1), 0, 32), ((28, 28, 1), 10, 0)],
)
def test_a_size_that_is_none(image_shape: tuple[int, int, int], classes: int, width: int) -> None:
    with pytest.raises(ValueError, match="every one of these numbers must be at least 1"):
        classifier(image_shape, classes, width)
