"""`load_checkpoint`: loads the weights of a TensorFlow 1 checkpoint into a Keras model."""

import os
from typing import Any

from batchnorm.contrib.checkpoint import explain
from batchnorm.contrib.checkpoint.assignment import Source, shape_problem
from batchnorm.contrib.checkpoint.mismatch import CheckpointMismatch, Problem
from batchnorm.contrib.checkpoint.model_layers import targets
from batchnorm.contrib.checkpoint.names_argument import Names
from batchnorm.contrib.checkpoint.plan import Plan, plan
from batchnorm.contrib.checkpoint.report import Report
from batchnorm.contrib.checkpoint.saver_file import SaverFile, open_checkpoint
from batchnorm.contrib.checkpoint.suggest import suggest
from batchnorm.contrib.checkpoint.values import Value, value_of
from batchnorm.contrib.checkpoint.variable_kinds import Contents

Model = Any  # a keras.Model; Keras has no types


def load_checkpoint(
    path: str | os.PathLike[str], model: Model, names: Names = None, *, shadows: bool = False
) -> Report:
    """Loads a checkpoint of TensorFlow 1's `tf.train.Saver` into a Keras model, on any backend.

    Each layer takes its variables from one scope of the checkpoint, found in this order:

    1. by `names`;
    2. by its name: `conv1/kernel` from `conv1/weights`, where case, separators, a scope around
       the whole checkpoint, and the synonyms of "batch norm" and a few more words make no
       difference; `block_conv1` from `block/conv1`; `conv1_bn` from `conv1/BatchNorm`, and so
       does, in a functional model, a normalization behind the layer of `conv1`. Names with
       numbers that Keras gave, as in `conv2d_1`, count only if the checkpoint has just the same
       ones;
    3. by shape, if exactly one free scope has just the variables of the layer, and fits no other
       layer that has none.

    The names of variables are those of tf.contrib (slim) or of tf.layers and tf.keras; other
    layers' are taken as they are. Where a layer's scope is not certain, or does
    not fit it, the error says everything that is wrong, and the model stays as it is.

    `BatchNormalization` takes its state in the form that it has, too: `local_step` of zero-debias
    where the layer counts steps, with `ZeroDebiased(momentum, variance=False)` as tf.contrib did;
    the state of renorm since TensorFlow 1.14, and that until 1.13, whose weighted sums are divided
    by their weights, with the steps of `OldRenorm` from these weights. Where the layer has renorm
    and the checkpoint has not, it starts from the moving mean and variance.

    Args:
        path: the prefix, such as `folder/model.ckpt-6`, one of the checkpoint's files, or its
            folder, for the latest checkpoint in it.
        model: built. All of its variables are loaded.
        names: a dictionary from a layer's name or path, or a variable's path, in the model to a
            scope, or a variable, in the checkpoint; `None` for one leaves it as it is, and for a
            pattern such as `"*/moving_mean"` all variables that match it. Or a function from a
            variable's path to a variable's name in the checkpoint, or `None` where it does not
            know.
        shadows: whether to load a variable's exponential moving average,
            `.../ExponentialMovingAverage`, where there is one, in place of its value.

    Returns:
        A report of each variable of the checkpoint, which `print` shows.

    Raises:
        FileNotFoundError: there is no checkpoint, or one of its files is missing.
        ImportError: TensorFlow is not installed, which reads the file on every backend.
        ValueError: the file is damaged or was not written by a Saver.
        CheckpointMismatch: it does not fit the model, or not for certain, a ValueError. Its
            attribute `names` is the suggestion that would solve that.

    Example:
        >>> import keras, tensorflow as tf
        >>> from tempfile import mkdtemp
        >>> with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        ...     weights = tf.compat.v1.get_variable("fc/weights", initializer=[[1.0], [2.0]])
        ...     session.run(weights.initializer)
        ...     prefix = tf.compat.v1.train.Saver().save(session, f"{mkdtemp()}/model.ckpt")
        >>> dense = keras.layers.Dense(1, use_bias=False, name="fc")
        >>> model = keras.Sequential([keras.Input((2,)), dense])
        >>> report = load_checkpoint(prefix, model)
        >>> report.loaded[0].checkpoint, report.loaded[0].how
        ('fc/weights', 'name')
        >>> keras.ops.convert_to_numpy(dense.kernel).tolist()
        [[1.0], [2.0]]
    """
    layers = targets(model)
    file = open_checkpoint(path)
    contents = Contents(file.entries, shadows)
    planned = plan(layers, contents, names)
    sources, problems = planned.sources, planned.problems
    values = _values(sources, file, contents, problems)
    if problems:
        entries, solved = suggest(planned)
        unread = any(problem.kind == "value" for problem in problems)
        remark = _remark(planned, file)
        raise CheckpointMismatch(file.prefix, problems, entries, solved and not unread, remark)
    for source, value in zip(sources, values, strict=True):
        source.variable.keras_variable.assign(value.value)
    unchanged = planned.matching.names.unchanged
    read = {name for source in sources for name in source.names}
    return Report(
        file.prefix,
        tuple(value.loaded for value in values),
        explain.left_over(contents, set(map(contents.actual, read)), planned.unused),
        tuple(
            variable.path
            for layer in layers
            for variable in layer.variables
            if variable in unchanged
        ),
    )


def _remark(planned: Plan, file: SaverFile) -> str:
    """Returns a sentence for a checkpoint that has nothing of the model; else ""."""
    if planned.sources or len(planned.matching.targets) < 2:
        return ""
    return (
        f"No layer of the model is in the checkpoint by its name and shape: it may be that of "
        f"another model. `batchnorm import-tf1 {file.prefix} --list` shows what it holds."
    )


def _values(
    sources: list[Source], file: SaverFile, contents: Contents, problems: list[Problem]
) -> list[Value]:
    """Returns the values of sources of the right shape; adds those that fail to the problems."""
    values = []
    for source in sources:
        if shape_problem(source, contents):  # which is among the problems already
            continue
        try:
            values.append(value_of(source, file, contents))
        except ValueError as error:
            problems.append(Problem(str(error), kind="value"))
    return values
