"""What a report says of made-up rows with known answers."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable
from html.parser import HTMLParser
from typing import Any

import numpy as np
import polars as pl
import pytest
from scipy import stats

from sensorium.jobs.machine_quality import analysis
from sensorium.jobs.machine_quality import correlations as coefficients
from sensorium.jobs.machine_quality.material import WHOLE, Extent
from sensorium.jobs.machine_quality.report import (
    bd,
    bjontegaard,
    correlations,
    numbers,
    recommend,
    resampling,
    spread,
    worst,
)
from sensorium.jobs.machine_quality.report.content import Content, ReportSettings, compute
from sensorium.jobs.machine_quality.report.figures import figures
from sensorium.jobs.machine_quality.report.page import page
from sensorium.jobs.machine_quality.report.rows import SweepRows, prepared
from sensorium.jobs.machine_quality.report.worst import Case, worst_cases
from sensorium.platform.errors import InvalidSample, InvalidSetting

RATES = np.array([0.1, 0.2, 0.45, 0.8, 1.7])
Make = Callable[[str, int, int], dict[str, Any]]


def rows(make: Make, codecs: str = "ab", images: int = 6, qualities: int = 5, **columns: Any) -> pl.DataFrame:
    """Rows as of a sweep; ``make`` gives the rate and the numbers of (codec, image, quality)."""
    found = []
    for codec in codecs:
        for image in range(images):
            for quality in range(qualities):
                known = {
                    "id": f"{codec}{image}-{quality}",
                    "codec": codec,
                    "image_id": f"i{image:03}",
                    "quality": quality,
                }
                costs = {"encode_cpu_s": 0.02, "decode_cpu_s": 0.01, "metric_cpu_s": 0.05, "task_cpu_s": 0.0}
                fixed = {"height": 100, "width": 200, "frames": 1, "gop": 0, "extent": "", "image_hash": f"h{image}"}
                known |= {"encoder_arguments": codec, "codec_version": "1", "bitstream_hash": "00", "error": None}
                found.append({**known, **costs, **fixed, **make(codec, image, quality), **columns})
    names = [name for name in ("psnr", "ssim") if name in found[0]]
    names += ["detect"] if "detect_delta_iou" in found[0] else []
    frame = pl.DataFrame(found, schema_overrides={"error": pl.String}, infer_schema_length=None)
    return frame.with_columns(metric_definitions=pl.lit(json.dumps({name: f"{name}/1" for name in names})))


def half(codec: str, image: int, quality: int) -> dict[str, Any]:
    """Codec b needs half the rate of a; the task loses what the rate of a says."""
    factor = (1 + 0.3 * image) * (0.5 if codec == "b" else 1)
    psnr = 30 + 6 * np.log2(RATES[quality]) - image
    delta = 0.1 / RATES[quality] + 0.01 * image
    return {"bits_per_pixel": factor * RATES[quality], "psnr": psnr, "detect_delta_iou": delta}


def as_rows(frame: pl.DataFrame, objects: dict[str, pl.DataFrame] | None = None) -> SweepRows:
    return prepared("made@1", frame, objects)


# -- BD-rates ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", ["psnr", "detect_delta_iou"])
def test_half_the_rate_is_minus_fifty_percent(number: str) -> None:
    """By a metric where more is better, and by a task where less is; every image agrees, so the interval is a point."""
    table = bd.bd_table(as_rows(rows(half)), repeats=200).filter(number=number)
    there, back = (table.filter(codec=codec).row(0, named=True) for codec in "ba")
    assert [there[name] for name in ("bd_rate", "low", "high")] == pytest.approx([-50] * 3, abs=1e-6)
    assert [back[name] for name in ("bd_rate", "low", "high")] == pytest.approx([100] * 3, abs=1e-6)
    assert (there["images"], there["reason"], there["overlap"]) == (6, None, pytest.approx(1))


def test_many_curves_at_once_are_as_one_by_one() -> None:
    random = np.random.default_rng(5)
    rate, other = (np.exp(random.normal(0, 1, (200, 7))) for _ in range(2))
    quality, worse = (random.normal(30, 4, (200, 7)).round(1) for _ in range(2))
    quality[random.random(quality.shape) < 0.2] = np.nan
    percent, overlap = bjontegaard.bd_rate_many(bjontegaard.hulls(rate, quality), bjontegaard.hulls(other, worse))
    single = [bjontegaard.bd_rate((rate[line], quality[line]), (other[line], worse[line])) for line in range(len(rate))]
    assert np.isfinite(percent).sum() > 20
    np.testing.assert_allclose(percent, [one.percent for one in single], rtol=1e-9)
    comparable = [one.reason is None or "share" in one.reason for one in single]
    np.testing.assert_allclose(overlap[comparable], np.array([one.overlap for one in single])[comparable])
    for line in range(20):
        usable = np.isfinite(quality[line])
        kept = bjontegaard.pareto(rate[line][usable], quality[line][usable])
        hull = bjontegaard.hulls(rate[line : line + 1], quality[line : line + 1])
        assert hull.quality[0, : hull.counts[0]].tolist() == quality[line][usable][kept].tolist()


def test_interval_covers_what_images_disagree_about() -> None:
    def make(codec: str, image: int, quality: int) -> dict[str, Any]:
        factor = (0.4 if image % 2 else 0.6) if codec == "b" else 1
        return {"bits_per_pixel": factor * RATES[quality], "psnr": 30.0 + quality}

    line = bd.bd_table(as_rows(rows(make))).filter(codec="b").row(0, named=True)
    assert line["bd_rate"] == pytest.approx(-50)
    assert -60 <= line["low"] < -53
    assert -47 < line["high"] <= -40


def test_no_bd_rate_has_its_reason() -> None:
    def make(codec: str, image: int, quality: int) -> dict[str, Any]:
        return half(codec, image, quality) | {"psnr": (30.0 if codec == "a" else 60.0) + quality}

    frame = rows(make)
    line = bd.bd_table(as_rows(frame)).filter(number="psnr", codec="b").row(0, named=True)
    assert (line["bd_rate"], line["low"], line["images"]) == (None, None, 0)
    assert "6 of 6 images cannot be compared; the first: the curves share 0%" in line["reason"]
    unseen = frame.with_columns(
        detect_delta_iou=pl.when(pl.col("codec") == "a", pl.col("quality") == 1)
        .then(None)
        .otherwise(pl.when(pl.col("codec") == "a").then("detect_delta_iou"))
    )
    task = bd.bd_table(as_rows(unseen)).filter(number="detect_delta_iou", codec="b").row(0, named=True)
    assert task["bd_rate"] is None
    assert task["reason"]


def test_a_thousand_images_take_seconds() -> None:
    frame = rows(half, codecs="abcde", images=1000)
    prepared_rows = as_rows(frame)
    started = time.process_time()
    table = bd.bd_table(prepared_rows)
    assert time.process_time() - started < 15
    assert table.height == 2 * 5 * 4


# -- correlations ------------------------------------------------------------------------------------------------------


def noisy(codec: str, image: int, quality: int) -> dict[str, Any]:
    random = np.random.default_rng([ord(codec), image, quality])
    psnr = 25 + 3 * quality + random.normal(0, 2)
    return {
        "bits_per_pixel": RATES[quality],
        "psnr": psnr,
        "ssim": np.exp(-psnr / 10),
        "detect_delta_iou": 1 / psnr + random.normal(0, 0.005) * (codec == "b"),
    }


def test_coefficients_are_those_of_scipy_and_one_where_a_metric_tells_all() -> None:
    frame = rows(noisy, images=12)
    table = correlations.correlation_table(as_rows(frame))
    whole = table.filter(metric="psnr", codec=correlations.ALL).row(0, named=True)
    assert whole["srcc"] == pytest.approx(stats.spearmanr(frame["psnr"], frame["detect_delta_iou"]).statistic)
    assert whole["krcc"] == pytest.approx(stats.kendalltau(frame["psnr"], frame["detect_delta_iou"]).statistic)
    assert whole["srcc_low"] < whole["srcc"] < whole["srcc_high"]
    exact = table.filter(metric="ssim", codec="a").row(0, named=True)
    assert [exact[name] for name in ("srcc", "krcc", "srcc_low", "krcc_high")] == pytest.approx([1] * 4)
    assert (exact["rows"], exact["images"], exact["per"]) == (60, 12, "cell")


def test_bootstrap_is_that_of_repeated_rows() -> None:
    """What weights give is what scipy gives for rows written out as often as they were drawn."""
    random = np.random.default_rng(2)
    members = np.repeat(np.arange(8), 4)
    starts = np.arange(0, 32, 4)
    x, y = random.integers(0, 9, 32).astype(float), random.normal(size=32)
    y += 0.5 * x
    times = resampling.weights(8, 20, seed=1)[:, members]
    one, other = (coefficients.drawn(coefficients.column(values), times) for values in (x, y))
    agreeing = coefficients.agreement(one.column, other.column, starts)
    assert agreeing is not None
    found = {
        "spearmanr": coefficients.spearman(one, other),
        "pearsonr": coefficients.pearson(one, other),
        "kendalltau": coefficients.kendall(one, other, starts, agreeing),
    }
    for line in range(20):
        index = np.repeat(np.arange(32), times[line].astype(int))
        for name, values in found.items():
            assert values[line] == pytest.approx(getattr(stats, name)(x[index], y[index]).statistic)
    # many rows take another way to the same numbers
    np.testing.assert_allclose(coefficients.kendall(one, other, starts, None), found["kendalltau"])


def test_too_many_rows_are_not_taken_each_with_each() -> None:
    many = coefficients.column(np.arange(coefficients._SQUARE + 1.0))
    assert coefficients.agreement(many, many, np.arange(len(many.values))) is None


def test_a_draw_in_which_a_column_does_not_vary_has_no_coefficient() -> None:
    """Exactly: the mean of equal numbers may be off in its last digit, and what is left of them is no variation."""
    x, y = np.repeat([0.1, 0.2, 0.7], 5), np.random.default_rng(0).normal(size=15)
    times = np.repeat([[3.0, 0, 0], [0, 3, 0], [0, 0, 3], [1, 1, 1]], 5, axis=1)
    one, other = (coefficients.drawn(coefficients.column(values), times) for values in (x, y))
    starts = np.array([0, 5, 10])
    agreeing = coefficients.agreement(one.column, other.column, starts)
    for values in (
        coefficients.spearman(one, other),
        coefficients.pearson(one, other),
        coefficients.kendall(one, other, starts, agreeing),
    ):
        assert np.isnan(values).tolist() == [True, True, True, False]


def test_objects_take_the_place_of_their_cells() -> None:
    frame = rows(half, images=3)
    objects = pl.DataFrame(
        [
            {**{"id": f"{row['id']}-{n}", "cell": row["id"], "image_id": row["image_id"], "extent": "", "gop": 0}}
            | {"codec": row["codec"], "quality": row["quality"], "object": n, "frame": 0, "x": 1.0}
            | {"delta_iou": -row["psnr"] + n}
            for row in frame.iter_rows(named=True)
            for n in range(2)
        ]
    )
    found = as_rows(frame, {"detect": objects})
    assert found.objects["detect"].height == 60
    line = correlations.correlation_table(found).filter(codec=correlations.ALL).row(0, named=True)
    assert (line["per"], line["rows"], line["images"]) == ("object", 60, 3)
    cell = dict(frame.select("id", "psnr").iter_rows())
    expected = stats.spearmanr([cell[one] for one in objects["cell"]], objects["delta_iou"]).statistic
    assert line["srcc"] == pytest.approx(expected)
    number, cases = worst_cases(found, 3)
    assert number.column == "detect_delta_iou"
    assert cases.select("object", "quality").unique().rows() == [(1, 0)]
    assert cases["image_id"][0] == "i002"


def test_no_coefficient_has_its_reason() -> None:
    frame = rows(half).with_columns(detect_delta_iou=pl.lit(0.0))
    line = correlations.correlation_table(as_rows(frame)).row(0, named=True)
    assert line["srcc"] is None
    assert line["reason"] == "detect_delta_iou is the same everywhere"
    few = rows(half).with_columns(detect_delta_iou=pl.when(pl.col("id") == "a0-0").then(1.0))
    assert "1 rows have both" in correlations.correlation_table(as_rows(few)).row(0, named=True)["reason"]


# -- recommendations ---------------------------------------------------------------------------------------------------


def test_the_cheapest_setting_that_keeps_a_score() -> None:
    """Delta is 0.1 / rate of a, and a little more by image: at most 0.3 in the mean needs quality 2; b is half the price."""
    found = as_rows(rows(half))
    condition = recommend.parse_condition("delta_iou <= 0.3", found.numbers)
    assert str(condition) == "mean of detect_delta_iou ≤ 0.3"
    table = recommend.recommendation_table(found, [condition], [])
    best = table.filter("best").row(0, named=True)
    assert (best["codec"], best["quality"], best["holds"]) == ("b", 2, True)
    assert (best["images"], best["images_checked"]) == (3, 3)
    chosen, checked = recommend.split(found.cells["source_id"].unique().to_list(), 0)
    for names, end in ((chosen, ""), (checked, "_checked")):
        here = found.cells.filter(pl.col("source_id").is_in(names), codec="b", quality=2)
        assert best[f"score{end}"] == pytest.approx(here["detect_delta_iou"].mean())
        assert best[f"rate{end}"] == pytest.approx(here["bits_per_pixel"].mean())
    assert not set(chosen) & set(checked)
    none = recommend.recommendation_table(found, [dataclasses.replace(condition, bound=-1.0)], [])
    assert none["remark"].to_list() == ["no quality of this sweep does"] * 2
    assert not none["best"].any()


def test_the_best_score_under_a_budget() -> None:
    found = as_rows(rows(lambda codec, image, quality: half(codec, 0, quality)))
    best = recommend.recommendation_table(found, [], [0.25, 0.01]).filter(
        pl.col("question").str.contains("0.25"), "best"
    )
    assert best.select("codec", "quality", "rate").rows() == [("b", 2, pytest.approx(0.225))]


def test_a_choice_that_does_not_hold_is_told() -> None:
    chosen, _ = recommend.split([f"i{n:03}" for n in range(6)], 0)

    def make(codec: str, image: int, quality: int) -> dict[str, Any]:
        return {"bits_per_pixel": RATES[quality], "psnr": 40.0 if f"i{image:03}" in chosen else 20.0}

    found = as_rows(rows(make))
    condition = recommend.parse_condition("p10:psnr>=35", found.numbers)
    best = recommend.recommendation_table(found, [condition], []).filter("best").row(0, named=True)
    assert (best["score"], best["score_checked"], best["holds"]) == (40, 20, False)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("psnr=38", "cannot be read"),
        ("p900:psnr>=3", "cannot be read"),
        ("psnr>=e", "cannot be read"),
        ("psmr>=38", "Did you mean 'psnr'"),
        ("psnr>=38; drop", "cannot be read"),
    ],
)
def test_conditions_that_cannot_be_read(text: str, message: str) -> None:
    with pytest.raises(InvalidSetting, match=message):
        recommend.parse_condition(text, numbers.numbers(rows(half)))


# -- rows, distributions, costs ----------------------------------------------------------------------------------------


def test_tiles_and_gops_are_not_mixed() -> None:
    frame = rows(half, codecs="a", images=2)
    tiles = [
        frame.with_columns(pl.lit(text).alias("extent"), pl.lit(gop).alias("gop"), id=pl.col("id") + f"{text}{gop}")
        for text in ("0,0,64,64", "0,64,64,64")
        for gop in (1, 8)
    ]
    found = as_rows(pl.concat(tiles))
    assert found.codecs == ["a, GOP 1", "a, GOP 8"]
    assert found.cells.height == 40
    assert found.cells["image_id"].n_unique() == 4
    assert found.cells["source_id"].n_unique() == 2
    assert bd.bd_table(found)["bd_rate"].to_list() == pytest.approx([0] * 4, abs=1e-9)


def test_several_sets_of_metrics_are_one_row_a_cell() -> None:
    frame = rows(noisy)
    one = frame.with_columns(ssim=pl.lit(None, pl.Float64), metric_definitions=pl.lit('{"psnr": "psnr/1"}'))
    other = frame.with_columns(psnr=pl.lit(None, pl.Float64), metric_definitions=pl.lit('{"ssim": "ssim/1"}'))
    found = as_rows(pl.concat([one, other]))
    assert found.cells.height == frame.height
    assert found.cells["psnr"].null_count() == found.cells["ssim"].null_count() == 0


def test_other_definitions_are_refused() -> None:
    frame = rows(half)
    with pytest.raises(InvalidSample, match="two definitions"):
        as_rows(pl.concat([frame, frame.with_columns(metric_definitions=pl.lit('{"psnr": "psnr/2"}'))]))


def test_distances_of_distributions() -> None:
    one, other = np.random.default_rng(0).normal(size=(2, 60))
    assert spread.distance(one, other + 0.4) == pytest.approx(stats.ks_2samp(one, other + 0.4).statistic)
    assert spread.distribution_table(as_rows(rows(half)))["distance"].to_list() == [0, 0]
    assert spread.distribution_table(as_rows(rows(half, codecs="a"))).is_empty()


def test_costs() -> None:
    first = spread.cost_table(as_rows(rows(half))).row(0, named=True)
    assert [first[name] for name in ("cells", "megapixels", "encode_ms", "metric_ms")] == pytest.approx(
        [30, 0.6, 1e3, 2500]
    )
    assert first["cells_per_cpu_s"] == pytest.approx(1 / 0.08)


@pytest.mark.parametrize("extent", [WHOLE, Extent((1, 2, 30, 40)), Extent(None, 8, 4), Extent((1, 2, 30, 40), 0, 9)])
def test_extents_are_read_back(extent: Extent) -> None:
    assert Extent.parse(extent.text) == extent


def test_the_summary_of_a_sweep_knows_tasks() -> None:
    table = analysis.summary_table(rows(half))
    assert table["bd_rate_detect_delta_iou"].to_list() == pytest.approx([0, -50])
    assert table["detect_delta_iou_max"][0] == pytest.approx(1.025)


# -- the page ----------------------------------------------------------------------------------------------------------


class Read(HTMLParser):
    """Tags that are open, images, and everything that a page could fetch."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.images: list[str] = []
        self.fetched: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)
        for name, value in attrs:
            if name in ("src", "href", "srcset", "data", "action") and value and not value.startswith("#"):
                (self.images if tag == "img" else self.fetched).append(value)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def rendered(frame: pl.DataFrame, **settings: Any) -> tuple[Content, dict[str, bytes], str]:
    content = compute(as_rows(frame), ReportSettings(repeats=100, **settings))
    drawn = figures(content)
    return content, drawn, page(content, drawn)


