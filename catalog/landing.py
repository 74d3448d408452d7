"""The end of an import: rows whose payload is written become visible, a batch at a time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from sensorium.catalog import rules
from sensorium.catalog.declaration import Declaration
from sensorium.catalog.dedupe import Known
from sensorium.catalog.fields import Field
from sensorium.catalog.reading import Read, borrowed_fragments
from sensorium.catalog.rows import aligned
from sensorium.catalog.table import CommitNote, Table
from sensorium.catalog.validation import agreed
from sensorium.catalog.writing import against_rule, append_rows
from sensorium.platform.errors import InvalidSetting
from sensorium.platform.storage import Storage

if TYPE_CHECKING:
    from sensorium.catalog.dataset import Dataset
    from sensorium.catalog.lake import Catalog

__all__ = ["Landing"]


class Landing:
    """What has been read, on its way into the data set: which is made when there is a first sample for it.

    Attributes:
        declaration: of the data set, as it is or will be.
        added: samples that are new in it.
        refused: (file or id, reason) of samples that a rule of the data set rejects.
    """

    def __init__(self, catalog: Catalog, declaration: Declaration, batch: int, note: CommitNote) -> None:
        """``declaration``: should the data set have to be made. ``batch``: samples a commit."""
        self._catalog, self._batch, self._note = catalog, batch, note
        self._waiting: list[pa.Table] = []
        self._borrowed: set[str] = set()
        self._found: dict[str, Field] = {}  # brought by samples that wait
        self._table: Table | None = None
        self.declaration, self.added = declaration, 0
        self.refused: list[tuple[str, str]] = []
        if declaration.name in catalog:
            self._open()

    @property
    def storage(self) -> Storage:
        """Folder of the data set."""
        return self._catalog.folder(self.declaration.name)

    def fits(self, read: Read) -> bool:
        """Whether the fields that a group brought agree with those of groups before it.

        If not, those are in the declaration from now on: read again, its samples are measured against it one by one.
        """
        _, declared = read.rows()
        if all(agreed(self._found.get(name, field), field) for name, field in self._new(declared).items()):
            return True
        self.declaration = replace(self.declaration, fields={**self.declaration.fields, **self._found})
        return False

    def take(self, read: Read) -> None:
        """Take what was read; commit once there is a batch of it."""
        rows, declared = read.rows()
        self._borrowed |= borrowed_fragments(rows)
        for name, field in self._new(declared).items():
            self._found[name] = agreed(self._found.get(name, field), field) or field
        if rows.num_rows:
            self._waiting.append(rows)
        if sum(part.num_rows for part in self._waiting) >= self._batch:
            self.land()

    def land(self) -> None:
        """Commit whatever waits."""
        if not self._waiting:
            return
        table = self._table or self._open()
        rows = pa.concat_tables(self._waiting, promote_options="permissive")
        declared = {**self.declaration.fields, **{f.name: f for f in self.declaration.modality.fields}, **self._found}
        rows = self._without_refused(table, rows)
        known = Known(self.storage, table, self._borrowed) if self._borrowed else None
        self.added += append_rows(table, rows, declared, self._note, existing="skip", known=known).samples
        if self._found:  # they are columns now
            self.declaration, self._found = table.declaration(table.open()), {}
        self._waiting.clear()
        self._borrowed = set()

    def _without_refused(self, table: Table, rows: pa.Table) -> pa.Table:
        """The rows without those that a rule rejects, which are kept in ``refused``."""
        snapshot = table.open()
        asked = [rule for rule in rules.read(snapshot) if rule.action == "reject"]
        if not asked:
            return rows
        everything = pa.schema([*pa.schema(snapshot.schema().to_arrow()), *(f.column() for f in self._found.values())])
        whole = cast("pl.DataFrame", pl.from_arrow(aligned(rows, everything, table.name)))
        breaks = {one.id: one for one in rules.broken(asked, whole, table, snapshot)}
        for one in breaks.values():
            path = next(iter(whole.filter(id=one.id)["source"])) if "source" in whole.columns else one.id
            self.refused.append((str(path), str(against_rule(table.name, [one]))))
        return rows.filter(pc.invert(pc.is_in(rows.column("id"), pa.array(sorted(breaks), pa.string()))))

    def _new(self, declared: Mapping[str, Field]) -> dict[str, Field]:
        return {name: field for name, field in declared.items() if name not in self.declaration.fields}

    def _open(self) -> Table:
        wanted = self.declaration
        target = self._catalog.create(
            wanted.name,
            modality=wanted.modality_name,
            fields=list(wanted.fields.values()),
            description=wanted.description,
            licence=wanted.licence,
            attributes=wanted.attributes,
            exist_ok=True,
        )
        _check_attributes(target, wanted.attributes)
        self.declaration = target.declaration
        self._table = Table(self.storage.below("samples"), wanted.name)
        return self._table


def _check_attributes(target: Dataset, attributes: Mapping[str, Any]) -> None:
    """What holds for all samples must hold for new ones: an index into other variable names would be another variable."""
    held = target.attributes
    for name, value in attributes.items():
        if held.get(name) != value:
            raise InvalidSetting(
                f"data set {target.name!r} has {name} = {held.get(name)!r}, and the files have {value!r}. "
                "Import them into another data set, or with the importer's options that make them agree."
            )
