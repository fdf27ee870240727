"""The report of a load: the variables that were loaded, left over and left unchanged."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Loaded:
    """A variable of the model that was loaded.

    Attributes:
        variable: its path in the model.
        checkpoint: the variable that it was loaded from; several, if it was computed from them,
            are joined by ", ".
        shape: of the variable.
        how: why it was that one: "names", "name", "shape", or "converted: " and the formula.
        note: remarks about the value, such as a cast or numbers that are not finite; or "".
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
        shape: its shape.
        why: the reason that it was not.
    """

    checkpoint: str
    shape: tuple[int, ...]
    why: str


@dataclass(frozen=True)
class Report:
    """The result of `load_checkpoint`, which `print` shows.

    Every variable of the checkpoint is in `loaded` or in `left_over`.

    Attributes:
        prefix: of the checkpoint that was read.
        loaded: in the order of the model.
        left_over: sorted by name.
        kept: the paths of the variables of the model that kept their values, as `names` says.

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
        """Returns a line for each variable."""
        plural = "" if len(self.loaded) == 1 else "s"
        lines = [
            f"{self.prefix}: {len(self.loaded)} variable{plural} loaded, "
            f"{len(self.left_over)} left over."
        ]
        for entry in self.loaded:
            note = f"; {entry.note}" if entry.note else ""
            arrow = f"{entry.variable} {entry.shape} <- {entry.checkpoint}"
            lines.append(f"loaded     {arrow} [{entry.how}{note}]")
        lines += [
            f"left over  {entry.checkpoint} {entry.shape}: {entry.why}" for entry in self.left_over
        ]
        lines += [f"kept       {path}: names says None" for path in self.kept]
        return "\n".join(lines)
