"""Changing and removing samples: rewrite the table files that hold them, in one commit."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, cast

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable

from sensorium.catalog import rules
from sensorium.catalog.declaration import Declaration
from sensorium.catalog.fields import Field
from sensorium.catalog.references import fragments_in, keep_payload
from sensorium.catalog.rows import aligned, find_ids
from sensorium.catalog.sample import Sample
from sensorium.catalog.selection import as_expression, query_error
from sensorium.catalog.table import Change, CommitNote, Table
from sensorium.catalog.validation import CheckedSample, check_sample
from sensorium.catalog.writing import payload_rows
from sensorium.platform.errors import (
    DuplicateSample,
    InvalidQuery,
    InvalidSample,
    UnknownSample,
)
from sensorium.platform.storage import Storage

__all__ = ["delete", "rewrite", "update"]

logger = logging.getLogger(__name__)


def delete(table: Table, predicate: pl.Expr | str, *, message: str = "") -> int:
    """Remove the samples that ``predicate`` holds for; returns the version without them."""
    expression = as_expression(predicate, table.name)
    if expression is None:
        raise InvalidQuery(f"data set {table.name!r}: delete needs a predicate; to remove all samples give 'true'.")

    def plan(snapshot: DeltaTable) -> Change | None:
        try:
            ids = table.scan(snapshot).filter(expression).select("id").collect()["id"]
        except pl.exceptions.PolarsError as error:
            raise query_error(error, table.name, table.declaration(snapshot)) from error
        doomed = pa.array(ids.to_list(), pa.string())
        change = rewrite(
            table, snapshot, doomed, lambda rows: rows.filter(pc.invert(pc.is_in(rows.column("id"), doomed)))
        )
        if change is not None:
            change.note = CommitNote("delete", samples=len(ids), message=message)
        return change

    return table.commit(plan, CommitNote("delete", message=message))


def update(
    storage: Storage,
    table: Table,
    rows: Iterable[Mapping[str, Any]] | pl.DataFrame,
    *,
    evolve: bool = False,
    message: str = "",
) -> int:
    """Set fields of samples; returns the version that holds the change."""
    wanted = list(rows.iter_rows(named=True) if isinstance(rows, pl.DataFrame) else rows)
    snapshot = table.open()
    declaration = table.declaration(snapshot)
    checked = _checked_changes(storage, table, snapshot, declaration, wanted, evolve=evolve)
    if not checked:
        return int(snapshot.version())
    ids = pa.array([sample.id for sample in checked], pa.string())
    cleared = [[name for name, value in row.items() if value is None and name != "id"] for row in wanted]
    changes, declared = payload_rows(storage, declaration, checked, durable=table.durable)
    _add_missing_columns(table, snapshot, declared, changes)
    named = {sample.id: {*sample.arrays, *sample.scalars, *gone} for sample, gone in zip(checked, cleared, strict=True)}
    note = CommitNote("update", samples=len(checked), message=message)

    def plan(current: DeltaTable) -> Change | None:
        _require_ids(table, current, ids)
        keep_payload(storage, table.name, fragments_in(changes))
        remarks = _asked(table, current, ids, lambda held: _overlaid(held, changes, named, table.name), named)
        change = rewrite(table, current, ids, lambda held: _overlaid(held, changes, named, table.name))
        if change is not None and remarks:
            change.note = replace(note, message="; ".join(part for part in (note.message, *remarks) if part))
        return change

    return table.commit(plan, note)


def rewrite(
    table: Table,
    snapshot: DeltaTable,
    ids: pa.Array | pa.ChunkedArray,
    change: Callable[[pa.Table], pa.Table],
) -> Change | None:
    """Plan to replace every file that holds one of ``ids`` by ``change`` of its rows; None where there is none."""
    if len(ids) == 0:
        return None
    bounds = pc.min_max(ids).as_py()
    schema = pa.schema(snapshot.schema().to_arrow())
    plan = Change()
    for file in table.files(snapshot):
        if not file.may_hold(bounds["min"], bounds["max"]) or not find_ids(table, [file], ids):
            continue
        held = aligned(table.read_file(file), schema, table.name)
        after = change(held)
        plan.remove.append(table.removal(file))
        if after.num_rows:
            plan.add.append(table.write_file(after))
    return plan if plan.add or plan.remove else None


def _asked(
    table: Table,
    snapshot: DeltaTable,
    ids: pa.Array,
    change: Callable[[pa.Table], pa.Table],
    named: Mapping[str, set[str]],
) -> list[str]:
    """What the history shall say of changed samples that break a rule; they are looked at before a file is written.

    Raises:
        InvalidSample: one breaks a rule that rejects, or would put it aside, which an update does not do.
    """
    touched = set().union(*named.values())
    asked = [rule for rule in rules.read(snapshot) if touched & rule.fields]
    if not asked:
        return []
    held = table.scan(snapshot).filter(pl.col("id").is_in(ids.to_pylist())).collect().to_arrow()
    after = change(aligned(held, pa.schema(snapshot.schema().to_arrow()), table.name))
    breaks = rules.broken(asked, cast("pl.DataFrame", pl.from_arrow(after)), table, snapshot)
    refused = [one for one in breaks if one.rule.action != "warn"]
    if refused:
        first, others = refused[0], f" {len(refused) - 1} more samples break a rule." if len(refused) > 1 else ""
        raise InvalidSample(
            f"data set {table.name!r}, sample {first.id!r}: the update breaks rule {first.rule.name!r}: {first.reason}."
            f"{others} Mend the rows; nothing was changed."
        )
    for one in breaks:
        logger.warning("data set %r, sample %r: %s (rule %s)", table.name, one.id, one.reason, one.rule.name)
    return [f"{count} break rule {name}" for name, count in Counter(one.rule.name for one in breaks).items()]


def _checked_changes(
    storage: Storage,
    table: Table,
    snapshot: DeltaTable,
    declaration: Declaration,
    wanted: list[Mapping[str, Any]],
    *,
    evolve: bool,
) -> list[CheckedSample]:
    """The changes, checked alone, and together with the rest of their sample where a rule could span both.

    All is checked before payload is written or a column added; the commit looks for the ids again.
    """
    ids = [row.get("id") for row in wanted]
    texts = [identifier for identifier in ids if isinstance(identifier, str)]
    repeated = (
        {identifier for identifier in texts if texts.count(identifier) > 1} if len(set(texts)) < len(texts) else set()
    )
    if repeated:
        raise DuplicateSample(
            f"data set {table.name!r}: sample {min(repeated)!r} is updated twice in one call. Merge the rows."
        )
    standard = {field.name for field in declaration.modality.fields}
    checked = [check_sample(declaration, row, partial=True, open_to_new=evolve) for row in wanted]
    together = [row for row in wanted if standard.intersection(row)]
    _require_ids(table, snapshot, pa.array([sample.id for sample in checked], pa.string()))
    if together:
        named = [str(row["id"]) for row in together]
        held = table.scan(snapshot).filter(pl.col("id").is_in(named)).collect()
        by_id = {row["id"]: Sample(storage, declaration, row) for row in held.iter_rows(named=True)}
        for row in together:
            before = by_id[str(row["id"])]
            fields = {name: before[name] for name in before if name not in declaration.attributes and name not in row}
            check_sample(declaration, {**fields, **row}, open_to_new=evolve)
    return checked


def _require_ids(table: Table, snapshot: DeltaTable, ids: pa.Array) -> None:
    missing = set(ids.to_pylist()) - find_ids(table, table.files(snapshot), ids)
    if missing:
        others = f", nor {len(missing) - 1} others of this update" if len(missing) > 1 else ""
        raise UnknownSample(
            f"data set {table.name!r} has no sample {min(missing)!r}{others}. Nothing was changed; append new samples instead."
        )


def _add_missing_columns(table: Table, snapshot: DeltaTable, declared: Mapping[str, Field], changes: pa.Table) -> None:
    there = {column.name for column in snapshot.schema().fields}
    missing = [declared[name].column() for name in changes.column_names if name not in there and name != "id"]
    if missing:
        table.add_columns(missing, CommitNote("add fields", message=", ".join(column.name for column in missing)))


def _overlaid(held: pa.Table, changes: pa.Table, named: Mapping[str, set[str]], name: str) -> pa.Table:
    """``held`` with the named fields of each changed sample replaced."""
    position = pc.index_in(held.column("id"), changes.column("id").combine_chunks())
    ids = held.column("id").to_pylist()
    columns: dict[str, Any] = {}
    touched = set().union(*named.values())
    unknown = touched - set(held.column_names)
    if unknown:
        raise InvalidSample(
            f"data set {name!r}, field {min(unknown)!r}: there is no such field to clear. Leave it out of the update."
        )
    full = aligned(changes, held.schema, name)
    for field in held.column_names:
        if field not in touched:
            columns[field] = held.column(field)
            continue
        replaced = pa.array([field in named.get(identifier, ()) for identifier in ids])
        taken = full.column(field).combine_chunks().take(position.combine_chunks())
        columns[field] = _choose(replaced, taken, held.column(field).combine_chunks())
    return pa.table(columns)


def _choose(replaced: pa.Array, new: pa.Array, old: pa.Array) -> pa.Array:
    """``new`` where ``replaced``, else ``old``; for any type, nested ones too."""
    both = pa.concat_arrays([old, new])
    count = len(old)
    places = pc.if_else(replaced, pa.array(range(count, 2 * count)), pa.array(range(count)))
    return both.take(places)
