"""What stands around the pages, in a real Chromium: signing in, the description of the API, the policy on content."""

from __future__ import annotations

import gc
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sensorium.catalog import Catalog
from sensorium.serve.options import ServeOptions
from tests.serve import small_cnn
from tests.serve.browser import browser, pytestmark  # noqa: F401 - fixtures
from tests.serve.running import installed, running

TOKEN = "a-token-for-tests-only"


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("front")
    with warnings.catch_warnings(), installed(folder / "site"):
        warnings.simplefilter("ignore")  # of Gradio
        catalog = Catalog(folder / "lake")
        small_cnn.save(catalog)
        with running(catalog, ServeOptions(port=0, token=TOKEN)) as client:
            yield str(client.base_url)
        gc.collect()  # Gradio leaves event loops open: they complain here, not in somebody else's test


@pytest.fixture
def page(browser: Any, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Any]:  # noqa: F811
    context = browser.new_context()
    opened = context.new_page()
    opened.asked, opened.said = [], []
    opened.on("request", lambda asked: opened.asked.append(asked.url))
    opened.on("console", lambda message: opened.said.append(message.text))
    yield opened
    folder = Path(os.environ.get("SENSORIUM_SCREENSHOTS") or tmp_path)
    opened.screenshot(path=str(folder / f"{request.node.name}.png"))
    context.close()


def sign_in(page: Any, address: str, token: str = TOKEN) -> None:
    page.goto(address)
    page.get_by_label("Token of this server").fill(token)
    page.get_by_role("button", name="Sign in").click()


def test_signing_in_leads_to_the_pages(page: Any, address: str) -> None:
    sign_in(page, address, "not-the-token-at-all")
    page.get_by_text("That is not the token").wait_for()
    sign_in(page, address)
    page.get_by_role("heading", name="In the lake").wait_for()
    assert page.url.startswith(f"{address}/ui")
    assert not [cookie for cookie in page.context.cookies() if TOKEN in cookie["value"]]
    page.goto(f"{address}/ui/")
    page.get_by_role("heading", name="In the lake").wait_for()


def test_nothing_is_loaded_from_elsewhere_and_nothing_is_blocked(page: Any, address: str) -> None:
    sign_in(page, address)
    page.get_by_role("heading", name="In the lake").wait_for()
    page.goto(f"{address}/docs")
    page.get_by_text("/v1/models/{reference}/predict").first.wait_for()
    hosts = {url.split("/")[2] for url in page.asked if url.startswith("http")}
    assert hosts == {address.removeprefix("http://")}
    assert not [said for said in page.said if "Content Security Policy" in said]


def test_a_strangers_page_cannot_ask(page: Any, address: str) -> None:
    sign_in(page, address)
    page.get_by_role("heading", name="In the lake").wait_for()
    page.goto("data:text/html,<p>elsewhere</p>")
    answer = page.evaluate(
        "address => fetch(address + '/v1/query', {method: 'POST', credentials: 'include', "
        "headers: {'content-type': 'text/plain'}, body: '{}'}).then(r => r.status, e => 'refused')",
        address,
    )
    assert answer == "refused"
