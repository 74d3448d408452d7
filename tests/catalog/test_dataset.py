"""The Python contract of the catalog, on a real lake."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from sensorium.catalog import ArrayField, Catalog, Dataset, ScalarField
from sensorium.catalog.declaration import Source
from sensorium.catalog.lineage import Run
from sensorium.platform.errors import (
    DuplicateSample,
    ExistingDataset,
    InvalidName,
    InvalidQuery,
    InvalidSample,
    InvalidSetting,
    UnknownDataset,
    UnknownField,
    UnknownPlugin,
    UnknownRun,
    UnknownSample,
    UnknownVersion,
    UserError,
)


def picture(seed: int, height: int = 8, width: int = 10) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def pictures(count: int, start: int = 0, **more: Any) -> list[dict[str, Any]]:
    return [
        {"id": f"p{i:03d}", "image": picture(i), "label": "cat" if i % 2 else "dog", "score": i / 2, **more}
        for i in range(start, start + count)
    ]


@pytest.fixture
def photos(catalog: Catalog) -> Dataset:
    dataset = catalog.create("photos", modality="image", description="test pictures", licence="CC0-1.0")
    assert dataset.append(pictures(6)) == 1
    return dataset


def test_an_empty_lake_lists_nothing_with_the_columns_of_the_contract(catalog: Catalog) -> None:
    listing = catalog.datasets()
    assert listing.columns == ["name", "modality", "samples", "bytes", "version", "updated", "description", "licence"]
    assert listing.is_empty()


def test_listing_tells_samples_bytes_and_version(photos: Dataset, catalog: Catalog) -> None:
    row = catalog.datasets().row(0, named=True)
    assert (row["name"], row["modality"], row["samples"], row["version"]) == ("photos", "image", 6, 1)
    assert row["bytes"] == 6 * 8 * 10 * 3
    assert row["description"] == "test pictures"
    assert abs(row["updated"] - datetime.now(UTC)) < timedelta(minutes=5)


def test_samples_read_back_as_they_were_written(photos: Dataset) -> None:
    selection = photos.select()
    assert len(selection) == 6
    for expected, sample in zip(pictures(6), selection, strict=True):
        assert sample.id == expected["id"]
        assert sample["label"] == expected["label"]
        assert sample["score"] == expected["score"]
        np.testing.assert_array_equal(sample["image"], expected["image"])
        assert sample["image"].dtype == np.uint8


def test_a_sample_is_a_mapping_of_what_it_has(photos: Dataset) -> None:
    sample = photos.select()["p001"]
    assert set(sample) == {"id", "image", "label", "score"}
    assert "mask" not in sample
    with pytest.raises(UnknownField, match=r"photos.*p001.*lable.*label"):
        sample["lable"]


def test_part_of_an_array_is_read_without_the_rest(catalog: Catalog) -> None:
    volume = np.arange(40 * 64 * 64, dtype=np.int16).reshape(40, 64, 64)
    catalog.create("ct", modality="volume").append([{"id": "v", "volume": volume, "spacing": [2.0, 1.0, 1.0]}])
    view = catalog["ct"].select()["v"].view("volume")
    assert (view.shape, view.dtype) == (volume.shape, volume.dtype)
    np.testing.assert_array_equal(view[10:12, 5], volume[10:12, 5])
    np.testing.assert_array_equal(np.asarray(view), volume)


@pytest.mark.parametrize(
    "predicate", ["label = 'cat' and score > 1", (pl.col("label") == "cat") & (pl.col("score") > 1)]
)
def test_predicates_are_polars_or_sql(photos: Dataset, predicate: Any) -> None:
    selection = photos.select(predicate)
    assert selection.frame()["id"].to_list() == ["p003", "p005"]
    assert len(selection) == 2


def test_order_limit_and_fields(photos: Dataset) -> None:
    selection = photos.select(order="-score", limit=2, fields=["score"])
    assert selection.frame().to_dict(as_series=False) == {"id": ["p005", "p004"], "score": [2.5, 2.0]}
    assert selection[0].id == "p005"
    assert selection[-1].id == "p004"
    assert "image" not in selection[0]
    with pytest.raises(IndexError, match="2 samples"):
        selection[2]


def test_a_selection_keeps_its_version(photos: Dataset) -> None:
    before = photos.select()
    photos.append(pictures(2, start=6))
    assert len(before) == 6
    assert len(photos.select()) == 8


def test_wrong_queries_are_the_users_mistake(photos: Dataset) -> None:
    with pytest.raises(InvalidQuery, match="photos"):
        photos.select("label = = 'cat'")
    with pytest.raises(UnknownField, match="lable"):
        photos.select("lable = 'cat'").frame()
    with pytest.raises(UnknownField, match=r"imgae.*image"):
        photos.select(fields=["imgae"])
    with pytest.raises(InvalidQuery):
        photos.select("label > 3").frame()
    with pytest.raises(UnknownSample, match=r"photos.*p1"):
        photos.select()["p1"]


def test_an_append_never_overwrites_and_is_all_or_nothing(photos: Dataset) -> None:
    with pytest.raises(DuplicateSample, match=r"photos.*p005"):
        photos.append([*pictures(3, start=6), *pictures(1, start=5)])
    assert photos.version == 1
    assert len(photos) == 6
    assert photos.append(pictures(3, start=4), existing="skip") == 2
    assert len(photos) == 7


def test_twice_the_same_id_in_one_append(photos: Dataset) -> None:
    with pytest.raises(DuplicateSample, match="p009"):
        photos.append([*pictures(1, start=9), *pictures(1, start=9)])


def test_an_idempotency_key_makes_the_second_append_do_nothing(photos: Dataset) -> None:
    first = photos.append(pictures(2, start=6), key="batch-1")
    photos.append(pictures(1, start=8))
    assert photos.append(pictures(2, start=20), key="batch-1") == first
    assert len(photos) == 9


def test_an_idempotency_key_counts_for_an_empty_append(photos: Dataset) -> None:
    first = photos.append([], key="nothing")
    assert photos.append(pictures(1, start=6), key="nothing") == first
    assert len(photos) == 6


def test_fields_that_nobody_declared_need_to_be_asked_for(photos: Dataset) -> None:
    with pytest.raises(UnknownField, match=r"p006.*lable.*label.*evolve"):
        photos.append([{"id": "p006", "image": picture(6), "lable": "cat"}])
    version = photos.append([{"id": "p006", "image": picture(6), "camera": "X100"}], evolve=True)
    assert version == 2
    assert photos.select("camera is not null").frame()["id"].to_list() == ["p006"]
    assert photos.select().frame()["camera"].null_count() == 6


def test_an_optional_field_of_the_modality_needs_no_asking(photos: Dataset) -> None:
    mask = np.ones((8, 10), np.uint8)
    assert photos.append([{"id": "m", "image": picture(1), "mask": mask}]) == 2
    np.testing.assert_array_equal(photos.select()["m"]["mask"], mask)
    assert "mask" not in photos.select()["p000"]


def test_whole_and_broken_numbers_of_a_new_field_become_broken_ones(catalog: Catalog) -> None:
    dataset = catalog.create("t", modality="table")
    dataset.append([{"id": "a", "x": 1}, {"id": "b", "x": 2.5}])
    assert dataset.select().frame()["x"].to_list() == [1.0, 2.5]
    with pytest.raises(InvalidSample, match=r"'t'.*'d'.*'y'"):
        dataset.append([{"id": "c", "y": 1}, {"id": "d", "y": "text"}], evolve=True)
    assert len(dataset) == 2


def test_scalars_of_every_kind_survive(catalog: Catalog) -> None:
    moment = datetime(2026, 1, 2, 3, 4, 5, 678901, UTC)
    sample = {
        "id": "a",
        "number": 2**40,
        "ratio": 0.1,
        "flag": True,
        "text": "naïve — text",
        "moment": moment,
        "blob": b"\x00\xff",
        "list": [1.5, 2.5],
        "nested": {"a": 1, "b": [{"c": "x"}]},
        "small": np.uint8(200),
        "medium": np.uint16(60_000),
        "large": np.uint32(4_000_000_000),
        "half": np.float16(0.5),
    }
    dataset = catalog.create("t", modality="table")
    dataset.append([sample])
    row = dataset.select()["a"]
    for name, value in sample.items():
        expected = value.item() if isinstance(value, np.generic) else value
        assert row[name] == expected, name


def test_types_by_name_and_samples_from_a_data_frame(catalog: Catalog) -> None:
    dataset = catalog.create("t", modality="table", fields={"count": "int32", "name": "string"})
    frame = pl.DataFrame({"id": ["a", "b"], "count": [1, 2], "name": ["x", None]})
    assert dataset.append(frame) == 1
    assert dataset.select().frame().rows() == [("a", 1, "x"), ("b", 2, None)]
    with pytest.raises(InvalidSetting, match=r"'count'.*'integer'"):
        catalog.create("u", modality="table", fields={"count": "integer"})


def test_values_that_cannot_be_stored_are_named(catalog: Catalog) -> None:
    dataset = catalog.create("t", modality="table", fields={"count": pa.int32()})
    with pytest.raises(InvalidSample, match=r"'t'.*'a'.*'span'.*duration"):
        dataset.append([{"id": "a", "span": timedelta(seconds=1)}])
    with pytest.raises(InvalidSample, match=r"'t'.*'a'.*'count'.*many"):
        dataset.append([{"id": "a", "count": "many"}])
    with pytest.raises(InvalidSample, match=r"'count'"):
        dataset.append([{"id": "a", "count": 2**40}])
    with pytest.raises(InvalidSample, match=r"'big'"):
        dataset.append([{"id": "a", "big": np.uint64(2**63 + 1)}])
    with pytest.raises(InvalidSample, match="id"):
        dataset.append([{"count": 1}])
    assert len(dataset) == 0


def test_declared_fields_and_attributes(catalog: Catalog) -> None:
    dataset = catalog.create(
        "cubes",
        modality="hyperspectral",
        fields=[ScalarField("brix", pa.float64(), unit="°Bx", minimum=0, maximum=40), ArrayField("dark", dims="H W L")],
        attributes={"wavelength": [400.0, 500.0, 600.0]},
    )
    cube = np.ones((4, 5, 3), np.float32)
    dataset.append([{"id": "a", "cube": cube, "brix": 12.5, "dark": cube * 0}])
    reopened = catalog["cubes"]
    assert reopened.fields["brix"].unit == "°Bx"
    assert reopened.fields["dark"].dims == "H W L"  # type: ignore[union-attr]
    assert reopened.select()["a"]["wavelength"] == [400.0, 500.0, 600.0]
    with pytest.raises(InvalidSample, match=r"brix.*41.*°Bx.*0 to 40"):
        dataset.append([{"id": "b", "cube": cube, "brix": 41.0}])
    with pytest.raises(InvalidSample, match=r"'b'.*L"):
        dataset.append([{"id": "b", "cube": np.ones((4, 5, 2), np.float32)}])


def test_update_changes_what_it_names(photos: Dataset) -> None:
    version = photos.update([{"id": "p001", "label": "fox"}, {"id": "p002", "score": None}])
    rows = {row["id"]: row for row in photos.select().frame().iter_rows(named=True)}
    assert version == 2
    assert (rows["p001"]["label"], rows["p001"]["score"]) == ("fox", 0.5)
    assert (rows["p002"]["label"], rows["p002"]["score"]) == ("dog", None)
    assert rows["p003"]["label"] == "cat"
    assert len(photos) == 6


def test_update_replaces_arrays_and_checks_the_whole_sample(photos: Dataset) -> None:
    photos.append([{"id": "m", "image": picture(1), "mask": np.zeros((8, 10), np.uint8)}])
    with pytest.raises(InvalidSample, match=r"'m'"):
        photos.update([{"id": "m", "image": picture(1, height=9)}])
    photos.update([{"id": "p000", "image": picture(77, height=5)}])
    np.testing.assert_array_equal(photos.select()["p000"]["image"], picture(77, height=5))
    np.testing.assert_array_equal(photos.select()["p001"]["image"], picture(1))


def test_update_of_what_is_not_there_changes_nothing(photos: Dataset) -> None:
    with pytest.raises(UnknownSample, match=r"photos.*nobody"):
        photos.update([{"id": "p001", "label": "fox"}, {"id": "nobody", "label": "fox"}])
    with pytest.raises(UnknownField, match="evolve"):
        photos.update([{"id": "p001", "camera": "X"}])
    with pytest.raises(DuplicateSample, match="p001"):
        photos.update([{"id": "p001", "label": "a"}, {"id": "p001", "label": "b"}])
    assert photos.select()["p001"]["label"] == "cat"


def test_update_from_a_data_frame_can_add_a_field(photos: Dataset) -> None:
    frame = photos.select().frame().select("id", rank=pl.col("score").rank().cast(pl.Int64))
    photos.update(frame, evolve=True)
    assert photos.select().frame()["rank"].to_list() == [1, 2, 3, 4, 5, 6]


def test_delete(photos: Dataset) -> None:
    assert photos.delete("label = 'dog'") == 2
    assert photos.select().frame()["id"].to_list() == ["p001", "p003", "p005"]
    assert photos.delete("label = 'dog'") == 2
    photos.append(pictures(1))
    assert photos.select()["p000"]["label"] == "dog"
    assert photos.delete("true") == 4
    assert len(photos) == 0


def test_versions_tags_and_moments(photos: Dataset, catalog: Catalog) -> None:
    assert photos.tag("first") == 1
    between = datetime.now(UTC)
    photos.update([{"id": "p001", "label": "fox"}])
    photos.delete("label = 'dog'")
    assert len(catalog.dataset("photos", version=1)) == 6
    assert len(catalog.dataset("photos", version="first")) == 6
    assert len(catalog.dataset("photos@first")) == 6
    assert len(catalog.dataset("photos", version=between)) == 6
    assert len(catalog.dataset("photos@3")) == 3
    assert catalog.dataset("photos@2").select()["p001"]["label"] == "fox"
    with pytest.raises(UnknownVersion, match=r"photos.*99"):
        catalog.dataset("photos", version=99)
    with pytest.raises(UnknownVersion, match=r"frist.*first"):
        catalog.dataset("photos@frist")
    with pytest.raises(UnknownVersion, match="did not exist"):
        catalog.dataset("photos", version=datetime(2001, 1, 1, tzinfo=UTC))
    with pytest.raises(UserError, match=r"first.*version 1"):
        photos.tag("first", 2)
    assert photos.tag("first", 2, move=True) == 2
    assert photos.tags() == {"first": 2}


def test_a_pinned_handle_cannot_write(photos: Dataset, catalog: Catalog) -> None:
    pinned = catalog.dataset("photos", version=1)
    for write in (lambda: pinned.append(pictures(1, start=50)), lambda: pinned.delete("true"), pinned.compact):
        with pytest.raises(UserError, match=r"version 1.*catalog\['photos'\]"):
            write()


def test_history_says_who_did_what(photos: Dataset) -> None:
    photos.append(pictures(1, start=6), message="one more", run="run-7")
    photos.delete("id = 'p006'")
    history = photos.history()
    assert history["version"].to_list() == [3, 2, 1, 0]
    assert history["operation"].to_list() == ["delete", "append", "append", "create"]
    assert history["samples"].to_list() == [1, 1, 6, 0]
    assert history.row(1, named=True)["message"] == "one more"
    assert history.row(1, named=True)["run"] == "run-7"


def test_diff(photos: Dataset) -> None:
    photos.update([{"id": "p001", "label": "fox"}])
    photos.delete("id = 'p000'")
    photos.append(pictures(1, start=6))
    found = photos.diff(1, 4)
    assert found.rows() == [("p000", "removed", []), ("p001", "changed", ["label"]), ("p006", "added", [])]
    assert photos.diff(4, 4).is_empty()
    assert [row[1] for row in photos.diff(4, 1).rows()] == ["added", "changed", "removed"]


def test_diff_over_a_new_field(photos: Dataset) -> None:
    photos.update([{"id": "p002", "camera": "X"}], evolve=True)
    assert photos.diff(1, photos.version).rows() == [("p002", "changed", ["camera"])]


def test_sql_joins_data_sets_and_versions(photos: Dataset, catalog: Catalog) -> None:
    owners = catalog.create("owners", modality="table")
    owners.append([{"id": "o1", "pet": "cat", "owner": "Ada"}, {"id": "o2", "pet": "dog", "owner": "Bob"}])
    photos.delete("label = 'dog'")
    joined = catalog.sql("SELECT owner, COUNT(*) AS n FROM photos JOIN owners ON label = pet GROUP BY owner")
    assert joined.rows() == [("Ada", 3)]
    assert catalog.sql('SELECT COUNT(*) AS n FROM "photos@1"').item() == 6
    with pytest.raises(InvalidQuery, match=r"phots.*photos"):
        catalog.sql("SELECT * FROM phots")


def test_names_are_checked(photos: Dataset, catalog: Catalog) -> None:
    for name in ("../escape", "a/b", "", "1a", "a b", "x" * 200):
        with pytest.raises(InvalidName):
            catalog.create(name, modality="image")
    with pytest.raises(UnknownDataset, match=r"phots.*photos"):
        catalog["phots"]
    with pytest.raises(KeyError):
        catalog["../photos"]
    with pytest.raises(ExistingDataset, match="photos"):
        catalog.create("photos", modality="image")
    with pytest.raises(ExistingDataset, match="image"):
        catalog.create("photos", modality="audio", exist_ok=True)
    assert len(catalog.create("photos", modality="image", exist_ok=True)) == 6
    with pytest.raises(UnknownPlugin, match=r"imge.*image"):
        catalog.create("other", modality="imge")


def test_drop(photos: Dataset, catalog: Catalog) -> None:
    catalog.drop("photos")
    assert "photos" not in catalog
    assert catalog.datasets().is_empty()
    with pytest.raises(UnknownDataset):
        catalog.drop("photos")


def test_lineage_walks_both_ways(photos: Dataset, catalog: Catalog) -> None:
    run = Run("sweep", "test", {"a": 1}, inputs=(Source("photos", 1),))
    catalog.record(run)
    features = catalog.create("features", modality="table")
    features.append([{"id": "f", "x": 1.0}], sources=[Source("photos", 1)], run=run.id)
    scores = catalog.create("scores", modality="table", sources=[Source("features", 1)])
    catalog.record(run.ended("finished", outputs=[Source("features", 1)]))
    down = catalog.lineage("photos")
    assert [(row["direction"], row["depth"], row["dataset"]) for row in down.iter_rows(named=True)] == [
        ("downstream", 1, "features"),
        ("downstream", 2, "scores"),
    ]
    up = catalog.lineage(scores.name).filter(pl.col("direction") == "upstream")
    assert up["made_from"].to_list() == ["features", "photos"]
    assert set(catalog.lineage(run.id)["dataset"]) == {"features"}
    assert catalog.runs().row(0, named=True)["state"] == "finished"
    with pytest.raises(UnknownRun, match="nothing"):
        catalog.lineage("nothing")


def test_a_writer_commits_batch_by_batch_in_bounded_memory(catalog: Catalog) -> None:
    dataset = catalog.create("photos", modality="image")
    with dataset.writer(batch=4) as writer:
        for sample in pictures(10):
            writer.add(sample)
            if sample["id"] == "p004":
                assert len(dataset) == 4
    assert len(dataset) == 10
    assert writer.version == dataset.version == 3


def test_a_writer_that_fails_keeps_only_whole_batches(catalog: Catalog) -> None:
    dataset = catalog.create("photos", modality="image")

    def fail_after_six(commit: Literal["batch", "end"], start: int) -> None:
        with dataset.writer(batch=4, commit=commit) as writer:
            for sample in pictures(6, start=start):
                writer.add(sample)
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        fail_after_six("batch", 0)
    assert len(dataset) == 4
    with pytest.raises(RuntimeError, match="stop"):
        fail_after_six("end", 10)
    assert len(dataset) == 4


def test_a_writer_goes_on_after_a_bad_sample(catalog: Catalog) -> None:
    dataset = catalog.create("photos", modality="image")
    with dataset.writer(batch=2) as writer:
        writer.add(pictures(1)[0])
        with pytest.raises(InvalidSample, match="bad"):
            writer.add({"id": "bad", "image": np.zeros((0, 4, 3), np.uint8)})
        with pytest.raises(InvalidSample, match="worse"):
            writer.add({"id": "worse", "image": picture(1), "score": "text"})
        writer.add(pictures(1, start=1)[0])
    assert dataset.select().frame()["id"].to_list() == ["p000", "p001"]


def test_a_writer_cannot_be_sent_elsewhere(photos: Dataset) -> None:
    import pickle

    with pytest.raises(UserError, match="write_ray"):
        pickle.dumps(photos.writer())
    with pytest.raises(InvalidSetting, match="batch"):
        photos.writer(batch=0)


def test_a_writer_counts_what_it_added_itself(catalog: Catalog) -> None:
    dataset = catalog.create("photos", modality="image")
    with dataset.writer(existing="skip") as writer:
        for sample in pictures(6):
            writer.add(sample)
        dataset.append(pictures(4))  # another writer is first with four of the six
    assert writer.added == 2
    assert len(dataset) == 6


def test_ragged_samples_are_not_padded(catalog: Catalog) -> None:
    dataset = catalog.create("sounds", modality="audio")
    sounds = [
        {"id": f"a{n}", "audio": np.arange(n, dtype=np.int16), "sampling_rate": 8000.0} for n in (5, 1000, 70_000)
    ]
    dataset.append(sounds)
    for sound in sounds:
        np.testing.assert_array_equal(dataset.select()[str(sound["id"])]["audio"], sound["audio"])
    references = dataset.scan().collect()["audio"].struct.unnest()
    assert sorted((references["stop"] - references["start"]).to_list()) == [5, 1000, 70_000]
    assert dataset.storage.size("fragments") < 2 * 71_005 + 16_000


def test_a_lake_in_memory_is_a_lake() -> None:
    catalog = Catalog("memory://dataset-test")
    catalog.create("photos", modality="image").append(pictures(2))
    assert len(Catalog("memory://dataset-test")["photos"]) == 2
