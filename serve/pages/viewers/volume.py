"""Volumes: three planes with the body's directions, a window of values, and the mask."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import gradio as gr
import numpy as np
import numpy.typing as npt
from PIL import Image

from sensorium.serve.pages import drawing
from sensorium.serve.pages.spoken import spoken
from sensorium.serve.pages.viewers.canvas import QUIET, canvas

if TYPE_CHECKING:
    from sensorium.catalog.declaration import Declaration

__all__ = ["PRESETS", "Plane", "Shown", "planes", "show", "slice_picture", "usual_window"]

#: centre and width in HU, as radiologists set them
PRESETS: Mapping[str, tuple[float, float]] = {
    "Lung": (-600.0, 1500.0),
    "Mediastinum": (50.0, 350.0),
    "Soft tissue": (40.0, 400.0),
    "Bone": (480.0, 2500.0),
    "Brain": (40.0, 80.0),
}
#: letter of an orientation -> axis of the body, and which way
_AXIS = {"R": "RL", "L": "RL", "A": "AP", "P": "AP", "S": "SI", "I": "SI"}
_ACROSS = {"RL": "Sagittal", "AP": "Coronal", "SI": "Axial"}
#: the ends that are drawn on the right and at the bottom: the patient's left, back and feet
_LATE = "LPI"
_OPPOSITE = dict(zip("RLAPSI", "LRPAIS", strict=True))
_NAMES = {"R": "right", "L": "left", "A": "front", "P": "back", "S": "head", "I": "feet"}
#: longest side of a drawn plane, pixels
_SIDE = 420


@dataclass(frozen=True)
class Plane:
    """How slices along one axis of the array are hung.

    Attributes:
        axis: of the array [Z, Y, X] that the slices are across.
        title: for people.
        rows, columns: axes of the array that run downwards and to the right in the picture.
        flips: whether rows and columns are turned round.
        edges: letters of the body's sides on the left and at the top; empty where they are not known.
    """

    axis: int
    title: str
    rows: int
    columns: int
    flips: tuple[bool, bool]
    edges: str

    @property
    def words(self) -> str:
        """Title and sides."""
        if not self.edges:
            return self.title
        return f"{self.title} (left edge: patient's {_NAMES[self.edges[0]]}, top: {_NAMES[self.edges[1]]})"


def planes(orientation: object) -> tuple[Plane, Plane, Plane]:
    """The planes across Z, Y and X. ``orientation`` names the sides towards which x, y and z grow, such as RAS.

    They are hung as radiologists do: head or front up, the patient's right or front on the left. Without an orientation
    the array is shown as it lies.
    """
    known = isinstance(orientation, str) and sorted(_AXIS.get(letter, "") for letter in orientation) == [
        "AP",
        "RL",
        "SI",
    ]
    if not known:
        still = (False, False)
        return (
            Plane(0, "Across z", 1, 2, still, ""),
            Plane(1, "Across y", 0, 2, still, ""),
            Plane(2, "Across x", 0, 1, still, ""),
        )
    letters = str(orientation)[::-1]  # of z, y, x: as the axes of the array
    return _hung(0, letters), _hung(1, letters), _hung(2, letters)


def _hung(axis: int, letters: str) -> Plane:
    others = [other for other in range(3) if other != axis]
    # downwards runs head to feet if it is there, else front to back
    rows = next(other for kind in ("SI", "AP") for other in others if _AXIS[letters[other]] == kind)
    columns = next(other for other in others if other != rows)
    flips = (letters[rows] not in _LATE, letters[columns] not in _LATE)
    late = [
        _OPPOSITE[letters[one]] if turned else letters[one] for one, turned in zip((rows, columns), flips, strict=True)
    ]
    edges = _OPPOSITE[late[1]] + _OPPOSITE[late[0]]
    return Plane(axis, _ACROSS[_AXIS[letters[axis]]], rows, columns, flips, edges)


class Shown(Protocol):
    """What the viewer asks of a sample: that of a data set, or one with a mask that a model gave."""

    id: str

    def __contains__(self, name: object) -> bool: ...

    def get(self, name: str, /) -> Any:
        """A field; None where it is not there."""

    def view(self, name: str) -> Any:
        """An array, of which only parts may be read."""


def show(sample: Shown, declaration: Declaration | None = None) -> None:  # noqa: ARG001 - all viewers are called alike
    """Three pictures with a slider each, and what they share."""
    spacing = [float(part) for part in sample.get("spacing") or (1.0, 1.0, 1.0)]
    shared = _Shared.build(sample)
    with gr.Row():
        for plane in planes(sample.get("orientation")):
            with gr.Column(min_width=260):
                _plane(sample, plane, spacing, shared)


@dataclass(frozen=True)
class _Shared:
    """What the planes share: sliders of the window's centre and width, and whether the mask is shown.

    Attributes:
        preset: the event that has set the sliders to a preset. That they change is no event of ours: a slider that was set from
            here says so again with every drawing, which would then never end.
    """

    centre: gr.Slider
    width: gr.Slider
    over: gr.Checkbox
    preset: gr.events.Dependency

    @classmethod
    def build(cls, sample: Shown) -> _Shared:
        unit, masked = str(sample.get("unit") or ""), "mask" in sample
        *usual, low, high = usual_window(sample, unit)
        names = ["From the values", *PRESETS] if unit == "HU" else ["From the values"]
        of, span = f" ({unit})" if unit else "", max(high - low, 1e-9)
        fine: dict[str, Any] = {"step": span / 400, "interactive": True}
        with gr.Row():
            preset = gr.Dropdown(
                names,
                value=names[0],
                label="Window preset",
                visible=len(names) > 1,
                min_width=160,
                filterable=False,
                interactive=True,
            )
            centre = gr.Slider(low, high, usual[0], label=f"Level: centre{of}", elem_id="centre", **fine)
            width = gr.Slider(span / 400, span, usual[1], label=f"Window: width{of}", elem_id="width", **fine)
            over = gr.Checkbox(masked, label="Show the mask", visible=masked, min_width=120, interactive=True)
        chosen = preset.input(spoken(lambda name: PRESETS.get(name, usual)), preset, [centre, width], **QUIET)
        return cls(centre, width, over, chosen)


def _plane(sample: Shown, plane: Plane, spacing: list[float], shared: _Shared) -> None:
    """The picture of one plane with the slider of its slice."""
    last = sample.view("volume").shape[plane.axis] - 1

    def draw(index: float, centre: float, width: float, masked: bool) -> Image.Image:
        return slice_picture(sample, plane, int(index), (centre, width), spacing, masked=masked)

    first = draw(last // 2, float(shared.centre.value), float(shared.width.value), "mask" in sample)
    picture = canvas(first, plane.words, f"{plane.words} of {sample.id}", classes="black", height=_SIDE)
    slider = gr.Slider(
        0,
        max(1, last),  # a slider needs room to move: of an axis with one slice it has none
        last // 2,
        step=1,
        label=f"{plane.title} slice",
        interactive=last > 0,
        elem_id=f"slice{plane.axis}",
    )
    inputs = [slider, shared.centre, shared.width, shared.over]
    triggers = [slider.input, shared.centre.input, shared.width.input, shared.over.input]
    gr.on(triggers, spoken(draw), inputs, picture, trigger_mode="always_last", **QUIET)
    shared.preset.success(spoken(draw), inputs, picture, **QUIET)


def usual_window(sample: Shown, unit: str) -> tuple[float, float, float, float]:
    """Centre and width to begin with, and the least and greatest value that sliders reach.

    From the middle slice: percentiles 1 and 99 are the window, what it holds is the reach (presets included, for HU).
    """
    view = sample.view("volume")
    values = np.asarray(view[view.shape[0] // 2], dtype=np.float64)
    finite = values[np.isfinite(values)]
    if not finite.size:
        return 0.5, 1.0, 0.0, 1.0
    bottom, top = (float(part) for part in np.percentile(finite, [1, 99]))
    low, high = float(finite.min()), float(finite.max())
    if unit == "HU":
        low, high = min(low, -1350.0), max(high, 1730.0)
    if top <= bottom:
        bottom, top = low, high if high > low else low + 1
    return (bottom + top) / 2, top - bottom, low, max(high, low + 1e-6)


def slice_picture(
    sample: Shown,
    plane: Plane,
    index: int,
    window: tuple[float, float],
    spacing: list[float],
    *,
    masked: bool,
) -> Image.Image:
    """One slice with its window, in the proportions of the body.

    Args:
        sample: only this slice of it is read.
        plane: which way it is cut and hung.
        index: of the slice.
        window: centre and width, in the unit of the values.
        spacing: millimetres of a voxel along z, y, x.
        masked: whether the mask is tinted.
    """
    key = tuple(index if axis == plane.axis else slice(None) for axis in range(3))
    levels = drawing.level(_turned(sample.view("volume")[key], plane), *window)
    shown = np.repeat(levels[..., np.newaxis], 3, axis=2)  # [H, W, 3]
    if masked and "mask" in sample:
        shown = drawing.overlaid(shown, _turned(sample.view("mask")[key], plane))
    tall, wide = shown.shape[0] * spacing[plane.rows], shown.shape[1] * spacing[plane.columns]
    scale = _SIDE / max(tall, wide)
    size = (max(1, round(wide * scale)), max(1, round(tall * scale)))
    return Image.fromarray(np.ascontiguousarray(shown)).resize(size, Image.Resampling.BILINEAR)


def _turned(values: npt.NDArray[Any], plane: Plane) -> npt.NDArray[Any]:
    """A slice, whose axes are those of the array without the plane's, as it is hung [rows, columns]."""
    turned = values if plane.rows < plane.columns else values.T
    return turned[:: -1 if plane.flips[0] else 1, :: -1 if plane.flips[1] else 1]
