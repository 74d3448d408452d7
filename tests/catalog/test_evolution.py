"""New scalars and new arrays come in at any time: old versions, concurrent writers, Ray, compaction and merges go on."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from sensorium.catalog import ArrayField, Catalog, Dataset, ScalarField
from sensorium.platform.errors import UnknownField, UserError


def image(value: int) -> np.ndarray:
    return np.full((4, 5, 3), value, np.uint8)


def depth(value: int) -> np.ndarray:
    return np.full((4, 5), value, np.float32)


@pytest.fixture
def dataset(catalog: Catalog) -> Dataset:
    dataset = catalog.create("photos", modality="image")
    dataset.append([{"id": f"a{n}", "image": image(n)} for n in range(3)])
    return dataset


def test_a_field_that_nobody_declared_needs_asking(dataset: Dataset) -> None:
    for extra in ({"grade": 3}, {"depth": depth(1)}):
        with pytest.raises(UserError, match=r"a3.*(grade|depth)"):
            dataset.append([{"id": "a3", "image": image(3), **extra}])
        with pytest.raises(UserError):
            dataset.update([{"id": "a0", **extra}])
    assert dataset.version == 1


@pytest.mark.parametrize("how", ["append", "update", "writer"])
def test_a_new_scalar_and_a_new_array(catalog: Catalog, dataset: Dataset, how: str) -> None:
    new: dict[str, Any] = {"grade": 3, "depth": depth(7)}
    if how == "append":
        dataset.append([{"id": "b", "image": image(9), **new}], evolve=True)
    elif how == "writer":
        with dataset.writer(evolve=True) as writer:
            writer.add({"id": "b", "image": image(9), **new})
    else:
        dataset.append([{"id": "b", "image": image(9)}])
        dataset.update([{"id": "b", **new}], evolve=True)
    assert isinstance(dataset.fields["grade"], ScalarField)
    assert isinstance(dataset.fields["depth"], ArrayField)
    held = dataset.select()
    assert held["b"]["grade"] == 3
    np.testing.assert_array_equal(held["b"]["depth"], depth(7))
    np.testing.assert_array_equal(held["b"]["image"], image(9))
    assert "grade" not in held["a0"]
    assert "depth" not in held["a0"]
    old = catalog.dataset("photos", 1)
    assert set(old.fields) == {"image"}
    with pytest.raises(UnknownField):
        old.select(fields=["grade"])
    assert set(dataset.diff(1, dataset.version)["id"]) == {"b"}
    dataset.update([{"id": "a1", "depth": depth(2)}])
    np.testing.assert_array_equal(dataset.select()["a1"]["depth"], depth(2))
    dataset.compact()
    assert dataset.verify().is_empty()
    np.testing.assert_array_equal(dataset.select()["a1"]["depth"], depth(2))
    assert dataset.select("grade = 3").frame()["id"].to_list() == ["b"]


def test_writers_that_widen_the_table_at_once(dataset: Dataset) -> None:
    def work(worker: int) -> None:
        for number in range(3):
            new = {f"s{worker}": number, f"v{worker}": depth(number)}
            dataset.append([{"id": f"w{worker}-{number}", "image": image(number), **new}], evolve=True)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    held = dataset.select()
    assert len(held) == 3 + 12
    for worker in range(4):
        for number in range(3):
            sample = held[f"w{worker}-{number}"]
            assert sample[f"s{worker}"] == number
            np.testing.assert_array_equal(sample[f"v{worker}"], depth(number))
            assert f"s{(worker + 1) % 4}" not in sample
    assert dataset.verify().is_empty()


def test_an_append_of_old_fields_survives_one_that_widens(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    from sensorium.catalog.table import Table

    plain, done = Table.write_file, []

    def write_file(self: Table, *arguments: Any) -> Any:
        if not done:
            done.append(1)
            dataset.append([{"id": "wide", "image": image(5), "grade": 1}], evolve=True)
        return plain(self, *arguments)

    monkeypatch.setattr(Table, "write_file", write_file)
    dataset.append([{"id": "plain", "image": image(6)}])
    assert dataset.select().frame().filter(id="plain")["grade"].to_list() == [None]
    assert dataset.select()["wide"]["grade"] == 1


def test_merges_and_clusters_of_files_with_and_without_a_field(catalog: Catalog) -> None:
    dataset = catalog.create("rows", modality="table", fields={"value": "int64"})
    for number in range(9):
        dataset.append([{"id": f"{number:02d}", "value": number}])
    for number in range(9, 20):
        dataset.append([{"id": f"{number:02d}", "value": number, "late": f"t{number}"}], evolve=True)
    assert "merge" in dataset.history()["operation"].to_list()
    dataset.compact(cluster=["late", "value"])
    frame = dataset.select(order="id").frame()
    assert frame["value"].to_list() == list(range(20))
    assert frame["late"].to_list() == [None] * 9 + [f"t{number}" for number in range(9, 20)]


@pytest.mark.slow
def test_ray_writes_new_fields(dataset: Dataset, ray_cluster: None) -> None:
    import ray

    rows = [{"id": f"r{n}", "image": image(n), "grade": n, "depth": depth(n)} for n in range(4)]
    dataset.write_ray(ray.data.from_items(rows), evolve=True)
    for row in rows:
        sample = dataset.select()[row["id"]]
        assert sample["grade"] == row["grade"]
        np.testing.assert_array_equal(sample["depth"], row["depth"])
    assert "grade" not in dataset.select()["a0"]
