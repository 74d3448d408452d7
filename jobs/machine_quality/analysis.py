"""From the table of a sweep to rate-distortion curves, BD-rates, a summary and a figure.

Everything here takes the rows of :mod:`sensorium.jobs.machine_quality.cells` as a polars frame. Rates are bits per
pixel of payload.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from sensorium.jobs import codecs, image_metrics
from sensorium.platform import plugins
from sensorium.platform.errors import InvalidSample, InvalidSetting, close_matches

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = [
    "BDRate",
    "bd_rate",
    "bd_rates",
    "image_curves",
    "mean_curves",
    "metric_definitions",
    "pareto",
    "plot",
    "summary_table",
]

_RATE = "bits_per_pixel"

#: Fewest points of a curve that :func:`bd_rate` takes, after dominated points are left out.
_FEWEST_POINTS = 3

# The figure: colours that stay apart for colour-blind readers (Okabe and Ito, 2008) and marks that do in print.
_STYLES = [
    ("#0072B2", "o"),
    ("#D55E00", "s"),
    ("#009E73", "^"),
    ("#CC79A7", "D"),
    ("#E69F00", "v"),
    ("#56B4E9", "P"),
    ("#000000", "X"),
]
_PANEL = (4.8, 4.2)  # inches
_DPI = 150
_FAINT_CURVES = 24
_WIDE_RANGE = 200


@dataclass(frozen=True)
class BDRate:
    """How much more or less rate one codec needs for the same quality.

    Attributes:
        percent: mean difference in rate; -50 is half the reference's rate. NaN where it cannot be told.
        overlap: the range of quality that both curves cover, as a part of the smaller of their two ranges; 0 to 1.
        reason: why ``percent`` is NaN; otherwise None.
    """

    percent: float
    overlap: float
    reason: str | None = None


def metric_definitions(frame: pl.DataFrame) -> dict[str, str]:
    """The metrics of a sweep's rows with their definitions, by name.

    Raises:
        InvalidSample: the rows mix definitions of one metric, or settings or versions of one codec: values that must
            not be compared as if they were of one kind.
    """
    definitions: dict[str, str] = {}
    for text in sorted(frame["metric_definitions"].unique()):
        for name, definition in json.loads(text).items():
            if definitions.setdefault(name, definition) != definition:
                raise InvalidSample(
                    f"these rows hold metric {name!r} in two definitions, {definitions[name]!r} and {definition!r}. "
                    "Select one of them by metric_definitions."
                )
    for column in ("encoder_arguments", "codec_version"):
        mixed = frame.group_by("codec").agg(pl.col(column).unique().sort()).filter(pl.col(column).list.len() > 1)
        if mixed.height:
            codec, values = mixed.sort("codec").row(0)
            raise InvalidSample(f"these rows hold codec {codec!r} with several {column}: {values}. Select one of them.")
    return dict(sorted(definitions.items()))


def image_curves(frame: pl.DataFrame, metric: str) -> pl.DataFrame:
    """The points of every image's curve: ``codec, image_id, quality, bits_per_pixel`` and the metric, in order of rate.

    Failed cells are left out.

    Raises:
        InvalidSetting: the rows have no such metric.
    """
    if metric not in metric_definitions(frame):
        raise InvalidSetting(f"no metric {metric!r} in this sweep. {close_matches(metric, metric_definitions(frame))}")
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


def pareto(rate: np.ndarray, quality: np.ndarray) -> np.ndarray:
    """Indices of the points [N] that no other point beats, in order of rate.

    A point is beaten by one of no higher rate and no lower quality. What is left rises strictly in both: real curves do
    not always (x264 spends more bytes at QP 1 than on lossless coding).
    """
    order = np.lexsort((-quality, rate))
    before = np.concatenate([[-np.inf], np.maximum.accumulate(quality[order])[:-1]])
    kept: np.ndarray = order[quality[order] > before]
    return kept


def bd_rate(
    reference: tuple[np.ndarray, np.ndarray], test: tuple[np.ndarray, np.ndarray], *, min_overlap: float = 0.5
) -> BDRate:
    """Bjontegaard's mean difference in rate of ``test`` against ``reference``.

    G. Bjontegaard, "Calculation of average PSNR differences between RD-curves", ITU-T VCEG-M33, 2001. Log rate is a
    function of quality, interpolated by monotone piecewise cubics rather than by one cubic over all points, as in the
    common test conditions of the video groups since HEVC, and averaged over the range of quality that both cover.
    Points that others beat are left out first (:func:`pareto`).

    Args:
        reference: rates [N], greater than 0, and qualities [N], higher is better; points in any order.
        test: likewise.
        min_overlap: least ``overlap`` for an answer; below, a curve's end would speak for the whole.
    """
    curves = [_as_curve(*curve) for curve in (reference, test)]
    if min(len(quality) for quality, _ in curves) < _FEWEST_POINTS:
        sizes = " and ".join(str(len(quality)) for quality, _ in curves)
        return BDRate(math.nan, 0.0, f"at least {_FEWEST_POINTS} points a curve are needed; there are {sizes}")
    low = max(quality[0] for quality, _ in curves)
    high = min(quality[-1] for quality, _ in curves)
    overlap = max(0.0, float((high - low) / min(quality[-1] - quality[0] for quality, _ in curves)))
    if overlap <= 0 or overlap < min_overlap:
        return BDRate(
            math.nan, overlap, f"the curves share {overlap:.0%} of the shorter's range; needed {min_overlap:.0%}"
        )
    base, other = (_pchip_integral(quality, log_rate, low, high) for quality, log_rate in curves)
    return BDRate(100 * math.expm1((other - base) / (high - low)), overlap)


def _as_curve(rate: np.ndarray, quality: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Quality, strictly rising, and natural logarithm of rate, of the points worth keeping."""
    rate, quality = np.asarray(rate, np.float64), np.asarray(quality, np.float64)
    usable = (rate > 0) & np.isfinite(rate) & np.isfinite(quality)
    rate, quality = rate[usable], quality[usable]
    kept = pareto(rate, quality)
    return quality[kept], np.log(rate[kept])


