"""Throughput against nodes: a model of measured costs, checked on 1, 2 and 4 simulated nodes.

``python -m tests.benchmarks scale``; ``SCALE_PAGE=1`` writes docs/scale.md.

The nodes are raylets of one core each on one machine, so that real work would only compete for its cores. Work is
therefore waiting (a task sleeps as a paced storage or an encoder would take): what is checked is what scheduling, the
driver and commits cost beside it, not how fast cores compute.

With n nodes, tasks of t seconds of work, an overhead of o seconds on the node per task, and d seconds of the driver::

    tasks/s = min(n / (t + o), 1 / d, storage)

A group commit takes any number of tasks' rows, so that its rate bounds how soon rows are seen, not how many there are;
commits of each task by itself, of c seconds, would add 1 / c to the minimum.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from sensorium.catalog import Catalog
from sensorium.catalog.fields import ScalarField
from sensorium.catalog.table import CommitNote
from sensorium.catalog.writing import append_rows
from sensorium.platform.tables import markdown, print_rows

__all__ = ["scale"]

ROOT = Path(__file__).resolve().parent.parent.parent
_NODES = (1, 2, 4)
#: seconds of waiting of a task, and tasks a node
_WORK_S, _TASKS = 0.5, 16
_ROWS = 16
_MANY = (8, 64, 512, 4096)


@dataclass(frozen=True)
class Costs:
    """What was measured of the parts.

    Attributes:
        overhead_s: of a task on its node, beside its work.
        driver_s: CPU of the driver per task.
        commit_s: of a commit of a few rows; ``row_s`` of each row in it.
    """

    overhead_s: float
    driver_s: float
    commit_s: float
    row_s: float

    def tasks_per_s(self, nodes: float, work_s: float) -> float:
        """What the model says."""
        return min(nodes / (work_s + self.overhead_s), 1 / self.driver_s)

    def saturated(self, work_s: float) -> float:
        """Nodes from which the driver is the bound."""
        return (work_s + self.overhead_s) / self.driver_s


def work(kind: str, number: int) -> Any:
    """A task of each kind: waits as its storage, encoder or step would take, and makes the rows that it would."""
    time.sleep(_WORK_S)
    ids = [f"{number:05d}-{row}" for row in range(_ROWS)]
    return pa.table({"id": ids, "kind": [kind] * _ROWS, "value": list(range(_ROWS))})


def sweep_like(catalog: Catalog, tasks: int) -> tuple[float, float, int]:
    """Tasks whose rows a committer takes, three for each core under way, as of a sweep: seconds, CPU seconds, commits."""
    import ray

    from sensorium.actors import committer

    declared = {"kind": ScalarField("kind", pa.string()), "value": ScalarField("value", pa.int64())}
    target = catalog.create(f"rows{time.monotonic_ns()}", modality="table", fields=list(declared.values()))
    actor = committer.start(target.storage, target.name)
    run = ray.remote(num_cpus=1, max_retries=0)(work)
    cores = int(ray.cluster_resources()["CPU"])
    ray.get([run.remote("warm", 100_000 + number) for number in range(2 * cores)])  # processes are there
    began, spent = time.perf_counter(), time.process_time()
    waiting: list[Any] = []
    for number in range(tasks):
        if len(waiting) >= 3 * cores:
            _, waiting = ray.wait(waiting, num_returns=1)
        waiting.append(actor.append.remote(run.remote("sweep", number), declared))
    ray.get(waiting)
    seconds, cpu = time.perf_counter() - began, time.process_time() - spent
    if len(target) != tasks * _ROWS:
        raise RuntimeError(f"{len(target)} rows are there of {tasks * _ROWS}")
    return seconds, cpu, target.version


def ingest_like(catalog: Catalog, tasks: int) -> tuple[float, float, int]:
    """Tasks whose rows come back to the driver, which commits them in order, 8 tasks a commit, as of an import."""
    import ray

    declared = {"kind": ScalarField("kind", pa.string()), "value": ScalarField("value", pa.int64())}
    target = catalog.create(f"files{time.monotonic_ns()}", modality="table", fields=list(declared.values()))
    run = ray.remote(num_cpus=1, max_retries=0)(work)
    cores = int(ray.cluster_resources()["CPU"])
    ray.get([run.remote("warm", 100_000 + number) for number in range(2 * cores)])
    began, spent = time.perf_counter(), time.process_time()
    running: list[Any] = []
    landed: list[pa.Table] = []
    for number in range(tasks):
        running.append(run.remote("ingest", number))
        if len(running) >= 2 * cores:
            landed.append(ray.get(running.pop(0)))
        if len(landed) == 8:
            append_rows(target._table, pa.concat_tables(landed), dict(declared), CommitNote("append"))
            landed = []
    append_rows(target._table, pa.concat_tables([*landed, *ray.get(running)]), dict(declared), CommitNote("append"))
    seconds, cpu = time.perf_counter() - began, time.process_time() - spent
    if len(target) != tasks * _ROWS:
        raise RuntimeError(f"{len(target)} rows are there of {tasks * _ROWS}")
    return seconds, cpu, target.version


def fit_like(catalog: Catalog, tasks: int) -> tuple[float, float, int]:
    """Workers that step together, each step a waiting of its own and a meeting of all, as of a fit on Ray Train."""
    import ray

    cores = int(ray.cluster_resources()["CPU"])

    @ray.remote(num_cpus=1)
    class Worker:
        def step(self, number: int) -> int:
            time.sleep(_WORK_S)
            return number

    workers = [Worker.remote() for _ in range(cores)]  # type: ignore[attr-defined]
    ray.get([worker.step.remote(0) for worker in workers])
    steps = tasks // cores
    began, spent = time.perf_counter(), time.process_time()
    for number in range(steps):
        ray.get([worker.step.remote(number) for worker in workers])
    seconds, cpu = time.perf_counter() - began, time.process_time() - spent
    for worker in workers:
        ray.kill(worker)
    return seconds * tasks / (steps * cores), cpu, 0


KINDS: dict[str, Callable[[Catalog, int], tuple[float, float, int]]] = {
    "ingest": ingest_like,
    "sweep": sweep_like,
    "fit": fit_like,
}


def commits(folder: Path) -> tuple[float, float, list[list[str]]]:
    """Seconds of a commit without rows, and of each row; and the table of what was measured."""
    rows, sizes, seconds = [], [], []
    dataset = Catalog(folder / "commits").create("rows", modality="table", fields={"value": "int64"})
    declared = {"value": ScalarField("value", pa.int64())}
    for size in _MANY:
        times = []
        for turn in range(9):
            ids = [f"{size}-{turn}-{number}" for number in range(size)]
            table = pa.table({"id": ids, "value": list(range(size))})
            began = time.perf_counter()
            append_rows(dataset._table, table, dict(declared), CommitNote("append"))
            times.append(time.perf_counter() - began)
        sizes.append(size)
        seconds.append(statistics.median(times))
        rows.append([f"{size:,}", f"{1e3 * seconds[-1]:.1f}", f"{1 / seconds[-1]:.0f}", f"{size / seconds[-1]:,.0f}"])
    slope, base = np.polyfit(sizes, seconds, 1)
    return max(float(base), min(seconds) / 2), max(float(slope), 0.0), rows


def program(nodes: int, folder: str) -> None:
    """What a driver of its own does: each kind of work on so many nodes; a line of JSON each."""
    from tests.chaos.nodes import cluster

    with cluster(nodes) as made:
        import ray

        ray.init(address=made.address, log_to_driver=False, logging_level="ERROR")
        tasks = _TASKS * nodes
        for kind, measure in KINDS.items():
            seconds, cpu, version = measure(Catalog(Path(folder) / f"lake{nodes}"), tasks)
            found = {"kind": kind, "tasks": tasks, "seconds": seconds, "cpu": cpu, "commits": version}
            sys.stdout.write(json.dumps(found) + "\n")
        ray.shutdown()


def _measured(nodes: int, folder: Path) -> dict[str, dict[str, float]]:
    code = f"from tests.benchmarks.scale import program; program({nodes}, {str(folder)!r})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    return {line["kind"]: line for line in lines}


def scale(folder: Path) -> None:
    """Measure, model, compare; ``SCALE_PAGE=1`` writes docs/scale.md."""
    base, each, committed = commits(folder)
    lines: list[list[str]] = []
    bounds: list[list[str]] = []
    measured = {nodes: _measured(nodes, folder) for nodes in _NODES}
    for kind in KINDS:
        found = {nodes: kinds[kind] for nodes, kinds in measured.items()}
        one = found[1]
        costs = Costs(
            overhead_s=max(0.0, one["seconds"] / one["tasks"] - _WORK_S),
            driver_s=max(one_["cpu"] / one_["tasks"] for one_ in found.values()),
            commit_s=base,
            row_s=each,
        )
        for nodes, seen in found.items():
            rate, said = seen["tasks"] / seen["seconds"], costs.tasks_per_s(nodes, _WORK_S)
            share = f"{1e3 * seen['cpu'] / seen['tasks']:.1f}"
            lines.append(
                [kind, str(nodes), f"{rate:.2f}", f"{said:.2f}", f"{rate / said:.2f}", share, f"{seen['commits']:.0f}"]
            )
        bounds.append(
            [kind, f"{1e3 * costs.overhead_s:.0f}", f"{1e3 * costs.driver_s:.1f}", f"{1 / costs.driver_s:.0f}",
             *(f"{costs.saturated(work_s):,.0f}" for work_s in (_WORK_S, 5.0, 20.0))]
        )  # fmt: skip
    _told(lines, bounds, committed)


_CHECKED = ["work", "nodes", "tasks/s", "model", "seen / model", "driver, CPU ms a task", "commits"]
_BOUNDS = [
    "work",
    "overhead of a task, ms",
    "driver, ms a task",
    "tasks/s at most",
    "nodes at 0.5 s a task",
    "at 5 s",
    "at 20 s",
]
_COMMITTED = ["rows a commit", "ms", "commits/s", "rows/s"]


def _told(lines: list[list[str]], bounds: list[list[str]], committed: list[list[str]]) -> None:
    for title, header, rows in (
        ("checked", _CHECKED, lines),
        ("bounds", _BOUNDS, bounds),
        ("commits", _COMMITTED, committed),
    ):
        sys.stdout.write(f"\n{title}\n")
        print_rows(header, rows)
    if os.environ.get("SCALE_PAGE"):
        from tests.chaos.__main__ import fill

        said = f"`SCALE_PAGE=1 python -m tests.benchmarks scale`, {date.today()}, {os.cpu_count()} cores."
        page = ROOT / "docs" / "scale.md"
        fill(page, "scale", f"{markdown(_CHECKED, lines)}\n\n{said}")
        fill(page, "bounds", markdown(_BOUNDS, bounds))
        fill(page, "commits", markdown(_COMMITTED, committed))
