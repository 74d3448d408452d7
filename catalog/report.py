"""A report on a data set: one HTML file with what is in it, what is missing, what comes twice, and how values lie.

Scalars are summed up in full, from the Parquet columns. Values of arrays are read from samples that are spread evenly over
the selection, and the report says how many those were.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from sensorium.catalog.preview import contact_sheet
from sensorium.platform.errors import UserError
from sensorium.platform.progress import progress
from sensorium.platform.tables import human_bytes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from sensorium.catalog.dataset import Dataset
    from sensorium.catalog.selection import Selection

__all__ = ["ArraySummary", "ScalarSummary", "Summary", "report", "summary"]

#: samples whose arrays are read
_READ = 64
#: values of a scalar that are counted one by one; others are a distribution, or too many to show
_CLASSES = 30
_BINS = 30
#: groups of equal samples that are listed
_SHOWN = 20


@dataclass(frozen=True)
class ScalarSummary:
    """A scalar field.

    Attributes:
        name, kind, unit: of the field.
        missing: samples without a value.
        distinct: different values.
        minimum, mean, maximum: of numbers; None for others.
        counts: of each value, most frequent first, where there are few.
        histogram: edges and counts, of numbers with many values.
    """

    name: str
    kind: str
    unit: str
    missing: int
    distinct: int
    minimum: float | None = None
    mean: float | None = None
    maximum: float | None = None
    counts: tuple[tuple[str, int], ...] = ()
    histogram: tuple[tuple[float, ...], tuple[int, ...]] | None = None


@dataclass(frozen=True)
class ArraySummary:
    """An array field.

    Attributes:
        name, unit: of the field.
        missing: samples without it.
        shapes: number of samples by dtype and shape, most frequent first.
        nbytes: of all of them.
        repeated: groups of ids whose arrays are equal, by checksum.
        read: samples whose values were looked at.
        minimum, mean, maximum: of those values.
        not_finite: of those values, NaN or infinite.
    """

    name: str
    unit: str
    missing: int
    shapes: tuple[tuple[str, int], ...]
    nbytes: int
    repeated: tuple[tuple[str, ...], ...]
    read: int
    minimum: float | None
    mean: float | None
    maximum: float | None
    not_finite: int


@dataclass(frozen=True)
class Summary:
    """What is in a selection.

    Attributes:
        samples: number of them.
        scalars, arrays: by field.
    """

    samples: int
    scalars: tuple[ScalarSummary, ...]
    arrays: tuple[ArraySummary, ...]


def summary(selection: Selection) -> Summary:
    """Sum a selection up."""
    declaration = selection.declaration
    frame = selection.rows
    arrays = [name for name in selection.fields if name in declaration.arrays]
    scalars = [
        _scalar(frame[name], getattr(declaration.known(name), "unit", ""))
        for name in selection.fields
        if name in declaration.scalars
    ]
    values = _values(selection, arrays)
    return Summary(
        frame.height,
        tuple(scalars),
        tuple(_array(frame.select("id", name), name, declaration.arrays[name].unit, values[name]) for name in arrays),
    )


def _scalar(column: pl.Series, unit: str) -> ScalarSummary:
    known = column.drop_nulls()
    nested = isinstance(column.dtype, pl.List | pl.Struct)
    distinct = known.n_unique() if not nested else 0
    found = ScalarSummary(column.name, str(column.dtype), unit, column.null_count(), distinct)
    if nested or known.is_empty():
        return found
    extremes: dict[str, Any] = {}
    if column.dtype.is_numeric():
        finite = known.cast(pl.Float64).drop_nans()
        extremes = {"minimum": finite.min(), "mean": finite.mean(), "maximum": finite.max()}
    if distinct <= _CLASSES:
        counted = known.value_counts(sort=True)
        extremes["counts"] = tuple((str(value), int(count)) for value, count in counted.iter_rows())
    elif column.dtype.is_numeric():
        finite = finite.filter(finite.is_finite())
        counts, edges = np.histogram(finite.to_numpy(), bins=_BINS)
        extremes["histogram"] = tuple(edges.tolist()), tuple(counts.tolist())
    return ScalarSummary(found.name, found.kind, found.unit, found.missing, found.distinct, **extremes)


def _values(selection: Selection, arrays: Sequence[str]) -> dict[str, list[Any]]:
    """Minimum, sum, maximum, finite and other values of each array that was read, by field."""
    found: dict[str, list[Any]] = {name: [] for name in arrays}
    total = len(selection)
    count = min(_READ, total) if arrays else 0
    with progress(f"report {selection.name}", total=count, unit="samples") as bar:
        for index in range(count):
            sample = selection[index * total // count]
            for name in arrays:
                if name in sample:
                    found[name].append(_range(np.asarray(sample[name])))
            bar.advance()
    return found


def _range(array: np.ndarray) -> tuple[float, float, float, int, int]:
    values = np.abs(array) if array.dtype.kind == "c" else array
    finite = values[np.isfinite(values)] if values.dtype.kind == "f" else values
    other = values.size - finite.size
    if not finite.size:
        return np.inf, 0.0, -np.inf, 0, other
    return float(finite.min()), float(finite.sum(dtype=np.float64)), float(finite.max()), finite.size, other


def _array(rows: pl.DataFrame, name: str, unit: str, values: Sequence[Any]) -> ArraySummary:
    present = rows.drop_nulls(name).select("id", pl.col(name).struct.unnest())
    form = pl.col("dtype") + " [" + pl.col("shape").cast(pl.List(pl.String)).list.join(", ") + "]"
    shapes = present.select(form.alias("form"))["form"].value_counts(sort=True) if present.height else pl.DataFrame()
    groups = (
        present.group_by("checksum", maintain_order=True).agg(pl.col("id").sort()).filter(pl.col("id").list.len() > 1)
    )
    number = sum(one[3] for one in values)
    return ArraySummary(
        name,
        unit,
        rows.height - present.height,
        tuple((str(text), int(count)) for text, count in shapes.iter_rows()),
        int(present["nbytes"].sum()),
        tuple(tuple(ids) for ids in groups["id"].to_list()),
        len(values),
        min(one[0] for one in values) if number else None,
        sum(one[1] for one in values) / number if number else None,
        max(one[2] for one in values) if number else None,
        sum(one[4] for one in values),
    )


# -- as a page ---------------------------------------------------------------------------------------------------------

_STYLE = """body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:70rem;padding:0 1rem;color:#1a1d21;background:#fff}
h1{font-size:1.5rem}h2{font-size:1.15rem;margin-top:2rem}table{border-collapse:collapse;margin:.5rem 0}
th,td{text-align:left;padding:.2rem .8rem .2rem 0;border-bottom:1px solid #d9dde2;vertical-align:top}
td.n{text-align:right;font-variant-numeric:tabular-nums}img{max-width:100%}.b{display:inline-block;height:.7em;background:#3366aa}
.w{color:#a33000}div.t{overflow-x:auto}"""


def report(dataset: Dataset, selection: Selection, path: Path) -> Path:
    """Write the report of ``selection`` to ``path``, one HTML file that needs no other.

    Raises:
        UserError: the selection is empty, or the file cannot be written.
    """
    if len(selection) == 0:
        raise UserError(f"data set {selection.name!r}: nothing to report, the selection is empty.")
    found = summary(selection)
    declaration = selection.declaration
    title = f"{selection.name}@{selection.version}"
    size = human_bytes(sum(one.nbytes for one in found.arrays))
    parts = [
        f"<h1>{escape(title)}</h1>",
        f"<p>{escape(declaration.description)}</p>" if declaration.description else "",
        f"<p>{found.samples} samples of modality {escape(declaration.modality_name)}, {size} of payload; licence: "
        f"{escape(declaration.licence or 'not stated')}.</p>",
        *_sheet(selection),
        *_scalars(found),
        *_arrays(found),
        *_rules(dataset),
    ]
    page = (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width,initial-scale=1"><style>{_STYLE}</style></head>'
        f"<body>{''.join(parts)}</body></html>\n"
    )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(page, encoding="utf-8")
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error}. Give another place.") from error
    return path


def _sheet(selection: Selection) -> Iterator[str]:
    if selection.declaration.modality.preview is None:
        return
    with TemporaryDirectory() as folder:
        content = contact_sheet(selection, Path(folder) / "sheet.png").read_bytes()
    yield f'<img alt="Some of the samples" src="{_url(content)}">'


def _url(content: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(content).decode()}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table; cells are HTML."""
    titles = "".join(f"<th>{escape(one)}</th>" for one in head)
    lines = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return f'<div class="t"><table><thead><tr>{titles}</tr></thead><tbody>{lines}</tbody></table></div>'


def _number(value: float | None, unit: str = "") -> str:
    return "" if value is None else f"{value:.6g}{' ' + escape(unit) if unit else ''}"


def _missing(count: int, total: int) -> str:
    return f'<span class="w">{count} ({count / total:.1%})</span>' if count else "0"


def _scalars(found: Summary) -> Iterator[str]:
    if not found.scalars:
        return
    rows = [
        [
            escape(one.name),
            escape(one.kind),
            _missing(one.missing, found.samples),
            str(one.distinct),
            _number(one.minimum, one.unit),
            _number(one.mean, one.unit),
            _number(one.maximum, one.unit),
        ]
        for one in found.scalars
    ]
    yield "<h2>Values of samples</h2>"
    yield _table(["Field", "Type", "Missing", "Distinct", "Least", "Mean", "Greatest"], rows)
    for one in found.scalars:
        if len(one.counts) > 1:
            yield f"<h3>{escape(one.name)}</h3>" + _balance(one, found.samples)
        elif one.histogram is not None:
            yield f"<h3>{escape(one.name)}</h3>" + _distribution(one)


def _balance(one: ScalarSummary, total: int) -> str:
    most = max(count for _, count in one.counts)
    rows = [
        [
            escape(value[:80]),
            str(count),
            f"{count / total:.1%}",
            f'<span class="b" style="width:{160 * count / most:.0f}px"></span>',
        ]
        for value, count in one.counts
    ]
    return _table(["Value", "Samples", "Share", ""], rows)


def _distribution(one: ScalarSummary) -> str:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    edges, counts = one.histogram or ((), ())
    figure = Figure(figsize=(5, 1.8), layout="constrained", dpi=110)
    FigureCanvasAgg(figure)
    axes: Axes = figure.add_subplot()
    axes.bar(edges[:-1], counts, width=np.diff(edges), align="edge", color="#3366aa")
    axes.set_xlabel(f"{one.name} ({one.unit})" if one.unit else one.name)
    axes.set_ylabel("samples")
    content = io.BytesIO()
    figure.savefig(content, format="png")
    return f'<img alt="Distribution of {escape(one.name, quote=True)}" src="{_url(content.getvalue())}">'


def _arrays(found: Summary) -> Iterator[str]:
    if not found.arrays:
        return
    yield "<h2>Arrays</h2>"
    rows = [
        [
            escape(one.name),
            _missing(one.missing, found.samples),
            human_bytes(one.nbytes),
            "<br>".join(f"{escape(form)}: {count}" for form, count in one.shapes[:6])
            + (f"<br>and {len(one.shapes) - 6} other forms" if len(one.shapes) > 6 else ""),
            f"{_number(one.minimum)} to {_number(one.maximum, one.unit)}, mean {_number(one.mean)}"
            if one.minimum is not None
            else "",
            f'<span class="w">{one.not_finite}</span>' if one.not_finite else "0",
            str(one.read),
        ]
        for one in found.arrays
    ]
    yield _table(["Field", "Missing", "Size", "Forms", "Values", "NaN or infinite", "Samples read for values"], rows)
    for one in found.arrays:
        if one.repeated:
            copies = sum(len(group) - 1 for group in one.repeated)
            yield f"<h3>{copies} copies among {escape(one.name)}</h3><p>Equal to the last bit:</p><ul>"
            yield "".join(f"<li>{escape(', '.join(group[:8]))}</li>" for group in one.repeated[:_SHOWN])
            yield "</ul>"
            if len(one.repeated) > _SHOWN:
                yield f"<p>and {len(one.repeated) - _SHOWN} more groups.</p>"


def _rules(dataset: Dataset) -> Iterator[str]:
    asked = dataset.rules
    if not asked:
        return
    broken = dataset.check()["rule"].to_list()
    aside = dataset.quarantine()["quarantine_rule"].to_list()
    rows = [
        [
            escape(rule.name),
            escape(rule.check),
            rule.action,
            str(broken.count(rule.name)),
            str(aside.count(rule.name)),
        ]
        for rule in asked
    ]
    yield "<h2>Rules</h2>"
    yield _table(["Rule", "Check", "Action", "Samples that break it", "In quarantine"], rows)
