"""From the table of a sweep to rate-distortion curves, BD-rates, a summary and a figure.

Everything here takes the rows of :mod:`sensorium.jobs.machine_quality.cells` as a polars frame. Rates are bits per
pixel of payload.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from sensorium.jobs import codecs
from sensorium.jobs.machine_quality.report.bjontegaard import BDRate, bd_rate, pareto
from sensorium.jobs.machine_quality.report.numbers import comparable, find, numbers
from sensorium.jobs.machine_quality.report.numbers import definitions as metric_definitions
from sensorium.platform import plugins
from sensorium.platform.errors import InvalidSetting, close_matches

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = [
    "BDRate",
    "bd_rate",
    "bd_rates",
    "codec_label",
    "curves_figure",
    "image_curves",
    "mean_curves",
    "metric_definitions",
    "pareto",
    "plot",
    "styles",
    "summary_table",
]

_RATE = "bits_per_pixel"

# The figure: colours that stay apart for colour-blind readers (Okabe and Ito, 2008) and marks that do in print.
_STYLES = [
    ("#0072B2", "o"),
    ("#D55E00", "s"),
    ("#009E73", "^"),
    ("#CC79A7", "D"),
    ("#E69F00", "v"),
    ("#56B4E9", "P"),
    ("#000000", "X"),
    ("#7B3294", "<"),
    ("#8C6D31", ">"),
    ("#7F7F7F", "h"),
    ("#A50026", "p"),
    ("#1B7837", "*"),
]
_PANEL = (4.8, 4.2)  # inches
_DPI = 150
_FAINT_CURVES = 24
_WIDE_RANGE = 200


def image_curves(frame: pl.DataFrame, metric: str) -> pl.DataFrame:
    """The points of every image's curve: ``codec, image_id, quality, bits_per_pixel`` and the metric, in order of rate.

    ``metric`` may be any number of a cell, a task's too. Failed cells are left out; codecs and images are those of
    :func:`.report.numbers.comparable`: a codec with several GOPs is several, an image in tiles as many images.

    Raises:
        InvalidSetting: the rows have no such metric.
    """
    frame = comparable(frame)
    find(metric, numbers(frame))
    good = frame.filter(pl.col("error").is_null() & pl.col(metric).is_not_null())
    columns = ["codec", "image_id", "quality", _RATE, metric]
    return good.select(columns).unique(["codec", "image_id", "quality"]).sort("codec", "image_id", _RATE, "quality")


def mean_curves(frame: pl.DataFrame, metric: str) -> pl.DataFrame:
    """The mean curve of every codec: ``codec, quality, images, bits_per_pixel`` and the metric, in order of rate.

    Arithmetic means over images at each quality. An image that lacks any of its codec's qualities, because that cell
    failed or has not been run, is left out of all: a mean over other images at every point is not a curve.
    """
    points = image_curves(frame, metric)
    qualities = points.group_by("codec").agg(needed=pl.col("quality").n_unique())
    present = points.group_by("codec", "image_id").agg(present=pl.len())
    whole = present.join(qualities, on="codec").filter(pl.col("present") == pl.col("needed"))
    means = (
        points.join(whole, on=["codec", "image_id"], how="semi")
        .group_by("codec", "quality")
        .agg(pl.len().alias("images"), pl.col(_RATE).mean(), pl.col(metric).mean())
    )
    return means.sort("codec", _RATE, "quality")


def bd_rates(
    frame: pl.DataFrame, metric: str, reference: str | None = None, *, min_overlap: float = 0.5
) -> pl.DataFrame:
    """BD-rate of every codec against ``reference`` on one metric.

    Computed for each image and averaged over images, as is done over sequences in video: images differ far more in rate
    than codecs do. Returns ``codec, reference, bd_rate`` (percent; null where it cannot be told), ``images`` (that it
    is the mean of), ``overlap`` (mean over images) and ``reason`` (the commonest, of images that could not be compared;
    null if all could).

    Raises:
        InvalidSetting: no such metric or codec in these rows.
    """
    frame = comparable(frame)
    points = image_curves(frame, metric)
    present = sorted(frame["codec"].unique())
    reference = reference or next(iter(present), "")
    if reference not in present:
        raise InvalidSetting(f"no codec {reference!r} in this sweep. {close_matches(reference, present)}")
    sign = find(metric, numbers(frame)).sign
    curves = {
        (codec, image): (points_of[_RATE].to_numpy(), sign * points_of[metric].to_numpy())
        for (codec, image), points_of in points.group_by("codec", "image_id")
    }
    images = sorted(frame["image_id"].unique())
    empty = (np.empty(0), np.empty(0))
    rows = []
    for codec in present:
        found = [
            bd_rate(curves.get((reference, image), empty), curves.get((codec, image), empty), min_overlap=min_overlap)
            for image in images
        ]
        rows.append({"codec": codec, "reference": reference, **_mean_bd_rate(found)})
    return pl.DataFrame(
        rows,
        schema={
            "codec": pl.String,
            "reference": pl.String,
            "bd_rate": pl.Float64,
            "images": pl.Int64,
            "overlap": pl.Float64,
            "reason": pl.String,
        },
    )


def _mean_bd_rate(found: Sequence[BDRate]) -> dict[str, Any]:
    told = [result for result in found if result.reason is None]
    reasons = sorted(result.reason for result in found if result.reason is not None)
    return {
        "bd_rate": float(np.mean([result.percent for result in told])) if told else None,
        "images": len(told),
        "overlap": float(np.mean([result.overlap for result in found])) if found else None,
        "reason": max(reasons, key=reasons.count) if reasons else None,
    }


def summary_table(frame: pl.DataFrame, reference: str | None = None) -> pl.DataFrame:
    """One row per codec.

    ========================================  ==================================================================
    ``codec, cells, errors``                  all cells, and those that failed
    ``images, qualities``                     distinct ones
    ``bits_per_pixel_min, _max``              least and greatest mean over images at one quality
    ``<metric>_min, _max``                    likewise
    ``encode_ms_per_megapixel``, ``decode_…`` CPU time, all of it over all pixels
    ``bd_rate_<metric>``                      percent against ``reference`` (by default the first codec by name);
                                              null where :func:`bd_rates` gives a reason
    ========================================  ==================================================================

    Raises:
        InvalidSetting: no such reference in these rows.
        InvalidSample: see :func:`metric_definitions`.
    """
    frame = comparable(frame)
    metrics = _main(frame)
    good = pl.col("error").is_null()
    megapixels = (pl.col("height") * pl.col("width")).filter(good).sum() / 1e6
    counts = frame.group_by("codec").agg(
        pl.len().alias("cells"),
        (~good).sum().alias("errors"),
        pl.col("image_id").n_unique().alias("images"),
        pl.col("quality").n_unique().alias("qualities"),
    )
    means = frame.filter(good).group_by("codec", "quality").agg(pl.col(_RATE, *metrics).mean())
    ends = [
        end.name.suffix(name)
        for end, name in ((pl.col(_RATE, *metrics).min(), "_min"), (pl.col(_RATE, *metrics).max(), "_max"))
    ]
    ranges = means.group_by("codec").agg(ends)
    costs = frame.group_by("codec").agg(
        (1e3 * pl.col(f"{step}_cpu_s").filter(good).sum() / megapixels).fill_nan(None).alias(f"{step}_ms_per_megapixel")
        for step in ("encode", "decode")
    )
    table = counts.join(ranges, on="codec", how="left").join(costs, on="codec", how="left")
    for metric in metrics:
        compared = bd_rates(frame, metric, reference).select("codec", pl.col("bd_rate").alias(f"bd_rate_{metric}"))
        table = table.join(compared, on="codec", how="left")
    return table.sort("codec")


def plot(frame: pl.DataFrame, path: str | Path) -> None:
    """Draw rate-distortion curves into the file ``path``, in the format of its suffix (PNG, SVG, PDF).

    One panel per metric of one number and per task's main number; see :func:`curves_figure`.

    Raises:
        InvalidSetting: there is no good cell to draw.
        InvalidSample: see :func:`metric_definitions`.
    """
    curves_figure(frame, _main(comparable(frame))).savefig(path)


def curves_figure(frame: pl.DataFrame, metrics: Sequence[str]) -> Figure:
    """A figure with a panel per metric, one colour per codec.

    The mean curve has a mark at each quality; faintly, the curves of single images (at most 24 a codec, evenly chosen).

    Raises:
        InvalidSetting: there is no good cell to draw.
    """
    frame = comparable(frame)
    titles = {number.column: number.title for number in numbers(frame)}
    points = {metric: image_curves(frame, metric) for metric in metrics}
    means = {metric: mean_curves(frame, metric) for metric in metrics}
    if not any(curves.height for curves in points.values()):
        raise InvalidSetting("nothing to draw: this sweep has no cell without an error. Look at its column 'error'.")
    columns = min(3, len(metrics))
    lines = -(-len(metrics) // columns)
    figure = Figure(figsize=(_PANEL[0] * columns, _PANEL[1] * lines + 0.6), dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(lines, columns, squeeze=False, sharex=True).ravel()
    drawn = styles(frame["codec"].unique())
    for panel, metric in zip(panels, metrics, strict=False):
        _draw(panel, points[metric], means[metric], drawn)
        _dress(panel, titles[metric])
    for panel in panels[len(metrics) :]:
        panel.remove()
    legend = _legend(drawn, pl.concat([curves["images"] for curves in means.values()]))
    beside, size = (5, 12) if columns > 1 else (2, 10)  # as many as fit into the width
    figure.legend(
        handles=legend, loc="outside upper center", ncols=min(beside, len(legend)), frameon=False, fontsize=size
    )
    return figure


def styles(present: Iterable[str]) -> dict[str, tuple[str, str]]:
    """Colour and mark of each codec."""
    return {codec: _STYLES[index % len(_STYLES)] for index, codec in enumerate(sorted(present))}


def _main(frame: pl.DataFrame) -> list[str]:
    """Columns that have a panel, a range and a BD-rate; a task's only where a cell has it."""
    found = [number.column for number in numbers(frame) if number.main]
    return [column for column in found if frame[column].is_not_null().any()] or found


