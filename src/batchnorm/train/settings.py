"""What was asked of a run: everything that decides its result."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self, get_type_hints


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The settings of a training run, named as the command line names them.

    Attributes:
        model: which model is trained.
        data: the data set's name.
        data_dir: the folder of the data set's official files; `None` to look where they usually
            are.
        epochs: how often each training image is seen.
        batch_size: images in a step; at least 2.
        optimizer: a name of `batchnorm.train.optimizer.OPTIMIZERS`.
        learning_rate: the highest that the schedule reaches.
        schedule: a name of `batchnorm.train.optimizer.SCHEDULES`.
        seed: decides the first weights and the order of the images; not negative.
        normalization: a name of `batchnorm.train.normalization.NORMALIZATIONS`.
        image_size: the side in pixels that the network sees; `None` for that of the images.
        backend: Keras's.
    """

    model: str
    data: str
    data_dir: str | None
    epochs: int
    batch_size: int
    optimizer: str
    learning_rate: float
    schedule: str
    seed: int
    normalization: str
    image_size: int | None
    backend: str

    @classmethod
    def from_json(cls, values: Any) -> Self:
        """The settings that `to_json` wrote.

        Args:
            values: what a JSON parser made of them.

        Returns:
            The settings.

        Raises:
            ValueError: these are not the settings of a run: one is missing, unknown or of a wrong
                type.
        """
        hints = get_type_hints(cls)
        if not isinstance(values, dict) or values.keys() != hints.keys():
            raise ValueError(f"expected the settings {', '.join(hints)}; received {values!r}")
        for name, hint in hints.items():
            if not isinstance(values[name], hint):
                raise ValueError(f"{name} is {values[name]!r}, which is no {hint}")
        return cls(**values)

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
        return [
            f"{name}: this run's is {getattr(self, name)}, received {value}"
            for name, value in given.items()
            if getattr(self, name) != value
        ]
