"""Settings that are expressions: normalizations such as `ghost:32+renorm`, and schedules."""

from typing import Any

from batchnorm.slots.ghost import Ghost
from batchnorm.slots.moving import Cumulative, Exponential, ZeroDebiased
from batchnorm.slots.renorm import Renorm
from batchnorm_app.choices import (
    GROUP_SIZE,
    NORMALIZATION_TERMS,
    NORMALIZATIONS,
    RENORM_LIMIT,
    SCHEDULES,
    suggest,
)
from batchnorm_app.errors import UserError

GRAMMAR = """\
  ours                this package's layer with its defaults
  keras               Keras's layer
  none                no normalization
or variants of ours, joined by + as in ghost:32+zero-debiased, each at most once:
  ghost:SIZE          statistics of groups of SIZE images each, 2 or more
  renorm[:RMAX,DMAX]  batch renormalization within these limits; 3,5 unless given
  zero-debiased       moving statistics that forget their initial values
  cumulative          moving statistics that are the mean over all steps
  momentum:NUMBER     momentum of the moving statistics, from 0 to below 1"""


def slots_of(expression: str) -> dict[str, Any]:
    """Returns the arguments of `BatchNormalization` that an expression describes.

    Args:
        expression: of the `GRAMMAR`; for `keras` and `none` there are no arguments.

    Raises:
        ValueError: the expression cannot be parsed, or a number is out of range.
    """
    if expression in NORMALIZATIONS:
        return {}
    terms = parse_terms(expression)
    momentum = terms.get("momentum", [0.99])[0]
    slots: dict[str, Any] = {}
    if "ghost" in terms:
        size = terms["ghost"][0]
        if size not in GROUP_SIZE or size % 1:
            raise ValueError(f"the size of a group must be an integer {GROUP_SIZE}, not {size:g}.")
        slots["statistics"] = Ghost(int(size))
    if "renorm" in terms:
        rmax, dmax = terms["renorm"] or (3.0, 5.0)
        slots["renorm"] = Renorm(rmax=rmax, dmax=dmax)
    if "cumulative" in terms:
        if excluded := {"zero-debiased", "momentum"} & terms.keys():
            raise ValueError(
                f"{min(excluded)} has no effect beside cumulative, the mean over all steps."
            )
        slots["moving"] = Cumulative()
    elif "zero-debiased" in terms:
        slots["moving"] = ZeroDebiased(momentum)
    elif "momentum" in terms:
        slots["moving"] = Exponential(momentum)
    return slots


def parse_terms(expression: str) -> dict[str, list[float]]:
    """Returns the numbers of each term of an expression, by the term's name.

    Raises:
        ValueError: the expression cannot be parsed.
    """
    terms: dict[str, list[float]] = {}
    for term in expression.split("+"):
        name, colon, text = term.partition(":")
        if name in NORMALIZATIONS:
            raise ValueError(f"{name} cannot be joined with others.")
        if name not in NORMALIZATION_TERMS:
            names = (*NORMALIZATIONS, *NORMALIZATION_TERMS)
            raise ValueError(f"{name!r} is unknown{suggest(name, names)}")
        if name in terms:
            raise ValueError(f"{name} is repeated.")
        try:
            terms[name] = [float(number) for number in text.split(",")] if colon else []
        except ValueError:
            raise ValueError(f"{text!r}, after {name}, is not a number.") from None
        if name != "ghost" and any(abs(number) > RENORM_LIMIT for number in terms[name]):
            raise ValueError(f"{text!r}, after {name}, is above {RENORM_LIMIT:g}.")
        count, counts = len(terms[name]), NORMALIZATION_TERMS[name]
        if count not in counts:
            expected = " or ".join(map(str, counts))
            raise ValueError(f"{name} takes {expected} numbers, received {count}.")
    return terms


def drops_of(expression: str, epochs: int) -> list[int]:
    """Returns the epochs after which a schedule `drop:60,90` divides the rate by 10.

    Args:
        expression: the schedule.
        epochs: number of epochs.

    Raises:
        UserError: it is another expression, its epochs do not increase, or the last of them is not
            before the end.
    """
    name, _, text = expression.partition(":")
    numbers = text.split(",")
    # Python refuses to read integers of thousands of digits.
    readable = all(number.isdecimal() and len(number) < 10 for number in numbers)
    drops = [int(number) for number in numbers] if readable else []
    if name != "drop" or not drops or [0, *drops, epochs] != sorted({0, *drops, epochs}):
        raise UserError(f"--schedule {expression}: expected {schedules(epochs)}")
    return drops


def schedules(epochs: int) -> str:
    """Describes the schedules that a training of so many epochs can have."""
    return (
        f"{', '.join(SCHEDULES)}, or drop:EPOCH,EPOCH to divide the rate by 10 after these epochs, "
        f"which increase and are before the last, {epochs}."
    )
