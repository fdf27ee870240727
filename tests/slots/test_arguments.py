"""Arguments that go by another name elsewhere: the error tells the one that they have here."""

import re
from inspect import signature
from typing import Any

import keras
import numpy as np
import pytest

from batchnorm import (
    BatchNormalization,
    BatchRenormalization,
    ConditionalBatchNormalization,
    Given,
    PerClass,
)
from batchnorm.slots import arguments
from tests.compare import assert_close
from tests.differentiate import to_numpy

X, LABELS = np.arange(12, dtype="float32").reshape(4, 3), np.array([1, 0, 1, 0], "int32")

CONSTRUCTOR = [
    ("virtual_batch_size", 32, r"Write statistics=Ghost\(32\)"),
    ("decay", 0.9, "Write momentum=0.9"),
    ("eps", 1e-5, "Write epsilon=1e-05"),
    ("fused", True, "Leave it out"),
    ("mode", 2, "mode=2, which uses the batch's"),
    ("is_training", True, r"each call, layer\(x, training=True\)"),
    ("track_running_stats", False, "leave it out"),
    ("num_features", 64, "takes the number of channels from its first inputs"),
    ("data_format", "NCHW", "axis=1 for channels first"),
    ("moving_average_fraction", 0.999, "Write momentum=0.999"),
    ("gamma_init", "ones", "Write gamma_initializer='ones'"),
    ("param_initializers", {"gamma": keras.initializers.Ones()}, "Write gamma_initializer="),
    ("sample_weight", np.ones(99), r"each call, layer\(x, sample_weight=...\)"),
    ("classes", 10, r"ConditionalBatchNormalization\(10\)"),
    # Close to a name of ours, or of Keras's.
    ("momentun", 0.9, "nearest name is 'momentum'"),
    ("gamma_initialiser", "ones", "nearest name is 'gamma_initializer'"),
    ("trainble", False, "nearest name is 'trainable'"),
]


@pytest.mark.parametrize(("name", "value", "hint"), CONSTRUCTOR)
@pytest.mark.parametrize("make", [BatchNormalization, BatchRenormalization])
def test_a_constructor(make: Any, name: str, value: Any, hint: str) -> None:
    with pytest.raises(ValueError, match=f"takes no argument '{name}'. .*{hint}"):
        make(**{name: value})


def test_what_resembles_nothing_keeps_kerass_error() -> None:
    with pytest.raises(ValueError, match="Unrecognized keyword arguments passed to Batch.*zebra"):
        BatchNormalization(zebra=3)
    with pytest.raises(TypeError, match="unexpected keyword argument 'zebra'"):
        BatchNormalization()(X, zebra=3)


@pytest.mark.parametrize("name", arguments.CONSTRUCTOR)
def test_no_name_of_the_table_is_the_layers_own(name: str) -> None:
    value: Any = 1
    assert name not in signature(BatchNormalization).parameters
    with pytest.raises(ValueError, match=f"takes no argument '{name}'. [A-Z].*[.]$"):
        BatchNormalization(**{name: value})


def test_every_hint_names_arguments_that_exist() -> None:
    own = {*signature(BatchNormalization).parameters, "name", "dtype", "training"}
    own |= {*signature(BatchNormalization.call).parameters, "rmax", "dmax", "strided", "variance"}
    own |= {"unbiased", "mode", "fix_gamma"}  # of slots, and what a hint is about
    for hint in (*arguments.CONSTRUCTOR.values(), *arguments.CALL.values()):
        assert set(re.findall(r"(\w+)=", hint)) <= own, hint


@pytest.mark.parametrize("name", arguments.CALL)
@pytest.mark.parametrize("built", [False, True])
def test_a_call(name: str, built: bool) -> None:
    layer = BatchNormalization()
    if built:
        layer.build(X.shape)
    with pytest.raises(TypeError, match=f"takes no argument '{name}'. [A-Z].*=.*"):
        layer(X, **{name: LABELS})


@pytest.mark.parametrize("built", [False, True])
def test_labels_where_they_do_not_belong(built: bool) -> None:
    layer = BatchNormalization(affine=PerClass(2))
    if built:
        layer.build(X.shape)
    position = r"training must be True or False; .*\(4,\).* by name, layer\(x, condition=labels\)"
    with pytest.raises(ValueError, match=position):
        layer(X, LABELS)
    with pytest.raises(ValueError, match="training must be True or False; received a list"):
        layer(X, LABELS.tolist())
    for inputs in ([X, LABELS], (X, LABELS)):
        with pytest.raises(ValueError, match=r"one tensor .* of 2.* layer\(x, condition=labels\)"):
            layer(inputs)
    symbolic = [keras.Input((3,)), keras.Input((), dtype="int32")]
    with pytest.raises(ValueError, match=r"one tensor .* of 2.* layer\(x, condition=labels\)"):
        layer(symbolic)
    with pytest.raises(ValueError, match="training must be True or False"):
        layer(*symbolic)
    layer(X, condition=LABELS)
    ConditionalBatchNormalization(2)(X, LABELS)
    ConditionalBatchNormalization(2)(X, LABELS, training=True)


def test_numbers_beside_tensors_in_a_pair() -> None:
    """1 and 0 are for what is not wanted; Keras refuses them beside tensors."""
    layer, scale = (
        BatchNormalization(affine=Given(), epsilon=0.0),
        np.array([1.0, 2.0, 4.0], "float32"),
    )
    assert_close(to_numpy(layer(X, condition=(scale, 0.5))), X * scale + 0.5, 1e-6)
    assert_close(to_numpy(layer(X, condition=[2, scale])), X * 2 + scale, 1e-6)
    assert_close(to_numpy(layer(X, condition=(2.0, 0))), X * 2, 1e-6)


class WithLabels(BatchNormalization):
    """A layer of a user's, whose call has arguments of its own."""

    def call(  # type: ignore[override]
        self, inputs: Any, condition: Any = None, labels: Any = None, **options: Any
    ) -> Any:
        return super().call(inputs, condition=condition, **options)


def test_a_subclass_has_arguments_of_its_own() -> None:
    assert_close(to_numpy(WithLabels(epsilon=0.0)(X, labels=LABELS)), X, 1e-6)
