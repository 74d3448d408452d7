"""The page of a system without a model, in a real browser: its settings are those of the answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from sensorium.catalog import Catalog
from sensorium.jobs.shape_tree import area_opening, mean_filter
from sensorium.platform import systems
from tests.serve.browser import (  # noqa: F401 - fixtures
    Site,
    browser,
    choose,
    complete,
    folder,
    pixels,
    pytestmark,
    serve,
    settle,
)

IMAGE = np.random.default_rng(0).integers(0, 60, (40, 48)).astype(np.uint8)


@pytest.fixture(scope="module")
def site(serve: Callable[[Catalog], Site], tmp_path_factory: pytest.TempPathFactory) -> Site:  # noqa: F811
    catalog = Catalog(tmp_path_factory.mktemp("lake"))
    catalog.create("photos", modality="image").append([{"id": "noise", "image": IMAGE[..., np.newaxis]}])
    samples, attributes = systems.get("lung_segmentation").operation("predict").example(None, 0)
    scans = catalog.create("scans", modality="volume", attributes=attributes)
    scans.append(samples[:1])
    return serve(catalog)


def nodes(page: Any) -> int:
    value = page.locator("#answer [data-field=nodes] b")
    value.wait_for(timeout=30_000)
    return int(value.inner_text().replace(",", ""))


def test_an_operator_answers_with_the_settings_of_its_page(site: Site) -> None:
    page = site.open("shape_tree", "img[alt^='Sample ']")
    page.get_by_role("button", name="Predict this sample").click()
    assert nodes(page) == mean_filter(IMAGE, 10).tree.node_count
    assert page.locator("#answer figure img").count() >= 2

    area = page.get_by_label("area", exact=True)
    area.fill("0")
    area.blur()
    page.get_by_text("Area must be from 1").wait_for()
    area.fill("12")
    area.blur()
    choose(page, "operator", "area_opening")
    page.get_by_role("button", name="Predict this sample").click()
    page.get_by_text("Answered by shape_tree?area=12&operator=area_opening").wait_for(timeout=30_000)
    assert nodes(page) == area_opening(IMAGE, 12).tree.node_count
    complete(page, site, "panel-operator")


def test_a_volume_is_walked_through_with_what_was_found(site: Site) -> None:
    page = site.open("lung_segmentation", "img[alt^='Sample ']")
    page.get_by_role("button", name="Predict this sample").click()
    page.locator("#answer [data-field=right_ml] b").wait_for(timeout=60_000)
    page.locator("#slice0").scroll_into_view_if_needed()
    image = page.locator("img[alt^='Axial']")
    image.wait_for()
    tinted = pixels(page, image)
    assert (tinted != tinted[..., :1]).any()  # grey but for the lungs
    source = image.get_attribute("src")
    page.get_by_label("Show the mask").uncheck()
    page.wait_for_function("s => document.querySelector('img[alt^=Axial]').src !== s", arg=source)
    plain = pixels(page, image)
    assert (plain == plain[..., :1]).all()
    source = image.get_attribute("src")
    choose(page, "Window preset", "Lung")
    page.wait_for_function("s => document.querySelector('img[alt^=Axial]').src !== s", arg=source)
    settle(page)
    assert (pixels(page, image) != plain).any()
    complete(page, site, "panel-volume")
