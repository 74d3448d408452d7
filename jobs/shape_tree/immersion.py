"""The image's front, from the border inwards, in the immersed image: zones in the order in which it reaches them.

The immersion is the continuous one of Géraud, Carlinet, Crozet and Najman, "A quasi-linear algorithm to compute the tree of
shapes of nD images" (ISMM 2013): between two pixels lies a face with all values from one to the other, between four pixels
one with all values from their least to their greatest, and a front that comes to a face at level l goes on through it at
the value nearest to l. Higra builds the same (``component_tree_tree_of_shapes_image2d``), with a grid four times as
large. Here faces are bits beside their pixel. That is enough, because

* a face takes either the level of the front that comes to it, and then belongs to the front's zone at once, or the value of
  one of its own pixels, and then belongs to that pixel's zone: only pixels ever wait;
* what is reached at one level without a step in between, a *zone*, is one vertex for all that follows.

Layout: pixels of the image with its border of zeros, and around them cells of a *guard* that are never entered, row by row in
one array of C = (H + 4)(W + 3) cells (a row's right guard is the next row's left one). A cell is a number whose low bits are
the level and whose high bits say what of it has been reached.
"""  # fmt: skip

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sensorium.jobs.trees.compiled import compiled
from sensorium.jobs.trees.memory import scratch

__all__ = ["Room", "front", "guarded", "inclusions", "stride"]

_UNSEEN = -1


def stride(width: int) -> int:
    """Cells of a row, for an image of ``width`` pixels."""
    return width + 3


@compiled
def guarded(values: NDArray[Any], outside: int, cells: NDArray[Any], shift: int) -> None:
    """Lay out an image [H, W] with border and guard in ``cells`` [C]; ``shift``: bits of a level."""
    height, width = values.shape
    row = width + 3
    reached = 15 << shift
    cells[:] = reached
    for y in range(height + 2):
        first = (y + 1) * row + 1
        cells[first : first + width + 2] = outside
        cells[first + width + 1] |= 10 << shift  # no face between the last column and the guard
    for y in range(height):
        first = (y + 2) * row + 2
        for x in range(width):
            cells[first + x] = values[y, x]
    last = (height + 2) * row + 1
    for x in range(width + 2):
        cells[last + x] |= 12 << shift  # nor below the last row


@compiled
def _lowest_bit(word: np.uint64) -> int:
    """Number of the lowest bit that is set; there is one."""
    number = 0
    for step in (32, 16, 8, 4, 2, 1):
        if word & ((np.uint64(1) << np.uint64(step)) - np.uint64(1)) == 0:
            word >>= np.uint64(step)
            number += step
    return number


@compiled
def _highest_bit(word: np.uint64) -> int:
    """Number of the highest bit that is set; there is one."""
    number = 0
    for step in (32, 16, 8, 4, 2, 1):
        if word >> np.uint64(step) != 0:
            word >>= np.uint64(step)
            number += step
    return number


@compiled
def _above(bits: NDArray[np.uint64], roof: NDArray[np.uint64], level: int) -> int:
    """The lowest level above ``level`` at which pixels wait; -1 without one."""
    word = level >> 6
    rest = bits[word] >> np.uint64(level & 63) >> np.uint64(1)
    if rest != 0:
        return level + 1 + _lowest_bit(rest)
    group = word >> 6
    rest = roof[group] >> np.uint64(word & 63) >> np.uint64(1)
    if rest != 0:
        word = word + 1 + _lowest_bit(rest)
        return (word << 6) + _lowest_bit(bits[word])
    for other in range(group + 1, roof.size):
        if roof[other] != 0:
            word = (other << 6) + _lowest_bit(roof[other])
            return (word << 6) + _lowest_bit(bits[word])
    return -1


@compiled
def _below(bits: NDArray[np.uint64], roof: NDArray[np.uint64], level: int) -> int:
    """The highest level below ``level`` at which pixels wait; -1 without one."""
    word = level >> 6
    rest = bits[word] & ((np.uint64(1) << np.uint64(level & 63)) - np.uint64(1))
    if rest != 0:
        return (word << 6) + _highest_bit(rest)
    group = word >> 6
    rest = roof[group] & ((np.uint64(1) << np.uint64(word & 63)) - np.uint64(1))
    if rest != 0:
        word = (group << 6) + _highest_bit(rest)
        return (word << 6) + _highest_bit(bits[word])
    for other in range(group - 1, -1, -1):
        if roof[other] != 0:
            word = (other << 6) + _highest_bit(roof[other])
            return (word << 6) + _highest_bit(bits[word])
    return -1


@dataclass(frozen=True)
class Room:
    """Arrays that the front works in, for C cells.

    Attributes:
        zone: int32 [C], of each pixel, in the order of the front; of the guard -1.
        after: int32 [C], the next pixel that waits at the same level.
        contacts: int32 [7 C], cells of pixels that a zone touched and that were reached after it. An edge is entered from a
            pixel (one contact) or from a centre (two), and a centre leaves three edges at most as they are.
        stack: int32 [2 C], pixels and centres of the zone that is under way.
        level: uint16 [C], of each zone.
        first: int32 [C + 1], where the contacts of each zone begin.
    """

    zone: NDArray[np.int32]
    after: NDArray[np.int32]
    contacts: NDArray[np.int32]
    stack: NDArray[np.int32]
    level: NDArray[np.uint16]
    first: NDArray[np.int32]

    @classmethod
    def of(cls, cells: int) -> Room:
        """For so many cells. What is never reached of the contacts and the stack never takes memory."""
        return cls(
            zone=scratch(cells, np.int32),
            after=scratch(cells, np.int32),
            contacts=scratch(7 * cells, np.int32),
            stack=scratch(2 * cells, np.int32),
            level=scratch(cells, np.uint16),
            first=scratch(cells + 1, np.int32),
        )


