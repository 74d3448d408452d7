"""Photographs with plates come in with boxes and texts; a label that is wrong is refused with its file and line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sensorium.catalog import Catalog
from sensorium.catalog.importer import GROUP, Importer, Source
from sensorium.catalog.ingest import choose_importer
from sensorium.platform import plugins
from sensorium.platform.errors import UnreadableFile

PLATES: Importer = plugins.load(GROUP, "plates", Importer)


def photograph(folder: Path, labels: str | bytes | None, name: str = "car", size: tuple[int, int] = (60, 40)) -> Path:
    Image.fromarray(np.zeros((size[1], size[0], 3), np.uint8)).save(folder / f"{name}.jpg")
    if labels is not None:
        (folder / f"{name}.txt").write_bytes(labels.encode() if isinstance(labels, str) else labels)
    return folder


def imported(folder: Path) -> dict[str, dict[str, Any]]:
    return {item.id: PLATES.read(item, {}) for item in PLATES.plan(Source(folder))}


def test_boxes_and_texts_come_with_the_picture(tmp_path: Path) -> None:
    photograph(tmp_path, "car.jpg\t5\t6\t20\t10\tRK735AS\ncar.jpg\t0\t30\t60\t10\tWA 566\n\n")
    photograph(tmp_path, "", "none")
    found = imported(tmp_path)
    assert found["car"]["boxes"] == [[5, 6, 20, 10], [0, 30, 60, 10]]
    assert found["car"]["texts"] == ["RK735AS", "WA 566"]
    assert found["car"]["image"].shape == (40, 60, 3)
    assert found["none"]["boxes"] == found["none"]["texts"] == []


def test_it_is_found_by_content_before_plain_pictures(tmp_path: Path) -> None:
    photograph(tmp_path, "car.jpg\t5\t6\t20\t10\tRK735AS")
    assert choose_importer(Source(tmp_path)).name == "plates"
    (tmp_path / "car.txt").write_text("a note about the car")
    assert choose_importer(Source(tmp_path)).name == "image_folder"


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ("car.jpg 5 6 20 10 RK735AS", "line 1 has 1 columns"),
        ("car.jpg\t5\t6\t20\t10\tA1\ncar.jpg\t5\t6\t20\tA1", "line 2 has 5 columns"),
        ("bus.jpg\t5\t6\t20\t10\tA1", "line 1 speaks of 'bus.jpg'"),
        ("car.jpg\t5\t-6\t20\t10\tA1", "whole pixels"),
        ("car.jpg\t5\t6\t20.5\t10\tA1", "whole pixels"),
        ("car.jpg\t5\t6\t0\t10\tA1", "line 1: the box is empty"),
        ("car.jpg\t5\t6\t20\t10\t ", "line 1 has no text"),
        ("car.jpg\t50\t6\t20\t10\tA1", "does not lie in the picture of 60 x 40"),
        (b"car.jpg\t5\t6\t20\t10\t\xff", "UTF-8"),
        (None, "no labels beside it"),
    ],
)
def test_wrong_labels_are_refused(tmp_path: Path, labels: str | bytes | None, said: str) -> None:
    with pytest.raises(UnreadableFile) as caught:
        imported(photograph(tmp_path, labels))
    assert "car.txt" in str(caught.value)
    assert said in str(caught.value)


def test_the_real_photographs_come_in(shared_data: Path, catalog: Catalog) -> None:
    folder = shared_data / "plates_eu"
    if not folder.is_dir():
        pytest.skip("the folder of real samples has no plates_eu")
    items = list(PLATES.plan(Source(folder)))[:5]
    fields = [] if PLATES.fields is None else list(PLATES.fields(Source(folder)))
    dataset = catalog.create("plates", modality="image", fields=fields)
    dataset.append({"id": item.id, **PLATES.read(item, {})} for item in items)
    assert catalog["plates"].verify().is_empty()
    assert catalog["plates"].select(fields=["texts"]).frame()["texts"].list.len().to_list() == [1] * 5
