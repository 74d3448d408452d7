"""Systems without a model behind the service: over HTTP, through the gateway, on their page."""

from __future__ import annotations

import io
from collections.abc import Iterator
from urllib.parse import quote

import httpx
import numpy as np
import pytest
from PIL import Image

from sensorium.catalog import Catalog
from sensorium.jobs.shape_tree import area_opening, mean_filter
from sensorium.platform.errors import InvalidSetting
from sensorium.serve.options import ServeOptions
from sensorium.serve.panels.settings import with_settings
from tests.serve.running import running

IMAGE = np.random.default_rng(0).integers(0, 60, (24, 30)).astype(np.uint8)
PLACE = "/v1/models/shape_tree/predict"


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    catalog = Catalog(tmp_path_factory.mktemp("lake"))
    samples = [{"id": "noise", "image": IMAGE[..., np.newaxis]}, {"id": "sky", "image": np.zeros((9, 9, 3), np.uint8)}]
    catalog.create("photos", modality="image").append(samples)
    return catalog


@pytest.fixture(scope="module")
def client(lake: Catalog) -> Iterator[httpx.Client]:
    with running(lake, ServeOptions(port=0, pages=False)) as found:
        yield found


def png() -> bytes:
    content = io.BytesIO()
    Image.fromarray(IMAGE).save(content, "PNG")
    return content.getvalue()


def result(answer: httpx.Response) -> np.ndarray:
    assert answer.status_code == 200, answer.text
    return np.array(answer.json()["result"]["image"])[..., 0]


def test_a_picture_goes_through_the_operator_as_it_is_set(client: httpx.Client) -> None:
    np.testing.assert_array_equal(result(client.post(PLACE, content=png())), mean_filter(IMAGE, 10).image)
    opened = area_opening(IMAGE, 7).image
    query = [("set", "operator=area_opening"), ("set", "area=7")]
    answer = client.post(PLACE, content=png(), params=query)
    np.testing.assert_array_equal(result(answer), opened)
    assert answer.json()["model"] == "shape_tree?area=7&operator=area_opening"
    named = quote(answer.json()["model"], safe="")
    np.testing.assert_array_equal(result(client.post(f"/v1/models/{named}/predict", content=png())), opened)


def test_samples_of_the_lake(client: httpx.Client) -> None:
    asked = {"dataset": "photos", "ids": ["noise", "sky"]}
    first, second = client.post(PLACE, json=asked, params={"set": "iterations=1"}).json()["results"]
    np.testing.assert_array_equal(np.array(first["result"]["image"])[..., 0], mean_filter(IMAGE, 1).image)
    assert second["result"]["nodes"] == 1


def test_pictures_and_a_file_of_the_result(client: httpx.Client) -> None:
    drawn = client.post(PLACE, content=png(), params={"pictures": "true"}).json()["pictures"]
    assert {"before", "after"} <= set(drawn)
    answer = client.post(PLACE, content=png(), params={"format": "npz", "set": "tree=true"})
    with np.load(io.BytesIO(answer.content), allow_pickle=False) as held:
        assert held["node_of_pixel"].shape == (26, 32)


def test_what_it_is_and_how_it_is_set(client: httpx.Client) -> None:
    about = client.get("/v1/models/shape_tree").json()
    assert (about["system"], about["modality"], about["fields"]) == ("shape_tree", "image", ["image"])
    assert about["configuration"]["iterations"] == 10
    systems = {one["name"]: one for one in client.get("/v1/systems").json()}
    assert "predict" in systems["shape_tree"]["operations"]


@pytest.mark.parametrize(
    ("query", "why"),
    [
        ({"set": "area=0"}, "area must be from 1"),
        ({"set": "nonsense=1"}, "there is no setting 'nonsense'"),
        ({"set": "area"}, "KEY=VALUE"),
    ],
)
def test_settings_that_it_cannot_have(client: httpx.Client, query: dict[str, str], why: str) -> None:
    answer = client.post(PLACE, content=png(), params=query)
    assert answer.status_code == 422
    assert why in answer.json()["error"]


def test_a_model_takes_no_settings(client: httpx.Client) -> None:
    answer = client.post("/v1/models/water_pollutants/predict", content=png(), params={"set": "width=3"})
    assert answer.status_code == 422
    assert "predicts with a fitted model" in answer.json()["error"]


def test_settings_do_not_become_labels_of_counters(client: httpx.Client) -> None:
    client.post(PLACE, content=png(), params={"set": "area=77"})
    text = client.get("/metrics").text
    assert 'model="shape_tree"' in text
    assert "77" not in [part for line in text.splitlines() for part in line.split('"')]
    assert "area=77" not in text


def test_inputs_become_settings() -> None:
    values = {"operator": "quantise", "levels": " 8 ", "tree": True, "criterion": "area < 3"}
    subject = with_settings("shape_tree", values)
    assert (subject.config.operator, subject.config.levels, subject.config.tree) == ("quantise", 8, True)
    with pytest.raises(InvalidSetting, match="levels must be a whole number"):
        with_settings("shape_tree", {"levels": "many"})
