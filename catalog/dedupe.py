"""Arrays that are in the data set already are not written again: rows point to what is there.

An array is the same if checksum, dtype and shape are. Before a commit it is looked again whether some row of that very version
points to the shared payload: then it is needed by this version and the next, and no vacuum takes it away in between.
"""

from __future__ import annotations

import functools
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import cast

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable

from sensorium.catalog import fragments
from sensorium.catalog.fields import ArrayField
from sensorium.catalog.references import moves, reference_names, repointed
from sensorium.catalog.table import Table, TableFile, parquet
from sensorium.platform.errors import CommitConflict, CorruptData
from sensorium.platform.storage import Storage

__all__ = ["Content", "Known", "content_of", "references_to"]

#: checksum, dtype and shape
Content = tuple[str, str, tuple[int, ...]]

#: checksums of so many immutable table files are kept
_KEPT_FILES = 256


def content_of(reference: fragments.Reference) -> Content:
    """What the array is that ``reference`` points to, wherever it lies."""
    return reference["checksum"], reference["dtype"], tuple(reference["shape"])


class Known:
    """What a data set holds, by content, for one writer.

    Attributes:
        borrowed: fragments of others that its rows point to.
    """

    def __init__(self, storage: Storage, table: Table, borrowed: Collection[str] = ()) -> None:
        self._storage, self._table = storage, table
        self._own: dict[Content, fragments.Reference] = {}
        self.borrowed = set(borrowed)

    def write(
        self,
        batch: Sequence[Mapping[str, np.ndarray]],
        fields: Mapping[str, ArrayField],
        *,
        durable: bool = False,
    ) -> list[dict[str, fragments.Reference]]:
        """As :func:`.fragments.write`, with references to what is there already, and every new array written once."""
        contents = [{name: _content(array) for name, array in sample.items()} for sample in batch]
        wanted = {content for sample in contents for content in sample.values()}
        found = {content: self._own[content] for content in wanted if content in self._own}
        if wanted - found.keys() and self._table.exists():
            with self._table.newest() as snapshot:
                there = self.find(snapshot, wanted - found.keys())
            self.borrowed.update(reference["fragment"] for reference in there.values())
            found.update(there)
        first: dict[Content, tuple[int, str]] = {}
        for index, sample in enumerate(contents):
            for name, content in sample.items():
                if content not in found:
                    first.setdefault(content, (index, name))
        new: list[dict[str, np.ndarray]] = [{} for _ in batch]
        for index, name in first.values():
            new[index][name] = batch[index][name]
        written = fragments.write(self._storage, new, fields, durable=durable)
        self._own.update({content: written[index][name] for content, (index, name) in first.items()})
        found.update(self._own)
        return [{name: found[content] for name, content in sample.items()} for sample in contents]

    def find(self, snapshot: DeltaTable, contents: Collection[Content]) -> dict[Content, fragments.Reference]:
        """Those of ``contents`` that rows of this version have, with a reference to each."""
        found: dict[Content, fragments.Reference] = {}
        for reference in references_to(self._table, self._table.files(snapshot), contents):
            found.setdefault(content_of(reference), reference)
            if len(found) == len(contents):
                break
        return found

    def settled(self, snapshot: DeltaTable, rows: pa.Table) -> pa.Table:
        """``rows`` that point to shared payload only where this version does too; what it lost is written after all.

        Raises:
            CommitConflict: shared payload was deleted and vacuumed while this append was under way.
        """
        if not self.borrowed:
            return rows
        shared: dict[Content, fragments.Reference] = {}
        owner: dict[Content, str] = {}
        lent = pa.array(sorted(self.borrowed), pa.string())
        for name in reference_names(rows.schema):
            for chunk in rows.column(name).chunks:
                for reference in chunk.filter(pc.is_in(chunk.field("fragment"), lent)).to_pylist():
                    if reference is not None:
                        shared[content_of(reference)], owner[content_of(reference)] = reference, name
        there = self.find(snapshot, shared)
        lost = [content for content in shared if content not in there]
        if lost:
            there.update(self._rescued(snapshot, {content: shared[content] for content in lost}, owner))
        self.borrowed.update(reference["fragment"] for reference in there.values())
        changed = [(shared[content], there[content]) for content in shared if shared[content] != there[content]]
        return repointed(rows, moves(changed))

    def _rescued(
        self, snapshot: DeltaTable, lost: Mapping[Content, fragments.Reference], owner: Mapping[Content, str]
    ) -> dict[Content, fragments.Reference]:
        """A copy of payload that no row points to any more, which is there for as long as vacuum's grace."""
        fresh = {content: reference for content, reference in self._own.items() if content in lost}
        missing = {content: reference for content, reference in lost.items() if content not in fresh}
        try:
            arrays = fragments.read_many(self._storage, list(missing.values()))
        except CorruptData as error:
            raise CommitConflict(
                f"data set {self._table.name!r}: payload that this append shares with {len(missing)} arrays was deleted and "
                "vacuumed meanwhile. Nothing was committed: append again, or vacuum with a longer grace."
            ) from error
        names = {content: owner[content] for content in missing}
        declared = self._table.declaration(snapshot)
        fields = {name: known for name in names.values() if isinstance(known := declared.known(name), ArrayField)}
        batch = [{names[content]: array} for content, array in zip(missing, arrays, strict=True)]
        written = fragments.write(self._storage, batch, fields, durable=self._table.durable)
        copies = {content: written[index][names[content]] for index, content in enumerate(missing)}
        self._own.update(copies)
        return {**fresh, **copies}


def references_to(
    table: Table, files: Iterable[TableFile], contents: Collection[Content]
) -> Iterator[fragments.Reference]:
    """All references to arrays of these contents in files of the table; few files are read for it."""
    wanted = set(contents)
    texts = pa.array(sorted({checksum for checksum, _, _ in wanted}), pa.string())
    prints = np.array(sorted({_print(checksum) for checksum, _, _ in wanted}), np.uint64)
    for file in files:
        names = [name for name, known in _prints(table.storage, file).items() if _any_in(prints, known)]
        for name in names:
            for chunk in table.read_file(file, [name]).column(name).chunks:
                for reference in chunk.filter(pc.is_in(chunk.field("checksum"), texts)).to_pylist():
                    if reference is not None and content_of(reference) in wanted:
                        yield reference


def _content(array: np.ndarray) -> Content:
    return fragments.checksum(array), array.dtype.name, tuple(array.shape)


def _print(checksum: str) -> int:
    return int(checksum[:16], 16)


def _any_in(wanted: np.ndarray, known: np.ndarray) -> bool:
    """Whether one of ``wanted`` is in ``known``, which is sorted."""
    if not len(known):
        return False
    places = np.minimum(np.searchsorted(known, wanted), len(known) - 1)
    return bool((known[places] == wanted).any())


@functools.lru_cache(maxsize=_KEPT_FILES)
def _prints(storage: Storage, file: TableFile) -> dict[str, np.ndarray]:
    """The first 64 bits of every checksum in a table file, sorted, by field: enough to know where not to look."""
    prints: dict[str, np.ndarray] = {}
    with parquet(storage, file.path) as opened:
        for name in reference_names(opened.schema_arrow):
            column = opened.read(columns=[f"{name}.checksum"], use_threads=storage.local).column(name)
            chunks = [cast("pl.Series", pl.from_arrow(chunk.field("checksum"))) for chunk in column.chunks]
            texts = pl.concat([pl.Series([], dtype=pl.String), *chunks]).drop_nulls()
            prints[name] = np.sort(texts.str.slice(0, 16).str.to_integer(base=16, dtype=pl.UInt64).to_numpy())
    return prints