def _pchip_slopes(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Derivatives [N] at the knots of the monotone cubic through (x, y), N >= 3.

    F. N. Fritsch, J. Butland, "A method for constructing local monotone piecewise cubic interpolants", SIAM J. Sci.
    Stat. Comput. 5(2), 1984: a weighted harmonic mean of the neighbouring slopes inside, 0 where they differ in sign,
    and at the ends the derivative of a parabola through three points, kept from overshooting.
    """
    step = np.diff(x)
    slope = np.diff(y) / step
    left, right = slope[:-1], slope[1:]
    weight_left, weight_right = 2 * step[1:] + step[:-1], step[1:] + 2 * step[:-1]
    same = left * right > 0
    safe_left, safe_right = np.where(same, left, 1.0), np.where(same, right, 1.0)
    inner = np.where(same, (weight_left + weight_right) / (weight_left / safe_left + weight_right / safe_right), 0.0)
    return np.concatenate([[_end_slope(step, slope)], inner, [_end_slope(step[::-1], slope[::-1])]])


def _end_slope(step: np.ndarray, slope: np.ndarray) -> float:
    derivative = ((2 * step[0] + step[1]) * slope[0] - step[0] * slope[1]) / (step[0] + step[1])
    if derivative * slope[0] <= 0:
        return 0.0
    if slope[0] * slope[1] <= 0 and abs(derivative) > 3 * abs(slope[0]):
        return float(3 * slope[0])
    return float(derivative)


def _pchip_integral(x: np.ndarray, y: np.ndarray, low: float, high: float) -> float:
    """Integral from ``low`` to ``high``, both within ``x``, of the monotone cubic through (x, y)."""
    step = np.diff(x)
    slope = np.diff(y) / step
    slopes = _pchip_slopes(x, y)
    start, end = slopes[:-1], slopes[1:]
    square = (3 * slope - 2 * start - end) / step
    cube = (start + end - 2 * slope) / step**2
    first = np.clip(low - x[:-1], 0, step)  # the part of each piece that counts, from its left knot
    last = np.clip(high - x[:-1], 0, step)

    def antiderivative(t: np.ndarray) -> np.ndarray:
        area: np.ndarray = t * (y[:-1] + t * (start / 2 + t * (square / 3 + t * cube / 4)))
        return area

    return float(np.sum(antiderivative(last) - antiderivative(first)))


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
    points = image_curves(frame, metric)
    present = sorted(frame["codec"].unique())
    reference = reference or next(iter(present), "")
    if reference not in present:
        raise InvalidSetting(f"no codec {reference!r} in this sweep. {close_matches(reference, present)}")
    sign = 1.0 if image_metrics.get(metric).higher_is_better else -1.0
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
    metrics = list(metric_definitions(frame))
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

    One panel per metric, one colour per codec: the mean curve with a mark at each quality and, faintly, the curves of
    single images (at most 24 a codec, evenly chosen).

    Raises:
        InvalidSetting: there is no good cell to draw.
        InvalidSample: see :func:`metric_definitions`.
    """
    metrics = list(metric_definitions(frame))
    points = {metric: image_curves(frame, metric) for metric in metrics}
    means = {metric: mean_curves(frame, metric) for metric in metrics}
    if not any(curves.height for curves in points.values()):
        raise InvalidSetting("nothing to draw: this sweep has no cell without an error. Look at its column 'error'.")
    columns = min(3, len(metrics))
    lines = -(-len(metrics) // columns)
    figure = Figure(figsize=(_PANEL[0] * columns, _PANEL[1] * lines + 0.6), dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(lines, columns, squeeze=False, sharex=True).ravel()
    styles = {codec: _STYLES[index % len(_STYLES)] for index, codec in enumerate(sorted(frame["codec"].unique()))}
    for panel, metric in zip(panels, metrics, strict=False):
        _draw(panel, points[metric], means[metric], styles)
        _dress(panel, metric)
    for panel in panels[len(metrics) :]:
        panel.remove()
    legend = _legend(styles, pl.concat([curves["images"] for curves in means.values()]))
    figure.legend(handles=legend, loc="outside upper center", ncols=min(5, len(legend)), frameon=False, fontsize=12)
    figure.savefig(path)


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


def _dress(panel: Axes, metric: str) -> None:
    panel.set_xscale("log")
    low, high = panel.get_xlim()
    steps = (1, 2, 5) if high / low < _WIDE_RANGE else (1, 3)  # as many labels as fit beside each other
    panel.xaxis.set_major_locator(LogLocator(base=10, subs=steps, numticks=20))
    panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    panel.xaxis.set_minor_locator(NullLocator())
    panel.yaxis.set_major_locator(MaxNLocator(nbins=8, steps=[1, 2, 5, 10]))
    panel.set_xlabel("Rate, bits per pixel", fontsize=12)
    panel.set_ylabel(_axis_label(metric), fontsize=12)
    panel.tick_params(labelsize=11, color="0.6", labelbottom=True)
    panel.grid(True, color="0.9", linewidth=0.8)
    panel.set_axisbelow(True)
    panel.spines[["top", "right"]].set_visible(False)
    panel.spines[["left", "bottom"]].set_color("0.6")


def _legend(styles: Mapping[str, tuple[str, str]], images: pl.Series) -> list[Line2D]:
    """One entry per codec, and one for what the two kinds of lines are."""
    entries = [Line2D([], [], label=_codec_label(codec), **_bold(*style)) for codec, style in styles.items()]
    if images.len():
        fewest, most = (f"{count:d}" for count in (min(images), max(images)))
        counts = most if fewest == most else f"{fewest} to {most}"
        noun = "image" if counts == "1" else "images"
        entries.append(Line2D([], [], color="0.3", linewidth=2.4, label=f"mean of {counts} {noun}"))
    entries.append(Line2D([], [], color="0.3", alpha=0.4, linewidth=1.0, label="single images"))
    return entries


def _axis_label(metric: str) -> str:
    known = image_metrics.get(metric)
    return f"{known.title}, {known.unit}" if known.unit else known.title


def _codec_label(codec: str) -> str:
    return codecs.get(codec).title if codec in plugins.names(codecs.GROUP) else codec
