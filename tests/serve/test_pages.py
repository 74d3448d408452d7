"""What the pages are made of: drawing, geometry, layout, caches, errors; and what a browser would load of them."""

from __future__ import annotations

import asyncio
import gc
import io
import logging
import re
import warnings
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import fastapi
import gradio as gr
import numpy as np
import polars as pl
import pytest
from PIL import Image
from starlette.testclient import TestClient

from sensorium.catalog import Catalog
from sensorium.catalog import modality as modalities
from sensorium.platform import plugins
from sensorium.platform.errors import InvalidName, InvalidQuery, UnknownField, UnknownSample, UserError
from sensorium.serve.gateway import Gateway
from sensorium.serve.pages import advice, application, drawing, examples, files, graph, grid, home, markup, viewers
from sensorium.serve.pages.listing import PAGE, Listing, Recent, View
from sensorium.serve.pages.panel import Panel
from sensorium.serve.pages.spoken import sentence, spoken
from sensorium.serve.pages.theme import CONTRASTS, CSS, HEAD, contrast, theme
from sensorium.serve.pages.viewers import (
    audio,
    hyperspectral,
    image,
    image_pair,
    panorama,
    scene,
    series,
    video,
    volume,
)
from sensorium.serve.queries import Queries
from sensorium.serve.uploads.sandbox import Sandbox
from tests.serve import pages_lake

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # Gradio's own
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    return pages_lake.lake(tmp_path_factory.mktemp("pages") / "lake")


class _NoHosts:
    """Models that run nowhere."""

    async def predict(self, reference: str, samples: Any, pictures: bool) -> list[Any]:
        raise UserError("there is no host in this test")

    async def warm(self, reference: str) -> None:
        raise UserError("there is no host in this test")

    def health(self) -> dict[str, Any]:
        return {"replicas": 0}


@pytest.fixture(scope="module")
def gateway(lake: Catalog) -> Iterator[Gateway]:
    queries = Queries(lake.storage.root)
    sandbox = Sandbox()
    yield Gateway(lake, _NoHosts(), sandbox, queries)
    queries.close()
    sandbox.close()


@pytest.fixture(scope="module")
def listing(gateway: Gateway) -> Listing:
    return Listing(gateway)


# -- listing -----------------------------------------------------------------------------------------------------------


def test_pages_hold_every_sample_once_in_order(listing: Listing, lake: Catalog) -> None:
    view = listing.view("photos")
    assert view == View("photos", 2)
    first, second = (listing.page(View("photos", 2, "", number)) for number in range(2))
    assert (len(first.ids), len(second.ids), first.total, first.pages) == (PAGE, 3, 15, 2)
    assert [*first.ids, *second.ids] == lake["photos"].select().rows["id"].to_list()
    assert listing.page(View("photos", 2, "", 99)).ids == second.ids
    assert listing.page(View("photos", 1, "label = 'dog'")).ids == (
        "photo00",
        "photo03",
        "photo06",
        "photo09",
        "photo12",
    )
    assert listing.page(View("photos", 2, "label = 'dog'")).total == 4  # the newest version calls one of them a bird


def test_neighbours_are_those_of_the_view(listing: Listing) -> None:
    view = View("photos", 2, "label = 'dog'")
    assert listing.neighbours(view, "photo03") == (None, "photo06")
    assert listing.neighbours(view, "photo12") == ("photo09", None)
    assert listing.neighbours(View("photos", 2), "photo03") == ("photo02", "photo04")


@pytest.mark.parametrize(
    ("where", "error"),
    [("labl = 'x'", UnknownField), ("id IN (SELECT id FROM stays)", InvalidQuery), ("label = ", InvalidQuery)],
)
def test_a_condition_that_cannot_be_used_is_an_error(where: str, error: type[Exception], listing: Listing) -> None:
    with pytest.raises(error):
        listing.page(View("photos", 2, where))


def test_an_unknown_sample_is_an_error(listing: Listing) -> None:
    with pytest.raises(UnknownSample, match="no sample 'photo99'"):
        listing.sample(View("photos", 2), "photo99")


