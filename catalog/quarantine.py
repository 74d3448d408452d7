"""Rows that broke a rule, kept beside the data set until somebody decides: released into it, or discarded.

The quarantine is a table of its own in the data set's folder. Its rows refer to the same payload, which a vacuum keeps for
as long as they do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import polars as pl
import pyarrow as pa

from sensorium.catalog import rules
from sensorium.catalog.declaration import Declaration
from sensorium.catalog.fields import Field, ScalarField
from sensorium.catalog.table import CommitNote, Table
from sensorium.platform.errors import UnknownSample, close_matches
from sensorium.platform.storage import Storage

__all__ = ["FOLDER", "discard", "put", "rows", "table_of", "taken"]

FOLDER = "quarantine"
_RULE = ScalarField("quarantine_rule", pa.string(), description="that the row breaks")
_REASON = ScalarField("quarantine_reason", pa.string(), description="how it breaks it")


def table_of(storage: Storage, name: str) -> Table:
    """The table of the quarantine of the data set whose folder is ``storage``; it may not be there."""
    return Table(storage.below(FOLDER), name)


def put(storage: Storage, declaration: Declaration, held: pa.Table, breaks: Sequence[rules.Break]) -> None:
    """Put rows aside, each with the first rule that it breaks; those that are there already stay as they are."""
    from sensorium.catalog.writing import append_rows  # which puts aside what it does not take

    why = {one.id: one for one in reversed(breaks)}
    ids = held.column("id").to_pylist()
    held = held.append_column(_RULE.column(), pa.array([why[one].rule.name for one in ids], pa.string()))
    held = held.append_column(_REASON.column(), pa.array([why[one].reason for one in ids], pa.string()))
    table = table_of(storage, declaration.name)
    fields: dict[str, Field] = {**declaration.fields, _RULE.name: _RULE, _REASON.name: _REASON}
    table.create(replace(declaration, fields=fields), CommitNote("create"))
    known = {field.name: field for field in declaration.modality.fields}
    append_rows(table, held, {**known, **fields}, CommitNote("append"), existing="skip", ruled=False)


def rows(storage: Storage, name: str) -> pl.DataFrame:
    """What is in quarantine, with ``quarantine_rule`` and ``quarantine_reason``; empty where nothing ever was."""
    table = table_of(storage, name)
    if not table.exists():
        return pl.DataFrame(schema={"id": pl.String, _RULE.name: pl.String, _REASON.name: pl.String})
    return table.scan(table.open()).sort("id").collect()


def taken(storage: Storage, name: str, ids: Sequence[str] | None) -> pa.Table:
    """Rows of the quarantine as they would be in the data set.

    Raises:
        UnknownSample: one is not there.
    """
    found = rows(storage, name)
    there = set(found["id"])
    missing = [one for one in ids or () if one not in there]
    if missing:
        raise UnknownSample(
            f"data set {name!r}: sample {missing[0]!r} is not in quarantine. {close_matches(missing[0], sorted(there))}".rstrip()
        )
    chosen = found if ids is None else found.filter(pl.col("id").is_in(list(ids)))
    return chosen.drop(_RULE.name, _REASON.name).to_arrow(compat_level=pl.CompatLevel.oldest())


def discard(storage: Storage, name: str, ids: Sequence[str]) -> None:
    """Take rows out of the quarantine."""
    from sensorium.catalog import mutation

    if ids:
        mutation.delete(table_of(storage, name), pl.col("id").is_in(list(ids)))
