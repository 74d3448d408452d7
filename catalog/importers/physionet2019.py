"""Intensive-care records of the PhysioNet/Computing in Cardiology Challenge 2019 (early prediction of sepsis).

A record is a file ``p<number>.psv``: a header line, then a line per hour in intensive care, cells parted by ``|``, ``NaN``
where nothing was measured. The files lie in the source or in folders below it (``training_setA/``, ``training_setB/``);
ids are places below the source, since other sets count from other numbers.

A record becomes ``times`` (float64, hours since admission to intensive care, the column ICULOS), ``variables`` (int32, index
into :data:`VARIABLES`, the same for every source) and ``values`` (float32, as published, in the Challenge's units, which
:data:`VARIABLES` names), hour by hour, in the order of the variables within one.

``sepsis`` holds the label of every hour as published (1 from six hours before the onset on, 0 before, and 0 throughout
without sepsis) and ``sepsis_times`` its hours; ``sepsis_any`` is 1 where one of them is. A record without the column, as
in the Challenge's hidden sets, has none of the three. What does not change within a stay becomes scalars: age, gender,
the two marks of the unit, and the hours between the admissions to hospital and to intensive care.

Source of names and units: M. A. Reyna et al., "Early prediction of sepsis from clinical data: the PhysioNet/Computing in
Cardiology Challenge 2019", Critical Care Medicine 48(2), 2020, table 1.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from sensorium.catalog.fields import Field, ScalarField
from sensorium.catalog.importer import Importer, Item, Source
from sensorium.catalog.importers import _metadata
from sensorium.catalog.importers._files import head, identifiers, once, probe, unreadable, visible
from sensorium.catalog.importers._text import FETCH, lines
from sensorium.platform.errors import UnreadableFile

__all__ = ["VARIABLES", "importer"]

#: what is measured over time and its unit; ``variables`` points into this order
VARIABLES = {
    "HR": "1/min",
    "O2Sat": "%",
    "Temp": "°C",
    "SBP": "mmHg",
    "MAP": "mmHg",
    "DBP": "mmHg",
    "Resp": "1/min",
    "EtCO2": "mmHg",
    "BaseExcess": "mmol/L",
    "HCO3": "mmol/L",
    "FiO2": "",
    "pH": "",
    "PaCO2": "mmHg",
    "SaO2": "%",
    "AST": "IU/L",
    "BUN": "mg/dL",
    "Alkalinephos": "IU/L",
    "Calcium": "mg/dL",
    "Chloride": "mmol/L",
    "Creatinine": "mg/dL",
    "Bilirubin_direct": "mg/dL",
    "Glucose": "mg/dL",
    "Lactate": "mg/dL",
    "Magnesium": "mmol/dL",
    "Phosphate": "mg/dL",
    "Potassium": "mmol/L",
    "Bilirubin_total": "mg/dL",
    "TroponinI": "ng/mL",
    "Hct": "%",
    "Hgb": "g/dL",
    "PTT": "s",
    "WBC": "10³/µL",
    "Fibrinogen": "mg/dL",
    "Platelets": "10³/µL",
}
#: column that does not change within a stay -> scalar
_STATIC = {
    "Age": "age",
    "Gender": "gender",
    "Unit1": "unit1",
    "Unit2": "unit2",
    "HospAdmTime": "hospital_admission_h",
}
_HOUR, _LABEL = "ICULOS", "SepsisLabel"
_COLUMNS = (*VARIABLES, *_STATIC, _HOUR)
_FIELDS: tuple[Field, ...] = (
    ScalarField("age", pa.float64(), unit="a", minimum=0, description="100 stands for 90 and more"),
    ScalarField("gender", pa.int64(), minimum=0, maximum=1, description="0 female, 1 male"),
    ScalarField("unit1", pa.int64(), minimum=0, maximum=1, description="1 in the medical intensive-care unit"),
    ScalarField("unit2", pa.int64(), minimum=0, maximum=1, description="1 in the surgical intensive-care unit"),
    ScalarField(
        "hospital_admission_h", pa.float64(), unit="h", description="admission to hospital, from that to intensive care"
    ),
    ScalarField("sepsis", pa.list_(pa.int64()), minimum=0, maximum=1, description="label of each of sepsis_times"),
    ScalarField("sepsis_times", pa.list_(pa.float64()), unit="h", description="hours that have a label"),
    ScalarField("sepsis_any", pa.int64(), minimum=0, maximum=1, description="1 where a label is 1"),
)
_WHOLE = {field.name for field in _FIELDS if isinstance(field, ScalarField) and field.type == pa.int64()}
_RESERVED = ("times", "variables", "values", "variable_names", *(field.name for field in _FIELDS))
_SUFFIXES = frozenset((".psv",))
#: a stay of months has thousands of hours
_MAX_BYTES = 1 << 26

Array = npt.NDArray[np.float64]


def _is_record(path: Path) -> float:
    first = head(path, 600).decode("utf-8", "replace").partition("\n")[0]
    return float({_HOUR, "HR", "HospAdmTime"} <= set(first.strip().split("|")))


def _matches(source: Source) -> float:
    return probe(source, _SUFFIXES, _is_record)


@once
def _known(source: Source) -> _metadata.Known:
    return _metadata.of_files(source, visible(source, _SUFFIXES), _RESERVED, label="none")


def _plan(source: Source) -> Iterator[Item]:
    scalars = _known(source).rows
    for path, name in identifiers(source, scalars).items():
        yield Item(name, (path,), scalars[path])


def _fields(source: Source) -> tuple[Field, ...]:
    return (*_known(source).fields(), *_FIELDS)


def _attributes(_source: Source) -> dict[str, Any]:
    return {"variable_names": list(VARIABLES)}


def _read(item: Item, _options: Mapping[str, str]) -> dict[str, Any]:
    path = item.paths[0]
    names, cells = _cells(path)
    column = {name: cells[:, place] for place, name in enumerate(names)}
    hours = column[_HOUR]
    if not np.isfinite(hours).all() or (np.diff(hours) <= 0).any():
        raise unreadable(path, f"the hours in column {_HOUR} do not rise from line to line", FETCH)
    measured = np.stack([column[name] for name in VARIABLES], axis=1)  # [H, V]
    rows, variables = np.nonzero(np.isfinite(measured))
    if not rows.size:
        raise unreadable(path, "nothing was measured in any hour", "Leave it out.")
    return {
        **item.scalars,
        **_static(path, column),
        **_labels(path, column),
        "times": hours[rows],
        "variables": variables.astype(np.int32),
        "values": measured[rows, variables].astype(np.float32),
    }


def _cells(path: Path) -> tuple[list[str], Array]:
    """The columns' names, and all cells as numbers [hours, columns], NaN where nothing is."""
    text = [line for line in lines(path, _MAX_BYTES) if line.strip()]
    names = [name.strip() for name in text[0].split("|")] if text else []
    missing = [name for name in _COLUMNS if name not in names]
    if missing:
        raise unreadable(
            path, f"line 1: has no column {missing[0]!r} of the Challenge", "Leave it out, or fetch it anew."
        )
    strange = [name for name in names if name not in (*_COLUMNS, _LABEL)]
    if strange or len(set(names)) < len(names):
        raise unreadable(
            path, f"line 1: the columns are not the Challenge's ({', '.join(strange) or 'one is twice'})", FETCH
        )
    rows = [line.split("|") for line in text[1:]]
    if not rows:
        raise unreadable(path, "the record is empty", "Leave it out, or fetch it anew.")
    try:
        cells = np.array(rows, dtype=np.float64)
    except ValueError:  # a line has fewer cells, or a cell is no number
        raise _fault(path, names, rows) from None
    if cells.shape[1] != len(names) or np.isinf(cells).any():
        raise _fault(path, names, rows)
    return names, cells


