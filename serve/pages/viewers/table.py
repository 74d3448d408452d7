"""Samples of a modality without a viewer: their preview, if it draws one. The page lists their values anyway."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import gradio as gr
from PIL import Image

from sensorium.serve.pages import drawing
from sensorium.serve.pages.viewers.canvas import canvas

if TYPE_CHECKING:
    from sensorium.catalog.declaration import Declaration
    from sensorium.catalog.sample import Sample

__all__ = ["show"]


def show(sample: Sample, declaration: Declaration) -> None:
    """Draw the modality's preview."""
    if declaration.modality.preview is None:
        gr.Markdown("Samples of this kind are rows of values; there is nothing to draw.")
        return
    drawn = Image.open(io.BytesIO(drawing.preview(declaration.modality, sample)))
    canvas(drawn, declaration.modality.title, f"Preview of {sample.id}")
