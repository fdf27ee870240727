"""One step of a GAN: its losses, its updates, its average, its random numbers."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import ops

from batchnorm.models.gan import discriminator_loss, generator_loss
from batchnorm_app.train.gan.networks import Networks, draw_inputs
from tests.app import small
from tests.calling import called
from tests.compare import assert_close
from tests.differentiate import Array, to_numpy

SHAPE, CLASSES, BATCH, STEPS = (8, 8, 1), 3, 6, 2


def new_networks() -> Networks:
    settings = small.gan_settings(
        Path(),
        batch_size=BATCH,
        schedule="constant",
        learning_rate=0.05,
        discriminator_learning_rate=0.02,
        discriminator_steps=STEPS,
        steps=4,
        average=0.3,
    )
    keras.utils.set_random_seed(1)
    return Networks(settings, SHAPE, CLASSES)


def batches(networks: Networks, step: int) -> tuple[Array, ...]:
    random = np.random.default_rng((step, 5))
    images = random.integers(0, 256, (STEPS, BATCH, *SHAPE)).astype("uint8")
    labels = random.integers(0, CLASSES, (STEPS, BATCH))
    return images, labels, *draw_inputs(networks.settings, CLASSES, step)


def run(networks: Networks, step: int) -> list[float]:
    return [float(loss) for loss in networks.step(*batches(networks, step))]


def values(variables: Any) -> list[Array]:
    return [np.array(to_numpy(variable)) for variable in variables]


def assign(variables: Any, new_values: list[Array]) -> None:
    for variable, value in zip(variables, new_values, strict=True):
        variable.assign(value)


def changed(variables: Any, before: list[Array]) -> list[bool]:
    after = values(variables)
    return [bool((new != old).any()) for new, old in zip(after, before, strict=True)]


@pytest.fixture(scope="module")
def compiled_networks() -> Networks:
    return new_networks()


@pytest.fixture
def networks(compiled_networks: Networks) -> Iterator[Networks]:
    """Restores the initial values, because compiling new networks is slow."""
    first = values(compiled_networks.variables)
    yield compiled_networks
    assign(compiled_networks.variables, first)


def test_steps_are_counted(networks: Networks) -> None:
    owners = networks.generator, networks.discriminator, networks.average
    before = [values(owner.trainable_variables) for owner in owners]
    measured = values(networks.average.non_trainable_variables)
    losses = [run(networks, step) for step in range(3)]
    assert np.isfinite(losses).all() and np.shape(losses) == (3, 2)
    assert int(networks.generator_optimizer.iterations) == 3
    assert int(networks.discriminator_optimizer.iterations) == 3 * STEPS
    for owner, weights in zip(owners, before, strict=True):
        # A bias can have no gradient, where all of its units are below 0.
        assert np.mean(changed(owner.trainable_variables, weights)) > 0.7, owner.name
    # The average's moving statistics are measured only when it is used.
    assert not any(changed(networks.average.non_trainable_variables, measured))


def test_the_variables_are_complete_and_unique(networks: Networks) -> None:
    owners: tuple[Any, ...] = (networks.generator, networks.discriminator, networks.average)
    owners += (networks.generator_optimizer, networks.discriminator_optimizer)
    expected = [id(variable) for owner in owners for variable in owner.variables]
    assert [id(variable) for variable in networks.variables] == expected
    assert len(set(expected)) == len(expected)


def test_the_average_of_the_weights(networks: Networks) -> None:
    average, weights = networks.average.trainable_variables, networks.generator.trainable_variables
    for old, new in zip(values(average), values(weights), strict=True):
        assert_close(old, new, 0)  # it starts as the generator
    for t, decay in ((1, 2 / 11), (2, 3 / 12), (3, 0.3), (4, 0.3)):
        distance = 0.0
        earlier = values(average)
        run(networks, t - 1)
        for before, after, weight in zip(earlier, values(average), values(weights), strict=True):
            assert_close(after, decay * before + (1 - decay) * weight, 1e-6)
            distance = max(distance, np.abs(after - weight).max())
        assert distance > 5e-3


@pytest.mark.parametrize("frozen", ["generator", "discriminator"])
def test_each_step_changes_its_own_network(networks: Networks, frozen: str) -> None:
    getattr(networks, f"{frozen}_optimizer").learning_rate = 0.0
    models = networks.generator, networks.discriminator
    weights = [values(model.trainable_variables) for model in models]
    state = [values(model.non_trainable_variables) for model in models]
    run(networks, 0)
    for model, before, old in zip(models, weights, state, strict=True):
        flags = changed(model.trainable_variables, before)
        assert not any(flags) if model.name == frozen else np.mean(flags) > 0.7, model.name
        # Both run in training mode in every step, so their statistics and vectors change.
        assert sum(changed(model.non_trainable_variables, old)) > len(old) / 2


def test_a_step_by_hand(networks: Networks) -> None:
    """The losses of a step, each network after the other one's updates."""
    first = values(networks.variables)
    networks.discriminator_optimizer.learning_rate = 0.0
    images, labels, latents, fake_labels = batches(networks, 0)
    actual = run(networks, 0)
    assign(networks.variables, first)
    hot = np.eye(CLASSES, dtype="float32")

    def fakes(number: int) -> Array:
        return called(networks.generator, [latents[number], hot[fake_labels[number]]])

    def score(images: Array, labels: Array) -> Any:
        return ops.convert_to_tensor(called(networks.discriminator, [images, hot[labels]]))

    losses = []
    for k in range(STEPS):
        # In the order of the step, because each call updates a vector u of spectral normalization.
        fake = fakes(k)
        real = score((images[k] / 127.5 - 1.0).astype("float32"), labels[k])
        losses.append(float(discriminator_loss(real, score(fake, fake_labels[k]))))
    assert abs(losses[0] - losses[1]) > 1e-3
    assert actual[0] == pytest.approx(np.mean(losses), rel=1e-4)
    expected = float(generator_loss(score(fakes(STEPS), fake_labels[STEPS])))
    assert actual[1] == pytest.approx(expected, rel=1e-3, abs=1e-5)
    assert abs(expected) > 1e-3


