"""The training loop of a classifier, which may be interrupted at any time."""

import os

import keras
from rich.console import Console

from batchnorm_app.files import atomic
from batchnorm_app.runs import checkpoint
from batchnorm_app.runs.history import Epoch, History, NonFiniteError, write_csv
from batchnorm_app.runs.run import Run
from batchnorm_app.train.batches import Batches, Shuffled, ShuffleEachEpoch
from batchnorm_app.train.epoch_bar import EpochBar
from batchnorm_app.train.recorder import Recorder
from batchnorm_app.train.tensorboard import TensorBoard


def fit(
    run: Run,
    total: int,
    model: keras.Model,
    optimizer: keras.optimizers.Optimizer,
    train: Shuffled,
    test: Batches,
    console: Console,
) -> list[Epoch]:
    """Trains a model, from the run's checkpoint if it has one, else from the beginning.

    After `make_repeatable` the final weights are the same, bit for bit, no matter how often the
    training was interrupted, even by `kill -9`.

    Args:
        run: receives a checkpoint, a line of history, the normalization layers' statistics and
            TensorBoard's events after each epoch, and the model at the end.
        total: number of epochs, with those of the checkpoint.
        model: from images to logits, with its initial weights; it is changed in place.
        optimizer: not yet built.
        train: the batches to train on.
        test: the batches to test on after each epoch.
        console: shows the progress.

    Returns:
        The history of all epochs.

    Raises:
        NonFiniteError: a loss or a weight is not finite; checkpoint and model are then those of
            the last good epoch.
        UserError: a file cannot be read or written.
    """
    _compile(model, optimizer)
    epochs: list[Epoch] = []
    if run.checkpoint.exists():
        epochs = checkpoint.restore(run.checkpoint, checkpoint.variables_of(model), Epoch, total)
        write_csv(run.history, epochs)  # an interruption may have come between the two files
    with EpochBar(console, epochs, total, len(train)) as progress:
        try:
            model.fit(
                train,
                epochs=total,
                initial_epoch=len(epochs),
                validation_data=test,
                # Keras would shuffle the batches by Python's generator, whose state no file saves.
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
    """Writes the run's `model.keras` atomically.

    Args:
        run: the run.
        model: the model.
    """
    with atomic(run.model) as temporary:
        model.save(temporary)


def make_repeatable(seed: int) -> None:
    """Makes this process deterministic from here on; call it before a model is built.

    Args:
        seed: of the initial weights, and of layers such as dropout.
    """
    keras.utils.set_random_seed(seed)
    if keras.config.backend() == "tensorflow":
        import tensorflow

        tensorflow.config.experimental.enable_op_determinism()
    elif keras.config.backend() == "torch":
        import torch

        # cuBLAS reads it when it starts. Without it, deterministic PyTorch refuses matrix products
        # on a GPU.
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
