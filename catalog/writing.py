"""Writing samples: check, write payload as fragments, then make rows visible in one Delta commit."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Any, Literal, NamedTuple, cast

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable

from sensorium.catalog import fragments, quarantine, rules
from sensorium.catalog.columns import CheckedColumns, check_columns, samples_of
from sensorium.catalog.declaration import Declaration
from sensorium.catalog.dedupe import Known
from sensorium.catalog.fields import REFERENCE_TYPE, ArrayField, Field, ScalarField, storable_type
from sensorium.catalog.references import fragments_in, keep_payload
from sensorium.catalog.rows import aligned, find_ids, plain_type
from sensorium.catalog.table import Change, CommitNote, Table
from sensorium.catalog.upkeep import tidy
from sensorium.catalog.validation import CheckedSample, check_sample, merge_found
from sensorium.platform.errors import DuplicateSample, InvalidSample, InvalidSetting, UserError
from sensorium.platform.storage import Storage

__all__ = [
    "Appended",
    "Existing",
    "Writer",
    "against_rule",
    "append_rows",
    "find_ids",
    "payload_columns",
    "payload_rows",
]

logger = logging.getLogger(__name__)

#: what to do with a sample whose id is there already
Existing = Literal["error", "skip"]

#: payload held in memory before it is written, whatever the batch size
_BUFFER_BYTES = 64 << 20


def payload_rows(
    storage: Storage,
    declaration: Declaration,
    samples: list[CheckedSample],
    *,
    durable: bool = True,
    known: Known | None = None,
) -> tuple[pa.Table, dict[str, Field]]:
    """Write the arrays of checked samples as one fragment; not yet visible to anyone.

    Args:
        storage: folder of the data set.
        declaration: of the data set.
        samples: to be written.
        durable: return only when the payload would be there after a loss of power.
        known: what need not be written again.

    Returns:
        The rows to commit, and the declarations of all fields in them.
    """
    found: dict[str, Field] = {}
    for sample in samples:
        merge_found(found, declaration.name, sample)
    names = dict.fromkeys(name for sample in samples for name in (*sample.arrays, *sample.scalars))
    declared = {name: declaration.known(name) or found[name] for name in names}
    arrays = {name: field for name, field in declared.items() if isinstance(field, ArrayField)}
    batch = [sample.arrays for sample in samples]
    if known is not None:
        references = known.write(batch, arrays, durable=durable)
    else:
        references = fragments.write(storage, batch, arrays, durable=durable)
    columns: dict[str, pa.Array] = {"id": pa.array([sample.id for sample in samples], pa.string())}
    for name, field in declared.items():
        if isinstance(field, ScalarField):
            kind = storable_type(field.type) or field.type
            columns[name] = pa.array([sample.scalars.get(name) for sample in samples], kind)
        else:
            columns[name] = pa.array([reference.get(name) for reference in references], REFERENCE_TYPE)
    return pa.table(columns), declared


def payload_columns(
    storage: Storage, declaration: Declaration, checked: CheckedColumns, *, durable: bool = True
) -> tuple[pa.Table, dict[str, Field]]:
    """As :func:`payload_rows`, of samples that come as columns."""
    declared = {name: declaration.known(name) or checked.found[name] for name in (*checked.arrays, *checked.scalars)}
    arrays = {name: field for name, field in declared.items() if isinstance(field, ArrayField)}
    columns: dict[str, pa.Array] = {"id": pa.array(checked.ids, pa.string())}
    if arrays:
        columns |= fragments.write_stacks(storage, checked.arrays, arrays, durable=durable)
    for name, values in checked.scalars.items():
        field = declared[name]
        kind = field.type if isinstance(field, ScalarField) else None
        columns[name] = pa.array(values, None if kind is None else storable_type(kind) or kind)
    return pa.table(columns), declared


class Appended(NamedTuple):
    """What an append did: the version that holds the rows, and how many of them were new."""

    version: int
    samples: int


def append_rows(
    table: Table,
    rows: pa.Table,
    declared: Mapping[str, Field],
    note: CommitNote,
    existing: Existing = "error",
    *,
    ruled: bool = True,
    known: Known | None = None,
) -> Appended:
    """Commit rows whose payload is written: the one way in which samples become visible.

    Rows that break a rule of the data set are rejected, put into its quarantine, or told of, as the rule says.

    Args:
        table: the sample table.
        rows: ``id``, scalars, and references.
        declared: declarations of the columns, for those that the table does not have yet.
        note: for the history.
        existing: raise for ids that are there already, or leave those rows out.
        ruled: whether the data set's rules are asked.
        known: by which payload was shared that was there; looked up again in the version that the rows are added to.

    Raises:
        DuplicateSample: an id is there already; nothing was committed.
        InvalidSample: a row breaks a rule that rejects; nothing was committed.
    """
    if rows.num_rows == 0 and not note.key:
        return Appended(int(table.open().version()), 0)
    added = 0
    cached: list[tuple[pa.Table, Any]] = []  # the file written for an earlier attempt, if the rows are still the same

    def plan(snapshot: DeltaTable) -> Change | None:
        nonlocal added
        schema = pa.schema(snapshot.schema().to_arrow())
        new = [
            _new_column(declared[name], rows.schema.field(name).type)
            for name in rows.column_names
            if name not in schema.names
        ]
        wanted = aligned(rows, pa.schema([*schema, *new]), table.name)
        present = find_ids(table, table.files(snapshot), wanted.column("id"))
        if present and existing == "error":
            raise already_there(table.name, present)
        if present:
            wanted = wanted.filter(pc.invert(pc.is_in(wanted.column("id"), pa.array(sorted(present)))))
        if present and wanted.num_rows == 0:
            return None
        if known is not None:
            wanted = aligned(known.settled(snapshot, wanted), wanted.schema, table.name)
        told = note
        if ruled:
            wanted, told = _judged(table, snapshot, wanted, note)
        added = wanted.num_rows
        counted = replace(told, samples=added)
        if added == 0:  # an idempotency key is kept even where there was nothing to add
            return Change(note=counted) if note.key else None
        if new:  # Delta itself writes the rows that widen the table, so that both happen in one commit
            kept = [schema.field(name) for name in wanted.column_names if name in schema.names]
            plain = [column.with_type(plain_type(column.type)) for column in (*kept, *new)]
            return Change(widening=wanted.cast(pa.schema(plain)), note=counted)
        keep_payload(table.storage.above(), table.name, fragments_in(wanted))
        if not cached or not cached[0][0].equals(wanted) or not table.still_there([cached[0][1]]):
            cached[:] = [(wanted, table.write_file(wanted))]
        return Change(add=[cached[0][1]], note=counted)

    version = table.commit(plan, note)
    tidy(table, version)
    return Appended(version, added)


def _judged(table: Table, snapshot: DeltaTable, rows: pa.Table, note: CommitNote) -> tuple[pa.Table, CommitNote]:
    """The rows that the data set's rules let in, and what the history shall say of the others."""
    asked = rules.read(snapshot)
    if not asked or not rows.num_rows:
        return rows, note
    breaks = rules.broken(asked, cast("pl.DataFrame", pl.from_arrow(rows)), table, snapshot)
    refused = [one for one in breaks if one.rule.action == "reject"]
    if refused:
        raise against_rule(table.name, refused)
    aside = {one.id: one for one in breaks if one.rule.action == "quarantine"}
    remarks = [f"{count} break rule {name}" for name, count in Counter(one.rule.name for one in breaks).items()]
    for one in breaks:
        logger.warning("data set %r, sample %r: %s (rule %s)", table.name, one.id, one.reason, one.rule.name)
    if aside:
        outside = pc.is_in(rows.column("id"), pa.array(sorted(aside)))
        declaration = table.declaration(snapshot)
        quarantine.put(table.storage.above(), declaration, rows.filter(outside), list(aside.values()))
        rows = rows.filter(pc.invert(outside))
    message = "; ".join(part for part in (note.message, *remarks) if part)
    return rows, replace(note, message=message)


