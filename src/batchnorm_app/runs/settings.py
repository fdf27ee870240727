"""The settings of a run: everything that decides its result, with types and ranges."""

from collections.abc import Mapping
from dataclasses import MISSING, asdict, fields
from typing import Annotated, Any, Self

from pydantic import ConfigDict, Field, ValidationError, model_validator
from pydantic.dataclasses import dataclass

from batchnorm_app import choices
from batchnorm_app.choices import SCHEDULES
from batchnorm_app.errors import one_line
from batchnorm_app.runs import limits
from batchnorm_app.runs.expressions import drops_of, schedules, slots_of
from batchnorm_app.runs.limits import SettingError, accepted_by, one_of, setting_error

Normalization = Annotated[str, accepted_by(slots_of)]
# Without conversions: true is not 1.
_STRICT = ConfigDict(strict=True, extra="forbid")


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class Settings:
    """The settings that every training run has, named as the command line names them.

    Attributes:
        model: which model is trained, a name of `KINDS`.
        data: the data set's name.
        data_dir: the folder of the data set's official files; `None` for the default folder.
        batch_size: images per step, at least 2.
        learning_rate: the highest of the schedule.
        schedule: decay of the learning rate; see `batchnorm_app.train.optimizer.learning_rates`.
        seed: of the initial weights and the order of the images, from 0 to 2**32 - 1.
        backend: of Keras.

    Raises:
        ValidationError: Pydantic's, a ValueError: a value is out of range or of another type.
    """

    model: str
    data: Annotated[str, one_of(choices.DATA_SETS)]
    data_dir: Annotated[str, Field(min_length=1, max_length=4096)] | None
    batch_size: limits.BatchSize
    learning_rate: limits.LearningRate
    schedule: str
    seed: limits.Seed
    backend: Annotated[str, one_of(choices.BACKENDS)]

    @staticmethod
    def from_values(values: Mapping[str, Any]) -> "Settings":
        """Returns settings made of checked values.

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
        """Returns the settings that `to_json` wrote.

        Args:
            values: a value from a JSON file.

        Raises:
            SettingError: a value is out of range or of another type.
            ValueError: a setting is missing or unknown, or the value is not a dictionary.
        """
        kind = KINDS.get(str(values.get("model"))) if isinstance(values, dict) else None
        if kind is None:
            received = one_line(repr(values), 60)
            raise ValueError(f"expected the settings of {', '.join(KINDS)}; received {received}")
        # Older versions lacked some settings; their defaults are what those versions did.
        values = {f.name: f.default for f in fields(kind) if f.default is not MISSING} | values
        names = [field.name for field in fields(kind)]
        if values.keys() != {*names}:
            received = one_line(", ".join(values), 400)
            raise ValueError(f"expected the settings {', '.join(names)}; received {received}")
        return Settings.from_values(values)

    def to_json(self) -> dict[str, Any]:
        """Returns the settings as a JSON object, in the order of the attributes."""
        return asdict(self)

    def differences(self, values: Mapping[str, Any]) -> list[str]:
        """Describes the values that differ from these settings, one line each.

        Args:
            values: settings by name.

        Returns:
            A line such as `epochs: this run's is 30, received 10` for each that differs.
        """
        if values.get("model", self.model) != self.model:
            values = {"model": values["model"]}  # the other settings are not comparable
        return [
            f"{name}: this run's is {getattr(self, name)}, received {value}"
            for name, value in values.items()
            if getattr(self, name) != value
        ]


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class ClassifierSettings(Settings):
    """The settings of a classifier's training.

    Attributes:
        epochs: passes over the training images.
        normalization: an expression of `batchnorm_app.runs.expressions.GRAMMAR`.
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
        optimizer: a name of `batchnorm_app.choices.OPTIMIZERS`.
        image_size: the side in pixels to resize images to; `None` for no resizing.
    """

    optimizer: Annotated[str, one_of(choices.OPTIMIZERS)]
    image_size: limits.ImageSize | None


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class ResNetSettings(ClassifierSettings):
    """The settings of a ResNet's training, by stochastic gradient descent with momentum.

    Attributes:
        depth: of the network, as `batchnorm.models.resnet.resnet` takes it.
        block: likewise.
        momentum: of the optimizer, in [0, 1).
        weight_decay: decoupled, per step and learning rate.
        decay: the weights that decay: "kernels", or "all", with gammas, betas and biases.
        augment: shift and flip training images.
        precision: Keras's dtype policy.
    """

    depth: limits.Depth
    block: Annotated[str, one_of(choices.BLOCKS)] | None
    momentum: limits.Momentum
    weight_decay: limits.WeightDecay
    decay: Annotated[str, one_of(choices.DECAYS)]
    augment: bool
    precision: Annotated[str, one_of(choices.PRECISIONS)]


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class GanSettings(Settings):
    """The settings of a GAN's training.

    Attributes:
        steps: of the generator.
        discriminator_learning_rate: the highest of the discriminator; `learning_rate` is the
            generator's.
        conditioning: of the generator: "class" for a gamma and a beta per class in its
            normalizations, "none" for images of any class.
        width: filters at the images' full size; twice as many at half of it, and so on.
        latent_size: size of the latent vector of an image.
        discriminator_steps: steps of the discriminator for each of the generator.
        average: momentum of the generator's averaged weights, in [0, 1).
        samples_every: steps between two pictures, lines of the history, checkpoints.
        normalization: the generator's, as for `ClassifierSettings`.
    """

    steps: limits.Steps
    discriminator_learning_rate: limits.LearningRate
    conditioning: Annotated[str, one_of(choices.CONDITIONINGS)]
    width: limits.Width
    latent_size: limits.LatentSize
    discriminator_steps: limits.DiscriminatorSteps
    average: limits.Momentum
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
