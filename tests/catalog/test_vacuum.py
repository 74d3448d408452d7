"""What a vacuum keeps and takes: all retained versions and tags, quarantine, work in progress, readers of a moment ago."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sensorium.catalog import Catalog, Dataset, fragments, maintenance
from sensorium.catalog.rules import Rule
from sensorium.catalog.table import Table
from sensorium.platform.errors import CommitConflict, ExpiredVersion

NOW = timedelta(0)


def image(value: int) -> np.ndarray:
    return np.full((4, 5, 3), value, np.uint8)


@pytest.fixture
def dataset(catalog: Catalog) -> Dataset:
    dataset = catalog.create("photos", modality="image")
    for number in range(4):
        dataset.append([{"id": f"{number}", "image": image(number)}])
    return dataset


def test_what_a_tag_names_stays_through_compaction_and_deletion(catalog: Catalog, dataset: Dataset) -> None:
    dataset.tag("first", 2)
    dataset.compact()
    dataset.delete("id = '3'")
    report = dataset.vacuum(NOW, grace=NOW, dry_run=False)
    assert 2 not in report.versions
    for version, ids in (("first", "01"), (dataset.version, "012")):
        held = catalog.dataset("photos", version)
        assert held.verify().is_empty()
        assert [sample.id for sample in held.select()] == list(ids)
        for sample in held.select():
            np.testing.assert_array_equal(sample["image"], image(int(sample.id)))
    with pytest.raises(ExpiredVersion):
        catalog.dataset("photos", 3)


@pytest.mark.parametrize("way", ["sample", "item", "read", "batch", "stream"])
def test_who_reads_a_version_that_goes_is_told(dataset: Dataset, way: str) -> None:
    selection = dataset.select()
    sample = selection["0"]
    dataset.update([{"id": f"{number}", "image": image(9)} for number in range(4)])
    dataset.vacuum(NOW, grace=NOW, dry_run=False)
    fragments.forget()
    ways: dict[str, Callable[[], Any]] = {
        "sample": lambda: sample["image"],
        "item": lambda: selection[1]["image"],
        "read": selection.read,
        "batch": lambda: selection.batch([0, 1]),
        "stream": lambda: list(selection.torch(batch_size=2)),
    }
    with pytest.raises(ExpiredVersion, match=r"photos.*vacuum"):
        ways[way]()


def test_a_clock_that_is_ahead_takes_nothing_that_is_being_written(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    field = dataset.declaration.arrays["image"]
    (reference,) = fragments.write(dataset.storage, [{"image": image(7)}], {"image": field})
    with monkeypatch.context() as patch:
        later = time.time() + timedelta(days=40).total_seconds()
        patch.setattr(maintenance.time, "time", lambda: later)
        report = dataset.vacuum(dry_run=False)
    assert report.fragments == []
    assert reference["image"]["fragment"] in dataset.storage.folders(fragments.FOLDER)
    assert dataset.vacuum(NOW, grace=NOW).fragments == [reference["image"]["fragment"]]
    assert dataset.verify().is_empty()


def test_a_dry_run_says_what_the_real_one_does(dataset: Dataset) -> None:
    dataset.compact()
    dry = dataset.vacuum(NOW, grace=NOW)
    assert dry.dry_run
    assert dry.fragments
    before = dataset.storage.size("fragments") + dataset.storage.size("samples")
    real = dataset.vacuum(NOW, grace=NOW, dry_run=False)
    assert (real.versions, real.fragments, real.files, real.nbytes) == (
        dry.versions,
        dry.fragments,
        dry.files,
        dry.nbytes,
    )
    assert before - dataset.storage.size("fragments") - dataset.storage.size("samples") >= 0.9 * real.nbytes - 20_000
    assert dataset.vacuum(NOW, grace=NOW).fragments == []


def test_a_version_that_was_replaced_within_the_grace_stays_readable(catalog: Catalog, dataset: Dataset) -> None:
    reader = catalog.dataset("photos", 4).select()
    dataset.delete("id = '0'")
    report = dataset.vacuum(NOW, grace=timedelta(hours=1), dry_run=False)
    assert report.versions == []
    assert [int(sample["image"][0, 0, 0]) for sample in reader] == [0, 1, 2, 3]


def test_two_vacuums_do_not_make_versions_readable_again(catalog: Catalog, dataset: Dataset) -> None:
    dataset.tag("kept", 1)
    table = dataset._table
    table.mark_expired(4, [1, 2])
    table.mark_expired(3, [1])
    newest = table.open()
    assert [version for version in range(5) if not table.expired(newest, version)] == [1, 4]


def test_half_written_files_go_and_strange_ones_stay(dataset: Dataset) -> None:
    folder = Path(dataset.storage.at_path("samples"))
    half, commit, strange = (
        folder / "part-abc.parquet.part12-34",
        folder / "_delta_log" / "_commit_ab.json.tmp",
        folder / "notes.txt",
    )
    for path in (half, commit, strange):
        path.write_text("x")
        os.utime(path, (1, 1))
    report = dataset.vacuum(dry_run=False)
    assert sorted(report.files) == ["_delta_log/_commit_ab.json.tmp", "part-abc.parquet.part12-34"]
    assert (half.exists(), commit.exists(), strange.exists()) == (False, False, True)
    assert len(dataset) == 4


def test_rows_released_while_a_vacuum_looks_keep_their_payload(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset.set_rules([Rule("low", "id < '5'", action="quarantine")])
    dataset.append([{"id": "9", "image": image(9)}])
    assert dataset.quarantine().height == 1
    plain = maintenance._quarantined

    def looked(*arguments: Any) -> set[str]:
        found = plain(*arguments)
        dataset.release(["9"], force=True)
        return found

    monkeypatch.setattr(maintenance, "_quarantined", looked)
    dataset.vacuum(NOW, grace=NOW, dry_run=False)
    np.testing.assert_array_equal(dataset.select()["9"]["image"], image(9))


def test_what_is_committed_while_versions_expire_stays(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = maintenance._quarantined

    def appended(*arguments: Any) -> set[str]:
        dataset.append([{"id": "late", "image": image(77)}])
        dataset.delete("id = '1'")
        return plain(*arguments)

    monkeypatch.setattr(maintenance, "_quarantined", appended)
    dataset.delete("id = '2'")
    dataset.vacuum(NOW, grace=NOW, dry_run=False)
    assert [sample.id for sample in dataset.select()] == ["0", "3", "late"]
    assert dataset.verify().is_empty()


def test_fragments_are_not_looked_into_unless_nothing_needs_them(
    catalog: Catalog, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    plain = type(dataset.storage).age
    monkeypatch.setattr(
        type(dataset.storage), "age", lambda self, *parts: asked.append(parts[-1]) or plain(self, *parts)
    )
    dataset.vacuum(NOW, grace=NOW)
    assert asked == []
    dataset.delete("id = '0'")
    begun = time.perf_counter()
    assert len(dataset.vacuum(NOW, grace=NOW).fragments) == 1
    assert len(asked) == 1
    assert time.perf_counter() - begun < 5


def test_payload_that_a_vacuum_took_before_its_commit_is_not_committed(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = Table.commit

    def late(self: Table, *arguments: Any, **more: Any) -> int:
        monkeypatch.setattr(Table, "commit", plain)
        dataset.vacuum(NOW, grace=NOW, dry_run=False)
        return plain(self, *arguments, **more)

    monkeypatch.setattr(Table, "commit", late)
    with pytest.raises(CommitConflict, match=r"photos.*vacuum took payload.*longer grace"):
        dataset.append([{"id": "late", "image": image(7)}])
    assert len(dataset) == 4
    dataset.append([{"id": "late", "image": image(7)}])
    assert dataset.verify().is_empty()


def test_rows_that_a_vacuum_took_before_their_commit_are_written_again(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = catalog.create("rows", modality="table", fields={"value": "int64"})
    plain, calls = Table.write_file, []

    def raced(self: Table, rows: Any) -> Any:
        action = plain(self, rows)
        calls.append(action)
        if len(calls) == 1:
            dataset.append([{"id": "other", "value": 1}])
            dataset.vacuum(NOW, grace=NOW, dry_run=False)
        return action

    monkeypatch.setattr(Table, "write_file", raced)
    dataset.append([{"id": "late", "value": 2}])
    assert len(calls) == 3
    assert dataset.select().frame()["value"].to_list() == [2, 1]


def test_what_is_about_to_be_committed_counts_as_new(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = Table.write_file

    def raced(self: Table, rows: Any) -> Any:
        action = plain(self, rows)
        # an hour has passed since the payload was written, and a vacuum runs before the commit
        dataset.vacuum(NOW, grace=timedelta(minutes=1), dry_run=False)
        return action

    commit = Table.commit

    def old(self: Table, *arguments: Any, **more: Any) -> int:
        for path in Path(dataset.storage.at_path("fragments")).rglob("*"):
            os.utime(path, (time.time() - 3600,) * 2)
        return commit(self, *arguments, **more)

    monkeypatch.setattr(Table, "write_file", raced)
    monkeypatch.setattr(Table, "commit", old)
    dataset.append([{"id": "late", "image": image(7)}])
    assert dataset.verify().is_empty()
