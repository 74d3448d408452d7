"""Drawing for the pages: pictures of bounded size, traces that keep their peaks, plots in one style."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from sensorium.catalog.modalities import _drawing
from sensorium.catalog.modality import Modality
from sensorium.platform.errors import SensoriumError
from sensorium.serve.pages.theme import SERIES

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = [
    "SIDE",
    "enlarged",
    "envelope",
    "figure",
    "level",
    "matplotlib_figure",
    "overlaid",
    "picture",
    "png",
    "preview",
    "rgb",
    "step_for",
    "stretch",
]

Array = npt.NDArray[Any]
Pixels = npt.NDArray[np.uint8]

#: longest side of a picture that is sent, pixels
SIDE = 1024
#: a picture smaller than this is enlarged by a whole factor, so that its pixels can be seen and clicked
_SMALLEST = 384
_PREVIEW_INCHES, _PREVIEW_DPI = 2.6, 100
_TAB20 = 20

stretch = _drawing.stretch


def step_for(shape: Sequence[int], limit: int = SIDE) -> int:
    """Every how many rows and columns of [H, W] are shown, so that neither side exceeds ``limit``."""
    return max(1, -(-max(shape[:2]) // limit))


def enlarged(shape: Sequence[int]) -> int:
    """By which whole factor a picture [H, W] is enlarged to be seen."""
    return max(1, _SMALLEST // max(1, *shape[:2]))


def rgb(image: Array) -> Pixels:
    """An image [H, W, C] of any dtype as RGB to be sent, [H, W, 3]."""
    return (_drawing.to_rgb(image) * 255 + 0.5).astype(np.uint8)


def level(values: Array, centre: float, width: float) -> Pixels:
    """Values [...] as grey levels: ``centre`` ∓ half of ``width`` become 0 and 255."""
    low = centre - width / 2
    scaled = (np.nan_to_num(values.astype(np.float64), nan=low) - low) / max(width, 1e-12)
    return (np.clip(scaled, 0, 1) * 255 + 0.5).astype(np.uint8)


def picture(pixels: Pixels, scale: int = 1) -> Image.Image:
    """Pixels [H, W] or [H, W, 3] as a picture, each pixel ``scale`` wide and high."""
    image = Image.fromarray(np.ascontiguousarray(pixels))
    if scale == 1:
        return image
    return image.resize((image.width * scale, image.height * scale), Image.Resampling.NEAREST)


def overlaid(pixels: Pixels, mask: Array | None, labels: Array | None = None) -> Pixels:
    """RGB [H, W, 3] with what ``mask`` [H, W] marks tinted, and classes of ``labels`` [H, W] in colours; 0 is neither."""
    shown = pixels.astype(np.float32)
    if labels is not None:
        from matplotlib import colormaps

        colours = np.asarray(colormaps["tab20"].colors, dtype=np.float32) * 255  # type: ignore[attr-defined] # listed
        shown = np.where((labels != 0)[..., np.newaxis], 0.5 * shown + 0.5 * colours[labels % _TAB20], shown)
    if mask is not None:
        tint = np.array([255, 45, 149], dtype=np.float32)
        shown = np.where((np.asarray(mask) != 0)[..., np.newaxis], 0.6 * shown + 0.4 * tint, shown)
    return (shown + 0.5).astype(np.uint8)


def envelope(trace: Array, points: int) -> tuple[npt.NDArray[np.int64], Array]:
    """Positions and values of at most ``2 * points`` values of ``trace`` [T] that keep every peak of it."""
    block = len(trace) // points
    if block < 3:
        return np.arange(len(trace)), trace
    whole = len(trace) // block * block
    blocks = trace[:whole].reshape(-1, block)
    starts = np.arange(0, whole, block)
    ends = np.stack([starts + blocks.argmin(axis=1), starts + blocks.argmax(axis=1)], axis=1)
    ends.sort(axis=1)  # in the order of time
    positions = np.unique(np.append(ends.reshape(-1), len(trace) - 1))
    return positions, trace[positions]


def png(image: Image.Image) -> bytes:
    """A picture as PNG."""
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def preview(modality: Modality, sample: Mapping[str, Any]) -> bytes:
    """A sample as its modality draws it, PNG; an error of the sample's is drawn as words."""
    drawn = matplotlib_figure(_PREVIEW_INCHES, _PREVIEW_INCHES)
    axes = drawn.add_subplot()
    try:
        if modality.preview is not None:
            modality.preview(axes, sample)
    except SensoriumError as error:
        axes.clear()
        axes.set_axis_off()
        axes.text(0.5, 0.5, str(error), wrap=True, ha="center", va="center", fontsize=7, transform=axes.transAxes)
    file = io.BytesIO()
    drawn.savefig(file, format="png", dpi=_PREVIEW_DPI)
    return file.getvalue()


def matplotlib_figure(width: float, height: float) -> Figure:
    """An empty figure, inches, that belongs to no window."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    drawn = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(drawn)
    return drawn


def figure(*, x: str = "", y: str = "", height: int = 380) -> Any:
    """An empty plotly figure in the pages' style, with titles of its axes."""
    import plotly.graph_objects as go

    drawn = go.Figure()
    axis = {"gridcolor": "#dde3e4", "zerolinecolor": "#c3cccf", "linecolor": "#93a0a5", "ticks": "outside"}
    drawn.update_layout(
        template="none",
        height=height,
        margin={"l": 60, "r": 16, "t": 56, "b": 48},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"family": "system-ui, sans-serif", "size": 13, "color": "#172024"},
        colorway=SERIES,
        hovermode="closest",
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
    )
    drawn.update_xaxes(title=x, automargin=True, **axis)
    drawn.update_yaxes(title=y, automargin=True, **axis)
    return drawn
