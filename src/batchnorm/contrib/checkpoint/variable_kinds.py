"""The kinds of a checkpoint's variables by their names: parameters, slots, shadows, counts."""

import re
from collections.abc import Container, Mapping
from dataclasses import dataclass

from batchnorm.contrib.checkpoint.saver_file import FLOATS, Entry

SHADOW = "moving average of a variable"
DEBIAS = "zero-debias"
_SLOT = "optimizer slot"
_STATE = "optimizer state"
_STEP = "global step"

_OPTIMIZERS = (
    "Adadelta|Adagrad|AdagradDA|Adam|AdamW|AdaMax|Adamax|AMSGrad|Ftrl|LARSOptimizer|Momentum|Nadam|"
    "RMSProp|RMSprop|SGD"
)
_SLOT_NAME = re.compile(rf"(?:{_OPTIMIZERS})(?:_\d+)?")
_KERAS_STATE = re.compile(
    r"iter|iterations|decay|learning_rate|lr|beta_1|beta_2|rho|momentum|rms|accumulator|m|v|vhat"
)
_POWER = re.compile(r"beta[12]_power(?:_\d+)?")
SHADOW_NAME = "ExponentialMovingAverage"
# Names of parameters, which are not slots even if they lie below a variable.
PARAMETERS = frozenset(
    "weights kernel biases bias depthwise_weights depthwise_kernel pointwise_weights "
    "pointwise_kernel gamma beta moving_mean moving_variance".split()
)


_VARIABLE = "variable"
# The roles of parameters and state, by the last part of their names.
_ROLES = {
    "weights": "kernel",
    "weight": "kernel",
    "kernel": "kernel",
    "depthwise_weights": "depthwise kernel",
    "depthwise_kernel": "depthwise kernel",
    "pointwise_weights": "pointwise kernel",
    "pointwise_kernel": "pointwise kernel",
    "recurrent_kernel": "recurrent kernel",
    "biases": "bias",
    "bias": "bias",
    "embeddings": "embeddings",
    "alpha": "slopes",  # of a PReLU
    "alphas": "slopes",
}
# Names of batch normalization, which are their own description.
_NORMALIZATION = frozenset(
    "gamma beta moving_mean moving_variance moving_stddev renorm_mean renorm_mean_weight "
    "renorm_stddev renorm_stddev_weight".split()
)


@dataclass(frozen=True)
class Kind:
    """The kind of a variable.

    Attributes:
        description: in words: of a parameter its role, such as "kernel" or "moving_mean".
        owner: the variable that it belongs to, if there is one; not always in the file.
        parameter: whether it is a variable of the model's, which a layer can take.
    """

    description: str
    owner: str | None = None
    parameter: bool = False


def kinds(entries: Mapping[str, Entry]) -> dict[str, Kind]:
    """Tells the kind of each variable of a checkpoint.

    Args:
        entries: by name.

    Returns:
        A kind by name.
    """
    return {name: _kind(name, entry, entries) for name, entry in entries.items()}


def _kind(name: str, entry: Entry, names: Container[str]) -> Kind:
    scope, _, leaf = name.rpartition("/")
    if leaf == "global_step" and not entry.shape:
        return Kind(_STEP)
    if _POWER.fullmatch(leaf) and not entry.shape:
        return Kind(_STATE)
    if leaf == SHADOW_NAME:
        return Kind(SHADOW, _owner(scope, names) or scope)
    if leaf in ("biased", "local_step"):
        return Kind(DEBIAS, _owner(scope, names) or scope)
    if _SLOT_NAME.fullmatch(leaf) and scope:
        return Kind(_SLOT, _owner(scope, names) or scope)
    if _KERAS_STATE.fullmatch(leaf) and any(map(_SLOT_NAME.fullmatch, scope.split("/"))):
        return Kind(_STATE)
    if scope in names and leaf not in PARAMETERS:  # by an optimizer with a name of its own
        return Kind(_SLOT, scope)
    numbers = entry.dtype in FLOATS or entry.dtype.startswith(("int", "uint", "bool"))
    return Kind(_role(leaf), parameter=True) if numbers else Kind(f"{entry.dtype}, no numbers")


def _role(leaf: str) -> str:
    base = re.sub(r"_\d+$", "", leaf)  # of a second one in the scope, such as weights_1
    return base if base in _NORMALIZATION else _ROLES.get(base, _VARIABLE)


def _owner(scope: str, names: Container[str]) -> str | None:
    """Returns the longest end of a name that is a variable's: the scopes of its use come first."""
    parts = scope.split("/")
    ends = ("/".join(parts[start:]) for start in range(len(parts)))
    return next((end for end in ends if end in names), None)


class Contents:
    """The variables of a checkpoint that a model can take.

    Args:
        entries: all by name.
        shadows: whether exponential moving averages of variables replace their values.

    Attributes:
        entries: as above.
        kinds: by name, of all.
        plain: those that a model can take without being told so, by the name of the variable.

    Raises:
        ValueError: `shadows`, but the file has none.
    """

    def __init__(self, entries: Mapping[str, Entry], shadows: bool) -> None:
        self.entries, self.kinds, self.shadows = entries, kinds(entries), shadows
        plain = [name for name, kind in self.kinds.items() if kind.parameter]
        self._shadows = {
            str(kind.owner): name for name, kind in self.kinds.items() if kind.description == SHADOW
        }
        if shadows and not self._shadows:
            raise ValueError(
                f"shadows=True, but no variable of the checkpoint is called .../{SHADOW_NAME}: it "
                "has no moving averages of variables. Leave shadows=True out."
            )
        self.plain = {
            name: entries[self.actual(name)]
            for name in sorted({*plain, *(self._shadows if shadows else ())})
        }

    def actual(self, name: str) -> str:
        """Returns the name under which a variable's value is read: its shadow's if `shadows`."""
        return self._shadows.get(name, name) if self.shadows else name

    def shadow(self, name: str) -> str | None:
        """Returns the name of a variable's shadow, if the file has one."""
        return self._shadows.get(name)
