"""Existing Zarr stores: what was written by Zarr is what is in the lake; codecs that could run code are refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from sensorium.catalog import Catalog
from sensorium.catalog.export import export
from tests.catalog.importing import imported, refusal

RNG = np.random.default_rng(4)
IMAGES = RNG.integers(0, 256, (5, 4, 6, 3)).astype(np.uint8)


def store(path: Path, version: Any = 3, **arrays: Any) -> Path:
    group = zarr.create_group(store=str(path), zarr_format=version)
    for name, values in arrays.items():
        made = group.create_array(name, shape=values.shape, dtype=values.dtype, chunks=(1, *values.shape[1:]))
        made[...] = values
    return path


@pytest.mark.parametrize("version", [2, 3])
def test_rows_of_arrays_are_samples(version: int, catalog: Catalog, tmp_path: Path) -> None:
    masks = (IMAGES[..., 0] > 90).astype(np.uint8)
    path = store(tmp_path / "ä b" / "my store.zarr", version, image=IMAGES, mask=masks, other=np.zeros((5, 2)))
    report = catalog.ingest(path, "pictures")
    assert (report.format, report.added, report.failed) == ("zarr_store", 5, [])
    for index, sample in enumerate(catalog["pictures"].select()):
        np.testing.assert_array_equal(sample["image"], IMAGES[index])
        np.testing.assert_array_equal(sample["mask"], masks[index])
    assert catalog.ingest(path, "pictures").added == 0


def test_options_name_arrays_anywhere_in_the_store(tmp_path: Path) -> None:
    path = store(tmp_path / "a.zarr", x=IMAGES)
    zarr.open_group(str(path)).create_group("deep").create_array("t1", data=IMAGES.astype(np.float32))
    sample = imported("zarr_store", path, modality="image", image="deep/t1")["000002"]
    np.testing.assert_array_equal(sample["image"], IMAGES[2].astype(np.float32))
    assert "leads out of it" in refusal("zarr_store", path, modality="image", image="../../etc")
    assert "has no array 'y'" in refusal("zarr_store", path, modality="image", image="y")
    assert "Say modality=NAME" in refusal("zarr_store", path)


@pytest.mark.parametrize("ragged", [False, True])
def test_what_we_export_comes_back(ragged: bool, catalog: Catalog, tmp_path: Path) -> None:
    made = catalog.create("pictures", modality="image", fields={"label": "string", "age": "int64"})
    samples = [
        {"id": f"p/{n}", "image": image[: 2 + n % 3 if ragged else 4], "label": "xyz"[n % 3], "age": n or None}
        for n, image in enumerate(IMAGES)
    ]
    samples[3]["mask"] = (np.asarray(samples[3]["image"])[..., 0] > 9).astype(np.uint8)
    made.append(samples)
    export(made.select(), tmp_path / "out", format="zarr")
    report = catalog.ingest(tmp_path / "out", "again")
    assert report.failed == []
    found = catalog["again"].select()
    for one in made.select():
        np.testing.assert_array_equal(found[one.id]["image"], one["image"])
        assert (found[one.id]["label"], found[one.id].get("age")) == (one["label"], one.get("age"))
        assert ("mask" in found[one.id]) == ("mask" in one)


def changed(path: Path, **changes: Any) -> Path:
    """The metadata of the array of a store of version 2, with some of it replaced."""
    file = path / "image" / ".zarray"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))
    return path


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"filters": [{"id": "pickle"}]}, "uses the codec 'pickle'"),
        ({"compressor": {"id": "msgpack2"}}, "uses the codec 'msgpack2'"),
        ({"dtype": "|O"}, "holds values of type"),
        ({"shape": [5, 400000, 60000, 3]}, "more than 4e+09"),
        ({"chunks": [1, 4000000, 60000, 3]}, "more than 4e+09"),
        ({"chunks": "x"}, "metadata are damaged"),
        ({"shape": [5, -1, 3]}, "has the shape"),
    ],
)
def test_metadata_that_lie_are_refused_before_anything_is_decoded(changes: Any, says: str, tmp_path: Path) -> None:
    path = changed(store(tmp_path / "a.zarr", 2, image=IMAGES), **changes)
    assert says in refusal("zarr_store", path, modality="image")


def test_a_damaged_chunk_costs_its_sample(catalog: Catalog, tmp_path: Path) -> None:
    path = store(tmp_path / "a.zarr", 3, image=IMAGES)
    (path / "image" / "c" / "2" / "0" / "0" / "0").write_bytes(b"no chunk")
    report = catalog.ingest(path, "pictures")
    assert report.added == 4
    assert "cannot be decoded" in report.failed[0][1]
