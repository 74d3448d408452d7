"""Parquet files with files in their cells, as ``datasets`` and others write them."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile

from sensorium.catalog import Catalog
from sensorium.catalog.export import export
from sensorium.catalog.importer import Source
from sensorium.catalog.ingest import choose_importer
from tests.catalog.importing import LONG, imported, importer, picture, refusal, write
from tests.catalog.test_webdataset import pixels, png

FILE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def pictures(path: Path, count: int = 3, **more: Any) -> Path:
    """Rows of pictures [5, 7 + i, 3], two in a row group."""
    path.parent.mkdir(parents=True, exist_ok=True)
    cells = [{"bytes": png(pixels(index)), "path": f"{index}.png"} for index in range(count)]
    table = pa.table({"image": pa.array(cells, FILE), "name": [f"Bild {index}" for index in range(count)], **more})
    pq.write_table(table, path, row_group_size=2)
    return path


def test_pictures_and_plain_values(tmp_path: Path) -> None:
    boxes = [[1.5, 2.0], [], None]
    pictures(tmp_path / "a b" / "train-00000-of-00001.parquet", boxes=boxes, id=pa.array([7, 8, 9], pa.int16()))
    samples = imported("parquet_folder", tmp_path)
    assert list(samples) == [f"a b/train-00000-of-00001/{index}" for index in range(3)]
    for index, sample in enumerate(samples.values()):
        assert sample["image"].dtype == np.uint8
        assert np.array_equal(sample["image"], pixels(index))
        assert (sample["name"], sample["split"], sample["metadata_id"]) == (f"Bild {index}", "train", 7 + index)
        assert sample.get("boxes") == boxes[index]
    assert list(imported("parquet_folder", tmp_path, id="name")) == ["Bild 0", "Bild 1", "Bild 2"]
    assert "has no column 'nom'" in refusal("parquet_folder", tmp_path, id="nom")


def test_sound_bytes_without_a_form_and_lists(tmp_path: Path) -> None:
    values = np.arange(-200, 200, dtype=np.int16)
    file = io.BytesIO()
    soundfile.write(file, values, 16000, format="WAV")
    pq.write_table(pa.table({"sound": pa.array([file.getvalue()]), "text": ["ja"]}), tmp_path / "s.parquet")
    sample = imported("parquet_folder", tmp_path)["s/0"]
    assert sample["audio"].dtype == np.int16
    assert np.array_equal(sample["audio"], values)
    assert (sample["sampling_rate"], sample["text"]) == (16000.0, "ja")
    signal = pa.array([[[1.0, 2.0], [3.0, 4.0]]], pa.list_(pa.list_(pa.float32())))
    path = tmp_path / "series" / "x.parquet"
    path.parent.mkdir()
    pq.write_table(pa.table({"signal": signal, "sampling_rate": [50.0]}), path)
    assert "which modality is it?" in refusal("parquet_folder", path)
    sample = imported("parquet_folder", path, modality="series")["x/0"]
    assert sample["signal"].tolist() == [[1, 2], [3, 4]]
    assert sample["sampling_rate"] == 50


def test_our_own_export_comes_back(tmp_path: Path, catalog: Catalog) -> None:
    pictures(tmp_path / "in/s.parquet")
    report = catalog.ingest(tmp_path / "in", "data")
    assert (report.format, report.added, report.failed) == ("parquet_folder", 3, [])
    assert catalog.ingest(tmp_path / "in", "data").added == 0
    assert catalog["data"].preview().content.startswith(b"\x89PNG")
    export(catalog["data"].select(), tmp_path / "out", format="parquet")
    catalog.ingest(tmp_path / "out", "again", options={"id": "id"})
    for one, other in zip(catalog["data"].select(), catalog["again"].select(), strict=True):
        assert other.id == one.id
        assert np.array_equal(one["image"], other["image"])


def test_tables_of_others_are_left_to_them(tmp_path: Path) -> None:
    pictures(tmp_path / "in/a.parquet")
    assert choose_importer(Source(tmp_path / "in")).name == "parquet_folder"
    pq.write_table(pa.table({"id": ["a"], "x": [1]}), tmp_path / "plain.parquet")
    assert importer("parquet_folder").matches(Source(tmp_path / "plain.parquet")) == 0
    picture(tmp_path / "pictures/a.png")
    pictures(tmp_path / "pictures/metadata.parquet", 1)
    write(tmp_path / "pictures/b/series.csv", LONG)
    assert choose_importer(Source(tmp_path / "pictures")).name == "image_folder"


@pytest.mark.parametrize(
    ("cell", "says"),
    [
        ({"bytes": None, "path": "x.png"}, "names a file and does not hold it"),
        ({"bytes": b"text", "path": "x.png"}, "is no picture, sound, video or array"),
        ({"bytes": png(pixels(0))[:70], "path": "x.png"}, "a.parquet: row 1 of row group 0, column 'image': cannot"),
    ],
)
def test_broken_cells_are_named(tmp_path: Path, cell: dict[str, Any], says: str) -> None:
    cells = pa.array([{"bytes": png(pixels(0)), "path": "0.png"}, cell], FILE)
    pq.write_table(pa.table({"image": cells}), tmp_path / "a.parquet")
    assert says in refusal("parquet_folder", tmp_path)


@pytest.mark.parametrize(
    "harm",
    [lambda whole: whole[:-20], lambda _: b"", lambda _: b"PAR1 text PAR1", lambda whole: whole[:60] + whole[90:]],
)
def test_broken_files_are_refused(tmp_path: Path, harm: Callable[[bytes], bytes]) -> None:
    path = pictures(tmp_path / "a.parquet")
    write(path, harm(path.read_bytes()))
    assert refusal("parquet_folder", path, modality="image").startswith(f"{path}: ")


def test_files_must_agree_and_row_groups_are_limited(tmp_path: Path) -> None:
    pictures(tmp_path / "a.parquet")
    pictures(tmp_path / "b.parquet", more=[1, 2, 3])
    assert "differ from those of a.parquet" in refusal("parquet_folder", tmp_path)
    assert "more than the limit of 100" in refusal("parquet_folder", tmp_path / "a.parquet", max_bytes="100")
