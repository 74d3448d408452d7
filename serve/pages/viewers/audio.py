"""Sound: to be heard, as a waveform, and as a spectrogram."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import gradio as gr
import numpy as np
import numpy.typing as npt

from sensorium.serve.pages import drawing
from sensorium.serve.pages.spoken import spoken

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from sensorium.catalog.declaration import Declaration
    from sensorium.catalog.sample import Sample

__all__ = ["playable", "show", "sound_figure", "spectrogram", "stretch_of"]

#: seconds that are heard and drawn at a time
_SECONDS = 60.0
#: columns of the waveform, and of the spectrogram
_POINTS, _FRAMES = 1500, 600
_FLOOR_DB = -90.0


def show(sample: Sample, declaration: Declaration) -> None:  # noqa: ARG001 - all viewers are called alike
    """Playback and pictures; of a long recording a minute that a slider chooses."""
    view, rate = sample.view("audio"), float(sample["sampling_rate"])
    channels = view.shape[0] if len(view.shape) == 2 else 1
    length = view.shape[-1] / rate

    def heard(start: float) -> tuple[Any, Figure]:
        part = stretch_of(sample, start)
        return playable(part, rate), sound_figure(part, rate, start)

    sound, picture = heard(0)
    start = gr.Slider(
        0,
        max(1.0, length - _SECONDS),
        0,
        step=1,
        label="From second",
        visible=length > _SECONDS,
        elem_id="start",
        interactive=True,
    )
    player = gr.Audio(sound, label="Listen", format="wav", interactive=False, buttons=["download"], elem_id="player")
    plot = gr.Plot(picture, label="Waveform and spectrogram", format="png", elem_id="sound")
    heard_of = "" if channels <= 2 else " The first two are played."
    gr.Markdown(
        f"{length:.4g} s, {channels} channel{'s' * (channels > 1)} at {rate:g} Hz, {view.dtype.name}.{heard_of}"
    )
    start.release(spoken(heard), start, [player, plot], show_progress="minimal", api_visibility="private")


def stretch_of(sample: Sample, start: float) -> npt.NDArray[Any]:
    """At most a minute from ``start`` s: [T, C] as stored. Only this part is read where the storage allows it."""
    view, rate = sample.view("audio"), float(sample["sampling_rate"])
    first = min(int(start * rate), view.shape[-1] - 1)
    last = min(view.shape[-1], first + int(_SECONDS * rate))
    part = view[first:last] if len(view.shape) == 1 else view[:, first:last]
    return np.atleast_2d(part).T


def playable(part: npt.NDArray[Any], rate: float) -> tuple[int, npt.NDArray[np.int16]]:
    """Rate and int16 [T, C] of at most two channels, as browsers play them.

    Integers keep their full scale. Floats have it at 1; where they go beyond, all are made quieter together.
    """
    heard = part[:, :2]
    if heard.dtype == np.int16:
        return round(rate), heard
    if heard.dtype == np.int32:
        return round(rate), (heard >> 16).astype(np.int16)
    values = np.nan_to_num(heard.astype(np.float64))
    peak = max(1.0, float(np.abs(values).max(initial=0)))
    return round(rate), np.round(values / peak * 32767).astype(np.int16)


def sound_figure(part: npt.NDArray[Any], rate: float, start: float) -> Figure:
    """Waveform over spectrogram of the first channel of ``part`` [T, C]."""
    figure = drawing.matplotlib_figure(11, 4.6)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[1, 1.6])
    trace = part[:, 0].astype(np.float64) / _full_scale(part.dtype)
    positions, values = drawing.envelope(trace, _POINTS)
    upper.plot(start + positions / rate, values, linewidth=0.7, color="#136876")
    upper.set_ylabel("amplitude")
    power = spectrogram(trace, rate)
    extent = (start, start + len(trace) / rate, 0.0, rate / 2000)
    drawn = lower.imshow(power, origin="lower", aspect="auto", extent=extent, cmap="magma", vmin=_FLOOR_DB, vmax=0)
    lower.set_xlabel("time (s)")
    lower.set_ylabel("frequency (kHz)")
    figure.colorbar(drawn, ax=lower, label="dB of full scale", pad=0.01)
    return figure


def spectrogram(trace: npt.NDArray[np.float64], rate: float) -> npt.NDArray[np.float64]:
    """Level in dB [frequencies from 0 to rate / 2, frames] of ``trace`` [T]; a sine of full scale has 0 dB.

    Hann windows of about 25 ms, at most 600 of them, evenly spread.
    """
    length = int(min(len(trace), max(64, 2 ** round(np.log2(max(64.0, 0.025 * rate))))))
    starts = np.linspace(
        0, len(trace) - length, num=min(_FRAMES, max(1, 1 + (len(trace) - length) // (length // 2 or 1)))
    )
    window = np.hanning(length) if length > 2 else np.ones(length)
    frames = np.stack([trace[first : first + length] for first in starts.astype(int)]) * window  # [frames, length]
    amplitude = np.abs(np.fft.rfft(frames, axis=1)) * 2 / window.sum()
    level: npt.NDArray[np.float64] = 20 * np.log10(np.maximum(amplitude, 10 ** (_FLOOR_DB / 20))).T
    return level


def _full_scale(dtype: np.dtype[Any]) -> float:
    return float(np.iinfo(dtype).max) if dtype.kind == "i" else 1.0
