"""A data set: what can be asked of it, and how it is changed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import polars as pl

from sensorium.catalog import compaction, comparison, maintenance, mutation, quarantine, rules, tags
from sensorium.catalog.declaration import Declaration, Source
from sensorium.catalog.fields import Field
from sensorium.catalog.repair import RepairReport, repair
from sensorium.catalog.selection import Predicate, Selection
from sensorium.catalog.table import CommitNote, Table
from sensorium.catalog.writing import Existing, Writer, append_rows, find_ids
from sensorium.platform.errors import UserError
from sensorium.platform.optional import require
from sensorium.platform.storage import Storage

if TYPE_CHECKING:
    from sensorium.catalog.maintenance import VacuumReport
    from sensorium.catalog.modality import Modality
    from sensorium.catalog.preview import Picture
    from sensorium.catalog.rules import Rule

__all__ = ["Dataset"]

#: of a data frame, rows that are taken at a time
_FRAME_ROWS = 65_536


class Dataset:
    """A data set of the lake, at its newest version or pinned to one.

    A handle from ``catalog[name]`` follows the newest version; each selection pins the version that it finds. A handle from
    ``catalog.dataset(name, version=...)`` stays at its version and cannot write.

    Attributes:
        name: of the data set.
        storage: its folder.
    """

    def __init__(self, storage: Storage, name: str, version: int | None = None) -> None:
        self.storage, self.name, self._pinned = storage, name, version
        self._table = Table(storage.below("samples"), name)

    # -- what it is ---------------------------------------------------------------------------------------------------

    @property
    def version(self) -> int:
        """The version that this handle reads."""
        return self._pinned if self._pinned is not None else int(self._table.open().version())

    @property
    def declaration(self) -> Declaration:
        """Fields, attributes, description and licence at that version."""
        return self._table.declaration(self._table.open(self._pinned))

    @property
    def modality(self) -> Modality:
        return self.declaration.modality

    @property
    def fields(self) -> Mapping[str, Field]:
        """The declared fields that have a column."""
        return self.declaration.fields

    @property
    def attributes(self) -> Mapping[str, Any]:
        """Values that hold for all samples, such as wavelengths."""
        return self.declaration.attributes

    def __len__(self) -> int:
        return sum(file.rows for file in self._table.files(self._table.open(self._pinned)))

    def __repr__(self) -> str:
        return f"Dataset({self.name}@{self.version}, {self.declaration.modality_name}, {len(self)} samples)"

    # -- reading ------------------------------------------------------------------------------------------------------

    def scan(self) -> pl.LazyFrame:
        """The sample table: ``id``, scalars, and per array field a struct that points to the payload.

        Filters and columns are pushed down to the Parquet files.
        """
        return self._table.scan(self._table.open(self._pinned))

    def select(
        self,
        predicate: Predicate = None,
        fields: Sequence[str] | None = None,
        order: str | Sequence[str] | None = None,
        limit: int | None = None,
    ) -> Selection:
        """Choose samples, lazily.

        Args:
            predicate: a Polars expression, or SQL as in a WHERE clause; None for all.
            fields: names of the fields wanted, scalars and arrays; None for all.
            order: a field, or several, to sort by (``-name`` for falling); by id without one.
            limit: at most so many.

        Raises:
            InvalidQuery, UnknownField: with what is wrong in them.
        """
        return Selection(self.storage, self.name, self.version, predicate, fields, order, limit)

    def preview(self, id: str = "", *, count: int = 12) -> Picture:  # noqa: A002 - the name of the field
        """A picture of ``count`` samples, or of the one with this id, large; a notebook shows it, ``.save(path)`` writes it.

        Raises:
            UnknownSample: there is none.
            UserError: the modality has nothing to draw, or the data set is empty.
        """
        from sensorium.catalog import preview

        selection = self.select()
        figure = preview.sample_figure(selection, id) if id else preview.sheet_figure(selection, count=count)
        return preview.picture_of(figure)

    def report(self, path: str | Path, predicate: Predicate = None) -> Path:
        """Write a page on what is in the data set: counts, classes, what is missing or comes twice, value ranges.

        Raises:
            UserError: nothing is in it, or the file cannot be written.
        """
        from sensorium.catalog.report import report

        return report(self, self.select(predicate), Path(path))

    # -- writing ------------------------------------------------------------------------------------------------------

    def append(
        self,
        samples: Iterable[Mapping[str, Any]] | Mapping[str, Any] | pl.DataFrame,
        *,
        key: str = "",
        existing: Existing = "error",
        evolve: bool = False,
        dedupe: bool = False,
        durable: bool = True,
        message: str = "",
        sources: Sequence[Source] = (),
        run: str = "",
    ) -> int:
        """Add samples in one commit: all of them, or none.

        Args:
            samples: each with a unique ``id`` and its fields; taken one after another, held a batch at a time. A data frame
                is a sample a row. A mapping is of columns: ``id``, arrays stacked [n, ...], n values of other fields; the
                fastest way for many samples of one shape.
            key: makes the append idempotent: a second one with this key does nothing and returns the first one's version.
            existing: ``error`` or ``skip`` samples whose id is there already.
            evolve: take in fields that are not declared (always so while the data set is empty).
            dedupe: an array that is in the data set already, or twice among ``samples``, is not written again; its row points to
                the one that is there.
            durable: return only when the samples would be there after a loss of power. Without it, a loss of power may take
                samples that were added just before, or their payload, and no others.
            message: remark for the history.
            sources: what the samples were made from, for the lineage.
            run: id of the run that made them.

        Returns:
            The version that holds them.

        Raises:
            InvalidSample, DuplicateSample, UnknownField: what is wrong, with which sample; nothing was committed.
        """
        table = self._writable(durable=durable)
        note = CommitNote("append", message=message, sources=tuple(sources), run=run, key=key)
        landed = table.landed(key) if key else None
        if landed is not None:
            return landed
        with Writer(
            self.storage, table, commit="end", existing=existing, evolve=evolve, dedupe=dedupe, note=note
        ) as writer:
            if isinstance(samples, pl.DataFrame):
                for part in samples.iter_slices(_FRAME_ROWS):
                    writer.add_columns(part.to_dict(as_series=False))
            elif isinstance(samples, Mapping):
                writer.add_columns(samples)
            else:
                for sample in samples:
                    writer.add(sample)
        return writer.version

    def writer(
        self,
        batch: int = 256,
        *,
        commit: Literal["batch", "end"] = "batch",
        existing: Existing = "error",
        evolve: bool = False,
        dedupe: bool = False,
        durable: bool = True,
        message: str = "",
        sources: Sequence[Source] = (),
        run: str = "",
    ) -> Writer:
        """A streaming append with bounded memory; see :class:`.Writer`."""
        note = CommitNote("append", message=message, sources=tuple(sources), run=run)
        table = self._writable(durable=durable)
        return Writer(
            self.storage,
            table,
            batch=batch,
            commit=commit,
            existing=existing,
            evolve=evolve,
            dedupe=dedupe,
            note=note,
        )

    def write_ray(
        self,
        ray_dataset: Any,
        *,
        key: str = "",
        existing: Existing = "error",
        evolve: bool = False,
        durable: bool = True,
        message: str = "",
        sources: Sequence[Source] = (),
        run: str = "",
    ) -> int:
        """Append the rows of a ``ray.data.Dataset``: payload is written by the workers, one commit by this process.

        Retried tasks leave fragments that nothing refers to (``vacuum`` removes them), never samples twice.

        Returns:
            The version that holds them.
        """
        require("ray.data", "write from Ray Data")
        from sensorium.catalog.to_ray import SampleSink, write

        table = self._writable()
        landed = table.landed(key) if key else None
        if landed is not None:
            return landed
        note = CommitNote("append", message=message, sources=tuple(sources), run=run, key=key)
        sink = SampleSink(
            self.storage,
            self.declaration,
            note,
            existing=existing,
            open_to_new=evolve or len(self) == 0,
            durable=durable,
        )
        write(ray_dataset, sink)
        return self.version if sink.version is None else sink.version

    def update(
        self,
        rows: Iterable[Mapping[str, Any]] | pl.DataFrame,
        *,
        evolve: bool = False,
        durable: bool = True,
        message: str = "",
    ) -> int:
        """Change fields of samples in one commit.

        Args:
            rows: each with the ``id`` of a sample and the fields to set; fields that a row does not name stay, None clears.
            evolve: take in fields that are not declared.
            durable: as of :meth:`append`.
            message: remark for the history.

        Returns:
            The version that holds the change.

        Raises:
            UnknownSample: an id is not there; nothing was changed.
            InvalidSample: a row breaks a rule of the data set that rejects, or puts into quarantine; nothing was changed.
        """
        table = self._writable(durable=durable)
        return mutation.update(self.storage, table, rows, evolve=evolve, message=message)

    def delete(self, predicate: pl.Expr | str, *, message: str = "") -> int:
        """Remove the samples that ``predicate`` holds for, in one commit; older versions still have them.

        Returns:
            The version without them; the newest one where there were none.
        """
        return mutation.delete(self._writable(), predicate, message=message)

    # -- rules --------------------------------------------------------------------------------------------------------

    @property
    def rules(self) -> tuple[Rule, ...]:
        """The rules that rows are checked against when they are added."""
        return rules.read(self._table.open(self._pinned))

    def set_rules(self, wanted: Iterable[Rule], *, message: str = "") -> int:
        """Replace the rules; returns the version that has them. What is there already is left alone: see :meth:`check`.

        Raises:
            InvalidSetting: two have the same name.
            UnknownField, InvalidQuery: a rule cannot be checked.
        """
        table, chosen = self._writable(), list(wanted)
        properties = rules.written(chosen)
        rules.broken(chosen, table.scan(table.open()).limit(1).collect(), table, None)  # that each can be asked
        return table.set_properties(properties, CommitNote("rules", message=message))

    def check(self) -> pl.DataFrame:
        """Which samples break the rules as they are: id, rule, action, reason."""
        table = self._table.open(self._pinned)
        breaks = rules.broken(self.rules, self._table.scan(table).collect(), self._table, None)
        found = [
            {"id": one.id, "rule": one.rule.name, "action": one.rule.action, "reason": one.reason} for one in breaks
        ]
        return pl.DataFrame(found, schema=dict.fromkeys(("id", "rule", "action", "reason"), pl.String))

    def quarantine(self) -> pl.DataFrame:
        """Rows that were put aside, with the rule that each broke, and how."""
        return quarantine.rows(self.storage, self.name)

    def release(self, ids: Sequence[str] | None = None, *, force: bool = False) -> int:
        """Add rows of the quarantine after all; those that still break a rule stay there, unless ``force`` is given.

        Raises:
            UnknownSample: one is not in quarantine.
            InvalidSample: one breaks a rule that rejects; nothing was added.
        """
        table = self._writable()
        held = quarantine.taken(self.storage, self.name, ids)
        declaration = self.declaration
        known = {field.name: field for field in declaration.modality.fields}
        note = CommitNote("append", message="released from quarantine")
        fields = {**known, **declaration.fields}
        version, _ = append_rows(table, held, fields, note, existing="skip", ruled=not force)
        there = find_ids(table, table.files(table.open()), held.column("id"))
        quarantine.discard(self.storage, self.name, sorted(there))
        return version

    def discard(self, ids: Sequence[str]) -> None:
        """Take rows out of the quarantine for good.

        Raises:
            UnknownSample: one is not there.
        """
        quarantine.taken(self.storage, self.name, ids)
        quarantine.discard(self.storage, self.name, ids)

    # -- versions -----------------------------------------------------------------------------------------------------

    def tag(self, name: str, version: int | None = None, *, move: bool = False) -> int:
        """Name a version (the one this handle reads, if none is given), which vacuum then keeps; returns it.

        Raises:
            UserError: the tag names another version, and ``move`` is false.
        """
        chosen = self.version if version is None else version
        self._table.open(chosen)
        tags.put(self.storage, self.name, name, chosen, move=move)
        return chosen

    def tags(self) -> dict[str, int]:
        """The tags and the versions that they name."""
        return tags.read(self.storage)

    def history(self) -> pl.DataFrame:
        """The versions, newest first: version, time, operation, samples, tags, message, sources, run."""
        return comparison.history(self._table, self.tags())

    def diff(self, a: int | str, b: int | str) -> pl.DataFrame:
        """What changed from version or tag ``a`` to ``b``: id, change (added, removed, changed), and the fields changed."""
        return comparison.diff(self._table, self.resolve(a), self.resolve(b))

    def resolve(self, version: int | str) -> int:
        """The number of a version given as number or tag.

        Raises:
            UnknownVersion: there is none, with close matches.
        """
        return tags.resolve(self.storage, self.name, version)

    # -- upkeep -------------------------------------------------------------------------------------------------------

    def verify(self, *, checksums: bool = True) -> pl.DataFrame:
        """Check all payload of this version against the table: id, field, problem; empty where all is well."""
        selection = self.select()
        with self._table.readable(selection.version):
            return maintenance.verify(selection, self.storage, checksums=checksums)

    def repair(self, *, dry_run: bool = True) -> RepairReport:
        """Mend in one commit what :meth:`verify` finds: point to an intact copy, or leave the array or the sample out.

        A copy is the same array elsewhere in the data set, in this version or in one that can still be read. Without one, the
        field is taken from the sample, or the sample is deleted if it cannot be without it. Older versions, and the damaged
        bytes, stay as they are until a vacuum.

        Args:
            dry_run: only say what would be done.
        """
        return repair(self.storage, self._writable(), self.select(), dry_run=dry_run)

    def compact(self, *, cluster: Sequence[str] | None = None) -> int:
        """Merge small table files and small fragments in one commit; samples, and older versions, stay what they are.

        Args:
            cluster: rewrite all table files, sorted by this field, or so that samples near in several fields lie together:
                a query that filters on them opens few files. Later compactions go on with it; an empty list ends it.

        Returns:
            The version (the newest if nothing was small).

        Raises:
            UnknownField, InvalidSetting: rows cannot be sorted by such a field.
            CorruptData: payload is damaged, and was not copied.
        """
        return compaction.compact(self.storage, self._writable(), cluster)

    def vacuum(
        self,
        retention: timedelta | float = maintenance.RETENTION,
        *,
        grace: timedelta = maintenance.GRACE,
        dry_run: bool = True,
    ) -> VacuumReport:
        """Remove what no version within ``retention`` and no tagged version needs; only say what, unless ``dry_run=False``.

        Args:
            retention: versions replaced longer ago than this become unreadable; a number is of days.
            grace: fragments that no version refers to are kept so long, for writers that have yet to commit; and versions that
                were replaced within it, for readers that are at work on them.
            dry_run: remove nothing.
        """
        kept = retention if isinstance(retention, timedelta) else timedelta(days=retention)
        return maintenance.vacuum(self.storage, self._writable(), self.tags(), kept, grace, dry_run=dry_run)

    def _writable(self, *, durable: bool = True) -> Table:
        if self._pinned is not None:
            raise UserError(
                f"data set {self.name!r} was opened at version {self._pinned}, which cannot change. "
                f"Open its newest version with catalog[{self.name!r}] to write."
            )
        return self._table if durable else Table(self._table.storage, self.name, durable=False)
