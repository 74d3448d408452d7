"""What several viewers share: a picture on the page."""

from __future__ import annotations

from typing import Any

import gradio as gr
from PIL import Image

__all__ = ["QUIET", "canvas"]

#: of events that are over in a moment
QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}


def canvas(
    value: Image.Image | None, label: str, words: str, *, classes: str = "", height: int | None = None
) -> gr.Image:
    """A picture that is shown as it is, without loss, and can be made to fill the screen.

    Args:
        value: the picture.
        label: over it.
        words: what it shows, for those who cannot see it.
        classes: CSS classes, by spaces.
        height: pixels; as the picture's without.
    """
    return gr.Image(
        value,
        label=label,
        alt_text=words,
        format="png",
        type="pil",
        interactive=False,
        buttons=["fullscreen", "download"],
        height=height,
        elem_classes=["canvas", *classes.split()],
    )
