"""Compaction: small fragments into full shards, small table files into full ones, in one commit that takes nothing back.

Payload is copied first, when nothing refers to the copies yet. The commit then exchanges references, not samples: wherever a
row of the newest version still points to a place that was copied, it points to the copy from now on. So a sample that was
deleted meanwhile stays deleted, and one that got other payload keeps that.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, cast

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable

from sensorium.catalog import fragments
from sensorium.catalog.arrangement import PROPERTY, check_columns, declared_columns, parts
from sensorium.catalog.fields import REFERENCE_TYPE, ArrayField
from sensorium.catalog.references import NO_MOVES, PLACE, keep_payload, moves, places, reference_names, repointed
from sensorium.catalog.rows import aligned
from sensorium.catalog.table import Change, CommitNote, Table, TableFile, parquet
from sensorium.platform.errors import ExpiredVersion
from sensorium.platform.storage import Storage

__all__ = ["compact"]

#: a table file of fewer bytes and rows is small
_SMALL_FILE_BYTES, _SMALL_FILE_ROWS = 8 << 20, 65_536
#: a fragment with less payload, in fewer arrays, is small
_SMALL_FRAGMENT_BYTES, _SMALL_FRAGMENT_ARRAYS = 8 << 20, 4096
#: payload copied at a time, and arrays
_BATCH_BYTES, _BATCH_ARRAYS = 64 << 20, 8192
_TRIES = 5


def compact(storage: Storage, table: Table, cluster: Sequence[str] | None = None) -> int:
    """Merge small table files and small fragments; see :meth:`Dataset.compact`."""
    if cluster is not None:
        snapshot = table.open()
        check_columns(table.declaration(snapshot), cluster)
        if list(cluster) != declared_columns(snapshot):
            table.set_properties(
                {PROPERTY: json.dumps(list(cluster))}, CommitNote("cluster", message=", ".join(cluster))
            )
    moved = _unless_expired(lambda: copy_small_fragments(storage, table))
    copied = pa.array(moved["fragment"].unique().to_list(), pa.string())
    done: list[tuple[frozenset[str], Change]] = []  # what was written for an earlier attempt

    def plan(snapshot: DeltaTable) -> Change | None:
        files = table.files(snapshot)
        keep_payload(storage, table.name, moved["to_fragment"].unique().to_list())
        if done and done[0][0] <= {file.path for file in files} and table.still_there(done[0][1].add):
            return done[0][1]
        together = [file for file in files if cluster is not None or _is_small(file)]
        if len(together) < 2 and cluster is None:
            together = []
        alone = [file for file in files if file not in together and len(copied) and _refers(table, file, copied)]
        if not together and not alone:
            return None
        change = _rewritten(table, snapshot, together, alone, moved)
        done[:] = [(frozenset(file.path for file in (*together, *alone)), change)]
        return change

    version = table.commit(plan, CommitNote("compact"))
    table.checkpoint()
    return version


def copy_small_fragments(storage: Storage, table: Table) -> pl.DataFrame:
    """Copy the payload of small fragments into large ones; nothing refers to the copies yet.

    Returns:
        A row per array that was copied: where it lay and where it lies.
    """
    snapshot = table.open()
    with table.readable(int(snapshot.version())):
        return _copied_from(storage, table, snapshot)


def _unless_expired(work: Callable[[], pl.DataFrame]) -> pl.DataFrame:
    """What ``work`` returns; it begins anew where a vacuum with a short grace took the version that it read."""
    for _ in range(_TRIES - 1):
        try:
            return work()
        except ExpiredVersion:
            continue
    return work()


def _copied_from(storage: Storage, table: Table, snapshot: DeltaTable) -> pl.DataFrame:
    arrays = table.declaration(snapshot).arrays
    small = _small_fragments(table, snapshot, list(arrays))
    if len(small) < 2:
        return NO_MOVES
    moved = NO_MOVES
    for rows in _batches(table, snapshot, list(arrays), small):
        moved = pl.concat([moved, _copied(storage, rows, arrays, small, moved, durable=table.durable)])
    return moved


def _small_fragments(table: Table, snapshot: DeltaTable, arrays: Sequence[str]) -> pl.Series:
    """Names of the fragments of which this version needs little payload."""
    sizes = pl.DataFrame(schema={"fragment": pl.String, "nbytes": pl.Int64, "arrays": pl.UInt32})
    for file in table.files(snapshot):
        rows = _held(table, file, arrays)
        for name in arrays:
            reference = pl.col(name).struct
            needed = rows.select(reference.field("fragment"), reference.field("nbytes")).drop_nulls()
            found = needed.group_by("fragment").agg(pl.col("nbytes").sum(), pl.len().alias("arrays"))
            sizes = pl.concat([sizes, found]).group_by("fragment").sum()
    few = (pl.col("nbytes") < _SMALL_FRAGMENT_BYTES) & (pl.col("arrays") < _SMALL_FRAGMENT_ARRAYS)
    return sizes.filter(few)["fragment"]


def _held(table: Table, file: TableFile, arrays: Sequence[str]) -> pl.DataFrame:
    """Ids and references of one table file; nulls for a field that it does not have yet."""
    columns = pa.schema([("id", pa.string()), *((name, REFERENCE_TYPE) for name in arrays)])
    return cast("pl.DataFrame", pl.from_arrow(aligned(table.read_file(file, columns.names), columns, table.name)))


def _batches(table: Table, snapshot: DeltaTable, arrays: Sequence[str], small: pl.Series) -> Iterator[pl.DataFrame]:
    """The rows with payload in a small fragment, by id, in parts that fit in memory with their payload."""
    wanted = small.implode()
    held = [pl.col(name).struct.field("fragment").is_in(wanted).fill_null(value=False) for name in arrays]
    parts = [_held(table, file, arrays).filter(pl.any_horizontal(held)) for file in table.files(snapshot)]
    rows = pl.concat(parts).sort("id")
    counted = rows.select(
        nbytes=pl.sum_horizontal(
            pl.when(h).then(pl.col(n).struct.field("nbytes")) for n, h in zip(arrays, held, strict=True)
        ),
        arrays=pl.sum_horizontal(held),
    )
    work = np.maximum(
        counted["nbytes"].cum_sum().to_numpy() / _BATCH_BYTES, counted["arrays"].cum_sum().to_numpy() / _BATCH_ARRAYS
    )
    ends = np.searchsorted(work, np.arange(1, int(work[-1]) + 1)) + 1 if len(work) else np.array([], np.int64)
    begin = 0
    for end in (*np.unique(ends).tolist(), rows.height):
        if end > begin:
            yield rows.slice(begin, end - begin)
        begin = max(begin, end)


def _copied(
    storage: Storage,
    rows: pl.DataFrame,
    arrays: Mapping[str, ArrayField],
    small: pl.Series,
    known: pl.DataFrame,
    *,
    durable: bool,
) -> pl.DataFrame:
    """Copy what these rows have in small fragments, each place once, into one new fragment."""
    payload: list[dict[str, np.ndarray]] = [{} for _ in range(rows.height)]
    lay: dict[tuple[int, str], dict[str, Any]] = {}
    for name in arrays:
        found = places(rows[name]).with_columns(rows[name].alias("reference"))
        found = found.filter(pl.col("fragment").is_in(small.implode())).unique(list(PLACE), maintain_order=True)
        found = found.join(known, on=list(PLACE), how="anti", maintain_order="left")
        read = fragments.read_many(storage, found["reference"].to_list())
        for place, array in zip(found.select("row", *PLACE).iter_rows(named=True), read, strict=True):
            payload[place["row"]][name] = array
            lay[place["row"], name] = place
    written = fragments.write(storage, payload, arrays, durable=durable)
    return moves((place, written[row][name]) for (row, name), place in lay.items())


def _is_small(file: TableFile) -> bool:
    return file.size < _SMALL_FILE_BYTES and file.rows < _SMALL_FILE_ROWS


def _refers(table: Table, file: TableFile, copied: pa.Array) -> bool:
    """Whether a row of the file points into a fragment that was copied."""
    with parquet(table.storage, file.path) as opened:
        for name in reference_names(opened.schema_arrow):
            column = opened.read(columns=[f"{name}.fragment"], use_threads=table.storage.local).column(name)
            if any(pc.any(pc.is_in(chunk.field("fragment"), copied)).as_py() for chunk in column.chunks):
                return True
    return False


def _rewritten(
    table: Table, snapshot: DeltaTable, together: list[TableFile], alone: list[TableFile], moved: pl.DataFrame
) -> Change:
    """Files that hold the same rows: those of ``together`` in new files, in order, each of ``alone`` in one of its own."""
    schema = pa.schema(snapshot.schema().to_arrow())
    columns = [name for name in declared_columns(snapshot) if name in schema.names]
    change = Change(remove=[table.removal(file) for file in (*together, *alone)])
    for files in ([together] if together else []) + [[file] for file in alone]:
        rows = pa.concat_tables([aligned(table.read_file(file), schema, table.name) for file in files])
        rows = aligned(repointed(rows, moved), schema, table.name)
        pieces = parts(rows, columns) if files is together else [rows]
        change.add += [table.write_file(piece) for piece in pieces if piece.num_rows]
    count = sum(file.rows for file in (*together, *alone))
    change.note = CommitNote("compact", samples=count)
    return change
