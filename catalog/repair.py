"""Mending a data set whose payload was damaged: intact copies take the place of damaged arrays, the rest is left out.

Nothing is overwritten: the repair is a commit like any other, and what it replaces stays until a vacuum.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import polars as pl
import pyarrow as pa
from deltalake import DeltaTable

from sensorium.catalog import fragments
from sensorium.catalog.declaration import Declaration
from sensorium.catalog.dedupe import Content, content_of, references_to
from sensorium.catalog.maintenance import files_of, readable_versions, verify
from sensorium.catalog.mutation import rewrite
from sensorium.catalog.references import NO_MOVES, PLACE, moves, places, repointed
from sensorium.catalog.table import Change, CommitNote, Table, TableFile
from sensorium.platform.errors import CommitConflict, CorruptData
from sensorium.platform.storage import Storage

if TYPE_CHECKING:
    from sensorium.catalog.selection import Selection

__all__ = ["RELINKED", "WITHOUT_FIELD", "WITHOUT_SAMPLE", "RepairReport", "repair"]

#: what was done to a damaged array
RELINKED, WITHOUT_FIELD, WITHOUT_SAMPLE = "relinked", "field dropped", "sample dropped"
_REPAIRS = dict.fromkeys(("id", "field", "fragment", "problem", "action", "source"), pl.String)


@dataclass(frozen=True)
class RepairReport:
    """What a repair did, or would do.

    Attributes:
        repairs: a row per damaged array: id, field, fragment, problem; action (``relinked``, ``field dropped`` or ``sample
            dropped``) and source, the fragment of the intact copy.
        version: that holds the repair; the version that was looked at where nothing was done.
        dry_run: whether nothing was changed.
    """

    repairs: pl.DataFrame
    version: int
    dry_run: bool


@dataclass(frozen=True)
class _Remedy:
    """How to mend: places that are the same elsewhere, and per field those to be left out."""

    moved: pl.DataFrame
    cleared: Mapping[str, pl.DataFrame]
    dropped: Mapping[str, pl.DataFrame]
    sources: Mapping[str, str]


def repair(storage: Storage, table: Table, selection: Selection, *, dry_run: bool) -> RepairReport:
    """Mend what is damaged in ``selection``; see :meth:`Dataset.repair`.

    Raises:
        CommitConflict: a vacuum took an intact copy meanwhile.
    """
    problems = verify(selection, storage)
    if problems.is_empty():
        return RepairReport(pl.DataFrame(schema=_REPAIRS), selection.version, dry_run)
    references = _references(selection, problems)
    copies, files = _copies(storage, table, {content_of(one): one for one in references})
    repairs = _planned(selection.declaration, problems, references, copies)
    if dry_run:
        return RepairReport(repairs, selection.version, dry_run)
    remedy = _remedy(repairs, references, copies, files)
    ids = pa.array(repairs["id"].unique().sort().to_list(), pa.string())
    counts = repairs.group_by("action").len().sort("action")
    message = "; ".join(f"{count} × {action}" for action, count in counts.iter_rows())
    note = CommitNote("repair", samples=len(ids), message=message)

    def plan(snapshot: DeltaTable) -> Change | None:
        _require_files(table, snapshot, remedy.sources)
        return rewrite(table, snapshot, ids, lambda rows: _mended(rows, remedy))

    return RepairReport(repairs, table.commit(plan, note), dry_run)


def _references(selection: Selection, problems: pl.DataFrame) -> list[fragments.Reference]:
    """What the damaged arrays' rows say of them, in the order of ``problems``."""
    found: dict[tuple[str, str], fragments.Reference] = {}
    for (name,), part in problems.group_by("field"):
        held = selection.rows.filter(pl.col("id").is_in(part["id"].implode())).select("id", str(name))
        found.update({(identifier, str(name)): reference for identifier, reference in held.iter_rows()})
    return [found[identifier, name] for identifier, name in problems.select("id", "field").iter_rows()]


def _copies(
    storage: Storage, table: Table, damaged: Mapping[Content, fragments.Reference]
) -> tuple[dict[Content, fragments.Reference], dict[Content, str]]:
    """Intact copies of damaged arrays in any version that can be read, and the table file that names each."""
    readable = readable_versions(table, table.open())
    copies: dict[Content, fragments.Reference] = {}
    files: dict[Content, str] = {}
    tried: dict[Content, list[tuple[Any, ...]]] = defaultdict(list)
    for path in sorted(files_of(table, readable)):
        file = TableFile(path, 0, 0, None, None)
        for reference in references_to(table, [file], damaged.keys() - copies.keys()):
            content, place = content_of(reference), _place(reference)
            if content in copies or place in tried[content]:
                continue
            tried[content].append(place)
            if place != _place(damaged[content]) and _intact(storage, reference):
                copies[content], files[content] = reference, path
    return copies, files


