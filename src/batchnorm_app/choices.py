"""The names and ranges that options and settings accept, importable without Keras.

The command line checks its options by these before Keras is imported, and the settings of a run
are checked by the same, wherever they come from. Tests compare the lists with those of the library.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches

BACKENDS = ("tensorflow", "jax", "torch")
DATA_SETS = ("fashion-mnist-sample", "fashion-mnist", "cifar10")
MODELS = ("lenet", "resnet", "gan")
CLASSIFIERS = ("lenet", "resnet")
OPTIMIZERS = ("adam", "adamw", "lion", "nadam", "rmsprop", "sgd")
SCHEDULES = ("constant", "cosine")
BLOCKS = ("basic", "bottleneck")
DECAYS = ("kernels", "all")
PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16")
CONDITIONINGS = ("class", "none")

# A normalization is one of these, or terms of ours. The numbers are how many values may follow the
# colon of a term.
NORMALIZATIONS = ("ours", "keras", "none")
NORMALIZATION_TERMS = {
    "ghost": (1,),
    "renorm": (0, 2),
    "zero-debiased": (0,),
    "cumulative": (0,),
    "momentum": (1,),
}

BENCHMARK_VARIANTS = ("plain", "conditional", "weighted", "renorm", "ghost")
BENCHMARK_PASSES = ("forward", "forward+backward", "inference")
BENCHMARK_MODES = ("eager", "graph", "unsized", "jit")
BENCHMARK_NUMBERS = 1 << 31  # in an input: 8 GiB, of which a measurement holds several

PICTURE_FORMATS = (".png", ".pdf", ".svg", ".jpg")


@dataclass(frozen=True)
class Range:
    """A range of numbers with inclusive or exclusive ends.

    Attributes:
        ge: the inclusive lower end.
        gt: the exclusive lower end.
        le: the inclusive upper end.
        lt: the exclusive upper end.
    """

    ge: float | None = None
    gt: float | None = None
    le: float | None = None
    lt: float | None = None

    def __contains__(self, number: float) -> bool:
        """Returns whether a number is in the range; NaN is in none."""
        return (
            not math.isnan(number)
            and (self.ge is None or number >= self.ge)
            and (self.gt is None or number > self.gt)
            and (self.le is None or number <= self.le)
            and (self.lt is None or number < self.lt)
        )

    def __str__(self) -> str:
        """Describes the range.

        Example:
            >>> f"a number {Range(gt=0, le=1e30)}; an integer {Range(ge=2, le=1000)}"
            'a number above 0, up to 1e+30; an integer from 2 to 1,000'
        """
        start = f"from {self.ge:,}" if self.gt is None else f"above {self.gt:,}, up"
        return f"{start} to {self.le:,}" if self.lt is None else f"{start} to below {self.lt:,}"


# The upper limits keep a typing error from starting a training of a year, or from ending in an
# allocator's error; each is far above the values of real trainings.
BATCH_SIZE = Range(ge=2, le=100_000)
SEED = Range(ge=0, le=2**32 - 1)  # what NumPy's and Keras's generators take
LEARNING_RATE = Range(gt=0, le=1e30)
MOMENTUM = Range(ge=0, lt=1)
WEIGHT_DECAY = Range(ge=0, le=1e30)
EPOCHS = Range(ge=1, le=1_000_000)
STEPS = Range(ge=1, le=10_000_000)
IMAGE_SIZE = Range(ge=16, le=512)
DEPTH = Range(ge=1, le=1202)  # the deepest of He et al. 2016
WIDTH = Range(ge=1, le=512)
LATENT_SIZE = Range(ge=1, le=1024)
DISCRIMINATOR_STEPS = Range(ge=1, le=32)  # compiled one after the other

GROUP_SIZE = Range(ge=2, le=1_000_000)  # images of a ghost batch
RENORM_LIMIT = 1e30  # float32 holds this with some room

SAMPLES_PER_ROW = Range(ge=1, le=100)
GENERATED_IMAGES = Range(ge=1, le=1_000_000)  # held in memory
GAN_TRAIN_IMAGES = Range(ge=128, le=1_000_000)
JUDGE_EPOCHS = Range(ge=1, le=10_000)
BENCHMARK_ROUNDS = Range(ge=1, le=1000)
# Of an imported model: far above the sizes of real ones, and far below what no memory holds.
CLASSES = Range(ge=1, le=100_000)
IMAGE_SIDE = Range(ge=1, le=1024)


def suggest(name: str, names: Iterable[str]) -> str:
    """Returns the end of a sentence that offers the name most like an unknown one.

    It is `batchnorm.data.suggest` again, because importing that imports Keras.

    Args:
        name: the unknown name.
        names: the allowed ones.

    Example:
        >>> suggest("Cifar-10", ["fashion-mnist", "cifar10"]), suggest("vgg", ["gan"])
        ("; did you mean 'cifar10'?", '.')
    """
    candidates = {candidate.lower(): candidate for candidate in names}
    lower = name.lower()
    # "mnist" is meant by part of "fashion-mnist", though the two differ in most letters.
    parts = [text for text in candidates if len(lower) > 2 and (lower in text or text in lower)]
    close = sorted(parts, key=len) or get_close_matches(lower[:100], candidates, n=1)
    return f"; did you mean {candidates[close[0]]!r}?" if close else "."


def check_name(name: str, names: Iterable[str]) -> str:
    """Returns a name; raises unless it is allowed.

    Args:
        name: the name.
        names: the allowed ones.

    Raises:
        ValueError: the name is not among them; the message has all of them, and the most similar.
    """
    names = tuple(names)
    if name not in names:
        allowed = ", ".join(names)
        raise ValueError(f"{name[:100]!r} is unknown{suggest(name, names)} Allowed: {allowed}.")
    return name
