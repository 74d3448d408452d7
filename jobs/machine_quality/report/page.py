"""The report as one HTML file: nothing outside it is asked for; whatever comes from data is escaped."""

from __future__ import annotations

import base64
import math
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from html import escape
from typing import Any

import polars as pl

from sensorium.jobs.machine_quality.report.content import Content
from sensorium.jobs.machine_quality.report.correlations import ALL, INTERVAL_ROWS
from sensorium.jobs.machine_quality.report.worst import Case

__all__ = ["page"]

_STYLE = """
:root{color-scheme:light dark;--line:#ccc;--faint:#666;--card:#f6f6f4}
@media(prefers-color-scheme:dark){:root{--line:#444;--faint:#aaa;--card:#222}}
body{font:16px/1.5 system-ui,sans-serif;margin:0 auto;max-width:72rem;padding:1rem}
h1{font-size:1.5rem}h2{font-size:1.2rem;margin-top:2.2rem;border-bottom:1px solid var(--line)}
p.note,figcaption,small{color:var(--faint)}
.wide{overflow-x:auto}table{border-collapse:collapse;font-size:.88rem}
th,td{padding:.25rem .6rem;text-align:left;border-bottom:1px solid var(--line);vertical-align:top}
td.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
th button{all:unset;cursor:pointer;font-weight:600}th button:focus-visible{outline:2px solid}
tr.best td{font-weight:600;background:var(--card)}
.figures{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,20rem),1fr));gap:1rem}
figure{margin:0;background:var(--card);padding:.5rem;border-radius:.5rem}
figure img{width:100%;height:auto;background:#fff;border-radius:.3rem}figure.case img{image-rendering:pixelated}
nav a{margin-right:.8rem}summary{cursor:pointer}
"""
#: a click on a head sorts by that column, the second time the other way round
_SCRIPT = """
document.querySelectorAll('th button').forEach(b=>b.addEventListener('click',()=>{
const th=b.parentElement,i=[...th.parentElement.children].indexOf(th),body=th.closest('table').tBodies[0];
const up=th.getAttribute('aria-sort')!=='ascending';
th.parentElement.querySelectorAll('th').forEach(o=>o.removeAttribute('aria-sort'));
th.setAttribute('aria-sort',up?'ascending':'descending');
const v=r=>r.children[i].dataset.v??r.children[i].textContent;
[...body.rows].sort((p,q)=>{const a=v(p),b=v(q);if(a===''||b==='')return (a==='')-(b==='');
const d=isNaN(a)||isNaN(b)?a.localeCompare(b):a-b;return up?d:-d}).forEach(r=>body.append(r))}));
"""


def page(content: Content, figures: Mapping[str, bytes]) -> str:
    """The whole document."""
    rows, tables = content.rows, content.tables
    sections = [
        ("recommendation", "Recommendation", _recommendation(content)),
        ("curves", "Rate and quality", _curves(content, figures)),
        ("bd", "BD-rates", _bd(content, figures)),
        ("correlations", "Metrics and tasks", _correlations(content, figures)),
        ("distributions", "Distributions", _distributions(content, figures)),
        ("worst", "Worst cases", _worst(content.cases)),
        ("costs", "Costs", _costs(tables["costs"])),
        ("errors", "Errors", _errors(tables["errors"])),
    ]
    links = "".join(f'<a href="#{anchor}">{escape(title)}</a>' for anchor, title, _ in sections)
    body = "".join(
        f'<section id="{anchor}"><h2>{escape(title)}</h2>{text}</section>' for anchor, title, text in sections
    )
    where = f" where {content.settings.where}" if content.settings.where else ""
    facts = (
        f"{rows.cells.height} cells of {rows.cells['source_id'].n_unique()} images, {len(rows.codecs)} codecs, "
        f"{len(rows.numbers)} numbers each{where}; {datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(rows.name)}: compression sweep</title><style>{_STYLE}</style></head><body>"
        f"<h1>Compression sweep {escape(rows.name)}</h1><p>{escape(facts)}</p>"
        f"{''.join(_note(text) for text in content.notes)}<nav>{links}</nav>{body}<script>{_SCRIPT}</script></body></html>\n"
    )


# -- sections ----------------------------------------------------------------------------------------------------------


def _recommendation(content: Content) -> str:
    table = content.tables["recommendations"]
    if table.is_empty():
        return _note("Nothing was asked for that these rows could answer.")
    halves = "Chosen by one half of the source images, checked on the other half, which took no part in the choice. "
    words = "Rates are mean bits per pixel of payload. The best codec of each question is set in bold."
    order = [
        "question",
        "codec",
        "quality",
        "rate",
        "score",
        "images",
        "rate_checked",
        "score_checked",
        "images_checked",
    ]
    shown = table.select(*order, "holds", "remark")
    return _note(halves + words) + _table(shown, best=table["best"].to_list())


def _curves(content: Content, figures: Mapping[str, bytes]) -> str:
    main = {number.column for number in content.rows.main}
    drawn = {name: image for name, image in figures.items() if name.startswith("curve-")}
    first = {name: image for name, image in drawn.items() if name.removeprefix("curve-") in main}
    others = {name: image for name, image in drawn.items() if name not in first}
    if not drawn:
        return _note("No codec has an image with all of its qualities: there is no curve.")
    words = "Bold: means over the images that have all qualities of the codec. Faint: single images."
    more = f"<details><summary>{len(others)} other numbers</summary>{_grid(others)}</details>" if others else ""
    return _note(words) + _grid(first) + more


