"""The two networks of a GAN, the generator's average, and the step that trains them."""

from typing import Any

import keras
import numpy as np
import numpy.typing as npt
from keras import ops

from batchnorm.models.gan import discriminator, discriminator_loss, generator, generator_loss
from batchnorm_app.runs.settings import GanSettings
from batchnorm_app.train import steps
from batchnorm_app.train.gan.generate import calibration
from batchnorm_app.train.normalization import normalization
from batchnorm_app.train.optimizer import SCHEDULES

Array = npt.NDArray[Any]
Tensor = Any


class Networks:
    """Generator, discriminator, their optimizers, and the average of the generator's weights.

    Args:
        settings: of the run.
        image_shape: `(H, W, C)`.
        classes: number of classes.

    Attributes:
        average: a generator with the averaged weights; its moving statistics are meaningless until
            they are recalibrated.
        variables: the complete state of a training.
        step: one step of training, a function of arrays; see `_step`.
        calibration: of the average, for `batchnorm_app.train.gan.generate.calibrate`.
    """

    def __init__(
        self, settings: GanSettings, image_shape: tuple[int, int, int], classes: int
    ) -> None:
        self.settings, self.classes = settings, classes
        conditional = settings.conditioning == "class"
        layer = normalization(settings.normalization)
        if conditional and settings.normalization in ("keras", "none"):
            raise ValueError(
                f"--normalization {settings.normalization} cannot depend on the class: choose one "
                "of ours, or --conditioning none."
            )
        self.generator = generator(
            image_shape,
            classes,
            settings.width,
            settings.latent_size,
            conditional,
            layer,
        )
        self.discriminator = discriminator(image_shape, classes, settings.width)
        self.average = keras.models.clone_model(self.generator)
        self.average.set_weights(self.generator.get_weights())
        rates = (settings.learning_rate, settings.discriminator_learning_rate)
        self.generator_optimizer = self._adam(self.generator, rates[0], 1)
        self.discriminator_optimizer = self._adam(
            self.discriminator, rates[1], settings.discriminator_steps
        )
        owners = (self.generator, self.discriminator, self.average)
        optimizers = (self.generator_optimizer, self.discriminator_optimizer)
        self.variables = [
            variable for owner in (*owners, *optimizers) for variable in owner.variables
        ]
        self._steps = steps.choose(self.variables)
        self.step = self._steps.compile(self._step)
        self.calibration = calibration(self.average)

    def _step(
        self, images: Tensor, labels: Tensor, latents: Tensor, fake_labels: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Trains the discriminator for k steps and the generator for one.

        Args:
            images: real images, `(k, N, H, W, C)`, 0 to 255, a batch for each step.
            labels: of the real images, `(k, N)`.
            latents: `(k + 1, N, latent_size)`, the last for the generator's step.
            fake_labels: of the images to generate, `(k + 1, N)`.

        Returns:
            The mean loss of the discriminator, and the loss of the generator.
        """
        count = self.settings.discriminator_steps
        images = ops.cast(images, "float32") / 127.5 - 1.0
        labels = ops.one_hot(labels, self.classes)
        fake_labels = ops.one_hot(fake_labels, self.classes)
        losses = [
            self._discriminator_step(images[k], labels[k], latents[k], fake_labels[k])
            for k in range(count)
        ]
        loss = self._generator_step(latents[count], fake_labels[count])
        self._update_average()
        return sum(losses) / count, loss

    def _generator_step(self, latents: Tensor, fake_labels: Tensor) -> Tensor:
        def loss() -> Tensor:
            fakes = self.generator([latents, fake_labels], training=True)
            return generator_loss(self.discriminator([fakes, fake_labels], training=True))

        return self._steps.minimize(
            loss, self.generator_optimizer, self.generator.trainable_variables
        )

    def _discriminator_step(
        self, images: Tensor, labels: Tensor, latents: Tensor, fake_labels: Tensor
    ) -> Tensor:
        fakes = ops.stop_gradient(self.generator([latents, fake_labels], training=True))
        return self._steps.minimize(
            # Two calls, so that real and generated images share no batch statistics.
            lambda: discriminator_loss(
                self.discriminator([images, labels], training=True),
                self.discriminator([fakes, fake_labels], training=True),
            ),
            self.discriminator_optimizer,
            self.discriminator.trainable_variables,
        )

    def _adam(self, model: keras.Model, rate: float, steps: int) -> keras.optimizers.Optimizer:
        """Returns Adam without momentum, for `steps` steps of a model in each of the training."""
        schedule = SCHEDULES[self.settings.schedule](rate, self.settings.steps * steps)
        optimizer = keras.optimizers.Adam(schedule, beta_1=0.0, beta_2=0.9)
        optimizer.build(model.trainable_variables)
        return optimizer

    def _update_average(self) -> None:
        """Moves the averaged weights towards the generator's, faster in the first steps."""
        step = ops.cast(self.generator_optimizer.iterations, "float32")
        decay = ops.minimum(self.settings.average, (1.0 + step) / (10.0 + step))
        pairs = zip(
            self.average.trainable_variables, self.generator.trainable_variables, strict=True
        )
        for average, variable in pairs:
            average.assign(average + (1.0 - decay) * (variable - average))


def draw_inputs(
    settings: GanSettings, classes: int, step: int
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Draws the latents and the classes of a step, which depend only on its number and the seed.

    Args:
        settings: of the run.
        classes: number of classes.
        step: counted from 0.

    Returns:
        `(k + 1, N, latent_size)` and `(k + 1, N)`, for k steps of the discriminator.
    """
    random = np.random.default_rng((settings.seed, step, 1))
    shape = (settings.discriminator_steps + 1, settings.batch_size)
    latents = random.standard_normal((*shape, settings.latent_size), dtype=np.float32)
    return latents, random.integers(0, classes, shape)
