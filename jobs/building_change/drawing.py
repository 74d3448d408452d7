"""A prediction for people: before, after with what was found, and the map, in colours of right and wrong where truth is known."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from sensorium.jobs.building_change.data import TRUTH
from sensorium.jobs.building_change.tiles import Pixels
from sensorium.jobs.training.method import Fitted, Picture, Sample

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["agreement", "illustrate"]

#: longest side of what is drawn; larger scenes are thinned
_SIDE = 1024
_TINT = np.array([1.0, 0.25, 0.1])
#: of the paper's figures: right, wrongly found, right that nothing is there, missed
_COLOURS = {"tp": (1.0, 1.0, 1.0), "fp": (0.45, 0.75, 1.0), "tn": (0.0, 0.0, 0.0), "fn": (0.9, 0.1, 0.1)}


def illustrate(fitted: Fitted, sample: Sample, result: Mapping[str, Any]) -> dict[str, Picture]:  # noqa: ARG001
    """``before``, ``after`` with the found change tinted, ``map`` of the change's probability; what is right where it is known.

    ``agreement`` has the colours of the paper's Fig. 5: right white and black, wrongly found light blue, missed red.
    """
    found = np.asarray(result["change"])
    step = max(1, -(-max(found.shape) // _SIDE))
    both = [_thin(sample[name], step) for name in ("before", "after")]
    before, after = _stretched(*both)
    changed = found[::step, ::step, None] != 0
    tinted = np.where(changed, 0.5 * after + 0.5 * _TINT, after)
    probability = np.asarray(result["probability"])[::step, ::step] / 255

    def map_(axes: Axes) -> None:
        shown = axes.imshow(probability, cmap="magma", vmin=0, vmax=1, interpolation="nearest")
        axes.set_axis_off()
        axes.figure.colorbar(shown, ax=axes, label="probability of change")

    pictures = {"before": _plain(before), "after": _plain(tinted), "map": map_}
    if sample.get(TRUTH) is not None:
        truth = np.asarray(sample[TRUTH])[::step, ::step]
        pictures["agreement"] = _plain(agreement(found[::step, ::step], truth))
    return pictures


def agreement(found: npt.NDArray[np.generic], truth: npt.NDArray[np.generic]) -> npt.NDArray[np.float64]:
    """Right and wrong pixels in the colours of the paper's Fig. 5, [H, W, 3] in [0, 1]."""
    changed, true = np.asarray(found) != 0, np.asarray(truth) != 0
    kinds = {"tp": changed & true, "fp": changed & ~true, "tn": ~changed & ~true, "fn": ~changed & true}
    return sum((kind[..., None] * np.array(_COLOURS[name]) for name, kind in kinds.items()), np.zeros((*true.shape, 3)))


def _plain(pixels: npt.NDArray[np.float64]) -> Picture:
    def draw(axes: Axes) -> None:
        axes.imshow(pixels, interpolation="nearest")
        axes.set_axis_off()

    return draw


def _thin(picture: Pixels, step: int) -> npt.NDArray[np.float64]:
    """Three bands [H, W, 3]: the first three, or the first one three times; Sentinel-2's visible ones are its 4th to 2nd."""
    bands = picture.shape[2]
    chosen = [3, 2, 1] if bands > 4 else [0, 1, 2] if bands >= 3 else [0, 0, 0]
    return np.asarray(picture[::step, ::step]).astype(np.float64)[..., chosen]


def _stretched(*pictures: npt.NDArray[np.float64]) -> list[npt.NDArray[np.float64]]:
    """Both dates in one scale of brightness, the middle 98 % of values in [0, 1]."""
    low, high = np.percentile(np.concatenate([picture.reshape(-1, 3) for picture in pictures]), [1, 99], axis=0)
    return [np.clip((picture - low) / np.maximum(high - low, 1e-12), 0, 1) for picture in pictures]