def test_recent_values_are_believed_for_a_while_and_the_unused_forgotten() -> None:
    made: list[str] = []

    def make(key: str) -> str:
        made.append(key)
        return key.upper()

    held: Recent[str] = Recent(60, 2)
    for key in ("a", "b", "a", "c", "a", "b"):
        assert held.get(key, lambda key=key: make(key)) == key.upper()  # type: ignore[misc]
    assert made == ["a", "b", "c", "b"]
    expired: Recent[str] = Recent(0, 2)
    expired.get("x", lambda: make("x"))
    expired.get("x", lambda: make("x"))
    assert made[-2:] == ["x", "x"]
    with pytest.raises(UserError):
        held.get("bad", lambda: (_ for _ in ()).throw(UserError("no")))
    assert held.get("bad", lambda: "now") == "now"  # an error is not kept


def test_examples_choose_something_but_not_everything(listing: Listing, lake: Catalog) -> None:
    found = examples.predicates(listing, View("photos", 2))
    assert "label = 'cat'" in found
    for text in found:
        assert 0 < listing.page(View("photos", 2, text)).total < 15
    statements = examples.statements(listing)
    assert len(statements) >= 4
    for text in statements:
        assert lake.sql(text).height > 0


def test_sweeps_are_found_by_their_columns(listing: Listing) -> None:
    assert listing.sweeps() == ["photos_sweep"]


# -- errors ------------------------------------------------------------------------------------------------------------


def test_errors_of_ours_are_sentences_and_others_are_numbers(caplog: pytest.LogCaptureFixture) -> None:
    assert sentence(UserError("Give a <name>.")) == "Give a <name>."

    @spoken
    def broken() -> None:
        raise ZeroDivisionError("secret")

    @spoken
    async def later() -> None:
        raise UserError("Give a <name>.")

    with caplog.at_level(logging.ERROR), pytest.raises(gr.Error) as told:
        broken()
    number = re.search(r"id ([0-9a-f]{8})", told.value.message)
    assert number is not None
    assert "secret" not in told.value.message
    assert number[1] in caplog.text
    assert "ZeroDivisionError: secret" in caplog.text
    with pytest.raises(gr.Error, match="Give a &lt;name&gt;"):
        asyncio.run(later())


def test_an_event_function_keeps_its_signature() -> None:
    @spoken
    def clicked(known: list[int], event: gr.SelectData) -> int:
        return len(known)

    assert clicked.__wrapped__.__name__ == clicked.__name__ == "clicked"  # type: ignore[attr-defined]
    assert clicked([1, 2], None) == 2  # type: ignore[arg-type]


# -- drawing -----------------------------------------------------------------------------------------------------------


def test_an_envelope_keeps_peaks_in_order() -> None:
    trace = np.random.default_rng(0).normal(size=100_003)
    trace[54_321], trace[100_001] = 50, -50
    positions, values = drawing.envelope(trace, 500)
    assert len(positions) <= 2 * 500 + 500
    assert (np.diff(positions) > 0).all()
    assert np.array_equal(values, trace[positions])
    assert {54_321} <= set(positions.tolist())
    assert values.max() == 50
    short = np.arange(20.0)
    assert np.array_equal(drawing.envelope(short, 500)[1], short)


def test_levels_are_linear_in_the_window_and_cut_outside() -> None:
    values = np.array([-1000.0, -50, 40, 130, 9000, np.nan])
    assert drawing.level(values, 40, 180).tolist() == [0, 0, 128, 255, 255, 0]


def test_pictures_are_bounded_and_small_ones_enlarged() -> None:
    assert drawing.step_for((5000, 300)) == 5
    assert drawing.step_for((10, 10)) == 1
    assert drawing.enlarged((12, 16)) == 24
    assert drawing.enlarged((2000, 16)) == 1
    shown = np.asarray(drawing.picture(np.arange(6, dtype=np.uint8).reshape(2, 3), 2))
    assert np.array_equal(shown[::2, ::2], [[0, 1, 2], [3, 4, 5]])
    assert shown.shape == (4, 6)


