"""The sample table at work: what durability costs, many writers at once, ten thousand commits, a million rows."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa

from sensorium.catalog import Catalog, Dataset, ScalarField
from sensorium.catalog.table import CommitNote
from sensorium.catalog.writing import append_rows
from sensorium.platform.tables import print_rows

_RACING = Path(__file__).parent.parent / "catalog" / "racing.py"
_WRITERS, _COMMITS_EACH = 8, 100
_MANY_COMMITS = 10_000
_ROWS = 1_000_000
_ROUNDS = 9


def milliseconds(action: Callable[[], object], rounds: int = _ROUNDS) -> list[float]:
    """Wall times of ``rounds`` runs, in ms."""
    times = []
    for _ in range(rounds):
        begun = time.perf_counter()
        action()
        times.append(1e3 * (time.perf_counter() - begun))
    return times


def durability(folder: Path) -> None:
    """Commits with and without the promise to be on disk, interleaved."""
    pixels = np.random.default_rng(0).integers(0, 256, (8, 64, 64, 3), dtype=np.uint8)
    datasets = {name: Catalog(folder / "lake").create(name, modality="image") for name in ("durable", "scratch")}
    times: dict[str, list[float]] = {name: [] for name in datasets}
    for commit in range(60):
        samples = [{"id": f"{commit:03d}-{n}", "image": image} for n, image in enumerate(pixels)]
        for name, dataset in datasets.items():
            times[name] += milliseconds(
                lambda d=dataset, s=samples, n=name: d.append(s, durable=n == "durable"),
                1,  # type: ignore[misc]
            )
    sys.stdout.write("\nappends of 8 images of 64 x 64 pixels, one after the other\n")
    rows = [
        [name, f"{statistics.median(own):.1f} ms", f"{np.percentile(own, 99):.1f} ms"] for name, own in times.items()
    ]
    print_rows(["", "median", "p99"], rows)


def race(folder: Path) -> None:
    """Eight processes that append, with a compactor, a deleter, a vacuum and a reader at work; then without those."""
    rows = []
    for title, roles in (("alone", ()), ("with others", ("delete", "compact", "vacuum", "read"))):
        lake = folder / title.replace(" ", "-")
        dataset = Catalog(lake).create("photos", modality="image")
        others = {role: _start(role, lake) for role in roles}
        begun = time.perf_counter()
        writers = [_start("write", lake, number, _COMMITS_EACH, "durable") for number in range(_WRITERS)]
        commits = [line for process in writers for line in _lines(process)]
        seconds = time.perf_counter() - begun
        (lake / "STOP").touch()
        told = {role: _lines(process) for role, process in others.items()}
        wrong = [line for line in told.get("read", []) if "wrong" in line]
        deleting = {str(line["deleting"]) for line in told.get("delete", []) if "deleting" in line}
        ids = set(dataset.select(fields=[]).frame()["id"])
        lost = {str(one) for line in commits for one in line["ids"]} - ids - deleting  # type: ignore[attr-defined]
        damaged = dataset.verify().height
        times = [1e3 * float(str(line["seconds"])) for line in commits]
        rows.append(
            [
                title,
                f"{len(commits) / seconds:.1f}",
                f"{statistics.median(times):.0f} ms",
                f"{np.percentile(times, 99):.0f} ms",
                str(sum("read" in line for line in told.get("read", []))),
                f"{len(wrong)}/{len(lost)}/{damaged}",
            ]
        )
    sys.stdout.write(f"\n{_WRITERS} processes, {_COMMITS_EACH} durable commits of 4 images each\n")
    print_rows(["", "commits/s", "median", "p99", "whole reads", "wrong/lost/damaged"], rows)


def _start(*arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, str(_RACING), *map(str, arguments)], stdout=subprocess.PIPE, text=True)


def _lines(process: subprocess.Popen[str]) -> list[dict[str, object]]:
    output, _ = process.communicate()
    if process.returncode:
        raise RuntimeError(f"{process.args} ended with {process.returncode}")
    return [json.loads(line) for line in output.splitlines()]


def many_commits(folder: Path) -> None:
    """A table after ten thousand appends of a row each, as its writers leave it: nobody compacts."""
    dataset = Catalog(folder / "lake").create("rows", modality="table", fields={"value": "int64"})
    rows = []
    begun = time.perf_counter()
    for commit in range(1, _MANY_COMMITS + 1):
        dataset.append([{"id": f"{commit:06d}", "value": commit % 100}], durable=False)
        if commit in (100, 1000, _MANY_COMMITS):
            rows.append(_quickness(dataset, commit, time.perf_counter() - begun))
    dataset.compact()
    rows.append(_quickness(dataset, "compacted", time.perf_counter() - begun))
    sys.stdout.write("\na table of many commits: medians\n")
    print_rows(["commits", "files", "open", "filter", "one more append", "commits/s so far"], rows)
    report = milliseconds(lambda: dataset.vacuum(timedelta(0), grace=timedelta(0)), 1)
    sys.stdout.write(f"dry vacuum of {dataset.version} versions: {report[0] / 1e3:.2f} s\n")


def _quickness(dataset: Dataset, what: object, seconds: float) -> list[str]:
    table = dataset._table
    opened = milliseconds(table.open)
    asked = milliseconds(lambda: table.scan(table.open()).filter(value=7).collect())
    count = iter(range(_ROUNDS))
    added = milliseconds(lambda: dataset.append([{"id": f"{what}-{next(count)}", "value": 1}], durable=False))
    files = len(table.files(table.open()))
    rate = f"{what / seconds:.0f}" if isinstance(what, int) else ""
    return [str(what), str(files), *(f"{statistics.median(times):.1f} ms" for times in (opened, asked, added)), rate]


_FIRST = datetime(2026, 1, 1, tzinfo=UTC)
_FILTERS: dict[str, pl.Expr | str] = {
    "label = 7": "label = 7",
    "split and label": "split = 'test' and label = 7",
    "1 % by time": pl.col("taken").is_between(_FIRST + timedelta(minutes=10), _FIRST + timedelta(minutes=20)),
    "one id": "id = '0500000'",
    "score above 0.999": "score > 0.999",
    "half of all": "score > 0.5",
}


def filters(folder: Path) -> None:
    """Filters on a million rows as they were added, compacted, and clustered."""
    chance = np.random.default_rng(0)
    rows = pa.table(
        {
            "id": [f"{n:07d}" for n in range(_ROWS)],
            "label": chance.integers(0, 1000, _ROWS),
            "split": pa.array(chance.choice(["fit", "tune", "test"], _ROWS, p=[0.8, 0.1, 0.1])),
            "taken": pa.array(_moments(_ROWS), pa.timestamp("us", "UTC")),
            "score": chance.random(_ROWS),
        }
    )
    declared = {name: ScalarField(name, rows.schema.field(name).type) for name in rows.column_names if name != "id"}
    dataset = Catalog(folder / "lake").create("rows", modality="table")
    for begin in range(0, _ROWS, 50_000):
        append_rows(dataset._table, rows.slice(begin, 50_000), dict(declared), CommitNote("append"))
    shown: dict[str, list[str]] = {name: [] for name in (*_FILTERS, "files")}
    for arrange in (None, lambda: dataset.compact(), lambda: dataset.compact(cluster=["label", "split"])):
        if arrange is not None:
            arrange()
        for name, predicate in _FILTERS.items():
            times = milliseconds(lambda p=predicate: dataset.select(p).frame())  # type: ignore[misc]
            shown[name].append(f"{statistics.median(times):.0f} ms")
        shown["files"].append(str(len(dataset._table.files(dataset._table.open()))))
    sys.stdout.write("\nfilters on 1,000,000 rows, rows returned whole: medians\n")
    print_rows(["", "as added", "compacted", "clustered"], [[name, *times] for name, times in shown.items()])


def _moments(count: int) -> list[datetime]:
    return [_FIRST + timedelta(milliseconds=60 * n) for n in range(count)]
