"""Memory layout of an input, and the pieces that arithmetic takes so as to stay in the cache."""

import math
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

import torch

Tensor = torch.Tensor
Cuts = tuple[tuple[int, int, int], ...]
Pieces = Iterable[tuple[list[Tensor], list[Tensor]]]

_CHUNK = 2**19  # elements: what is written of so many is in the cache when it is read again
_WIDTH = 512  # channels of a row; shorter loops cost more to start than to run
_NARROW, _VECTORS = 16, 48  # fewer channels are too few for vectors; so many are enough
_WIDEST = 2**17  # channels of a row; the kernels of sums have a buffer like one for each thread
_SMALL = 256  # rows that PyTorch's own kernels add up as accurately as any


class Layout(NamedTuple):
    """An input as parts, `(P, R, C)`, or where the channels do not vary fastest `(P, C, R)`.

    A part lies within one sample.

    Attributes:
        shape: of the input, its axes in the order of memory.
        order: these axes, as the input counts them.
        inverse: the input's axes, as they are counted in memory.
        straight: whether both are the same order.
        place: the position of the channels in `shape`.
        lead: the sizes of the samples' axes: `(N,)`; of groups `(G, size)` or `(size, G)`; `()`
            where the channels come first.
        group: the position of the groups in `lead`; `None` where there is one group.
        parts: P.
        inner: parts of a sample.
        length: R, elements of each channel in a part.
        channels: C.
        last: whether the channels vary fastest.
        lanes: rows of a part that are best taken as one, where parts are measured on their own.
        rows: P * R, elements of each channel.
        axis: the axis of a view that a part's sums go over.
        plain: whether a view is a matrix `(P * R, C)` in which all rows belong together.
        small: whether PyTorch's fused kernels serve it.
        row_lanes: rows of that matrix that are best taken as one.
        parts_shape: of a view.
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
    rows: int
    axis: int
    plain: bool
    small: bool
    row_lanes: int
    parts_shape: tuple[int, int, int]

    def view(self, x: Tensor) -> Tensor:
        """Returns a tensor shaped like the input, in parts; a copy if its memory order differs."""
        ordered = x if self.straight else x.permute(self.order)
        return ordered.contiguous().view(self.parts_shape)

    def matrix(self, x: Tensor) -> Tensor:
        """Returns a tensor shaped like the input as `(P * R, C)`, if the channels vary fastest."""
        ordered = x if self.straight else x.permute(self.order)
        return ordered.contiguous().view(-1, self.channels)

    def restore(self, view: Tensor) -> Tensor:
        """Inverts `view` and `matrix`."""
        ordered = view.view(self.shape)
        return ordered if self.straight else ordered.permute(self.inverse)

    def weights(self, weights: Tensor) -> Tensor:
        """Fits weights that broadcast against the input to its view: of parts, or of elements."""
        ordered = weights.permute(self.order).squeeze(self.place)
        sizes, count = [*self.shape], len(self.lead)
        del sizes[self.place]
        if all(size == 1 for size in ordered.shape[count:]):
            values = ordered.reshape(*ordered.shape[:count], 1)
            return self.of_samples(values.expand(*self.lead, 1))
        elements = ordered.expand(sizes).reshape(self.parts, self.length)
        return elements.unsqueeze(2 if self.last else 1)

    def of_samples(self, values: Tensor) -> Tensor:
        """Fits values `(*lead, C)` of samples to the parts of a view."""
        rows = values.reshape(-1, values.shape[-1])
        rows = rows.repeat_interleave(self.inner, 0) if self.inner > 1 else rows
        return rows.unsqueeze(self.axis)

    def of_groups(self, values: Tensor) -> Tensor:
        """Fits values `(G, C)` of groups, or `(C,)`, to the parts of a view."""
        if values.dim() < 2 or self.group is None:
            return values.reshape(1, -1).unsqueeze(self.axis)
        return self.of_samples(values.unsqueeze(1 - self.group).expand(*self.lead, -1))

    def by_sample(self, values: Tensor) -> Tensor:
        """Adds up sums `(P, C)` of parts to those of samples, `(*lead, C)`."""
        return values.view(*self.lead, self.inner, values.shape[-1]).sum(-2)

    def by_group(self, values: Tensor) -> Tensor:
        """Arranges values `(P, C)` of parts, or of their lanes, by group, `(G, P / G, C)`."""
        if self.group is None:
            return values.unsqueeze(0)
        moved = values.view(*self.lead, -1, values.shape[-1]).movedim(self.group, 0)
        return moved.reshape(self.lead[self.group], -1, values.shape[-1])

    def pieces(self, large: Sequence[Tensor], small: Sequence[Tensor]) -> Pieces:
        """Cuts views into pieces that fit into the cache.

        Args:
            large: views, or of their first axis.
            small: the values that go with them: `(C,)`, and then a piece is a matrix whose rows
                hold the channels several times; or with an axis of parts in front, of 1 or P, and
                then those of a part do, unless one of the views has another shape.

        Returns:
            The pieces of both, one after the other.
        """
        for value in small:
            if value.dim() != 1:
                return self._pieces_of_parts(large, small)
        return _pieces_of_rows([view.view(-1, self.channels) for view in large], small)

    def _pieces_of_parts(
        self, large: Sequence[Tensor], small: Sequence[Tensor]
    ) -> Iterator[tuple[list[Tensor], list[Tensor]]]:
        if self.lanes > 1 and all(view.shape == large[0].shape for view in large):
            sizes = (self.parts, self.length // self.lanes, self.lanes * self.channels)
            large = [view.view(sizes) for view in large]
            small = [v.expand(-1, self.lanes, -1).reshape(len(v), 1, -1) for v in small]
        step = max(_CHUNK // (self.length * self.channels), 1)
        for start in range(0, self.parts, step):
            cut = slice(start, start + step)
            yield [v[cut] for v in large], [v if v.shape[0] == 1 else v[cut] for v in small]


def _pieces_of_rows(
    large: Sequence[Tensor], small: Sequence[Tensor]
) -> Iterator[tuple[list[Tensor], list[Tensor]]]:
    rows, channels = large[0].shape
    repeated: dict[int, list[Tensor]] = {}
    for start, stop, lanes in cuts(rows, channels, _WIDTH, rows, 8 * _CHUNK):
        if lanes not in repeated:
            repeated[lanes] = [tiled(value, lanes) for value in small]
        yield [v[start:stop].view(-1, lanes * channels) for v in large], repeated[lanes]


def tiled(value: Tensor, lanes: int) -> Tensor:
    """Repeats a value `(C,)` for rows that hold the channels several times."""
    # Tensor.repeat takes twice as long.
    return value if lanes == 1 else value.expand(lanes, -1).reshape(-1).contiguous()


@lru_cache(1024)
def cuts(rows: int, channels: int, width: int, depth: int, chunk: int) -> Cuts:
    """Cuts a matrix into pieces, and chooses for each the number of rows to take as one, its lanes.

    A loop over few channels is not vectorized, and a long sum loses digits; the piece as a matrix
    with `lanes` times the channels, and as many rows less, has neither.

    Args:
        rows: of the matrix.
        channels: its columns.
        width: columns that a row should have then, at least.
        depth: rows that a piece should have then, and may have twice.
        chunk: elements that it may have.

    Returns:
        (start, stop, lanes) of each.
    """
    highest = max(min(rows, _WIDEST // channels), 1)
    lowest = min(max(-(-width // channels), -(-rows // depth)), highest)
    candidates = range(lowest, min(4 * lowest + 64, highest) + 1)
    lanes = next((lanes for lanes in candidates if rows % lanes == 0), lowest)
    head = rows // lanes * lanes
    step = lanes * max(min(chunk // (lanes * channels), 2 * depth), 1)
    pieces = [(start, min(start + step, head), lanes) for start in range(0, head, step)]
    if head < rows:
        rest = cuts(rows - head, channels, width, depth, chunk)
        pieces += [(head + start, head + stop, lanes) for start, stop, lanes in rest]
    return tuple(pieces)


@lru_cache(1024)
def layout_of(shape: tuple[int, ...], stride: tuple[int, ...], axis: tuple[int, ...]) -> Layout:
    """Returns the layout of an input.

    Args:
        shape: of the input.
        stride: of the input; one that has neither order is copied in that of its axes.
        axis: its channel axis, and in front of it that of its groups.
    """
    channel, rank = axis[-1], len(shape)
    count = min(len(axis), channel)  # axes of samples; none if the channels come first
    rest = [index for index in range(rank) if index != channel]
    orders = [tuple(range(rank)), (*rest, channel), (*rest[:count], channel, *rest[count:])]
    order = next((order for order in orders if _contiguous(shape, stride, order)), orders[0])
    sizes, place = tuple(shape[index] for index in order), order.index(channel)
    between, behind = math.prod(sizes[count:place]), math.prod(sizes[place + 1 :])
    last, samples, channels = behind == 1, math.prod(sizes[:count]), sizes[place]
    inner, length = (1, between) if last else (between, behind)
    parts, rows = samples * inner, samples * inner * length
    plain, row_cuts = last and len(axis) == 1, cuts(rows, channels, _WIDTH, rows, 2**62)
    return Layout(
        shape=sizes,
        order=order,
        inverse=tuple(order.index(index) for index in range(rank)),
        straight=order == orders[0],
        place=place,
        lead=sizes[:count],
        group=axis[0] if len(axis) > 1 else None,
        parts=parts,
        inner=inner,
        length=length,
        channels=channels,
        last=last,
        lanes=_lanes(between, channels) if last else 1,
        rows=rows,
        axis=1 if last else 2,
        plain=plain,
        small=plain and rows <= _SMALL,
        row_lanes=row_cuts[0][2] if len(row_cuts) == 1 else 1,
        parts_shape=(parts, length, channels) if last else (parts, channels, length),
    )


def _lanes(length: int, channels: int) -> int:
    """Returns a divisor of the length that makes few channels wide enough for vectors."""
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
