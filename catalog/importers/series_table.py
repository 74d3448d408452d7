"""Series in tables, CSV, JSON lines or Parquet, in one of two forms.

*Long* (irregular): a row per observation, with columns for time, variable and value, and one for the sample's id unless
each file is a sample. Becomes ``times`` (float64, hours), ``variables`` (int32, index into the attribute
``variable_names``) and ``values`` (float32), sorted by time; rows of equal time keep their order.

*Wide* (regular): a file per sample (or a column of ids), a column per channel, and perhaps one of times. Becomes
``signal`` [C, T] (float32 for CSV and JSON, the file's own type for Parquet), ``sampling_rate`` (Hz, from the times, which must
be regular, or from the option) and ``channels``.

Times are numbers in ``time_unit``, or text such as ``36:30`` (hours and minutes). Columns are found by their usual
names or named by options. Targets come from a table of metadata beside the files (see :mod:`._metadata`), joined by the
sample's id.

A table of many samples is read whole and kept while its samples are decoded: it must fit into memory.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from sensorium.catalog.fields import Field
from sensorium.catalog.importer import Importer, Item, Source
from sensorium.catalog.importers import _metadata, _tables
from sensorium.catalog.importers._files import head, identifiers, number, once, probe, unreadable, visible
from sensorium.catalog.importers._layout import HOURS, Layout, layout
from sensorium.platform.errors import InvalidSetting, UserError

__all__ = ["importer"]

_RESERVED = ("times", "variables", "values", "variable_names", "signal", "sampling_rate", "channels")
_DTYPES = ("float32", "float64", "int16", "int32")
#: how much a step between two times may differ from the mean one, as a part of it
_TOLERANCE = 0.01
_TIME = r"^\s*(\d+):(\d\d)(?::(\d\d(?:\.\d+)?))?\s*$"


def _matches(source: Source) -> float:
    tables = frozenset(_tables.SUFFIXES)
    return probe(source, tables, lambda path: None if _metadata.is_table(path) else _looks_like_series(path, source))


def _looks_like_series(path: Path, source: Source) -> float:
    """1 for the long form; 0.4 for the wide one, which any table of numbers resembles; 0 for others."""
    if not _tables.is_parquet(path) and b"\0" in head(path, 4096):
        return 0.0
    try:
        found = layout(path, _tables.header(path), source.options)
        frame = _tables.read(path, found.columns, rows=20)
        for column in (found.value,) if found.long else found.channels:
            _tables.numbers(path, frame, column, "", gaps=True)
    except UserError:
        return 0.0
    if frame.height == 0:
        return 0.0
    return 1.0 if found.long else 0.4


def _files(source: Source) -> list[Path]:
    paths = visible(source, _tables.SUFFIXES)
    if source.path.is_file():
        return paths
    used = source.path / source.options.get("metadata", "")
    series = [path for path in paths if not _metadata.is_table(path) and path != used]
    if not series:
        raise unreadable(source.path, "holds tables of metadata only", "Name the folder that holds the series.")
    return series


@once
def _layouts(source: Source) -> dict[Path, Layout]:
    """The layout of every file; all are of one form.

    Raises:
        UnreadableFile: a file has not the columns, or some are long and some wide.
    """
    found = {path: layout(path, _tables.header(path), source.options) for path in _files(source)}
    first = next(iter(found))
    for path, one in found.items():
        if one.long != found[first].long:
            form = {True: "long", False: "wide"}
            problem = f"is in the {form[one.long]} form, {first} in the {form[not one.long]} one"
            raise unreadable(path, problem, "Import them into two data sets, or say form=long or form=wide.")
    return found


@once
def _owners(source: Source) -> dict[str, Path]:
    """Sample id -> its file.

    Raises:
        UnreadableFile: an id is missing in a row, or is in two files.
    """
    layouts = _layouts(source)
    names = identifiers(source, layouts)
    owners: dict[str, Path] = {}
    for path, found in layouts.items():
        ids = _ids(path, found) if found.id else [names[path]]
        for name in ids:
            if name in owners:
                problem = f"sample {name!r} is in {owners[name]} too"
                raise unreadable(path, problem, "Bring the rows of a sample into one file, or give other ids.")
            owners[name] = path
    return owners


def _ids(path: Path, found: Layout) -> list[str]:
    """The ids of a table in the order of their first rows."""
    frame = _tables.read(path, found.columns)  # all that count, to tell a row without id from a blank line
    missing = frame.filter(pl.col(found.id).is_null())
    if missing.height:
        problem = f"column {found.id!r}, row {missing[_tables.ROW][0]}: no id"
        raise unreadable(path, problem, "Give every row its sample.")
    return _as_text(frame[found.id]).unique(maintain_order=True).to_list()


def _as_text(cells: pl.Series) -> pl.Series:
    return cells.cast(pl.String).str.strip_chars()


@once
def _variable_names(source: Source) -> tuple[str, ...]:
    """The names that the long form's variables point to: those of the option, or all that occur, sorted."""
    if "variables" in source.options:
        names = tuple(name.strip() for name in source.options["variables"].split(",") if name.strip())
        if len(set(names)) < len(names):
            raise InvalidSetting(f"variables must name each variable once; got {source.options['variables']!r}.")
        return names
    found: set[str] = set()
    for path, one in _layouts(source).items():
        if one.long:
            found.update(_as_text(_tables.read(path, [one.variable])[one.variable].drop_nulls()).unique())
    return tuple(sorted(found))


