"""Pictures of fits: curves, confusion matrices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import polars as pl

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["confusion", "curves"]


def curves(axes: Axes, records: pl.DataFrame, figure: str = "loss") -> None:
    """``figure`` over steps, for training and validation.

    Args:
        axes: to draw on.
        records: step, name, value.
        figure: names end in ``/figure``.
    """
    chosen = records.filter(pl.col("name").str.ends_with(f"/{figure}"))
    for name in chosen["name"].unique().sort():
        own = chosen.filter(pl.col("name") == name).sort("step")
        axes.plot(own["step"], own["value"], label=name, marker="." if own.height < 50 else "")
    axes.set_xlabel("step")
    axes.set_ylabel(figure)
    if chosen.height:
        axes.legend()
    axes.grid(alpha=0.3)


def confusion(axes: Axes, matrix: npt.ArrayLike, classes: Sequence[str]) -> None:
    """A confusion matrix: rows are true classes and sum to 1, counts are written in.

    Args:
        axes: to draw on.
        matrix: counts [true, predicted].
        classes: names.
    """
    counts = np.asarray(matrix, np.float64)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    size = 9 if len(classes) <= 6 else 7
    for row, column in np.ndindex(counts.shape):
        if counts[row, column]:
            colour = "white" if shares[row, column] > 0.5 else "black"
            axes.text(column, row, f"{counts[row, column]:g}", ha="center", va="center", color=colour, fontsize=size)
    axes.set_xticks(range(len(classes)), classes, rotation=40, ha="right", fontsize=size)
    axes.set_yticks(range(len(classes)), classes, fontsize=size)
    axes.set_xlabel("predicted")
    axes.set_ylabel("actual")
