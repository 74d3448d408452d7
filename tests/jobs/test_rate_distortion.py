"""Curves, BD-rates, summary and figure, on curves with known answers and on a small real sweep."""

import dataclasses
import json
import math
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
import skimage.data
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib import colors
from PIL import Image
from scipy.interpolate import PchipInterpolator

from sensorium.jobs import image_metrics
from sensorium.jobs.codecs import Picture
from sensorium.jobs.machine_quality import analysis, cells
from sensorium.jobs.machine_quality.report import bjontegaard
from sensorium.platform.errors import InvalidSample, InvalidSetting, UnknownPlugin

RATE = np.array([0.1, 0.2, 0.45, 0.8, 1.7])
QUALITY = np.array([26.0, 29.5, 33.0, 35.0, 39.5])

#: Strictly rising curves: (rate, quality).
curves = st.lists(st.tuples(st.floats(0.05, 1), st.floats(0.2, 5)), min_size=3, max_size=8).map(
    lambda steps: (np.exp(np.cumsum([a for a, _ in steps])), 20 + np.cumsum([b for _, b in steps]))
)


def sweep(points: dict[tuple[str, str], tuple[np.ndarray, np.ndarray]], **columns: object) -> pl.DataFrame:
    """Rows as of a sweep, from (codec, image) to (rates, PSNRs); qualities are 0, 1, 2 ..."""
    rows = [
        {
            "codec": codec,
            "image_id": image,
            "quality": number,
            "bits_per_pixel": float(rate),
            "psnr": float(value),
            "encode_cpu_s": 0.02,
            "decode_cpu_s": 0.01,
            "height": 100,
            "width": 200,
            "encoder_arguments": f"{codec} arguments",
            "codec_version": f"{codec} 1",
            "metric_definitions": json.dumps({"psnr": "psnr/1"}),
            "error": None,
            **columns,
        }
        for (codec, image), curve in points.items()
        for number, (rate, value) in enumerate(zip(*curve, strict=True))
    ]
    return pl.DataFrame(rows, schema_overrides={"error": pl.String}, infer_schema_length=None)


TWO = sweep(
    {
        ("first", "a"): (RATE, QUALITY),
        ("first", "b"): (4 * RATE, QUALITY - 2),
        ("second", "a"): (RATE / 2, QUALITY),
        ("second", "b"): (3 * RATE, QUALITY - 2),
    }
)


def with_error(frame: pl.DataFrame, codec: str, image: str, quality: int) -> pl.DataFrame:
    here = (pl.col("codec") == codec) & (pl.col("image_id") == image) & (pl.col("quality") == quality)
    measured = ["bits_per_pixel", "psnr", "encode_cpu_s", "decode_cpu_s"]
    return frame.with_columns(
        pl.when(here).then(pl.lit("ValueError: no")).otherwise(pl.col("error")).alias("error"),
        *(pl.when(~here).then(pl.col(name)).alias(name) for name in measured),
    )


@pytest.mark.parametrize(("factor", "percent"), [(0.5, -50), (1, 0), (1.25, 25), (3, 200)])
def test_a_constant_factor_in_rate(factor: float, percent: float) -> None:
    result = analysis.bd_rate((RATE, QUALITY), (factor * RATE, QUALITY))
    assert result.percent == pytest.approx(percent, abs=1e-9)
    assert result.overlap == 1
    assert result.reason is None


def test_a_shift_along_a_straight_line() -> None:
    """6 dB a doubling of the rate: 3 dB better is 1 / sqrt(2) of the rate, wherever the points lie."""
    rate = np.geomspace(0.1, 6.4, 7)
    quality = 30 + 6 * np.log2(rate)
    other = np.geomspace(0.13, 5, 5)
    result = analysis.bd_rate((rate, quality), (other, 33 + 6 * np.log2(other)))
    assert result.percent == pytest.approx(100 * (math.sqrt(0.5) - 1), abs=1e-9)