def _plan(source: Source) -> Iterator[Item]:
    scalars, names = _known(source).rows, _variable_names(source)
    for name, path in _owners(source).items():
        yield Item(name, (path,), scalars[name], {"variable_names": list(names)})


@once
def _known(source: Source) -> _metadata.Known:
    ids = tuple(dict.fromkeys(one.id for one in _layouts(source).values() if one.id))
    return _metadata.known(source, _owners(source), _RESERVED, also=ids)


def _fields(source: Source) -> tuple[Field, ...]:
    return _known(source).fields()


def _attributes(source: Source) -> dict[str, Any]:
    names = _variable_names(source)
    return {"variable_names": list(names)} if names else {}


def _read(item: Item, options: Mapping[str, str]) -> dict[str, Any]:
    path = item.paths[0]
    if not path.is_file():
        raise unreadable(path, "is gone", "Plan the import anew.")
    stamp = path.stat()
    found, groups = _grouped(path, (stamp.st_mtime_ns, stamp.st_size), tuple(sorted(options.items())))
    frame = groups.get(item.id if found.id else "")
    if frame is None or frame.height == 0:
        raise unreadable(path, f"has no row of sample {item.id!r}", "Leave the file out, or plan the import anew.")
    if found.long:
        names = tuple(item.place["variable_names"])
        return {**item.scalars, **_observations(path, frame, found, names, options)}
    return {**item.scalars, **_signal(path, frame, found, options)}


@functools.lru_cache(maxsize=2)
def _grouped(
    path: Path, _stamp: tuple[int, int], options: tuple[tuple[str, str], ...]
) -> tuple[Layout, dict[str, pl.DataFrame]]:
    """The layout of a table and its rows by sample (by ``""`` where it holds one).

    Kept for the last two files, since all samples of one table are read one after the other; the stamp (time and size)
    tells a file that was written anew.
    """
    found = layout(path, _tables.header(path), dict(options))
    frame = _tables.read(path, found.columns)
    if not found.id:
        return found, {"": frame}
    parts = frame.with_columns(_as_text(frame[found.id])).partition_by(found.id, as_dict=True)
    return found, {str(key[0]): part for key, part in parts.items()}


