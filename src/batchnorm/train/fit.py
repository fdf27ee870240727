"""A training from its settings to a folder full of results, to be interrupted at any time."""

import os

import keras
from rich.console import Console

from batchnorm.train import checkpoint
from batchnorm.train.batches import Batches, Shuffled, ShuffleEachEpoch
from batchnorm.train.history import Epoch, History, NonFiniteError, write_csv
from batchnorm.train.progress import ProgressBar
from batchnorm.train.run import Run, atomic
from batchnorm.train.statistics import Recorder
from batchnorm.train.tensorboard import TensorBoard


def fit(
    run: Run,
    total: int,
    model: keras.Model,
    optimizer: keras.optimizers.Optimizer,
    train: Shuffled,
    test: Batches,
    show: Console,
) -> list[Epoch]:
    """Trains a model, from the run's checkpoint if it has one, else from the beginning.

    After `make_repeatable` the weights are in the end the same, bit for bit, however often the
    training was interrupted, even by `kill -9`.

    Args:
        run: receives a checkpoint, a line of history, the normalization layers' statistics and
            TensorBoard's events after each epoch, and the model in the end.
        total: how many epochs there are to be, with those of the checkpoint.
        model: from images to logits, as it was first built; it is changed in place.
        optimizer: what takes the steps, not yet built.
        train: what to train on.
        test: what to test with after each epoch.
        show: where to show the progress.

    Returns:
        The history of all epochs.

    Raises:
        NonFiniteError: a loss or a weight is not finite; checkpoint and model are then those of
            the last good epoch.
        RunError: a file cannot be read or written.
    """
    _compile(model, optimizer)
    epochs: list[Epoch] = []
    if run.checkpoint.exists():
        epochs = checkpoint.restore(run.checkpoint, checkpoint.variables_of(model), Epoch, total)
        write_csv(run.history, epochs)  # the last time may have ended between the two files
    with ProgressBar(show, epochs, total, len(train)) as progress:
        try:
            model.fit(
                train,
                epochs=total,
                initial_epoch=len(epochs),
                validation_data=test,
                # Keras would shuffle the batches by Python's generator, whose state is not saved.
                shuffle=False,
                verbose=0,
                callbacks=[
                    ShuffleEachEpoch(train),
                    History(epochs),
                    Recorder(run, epochs),
                    checkpoint.Checkpoint(run, epochs),
                    TensorBoard(run, epochs),
                    progress,
                ],
            )
        except NonFiniteError as error:
            raise NonFiniteError(f"{error} {_keep_last_good(run, model, total)}") from error
    save_model(run, model)
    return epochs


def save_model(run: Run, model: keras.Model) -> None:
    """Writes the run's `model.keras`, whole or not at all.

    Args:
        run: the run.
        model: the model.
    """
    with atomic(run.model) as temporary:
        model.save(temporary)


def make_repeatable(seed: int) -> None:
    """Makes what follows in this process depend on the seed alone; call it before building.

    Args:
        seed: of the weights, and of layers such as dropout.
    """
    keras.utils.set_random_seed(seed)
    if keras.config.backend() == "tensorflow":
        import tensorflow

        tensorflow.config.experimental.enable_op_determinism()
    elif keras.config.backend() == "torch":
        import torch

        # Read by cuBLAS when it starts; without it, PyTorch refuses to multiply on a GPU here.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)


def _compile(model: keras.Model, optimizer: keras.optimizers.Optimizer) -> None:
    model.compile(
        optimizer=optimizer,
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=[keras.metrics.SparseCategoricalAccuracy(name="accuracy")],
    )
    model.optimizer.build(model.trainable_variables)


def _keep_last_good(run: Run, model: keras.Model, total: int) -> str:
    if not run.checkpoint.exists():
        return "No epoch was finished, so there is nothing to keep."
    epochs = checkpoint.restore(run.checkpoint, checkpoint.variables_of(model), Epoch, total)
    save_model(run, model)
    return f"{run.model} and {run.checkpoint.name} are those of epoch {len(epochs)}."
