"""What a sweep says, in words and plots: curves, BD-rates, which setting to take. No components here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

import polars as pl

from sensorium.serve.pages import drawing, markup
from sensorium.serve.pages.markup import Html

if TYPE_CHECKING:
    from sensorium.jobs.machine_quality.report.numbers import Number
    from sensorium.jobs.machine_quality.report.rows import SweepRows

__all__ = ["STATISTICS", "answer", "bd_html", "condition_text", "curve_plot", "sentence_of", "summary"]

#: what is asked of the values of single images -> how a condition says it
STATISTICS: Mapping[str, str] = {
    "the mean over images": "",
    "90 % of the images": "p90:",
    "half of the images": "p50:",
    "every image": "p100:",
}


def summary(rows: SweepRows) -> str:
    """What the sweep holds."""
    figures = {
        "cells": markup.text_of(rows.cells.height),
        "images": markup.text_of(rows.cells["source_id"].n_unique()),
        "codecs": markup.text_of(len(rows.codecs)),
        "numbers a cell": markup.text_of(len(rows.numbers)),
        "failed cells": markup.text_of(rows.failed.height),
    }
    errors = rows.errors().head(5)
    told = (
        markup.table(["Codec", "Error", "Cells"], errors.iter_rows(), caption="Commonest errors", shown=True)
        if errors.height
        else ""
    )
    return markup.page(markup.tiles(figures), told)


def curve_plot(rows: SweepRows, number: Number, codecs: Sequence[str], *, logarithmic: bool) -> Any:
    """Mean curves of the codecs: rate against a number; hovering tells the quality."""
    import plotly.graph_objects as go

    from sensorium.jobs.machine_quality import analysis

    curves = analysis.mean_curves(rows.cells, number.column)
    drawn = drawing.figure(x="bits per pixel", y=number.title, height=470)
    styles = analysis.styles(rows.codecs)
    for codec in codecs:
        points = curves.filter(codec=codec)
        if points.is_empty():
            continue
        told = [
            f"quality {quality}, {images} images" for quality, images in points.select("quality", "images").iter_rows()
        ]
        drawn.add_trace(
            go.Scatter(
                x=points["bits_per_pixel"].to_list(),
                y=points[number.column].to_list(),
                name=analysis.codec_label(codec),
                text=told,
                mode="lines+markers",
                line={"color": styles[codec][0], "width": 2.2},
                marker={"size": 7},
                hovertemplate="%{text}<br>%{x:.3g} bits per pixel<br>%{y:.4g}",
            )
        )
    drawn.update_xaxes(type="log" if logarithmic else "linear")
    drawn.update_layout(showlegend=True)
    if not drawn.data:
        words = "No codec has an image with all of its qualities here."
        drawn.add_annotation(text=words, showarrow=False, x=0.5, y=0.5, xref="paper", yref="paper")
    return drawn


def bd_html(table: pl.DataFrame, number: Number, reference: str, codecs: Sequence[str]) -> str:
    """BD-rates of the codecs against one of them, by one number."""
    found = table.filter(pl.col("codec").is_in(codecs), number=number.column, reference=reference)
    if found.is_empty():
        return markup.page(markup.notice("BD-rates compare codecs, by metrics and tasks whose sense is known."))
    rows = [
        [
            row["codec"],
            None if row["bd_rate"] is None else Html(f"{row['bd_rate']:+.1f}&nbsp;%"),
            None if row["low"] is None else Html(f"{row['low']:+.1f} to {row['high']:+.1f}&nbsp;%"),
            row["images"],
            row["reason"],
        ]
        for row in found.sort("bd_rate", nulls_last=True).iter_rows(named=True)
    ]
    words = (
        f"How much more rate than {reference} each codec needs for the same {number.title}: less than 0 is better. "
        "Intervals: 95 %, by bootstrap over the images."
    )
    columns = ["Codec", "BD-rate", "Interval", "Images", "Remark"]
    caption = f"BD-rates against {reference}"
    return markup.page(
        f"<p class='quiet'>{escape(words)}</p>", markup.table(columns, rows, caption=caption, shown=True)
    )


def condition_text(number: Number, statistic: str, bound: float) -> str:
    """A condition as the report's ``--keep`` reads it: at least for numbers of which more is better, else at most."""
    share = STATISTICS[statistic]
    if number.higher_is_better is not False and share:  # that 90 % reach a bound is that the tenth percentile does
        share = f"p{100 - int(share[1:-1])}:"
    return f"{share}{number.column}{'<=' if number.higher_is_better is False else '>='}{bound:g}"


def answer(table: pl.DataFrame) -> str:
    """A recommendation: a sentence, what every codec can do, and whether it holds on images that took no part."""
    best = table.filter("best")
    told = sentence_of(best.row(0, named=True)) if best.height else "No codec can do this in this sweep. Ask for less."
    rows = [
        [
            row["codec"],
            row["quality"],
            row["rate"],
            row["score"],
            row["rate_checked"],
            row["score_checked"],
            {True: "yes", False: "no"}.get(row["holds"], ""),
            row["remark"],
        ]
        for row in table.sort("best", "rate", descending=[True, False], nulls_last=True).iter_rows(named=True)
    ]
    columns = ["Codec", "Quality", "Bits per pixel", "Score", "Rate, checked", "Score, checked", "Holds", "Remark"]
    marked = table.sort("best", "rate", descending=[True, False], nulls_last=True)["best"].to_list()
    caption = f"What each codec can do: {table['question'][0]}" if table.height else "Recommendation"
    shown = markup.table(columns, rows, caption=caption, shown=True, best=marked) if rows else ""
    return markup.page(f'<p role="status"><strong>{escape(told)}</strong></p>', shown)


def sentence_of(best: Mapping[str, Any]) -> str:
    """The best answer in words, with its check on the images that it was not chosen by."""
    taken = (
        f"Take {best['codec']} at quality {best['quality']} ({best['question']}): {best['score']:.4g} at "
        f"{best['rate']:.3g} bits per pixel on the {best['images']} images that it was chosen by."
    )
    if best["holds"] is None:
        return f"{taken} It is {best['remark']}."
    outcome = "It holds there too." if best["holds"] else "It does not hold there: ask for some reserve."
    return (
        f"{taken} On {best['images_checked']} other images: {best['score_checked']:.4g} at {best['rate_checked']:.3g} "
        f"bits per pixel. {outcome}"
    )
