"""A data set larger than memory ought to be: what the process holds while it is written and scanned."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from sensorium.catalog import Catalog
from sensorium.platform.tables import print_rows

_SHAPE = (256, 256, 3)
_BATCH = 2048


def held() -> dict[str, float]:
    """MB of this process: its own memory, and pages of mapped files, which the system takes back when it likes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    found = {line.partition(":")[0]: line.split()[1] for line in lines if line.startswith("Rss")}
    return {"own": int(found["RssAnon"]) / 1024, "files": int(found["RssFile"]) / 1024}


@contextmanager
def watched() -> Iterator[list[tuple[float, dict[str, float]]]]:
    """What is held, ten times a second."""
    seen: list[tuple[float, dict[str, float]]] = []
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.1):
            seen.append((time.perf_counter(), held()))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()


def bulk(folder: Path) -> None:
    """Write, scan and shuffle GB=20 of images; the tenths of the way at which memory is told show whether it grows."""
    count = int(float(os.environ.get("GB", "20")) * 1e9 / np.prod(_SHAPE)) // _BATCH * _BATCH
    dataset = Catalog(folder / "lake").create("images", modality="image")
    noise = np.random.default_rng(0).integers(0, 255, (_BATCH, *_SHAPE), dtype=np.uint8)
    rows = []

    def told(name: str, seen: list[tuple[float, dict[str, float]]], seconds: float) -> None:
        places = [seen[len(seen) * tenth // 10][1] for tenth in (1, 5, 9)]
        peak = max(one["own"] for _, one in seen)
        speed = count * np.prod(_SHAPE) / seconds / 1e6
        rows.append(
            [
                name,
                f"{speed:,.0f}",
                *(f"{one['own']:,.0f}" for one in places),
                f"{peak:,.0f}",
                f"{places[-1]['files']:,.0f}",
            ]
        )

    begun = time.perf_counter()
    with watched() as seen, dataset.writer(_BATCH, commit="end", durable=False) as writer:
        for first in range(0, count, _BATCH):
            noise[:, 0, 0, 0] = first // _BATCH % 256
            writer.add_columns({"id": [f"{n:08d}" for n in range(first, first + _BATCH)], "image": noise})
    told("write", seen, time.perf_counter() - begun)
    selection = dataset.select(fields=["image"])
    for name, shuffle in (("scan", False), ("shuffled", True)):
        stream = selection.torch(batch_size=64, shuffle=shuffle)
        begun = time.perf_counter()
        with watched() as seen:
            for _ in stream:
                pass
        told(name, seen, time.perf_counter() - begun)
    sys.stdout.write(f"\n{count:,} images, {count * np.prod(_SHAPE) / 1e9:.1f} GB\n")
    header = ["", "MB/s", "MB held at 1/10", "at 5/10", "at 9/10", "at most", "mapped files, MB"]
    print_rows(header, rows)
