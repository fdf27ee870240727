"""A classifier's training: from its settings to a folder full of results."""

from typing import Any, NamedTuple, Protocol

import keras
from rich.console import Console

from batchnorm.data import Dataset, load
from batchnorm.train import lenet, resnet, results
from batchnorm.train.batches import Batches, Shuffled
from batchnorm.train.fit import fit, make_repeatable
from batchnorm.train.run import Run, RunError
from batchnorm.train.settings import ClassifierSettings


class Recipe(Protocol):
    """What differs from classifier to classifier; a module of this package is one."""

    def batches(self, settings: Any, data: Dataset) -> Shuffled:
        """What to train on.

        Raises:
            RunError: the settings do not fit the data.
        """

    def build(self, settings: Any, data: Dataset) -> keras.Model:
        """The model, not yet compiled.

        Raises:
            ValueError: there is no such model for such images.
        """

    def optimizer(
        self, settings: Any, model: keras.Model, steps: int
    ) -> keras.optimizers.Optimizer:
        """The optimizer, for so many steps an epoch.

        Raises:
            RunError: the settings make no sense.
        """


RECIPES: dict[str, Recipe] = {"lenet": lenet, "resnet": resnet}


class Prepared(NamedTuple):
    """What a training needs, before its folder is touched."""

    data: Dataset
    train: Shuffled
    model: keras.Model
    optimizer: keras.optimizers.Optimizer


show = results.show


def prepare(settings: ClassifierSettings) -> Prepared:
    """Reads the data and builds the model; see `batchnorm.train.start.Training`."""
    recipe = RECIPES[settings.model]
    make_repeatable(settings.seed)
    data = load(settings.data, settings.data_dir)
    train = recipe.batches(settings, data)
    try:
        model = recipe.build(settings, data)
    except ValueError as error:
        raise RunError(str(error)) from error
    return Prepared(data, train, model, recipe.optimizer(settings, model, len(train)))


def finish(run: Run, settings: ClassifierSettings, prepared: Prepared, console: Console) -> None:
    """Trains to the end and writes the results; see `batchnorm.train.start.Training`."""
    data, train, model, optimizer = prepared
    test = Batches(data.test, settings.batch_size)
    epochs = fit(run, settings.epochs, model, optimizer, train, test, console)
    results.write(run, settings, data, model, epochs)
