"""The Markov-Gibbs random field over 26 neighbours, and the joint log-likelihood of a map (Eqs 4, 7 to 9).

A *map* is uint8 [Z, Y, X]: 0 outside the body, 1 chest, 2 lung. Pairs count only within the body. The partition function Z of
Eq. 9 cannot be summed; as usual for such fields the likelihood of a map is the pseudo-likelihood, the product over the
voxels of the probability of a label given those of its neighbours, which needs none. For a voxel whose neighbours are l times
lung and c times chest it is 1 / (1 + exp(2 V_eq (c - l))) for lung.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sensorium.jobs.lung_segmentation.appearance import LOWEST
from sensorium.jobs.trees.compiled import compiled

__all__ = ["CHEST", "LUNG", "Evidence", "agreement", "labelled", "likelihoods", "posteriors", "potential", "smoothed"]

CHEST, LUNG = 1, 2
_SLAB = 8


@dataclass(frozen=True)
class Evidence:
    """What the appearances say.

    Attributes:
        seen: int16 [Z, Y, X] of each appearance, in HU.
        tables: float32 [A, 2, V], p(h | lung) and p(h | chest) of each for every whole HU.
        body: bool [Z, Y, X].
    """

    seen: tuple[NDArray[np.int16], ...]
    tables: NDArray[np.float32]
    body: NDArray[np.bool_]

    def only(self, chosen: Iterable[int]) -> Evidence:
        """Some of the appearances."""
        numbers = list(chosen)
        return Evidence(tuple(self.seen[one] for one in numbers), self.tables[numbers], self.body)

    def three(self) -> tuple[NDArray[np.int16], NDArray[np.int16], NDArray[np.int16]]:
        """Arrays for the compiled loops, which take three; those that are not there are not looked at."""
        own = [*self.seen, *(self.seen[:1] * 2)]
        return own[0], own[1], own[2]


def potential(share: float) -> float:
    """V_eq of Eq. 8 with two labels; V_noneq is its negative. ``share`` of the pairs that have equal labels, 0 to 1."""
    return 4.0 * (share - 0.5)


def agreement(labels: NDArray[np.uint8]) -> float:
    """f_eq of Eq. 8: share of all pairs of neighbours within the body that have the same label; 1 where there is no pair."""
    padded = np.pad(labels, 1)
    counted = np.array(list(_in_slabs(lambda a, b: _count_pairs(padded, a, b), len(labels))))
    equal, pairs = counted.sum(axis=0)
    return float(equal / pairs) if pairs else 1.0


def labelled(evidence: Evidence) -> NDArray[np.uint8]:
    """The map of the appearances alone: the class with the greater mean of densities (Eq. 2 without P(m))."""
    out = np.zeros(evidence.body.shape, np.uint8)
    _each(lambda a, b: _label(*evidence.three(), evidence.tables, evidence.body, out, a, b), len(out))
    return out


def smoothed(evidence: Evidence, labels: NDArray[np.uint8], strength: float) -> NDArray[np.uint8]:
    """The map that is most probable at each voxel, given the appearances and its neighbours' labels (Steps 3 and 4)."""
    out, padded = np.zeros_like(labels), np.pad(labels, 1)
    _each(lambda a, b: _smooth(*evidence.three(), evidence.tables, padded, strength, out, a, b), len(out))
    return out


def likelihoods(evidence: Evidence, labels: NDArray[np.uint8], strength: float) -> NDArray[np.float32]:
    """Each voxel's part of the joint log-likelihood (Eq. 4), float32 [Z, Y, X]; 0 outside the body."""
    out, padded = np.zeros(labels.shape, np.float32), np.pad(labels, 1)
    _each(lambda a, b: _likelihood(*evidence.three(), evidence.tables, padded, strength, out, a, b), len(out))
    return out


def posteriors(
    evidence: Evidence,
    labels: NDArray[np.uint8],
    strength: float,
    place: int,
    box: tuple[slice, slice] = (slice(None), slice(None)),
) -> NDArray[np.float32]:
    """The network's channels of one axial slice: for each appearance the joint probability of lung, then those of chest.

    Args:
        evidence: of A appearances.
        labels: the map whose neighbours count.
        strength: V_eq.
        place: of the slice.
        box: rows and columns of it.

    Returns:
        float32 [2 A, Y, X] of the box; the two of an appearance sum to 1 in the body, 0 outside.
    """
    count = len(evidence.seen)
    inside = labels[place][box] > 0
    out = np.zeros((2 * count, *inside.shape), np.float32)
    low, high = max(place - 1, 0), min(place + 2, len(labels))
    near = np.pad(labels[low:high], ((low - place + 1, place + 2 - high), (1, 1), (1, 1)))
    difference = _differences(near, np.empty(labels.shape[1:], np.int16))[box].astype(np.float32)
    prior = 1 / (1 + np.exp(np.clip(np.float32(-2 * strength) * difference, -60, 60)))
    for number in range(count):
        pair = evidence.tables[number][:, evidence.seen[number][place][box].astype(np.int64) - LOWEST]  # [2, Y, X]
        lung, chest = pair[0] * prior, pair[1] * (1 - prior)
        out[number] = np.where(inside, lung / np.maximum(lung + chest, 1e-38), 0)
        out[count + number] = np.where(inside, 1 - out[number], 0)
    return out


