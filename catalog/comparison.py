"""History of a data set, and what changed between two of its versions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import polars as pl
import pyarrow as pa

from sensorium.catalog.rows import aligned
from sensorium.catalog.table import CommitNote, Table
from sensorium.platform.errors import UnknownVersion

__all__ = ["diff", "history", "pick_version"]

_HISTORY: dict[str, pl.DataType | type[pl.DataType]] = {
    "version": pl.Int64,
    "time": pl.Datetime("ms", "UTC"),
    "operation": pl.String,
    "samples": pl.Int64,
    "tags": pl.List(pl.String),
    "message": pl.String,
    "sources": pl.List(pl.String),
    "run": pl.String,
}


def history(table: Table, tags: Mapping[str, int]) -> pl.DataFrame:
    """The versions that can still be read, newest first."""
    newest = table.open()
    rows = []
    for commit in reversed(table.history()):
        version = int(commit["version"])
        if table.expired(newest, version):
            continue
        note = CommitNote.read(commit)
        rows.append(
            {
                "version": version,
                "time": datetime.fromtimestamp(commit["timestamp"] / 1000, UTC),
                "operation": note.operation,
                "samples": note.samples,
                "tags": [tag for tag, tagged in tags.items() if tagged == version],
                "message": note.message,
                "sources": [str(source) for source in note.sources],
                "run": note.run,
            }
        )
    return pl.DataFrame(rows, schema=_HISTORY)


def diff(table: Table, a: int, b: int) -> pl.DataFrame:
    """What changed from version ``a`` to ``b``; only the table files that they do not share are read."""
    old_table, new_table = table.open(a), table.open(b)
    schema = pa.schema(new_table.schema().to_arrow())
    old_schema = pa.schema(old_table.schema().to_arrow())
    for column in old_schema:
        if column.name not in schema.names:
            schema = schema.append(column)
    old_files = {file.path: file for file in table.files(old_table)}
    new_files = {file.path: file for file in table.files(new_table)}

    def rows(paths: set[str], files: Mapping[str, object]) -> pl.DataFrame:
        parts = [aligned(table.read_file(files[path]), schema, table.name) for path in sorted(paths)]  # type: ignore[arg-type]
        empty = aligned(pa.table({"id": pa.array([], pa.string())}), schema, table.name)
        return pl.DataFrame(pa.concat_tables([empty, *parts]))

    before = rows(old_files.keys() - new_files.keys(), old_files)
    after = rows(new_files.keys() - old_files.keys(), new_files)
    fields = [name for name in schema.names if name != "id"]
    both = before.join(after, on="id", how="full", suffix="__after", coalesce=True)
    both = both.with_columns(old=both["id"].is_in(before["id"].implode()), new=both["id"].is_in(after["id"].implode()))
    changed = [
        pl.when(pl.col("old") & pl.col("new") & pl.col(name).ne_missing(pl.col(f"{name}__after"))).then(pl.lit(name))
        for name in fields
    ]
    compared = both.select(
        "id",
        change=pl.when(~pl.col("old"))
        .then(pl.lit("added"))
        .when(~pl.col("new"))
        .then(pl.lit("removed"))
        .otherwise(pl.lit("changed")),
        fields=pl.concat_list(changed).list.drop_nulls() if changed else pl.lit([], dtype=pl.List(pl.String)),
    )
    return compared.filter((pl.col("change") != "changed") | (pl.col("fields").list.len() > 0)).sort("id")


def pick_version(history: Sequence[Mapping[str, Any]], moment: datetime, name: str) -> int:
    """The version that was the newest at ``moment`` (naive times are UTC)."""
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    wanted = moment.timestamp() * 1000
    versions = [int(commit["version"]) for commit in history if commit["timestamp"] <= wanted]
    if not versions:
        first = datetime.fromtimestamp(history[0]["timestamp"] / 1000, UTC)
        raise UnknownVersion(
            f"data set {name!r} did not exist at {moment.isoformat()}; it was made at {first.isoformat()}."
        )
    return max(versions)