def test_overlays_change_only_what_they_mark() -> None:
    pixels = np.full((4, 4, 3), 100, np.uint8)
    mask = np.eye(4, dtype=bool)
    labels = np.zeros((4, 4), np.int64)
    labels[0, 3] = 25
    shown = drawing.overlaid(pixels, mask, labels)
    assert (shown[~mask & (labels == 0)] == 100).all()
    assert (shown[mask] != 100).any(axis=1).all()
    assert (shown[0, 3] != 100).any()


@pytest.mark.parametrize("name", [row[0] for row in pages_lake.samples()])
def test_every_modality_has_a_preview_of_its_own(name: str, lake: Catalog) -> None:
    content = drawing.preview(lake[name].modality, lake[name].select()[0])
    with Image.open(io.BytesIO(content)) as drawn:
        assert max(drawn.size) <= 300
        assert len(drawn.convert("RGB").getcolors(1 << 20) or range(99)) > 3


def test_a_preview_that_fails_says_why(lake: Catalog) -> None:
    def broken(axes: Any, sample: Any) -> None:
        raise UserError("its payload is gone")

    modality = modalities.Modality(name="image", title="", fields=(), preview=broken)
    assert drawing.preview(modality, {}).startswith(b"\x89PNG")


# -- viewers -----------------------------------------------------------------------------------------------------------


def test_every_modality_with_a_preview_has_a_viewer() -> None:
    for name in plugins.names(modalities.GROUP):
        if modalities.get(name).preview is not None:
            assert name in viewers.VIEWERS
    assert viewers.of("of somebody else") is viewers.table.show


@pytest.mark.parametrize("name", [row[0] for row in pages_lake.samples()])
def test_a_viewer_makes_components_with_labels(name: str, lake: Catalog) -> None:
    for sample in lake[name].select():
        with gr.Blocks(analytics_enabled=False) as blocks:
            viewers.of(lake[name].declaration.modality_name)(sample, lake[name].declaration)
        made = [block for block in blocks.blocks.values() if isinstance(block, gr.components.Component)]
        assert len(made) >= 2
        for block in made:
            if isinstance(block, (gr.Slider, gr.Dropdown, gr.Checkbox, gr.Image, gr.Plot, gr.Gallery)):
                assert block.label, block
    gc.collect()


def test_a_camera_sees_what_the_sphere_has_there() -> None:
    """Directions are written into a panorama; each pixel of the view must hold its own."""
    rows, columns = 512, 1024
    longitude = (np.arange(columns) + 0.5) / columns * 2 * np.pi - np.pi
    latitude = np.pi / 2 - (np.arange(rows) + 0.5) / rows * np.pi
    x = np.cos(latitude)[:, None] * np.sin(longitude)
    y = np.cos(latitude)[:, None] * np.cos(longitude)
    z = np.broadcast_to(np.sin(latitude)[:, None], x.shape)
    sphere = np.stack([x, y, z], axis=-1)
    for yaw, pitch, field in ((0, 0, 90), (170, 0, 60), (-45, 30, 100), (10, -60, 40)):
        seen = panorama.perspective(sphere, yaw, pitch, field, (90, 120))
        turn, tilt = np.radians(yaw), np.radians(pitch)
        ahead = np.array([np.sin(turn) * np.cos(tilt), np.cos(turn) * np.cos(tilt), np.sin(tilt)])
        right = np.array([np.cos(turn), -np.sin(turn), 0])
        up = np.cross(right, ahead)
        focal = 60 / np.tan(np.radians(field / 2))
        across, down = np.arange(120) + 0.5 - 60, np.arange(90) + 0.5 - 45
        rays = focal * ahead + across[None, :, None] * right - down[:, None, None] * up
        rays /= np.linalg.norm(rays, axis=-1, keepdims=True)
        np.testing.assert_allclose(seen, rays, atol=2e-3)


