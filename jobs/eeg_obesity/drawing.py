"""Figures: importance of the electrodes on the head, features in two dimensions, curves of impurity.

Each function makes a matplotlib figure without touching any global state; :func:`save` writes it, PNG or SVG.
"""

from __future__ import annotations

import functools
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from sensorium.jobs.eeg_obesity.impurity import first_quartile
from sensorium.jobs.eeg_obesity.signals import electrode
from sensorium.platform.errors import InvalidSample, InvalidSetting
from sensorium.platform.optional import require

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "embedding",
    "embedding_figure",
    "epochs",
    "head",
    "head_figure",
    "impurity_figure",
    "png",
    "positions",
    "reduced",
    "save",
]

Floats = npt.NDArray[np.float64]

#: distance from the top of the head to the lowest ring of electrodes, degrees: four steps of 10 % of 180
_RING = 72.0
#: electrodes on that ring, and their angles from the nose, degrees to the right: steps of 10 % of the half circle
_ON_RING = {"FP": 18.0, "F": 54.0, "T": 90.0, "P": 126.0, "O": 162.0}
_GRID = 200
#: side of one figure's panel, inches
_PANEL = 3.6
#: neighbours that t-SNE weighs, and dimensions that go into it
_PERPLEXITY, _DIMENSIONS = 30.0, 50


@functools.cache
def _sphere() -> dict[str, Floats]:
    """Unit vectors (right, front, up) of the 19 electrodes, by the rules of the 10–20 system."""

    def point(polar: float, azimuth: float) -> Floats:
        theta, phi = np.radians(polar), np.radians(azimuth)
        return np.array([np.sin(theta) * np.sin(phi), np.sin(theta) * np.cos(phi), np.cos(theta)])

    ring = {name: (point(_RING, -angle), point(_RING, angle)) for name, angle in _ON_RING.items()}
    found = {"CZ": point(0, 0), "FZ": point(36, 0), "PZ": point(36, 180), "C3": point(36, -90), "C4": point(36, 90)}
    for one, names in (
        ("FP", ("FP1", "FP2")),
        ("F", ("F7", "F8")),
        ("T", ("T3", "T4")),
        ("P", ("T5", "T6")),
        ("O", ("O1", "O2")),
    ):
        found.update(zip(names, ring[one], strict=True))
    # half way between the middle line and the ring
    for name, middle, side in (("F3", "FZ", "F7"), ("F4", "FZ", "F8"), ("P3", "PZ", "T5"), ("P4", "PZ", "T6")):
        between = found[middle] + found[side]
        found[name] = between / np.linalg.norm(between)
    return found


def positions(channels: Sequence[str]) -> Floats:
    """Places [C, 2] of electrodes on a flat head, nose up: distance from the centre grows with the angle from the top.

    The equator of the head has radius 1; the lowest ring of electrodes, 0.8.

    Raises:
        InvalidSample: a channel is no electrode of the 10–20 system.
    """
    known = _sphere()
    strange = [name for name in channels if electrode(name) not in known]
    if strange:
        raise InvalidSample(f"channel {strange[0]!r} has no place in the 10–20 system; draw its 19 electrodes only.")
    points = np.array([known[electrode(name)] for name in channels])
    radius = np.degrees(np.arccos(np.clip(points[:, 2], -1, 1))) / 90
    angle = np.arctan2(points[:, 0], points[:, 1])
    return np.stack([radius * np.sin(angle), radius * np.cos(angle)], axis=1)


def head_figure(importance: Mapping[str, npt.ArrayLike], channels: Sequence[str], *, unit: str = "") -> Figure:
    """Heads side by side, one for each of ``importance`` (title -> [C]), with one common scale of colours (Fig. 5).

    Values of both signs are drawn from blue through white to red; those of one sign from light to dark.
    """
    names = list(importance)
    values = np.array([np.asarray(importance[name], dtype=np.float64) for name in names])
    if len(channels) < 4 or values.shape != (len(names), len(channels)) or not np.isfinite(values).all():
        raise InvalidSample(
            f"a head needs 4 electrodes at least and a finite value for each; got {len(channels)} and shape {values.shape}."
        )
    both = values.min() < 0 < values.max()
    limit = float(np.abs(values).max()) or 1.0
    figure = _figure(len(names))
    axes = [figure.add_subplot(1, len(names), index + 1) for index in range(len(names))]
    for one, name, row in zip(axes, names, values, strict=True):
        low = -limit if both or values.max() <= 0 else 0.0
        drawn = _draw_head(one, row, channels, (low, limit if values.max() > 0 else 0.0), "RdBu_r" if both else "Reds")
        one.set_title(name)
    figure.colorbar(drawn, ax=axes, shrink=0.7, label=unit)
    return figure


