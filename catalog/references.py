"""Columns of references: where the payload of rows lies, and rows that are made to point elsewhere."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, cast

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from sensorium.catalog.fields import REFERENCE_TYPE
from sensorium.catalog.fragments import FOLDER, Reference
from sensorium.platform.errors import CommitConflict
from sensorium.platform.storage import Storage

__all__ = [
    "NO_MOVES",
    "PLACE",
    "fragments_in",
    "is_reference",
    "keep_payload",
    "moves",
    "places",
    "reference_names",
    "repointed",
]

#: what says where an array lies; none is empty, so that no two lie at one place
PLACE = ("fragment", "array", "start", "stop")
_PARTS = [REFERENCE_TYPE.field(index).name for index in range(REFERENCE_TYPE.num_fields)]
_KINDS: tuple[Any, ...] = (pl.String, pl.String, pl.Int64, pl.Int64)
#: of moved payload: where it lay, and where the same bytes lie too
NO_MOVES = pl.DataFrame(
    schema={
        **dict(zip(PLACE, _KINDS, strict=True)),
        **{f"to_{part}": kind for part, kind in zip(PLACE, _KINDS, strict=True)},
    }
)


def is_reference(kind: pa.DataType) -> bool:
    """Whether a column of this type says where payload lies."""
    return pa.types.is_struct(kind) and {part.name for part in kind} >= set(_PARTS)


def reference_names(schema: pa.Schema) -> list[str]:
    """Names of the columns that say where payload lies."""
    return [column.name for column in schema if is_reference(column.type)]


def keep_payload(storage: Storage, name: str, names: Iterable[str]) -> None:
    """Let fragments that are about to be committed count as new, so that no vacuum takes them at the last moment.

    Raises:
        CommitConflict: one is gone.
    """
    for fragment in names:
        if not storage.touch(FOLDER, fragment, "zarr.json"):
            raise CommitConflict(
                f"data set {name!r}: a vacuum took payload (fragment {fragment!r}) before it was committed, since its grace is "
                "shorter than this commit took. Nothing was committed: run it again, and vacuum with a longer grace."
            )


def fragments_in(rows: pa.Table) -> list[str]:
    """Names of the fragments that rows point to."""
    names: set[str] = set()
    for column in reference_names(rows.schema):
        for chunk in rows.column(column).chunks:
            # unlike chunk.field, this knows that what is not there has no fragment either
            names.update(pc.unique(pc.struct_field(chunk, "fragment")).drop_null().to_pylist())
    return sorted(names)


def places(column: pl.Series) -> pl.DataFrame:
    """Where each reference of a column points to: row, and the parts of ``PLACE``; null where there is none."""
    reference = pl.col("reference").struct
    numbered = column.alias("reference").to_frame().with_row_index("row")
    return numbered.select("row", *(reference.field(name) for name in PLACE))


def moves(pairs: Iterable[tuple[Mapping[str, Any], Reference]]) -> pl.DataFrame:
    """Moves from (place or reference, reference to the same bytes elsewhere); each place once."""
    rows = [
        {**{part: place[part] for part in PLACE}, **{f"to_{part}": target[part] for part in PLACE}}
        for place, target in pairs
    ]
    return pl.DataFrame(rows, schema=NO_MOVES.schema).unique(list(PLACE), keep="first", maintain_order=True)


def repointed(rows: pa.Table, moved: pl.DataFrame) -> pa.Table:
    """``rows`` with every reference to a place that was moved replaced by one to where it is now."""
    if moved.is_empty():
        return rows
    for name in reference_names(rows.schema):
        before = cast("pl.Series", pl.from_arrow(rows.column(name)))
        frame = places(before).join(moved, on=list(PLACE), how="left", maintain_order="left")
        frame = frame.with_columns(before.alias("reference"))
        reference = pl.col("reference").struct
        after = [
            pl.coalesce(pl.col(f"to_{part}"), reference.field(part)).alias(part)
            if part in PLACE
            else reference.field(part)
            for part in _PARTS
        ]
        pointed = frame.select(pl.when(pl.col("reference").is_not_null()).then(pl.struct(after)).alias(name))
        replaced = pointed.to_arrow(compat_level=pl.CompatLevel.oldest()).column(name)
        rows = rows.set_column(rows.schema.get_field_index(name), name, replaced)
    return rows