def _draw(panel: Axes, points: pl.DataFrame, means: pl.DataFrame, styles: Mapping[str, tuple[str, str]]) -> None:
    """Faint curves of images below, mean curves with marks above. The last column of both frames is the metric."""
    for (codec,), of_codec in points.group_by("codec", maintain_order=True):
        images = of_codec["image_id"].unique(maintain_order=True).to_list()
        chosen = images[:: -(-len(images) // _FAINT_CURVES)]
        for image in chosen:
            curve = of_codec.filter(pl.col("image_id") == image)
            panel.plot(*curve[:, -2:], color=styles[str(codec)][0], alpha=0.28, linewidth=1.0, zorder=2)
    for (codec,), curve in means.group_by("codec", maintain_order=True):
        panel.plot(*curve[:, -2:], zorder=3, **_bold(*styles[str(codec)]))


def _bold(colour: str, marker: str) -> dict[str, Any]:
    white_rim = {"markeredgecolor": "white", "markeredgewidth": 0.8}
    return {"color": colour, "marker": marker, "linewidth": 2.4, "markersize": 6.5, **white_rim}


def _dress(panel: Axes, title: str) -> None:
    panel.set_xscale("log")
    low, high = panel.get_xlim()
    steps = (1, 2, 5) if high / low < _WIDE_RANGE else (1, 3)  # as many labels as fit beside each other
    panel.xaxis.set_major_locator(LogLocator(base=10, subs=steps, numticks=20))
    panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    panel.xaxis.set_minor_locator(NullLocator())
    panel.yaxis.set_major_locator(MaxNLocator(nbins=8, steps=[1, 2, 5, 10]))
    panel.set_xlabel("Rate, bits per pixel", fontsize=12)
    panel.set_ylabel(title, fontsize=12)
    panel.tick_params(labelsize=11, color="0.6", labelbottom=True)
    panel.grid(True, color="0.9", linewidth=0.8)
    panel.set_axisbelow(True)
    panel.spines[["top", "right"]].set_visible(False)
    panel.spines[["left", "bottom"]].set_color("0.6")


def _legend(styles: Mapping[str, tuple[str, str]], images: pl.Series) -> list[Line2D]:
    """One entry per codec, and one for what the two kinds of lines are."""
    entries = [Line2D([], [], label=codec_label(codec), **_bold(*style)) for codec, style in styles.items()]
    if images.len():
        fewest, most = (f"{count:d}" for count in (min(images), max(images)))
        counts = most if fewest == most else f"{fewest} to {most}"
        noun = "image" if counts == "1" else "images"
        entries.append(Line2D([], [], color="0.3", linewidth=2.4, label=f"mean of {counts} {noun}"))
    entries.append(Line2D([], [], color="0.3", alpha=0.4, linewidth=1.0, label="single images"))
    return entries


def codec_label(codec: str) -> str:
    """The codec's title; what comparable() put behind its name stays."""
    name, mark, rest = codec.partition(",")
    return codecs.get(name).title + mark + rest if name in plugins.names(codecs.GROUP) else codec