def test_planes_are_hung_as_radiologists_do() -> None:
    axial, coronal, sagittal = volume.planes("RAS")
    assert [plane.title for plane in (axial, coronal, sagittal)] == ["Axial", "Coronal", "Sagittal"]
    assert [plane.edges for plane in (axial, coronal, sagittal)] == ["RA", "RS", "AS"]
    assert (axial.rows, axial.columns, axial.flips) == (1, 2, (True, True))
    assert volume.planes("LPS")[0].flips == (False, False)
    turned = volume.planes("ASR")  # x to the front, y to the head, z to the right
    assert [plane.title for plane in turned] == ["Sagittal", "Axial", "Coronal"]
    assert volume.planes(None)[0].words == "Across z"


@pytest.mark.parametrize("orientation", ["RAS", "LPS", "ASR", "IRP"])
def test_the_same_body_looks_the_same_in_every_orientation(orientation: str) -> None:
    """One body, stored in several orientations, gives one axial, one coronal and one sagittal picture."""
    body = np.random.default_rng(0).integers(0, 255, (6, 7, 8)).astype(np.int16)  # z, y, x of RAS
    axes = {"RL": 2, "AP": 1, "SI": 0}
    kinds = {"R": "RL", "L": "RL", "A": "AP", "P": "AP", "S": "SI", "I": "SI"}
    letters = orientation[::-1]  # of the array's axes
    stored = body.transpose([axes[kinds[letter]] for letter in letters])
    stored = np.flip(stored, [axis for axis, letter in enumerate(letters) if letter in "LPI"])
    shown = {}
    for plane in volume.planes(orientation):
        middle = 3 if letters[plane.axis] in "RAS" else stored.shape[plane.axis] - 4
        shown[plane.title] = volume._turned(stored.take(middle, axis=plane.axis), plane)
    assert np.array_equal(shown["Axial"], body[3][::-1, ::-1])
    assert np.array_equal(shown["Coronal"], body[:, 3][::-1, ::-1])
    assert np.array_equal(shown["Sagittal"], body[:, :, 3][::-1, ::-1])


def test_slices_have_the_proportions_of_the_body(lake: Catalog) -> None:
    sample = lake["chests"].select()["scan0"]
    for plane, size in zip(volume.planes("RAS"), ((420, 350), (403, 420), (336, 420)), strict=True):
        drawn = volume.slice_picture(sample, plane, 5, (0, 2000), [2.5, 1.0, 1.0], masked=True)
        assert drawn.size == pytest.approx(size, abs=1 + 0.05 * max(size))
        assert drawn.width / drawn.height == pytest.approx(
            sample["volume"].shape[plane.columns]
            * [2.5, 1, 1][plane.columns]
            / (sample["volume"].shape[plane.rows] * [2.5, 1, 1][plane.rows]),
            rel=0.01,
        )


def test_bands_are_the_nearest_where_wavelengths_are_known() -> None:
    assert hyperspectral.bands_for(list(range(400, 1000, 10)), 60) == [25, 15, 5]
    assert hyperspectral.bands_for(list(range(1000, 1600, 10)), 60) == [50, 30, 10]
    assert hyperspectral.bands_for(None, 6) == [5, 3, 1]


def test_a_spectrum_is_that_of_its_pixel(lake: Catalog) -> None:
    sample = lake["leaves"].select()["leaf1"]
    drawn = hyperspectral.spectra(sample, [(2, 11), (15, 0)], "1")
    assert list(drawn.data[0].x) == pages_lake.WAVELENGTH
    np.testing.assert_array_equal(np.float32(drawn.data[0].y), sample["cube"][11, 2])
    np.testing.assert_array_equal(np.float32(drawn.data[1].y), sample["cube"][0, 15])


def test_sound_is_played_at_its_level() -> None:
    floats = np.array([[0.5], [-1.0], [np.nan]], np.float32)
    assert audio.playable(floats, 44100.4)[0] == 44100
    assert audio.playable(floats, 8000)[1].ravel().tolist() == [16384, -32767, 0]
    assert audio.playable(floats * 2, 8000)[1].ravel().tolist() == [16384, -32767, 0]
    whole = np.array([[1 << 30, -(1 << 31), 5]], np.int32)
    assert audio.playable(whole, 8000)[1].tolist() == [[1 << 14, -(1 << 15)]]