@compiled
def front(
    cells: NDArray[Any], row: int, shift: int, levels: int, start: int,
    zone: NDArray[np.int32], after: NDArray[np.int32], contacts: NDArray[np.int32], stack: NDArray[np.int32],
    level_of: NDArray[np.uint16], first: NDArray[np.int32],
) -> tuple[int, int]:  # fmt: skip
    """Let the front run over the image.

    One function, because all the time goes into its one loop, which calls nothing. A *face* here is one between two pixels, an
    edge; a *centre* is one between four.

    Args:
        cells: [C], as :func:`guarded` laid them out; used up.
        row: cells of a row.
        shift: bits of a level.
        levels: that there are.
        start: cell of the border's first pixel.
        zone: see :class:`Room`, as all that follow.
        after: see there.
        contacts: see there.
        stack: see there.
        level_of: see there.
        first: see there.

    Returns:
        zones: how many there are, Z.
        noted: how many contacts.
    """
    pixel, right, below, centre = 1 << shift, 2 << shift, 4 << shift, 8 << shift
    value = pixel - 1
    head = np.full(levels, -1, np.int32)
    bits = np.zeros((levels >> 6) + 1, np.uint64)
    roof = np.zeros((bits.size >> 6) + 1, np.uint64)
    zone[:] = _UNSEEN
    zones = 0
    noted = 0
    level = int(cells[start] & value)
    head[level] = start
    after[start] = -1
    bits[level >> 6] |= np.uint64(1) << np.uint64(level & 63)
    roof[level >> 12] |= np.uint64(1) << np.uint64((level >> 6) & 63)
    # cells whose right edge (two) and lower edge (two) belong to a pixel, and to the centre beside it
    of_pixel, of_centre = (0, -1, 0, -row), (0, row, 0, 1)
    while True:
        # all zones of this level
        while head[level] >= 0:
            seed = head[level]
            head[level] = after[seed]
            if zone[seed] >= 0:
                continue  # reached from a neighbour meanwhile
            level_of[zones] = level
            first[zones] = noted
            mark = -2 - zones  # says that this zone has noted a waiting pixel
            cells[seed] |= pixel
            zone[seed] = zones
            stack[0] = seed
            size = 1
            while size > 0:
                size -= 1
                item = stack[size]  # a pixel, or -1 - a centre
                for side in range(4):
                    a = item + of_pixel[side] if item >= 0 else -1 - item + of_centre[side]
                    face, step, back = (right, 1, row) if side < 2 else (below, row, 1)
                    if cells[a] & face:
                        continue
                    b = a + step
                    of_a, of_b = cells[a] & value, cells[b] & value
                    if (of_a <= level <= of_b) or (of_b <= level <= of_a):
                        cells[a] |= face
                        for far in (a, a - back):
                            if not cells[far] & centre:
                                cells[far] |= centre
                                stack[size] = -1 - far
                                size += 1
                    elif (of_a < of_b) == (level < of_a):
                        b = a  # only the pixel whose value is nearest to the level
                    else:
                        a = b
                    for other in (a, b):
                        if cells[other] & pixel or zone[other] == mark:
                            continue
                        its = int(cells[other] & value)
                        if its == level:
                            cells[other] |= pixel
                            zone[other] = zones
                            stack[size] = other
                            size += 1
                            continue
                        if zone[other] == _UNSEEN:
                            if head[its] < 0:
                                bits[its >> 6] |= np.uint64(1) << np.uint64(its & 63)
                                roof[its >> 12] |= np.uint64(1) << np.uint64((its >> 6) & 63)
                            after[other] = head[its]
                            head[its] = other
                        zone[other] = mark
                        contacts[noted] = other
                        noted += 1
            zones += 1
        bits[level >> 6] &= ~(np.uint64(1) << np.uint64(level & 63))
        if bits[level >> 6] == 0:
            roof[level >> 12] &= ~(np.uint64(1) << np.uint64((level >> 6) & 63))
        up = _above(bits, roof, level)
        down = _below(bits, roof, level)
        if up < 0 and down < 0:
            break
        level = up if down < 0 or (up >= 0 and up - level < level - down) else down
    first[zones] = noted
    return zones, noted


@compiled
def inclusions(
    zone: NDArray[np.int32],
    first: NDArray[np.int32],
    contacts: NDArray[np.int32],
    parent: NDArray[np.int32],
    up: NDArray[np.int32],
) -> None:
    """The zone in which each zone lies, into ``parent`` [Z]; the first one in itself.

    Zones are joined from the last to the first: what a zone touches and what was reached after it lies within it
    (union-find with path halving).

    Args:
        zone: int32 [C], of each pixel.
        first: int32 [Z + 1], where the contacts of each zone begin.
        contacts: int32.
        parent: room for the result, int32 [Z].
        up: room, int32 [Z].
    """
    parent[0] = 0
    for inner in range(parent.size - 1, -1, -1):
        up[inner] = inner
        for place in range(first[inner], first[inner + 1]):
            other = zone[contacts[place]]
            while up[other] != other:
                up[other] = up[up[other]]
                other = up[other]
            if other != inner:
                up[other] = inner
                parent[other] = inner
