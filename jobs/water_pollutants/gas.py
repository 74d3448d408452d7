"""A real array of sensors to try the classifiers on: gas-sensor array drift at different concentrations (UCI).

The water data is simulated; this is measured. 16 metal-oxide sensors are exposed to one of six gases, and each exposure is
kept as 8 numbers a sensor (two of the steady state, six moving averages of the rise and the fall); batches of months, over
which the sensors drift. A. Vergara et al., "Chemical gas sensor drift compensation using classifier ensembles", Sensors and
Actuators B 166–167, 2012; I. Rodriguez-Lujan et al., Chemometrics and Intelligent Laboratory Systems 130, 2014.

One row is an exposure, not a series: there are neither times nor a rate. So the samples are rows of the modality ``table``
with one array, ``features`` [16, 8]: a classifier of windows takes it as one of 16 "readings" (the sensors) of 8 features. The
CNN needs ``padding="same"`` for it. Batches are the groups of folds: rows within one are neighbours in time.
"""

from __future__ import annotations

import functools
import io
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from sensorium.catalog.fields import ArrayField, Field, ScalarField
from sensorium.catalog.importer import Importer, Item, Source
from sensorium.platform.errors import UnreadableFile

__all__ = ["DESCRIPTION", "FIELDS", "SENSORS", "VALUES", "gas_samples", "importer"]

#: sensors of the array, and numbers kept of each
SENSORS, VALUES = 16, 8

DESCRIPTION = "Gas sensor array drift at different concentrations (UCI): 16 metal-oxide sensors, 8 features an exposure"

#: declarations of a data set of these samples, beyond those of the modality table
FIELDS: tuple[Field, ...] = (
    ArrayField(
        "features",
        "S V",
        dtypes=("float32",),
        required=True,
        sizes={"S": (SENSORS,), "V": (VALUES,)},
        description="of each sensor: change of resistance and its relative size, averages of rise and fall",
    ),
    ScalarField("gas", pa.string(), required=True, description="what the sensors were exposed to"),
    ScalarField("concentration", pa.float64(), unit="ppmv", minimum=0, description="of the gas"),
    ScalarField("batch", pa.int64(), required=True, description="of months; the unit of folds"),
)

_NAME = re.compile(r"batch(\d+)\.(?:csv|dat)")
#: the published files number the gases
_GASES = {"1": "Ethanol", "2": "Ethylene", "3": "Ammonia", "4": "Acetaldehyde", "5": "Acetone", "6": "Toluene"}


def gas_samples(folder: Path) -> Iterator[dict[str, Any]]:
    """Samples of all batches in ``folder``, by batch and row.

    Read are ``batchN.dat`` as published (``gas;ppmv 1:value … 128:value``) and ``batchN.csv`` (gas, ppmv, 128 values; no header).

    Raises:
        UnreadableFile: there is no such file, or one is no such table; the message names file and row.
    """
    for item in _plan(Source(folder)):
        yield {"id": item.id, **_read(item, {})}


def _batches(source: Source) -> list[tuple[int, Path]]:
    """The files of a source by the number of their batch."""
    paths = [source.path] if source.path.is_file() else list(source.path.glob("batch*"))
    return sorted((int(match[1]), path) for path in paths if (match := _NAME.fullmatch(path.name)))


def _matches(source: Source) -> float:
    return 1.0 if _batches(source) else 0.0


def _plan(source: Source) -> Iterator[Item]:
    if not source.path.exists():
        raise UnreadableFile(f"{source.path}: there is no such file or folder. Check the path.")
    batches = _batches(source)
    if not batches:
        raise UnreadableFile(f"{source.path}: holds no batch1.dat, batch2.dat … (or .csv). Name the folder that does.")
    for batch, path in batches:
        gases, numbers = _table(path)
        for row, gas in enumerate(gases):
            scalars = {"gas": gas, "concentration": float(numbers[row, 0]), "batch": batch}
            yield Item(f"batch{batch:02d}-{row:04d}", (path,), scalars)


def _read(item: Item, options: Mapping[str, str]) -> dict[str, Any]:  # noqa: ARG001
    row = int(item.id.rpartition("-")[2])
    values = _table(item.paths[0])[1][row, 1:].reshape(SENSORS, VALUES)
    return {"features": values.astype(np.float32), **item.scalars}


@functools.lru_cache(maxsize=16)
def _table(path: Path) -> tuple[list[str], np.ndarray]:
    """Gases of the rows, and the numbers behind them [rows, 129]."""
    frame = _cells(path)
    numbers = frame.select(pl.col(frame.columns[1:]).str.strip_chars().cast(pl.Float64, strict=False)).to_numpy()
    wrong = ~np.isfinite(numbers).all(axis=1) | frame[frame.columns[0]].is_null().to_numpy()
    if wrong.any():
        raise UnreadableFile(
            f"{path}: row {int(wrong.argmax()) + 1} lacks its gas or a finite number. Mend or drop it."
        )
    names = frame[frame.columns[0]].str.strip_chars().replace(_GASES)
    return names.to_list(), numbers


def _cells(path: Path) -> pl.DataFrame:
    """A file as text cells: gas, concentration, 128 values."""
    wanted = 2 + SENSORS * VALUES
    try:
        content = path.read_text()
        if path.suffix == ".dat":  # "1;10.0 1:15596.1 2:1.8 …": numbers of the features are dropped
            content = re.sub(r"[ \t]+\d+:", ",", content.replace(";", ","))
            content = "\n".join(line.strip() for line in content.splitlines() if line.strip())
        frame = pl.read_csv(io.StringIO(content), has_header=False, infer_schema=False)
    except (pl.exceptions.PolarsError, OSError, UnicodeDecodeError) as error:
        raise UnreadableFile(f"{path}: cannot be read as CSV ({str(error).splitlines()[0]}). Fetch it anew.") from error
    if frame.width != wanted:
        raise UnreadableFile(
            f"{path}: has {frame.width} columns, not gas, concentration and {wanted - 2}. Fetch it anew."
        )
    return frame


importer = Importer(
    name="gas_drift",
    title="gas sensor array drift (UCI): batchN.dat or batchN.csv",
    modality="table",
    matches=_matches,
    guarded=False,
    plan=_plan,
    read=_read,
    fields=lambda source: FIELDS,  # noqa: ARG005
)