def _bd(content: Content, figures: Mapping[str, bytes]) -> str:
    table = content.tables["bd_rates"]
    if table.is_empty():
        return _note("BD-rates compare codecs: there are not two here.")
    words = (
        "Rate that a codec needs more than the reference for the same value, in percent; negative is better. Beaten points "
        "are left out first. Metrics: mean over images of their own BD-rates; tasks: BD-rate of the mean curves. Brackets: "
        f"95 % by bootstrap over source images, {content.settings.repeats} draws. An empty field has a reason beside it."
    )
    matrices = _grid({name: image for name, image in figures.items() if name.startswith("bd-")})
    shown = table.with_columns(interval=_interval("low", "high", 1)).drop("low", "high")
    columns = ["number", "codec", "reference", "bd_rate", "interval", "overlap", "images", "curve", "reason"]
    return _note(words) + matrices + _details("All pairs", shown.select(columns))


def _correlations(content: Content, figures: Mapping[str, bytes]) -> str:
    table = content.tables["correlations"]
    if table.is_empty():
        return _note("No machine task was run in this sweep: there is nothing that metrics could predict.")
    words = (
        "How well each metric orders what a task loses: Spearman (SRCC), Pearson (PLCC), Kendall's tau-b (KRCC); per object "
        "where the task keeps objects, else per cell. The sign follows the senses of the two scales. Brackets: 95 % by "
        f"bootstrap over source images; where there are more rows, from {INTERVAL_ROWS} of them."
    )
    columns = ["number", "metric", "codec", "per", "rows", "images"]
    shown = table.with_columns(
        _interval(f"{name}_low", f"{name}_high", 2).alias(f"{name}_interval") for name in ("srcc", "plcc", "krcc")
    ).select(
        *columns,
        *(f"{name}{end}" for name in ("srcc", "plcc", "krcc") for end in ("", "_interval")),
        "reason",
    )
    overall, single = shown.filter(codec=ALL), shown.filter(pl.col("codec") != ALL)
    drawn = _grid({name: figures[name] for name in ("correlations",) if name in figures})
    return _note(words) + drawn + _table(overall) + (_details("By codec", single) if single.height else "")


def _distributions(content: Content, figures: Mapping[str, bytes]) -> str:
    drawn = {name: image for name, image in figures.items() if name.startswith("distribution-")}
    if not drawn:
        return _note("There are no values to show.")
    table = content.tables["distributions"]
    words = "Codecs are compared fairly where their values cover the same range. Distance: Kolmogorov and Smirnov's, 0 to 1."
    return _note(words) + _grid(drawn) + (_table(table) if table.height else "")


def _worst(cases: Iterable[Case]) -> str:
    blocks = [_case(case) for case in cases]
    if not blocks:
        return _note("None were asked for, or no cell has a value.")
    words = (
        "Reference on the left, decoded on the right, coded again for this report; one of each image and codec at most."
    )
    return _note(words) + f'<div class="figures">{"".join(blocks)}</div>'


def _case(case: Case) -> str:
    row = case.row
    place = f", object {row['object']}" if "object" in row else ""
    words = (
        f"{row['image_id']}{place}: {row['codec']} at {row['quality']}, {row['bits_per_pixel']:.3g} bits per pixel, "
        f"{case.number.column} {case.value:.4g}"
    )
    image = _image(case.picture, words, "case") if case.picture else ""
    note = f"<p class='note'>{escape(case.note)}</p>" if case.note else ""
    return f'<figure class="case">{image}<figcaption>{escape(words)}{note}</figcaption></figure>'


def _costs(table: pl.DataFrame) -> str:
    if table.is_empty():
        return _note("No cell was finished.")
    words = "CPU milliseconds a megapixel, one thread, as the sweep measured them; other work on the machine makes them grow."
    return _note(words) + _table(table)


def _errors(table: pl.DataFrame) -> str:
    return _note("No cell failed.") if table.is_empty() else _table(table)


# -- pieces ------------------------------------------------------------------------------------------------------------


def _note(text: str) -> str:
    return f'<p class="note">{escape(text)}</p>'


def _details(title: str, table: pl.DataFrame) -> str:
    return f"<details><summary>{escape(title)}</summary>{_table(table)}</details>"


def _interval(low: str, high: str, digits: int) -> pl.Expr:
    """Text of an interval; null where there is none."""
    parts = [pl.col(name).round(digits).cast(pl.String) for name in (low, high)]
    return pl.concat_str(pl.lit("["), parts[0], pl.lit(", "), parts[1], pl.lit("]")).alias("interval")


def _table(frame: pl.DataFrame, best: list[bool] | None = None) -> str:
    head = "".join(
        f'<th scope="col"><button type="button">{escape(name.replace("_", " "))}</button></th>'
        for name in frame.columns
    )
    marks = best or [False] * frame.height
    lines = "".join(
        f"<tr{' class=best' if mark else ''}>{''.join(map(_field, row))}</tr>"
        for row, mark in zip(frame.iter_rows(), marks, strict=True)
    )
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table></div>'


def _field(value: Any) -> str:
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return "<td></td>"
    if isinstance(value, bool):
        return f"<td>{'yes' if value else 'no'}</td>"
    if isinstance(value, float):
        return f'<td class="n" data-v="{value!r}">{value:.4g}</td>'
    if isinstance(value, int):
        return f'<td class="n">{value}</td>'
    return f"<td>{escape(str(value))}</td>"


def _grid(images: Mapping[str, bytes]) -> str:
    shown = "".join(f"<figure>{_image(image, name)}</figure>" for name, image in images.items())
    return f'<div class="figures">{shown}</div>' if shown else ""


def _image(png: bytes, words: str, kind: str = "") -> str:
    return f'<img class="{kind}" alt="{escape(words)}" src="data:image/png;base64,{base64.b64encode(png).decode()}">'
