"""The main job, as a newcomer runs it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from sensorium.catalog import Catalog
from sensorium.jobs.demo.photographs import PHOTOGRAPHS

pytestmark = pytest.mark.slow


def test_it_succeeds_and_says_where_everything_is(demo: Any) -> None:
    assert demo.code == 0, demo.errors
    assert "240 cells computed, 0 there already, 0 errors" in demo.output
    places = [line.split()[-1] for line in demo.output.splitlines() if line.strip().startswith(("contact", "rate–"))]
    assert len(places) == 6
    for place in places:
        with Image.open(place) as picture:
            assert picture.size[0] > 300


def test_the_photographs_are_those_in_the_packages(demo: Any) -> None:
    import skimage

    photographs = Catalog(demo.folder / "lake")["photographs"].select()
    assert {sample.id for sample in photographs} == {name.rpartition(".")[0] for name in PHOTOGRAPHS}
    with Image.open(Path(skimage.__file__).parent / "data" / "astronaut.png") as picture:
        original = np.asarray(picture)
    np.testing.assert_array_equal(photographs["astronaut"]["image"], original)
    assert photographs["china"]["package"] == "sklearn"


def test_what_is_simulated_says_so(demo: Any) -> None:
    catalog = Catalog(demo.folder / "lake")
    for row in catalog.datasets().iter_rows(named=True):
        if row["name"] not in ("photographs", "photographs_rate_distortion"):
            assert "simulated" in row["description"]
            assert all(catalog[row["name"]].select().frame()["simulated"].cast(str).str.to_lowercase().is_in(["true"]))
        else:
            assert "simulated" not in row["description"]


def test_more_bits_buy_more_quality(demo: Any) -> None:
    rows = Catalog(demo.folder / "lake").sql(
        "SELECT codec, quality, AVG(bits_per_pixel) AS rate, AVG(psnr) AS psnr, AVG(ssim) AS ssim "
        "FROM photographs_rate_distortion GROUP BY codec, quality ORDER BY codec, rate"
    )
    for _, curve in rows.group_by("codec"):
        assert curve["psnr"].is_sorted()
        assert curve["ssim"].is_sorted()


def test_everything_is_whole_and_derived_data_knows_its_source(demo: Any) -> None:
    catalog = Catalog(demo.folder / "lake")
    for name in catalog:
        assert catalog[name].verify().is_empty()
    edges = catalog.lineage("photographs_rate_distortion")
    assert set(edges["made_from"]) == {"photographs"}
    assert set(catalog.runs()["state"]) == {"finished"}
    assert set(catalog.runs()["kind"]) == {"sweep", "fit"}


def test_two_small_systems_are_fitted_and_recorded(demo: Any) -> None:
    catalog = Catalog(demo.folder / "lake")
    models = catalog.models()
    assert set(models["name"]) == {"water_pollutants", "eeg_obesity"}
    for name in models["name"]:
        model = catalog.model(name)
        assert model.metrics["steps"] > 0
        assert f"{model.reference}: {model.metrics['steps']} steps" in demo.output
        assert not catalog.records(model.run).is_empty()


def test_a_second_run_has_nothing_to_do(demo: Any) -> None:
    versions = Catalog(demo.folder / "lake").datasets().select("name", "version")
    again = subprocess.run(
        ["sensorium", "demo", "--no-serve"],
        cwd=demo.folder,
        env=demo.environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "0 cells computed, 240 there already" in again.stdout
    assert Catalog(demo.folder / "lake").datasets().select("name", "version").equals(versions)


def test_it_serves_what_it_made_until_it_is_stopped(demo: Any) -> None:
    process = subprocess.Popen(
        ["sensorium", "demo", "--port", "0"],
        cwd=demo.folder,
        env=demo.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        said = []
        address = ""
        for line in process.stdout or ():
            said.append(line)
            found = re.search(r" at (http://127\.0\.0\.1:\d+)", line)
            if found:
                address = found[1]
                break
        assert address, "".join(said)
        with httpx.Client(base_url=address, timeout=60) as client:
            assert "Sensorium" in client.get("/", follow_redirects=True).text
            names = {model["name"] for model in client.get("/v1/models").json()}
            assert names == {"water_pollutants", "eeg_obesity"}
            rows = client.get("/v1/datasets/water_simulated/samples", params={"limit": 1}).json()["rows"]
            asked = {"dataset": "water_simulated", "ids": [rows[0]["id"]]}
            answer = client.post("/v1/models/water_pollutants/predict", json=asked)
            assert answer.status_code == 200, answer.text
            classes = Catalog(demo.folder / "lake").model("water_pollutants").preprocessing["classes"]
            assert answer.json()["results"][0]["result"]["predicted"] in classes
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        if process.stdout is not None:
            process.stdout.close()
