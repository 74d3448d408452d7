"""Sheets of single samples: what people look at first in each kind of data, on a figure that the caller owns.

Window presets are the usual ones of radiology: centre and width in Hounsfield units.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from sensorium.catalog.modalities import _drawing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "WINDOWS",
    "composite",
    "eeg",
    "eeg_window",
    "pair",
    "panorama",
    "picture",
    "planes",
    "scene",
    "sound",
    "strip",
    "windowed",
]

Array = npt.NDArray[Any]

#: name -> centre and width, HU
WINDOWS = {"lung": (-600.0, 1500.0), "soft tissue": (40.0, 400.0), "bone": (400.0, 1800.0), "brain": (40.0, 80.0)}
#: seconds of a recording on its sheet
_EEG_S = 10.0
_FRAMES = 8
_SPECTRA = 5
#: seconds of a spectrogram's window
_WINDOW_S = 0.03


def picture(figure: Figure, sample: Mapping[str, Any]) -> None:
    """A picture; beside it, where there are a mask or labels, the picture under them."""
    marks = [name for name in ("mask", "labels") if sample.get(name) is not None]
    axes = figure.subplots(1, 2 if marks else 1, squeeze=False)[0]
    image = np.asarray(sample["image"])
    _drawing.picture(axes[0], image)
    if marks:
        _drawing.picture(axes[1], image, sample.get("mask"), sample.get("labels"))
        axes[1].set_title(" and ".join(marks), fontsize=9)


def pair(figure: Figure, sample: Mapping[str, Any]) -> None:
    """Before, after, and the change on the later picture."""
    before, after = (_drawing.thin(np.asarray(sample[name])) for name in ("before", "after"))
    width = before.shape[1]
    both = _drawing.to_rgb(np.concatenate([before, after], axis=1))  # one scale of brightness
    change = sample.get("change")
    axes = figure.subplots(1, 2 if change is None else 3)
    for axis, shown, title in zip(axes, (both[:, :width], both[:, width:]), ("before", "after"), strict=False):
        axis.imshow(shown, interpolation="nearest")
        axis.set_title(title, fontsize=9)
    if change is not None:
        marked = _drawing.thin(np.asarray(change))
        axes[2].imshow(both[:, width:].mean(axis=2), cmap="gray", vmin=0, vmax=1.6, interpolation="nearest")
        axes[2].imshow(np.ma.masked_equal(marked != 0, False), cmap="autumn", alpha=0.7, interpolation="nearest")
        axes[2].set_title(f"changed: {np.mean(np.asarray(change) != 0):.1%}", fontsize=9)
    for axis in axes:
        axis.set_axis_off()


def panorama(figure: Figure, sample: Mapping[str, Any]) -> None:
    """The panorama with its directions in degrees."""
    axis = figure.subplots()
    shown = _drawing.to_rgb(_drawing.thin(np.asarray(sample["image"]), 2 * _drawing.SIDE))
    axis.imshow(shown, extent=(-180, 180, -90, 90), interpolation="nearest")
    if sample.get("mask") is not None:
        marked = _drawing.thin(np.asarray(sample["mask"]), 2 * _drawing.SIDE)
        axis.imshow(np.ma.masked_equal(marked != 0, False), extent=(-180, 180, -90, 90), cmap="spring", alpha=0.4)
    axis.set_xticks(range(-180, 181, 45))
    axis.set_yticks(range(-90, 91, 30))
    axis.set_xlabel("longitude (°)")
    axis.set_ylabel("latitude (°)")


def composite(figure: Figure, sample: Mapping[str, Any]) -> None:
    """A false-colour composite with marked pixels, and their spectra."""
    cube = _drawing.lazily(sample, "cube")
    height, width, count = cube.shape
    wavelength = sample.get("wavelength")
    left, right = figure.subplots(1, 2)
    thinned = _drawing.thin(np.asarray(cube))
    bands = _drawing.nearest_bands(wavelength, count)
    left.imshow(
        _drawing.stretch(thinned[..., bands]), extent=(-0.5, width - 0.5, height - 0.5, -0.5), interpolation="nearest"
    )
    known = wavelength is not None and len(wavelength) == count
    named = [f"{wavelength[band]:.0f} nm" if known and wavelength is not None else f"band {band}" for band in bands]
    left.set_title(" ".join(f"{colour} {name}" for colour, name in zip("RGB", named, strict=True)), fontsize=8)
    left.set_axis_off()
    x = np.asarray(wavelength) if known else np.arange(count)
    for index in range(_SPECTRA):  # along the diagonal
        row, column = ((2 * index + 1) * side // (2 * _SPECTRA) for side in (height, width))
        (line,) = right.plot(x, np.asarray(cube[row, column]), linewidth=0.9, label=f"({row}, {column})")
        left.plot(column, row, "o", color=line.get_color(), markeredgecolor="white", markersize=5)
    right.set_xlabel("wavelength (nm)" if known else "band")
    right.legend(title="pixel (row, column)", fontsize=7, title_fontsize=7)


def windowed(values: Array, unit: object, window: str = "") -> tuple[Array, str]:
    """Values as grey levels in [0, 1], and how they were made: a window for HU, else percentiles 1 and 99."""
    if unit == "HU":
        name = window or "lung"
        centre, width = WINDOWS[name]
        low = centre - width / 2
        return np.clip((values - low) / width, 0, 1), f"{name} window, {low:g} to {low + width:g} HU"
    return _drawing.stretch(values, 1, 99), "percentiles 1 to 99"


def planes(figure: Figure, sample: Mapping[str, Any]) -> None:
    """Axial, coronal and sagittal slices through the middle in true aspect; for HU the axial one in three more windows.

    Hung as radiologists do, where the orientation is known: the patient's right on the left, front and head up; sagittal
    ones with the front on the left.
    """
    volume, mask = _drawing.lazily(sample, "volume"), _drawing.lazily(sample, "mask")
    depth, height, width = volume.shape
    z, y, x = (float(one) for one in sample["spacing"]) if sample.get("spacing") is not None else (1.0, 1.0, 1.0)
    letters = str(sample.get("orientation") or "LPI")  # as it lies where nothing is known
    right, front, head = (slice(None, None, -1 if letter in "RAS" else 1) for letter in letters)
    middle: list[tuple[str, Any, float, tuple[slice, slice]]] = [
        (f"axial, z = {depth // 2}", (depth // 2,), y / x, (front, right)),
        (f"coronal, y = {height // 2}", (slice(None), height // 2), z / x, (head, right)),
        (f"sagittal, x = {width // 2}", (slice(None), slice(None), width // 2), z / y, (head, front)),
    ]
    unit = sample.get("unit")
    axes = figure.subplots(2 if unit == "HU" else 1, 3, squeeze=False)
    for axis, (title, place, aspect, turn) in zip(axes[0], middle, strict=True):
        marked = None if mask is None else np.asarray(mask[place])[turn]
        _slice(axis, np.asarray(volume[place])[turn], marked, aspect, title, unit)
    if unit == "HU":
        title, place, aspect, turn = middle[0]
        for axis, window in zip(axes[1], ("soft tissue", "bone", "brain"), strict=True):
            _slice(axis, np.asarray(volume[place])[turn], None, aspect, title, unit, window)


def _slice(
    axis: Axes, values: Array, mask: Array | None, aspect: float, title: str, unit: object, window: str = ""
) -> None:
    """A slice [rows, columns]."""
    shown, how = windowed(values, unit, window)
    axis.imshow(shown, cmap="gray", vmin=0, vmax=1, aspect=aspect)
    if mask is not None:
        _drawing.outline(axis, mask)
    axis.set_title(f"{title}\n{how}", fontsize=7)
    axis.set_axis_off()


def sound(figure: Figure, sample: Mapping[str, Any]) -> None:
    """The waveform, and the spectrogram of the first channel in dB below its maximum."""
    rate = float(sample["sampling_rate"])
    channels = np.atleast_2d(np.asarray(sample["audio"]))
    above, below = figure.subplots(2, 1, sharex=True)
    _drawing.lanes(above, channels[:4], rate)
    above.set_xlabel("")
    trace = channels[0].astype(np.float64)
    window = min(max(16, 2 ** round(math.log2(max(1.0, _WINDOW_S * rate)))), len(trace))
    hop = max(1, window // 4, -(-len(trace) // 2000))
    frames = np.lib.stride_tricks.sliding_window_view(trace, window)[::hop] * np.hanning(window)
    power = np.abs(np.fft.rfft(frames, axis=1)) ** 2  # [T, F]
    decibels = 10 * np.log10(np.maximum(power / max(power.max(), 1e-30), 1e-8))
    below.imshow(
        decibels.T, origin="lower", aspect="auto", vmin=-80, vmax=0, extent=(0, len(trace) / rate, 0, rate / 2000)
    )
    below.set_xlabel("time (s)")
    below.set_ylabel("frequency (kHz)")


def eeg(figure: Figure, sample: Mapping[str, Any], begin: int = 0) -> None:
    """A strip of ten seconds of all channels from index ``begin`` on, each with its name and its own range."""
    signal = _drawing.lazily(sample, "signal")
    rate = float(sample["sampling_rate"])
    shown = np.asarray(signal[:, begin : begin + eeg_window(rate)])[:64]
    names = sample.get("channels")
    axis = figure.subplots()
    _drawing.lanes(axis, shown, rate, list(names)[:64] if names is not None else (), begin / rate)
    seconds = signal.shape[1] / rate
    axis.set_title(f"{signal.shape[0]} channels, {seconds:.6g} s at {rate:g} Hz", fontsize=9)


def eeg_window(rate: float) -> int:
    """Points of a strip at ``rate`` Hz."""
    return max(2, int(_EEG_S * rate))


def strip(figure: Figure, frames: list[tuple[float, Array]]) -> None:
    """Frames of a video with their times, s."""
    axes = figure.subplots(2, -(-len(frames) // 2), squeeze=False).ravel()
    for axis, (seconds, frame) in zip(axes, frames, strict=False):
        _drawing.picture(axis, frame)
        axis.set_title(f"{seconds:.2f} s", fontsize=8)
    for axis in axes[len(frames) :]:
        axis.set_axis_off()


def evenly(count: int, wanted: int = _FRAMES) -> list[int]:
    """Indices of ``wanted`` of ``count``, evenly spread, the first among them."""
    return [index * count // min(wanted, count) for index in range(min(wanted, count))]


def scene(figure: Figure, sample: Mapping[str, Any]) -> None:
    """Where the cameras stand and look, and some of the views."""
    poses = np.asarray(sample["poses"], dtype=np.float64)
    images = _drawing.lazily(sample, "images")
    chosen = evenly(len(poses), 4)
    halves: Any = figure.subfigures(1, 2)
    left, right = halves
    space = left.add_subplot(projection="3d")
    centre, forward = poses[:, :3, 3], poses[:, :3, 2]
    spread = max(float(np.linalg.norm(centre - centre.mean(axis=0), axis=1).max()), 1e-6)
    space.scatter(*centre.T, s=8)
    space.quiver(*centre.T, *(0.25 * spread * forward).T, linewidth=0.6, color="#a33000")
    space.set_title(f"{len(poses)} cameras and their z axes", fontsize=9)
    space.set_box_aspect((1, 1, 1))
    for axis, view in zip(right.subplots(2, 2).ravel(), chosen, strict=False):
        _drawing.picture(axis, np.asarray(images[view]))
        axis.set_title(f"view {view}", fontsize=8)
