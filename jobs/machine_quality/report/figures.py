"""The figures of a report as PNG: curves, distributions, BD-rates and correlations."""

from __future__ import annotations

import io

import numpy as np
import polars as pl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from sensorium.jobs.machine_quality import analysis
from sensorium.jobs.machine_quality.report.content import Content
from sensorium.jobs.machine_quality.report.correlations import ALL
from sensorium.jobs.machine_quality.report.numbers import Number

__all__ = ["curves", "figures"]

_DPI = 100
_MOST_BINS = 24
_SIDE = 0.62  # inches of a cell of a matrix


def figures(content: Content) -> dict[str, bytes]:
    """Every figure, by the name of its file without the suffix.

    ``curve-NUMBER`` of each number that some image has at all of a codec's qualities, save those of metrics of several
    numbers, which only their table has; ``distribution-NUMBER`` of each main one, ``bd-NUMBER`` where there are two codecs,
    ``correlations`` where there are tasks.
    """
    rows, tables = content.rows, content.tables
    told = {number.column for number in rows.numbers if number.main or number.is_task}
    drawn = {
        f"curve-{name}": curves(content, name)
        for name in tables["curves"]["number"].unique(maintain_order=True)
        if name in told
    }
    drawn |= {f"distribution-{number.column}": _distribution(content, number) for number in rows.main}
    if len(rows.codecs) > 1:
        drawn |= {f"bd-{number.column}": _matrix(content, number) for number in rows.main}
    overall = tables["correlations"].filter(
        pl.col("codec") == ALL, pl.col("srcc").is_not_null(), pl.col("metric").is_in(list(told))
    )
    if overall.height:
        drawn["correlations"] = _correlations(overall)
    return drawn


def curves(content: Content, column: str) -> bytes:
    """Rate against one number, log rate, a line for each codec."""
    return _png(analysis.curves_figure(content.rows.cells, [column]))


def _distribution(content: Content, number: Number) -> bytes:
    """Histograms of a number by codec, as in Fig. 1 of the paper."""
    figure = _figure(4.8, 3.4)
    panel = figure.subplots()
    values = content.rows.cells.filter(pl.col(number.column).is_not_null())
    # Rice's rule, for the values of one codec
    bins = min(_MOST_BINS, round(2 * np.cbrt(values.height / len(content.rows.codecs))))
    edges = np.histogram_bin_edges(values[number.column].to_numpy(), bins=max(1, bins))
    for codec, (colour, _) in analysis.styles(content.rows.codecs).items():
        of_codec = values.filter(codec=codec)[number.column].to_numpy()
        if len(of_codec):
            counts, _ = np.histogram(of_codec, bins=edges)
            label = analysis.codec_label(codec)
            panel.stairs(100 * counts / len(of_codec), edges, color=colour, linewidth=1.8, label=label)
    panel.set_xlabel(number.title, fontsize=11)
    panel.set_ylabel("cells, %", fontsize=11)
    panel.spines[["top", "right"]].set_visible(False)
    panel.legend(frameon=False, fontsize=9)
    return _png(figure)


def _matrix(content: Content, number: Number) -> bytes:
    names = content.rows.codecs
    found = content.tables["bd_rates"].filter(number=number.column)
    values = np.full((len(names), len(names)), np.nan)
    for row in found.iter_rows(named=True):
        if row["bd_rate"] is not None:
            values[names.index(row["codec"]), names.index(row["reference"])] = row["bd_rate"]
    labels = [analysis.codec_label(name) for name in names]
    texts = [["" if np.isnan(value) else f"{value:+.0f}" for value in line] for line in values]
    for index in range(len(names)):
        texts[index][index] = "·"
    return _png(_heat(values, labels, labels, texts, 100.0, f"BD-rate by {number.column}, % (row against column)"))


def _correlations(overall: pl.DataFrame) -> bytes:
    metrics, numbers = (overall[name].unique(maintain_order=True).to_list() for name in ("metric", "number"))
    values = np.full((len(metrics), len(numbers)), np.nan)
    for row in overall.iter_rows(named=True):
        values[metrics.index(row["metric"]), numbers.index(row["number"])] = row["srcc"]
    texts = [["" if np.isnan(value) else f"{value:.2f}" for value in line] for line in values]
    return _png(_heat(values, metrics, numbers, texts, 1.0, "SRCC, all codecs"))


def _heat(
    values: np.ndarray, lines: list[str], columns: list[str], texts: list[list[str]], bound: float, title: str
) -> Figure:
    figure = _figure(2.2 + _SIDE * len(columns), 1.8 + 0.36 * len(lines))
    panel = figure.subplots()
    panel.imshow(np.nan_to_num(values), cmap="PuOr_r", vmin=-bound, vmax=bound, alpha=0.75, aspect="auto")
    panel.set_xticks(range(len(columns)), columns, rotation=45, ha="right", fontsize=9)
    panel.set_yticks(range(len(lines)), lines, fontsize=9)
    panel.set_title(title, fontsize=10, loc="right")
    for row, line in enumerate(texts):
        for column, text in enumerate(line):
            panel.text(column, row, text, ha="center", va="center", fontsize=9)
    return figure


def _figure(width: float, height: float) -> Figure:
    figure = Figure(figsize=(width, height), dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _png(figure: Figure) -> bytes:
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=_DPI)
    return file.getvalue()
