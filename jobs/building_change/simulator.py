"""Simulated pairs of aerial pictures with an exact map of the buildings that came or went.

What changes besides buildings, and must not be found: season (green and dry vegetation), light (direction of the sun, gain of
each band), bare soil and ponds that come and go, cars, noise, and a misregistration of up to a pixel. Roofs are striped, as
tiles and metal sheets are; soil has the colours of roofs but no such texture. Sizes and colours are made up, not measured.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from sensorium.catalog.fields import Field, ScalarField

__all__ = ["DESCRIPTION", "FIELDS", "samples"]

Real = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

DESCRIPTION = "simulated pairs of aerial pictures; buildings come and go, seasons, light and registration differ"
FIELDS: tuple[Field, ...] = (ScalarField("simulated", pa.bool_(), description="made by a program, not measured"),)

_ROOFS = np.array([[0.62, 0.36, 0.28], [0.55, 0.52, 0.50], [0.42, 0.44, 0.48], [0.70, 0.62, 0.50], [0.35, 0.30, 0.28]])
_SOIL, _POND = np.array([0.58, 0.44, 0.33]), np.array([0.14, 0.22, 0.26])
_ROAD, _CAR = np.array([0.40, 0.40, 0.41]), np.array([0.8, 0.8, 0.82])
_GREEN, _DRY = np.array([0.22, 0.34, 0.16]), np.array([0.50, 0.44, 0.27])
#: pixels of a scene for each building, for each patch of soil or water, for each car
_PER_BUILDING, _PER_PATCH, _PER_CAR = 600, 1400, 700
#: chances that a building is there before only, after only
_WENT, _CAME = 0.15, 0.3
#: half lengths of a building's sides, and the period of its stripes, pixels
_HALVES, _PERIODS = (4.0, 11.0), (3.0, 5.0)
_MISREGISTRATION = 1.0


@dataclass(frozen=True)
class _Building:
    """A rectangle [half, half] at a place, turned; stripes run along one of its sides."""

    row: float
    column: float
    halves: tuple[float, float]
    angle: float
    colour: Real
    period: float
    before: bool
    after: bool

    def local(self, rows: Real, columns: Real) -> tuple[Real, Real]:
        """Coordinates along the building's sides, 0 in its middle."""
        y, x = rows - self.row, columns - self.column
        cosine, sine = np.cos(self.angle), np.sin(self.angle)
        return cosine * y - sine * x, sine * y + cosine * x

    def covers(self, rows: Real, columns: Real, margin: float = 0.0) -> Mask:
        """Where it stands."""
        y, x = self.local(rows, columns)
        return (np.abs(y) <= self.halves[0] + margin) & (np.abs(x) <= self.halves[1] + margin)


@dataclass(frozen=True)
class _Patch:
    """An ellipse of soil or water."""

    row: float
    column: float
    radii: tuple[float, float]
    colour: Real
    before: bool
    after: bool

    def covers(self, rows: Real, columns: Real) -> Mask:
        """Where it lies."""
        inside: Mask = ((rows - self.row) / self.radii[0]) ** 2 + ((columns - self.column) / self.radii[1]) ** 2 <= 1
        return inside


@dataclass(frozen=True)
class _Scene:
    """What lies where on both dates; ``cover`` [H, W] is the share of vegetation."""

    size: int
    cover: Real
    grain: Real
    roads: list[tuple[float, float, float]]
    patches: list[_Patch]
    buildings: list[_Building]


def samples(count: int, size: int, seed: int = 0) -> Iterator[dict[str, Any]]:
    """``count`` samples of ``size`` x ``size`` pixels: ``before``, ``after`` uint8 RGB, ``change`` uint8 0 and 1."""
    for number in range(count):
        random = np.random.default_rng([seed, number])
        scene = _scene(random, size)
        rows, columns = np.mgrid[:size, :size].astype(np.float64)
        change = np.zeros((size, size), bool)
        for building in scene.buildings:
            if building.before != building.after:
                change |= building.covers(rows, columns)
        yield {
            "id": f"simulated_{seed}_{number:04}",
            "before": _picture(random, scene, after=False),
            "after": _picture(random, scene, after=True),
            "change": change.astype(np.uint8),
            "simulated": True,
        }


