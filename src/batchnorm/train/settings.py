"""What was asked of a run: everything that decides its result."""

from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from typing import Any, get_type_hints


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The settings that every training run has, named as the command line names them.

    Attributes:
        model: which model is trained, a name of `KINDS`.
        data: the data set's name.
        data_dir: the folder of the data set's official files; `None` to look where they usually
            are.
        batch_size: images in a step; at least 2.
        learning_rate: the highest that the schedule reaches.
        schedule: how the learning rate falls; see `batchnorm.train.optimizer.learning_rates`.
        seed: decides the first weights and the order of the images; not negative.
        backend: Keras's.
    """

    model: str
    data: str
    data_dir: str | None
    batch_size: int
    learning_rate: float
    schedule: str
    seed: int
    backend: str

    @staticmethod
    def from_json(values: Any) -> "Settings":
        """The settings that `to_json` wrote.

        Args:
            values: what a JSON parser made of them.

        Returns:
            The settings.

        Raises:
            ValueError: these are not the settings of a run: one is missing, unknown or of a wrong
                type.
        """
        kind = KINDS.get(str(values.get("model"))) if isinstance(values, dict) else None
        if kind is None:
            raise ValueError(f"expected the settings of {', '.join(KINDS)}; received {values!r}")
        hints = get_type_hints(kind)
        # What a version before this one did not ask has the default that it went by.
        values = {f.name: f.default for f in fields(kind) if f.default is not MISSING} | values
        if values.keys() != hints.keys():
            raise ValueError(f"expected the settings {', '.join(hints)}; received {values!r}")
        for name, hint in hints.items():
            if not isinstance(values[name], hint):
                raise ValueError(f"{name} is {values[name]!r}, which is no {hint}")
        return kind(**values)

    def to_json(self) -> dict[str, Any]:
        """The settings as JSON knows them, in the order of the attributes."""
        return asdict(self)

    def differences(self, given: Mapping[str, Any]) -> list[str]:
        """What of `given` is not as here: one line each, with both values.

        Args:
            given: settings by name.

        Returns:
            A line such as `epochs: this run's is 30, received 10` for each that differs.
        """
        if given.get("model", self.model) != self.model:
            given = {"model": given["model"]}  # whose other settings this one does not have
        return [
            f"{name}: this run's is {getattr(self, name)}, received {value}"
            for name, value in given.items()
            if getattr(self, name) != value
        ]


@dataclass(frozen=True, kw_only=True)
class ClassifierSettings(Settings):
    """The settings of a classifier's training.

    Attributes:
        epochs: how often each training image is seen.
        normalization: what `batchnorm.train.normalization.normalization` reads.
    """

    epochs: int
    normalization: str


@dataclass(frozen=True, kw_only=True)
class LeNetSettings(ClassifierSettings):
    """The settings of a LeNet's training.

    Attributes:
        optimizer: a name of `batchnorm.train.optimizer.OPTIMIZERS`.
        image_size: the side in pixels that the network sees; `None` for that of the images.
    """

    optimizer: str
    image_size: int | None


@dataclass(frozen=True, kw_only=True)
class ResNetSettings(ClassifierSettings):
    """The settings of a ResNet's training, by stochastic gradient descent with momentum.

    Attributes:
        depth: of the network, as `batchnorm.models.resnet.resnet` takes it.
        block: likewise.
        momentum: what a step keeps of the step before, in [0, 1).
        weight_decay: how much of itself a weight loses in a step, times the learning rate.
        decay: what decays: "kernels", or "all", which are the gammas, betas and biases too.
        augment: whether training images are moved and flipped.
        precision: Keras's dtype policy.
    """

    depth: int
    block: str | None
    momentum: float
    weight_decay: float
    decay: str
    augment: bool
    precision: str


@dataclass(frozen=True, kw_only=True)
class GanSettings(Settings):
    """The settings of a GAN's training.

    Attributes:
        steps: of the generator.
        discriminator_learning_rate: the highest of the discriminator; `learning_rate` is the
            generator's.
        conditioning: how the generator is told the class, beside its latents: "class" for a gamma
            and a beta per class in its normalizations, "none" for nothing.
        width: filters at the images' full size; twice as many at half of it, and so on.
        latent_size: how many random numbers an image is made of.
        discriminator_steps: of the discriminator, for each of the generator.
        average: what a step keeps of the generator's average, in [0, 1).
        samples_every: steps between two pictures, lines of the history, checkpoints.
        normalization: the generator's, as for `ClassifierSettings`.
    """

    steps: int
    discriminator_learning_rate: float
    conditioning: str
    width: int
    latent_size: int
    discriminator_steps: int
    average: float
    samples_every: int
    normalization: str = "ours"


KINDS: dict[str, type[Settings]] = {
    "lenet": LeNetSettings,
    "resnet": ResNetSettings,
    "gan": GanSettings,
}
