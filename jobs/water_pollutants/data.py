"""Recordings from the catalog as windows that are ready to be learnt from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl
import torch

from sensorium.catalog.selection import Selection
from sensorium.jobs.training.examples import Columns, Examples
from sensorium.jobs.training.method import Sample
from sensorium.jobs.water_pollutants.config import WaterConfig
from sensorium.jobs.water_pollutants.signals import Standardisation, difference
from sensorium.platform.errors import InvalidSample

__all__ = ["WindowPool", "examples", "prepared", "preprocess", "standardisation"]

#: recordings read at a time for the statistics
_BATCH = 32


def preprocess(train: Selection, config: WaterConfig) -> dict[str, Any]:
    """Mean and deviation of each feature over the training part, names of its classes and of its features."""
    total, square, count, lengths = 0.0, 0.0, 0, set()
    classes: set[str] = set()
    for begin in range(0, len(train), _BATCH):
        columns = train.read(range(begin, min(begin + _BATCH, len(train))))
        classes |= {str(label) for label in columns[config.target]}
        for identifier, array in zip(columns["id"], columns[config.readings], strict=True):
            rows = _rows(array, config, identifier)
            lengths.add(rows.shape[1])
            total, square, count = total + rows.sum(axis=0), square + (rows**2).sum(axis=0), count + len(rows)
    if len(lengths) > 1:
        raise InvalidSample(
            f"data set {train.name!r}: recordings have {sorted(lengths)} features. Part the data set by the number of them."
        )
    mean = np.asarray(total) / count
    deviation = np.sqrt(np.maximum(np.asarray(square) / count - mean**2, 0))
    if not deviation.all():
        raise InvalidSample(
            f"data set {train.name!r}: feature {int(deviation.argmin())} never varies in the training part. Leave it out."
        )
    return {
        "classes": sorted(classes - set(config.leave_out)),
        "mean": mean.tolist(),
        "deviation": deviation.tolist(),
        "width": config.width if config.layout == "recording" else len(rows),
    }


def standardisation(preprocessing: Mapping[str, Any]) -> Standardisation:
    """The statistics of :func:`preprocess`."""
    return Standardisation(tuple(preprocessing["mean"]), tuple(preprocessing["deviation"]))


def _rows(array: np.ndarray, config: WaterConfig, identifier: str) -> np.ndarray:
    """What windows are cut from: differences of a recording from ``skip`` on, or an exposure as it is, [T, F] float64."""
    values = np.asarray(array)
    if values.ndim != 2:
        raise InvalidSample(
            f"sample {identifier!r}, field {config.readings!r}: two dimensions are needed; got shape {values.shape}."
        )
    if not np.isfinite(values).all():
        place = tuple(int(index[0]) for index in np.nonzero(~np.isfinite(values)))
        raise InvalidSample(
            f"sample {identifier!r}, field {config.readings!r}: {values[place]} at {list(place)}. Repair or leave out the sample."
        )
    if config.layout == "exposure":
        return values.astype(np.float64)
    if values.shape[1] < config.skip + config.width:
        raise InvalidSample(
            f"sample {identifier!r}, field {config.readings!r}: {values.shape[1]} readings, and {config.skip + config.width} "
            f"are needed (skip {config.skip}, window {config.width}). Leave it out, or set skip lower."
        )
    return difference(values, config.period)[:, config.skip :].T


def prepared(sample: Sample, config: WaterConfig, preprocessing: Mapping[str, Any]) -> np.ndarray:
    """The rows [T, F] of one sample, standardised, float32.

    Raises:
        InvalidSample: it has another number of features, is too short, or holds what is not finite.
    """
    rows = _rows(sample[config.readings], config, str(sample.get("id", "?")))
    features = len(preprocessing["mean"])
    if rows.shape[1] != features or (config.layout == "exposure" and len(rows) != preprocessing["width"]):
        wanted = f"{features} features" if config.layout == "recording" else f"[{preprocessing['width']}, {features}]"
        raise InvalidSample(
            f"sample {sample.get('id', '?')!r}, field {config.readings!r}: {wanted} are needed, as in training; got shape "
            f"{list(np.asarray(sample[config.readings]).shape)}. Choose the same sensors in the same order."
        )
    return standardisation(preprocessing).apply(rows).astype(np.float32)


class WindowPool:
    """Recordings in memory, once; windows are gathered from them when a batch is made."""

    def __init__(self, columns: Columns, config: WaterConfig, preprocessing: Mapping[str, Any], width: int) -> None:
        names = {name: index for index, name in enumerate(preprocessing["classes"])}
        series, starts, labels, offset = [], [], [], 0
        for identifier, array, label in zip(
            columns["id"], columns[config.readings], columns[config.target], strict=True
        ):
            if str(label) not in names:
                raise InvalidSample(
                    f"sample {identifier!r}, field {config.target!r}: class {label!r} is not in the training part "
                    f"({', '.join(names)}). Part the data so that each class is in every part."
                )
            rows = prepared({"id": identifier, config.readings: array}, config, preprocessing)
            own = np.arange(0, len(rows) - width + 1, config.stride)
            series.append(rows)
            starts.append(own + offset)
            labels.append(np.full(len(own), names[str(label)]))
            offset += len(rows)
        self._series = np.concatenate(series)
        self._starts, self._labels = np.concatenate(starts), np.concatenate(labels)
        self._within = np.arange(width)

    def __len__(self) -> int:
        return len(self._starts)

    def take(self, indices: np.ndarray) -> dict[str, torch.Tensor]:
        """``windows`` [B, W, F] float32 and ``label`` [B] int64."""
        windows = self._series[self._starts[indices][:, None] + self._within]
        return {"windows": torch.from_numpy(windows), "label": torch.from_numpy(self._labels[indices])}


def examples(selection: Selection, config: WaterConfig, preprocessing: Mapping[str, Any]) -> Examples:
    """Windows of the recordings of ``selection``."""
    width = int(preprocessing["width"])

    def count(rows: pl.DataFrame) -> np.ndarray:
        if config.layout == "exposure":
            return np.ones(rows.height, np.int64)
        lengths = rows[config.readings].struct.field("shape").list.get(1).to_numpy()
        windows: np.ndarray = np.maximum(0, (lengths - config.skip - width) // config.stride + 1)
        return windows

    return Examples(selection, lambda columns: WindowPool(columns, config, preprocessing, width), count, expansion=2.0)
