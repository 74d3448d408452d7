"""Intensive-care records of the PhysioNet/Computing in Cardiology Challenge 2012, as they were published.

A record is a text file ``<RecordID>.txt`` of lines ``Time,Parameter,Value``; the time is ``HH:MM`` since admission. The files
lie in the source or in folders below it (``set-a/``, ``set-b/``, ...). The outcomes are tables ``Outcomes-*.txt`` in the
source, below it, or in the folder above it; a record without a row there has no label.

A record becomes ``times`` (float64, hours), ``variables`` (int32, index into :data:`VARIABLES`, the same for every source)
and ``values`` (float32), sorted by time (lines of equal time keep their order), and scalars. The descriptors at 00:00 are
age, gender, height, type of unit and weight on admission; the last is also the first observation of the variable Weight.

What is cleaned is what the Challenge's own description says for certain: all valid values are non-negative, and -1 stands for
what is missing or unknown. So a negative descriptor or outcome becomes null, and a negative observation (set A has a
temperature of -17.8, which is 0 °F in °C) is left out. Nothing else is touched: zeros (of blood pressure), pH 100, heights of
432 cm and other slips are as published, since where they end is a judgement that belongs to the model's preparation.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from sensorium.catalog.fields import Field, ScalarField
from sensorium.catalog.importer import Importer, Item, Source
from sensorium.catalog.importers import _text
from sensorium.catalog.importers._files import head, probe, unreadable, visible
from sensorium.platform.errors import UnreadableFile, close_matches

__all__ = ["VARIABLES", "importer"]

#: the 37 time-series parameters of the Challenge; ``variables`` points into this order
VARIABLES = (
    *("ALP", "ALT", "AST", "Albumin", "BUN", "Bilirubin", "Cholesterol", "Creatinine", "DiasABP", "FiO2", "GCS"),
    *("Glucose", "HCO3", "HCT", "HR", "K", "Lactate", "MAP", "MechVent", "Mg", "NIDiasABP", "NIMAP", "NISysABP", "Na"),
    *("PaCO2", "PaO2", "Platelets", "RespRate", "SaO2", "SysABP", "Temp", "TroponinI", "TroponinT", "Urine", "WBC"),
    *("Weight", "pH"),
)
Numbers = npt.NDArray[np.float64]

_INDEX = {name: index for index, name in enumerate(VARIABLES)}

#: parameter at 00:00 -> scalar
_DESCRIPTORS = {"Age": "age", "Gender": "gender", "Height": "height_cm", "ICUType": "icu_type", "Weight": "weight_kg"}
_KNOWN = {"RecordID", *_DESCRIPTORS}
#: parameter -> its place among the variables, -1 for one that is none
_PLACES = {**dict.fromkeys(_KNOWN, -1), **_INDEX}
#: column of the outcomes -> scalar
_OUTCOMES = {
    "SAPS-I": "saps_i",
    "SOFA": "sofa",
    "Length_of_stay": "length_of_stay_d",
    "Survival": "survival_d",
    "In-hospital_death": "in_hospital_death",
}
_FIELDS: tuple[Field, ...] = (
    ScalarField("age", pa.int64(), unit="a", minimum=0, description="on admission; 90 stands for more, too"),
    ScalarField("gender", pa.int64(), minimum=0, maximum=1, description="0 female, 1 male"),
    ScalarField("height_cm", pa.float64(), unit="cm", minimum=0, description="on admission, as published"),
    ScalarField(
        "icu_type", pa.int64(), minimum=1, maximum=4, description="1 coronary, 2 cardiac surgery, 3 medical, 4 surgical"
    ),
    ScalarField("weight_kg", pa.float64(), unit="kg", minimum=0, description="on admission"),
    ScalarField("saps_i", pa.int64(), minimum=0, description="simplified acute physiology score I"),
    ScalarField("sofa", pa.int64(), minimum=0, description="sequential organ failure assessment score"),
    ScalarField("length_of_stay_d", pa.int64(), unit="d", minimum=0, description="in hospital"),
    ScalarField("survival_d", pa.int64(), unit="d", minimum=0, description="from admission to death, where recorded"),
    ScalarField("in_hospital_death", pa.int64(), minimum=0, maximum=1, description="1 died in hospital, 0 survived"),
)
_WHOLE = {field.name for field in _FIELDS if isinstance(field, ScalarField) and field.type == pa.int64()}

_HEADER = "Time,Parameter,Value"
_RECORD = re.compile(r"(\d+)\.txt", re.IGNORECASE)
_TABLE = re.compile(r"Outcomes[^/]*\.txt", re.IGNORECASE)
_TIME = re.compile(r"(\d{1,4}):([0-5]\d)")
_SUFFIXES = frozenset((".txt",))


def _matches(source: Source) -> float:
    # name and first line are the Challenge's own: surer than an importer that knows any table of times and values
    return min(1.0, probe(source, _SUFFIXES, _is_record) / 0.9)


def _is_record(path: Path) -> float | None:
    """Whether ``path`` begins as a record does; None where it is not called like one and so says nothing."""
    if not _RECORD.fullmatch(path.name):
        return None
    lines = head(path, 200).decode("utf-8", "replace").splitlines()
    return float(len(lines) > 1 and lines[0].strip() == _HEADER)


def _plan(source: Source) -> Iterator[Item]:
    paths = [path for path in visible(source, _SUFFIXES) if _RECORD.fullmatch(path.name)]
    if not paths:
        raise unreadable(source.path, "holds no record (<RecordID>.txt)", "Name the folder that holds set-a.")
    outcomes = _outcomes(source)
    for path in paths:
        yield Item(path.stem, (path,), outcomes.get(path.stem, {}))


def _outcomes(source: Source) -> dict[str, dict[str, int]]:
    """Record id -> its outcomes that are known, from all tables in the source, below it, beside it and in the folder above.

    Raises:
        UnreadableFile: a table is broken, or two rows of one record differ.
    """
    root = source.path if source.path.is_dir() else source.path.parent
    below = [path for path in root.rglob("*.txt") if _TABLE.fullmatch(path.name)]
    above = [path for path in root.parent.glob("*.txt") if _TABLE.fullmatch(path.name)]
    found: dict[str, dict[str, int]] = {}
    for path in sorted({*below, *above}):
        for name, row in _table(path).items():
            if found.setdefault(name, row) != row:
                raise unreadable(
                    path, f"record {name} has other outcomes in another row or table", "Keep the right one."
                )
    return found


def _table(path: Path) -> dict[str, dict[str, int]]:
    lines = _text.lines(path)
    names = [name.strip() for name in lines[0].split(",")] if lines else []
    if "RecordID" not in names or "In-hospital_death" not in names:
        problem = f"line 1: the columns are {', '.join(names) or 'none'}, not those of the Challenge's outcomes"
        raise unreadable(path, problem, "Give RecordID and In-hospital_death, or rename the file.")
    found: dict[str, dict[str, int]] = {}
    for number, line in enumerate(lines[1:], start=2):
        if not line.strip():
            continue
        cells = [cell.strip() for cell in line.split(",")]
        if len(cells) != len(names) or not all(re.fullmatch(r"-?\d+", cell) for cell in cells):
            raise unreadable(path, f"line {number}: {line!r} is not {len(names)} whole numbers", _text.FETCH)
        row = dict(zip(names, map(int, cells), strict=True))
        known = {_OUTCOMES[name]: value for name, value in row.items() if name in _OUTCOMES and value >= 0}
        if found.setdefault(cells[names.index("RecordID")], known) != known:
            raise unreadable(path, f"line {number}: record {row['RecordID']} is there with other values", _text.FETCH)
    return found


def _read(item: Item, _options: Mapping[str, str]) -> dict[str, Any]:
    path = item.paths[0]
    lines = _text.lines(path)
    if not lines or lines[0].strip() != _HEADER:
        raise unreadable(path, f"line 1: does not read {_HEADER!r}", "Leave it out, or fetch it anew.")
    hours, names, variables, values = _columns(path, lines)
    scalars = _descriptors(path, item.id, hours, names, values)
    # a parameter that is no variable is known to be a descriptor
    kept = (variables >= 0) & (values >= 0)
    if not kept.any():
        raise unreadable(path, "the record has no observation, only descriptors", "Leave it out.")
    order = np.flatnonzero(kept)[np.argsort(hours[kept], kind="stable")]
    return {
        **item.scalars,
        **scalars,
        "times": hours[order],
        "variables": variables[order],
        "values": values[order].astype(np.float32),
    }


def _columns(path: Path, lines: list[str]) -> tuple[Numbers, list[str], npt.NDArray[np.int32], Numbers]:
    """Hours, names of parameters, their variables, and values of all lines of a record."""
    rows = [line for line in lines[1:] if line]
    if not rows:
        raise unreadable(path, "the record is empty", "Leave it out, or fetch it anew.")
    # a line break ends a value: within a time or a name it is no such thing
    cells = "\n,".join(rows).split(",")
    names = cells[1::3]
    if len(cells) != 3 * len(rows):
        raise _fault(path, lines)
    try:
        hours = np.array(list(map(_hours, cells[0::3])))
        values = np.array(list(map(float, cells[2::3])))
        variables = np.array(list(map(_PLACES.__getitem__, names)), np.int32)
    except (ValueError, KeyError):
        raise _fault(path, lines) from None
    if not (np.isfinite(values).all() and np.isfinite(hours).all()):
        raise _fault(path, lines)
    return hours, names, variables, values


@functools.lru_cache(maxsize=8192)  # a stay of 48 hours has 2881 minutes
def _hours(text: str) -> float:
    """``HH:MM`` in hours; NaN where it is not of that form."""
    match = _TIME.fullmatch(text)
    return int(match[1]) + int(match[2]) / 60 if match else math.nan


def _fault(path: Path, lines: list[str]) -> UnreadableFile:
    """What is wrong with the first line that is."""
    for number, line in enumerate(lines[1:], start=2):
        cells = line.split(",")
        if line and len(cells) != 3:
            return unreadable(
                path, f"line {number}: {line!r} has {len(cells)} cells, not 3; it may be cut off", _text.FETCH
            )
        if not line:
            continue
        time, name, value = cells
        if not _TIME.fullmatch(time):
            return unreadable(path, f"line {number}: the time {time!r} is not HH:MM", _text.FETCH)
        if name not in _INDEX and name not in _KNOWN:
            hint = close_matches(name, [*_INDEX, *_KNOWN])
            remedy = f"{hint} Mend the line, or import the files as series_table.".strip()
            return unreadable(path, f"line {number}: the Challenge has no parameter {name!r}", remedy)
        if not _is_number(value):
            return unreadable(path, f"line {number}: the value {value!r} of {name} is no finite number", _text.FETCH)
    return unreadable(path, "is damaged", _text.FETCH)


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _descriptors(
    path: Path,
    identifier: str,
    hours: Numbers,
    names: list[str],
    values: Numbers,
) -> dict[str, float | int]:
    """Scalars from the lines at 00:00; negative ones are missing. The first weight of that time is the one on admission."""
    found: dict[str, float] = {}
    for place in np.flatnonzero(hours == 0).tolist():
        found.setdefault(names[place], float(values[place]))
    said = found.get("RecordID")
    if said is not None and said != int(identifier):
        raise unreadable(path, f"its RecordID is {said:.0f}", f"Rename it to {said:.0f}.txt, or fetch it anew.")
    scalars: dict[str, float | int] = {}
    for name, scalar in _DESCRIPTORS.items():
        value = found.get(name, -1.0)
        if value < 0:
            continue
        if scalar in _WHOLE and value != int(value):
            raise unreadable(path, f"{name} is {value:g}, not a whole number", _text.FETCH)
        scalars[scalar] = int(value) if scalar in _WHOLE else value
    return scalars


def _attributes(_source: Source) -> dict[str, Any]:
    return {"variable_names": list(VARIABLES)}


def _fields(_source: Source) -> tuple[Field, ...]:
    return _FIELDS


importer = Importer(
    name="physionet2012",
    title="PhysioNet Challenge 2012 records (<RecordID>.txt, Outcomes-*.txt)",
    modality="series",
    matches=_matches,
    guarded=False,
    plan=_plan,
    read=_read,
    attributes=_attributes,
    fields=_fields,
)
