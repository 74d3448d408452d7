"""Cubes: a composite of three bands, and the spectra of clicked pixels."""

from __future__ import annotations

from collections.abc import Sequence
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

__all__ = ["bands_for", "composite", "show", "spectra"]

#: nm of what is shown red, green and blue
_TARGETS = (650.0, 550.0, 450.0)
#: spectra that are kept
_MOST = 10

Pick = tuple[int, int]


def show(sample: Sample, declaration: Declaration) -> None:
    """The composite with its bands to choose, and the plot of the picked pixels."""
    view = sample.view("cube")
    height, width, count = view.shape
    wavelength = sample.get("wavelength")
    step = drawing.step_for(view.shape)
    scale = drawing.enlarged([side // step for side in (height, width)])
    first = bands_for(wavelength, count)
    choices = [(f"band {band}" if wavelength is None else f"{wavelength[band]:g} nm", band) for band in range(count)]
    unit = declaration.fields["cube"].unit
    middle = (width // 2, height // 2)
    with gr.Row():
        with gr.Column(scale=1, min_width=300):
            shown = canvas(
                composite(sample, first),
                "Composite: click a pixel",
                f"Composite of {sample.id}",
                classes="cross pixelated",
            )
            with gr.Row():
                red, green, blue = (
                    gr.Dropdown(
                        choices,
                        value=band,
                        label=label,
                        min_width=120,
                        elem_id=label.lower(),
                        num_choices_shown=None,
                        interactive=True,
                    )
                    for label, band in zip(("Red", "Green", "Blue"), first, strict=True)
                )
            gr.Markdown(
                f"{width} × {height} pixels, {count} bands. Each band is stretched from its percentile 2 to 98."
            )
        with gr.Column(scale=1, min_width=300):
            plot = gr.Plot(spectra(sample, [middle], unit), label="Spectra", elem_id="spectra")
            picked = gr.Textbox(_told([middle]), label="Picked pixels", interactive=False)
            forget = gr.Button("Forget them", size="sm")
    picks = gr.State([middle])

    @spoken
    def clicked(known: list[Pick], event: gr.SelectData) -> tuple[list[Pick], Any, str]:
        column, row = (int(place) // scale * step for place in event.index)
        pick = (min(column, width - 1), min(row, height - 1))
        kept = [*(one for one in known if one != pick), pick][-_MOST:]
        return kept, spectra(sample, kept, unit), _told(kept)

    shown.select(clicked, picks, [picks, plot, picked], **QUIET)
    forget.click(lambda: ([], spectra(sample, [], unit), ""), None, [picks, plot, picked], **QUIET)
    controls = [red, green, blue]
    triggers = [control.input for control in controls]
    redrawn = spoken(lambda *bands: composite(sample, bands))
    gr.on(triggers, redrawn, controls, shown, trigger_mode="always_last", **QUIET)


def bands_for(wavelength: Sequence[float] | None, count: int) -> list[int]:
    """Indices of the bands nearest to 650, 550 and 450 nm; three evenly spread where those are not three bands."""
    if wavelength is not None and len(wavelength) == count:
        places = np.asarray(wavelength, dtype=np.float64)
        nearest = [int(np.abs(places - target).argmin()) for target in _TARGETS]
        if len(set(nearest)) == len(nearest):
            return nearest
    return [int(count * part) for part in (5 / 6, 1 / 2, 1 / 6)]


def composite(sample: Sample, bands: Sequence[int]) -> Image.Image:
    """Three bands as red, green and blue; only they are read."""
    view = sample.view("cube")
    step = drawing.step_for(view.shape)
    planes = [view[::step, ::step, int(band)] for band in bands]
    pixels = (drawing.stretch(np.stack(planes, axis=-1)) * 255 + 0.5).astype(np.uint8)
    return drawing.picture(pixels, drawing.enlarged(pixels.shape))


def spectra(sample: Sample, picks: Sequence[Pick], unit: str = "") -> Any:
    """The spectra of pixels (x, y) over wavelength in nm, or over the band's number where there is none."""
    import plotly.graph_objects as go

    view = sample.view("cube")
    wavelength = sample.get("wavelength")
    known = wavelength is not None
    drawn = drawing.figure(x="wavelength (nm)" if known else "band", y=f"value ({unit})" if unit else "value")
    places = list(wavelength) if wavelength is not None else list(range(view.shape[2]))
    mode = "lines+markers" if len(places) <= 40 else "lines"
    for column, row in picks:
        values = np.asarray(view[row, column, :], dtype=np.float64).tolist()
        drawn.add_trace(go.Scatter(x=places, y=values, mode=mode, name=f"x {column}, y {row}"))
    drawn.update_layout(showlegend=True)
    return drawn


def _told(picks: Sequence[Pick]) -> str:
    return "; ".join(f"x {column}, y {row}" for column, row in picks)
