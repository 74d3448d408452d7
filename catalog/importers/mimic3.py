"""Stays in intensive care of an extract of MIMIC-III: the tables ICUSTAYS, ADMISSIONS, CHARTEVENTS and LABEVENTS.

The tables lie in one folder, under their published names (in upper or lower case) and with their published columns, packed
as ``.csv.gz`` or not; one of the two tables of events will do. A stay becomes ``times`` (float64, hours since INTIME),
``variables`` (int32, index into the attribute ``variable_names``, the ITEMIDs in rising order) and ``values`` (float32,
VALUENUM), sorted by time. Observations are those of the stay (ICUSTAY_ID, for laboratory values HADM_ID) between INTIME and
OUTTIME; rows without a number, and those that the database marks as errors, are left out. Units are the database's own:
nothing is converted. ``in_hospital_death`` is HOSPITAL_EXPIRE_FLAG of the admission; ids are ICUSTAY_IDs.

Tables of events are never in memory as a whole: they are scanned once for each part of the stays, and the number of parts
grows with their size. The option ``items`` makes the parts small and the scans fast; without it all ITEMIDs with a number
are variables, and are found by one more scan.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from sensorium.catalog.fields import Field, ScalarField
from sensorium.catalog.importer import Importer, Item, Source, suffix
from sensorium.catalog.importers import _tables
from sensorium.catalog.importers._files import once, unreadable
from sensorium.platform.errors import InvalidSetting, UnreadableFile

__all__ = ["importer"]

#: table -> the columns that are read
_STAYS = ("SUBJECT_ID", "HADM_ID", "ICUSTAY_ID", "INTIME", "OUTTIME")
_ADMISSIONS = ("HADM_ID", "HOSPITAL_EXPIRE_FLAG")
#: table of events -> the column that says to which stay a row belongs
_EVENTS = {"CHARTEVENTS": "ICUSTAY_ID", "LABEVENTS": "HADM_ID"}
_COLUMNS = ("ITEMID", "CHARTTIME", "VALUENUM")
_TIME = "%Y-%m-%d %H:%M:%S"
#: bytes of the tables of events whose rows may be in memory at once
_PART_BYTES = 1 << 30
#: how much gzip shrinks such tables
_PACKED = 10
_SUFFIXES = (".csv", ".csv.gz")
_MEND = "Mend the table, or fetch it anew."
_FIELDS: tuple[Field, ...] = (
    ScalarField("subject_id", pa.int64(), description="the patient; one may have several stays"),
    ScalarField("hadm_id", pa.int64(), description="the admission to hospital"),
    ScalarField("length_of_stay_h", pa.float64(), unit="h", minimum=0, description="from INTIME to OUTTIME"),
    ScalarField("in_hospital_death", pa.int64(), minimum=0, maximum=1, description="1 died in hospital, 0 survived"),
)
#: tables of events: name, file, and when it was written, so that what is kept of it is not taken for a newer one's
_Events = tuple[tuple[str, Path, int], ...]
_OPTIONS = {"items": "ITEMIDs that are variables, in the order of their indices, A,B,... (default: all, rising)"}


def _beside(folder: Path) -> dict[str, Path]:
    """Table -> its file in a folder."""
    files = [path for path in sorted(folder.iterdir()) if suffix(path) in _SUFFIXES]
    return {path.name[: len(path.name) - len(suffix(path))].upper(): path for path in files}


def _folder(source: Source) -> dict[str, Path]:
    """The tables of the source: a folder, or the table of stays in one."""
    if source.path.is_dir():
        return _beside(source.path)
    if not source.path.exists():
        raise unreadable(source.path, "there is no such file or folder", "Check the path.")
    found = _beside(source.path.parent)
    return found if found.get("ICUSTAYS") == source.path else {}


def _matches(source: Source) -> float:
    if not source.path.exists():
        return 0.0
    tables = _folder(source)
    if not {"ICUSTAYS", "ADMISSIONS"} <= set(tables) or not set(_EVENTS) & set(tables):
        return 0.0
    try:
        columns = {name.upper() for name in _tables.header(tables["ICUSTAYS"])}
    except UnreadableFile:
        return 0.0
    return 0.95 if set(_STAYS) <= columns else 0.0  # surer than what knows any table of series


@once
def _found(source: Source) -> dict[str, Path]:
    """All tables that are needed.

    Raises:
        UnreadableFile: one is not there.
    """
    tables = _folder(source)
    missing = [name for name in ("ICUSTAYS", "ADMISSIONS") if name not in tables]
    if not missing and not set(_EVENTS) & set(tables):
        missing = ["CHARTEVENTS or LABEVENTS"]
    if missing:
        raise unreadable(source.path, f"has no table {missing[0]} (.csv or .csv.gz)", "Name the folder of the extract.")
    return tables


def _plan(source: Source) -> Iterator[Item]:
    tables = _found(source)
    _items(source.options)
    stays = _stays(tables["ICUSTAYS"])
    died = _admissions(tables["ADMISSIONS"])
    parts = _parts([tables[name] for name in _EVENTS if name in tables])
    for place, row in enumerate(stays.iter_rows(named=True)):
        scalars = {"subject_id": row["SUBJECT_ID"], "hadm_id": row["HADM_ID"]}
        if row["HADM_ID"] in died:
            scalars["in_hospital_death"] = died[row["HADM_ID"]]
        if row["OUTTIME"] is not None:
            scalars["length_of_stay_h"] = (row["OUTTIME"] - row["INTIME"]).total_seconds() / 3600
        where = {"part": place * parts // stays.height, "parts": parts}
        yield Item(str(row["ICUSTAY_ID"]), (tables["ICUSTAYS"],), scalars, where)


def _parts(events: list[Path]) -> int:
    """In how many parts the stays are read."""
    size = sum(path.stat().st_size * (_PACKED if suffix(path).endswith(".gz") else 1) for path in events)
    return max(1, math.ceil(size / _PART_BYTES))


def _items(options: Mapping[str, str]) -> tuple[int, ...] | None:
    """The ITEMIDs of the option."""
    if "items" not in options:
        return None
    texts = [text.strip() for text in options["items"].split(",") if text.strip()]
    if not texts or len(set(texts)) < len(texts) or not all(text.isdecimal() for text in texts):
        raise InvalidSetting(f"items must name ITEMIDs, each once, such as 211,220045; got {options['items']!r}.")
    return tuple(int(text) for text in texts)


def _scan(path: Path, columns: tuple[str, ...]) -> pl.LazyFrame:
    """Columns of a table as text, under their names in upper case; nothing is read yet.

    Raises:
        UnreadableFile: it lacks one.
    """
    there = {name.upper(): name for name in _tables.header(path)}
    missing = [name for name in columns if name not in there]
    if missing:
        raise unreadable(path, f"has no column {missing[0]} (columns: {', '.join(there)})", _MEND)
    return pl.scan_csv(path, infer_schema=False).select(pl.col(there[name]).alias(name) for name in columns)


def _collect(path: Path, frame: pl.LazyFrame) -> pl.DataFrame:
    try:
        return frame.collect(engine="streaming")
    except (pl.exceptions.PolarsError, OSError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise unreadable(path, f"cannot be read ({reason})", _MEND) from error


def _whole(*names: str) -> list[pl.Expr]:
    return [pl.col(name).cast(pl.Int64) for name in names]


def _moment(*names: str) -> list[pl.Expr]:
    return [pl.col(name).str.to_datetime(_TIME) for name in names]


def _stays(path: Path) -> pl.DataFrame:
    """All stays that have an admission and a beginning, by their ids."""
    frame = _scan(path, _STAYS).with_columns(*_whole(*_STAYS[:3]), *_moment(*_STAYS[3:]))
    stays = _collect(path, frame).drop_nulls(_STAYS[:4]).sort("ICUSTAY_ID")
    if stays["ICUSTAY_ID"].is_duplicated().any():
        twice = stays.filter(pl.col("ICUSTAY_ID").is_duplicated())["ICUSTAY_ID"][0]
        raise unreadable(path, f"stay {twice} is there twice", _MEND)
    if stays.height == 0:
        raise unreadable(path, "holds no stay", _MEND)
    return stays


def _admissions(path: Path) -> dict[int, int]:
    """Admission -> whether the patient died in hospital."""
    rows = _collect(path, _scan(path, _ADMISSIONS).with_columns(*_whole(*_ADMISSIONS))).drop_nulls()
    wrong = rows.filter(~pl.col("HOSPITAL_EXPIRE_FLAG").is_in([0, 1]))
    if wrong.height:
        raise unreadable(path, f"HOSPITAL_EXPIRE_FLAG is {wrong[0, 1]} of admission {wrong[0, 0]}", _MEND)
    return dict(rows.iter_rows())


def _rows(path: Path, key: str) -> pl.LazyFrame:
    """The numbers of a table of events, without those that are marked as errors."""
    columns = {name.upper() for name in _tables.header(path)}
    marked = "ERROR" in columns
    frame = _scan(path, (key, *_COLUMNS, *(("ERROR",) if marked else ())))
    if marked:
        frame = frame.filter(pl.col("ERROR").is_null() | (pl.col("ERROR") != "1"))
    return frame.filter(pl.col("VALUENUM").is_not_null() & pl.col("CHARTTIME").is_not_null())


@functools.lru_cache(maxsize=4)
def _variables(events: _Events, items: tuple[int, ...] | None) -> tuple[int, ...]:
    """The ITEMIDs that the variables point to."""
    if items is not None:
        return items
    found: set[int] = set()
    for name, path, _ in events:
        ids = _rows(path, _EVENTS[name]).select(pl.col("ITEMID").cast(pl.Int64)).unique()
        found.update(_collect(path, ids)["ITEMID"].drop_nulls().to_list())
    return tuple(sorted(found))


def _events(tables: Mapping[str, Path]) -> _Events:
    return tuple((name, tables[name], tables[name].stat().st_mtime_ns) for name in _EVENTS if name in tables)


@functools.lru_cache(maxsize=1)
def _part(
    table: Path, events: _Events, items: tuple[int, ...] | None, part: int, parts: int
) -> dict[int, pl.DataFrame]:
    """Stay -> its observations, of one part of the stays in ``table``."""
    stays = _stays(table)
    stays = stays.with_row_index("PLACE").filter(pl.col("PLACE").cast(pl.Int64) * parts // stays.height == part)
    ids = _variables(events, items)
    index = pl.DataFrame(
        {"ITEMID": ids, "VARIABLE": range(len(ids))}, schema={"ITEMID": pl.Int64, "VARIABLE": pl.Int32}
    )
    found = []
    for name, path, _ in events:
        key = _EVENTS[name]
        rows = (
            _rows(path, key)
            .with_columns(*_whole(key, "ITEMID"), *_moment("CHARTTIME"), pl.col("VALUENUM").cast(pl.Float64))
            .join(index.lazy(), on="ITEMID")
            .join(stays.lazy().select(list(dict.fromkeys((key, "ICUSTAY_ID", "INTIME", "OUTTIME")))), on=key)
            .filter(
                (pl.col("CHARTTIME") >= pl.col("INTIME"))
                & (pl.col("OUTTIME").is_null() | (pl.col("CHARTTIME") <= pl.col("OUTTIME")))
                & pl.col("VALUENUM").is_finite()
            )
            .select(
                "ICUSTAY_ID",
                ((pl.col("CHARTTIME") - pl.col("INTIME")).dt.total_seconds() / 3600).alias("HOURS"),
                "VARIABLE",
                "VALUENUM",
            )
        )
        found.append(_collect(path, rows))
    whole = pl.concat(found).sort("ICUSTAY_ID", "HOURS", "VARIABLE", "VALUENUM")
    return {int(key[0]): frame for key, frame in whole.partition_by("ICUSTAY_ID", as_dict=True).items()}


def _read(item: Item, options: Mapping[str, str]) -> dict[str, Any]:
    path = item.paths[0]
    if not path.is_file():
        raise unreadable(path, "is gone", "Plan the import anew.")
    events = _events(_beside(path.parent))
    frames = _part(path, events, _items(options), item.place["part"], item.place["parts"])
    frame = frames.get(int(item.id))
    if frame is None:
        problem = f"stay {item.id} has no observation of the wanted items between INTIME and OUTTIME"
        raise unreadable(path, problem, "Leave it out, or name more in items=.")
    values = frame["VALUENUM"].to_numpy().astype(np.float32)
    return {
        **item.scalars,
        "times": frame["HOURS"].to_numpy(),
        "variables": frame["VARIABLE"].to_numpy(),
        "values": values,
    }


def _attributes(source: Source) -> dict[str, Any]:
    ids = _variables(_events(_found(source)), _items(source.options))
    return {"variable_names": [str(item) for item in ids]}


def _fields(_source: Source) -> tuple[Field, ...]:
    return _FIELDS


importer = Importer(
    name="mimic3",
    title="MIMIC-III extracts (ICUSTAYS, ADMISSIONS, CHARTEVENTS, LABEVENTS)",
    modality="series",
    matches=_matches,
    plan=_plan,
    read=_read,
    attributes=_attributes,
    fields=_fields,
    options=_OPTIONS,
)
