"""Pictures of a segmentation: three planes with the lungs over them, the Gaussians of a histogram, the likelihood's trace."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sensorium.jobs.lung_segmentation.appearance import Mixture, histogram
from sensorium.jobs.lung_segmentation.config import LungConfig
from sensorium.jobs.lung_segmentation.field import LUNG
from sensorium.jobs.lung_segmentation.preparation import prepared, upright
from sensorium.jobs.lung_segmentation.segmentation import Model, model_of
from sensorium.jobs.training.samples import Picture, Sample

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["draw_map", "draw_mixture", "draw_plane", "draw_realisations", "draw_trace", "illustrate"]

#: lung window: least and greatest HU
_WINDOW = (-1350, 150)
_COLOURS = {1: "tab:cyan", 2: "tab:orange"}
_PLANES = {"axial": 0, "coronal": 1, "sagittal": 2}
_SEEN = ("CT", "minimum of 3", "minimum of 5")


def draw_plane(
    axes: Axes, hu: NDArray[Any], lungs: NDArray[np.uint8], spacing: tuple[float, float, float], plane: str
) -> None:
    """The slice with most lung in a plane, through a lung window, both lungs outlined.

    Args:
        axes: to draw on.
        hu: [Z, Y, X], upright.
        lungs: likewise, 1 right and 2 left.
        spacing: of z, y, x in mm.
        plane: ``axial``, ``coronal`` or ``sagittal``.
    """
    axis = _PLANES[plane]
    rest = [one for one in range(3) if one != axis]
    place = int((lungs > 0).sum(axis=tuple(rest)).argmax())
    shown = np.asarray(hu.take(place, axis=axis))
    own = np.asarray(lungs.take(place, axis=axis))
    if axis < 2:  # x grows to the patient's right, which is shown on the left
        shown, own = shown[:, ::-1], own[:, ::-1]
    axes.imshow(
        shown, cmap="gray", vmin=_WINDOW[0], vmax=_WINDOW[1], origin="lower", aspect=spacing[rest[0]] / spacing[rest[1]]
    )
    for side, colour in _COLOURS.items():
        if (own == side).any() and not (own == side).all():
            axes.contour(own == side, levels=[0.5], colors=colour, linewidths=1)
    axes.set_axis_off()
    axes.set_title(f"{plane}, slice {place + 1} of {hu.shape[axis]}; right blue, left orange", fontsize="medium")


def draw_realisations(axes: Axes, model: Model, lungs: NDArray[np.uint8]) -> None:
    """The axial slice with most lung as each appearance shows it, side by side."""
    place = int((lungs > 0).sum(axis=(1, 2)).argmax())
    shown = np.concatenate([one[place, :, ::-1] for one in model.evidence.seen], axis=1)
    spacing = model.volume.spacing
    axes.imshow(shown, cmap="gray", vmin=_WINDOW[0], vmax=_WINDOW[1], origin="lower", aspect=spacing[1] / spacing[2])
    axes.set_axis_off()
    axes.set_title(f"appearances, axial slice {place + 1} of {len(lungs)}", fontsize="medium")


def draw_map(axes: Axes, labels: NDArray[np.uint8], spacing: tuple[float, float, float]) -> None:
    """The last map before its parts are chosen: 0 outside the body, 1 chest, 2 lung; the axial slice with most lung."""
    place = int((labels == LUNG).sum(axis=(1, 2)).argmax())
    axes.imshow(labels[place, :, ::-1], cmap="gray_r", vmin=0, vmax=2, origin="lower", aspect=spacing[1] / spacing[2])
    axes.set_axis_off()
    axes.set_title(f"map: chest grey, lung black; slice {place + 1} of {len(labels)}", fontsize="medium")


def draw_mixture(axes: Axes, mixture: Mixture, values: NDArray[np.int16], title: str) -> None:
    """A histogram and its LCG: the Gaussians of lungs and chest, dominant ones thick, and their sum."""
    centres, counts = histogram(values)
    axes.fill_between(centres, counts / counts.sum() / (centres[1] - centres[0]), color="0.85", label="histogram")
    for number, lung in enumerate(mixture.lung):
        only = np.arange(len(mixture.weights)) == number
        width = 2.0 if number in mixture.primary else 0.8
        axes.plot(centres, mixture.density(centres, only), color=_COLOURS[1 if lung else 2], linewidth=width)
    axes.plot(centres, mixture.density(centres), color="black", linewidth=1, linestyle="--", label="sum")
    axes.set(
        xlabel="HU",
        ylabel="density per HU",
        title=f"{title}: {len(mixture.weights)} Gaussians; lung blue, chest orange",
    )
    axes.legend()


def draw_trace(axes: Axes, trace: NDArray[Any]) -> None:
    """The joint log-likelihood of a voxel after each step."""
    axes.plot(np.arange(len(trace)), trace, marker="o")
    axes.set(xlabel="0: LCG, 1: MGRF, then epochs of the network", ylabel="log-likelihood per voxel")


def illustrate(config: LungConfig, sample: Sample, result: Mapping[str, Any]) -> Mapping[str, Picture]:
    """Three planes with both lungs; appearances that the stage looks at and the LCG of each; the map, the likelihood's trace."""
    volume = prepared(sample)
    lungs = upright(np.asarray(result["lungs"]), volume.orientation)
    model = model_of(volume, config)
    names = (
        _SEEN
        if len(model.mixtures) == 3
        else (dict(zip(("lcg", "lcg_min3", "lcg_min5"), _SEEN, strict=True))[config.stage],)
    )
    pictures: dict[str, Picture] = {
        plane: partial(draw_plane, hu=volume.hu, lungs=lungs, spacing=volume.spacing, plane=plane) for plane in _PLANES
    }
    labels = upright(np.asarray(result["map"]), volume.orientation)
    pictures["realisations"] = partial(draw_realisations, model=model, lungs=lungs)
    pictures["map"] = partial(draw_map, labels=labels, spacing=volume.spacing)
    for name, mixture, seen in zip(names, model.mixtures, model.evidence.seen, strict=True):
        inside = seen[model.evidence.body]
        picture = partial(draw_mixture, mixture=mixture, values=inside, title=name)
        pictures[f"histogram_{name.replace(' ', '_')}"] = picture
    if len(result["trace"]) > 1:
        pictures["likelihood"] = lambda axes: draw_trace(axes, np.asarray(result["trace"]))
    return pictures
