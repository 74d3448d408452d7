"""A damaged data set is mended from what is intact, in one commit, and says what was done to which sample."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sensorium.catalog import Catalog, Dataset, fragments, repair
from sensorium.catalog.table import Table
from sensorium.platform.errors import CommitConflict


def image(value: int) -> np.ndarray:
    return np.random.default_rng(value).integers(1, 255, (6, 5, 3), dtype=np.uint8)


def damage(dataset: Dataset, identifier: str, field: str = "image") -> None:
    """Flip a byte of this sample's array, and of no other, in the fragment that the newest version points to."""
    reference = dataset.select().rows.filter(id=identifier)[field].item()
    content = fragments.read(dataset.storage, reference).tobytes()
    folder = Path(dataset.storage.at_path(fragments.FOLDER, reference["fragment"]))
    for path in folder.rglob("*"):
        if path.is_file() and (place := path.read_bytes().find(content)) >= 0:
            held = bytearray(path.read_bytes())
            held[place + 7] ^= 1
            path.write_bytes(held)
            return
    pytest.fail("the array does not lie in its fragment as it is")


@pytest.fixture
def dataset(catalog: Catalog) -> Dataset:
    dataset = catalog.create("photos", modality="image")
    dataset.append([{"id": f"a{n}", "image": image(n), "mask": np.full((6, 5), 1 + n, np.uint8)} for n in range(4)])
    return dataset


def actions(report: repair.RepairReport) -> dict[tuple[str, str], str]:
    return {(row["id"], row["field"]): row["action"] for row in report.repairs.iter_rows(named=True)}


def test_there_is_nothing_to_mend(dataset: Dataset) -> None:
    report = dataset.repair(dry_run=False)
    assert report.repairs.is_empty()
    assert dataset.version == report.version == 1


def test_a_copy_of_another_sample_is_used(dataset: Dataset) -> None:
    dataset.append([{"id": "twin", "image": image(2)}])
    damage(dataset, "a2")
    assert dataset.verify()["id"].to_list() == ["a2"]
    dry = dataset.repair()
    assert actions(dry) == {("a2", "image"): repair.RELINKED}
    assert dataset.version == 2
    report = dataset.repair(dry_run=False)
    assert report.version == dataset.version == 3
    assert dataset.verify().is_empty()
    np.testing.assert_array_equal(dataset.select()["a2"]["image"], image(2))
    np.testing.assert_array_equal(dataset.select()["a2"]["mask"], np.full((6, 5), 3, np.uint8))
    last = dataset.history().row(0, named=True)
    assert (last["operation"], last["samples"]) == ("repair", 1)
    assert "1 × relinked" in last["message"]


def test_what_an_older_version_still_has_is_used(catalog: Catalog, dataset: Dataset) -> None:
    dataset.append([{"id": "b", "image": image(9)}])
    dataset.compact()
    damage(dataset, "a1")
    report = dataset.repair(dry_run=False)
    assert actions(report) == {("a1", "image"): repair.RELINKED}
    assert dataset.verify().is_empty()
    dataset.vacuum(timedelta(0), grace=timedelta(0), dry_run=False)
    assert dataset.verify().is_empty()
    for number in range(4):
        np.testing.assert_array_equal(dataset.select()[f"a{number}"]["image"], image(number))


def test_without_a_copy_the_field_or_the_sample_goes(catalog: Catalog, dataset: Dataset) -> None:
    damage(dataset, "a0", "image")
    damage(dataset, "a3", "mask")
    report = dataset.repair(dry_run=False)
    assert actions(report) == {("a0", "image"): repair.WITHOUT_SAMPLE, ("a3", "mask"): repair.WITHOUT_FIELD}
    held = dataset.select()
    assert [sample.id for sample in held] == ["a1", "a2", "a3"]
    assert "mask" not in held["a3"]
    np.testing.assert_array_equal(held["a3"]["image"], image(3))
    np.testing.assert_array_equal(held["a2"]["mask"], np.full((6, 5), 3, np.uint8))
    assert dataset.verify().is_empty()
    assert catalog.dataset("photos", 1).verify().height == 2, "an older version is what it was"


def test_a_sample_that_is_mended_meanwhile_keeps_that(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    damage(dataset, "a0")
    plain, done = Table.commit, []

    def commit(self: Table, *arguments: Any, **more: Any) -> int:
        if not done:
            done.append(1)
            dataset.update([{"id": "a0", "image": image(40)}])
        return plain(self, *arguments, **more)

    monkeypatch.setattr(Table, "commit", commit)
    dataset.repair(dry_run=False)
    np.testing.assert_array_equal(dataset.select()["a0"]["image"], image(40))
    assert dataset.verify().is_empty()


def test_a_copy_that_a_vacuum_takes_meanwhile_is_not_used(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset.append([{"id": "b", "image": image(9)}])
    dataset.compact()
    damage(dataset, "a1")
    plain, done = Table.commit, []

    def commit(self: Table, *arguments: Any, **more: Any) -> int:
        if not done:
            done.append(1)
            dataset.vacuum(timedelta(0), grace=timedelta(0), dry_run=False)
        return plain(self, *arguments, **more)

    monkeypatch.setattr(Table, "commit", commit)
    with pytest.raises(CommitConflict, match=r"vacuum took intact copies.*again"):
        dataset.repair(dry_run=False)
    monkeypatch.undo()
    assert actions(dataset.repair(dry_run=False)) == {("a1", "image"): repair.WITHOUT_SAMPLE}


def test_a_fragment_that_is_gone_is_mended_like_a_damaged_one(dataset: Dataset) -> None:
    dataset.append([{"id": "twin", "image": image(1), "mask": np.full((6, 5), 2, np.uint8)}])
    lost = dataset.select().rows.filter(id="a1")["image"].item()["fragment"]
    dataset.storage.remove(fragments.FOLDER, lost)
    report = dataset.repair(dry_run=False)
    assert actions(report)["a1", "image"] == repair.RELINKED
    assert [sample.id for sample in dataset.select()] == ["a1", "twin"]
    assert dataset.verify().is_empty()
