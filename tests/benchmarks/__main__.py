"""``make bench``: ratios against a peer or a physical limit, measured in the same run, interleaved.

A ratio above 1 means that Sensorium is faster. Nothing here is asserted: machines differ, and so do their neighbours.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
from deltalake import write_deltalake

from sensorium.catalog import Catalog, Dataset
from sensorium.platform.tables import print_rows
from tests.benchmarks.bulk import bulk
from tests.benchmarks.component_trees import component_trees
from tests.benchmarks.fits import fits, live
from tests.benchmarks.large import large
from tests.benchmarks.lungs import lungs
from tests.benchmarks.peers import feeds
from tests.benchmarks.scale import scale
from tests.benchmarks.serving import crowd, serve
from tests.benchmarks.sizes import sizes
from tests.benchmarks.sweeps import codecs, long_sweep, peer, sweep
from tests.benchmarks.tables import durability, filters, many_commits, race
from tests.benchmarks.trees import trees

ROUNDS = 5


def seconds(action: Callable[[], object]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


class Table:
    """Interleaved rounds of actions; medians, and ratios to the named peer."""

    def __init__(self, title: str, peer: str) -> None:
        self.title, self.peer = title, peer
        self.times: dict[str, list[float]] = {}

    def round(self, **actions: Callable[[], object]) -> None:
        for name, action in actions.items():
            self.times.setdefault(name, []).append(seconds(action))

    def show(self, amount: float, unit: str) -> None:
        rows = []
        for name, times in self.times.items():
            ratio = statistics.median(peer / own for peer, own in zip(self.times[self.peer], times, strict=True))
            rows.append([name, f"{amount / statistics.median(times):.0f} {unit}/s", f"{ratio:.2f}"])
        sys.stdout.write(f"\n{self.title}\n")
        print_rows(["", "median", f"times {self.peer}"], rows)


def commits(folder: Path) -> None:
    """Small appends, against Delta's own append of the same rows."""
    table = Table("commits of 8 rows without payload", "deltalake")
    for number in range(3):
        dataset = Catalog(folder / f"lake{number}").create("rows", modality="table")
        dataset.append([{"id": "first", "value": 0}])
        plain = str(folder / f"plain{number}")

        def ours(dataset: Dataset = dataset) -> None:
            for batch in range(50):
                dataset.append([{"id": f"{batch}-{n}", "value": n} for n in range(8)])

        def theirs(plain: str = plain) -> None:
            for batch in range(50):
                rows = pa.table({"id": [f"{batch}-{n}" for n in range(8)], "value": list(range(8))})
                write_deltalake(plain, rows, mode="append")

        table.round(sensorium=ours, deltalake=theirs)
    table.show(50, "commits")


def queries(folder: Path) -> None:
    """A filter over a million rows, against Polars on one Parquet file of the same rows."""
    count = 1_000_000
    dataset = Catalog(folder / "lake").create("rows", modality="table")
    from sensorium.catalog.fields import ScalarField
    from sensorium.catalog.table import CommitNote
    from sensorium.catalog.writing import append_rows

    rows = pa.table(
        {
            "id": [f"{n:08d}" for n in range(count)],
            "label": np.arange(count) % 1000,
            "value": np.random.default_rng(0).random(count),
        }
    )
    declared = {name: ScalarField(name, rows.schema.field(name).type) for name in ("label", "value")}
    append_rows(dataset._table, rows, dict(declared), CommitNote("append"))
    pl.DataFrame(rows).write_parquet(folder / "plain.parquet")
    table = Table("filter of 1,000,000 rows to 1,000", "parquet")
    point = Table("one row of 1,000,000 by its id", "parquet")
    for _ in range(ROUNDS):
        table.round(
            sensorium=lambda: dataset.select("label = 7").frame(),
            parquet=lambda: pl.scan_parquet(folder / "plain.parquet").filter(pl.col("label") == 7).collect(),
        )
        point.round(
            sensorium=lambda: dataset.select("id = '00500000'").frame(),
            parquet=lambda: pl.scan_parquet(folder / "plain.parquet").filter(pl.col("id") == "00500000").collect(),
        )
    table.show(1, "queries")
    point.show(1, "queries")


def main() -> None:
    usual = (feeds, commits, queries, durability, filters, race, codecs, sweep, peer, fits, live, serve, crowd)
    parts = {
        part.__name__: part
        for part in (*usual, trees, component_trees, lungs, many_commits, long_sweep, sizes, bulk, large, scale)
    }
    for part in [parts[name] for name in sys.argv[1:]] or usual:
        with tempfile.TemporaryDirectory(prefix="sensorium-bench-") as folder:
            part(Path(folder))


if __name__ == "__main__":
    main()
