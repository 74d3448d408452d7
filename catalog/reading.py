"""A group of files becomes samples with payload in storage: the part of an import that runs where it may crash.

It is a plain function of a group, so that it can run in this process, in a process beside it, or as a task of Ray. What
comes back is small: rows in Arrow's stream format, and what could not be read.
"""

from __future__ import annotations

import faulthandler
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from sensorium.catalog.declaration import Declaration
from sensorium.catalog.fields import Field, from_column
from sensorium.catalog.importer import GROUP, Importer, Item
from sensorium.catalog.validation import CheckedSample, check_sample, merge_found
from sensorium.catalog.writing import payload_rows
from sensorium.platform import errors, plugins
from sensorium.platform.errors import InvalidSample, SensoriumError, UnreadableFile, UserError
from sensorium.platform.storage import Storage

__all__ = ["NO_ROWS", "Failure", "Group", "Read", "read_group"]

logger = logging.getLogger(__name__)

#: payload that is held in memory before it is written
_BUFFER_BYTES = 64 << 20


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
    """

    importer: str
    options: Mapping[str, str]
    items: tuple[Item, ...]
    declaration: Declaration
    storage: Storage
    seconds: float = 0.0


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
    failures: dict[int, Failure] = {}
    found: dict[str, Field] = {}
    tables: list[pa.Table] = []
    pending: list[CheckedSample] = []
    size = 0
    for index, item in enumerate(group.items):
        _fetch_ahead(group.items[index + 1 : index + 2])
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
            tables.append(_written(group, pending))
            pending, size = [], 0
    if pending:
        tables.append(_written(group, pending))
    return Read(_stream(tables), failures)


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
    """A decoder that hangs can be ended with its process only; whoever started that finds the sample and goes on."""
    if not seconds:
        yield
        return
    faulthandler.dump_traceback_later(seconds, exit=True, file=2)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()


def _fetch_ahead(items: Sequence[Item]) -> None:
    """Have the system read the next files while this one is decoded."""
    for path in (path for item in items for path in item.paths):
        if not hasattr(os, "posix_fadvise") or not Path(path).is_file():
            continue
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_WILLNEED)
        finally:
            os.close(descriptor)


def _written(group: Group, samples: list[CheckedSample]) -> pa.Table:
    """Rows of samples whose payload is in storage now; each column with its declaration."""
    rows, declared = payload_rows(group.storage, group.declaration, samples)
    columns = [
        column if column.name == "id" else declared[column.name].column().with_type(column.type)
        for column in rows.schema
    ]
    return pa.Table.from_arrays(rows.columns, schema=pa.schema(columns))


def _stream(tables: Sequence[pa.Table]) -> bytes:
    rows = (
        pa.concat_tables(tables, promote_options="permissive") if tables else pa.table({"id": pa.nulls(0, pa.string())})
    )
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema) as stream:
        stream.write_table(rows)
    return bytes(sink.getvalue())


#: of a group of which nothing could be read
NO_ROWS = _stream([])