def test_the_generator_learns_from_the_updated_discriminator(networks: Networks) -> None:
    first = values(networks.variables)
    one = run(networks, 0)
    assign(networks.variables, first)
    networks.discriminator_optimizer.learning_rate = 0.0
    other = run(networks, 0)
    assert abs(one[1] - other[1]) > 1e-3


def test_each_network_has_its_own_rate(networks: Networks) -> None:
    optimizers = networks.generator_optimizer, networks.discriminator_optimizer
    assert [float(optimizer.learning_rate) for optimizer in optimizers] == pytest.approx(
        [0.05, 0.02]
    )
    # The first step of Adam's moves each weight by the rate, if it has a gradient.
    before = values(networks.generator.trainable_variables)
    run(networks, 0)
    after = values(networks.generator.trainable_variables)
    steps = [np.abs(new - old).max() for new, old in zip(after, before, strict=True)]
    assert max(steps) == pytest.approx(0.05, rel=1e-2)


def test_a_step_depends_only_on_the_variables(networks: Networks) -> None:
    """Bit for bit, as a resumed run needs it."""
    run(networks, 0)
    state = values(networks.variables)
    losses = run(networks, 1)
    after = values(networks.variables)
    run(networks, 2)
    assign(networks.variables, state)
    assert run(networks, 1) == losses
    assert not any(changed(networks.variables, after))


def test_inputs_depend_only_on_seed_and_step() -> None:
    settings = small.gan_settings(Path(), batch_size=50, latent_size=8, discriminator_steps=2)
    latents, labels = draw_inputs(settings, 10, 3)
    assert latents.shape == (3, 50, 8) and latents.dtype == np.float32
    assert labels.shape == (3, 50) and labels.dtype == np.int64
    assert latents.mean() == pytest.approx(0, abs=0.1) and latents.std() == pytest.approx(
        1, abs=0.1
    )
    assert set(labels.ravel()) == set(range(10))
    changes: dict[str, Any] = {
        "steps": 9,
        "learning_rate": 1.0,
        "width": 3,
        "average": 0.5,
        "samples_every": 1,
    }
    np.random.seed(5)  # nor on the global generator
    same = draw_inputs(dataclasses.replace(settings, **changes), 10, 3)
    for actual, expected in zip(same, (latents, labels), strict=True):
        np.testing.assert_array_equal(actual, expected)
    other = dataclasses.replace(settings, seed=settings.seed + 1)
    for points, classes in (draw_inputs(settings, 10, 4), draw_inputs(other, 10, 3)):
        assert (points != latents).all() and (classes != labels).any()
    # No two batches of a step are equal.
    assert len(np.unique(latents.reshape(-1, 8), axis=0)) == 150


def test_sizes_that_do_not_fit() -> None:
    settings = small.gan_settings(Path())
    with pytest.raises(ValueError, match="7x7 cannot be halved"):
        Networks(settings, (7, 7, 1), 3)