def against_rule(name: str, breaks: Sequence[rules.Break]) -> InvalidSample:
    """The error for rows that break a rule that rejects."""
    first = breaks[0]
    others = f" {len(breaks) - 1} more samples break a rule." if len(breaks) > 1 else ""
    return InvalidSample(
        f"data set {name!r}, sample {first.id!r}: breaks rule {first.rule.name!r}: {first.reason}.{others} Mend the sample, or "
        "let the rule quarantine or warn; nothing of this commit was written."
    )


def _new_column(field: Field, kind: pa.DataType) -> pa.Field:
    """The column of a field that the table does not have yet; a scalar that nobody declared has the type of its values."""
    return (replace(field, type=kind) if isinstance(field, ScalarField) else field).column()


def already_there(name: str, ids: set[str]) -> DuplicateSample:
    """The error for ids that an append would have had to overwrite."""
    others = f", and so are {len(ids) - 1} more" if len(ids) > 1 else ""
    return DuplicateSample(
        f"data set {name!r}: sample {min(ids)!r} is there already{others}. "
        "An append never overwrites: use update, or other ids. Nothing of this commit was written."
    )


class Writer:
    """A streaming append with bounded memory; use it in a ``with`` statement.

    Samples are checked as they are added. Payload goes to storage a batch at a time; rows are committed after each batch or
    all at the end. If the block raises, batches committed before stay, nothing else becomes visible.

    A writer cannot be sent to a worker: workers write with :meth:`Dataset.write_ray`, and one place commits.
    """

    def __init__(
        self,
        storage: Storage,
        table: Table,
        *,
        batch: int = 256,
        commit: Literal["batch", "end"] = "batch",
        existing: Existing = "error",
        evolve: bool = False,
        dedupe: bool = False,
        note: CommitNote | None = None,
    ) -> None:
        if batch < 1:
            raise InvalidSetting(f"batch must be 1 or more; got {batch}.")
        if commit not in ("batch", "end"):
            raise InvalidSetting(f"commit must be 'batch' or 'end'; got {commit!r}.")
        self._storage, self._table = storage, table
        self._batch, self._commit, self._existing, self._evolve = batch, commit, existing, evolve
        self._note = note or CommitNote("append")
        if self._note.key and commit == "batch":
            raise InvalidSetting("an idempotency key names one commit: use commit='end' with it.")
        with table.newest() as snapshot:
            self._declaration = table.declaration(snapshot)
            self._files = table.files(snapshot)
            self.version = int(snapshot.version())
        self._known = Known(storage, table) if dedupe else None
        self._empty = not self._files
        self._seen: set[str] = set()
        self._pending: list[CheckedSample] = []
        self._pending_bytes = 0
        self._rows: list[pa.Table] = []
        self._declared: dict[str, Field] = {}
        self._found: dict[str, Field] = {}
        self.added = 0

    def add(self, sample: Mapping[str, Any]) -> None:
        """Check ``sample`` and take it into the current batch.

        Raises:
            InvalidSample: it breaks a rule; the writer can go on with other samples.
        """
        checked = check_sample(self._declaration, sample, open_to_new=self._evolve or self._empty)
        if checked.id in self._seen:
            raise DuplicateSample(
                f"data set {self._table.name!r}: sample {checked.id!r} is added twice. Every id must be unique."
            )
        merge_found(self._found, self._table.name, checked)
        self._seen.add(checked.id)
        self._pending.append(checked)
        self._pending_bytes += sum(array.nbytes for array in checked.arrays.values())
        if len(self._pending) >= self._batch or self._pending_bytes >= _BUFFER_BYTES:
            self._flush()

    def add_columns(self, columns: Mapping[str, Any]) -> None:
        """Take in many samples by column: ``id``, arrays stacked [n, ...], and n values of every other field.

        They are checked, and written, all at once; where that cannot be (shapes differ, something is wrong, payload is
        shared) it is as if each were added.

        Raises:
            InvalidSample, UnknownField: as of :meth:`add`; columns that differ in length.
        """
        checked = check_columns(self._declaration, columns, open_to_new=self._evolve or self._empty)
        if checked is None or self._known is not None:
            for sample in samples_of(self._table.name, columns):
                self.add(sample)
            return
        self._flush()
        repeated = self._seen.intersection(checked.ids)
        if repeated:
            raise DuplicateSample(
                f"data set {self._table.name!r}: sample {min(repeated)!r} is added twice. Every id must be unique."
            )
        merge_found(self._found, self._table.name, checked)
        self._seen.update(checked.ids)
        each = sum(stack[0].nbytes for stack in checked.arrays.values())
        step = max(1, _BUFFER_BYTES // max(1, each))
        step = min(step, self._batch) if self._commit == "batch" else step
        for begin in range(0, len(checked.ids), step):
            self._flush_columns(checked.part(slice(begin, begin + step)))

    def _flush_columns(self, checked: CheckedColumns) -> None:
        present = self._present(checked.ids)
        if present:
            checked = checked.part([place for place, one in enumerate(checked.ids) if one not in present])
        if checked.ids:
            self._take(*payload_columns(self._storage, self._declaration, checked, durable=self._table.durable))

    def _flush(self) -> None:
        if not self._pending:
            return
        present = self._present([sample.id for sample in self._pending])
        samples = [sample for sample in self._pending if sample.id not in present]
        self._pending, self._pending_bytes = [], 0
        if samples:
            durable = self._table.durable
            self._take(*payload_rows(self._storage, self._declaration, samples, durable=durable, known=self._known))

    def _present(self, ids: Sequence[str]) -> set[str]:
        """Which samples are there already; before payload is written, so that a mistake leaves no orphan.

        The commit looks again, at what is there then.
        """
        present = find_ids(self._table, self._files, pa.array(ids, pa.string()))
        if present and self._existing == "error":
            raise already_there(self._table.name, present)
        return present

    def _take(self, rows: pa.Table, declared: Mapping[str, Field]) -> None:
        """Rows whose payload is written."""
        self._declared |= declared
        self._rows.append(rows)
        if self._commit == "batch":
            self._commit_rows()

    def _commit_rows(self) -> None:
        if not self._rows and not self._note.key:
            return
        try:
            rows = pa.concat_tables(self._rows, promote_options="permissive") if self._rows else _no_rows()
        except pa.ArrowException as error:
            raise InvalidSample(
                f"data set {self._table.name!r}: a field has values of different types in different samples ({error}). "
                "Give all samples the same type."
            ) from error
        self.version, added = append_rows(
            self._table, rows, self._declared, self._note, self._existing, known=self._known
        )
        self.added += added
        self._rows = []
        if self._found:  # is declared now
            self._declaration, self._found = self._table.declaration(self._table.open()), {}

    def close(self) -> int:
        """Write and commit what is left; returns the version that holds it."""
        self._flush()
        self._commit_rows()
        return self.version

    def __enter__(self) -> Writer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()

    def __reduce__(self) -> Any:
        raise UserError(
            "a writer cannot be sent to another process. Open one there, or use dataset.write_ray(ray_dataset), "
            "which commits in one place."
        )


def _no_rows() -> pa.Table:
    return pa.table({"id": pa.array([], pa.string())})
