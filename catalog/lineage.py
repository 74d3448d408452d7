"""Where data came from and what was made of it, read from the commits themselves."""

from __future__ import annotations

import json
import platform
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from importlib.metadata import version as installed_version
from typing import Any

import polars as pl
import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, write_deltalake
from deltalake.exceptions import DeltaError, TableNotFoundError

from sensorium.catalog.declaration import Source
from sensorium.platform.errors import StorageError
from sensorium.platform.storage import Storage

__all__ = ["Edge", "Run", "read_runs", "record_run", "walk"]

_FOLDER = "runs"
_REFERENCES = pa.list_(pa.struct([("dataset", pa.string()), ("version", pa.int64())]))
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
    ]
)
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
class Run:
    """One execution of a job.

    Attributes:
        kind: ``sweep``, ``fit``, ``predict`` …
        name: of the system, or of the job.
        configuration: everything that was set, JSON types only.
        inputs, outputs: data sets at versions.
        state: ``running``, ``finished`` or ``failed``.
        message: why it failed, or a remark.
        id: unique; commits name it.
    """

    kind: str
    name: str
    configuration: Mapping[str, Any]
    inputs: tuple[Source, ...] = ()
    outputs: tuple[Source, ...] = ()
    state: str = "running"
    message: str = ""
    id: str = field(default_factory=lambda: f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{uuid.uuid4().hex[:6]}")

    def ended(self, state: str, outputs: Iterable[Source] = (), message: str = "") -> Run:
        """The same run in its last state."""
        return replace(self, state=state, outputs=tuple(outputs), message=message)


def record_run(lake: Storage, run: Run) -> None:
    """Append the run's present state to the lake's ``runs`` table."""
    row = {
        "run": run.id,
        "kind": run.kind,
        "name": run.name,
        "state": run.state,
        "time": datetime.now(UTC),
        "configuration": json.dumps(run.configuration, sort_keys=True),
        "inputs": [vars(source) for source in run.inputs],
        "outputs": [vars(source) for source in run.outputs],
        "environment": json.dumps(_environment(), sort_keys=True),
        "message": run.message,
    }
    try:
        write_deltalake(
            lake.at_path(_FOLDER),
            pa.Table.from_pylist([row], schema=_SCHEMA),
            mode="append",
            storage_options=lake.delta_options(),
            commit_properties=CommitProperties(max_commit_retries=100),
        )
    except DeltaError as error:
        raise StorageError(f"{lake.url}: run {run.id} cannot be recorded: {error}") from error


def read_runs(lake: Storage) -> pl.DataFrame:
    """The runs, newest first, each in its last state, with ``started`` and ``seconds``."""
    try:
        table = DeltaTable(lake.at_path(_FOLDER), storage_options=lake.delta_options())
    except TableNotFoundError:
        return _with_times(pl.DataFrame(schema=pl.from_arrow(_SCHEMA.empty_table()).schema))  # type: ignore[union-attr]
    return _with_times(pl.scan_delta(table).collect())


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


def _environment() -> dict[str, str]:
    return {
        "sensorium": installed_version("sensorium"),
        "python": platform.python_version(),
        "machine": platform.machine(),
    }
