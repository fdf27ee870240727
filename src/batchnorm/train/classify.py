"""A classifier's training: from its settings to a folder full of results."""

from collections.abc import Callable

import keras
from rich.console import Console

from batchnorm.data import Dataset, load
from batchnorm.train import lenet, results
from batchnorm.train.batches import Batches, Shuffled
from batchnorm.train.fit import fit, make_repeatable
from batchnorm.train.run import Run
from batchnorm.train.settings import ClassifierSettings

MODELS: dict[str, Callable[[ClassifierSettings, Dataset], keras.Model]] = {"lenet": lenet.build}
Prepared = tuple[Dataset, Shuffled, keras.Model]

show = results.show


def prepare(settings: ClassifierSettings) -> Prepared:
    """Reads the data and builds the model; see `batchnorm.train.start.Training`."""
    make_repeatable(settings.seed)
    data = load(settings.data, settings.data_dir)
    train = Shuffled(data.train, settings.batch_size, settings.seed)
    return data, train, MODELS[settings.model](settings, data)


def finish(run: Run, settings: ClassifierSettings, prepared: Prepared, console: Console) -> None:
    """Trains to the end and writes the results; see `batchnorm.train.start.Training`."""
    data, train, model = prepared
    test = Batches(data.test, settings.batch_size)
    epochs = fit(run, settings, model, train, test, console)
    results.write(run, settings, data, model, epochs)
