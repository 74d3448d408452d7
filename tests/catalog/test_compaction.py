"""Compaction and clustering: samples and versions stay what they are; files are few, full, and passed over by filters."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from sensorium.catalog import Catalog, Dataset, ScalarField, arrangement, compaction, fragments
from sensorium.catalog.arrangement import arranged
from sensorium.catalog.table import CommitNote
from sensorium.catalog.writing import append_rows
from sensorium.platform.errors import CorruptData, InvalidSetting, UnknownField


def image(value: int, height: int = 6) -> np.ndarray:
    return np.full((height, 6, 3), value, np.uint8)


def fragments_of(dataset: Dataset, field: str = "image") -> list[str]:
    return sorted(dataset.select().rows[field].struct.field("fragment").drop_nulls().unique().to_list())


def files_of(dataset: Dataset) -> list[Any]:
    return dataset._table.files(dataset._table.open())


def small_commits(catalog: Catalog, count: int) -> Dataset:
    dataset = catalog.create("photos", modality="image")
    for number in range(count):
        dataset.append([{"id": f"{number:02d}", "image": image(number, 6 + number % 2)}])
    return dataset


def test_compaction_merges_files_and_fragments(catalog: Catalog) -> None:
    dataset = small_commits(catalog, 12)
    dataset.tag("before")
    version = dataset.compact()
    assert version == 13
    assert len(fragments_of(dataset)) == 1
    assert len(files_of(dataset)) == 1
    assert dataset.diff(12, 13).filter(change="added").is_empty()
    assert dataset.compact() == 13
    for source in (dataset, catalog.dataset("photos@before")):
        for sample in source.select():
            assert int(sample["image"][0, 0, 0]) == int(sample.id)


def test_compaction_refuses_to_copy_damage(catalog: Catalog) -> None:
    dataset = small_commits(catalog, 2)
    folder = Path(dataset.storage.at_path("fragments"))
    shard = next(path for path in folder.rglob("*") if path.is_file() and path.name != "zarr.json")
    content = bytearray(shard.read_bytes())
    content[3] ^= 1
    shard.write_bytes(content)
    with pytest.raises(CorruptData, match="verify"):
        dataset.compact()
    assert dataset.version == 2


def test_compaction_does_not_undo_what_happens_meanwhile(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = small_commits(catalog, 4)
    copying = compaction.copy_small_fragments

    def meanwhile(*arguments: Any) -> Any:
        moved = copying(*arguments)
        dataset.delete("id = '00'")
        dataset.update([{"id": "01", "image": image(99)}])
        dataset.append([{"id": "04", "image": image(4)}])
        return moved

    monkeypatch.setattr(compaction, "copy_small_fragments", meanwhile)
    dataset.compact()
    found = {sample.id: int(sample["image"][0, 0, 0]) for sample in dataset.select()}
    assert found == {"01": 99, "02": 2, "03": 3, "04": 4}


def test_what_comes_between_plan_and_commit_survives(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = small_commits(catalog, 4)
    rewriting, calls = compaction._rewritten, []

    def raced(*arguments: Any) -> Any:
        change = rewriting(*arguments)
        calls.append(1)
        if len(calls) == 1:
            dataset.append([{"id": "04", "image": image(4)}])
        if len(calls) == 1:
            dataset.delete("id = '02'")
        return change

    monkeypatch.setattr(compaction, "_rewritten", raced)
    dataset.compact()
    assert len(calls) == 2, "the deletion took a file that was to be merged: plan again"
    assert {sample.id: int(sample["image"][0, 0, 0]) for sample in dataset.select()} == {
        "00": 0,
        "01": 1,
        "03": 3,
        "04": 4,
    }


def test_an_append_does_not_make_compaction_write_again(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = small_commits(catalog, 4)
    rewriting, calls = compaction._rewritten, []

    def raced(*arguments: Any) -> Any:
        calls.append(1)
        change = rewriting(*arguments)
        dataset.append([{"id": "04", "image": image(4)}])
        return change

    monkeypatch.setattr(compaction, "_rewritten", raced)
    dataset.compact()
    assert len(calls) == 1
    assert len(dataset) == 5


def test_shared_payload_is_copied_once(catalog: Catalog) -> None:
    dataset = small_commits(catalog, 3)
    table = dataset._table
    row = pa.table(table.scan(table.open()).filter(id="01").collect().to_arrow())
    same = row.set_column(0, "id", pa.array(["copy"]))
    append_rows(table, same, {}, CommitNote("append"))
    dataset.compact()
    rows = dataset.select().rows.with_columns(pl.col("image").struct.unnest())
    assert len(fragments_of(dataset)) == 1
    assert rows.filter(id="01")["start"].item() == rows.filter(id="copy")["start"].item()
    np.testing.assert_array_equal(dataset.select()["copy"]["image"], image(1, 7))


def test_compaction_works_in_bounded_parts(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compaction, "_BATCH_BYTES", 500)
    dataset = small_commits(catalog, 12)
    held: list[int] = []
    writing = fragments.write

    def counted(storage: Any, payload: Any, fields: Any, **more: Any) -> Any:
        held.append(sum(array.nbytes for sample in payload for array in sample.values()))
        return writing(storage, payload, fields, **more)

    monkeypatch.setattr(fragments, "write", counted)
    dataset.compact()
    assert len(held) > 2
    assert max(held) <= 500 + 126
    for sample in dataset.select():
        np.testing.assert_array_equal(sample["image"], image(int(sample.id), 6 + int(sample.id) % 2))


def rows(count: int) -> pa.Table:
    chance = np.random.default_rng(0)
    return pa.table(
        {
            "id": [f"{n:07d}" for n in range(count)],
            "label": chance.integers(0, 64, count),
            "split": pa.array(chance.choice(["fit", "test", "tune"], count)),
            "score": chance.random(count),
        }
    )


def clustered(catalog: Catalog, count: int) -> Dataset:
    dataset = catalog.create("rows", modality="table")
    given = rows(count)
    declared = {name: ScalarField(name, given.schema.field(name).type) for name in given.column_names if name != "id"}
    append_rows(dataset._table, given, dict(declared), CommitNote("append"))
    return dataset


@pytest.mark.parametrize("columns", [["label"], ["label", "split"], ["label", "split", "score"]])
def test_a_filter_on_clustered_columns_does_not_open_most_files(
    catalog: Catalog, columns: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arrangement, "_CLUSTERED_ROWS", 250)
    dataset = clustered(catalog, 8000)
    wanted = dataset.select("label = 7 and split = 'test'").frame()
    everything = dataset.select().frame()
    dataset.compact(cluster=columns)
    bounds = pl.DataFrame(dataset._table.open().get_add_actions(flatten=True)).with_columns(
        may=pl.lit(7).is_between("min.label", "max.label")
        & (pl.lit("test").is_between("min.split", "max.split") if "split" in columns else True)
    )
    assert bounds.height == 32
    gone = [file for file in files_of(dataset) if not bounds.filter(path=file.path)["may"].item()]
    for file in gone:  # a file that is not there cannot have been opened
        os.rename(dataset._table.storage.at_path(file.path), dataset._table.storage.at_path(file.path + ".away"))
    assert len(gone) > 16
    assert dataset.select("label = 7 and split = 'test'").frame().equals(wanted)
    for file in gone:
        os.rename(dataset._table.storage.at_path(file.path + ".away"), dataset._table.storage.at_path(file.path))
    assert dataset.select().frame().equals(everything)


def test_clustering_is_kept_up_and_can_be_ended(catalog: Catalog) -> None:
    dataset = clustered(catalog, 500)
    dataset.compact(cluster=["label", "split"])
    for number in range(3):
        dataset.append([{"id": f"new{number}", "label": 63 - number, "split": "test", "score": 0.0}])
    dataset.compact()
    table = dataset._table
    [file] = files_of(dataset)
    held = table.read_file(file)
    assert held.equals(arranged(held, ["label", "split"]))
    assert not held.equals(arranged(held, []))
    dataset.compact(cluster=[])
    [file] = files_of(dataset)
    assert table.read_file(file).column("id").to_pylist() == sorted(held.column("id").to_pylist())


def test_columns_that_cannot_be_sorted_by_are_refused(catalog: Catalog) -> None:
    dataset = small_commits(catalog, 2)
    with pytest.raises(UnknownField, match="lable"):
        dataset.compact(cluster=["lable"])
    with pytest.raises(InvalidSetting, match=r"image.*plain value"):
        dataset.compact(cluster=["image"])
    with pytest.raises(InvalidSetting, match="different"):
        dataset.compact(cluster=["id", "id"])
    assert dataset.version == 2


def test_nulls_and_texts_on_the_curve() -> None:
    held = pa.table({"id": ["a", "b", "c", "d"], "x": [None, 2.0, 1.0, None], "y": ["q", None, "p", "p"]})
    assert sorted(arranged(held, ["x", "y"]).column("id").to_pylist()) == ["a", "b", "c", "d"]
    assert arranged(held, ["x"]).column("id").to_pylist() == ["c", "b", "a", "d"]
