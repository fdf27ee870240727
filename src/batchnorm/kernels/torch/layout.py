"""How an input lies in memory, and how it is cut for arithmetic that stays in the cache."""

import math
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

import torch

Tensor = torch.Tensor
Cuts = tuple[tuple[int, int, int], ...]

_CHUNK = 2**19  # elements: what is written of so many is in the cache when it is read again
_WIDTH = 1024  # channels of a row; a loop over fewer takes longer to begin than to do
_MOST = 2**17  # channels of a row; the kernels of sums have a buffer like one for each thread


class Layout(NamedTuple):
    """An input as parts, `(P, R, C)`, or where the channels do not vary fastest `(P, C, R)`.

    A part lies within one sample.

    Attributes:
        shape: of the input, its axes in the order of memory.
        order: these axes, as the input counts them.
        inverse: the input's axes, as they are counted in memory.
        place: which of `shape` is the channels'.
        lead: the sizes of the samples' axes: `(N,)`; of groups `(G, size)` or `(size, G)`; `()`
            where the channels come first.
        group: which of `lead` is that of the groups; `None` where there is one group.
        parts: P.
        inner: parts of a sample.
        length: R, how many elements of each channel a part has.
        channels: C.
        last: whether the channels vary fastest.
    """

    shape: tuple[int, ...]
    order: tuple[int, ...]
    inverse: tuple[int, ...]
    place: int
    lead: tuple[int, ...]
    group: int | None
    parts: int
    inner: int
    length: int
    channels: int
    last: bool

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
        return x.permute(self.order).contiguous().view(self.parts, *sizes)

    def restore(self, view: Tensor) -> Tensor:
        """The opposite of `view`."""
        return view.view(self.shape).permute(self.inverse)

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
        """Values `(P, C)` of parts with those of a group side by side, `(G, P / G, C)`."""
        if self.group is None:
            return values.unsqueeze(0)
        moved = values.view(*self.lead, self.inner, -1).movedim(self.group, 0)
        return moved.reshape(self.lead[self.group], -1, values.shape[-1])

    def lanes(self) -> int:
        """How many rows of a matrix of the whole are best taken as one."""
        found = cuts(self.rows, self.channels, _WIDTH, self.rows, 2**62)
        return found[0][2] if len(found) == 1 else 1

    def pieces(
        self, large: Sequence[Tensor], small: Sequence[Tensor]
    ) -> Iterator[tuple[list[Tensor], list[Tensor]]]:
        """Cuts views into pieces that fit into the cache.

        Args:
            large: views, or of their first axis.
            small: what belongs to them: `(C,)`, and then a piece is a matrix whose rows hold the
                channels several times; or with an axis of parts in front, of 1 or P.

        Yields:
            The pieces of both.
        """
        if all(value.dim() == 1 for value in small):
            yield from _rows([view.view(-1, self.channels) for view in large], small)
            return
        step = max(_CHUNK // (self.length * self.channels), 1)
        for start in range(0, self.parts, step):
            cut = slice(start, start + step)
            yield [v[cut] for v in large], [v if v.shape[0] == 1 else v[cut] for v in small]


def _rows(
    large: Sequence[Tensor], small: Sequence[Tensor]
) -> Iterator[tuple[list[Tensor], list[Tensor]]]:
    rows, channels = large[0].shape
    tiled: dict[int, list[Tensor]] = {}
    for start, stop, lanes in cuts(rows, channels, _WIDTH, rows, 8 * _CHUNK):
        if lanes not in tiled:
            tiled[lanes] = [value.repeat(lanes) if lanes > 1 else value for value in small]
        yield [v[start:stop].view(-1, lanes * channels) for v in large], tiled[lanes]


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
        place=place,
        lead=sizes[:count],
        group=axis[0] if len(axis) > 1 else None,
        parts=math.prod(sizes[:count]) * (1 if last else between),
        inner=1 if last else between,
        length=between if last else behind,
        channels=sizes[place],
        last=last,
    )


def _contiguous(shape: Sequence[int], stride: Sequence[int], order: Sequence[int]) -> bool:
    expected = 1
    for axis in reversed(order):
        if shape[axis] != 1 and stride[axis] != expected:
            return False
        expected *= shape[axis]
    return True
