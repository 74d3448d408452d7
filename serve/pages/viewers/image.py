"""Pictures: with mask and labels over them, and the values of a clicked pixel."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import gradio as gr
import numpy as np
from PIL import Image

from sensorium.serve.pages import drawing
from sensorium.serve.pages.spoken import spoken
from sensorium.serve.pages.viewers.canvas import QUIET, canvas

if TYPE_CHECKING:
    from sensorium.catalog.declaration import Declaration
    from sensorium.catalog.sample import Sample

__all__ = ["drawn", "pixel_values", "show"]

_OVERLAYS = {"mask": "Mask", "labels": "Labels"}


def show(sample: Sample, declaration: Declaration) -> None:  # noqa: ARG001 - all viewers are called alike
    """The picture, what is drawn over it, and what a click reads."""
    view = sample.view("image")
    step = drawing.step_for(view.shape)
    scale = drawing.enlarged([side // step for side in view.shape[:2]])
    overlays = [(title, name) for name, title in _OVERLAYS.items() if name in sample]
    chosen = [name for _, name in overlays]
    with gr.Row():
        with gr.Column(scale=3, min_width=280):
            shown = canvas(drawn(sample, chosen), "Picture", f"Picture {sample.id}", classes="cross pixelated")
        with gr.Column(scale=1, min_width=220):
            over = gr.CheckboxGroup(
                overlays, value=chosen, label="Shown over it", visible=bool(overlays), interactive=True
            )
            reduced = f" Every {step}th row and column is shown." if step > 1 else ""
            gr.Markdown(
                f"{view.shape[1]} × {view.shape[0]} pixels, {view.dtype.name}.{reduced} Click a pixel to read it."
            )
            read = gr.Textbox(label="Pixel", interactive=False, lines=2, elem_id="pixel")

    @spoken
    def clicked(event: gr.SelectData) -> str:
        column, row = (int(place) // scale * step for place in event.index)
        return pixel_values(sample, "image", column, row)

    over.input(spoken(lambda names: drawn(sample, names)), over, shown, **QUIET)
    shown.select(clicked, None, read, **QUIET)


def drawn(sample: Sample, overlays: list[str]) -> Image.Image:
    """The picture, no larger than is sent, with the ``overlays`` named over it."""
    view = sample.view("image")
    step = drawing.step_for(view.shape)
    pixels = drawing.rgb(np.asarray(view[::step, ::step]))
    marks: dict[str, Any] = {
        name: sample.view(name)[::step, ::step] if name in overlays and name in sample else None for name in _OVERLAYS
    }
    return drawing.picture(drawing.overlaid(pixels, **marks), drawing.enlarged(pixels.shape))


def pixel_values(sample: Sample, field: str, column: int, row: int) -> str:
    """What is stored at a pixel of ``field`` [H, W, C], and at the same place of mask and labels."""
    view = sample.view(field)
    column, row = min(column, view.shape[1] - 1), min(row, view.shape[0] - 1)
    values = ", ".join(f"{value:g}" for value in np.atleast_1d(view[row, column]).tolist())
    marks = [f"{name} {int(sample.view(name)[row, column])}" for name in _OVERLAYS if name in sample]
    return "\n".join([f"x {column}, y {row}: {values}", *marks])
