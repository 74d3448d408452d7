"""A figure of the learned two-level graph: the measurement graph with its organs, and the graph between organs (Fig. 3a)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from sensorium.platform.errors import InvalidSetting

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["draw_graph", "save_graph"]

_SUFFIXES = (".png", ".svg")
Matrix = npt.NDArray[np.floating]


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

    names = [*variable_names, *(organ_names if len(organs) else ())]
    if measurements.shape != (len(names), len(names)) or len(groups) != len(variable_names):
        raise InvalidSetting(
            f"a graph of {measurements.shape} needs as many names (variables, then organs) and a group per variable; "
            f"got {len(variable_names)} variables, {len(organ_names)} organs, {len(groups)} groups."
        )
    members = [*groups, *(range(len(organ_names)) if len(organs) else ())]
    order = np.argsort(members, kind="stable")  # an organ's own node comes after its variables
    wide = len(organs) > 0
    figure = NewFigure(figsize=(15, 8.5) if wide else (9, 8.5), layout="constrained")
    axes = figure.subplots(1, 2 if wide else 1, width_ratios=(2, 1) if wide else None, squeeze=False)[0]
    _heat(axes[0], measurements[np.ix_(order, order)], [names[place] for place in order], "measurements and organs")
    for border in np.flatnonzero(np.diff(np.asarray(members)[order])) + 0.5:
        axes[0].axhline(border, color="white", linewidth=0.8)
        axes[0].axvline(border, color="white", linewidth=0.8)
    if wide:
        _heat(axes[1], organs, list(organ_names), "organs")
    return figure


def _heat(axes: Axes, weights: Matrix, names: Sequence[str], title: str) -> None:
    shown = np.where(weights > 0, weights, np.nan)  # no edge is no colour
    image = axes.imshow(shown, cmap="viridis", aspect="equal")
    axes.set_xticks(range(len(names)), names, rotation=90, fontsize=7)
    axes.set_yticks(range(len(names)), names, fontsize=7)
    axes.set_title(f"{title}: weight of column to row")
    if axes.figure is not None:
        axes.figure.colorbar(image, ax=axes, shrink=0.6)


def save_graph(path: Path, figure: Figure) -> Path:
    """Write ``figure`` as PNG or SVG, by the suffix of ``path``.

    Raises:
        InvalidSetting: another suffix.
    """
    if path.suffix.lower() not in _SUFFIXES:
        raise InvalidSetting(f"a figure is saved as {' or '.join(_SUFFIXES)}; got {path.name!r}. Change the suffix.")
    figure.savefig(path, dpi=150, metadata={"Date": None} if path.suffix.lower() == ".svg" else None)
    return path
