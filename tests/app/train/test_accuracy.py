import keras
import numpy as np
import pytest

from batchnorm.models.lenet import lenet
from batchnorm_app.train.accuracy import accuracy
from tests.app.small import split


@pytest.fixture(scope="module")
def model() -> keras.Model:
    """A LeNet with wrong moving statistics, and a layer with a seed of its own."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((28, 28, 1))
    model = keras.Model(inputs, keras.layers.GaussianDropout(0.01)(lenet()(inputs)))
    for variable in model.non_trainable_variables:
        if "moving" in variable.path:
            variable.assign(variable + 0.3)
    return model


def test_inference_mode_agrees_with_the_model(model: keras.Model) -> None:
    part = split(50)
    logits = keras.ops.convert_to_numpy(model(part.images, training=False))
    assert accuracy(model, part, 16) == np.mean(logits.argmax(-1) == part.labels)


def test_training_mode_uses_the_statistics_of_each_batch() -> None:
    part = split(50)
    model = lenet()
    # 16 does not divide 50: the last batch is filled up with the first images.
    order = np.random.default_rng(5).permutation(50)
    correct = []
    for rows in np.resize(order, (4, 16)):
        logits = keras.ops.convert_to_numpy(model(part.images[rows], training=True))
        correct.extend(logits.argmax(-1) == part.labels[rows])
    assert accuracy(model, part, 16, training=True, seed=5) == np.mean(correct[:50])


@pytest.mark.parametrize("training", [False, True])
def test_every_variable_keeps_its_value(model: keras.Model, training: bool) -> None:
    before = [np.array(keras.ops.convert_to_numpy(variable)) for variable in model.variables]
    accuracy(model, split(50), 16, training=training)
    for variable, value in zip(model.variables, before, strict=True):
        current = keras.ops.convert_to_numpy(variable)
        assert current.tobytes() == value.tobytes(), variable.path
    assert any("seed" in variable.path for variable in model.variables)
