"""Writers that are killed, and writers that race: nothing half visible, nothing lost, nothing twice."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import pytest

from sensorium.catalog import Catalog, fragments

#: appends batches of three samples for ever, and reports each commit after it was told that it succeeded
_APPENDER = """
import itertools, json, sys
import numpy as np
from sensorium.catalog import Catalog
url, writer, limit = sys.argv[1], sys.argv[2], int(sys.argv[3])
dataset = Catalog(url)["photos"]
for batch in itertools.islice(itertools.count(), limit):
    samples = [
        {"id": f"{writer}-{batch:04d}-{i}", "image": np.full((40, 40 + i, 3), (batch + i) % 256, np.uint8), "batch": batch}
        for i in range(3)
    ]
    version = dataset.append(samples)
    print(json.dumps({"ids": [s["id"] for s in samples], "version": version}), flush=True)
"""


def start_appender(lake: Path, writer: str, commits: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", _APPENDER, str(lake), writer, str(commits)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def reported(output: str) -> set[str]:
    """Ids of all commits that a writer reported; a line cut off by the kill is not a report."""
    ids: set[str] = set()
    for line in output.splitlines(keepends=True):
        if line.endswith("\n"):
            ids.update(json.loads(line)["ids"])
    return ids


def wait_for_lines(process: subprocess.Popen[str], count: int) -> str:
    if process.stdout is None:
        pytest.fail("the writer has no output")
    return "".join(process.stdout.readline() for _ in range(count))


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    catalog = Catalog(tmp_path / "lake")
    catalog.create("photos", modality="image").append([])
    return tmp_path / "lake"


@pytest.mark.slow
def test_killed_writers_leave_whole_commits_only(lake: Path) -> None:
    chance = random.Random(5)
    told: set[str] = set()
    dataset = Catalog(lake)["photos"]
    for attempt in range(20):
        process = start_appender(lake, f"w{attempt}", 10_000)
        output = wait_for_lines(process, 1)
        time.sleep(chance.uniform(0, 0.15))  # the kill has to hit any point of a commit
        process.send_signal(signal.SIGKILL)
        told |= reported(output + process.communicate()[0])

        ids = dataset.select(fields=[]).frame()["id"].to_list()
        assert len(ids) == len(set(ids)), "a sample is there twice"
        assert told <= set(ids), "a reported sample is lost"
        batches = {identifier.rsplit("-", 1)[0] for identifier in ids}
        assert len(ids) == 3 * len(batches), "a commit is half visible"
    assert dataset.verify().is_empty()


@pytest.mark.slow
def test_vacuum_finds_what_a_killed_writer_left(lake: Path) -> None:
    dataset = Catalog(lake)["photos"]
    script = _APPENDER.replace(
        "dataset = Catalog(url)",
        "import os, sensorium.catalog.table as t\n"
        "t.Table.commit = lambda *a, **k: os.kill(os.getpid(), 9)\n"  # payload is written, and the power goes
        "dataset = Catalog(url)",
    )
    for _ in range(2):
        killed = subprocess.run([sys.executable, "-c", script, str(lake), "w", "1"], capture_output=True, check=False)
        assert killed.returncode == -signal.SIGKILL
    assert len(dataset) == 0
    orphans = sorted(dataset.storage.folders("fragments"))
    assert len(orphans) == 2
    assert dataset.vacuum().fragments == [], "an uncommitted fragment is within the grace period"
    assert sorted(dataset.vacuum(grace=timedelta(0)).fragments) == orphans
    assert sorted(dataset.storage.folders("fragments")) == orphans, "a dry run removed something"
    dataset.vacuum(grace=timedelta(0), dry_run=False)
    assert dataset.storage.folders("fragments") == []


@pytest.mark.slow
def test_four_processes_append_at_once(lake: Path) -> None:
    processes = [start_appender(lake, f"w{number}", 50) for number in range(4)]
    told: set[str] = set()
    versions: list[int] = []
    for process in processes:
        output, errors = process.communicate(timeout=240)
        assert process.returncode == 0, errors
        told |= reported(output)
        versions += [json.loads(line)["version"] for line in output.splitlines()]
    dataset = Catalog(lake)["photos"]
    ids = dataset.select(fields=[]).frame()["id"].to_list()
    assert len(ids) == len(set(ids)) == len(told) == 4 * 50 * 3
    assert set(ids) == told
    assert len(set(versions)) == 200, "two commits were given the same version"
    assert dataset.verify().is_empty()


@pytest.mark.slow
def test_processes_that_race_for_the_same_ids_write_them_once(lake: Path) -> None:
    processes = [start_appender(lake, "same", 15) for _ in range(3)]
    outcomes = [process.communicate(timeout=120) for process in processes]
    ids = Catalog(lake)["photos"].select(fields=[]).frame()["id"].to_list()
    assert len(ids) == len(set(ids))
    winners = [output for output, _ in outcomes]
    assert sum(len(reported(output)) for output in winners) == len(ids)
    for (_, errors), process in zip(outcomes, processes, strict=True):
        assert process.returncode == 0 or "DuplicateSample" in errors


def test_threads_of_one_process_append_at_once(lake: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    dataset = Catalog(lake)["photos"]

    def work(worker: int) -> list[int]:
        return [dataset.append([{"id": f"{worker}-{i}", "batch": i}], existing="error") for i in range(10)]

    table = Catalog(lake).create("rows", modality="table", fields={})
    dataset = table
    with ThreadPoolExecutor(4) as pool:
        versions = [version for part in pool.map(work, range(4)) for version in part]
    assert len(dataset) == 40
    assert len(set(versions)) == 40


def test_a_full_disk_leaves_nothing_visible(tmp_path: Path) -> None:
    import numpy as np

    from sensorium.platform.errors import StorageError

    mount = tmp_path / "small"
    mount.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(mount)], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"a small file system cannot be mounted here: {mounted.stderr.strip()}")
    try:
        dataset = Catalog(mount / "lake").create("photos", modality="image")
        image = np.random.default_rng(0).integers(0, 256, (512, 512, 3), dtype=np.uint8)
        dataset.append([{"id": "first", "image": image}])
        with pytest.raises(StorageError, match=r"full.*[Ff]ree space"):
            dataset.append([{"id": f"more-{n}", "image": image} for n in range(8)])
        assert dataset.select().frame()["id"].to_list() == ["first"]
        assert dataset.verify().is_empty()
    finally:
        fragments.forget()  # files that are open keep the disk busy
        subprocess.run(["umount", str(mount)], check=True)
