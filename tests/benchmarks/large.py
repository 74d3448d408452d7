"""A lake of a million samples in 100,000 fragments: whether it lists, queries and plans in seconds.

``python -m tests.benchmarks large``; ``SCALE_PAGE=1`` writes docs/scale.md. The rows are those that a million pictures
would have; the payload that they point to is not there, and nothing that is measured reads it.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path

import numpy as np
import pyarrow as pa

from sensorium.catalog import Catalog, Dataset
from sensorium.catalog.fields import REFERENCE_TYPE
from sensorium.catalog.rows import aligned
from sensorium.catalog.table import Change, CommitNote
from sensorium.platform.tables import markdown, print_rows

__all__ = ["large", "synthetic"]

_SAMPLES, _FRAGMENTS, _COMMITS = 1_000_000, 100_000, 100
_SIDE = 256


def synthetic(catalog: Catalog, name: str, samples: int, fragments: int, commits: int) -> Dataset:
    """A data set of pictures whose rows are all there, and whose payload is not."""
    dataset = catalog.create(name, modality="image", fields={"label": "int64", "split": "string"})
    table = dataset._table
    schema = pa.schema(table.open().schema().to_arrow())
    chance = np.random.default_rng(0)
    each, held = samples // commits, samples // fragments
    for commit in range(commits):
        rows = aligned(_rows(commit * each, each, held, chance), schema, name)
        action = table.write_file(rows)
        table.commit(lambda _, action=action: Change(add=[action]), CommitNote("append", samples=each))  # type: ignore[misc]
    return dataset


def _rows(begin: int, count: int, held: int, chance: np.random.Generator) -> pa.Table:
    """Rows of ``count`` samples from number ``begin`` on, ``held`` of them in each fragment."""
    numbers = np.arange(begin, begin + count)
    shape = np.tile(np.array([_SIDE, _SIDE, 3], np.int64), count)
    checksums = [f"{high:016x}{low:016x}" for high, low in chance.integers(0, 2**63, (count, 2)).tolist()]
    columns = {
        "fragment": pa.array([f"20260101T000000-{number:032x}" for number in (numbers // held).tolist()]),
        "array": pa.repeat("image", count),
        "start": pa.array(numbers % held),
        "stop": pa.array(numbers % held + 1),
        "shape": pa.ListArray.from_arrays(pa.array(np.arange(count + 1, dtype=np.int32) * 3), pa.array(shape)),
        "dtype": pa.repeat("uint8", count),
        "nbytes": pa.repeat(pa.scalar(_SIDE * _SIDE * 3, pa.int64()), count),
        "checksum": pa.array(checksums),
    }
    references = pa.StructArray.from_arrays(
        [columns[field.name] for field in REFERENCE_TYPE], fields=list(REFERENCE_TYPE)
    )
    return pa.table(
        {
            "id": [f"s{number:07d}" for number in numbers.tolist()],
            "image": references,
            "label": chance.integers(0, 1000, count),
            "split": chance.choice(["fit", "tune", "test"], count, p=[0.8, 0.1, 0.1]).tolist(),
        }
    )


def large(folder: Path) -> None:
    """Wall and CPU seconds of what a user does with the lake."""
    lake = Path(os.environ["LARGE_LAKE"]) if "LARGE_LAKE" in os.environ else folder / "lake"
    catalog = Catalog(lake)
    rows: list[list[str]] = []
    if "photos" not in catalog:
        rows.append(_timed("write the rows", lambda: synthetic(catalog, "photos", _SAMPLES, _FRAGMENTS, _COMMITS)))
    dataset = catalog["photos"]
    sweep = ["sweep", "machine_quality", "--data", "photos", "--dry-run", "--codecs", "jpeg"]
    for title, words in {
        "catalog list": ["catalog", "list"],
        "catalog show photos": ["catalog", "show", "photos"],
        "catalog show photos, one label": ["catalog", "show", "photos", "--where", "label = 7"],
        "catalog query, groups": ["catalog", "query", "select label, count(*) as n from photos group by label"],
        "catalog query, one id": ["catalog", "query", "select id, label from photos where id = 's0500000'"],
        "catalog history photos": ["catalog", "history", "photos"],
        "sweep --dry-run, 1 cell a picture": [*sweep, "--qualities", "50"],
        "sweep --dry-run, 8 cells a picture": [*sweep, "--qualities", "auto:8"],
    }.items():
        rows.append(_commanded(title, lake, words))
    selection = dataset.select(fields=["image", "label"])
    for title, action in {
        "open and count": lambda: len(Catalog(lake)["photos"]),
        "select one label": lambda: dataset.select("label = 7").frame(),
        "select all rows": lambda: selection.rows,
        "order of an epoch, shuffled": lambda: selection.torch(batch_size=256, shuffle=True)._order(0),
        "order of an epoch, near by": lambda: selection.torch(batch_size=256, shuffle="near")._order(0),
        "parts for workers": lambda: _packed(dataset),
        "update 10 rows": lambda: dataset.update([{"id": f"s{n:07d}", "label": 1} for n in range(10)]),
        "dry vacuum": dataset.vacuum,
    }.items():
        rows.append(_timed(title, action))
    sys.stdout.write(f"\n{_SAMPLES:,} samples in {_FRAGMENTS:,} fragments, {_COMMITS} commits\n")
    print_rows(["", "seconds", "CPU s", "MB"], rows)
    if os.environ.get("SCALE_PAGE"):
        from tests.chaos.__main__ import ROOT, fill

        told = f"`SCALE_PAGE=1 python -m tests.benchmarks large`, {date.today()}, {os.cpu_count()} cores."
        fill(ROOT / "docs" / "scale.md", "large", f"{markdown(['', 'seconds', 'CPU s', 'MB'], rows)}\n\n{told}")


def _packed(dataset: Dataset) -> int:
    from sensorium.catalog import to_ray

    return len(to_ray.packed(dataset.select(fields=["image"]), 64))


def _timed(title: str, action: Callable[[], object]) -> list[str]:
    wall, spent = time.perf_counter(), time.process_time()
    action()
    return [title, f"{time.perf_counter() - wall:.2f}", f"{time.process_time() - spent:.2f}", ""]


def _commanded(title: str, lake: Path, words: list[str]) -> list[str]:
    """A command of its own, the start of Python and all imports included; with the most memory that any command had so far."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    wall = time.perf_counter()
    program = str(Path(sysconfig.get_path("scripts")) / "sensorium")
    done = subprocess.run([program, "--lake", str(lake), *words], capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - wall
    if done.returncode:
        raise RuntimeError(f"{title}: {done.stderr}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return [f"sensorium {title}", f"{seconds:.2f}", f"{spent:.2f}", f"{after.ru_maxrss >> 10}"]
