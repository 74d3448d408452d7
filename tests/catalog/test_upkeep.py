"""Small table files are merged as they come: the table stays quick, and nobody notices otherwise."""

from __future__ import annotations

import threading
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from sensorium.catalog import Catalog, Dataset, table, upkeep
from sensorium.catalog.table import TableFile
from sensorium.platform.errors import CommitConflict


def commits(dataset: Dataset, count: int, start: int = 0) -> list[int]:
    return [dataset.append([{"id": f"{n:05d}", "value": n}], durable=False) for n in range(start, start + count)]


def files_of(dataset: Dataset) -> list[TableFile]:
    return dataset._table.files(dataset._table.open())


@pytest.fixture
def dataset(catalog: Catalog) -> Dataset:
    return catalog.create("rows", modality="table", fields={"value": "int64"})


def test_a_table_of_many_commits_has_few_files(dataset: Dataset) -> None:
    commits(dataset, 150)
    assert len(files_of(dataset)) <= 2 * 16 + 2
    assert dataset.select().frame()["value"].to_list() == list(range(150))


def test_a_checkpoint_is_taken_of_every_fifty_commits(dataset: Dataset) -> None:
    commits(dataset, 110)
    log = Path(dataset._table.storage.at_path("_delta_log"))
    taken = sorted(int(path.name.split(".")[0]) for path in log.glob("*.checkpoint.parquet"))
    assert len(taken) >= 2
    assert taken[1] - taken[0] <= 50
    assert (log / "_last_checkpoint").is_file()


def test_merging_leaves_versions_tags_and_differences_alone(catalog: Catalog, dataset: Dataset) -> None:
    versions = commits(dataset, 40)
    dataset.tag("early", versions[5])
    merges = dataset.history().filter(operation=upkeep.OPERATION)
    assert merges.height >= 1
    for number in (0, 5, 15, 16, 39):
        old = catalog.dataset("rows", versions[number])
        assert old.select().frame()["value"].to_list() == list(range(number + 1))
    for version in merges["version"]:
        assert dataset.diff(version - 1, version).is_empty()
    assert dataset.diff(versions[3], versions[30])["id"].to_list() == [f"{n:05d}" for n in range(4, 31)]
    dataset.vacuum(timedelta(0), grace=timedelta(0), dry_run=False)
    assert catalog.dataset("rows", "early").select().frame()["value"].to_list() == list(range(6))
    assert dataset.select().frame()["value"].to_list() == list(range(40))


def test_deletions_and_updates_hold_across_merges(dataset: Dataset) -> None:
    commits(dataset, 20)
    dataset.delete("value < 5")
    dataset.update([{"id": "00010", "value": -1}])
    commits(dataset, 40, start=20)
    assert dataset.select(order="id").frame()["value"].to_list() == [*range(5, 10), -1, *range(11, 60)]


def raced(dataset: Dataset, monkeypatch: pytest.MonkeyPatch, what: Any) -> None:
    """Let ``what`` happen between the plan of a merge and its commit, as a writer on another machine may do."""
    arranging = upkeep.arranged
    monkeypatch.setattr(table, "_TURN_S", 0)

    def meanwhile(*arguments: Any) -> Any:
        what()
        return arranging(*arguments)

    monkeypatch.setattr(upkeep, "arranged", meanwhile)


def test_a_merge_that_is_overtaken_by_an_append_still_lands(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    commits(dataset, 15)
    raced(dataset, monkeypatch, lambda: Catalog(dataset.storage.above().above().root)["rows"].append([{"id": "x"}]))
    commits(dataset, 1, start=15)
    assert upkeep.OPERATION in dataset.history()["operation"].to_list()
    assert len(dataset) == 17


def test_a_merge_that_loses_a_file_gives_up(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    commits(dataset, 15)
    raced(dataset, monkeypatch, lambda: dataset.delete("value = 3"))
    commits(dataset, 1, start=15)
    assert upkeep.OPERATION not in dataset.history()["operation"].to_list()
    assert dataset.select().frame()["value"].to_list() == [n for n in range(16) if n != 3]


def test_an_append_does_not_fail_because_files_cannot_be_merged(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    commits(dataset, 15)

    def never(*_: Any) -> Any:
        raise CommitConflict("lost")

    monkeypatch.setattr(upkeep, "arranged", never)
    assert commits(dataset, 1, start=15) == [16]
    assert len(dataset) == 16


def test_the_work_of_a_merge_is_bounded() -> None:
    def file(rows: int, size: int = 1000) -> TableFile:
        return TableFile(f"part-{rows}", size, rows, None, None)

    assert upkeep._chosen([file(1)] * 15) == []
    assert len(upkeep._chosen([file(1)] * 16)) == 16
    assert sum(one.rows for one in upkeep._chosen([file(60_000)] * 40)) <= upkeep._MOST_ROWS
    assert sum(one.size for one in upkeep._chosen([file(10, 7 << 20)] * 40)) <= upkeep._MOST_BYTES
    assert upkeep._chosen([file(70_000)] * 40) == []
    assert upkeep._chosen([file(10, 9 << 20)] * 40) == []


def test_threads_that_append_at_once_lose_nothing_to_merges(dataset: Dataset) -> None:
    def work(worker: int) -> None:
        for number in range(20):
            dataset.append([{"id": f"{worker}-{number}", "value": number}], durable=False)

    threads = [threading.Thread(target=work, args=(worker,)) for worker in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ids = dataset.select().frame()["id"].to_list()
    assert len(ids) == len(set(ids)) == 80
    assert len(files_of(dataset)) < 60
