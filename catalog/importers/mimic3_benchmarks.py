"""Stays in intensive care of the MIMIC-III benchmarks: ``train/`` and ``test/``, each with a list and a table per stay.

A list (``listfile.csv``) names tables and their targets; a table (``10011_episode1_timeseries.csv``) has the column
``Hours`` and one per variable, empty where nothing was measured. A stay that a list names becomes ``times`` (float64, hours
since admission), ``variables`` (int32, index into the attribute ``variable_names``, the columns' order) and ``values``
(float32, units as published), row by row. Series are whole: what a task may see of them (``period_length``) is not cut.

The list's other columns become scalars: ``y_true``, the phenotypes, and so on. Where it has several rows for a stay, as
those of decompensation and of the length of stay do, all of them become lists, in the list's order. ``split`` is the folder's
name; lists beside the folders (``train_listfile.csv``, ``val_listfile.csv``), which part the folder train further, go before
it. ``subject_id`` and ``episode`` are those of the table's name; ids are places below the source.

Texts in the cells become numbers. One that begins with a number is that number: ``4 Spontaneously`` is 4. Where a variable
has other texts, too, and no plain numbers, all its texts are categories: a value is the place, from 0, in their sorted list,
which is in the attribute ``categories``; all tables are read once for it. Two spellings of one thing are two categories then.
With the option ``categories`` no text is guessed at: a variable's texts have the numbers that its file gives.

Layout: H. Harutyunyan et al., "Multitask learning and benchmarking with clinical time series data", Scientific Data 6, 2019.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from sensorium.catalog.fields import Field, ScalarField
from sensorium.catalog.importer import Importer, Item, Source
from sensorium.catalog.importers import _embedded, _tables
from sensorium.catalog.importers._files import head, identifiers, once, unreadable
from sensorium.platform.errors import InvalidSetting, UnreadableFile

__all__ = ["importer"]

_LIST, _TABLE, _HOURS = "listfile.csv", "_timeseries.csv", "Hours"
_KEYS = ("stay", "filename")
_NAME = re.compile(r"(\d{1,18})_episode(\d{1,18})_timeseries\.csv")
_NUMBERED = re.compile(r"\s*([-+]?\d+(?:\.\d*)?)\s+\D")
#: a table of one stay; months of minutes have fewer rows
_MAX_BYTES = 1 << 28
#: of one variable
_MAX_CATEGORIES = 1000
#: tables whose columns are looked at, to know those of all
_PROBED = 32
_MEND = "Mend the table, or fetch it anew."
_FIELDS: tuple[Field, ...] = (
    ScalarField("split", pa.string(), description="by the folder, or by the list beside it"),
    ScalarField("subject_id", pa.int64(), description="the patient; one may have several stays"),
    ScalarField("episode", pa.int64(), description="number of the stay among the patient's"),
)
_RESERVED = ("id", "times", "variables", "values", "variable_names", *(field.name for field in _FIELDS))

#: variable -> text -> its number
Codes = Mapping[str, Mapping[str, float]]


@dataclass(frozen=True)
class _Found:
    """The stays of a source: tables with their scalars, the types of these, the variables, the codes of texts."""

    rows: dict[Path, dict[str, Any]]
    types: dict[str, pa.DataType]
    variables: list[str]
    codes: Codes
    categories: dict[str, list[str]]


def _lists(source: Source) -> dict[Path, tuple[str, tuple[Path, ...]]]:
    """List -> its split, and the folders that its tables may be in."""
    root = source.path.parent if source.path.is_file() else source.path
    if not root.is_dir():
        return {}
    if (root / _LIST).is_file():  # one of the folders alone
        return {root / _LIST: (root.name, (root,))} if source.path in (root, root / _LIST) else {}
    folders = tuple(path.parent for path in sorted(root.glob(f"*/{_LIST}")))
    if source.path.is_file() or not folders:
        return {}
    beside = sorted(root.glob(f"*_{_LIST}"))
    return {
        **{folder / _LIST: (folder.name, (folder,)) for folder in folders},
        **{path: (path.name.removesuffix(f"_{_LIST}"), folders) for path in beside},
    }


def _matches(source: Source) -> float:
    for path in _lists(source):
        lines = head(path, 4096).decode("utf-8", "replace").splitlines()
        keyed = bool(lines) and lines[0].split(",")[0].strip().strip('"') in _KEYS
        if not keyed or len(lines) < 2 or not lines[1].split(",")[0].strip().strip('"').endswith(_TABLE):
            return 0.0
    return 0.95 * bool(_lists(source))  # surer than what knows any table of series


@once
def _found(source: Source) -> _Found:
    """All that is known of a source before its stays are decoded.

    Raises:
        UnreadableFile: a list is broken, or there is none.
    """
    lists = _lists(source)
    if not lists:
        says = f"has no train/{_LIST}" if source.path.exists() else "there is no such file or folder"
        raise unreadable(source.path, says, "Name the folder of one task, which holds train and test.")
    rows: dict[Path, dict[str, Any]] = {}
    targets: dict[Path, dict[str, list[str | None]]] = {}
    for path, (split, folders) in lists.items():
        for table, columns in _listed(path, folders).items():
            rows.setdefault(table, {})["split"] = split
            targets[table] = columns
    types = _typed(targets, rows)
    for table, row in rows.items():
        if match := _NAME.fullmatch(table.name):
            row |= {"subject_id": int(match[1]), "episode": int(match[2])}
    variables = _variables(next(iter(lists)), [table for table in rows if table.is_file()])
    if "categories" in source.options:
        return _Found(dict(sorted(rows.items())), types, variables, _given(source), {})
    codes, categories = _gathered(rows, variables)
    return _Found(dict(sorted(rows.items())), types, variables, codes, categories)


def _variables(path: Path, tables: list[Path]) -> list[str]:
    """The columns that most of the first tables have, besides the hours; ``path`` is the list that names them."""
    found: Counter[tuple[str, ...]] = Counter()
    for table in tables[:_PROBED]:
        try:
            columns = _tables.header(table)
        except UnreadableFile:
            continue  # which its reader says
        if _HOURS in columns and len(columns) > 1:
            found[tuple(name for name in columns if name != _HOURS)] += 1
    if not found:
        problem = f"none of the tables that it names is there with the column {_HOURS} and variables"
        raise unreadable(path, problem, "Fetch them.")
    return list(found.most_common(1)[0][0])


def _listed(path: Path, folders: tuple[Path, ...]) -> dict[Path, dict[str, list[str | None]]]:
    """Table -> the columns of its rows in a list, as text."""
    frame = _tables.read(path)
    key = frame.columns[0]
    names = {column: _embedded.field_name(column) for column in frame.columns if column not in (key, _tables.ROW)}
    taken = sorted(set(names.values()) & set(_RESERVED))
    if key not in _KEYS or len(set(names.values())) < len(names) or taken:
        problem = f"its columns are not those of a list of stays ({', '.join(frame.columns[:-1])})"
        raise unreadable(path, problem, f"The first is {_KEYS[0]}, and the others have names of their own.")
    found: dict[Path, dict[str, list[str | None]]] = {}
    for row in frame.iter_rows(named=True):
        name = row[key]
        if name is None or "/" in name or "\\" in name or not name.endswith(_TABLE):
            raise unreadable(path, f"row {row[_tables.ROW]}: {name!r} is no name of a table *{_TABLE}", _MEND)
        table = next((folder / name for folder in folders if (folder / name).is_file()), folders[0] / name)
        columns = found.setdefault(table, {scalar: [] for scalar in names.values()})
        for column, scalar in names.items():
            columns[scalar].append(row[column])
    return found


def _typed(
    targets: Mapping[Path, Mapping[str, list[str | None]]], rows: Mapping[Path, dict[str, Any]]
) -> dict[str, pa.DataType]:
    """Put the targets into the rows, in the types that their columns have over all lists; lists where stays have several."""
    types: dict[str, pa.DataType] = {}
    several = any(len(cells) > 1 for columns in targets.values() for cells in columns.values())
    for name in dict.fromkeys(name for columns in targets.values() for name in columns):
        tables = [table for table, columns in targets.items() if name in columns]
        kind, values = _tables.infer([cell for table in tables for cell in targets[table][name]])
        if pa.types.is_null(kind):
            continue
        types[name] = pa.list_(kind) if several else kind
        place = 0
        for table in tables:
            count = len(targets[table][name])
            rows[table][name] = values[place : place + count] if several else values[place]
            place += count
    return types


def _given(source: Source) -> Codes:
    """The numbers of texts by the option ``categories``."""
    root = source.path.parent if source.path.is_file() else source.path
    path = root / source.options["categories"]
    try:
        content = json.loads(path.read_bytes())
        return {str(name): {str(text): float(code) for text, code in _pairs(texts)} for name, texts in content.items()}
    except (OSError, ValueError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        problem = f"categories={source.options['categories']}: {path} cannot be used ({error})"
        remedy = 'Write JSON such as {"NAME": ["lowest", "highest"]} or {"NAME": {"lowest": 1, "highest": 2}}.'
        raise InvalidSetting(f"{problem}. {remedy}") from error


def _pairs(texts: Any) -> list[tuple[Any, Any]]:
    """Texts with their numbers; those of a list count from 1."""
    found = [(text, number) for number, text in enumerate(texts, 1)] if isinstance(texts, list) else [*texts.items()]
    if not all(isinstance(code, int | float) and math.isfinite(code) for _, code in found):
        raise ValueError("a category has no finite number")
    return found


def _gathered(tables: Mapping[Path, Any], variables: list[str]) -> tuple[Codes, dict[str, list[str]]]:
    """The codes of the variables whose cells are texts, some without a number, and these texts, sorted."""
    texts: dict[str, set[str]] = defaultdict(set)
    plain: set[str] = set()
    for path in tables:
        try:
            frame = _tables.read(path)
        except UnreadableFile:
            continue  # which its reader says
        for name in variables:
            if name in frame.columns and name not in plain:
                cells = {cell.strip() for cell in frame[name].unique() if cell and not _is_missing(cell)}
                numbers = {cell for cell in cells if _number(cell) is not None}
                texts[name] |= cells - numbers
                if numbers:
                    plain.add(name)
    categories = {
        name: sorted(texts[name])
        for name in variables
        if name not in plain
        and any(_NUMBERED.match(text) is None for text in texts[name])
        and len(texts[name]) <= _MAX_CATEGORIES
    }
    return {name: {text: float(place) for place, text in enumerate(of)} for name, of in categories.items()}, categories


def _is_missing(cell: str) -> bool:
    return cell.strip().lower() in _tables.MISSING - {"none"}  # None is an answer on the Glasgow coma scale


def _number(cell: str) -> float | None:
    try:
        return float(cell)
    except ValueError:
        return None


def _plan(source: Source) -> Iterator[Item]:
    found = _found(source)
    place = {
        "variables": found.variables,
        "codes": {name: dict(codes) for name, codes in found.codes.items()},
        "said": "categories" in source.options,
    }
    for path, name in identifiers(source, found.rows).items():
        yield Item(name, (path,), found.rows[path], place)


def _fields(source: Source) -> tuple[Field, ...]:
    return (*_FIELDS, *(ScalarField(name, kind) for name, kind in _found(source).types.items()))


def _attributes(source: Source) -> dict[str, Any]:
    found = _found(source)
    return {"variable_names": found.variables, **({"categories": found.categories} if found.categories else {})}


def _read(item: Item, _options: Mapping[str, str]) -> dict[str, Any]:
    path, variables = item.paths[0], list(item.place["variables"])
    if not path.is_file():
        raise unreadable(path, f"a {_LIST} names it, and it is not there", "Fetch it, or take it out of the list.")
    if path.stat().st_size > _MAX_BYTES:
        raise unreadable(path, f"has more than {_MAX_BYTES} bytes, too many for one stay", "Leave it out.")
    frame = _tables.read(path)
    names = [name for name in frame.columns if name != _tables.ROW]
    if sorted(names) != sorted([_HOURS, *variables]):
        strange = sorted({*names} ^ {_HOURS, *variables})
        raise unreadable(path, f"its columns are not those of the other tables ({', '.join(strange)})", _MEND)
    hours = _tables.numbers(path, frame, _HOURS, _MEND).to_numpy()
    measured = np.stack([_column(path, frame, name, item.place) for name in variables], axis=1)  # [rows, variables]
    order = np.argsort(hours, kind="stable")
    rows, columns = np.nonzero(np.isfinite(measured[order]))
    if not rows.size:
        raise unreadable(path, "nothing was measured in this stay", "Leave it out.")
    return {
        **item.scalars,
        "times": hours[order][rows],
        "variables": columns.astype(np.int32),
        "values": measured[order][rows, columns].astype(np.float32),
    }


def _column(path: Path, frame: pl.DataFrame, name: str, place: Mapping[str, Any]) -> npt.NDArray[np.float64]:
    """The values of a variable, NaN where nothing was measured."""
    codes = place["codes"].get(name, {})
    values = np.full(frame.height, np.nan)
    for index, cell in enumerate(frame[name]):
        if cell is None or _is_missing(cell):
            continue
        value = codes.get(cell.strip())
        if value is None:
            value = _number(cell)
        if value is None and (numbered := _NUMBERED.match(cell)) and (place["said"] or not codes):
            value = float(numbered[1])
        if value is None or not math.isfinite(value):
            problem = f"column {name!r}, row {frame[_tables.ROW][index]}: {cell!r:.60} has no number"
            raise unreadable(path, problem, "Give the numbers of its texts with categories=FILE.json.")
        values[index] = value
    return values


importer = Importer(
    name="mimic3_benchmarks",
    title="stays of the MIMIC-III benchmarks (listfile.csv and *_timeseries.csv)",
    modality="series",
    matches=_matches,
    plan=_plan,
    read=_read,
    attributes=_attributes,
    fields=_fields,
    options={
        "categories": "JSON file, relative to the source: variable -> its texts in rising order (1, 2, ...), or text -> "
        "number (default: texts that begin with a number are that number, others places in their sorted list)"
    },
)
