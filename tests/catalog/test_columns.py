"""Samples given as columns: what goes in is the same as sample by sample, and so is what is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl
import pytest

from sensorium.catalog import ArrayField, Catalog, Dataset, fragments
from sensorium.platform.errors import DuplicateSample, InvalidSample, SensoriumError, UnknownField


def columns(count: int = 30, first: int = 0) -> dict[str, Any]:
    random = np.random.default_rng(first)
    return {
        "id": [f"s{first + n:04d}" for n in range(count)],
        "image": random.integers(0, 255, (count, 5, 4, 3), dtype=np.uint8),
        "mask": random.integers(0, 2, (count, 5, 4), dtype=np.uint8),
        "label": random.integers(0, 9, count),
        "name": [f"n{n}" if n % 3 else None for n in range(count)],
    }


def singles(given: dict[str, Any]) -> list[dict[str, Any]]:
    return [{name: values[n] for name, values in given.items()} for n in range(len(given["id"]))]


@pytest.fixture
def pair(catalog: Catalog) -> tuple[Dataset, Dataset]:
    return catalog.create("columns", modality="image"), catalog.create("singles", modality="image")


def test_the_samples_are_the_same(pair: tuple[Dataset, Dataset]) -> None:
    for first, given in ((0, columns()), (30, {**columns(7, 30), "name": ["é"] * 7})):
        pair[0].append(given)
        pair[1].append(singles(given))
        assert len(pair[0]) == first + len(given["id"])
    one, other = (dataset.select() for dataset in pair)
    assert one.rows.schema == other.rows.schema
    assert one.frame().equals(other.frame())
    assert one.declaration.fields == other.declaration.fields
    for mine, theirs in zip(one, other, strict=True):
        for name in ("image", "mask"):
            np.testing.assert_array_equal(mine[name], theirs[name])
    checksums = [s.rows["image"].struct.field("checksum").to_list() for s in (one, other)]
    assert checksums[0] == checksums[1]
    assert pair[0].verify().is_empty()


@pytest.mark.parametrize("codec", ["none", "zstd", "blosc"])
def test_any_codec_order_and_byte_order(catalog: Catalog, codec: str) -> None:
    values = np.asfortranarray(np.random.default_rng(0).normal(size=(9, 6, 5))).astype(">f4")
    dataset = catalog.create("d", modality="table", fields=[ArrayField("x", codec=codec, chunk={"dim_0": 4})])
    dataset.append({"id": [f"{n}" for n in range(9)], "x": values})
    for n, sample in enumerate(dataset.select()):
        np.testing.assert_array_equal(sample["x"], values[n])
        assert sample["x"].dtype == np.float32


def broken(change: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    given = columns()
    change(given)
    return given


def set_value(given: dict[str, Any], name: str, value: Any) -> None:
    given[name] = list(given[name])
    given[name][17] = value


CASES: dict[str, Callable[[dict[str, Any]], object]] = {
    "an id twice": lambda given: set_value(given, "id", "s0003"),
    "no id": lambda given: set_value(given, "id", ""),
    "a number as id": lambda given: set_value(given, "id", 5),
    "a label out of type": lambda given: set_value(given, "label", "nine"),
    "an image of another kind": lambda given: given.update(image=given["image"].astype(np.complex64)),
    "a mask of another size": lambda given: given.update(mask=given["mask"][:, :4]),
    "an empty image": lambda given: given.update(image=given["image"][:, :0]),
    "too many channels": lambda given: given.update(image=np.zeros((30, 5, 4, 7), np.uint8)),
    "no image": lambda given: given.pop("image"),
}


@pytest.mark.parametrize("case", CASES)
def test_what_is_wrong_is_told_as_for_single_samples(pair: tuple[Dataset, Dataset], case: str) -> None:
    given = broken(CASES[case])
    told = []
    for dataset, samples in ((pair[0], given), (pair[1], singles(given))):
        with pytest.raises(SensoriumError) as caught:
            dataset.append(samples)
        told.append((type(caught.value), str(caught.value).replace("'columns'", "'singles'")))
        assert len(dataset) == 0
    assert told[0] == told[1]


def test_a_value_that_is_not_finite_is_found_in_its_sample(catalog: Catalog) -> None:
    cubes = np.zeros((4, 3, 3, 2), np.float32)
    cubes[2, 1, 0, 1] = np.nan
    dataset = catalog.create("cubes", modality="hyperspectral")
    with pytest.raises(InvalidSample, match=r"'c2'.*'cube'.*NaN"):
        dataset.append({"id": [f"c{n}" for n in range(4)], "cube": cubes, "wavelength": [[500.0, 600.0]] * 4})


def test_shapes_that_differ_go_in_all_the_same(catalog: Catalog) -> None:
    images = [np.full((4 + n % 2, 5, 3), n, np.uint8) for n in range(6)]
    dataset = catalog.create("d", modality="image")
    dataset.append({"id": [f"{n}" for n in range(6)], "image": images})
    for n, sample in enumerate(dataset.select()):
        np.testing.assert_array_equal(sample["image"], images[n])


def test_columns_of_different_lengths(catalog: Catalog) -> None:
    dataset = catalog.create("d", modality="image")
    with pytest.raises(InvalidSample, match=r"'label'.*3 values, and 'id' has 30"):
        dataset.append({**columns(), "label": [1, 2, 3]})
    with pytest.raises(InvalidSample, match="need a column 'id'"):
        dataset.append({"label": [1, 2, 3]})


def test_ids_that_are_there(catalog: Catalog) -> None:
    dataset = catalog.create("d", modality="image")
    dataset.append(columns(10))
    with pytest.raises(DuplicateSample, match="'s0000'"):
        dataset.append(columns(20))
    dataset.append(columns(20), existing="skip")
    assert len(dataset) == 20
    with dataset.writer(commit="end") as writer:
        writer.add({"id": "one", "image": np.zeros((2, 2, 3), np.uint8)})
        writer.add_columns(columns(10, 40))
        with pytest.raises(DuplicateSample, match="twice"):
            writer.add_columns(columns(10, 45))
    assert len(dataset) == 31


def test_a_field_that_nobody_declared(catalog: Catalog) -> None:
    dataset = catalog.create("d", modality="image")
    dataset.append(columns(5))
    more = {**columns(5, 5), "brix": [n / 2 for n in range(5)]}
    with pytest.raises(UnknownField, match="brix"):
        dataset.append(more)
    dataset.append(more, evolve=True)
    assert dataset.select("brix > 0").frame()["brix"].to_list() == [0.5, 1.0, 1.5, 2.0]


def test_payload_lies_in_full_shards(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fragments, "_SHARD_BYTES", 5 * 60)
    dataset = catalog.create("d", modality="image")
    dataset.append({name: values for name, values in columns(13).items() if name in ("id", "image")})
    rows = dataset.select().rows["image"].struct.unnest()
    assert rows["fragment"].n_unique() == 1
    for n, sample in enumerate(dataset.select()):
        np.testing.assert_array_equal(sample["image"], columns(13)["image"][n])


def test_a_data_frame(catalog: Catalog) -> None:
    frame = pl.DataFrame({"id": ["a", "b"], "x": [1.5, None], "tags": [["u"], ["v", "w"]]})
    dataset = catalog.create("d", modality="table")
    dataset.append(frame)
    assert dataset.select().frame().select(frame.columns).equals(frame)