def test_agrees_with_scipy_on_partly_overlapping_curves() -> None:
    other_rate, other_quality = np.array([0.05, 0.3, 0.5, 1.1, 1.2]), np.array([27.0, 34.0, 34.2, 38.0, 41.0])
    low, high = 27.0, 39.5
    areas = [
        PchipInterpolator(quality, np.log(rate)).integrate(low, high)
        for rate, quality in ((RATE, QUALITY), (other_rate, other_quality))
    ]
    expected = 100 * math.expm1((areas[1] - areas[0]) / (high - low))
    result = analysis.bd_rate((RATE, QUALITY), (other_rate, other_quality))
    assert result.percent == pytest.approx(expected, abs=1e-9)
    assert result.overlap == pytest.approx((high - low) / (39.5 - 26))


@given(curves, curves)
@settings(deadline=None)
def test_interpolation_agrees_with_scipy(
    one: tuple[np.ndarray, np.ndarray], other: tuple[np.ndarray, np.ndarray]
) -> None:
    x, y = one[1], np.log(other[0][: len(one[1])])
    x = x[: len(y)]
    low, high = np.quantile(x, [0.1, 0.83])
    assert bjontegaard.monotone_integral(x, y, low, high) == pytest.approx(
        float(PchipInterpolator(x, y).integrate(low, high)), rel=1e-9, abs=1e-9
    )


@given(curves, curves)
@settings(deadline=None)
def test_swapping_the_curves_inverts_the_ratio(
    one: tuple[np.ndarray, np.ndarray], other: tuple[np.ndarray, np.ndarray]
) -> None:
    there, back = analysis.bd_rate(one, other), analysis.bd_rate(other, one)
    assert there.overlap == back.overlap
    if there.reason is None:
        assert (1 + there.percent / 100) * (1 + back.percent / 100) == pytest.approx(1)


@given(curves, st.floats(0.01, 100), st.randoms(use_true_random=False))
@settings(deadline=None)
def test_order_and_beaten_points_do_not_matter(
    curve: tuple[np.ndarray, np.ndarray], factor: float, random: Random
) -> None:
    rate, quality = curve
    beaten = (np.append(rate, rate[1:] * 1.01), np.append(quality, quality[1:] - 0.1))
    order = random.sample(range(len(beaten[0])), len(beaten[0]))
    result = analysis.bd_rate(curve, (factor * beaten[0][order], beaten[1][order]))
    assert result.percent == pytest.approx(100 * (factor - 1), rel=1e-6, abs=1e-6)


@pytest.mark.parametrize(
    ("test", "reason"),
    [
        ((RATE, QUALITY + 20), "share 0%"),
        ((RATE, QUALITY + 13.4), "share 1%"),
        ((RATE[:2], QUALITY[:2]), "at least 3 points a curve are needed; there are 5 and 2"),
        ((RATE[:1], QUALITY[:1]), "there are 5 and 1"),
        ((RATE[:0], QUALITY[:0]), "there are 5 and 0"),
        ((RATE, QUALITY[::-1]), "there are 5 and 1"),
        ((RATE, np.full(5, 30.0)), "there are 5 and 1"),
        ((RATE, np.full(5, np.nan)), "there are 5 and 0"),
        ((RATE * 0, QUALITY), "there are 5 and 0"),
    ],
)
def test_no_answer_rather_than_a_wild_one(test: tuple[np.ndarray, np.ndarray], reason: str) -> None:
    result = analysis.bd_rate((RATE, QUALITY), test)
    assert math.isnan(result.percent)
    assert result.reason is not None
    assert reason in result.reason
    assert result.overlap < 0.02


def test_least_overlap_can_be_chosen() -> None:
    shifted = (RATE, QUALITY + 9)
    assert analysis.bd_rate((RATE, QUALITY), shifted).reason is not None
    result = analysis.bd_rate((RATE, QUALITY), shifted, min_overlap=0.3)
    assert result.overlap == pytest.approx(1 / 3)
    assert -95 < result.percent < -50


def test_pareto_keeps_what_nothing_beats() -> None:
    rate = np.array([3.0, 1.0, 2.0, 2.0, 4.0, 0.5, 5.0])
    quality = np.array([30.0, 20.0, 25.0, 26.0, 30.0, 21.0, 29.0])
    assert analysis.pareto(rate, quality).tolist() == [5, 3, 0]


