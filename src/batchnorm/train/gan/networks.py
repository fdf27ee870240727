"""The two networks of a GAN, the generator's average, and the step that trains them."""

from typing import Any

import keras
import numpy as np
import numpy.typing as npt
from keras import ops

from batchnorm.models.gan import discriminator, discriminator_loss, generator, generator_loss
from batchnorm.train import steps
from batchnorm.train.gan.generate import in_training
from batchnorm.train.normalization import normalization
from batchnorm.train.optimizer import SCHEDULES
from batchnorm.train.settings import GanSettings

Array = npt.NDArray[Any]
Tensor = Any


class Networks:
    """Generator, discriminator, their optimizers, and the average of the generator's weights.

    Args:
        settings: of the run.
        image_shape: `(H, W, C)`.
        classes: how many there are.

    Attributes:
        average: a generator with the averaged weights; its moving statistics mean nothing until
            they are recalibrated.
        variables: all that the rest of a training depends on.
        step: one step of training, a method of arrays; see `_step`.
        forward: the average in training mode, for `batchnorm.train.gan.generate.calibrate`.
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
        self.variables = [v for owner in (*owners, *optimizers) for v in owner.variables]
        self._steps = steps.choose(self.variables)
        self.step = self._steps.compiled(self._step)
        self.forward = in_training(self.average)

    def _step(
        self, images: Tensor, labels: Tensor, latents: Tensor, wanted: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Some steps of the discriminator, one of the generator.

        Args:
            images: real ones, `(k, N, H, W, C)`, 0 to 255, a batch for each step.
            labels: theirs, `(k, N)`.
            latents: `(k + 1, N, latent_size)`, the last for the generator's step.
            wanted: the classes of what is to be generated, `(k + 1, N)`.

        Returns:
            The losses: the discriminator's mean, the generator's.
        """
        count = self.settings.discriminator_steps
        images = ops.cast(images, "float32") / 127.5 - 1.0
        labels, wanted = (ops.one_hot(each, self.classes) for each in (labels, wanted))
        losses = [
            self._discriminate(images[k], labels[k], latents[k], wanted[k]) for k in range(count)
        ]
        loss = self._steps.minimize(
            lambda: generator_loss(
                self.discriminator(
                    [self.generator([latents[count], wanted[count]], training=True), wanted[count]],
                    training=True,
                )
            ),
            self.generator_optimizer,
            self.generator.trainable_variables,
        )
        self._follow()
        return sum(losses) / count, loss

    def _discriminate(
        self, images: Tensor, labels: Tensor, latents: Tensor, wanted: Tensor
    ) -> Tensor:
        made = ops.stop_gradient(self.generator([latents, wanted], training=True))
        return self._steps.minimize(
            # Two calls: what is real and what is not share no statistics.
            lambda: discriminator_loss(
                self.discriminator([images, labels], training=True),
                self.discriminator([made, wanted], training=True),
            ),
            self.discriminator_optimizer,
            self.discriminator.trainable_variables,
        )

    def _adam(self, model: keras.Model, rate: float, steps: int) -> keras.optimizers.Optimizer:
        """Adam without momentum, for so many steps of a model to each of the training."""
        schedule = SCHEDULES[self.settings.schedule](rate, self.settings.steps * steps)
        optimizer = keras.optimizers.Adam(schedule, beta_1=0.0, beta_2=0.9)
        optimizer.build(model.trainable_variables)
        return optimizer

    def _follow(self) -> None:
        """Lets the average follow, faster as long as there is little to average."""
        step = ops.cast(self.generator_optimizer.iterations, "float32")
        kept = ops.minimum(self.settings.average, (1.0 + step) / (10.0 + step))
        pairs = zip(
            self.average.trainable_variables, self.generator.trainable_variables, strict=True
        )
        for average, variable in pairs:
            average.assign(average + (1.0 - kept) * (variable - average))


def draws(
    settings: GanSettings, classes: int, step: int
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """The latents and the classes of a step, which depend on nothing else.

    Args:
        settings: of the run.
        classes: how many there are.
        step: counted from 0.

    Returns:
        `(k + 1, N, latent_size)` and `(k + 1, N)`, for k steps of the discriminator.
    """
    random = np.random.default_rng((settings.seed, step, 1))
    shape = (settings.discriminator_steps + 1, settings.batch_size)
    latents = random.standard_normal((*shape, settings.latent_size), dtype=np.float32)
    return latents, random.integers(0, classes, shape)