def test_page_is_whole_and_asks_for_nothing() -> None:
    content, drawn, text = rendered(rows(half, images=3), keep=("psnr>=20",))
    read = Read(text)
    assert read.open == []
    assert read.fetched == []
    assert "http" not in text
    assert len(read.images) == len(drawn) == 7  # curve, distribution and matrix of two numbers, correlations
    assert all(image.startswith("data:image/png;base64,iVBOR") for image in read.images)
    assert content.notes == ()


def test_what_comes_from_data_is_escaped() -> None:
    wild = "<script>alert('&')</script>"
    frame = rows(half, images=2).with_columns(
        image_id=pl.lit(wild) + pl.col("image_id"), error=pl.when(pl.col("id") == "a0-1").then(pl.lit(wild))
    )
    content = compute(as_rows(frame), ReportSettings(repeats=100, where=wild))
    number, found = worst_cases(content.rows, 2)
    cases = tuple(Case(row, number, None, wild) for row in found.iter_rows(named=True))
    text = page(dataclasses.replace(content, cases=cases), {wild: b""})
    assert wild not in text
    assert text.count("&lt;script&gt;") >= 6
    assert Read(text).open == []


@pytest.mark.parametrize(
    ("frame", "words"),
    [
        (rows(half, codecs="a", images=2), ["There is one codec", "there are not two here"]),
        (rows(half, images=1), ["There is one source image", "not checked: there is one image only"]),
        (rows(half, images=2, qualities=1), ["1 and 1"]),
        (rows(half, images=2).drop("detect_delta_iou"), ["No machine task was run"]),
        (rows(half, images=2, error="OSError: gone"), ["Every cell failed", "OSError: gone", "there is no curve"]),
        (
            rows(half, images=2).with_columns(psnr=pl.when(pl.col("image_id") != "i000").then("psnr")),
            ["psnr: 10 of 20 cells have no value"],
        ),
        (rows(half, images=2).with_columns(psnr=pl.lit(None, pl.Float64)), ["2 codecs, 1 numbers each"]),
    ],
)
def test_clear_words_instead_of_empty_boxes(frame: pl.DataFrame, words: list[str]) -> None:
    if "detect_delta_iou" not in frame.columns:
        frame = frame.with_columns(metric_definitions=pl.lit('{"psnr": "psnr/1"}'))
    _, _, text = rendered(frame)
    for word in words:
        assert word in text
    assert Read(text).open == []


def test_an_interval_needs_two_images_and_most_draws() -> None:
    draws = np.linspace(0, 1, 101)
    assert resampling.interval(draws, 2) == pytest.approx((0.025, 0.975))
    assert resampling.interval(draws, 1) == (None, None)
    assert resampling.interval(np.where(draws < 0.6, np.nan, draws), 5) == (None, None)


def test_an_object_is_shown_with_what_is_around_it() -> None:
    picture = np.zeros((200, 300, 3), np.uint8)
    row = {"object": 0, "x": 250.0, "y": 10.0, "width": 100.0, "height": 40.0}
    assert worst._window(row, picture, picture) == (0, 100, 80, 200)
    marked = picture.copy()
    marked[190:, 290:] = 255
    top, left, height, width = worst._window({}, picture, marked)
    assert (height, width) == (192, 192)
    assert (top, left) == (8, 108)