# -- in threads ---------------------------------------------------------------------------------------------------------


def _in_slabs(work: Callable[[int, int], Any], length: int) -> Iterator[Any]:
    """``work`` on ranges of slices, in order, as many at a time as there are cores: the loops hold no lock."""
    starts = range(0, length, _SLAB)
    with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
        yield from pool.map(lambda start: work(start, min(start + _SLAB, length)), starts)


def _each(work: Callable[[int, int], Any], length: int) -> None:
    for _ in _in_slabs(work, length):
        continue


# -- compiled -----------------------------------------------------------------------------------------------------------


@compiled
def _count_pairs(padded: NDArray[np.uint8], first: int, last: int) -> tuple[int, int]:
    """Equal pairs and pairs in the slices from ``first`` to ``last``, each pair seen from one of its voxels."""
    equal, pairs = 0, 0
    for z in range(first + 1, last + 1):
        for y in range(1, padded.shape[1] - 1):
            for x in range(1, padded.shape[2] - 1):
                own = padded[z, y, x]
                if own == 0:
                    continue
                for k in range(13):  # the other 13 see this voxel
                    there = padded[z + k // 9 - 1, y + k // 3 % 3 - 1, x + k % 3 - 1]
                    pairs += there != 0
                    equal += there == own
    return equal, pairs


@compiled
def _difference(padded: NDArray[np.uint8], z: int, y: int, x: int) -> int:
    """Neighbours that are lung, less those that are chest."""
    total: int = 0
    for dz in range(-1, 2):
        for dy in range(-1, 2):
            for dx in range(-1, 2):
                there = padded[z + dz, y + dy, x + dx]
                total += (there == 2) - (there == 1)
    total += (padded[z, y, x] == 1) - (padded[z, y, x] == 2)
    return total


@compiled
def _differences(near: NDArray[np.uint8], out: NDArray[np.int16]) -> NDArray[np.int16]:
    for y in range(out.shape[0]):
        for x in range(out.shape[1]):
            out[y, x] = _difference(near, 1, y + 1, x + 1)
    return out


@compiled
def _sums(
    one: NDArray[np.int16], two: NDArray[np.int16], three: NDArray[np.int16], tables: NDArray[np.float32],
    z: int, y: int, x: int,
) -> tuple[float, float]:  # fmt: skip
    """Densities of lung and chest at a voxel, mean of the appearances."""
    place = one[z, y, x] + 1024
    lung, chest = tables[0, 0, place], tables[0, 1, place]
    if len(tables) > 1:
        place = two[z, y, x] + 1024
        lung, chest = lung + tables[1, 0, place], chest + tables[1, 1, place]
    if len(tables) > 2:
        place = three[z, y, x] + 1024
        lung, chest = lung + tables[2, 0, place], chest + tables[2, 1, place]
    return lung / len(tables), chest / len(tables)


@compiled
def _label(
    one: NDArray[np.int16], two: NDArray[np.int16], three: NDArray[np.int16], tables: NDArray[np.float32],
    body: NDArray[np.bool_], out: NDArray[np.uint8], first: int, last: int,
) -> None:  # fmt: skip
    for z in range(first, last):
        for y in range(out.shape[1]):
            for x in range(out.shape[2]):
                if body[z, y, x]:
                    lung, chest = _sums(one, two, three, tables, z, y, x)
                    out[z, y, x] = 2 if lung > chest else 1


@compiled
def _smooth(
    one: NDArray[np.int16], two: NDArray[np.int16], three: NDArray[np.int16], tables: NDArray[np.float32],
    padded: NDArray[np.uint8], strength: float, out: NDArray[np.uint8], first: int, last: int,
) -> None:  # fmt: skip
    for z in range(first, last):
        for y in range(out.shape[1]):
            for x in range(out.shape[2]):
                if padded[z + 1, y + 1, x + 1]:
                    lung, chest = _sums(one, two, three, tables, z, y, x)
                    favour = np.log(lung / chest) + 2 * strength * _difference(padded, z + 1, y + 1, x + 1)
                    out[z, y, x] = 2 if favour > 0 else 1


@compiled
def _likelihood(
    one: NDArray[np.int16], two: NDArray[np.int16], three: NDArray[np.int16], tables: NDArray[np.float32],
    padded: NDArray[np.uint8], strength: float, out: NDArray[np.float32], first: int, last: int,
) -> None:  # fmt: skip
    for z in range(first, last):
        for y in range(out.shape[1]):
            for x in range(out.shape[2]):
                own = padded[z + 1, y + 1, x + 1]
                if own == 0:
                    continue
                lung, chest = _sums(one, two, three, tables, z, y, x)
                favour = 2 * strength * _difference(padded, z + 1, y + 1, x + 1)
                if own == 1:
                    favour, lung = -favour, chest
                prior = -np.log1p(np.exp(-favour)) if favour > 0 else favour - np.log1p(np.exp(favour))
                out[z, y, x] = np.log(lung) + prior
