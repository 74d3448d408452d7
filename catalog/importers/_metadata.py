"""Scalars of a file that are known without decoding it: from its folders, its name, and tables beside it.

Later sources replace earlier ones, column by column: folders, then the pattern, then the tables.
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from sensorium.catalog.fields import ScalarField, check_name
from sensorium.catalog.importer import Source
from sensorium.catalog.importers import _tables
from sensorium.catalog.importers._files import places, stem, unreadable
from sensorium.catalog.importers._folders import LABEL_OPTION, from_folders
from sensorium.platform.errors import InvalidName, InvalidSetting, close_matches

__all__ = ["FILE_OPTIONS", "NAMES", "OPTIONS", "PATTERN_OPTION", "Known", "is_table", "known", "of_files"]

_log = logging.getLogger(__name__)

#: tables of metadata are called so, with the suffix of a table
NAMES = ("metadata", "labels", "targets", "outcomes")
#: the table of an export of ours, and the file that says that it is one
_EXPORTED, _ABOUT = "samples.parquet", "dataset.json"
#: columns that say which file a row is about, best first
_KEYS = ("file", "file_name", "filename", "file_path", "filepath", "path", "id")

OPTIONS = {
    "metadata": "table (CSV or Parquet) whose columns become scalars, relative to the source; none to use no table "
    f"(default: {', '.join(NAMES)}.csv or .parquet beside the files)",
    "key": f"column of that table that names the file or sample (default: the first of {', '.join(_KEYS)})",
}
PATTERN_OPTION = {
    "pattern": "regular expression with named groups, searched in each file's place below the source; groups become "
    r"scalars, such as (?P<digit>\d)_(?P<speaker>\w+)_(?P<take>\d+)",
}
#: of importers whose samples are a file each
FILE_OPTIONS = {**LABEL_OPTION, **PATTERN_OPTION, **OPTIONS}


@dataclass
class Known:
    """Typed scalars per file (or other key).

    Attributes:
        types: Arrow type of each scalar.
        rows: the scalars of each key; one that is not there is null.
    """

    types: dict[str, pa.DataType] = field(default_factory=dict)
    rows: dict[Any, dict[str, Any]] = field(default_factory=dict)

    def add(self, types: Mapping[str, pa.DataType], rows: Mapping[Any, Mapping[str, Any]]) -> None:
        """Put scalars in; those of the same names are replaced in all rows, for a column has one type."""
        for row in self.rows.values():
            for name in types:
                row.pop(name, None)
        self.types.update(types)
        for key, scalars in rows.items():
            self.rows.setdefault(key, {}).update({k: v for k, v in scalars.items() if v is not None})

    def fields(self) -> tuple[ScalarField, ...]:
        """The declarations of these scalars."""
        return tuple(ScalarField(name, kind) for name, kind in self.types.items())


_Layer = tuple[Mapping[str, pa.DataType], Mapping[Path, Mapping[str, Any]]]


def known(
    source: Source,
    owners: Mapping[Any, Path],
    reserved: Collection[str],
    *,
    label: str = "auto",
    also: Sequence[str] = (),
) -> Known:
    """What folders, names and tables say of samples, with ``source`` (place of the file) in any case.

    ``owners`` gives each sample's file; a sample is the file's path itself, or an id as tables may have it.
    ``label`` says what folders mean where the option does not; see ``LABEL_OPTION``. A column that is called like one
    of ``reserved`` (fields that decoding fills) gets the prefix ``metadata_``. ``also`` are further columns to join by.

    Raises:
        UnreadableFile: a table cannot be read or joined, or the pattern fits no file.
        InvalidSetting: the pattern is none.
    """
    where = places(source, owners.values())
    layers: list[_Layer] = [({"source": pa.string()}, {path: {"source": text} for path, text in where.items()})]
    layers.append(from_folders(where, source.options.get("label", label)))
    if "pattern" in source.options:
        layers.append(_from_pattern(source, where, reserved))
    result = Known()
    for types, rows in layers:
        result.add(types, {key: rows[path] for key, path in owners.items()})
    result.add(*_joined(source, owners, where, (*reserved, "source"), (*_KEYS, *also)))
    return result


def of_files(
    source: Source, paths: Iterable[Path], reserved: Collection[str], *, label: str = "auto", also: Sequence[str] = ()
) -> Known:
    """What is :func:`known` of samples that are a file each; its rows are in the order of ``paths``."""
    return known(source, {path: path for path in paths}, reserved, label=label, also=also)


def is_table(path: Path) -> bool:
    """Whether ``path`` is called like a table of metadata."""
    return stem(path).lower() in NAMES


def _from_pattern(
    source: Source, where: Mapping[Path, str], reserved: Collection[str]
) -> tuple[dict[str, pa.DataType], dict[Path, dict[str, Any]]]:
    text = source.options["pattern"]
    try:
        pattern = re.compile(text)
        groups = [check_name(name, "scalar (group of the pattern)") for name in pattern.groupindex]
    except re.error as error:
        raise InvalidSetting(f"pattern {text!r} is no regular expression: {error}. Quote it for your shell.") from error
    taken = sorted({*groups} & {*reserved, "id", "source"})
    if not groups or taken:
        problem = f"a group cannot be called {taken[0]}" if taken else "there is no named group"
        raise InvalidSetting(f"pattern {text!r}: {problem}; write (?P<name>...) with a name of your own.")
    matches = [pattern.search(place) for place in where.values()]
    if not any(matches):
        problem = f"pattern {text!r} fits none of {len(where)} files such as {next(iter(where.values()))!r}"
        raise unreadable(source.path, problem, "Mend the pattern.")
    types: dict[str, pa.DataType] = {}
    rows: dict[Path, dict[str, Any]] = {path: {} for path in where}
    for group in groups:
        kind, values = _tables.infer([match[group] if match else None for match in matches])
        types[group] = pa.string() if kind == pa.null() else kind
        for path, value in zip(where, values, strict=True):
            rows[path][group] = value
    return types, rows


def _joined(
    source: Source,
    owners: Mapping[Any, Path],
    where: Mapping[Path, str],
    reserved: Collection[str],
    columns: Sequence[str],
) -> tuple[dict[str, pa.DataType], dict[Any, dict[str, Any]]]:
    """Types and rows of the tables in the folders of the files ``where``, joined by one of ``columns``.

    Raises:
        UnreadableFile: a table cannot be read, has no column to join by, speaks of nothing that is there, or has a row
            that fits two samples.
    """
    tables: list[tuple[str, _Table]] = []  # the deepest folder first
    for folder in sorted({parent for place in where.values() for parent in _parents(place)}, key=len, reverse=True):
        found = _find(source, folder)
        tables.extend((folder, _read(path, _key(path, source.options.get("key"), columns), reserved)) for path in found)
    if not tables:
        return {}, {}
    types: dict[str, pa.DataType] = {}
    for _, table in tables:
        for name, kind in table.types.items():
            types[name] = _common(table.path, name, types.get(name, kind), kind)
    alone = {path for path, count in Counter(owners.values()).items() if count == 1}
    rows: dict[Any, dict[str, Any]] = {}
    for key, path in owners.items():
        row: dict[str, Any] = {}
        for folder, table in tables:
            if where[path].startswith(folder):
                row = {**table.row(_spellings(where[path], folder, key, alone=path in alone), key), **row}
        wide = {name for name, value in row.items() if types[name] == pa.float64() and isinstance(value, int)}
        rows[key] = {name: float(value) if name in wide else value for name, value in row.items()}
    for _, table in tables:
        table.check_use(strict=source.path.is_dir() or "metadata" in source.options)
    return types, rows


def _parents(place: str) -> list[str]:
    """The folders above a place, each with ``/`` at its end; the source itself is empty."""
    return [place[:index] for index in range(len(place)) if index == 0 or place[index - 1] == "/"]


def _spellings(place: str, folder: str, key: object, *, alone: bool) -> list[str]:
    """What a table in ``folder`` may call a sample, surest first; ``alone`` says that it is all of its file."""
    own = [key, key.rpartition("/")[2]] if isinstance(key, str) else []
    if not alone:
        return own
    local = place[len(folder) :]
    bare = stem(Path(place))
    name = place.rpartition("/")[2]
    return [*own, local, local[: len(local) - len(name)] + bare, place, name, bare]


def _find(source: Source, folder: str) -> list[Path]:
    """The tables of metadata in ``folder``: the one that the option names, or those of the usual names."""
    named = source.options.get("metadata")
    root = source.path if source.path.is_dir() else source.path.parent
    if named == "none":
        return []
    if named is not None:
        if not (root / named).is_file():
            raise unreadable(root / named, "there is no such table of metadata", "Check the option metadata=.")
        return [] if folder else [root / named]
    candidates = [root / folder / f"{name}{end}" for name in NAMES for end in (".csv", ".tsv", ".parquet")]
    if (root / folder / _ABOUT).is_file():
        candidates.append(root / folder / _EXPORTED)
    return [path for path in candidates if path.is_file() and path != source.path]


@dataclass
class _Table:
    """A table of metadata: its rows by the text of their key, and who used them."""

    path: Path
    key: str
    types: dict[str, pa.DataType]
    rows: dict[str, dict[str, Any]]
    users: dict[str, Any] = field(default_factory=dict)

    def row(self, spellings: Iterable[str], user: object) -> dict[str, Any]:
        """The row of the first spelling that has one; empty where none has."""
        for spelling in spellings:
            if spelling in self.rows:
                other = self.users.setdefault(spelling, user)
                if other != user:
                    raise unreadable(
                        self.path,
                        f"column {self.key!r}: {spelling!r} fits both {other} and {user}",
                        "Write places relative to the table, such as train/1.png.",
                    )
                return self.rows[spelling]
        return {}

    def check_use(self, *, strict: bool) -> None:
        """Refuse a table that speaks of nothing that is there; unless ``strict``, it may speak of the file's neighbours."""
        _log.info("%s: %d of %d rows joined", self.path, len(self.users), len(self.rows))
        if strict and not self.users:
            example = next(iter(self.rows), "")
            raise unreadable(
                self.path,
                f"none of the {len(self.rows)} names in column {self.key!r} (such as {example!r}) is there",
                "Name another column with key=COLUMN, or leave the table out with metadata=none.",
            )