def _scene(random: np.random.Generator, size: int) -> _Scene:
    margin = _HALVES[1]
    main = random.uniform(0, np.pi)  # streets and houses of a place have few directions
    rows, columns = np.mgrid[:size, :size].astype(np.float64)
    roads = [
        (float(main + random.integers(2) * np.pi / 2), random.uniform(-0.4, 0.4) * size, random.uniform(1.5, 3.0))
        for _ in range(random.integers(1, 3))
    ]
    taken = np.zeros((size, size), bool)
    for road in roads:
        taken |= _on_road(road, rows, columns, size, 2.0)
    buildings = []
    for _ in range(max(2, size * size // _PER_BUILDING)):
        building = _building(random, size, main, margin)
        place = building.covers(rows, columns, 2.0)
        if place.any() and not (place & taken).any():
            taken |= place
            buildings.append(building)
    patches = [_patch(random, size) for _ in range(max(1, size * size // _PER_PATCH))]
    return _Scene(size, _smooth(random, size, 6), _smooth(random, size, size // 2), roads, patches, buildings)


def _building(random: np.random.Generator, size: int, main: float, margin: float) -> _Building:
    state = random.random()
    row, column = random.uniform(margin / 2, size - margin / 2, 2).tolist()
    return _Building(
        row,
        column,
        halves=(random.uniform(*_HALVES), random.uniform(*_HALVES)),
        angle=main + random.integers(2) * np.pi / 2 + random.normal(0, 0.05),
        colour=_ROOFS[random.integers(len(_ROOFS))] * random.uniform(0.85, 1.15),
        period=random.uniform(*_PERIODS),
        before=not _WENT <= state < _WENT + _CAME,
        after=state >= _WENT,
    )


def _patch(random: np.random.Generator, size: int) -> _Patch:
    colour = (
        _POND if random.random() < 0.3 else _SOIL if random.random() < 0.5 else _ROOFS[random.integers(len(_ROOFS))]
    )
    radii = (random.uniform(4, 12), random.uniform(4, 12))
    before, after = random.random(2) < 0.55
    row, column = random.uniform(0, size, 2).tolist()
    return _Patch(row, column, radii, colour * random.uniform(0.9, 1.1), bool(before), bool(after))


def _on_road(road: tuple[float, float, float], rows: Real, columns: Real, size: int, margin: float = 0.0) -> Mask:
    angle, offset, half = road
    across = np.cos(angle) * (rows - size / 2) - np.sin(angle) * (columns - size / 2) - offset
    on: Mask = np.abs(across) <= half + margin
    return on


def _smooth(random: np.random.Generator, size: int, cells: int) -> Real:
    """Noise [size, size] in [0, 1] that varies over ``size / cells`` pixels."""
    knots = random.random((cells + 1, cells + 1))
    places, known = np.linspace(0, cells, size), np.arange(cells + 1)
    along = np.stack([np.interp(places, known, row) for row in knots])
    return np.stack([np.interp(places, known, column) for column in along.T], axis=1)


def _picture(random: np.random.Generator, scene: _Scene, *, after: bool) -> npt.NDArray[np.uint8]:
    """The scene as a sensor sees it on one date, [H, W, 3]."""
    size = scene.size
    rows, columns = np.mgrid[:size, :size].astype(np.float64)
    if after:  # the second picture lies a little beside the first
        shift = random.uniform(-_MISREGISTRATION, _MISREGISTRATION, 2)
        rows, columns = rows + shift[0], columns + shift[1]
    green = random.uniform(0.1, 1.0)
    plants = green * _GREEN + (1 - green) * _DRY
    share = np.clip(1.6 * scene.cover - 0.2, 0, 1)[..., None]
    pixels = share * plants + (1 - share) * _SOIL * 0.9
    pixels *= (0.8 + 0.4 * scene.grain)[..., None]
    for patch in scene.patches:
        if patch.after if after else patch.before:
            inside = patch.covers(rows, columns)
            pixels[inside] = (0.85 + 0.3 * scene.grain[inside])[:, None] * patch.colour
    for road in scene.roads:
        pixels[_on_road(road, rows, columns, size)] = _ROAD
    for _ in range(size * size // _PER_CAR):
        row, column = random.integers(0, size - 3, 2)
        pixels[row : row + 3, column : column + 2] = _CAR * random.uniform(0.2, 1.0)
    _build(random, scene, pixels, rows, columns, after=after)
    light = random.uniform(0.75, 1.2) * random.uniform(0.93, 1.07, 3)
    haze = random.uniform(0, 0.06)
    noisy = pixels * light + haze + random.normal(0, 0.02, pixels.shape)
    seen: npt.NDArray[np.uint8] = (np.clip(noisy, 0, 1) * 255 + 0.5).astype(np.uint8)
    return seen


def _build(random: np.random.Generator, scene: _Scene, pixels: Real, rows: Real, columns: Real, *, after: bool) -> None:
    """Draw shadows, then roofs with stripes, of which the side towards the sun is brighter."""
    sun = random.uniform(0, 2 * np.pi)
    length = random.uniform(1.5, 4.0)
    there = [building for building in scene.buildings if (building.after if after else building.before)]
    for building in there:
        shaded = building.covers(rows - length * np.sin(sun), columns - length * np.cos(sun))
        pixels[shaded] *= 0.55
    for building in there:
        y, x = building.local(rows, columns)
        inside = building.covers(rows, columns)
        stripes = 1 + 0.18 * np.sin(2 * np.pi * x / building.period)
        slope = 1 + 0.12 * np.sign(y) * np.cos(sun - building.angle)
        pixels[inside] = (stripes * slope)[inside][:, None] * building.colour
