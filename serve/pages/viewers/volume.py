"""Volumes: three planes with the body's directions, a window of values, and the mask."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import gradio as gr
import numpy as np
import numpy.typing as npt
from PIL import Image

from sensorium.serve.pages import drawing
from sensorium.serve.pages.spoken import spoken
from sensorium.serve.pages.viewers.canvas import QUIET, canvas

if TYPE_CHECKING:
    from sensorium.catalog.declaration import Declaration
    from sensorium.catalog.sample import Sample

__all__ = ["PRESETS", "Plane", "planes", "show", "slice_picture", "usual_window"]

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


def show(sample: Sample, declaration: Declaration) -> None:  # noqa: ARG001 - all viewers are called alike
    """Three pictures with a slider each, and what they share."""
    view = sample.view("volume")
    unit = str(sample.get("unit") or "")
    spacing = [float(part) for part in sample.get("spacing") or (1.0, 1.0, 1.0)]
    hung = planes(sample.get("orientation"))
    centre_at, width_at, low, high = usual_window(sample, unit)
    presets = ["From the values", *PRESETS] if unit == "HU" else ["From the values"]
    with gr.Row():
        preset = gr.Dropdown(
            presets,
            value=presets[0],
            label="Window preset",
            visible=len(presets) > 1,
            min_width=160,
            filterable=False,
            interactive=True,
        )
        label = f" ({unit})" if unit else ""
        span = max(high - low, 1e-9)
        centre = gr.Slider(
            low, high, centre_at, step=span / 400, label=f"Level: centre{label}", elem_id="centre", interactive=True
        )
        width = gr.Slider(
            span / 400,
            span,
            width_at,
            step=span / 400,
            label=f"Window: width{label}",
            elem_id="width",
            interactive=True,
        )
        over = gr.Checkbox(
            "mask" in sample, label="Show the mask", visible="mask" in sample, min_width=120, interactive=True
        )
    pictures: list[gr.Image] = []
    sliders: list[gr.Slider] = []
    with gr.Row():
        for plane in hung:
            last = view.shape[plane.axis] - 1
            with gr.Column(min_width=260):
                drawn = slice_picture(sample, plane, last // 2, (centre_at, width_at), spacing, masked="mask" in sample)
                pictures.append(
                    canvas(drawn, plane.words, f"{plane.words} of {sample.id}", classes="black", height=_SIDE)
                )
                # a slider needs room to move: of an axis with one slice it has none
                name = f"{plane.title} slice"
                sliders.append(
                    gr.Slider(
                        0,
                        max(1, last),
                        last // 2,
                        step=1,
                        label=name,
                        interactive=last > 0,
                        elem_id=f"slice{plane.axis}",
                    )
                )

    def redrawn(plane: Plane) -> Any:
        def draw(index: float, centre: float, width: float, masked: bool) -> Image.Image:
            return slice_picture(sample, plane, int(index), (centre, width), spacing, masked=masked)

        return spoken(draw)

    @spoken
    def chosen(name: str) -> tuple[Any, Any]:
        return PRESETS.get(name, (centre_at, width_at))

    for plane, picture, slider in zip(hung, pictures, sliders, strict=True):
        inputs = [slider, centre, width, over]
        triggers = [slider.input, centre.change, width.change, over.change]
        gr.on(triggers, redrawn(plane), inputs, picture, trigger_mode="always_last", **QUIET)
    preset.input(chosen, preset, [centre, width], **QUIET)


def usual_window(sample: Sample, unit: str) -> tuple[float, float, float, float]:
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
    sample: Sample,
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