def test_mean_curves_are_means_of_whole_curves() -> None:
    curve = analysis.mean_curves(TWO, "psnr").filter(codec="first")
    assert curve["images"].to_list() == [2] * 5
    assert curve["bits_per_pixel"].to_list() == pytest.approx(2.5 * RATE)
    assert curve["psnr"].to_list() == pytest.approx(QUALITY - 1)

    curve = analysis.mean_curves(with_error(TWO, "first", "b", 3), "psnr").filter(codec="first")
    assert curve["images"].to_list() == [1] * 5
    assert curve["psnr"].to_list() == pytest.approx(QUALITY)


def test_image_curves_leave_failures_and_repeats_out() -> None:
    frame = with_error(pl.concat([TWO, TWO]), "first", "a", 1)
    points = analysis.image_curves(frame, "psnr")
    assert points.height == 19
    rates = points.filter(codec="first", image_id="a")["bits_per_pixel"].to_list()
    assert rates == pytest.approx([*RATE[:1], *RATE[2:]])


def test_bd_rates_are_means_over_images() -> None:
    table = analysis.bd_rates(TWO, "psnr")
    assert table["codec"].to_list() == ["first", "second"]
    assert table["reference"].to_list() == ["first", "first"]
    assert table["bd_rate"].to_list() == pytest.approx([0, -37.5])  # of -50 and -25
    assert table["images"].to_list() == [2, 2]
    assert table["reason"].to_list() == [None, None]
    assert analysis.bd_rates(TWO, "psnr", "second")["bd_rate"].to_list() == pytest.approx([(100 + 100 / 3) / 2, 0])


def test_bd_rates_tell_why_there_is_none() -> None:
    frame = sweep({("first", "a"): (RATE, QUALITY), ("second", "a"): (RATE, QUALITY + 30)})
    row = analysis.bd_rates(frame, "psnr").row(1, named=True)
    assert row["bd_rate"] is None
    assert row["images"] == 0
    assert "share 0%" in row["reason"]


def test_images_without_a_partner_are_left_out() -> None:
    frame = TWO.filter(~((pl.col("codec") == "second") & (pl.col("image_id") == "b")))
    row = analysis.bd_rates(frame, "psnr").row(1, named=True)
    assert row["bd_rate"] == pytest.approx(-50)
    assert row["images"] == 1
    assert "there are 5 and 0" in row["reason"]


def test_summary() -> None:
    frame = with_error(TWO, "second", "b", 4)
    first, second = analysis.summary_table(frame).rows(named=True)
    counts = ["codec", "cells", "errors", "images", "qualities"]
    assert [first[name] for name in counts] == ["first", 10, 0, 2, 5]
    assert [second[name] for name in counts] == ["second", 10, 1, 2, 5]
    assert (first["bits_per_pixel_min"], first["bits_per_pixel_max"]) == pytest.approx((0.25, 4.25))
    assert (first["psnr_min"], first["psnr_max"]) == pytest.approx((25, 38.5))
    assert (second["encode_ms_per_megapixel"], second["decode_ms_per_megapixel"]) == pytest.approx((1000, 500))
    assert (first["bd_rate_psnr"], second["bd_rate_psnr"]) == pytest.approx((0, -37.5), abs=0.5)


def test_summary_of_a_codec_that_always_fails() -> None:
    frame = TWO
    for image in "ab":
        for quality in range(5):
            frame = with_error(frame, "second", image, quality)
    second = analysis.summary_table(frame).row(1, named=True)
    assert second["errors"] == 10
    assert [second[name] for name in ("psnr_min", "encode_ms_per_megapixel", "bd_rate_psnr")] == [None] * 3


@pytest.mark.parametrize(
    ("column", "other", "message"),
    [
        ("metric_definitions", json.dumps({"psnr": "psnr/2"}), "'psnr' in two definitions"),
        ("encoder_arguments", "other", "several encoder_arguments"),
        ("codec_version", "other", "several codec_version"),
    ],
)
def test_values_of_different_kinds_are_not_mixed(column: str, other: str, message: str) -> None:
    frame = pl.concat([TWO, TWO.with_columns(pl.lit(other).alias(column))])
    with pytest.raises(InvalidSample, match=message):
        analysis.summary_table(frame)


