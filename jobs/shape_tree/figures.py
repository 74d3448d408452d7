"""Figures of the claim's experiment."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from sensorium.jobs.shape_tree.drawing import draw_grey, draw_level_lines, draw_shapes
from sensorium.jobs.shape_tree.filters import area_opening, mean_filter, quantise
from sensorium.jobs.shape_tree.tree import tree_of_shapes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["all_figures"]

#: pixels of a side of the part of a photograph whose level lines and tree are drawn
_PART = 64


def all_figures(rows: pl.DataFrame, photograph: NDArray[np.uint8], slice_: NDArray[np.uint8]) -> dict[str, bytes]:
    """PNG files by name: curves of nodes and SSIM, the paper's three operators, level lines and trees.

    Args:
        rows: measurements, as the experiment makes them.
        photograph: uint8 [H, W].
        slice_: part of a simulated microtomography, uint8 [H, W].
    """
    return {
        "curves": _curves(rows),
        "operators": _operators(photograph, slice_),
        "level_lines": _lines(photograph),
    }


def _png(figure: Figure) -> bytes:
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=110)
    return content.getvalue()


def _sheet(rows: int, columns: int, width: float, height: float) -> tuple[Figure, Any]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(rows, columns, squeeze=False)


def _curves(rows: pl.DataFrame) -> bytes:
    """Nodes left and SSIM against λ and n, medians, with the range over the images."""
    figure, axes = _sheet(2, 2, 9, 6)
    for row, (operator, letter) in enumerate((("area_opening", "λ, pixels"), ("mean_filter", "n, passes"))):
        for column, (name, title) in enumerate((("share", "nodes left"), ("ssim", "SSIM"))):
            axis = axes[row, column]
            for (kind,), part in rows.filter(operator=operator).group_by("images", maintain_order=True):
                by = part.group_by("parameter").agg(
                    middle=pl.col(name).median(), low=pl.col(name).min(), high=pl.col(name).max()
                )
                by = by.sort("parameter")
                axis.plot(by["parameter"], by["middle"], marker="o", label=kind)
                axis.fill_between(by["parameter"], by["low"], by["high"], alpha=0.2)
            axis.set_xlabel(letter)
            axis.set_ylabel(title)
            axis.set_ylim(0, 1.02)
            axis.grid(alpha=0.3)
            axis.set_title(operator)
    axes[0, 0].legend()
    return _png(figure)


def _operators(photograph: NDArray[np.uint8], slice_: NDArray[np.uint8]) -> bytes:
    """Images before and after, as the paper's Figs 6 to 8."""
    figure, axes = _sheet(3, 3, 10, 10)
    shown = (
        (photograph, "photograph", "quantise", "levels", {levels: quantise(photograph, levels) for levels in (32, 16)}),
        (photograph, "photograph", "area_opening", "λ", {area: area_opening(photograph, area) for area in (10, 25)}),
        (slice_, "microtomography, simulated", "mean_filter", "n", {n: mean_filter(slice_, n) for n in (5, 10)}),
    )
    for line, (image, kind, operator, letter, results) in zip(axes, shown, strict=True):
        before = next(iter(results.values())).nodes_before
        draw_grey(line[0], image, f"{kind}: {before:,} nodes")
        for axis, (parameter, result) in zip(line[1:], results.items(), strict=True):
            draw_grey(axis, result.image, f"{operator}, {letter} = {parameter}: {result.tree.node_count:,} nodes")
    return _png(figure)


def _lines(photograph: NDArray[np.uint8]) -> bytes:
    """Level lines of a part of the photograph, and its tree, before and after an area opening and a quantisation."""
    height, width = photograph.shape
    top, left = max(0, height // 4 - _PART // 2), max(0, width // 2 - _PART // 2)
    part = np.ascontiguousarray(photograph[top : top + _PART, left : left + _PART])
    simple = quantise(area_opening(part, 12).image, 8)
    figure, axes = _sheet(1, 3, 12, 4.2)
    draw_level_lines(axes[0, 0], part, tree_of_shapes(part))
    draw_level_lines(axes[0, 1], simple.image, simple.tree)
    draw_shapes(axes[0, 2], simple.tree)
    return _png(figure)