def _read(path: Path, key: str, reserved: Collection[str]) -> _Table:
    columns = _tables.header(path)
    frame = _tables.read(path)
    schema = pq.read_schema(path) if _tables.is_parquet(path) else None
    names: dict[str, str] = {}
    types: dict[str, pa.DataType] = {}
    values: dict[str, list[Any]] = {}
    # what the importer knows itself stands in the table of an export, too, and so may the id of an earlier one
    exported, told = path.name == _EXPORTED, {*reserved, "metadata_id"}
    for column in columns:
        if column in (key, "") or (exported and column in told):  # the unnamed column is a row index of some programs
            continue
        name = _field_name(path, column, reserved)
        if name in names:
            raise unreadable(path, f"columns {names[name]!r} and {column!r} would both be {name!r}", "Rename one.")
        names[name] = column
        cells = frame[column].to_list()
        kind, cells = _tables.infer(cells) if schema is None else (_stored(schema.field(column).type), cells)
        if not pa.types.is_null(kind):
            types[name], values[name] = kind, cells
    rows: dict[str, dict[str, Any]] = {}
    for index, cell in enumerate(frame[key].to_list()):
        text = "" if cell is None else str(cell).strip().replace("\\", "/").removeprefix("./")
        if not text and exported:  # a sample without arrays has no file
            continue
        if not text or text in rows:
            what = f"{text!r} is there twice" if text else "no name"
            raise unreadable(path, f"column {key!r}, row {frame[_tables.ROW][index]}: {what}", "Name every file once.")
        rows[text] = {name: values[name][index] for name in types}
    return _Table(path, key, types, rows)


