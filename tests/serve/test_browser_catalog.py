"""The pages in a real browser over a real service: what is shown is what is in the lake."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest
import scipy.io.wavfile

from sensorium.catalog import Catalog
from sensorium.jobs.machine_quality import analysis
from sensorium.jobs.planned import PLANNED
from sensorium.platform import systems
from sensorium.serve.gateway import Gateway
from sensorium.serve.pages.markup import title_of
from sensorium.serve.pages.viewers import audio, panorama, volume
from tests.serve import pages_lake
from tests.serve.browser import (  # noqa: F401 - fixtures
    PHONE,
    SCREEN,
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

ADDRESSES = {
    "home": "",
    "catalog": "catalog",
    "samples": "dataset?name=photos",
    "about": "dataset?name=leaves&tab=about",
    "history": "dataset?name=photos&tab=history",
    "lineage": "dataset?name=photos&tab=lineage",
    "table": "dataset?name=photos_sweep",
    "image": "sample?name=photos&id=photo03",
    "image_pair": "sample?name=blocks&id=block0",
    "panorama": "sample?name=rooms&id=hall",
    "hyperspectral": "sample?name=leaves&id=leaf0",
    "volume": "sample?name=chests&id=scan0",
    "audio": "sample?name=voices&id=sweep",
    "series": "sample?name=brains&id=night",
    "stay": "sample?name=stays&id=stay1",
    "frames": "sample?name=clips&id=frames",
    "stream": "sample?name=clips&id=stream",
    "scene": "sample?name=garden&id=gate",
    "query": "query?q=" + quote("SELECT id, label FROM photos"),
    "sweeps": "sweeps",
}
#: what is there when a page is done
DONE = {"home": "text=Health of the service", "catalog": "text=photos_sweep", "samples": "#samples img"}
DONE |= {
    "about": "text=Fields of a sample",
    "history": "[role=gridcell]:has-text('a bird after all')",
    "lineage": ".lineage svg",
}
DONE |= {"table": "#rows [role=gridcell]", "query": "#result [role=gridcell]", "sweeps": "#curves .js-plotly-plot"}
SAMPLE_DONE = "text=Arrays as NPZ"


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    return pages_lake.lake(tmp_path_factory.mktemp("pages") / "lake")


@pytest.fixture(scope="module")
def site(serve: Callable[[Catalog], Site], lake: Catalog) -> Site:  # noqa: F811
    return serve(lake)


def done(name: str) -> str:
    return DONE.get(name, SAMPLE_DONE)


def plotted(page: Any, place: str) -> list[dict[str, Any]]:
    """The traces of a plot as the browser has them."""
    found: list[dict[str, Any]] = page.evaluate(
        "place => document.querySelector(place + ' .js-plotly-plot').data.map(t => ({name: t.name, x: Array.from(t.x || []),"
        " y: Array.from(t.y || []), text: t.text}))",
        place,
    )
    return found


def click_cell(image: Any, column: int, row: int, columns: int, rows: int) -> None:
    """Click into the middle of a pixel of a picture of ``columns`` × ``rows`` pixels."""
    box = image.bounding_box()
    x, y = (column + 0.5) / columns * box["width"], (row + 0.5) / rows * box["height"]
    image.click(position={"x": x, "y": y})


# -- every page --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ADDRESSES)
def test_every_page_asks_nobody_else_and_names_its_controls(name: str, site: Site) -> None:
    complete(site.open(ADDRESSES[name], done(name)), site, name)


@pytest.mark.parametrize("name", ["home", "sweeps"])
def test_pages_follow_a_dark_system(name: str, site: Site) -> None:
    page = site.open(ADDRESSES[name], done(name), dark=True)
    settle(page)
    site.keep(page, f"{name}-dark")
    colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert max(int(part) for part in re.findall(r"\d+", colour)[:3]) < 60


def test_home_says_what_there_is(site: Site, lake: Catalog) -> None:
    page = site.open("", DONE["home"])
    for name in lake.names():
        assert page.get_by_role("link", name=name, exact=True).count() == 1
    tiles = page.locator(".tiles").inner_text()
    assert f"{len(lake.names())}\ndata sets" in tiles
    assert "1\nfitted models" in tiles
    water = page.get_by_role("row", name="water 1")
    assert "production" in water.inner_text()
    assert "test accuracy 0.9125" in water.inner_text()
    page.get_by_role("link", name="photos", exact=True).click()
    page.get_by_role("heading", name="photos", exact=True).wait_for()
    page.go_back()
    page.get_by_role("heading", name="Sensorium", exact=True).wait_for()


# -- queries -----------------------------------------------------------------------------------------------------------


def test_a_condition_chooses_samples_and_the_back_button_takes_it_back(site: Site) -> None:
    page = site.open(ADDRESSES["samples"], DONE["samples"])
    assert page.locator("#found").inner_text().strip() == "15 samples; page 1 of 2"
    page.get_by_label("Only samples for which").fill("label = 'dog'")
    page.get_by_role("button", name="Search").click()
    page.locator("text=4 samples of the 15").wait_for()
    assert page.locator("#samples img").count() == 4
    page.wait_for_url("**where=label*")
    page.go_back()
    page.locator("text=15 samples; page 1 of 2").wait_for()
    page.get_by_role("button", name="Next page").click()
    page.locator("text=page 2 of 2").wait_for()
    page.wait_for_function("document.querySelectorAll('#samples img').length === 3")
    page.wait_for_url("**page=2*")
    page.reload()
    page.locator("text=page 2 of 2").wait_for()


@pytest.mark.parametrize(
    ("condition", "says"),
    [
        ("labl = 'dog'", "Did you mean 'label'?"),
        ("label =", "cannot be parsed"),
        ("id IN (SELECT id FROM stays)", "condition"),
    ],
)
def test_a_condition_that_cannot_be_used_is_a_sentence(condition: str, says: str, site: Site) -> None:
    page = site.open(ADDRESSES["samples"], DONE["samples"])
    page.get_by_label("Only samples for which").fill(condition)
    page.get_by_label("Only samples for which").press("Enter")
    alert = page.get_by_test_id("toast-body")
    alert.wait_for()
    assert says in alert.inner_text()
    assert "Traceback" not in alert.inner_text()
    assert page.locator("#samples img").count() == 12  # what was shown stays


def test_sql_gives_rows_a_sentence_or_a_file(site: Site, lake: Catalog) -> None:
    page = site.open("query", "#sql")
    choose(page, "Examples", "SELECT COUNT(*) AS samples FROM blocks")
    page.get_by_role("button", name="Run").click()
    page.locator("text=The result has 1 row.").wait_for()
    page.locator("#result [role=gridcell]:has-text('2')").wait_for()
    page.get_by_label("SQL").fill("SELECT label, COUNT(*) AS n FROM photos GROUP BY label ORDER BY label")
    page.get_by_role("button", name="Run").click()
    page.locator("text=The result has 3 rows.").wait_for()
    page.locator("#result [role=gridcell]:has-text('dog')").wait_for()
    cells = [text.strip() for text in page.locator("#result [role=gridcell]").all_inner_texts()]
    assert cells == ["bird", "1", "cat", "10", "dog", "4"]
    with page.expect_download() as download:
        page.get_by_role("button", name="Result as CSV").first.click()
    assert Path(download.value.path()).read_text() == "label,n\nbird,1\ncat,10\ndog,4\n"
    page.get_by_label("SQL").fill("SELECT * FROM read_csv('/etc/passwd')")
    page.get_by_role("button", name="Run").click()
    alert = page.get_by_test_id("toast-body")
    alert.wait_for()
    site.keep(page, "query-refused")
    assert "read_csv" in alert.inner_text()
    assert "root:" not in page.content()
    page.go_back()
    page.locator("text=The result has 1 row.").wait_for()


# -- viewers -----------------------------------------------------------------------------------------------------------


def test_a_click_in_the_grid_opens_the_sample(site: Site, lake: Catalog) -> None:
    page = site.open("dataset?name=photos&where=" + quote("label = 'dog'"), DONE["samples"])
    page.locator("#samples button").nth(1).click()
    page.get_by_role("heading", name="photo06", exact=True).wait_for()
    page.locator(SAMPLE_DONE).first.wait_for()
    image = page.locator("img[alt='Picture photo06']")
    image.wait_for()
    click_cell(image, 100, 30, 128, 96)
    page.wait_for_function("document.querySelector('#pixel textarea').value")
    values = ", ".join(str(value) for value in lake["photos"].select()["photo06"]["image"][30, 100])
    assert page.locator("#pixel textarea").input_value() == f"x 100, y 30: {values}\nmask 0"
    page.get_by_role("link", name="Next sample").click()
    page.get_by_role("heading", name="photo09", exact=True).wait_for()
    with page.expect_download() as download:
        page.get_by_role("button", name="Arrays as NPZ").first.click()
    with np.load(download.value.path()) as saved:
        assert np.array_equal(saved["image"], lake["photos"].select()["photo09"]["image"])


def test_a_clicked_pixel_of_a_cube_shows_its_spectrum(site: Site, lake: Catalog) -> None:
    page = site.open(ADDRESSES["hyperspectral"], "#spectra .js-plotly-plot")
    image = page.locator("img[alt='Composite of leaf0']")
    image.wait_for()
    before = pixels(page, image)
    click_cell(image, 3, 9, 16, 12)
    page.wait_for_function("document.querySelector('#spectra .js-plotly-plot').data.length === 2")
    first, second = plotted(page, "#spectra")
    cube = lake["leaves"].select()["leaf0"]["cube"]
    assert (first["name"], second["name"]) == ("x 8, y 6", "x 3, y 9")
    assert second["x"] == pages_lake.WAVELENGTH
    np.testing.assert_array_equal(np.float32(second["y"]), cube[9, 3])
    np.testing.assert_array_equal(np.float32(first["y"]), cube[6, 8])
    assert page.get_by_label("Red").first.input_value() == "640 nm"
    choose(page, "Red", "980 nm")
    source = image.get_attribute("src")
    page.wait_for_function("s => document.querySelector('img[alt=\"Composite of leaf0\"]').src !== s", arg=source)
    assert not np.array_equal(pixels(page, image)[..., 0], before[..., 0])
    assert np.array_equal(pixels(page, image)[..., 1], before[..., 1])


def test_the_window_changes_the_picture_of_a_volume(site: Site, lake: Catalog) -> None:
    page = site.open(ADDRESSES["volume"], SAMPLE_DONE)
    sample = lake["chests"].select()["scan0"]
    axial = volume.planes("RAS")[0]
    image = page.locator("img[alt^='Axial']")
    spacing = [2.5, 1.0, 1.0]

    def expected(index: int, window: tuple[float, float]) -> np.ndarray[Any, Any]:
        return np.asarray(volume.slice_picture(sample, axial, index, window, spacing, masked=True))

    start = volume.usual_window(sample, "HU")[:2]
    assert np.array_equal(pixels(page, image), expected(9, start))
    source = image.get_attribute("src")
    before = len(page.asked)
    choose(page, "Window preset", "Lung")
    page.wait_for_function("s => document.querySelector('img[alt^=Axial]').src !== s", arg=source)
    settle(page)
    page.wait_for_timeout(1000)
    assert len(page.asked) - before < 20  # each plane is drawn once
    assert np.array_equal(pixels(page, image), expected(9, volume.PRESETS["Lung"]))
    source = image.get_attribute("src")
    page.locator("#slice0 input[type=number]").fill("5")
    page.wait_for_function("s => document.querySelector('img[alt^=Axial]').src !== s", arg=source)
    assert np.array_equal(pixels(page, image), expected(5, volume.PRESETS["Lung"]))


def test_sound_can_be_heard(site: Site, lake: Catalog) -> None:
    page = site.open(ADDRESSES["audio"], SAMPLE_DONE)
    source = page.locator("#player audio, #player a[download]").first
    address = source.get_attribute("src") or source.get_attribute("href")
    rate, heard = scipy.io.wavfile.read(io.BytesIO(page.request.get(address).body()))
    sample = lake["voices"].select()["sweep"]
    assert rate == 8000
    np.testing.assert_array_equal(heard, audio.playable(sample["audio"][:, np.newaxis], 8000)[1][:, 0])


def test_channels_are_drawn_in_the_window_that_is_chosen(site: Site, lake: Catalog) -> None:
    page = site.open(ADDRESSES["series"], "#signal .js-plotly-plot")
    assert len(plotted(page, "#signal")) == 8
    assert max(plotted(page, "#signal")[0]["x"]) == pytest.approx(10, abs=0.01)
    choose(page, "Window", "5 s")
    page.locator("#start input[type=number]").fill("20")
    page.wait_for_function("document.querySelector('#signal .js-plotly-plot').data[0].x[0] >= 19.9")
    trace = plotted(page, "#signal")[7]
    assert max(trace["x"]) == pytest.approx(25, abs=0.01)
    signal = lake["brains"].select()["night"]["signal"][7, 5000:6251].astype(float)
    shown = np.array(trace["y"])
    assert shown.max() - shown.min() == pytest.approx(signal.max() - signal.min())  # peaks are kept


def test_observations_keep_their_times(site: Site, lake: Catalog) -> None:
    page = site.open(ADDRESSES["stay"], "#observations .js-plotly-plot")
    sample = lake["stays"].select()["stay1"]
    traces = {trace["name"]: trace for trace in plotted(page, "#observations")}
    assert set(traces) == {"heart rate", "blood pressure", "<b>odd</b>"}
    mine = sample["variables"] == 0
    np.testing.assert_allclose(traces["heart rate"]["x"], sample["times"][mine])
    np.testing.assert_allclose(traces["heart rate"]["y"], sample["values"][mine])


def test_a_pair_a_panorama_a_video_and_a_scene(site: Site, lake: Catalog) -> None:
    page = site.open(ADDRESSES["image_pair"], "#pair img")
    before, after = (pixels(page, page.locator("#pair img").nth(n)) for n in range(2))
    sample = lake["blocks"].select()["block0"]
    assert np.array_equal(before[1::3, 1::3], sample["before"])
    changed = np.asarray(sample["change"])
    assert np.array_equal(after[1::3, 1::3][~changed], sample["after"][~changed])
    assert not np.array_equal(after[1::3, 1::3][changed], sample["after"][changed])

    page = site.open(ADDRESSES["panorama"], SAMPLE_DONE)
    image = page.locator("img[alt^='Perspective']")
    source = image.get_attribute("src")
    page.locator("#yaw input[type=number]").fill("90")
    page.wait_for_function("s => document.querySelector('img[alt^=Perspective]').src !== s", arg=source)
    shown = pixels(page, image)
    flat = lake["rooms"].select()["hall"]["image"]
    assert np.array_equal(shown, (panorama.perspective(flat, 90, 0, 90, shown.shape[:2]) + 0.5).astype(np.uint8))

    page = site.open(ADDRESSES["stream"], "#video video")
    page.wait_for_function("document.querySelector('#video video').readyState >= 1")
    assert page.evaluate(
        "[document.querySelector('#video video').videoWidth, document.querySelector('#video video').videoHeight]"
    ) == [64, 48]

    page = site.open(ADDRESSES["scene"], "#cameras .js-plotly-plot")
    assert page.locator("#views img").count() == 8
    places = plotted(page, "#cameras")[1]
    np.testing.assert_allclose(places["x"], pages_lake.ring(8)[:, 0, 3], atol=1e-12)


# -- sweeps ------------------------------------------------------------------------------------------------------------


def test_the_explorer_draws_recommends_and_shows_the_worst(site: Site, lake: Catalog) -> None:
    page = site.open("sweeps", DONE["sweeps"])
    means = analysis.mean_curves(lake["photos_sweep"].select().frame(), "psnr_y")
    for trace, codec in zip(plotted(page, "#curves"), ("jpeg", "webp"), strict=True):
        curve = means.filter(codec=codec)
        np.testing.assert_allclose(trace["x"], curve["bits_per_pixel"])
        np.testing.assert_allclose(trace["y"], curve["psnr_y"])
        assert [text.split(",")[0] for text in trace["text"]] == [f"quality {quality}" for quality in curve["quality"]]
    assert "%" in page.get_by_role("row", name="webp").first.inner_text()
    page.locator("#codecs").get_by_label("jpeg").uncheck()
    page.wait_for_function("document.querySelector('#curves .js-plotly-plot').data.length === 1")
    page.get_by_label("Bound of the score").fill("30")
    page.get_by_role("button", name="Recommend").click()
    page.locator("#answer strong").wait_for()
    said = page.locator("#answer strong").inner_text()
    assert re.match(r"Take (jpeg|webp) at quality \d+ \(cheapest with mean of psnr_y ≥ 30\)", said)
    assert "On 2 other images" in said
    page.get_by_role("button", name="Show them").click()
    page.locator("#worst img").first.wait_for()
    assert page.locator("#worst img").count() >= 4
    site.keep(page, "sweeps-used")
    page.get_by_label("Only rows for which").fill("codec = 'none'")
    page.get_by_role("button", name="Look").click()
    alert = page.get_by_test_id("toast-body")
    alert.wait_for()
    assert "no rows here" in alert.inner_text()


def test_the_report_can_be_taken_home(site: Site) -> None:
    page = site.open("sweeps", DONE["sweeps"])
    with page.expect_download(timeout=30_000) as download:
        page.get_by_role("button", name="Download the whole report").first.click()
    text = Path(download.value.path()).read_text()
    assert download.value.suggested_filename == "report.html"
    assert "Compression sweep photos_sweep@1" in text


# -- versions ----------------------------------------------------------------------------------------------------------


def test_history_and_lineage(site: Site) -> None:
    page = site.open(ADDRESSES["history"], DONE["history"])
    page.get_by_role("button", name="What changed?").click()
    page.locator("text=From version 1 to 2: 0 added, 0 removed, 1 changed.").wait_for()
    page.get_by_role("tab", name="Lineage").click()
    page.locator(".lineage svg").wait_for()
    page.wait_for_url("**tab=lineage*")
    page.locator(".lineage").get_by_role("link", name="photos_sweep").click()
    page.get_by_role("heading", name="photos_sweep", exact=True).wait_for()
    choose(page, "Version", "0")
    page.locator("text=This data set has no samples yet.").wait_for()
    page.wait_for_function("location.search.includes('version=0')")


# -- empty, wrong, without a mouse --------------------------------------------------------------------------------------


def test_an_empty_lake_says_what_to_type(serve: Callable[[Catalog], Site], tmp_path: Path) -> None:  # noqa: F811
    empty = serve(Catalog(tmp_path / "lake"))
    page = empty.open("", "text=Health of the service")
    empty.keep(page, "empty-home")
    assert page.complaints == []
    assert "sensorium demo" in page.locator("pre").first.inner_text()
    assert "sensorium demo" in empty.open("catalog", "pre").locator("pre").inner_text()
    assert "sensorium sweep machine_quality" in empty.open("sweeps", "pre").locator("pre").inner_text()
    empty.open("query", "text=there is nothing to query yet")


@pytest.mark.parametrize(
    "address", ["dataset?name=foto", "sample?name=photos&id=photo99", "dataset", "dataset?name=photos&version=77"]
)
def test_an_address_that_leads_nowhere_is_a_sentence(address: str, site: Site) -> None:
    page = site.open(address, ".notice")
    said = page.locator(".notice").inner_text()
    assert re.search(r"has no (data set|sample|version)|version 77", said), said


def test_what_is_in_an_address_or_in_data_does_not_run(site: Site) -> None:
    wild = "<img src=x onerror=window.hit=1>"
    for address in (
        f"dataset?name={quote(wild)}",
        f"sample?name=photos&id={quote(wild)}",
        f"dataset?name=photos&where={quote(wild)}",
    ):
        page = site.open(address, ".page h1")
        settle(page)  # what is not there would be asked for, and its error would run
        assert page.evaluate("window.hit") is None
    page = site.open("query", "#sql")
    page.get_by_label("SQL").fill(f"SELECT '{wild}' AS x FROM nowhere")
    page.get_by_role("button", name="Run").click()
    page.get_by_test_id("toast-body").wait_for()
    settle(page)
    assert page.evaluate("window.hit") is None


def test_a_keyboard_is_enough(site: Site) -> None:
    page = site.open(ADDRESSES["samples"], DONE["samples"])
    reached = set()
    for _ in range(60):
        page.keyboard.press("Tab")
        reached.add(
            page.evaluate(
                "(e => e.getAttribute('aria-label') || e.innerText || e.id || e.tagName)(document.activeElement)"
            ).strip()
        )
    for wanted in ("Home", "Catalog", "Samples", "Search", "Next page →"):
        assert any(wanted in name for name in reached), (wanted, sorted(reached))
    page.get_by_label("Only samples for which").focus()
    page.keyboard.type("lens < 37")
    page.keyboard.press("Enter")
    page.locator("text=2 samples of the 15").wait_for()
    page.locator("#samples button").first.focus()
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="photo00", exact=True).wait_for()


def test_many_systems_fit_a_phone(
    serve: Callable[[Catalog], Site],  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    method = systems.get("water_pollutants").operations["predict"]
    many = tuple(replace(one, operations={"predict": method}) for one in PLANNED)
    monkeypatch.setattr(Gateway, "systems", lambda _: many)
    site = serve(Catalog(tmp_path / "lake"))
    page = site.open("nir_synthesis", "h1:has-text('NIR synthesis')")
    page.set_viewport_size(PHONE)
    links = page.get_by_role("navigation", name="Pages").get_by_role("link")
    assert links.all_inner_texts() == ["Home", "Catalog", "Query", "Sweeps"]
    assert page.locator("nav.places").bounding_box()["height"] < 110
    assert page.locator(".nav-holder").is_hidden()
    site.keep(page, "many-phone")
    for _ in range(5):  # by keyboard: four links, then the menu
        page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.innerText") == "Systems: NIR synthesis"
    page.keyboard.press("Enter")
    page.get_by_role("link", name="Voice face").wait_for()
    site.keep(page, "many-open-phone")
    assert links.count() == 4 + len(many)
    boxes = [link.bounding_box() for link in links.all()]
    assert all(box["x"] >= 0 and box["x"] + box["width"] <= PHONE["width"] for box in boxes)
    assert all(box["height"] >= 36 for box in boxes[4:])  # for a thumb
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    assert page.locator("nav.places [aria-current=page]").all_inner_texts() == ["NIR synthesis"]
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.get_by_role("heading", name=title_of(many[0].name), exact=True).wait_for()
    page.set_viewport_size(SCREEN)
    page.get_by_text("Systems:").click()
    site.keep(page, "many-open")
    boxes = [link.bounding_box() for link in links.all()]
    assert all(box["x"] >= 0 and box["x"] + box["width"] <= SCREEN["width"] for box in boxes)
    assert all(box["y"] + box["height"] <= SCREEN["height"] for box in boxes)
    page.get_by_role("link", name="Home", exact=True).click()
    page.get_by_role("heading", name="Sensorium", exact=True).wait_for()


def test_a_row_of_a_data_set_without_pictures_can_be_opened(site: Site, lake: Catalog) -> None:
    page = site.open(ADDRESSES["table"], done("table"))
    first = lake["photos_sweep"].select()[0].id
    page.locator("#rows [role=gridcell]").first.click()
    page.get_by_role("link", name=f"Open {first}").click()
    page.get_by_role("heading", name=first, exact=True).wait_for()
    page.locator("text=rows of values; there is nothing to draw").wait_for()
