"""Crops from the catalog as batches."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from sensorium.catalog.selection import Selection
from sensorium.jobs.machine_quality.learned.config import LearnedConfig
from sensorium.jobs.training.examples import Columns, Examples
from sensorium.jobs.training.method import Sample
from sensorium.platform.errors import InvalidSample

__all__ = ["PICTURES", "CropPool", "examples", "pair", "preprocess"]

#: array fields of a sample: [H, W, 3], or [N, H, W, 3] of a subset, uint8
PICTURES = ("reference", "compressed")


def preprocess(train: Selection, config: LearnedConfig) -> dict[str, Any]:
    """Mean and deviation of the target over the training part, and the size of its crops."""
    frame = train.frame()
    scores = frame[config.target].to_numpy().astype(np.float64)
    if not np.isfinite(scores).all():
        raise InvalidSample(
            f"data set {train.name!r}: {config.target!r} is not finite everywhere. Leave such samples out."
        )
    shapes = {tuple(shape) for name in PICTURES for shape in train.rows[name].struct.field("shape").to_list()}
    if len(shapes) != 1:
        raise InvalidSample(
            f"data set {train.name!r}: crops must have one shape; got {sorted(shapes)[:4]}. Make them with one size."
        )
    (shape,) = shapes
    # a target that never varies has nothing to be scaled by, and can be fitted all the same
    return {
        "mean": float(scores.mean()),
        "deviation": float(scores.std()) or 1.0,
        "height": int(shape[-3]),
        "width": int(shape[-2]),
    }


def pair(sample: Sample, preprocessing: Mapping[str, Any]) -> list[np.ndarray]:
    """Reference and compressed crops of a sample, each [N, 3, H, W], uint8.

    Raises:
        InvalidSample: they are no such crops, or have another size than in training.
    """
    found = []
    for name in PICTURES:
        crops = np.asarray(sample[name])
        crops = crops[np.newaxis] if crops.ndim == 3 else crops
        wanted = (int(preprocessing["height"]), int(preprocessing["width"]), 3)
        if crops.ndim != 4 or crops.shape[1:] != wanted or not len(crops) or crops.dtype != np.uint8:
            raise InvalidSample(
                f"sample {sample.get('id', '?')!r}, field {name!r}: crops {list(wanted)} of uint8 are needed, as in training; "
                f"got {list(np.asarray(sample[name]).shape)}, {crops.dtype}. Cut them to that size."
            )
        found.append(np.moveaxis(crops, 3, 1))
    if found[0].shape != found[1].shape:
        raise InvalidSample(
            f"sample {sample.get('id', '?')!r} has {len(found[0])} reference and {len(found[1])} compressed crops. "
            "Give each crop its partner."
        )
    return found


class CropPool:
    """Crops in memory as bytes; batches are made floating point when they are taken."""

    def __init__(self, columns: Columns, config: LearnedConfig, preprocessing: Mapping[str, Any]) -> None:
        rows = zip(columns["id"], *(columns[name] for name in PICTURES), strict=True)
        pairs = [pair(dict(zip(("id", *PICTURES), row, strict=True)), preprocessing) for row in rows]
        self._reference = np.stack([reference for reference, _ in pairs])  # [n, N, 3, H, W]
        self._compressed = np.stack([compressed for _, compressed in pairs])
        scores = np.array([math.nan if value is None else value for value in columns[config.target]], np.float64)
        self._scores = ((scores - preprocessing["mean"]) / preprocessing["deviation"]).astype(np.float32)

    def __len__(self) -> int:
        return len(self._scores)

    def take(self, indices: np.ndarray) -> dict[str, torch.Tensor]:
        """``reference`` and ``compressed`` [B, N, 3, H, W] in [0, 1], ``score`` [B], standardised."""
        return {
            "reference": torch.from_numpy(self._reference[indices]).float() / 255,
            "compressed": torch.from_numpy(self._compressed[indices]).float() / 255,
            "score": torch.from_numpy(self._scores[indices]),
        }


def examples(selection: Selection, config: LearnedConfig, preprocessing: Mapping[str, Any]) -> Examples:
    """The crops of ``selection``."""
    return Examples(selection, lambda columns: CropPool(columns, config, preprocessing))
