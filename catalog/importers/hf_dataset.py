"""Data sets of Hugging Face's ``datasets``, saved with ``save_to_disk``: Arrow files beside ``state.json``.

See :mod:`._rows` for what becomes of the columns. ``dataset_info.json`` says which are classes, which become their names, and
which are arrays of a dtype. A folder with several splits (``dataset_dict.json``) gives the scalar ``split``. Rows are read by
record batches; the package ``datasets`` is not needed.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from sensorium.catalog.fields import Field
from sensorium.catalog.importer import Importer, Item, Source
from sensorium.catalog.importers import _rows
from sensorium.catalog.importers._files import once, unreadable

__all__ = ["importer"]

_FAULTS = (pa.ArrowException, OSError, EOFError, ValueError)
_AGAIN = "Save it anew with save_to_disk."
_MAX_JSON = 1 << 26
_SURE = 0.95


def _folders(source: Source) -> list[Path]:
    """The folders of splits: the source itself, or those in it."""
    if not source.path.is_dir():
        return []
    if (source.path / "state.json").is_file():
        return [source.path]
    return sorted(path.parent for path in source.path.glob("*/state.json") if path.is_file())


def _matches(source: Source) -> float:
    found = _folders(source)
    return _SURE * bool(found and all((folder / "dataset_info.json").is_file() for folder in found))


def _document(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > _MAX_JSON:
            raise unreadable(path, f"has more than {_MAX_JSON} bytes", _AGAIN)
        document = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise unreadable(path, f"cannot be read as JSON ({error})", _AGAIN) from error
    if not isinstance(document, dict):
        raise unreadable(path, "is no JSON object", _AGAIN)
    return document


def _files(folder: Path) -> list[Path]:
    """The Arrow files of a split, in the order of its rows."""
    state = folder / "state.json"
    document = _document(state)
    if document.get("_indices_data_files"):
        raise unreadable(
            state, "its rows are in another order than its files", "Call flatten_indices() and save it anew."
        )
    listed = document.get("_data_files")
    names = (
        [one.get("filename") if isinstance(one, dict) else None for one in listed] if isinstance(listed, list) else []
    )
    if not names or not all(isinstance(name, str) and name == Path(name).name for name in names):
        raise unreadable(state, "names no files of its folder", _AGAIN)
    return [folder / str(name) for name in names]


@once
def _parts(source: Source) -> list[_rows.Part]:
    folders = _folders(source)
    if not folders:
        says = "there is no such file or folder" if not source.path.exists() else "no state.json is in it"
        raise unreadable(source.path, says, "Name a folder that save_to_disk made.")
    found = []
    for folder in folders:
        inside = folder != source.path
        for path in _files(folder):
            for number, rows in enumerate(_sizes(path)):
                split = _rows.split_of(folder.name) or folder.name if inside else ""
                found.append(_rows.Part(path, number, rows, split, folder.name if inside else ""))
    return found


def _sizes(path: Path) -> list[int]:
    """Rows of each record batch; the file is mapped, so that only its headers are looked at."""
    try:
        with pa.memory_map(str(path)) as file, pa.ipc.open_stream(file) as stream:
            return [batch.num_rows for batch in stream]
    except _FAULTS as error:
        raise unreadable(path, f"cannot be read as Arrow stream ({error})", _AGAIN) from error


@once
def _schema(source: Source) -> pa.Schema:
    path = _parts(source)[0].path if _parts(source) else source.path
    try:
        with pa.memory_map(str(path)) as file, pa.ipc.open_stream(file) as stream:
            return _rows.bare(stream.schema)
    except _FAULTS as error:
        raise unreadable(path, f"cannot be read as Arrow stream ({error})", _AGAIN) from error


@once
def _columns(source: Source) -> _rows.Columns:
    part = next((one for one in _parts(source) if one.rows), None)
    if part is None:
        raise unreadable(source.path, "has no rows", "Leave it out.")
    described = _document(part.path.parent / "dataset_info.json").get("features")
    first = _batch(part.path, part.path.stat().st_mtime_ns, part.number).slice(0, 1).to_pylist()[0]
    return _rows.columns(source, first, _schema(source), *_rows.features(described))


def _modality(source: Source) -> str:
    return _columns(source).modality


def _ids(source: Source) -> list[Any] | None:
    column = source.options.get("id")
    if column is None:
        return None
    if column not in _schema(source).names:
        raise unreadable(source.path, f"has no column {column!r} (id=)", "Mend the option id.")
    found: list[Any] = []
    for part in _parts(source):
        table = _batch(part.path, part.path.stat().st_mtime_ns, part.number)
        found += table.column(column).to_pylist()
    return found


def _plan(source: Source) -> Iterator[Item]:
    yield from _rows.items(source, _parts(source), _columns(source), _ids(source))


def _fields(source: Source) -> tuple[Field, ...]:
    return _rows.scalar_fields(_columns(source), _schema(source), _parts(source))


def _read(item: Item, options: Mapping[str, str]) -> dict[str, Any]:  # noqa: ARG001 - all importers are called alike
    path, part, row = item.paths[0], int(item.place["part"]), int(item.place["row"])
    try:
        values = _batch(path, path.stat().st_mtime_ns, part).slice(row, 1).to_pylist()[0]
    except (*_FAULTS, IndexError) as error:
        raise unreadable(path, f"record batch {part} cannot be read ({error})", _AGAIN) from error
    where = f"row {row} of record batch {part}"
    return {**_rows.sample(path, where, values, item.place["columns"]), **item.scalars}


@functools.lru_cache(maxsize=1)
def _batch(path: Path, changed: int, wanted: int) -> pa.Table:  # noqa: ARG001 - a new file is read anew
    """A record batch; the file is mapped, and the last one kept, for its rows are asked for one after another."""
    try:
        with pa.memory_map(str(path)) as file, pa.ipc.open_stream(file) as stream:
            for number, batch in enumerate(stream):
                if number == wanted:
                    batch.validate(full=True)  # offsets of a damaged file point anywhere
                    table = pa.Table.from_batches([batch])
                    return table.cast(_rows.bare(table.schema))
    except _FAULTS as error:
        raise unreadable(path, f"record batch {wanted} cannot be read ({error})", _AGAIN) from error
    raise unreadable(path, f"has no record batch {wanted}", _AGAIN)


importer = Importer(
    name="hf_dataset",
    title="Hugging Face data sets saved with save_to_disk",
    modality="image",
    modality_of=_modality,
    matches=_matches,
    plans_guarded=True,
    plan=_plan,
    read=_read,
    fields=_fields,
    options=_rows.OPTIONS,
)