def _place(reference: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(reference[part] for part in PLACE)


def _intact(storage: Storage, reference: fragments.Reference) -> bool:
    try:
        fragments.read(storage, reference)
    except CorruptData:
        return False
    return True


def _planned(
    declaration: Declaration,
    problems: pl.DataFrame,
    references: Sequence[fragments.Reference],
    copies: Mapping[Content, fragments.Reference],
) -> pl.DataFrame:
    """The problems with what is to be done about each."""
    required = {name for name, field in declaration.arrays.items() if field.required}
    required |= {field.name for field in declaration.modality.fields if field.required}
    rows = []
    for problem, reference in zip(problems.iter_rows(named=True), references, strict=True):
        copy = copies.get(content_of(reference))
        kept = WITHOUT_SAMPLE if problem["field"] in required else WITHOUT_FIELD
        rows.append({**problem, "action": RELINKED if copy else kept, "source": copy["fragment"] if copy else None})
    return pl.DataFrame(rows, schema=_REPAIRS)


def _remedy(
    repairs: pl.DataFrame,
    references: Sequence[fragments.Reference],
    copies: Mapping[Content, fragments.Reference],
    files: Mapping[Content, str],
) -> _Remedy:
    gone: dict[str, dict[str, list[Any]]] = {WITHOUT_FIELD: defaultdict(list), WITHOUT_SAMPLE: defaultdict(list)}
    pairs = []
    for action, name, reference in zip(repairs["action"], repairs["field"], references, strict=True):
        if action == RELINKED:
            pairs.append((reference, copies[content_of(reference)]))
        else:
            gone[action][name].append({part: reference[part] for part in PLACE})
    schema = {part: NO_MOVES.schema[part] for part in PLACE}
    frames = {
        action: {name: pl.DataFrame(found, schema=schema).unique() for name, found in fields.items()}
        for action, fields in gone.items()
    }
    used = {copies[content]["fragment"]: path for content, path in files.items()}
    return _Remedy(moves(pairs), frames[WITHOUT_FIELD], frames[WITHOUT_SAMPLE], used)


def _require_files(table: Table, snapshot: DeltaTable, sources: Mapping[str, str]) -> None:
    """See to it that the versions that name the copies can still be read: a vacuum that takes them says so first."""
    if not sources:
        return
    there = files_of(table, readable_versions(table, snapshot))
    lost = [fragment for fragment, path in sources.items() if path not in there]
    if lost:
        raise CommitConflict(
            f"data set {table.name!r}: a vacuum took intact copies in fragment {lost[0]!r} meanwhile. "
            "Nothing was changed; run the repair again."
        )


def _mended(rows: pa.Table, remedy: _Remedy) -> pa.Table:
    """Rows of a table file, mended wherever they still point to a damaged place."""
    whole = pl.Series(values=[True] * rows.num_rows, dtype=pl.Boolean)
    for name, damaged in remedy.dropped.items():
        whole &= ~_points_to(rows, name, damaged)
    for name, damaged in remedy.cleared.items():
        column = cast("pl.Series", pl.from_arrow(rows.column(name))).alias(name)
        without = pl.when(_points_to(rows, name, damaged)).then(None).otherwise(column).alias(name)
        cleared = pl.select(without).to_arrow(compat_level=pl.CompatLevel.oldest()).column(name)
        rows = rows.set_column(rows.schema.get_field_index(name), name, cleared.cast(rows.schema.field(name).type))
    schema = rows.schema
    mended = repointed(rows, remedy.moved).cast(schema)
    return mended.filter(pa.array(whole.to_list(), pa.bool_()))


def _points_to(rows: pa.Table, name: str, damaged: pl.DataFrame) -> pl.Series:
    """Which rows' field ``name`` lies in one of these places."""
    found = places(cast("pl.Series", pl.from_arrow(rows.column(name)))).join(damaged, on=list(PLACE), how="semi")
    return pl.Series(range(rows.num_rows), dtype=pl.UInt32).is_in(found["row"].cast(pl.UInt32).implode())
