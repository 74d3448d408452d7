"""Scenes: their views, and where the cameras stood."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import gradio as gr
import numpy as np
import numpy.typing as npt
from PIL import Image

from sensorium.serve.pages import drawing
from sensorium.serve.pages.viewers.canvas import canvas

if TYPE_CHECKING:
    from sensorium.catalog.declaration import Declaration
    from sensorium.catalog.sample import Sample

__all__ = ["camera_plot", "frustum", "show", "view_picture"]

#: views in the gallery, evenly chosen, and longest side of each, pixels
_VIEWS, _SIDE = 24, 320
#: cameras that are drawn
_CAMERAS = 200


def show(sample: Sample, declaration: Declaration) -> None:  # noqa: ARG001 - all viewers are called alike
    """A gallery and a plot in three dimensions."""
    count, height, width = sample.view("images").shape[:3]
    chosen = [int(index) for index in np.linspace(0, count - 1, num=min(count, _VIEWS)).round()]
    intrinsics, poses = np.asarray(sample["intrinsics"]), np.asarray(sample["poses"])
    with gr.Row():
        with gr.Column(min_width=300):
            pictures = [(view_picture(sample, index), f"view {index}") for index in chosen]
            gr.Gallery(
                pictures,
                label="Views",
                columns=3,
                height=460,
                format="png",
                buttons=["fullscreen"],
                elem_id="views",
                elem_classes="gallery-sheet",
            )
        with gr.Column(min_width=300):
            cameras = camera_plot(intrinsics[:_CAMERAS], poses[:_CAMERAS], (height, width))
            gr.Plot(cameras, label="Cameras: drag to turn", elem_id="cameras")
    gr.Markdown(f"{count} views of {width} × {height} pixels; {len(chosen)} are shown.")
    if "masks" in sample:
        canvas(view_picture(sample, chosen[0]), "First view with its mask", f"First view of {sample.id} with its mask")


def view_picture(sample: Sample, index: int) -> Image.Image:
    """One view, its mask tinted; only it is read."""
    view = sample.view("images")
    step = drawing.step_for(view.shape[1:3], _SIDE)
    pixels = drawing.rgb(np.asarray(view[index, ::step, ::step]))
    mask = sample.view("masks")[index, ::step, ::step] if "masks" in sample else None
    return drawing.picture(drawing.overlaid(pixels, mask))


def frustum(
    intrinsics: npt.NDArray[Any], pose: npt.NDArray[Any], size: tuple[int, int], depth: float
) -> npt.NDArray[np.float64]:
    """The four corners of what a camera sees at ``depth``, in the world [4, 3], from the upper left clockwise.

    ``intrinsics`` [3, 3] in pixels, ``pose`` [4, 4] camera to world, ``size`` height and width in pixels.
    """
    height, width = size
    corners = np.array([[0, 0, 1], [width, 0, 1], [width, height, 1], [0, height, 1]], dtype=np.float64)
    rays = corners @ np.linalg.inv(intrinsics.astype(np.float64)).T * depth  # [4, 3], camera space
    placed: npt.NDArray[np.float64] = rays @ pose[:3, :3].astype(np.float64).T + pose[:3, 3]
    return placed


def camera_plot(intrinsics: npt.NDArray[Any], poses: npt.NDArray[Any], size: tuple[int, int]) -> Any:
    """Positions of cameras ([V, 3, 3] and [V, 4, 4]) and the edges of what they see."""
    import plotly.graph_objects as go

    places = poses[:, :3, 3].astype(np.float64)
    extent = float(np.ptp(places, axis=0).max()) or 1.0
    lines: list[list[float | None]] = []
    for camera, pose in zip(intrinsics, poses, strict=True):
        corners = frustum(camera, pose, size, 0.12 * extent).tolist()
        centre = pose[:3, 3].astype(float).tolist()
        for corner in corners:
            lines += [centre, corner, [None] * 3]
        lines += [*corners, corners[0], [None] * 3]
    drawn = drawing.figure(height=460)
    x, y, z = zip(*lines, strict=True)
    drawn.add_trace(go.Scatter3d(x=x, y=y, z=z, mode="lines", line={"width": 2, "color": "#136876"}, hoverinfo="skip"))
    labels = [f"view {index}" for index in range(len(places))]
    at = places.T.tolist()
    drawn.add_trace(
        go.Scatter3d(x=at[0], y=at[1], z=at[2], mode="markers", marker={"size": 3, "color": "#d55e00"}, text=labels)
    )
    drawn.update_layout(
        showlegend=False,
        scene={"aspectmode": "data", "camera": {"eye": {"x": 1.7, "y": 1.7, "z": 1.1}}},
        margin={"l": 0, "r": 0, "t": 0, "b": 0},
    )
    return drawn