def test_a_sine_of_full_scale_has_no_decibels() -> None:
    rate = 8000.0
    trace = np.sin(2 * np.pi * 1000 * np.arange(16000) / rate)
    level = audio.spectrogram(trace, rate)
    assert level.shape[1] <= 600
    peak = level.max(axis=0)
    np.testing.assert_allclose(peak, 0, atol=0.2)
    assert level[:, 5].argmax() / (level.shape[0] - 1) * rate / 2 == pytest.approx(1000, abs=20)
    assert audio.spectrogram(np.zeros(3), rate).shape[1] == 1


def test_lanes_are_bounded_and_tell_the_true_values() -> None:
    traces = np.random.default_rng(0).normal(size=(32, 150_000)).astype(np.float32)
    drawn = series.lanes(traces, [f"c{n}" for n in range(32)], 250.0, 30.0)
    assert len(drawn.data) == 32
    assert max(len(trace.x) for trace in drawn.data) <= 1300
    assert min(drawn.data[0].x) >= 30
    assert max(drawn.data[3].customdata) == pytest.approx(traces[3].max())
    assert drawn.data[0].y[0] > drawn.data[31].y[0]  # the first is at the top


def test_corners_of_what_a_camera_sees() -> None:
    camera = np.array([[100.0, 0, 50], [0, 100, 40], [0, 0, 1]])
    pose = np.eye(4)
    pose[:3, 3] = [1, 2, 3]
    corners = scene.frustum(camera, pose, (80, 100), 2.0)
    np.testing.assert_allclose(corners, [[0, 1.2, 5], [2, 1.2, 5], [2, 2.8, 5], [0, 2.8, 5]])


def test_streams_are_known_by_their_first_bytes(lake: Catalog) -> None:
    assert video.suffix(bytes(lake["clips"].select()["stream"]["encoded"])) == "webm"
    assert video.suffix(b"\0\0\0\x18ftypmp42") == "mp4"
    assert video.suffix(b"") == "mp4"


def test_pixels_are_read_where_they_are(lake: Catalog) -> None:
    sample = lake["photos"].select()["photo01"]
    values = ", ".join(str(value) for value in sample["image"][25, 40])
    assert image.pixel_values(sample, "image", 40, 25) == f"x 40, y 25: {values}\nmask 1"
    before, after = image_pair.sides(lake["blocks"].select()["block1"], False)
    assert before.size == after.size == (384, 288)


# -- lineage -----------------------------------------------------------------------------------------------------------


def test_sources_stand_left_of_what_was_made_of_them() -> None:
    edges = [("a", "c"), ("b", "c"), ("c", "d"), ("a", "d"), ("d", "e"), ("e", "d"), ("x", "x")]
    nodes = {name for edge in edges for name in edge}
    places = graph.layout(nodes, edges)
    for source, made in edges[:4]:
        assert places[source].column < places[made].column
    assert places["d"].column != places["e"].column  # one of the two that make a circle has to be first
    assert len({(place.column, place.row) for place in places.values()}) == len(nodes)
    assert graph.layers(["only"], []) == {"only": 0}


def test_lineage_is_drawn_with_links_and_escaped(lake: Catalog) -> None:
    drawn = graph.svg("photos", lake.lineage("photos"))
    assert 'href="dataset?name=photos_sweep&amp;tab=lineage"' in drawn
    assert "append: photos@2 → photos_sweep@1" in drawn
    assert "was made from nothing else" in graph.svg("voices", lake.lineage("voices"))
    wild = pl.DataFrame(
        [{"direction": "upstream", "depth": 1, "dataset": "<b>", "version": 1, "made_from": "a", "from_version": 0}],
    ).with_columns(operation=pl.lit("<script>"), run=pl.lit(""))
    assert "<script>" not in graph.svg("<b>", wild)
    assert "<b>" not in graph.svg("<b>", wild)


