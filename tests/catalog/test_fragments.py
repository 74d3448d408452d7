"""Fragments are plain Zarr v3: what we write any Zarr library reads, for every dtype and shape."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from sensorium.catalog import ArrayField, Catalog, fragments
from sensorium.platform.errors import CorruptData
from sensorium.platform.storage import Storage

INTEGERS = [f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)]
DTYPES = ["bool", *INTEGERS, "float16", "float32", "float64", "complex64"]


@st.composite
def batches(draw: st.DrawFn) -> list[np.ndarray]:
    """A batch of one field: one dtype and rank, shapes equal or not."""
    dtype = np.dtype(draw(st.sampled_from(DTYPES)))
    rank = draw(st.integers(1, 4))
    shape = st.tuples(*[st.integers(1, 6)] * rank)
    fixed = draw(st.one_of(st.none(), shape))
    shapes = draw(st.lists(st.just(fixed) if fixed else shape, min_size=1, max_size=12))
    return [draw(arrays.arrays(dtype, one)) for one in shapes]


@settings(max_examples=60, deadline=None)
@given(batch=batches(), codec=st.sampled_from(["none", "zstd", "blosc"]))
def test_any_batch_reads_back_bit_for_bit(
    tmp_path_factory: pytest.TempPathFactory, batch: list[np.ndarray], codec: str
) -> None:
    storage = Storage.at(tmp_path_factory.mktemp("fragments"))
    field = ArrayField("x", codec=codec, finite=False)
    references = [row["x"] for row in fragments.write(storage, [{"x": array} for array in batch], {"x": field})]
    order = np.random.default_rng(len(batch)).permutation(len(batch))
    found = fragments.read_many(storage, [references[i] for i in order])
    for index, array in zip(order, found, strict=True):
        assert array.dtype == batch[index].dtype
        assert array.shape == batch[index].shape
        assert array.tobytes() == batch[index].tobytes()
        assert fragments.checksum(array) == references[index]["checksum"]


def write_images(folder: Path, count: int, height: int = 4) -> tuple[Storage, list[Any], list[np.ndarray]]:
    storage = Storage.at(folder)
    images = [np.full((height, 5, 3), n % 256, np.uint8) for n in range(count)]
    field = ArrayField("image", dims="H W C", codec="none", unit="DN")
    rows = fragments.write(storage, [{"image": image} for image in images], {"image": field})
    return storage, [row["image"] for row in rows], images


def test_zarr_opens_a_fragment_by_itself(tmp_path: Path) -> None:
    storage, references, images = write_images(tmp_path, 10)
    group = zarr.open_group(tmp_path / "fragments" / references[0]["fragment"], mode="r")
    array = group["image"]
    assert array.shape == (10, 4, 5, 3)
    assert array.metadata.dimension_names == ("sample", "H", "W", "C")
    assert array.attrs["units"] == "DN"
    np.testing.assert_array_equal(array[:], np.stack(images))
    assert storage.folders("fragments") == [references[0]["fragment"]]


def test_samples_are_chunks_and_chunks_lie_in_few_files(tmp_path: Path) -> None:
    _, references, _ = write_images(tmp_path, 500)
    folder = tmp_path / "fragments" / references[0]["fragment"]
    assert zarr.open_group(folder, mode="r")["image"].chunks == (1, 4, 5, 3)
    assert sum(path.is_file() for path in folder.rglob("*")) <= 4


def test_a_large_sample_is_cut_into_chunks_that_can_be_read_alone(tmp_path: Path) -> None:
    storage = Storage.at(tmp_path)
    volume = np.random.default_rng(0).integers(0, 9, (200, 300, 100), dtype=np.int16)
    [row] = fragments.write(storage, [{"v": volume}], {"v": ArrayField("v", dims="Z Y X")})
    chunks = zarr.open_group(tmp_path / "fragments" / row["v"]["fragment"], mode="r")["v"].chunks
    assert np.prod(chunks) * 2 <= 4 << 20
    np.testing.assert_array_equal(fragments.read_part(storage, row["v"], (slice(3, 7), 5)), volume[3:7, 5])


def test_a_stretch_of_a_flat_array(tmp_path: Path) -> None:
    storage = Storage.at(tmp_path)
    sounds = [np.arange(n, dtype=np.int16) for n in (1000, 3000, 500)]
    rows = fragments.write(storage, [{"a": sound} for sound in sounds], {"a": ArrayField("a", dims="T")})
    for row, sound in zip(rows, sounds, strict=True):
        for key in (slice(10, 20), slice(-5, None), slice(None), slice(0, 400, 3), 7):
            np.testing.assert_array_equal(fragments.read_part(storage, row["a"], key), sound[key])


def test_the_same_content_has_the_same_checksum_whatever_its_layout() -> None:
    array = np.arange(24, dtype=np.int32).reshape(4, 6)
    assert (
        fragments.checksum(array)
        == fragments.checksum(np.asfortranarray(array))
        == fragments.checksum(array.astype(">i4"))
    )
    assert fragments.checksum(array) != fragments.checksum(array + 1)


@pytest.fixture
def damaged(catalog: Catalog) -> tuple[Catalog, Path]:
    dataset = catalog.create("photos", modality="image")
    for batch in range(2):
        dataset.append([{"id": f"{batch}{n}", "image": np.full((6, 6, 3), n, np.uint8)} for n in range(3)])
    folder = Path(dataset.storage.at_path("fragments"))
    return catalog, sorted(folder.iterdir())[0]


def test_verify_finds_changed_bytes(damaged: tuple[Catalog, Path]) -> None:
    catalog, fragment = damaged
    shard = next(path for path in fragment.rglob("c.*") if path.is_file())
    content = bytearray(shard.read_bytes())
    content[6 * 6 * 3 + 5] ^= 1  # in one of the three samples
    shard.write_bytes(content)
    problems = catalog["photos"].verify()
    assert problems["field"].to_list() == ["image"]
    assert "checksum" in problems["problem"].item()


def test_verify_finds_a_missing_fragment(damaged: tuple[Catalog, Path]) -> None:
    import shutil

    catalog, fragment = damaged
    shutil.rmtree(fragment)
    fragments.forget()
    for checksums in (True, False):
        problems = catalog["photos"].verify(checksums=checksums)
        assert problems.height == 3
        assert set(problems["fragment"]) == {fragment.name}
    with pytest.raises(CorruptData, match=r"verify"):
        catalog["photos"].select()[problems["id"][0]]["image"]


def test_verify_finds_a_shard_cut_short(damaged: tuple[Catalog, Path]) -> None:
    catalog, fragment = damaged
    shard = next(path for path in fragment.rglob("c.*") if path.is_file())
    shard.write_bytes(shard.read_bytes()[:50])
    assert catalog["photos"].verify().height == 3
