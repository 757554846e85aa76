"""The offline arena plan: which bytes each buffer occupies while it is alive.

Greedy by size with best fit (Pisarchyk and Lee, "Efficient memory management for deep neural net inference", 2020, section
4.2), over a few deterministic orders, then a local search that moves the buffers that reach the top to the front. The lower
bound is the largest sum of bytes alive at one step; no plan can be smaller.
"""

from __future__ import annotations

from dataclasses import dataclass

ALIGN = 64
SEARCH_ROUNDS = 200


@dataclass(frozen=True, slots=True)
class Buffer:
    """``bytes`` that must be kept from step ``first`` to step ``last``, both included."""

    bytes: int
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Plan:
    """Offset of each buffer, arena size and lower bound, all in bytes."""

    offsets: list[int]
    arena_bytes: int
    lower_bound: int


def plan(buffers: list[Buffer]) -> Plan:
    """Offsets, multiples of 64, such that buffers alive at the same step never overlap."""
    sizes = [-(-b.bytes // ALIGN) * ALIGN for b in buffers]
    bound = lower_bound(buffers, sizes)
    orders = [
        sorted(range(len(buffers)), key=lambda i: (-sizes[i], buffers[i].first, i)),
        sorted(range(len(buffers)), key=lambda i: (-sizes[i] * (buffers[i].last - buffers[i].first + 1), i)),
        sorted(range(len(buffers)), key=lambda i: (buffers[i].first, -sizes[i], i)),
        _by_busiest_step(buffers, sizes),
    ]
    best_offsets, best_top, best_order = [0] * len(buffers), -1, orders[0]
    for order in orders:
        offsets, top = _place(order, buffers, sizes)
        if best_top < 0 or top < best_top:
            best_offsets, best_top, best_order = offsets, top, order
    for _ in range(SEARCH_ROUNDS):
        if best_top <= bound:
            break
        highest = next(i for i in best_order if best_offsets[i] + sizes[i] == best_top)
        place = best_order.index(highest)
        if place == 0:
            break
        order = best_order.copy()
        order.insert(place // 2, order.pop(place))
        offsets, top = _place(order, buffers, sizes)
        if top > best_top:
            break
        best_offsets, best_top, best_order = offsets, top, order
    return Plan(best_offsets, max(best_top, 0), bound)


def lower_bound(buffers: list[Buffer], sizes: list[int]) -> int:
    """The largest sum of bytes alive at one step."""
    steps = max((b.last for b in buffers), default=-1) + 1
    change = [0] * (steps + 1)
    for buffer, size in zip(buffers, sizes, strict=True):
        change[buffer.first] += size
        change[buffer.last + 1] -= size
    alive = most = 0
    for difference in change:
        alive += difference
        most = max(most, alive)
    return most


def _by_busiest_step(buffers: list[Buffer], sizes: list[int]) -> list[int]:
    """Buffers alive at the step with most bytes first, then outwards."""
    steps = max((b.last for b in buffers), default=-1) + 1
    alive = [0] * max(steps, 1)
    for buffer, size in zip(buffers, sizes, strict=True):
        for step in range(buffer.first, buffer.last + 1):
            alive[step] += size
    weight = [max(alive[b.first : b.last + 1], default=0) for b in buffers]
    return sorted(range(len(buffers)), key=lambda i: (-weight[i], -sizes[i], i))


def _place(order: list[int], buffers: list[Buffer], sizes: list[int]) -> tuple[list[int], int]:
    """Put each buffer into the smallest gap that holds it among those alive with it; the gap at the top is the last resort."""
    offsets = [0] * len(buffers)
    placed: list[int] = []
    top = 0
    for index in order:
        mine = buffers[index]
        busy = sorted(
            (offsets[i], offsets[i] + sizes[i]) for i in placed if buffers[i].first <= mine.last and mine.first <= buffers[i].last
        )
        offsets[index] = _best_gap(busy, sizes[index])
        placed.append(index)
        top = max(top, offsets[index] + sizes[index])
    return offsets, top


def _best_gap(busy: list[tuple[int, int]], size: int) -> int:
    best, best_size, position = -1, -1, 0
    for start, end in busy:
        gap = start - position
        if gap >= size and (best < 0 or gap < best_size):
            best, best_size = position, gap
        position = max(position, end)
    return best if best >= 0 else position
