"""The published protocol and the claim's experiment at the smallest scale that says anything."""

from __future__ import annotations

import logging
from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest

from sensorium.catalog import Catalog
from sensorium.catalog.fields import ScalarField
from sensorium.jobs.building_change import reproduction, simulator
from sensorium.jobs.training.measures import Figure
from sensorium.jobs.training.reproduction import Reproduction, reproduce
from sensorium.platform.errors import InvalidSetting, UserError
from sensorium.platform.settings import Settings

SMALL = ("width=0.25", "depth=1.0", "tile=32", "overlap=8", "batch_size=4")


@pytest.fixture
def published(tmp_path: Path) -> Catalog:
    catalog = Catalog(tmp_path)
    made = catalog.create("levir", modality="image_pair", fields=[ScalarField("split", pa.string())])
    parts = ["train"] * 4 + ["val"] * 2 + ["test"] * 2
    scenes = simulator.samples(len(parts), 64)
    made.append(
        {**{name: value for name, value in scene.items() if name != "simulated"}, "split": part}
        for scene, part in zip(scenes, parts, strict=True)
    )
    return catalog


def test_a_protocol_uses_the_published_parts_and_says_what_it_costs(
    published: Catalog, caplog: pytest.LogCaptureFixture
) -> None:
    logging.getLogger("sensorium").propagate = True
    request = Reproduction(published, Settings(), quick=True, data="levir", changes=SMALL, protocol="levir")
    with caplog.at_level(logging.WARNING):
        done = reproduce("building_change", request)
    assert "16 tiles for training, 4 steps of" in caplog.text
    assert "reproduce building_change --quick --protocol levir --data levir" in done.markdown
    assert "over 2 test scenes; the paper has 0.9141" in done.finding.shown
    table = done.finding.sections[0].table
    assert table.filter(pl.col("") == "paper")["f1"].to_list() == [0.9141]
    assert done.folder.endswith("reports/building_change/levir")
    assert published.models()["name"].to_list() == ["building_change"]


def test_protocols_that_cannot_be_run_are_told(published: Catalog) -> None:
    with pytest.raises(InvalidSetting, match="one of levir, s2looking, whu"):
        reproduce("building_change", Reproduction(published, Settings(), protocol="oscd", data="levir"))
    with pytest.raises(InvalidSetting, match="LEVIR-CD is not part of the project"):
        reproduce("building_change", Reproduction(published, Settings(), protocol="levir"))
    with pytest.raises(UserError, match="cannot protocol"):
        reproduce("water_pollutants", Reproduction(published, Settings(), protocol="levir"))


def _rows(shift: int) -> reproduction._Found:
    rows = pl.DataFrame(
        {"id": [f"s{n}" for n in range(20)], "seed": [0] * 20, "fold": [0] * 20, "tp": [50 - shift] * 20,
         "fp": [n % 3 for n in range(20)], "fn": [10 + shift] * 20}
    )  # fmt: skip
    return reproduction._Found(rows, pl.DataFrame({"f1": [0.5], "seconds": [1.0]}))


@pytest.mark.parametrize(("cnn", "gabor", "word"), [(20, 20, "yes"), (20, 0, "in part"), (-5, -5, "no")])
def test_the_verdict_follows_the_intervals(cnn: int, gabor: int, word: str) -> None:
    found = {"both encoders": _rows(0), "EfficientNet alone": _rows(cnn), "Gabor alone": _rows(gabor)}
    differences = reproduction._differences(found)
    assert isinstance(differences["Gabor alone"], Figure)
    assert reproduction._verdict(found, differences).startswith(f"{word}.")
    assert reproduction._table(found).height == 3
