"""A real Chromium over a real service: the fixtures and steps that the browser tests share.

A test module imports the fixtures that it uses, and ``pytestmark``. Each module has a browser of its own, and not each
process: while Playwright runs, no other test of the process could run an event loop.
"""

from __future__ import annotations

import gc
import io
import os
import shutil
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sensorium.catalog import Catalog
from sensorium.serve.options import ServeOptions
from tests.serve.running import running

__all__ = [
    "PHONE",
    "SCREEN",
    "Site",
    "browser",
    "choose",
    "complete",
    "folder",
    "pixels",
    "pytestmark",
    "serve",
    "settle",
]

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install playwright")

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
FLAGS += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
#: pixels, width and height
SCREEN, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}

pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here: apt-get install chromium"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # Gradio's own, in its threads
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]


def _matters(message: Any) -> bool:
    """Whether the browser complains; that a site has no icon at its root is none of the pages' business."""
    return message.type == "error" and not message.location["url"].endswith("/favicon.ico")


class Site:
    """A browser at one service: a person with a light and a dark screen.

    A screen keeps its page, and goes from address to address as people do: a new page starts a process of the browser and
    compiles Gradio's scripts again, which takes longer than most tests.
    """

    def __init__(self, browser: Any, base: str, folder: Path) -> None:
        self.browser, self.base, self.folder = browser, base, folder
        self._pages: dict[str, Any] = {}

    def open(self, address: str, done: str = ".page h1", *, dark: bool = False) -> Any:
        """The page at an address, once ``done`` is there; it notes what it asks for and what it complains of."""
        page = self._page("dark" if dark else "light")
        page.unroute_all()
        page.goto("about:blank")  # nothing of the page before is noted as this one's
        page.set_viewport_size(SCREEN)
        page.asked, page.complaints, page.waiting = [], [], set()
        page.goto(self.base + address)
        page.locator(done).first.wait_for()
        return page

    def _page(self, scheme: str) -> Any:
        if scheme in self._pages:
            return self._pages[scheme]
        page = self._pages[scheme] = self.browser.new_context(viewport=SCREEN, color_scheme=scheme).new_page()
        page.set_default_timeout(20_000)
        page.asked, page.complaints, page.waiting = [], [], set()
        page.on("request", lambda request: (page.asked.append(request.url), page.waiting.add(request)))
        page.on("requestfinished", lambda request: page.waiting.discard(request))
        page.on("requestfailed", lambda request: page.waiting.discard(request))
        page.on("console", lambda message: page.complaints.append(message.text) if _matters(message) else None)
        page.on("response", lambda answer: page.complaints.append(answer.url) if answer.status >= 400 else None)
        page.on("pageerror", lambda error: page.complaints.append(str(error)))
        return page

    def keep(self, page: Any, name: str) -> None:
        """A picture of the page for people to look at, where a folder for pictures is named."""
        if "SENSORIUM_SCREENSHOTS" in os.environ:
            page.screenshot(path=self.folder / f"{name}.png", full_page=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where screenshots go."""
    named = os.environ.get("SENSORIUM_SCREENSHOTS")
    chosen = Path(named) if named else tmp_path_factory.mktemp("screenshots")
    chosen.mkdir(parents=True, exist_ok=True)
    return chosen


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def serve(browser: Any, folder: Path) -> Iterator[Callable[[Catalog], Site]]:
    """Serves a lake until the module ends."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        services: list[Any] = []

        def start(catalog: Catalog) -> Site:
            service = running(catalog, ServeOptions(port=0))
            client = service.__enter__()
            services.append(service)
            return Site(browser, f"{client.base_url}/ui/", folder)

        yield start
        for context in browser.contexts:  # a service waits for those who still listen to it
            context.close()
        for service in services:
            service.__exit__(None, None, None)
        gc.collect()  # Gradio leaves event loops open: they complain here, not in somebody else's test


def settle(page: Any) -> None:
    """Wait until the page has been answered, and has asked for nothing new for a moment."""
    known = -1
    while known != len(page.asked) or any("/heartbeat/" not in one.url for one in page.waiting):
        known = len(page.asked)
        page.wait_for_timeout(100)


def choose(page: Any, label: str, option: str) -> None:
    """Take an option of a dropdown."""
    page.get_by_label(label, exact=True).first.click()
    page.get_by_role("option", name=option, exact=True).click()


def pixels(page: Any, image: Any) -> np.ndarray[Any, Any]:
    """What a picture of the page holds, as it was sent."""
    source = image.get_attribute("src")
    with Image.open(io.BytesIO(page.request.get(source).body())) as found:
        return np.asarray(found.convert("RGB"))


_UNNAMED = """() => [...document.querySelectorAll('input,textarea,select,button,[role=slider],[role=tab],img')].filter(e => {
  if (!e.checkVisibility() || e.closest('.js-plotly-plot')) return false;
  const by = (e.getAttribute('aria-labelledby') || '').split(' ').map(i => document.getElementById(i)).filter(Boolean);
  const named = e.getAttribute('aria-label') || e.getAttribute('title') || e.alt || e.innerText
    || (e.labels && [...e.labels].map(l => l.innerText).join('')) || by.map(b => b.innerText).join('')
    || [...e.querySelectorAll('img')].map(i => i.alt).join('');
  return !(named || '').trim();
}).map(e => e.outerHTML.slice(0, 160))"""


def complete(page: Any, site: Site, name: str) -> None:
    """Nothing is fetched from elsewhere, nothing is without a name, nothing is wider than a phone."""
    settle(page)
    site.keep(page, name)
    own = site.base.removesuffix("/ui/")
    assert [url for url in page.asked if not url.startswith((own, "data:", "blob:"))] == []
    assert page.complaints == []
    assert page.evaluate(_UNNAMED) == []
    assert page.locator("h1").count() == 1
    page.set_viewport_size(PHONE)
    page.wait_for_timeout(150)
    site.keep(page, f"{name}-phone")
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