def _observations(
    path: Path, frame: pl.DataFrame, found: Layout, names: Sequence[str], options: Mapping[str, str]
) -> dict[str, Any]:
    """``times`` (h), ``variables`` and ``values`` [N] of the rows of one sample, sorted by time."""
    missing = options.get("missing", "refuse")
    if missing not in ("refuse", "skip"):
        raise InvalidSetting(f"missing must be refuse or skip; got {missing!r}.")
    remedy = "Leave such rows out with missing=skip, or mend the table."
    values = _tables.numbers(path, frame, found.value, remedy, gaps=missing == "skip")
    frame, values = frame.filter(values.is_not_null()), values.drop_nulls()
    if frame.height == 0:
        raise unreadable(path, f"no row of the sample has a value in column {found.value!r}", "Leave the sample out.")
    times = _hours(path, frame, found)
    said = _as_text(frame[found.variable])
    variables = said.replace_strict(names, range(len(names)), default=None, return_dtype=pl.Int32)
    if variables.null_count():
        place = variables.is_null().arg_max() or 0
        problem = (
            f"column {found.variable!r}, row {frame[_tables.ROW][place]}: {said[place]!r} is none of the variables"
        )
        raise unreadable(path, problem, "Name it in variables=, or mend the table.")
    order = np.argsort(times, kind="stable")
    return {
        "times": times[order],
        "variables": variables.to_numpy()[order],
        "values": _as_dtype(path, found.value, values.to_numpy(), _dtype(options) or "float32")[order],
    }


def _hours(path: Path, frame: pl.DataFrame, found: Layout) -> npt.NDArray[np.float64]:
    """Times of the rows in hours, from numbers in the layout's unit or from text such as 36:30."""
    cells = frame[found.time]
    if cells.dtype == pl.String and cells.str.contains(_TIME).fill_null(value=False).all():
        parts = [cells.str.extract(_TIME, group).cast(pl.Float64).fill_null(0) for group in (1, 2, 3)]
        return np.asarray((parts[0] + parts[1] / 60 + parts[2] / 3600).to_numpy())
    remedy = "Give times as numbers since the start of the sample (see time_unit), or as hours:minutes."
    numbers = _tables.numbers(path, frame, found.time, remedy).to_numpy().astype(np.float64)
    return np.asarray(numbers * HOURS[found.unit])


def _signal(path: Path, frame: pl.DataFrame, found: Layout, options: Mapping[str, str]) -> dict[str, Any]:
    """``signal`` [C, T], ``sampling_rate`` (Hz) and ``channels`` of one sample."""
    remedy = "Fill or cut the gap, or name the columns that are channels with channels=A,B."
    columns = [_tables.numbers(path, frame, name, remedy).to_numpy() for name in found.channels]
    dtype = _dtype(options) or ("float32" if not _tables.is_parquet(path) else _holding(columns))
    signal = [_as_dtype(path, name, values, dtype) for name, values in zip(found.channels, columns, strict=True)]
    rate = number(options, "sampling_rate", 0.0)
    if found.time:
        times = _hours(path, frame, found) * 3600
        rate = _rate(path, found.time, times, frame[_tables.ROW].to_list(), rate, options)
    if not rate:
        raise unreadable(path, "has no column of times", "Name one with time=COLUMN, or say sampling_rate=HZ.")
    return {"signal": np.stack(signal), "sampling_rate": rate, "channels": list(found.channels)}


def _dtype(options: Mapping[str, str]) -> str | None:
    dtype = options.get("dtype")
    if dtype is not None and dtype not in _DTYPES:
        raise InvalidSetting(f"dtype must be one of {', '.join(_DTYPES)}; got {dtype!r}.")
    return dtype


def _holding(columns: Sequence[npt.NDArray[Any]]) -> str:
    """The first dtype of series that holds the columns' own types."""
    common = np.result_type(*columns)
    return next((name for name in ("int16", "int32", "float32") if np.can_cast(common, name)), "float64")


def _as_dtype(path: Path, column: str, values: npt.NDArray[Any], dtype: str) -> npt.NDArray[Any]:
    """``values`` as ``dtype``; whole numbers must survive, and fractions must not become whole."""
    with np.errstate(over="ignore", invalid="ignore"):
        result = values.astype(dtype)
    whole = values == np.rint(values)
    lost = (result != values) & (whole | (result.dtype.kind == "i")) | ~np.isfinite(result)
    if lost.any():
        problem = f"column {column!r}: {values[lost.argmax()]} does not fit into {dtype}"
        raise unreadable(path, problem, "Say dtype=float64.")
    return result


