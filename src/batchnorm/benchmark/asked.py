"""What a benchmark is asked to measure."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from batchnorm.train.run import RunError

Shape = tuple[int, ...]

BACKENDS = {"tensorflow": "TensorFlow", "jax": "JAX", "torch": "PyTorch"}
VARIANTS = ("plain", "conditional", "weighted", "renorm", "ghost")
PASSES = ("forward", "forward+backward", "inference")
ALL_MODES = ("eager", "graph", "unsized", "jit")
MODES = {"tensorflow": ALL_MODES, "jax": ("jit",), "torch": ("eager",)}
# What Keras trains in.
USUAL = {"tensorflow": "graph", "jax": "jit", "torch": "eager"}
SHAPES: tuple[Shape, ...] = (
    (64, 56, 56, 64),
    (256, 32, 32, 128),
    (128, 28, 28, 6),
    (128, 10, 10, 16),
    (8, 4, 4, 512),
    (128, 84),
)
ROUNDS = 11
# What `quick` asks for, where nothing else is.
QUICK: dict[str, Any] = {
    "variants": ("plain", "conditional"),
    "shapes": ((128, 10, 10, 16), (128, 84)),
    "steps": False,
    "rounds": 3,
}


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What is to be measured on each backend.

    Attributes:
        variants: of `VARIANTS`.
        shapes: of the inputs, the batch first and the channels last.
        passes: of `PASSES`.
        modes: how code is run, of `ALL_MODES`: "unsized" is a graph that knows no size but the
            number of channels. Those that a backend lacks are left out.
        steps: whether whole training steps are measured, too.
        rounds: how often each contestant has its turn, at least 1.
        memory: whether peak memory is measured, in a process for each contestant.
    """

    variants: tuple[str, ...] = VARIANTS
    shapes: tuple[Shape, ...] = SHAPES
    passes: tuple[str, ...] = PASSES
    modes: tuple[str, ...] = ALL_MODES
    steps: bool = True
    rounds: int = ROUNDS
    memory: bool = False

    def modes_of(self, backend: str) -> tuple[str, ...]:
        """The modes that a backend has, of those that are asked for."""
        return tuple(mode for mode in MODES[backend] if mode in self.modes)

    def usual_mode(self, backend: str) -> str:
        """The one of them that stands for all, where there is room for one alone."""
        modes = self.modes_of(backend)
        return USUAL[backend] if USUAL[backend] in modes else modes[0]

    def to_json(self) -> dict[str, Any]:
        """As plain numbers, strings and lists."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Asked":
        """The inverse of `to_json`."""
        names = ("variants", "passes", "modes")
        shapes = tuple(map(tuple, values["shapes"]))
        return cls(**{**values, **{name: tuple(values[name]) for name in names}, "shapes": shapes})


def text(shape: Shape) -> str:
    """A shape as the command line spells it.

    Example:
        >>> text((128, 84))
        '128x84'
    """
    return "x".join(map(str, shape))


def able(backends: Sequence[str], asked: Asked) -> list[str]:
    """The backends that have one of the modes that are asked for.

    Raises:
        RunError: none has.
    """
    found = [backend for backend in backends if asked.modes_of(backend)]
    if not found:
        theirs = "; ".join(f"{each} has {', '.join(MODES[each])}" for each in backends)
        raise RunError(f"There is no mode {' or '.join(asked.modes)} here: {theirs}.")
    return found
