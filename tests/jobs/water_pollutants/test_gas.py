"""The reader of the gas-sensor batches."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from sensorium.catalog import Catalog
from sensorium.jobs.water_pollutants import gas
from sensorium.jobs.water_pollutants.gas import gas_samples
from sensorium.jobs.water_pollutants.network import build
from sensorium.platform.errors import UnreadableFile


def line(name: str, first: float) -> str:
    return ",".join([name, "50.0", *(str(first + index) for index in range(128))]) + "\n"


def test_rows_become_samples_in_order(tmp_path: Path, catalog: Catalog) -> None:
    (tmp_path / "batch10.csv").write_text(line("Acetone", 1000))
    (tmp_path / "batch2.csv").write_text(line("Ethanol", 0) + line("Toluene", 200))
    (tmp_path / "notes.csv").write_text("not,a,batch\n")
    samples = list(gas_samples(tmp_path))
    assert [sample["id"] for sample in samples] == ["batch02-0000", "batch02-0001", "batch10-0000"]
    assert [sample["gas"] for sample in samples] == ["Ethanol", "Toluene", "Acetone"]
    assert (samples[1]["batch"], samples[1]["concentration"]) == (2, 50.0)
    features = samples[1]["features"]
    assert (features.shape, features.dtype) == ((16, 8), np.float32)
    assert features[3].tolist() == [200 + 24 + index for index in range(8)]  # a row is a sensor
    catalog.create("gas", modality="table", fields=gas.FIELDS, description=gas.DESCRIPTION).append(samples)
    assert np.array_equal(catalog["gas"].select()["batch10-0000"]["features"], samples[2]["features"])


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("Ethanol,1,2\n", "has 3 columns"),
        (line("Ethanol", 0) + line("Ethanol", 1).replace(",7.0,", ",x,").replace("50.0", "fifty"), "row 2 lacks"),
        (line("", 0), "row 1 lacks its gas"),
        ("", "cannot be read as CSV"),
    ],
)
def test_broken_batches_are_refused(tmp_path: Path, content: str, says: str) -> None:
    path = tmp_path / "batch1.csv"
    path.write_text(content)
    with pytest.raises(UnreadableFile, match=says) as caught:
        list(gas_samples(tmp_path))
    assert str(caught.value).startswith(f"{path}: ")


def test_a_folder_without_batches_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnreadableFile, match=r"holds no batch1\.dat"):
        list(gas_samples(tmp_path))


def test_real_exposures(shared_data: Path) -> None:
    samples = list(gas_samples(shared_data / "unclear/sensor_ts/uci_gas_drift"))
    assert len(samples) > 3000
    assert {sample["batch"] for sample in samples} == {1, 2, 3, 4, 5, 8, 9}
    assert len({sample["gas"] for sample in samples}) == 6
    windows = torch.tensor(np.stack([sample["features"] for sample in samples[:4]]))
    assert build("cnn", 16, 8, 6, padding="same")(windows).shape == (4, 6)


def test_published_and_plain_layout_are_the_same(tmp_path: Path, catalog: Catalog) -> None:
    for name in ("dat", "csv"):
        (tmp_path / name).mkdir()
    values = [f"{index}:{index * 0.5:.6f}" for index in range(1, 129)]
    (tmp_path / "dat" / "batch3.dat").write_text(f"6;12.5 {' '.join(values)} \n")
    plain = [value.partition(":")[2] for value in values]
    (tmp_path / "csv" / "batch3.csv").write_text(",".join(["Toluene", "12.5", *plain]) + "\n")
    (published,), (other,) = gas_samples(tmp_path / "dat"), gas_samples(tmp_path / "csv")
    assert np.array_equal(published.pop("features"), other.pop("features"))
    assert published == other == {"id": "batch03-0000", "gas": "Toluene", "concentration": 12.5, "batch": 3}
    report = catalog.ingest(tmp_path / "dat", "gas")
    assert (report.format, report.added, report.failed) == ("gas_drift", 1, [])
