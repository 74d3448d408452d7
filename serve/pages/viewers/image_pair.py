"""Two pictures of one place: one over the other with a slider between them, and the change."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import gradio as gr
import numpy as np

from sensorium.serve.pages import drawing
from sensorium.serve.pages.spoken import spoken
from sensorium.serve.pages.viewers.canvas import QUIET

if TYPE_CHECKING:
    from PIL import Image

    from sensorium.catalog.declaration import Declaration
    from sensorium.catalog.sample import Sample

__all__ = ["show", "sides"]


def show(sample: Sample, declaration: Declaration) -> None:  # noqa: ARG001 - all viewers are called alike
    """The slider; the change is tinted on the later picture."""
    marked = "change" in sample
    over = gr.Checkbox(True, label="Tint what changed, on the later picture", visible=marked, interactive=True)
    slider = gr.ImageSlider(
        sides(sample, marked),
        label="Before (left) and after (right)",
        format="png",
        type="pil",
        interactive=False,
        buttons=["fullscreen"],
        elem_id="pair",
    )
    if marked:
        change = sample.view("change")
        step = drawing.step_for(change.shape)
        share = float(np.mean(np.asarray(change[::step, ::step]) != 0))
        gr.Markdown(f"{100 * share:.3g} % of the pixels changed.")
    over.input(spoken(lambda wanted: sides(sample, wanted)), over, slider, **QUIET)


def sides(sample: Sample, marked: bool) -> tuple[Image.Image, Image.Image]:
    """Before and after in one scale of brightness, the change tinted on the later one where ``marked``."""
    views = [sample.view(name) for name in ("before", "after")]
    step = drawing.step_for(views[0].shape)
    both: Any = np.concatenate([view[::step, ::step] for view in views], axis=1)  # [H, 2 W, C]: one stretch for both
    pixels = drawing.rgb(both)
    width = pixels.shape[1] // 2
    before, after = pixels[:, :width], pixels[:, width:]
    if marked and "change" in sample:
        after = drawing.overlaid(after, sample.view("change")[::step, ::step])
    scale = drawing.enlarged(before.shape)
    return drawing.picture(before, scale), drawing.picture(after, scale)
