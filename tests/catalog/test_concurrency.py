"""Many processes write, while others delete, compact, vacuum and read: nothing lost, torn or twice, and no reader fails."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sensorium.catalog import Catalog, Dataset, table, turns
from sensorium.platform.storage import Storage
from tests.catalog.racing import expected

_PROGRAM = Path(__file__).with_name("racing.py")
_WRITERS, _COMMITS = 8, 4
_OTHERS = ("delete", "compact", "vacuum", "read")


def start(*arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(_PROGRAM), *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def lines(process: subprocess.Popen[str]) -> list[dict[str, Any]]:
    output, errors = process.communicate(timeout=240)
    assert process.returncode == 0, f"{process.args}: {errors}"
    return [json.loads(line) for line in output.splitlines()]


@pytest.mark.slow
def test_writers_a_deleter_a_compactor_a_vacuum_and_a_reader(tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    dataset = Catalog(lake).create("photos", modality="image")
    others = {role: start(role, lake) for role in _OTHERS}
    writers = [start("write", lake, number, _COMMITS, "durable") for number in range(_WRITERS)]
    commits = [line for process in writers for line in lines(process)]
    (lake / "STOP").touch()
    told = {role: lines(process) for role, process in others.items()}

    assert not [line for line in told["read"] if "wrong" in line]
    assert [line for line in told["read"] if "read" in line]
    assert len({line["version"] for line in commits}) == _WRITERS * _COMMITS, "two commits were given one version"
    written = {identifier for line in commits for identifier in line["ids"]}
    attempted = {line["deleting"] for line in told["delete"] if "deleting" in line}
    deleted = {line["deleted"] for line in told["delete"] if "deleted" in line}
    held = {sample.id: sample["image"] for sample in dataset.select()}
    assert len(dataset) == len(held)
    assert written - attempted <= set(held)
    assert set(held) <= written - deleted
    for identifier, image in held.items():
        np.testing.assert_array_equal(image, expected(identifier))
    assert dataset.verify().is_empty()
    assert [line for line in told["compact"] if line["compacted"] > 0]


@pytest.fixture
def rows(tmp_path: Path) -> Dataset:
    return Catalog(tmp_path / "lake").create("rows", modality="table", fields={"value": "int64"})


def lock_of(dataset: Dataset) -> Path:
    return Path(dataset._table.storage.root + turns.SUFFIX)


def test_threads_take_turns_and_none_plans_in_vain(rows: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "_TURN_S", 100.0)
    plans: list[str] = []

    def write(number: int) -> None:
        for commit in range(3):
            rows.append([{"id": f"{number}-{commit}", "value": commit}])

    looked = table.Table._landed  # once per attempt
    monkeypatch.setattr(table.Table, "_landed", lambda *a: (plans.append("plan"), looked(*a))[1])
    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(rows) == 12
    assert len(plans) == 12


def test_a_commit_goes_on_without_its_turn(rows: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "_TURN_S", 0.05)
    with turns.turn(rows._table.storage, 1.0) as had:
        assert had
        assert rows.append([{"id": "a", "value": 1}]) == 1


def test_the_lock_may_be_removed_and_a_killed_holder_has_it_no_more(rows: Dataset) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", "import fcntl, sys; f = open(sys.argv[1], 'w'); fcntl.flock(f, 2); print(flush=True); input()",
         str(lock_of(rows))],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    with holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        with turns.turn(rows._table.storage, 0.0) as had:
            assert not had
        holder.kill()
        holder.wait()
    with turns.turn(rows._table.storage, 0.0) as had:
        assert had
        lock_of(rows).unlink()
        with turns.turn(rows._table.storage, 0.0) as another:
            assert another, "whoever comes after the removal locks a new file"
    rows.append([{"id": "a", "value": 1}])
    assert lock_of(rows).exists()


def test_without_locks_commits_go_on_as_before(rows: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", refused)
    assert rows.append([{"id": "a", "value": 1}]) == 1


def test_no_lock_is_made_where_there_is_no_table(tmp_path: Path) -> None:
    with turns.turn(Storage.at(tmp_path / "samples"), 1.0) as had:
        assert not had
    assert not os.listdir(tmp_path)
