"""The normalizations that a model can be trained with, as the command line spells them."""

from collections.abc import Callable
from functools import partial
from typing import Any

import keras

from batchnorm.data.suggest import suggest
from batchnorm.ghost import Ghost
from batchnorm.layer import BatchNormalization
from batchnorm.moving import Cumulative, Exponential, ZeroDebiased
from batchnorm.renorm import Renorm
from batchnorm.train.errors import RunError

GRAMMAR = """\
  ours                this package's layer as it is
  keras               Keras's layer
  none                no normalization
or slots of ours, joined by + as in ghost:32+zero-debiased, each at most once:
  ghost:SIZE          statistics of groups of SIZE images each, 2 or more
  renorm[:RMAX,DMAX]  batch renormalization within these limits; 3,5 unless given
  zero-debiased       moving statistics that forget their initial values
  cumulative          moving statistics that are the mean over all steps
  momentum:SHARE      what a step keeps of the moving statistics, from 0 to below 1"""

Maker = Callable[..., keras.layers.Layer]

LARGEST = 1_000_000  # images of a group
_HIGHEST = 1e30  # of the limits of renorm, which float32 can hold with some room
_WHOLE = ("ours", "keras", "none")
# How many numbers may follow the colon of a slot.
_COUNTS = {
    "ghost": (1,),
    "renorm": (0, 2),
    "zero-debiased": (0,),
    "cumulative": (0,),
    "momentum": (1,),
}


def normalization(expression: str) -> Maker | None:
    """What an expression asks for.

    Args:
        expression: of the `GRAMMAR`.

    Returns:
        What makes a layer, of further options if there are any; `None` where there is to be none.

    Raises:
        RunError: the expression is none of the grammar, which the message shows.

    Example:
        >>> normalization("ghost:32")().statistics
        Ghost(size=32, strided=False)
    """
    if expression == "none":
        return None
    if expression == "keras":
        keras_layer: Maker = keras.layers.BatchNormalization
        return keras_layer
    try:
        slots = slots_of(expression)
    except ValueError as error:
        raise RunError(f"--normalization {expression}: {error} Allowed are\n{GRAMMAR}") from error
    return partial(BatchNormalization, **slots)


def slots_of(expression: str) -> dict[str, Any]:
    """Returns the arguments of `BatchNormalization` that an expression stands for.

    Args:
        expression: of the `GRAMMAR`; for `keras` and `none` there are no arguments.

    Raises:
        ValueError: the expression cannot be parsed, or a number is out of range.
    """
    if expression in _WHOLE:
        return {}
    terms = _terms(expression)
    momentum = terms.get("momentum", [0.99])[0]
    slots: dict[str, Any] = {}
    if "ghost" in terms:
        size = terms["ghost"][0]
        if not 2 <= size <= LARGEST or size % 1:
            raise ValueError(
                f"the size of a group must be a whole number from 2 to {LARGEST:,}, not {size:g}."
            )
        slots["statistics"] = Ghost(int(size))
    if "renorm" in terms:
        rmax, dmax = terms["renorm"] or (3.0, 5.0)
        slots["renorm"] = Renorm(rmax=rmax, dmax=dmax)
    if "cumulative" in terms:
        if other := {"zero-debiased", "momentum"} & terms.keys():
            raise ValueError(f"{min(other)} has no meaning beside cumulative, which keeps it all.")
        slots["moving"] = Cumulative()
    elif "zero-debiased" in terms:
        slots["moving"] = ZeroDebiased(momentum)
    elif "momentum" in terms:
        slots["moving"] = Exponential(momentum)
    return slots


def _terms(expression: str) -> dict[str, list[float]]:
    """The slots' names, and the numbers behind them."""
    terms: dict[str, list[float]] = {}
    for term in expression.split("+"):
        name, colon, text = term.partition(":")
        if name in _WHOLE:
            raise ValueError(f"{name} stands alone.")
        if name not in _COUNTS:
            raise ValueError(f"{name!r} is unknown{suggest(name, (*_WHOLE, *_COUNTS))}")
        if name in terms:
            raise ValueError(f"{name} stands there twice.")
        try:
            terms[name] = [float(number) for number in text.split(",")] if colon else []
        except ValueError:
            raise ValueError(f"{text!r}, behind {name}, is no number.") from None
        if name != "ghost" and any(abs(number) > _HIGHEST for number in terms[name]):
            raise ValueError(f"{text!r}, behind {name}, is above {_HIGHEST:g}.")
        if len(terms[name]) not in _COUNTS[name]:
            wanted = " or ".join(map(str, _COUNTS[name]))
            count = len(terms[name])
            raise ValueError(f"behind {name} {count} numbers were received, expected {wanted}.")
    return terms
