"""Pairs of pictures from the catalog as tiles; scenes that memory cannot hold are read window by window."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import polars as pl
import torch

from sensorium.catalog.sample import ArrayView
from sensorium.catalog.selection import Selection
from sensorium.jobs.building_change.config import ChangeConfig
from sensorium.jobs.building_change.tiles import Grid, Pixels, cut
from sensorium.jobs.training.examples import Columns, Examples
from sensorium.jobs.training.samples import Sample, require_fields
from sensorium.platform.errors import InvalidSample

__all__ = [
    "DATES",
    "IGNORED",
    "TRUTH",
    "TilePool",
    "as_tensor",
    "checked_pair",
    "checked_truth",
    "examples",
    "preprocess",
]

DATES = ("before", "after")
TRUTH = "change"
#: label of pixels beyond a scene's edge, which no loss counts
IGNORED = 255
#: scenes, and pixels of a side of the window in their middle, that statistics are made from
_SCENES, _WINDOW = 256, 512
#: a scene with more than this share of the memory for examples is read window by window
_LARGE = 1 / 8


def _sized(array: Pixels) -> str:
    return " × ".join(map(str, array.shape))


def checked_pair(sample: Sample, config: ChangeConfig, bands: int) -> tuple[Pixels, Pixels]:
    """Before and after of a sample, which suit each other and the model.

    Args:
        sample: NumPy arrays, or views of arrays in storage.
        config: of the system.
        bands: that the model knows; 0 for any.

    Raises:
        InvalidSample: a half is missing, sizes, bands or georeferences differ, or a picture has no three dimensions.
    """
    require_fields(sample, (*DATES, *config.same))
    name, (before, after) = sample.get("id", "?"), (cast("Pixels", sample[date]) for date in DATES)
    for date, picture in zip(DATES, (before, after), strict=True):
        if len(picture.shape) != 3 or 0 in picture.shape:
            raise InvalidSample(
                f"sample {name!r}, field {date!r}: a picture [H, W, C] is needed; got shape {list(picture.shape)}."
            )
        if bands and picture.shape[2] != bands:
            raise InvalidSample(
                f"sample {name!r}, field {date!r}: {picture.shape[2]} bands; the model was fitted on {bands}. Choose the "
                "same bands in the same order, or fit a model on these."
            )
    if before.shape != after.shape:
        raise InvalidSample(
            f"sample {name!r}: before is {_sized(before)}, after is {_sized(after)} (height, width, bands). "
            "Resample the pair to one grid with the same bands."
        )
    for one, other in zip(config.same[::2], config.same[1::2], strict=True):
        if sample[one] != sample[other]:
            raise InvalidSample(
                f"sample {name!r}: {one} is {sample[one]!r}, {other} is {sample[other]!r}: the pair does not lie on one "
                "grid. Register one picture to the other first."
            )
    return before, after


def checked_truth(sample: Sample, before: Pixels) -> Pixels:
    """The map of changes of a sample.

    Raises:
        InvalidSample: it does not have the pictures' size.
    """
    truth = cast("Pixels", sample[TRUTH])
    if truth.shape != before.shape[:2]:
        raise InvalidSample(
            f"sample {sample.get('id', '?')!r}, field {TRUTH!r}: shape {list(truth.shape)}, and the pictures have "
            f"{list(before.shape[:2])} pixels. Give the map the pictures' grid."
        )
    return truth


def preprocess(train: Selection, config: ChangeConfig) -> dict[str, Any]:
    """Mean and deviation of each band over both dates, from the middle of at most 256 scenes of the training part."""
    chosen = np.unique(np.linspace(0, len(train) - 1, min(len(train), _SCENES)).round().astype(int))
    count, total, square = 0, np.zeros(1), np.zeros(1)
    bands = 0
    for position in chosen.tolist():
        sample = train[position]
        pair = checked_pair(_views(sample, config), config, bands)
        bands = pair[0].shape[2]
        for picture in pair:
            window = tuple(_middle(size) for size in picture.shape[:2])
            pixels = np.asarray(picture[window]).reshape(-1, bands).astype(np.float64)
            _check_finite(pixels, sample.id, "before or after")
            count, total, square = count + len(pixels), total + pixels.sum(axis=0), square + (pixels**2).sum(axis=0)
    mean = total / count
    deviation = np.sqrt(np.maximum(square / count - mean**2, 0))
    deviation[deviation == 0] = 1  # a band that never varies stays 0 for ever
    return {"mean": mean.tolist(), "deviation": deviation.tolist()}


def _middle(size: int) -> slice:
    begin = max(0, (size - _WINDOW) // 2)
    return slice(begin, begin + _WINDOW)


def _views(sample: Any, config: ChangeConfig) -> dict[str, Any]:
    """A sample of the catalog whose arrays stay in storage."""
    present = [name for name in (*DATES, TRUTH) if name in sample]
    scalars = {name: sample[name] for name in config.same if name in sample}
    return {"id": sample.id, **scalars, **{name: sample.view(name) for name in present}}


def _check_finite(pixels: npt.NDArray[Any], identifier: str, field: str) -> None:
    if pixels.dtype.kind == "f" and not np.isfinite(pixels).all():
        raise InvalidSample(
            f"sample {identifier!r}, field {field!r}: {int((~np.isfinite(pixels)).sum())} values are not finite. "
            "Fill or leave out what was not measured."
        )


def as_tensor(scene: Pixels, places: Sequence[tuple[int, int]], tile: int, identifier: str, field: str) -> torch.Tensor:
    """Tiles of a picture [H, W, C] as [n, C, tile, tile] float32.

    Raises:
        InvalidSample: a value is not finite.
    """
    tiles = np.stack([cut(scene, row, column, tile) for row, column in places])
    _check_finite(tiles, identifier, field)
    return torch.from_numpy(np.ascontiguousarray(tiles.transpose(0, 3, 1, 2), np.float32))


class TilePool:
    """Tiles of scenes that are in memory, or in storage still; cut when a batch is made."""

    def __init__(self, columns: Columns, config: ChangeConfig, bands: int) -> None:
        self._tile = config.tile
        self._ids: list[str] = []
        self._scenes: list[tuple[Pixels, Pixels, Pixels]] = []
        self._grids: list[Grid] = []
        for index, identifier in enumerate(columns["id"]):
            sample = {name: values[index] for name, values in columns.items()}
            before, after = checked_pair(sample, config, bands)
            require_fields(sample, (TRUTH,))
            self._ids.append(str(identifier))
            self._scenes.append((before, after, checked_truth(sample, before)))
            self._grids.append(Grid(before.shape[0], before.shape[1], config.tile))
        self._ends = np.cumsum([len(grid) for grid in self._grids])

    def __len__(self) -> int:
        return int(self._ends[-1])

    def take(self, indices: np.ndarray) -> dict[str, torch.Tensor]:
        """``before``, ``after`` [B, C, tile, tile] float32 and ``change`` [B, tile, tile] int64: 0, 1, or 255 outside."""
        scenes = np.searchsorted(self._ends, indices, side="right")
        firsts = self._ends - [len(grid) for grid in self._grids]
        parts: dict[str, list[torch.Tensor]] = {name: [] for name in (*DATES, TRUTH)}
        for scene, index in zip(scenes.tolist(), indices.tolist(), strict=True):
            place = self._grids[scene].place(int(index - firsts[scene]))
            *pair, truth = self._scenes[scene]
            for date, picture in zip(DATES, pair, strict=True):
                parts[date].append(as_tensor(picture, [place], self._tile, self._ids[scene], date)[0])
            parts[TRUTH].append(torch.from_numpy(self._labels(truth, *place)))
        return {name: torch.stack(tensors) for name, tensors in parts.items()}

    def _labels(self, truth: Pixels, row: int, column: int) -> npt.NDArray[np.int64]:
        labels = np.full((self._tile, self._tile), IGNORED, np.int64)
        known = np.asarray(truth[row : row + self._tile, column : column + self._tile])
        labels[: known.shape[0], : known.shape[1]] = known != 0
        return labels


class _InStorage(Selection):
    """A selection that reads no payload: arrays are views."""

    def read(self, positions: Sequence[int] | np.ndarray | None = None) -> dict[str, list[Any]]:
        """Fields of the samples at ``positions``; arrays as :class:`.ArrayView`."""
        wanted = range(len(self)) if positions is None else np.asarray(positions).tolist()
        samples = [self[position] for position in wanted]
        arrays = self.declaration.arrays
        columns: dict[str, list[Any]] = {"id": [sample.id for sample in samples]}
        for name in self.fields:
            columns[name] = [_seen(sample, name, in_storage=name in arrays) for sample in samples]
        return columns


def _seen(sample: Any, name: str, *, in_storage: bool) -> ArrayView | Any:
    if name not in sample:
        return None
    return sample.view(name) if in_storage else sample[name]


def examples(selection: Selection, config: ChangeConfig, bands: int) -> Examples:
    """Tiles of the scenes of ``selection``, without overlap."""

    def count(rows: pl.DataFrame) -> np.ndarray:
        shapes = rows[DATES[0]].struct.field("shape").to_list()
        return np.array([len(Grid(shape[0], shape[1], config.tile)) for shape in shapes], np.int64)

    def pool(columns: Columns) -> TilePool:
        return TilePool(columns, config, bands)

    sizes = selection.rows[DATES[0]].struct.field("nbytes").to_list()
    if 2 * max(sizes, default=0) <= _LARGE * (config.fit.memory_mb << 20):
        return Examples(selection, pool, count)
    _, arguments = selection.__reduce__()
    windows = _InStorage(*arguments)
    return Examples(windows, pool, count, expansion=0.0)  # views take no memory
