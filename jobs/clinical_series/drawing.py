"""Figures: the learned two-level graph (Fig. 3a), curves of predictions, areas while variables are missing (Fig. 3b)."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from sensorium.platform.errors import InvalidSetting
from sensorium.platform.optional import require

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "calibration",
    "draw_graph",
    "importance",
    "measurement_graph",
    "missing_figure",
    "observations",
    "png",
    "precision_recall",
    "risk",
    "roc",
    "save_graph",
]

_SUFFIXES = (".png", ".svg")
Matrix = npt.NDArray[np.floating]
#: labels [n] and probabilities [n]
Predictions = tuple[npt.NDArray[Any], npt.NDArray[np.floating]]
#: groups of equal size in which probabilities are compared with what happened
_BINS = 10


# -- graphs -----------------------------------------------------------------------------------------------------------


def draw_graph(
    measurements: Matrix,
    organs: Matrix,
    variable_names: Sequence[str],
    organ_names: Sequence[str],
    groups: Sequence[int],
) -> Figure:
    """Heat maps of the weights that a network's ``graph()`` gives; a row receives, a column sends.

    Args:
        measurements: [K + O, K + O], or [K, K] of a graph without organs.
        organs: [O, O], or [0, 0] for none: then there is one map only.
        variable_names: K names.
        organ_names: O names.
        groups: the organ of each variable; neighbours of one organ are drawn side by side, parted by lines.

    Raises:
        InvalidSetting: the names do not fit the matrices.
    """
    from matplotlib.figure import Figure as NewFigure

    wide = len(organs) > 0
    figure = NewFigure(figsize=(15, 8.5) if wide else (9, 8.5), layout="constrained")
    axes = figure.subplots(1, 2 if wide else 1, width_ratios=(2, 1) if wide else None, squeeze=False)[0]
    measurement_graph(axes[0], measurements, variable_names, organ_names if wide else (), groups, size=7)
    if wide:
        _heat(axes[1], organs, list(organ_names), "organs", 7)
    return figure


def measurement_graph(
    axes: Axes,
    weights: Matrix,
    variable_names: Sequence[str],
    organ_names: Sequence[str],
    groups: Sequence[int],
    size: float = 5,
) -> None:
    """Heat map of ``weights`` [K + O, K + O], or [K, K] without ``organ_names``; names in points of ``size``.

    Raises:
        InvalidSetting: the names do not fit the weights.
    """
    names = [*variable_names, *organ_names]
    if weights.shape != (len(names), len(names)) or len(groups) != len(variable_names):
        raise InvalidSetting(
            f"a graph of {weights.shape} needs as many names (variables, then organs) and a group per variable; "
            f"got {len(variable_names)} variables, {len(organ_names)} organs, {len(groups)} groups."
        )
    members = [*groups, *range(len(organ_names))]
    order = np.argsort(members, kind="stable")  # an organ's own node comes after its variables
    title = "measurements and organs" if organ_names else "measurements"
    _heat(axes, weights[np.ix_(order, order)], [names[place] for place in order], title, size)
    for border in np.flatnonzero(np.diff(np.asarray(members)[order])) + 0.5:
        axes.axhline(border, color="white", linewidth=0.8)
        axes.axvline(border, color="white", linewidth=0.8)


def _heat(axes: Axes, weights: Matrix, names: Sequence[str], title: str, size: float) -> None:
    shown = np.where(weights > 0, weights, np.nan)  # no edge is no colour
    image = axes.imshow(shown, cmap="viridis", aspect="equal")
    axes.set_xticks(range(len(names)), names, rotation=90, fontsize=size)
    axes.set_yticks(range(len(names)), names, fontsize=size)
    axes.set_title(f"{title}: weight of column to row", fontsize=size + 3)
    if axes.figure is not None:
        axes.figure.colorbar(image, ax=axes, shrink=0.6)


# -- predictions ------------------------------------------------------------------------------------------------------


def roc(axes: Axes, found: Mapping[str, Predictions]) -> None:
    """Receiver operating characteristics by name; both outcomes must occur."""
    metrics = require("sklearn.metrics", "draw curves")
    for name, (labels, values) in found.items():
        wrong, right, _ = metrics.roc_curve(labels, values)
        area = metrics.roc_auc_score(labels, values)
        axes.plot(wrong, right, label=f"{name} {area:.3f}".strip())
    axes.plot([0, 1], [0, 1], color="grey", linewidth=0.8, linestyle=":")
    axes.set(xlabel="1 − specificity", ylabel="sensitivity", xlim=(0, 1), ylim=(0, 1.01))
    axes.legend(title="AUROC", fontsize=8)
    axes.grid(alpha=0.3)


def precision_recall(axes: Axes, found: Mapping[str, Predictions]) -> None:
    """Precision over recall by name; both outcomes must occur."""
    metrics = require("sklearn.metrics", "draw curves")
    share = 0.0
    for name, (labels, values) in found.items():
        precision, recall, _ = metrics.precision_recall_curve(labels, values)
        area = metrics.average_precision_score(labels, values)
        axes.step(recall, precision, where="post", label=f"{name} {area:.3f}".strip())
        share = float(np.mean(labels))
    axes.axhline(share, color="grey", linewidth=0.8, linestyle=":")
    axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.01))
    axes.legend(title="AUPRC", fontsize=8)
    axes.grid(alpha=0.3)


def calibration(axes: Axes, labels: npt.NDArray[Any], values: npt.NDArray[np.floating]) -> None:
    """Share of what happened over what was expected, in groups of equal size by probability."""
    parts = np.array_split(np.argsort(values, kind="stable"), min(_BINS, len(values)))
    expected = [float(values[part].mean()) for part in parts]
    happened = [float(np.mean(labels[part])) for part in parts]
    top = max(1e-3, *expected, *happened) * 1.05
    axes.plot([0, top], [0, top], color="grey", linewidth=0.8, linestyle=":")
    axes.plot(expected, happened, "o-")
    axes.set(xlabel="mean probability of the group", ylabel="share of the group with the outcome")
    axes.set(xlim=(0, top), ylim=(0, top))
    axes.grid(alpha=0.3)


def observations(axes: Axes, times: npt.ArrayLike, series: Mapping[str, tuple[Matrix, Matrix]]) -> None:
    """A lane for each of ``series`` (name -> times and values of its observations), scaled to its own range, which is written
    beside its name; ``times`` of all observations give the width.
    """
    titles = []
    for lane, (name, (own, values)) in enumerate(reversed(list(series.items()))):
        low, high = float(values.min()), float(values.max())
        scaled = (values - low) / (high - low) - 0.5 if high > low else np.zeros(len(values))
        axes.plot(own, lane + 0.8 * scaled, ".-", linewidth=0.8, markersize=5)
        titles.append(f"{name}\n{low:.4g} to {high:.4g}")
    axes.set_yticks(range(len(titles)), titles, fontsize=8)
    axes.set(xlabel="time (h)", xlim=(0, max(1.0, float(np.max(times)) * 1.02)))
    axes.grid(axis="x", alpha=0.3)


def risk(axes: Axes, times: Sequence[float], values: npt.ArrayLike, what: str) -> None:
    """Probability [n] of ``what`` from all that was observed until each of n times, hours."""
    axes.plot(times, values, "o-")
    axes.set(xlabel="observed until (h)", ylabel=f"probability that {what} is 1", ylim=(-0.02, 1.02))
    axes.grid(alpha=0.3)


def importance(axes: Axes, falls: Mapping[str, float]) -> None:
    """By how much the probability falls when a variable is taken as never observed, by name; the largest above."""
    names = sorted(falls, key=lambda name: abs(falls[name]))
    colours = ["#d55e00" if falls[name] > 0 else "#0072b2" for name in names]
    axes.barh(names, [falls[name] for name in names], color=colours)
    axes.axvline(0, color="grey", linewidth=0.8)
    axes.tick_params(axis="y", labelsize=8)
    axes.set_xlabel("fall of the probability without the variable")


def missing_figure(shares: Sequence[float], found: Mapping[str, Mapping[str, Sequence[float]]]) -> Figure:
    """Areas over the share of variables that are hidden: a panel for each of ``found`` (its name -> model -> values)."""
    from matplotlib.figure import Figure as NewFigure

    figure = NewFigure(figsize=(5.2 * len(found), 4.2), layout="constrained", dpi=120)
    panels = figure.subplots(1, len(found), squeeze=False)[0]
    for axes, (title, models) in zip(panels, found.items(), strict=True):
        for index, (name, values) in enumerate(models.items()):
            axes.plot([100 * share for share in shares], values, "os^D"[index % 4] + "-", label=name)
        axes.set(xlabel="variables hidden (%)", ylabel=title)
        axes.grid(alpha=0.3)
    panels[0].legend(fontsize=8)
    return figure


# -- files ------------------------------------------------------------------------------------------------------------


def png(figure: Figure) -> bytes:
    """``figure`` as the content of a PNG file; the same figure gives the same bytes."""
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=110, metadata={"Software": None})
    return content.getvalue()


def save_graph(path: Path, figure: Figure) -> Path:
    """Write ``figure`` as PNG or SVG, by the suffix of ``path``.

    Raises:
        InvalidSetting: another suffix.
    """
    if path.suffix.lower() not in _SUFFIXES:
        raise InvalidSetting(f"a figure is saved as {' or '.join(_SUFFIXES)}; got {path.name!r}. Change the suffix.")
    figure.savefig(path, dpi=150, metadata={"Date": None} if path.suffix.lower() == ".svg" else None)
    return path