def _key(path: Path, wanted: str | None, usual: Sequence[str]) -> str:
    """The column that says which file or sample a row is about: ``wanted``, or the first of a usual name."""
    columns = _tables.header(path)
    if wanted is not None:
        if wanted not in columns:
            problem = f"has no column {wanted!r} (key=). {close_matches(wanted, columns)}"
            raise unreadable(path, problem, "Mend the option key.")
        return wanted
    for name in usual:
        for column in columns:
            if column.strip().lower() == name.lower():
                return column
    raise unreadable(
        path,
        f"no column says which file a row is about (columns: {', '.join(columns)})",
        f"Call it {_KEYS[0]!r}, name it with key=COLUMN, or leave the table out with metadata=none.",
    )


def _field_name(path: Path, column: str, reserved: Collection[str]) -> str:
    """The field that a column becomes: its own name if it can be one, else with ``_`` for what cannot be in a name."""
    try:
        name = check_name(column, "field")
    except InvalidName:
        name = re.sub(r"[^A-Za-z0-9]+", "_", column).strip("_")
        name = name if re.match("[A-Za-z]", name) else f"column_{name}".rstrip("_")
        name = check_name(name[:128].rstrip("_"), f"field (column {column!r} of {path})")
    return f"metadata_{name}" if name in reserved or name == "id" else name


def _stored(kind: pa.DataType) -> pa.DataType:
    """``kind`` without the large and dictionary variants, which say how a file was written and not what it holds."""
    if pa.types.is_dictionary(kind):
        return _stored(kind.value_type)
    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return pa.string()
    if pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind):
        return pa.binary()
    if pa.types.is_large_list(kind) or pa.types.is_list(kind):
        return pa.list_(_stored(kind.value_type))
    if pa.types.is_struct(kind):
        return pa.struct([pa.field(child.name, _stored(child.type)) for child in kind])
    return kind


def _common(path: Path, name: str, one: pa.DataType, other: pa.DataType) -> pa.DataType:
    if one == other:
        return one
    if {one, other} == {pa.int64(), pa.float64()}:
        return pa.float64()
    raise unreadable(
        path, f"column {name!r} is {other} here and {one} in another table of the source", "Give it one type."
    )
