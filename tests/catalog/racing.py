"""Processes that change and read one data set at the same time, and say what they did: ``python racing.py ROLE LAKE NUMBER …``.

Each writes a line of JSON per step, the last of which sums up; it ends when it has made its commits, or when the file STOP is
in the lake's folder.
"""

from __future__ import annotations

import json
import random
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import numpy as np

from sensorium.catalog import Catalog, Dataset
from sensorium.platform.errors import ExpiredVersion

#: samples of a commit
BATCH = 4
#: what a vacuum spares, in seconds: more than a commit and a pass of the reader take
_GRACE_S = 10.0


def image(writer: int, commit: int, number: int) -> np.ndarray:
    """[H, W, C] of uint8, of two heights, different for each sample."""
    return np.random.default_rng([writer, commit, number]).integers(0, 256, (6 + number % 2, 5, 3), dtype=np.uint8)


def expected(identifier: str) -> np.ndarray:
    writer, commit, number = map(int, identifier.split("-"))
    return image(writer, commit, number)


def tell(**content: object) -> None:
    sys.stdout.write(json.dumps(content) + "\n")
    sys.stdout.flush()


def write(dataset: Dataset, writer: int, commits: int, durable: bool) -> None:
    for commit in range(commits):
        samples = [
            {"id": f"{writer}-{commit:05d}-{number}", "image": image(writer, commit, number)} for number in range(BATCH)
        ]
        begun = time.perf_counter()
        version = dataset.append(samples, durable=durable)
        tell(version=version, seconds=time.perf_counter() - begun, ids=[sample["id"] for sample in samples])


def delete(dataset: Dataset) -> None:
    """Delete the last sample of some commits."""
    ids = dataset.select(fields=[]).frame()["id"].to_list()
    doomed = [one for one in ids if one.endswith(f"-{BATCH - 1}")]
    chosen = random.choice(doomed) if doomed else ""
    if chosen:
        tell(deleting=chosen)
        dataset.delete(f"id = '{chosen}'")
        tell(deleted=chosen)
    time.sleep(0.2)


def compact(dataset: Dataset) -> None:
    tell(compacted=dataset.compact())
    time.sleep(0.5)


def vacuum(dataset: Dataset) -> None:
    report = dataset.vacuum(timedelta(0), grace=timedelta(seconds=_GRACE_S), dry_run=False)
    tell(fragments=len(report.fragments), versions=len(report.versions))
    time.sleep(0.5)


def read(dataset: Dataset) -> None:
    """Read the newest version whole and compare every sample; a version that a vacuum took meanwhile says so."""
    try:
        selection = dataset.select()
        arrays = selection.read()
    except ExpiredVersion:
        tell(expired=1)
        return
    ids = arrays["id"]
    if len(ids) != len(set(ids)):
        tell(wrong="a sample is there twice", version=selection.version)
    commits: dict[str, int] = {}
    for identifier, found in zip(ids, arrays["image"], strict=True):
        if not np.array_equal(found, expected(identifier)):
            tell(wrong=f"sample {identifier} is not what was written", version=selection.version)
        if not identifier.endswith(f"-{BATCH - 1}"):  # that may have been deleted
            key = identifier.rpartition("-")[0]
            commits[key] = commits.get(key, 0) + 1
    torn = [key for key, count in commits.items() if count != BATCH - 1]
    if torn:
        tell(wrong=f"commit {torn[0]} is half there", version=selection.version)
    tell(read=len(ids), version=selection.version)


ROLES: dict[str, Callable[[Dataset], None]] = {"delete": delete, "compact": compact, "vacuum": vacuum, "read": read}


def main(role: str, lake: str, *arguments: str) -> None:
    dataset = Catalog(lake)["photos"]
    if role == "write":
        write(dataset, int(arguments[0]), int(arguments[1]), arguments[2] == "durable")
        return
    while not Path(lake, "STOP").exists():
        ROLES[role](dataset)


if __name__ == "__main__":
    main(*sys.argv[1:])
