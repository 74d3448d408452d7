"""Where data came from and what was made of it, read from the commits themselves."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import platform
import random
import subprocess
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, write_deltalake
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError

from sensorium.catalog.declaration import Source
from sensorium.platform.errors import StorageError
from sensorium.platform.storage import Storage

__all__ = ["Edge", "Record", "Run", "environment", "read_records", "read_runs", "record_run", "walk"]

_FOLDER = "runs"
#: whose versions may change a result
_PACKAGES = ("numpy", "polars", "deltalake", "zarr", "ray", "torch", "scikit-learn", "scipy")
_REFERENCES = pa.list_(pa.struct([("dataset", pa.string()), ("version", pa.int64())]))
_RECORDS = pa.list_(
    pa.struct(
        [("step", pa.int64()), ("time", pa.timestamp("us", "UTC")), ("name", pa.string()), ("value", pa.float64())]
    )
)
_SCHEMA = pa.schema(
    [
        ("run", pa.string()),
        ("kind", pa.string()),
        ("name", pa.string()),
        ("state", pa.string()),
        ("time", pa.timestamp("us", "UTC")),
        ("configuration", pa.string()),
        ("inputs", _REFERENCES),
        ("outputs", _REFERENCES),
        ("environment", pa.string()),
        ("message", pa.string()),
        ("metrics", pa.string()),
        ("files", pa.list_(pa.string())),
        ("records", _RECORDS),
    ]
)
#: lost races for the schema of a table that an older version made
_TRIES = 20
_EDGES = {
    "direction": pl.String,
    "depth": pl.Int64,
    "dataset": pl.String,
    "version": pl.Int64,
    "made_from": pl.String,
    "from_version": pl.Int64,
    "operation": pl.String,
    "run": pl.String,
}


@dataclass(frozen=True)
class Edge:
    """``dataset`` at ``version`` was made from ``source``."""

    dataset: str
    version: int
    source: Source
    operation: str
    run: str


@dataclass(frozen=True)
class Record:
    """One value of one curve: ``name`` was ``value`` after ``step`` steps."""

    step: int
    name: str
    value: float
    time: datetime = field(default_factory=lambda: datetime.now(UTC))


@dataclass(frozen=True)
class Run:
    """One execution of a job.

    Attributes:
        kind: ``sweep``, ``fit``, ``predict`` …
        name: of the system, or of the job.
        configuration: everything that was set, JSON types only.
        inputs, outputs: data sets at versions, and models as ``models/NAME``.
        state: ``running``, ``finished``, ``stopped`` (by its user; can be resumed) or ``failed``.
        message: why it failed, or a remark.
        metrics: final figures, JSON types only.
        files: pictures and tables that it made, as paths in the lake.
        id: unique; commits name it.
    """

    kind: str
    name: str
    configuration: Mapping[str, Any]
    inputs: tuple[Source, ...] = ()
    outputs: tuple[Source, ...] = ()
    state: str = "running"
    message: str = ""
    metrics: Mapping[str, Any] = field(default_factory=dict)
    files: tuple[str, ...] = ()
    id: str = field(default_factory=lambda: f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{uuid.uuid4().hex[:6]}")

    def ended(
        self,
        state: str,
        outputs: Iterable[Source] = (),
        message: str = "",
        metrics: Mapping[str, Any] | None = None,
        files: Iterable[str] = (),
    ) -> Run:
        """The same run in its last state."""
        return replace(
            self,
            state=state,
            outputs=tuple(outputs),
            message=message,
            metrics=dict(metrics or {}),
            files=tuple(files) or self.files,
        )


def record_run(lake: Storage, run: Run, records: Sequence[Record] = ()) -> None:
    """Append the run's present state, and new values of its curves, to the lake's ``runs`` table."""
    row = {
        "run": run.id,
        "kind": run.kind,
        "name": run.name,
        "state": run.state,
        "time": datetime.now(UTC),
        "configuration": json.dumps(run.configuration, sort_keys=True),
        "inputs": [vars(source) for source in run.inputs],
        "outputs": [vars(source) for source in run.outputs],
        "environment": json.dumps(environment(), sort_keys=True),
        "message": run.message,
        "metrics": json.dumps(run.metrics, sort_keys=True),
        "files": list(run.files),
        "records": [vars(record) for record in records],
    }
    for attempt in range(_TRIES):
        try:
            write_deltalake(
                lake.at_path(_FOLDER),
                pa.Table.from_pylist([row], schema=_SCHEMA),
                mode="append",
                schema_mode="merge",  # a table that an older version made has fewer columns
                storage_options=lake.delta_options(),
                commit_properties=CommitProperties(max_commit_retries=100),
            )
        except DeltaError as error:
            if isinstance(error, CommitFailedError) and attempt + 1 < _TRIES:
                time.sleep(random.uniform(0, 0.05))  # noqa: S311 - another writer was first: jitter, then again
                continue
            raise StorageError(f"{lake.url}: run {run.id} cannot be recorded: {error}") from error
        return


def read_runs(lake: Storage) -> pl.DataFrame:
    """The runs, newest first, each in its last state, with ``started`` and ``seconds``."""
    empty = pl.DataFrame(schema=pl.from_arrow(_SCHEMA.empty_table()).schema).drop("records")  # type: ignore[union-attr]
    states = _scan(lake)
    if states is None:
        return _with_times(empty)
    held = [name for name in states.collect_schema().names() if name != "records"]
    return _with_times(pl.concat([empty, states.select(held).collect()], how="diagonal"))


def read_records(lake: Storage, run: str) -> pl.DataFrame:
    """The curves of a run: step, time, name, value; where steps were run again after a fault, the last values."""
    columns: dict[str, pl.DataType | type[pl.DataType]] = {
        "step": pl.Int64,
        "time": pl.Datetime("us", "UTC"),
        "name": pl.String,
        "value": pl.Float64,
    }
    states = _scan(lake)
    if states is None or "records" not in states.collect_schema().names():
        return pl.DataFrame(schema=columns)
    found = states.filter(pl.col("run") == run).select("records").explode("records").drop_nulls().unnest("records")
    return (
        found.select(pl.col(name).cast(kind) for name, kind in columns.items())
        .sort("time")
        .unique(["step", "name"], keep="last")
        .sort("step", "name")
        .collect()
    )


def _scan(lake: Storage) -> pl.LazyFrame | None:
    try:
        return pl.scan_delta(DeltaTable(lake.at_path(_FOLDER), storage_options=lake.delta_options()))
    except TableNotFoundError:
        return None


def _with_times(states: pl.DataFrame) -> pl.DataFrame:
    last = (
        states.sort("time")
        .group_by("run", maintain_order=True)
        .agg(pl.exclude("time").last(), started=pl.col("time").min(), ended=pl.col("time").max())
    )
    seconds = (pl.col("ended") - pl.col("started")).dt.total_milliseconds() / 1000
    return last.with_columns(seconds=seconds).drop("ended").sort("started", descending=True)


def walk(edges: Sequence[Edge], start: Iterable[str]) -> pl.DataFrame:
    """Every edge above and below the data sets ``start``, with its distance."""
    up: dict[str, list[Edge]] = {}
    down: dict[str, list[Edge]] = {}
    for edge in edges:
        up.setdefault(edge.dataset, []).append(edge)
        down.setdefault(edge.source.dataset, []).append(edge)
    names = list(start)
    rows = [*_walk_one_way(names, up, "upstream"), *_walk_one_way(names, down, "downstream")]
    return pl.DataFrame(rows, schema=_EDGES)


def _walk_one_way(
    start: Iterable[str], edges: Mapping[str, Sequence[Edge]], direction: str
) -> Iterator[dict[str, Any]]:
    frontier, seen, depth = list(start), set(start), 1
    while frontier:
        following: list[str] = []
        for edge in (edge for name in frontier for edge in edges.get(name, ())):
            yield {
                "direction": direction,
                "depth": depth,
                "dataset": edge.dataset,
                "version": edge.version,
                "made_from": edge.source.dataset,
                "from_version": edge.source.version,
                "operation": edge.operation,
                "run": edge.run,
            }
            other = edge.source.dataset if direction == "upstream" else edge.dataset
            if other not in seen:
                seen.add(other)
                following.append(other)
        frontier, depth = following, depth + 1


def environment() -> dict[str, str]:
    """What a run's figures may depend on besides its configuration: versions of code and packages, machine."""
    found = {
        "sensorium": installed_version("sensorium"),
        "commit": _commit(),
        "python": platform.python_version(),
        "machine": platform.machine(),
        "system": platform.system(),
        "cores": str(os.cpu_count()),
    }
    for package in _PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            found[package] = installed_version(package)
    return {name: value for name, value in found.items() if value}


@functools.cache
def _commit() -> str:
    """The commit of the working copy that the code runs from, ``+`` behind it if there are changes; else nothing."""
    folder = Path(__file__).resolve().parent.parent
    if not (folder / ".git").exists():
        return ""
    try:
        commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=folder, capture_output=True, text=True, check=True)
        changes = subprocess.run(
            ["git", "status", "--porcelain", "--untracked-files=no"],
            cwd=folder,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return ""
    return commit.stdout.strip() + ("+" if changes.stdout.strip() else "")
