"""The settings of a run: everything that decides its result, checked wherever they come from."""

from collections.abc import Mapping
from dataclasses import MISSING, asdict, fields
from typing import Annotated, Any, Self

from pydantic import ConfigDict, Field, ValidationError, model_validator
from pydantic.dataclasses import dataclass

from batchnorm.data import NAMES
from batchnorm.models.resnet import BLOCKS
from batchnorm.train import limits
from batchnorm.train.errors import one_line
from batchnorm.train.limits import SettingError, accepted_by, one_of, setting_error
from batchnorm.train.normalization import slots_of
from batchnorm.train.optimizer import OPTIMIZERS, SCHEDULES, drops_of, schedules

BACKENDS = ("tensorflow", "jax", "torch")
CONDITIONINGS = ("class", "none")
DECAYS = ("kernels", "all")
PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16")

Normalization = Annotated[str, accepted_by(slots_of)]
# No type is converted to another: true is no 1.
_STRICT = ConfigDict(strict=True, extra="forbid")


@dataclass(frozen=True, kw_only=True, config=_STRICT)
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
        seed: decides the first weights and the order of the images, from 0 to 2**32 - 1.
        backend: Keras's.

    Raises:
        ValidationError: Pydantic's, a ValueError: a value is out of range or of another type.
    """

    model: str
    data: Annotated[str, one_of(NAMES)]
    data_dir: Annotated[str, Field(min_length=1, max_length=4096)] | None
    batch_size: limits.BatchSize
    learning_rate: limits.Rate
    schedule: str
    seed: limits.Seed
    backend: Annotated[str, one_of(BACKENDS)]

    @staticmethod
    def checked(values: Mapping[str, Any]) -> "Settings":
        """Returns the settings that are given by their names.

        Args:
            values: a value for each setting of the model that "model" names.

        Raises:
            SettingError: a value is out of range or of another type.
        """
        kind = KINDS[values["model"]]
        try:
            return kind(**values)
        except ValidationError as error:
            raise setting_error(error, kind) from None

    @staticmethod
    def from_json(values: Any) -> "Settings":
        """The settings that `to_json` wrote.

        Args:
            values: what a JSON parser made of them.

        Returns:
            The settings.

        Raises:
            SettingError: a value is out of range or of another type.
            ValueError: these are not the settings of a run: one is missing or unknown.
        """
        kind = KINDS.get(str(values.get("model"))) if isinstance(values, dict) else None
        if kind is None:
            received = one_line(repr(values), 60)
            raise ValueError(f"expected the settings of {', '.join(KINDS)}; received {received}")
        # What a version before this one did not ask has the default that it went by.
        values = {f.name: f.default for f in fields(kind) if f.default is not MISSING} | values
        names = [field.name for field in fields(kind)]
        if values.keys() != {*names}:
            received = one_line(", ".join(values), 400)
            raise ValueError(f"expected the settings {', '.join(names)}; received {received}")
        return Settings.checked(values)

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


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class ClassifierSettings(Settings):
    """The settings of a classifier's training.

    Attributes:
        epochs: how often each training image is seen.
        normalization: what `batchnorm.train.normalization.normalization` reads.
    """

    epochs: limits.Epochs
    normalization: Normalization

    @model_validator(mode="after")
    def _check_schedule(self) -> Self:
        try:
            if self.schedule not in SCHEDULES:
                drops_of(self.schedule, self.epochs)
        except ValueError:
            raise SettingError(
                "schedule", self.schedule, f"expected {schedules(self.epochs)}"
            ) from None
        return self


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class LeNetSettings(ClassifierSettings):
    """The settings of a LeNet's training.

    Attributes:
        optimizer: a name of `batchnorm.train.optimizer.OPTIMIZERS`.
        image_size: the side in pixels that the network sees; `None` for that of the images.
    """

    optimizer: Annotated[str, one_of(OPTIMIZERS)]
    image_size: limits.ImageSize | None


@dataclass(frozen=True, kw_only=True, config=_STRICT)
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

    depth: limits.Depth
    block: Annotated[str, one_of(BLOCKS)] | None
    momentum: limits.Share
    weight_decay: limits.Decay
    decay: Annotated[str, one_of(DECAYS)]
    augment: bool
    precision: Annotated[str, one_of(PRECISIONS)]


@dataclass(frozen=True, kw_only=True, config=_STRICT)
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

    steps: limits.Steps
    discriminator_learning_rate: limits.Rate
    conditioning: Annotated[str, one_of(CONDITIONINGS)]
    width: limits.Width
    latent_size: limits.LatentSize
    discriminator_steps: limits.DiscriminatorSteps
    average: limits.Share
    samples_every: limits.Steps
    normalization: Normalization = "ours"

    @model_validator(mode="after")
    def _check_combinations(self) -> Self:
        if self.schedule not in SCHEDULES:
            raise SettingError(
                "schedule", self.schedule, f"expected one of {', '.join(SCHEDULES)}."
            )
        if self.conditioning == "class" and self.normalization in ("keras", "none"):
            reason = "it cannot depend on the class: choose one of ours, or --conditioning none."
            raise SettingError("normalization", self.normalization, reason)
        return self


KINDS: dict[str, type[Settings]] = {
    "lenet": LeNetSettings,
    "resnet": ResNetSettings,
    "gan": GanSettings,
}