def test_unknown_names_are_refused() -> None:
    with pytest.raises(InvalidSetting, match="Did you mean 'psnr'"):
        analysis.mean_curves(TWO, "psnrr")
    with pytest.raises(InvalidSetting, match="Did you mean 'second'"):
        analysis.bd_rates(TWO, "psnr", "secund")
    foreign = TWO.rename({"psnr": "other"}).with_columns(metric_definitions=pl.lit('{"other": "other/1"}'))
    with pytest.raises(UnknownPlugin, match="other"):
        analysis.bd_rates(foreign, "other")


@pytest.fixture(scope="module")
def real() -> pl.DataFrame:
    measures = cells.Measures.open(("psnr", "psnr_y", "ssim"))
    rows: list[dict[str, Any]] = []
    for name in ("astronaut", "coffee"):
        image = getattr(skimage.data, name)()[60:188, 150:310]
        content = cells.content_hash(image)
        plan = [cells.Cell(content, "jpeg", quality) for quality in (10, 25, 50, 75, 90)]
        plan += [cells.Cell(content, "x264", quality) for quality in (46, 40, 34, 28, 22)]
        subject = cells.Subject(name, [Picture.of(image)], {})
        rows += [result.row for result in cells.evaluate(subject, plan, measures)]
    frame = pl.from_arrow(pa.Table.from_pylist(rows, schema=cells.schema(measures)))
    assert isinstance(frame, pl.DataFrame)
    return frame


def test_x264_needs_less_than_jpeg_on_photographs(real: pl.DataFrame) -> None:
    table = analysis.summary_table(real)
    assert table["codec"].to_list() == ["jpeg", "x264"]
    assert table["errors"].to_list() == [0, 0]
    for metric in ("psnr", "psnr_y", "ssim"):
        assert -70 < table[f"bd_rate_{metric}"][1] < -25
    assert (table["encode_ms_per_megapixel"] > 0).all()


def drawn(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def coloured(pixels: np.ndarray, colour: str) -> int:
    return int((pixels == np.round(np.array(colors.to_rgb(colour)) * 255)).all(axis=2).sum())


def test_figure_of_a_sweep(real: pl.DataFrame, tmp_path: Path) -> None:
    path = tmp_path / "curves.png"
    analysis.plot(real, path)
    pixels = drawn(path)
    assert pixels.shape[1] >= 1200
    thirds = np.array_split(pixels, 3, axis=1)
    for colour, _ in analysis._STYLES[:2]:
        assert min(coloured(third, colour) for third in thirds) > 500  # each codec's bold line in each panel
    assert coloured(pixels, analysis._STYLES[2][0]) == 0


def test_figure_has_a_panel_for_each_metric(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three in a line; a fourth begins another."""
    names = ["psnr", "psnr_y", "ssim", "fourth"]
    fourth = dataclasses.replace(image_metrics.get("ssim"), name="fourth")
    monkeypatch.setattr(
        image_metrics, "get", lambda name, get=image_metrics.get: fourth if name == "fourth" else get(name)
    )
    sizes = []
    for count in (1, 3, 4):
        text = json.dumps({name: f"{name}/1" for name in names[:count]})
        values = [pl.col("psnr").alias(name) for name in names[:count]]
        analysis.plot(TWO.with_columns(*values, metric_definitions=pl.lit(text)), tmp_path / f"{count}.png")
        sizes.append(drawn(tmp_path / f"{count}.png").shape[:2])
    assert sizes[1] == (sizes[0][0], 3 * sizes[0][1])
    assert sizes[2][1] == sizes[1][1]
    assert 1.7 < sizes[2][0] / sizes[1][0] < 2
    assert coloured(np.array_split(drawn(tmp_path / "4.png"), 2)[1], analysis._STYLES[0][0]) > 500


def test_figure_in_another_format(tmp_path: Path) -> None:
    analysis.plot(TWO, tmp_path / "curves.svg")
    assert analysis._STYLES[0][0].lower() in (tmp_path / "curves.svg").read_text().lower()


def test_figure_needs_something_to_draw(tmp_path: Path) -> None:
    with pytest.raises(InvalidSetting, match="nothing to draw"):
        analysis.plot(TWO.with_columns(error=pl.lit("ValueError: no")), tmp_path / "none.png")
    assert not list(tmp_path.iterdir())
