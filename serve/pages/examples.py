"""Examples of queries that suit what is in the lake."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from sensorium.serve.pages.listing import Listing, View

if TYPE_CHECKING:
    from sensorium.catalog.dataset import Dataset

__all__ = ["predicates", "statements"]

#: rows that are looked at for values that occur
_ROWS = 500
#: texts with more characters make no readable example
_LONGEST = 40
_MOST = 6


def predicates(listing: Listing, view: View) -> list[str]:
    """Predicates that choose some, but not all, of the view's data set."""
    key = ("predicates", view.name, view.version)
    return listing.kept(key, lambda: _predicates(listing.dataset(view)))


def _predicates(dataset: Dataset) -> list[str]:
    frame = dataset.select(limit=_ROWS).frame()
    found: list[str] = []
    for name in frame.columns:
        values = frame[name].drop_nulls()
        if name == "id" or values.n_unique() < 2:
            continue
        if values.dtype == pl.String:
            common = values.value_counts(sort=True).row(0)[0]
            if len(common) <= _LONGEST and "\n" not in common:
                found.append(f"{_quoted(name)} = '{common.replace(chr(39), chr(39) * 2)}'")
        elif values.dtype.is_numeric():
            found.append(f"{_quoted(name)} > {values.to_frame().select(pl.first().median()).item():.4g}")
    if frame.height > 1:
        middle = str(frame["id"][frame.height // 2]).replace("'", "''")
        found.append(f"id >= '{middle}'")
    return found[:_MOST]


def statements(listing: Listing) -> list[str]:
    """SELECTs over the data sets that are there."""
    frame = listing.datasets()
    tables = {name: _quoted(name) for name in frame["name"]}
    found = [
        f"SELECT codec, quality, COUNT(*) AS cells, AVG(bits_per_pixel) AS bits_per_pixel FROM {tables[name]} "  # noqa: S608
        "GROUP BY codec, quality ORDER BY codec, bits_per_pixel"
        for name in listing.sweeps()[:1]
    ]
    for name in frame.sort("samples", descending=True)["name"][:2]:
        scalars = listing.catalog[name].declaration.scalars.values()
        texts = [_quoted(field.name) for field in scalars if str(field.type) == "string"]
        found += [
            f"SELECT {text}, COUNT(*) AS samples FROM {tables[name]} GROUP BY {text} ORDER BY samples DESC LIMIT 20"  # noqa: S608
            for text in texts[:1]
        ]
    for name in frame["name"][:2]:
        found += [f"SELECT COUNT(*) AS samples FROM {tables[name]}", f"SELECT id FROM {tables[name]} LIMIT 20"]  # noqa: S608
    for name, version in frame.filter(pl.col("version") > 0).select("name", "version").head(1).iter_rows():
        found.append(f'SELECT COUNT(*) AS samples FROM "{name}@{version}"')  # noqa: S608
    return found[:_MOST]


def _quoted(name: str) -> str:
    """A name as SQL has it: in double quotes where it is not a plain word."""
    return name if name.isidentifier() else f'"{name}"'
