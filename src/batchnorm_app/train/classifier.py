"""Trains a classifier, from its settings to a folder of results."""

from typing import Any, NamedTuple, Protocol

import keras
from rich.console import Console

from batchnorm.data import Dataset, load
from batchnorm_app.errors import UserError
from batchnorm_app.runs.run import Run
from batchnorm_app.runs.settings import ClassifierSettings
from batchnorm_app.train import lenet, resnet, results
from batchnorm_app.train.batches import Batches, Shuffled
from batchnorm_app.train.loop import fit, make_repeatable


class Recipe(Protocol):
    """The parts of a training that depend on the classifier; a module of this package."""

    def batches(self, settings: Any, data: Dataset) -> Shuffled:
        """Returns the batches to train on.

        Raises:
            UserError: the settings do not fit the data.
        """

    def build(self, settings: Any, data: Dataset) -> keras.Model:
        """Returns the model, not yet compiled.

        Raises:
            ValueError: the model does not exist or does not fit the images.
        """

    def optimizer(
        self, settings: Any, model: keras.Model, steps: int
    ) -> keras.optimizers.Optimizer:
        """Returns the optimizer, for a number of steps in an epoch.

        Raises:
            UserError: the settings contradict each other.
        """


RECIPES: dict[str, Recipe] = {"lenet": lenet, "resnet": resnet}


class ClassifierSetup(NamedTuple):
    """The objects of a training that exist before its folder is touched."""

    data: Dataset
    train: Shuffled
    model: keras.Model
    optimizer: keras.optimizers.Optimizer


show = results.show


def prepare(settings: ClassifierSettings) -> ClassifierSetup:
    """Reads the data and builds the model; see `batchnorm_app.train.start.Training`."""
    recipe = RECIPES[settings.model]
    make_repeatable(settings.seed)
    data = load(settings.data, settings.data_dir)
    train = recipe.batches(settings, data)
    try:
        model = recipe.build(settings, data)
    except ValueError as error:
        raise UserError(str(error)) from error
    return ClassifierSetup(data, train, model, recipe.optimizer(settings, model, len(train)))


def finish(
    run: Run, settings: ClassifierSettings, setup: ClassifierSetup, console: Console
) -> None:
    """Trains to the end and writes the results; see `batchnorm_app.train.start.Training`."""
    data, train, model, optimizer = setup
    test = Batches(data.test, settings.batch_size)
    epochs = fit(run, settings.epochs, model, optimizer, train, test, console)
    results.write(run, settings, data, model, epochs)
