"""Arrays that are there already are not written again, and are not lost to whoever deletes and vacuums meanwhile."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sensorium.catalog import Catalog, Dataset, fragments
from sensorium.catalog.table import Table
from sensorium.platform.errors import CommitConflict


def image(value: int, height: int = 4) -> np.ndarray:
    return np.full((height, 5, 3), value, np.uint8)


def written(dataset: Dataset) -> int:
    """How many fragments there are."""
    return len(dataset.storage.folders(fragments.FOLDER))


def place(dataset: Dataset, identifier: str, field: str = "image") -> tuple[Any, ...]:
    reference = dataset.select().rows.filter(id=identifier)[field].item()
    return reference["fragment"], reference["array"], reference["start"]


@pytest.fixture
def dataset(catalog: Catalog) -> Dataset:
    dataset = catalog.create("photos", modality="image")
    dataset.append([{"id": f"a{n}", "image": image(n)} for n in range(4)])
    return dataset


def test_what_is_there_is_not_written_again(dataset: Dataset) -> None:
    dataset.append([{"id": f"b{n}", "image": image(n)} for n in range(4)], dedupe=True)
    assert written(dataset) == 1
    assert len(dataset) == 8
    for number in range(4):
        assert place(dataset, f"a{number}") == place(dataset, f"b{number}")
        np.testing.assert_array_equal(dataset.select()[f"b{number}"]["image"], image(number))
    assert dataset.verify().is_empty()


def test_without_asking_everything_is_written(dataset: Dataset) -> None:
    dataset.append([{"id": "b0", "image": image(0)}])
    assert written(dataset) == 2
    assert place(dataset, "a0") != place(dataset, "b0")


def test_what_comes_twice_in_an_append_is_written_once(dataset: Dataset) -> None:
    samples = [{"id": f"c{n}", "image": image(100 + n % 3), "mask": image(100 + n % 3)[..., 0]} for n in range(9)]
    with dataset.writer(batch=2, commit="end", dedupe=True) as writer:
        for sample in samples:
            writer.add(sample)
    assert len({place(dataset, f"c{n}") for n in range(9)}) == 3
    assert len({place(dataset, f"c{n}", "mask") for n in range(9)}) == 3
    for sample in samples:
        np.testing.assert_array_equal(dataset.select()[sample["id"]]["mask"], sample["mask"])


def test_equal_bytes_of_another_shape_or_type_are_another_array(catalog: Catalog) -> None:
    from sensorium.catalog import ArrayField

    dataset = catalog.create("x", modality="table", fields=[ArrayField("v")])
    base = np.arange(12, dtype=np.int32)
    dataset.append([{"id": "a", "v": base}])
    others = {"b": base.reshape(3, 4), "c": base.view(np.uint32), "d": base.copy()}
    dataset.append([{"id": name, "v": array} for name, array in others.items()], dedupe=True)
    for name, array in others.items():
        found = dataset.select()[name]["v"]
        assert (found.shape, found.dtype) == (array.shape, array.dtype)
        np.testing.assert_array_equal(found, array)
    assert place(dataset, "d", "v") == place(dataset, "a", "v")
    assert len({place(dataset, name, "v") for name in "abc"}) == 3


def test_of_a_mixed_batch_only_what_is_new_is_written(dataset: Dataset) -> None:
    dataset.append([{"id": "b0", "image": image(0)}, {"id": "b9", "image": image(9)}], dedupe=True)
    fresh = set(dataset.storage.folders(fragments.FOLDER)) - {place(dataset, "a0")[0]}
    assert {place(dataset, "b9")[0]} == fresh
    assert dataset.select().rows.filter(id="b9")["image"].item()["start"] == 0


def before_commit(monkeypatch: pytest.MonkeyPatch, what: Any) -> None:
    """Let ``what`` happen once payload is dealt with, and before the rows are committed."""
    plain, done = Table.commit, []

    def commit(self: Table, *arguments: Any, **more: Any) -> int:
        if not done:
            done.append(1)
            what()
        return plain(self, *arguments, **more)

    monkeypatch.setattr(Table, "commit", commit)


def test_shared_payload_that_is_deleted_meanwhile_is_written_after_all(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    before_commit(monkeypatch, lambda: dataset.delete("true"))
    dataset.append([{"id": "b1", "image": image(1)}], dedupe=True)
    dataset.vacuum(timedelta(0), grace=timedelta(0), dry_run=False)
    np.testing.assert_array_equal(dataset.select()["b1"]["image"], image(1))
    assert written(dataset) == 1


def test_shared_payload_that_moves_meanwhile_is_followed(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset.append([{"id": "more", "image": image(50)}])

    def compacted() -> None:
        dataset.compact()
        dataset.vacuum(timedelta(0), grace=timedelta(0), dry_run=False)

    before_commit(monkeypatch, compacted)
    dataset.append([{"id": "b1", "image": image(1)}], dedupe=True)
    assert place(dataset, "b1") == place(dataset, "a1")
    assert dataset.verify().is_empty()


def test_shared_payload_that_is_gone_is_told_of(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    def removed() -> None:
        dataset.delete("true")
        dataset.vacuum(timedelta(0), grace=timedelta(0), dry_run=False)

    before_commit(monkeypatch, removed)
    with pytest.raises(CommitConflict, match=r"photos.*vacuumed meanwhile.*append again"):
        dataset.append([{"id": "b1", "image": image(1)}], dedupe=True)
    assert len(dataset) == 0
    monkeypatch.undo()
    dataset.append([{"id": "b1", "image": image(1)}], dedupe=True)
    assert dataset.verify().is_empty()


def test_a_vacuum_keeps_payload_that_only_a_copy_points_to(dataset: Dataset) -> None:
    dataset.append([{"id": "b2", "image": image(2)}], dedupe=True)
    dataset.delete("id != 'b2'")
    dataset.vacuum(timedelta(0), grace=timedelta(0), dry_run=False)
    np.testing.assert_array_equal(dataset.select()["b2"]["image"], image(2))


@pytest.mark.parametrize("workers", [0, 2])
def test_an_import_shares_what_is_there(catalog: Catalog, tmp_path: Path, workers: int) -> None:
    from PIL import Image

    for folder in ("one", "two"):
        for name in range(3):
            path = tmp_path / folder / "cat" / f"{folder}{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image(10 * name, 9)).save(path)
    catalog.ingest(tmp_path / "one", "pets", dedupe=True, workers=workers)
    dataset = catalog["pets"]
    before = written(dataset)
    report = catalog.ingest(tmp_path / "two", "pets", dedupe=True, workers=workers)
    assert report.added == 3
    assert written(dataset) == before
    held = {sample["image"].tobytes(): sample.id for sample in dataset.select()}
    assert len(held) == 3
    catalog.ingest(tmp_path / "two", "others", workers=workers)
    assert written(catalog["others"]) >= 1
    dataset.delete("id like '%one%'")
    dataset.vacuum(timedelta(0), grace=timedelta(0), dry_run=False)
    assert dataset.verify().is_empty()
