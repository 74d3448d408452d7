"""Drawing that several previews share.

Previews draw on axes that they are given and never import ``pyplot``: the caller owns the figure. Everything is thinned
out before it is drawn, so that a preview of a large sample costs little more than one of a small sample.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["lanes", "lazily", "nearest_bands", "outline", "picture", "spread_bands", "stretch", "thin", "to_rgb"]

Array = npt.NDArray[Any]

#: longest side of a drawn picture, pixels
SIDE = 512
#: points of a drawn trace are at most twice this
POINTS = 1000


def lazily(sample: Mapping[str, Any], name: str) -> Any:
    """An array of the sample, to be sliced before it is used: of one in storage only that part is read.

    None where the sample has none.
    """
    if name not in sample:
        return None
    view = getattr(sample, "view", None)
    value = view(name) if view is not None else sample[name]
    return None if value is None else value


def thin(array: Array, limit: int = SIDE) -> Array:
    """``array`` [H, W, ...] with every n-th row and column, the same n for both, so that neither exceeds ``limit``."""
    step = max(1, -(-max(array.shape[:2]) // limit))
    return array[::step, ::step]


def stretch(array: Array, low: float = 2, high: float = 98) -> Array:
    """``array`` [H, W, C] or [H, W] as float32 in [0, 1]: percentiles ``low`` and ``high`` of each band become 0 and 1.

    Values that are not finite become 0.
    """
    values = array.astype(np.float64)
    values[~np.isfinite(values)] = np.nan
    if np.isnan(values).all():
        return np.zeros(values.shape, dtype=np.float32)
    bands = np.moveaxis(np.atleast_3d(values), -1, 0)
    stretched = []
    for band in bands:
        finite = band[np.isfinite(band)]
        bottom, top = np.percentile(finite, [low, high]) if finite.size else (0.0, 0.0)
        stretched.append((band - bottom) / (top - bottom) if top > bottom else np.zeros_like(band))
    result: Array = np.clip(np.nan_to_num(np.stack(stretched, axis=-1)), 0, 1).astype(np.float32)
    return result.reshape(values.shape)


def spread_bands(count: int) -> list[int]:
    """Three of ``count`` bands, evenly spread, the last first (long wavelengths are usually last, and drawn red)."""
    return [int(count * part) for part in (5 / 6, 1 / 2, 1 / 6)]


def nearest_bands(wavelength: Sequence[float] | None, count: int) -> list[int]:
    """The bands nearest to 640, 550 and 460 nm where ``wavelength`` (nm) covers them, else three evenly spread."""
    if wavelength is None or len(wavelength) != count:
        return spread_bands(count)
    positions = np.asarray(wavelength, dtype=np.float64)
    if positions.min() > 460 + 15 or positions.max() < 640 - 15:
        return spread_bands(count)
    return [int(np.abs(positions - target).argmin()) for target in (640.0, 550.0, 460.0)]


def to_rgb(image: Array) -> Array:
    """An image [H, W, C] of any band count and dtype as float32 RGB in [0, 1], [H, W, 3].

    8-bit values and floats within [0, 1] are shown as they are; others, and more than four bands, are stretched between
    their percentiles 2 and 98. Transparent parts become white.
    """
    count = image.shape[2]
    alpha = None
    if count == 4 and image.dtype.kind != "i":
        alpha = image[..., 3:].astype(np.float32) / (np.iinfo(image.dtype).max if image.dtype.kind == "u" else 1)
        image = image[..., :3]
    elif count == 2:
        image = image[..., :1]
    elif count > 3:
        image = image[..., spread_bands(count)]
    if image.dtype == np.uint8 and count in (1, 3, 4):
        rgb = image.astype(np.float32) / 255
    elif image.dtype.kind == "f" and ((image >= 0) & (image <= 1) | ~np.isfinite(image)).all():
        rgb = np.clip(np.nan_to_num(image.astype(np.float32)), 0, 1)
    else:
        rgb = stretch(image)
    rgb = np.repeat(rgb, 3, axis=2) if rgb.shape[2] == 1 else rgb  # [H, W, 1] -> [H, W, 3]
    if alpha is not None:
        rgb = rgb * np.clip(alpha, 0, 1) + 1 - np.clip(alpha, 0, 1)
    return rgb


def outline(axes: Axes, mask: Array, *, left: int = 0, color: str = "#ff2d95") -> None:
    """Draw the border of where ``mask`` [H, W] is not zero, ``left`` pixels to the right of the origin."""
    inside = np.asarray(mask) != 0
    if min(inside.shape) < 2 or inside.all() or not inside.any():  # there is no border to draw
        return
    columns = np.arange(inside.shape[1]) + left
    axes.contour(
        columns, np.arange(inside.shape[0]), inside.astype(np.float32), levels=[0.5], colors=color, linewidths=1
    )


def picture(axes: Axes, image: Array, mask: Array | None = None, labels: Array | None = None) -> None:
    """Draw ``image`` [H, W, C], the outline of ``mask`` [H, W] and the classes of ``labels`` [H, W] over it."""
    axes.imshow(to_rgb(thin(image)), interpolation="nearest")
    if labels is not None:
        classes = thin(labels)
        axes.imshow(
            np.ma.masked_equal(classes % 20, 0), cmap="tab20", vmin=0, vmax=19, alpha=0.45, interpolation="nearest"
        )
    if mask is not None:
        outline(axes, thin(mask))
    axes.set_axis_off()


def lanes(axes: Axes, traces: Array, rate: float, names: Sequence[str] = (), begin: float = 0.0) -> None:
    """Draw ``traces`` [C, T], sampled at ``rate`` Hz from ``begin`` (s) on, one above the other, with ``names`` on y."""
    count = len(traces)
    for lane, trace in enumerate(traces):
        positions, values = _envelope(trace)
        bottom, top = float(values.min()), float(values.max())
        height = (values - bottom) / (top - bottom) - 0.5 if top > bottom else np.zeros_like(values)
        axes.plot(begin + positions / rate, height * 0.9 + (count - 1 - lane), linewidth=0.6)
    axes.set_yticks(range(count - 1, -1, -1) if names else [], list(names), fontsize="small" if count <= 12 else 5)
    axes.set_xlabel("time (s)")


def pixels(draw: Callable[[Figure], None], width: float = 9.0, height: float = 5.0) -> npt.NDArray[np.uint8]:
    """What ``draw`` puts on a figure of ``width`` by ``height`` inches, as [H, W, 3]."""
    figure = new_figure(width, height)
    draw(figure)
    figure.canvas.draw()
    rgba = np.asarray(figure.canvas.buffer_rgba())  # type: ignore[attr-defined]
    return rgba[..., :3].copy()


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of so many inches that belongs to nobody else."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained", dpi=110)
    FigureCanvasAgg(figure)
    return figure


def _envelope(trace: Array) -> tuple[Array, Array]:
    """Positions and values of at most 2 * POINTS points that keep every peak of ``trace`` [T]."""
    step = len(trace) // POINTS
    if step < 3:
        return np.arange(len(trace)), trace.astype(np.float64)
    blocks = trace[: len(trace) // step * step].reshape(-1, step)
    values = np.stack([blocks.min(axis=1), blocks.max(axis=1)], axis=1).reshape(-1).astype(np.float64)
    return np.arange(len(values)) * (step / 2), values
