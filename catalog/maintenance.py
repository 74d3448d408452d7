"""Upkeep: prove that payload is whole, merge what is small, remove what no version needs."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable

from sensorium.catalog import fragments, quarantine
from sensorium.catalog.fields import REFERENCE_TYPE
from sensorium.catalog.table import Change, CommitNote, Table, TableFile, parquet
from sensorium.catalog.writing import aligned
from sensorium.platform.errors import CorruptData, InvalidSetting, SensoriumError
from sensorium.platform.progress import progress
from sensorium.platform.storage import Storage

if TYPE_CHECKING:
    from sensorium.catalog.selection import Selection

__all__ = ["GRACE", "RETENTION", "VacuumReport", "compact", "vacuum", "verify"]

#: a version stays readable so long after it was replaced
RETENTION = timedelta(days=30)
#: a fragment that no version names may still be somebody's uncommitted work for so long
GRACE = timedelta(days=1)

_SMALL_FILE_BYTES = 8 << 20
_SMALL_FRAGMENT_BYTES = 8 << 20
_BATCH_BYTES = 64 << 20
_PROBLEMS = {"id": pl.String, "field": pl.String, "fragment": pl.String, "problem": pl.String}
_REFERENCE_NAMES = {REFERENCE_TYPE.field(index).name for index in range(REFERENCE_TYPE.num_fields)}


# -- verify -----------------------------------------------------------------------------------------------------------


def verify(selection: Selection, storage: Storage, *, checksums: bool = True) -> pl.DataFrame:
    """Samples of ``selection`` whose payload is missing, or not what was committed: id, field, fragment, problem.

    Without ``checksums`` only the presence and the shape of every array is checked, which reads no payload.
    """
    problems: list[dict[str, str]] = []
    arrays = [name for name in selection.fields if name in selection.declaration.arrays]
    with progress(f"verify {selection.name}", total=len(selection) * max(1, len(arrays)), unit="arrays") as bar:
        for name in arrays:
            present = selection.rows.filter(pl.col(name).is_not_null())
            place = pl.col(name).struct
            present = present.sort(place.field("fragment"), place.field("array"), place.field("start"))
            for ids, references in _batches(present["id"].to_list(), present[name].to_list()):
                found = _problems(storage, references, checksums=checksums)
                problems += [
                    {"id": ids[index], "field": name, "fragment": references[index]["fragment"], "problem": problem}
                    for index, problem in found
                ]
                bar.advance(len(ids))
    return pl.DataFrame(problems, schema=_PROBLEMS)


def _batches(ids: list[str], references: list[Any]) -> Iterator[tuple[list[str], list[Any]]]:
    begin, size = 0, 0
    for index, reference in enumerate(references):
        size += reference["nbytes"]
        if size >= _BATCH_BYTES:
            yield ids[begin : index + 1], references[begin : index + 1]
            begin, size = index + 1, 0
    if begin < len(ids):
        yield ids[begin:], references[begin:]


def _problems(storage: Storage, references: list[Any], *, checksums: bool) -> Iterator[tuple[int, str]]:
    if checksums:
        try:
            arrays = fragments.read_many(storage, references, check=False)
        except Exception as error:  # noqa: BLE001 - whatever a damaged file makes the decoder raise
            if len(references) > 1:  # find out which
                for index, reference in enumerate(references):
                    yield from ((index, problem) for _, problem in _problems(storage, [reference], checksums=True))
            else:
                yield 0, str(error) if isinstance(error, SensoriumError) else f"cannot be decoded: {error}"
            return
        for index, (reference, array) in enumerate(zip(references, arrays, strict=True)):
            if list(array.shape) != reference["shape"] or array.dtype.name != reference["dtype"]:
                yield (
                    index,
                    f"is {array.dtype.name} {list(array.shape)}, committed as {reference['dtype']} {reference['shape']}",
                )
            elif fragments.checksum(array) != reference["checksum"]:
                yield index, "its bytes are not those that were committed (checksum differs)"
        return
    for index, reference in enumerate(references):
        try:
            fragments.check_extent(storage, reference)
        except CorruptData as error:
            yield index, str(error)


# -- compact ----------------------------------------------------------------------------------------------------------


def compact(storage: Storage, table: Table) -> int:
    """Merge small table files and small fragments; the samples stay what they are."""
    moved = _moved_payload(storage, table)

    def plan(snapshot: DeltaTable) -> Change | None:
        schema = pa.schema(snapshot.schema().to_arrow())
        files = table.files(snapshot)
        small = [file for file in files if file.size < _SMALL_FILE_BYTES]
        chosen = small if len(small) > 1 else []
        holders = [file for file in files if file not in chosen and moved and _holds(table, file, moved)]
        if not chosen and not holders:
            return None
        rows = pa.concat_tables([aligned(table.read_file(file), schema, table.name) for file in (*chosen, *holders)])
        rows = _repointed(rows, moved).sort_by("id")
        note = CommitNote("compact", samples=rows.num_rows)
        added = [table.write_file(rows)] if rows.num_rows else []
        return Change(add=added, remove=[table.removal(file) for file in (*chosen, *holders)], note=note)

    version = table.commit(plan, CommitNote("compact"))
    table.open().create_checkpoint()
    return version


#: (sample id, field) -> (the reference that was read, the reference to the same payload elsewhere)
_Moves = Mapping[tuple[str, str], tuple[Any, Any]]


def _moved_payload(storage: Storage, table: Table) -> _Moves:
    """Copy the payload of small fragments into large ones; nothing refers to the copies yet."""
    snapshot = table.open()
    arrays = table.declaration(snapshot).arrays
    if not arrays:
        return {}
    rows = table.scan(snapshot).select("id", *arrays).collect().sort("id")
    sizes: dict[str, int] = {}
    for name in arrays:
        for reference in rows[name].drop_nulls():
            sizes[reference["fragment"]] = sizes.get(reference["fragment"], 0) + reference["nbytes"]
    small = {fragment for fragment, size in sizes.items() if size < _SMALL_FRAGMENT_BYTES}
    if len(small) < 2:
        return {}
    moves: dict[tuple[str, str], tuple[Any, Any]] = {}
    waiting: list[tuple[str, dict[str, Any]]] = []
    size = 0
    for row in rows.iter_rows(named=True):
        held = {name: row[name] for name in arrays if row[name] is not None and row[name]["fragment"] in small}
        if held:
            waiting.append((row["id"], held))
            size += sum(reference["nbytes"] for reference in held.values())
        if size >= _BATCH_BYTES:
            moves.update(_copy(storage, waiting, arrays))
            waiting, size = [], 0
    moves.update(_copy(storage, waiting, arrays))
    return moves


def _copy(storage: Storage, waiting: list[tuple[str, dict[str, Any]]], arrays: Mapping[str, Any]) -> _Moves:
    payload: list[dict[str, Any]] = [{} for _ in waiting]
    for name in arrays:
        holders = [index for index, (_, held) in enumerate(waiting) if name in held]
        read = fragments.read_many(storage, [waiting[index][1][name] for index in holders])
        for index, array in zip(holders, read, strict=True):
            payload[index][name] = array
    written = fragments.write(storage, payload, arrays)
    return {
        (identifier, name): (held[name], references[name])
        for (identifier, held), references in zip(waiting, written, strict=True)
        for name in held
    }


def _holds(table: Table, file: TableFile, moves: _Moves) -> bool:
    ids = pa.array(sorted({identifier for identifier, _ in moves}), pa.string())
    return bool(pc.any(pc.is_in(table.read_file(file, ["id"]).column("id"), ids)).as_py())


def _repointed(rows: pa.Table, moves: _Moves) -> pa.Table:
    """``rows`` with moved payload; a reference that has changed since it was read stays as it is."""
    if not moves:
        return rows
    ids = rows.column("id").to_pylist()
    for name in sorted({field for _, field in moves}):
        references = rows.column(name).to_pylist()
        for index, (identifier, reference) in enumerate(zip(ids, references, strict=True)):
            before, after = moves.get((identifier, name), (None, None))
            if reference is not None and reference == before:
                references[index] = after
        column = pa.array(references, rows.schema.field(name).type)
        rows = rows.set_column(rows.schema.get_field_index(name), rows.schema.field(name), column)
    return rows


# -- vacuum -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class VacuumReport:
    """What a vacuum removed, or would remove.

    Attributes:
        versions: that become unreadable.
        fragments: folders of payload that no kept version refers to.
        files: Parquet files of the sample table that no kept version has.
        nbytes: size of both.
        dry_run: whether nothing was removed.
    """

    versions: list[int]
    fragments: list[str]
    files: list[str]
    nbytes: int
    dry_run: bool


def vacuum(
    storage: Storage,
    table: Table,
    tags: Mapping[str, int],
    retention: timedelta,
    grace: timedelta,
    *,
    dry_run: bool = True,
) -> VacuumReport:
    """Remove what no kept version needs; see :meth:`Dataset.vacuum`.

    The order makes a crash harmless: versions are declared unreadable first, then their files go.
    """
    if retention < timedelta(0) or grace < timedelta(0):
        raise InvalidSetting(f"retention and grace must not be negative; got {retention} and {grace}.")
    newest = table.open()
    history = [(int(commit["version"]), commit["timestamp"] / 1000) for commit in table.history()]
    readable = [(version, moment) for version, moment in history if not table.expired(newest, version)]
    horizon = time.time() - retention.total_seconds()
    replaced_at = {version: following for (version, _), (_, following) in pairwise(history)}
    kept = [version for version, _ in readable if replaced_at.get(version, float("inf")) >= horizon]
    first_kept = min(kept)
    tagged = sorted({version for version in tags.values() if version < first_kept})
    doomed = [version for version, _ in readable if version < first_kept and version not in tagged]

    paths = _files_of(table, [version for version, _ in readable if version >= first_kept or version in tagged])
    live = _fragments_of(storage, "samples", paths)
    aside = quarantine.table_of(storage, table.name)
    if aside.exists():
        live |= _fragments_of(storage, quarantine.FOLDER, [file.path for file in aside.files(aside.open())])
    oldest_orphan = time.time() - grace.total_seconds()
    orphans = [
        name
        for name in storage.folders(fragments.FOLDER)
        if name not in live and storage.modified(fragments.FOLDER, name) <= oldest_orphan
    ]
    files = [
        path
        for path in _parquet_files(storage)
        if path not in paths and storage.modified("samples", path) <= oldest_orphan
    ]
    size = sum(storage.size(fragments.FOLDER, name) for name in orphans)
    size += sum(storage.size("samples", path) for path in files)
    report = VacuumReport(doomed, orphans, files, size, dry_run)
    if dry_run:
        return report
    if doomed:
        table.mark_expired(first_kept, tagged)
    for path in files:
        storage.remove("samples", path)
    for name in orphans:
        storage.remove(fragments.FOLDER, name)
    return report


def _parquet_files(storage: Storage) -> list[str]:
    with storage.translated("samples"):
        entries = storage.fs.ls(storage.at_path("samples"), detail=False, refresh=True)
    names = (entry.rstrip("/").rpartition("/")[2] for entry in entries)
    return sorted(name for name in names if name.startswith("part-") and name.endswith(".parquet"))


def _files_of(table: Table, kept: Iterable[int]) -> set[str]:
    """Paths of all table files that a kept version has."""
    paths: set[str] = set()
    before = -2
    for version in sorted(set(kept)):
        if version == before + 1:  # what came since: a look into the log costs less than opening the version
            for line in table.storage.read("_delta_log", f"{version:020}.json").splitlines():
                action = json.loads(line).get("add")
                if action is not None:
                    paths.add(action["path"])
        else:  # those between are gone, and some of their files with them
            paths |= {file.path for file in table.files(table.open(version))}
        before = version
    return paths


def _fragments_of(storage: Storage, folder: str, paths: Iterable[str]) -> set[str]:
    """Names of all fragments that these files of the table in ``folder`` refer to."""
    live: set[str] = set()
    for path in paths:
        with parquet(storage, folder, path) as file:
            fields = [
                column.name
                for column in file.schema_arrow
                if pa.types.is_struct(column.type) and {part.name for part in column.type} >= _REFERENCE_NAMES
            ]
            for name in fields:
                column = file.read(columns=[f"{name}.fragment"], use_threads=storage.local).column(name)
                for chunk in column.chunks:
                    live.update(pc.unique(chunk.field("fragment")).drop_null().to_pylist())
    return live
