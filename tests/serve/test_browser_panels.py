"""The panels in a real browser: what they show is what the models say in this process."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sensorium.catalog import Catalog
from sensorium.jobs.training.method import load_model
from tests.serve import panels_lake, small_cnn
from tests.serve.browser import (  # noqa: F401 - fixtures
    Site,
    browser,
    choose,
    complete,
    folder,
    pytestmark,
    serve,
    settle,
)
from tests.serve.running import installed

#: a first prediction loads the model
SLOW = 30_000


@pytest.fixture(scope="module", autouse=True)
def _small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with installed(tmp_path_factory.mktemp("site")):
        yield


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    filled = panels_lake.fill(tmp_path_factory.mktemp("panels") / "lake")
    panels_lake.fit_water(filled)
    return filled


@pytest.fixture(scope="module")
def site(serve: Callable[[Catalog], Site], lake: Catalog) -> Site:  # noqa: F811
    return serve(lake)


def opened(site: Site, system: str, *, dark: bool = False) -> Any:
    """A panel whose first sample is chosen and drawn."""
    page = site.open(system, "img[alt^='Sample ']", dark=dark)
    page.get_by_text("About this model").wait_for()
    return page


def told(page: Any, field: str = "predicted") -> str:
    """What the panel says of a field, once it says it."""
    value = page.locator(f"#answer [data-field={field}] b")
    value.wait_for(timeout=SLOW)
    text: str = value.inner_text()
    return text


def upload(page: Any, content: bytes, name: str = "mine.png") -> None:
    """Choose a file on the second tab as soon as one can be chosen, and ask at once."""
    page.get_by_role("tab", name="Your own file").click()
    page.locator("input[type=file]").first.set_input_files(
        {"name": name, "mimeType": "application/octet-stream", "buffer": content}
    )
    page.get_by_role("button", name="Predict this file").click()


def test_a_sample_of_the_lake_gets_the_models_answer(site: Site, lake: Catalog) -> None:
    page = opened(site, "small_cnn")
    assert page.get_by_label("Model", exact=True).first.input_value().startswith("small@1, production")
    choose(page, "Sample (one of the first 50, or any id)", "picture1")
    page.locator("img[alt='Sample picture1 of photos']").wait_for()
    page.get_by_role("button", name="Predict this sample").click()
    expected = small_cnn.predicted(lake.model("small@1"), panels_lake.PICTURES[1])
    assert told(page) == expected["predicted"]
    answer = page.locator("#answer")
    assert "Answered by small@1" in answer.inner_text()
    assert "cat & dog" in answer.inner_text()
    assert answer.locator("figure img").evaluate("image => image.naturalWidth") > 100
    with page.expect_download() as download:
        page.get_by_role("button", name="Result as NPZ").first.click()
    with np.load(download.value.path()) as saved:
        np.testing.assert_allclose(saved["probabilities"], expected["probabilities"], atol=1e-6)
        assert str(saved["answered_by"]) == "small@1"
    with page.expect_download() as download:
        page.get_by_role("button", name="Result as JSON").first.click()
    assert json.loads(Path(download.value.path()).read_text())["result"]["predicted"] == expected["predicted"]
    complete(page, site, "panel-small")


def test_another_version_gives_its_own_answer(site: Site, lake: Catalog) -> None:
    page = opened(site, "small_cnn")
    page.get_by_label("Model", exact=True).first.click()
    page.get_by_role("option", name="small@2").click()
    page.locator("dd", has_text="small@2").wait_for()
    page.get_by_role("button", name="Predict this sample").click()
    page.get_by_text("Answered by small@2").wait_for(timeout=SLOW)
    assert told(page) == small_cnn.predicted(lake.model("small@2"), panels_lake.PICTURES[0])["predicted"]


def test_a_file_of_ones_own_gets_the_models_answer(site: Site, lake: Catalog) -> None:
    page = opened(site, "small_cnn")
    picture = np.full((64, 64, 3), (200, 30, 90), np.uint8)
    upload(page, panels_lake.png(picture))
    assert told(page) == small_cnn.predicted(lake.model("small@1"), picture)["predicted"]
    assert "your own file" in page.locator("#answer").inner_text()
    complete(page, site, "panel-file")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (panels_lake.png(panels_lake.PICTURES[0, :40]), "(64, 64, 3) is needed"),
        (panels_lake.png(panels_lake.PICTURES[0])[:900], "cannot be decoded"),
        (b"\x7fELF program", "a program"),
    ],
)
def test_a_file_that_cannot_be_used_is_a_sentence(content: bytes, says: str, site: Site) -> None:
    page = opened(site, "small_cnn")
    page.get_by_role("button", name="Predict this sample").click()
    told(page)
    upload(page, content)
    alert = page.locator("#answer [role=alert]")
    alert.wait_for()
    site.keep(page, f"panel-refused-{len(content)}")
    assert says in alert.inner_text()
    assert "Traceback" not in alert.inner_text()
    assert page.locator("#answer [data-field]").count() == 0  # the answer before does not stay beside it
    assert not page.get_by_role("button", name="Result as NPZ").first.is_visible()


def test_an_id_that_is_none_is_a_sentence(site: Site) -> None:
    page = opened(site, "small_cnn")
    box = page.get_by_label("Sample (one of the first 50, or any id)").first
    box.fill("nobody")
    box.press("Enter")
    page.get_by_role("button", name="Predict this sample").click()
    page.locator("#answer [role=alert]").wait_for()
    assert "has no sample 'nobody'" in page.locator("#answer").inner_text()


def test_two_people_get_their_own_results(site: Site, lake: Catalog) -> None:
    people = [site, Site(site.browser, site.base, site.folder)]  # each with a browser context of its own
    pages = [opened(person, "small_cnn") for person in people]
    pictures = [np.full((64, 64, 3), 20, np.uint8), panels_lake.PICTURES[2]]
    for page, picture in zip(pages, pictures, strict=True):
        upload(page, panels_lake.png(picture))
    for page, picture in zip(pages, pictures, strict=True):
        expected = small_cnn.predicted(lake.model("small@1"), picture)
        assert told(page) == expected["predicted"]
        with page.expect_download() as download:
            page.get_by_role("button", name="Result as NPZ").first.click()
        with np.load(download.value.path()) as saved:
            np.testing.assert_allclose(saved["probabilities"], expected["probabilities"], atol=1e-6)


def test_a_file_that_is_still_on_its_way_is_waited_for(site: Site, lake: Catalog) -> None:
    page = opened(site, "small_cnn")
    held: list[Any] = []
    page.route("**/upload?*", lambda route: held.append(route))
    upload(page, panels_lake.png(panels_lake.PICTURES[1]))
    page.wait_for_timeout(500)  # time enough to be asked without it
    assert len(held) == 1
    assert page.locator("#answer [role=alert], #answer [data-field]").count() == 0  # no complaint that there is no file
    held[0].continue_()
    expected = small_cnn.predicted(lake.model("small@1"), panels_lake.PICTURES[1])
    assert told(page) == expected["predicted"]


def test_what_is_chosen_stays_when_another_version_needs_the_same(site: Site, lake: Catalog) -> None:
    page = opened(site, "small_cnn")
    upload(page, panels_lake.png(panels_lake.PICTURES[1]))
    told(page)
    page.get_by_label("Model", exact=True).first.click()
    page.get_by_role("option", name="small@2").click()
    page.locator("dd", has_text="small@2").wait_for()
    settle(page)
    page.get_by_role("button", name="Predict this file").click()
    page.get_by_text("Answered by small@2").wait_for(timeout=SLOW)
    assert told(page) == small_cnn.predicted(lake.model("small@2"), panels_lake.PICTURES[1])["predicted"]


def test_water_of_the_lake_and_of_ones_own(site: Site, lake: Catalog) -> None:
    method, fitted = load_model(lake.model("water"))
    sample = lake["liquids"].select()[2]
    (expected,) = method.predict(fitted, [{"id": sample.id, "signal": sample["signal"]}])
    page = opened(site, "water_pollutants")
    choose(page, "Sample (one of the first 50, or any id)", sample.id)
    page.locator(f"img[alt='Sample {sample.id} of liquids']").wait_for()
    page.get_by_role("button", name="Predict this sample").click()
    assert told(page) == expected["predicted"]
    assert told(page, "confidence") == f"{expected['confidence']:.4g}"
    assert page.locator("#answer figure img").count() == 2
    about = page.locator("text=95 % interval").first
    about.wait_for()
    complete(page, site, "panel-water")

    page = opened(site, "water_pollutants")
    content = io.BytesIO()
    np.save(content, sample["signal"])
    upload(page, content.getvalue(), "readings.npy")
    page.locator("#answer [role=alert]").wait_for()
    assert "Give sampling_rate in Hz" in page.locator("#answer").inner_text()
    page.get_by_role("button", name="Further values").click()
    page.get_by_label("sampling_rate (Hz)").fill("0.5")
    page.get_by_role("button", name="Predict this file").click()
    assert told(page) == expected["predicted"]
    site.keep(page, "panel-water-file")


def test_a_random_sample(site: Site, lake: Catalog) -> None:
    page = opened(site, "small_cnn")
    box = page.get_by_label("Sample (one of the first 50, or any id)").first
    seen = {box.input_value()}
    for _ in range(20):
        page.get_by_role("button", name="Random sample").click()
        settle(page)
        seen.add(box.input_value())
        if len(seen) > 1:
            break
    assert len(seen) > 1
    assert seen <= {"picture0", "picture1", "picture2"}


def test_without_a_model_the_command_is_there(site: Site) -> None:
    page = site.open("clinical_series", "text=No model of clinical_series is fitted yet")
    assert page.locator("pre").first.inner_text() == "sensorium fit clinical_series --data NAME"
    assert "In goes what was measured" in page.content()
    assert not page.get_by_role("button", name="Predict this sample").is_visible()
    complete(page, site, "panel-empty")


def test_a_panel_in_the_dark(site: Site) -> None:
    page = opened(site, "water_pollutants", dark=True)
    page.get_by_role("button", name="Predict this sample").click()
    told(page)
    settle(page)
    site.keep(page, "panel-dark")
    assert page.complaints == []
