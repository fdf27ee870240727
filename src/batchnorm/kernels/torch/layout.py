"""How an input lies in memory, and how it is cut for arithmetic that stays in the cache."""

import math
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

import torch

Tensor = torch.Tensor
Cuts = tuple[tuple[int, int, int], ...]

_CHUNK = 2**19  # elements: what is written of so many is in the cache when it is read again
_WIDTH = 512  # channels of a row; a loop over fewer takes longer to begin than to do
_NARROW, _VECTORS = 16, 48  # fewer channels are too few for vectors; so many are enough
_MOST = 2**17  # channels of a row; the kernels of sums have a buffer like one for each thread


class Layout(NamedTuple):
    """An input as parts, `(P, R, C)`, or where the channels do not vary fastest `(P, C, R)`.

    A part lies within one sample.

    Attributes:
        shape: of the input, its axes in the order of memory.
        order: these axes, as the input counts them.
        inverse: the input's axes, as they are counted in memory.
        straight: whether both are the same order.
        place: which of `shape` is the channels'.
        lead: the sizes of the samples' axes: `(N,)`; of groups `(G, size)` or `(size, G)`; `()`
            where the channels come first.
        group: which of `lead` is that of the groups; `None` where there is one group.
        parts: P.
        inner: parts of a sample.
        length: R, how many elements of each channel a part has.
        channels: C.
        last: whether the channels vary fastest.
        lanes: how many elements of a part are best taken as one, where parts are taken apart.
    """

    shape: tuple[int, ...]
    order: tuple[int, ...]
    inverse: tuple[int, ...]
    straight: bool
    place: int
    lead: tuple[int, ...]
    group: int | None
    parts: int
    inner: int
    length: int
    channels: int
    last: bool
    lanes: int

    @property
    def rows(self) -> int:
        """How many elements a channel has."""
        return self.parts * self.length

    @property
    def axis(self) -> int:
        """Which axis of a view a part's sums go over."""
        return 1 if self.last else 2

    def view(self, x: Tensor) -> Tensor:
        """What is shaped like the input, in parts; a copy where it lies in another order."""
        sizes = (self.length, self.channels) if self.last else (self.channels, self.length)
        return self._ordered(x).view(self.parts, *sizes)

    def matrix(self, x: Tensor) -> Tensor:
        """What is shaped like the input as `(P * R, C)`, where the channels vary fastest."""
        return self._ordered(x).view(-1, self.channels)

    def _ordered(self, x: Tensor) -> Tensor:
        moved = x if self.straight else x.permute(self.order)
        return moved.contiguous()

    def restore(self, view: Tensor) -> Tensor:
        """The opposite of `view`."""
        moved = view.view(self.shape)
        return moved if self.straight else moved.permute(self.inverse)

    def weights(self, weights: Tensor) -> Tensor:
        """Weights that broadcast against the input, for its view: of parts, or of elements."""
        moved = weights.permute(self.order).squeeze(self.place)
        sizes, count = [*self.shape], len(self.lead)
        del sizes[self.place]
        if all(size == 1 for size in moved.shape[count:]):
            return self.of_samples(moved.reshape(*moved.shape[:count], 1).expand(*self.lead, 1))
        each = moved.expand(sizes).reshape(self.parts, self.length)
        return each.unsqueeze(2 if self.last else 1)

    def of_samples(self, values: Tensor) -> Tensor:
        """Values `(*lead, C)` of samples as those of parts, for a view."""
        rows = values.reshape(-1, values.shape[-1])
        rows = rows.repeat_interleave(self.inner, 0) if self.inner > 1 else rows
        return rows.unsqueeze(self.axis)

    def of_groups(self, values: Tensor) -> Tensor:
        """Values `(G, C)` of groups, or `(C,)`, for a view."""
        if values.dim() < 2 or self.group is None:
            return values.reshape(1, -1).unsqueeze(self.axis)
        return self.of_samples(values.unsqueeze(1 - self.group).expand(*self.lead, -1))

    def by_sample(self, values: Tensor) -> Tensor:
        """Sums `(P, C)` of parts as those of samples, `(*lead, C)`."""
        return values.view(*self.lead, self.inner, values.shape[-1]).sum(-2)

    def by_group(self, values: Tensor) -> Tensor:
        """Values `(P, C)` of parts, or of their lanes, side by side by group, `(G, P / G, C)`."""
        if self.group is None:
            return values.unsqueeze(0)
        moved = values.view(*self.lead, -1, values.shape[-1]).movedim(self.group, 0)
        return moved.reshape(self.lead[self.group], -1, values.shape[-1])

    def matrix_lanes(self) -> int:
        """How many rows of `matrix` are best taken as one."""
        found = cuts(self.rows, self.channels, _WIDTH, self.rows, 2**62)
        return found[0][2] if len(found) == 1 else 1

    def pieces(
        self, large: Sequence[Tensor], small: Sequence[Tensor]
    ) -> Iterator[tuple[list[Tensor], list[Tensor]]]:
        """Cuts views into pieces that fit into the cache.

        Args:
            large: views, or of their first axis.
            small: what belongs to them: `(C,)`, and then a piece is a matrix whose rows hold the
                channels several times; or with an axis of parts in front, of 1 or P, and then those
                of a part do, unless one of the views has another shape.

        Yields:
            The pieces of both.
        """
        if all(value.dim() == 1 for value in small):
            yield from _rows([view.view(-1, self.channels) for view in large], small)
            return
        if self.lanes > 1 and all(view.shape == large[0].shape for view in large):
            sizes = (self.parts, self.length // self.lanes, self.lanes * self.channels)
            large = [view.view(sizes) for view in large]
            small = [v.expand(-1, self.lanes, -1).reshape(len(v), 1, -1) for v in small]
        step = max(_CHUNK // (self.length * self.channels), 1)
        for start in range(0, self.parts, step):
            cut = slice(start, start + step)
            yield [v[cut] for v in large], [v if v.shape[0] == 1 else v[cut] for v in small]


def _rows(
    large: Sequence[Tensor], small: Sequence[Tensor]
) -> Iterator[tuple[list[Tensor], list[Tensor]]]:
    rows, channels = large[0].shape
    repeated: dict[int, list[Tensor]] = {}
    for start, stop, lanes in cuts(rows, channels, _WIDTH, rows, 8 * _CHUNK):
        if lanes not in repeated:
            repeated[lanes] = [tiled(value, lanes) for value in small]
        yield [v[start:stop].view(-1, lanes * channels) for v in large], repeated[lanes]


def tiled(value: Tensor, lanes: int) -> Tensor:
    """A value `(C,)` for rows that hold the channels several times."""
    # Tensor.repeat takes twice as long.
    return value if lanes == 1 else value.expand(lanes, -1).reshape(-1).contiguous()


@lru_cache(1024)
def cuts(rows: int, channels: int, width: int, depth: int, chunk: int) -> Cuts:
    """Cuts a matrix into pieces, and says how many rows of each to take as one, its lanes.

    A loop over few channels is not vectorized, and a long sum loses digits; the piece as a matrix
    with `lanes` times the channels, and as many rows less, has neither.

    Args:
        rows: of the matrix.
        channels: its columns.
        width: of which a row should have so many.
        depth: how many rows a piece should have then, and may have twice.
        chunk: how many elements it may have.

    Returns:
        (start, stop, lanes) of each.
    """
    most = max(min(rows, _MOST // channels), 1)
    least = min(max(-(-width // channels), -(-rows // depth)), most)
    near = range(least, min(4 * least + 64, most) + 1)
    lanes = next((lanes for lanes in near if rows % lanes == 0), least)
    head = rows // lanes * lanes
    step = lanes * max(min(chunk // (lanes * channels), 2 * depth), 1)
    found = [(start, min(start + step, head), lanes) for start in range(0, head, step)]
    if head < rows:
        rest = cuts(rows - head, channels, width, depth, chunk)
        found += [(head + start, head + stop, each) for start, stop, each in rest]
    return tuple(found)


@lru_cache(1024)
def layout_of(shape: tuple[int, ...], stride: tuple[int, ...], axis: tuple[int, ...]) -> Layout:
    """The layout of an input.

    Args:
        shape: of the input.
        stride: of the input; one that has neither order is copied in that of its axes.
        axis: its channel axis, and in front of it that of its groups.
    """
    channel, rank = axis[-1], len(shape)
    count = min(len(axis), channel)  # axes of samples; none if the channels come first
    others = [each for each in range(rank) if each != channel]
    orders = [tuple(range(rank)), (*others, channel), (*others[:count], channel, *others[count:])]
    order = next((each for each in orders if _contiguous(shape, stride, each)), orders[0])
    sizes, place = tuple(shape[each] for each in order), order.index(channel)
    between, behind = math.prod(sizes[count:place]), math.prod(sizes[place + 1 :])
    last = behind == 1
    return Layout(
        shape=sizes,
        order=order,
        inverse=tuple(order.index(each) for each in range(rank)),
        straight=order == orders[0],
        place=place,
        lead=sizes[:count],
        group=axis[0] if len(axis) > 1 else None,
        parts=math.prod(sizes[:count]) * (1 if last else between),
        inner=1 if last else between,
        length=between if last else behind,
        channels=sizes[place],
        last=last,
        lanes=_lanes(between, sizes[place]) if last else 1,
    )


def _lanes(length: int, channels: int) -> int:
    """A divisor of the length that makes few channels wide enough for vectors."""
    if channels >= _NARROW:
        return 1
    fit = (lanes for lanes in range(-(-_VECTORS // channels), _WIDTH + 1) if length % lanes == 0)
    return next(fit, 1)


def _contiguous(shape: Sequence[int], stride: Sequence[int], order: Sequence[int]) -> bool:
    expected = 1
    for axis in reversed(order):
        if shape[axis] != 1 and stride[axis] != expected:
            return False
        expected *= shape[axis]
    return True