def _fault(path: Path, names: Sequence[str], rows: Sequence[Sequence[str]]) -> UnreadableFile:
    """What is wrong with the first line that is."""
    for number, row in enumerate(rows, start=2):
        if len(row) != len(names):
            return unreadable(path, f"line {number}: has {len(row)} cells, not {len(names)}; it may be cut off", FETCH)
        for name, cell in zip(names, row, strict=True):
            if not re.fullmatch(r"\s*(nan|[-+]?\d*\.?\d+([eE][-+]?\d{1,2})?|[-+]?\d+\.)\s*", cell, re.IGNORECASE):
                return unreadable(path, f"line {number}: {cell!r} in column {name} is no finite number", FETCH)
    return unreadable(path, "is damaged", FETCH)


def _static(path: Path, column: Mapping[str, Array]) -> dict[str, float | int]:
    """Scalars of the columns that do not change; those that are never given are left out."""
    found: dict[str, float | int] = {}
    for name, scalar in _STATIC.items():
        given = np.unique(column[name][np.isfinite(column[name])])
        if given.size > 1:
            raise unreadable(path, f"column {name} changes within the stay ({given[0]:g}, {given[1]:g})", FETCH)
        if given.size:
            found[scalar] = _whole(path, name, given[0]) if scalar in _WHOLE else float(given[0])
    return found


def _labels(path: Path, column: Mapping[str, Array]) -> dict[str, Any]:
    """The labels of all hours and of the stay, where the record has any."""
    if _LABEL not in column:
        return {}
    labels = [_whole(path, _LABEL, value) for value in column[_LABEL]]
    return {"sepsis": labels, "sepsis_times": column[_HOUR].tolist(), "sepsis_any": max(labels)}


def _whole(path: Path, name: str, value: float) -> int:
    if math.isnan(value) or value not in (0, 1):
        raise unreadable(path, f"column {name} holds {value:g}, neither 0 nor 1", FETCH)
    return int(value)


importer = Importer(
    name="physionet2019",
    title="PhysioNet Challenge 2019 records of sepsis (p<number>.psv)",
    modality="series",
    matches=_matches,
    guarded=False,
    plan=_plan,
    read=_read,
    attributes=_attributes,
    fields=_fields,
    options={**_metadata.FILE_OPTIONS},
)
