"""The GAN's networks: shapes, effect of the class, losses and gradients."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import ops

from batchnorm import BatchNormalization, Ghost, PerClass, SpectralNormalization
from batchnorm.models.gan import discriminator, discriminator_loss, generator, generator_loss
from batchnorm.surgery.layers import layers
from batchnorm_app.train import steps
from tests.calling import called
from tests.compare import assert_close
from tests.differentiate import BACKEND, Array, gradients, precision, tensors, to_numpy
from tests.process import output_of

# The shape at which a generator begins, with width=4.
STARTS = {(28, 28, 1): (7, 7, 16), (32, 32, 3): (4, 4, 32), (16, 24, 3): (4, 6, 16)}


@pytest.fixture(autouse=True)
def seeded() -> None:
    keras.utils.set_random_seed(4)


def parts(model: keras.Model, kind: type[Any]) -> list[Any]:
    return [layer for layer in layers(model) if type(layer) is kind]


def conditional(model: keras.Model) -> list[BatchNormalization]:
    return [layer for layer in parts(model, BatchNormalization) if layer.affine == PerClass(10)]


def latents(count: int, size: int = 8, seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(size=(count, size)).astype("float32")


def pictures(count: int, shape: tuple[int, int, int] = (28, 28, 1), seed: int = 1) -> Array:
    return np.random.default_rng(seed).uniform(-1, 1, (count, *shape)).astype("float32")


def one_hot(*labels: int, classes: int = 10) -> Array:
    return np.eye(classes, dtype="float32")[list(labels)]


@pytest.mark.parametrize(("shape", "start"), STARTS.items())
def test_shapes(shape: tuple[int, int, int], start: tuple[int, int, int]) -> None:
    model = generator(shape, classes=3, width=4, latent_size=8)
    assert [tuple(tensor.shape) for tensor in model.inputs] == [(None, 8), (None, 3)]
    assert model.output_shape == (None, *shape)
    assert model.get_layer("start").output.shape == (None, *start)
    images = called(model, [latents(5), one_hot(0, 1, 2, 0, 1, classes=3)])
    assert images.shape == (5, *shape)
    assert -1 <= images.min() < -0.1 and 0.1 < images.max() <= 1
    judge = discriminator(shape, classes=3, width=4)
    scores = called(judge, [images, one_hot(0, 1, 2, 0, 1, classes=3)], False)
    assert scores.shape == (5,) and np.ptp(scores) > 0


def test_the_generators_parameters() -> None:
    # 12 latents and classes to 4x4x8; block 8 -> 4 -> 2; normalization, image.
    model = generator((16, 16, 3), classes=4, width=2, latent_size=8)
    dense = (8 + 4) * 4 * 4 * 8 + 4 * 4 * 8
    blocks = 0
    for before, after in ((8, 4), (4, 2)):
        convolutions = 9 * before * after + 9 * after * after + 1 * before * after + 3 * after
        blocks += convolutions + 2 * 4 * before + 2 * 4 * after
    image = 9 * 2 * 3 + 3
    trainable = sum(int(np.prod(variable.shape)) for variable in model.trainable_variables)
    assert trainable == dense + blocks + 2 * 2 + image
    moving = sum(int(np.prod(variable.shape)) for variable in model.non_trainable_variables)
    assert moving == 2 * (8 + 4 + 4 + 2 + 2)


def test_the_discriminators_parameters() -> None:
    model = discriminator((16, 16, 3), classes=4, width=2)
    convolutions = 0
    for before, after in ((3, 2), (2, 4), (4, 8)):
        convolutions += 9 * before * after + 9 * after * after + before * after + 3 * after
    trainable = sum(int(np.prod(variable.shape)) for variable in model.trainable_variables)
    assert trainable == convolutions + (8 + 1) + 4 * 8
    # One u for each convolution, and no batch normalization.
    assert {variable.path.split("/")[-1] for variable in model.non_trainable_variables} == {"u"}
    assert len(model.non_trainable_variables) == 9 == len(parts(model, SpectralNormalization))
    bare = [layer.layer for layer in parts(model, SpectralNormalization)]
    assert bare == [layer for layer in parts(model, keras.layers.Conv2D)]
    normalizations = [
        layer for layer in layers(model) if isinstance(layer, keras.layers.BatchNormalization)
    ]
    assert normalizations == []


def test_without_conditions_the_normalizations_are_plain() -> None:
    models = [
        generator(width=2, latent_size=8, conditional=conditional) for conditional in (True, False)
    ]
    names = [[layer.name for layer in model.layers if "block" in layer.name] for model in models]
    assert names == [["block_1", "block_2"]] * 2
    assert [len(conditional(model)) for model in models] == [4, 0]
    assert [len(parts(model, BatchNormalization)) for model in models] == [5, 5]
    for model in models:
        last = model.get_layer("normalization")
        assert last.affine is None and last.activation is None
        assert isinstance(model.get_layer("relu").input._keras_history.operation, type(last))
    # The class enters through the dense layer alone.
    images = called(models[1], [latents(1).repeat(2, axis=0), one_hot(0, 1)], False)
    assert np.abs(images[0] - images[1]).max() > 0
    assert models[1].get_layer("dense").kernel.shape[0] == 18


def test_classes_differ_from_the_start() -> None:
    model = generator(width=4, latent_size=8)
    model.get_layer("dense").kernel.assign(
        ops.concatenate([model.get_layer("dense").kernel[:8], ops.zeros((10, 7 * 7 * 16))])
    )
    same = latents(1).repeat(10, axis=0)
    images = called(model, [same, np.eye(10, dtype="float32")], False)
    apart = np.abs(images[:, None] - images[None]).mean((2, 3, 4))
    assert apart[~np.eye(10, dtype=bool)].min() > 0.02
    # And so do mixtures of them, from their ends and from each other.
    mixtures = np.stack([0.8 * a + 0.2 * b for a, b in ((*one_hot(0, 1),), (*one_hot(1, 0),))])
    mixed = called(model, [same[:2], mixtures.astype("float32")], False)
    for one, other in ((mixed[0], mixed[1]), (mixed[0], images[0]), (mixed[1], images[1])):
        assert np.abs(one - other).mean() > 0.005
    # Gamma and beta of a class are not those of another, around 1 and 0.
    assert len(conditional(model)) == 4
    for layer in conditional(model):
        gamma, beta = to_numpy(layer.gamma), to_numpy(layer.beta)
        assert np.ptp(gamma, axis=0).min() > 0.1 and np.ptp(beta, axis=0).min() > 0.5
        assert gamma.mean() == pytest.approx(1, abs=0.12)
        assert beta.mean() == pytest.approx(0, abs=0.6)


NORMALIZATIONS: dict[str, tuple[Callable[..., keras.layers.Layer] | None, type[Any] | None]] = {
    "ghost": (partial(BatchNormalization, statistics=Ghost(4)), BatchNormalization),
    "keras": (keras.layers.BatchNormalization, keras.layers.BatchNormalization),
    "none": (None, None),
}


@pytest.mark.parametrize("name", NORMALIZATIONS)
def test_other_normalizations_without_conditions(name: str, tmp_path: Path) -> None:
    maker, kind = NORMALIZATIONS[name]
    model = generator((8, 8, 1), 3, width=2, latent_size=8, conditional=False, normalization=maker)
    normalizations = [
        layer for layer in layers(model) if isinstance(layer, keras.layers.BatchNormalization)
    ]
    assert {type(layer) for layer in normalizations} == ({kind} if kind else set())
    assert len(normalizations) == (3 if kind else 0)  # a block's two, and the last
    assert all(
        getattr(layer, "statistics", None) == (Ghost(4) if name == "ghost" else None)
        for layer in normalizations
    )
    assert [layer.name for layer in model.layers][-2:] == ["relu", "image"]
    inputs = latents(6), one_hot(0, 1, 2, 0, 1, 2, classes=3)
    images = called(model, list(inputs))
    assert images.shape == (6, 8, 8, 1) and np.ptp(images) > 0
    files(model, tmp_path, *inputs)


def test_ghost_batches_can_depend_on_the_class() -> None:
    maker = partial(BatchNormalization, statistics=Ghost(4))
    model = generator(width=2, latent_size=8, normalization=maker)
    assert len(conditional(model)) == 4
    assert {layer.statistics for layer in parts(model, BatchNormalization)} == {Ghost(4)}
    # A group of four is normalized by its own moments, whatever the others are.
    inputs = latents(8), np.eye(10, dtype="float32")[[0, 1, 2, 3, 4, 5, 6, 7]]
    other = latents(8, seed=3), inputs[1]
    other[0][:4] = inputs[0][:4]
    images, changed = called(model, list(inputs)), called(model, list(other))
    assert_close(images[:4], changed[:4], 1e-5)
    assert np.abs(images[4:] - changed[4:]).max() > 1e-3


def test_no_normalization_depends_on_no_class() -> None:
    with pytest.raises(
        ValueError, match="conditional generator needs a normalization; received None"
    ):
        generator(width=2, latent_size=8, normalization=None)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": 0}, "^width must be a positive integer; received 0"),
        ({"width": 2.0}, "^width must be a positive integer; received 2.0"),
        ({"classes": 0}, "^classes must be a positive integer; received 0"),
        ({"image_shape": (27, 27, 1)}, "^Images of 27x27 cannot be halved.*at least 8. Resize"),
        ({"image_shape": (4, 4, 3)}, "^Images of 4x4 cannot be halved"),
        ({"image_shape": (28, 27, 1)}, "^Images of 28x27 cannot be halved"),
        ({"image_shape": (6, 64, 1)}, "^Images of 6x64 cannot be halved"),
    ],
)
def test_sizes_that_are_none(options: dict[str, Any], message: str) -> None:
    for make in (generator, discriminator):
        with pytest.raises(ValueError, match=message):
            make(**options)


@pytest.mark.parametrize("size", [True, 0, 1.5])
def test_latents_of_no_size(size: Any) -> None:
    with pytest.raises(
        ValueError, match=f"^latent_size must be a positive integer.*received {size}"
    ):
        generator(latent_size=size)


def test_the_score_is_linear_in_the_class() -> None:
    model = discriminator(width=4)
    random = np.random.default_rng(3)
    projection = model.get_layer("projection")
    projection.kernel.assign(random.normal(size=(10, 16)))
    images = pictures(4)
    labels = np.concatenate([np.eye(10), np.zeros((1, 10)), np.full((1, 10), 0.1)])
    batch = images.repeat(12, axis=0), np.tile(labels, (4, 1)).astype("float32")
    *scores, none, mean = called(model, list(batch), False).reshape(4, 12).T
    assert_close(mean, np.mean(scores, axis=0), 1e-4)
    # Without a class the bare w @ h + b; a class adds its row of V times h.
    h = keras.Model(model.inputs, model.get_layer("score").input)
    features = called(h, [images, one_hot(0, 0, 0, 0)], False)
    weights, bias = (to_numpy(variable) for variable in model.get_layer("score").variables)
    assert_close(none, features @ weights[:, 0] + bias[0], 1e-4)
    rows = to_numpy(projection.kernel)
    for label in range(10):
        assert_close(scores[label] - none, features @ rows[label], 1e-4)
    assert (features >= 0).all() and features.max() > 0


def test_losses_by_hand() -> None:
    real, generated = tensors([np.array([0.5, 2.0, -1.0, 1.0]), np.array([-2.0, 0.5, -0.5, 3.0])])
    assert (
        float(discriminator_loss(real, generated))
        == (0.5 + 0 + 2 + 0) / 4 + (0 + 1.5 + 0.5 + 4) / 4
    )
    assert float(generator_loss(generated)) == -(-2 + 0.5 - 0.5 + 3) / 4
    one, other = gradients(discriminator_loss, real, generated)
    assert to_numpy(one)[:3].tolist() == [-0.25, 0, -0.25]
    assert to_numpy(other).tolist() == [0, 0.25, 0.25, 0.25]
    assert to_numpy(*gradients(generator_loss, generated)).tolist() == [-0.25] * 4


@pytest.mark.parametrize("conditional", [True, False])
def test_files_of_generators(conditional: bool, tmp_path: Path) -> None:
    model = generator((16, 8, 3), 3, width=2, latent_size=8, conditional=conditional)
    inputs = latents(3), one_hot(0, 1, 2, classes=3)
    called(model, list(inputs))
    files(model, tmp_path, *inputs)


def test_files_of_discriminators(tmp_path: Path) -> None:
    model = discriminator((16, 8, 3), 3, width=2)
    inputs = pictures(3, (16, 8, 3)), one_hot(0, 1, 2, classes=3)
    called(model, list(inputs))
    files(model, tmp_path, *inputs)


def files(model: keras.Model, folder: Path, *inputs: Array) -> None:
    """Saves and loads a model, and its weights into a copy."""
    expected = called(model, list(inputs), False)
    model.save(folder / "model.keras")
    model.save_weights(folder / "model.weights.h5")
    loaded = keras.models.load_model(folder / "model.keras", compile=False)
    copy = keras.models.clone_model(model)
    assert np.abs(called(copy, list(inputs), False) - expected).max() > 1e-3
    copy.load_weights(folder / "model.weights.h5")
    for other in (loaded, copy):
        assert_close(called(other, list(inputs), False), expected, 0)
        for one, two in zip(other.variables, model.variables, strict=True):
            assert_close(to_numpy(one), to_numpy(two), 0)


# Keras 3.15's matmul, in the dense layers, makes float32 of PyTorch's float64.
EXACT = 1e-6 if BACKEND == "torch" else 1e-11


@pytest.fixture
def wide() -> Iterator[None]:
    """Makes models of float64."""
    before = keras.config.floatx(), keras.config.dtype_policy()
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    with precision("float64"):
        yield
    keras.config.set_floatx(before[0])
    keras.config.set_dtype_policy(before[1])


class Judged:
    """A discriminator with the gradients of its losses in training, from one state.

    Attributes:
        us: the vectors of the spectral normalizations, after the last.
    """

    def __init__(self) -> None:
        self.model = discriminator((8, 8, 2), classes=3, width=2)
        random = np.random.default_rng(5)
        for variable in self.model.trainable_variables:
            variable.assign(to_numpy(variable) + random.normal(0, 0.2, variable.shape))
        assert {variable.dtype for variable in self.model.variables} == {"float64"}
        self.optimizer = keras.optimizers.SGD(1.0)
        self.optimizer.build(self.model.trainable_variables)
        self.steps = steps.choose([*self.model.variables, *self.optimizer.variables])
        self.weights = [np.array(to_numpy(variable)) for variable in self.model.trainable_variables]
        self.us = [np.array(to_numpy(variable)) for variable in self.model.non_trainable_variables]
        self.images = [pictures(4, (8, 8, 2), seed).astype("float64") for seed in (1, 2)]
        self.labels = [one_hot(*labels, classes=3) for labels in ((0, 1, 2, 0), (2, 2, 1, 0))]

    def score(self, number: int) -> Any:
        inputs = [self.images[number], self.labels[number].astype("float64")]
        return self.model(tensors(inputs), training=True)

    def compiled(self, loss: Any) -> Any:
        """Returns the step of gradient descent as a function of u."""
        weights, state = self.model.trainable_variables, self.model.non_trainable_variables
        run = self.steps.compile(lambda: self.steps.minimize(loss, self.optimizer, weights))

        def gradients(us: list[Array]) -> list[Array]:
            for variables, values in ((weights, self.weights), (state, us)):
                for variable, value in zip(variables, values, strict=True):
                    variable.assign(value)
            run()
            self.us = [np.array(to_numpy(variable)) for variable in state]
            return [
                old - to_numpy(weight) for old, weight in zip(self.weights, weights, strict=True)
            ]

        return gradients


@pytest.fixture
def judged(wide: None) -> Judged:
    return Judged()


def both(judged: Judged) -> Any:
    return judged.compiled(lambda: discriminator_loss(judged.score(0), judged.score(1)))


def test_two_calls_before_one_gradient(judged: Judged) -> None:
    """The second call's update of u leaves what the first one's gradient needs as it was."""
    start = judged.us
    together = both(judged)(start)
    end = judged.us
    real = judged.compiled(lambda: ops.mean(ops.relu(1.0 - judged.score(0))))(start)
    middle = judged.us
    after = judged.compiled(lambda: ops.mean(ops.relu(1.0 + judged.score(1))))
    generated = after(middle)
    for last, actual in zip(end, judged.us, strict=True):
        assert_close(last, actual, EXACT)
    for actual, one, other in zip(together, real, generated, strict=True):
        assert_close(actual, one + other, EXACT)
    # With u as it was before the first call, the second one's gradient is another.
    stale = after(start)
    assert (
        max(np.abs(one - other).max() for one, other in zip(generated, stale, strict=True)) > 1e-3
    )


def test_the_gradient_is_the_derivative(judged: Judged) -> None:
    """Holds once u has converged: sigma's derivative is that of the largest singular value."""
    us = []
    for layer in parts(judged.model, SpectralNormalization):
        kernel = to_numpy(layer.layer.kernel)
        us.append(np.linalg.svd(kernel.reshape(-1, kernel.shape[-1]))[2][0])
        assert layer.u is judged.model.non_trainable_variables[len(us) - 1]
    gradients = both(judged)(us)
    random = np.random.default_rng(6)
    direction = [random.normal(size=weight.shape) for weight in judged.weights]
    losses, size = [], 3e-5 if BACKEND == "torch" else 1e-6
    inputs = [np.concatenate(parts) for parts in (judged.images, judged.labels)]
    for step in (size, -size):
        moved = zip(judged.model.trainable_variables, judged.weights, direction, strict=True)
        for variable, value, along in moved:
            variable.assign(value + step * along)
        for _ in range(2):  # u follows
            called(judged.model, inputs)
        # In NumPy: Keras 3.15's mean on JAX rounds float64 to float32.
        real, generated = called(judged.model, inputs, False).reshape(2, 4)
        losses.append(np.maximum(0, 1 - real).mean() + np.maximum(0, 1 + generated).mean())
    expected = (losses[0] - losses[1]) / (2 * size)
    assert abs(expected) > 0.1
    total = sum(float(np.sum(one * other)) for one, other in zip(gradients, direction, strict=True))
    assert total == pytest.approx(expected, rel=1e-2 if BACKEND == "torch" else 1e-6)


def test_importing_batchnorm_is_enough_to_load_them(tmp_path: Path) -> None:
    generator((8, 8, 1), 3, 2, 4).save(tmp_path / "generator.keras")
    discriminator((8, 8, 1), 3, 2).save(tmp_path / "discriminator.keras")
    program = """
import batchnorm, keras
for name in ("generator", "discriminator"):
    print(keras.models.load_model(name + ".keras").count_params())
"""
    models = (generator((8, 8, 1), 3, 2, 4), discriminator((8, 8, 1), 3, 2))
    printed = output_of(program, folder=tmp_path).split()[-2:]
    assert printed == [str(model.count_params()) for model in models]
