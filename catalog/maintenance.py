"""Upkeep: prove that payload is whole, merge what is small, remove what no version needs."""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import polars as pl
import pyarrow.compute as pc
from deltalake import DeltaTable

from sensorium.catalog import fragments, quarantine
from sensorium.catalog.references import reference_names
from sensorium.catalog.table import Table, parquet
from sensorium.platform.errors import CorruptData, InvalidSetting, SensoriumError
from sensorium.platform.progress import progress
from sensorium.platform.storage import Entry, Storage

if TYPE_CHECKING:
    from sensorium.catalog.selection import Selection

__all__ = ["GRACE", "RETENTION", "VacuumReport", "files_of", "readable_versions", "vacuum", "verify"]

#: a version stays readable so long after it was replaced
RETENTION = timedelta(days=30)
#: a fragment that no version names may still be somebody's uncommitted work for so long
GRACE = timedelta(days=1)

_BATCH_BYTES = 64 << 20
#: below the sample table's folder: files of rows, whole or half written, and what Delta leaves of a commit that was killed
_REMOVABLE = re.compile(r"part-[^/]*\.parquet(\.part[0-9-]+)?|_delta_log/_commit_[^/]*\.tmp")
_PROBLEMS = {"id": pl.String, "field": pl.String, "fragment": pl.String, "problem": pl.String}


# -- verify -----------------------------------------------------------------------------------------------------------


def verify(selection: Selection, storage: Storage, *, checksums: bool = True) -> pl.DataFrame:
    """Samples of ``selection`` whose payload is missing, or not what was committed: id, field, fragment, problem.

    Without ``checksums`` only the presence and the shape of every array is checked, which reads no payload.
    """
    fragments.forget()  # what is on the disk now, not what this process remembers of it
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

    The order makes a crash, and whatever others commit meanwhile, harmless: versions are declared unreadable first; then it is
    looked what is needed by all others, those of the last moment among them; then files go.
    """
    if retention < timedelta(0) or grace < timedelta(0):
        raise InvalidSetting(f"retention and grace must not be negative; got {retention} and {grace}.")
    began = time.time()
    # where our clock is ahead, what others are writing would look old: the storage's own tells how old its files are
    dated = min(began, storage.now("samples", f"part-{uuid.uuid4().hex}.parquet"))
    first_kept, tagged, doomed = _expiring(table, tags, began - max(retention, grace).total_seconds())
    if doomed and not dry_run:
        table.mark_expired(first_kept, tagged)
    # before the rows of the samples: what is released from quarantine is in the one or in the other, or in both
    live = _quarantined(storage, table.name)
    readable = readable_versions(table, table.open())
    paths = files_of(table, [version for version in readable if version >= first_kept or version in tagged])
    live |= _fragments_of(storage, "samples", paths)
    oldest_orphan = dated - grace.total_seconds()
    size, orphans, files = 0, [], []
    for entry in storage.entries(fragments.FOLDER):
        if entry.folder and entry.name not in live and _may_be_old(entry, oldest_orphan):
            nbytes, modified = storage.age(fragments.FOLDER, entry.name)
            if modified <= oldest_orphan:
                orphans.append(entry.name)
                size += nbytes
    for folder in ("samples", "samples/_delta_log"):
        for entry in storage.entries(*folder.split("/")):
            path = f"{folder}/{entry.name}".removeprefix("samples/")
            if _REMOVABLE.fullmatch(path) and path not in paths and entry.modified <= oldest_orphan:
                files.append(path)
                size += entry.size
    report = VacuumReport(doomed, orphans, files, size, dry_run)
    if not dry_run:
        # looked at again: a writer that took long may be about to commit it
        for path in files:
            if storage.modified("samples", *path.split("/")) <= oldest_orphan:
                storage.remove("samples", *path.split("/"))
        for name in orphans:
            if storage.modified(fragments.FOLDER, name) <= oldest_orphan:
                storage.remove(fragments.FOLDER, name)
    return report


def _expiring(table: Table, tags: Mapping[str, int], horizon: float) -> tuple[int, list[int], list[int]]:
    """The first version to keep, earlier ones kept for their tags, and those that become unreadable.

    ``horizon``: in seconds since 1970; what was replaced earlier is not kept.
    """
    newest = table.open()
    history = [(int(commit["version"]), commit["timestamp"] / 1000) for commit in table.history()]
    readable = [version for version, _ in history if not table.expired(newest, version)]
    replaced_at = {version: following for (version, _), (_, following) in pairwise(history)}
    first_kept = min(version for version in readable if replaced_at.get(version, float("inf")) >= horizon)
    tagged = sorted({version for version in tags.values() if version < first_kept})
    doomed = [version for version in readable if version < first_kept and version not in tagged]
    return first_kept, tagged, doomed


def _may_be_old(entry: Entry, limit: float) -> bool:
    """Whether a folder, of which only the listing was looked at, may have nothing in it that is newer."""
    return entry.modified <= limit or entry.modified == float("inf")


def _quarantined(storage: Storage, name: str) -> set[str]:
    """Fragments that rows in quarantine refer to."""
    aside = quarantine.table_of(storage, name)
    if not aside.exists():
        return set()
    return _fragments_of(storage, quarantine.FOLDER, [file.path for file in aside.files(aside.open())])


def readable_versions(table: Table, newest: DeltaTable) -> list[int]:
    """The versions that no vacuum has declared unreadable, as the newest says."""
    return [version for version in range(newest.version() + 1) if not table.expired(newest, version)]


def files_of(table: Table, kept: Iterable[int]) -> set[str]:
    """Paths of all table files that a kept version has."""
    paths: set[str] = set()
    before = -2
    for version in sorted(set(kept)):
        if version == before + 1:  # what came since: a look into the log costs less than opening the version
            paths.update(table.added_in(version))
        else:  # those between are gone, and some of their files with them
            paths |= {file.path for file in table.files(table.open(version))}
        before = version
    return paths


def _fragments_of(storage: Storage, folder: str, paths: Iterable[str]) -> set[str]:
    """Names of all fragments that these files of the table in ``folder`` refer to."""
    live: set[str] = set()
    for path in paths:
        with parquet(storage, folder, path) as file:
            for name in reference_names(file.schema_arrow):
                column = file.read(columns=[f"{name}.fragment"], use_threads=storage.local).column(name)
                for chunk in column.chunks:
                    live.update(pc.unique(chunk.field("fragment")).drop_null().to_pylist())
    return live
