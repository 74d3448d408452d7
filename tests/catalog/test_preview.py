"""Sheets of single samples and pages to step through one: they show what is in the sample."""

from __future__ import annotations

import base64
import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sensorium.catalog import Catalog
from sensorium.catalog import modality as modalities
from sensorium.catalog.preview import sample_sheet, stepper
from sensorium.platform import plugins
from sensorium.platform.errors import InvalidSetting, UnknownSample, UserError
from tests.catalog.test_modalities import fake


@pytest.fixture
def scan(catalog: Catalog) -> Any:
    made = catalog.create("scans", modality="volume")
    volume = np.full((5, 16, 24), -1000, np.int16)
    for index in range(5):
        volume[index, 2 * index : 2 * index + 3] = 400
    made.append(
        [
            {
                "id": "a/b",
                "volume": volume,
                "mask": (volume > 0).astype(np.uint8),
                "spacing": [5.0, 1.0, 2.0],
                "unit": "HU",
            }
        ]
    )
    return made


@pytest.mark.parametrize("name", plugins.names(modalities.GROUP))
def test_every_modality_that_draws_has_a_sheet(name: str, catalog: Catalog, tmp_path: Path) -> None:
    modality = modalities.get(name)
    if modality.preview is None:
        pytest.skip(f"samples of {name} are not drawn")
    made = catalog.create("data", modality=name)
    made.append([{"id": "one", **fake(modality)}])
    with Image.open(sample_sheet(made.select(), "one", tmp_path / "new" / "sheet.png")) as drawn:
        assert drawn.width > 600
        assert np.asarray(drawn.convert("L")).std() > 5  # something is there
    assert made.preview("one").content.startswith(b"\x89PNG")
    assert made.preview()._repr_png_().startswith(b"\x89PNG")


def test_a_page_steps_through_the_slices_as_they_are(scan: Any, tmp_path: Path) -> None:
    page = stepper(scan.select(), "a/b", tmp_path / "scan.html").read_text()
    found = re.search(r"const \[captions, pictures\] = (.*);\n", page)
    assert found is not None
    captions, pictures = json.loads(found[1])
    assert len(captions) == len(pictures) == 5
    assert captions[3] == "slice 3 of 5, lung window, -1350 to 150 HU"
    assert "http" not in page
    with Image.open(io.BytesIO(base64.b64decode(pictures[3].partition(",")[2]))) as picture:
        grey = np.asarray(picture.convert("L"))
    assert grey.shape == (16, 24)
    bright = np.flatnonzero(grey.mean(axis=1) > 100)
    assert bright.tolist() == [6, 7, 8]


def test_text_in_ids_stays_text(catalog: Catalog, tmp_path: Path) -> None:
    made = catalog.create("pairs", modality="image_pair")
    picture = np.zeros((4, 4, 3), np.uint8)
    made.append([{"id": "</title><script>alert(1)</script>", "before": picture, "after": picture}])
    page = stepper(made.select(), "</title><script>alert(1)</script>", tmp_path / "pair.html").read_text()
    assert "<script>alert" not in page


def test_a_page_goes_through_a_recording_and_through_the_variables_of_a_record(
    catalog: Catalog, tmp_path: Path
) -> None:
    recordings = catalog.create("recordings", modality="series")
    recordings.append([{"id": "one", "signal": np.zeros((2, 250), np.float32), "sampling_rate": 10.0}])
    page = stepper(recordings.select(), "one", tmp_path / "strips.html").read_text()
    assert re.findall(r"from [\d.]+ s on", page) == ["from 0 s on", "from 10 s on", "from 20 s on"]
    records = catalog.create("records", modality="series")
    records.append([{
        "id": "one", "times": np.array([0.0, 1.0, 2.0]), "variables": np.array([1, 0, 1]),
        "values": np.array([1.0, 2.0, 3.0]), "variable_names": ["heart rate", "pH"],
    }])  # fmt: skip
    page = stepper(records.select(), "one", tmp_path / "variables.html").read_text()
    assert "heart rate, 1 observations" in page
    assert "pH, 2 observations" in page
    assert page.count("data:image/webp") == 2


def test_what_cannot_be_drawn_is_said(scan: Any, catalog: Catalog, tmp_path: Path) -> None:
    with pytest.raises(UnknownSample, match="'nobody'"):
        sample_sheet(scan.select(), "nobody", tmp_path / "a.png")
    with pytest.raises(InvalidSetting, match="this will be a picture"):
        sample_sheet(scan.select(), "a/b", tmp_path / "a.txt")
    made = catalog.create("rows", modality="table", fields={"x": "int64"})
    made.append([{"id": "one", "x": 1}])
    with pytest.raises(UserError, match="have no preview"):
        made.preview("one")
    with pytest.raises(UserError, match="are one picture"):
        stepper(made.select(), "one", tmp_path / "a.html")
