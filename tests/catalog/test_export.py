"""Exports in forms of other programs: those programs read back what went in."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import soundfile
import zarr
from PIL import Image

from sensorium.catalog import Catalog
from sensorium.catalog.dataset import Dataset
from sensorium.catalog.export import FORMATS, export
from sensorium.platform.errors import InvalidSetting, UserError


@pytest.fixture
def pictures(catalog: Catalog) -> Dataset:
    made = catalog.create("pictures", modality="image", fields={"label": "string", "age": "int64"}, licence="CC0")
    rng = np.random.default_rng(1)
    samples = []
    for n, name in enumerate(("a/one.x", "a/one_x", "ü b", "d")):
        image = rng.integers(0, 256, (5 + n, 6, 3)).astype(np.uint8)
        samples.append({"id": name, "image": image, "label": f"l{n}", "age": n if n else None})
    samples[1]["mask"] = (samples[1]["image"][..., 0] > 100).astype(np.uint8)
    made.append(samples)
    return made


@pytest.fixture
def voices(catalog: Catalog) -> Dataset:
    made = catalog.create("voices", modality="audio", attributes={"kind": "tones"})
    for n in range(3):
        made.append([{"id": f"v{n}", "audio": np.arange(n * 10 + 20, dtype=np.int16), "sampling_rate": 8000.0}])
    return made


def decoded(suffix: str, content: bytes) -> Any:
    if suffix == "png":
        return np.asarray(Image.open(io.BytesIO(content)))
    if suffix == "wav":
        return soundfile.read(io.BytesIO(content), dtype="int16")[0]
    return np.load(io.BytesIO(content), allow_pickle=False)


@pytest.mark.filterwarnings("ignore")  # it leaves its files open
def test_webdataset_reads_our_shards(pictures: Dataset, voices: Dataset, tmp_path: Path) -> None:
    webdataset = pytest.importorskip("webdataset", reason="webdataset is not installed")
    assert export(pictures.select(), tmp_path / "out", format="webdataset") == 4
    (shard,) = (tmp_path / "out").glob("*.tar")
    found = list(webdataset.WebDataset(str(shard), shardshuffle=False))
    assert len(found) == 4
    for sample in pictures.select():
        (one,) = (one for one in found if json.loads(one["json"])["id"] == sample.id)
        np.testing.assert_array_equal(decoded("png", one["image.png"]), sample["image"])
        assert ("mask.png" in one) == ("mask" in sample)
        assert json.loads(one["json"])["label"] == sample["label"]
    export(voices.select(), tmp_path / "voices", format="webdataset")
    with tarfile.open(tmp_path / "voices" / "voices-000000.tar") as shard_file:
        member = shard_file.extractfile("v2.audio.wav")
        assert member is not None
        np.testing.assert_array_equal(decoded("wav", member.read()), np.arange(40))


def test_equal_selections_give_equal_shards(pictures: Dataset, tmp_path: Path) -> None:
    for name in ("one", "two"):
        export(pictures.select(), tmp_path / name, format="webdataset")
    assert (tmp_path / "one/pictures-000000.tar").read_bytes() == (tmp_path / "two/pictures-000000.tar").read_bytes()


@pytest.mark.parametrize("form", ["parquet", "huggingface"])
def test_parquet_holds_everything(form: str, pictures: Dataset, tmp_path: Path) -> None:
    export(pictures.select(), tmp_path / "out", format=form)
    frame = pl.read_parquet(str(tmp_path / "out/**/*.parquet"))
    assert frame["id"].to_list() == sorted(sample.id for sample in pictures.select())
    for row, sample in zip(frame.iter_rows(named=True), pictures.select(), strict=True):
        np.testing.assert_array_equal(decoded("png", row["image"]["bytes"]), sample["image"])
        assert (row["label"], row["age"]) == (sample["label"], sample.get("age"))
        assert (row["mask"] is None) == ("mask" not in sample)
    assert len({row["path"] for row in frame["image"].to_list()}) == 4


@pytest.mark.filterwarnings("ignore")
def test_datasets_loads_our_repository(pictures: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    datasets = pytest.importorskip("datasets", reason="Hugging Face datasets is not installed")
    export(pictures.select(), tmp_path / "out", format="huggingface")
    loaded = datasets.load_dataset(str(tmp_path / "out"), cache_dir=str(tmp_path / "cache"))["train"]
    assert type(loaded.features["image"]).__name__ == "Image"
    for row, sample in zip(loaded, pictures.select(), strict=True):
        np.testing.assert_array_equal(np.asarray(row["image"]), sample["image"])
        assert (row["id"], row["label"]) == (sample.id, sample["label"])
    assert "CC0" in (tmp_path / "out" / "README.md").read_text()


def test_zarr_has_a_row_a_sample_or_an_array_each(catalog: Catalog, pictures: Dataset, tmp_path: Path) -> None:
    export(pictures.select(), tmp_path / "ragged", format="zarr")
    group = zarr.open_group(tmp_path / "ragged" / "data.zarr", mode="r")
    rows = pl.read_parquet(tmp_path / "ragged" / "samples.parquet")
    for index, sample in enumerate(pictures.select()):
        np.testing.assert_array_equal(group[f"image/{index:06d}"][...], sample["image"])
        assert rows["id"][index] == sample.id
        assert rows["has_mask"][index] == ("mask" in sample)
    made = catalog.create("grid", modality="image")
    rng = np.random.default_rng(2)
    images = rng.integers(0, 65536, (7, 4, 5, 1)).astype(np.uint16)
    made.append([{"id": f"{n}", "image": image} for n, image in enumerate(images)])
    export(made.select(), tmp_path / "even", format="zarr")
    group = zarr.open_group(tmp_path / "even" / "data.zarr", mode="r")
    np.testing.assert_array_equal(group["image"][...], images)
    assert group.attrs["modality"] == "image"


@pytest.mark.parametrize("form", FORMATS)
def test_every_form_describes_itself_and_appears_as_a_whole(
    form: str, voices: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert export(voices.select(), tmp_path / "new" / "out", format=form) == 3
    about = json.loads((tmp_path / "new" / "out" / "dataset.json").read_text())
    assert (about["data_set"], about["modality"], about["format"]) == ("voices", "audio", form)
    assert about["attributes"] == {"kind": "tones"}
    with pytest.raises(UserError, match="never overwrites"):
        export(voices.select(), tmp_path / "new" / "out", format=form)
    monkeypatch.setattr(Path, "rename", _full)
    with pytest.raises(UserError, match="No space left"):
        export(voices.select(), tmp_path / "full", format=form)
    assert [path.name for path in tmp_path.iterdir() if path.name not in ("new", "lake")] == []


@pytest.mark.parametrize("form", ["native", "npz"])
def test_scalars_come_back_with_what_is_read_again(
    form: str, catalog: Catalog, pictures: Dataset, voices: Dataset, tmp_path: Path
) -> None:
    """An export is a folder that can be imported, and so is an export of what was imported from one."""
    before, source = pictures, "pictures"
    for turn in range(2):
        folder = tmp_path / f"out{turn}"
        export(before.select(), folder, format=form)
        assert catalog.ingest(folder, f"{source}_{turn}").failed == []
        after = catalog[f"{source}_{turn}"]
        assert {sample["metadata_id"] for sample in after.select()} == {sample.id for sample in before.select()}
        by_id = {sample["metadata_id"]: sample for sample in after.select()}
        for sample in before.select():
            again = by_id[sample.id]
            np.testing.assert_array_equal(again["image"], sample["image"])
            assert ("mask" in again) == ("mask" in sample)
            assert (again["label"], again.get("age")) == (sample["label"], sample.get("age"))
        before = after
    export(voices.select(), tmp_path / "voices", format="native")
    assert catalog.ingest(tmp_path / "voices", "voices_again").failed == []
    again = catalog["voices_again"].select()["v2"]
    assert again["sampling_rate"] == 8000.0
    assert not {"metadata_sampling_rate", "metadata_source"} & set(again)


def test_rows_without_arrays_are_exported_and_passed_over(catalog: Catalog, tmp_path: Path) -> None:
    made = catalog.create("mixed", modality="volume", fields={"note": "string"})
    made.append([{"id": "a", "volume": np.zeros((2, 3, 4), np.int16), "note": "x"}])
    export(made.select(), tmp_path / "out", format="npz")
    table = pl.read_parquet(tmp_path / "out/samples.parquet")
    empty = table.with_columns(pl.lit("b").alias("id"), pl.lit(None, pl.String).alias("file"))
    pl.concat([table, empty]).write_parquet(tmp_path / "out/samples.parquet")
    catalog.ingest(tmp_path / "out", "again")
    assert catalog["again"].select()["a"]["note"] == "x"


def _full(*_: Any) -> None:
    raise OSError(28, "No space left on device")


def test_an_unknown_form_is_refused(voices: Dataset, tmp_path: Path) -> None:
    with pytest.raises(InvalidSetting, match="Did you mean 'parquet'"):
        export(voices.select(), tmp_path / "out", format="parket")