# -- words -------------------------------------------------------------------------------------------------------------


def test_values_are_read_by_people() -> None:
    assert markup.text_of(1234567) == "1\u202f234\u202f567"
    assert markup.text_of(0.123456) == "0.1235"
    assert markup.text_of(list(range(20))) == "0, 1, 2, 3, 4, 5, 6, 7, … (20)"
    assert markup.text_of(None) == markup.text_of(float("nan")) == ""
    assert markup.address("dataset", name="a b&c", where="", page=None) == "dataset?name=a+b%26c"


def test_tables_escape_and_align() -> None:
    text = markup.table(["n", "<x>"], [[1, "<script>"], [None, markup.link("a&b", "p", q="<")]], caption='"c"')
    assert "<script>" not in text
    assert 'class="n">1</td>' in text
    assert '<a href="p?q=%3C">a&amp;b</a>' in text
    assert 'aria-label="&quot;c&quot;"' in text


@pytest.mark.parametrize(
    ("name", "title"),
    [
        ("eeg_obesity", "EEG obesity"),
        ("water_pollutants", "Water pollutants"),
        ("nir_synthesis", "NIR synthesis"),
        ("fewshot_segmentation", "Few-shot segmentation"),
        ("octet", "Octet"),  # only whole words are abbreviations
    ],
)
def test_names_are_titles_as_people_write_them(name: str, title: str) -> None:
    assert markup.title_of(name) == title


def test_navigation_says_where_one_is_and_escapes() -> None:
    pages, folded = {"": "Home", "query": "Query"}, {"eeg": "EEG", "odd": "<b>"}
    text = markup.navigation(pages, folded, "query")
    assert '<a href="./">Home</a>' in text
    assert '<a href="query" aria-current="page">Query</a>' in text
    assert "<summary>Systems</summary>" in text
    assert "<b>" not in text
    assert '<summary class="here">Systems: EEG</summary>' in markup.navigation(pages, folded, "eeg")
    assert "details" not in markup.navigation(pages, {}, "")


def test_home_of_an_empty_lake_says_what_to_type(tmp_path: Path, gateway: Gateway) -> None:
    class Empty:
        catalog = Catalog(tmp_path / "none")
        systems = gateway.systems
        models = catalog.models
        health = gateway.health

    text = home.home(Listing(Empty()))  # type: ignore[arg-type]
    assert "sensorium demo" in text
    assert "sensorium fit" in text


def test_home_survives_a_part_that_cannot_be_read(gateway: Gateway, caplog: pytest.LogCaptureFixture) -> None:
    class Broken:
        catalog = gateway.catalog
        systems = gateway.systems
        models = gateway.models

        def health(self) -> dict[str, Any]:
            raise ConnectionError("no route to 10.0.0.1")

    text = home.home(Listing(Broken()))  # type: ignore[arg-type]
    assert "photos_sweep" in text
    assert "Something went wrong" in text
    assert "10.0.0.1" not in text


@pytest.mark.parametrize(
    ("higher", "statistic", "text"),
    [
        (True, "the mean over images", "psnr>=38"),
        (True, "90 % of the images", "p10:psnr>=38"),
        (True, "every image", "p0:psnr>=38"),
        (False, "90 % of the images", "p90:psnr<=38"),
        (False, "every image", "p100:psnr<=38"),
    ],
)
def test_conditions_are_those_of_the_report(higher: bool, statistic: str, text: str) -> None:
    from sensorium.jobs.machine_quality.report.numbers import Number
    from sensorium.jobs.machine_quality.report.recommend import parse_condition

    number = Number("psnr", "PSNR", "psnr", False, higher, True)
    assert advice.condition_text(number, statistic, 38) == text
    assert parse_condition(text, (number,)).bound == 38


