"""The settings of a benchmark run."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from batchnorm_app import choices
from batchnorm_app.errors import UserError

Shape = tuple[int, ...]

BACKENDS = {"tensorflow": "TensorFlow", "jax": "JAX", "torch": "PyTorch"}
VARIANTS = choices.BENCHMARK_VARIANTS
PASSES = choices.BENCHMARK_PASSES
ALL_MODES = choices.BENCHMARK_MODES
MODES = {"tensorflow": ALL_MODES, "jax": ("jit",), "torch": ("eager",)}
# The mode that Keras trains in.
DEFAULT_MODES = {"tensorflow": "graph", "jax": "jit", "torch": "eager"}
SHAPES: tuple[Shape, ...] = (
    (64, 56, 56, 64),
    (256, 32, 32, 128),
    (128, 28, 28, 6),
    (128, 10, 10, 16),
    (8, 4, 4, 512),
    (128, 84),
)
ROUNDS = 11
# The settings of `--quick`, unless other options replace them.
QUICK: dict[str, Any] = {
    "variants": ("plain", "conditional"),
    "shapes": ((128, 10, 10, 16), (128, 84)),
    "steps": False,
    "rounds": 3,
}


@dataclass(frozen=True, kw_only=True)
class BenchmarkRequest:
    """The measurements to make on each backend.

    Attributes:
        variants: of `VARIANTS`.
        shapes: of the inputs, the batch first and the channels last.
        passes: of `PASSES`.
        modes: how code is run, of `ALL_MODES`: "unsized" is a graph of unknown sizes, but for the
            number of channels. Modes that a backend lacks are left out.
        steps: measure whole training steps, too.
        rounds: turns of each contestant, at least 1.
        memory: measure peak memory, too, in one process for each contestant.
    """

    variants: tuple[str, ...] = VARIANTS
    shapes: tuple[Shape, ...] = SHAPES
    passes: tuple[str, ...] = PASSES
    modes: tuple[str, ...] = ALL_MODES
    steps: bool = True
    rounds: int = ROUNDS
    memory: bool = False

    def modes_of(self, backend: str) -> tuple[str, ...]:
        """Returns the requested modes that a backend has."""
        return tuple(mode for mode in MODES[backend] if mode in self.modes)

    def default_mode(self, backend: str) -> str:
        """Returns the mode to show where there is room for only one."""
        modes = self.modes_of(backend)
        default = DEFAULT_MODES[backend]
        return default if default in modes else modes[0]

    def to_json(self) -> dict[str, Any]:
        """Returns the settings as plain numbers, strings and lists."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "BenchmarkRequest":
        """Reads the settings that `to_json` returned."""
        names = ("variants", "passes", "modes")
        shapes = tuple(map(tuple, values["shapes"]))
        return cls(**{**values, **{name: tuple(values[name]) for name in names}, "shapes": shapes})


def format_shape(shape: Shape) -> str:
    """Returns a shape as the command line spells it.

    Example:
        >>> format_shape((128, 84))
        '128x84'
    """
    return "x".join(map(str, shape))


def supported_backends(backends: Sequence[str], request: BenchmarkRequest) -> list[str]:
    """Returns the backends that have a requested mode.

    Raises:
        UserError: none of them has one.
    """
    supported = [backend for backend in backends if request.modes_of(backend)]
    if not supported:
        available = "; ".join(f"{backend} has {', '.join(MODES[backend])}" for backend in backends)
        raise UserError(f"There is no mode {' or '.join(request.modes)} here: {available}.")
    return supported