def head(axes: Axes, values: npt.ArrayLike, channels: Sequence[str], unit: str) -> None:
    """One head on ``axes``: a value of either sign for each of 4 or more electrodes [C], blue through white to red."""
    row = np.asarray(values, dtype=np.float64)
    limit = float(np.abs(row).max()) or 1.0
    drawn = _draw_head(axes, row, channels, (-limit, limit), "RdBu_r")
    if axes.figure is not None:
        axes.figure.colorbar(drawn, ax=axes, shrink=0.7, label=unit)


def epochs(axes: Axes, probabilities: npt.ArrayLike, classes: Sequence[str], begin: float, length: float) -> None:
    """Probability of each class [n, K] over the epochs of a recording, which follow one another from ``begin``, seconds."""
    rows = np.asarray(probabilities, dtype=np.float64)
    edges = begin + length * np.arange(len(rows) + 1)
    for name, values in zip(classes, rows.T, strict=True):
        axes.stairs(values, edges, label=name, linewidth=1.6, baseline=None)
    axes.set(xlabel="time (s)", ylabel="probability", ylim=(-0.02, 1.02))
    axes.grid(alpha=0.3)
    axes.legend(loc="best")


def _draw_head(axes: Axes, values: Floats, channels: Sequence[str], limits: tuple[float, float], colours: str) -> Any:
    """One head; values between electrodes by thin-plate splines, clipped to the limits of the scale."""
    from matplotlib.patches import Circle
    from scipy.interpolate import RBFInterpolator

    places = positions(channels)
    line = np.linspace(-1, 1, _GRID)
    grid = np.stack(np.meshgrid(line, line), axis=-1)  # [Y, X, 2]
    field = RBFInterpolator(places, values, kernel="thin_plate_spline")(grid.reshape(-1, 2)).reshape(_GRID, _GRID)
    field = np.where(np.hypot(grid[..., 0], grid[..., 1]) <= 1, np.clip(field, *limits), np.nan)
    drawn = axes.imshow(field, extent=(-1, 1, -1, 1), origin="lower", cmap=colours, vmin=limits[0], vmax=limits[1])
    axes.add_patch(Circle((0, 0), 1, fill=False, linewidth=1.5))
    axes.plot([-0.1, 0, 0.1], [0.995, 1.12, 0.995], color="black", linewidth=1.5)  # nose
    for side in (-1, 1):
        ear = np.linspace(-0.2, 0.2, 30)
        axes.plot(side * (1 + 0.07 * np.sqrt(1 - (ear / 0.2) ** 2)), ear, color="black", linewidth=1.5)
    axes.scatter(places[:, 0], places[:, 1], c="black", s=8)
    for name, (x, y) in zip(channels, places, strict=True):
        axes.annotate(name, (x, y), xytext=(0, 3), textcoords="offset points", ha="center", fontsize=7)
    axes.set(xlim=(-1.15, 1.15), ylim=(-1.1, 1.2), aspect="equal")
    axes.axis("off")
    return drawn


def reduced(features: npt.ArrayLike, seed: int = 0) -> npt.NDArray[np.float32]:
    """Features [N, ...] as [N, D], in 50 principal components where they are more."""
    require("sklearn", "draw features with t-SNE")
    from sklearn.decomposition import PCA

    flat = np.asarray(features, dtype=np.float32)
    flat = flat.reshape(len(flat), -1)
    if len(flat) < 4 or not np.isfinite(flat).all():
        raise InvalidSample(f"t-SNE needs 4 entries at least, all finite; got features of shape {np.shape(features)}.")
    if flat.shape[1] > _DIMENSIONS:
        flat = PCA(min(_DIMENSIONS, len(flat)), svd_solver="randomized", random_state=seed).fit_transform(flat)
    return flat


def embedding(features: npt.ArrayLike, seed: int = 0) -> Floats:
    """t-SNE of features [N, ...] in two dimensions [N, 2] (3.2), N at least 4; equal input and seed, equal result.

    More than 50 features are reduced to 50 principal components before, as van der Maaten and Hinton do (2008): distances
    hardly change, and the time falls by orders.
    """
    flat = reduced(features, seed)
    from sklearn.manifold import TSNE

    perplexity = min(_PERPLEXITY, (len(flat) - 1) / 3)
    result: Floats = TSNE(perplexity=perplexity, init="pca", random_state=seed).fit_transform(flat).astype(np.float64)
    return result