def test_a_recommendation_in_words() -> None:
    best = {"codec": "webp", "quality": 60, "question": "cheapest with mean of psnr ≥ 30", "score": 31.5, "rate": 0.5}
    best |= {
        "images": 3,
        "images_checked": 2,
        "score_checked": 29.0,
        "rate_checked": 0.6,
        "holds": False,
        "remark": None,
    }
    assert "does not hold there" in advice.sentence_of(best)
    assert "It holds there too." in advice.sentence_of({**best, "holds": True})
    alone = {**best, "holds": None, "remark": "not checked: there is one image only"}
    assert advice.sentence_of(alone).endswith("It is not checked: there is one image only.")


# -- files -------------------------------------------------------------------------------------------------------------


def test_rows_are_saved_with_nested_values(lake: Catalog) -> None:
    frame = lake["leaves"].select().frame().with_columns(bands=pl.lit([1, 2]))
    saved = grid.saved(frame, "csv")
    assert pl.read_csv(saved)["bands"].to_list() == ["[1, 2]", "[1, 2]"]
    assert pl.read_parquet(grid.saved(frame, "parquet")).equals(frame)
    assert saved.parent.stat().st_mode & 0o077 == 0  # nobody else's


def test_old_files_are_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    old = files.fresh_folder()
    monkeypatch.setattr(files, "_KEPT_S", -1.0)
    new = files.fresh_folder()
    assert not old.exists()
    assert new.exists()


# -- the application -----------------------------------------------------------------------------------------------------


def test_text_has_contrast_in_light_and_dark() -> None:
    assert contrast("#ffffff", "#000000") == pytest.approx(21)
    for name, pair in CONTRASTS.items():
        assert contrast(*pair) >= 4.5, name


class _Loaded(HTMLParser):
    """What a browser would fetch of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        wanted = {"script": "src", "img": "src", "iframe": "src", "link": "href", "source": "src"}.get(tag)
        self.addresses += [value for name, value in attrs if name == wanted and value]


@pytest.fixture(scope="module")
def client(gateway: Gateway) -> Iterator[TestClient]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        panel = Panel("extra", "Extra", lambda _: gr.HTML("<p>extra</p>") and None)  # type: ignore[func-returns-value]
        with TestClient(application.mount(fastapi.FastAPI(), gateway, [panel])) as opened:
            yield opened
        gc.collect()


@pytest.mark.parametrize(
    "path", ["/ui/", "/ui/catalog", "/ui/dataset", "/ui/sample", "/ui/query", "/ui/sweeps", "/ui/extra"]
)
def test_pages_load_nothing_from_elsewhere(path: str, client: TestClient) -> None:
    answer = client.get(path)
    assert answer.status_code == 200
    loaded = [address for address in _Loaded(answer.text).addresses if re.match(r"(https?:)?//", address)]
    assert [address for address in loaded if not address.startswith("http://testserver")] == []


def test_styles_load_nothing_from_elsewhere(client: TestClient) -> None:
    for text in (client.get("/ui/theme.css").text, CSS, HEAD):
        assert re.findall(r"(?:url\(|@import)\s*['\"]?(?:https?:)?//[^)'\"]*", text) == []
    assert "googleapis" not in client.get("/ui/theme.css").text
    assert theme()._stylesheets == []
    settings = client.get("/ui/config").json()
    assert settings["analytics_enabled"] is False


def test_a_panel_has_a_page_in_the_navigation(client: TestClient) -> None:
    pages = client.get("/ui/config").json()["pages"]
    listed = {name: shown for name, _, shown in pages}
    assert listed["extra"] is True
    assert listed["dataset"] is listed["sample"] is False


def test_panels_with_names_that_cannot_be_are_refused(gateway: Gateway) -> None:
    with pytest.raises(InvalidName, match="part of an address"):
        Panel("Extra page", "Extra", lambda _: None)
    with pytest.raises(InvalidName, match="another page has this name"):
        application.build(gateway, [Panel("query", "Mine", lambda _: None)])


def test_files_of_the_server_are_not_served(client: TestClient) -> None:
    for path in ("/etc/passwd", __file__, "../../etc/passwd"):
        assert client.get(f"/ui/gradio_api/file={path}").status_code in (403, 404)
