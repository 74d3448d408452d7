"""A group of files becomes samples with payload in storage: the part of an import that runs where it may crash.

It is a plain function of a group, so that it can run in this process, in a process beside it, or as a task of Ray. What
comes back is small: rows in Arrow's stream format, and what could not be read.
"""

from __future__ import annotations

import json
import logging
import os
import signal
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from sensorium.catalog.declaration import Declaration
from sensorium.catalog.dedupe import Known
from sensorium.catalog.fields import Field, check_name, from_column
from sensorium.catalog.importer import GROUP, Importer, Item, Source
from sensorium.catalog.table import Table
from sensorium.catalog.validation import CheckedSample, check_sample, merge_found
from sensorium.catalog.writing import payload_rows
from sensorium.platform import errors, plugins
from sensorium.platform.errors import InvalidSample, SensoriumError, UnreadableFile, UserError
from sensorium.platform.storage import Storage

__all__ = ["NO_ROWS", "Failure", "Group", "Read", "borrowed_fragments", "declared", "read_group"]

logger = logging.getLogger(__name__)

#: payload that is held in memory before it is written
_BUFFER_BYTES = 64 << 20
#: of a group's rows: fragments that others wrote
_BORROWED = "sensorium.borrowed"


@dataclass(frozen=True)
class Group:
    """Samples to be read together.

    Attributes:
        importer: name of the importer.
        options: for it.
        items: of its plan.
        declaration: that the samples must keep to.
        storage: folder of the data set.
        seconds: that one sample may take, where the process may be ended for it; 0 for any time.
        dedupe: not to write arrays that the data set has already.
    """

    importer: str
    options: Mapping[str, str]
    items: tuple[Item, ...]
    declaration: Declaration
    storage: Storage
    seconds: float = 0.0
    dedupe: bool = False


@dataclass(frozen=True)
class Failure:
    """A sample that did not become one.

    Attributes:
        path: of its file.
        kind: name of the error's class.
        message: names the file, what is wrong with it, and what to do.
    """

    path: str
    kind: str
    message: str

    def error(self) -> SensoriumError:
        """As an error again."""
        kind = getattr(errors, self.kind, UnreadableFile)
        return kind(self.message) if issubclass(kind, SensoriumError) else UnreadableFile(self.message)


@dataclass(frozen=True)
class Read:
    """What became of a group.

    Attributes:
        content: rows whose payload is written, as an Arrow stream; the columns carry their declarations.
        failures: by position in the group.
    """

    content: bytes
    failures: Mapping[int, Failure]

    def rows(self) -> tuple[pa.Table, dict[str, Field]]:
        """The rows, and the declarations of their columns."""
        with pa.ipc.open_stream(self.content) as stream:
            rows = stream.read_all()
        return rows, {column.name: from_column(column) for column in rows.schema if column.name != "id"}


def read_group(group: Group) -> Read:
    """Decode, check and write a group. A sample that fails leaves the others as they are.

    Raises:
        MissingDependency, InvalidSetting: nothing can be read at all.
    """
    importer: Importer = plugins.load(GROUP, group.importer, Importer)
    if group.seconds and signal.getsignal(signal.SIGALRM) is not signal.SIG_DFL:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
    failures: dict[int, Failure] = {}
    found: dict[str, Field] = {}
    tables: list[pa.Table] = []
    pending: list[CheckedSample] = []
    table = Table(group.storage.below("samples"), group.declaration.name)
    known = Known(group.storage, table) if group.dedupe else None
    size = 0
    for index, item in enumerate(group.items):
        if index + 1 < len(group.items) and group.items[index + 1].paths != item.paths:
            _fetch_ahead(group.items[index + 1])
        try:
            with _bounded(group.seconds):
                sample = check_sample(group.declaration, _decoded(importer, item, group.options), open_to_new=True)
            merge_found(found, group.declaration.name, sample)
        except (UnreadableFile, InvalidSample) as error:
            failures[index] = Failure(str(item.paths[0]), type(error).__name__, str(error))
            continue
        pending.append(sample)
        size += sum(array.nbytes for array in sample.arrays.values())
        if size >= _BUFFER_BYTES:
            tables.append(_written(group, pending, known))
            pending, size = [], 0
    if pending:
        tables.append(_written(group, pending, known))
    return Read(_stream(tables, known.borrowed if known else ()), failures)


def declared(importer: Importer, source: Source, dataset: str, description: str, licence: str) -> Declaration:
    """The declaration of the data set ``dataset``, should it have to be made of the source."""
    check_name(dataset, "data set")
    return Declaration.new(
        dataset,
        importer.makes(source),
        importer.fields(source) if importer.fields else None,
        description=description,
        licence=licence,
        attributes=importer.attributes(source) if importer.attributes else {},
    )


def _decoded(importer: Importer, item: Item, options: Mapping[str, str]) -> dict[str, Any]:
    """The sample of an item. What a parser raises that nobody foresaw is the file's fault, too, and named."""
    try:
        return {"id": item.id, **importer.read(item, options)}
    except UserError:
        raise
    except MemoryError as error:
        raise UnreadableFile(
            f"{item.paths[0]}: needs more memory than there is. Cut it into parts, or import it on a larger machine."
        ) from error
    except Exception as error:
        logger.debug("%s", item.paths[0], exc_info=True)
        problem = " ".join(f"{type(error).__name__}: {error}".split())
        raise UnreadableFile(
            f"{item.paths[0]}: cannot be read as {importer.name} ({problem:.200}). Export it anew from its source, or leave it "
            "out."
        ) from error


@contextmanager
def _bounded(seconds: float) -> Iterator[None]:
    """A decoder that hangs can be ended with its process only; whoever started that finds the sample and goes on.

    The system ends it, at the signal's default: no code of ours could while the decoder does not let it run.
    """
    if not seconds:
        yield
        return
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _fetch_ahead(item: Item) -> None:
    """Have the system read the files of the next sample while this one is decoded."""
    if not hasattr(os, "posix_fadvise"):
        return
    for path in item.paths:
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        except OSError:
            continue  # which its reader says
        try:
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_WILLNEED)
        except OSError:
            continue  # of a pipe, or a file system without this
        finally:
            os.close(descriptor)


def _written(group: Group, samples: list[CheckedSample], known: Known | None) -> pa.Table:
    """Rows of samples whose payload is in storage now; each column with its declaration."""
    rows, declared = payload_rows(group.storage, group.declaration, samples, known=known)
    columns = [
        column if column.name == "id" else declared[column.name].column().with_type(column.type)
        for column in rows.schema
    ]
    return pa.Table.from_arrays(rows.columns, schema=pa.schema(columns))


def _stream(tables: Sequence[pa.Table], borrowed: Collection[str] = ()) -> bytes:
    rows = (
        pa.concat_tables(tables, promote_options="permissive") if tables else pa.table({"id": pa.nulls(0, pa.string())})
    )
    if borrowed:
        rows = rows.replace_schema_metadata({_BORROWED: json.dumps(sorted(borrowed))})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema) as stream:
        stream.write_table(rows)
    return bytes(sink.getvalue())


def borrowed_fragments(rows: pa.Table) -> set[str]:
    """Fragments that were there before these rows of a group were read, and that they point to."""
    found = (rows.schema.metadata or {}).get(_BORROWED.encode())
    return set(json.loads(found)) if found else set()


#: of a group of which nothing could be read
NO_ROWS = _stream([])
