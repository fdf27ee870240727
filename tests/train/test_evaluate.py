import keras
import numpy as np
import pytest

from batchnorm.models.lenet import lenet
from batchnorm.train.evaluate import accuracy
from tests.train.small import split


@pytest.fixture(scope="module")
def model() -> keras.Model:
    """A LeNet whose moving statistics fit no batch, with a layer that has a seed of its own."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((28, 28, 1))
    built = keras.Model(inputs, keras.layers.GaussianDropout(0.01)(lenet()(inputs)))
    for variable in built.non_trainable_variables:
        if "moving" in variable.path:
            variable.assign(variable + 0.3)
    return built


def test_inference_mode_is_what_the_model_says(model: keras.Model) -> None:
    part = split(50)
    logits = keras.ops.convert_to_numpy(model(part.images, training=False))
    assert accuracy(model, part, 16) == np.mean(logits.argmax(-1) == part.labels)


def test_training_mode_takes_each_batch_for_itself() -> None:
    part = split(50)
    model = lenet()
    # 16 does not divide 50: the last batch is filled up with the first images.
    order = np.random.default_rng(5).permutation(50)
    right = []
    for rows in np.resize(order, (4, 16)):
        logits = keras.ops.convert_to_numpy(model(part.images[rows], training=True))
        right.extend(logits.argmax(-1) == part.labels[rows])
    assert accuracy(model, part, 16, training=True, seed=5) == np.mean(right[:50])


@pytest.mark.parametrize("training", [False, True])
def test_every_variable_stays_as_it_is(model: keras.Model, training: bool) -> None:
    before = [np.array(keras.ops.convert_to_numpy(variable)) for variable in model.variables]
    accuracy(model, split(50), 16, training=training)
    for variable, value in zip(model.variables, before, strict=True):
        now = keras.ops.convert_to_numpy(variable)
        assert now.tobytes() == value.tobytes(), variable.path
    assert any("seed" in variable.path for variable in model.variables)
