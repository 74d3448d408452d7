"""Data sets that ``datasets`` saved, read without it."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import soundfile

from sensorium.catalog import Catalog
from sensorium.catalog.importer import Source
from sensorium.catalog.ingest import choose_importer
from tests.catalog.importing import imported, importer, refusal, write
from tests.catalog.test_webdataset import pixels, png


def saved(path: Path, count: int = 3, shards: int = 2) -> Path:
    """Pictures [5, 7 + i, 3] with classes, arrays and lists, in two Arrow files."""
    datasets.disable_progress_bars()
    features = datasets.Features(
        {
            "image": datasets.Image(),
            "label": datasets.ClassLabel(names=["cat", "dog"]),
            "grid": datasets.Array2D((2, 3), "float32"),
            "list": datasets.Sequence(datasets.Value("int32")),
            "text": datasets.Value("string"),
        }
    )
    rows = {
        "image": [{"bytes": png(pixels(index)), "path": None} for index in range(count)],
        "label": [index % 2 for index in range(count)],
        "grid": [np.full((2, 3), index / 2, np.float32) for index in range(count)],
        "list": [list(range(index)) for index in range(count)],
        "text": [f"Übung {index}" for index in range(count)],
    }
    datasets.Dataset.from_dict(rows, features=features).save_to_disk(str(path), num_shards=shards)
    return path


def check(samples: list[dict[str, Any]]) -> None:
    for index, sample in enumerate(samples):
        assert sample["image"].dtype == np.uint8
        assert np.array_equal(sample["image"], pixels(index))
        assert sample["grid"].dtype == np.float32
        assert sample["grid"].tolist() == [[index / 2] * 3] * 2
        assert sample["label"] == ["cat", "dog"][index % 2]
        assert sample["list"] == list(range(index))
        assert sample["text"] == f"Übung {index}"


def test_values_are_exact(tmp_path: Path) -> None:
    samples = imported("hf_dataset", saved(tmp_path / "Daten 1"))
    assert list(samples) == ["0", "1", "2"]
    check(list(samples.values()))
    assert list(imported("hf_dataset", tmp_path / "Daten 1", id="text")) == ["Übung 0", "Übung 1", "Übung 2"]


def test_splits(tmp_path: Path, catalog: Catalog) -> None:
    for name in ("train", "validation"):
        saved(tmp_path / "in" / name, shards=1)
    write(tmp_path / "in/dataset_dict.json", '{"splits": ["train", "validation"]}')
    assert choose_importer(Source(tmp_path / "in")).name == "hf_dataset"
    report = catalog.ingest(tmp_path / "in", "data")
    assert (report.added, report.failed) == (6, [])
    assert catalog.ingest(tmp_path / "in", "data").added == 0
    assert catalog["data"].select()["validation/1"]["split"] == "val"
    assert catalog["data"].preview().content.startswith(b"\x89PNG")


def test_sound(tmp_path: Path) -> None:
    datasets.disable_progress_bars()
    values = np.arange(-200, 200, dtype=np.int16)
    file = io.BytesIO()
    soundfile.write(file, values, 16000, format="WAV")
    rows = {"speech": [{"bytes": file.getvalue(), "path": "a.wav"}]}  # the form of its feature Audio
    datasets.Dataset.from_dict(rows).save_to_disk(str(tmp_path / "s"))
    sample = imported("hf_dataset", tmp_path / "s")["0"]
    assert importer("hf_dataset").makes(Source(tmp_path / "s")) == "audio"
    assert np.array_equal(sample["audio"], values)
    assert sample["sampling_rate"] == 16000


@pytest.mark.parametrize(
    ("name", "change", "says"),
    [
        ("data-00001-of-00002.arrow", lambda whole: whole[: len(whole) // 2], "Arrow"),
        ("data-00001-of-00002.arrow", lambda _: b"", "cannot be read as Arrow stream"),
        ("data-00000-of-00002.arrow", lambda _: b"text" * 99, "cannot be read as Arrow stream"),
        ("state.json", lambda _: b"{", "cannot be read as JSON"),
        ("state.json", lambda _: b"[]", "is no JSON object"),
        (
            "state.json",
            lambda _: json.dumps({"_data_files": [{"filename": "../x"}]}).encode(),
            "no files of its folder",
        ),
        (
            "state.json",
            lambda whole: json.dumps({**json.loads(whole), "_indices_data_files": [{"filename": "i"}]}).encode(),
            "flatten_indices",
        ),
        ("dataset_info.json", lambda _: b"1", "is no JSON object"),
    ],
)
def test_broken_files_are_refused(tmp_path: Path, name: str, change: Callable[[bytes], bytes], says: str) -> None:
    folder = saved(tmp_path / "d")
    write(folder / name, change((folder / name).read_bytes()))
    assert says in refusal("hf_dataset", folder)