def embedding_figure(
    panels: Mapping[str, npt.ArrayLike], classes: Sequence[str], subjects: Sequence[str], *, shown: Sequence[str] = ()
) -> Figure:
    """Features of several methods as points (Fig. 3): above by class, below by subject, with a mark for each class.

    Args:
        panels: title -> points [N, 2], all of the same N epochs.
        classes: of each epoch; two at most get the marks + and o of the paper.
        subjects: of each epoch.
        shown: subjects of the lower row; all where it is empty.
    """
    kinds, persons = sorted(set(classes)), sorted(set(shown) or set(subjects))
    for title, points in panels.items():
        if np.shape(points) != (len(classes), 2) or len(subjects) != len(classes):
            raise InvalidSample(
                f"{title}: points must be [N, 2] with a class and a subject each; got {np.shape(points)}, "
                f"{len(classes)} classes, {len(subjects)} subjects."
            )
    figure = _figure(len(panels), rows=2)
    colours = [_colour(index, len(persons)) for index in range(len(persons))]
    for column, (title, points) in enumerate(panels.items()):
        place = np.asarray(points)
        upper = figure.add_subplot(2, len(panels), column + 1)
        lower = figure.add_subplot(2, len(panels), len(panels) + column + 1)
        for index, kind in enumerate(kinds):
            of_kind = np.array([one == kind for one in classes])
            upper.scatter(place[of_kind, 0], place[of_kind, 1], s=6, label=kind, alpha=0.7)
            for person, colour in zip(persons, colours, strict=True):
                of_person = of_kind & np.array([one == person for one in subjects])
                mark = "+o"[index % 2]
                lower.scatter(place[of_person, 0], place[of_person, 1], s=14, marker=mark, color=colour, linewidths=0.8)
        upper.set_title(title)
        upper.legend(loc="best", fontsize=7)
        for index, kind in enumerate(kinds):  # without a colour: those are the subjects'
            lower.scatter([], [], s=14, marker="+o"[index % 2], color="black", linewidths=0.8, label=kind)
        lower.legend(loc="best", fontsize=7, title=f"{len(persons)} subjects by colour", title_fontsize=7)
        for axes in (upper, lower):
            axes.set(xticks=[], yticks=[])
    return figure


def _colour(index: int, count: int) -> tuple[float, float, float, float]:
    """A colour of its own for each of ``count`` things."""
    import matplotlib

    red, green, blue, alpha = matplotlib.colormaps["tab10" if count <= 10 else "hsv"](
        index if count <= 10 else index / count
    )
    return red, green, blue, alpha


def impurity_figure(impurities: Mapping[str, npt.ArrayLike]) -> Figure:
    """The best quarter of each method's features, by ascending impurity (Fig. 4); the legend gives the mean over all."""
    figure = _figure(1, width=1.5)
    axes = figure.add_subplot()
    for index, (name, values) in enumerate(impurities.items()):
        best = first_quartile(values)
        mean = float(np.mean(np.asarray(values)))
        line = ("-", "--", ":", "-.")[index % 4]  # curves may lie on one another
        axes.plot(np.linspace(0, 25, len(best)), best, line, label=f"{name} (mean of all {mean:.4f})")
    axes.set(xlabel="features, best first (%)", ylabel="dichotomy impurity")
    axes.legend()
    return figure


def _figure(columns: int, rows: int = 1, width: float = 1.0) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(_PANEL * columns * width + 0.6, _PANEL * rows), layout="constrained", dpi=120)


def png(figure: Figure) -> bytes:
    """``figure`` as the content of a PNG file; the same figure gives the same bytes."""
    content = io.BytesIO()
    figure.savefig(content, format="png", metadata={"Software": None})
    return content.getvalue()


def save(figure: Figure, path: Path) -> Path:
    """Write ``figure`` as PNG or SVG, by the suffix of ``path``; the same figure gives the same bytes.

    Raises:
        InvalidSetting: another suffix.
    """
    import matplotlib

    kind = path.suffix.lower().removeprefix(".")
    if kind not in ("png", "svg"):
        raise InvalidSetting(f"{path}: a figure is written as .png or .svg; got {path.suffix!r}.")
    path.parent.mkdir(parents=True, exist_ok=True)
    with matplotlib.rc_context({"svg.hashsalt": "sensorium"}):
        figure.savefig(path, format=kind, metadata={"Date": None} if kind == "svg" else {"Software": None})
    return path
