"""Moving pictures: encoded ones are played, frames are stepped through."""

from __future__ import annotations

from typing import TYPE_CHECKING

import gradio as gr
import numpy as np
from PIL import Image

from sensorium.platform.tables import human_bytes
from sensorium.serve.pages import drawing
from sensorium.serve.pages.files import fresh_folder
from sensorium.serve.pages.spoken import spoken
from sensorium.serve.pages.viewers.canvas import QUIET, canvas

if TYPE_CHECKING:
    from sensorium.catalog.declaration import Declaration
    from sensorium.catalog.sample import Sample

__all__ = ["frame_picture", "show", "suffix"]

#: bytes of a stream that are sent to be played
_LARGEST = 256 << 20


def show(sample: Sample, declaration: Declaration) -> None:  # noqa: ARG001 - all viewers are called alike
    """A player, a slider over frames, or both."""
    if "encoded" in sample:
        _show_stream(sample)
    if "frames" in sample:
        _show_frames(sample)


def _show_stream(sample: Sample) -> None:
    view = sample.view("encoded")
    if view.nbytes > _LARGEST:
        gr.Markdown(f"This stream has {view.nbytes >> 20} MB, which is too much to play here: download it below.")
        return
    content = np.asarray(view).tobytes()
    target = fresh_folder() / f"video.{suffix(content)}"
    target.write_bytes(content)
    gr.Video(target, label="Play", interactive=False, height=420, buttons=["download"], elem_id="video")
    gr.Markdown(f"{human_bytes(view.nbytes)}, {target.suffix[1:]}, {float(sample['frame_rate']):g} frames per second.")


def suffix(content: bytes) -> str:
    """The kind of a stream by its first bytes: ``mp4``, ``webm``, ``avi``, ``ogv``; ``mp4`` where nothing is known."""
    if content[:4] == b"\x1a\x45\xdf\xa3":
        return "webm"
    if content[:4] == b"RIFF":
        return "avi"
    return "ogv" if content[:4] == b"OggS" else "mp4"


def _show_frames(sample: Sample) -> None:
    view, rate = sample.view("frames"), float(sample["frame_rate"])
    last = view.shape[0] - 1
    shown = canvas(frame_picture(sample, last // 2), "Frame", f"A frame of {sample.id}", classes="pixelated")
    slider = gr.Slider(0, max(1, last), last // 2, step=1, label="Frame", interactive=last > 0, elem_id="frame")
    gr.Markdown(f"{last + 1} frames of {view.shape[2]} × {view.shape[1]} pixels, {rate:g} per second.")
    slider.input(
        spoken(lambda index: frame_picture(sample, int(index))), slider, shown, trigger_mode="always_last", **QUIET
    )


def frame_picture(sample: Sample, index: int) -> Image.Image:
    """One frame; only it is read."""
    view = sample.view("frames")
    step = drawing.step_for(view.shape[1:3])
    pixels = drawing.rgb(np.asarray(view[index, ::step, ::step]))
    return drawing.picture(pixels, drawing.enlarged(pixels.shape))
