"""Panoramas: flat, and as a camera sees them that looks where it is told."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import gradio as gr
import numpy as np
import numpy.typing as npt

from sensorium.serve.pages import drawing
from sensorium.serve.pages.spoken import spoken
from sensorium.serve.pages.viewers.canvas import QUIET, canvas
from sensorium.serve.pages.viewers.image import drawn

if TYPE_CHECKING:
    from PIL import Image

    from sensorium.catalog.declaration import Declaration
    from sensorium.catalog.sample import Sample

__all__ = ["perspective", "show"]

#: pixels of the camera's picture, and of the panorama that it is made from
_HEIGHT, _WIDTH, _SOURCE = 360, 540, 2048


def show(sample: Sample, declaration: Declaration) -> None:  # noqa: ARG001 - all viewers are called alike
    """A view with sliders, and the whole panorama under it."""
    array = sample.view("image")
    step = drawing.step_for(array.shape, _SOURCE)
    flat = drawing.rgb(np.asarray(array[::step, ::step]))

    def looked(yaw: float, pitch: float, field: float) -> Image.Image:
        seen = perspective(flat, yaw, pitch, field, (_HEIGHT, _WIDTH))
        return drawing.picture((seen + 0.5).astype(np.uint8))

    with gr.Row():
        with gr.Column(scale=3, min_width=280):
            seen = canvas(looked(0, 0, 90), "Looking around", f"Perspective view of panorama {sample.id}")
        with gr.Column(scale=1, min_width=220):
            yaw = gr.Slider(-180, 180, 0, step=1, label="Yaw, degrees to the right", elem_id="yaw", interactive=True)
            pitch = gr.Slider(-90, 90, 0, step=1, label="Pitch, degrees upwards", elem_id="pitch", interactive=True)
            field = gr.Slider(
                30, 130, 90, step=1, label="Field of view, degrees across", elem_id="field", interactive=True
            )
    overlays = [name for name in ("mask", "labels") if name in sample]
    canvas(drawn(sample, overlays), "The whole panorama", f"Equirectangular panorama {sample.id}")
    controls = [yaw, pitch, field]
    triggers = [control.input for control in controls]
    gr.on(triggers, spoken(looked), controls, seen, trigger_mode="always_last", **QUIET)


def perspective(
    panorama: npt.NDArray[Any], yaw: float, pitch: float, field: float, size: tuple[int, int]
) -> npt.NDArray[np.float32]:
    """What a pinhole camera in the middle of an equirectangular ``panorama`` [H, W, C] sees.

    Args:
        panorama: columns go once round the horizon, the middle one at yaw 0; the first row is the zenith.
        yaw: to the right, degrees.
        pitch: upwards, degrees.
        field: of view across the width, degrees, below 180.
        size: height and width of the result.

    Returns:
        [height, width, C]: bilinear between pixel centres, round the seam without a break.
    """
    height, width = size
    focal = width / 2 / np.tan(np.radians(field) / 2)
    across = np.arange(width) + 0.5 - width / 2
    down = np.arange(height) + 0.5 - height / 2
    x, y = np.meshgrid(across, down)  # [height, width]: right, down
    tilt = np.radians(pitch)
    up = -y * np.cos(tilt) + focal * np.sin(tilt)
    ahead = y * np.sin(tilt) + focal * np.cos(tilt)
    longitude = np.arctan2(x, ahead) + np.radians(yaw)
    latitude = np.arctan2(up, np.hypot(x, ahead))
    rows, columns = panorama.shape[:2]
    column = (longitude / (2 * np.pi) + 0.5) * columns - 0.5
    row = np.clip((0.5 - latitude / np.pi) * rows - 0.5, 0, rows - 1)
    return _bilinear(panorama.astype(np.float32), row, column)


def _bilinear(
    image: npt.NDArray[np.float32], row: npt.NDArray[np.float64], column: npt.NDArray[np.float64]
) -> npt.NDArray[np.float32]:
    """Values of ``image`` [H, W, C] at fractional places [h, w]; columns go round."""
    rows, columns = image.shape[:2]
    top, left = np.floor(row).astype(int), np.floor(column).astype(int)
    below = np.minimum(top + 1, rows - 1)
    down = (row - top)[..., np.newaxis].astype(np.float32)
    right = (column - left)[..., np.newaxis].astype(np.float32)
    left, beside = left % columns, (left + 1) % columns
    upper = image[top, left] * (1 - right) + image[top, beside] * right
    lower = image[below, left] * (1 - right) + image[below, beside] * right
    result: npt.NDArray[np.float32] = upper * (1 - down) + lower * down
    return result