def _rate(
    path: Path,
    column: str,
    times: npt.NDArray[np.float64],
    rows: Sequence[int],
    wanted: float,
    options: Mapping[str, str],
) -> float:
    """The sampling rate (Hz) of ``times`` (s), which must be regular and agree with ``wanted`` where that is not 0."""
    if len(times) < 2:
        return wanted
    tolerance = number(options, "tolerance", _TOLERANCE)
    steps = np.diff(times)
    if (steps <= 0).any():
        place = int((steps <= 0).argmax())
        problem = f"column {column!r}, row {rows[place + 1]}: time {times[place + 1]:g} s follows {times[place]:g} s"
        raise unreadable(path, problem, "Sort the rows by time and drop duplicates.")
    mean = float(times[-1] - times[0]) / len(steps)
    rounding = _rounding(times, mean)
    worst = int(np.abs(steps - mean).argmax())
    if abs(steps[worst] - mean) > tolerance * mean + rounding:
        problem = f"column {column!r}, row {rows[worst]}: a step of {steps[worst]:g} s where the mean is {mean:g} s"
        remedy = "Resample it, bring an irregular series into the long form, or allow more with tolerance=PART."
        raise unreadable(path, problem, remedy)
    rate = _shortest(1 / mean, 1 / mean * max(rounding / float(times[-1] - times[0]), 1e-11))
    if wanted and abs(rate - wanted) > tolerance * wanted:
        problem = f"column {column!r}: the times make {rate:g} Hz, sampling_rate= says {wanted:g} Hz"
        raise unreadable(path, problem, "Mend one of them, or time_unit.")
    return wanted or rate


def _shortest(value: float, uncertainty: float) -> float:
    """The number of the fewest digits that is as near to ``value`` as the uncertainty: 44100 for 44099.3 within 2."""
    short = (float(f"{value:.{digits}g}") for digits in range(1, 10))
    return next((number for number in short if abs(number - value) <= uncertainty), value)


def _rounding(times: npt.NDArray[np.float64], step: float) -> float:
    """How much a step may be off because ``times`` (s) are written with few decimals.

    0 where they are not, where all steps are equal, and where rounding would hide a missing row.
    """
    if np.ptp(np.diff(times)) <= 1e-6 * step:
        return 0.0
    for decimals in range(10):
        scaled = (times - times[0]) * 10.0**decimals
        if np.abs(scaled - np.rint(scaled)).max() < 1e-3:
            return 10.0**-decimals if 10.0**-decimals <= step / 4 else 0.0
    return 0.0


importer = Importer(
    name="series_table",
    title="series in tables of CSV, JSON lines or Parquet, long (irregular) or wide (regular)",
    modality="series",
    matches=_matches,
    guarded=False,
    plan=_plan,
    read=_read,
    attributes=_attributes,
    fields=_fields,
    options={
        "form": "long (a row per observation) or wide (a column per channel); default: by the columns' names",
        "id": "column of sample ids (default: in the long form one of a usual name; without one, a file is a sample)",
        "time": "column of times (default: a usual name)",
        "variable": "long form: column of the variables' names (default: a usual name)",
        "value": "long form: column of the values (default: a usual name)",
        "variables": "long form: names in the order of their indices, A,B,... (default: all that occur, sorted)",
        "missing": "long form: refuse (default) or skip rows without a value",
        "time_unit": f"{', '.join(HOURS)} (default: by the column's name, else hours for long and seconds for wide)",
        "channels": "wide form: columns that are channels, A,B,... (default: all but time and id)",
        "sampling_rate": "wide form: Hz, where there is no column of times",
        "tolerance": f"wide form: how much a step of time may differ from the mean, as a part (default {_TOLERANCE})",
        "dtype": f"of values or signal: {', '.join(_DTYPES)} (default: float32, the file's for wide Parquet)",
        **_metadata.FILE_OPTIONS,
    },
)
