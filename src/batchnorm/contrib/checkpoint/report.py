"""What became of a checkpoint: which variable went where, and what was left over."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Loaded:
    """A variable of the model that was loaded.

    Attributes:
        variable: its path in the model.
        checkpoint: what it was loaded from; where it was computed of several, joined by ", ".
        shape: of the variable.
        how: why it was that one: "names", "name", "shape", or "converted: " and the formula.
        note: what else happened to the value: a cast, numbers that are not finite; or "".
    """

    variable: str
    checkpoint: str
    shape: tuple[int, ...]
    how: str
    note: str = ""


@dataclass(frozen=True)
class LeftOver:
    """A variable of the checkpoint that was not loaded.

    Attributes:
        checkpoint: its name.
        shape: likewise.
        why: it was not.
    """

    checkpoint: str
    shape: tuple[int, ...]
    why: str


@dataclass(frozen=True)
class Report:
    """What `load_checkpoint` did; `print` shows it.

    Every variable of the checkpoint is in `loaded` or in `left_over`.

    Attributes:
        prefix: of the checkpoint that was read.
        loaded: in the order of the model.
        left_over: sorted by name.
        kept: the paths of those variables of the model that were to keep their values.

    Example:
        >>> print(Report("model.ckpt-6", (Loaded("a/kernel", "a/weights", (4, 3), "name"),)))
        model.ckpt-6: 1 variable loaded, 0 left over.
        loaded     a/kernel (4, 3) <- a/weights [name]
    """

    prefix: str
    loaded: tuple[Loaded, ...]
    left_over: tuple[LeftOver, ...] = ()
    kept: tuple[str, ...] = ()

    def __str__(self) -> str:
        """A line for each variable."""
        plural = "" if len(self.loaded) == 1 else "s"
        lines = [
            f"{self.prefix}: {len(self.loaded)} variable{plural} loaded, "
            f"{len(self.left_over)} left over."
        ]
        for each in self.loaded:
            note = f"; {each.note}" if each.note else ""
            arrow = f"{each.variable} {each.shape} <- {each.checkpoint}"
            lines.append(f"loaded     {arrow} [{each.how}{note}]")
        lines += [
            f"left over  {each.checkpoint} {each.shape}: {each.why}" for each in self.left_over
        ]
        lines += [f"kept       {path}: names says None" for path in self.kept]
        return "\n".join(lines)
