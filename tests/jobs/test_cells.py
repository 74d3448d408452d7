"""Cells of a sweep: keys, rows, failures, and what images become before they are coded."""

import dataclasses
import logging
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import skimage.data
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from sensorium.jobs import codecs, image_metrics
from sensorium.jobs.codecs import Codec, Encoded, Picture
from sensorium.jobs.image_metrics import Metric
from sensorium.jobs.machine_quality import cells
from sensorium.jobs.machine_quality.cells import Cell, Measures, Subject
from sensorium.jobs.machine_quality.material import Extent, to_rgb8
from sensorium.platform.errors import BrokenPlugin, InvalidSample, MissingDependency, UnknownPlugin, UnreadableFile

PHOTO = skimage.data.chelsea()[100:164, 150:230]
HASH = cells.content_hash(PHOTO)
METRICS = [image_metrics.get(name) for name in ("psnr", "psnr_y", "ssim")]
MEASURES = Measures(tuple(METRICS))
PLAN = [Cell(HASH, "jpeg", 30), Cell(HASH, "x264", 40), Cell(HASH, "jpeg", 80)]
MEASURED = ["bytes_total", "bytes_payload", "bits_per_pixel", "bitstream_hash", "encode_cpu_s", "decode_cpu_s"]
MEASURED += ["metric_cpu_s", "psnr", "psnr_y", "ssim"]


def rows_of(image: np.ndarray = PHOTO, plan: list[Cell] = PLAN, **options: Any) -> list[dict[str, Any]]:
    subject = Subject("cat", [Picture.of(to_rgb8(image))], {})
    measures = Measures(tuple(options.pop("metrics", METRICS)))
    return [result.row for result in cells.evaluate(subject, plan, measures, **options)]


def with_codecs(**changed: Codec) -> Callable[[str], Codec]:
    """A lookup in which some codecs are other than those installed."""
    return lambda name: changed.get(name) or codecs.get(name)


def jpeg(**changes: Any) -> Codec:
    return dataclasses.replace(codecs.get("jpeg"), **changes)


def raising(error: Exception) -> Callable[..., Any]:
    def fail(*_: object) -> None:
        raise error

    return fail


def metric(value: float) -> Metric:
    return Metric("odd", "odd", "odd/1", "", True, lambda reference, distorted: value)


def test_one_row_per_cell_in_order() -> None:
    rows = rows_of()
    assert [(row["codec"], row["quality"]) for row in rows] == [("jpeg", 30), ("x264", 40), ("jpeg", 80)]
    assert [row["id"] for row in rows] == [cells.key(cell, MEASURES) for cell in PLAN]
    assert {row["image_id"] for row in rows} == {"cat"}
    assert {row["error"] for row in rows} == {None}


def test_rows_fill_their_schema() -> None:
    schema = cells.schema(MEASURES)
    rows = rows_of()
    assert all(set(row) == set(schema.names) for row in rows)
    table = pa.Table.from_pylist(rows, schema=schema)
    assert table.to_pylist() == rows
    assert [name for name in schema.names if table[name].null_count] == ["error"]


def test_a_row_holds_what_codec_and_metrics_say() -> None:
    row = rows_of()[1]
    codec = codecs.get("x264")
    encoded = codec.encode(Picture.of(PHOTO), 40)
    decoded = codec.decode(encoded.data, (64, 80))
    assert (row["height"], row["width"]) == (64, 80)
    assert (row["bytes_total"], row["bytes_payload"]) == (len(encoded.data), encoded.payload)
    assert row["bits_per_pixel"] == pytest.approx(8 * encoded.payload / (64 * 80))
    assert row["encoder_arguments"] == codec.arguments
    assert row["codec_version"] == codec.version()
    for metric in METRICS:
        assert row[metric.name] == metric.compute(PHOTO, decoded)
    assert row["task_cpu_s"] == 0
    for step in ("encode", "decode", "metric"):
        assert 0 < row[f"{step}_cpu_s"] < 5


def test_a_cell_alone_is_the_same_as_among_others() -> None:
    together = rows_of()
    alone = [row for cell in reversed(PLAN) for row in rows_of(plan=[cell])][::-1]
    times = {name for name in together[0] if name.endswith("_cpu_s")}
    for one, other in zip(together, alone, strict=True):
        assert {k: v for k, v in one.items() if k not in times} == {k: v for k, v in other.items() if k not in times}


def test_key_holds_all_that_decides_a_row() -> None:
    cell = Cell(HASH, "jpeg", 50)
    reference = cells.key(cell, MEASURES)
    assert len(reference) == 32
    others = [
        cells.key(dataclasses.replace(cell, image_hash="other"), MEASURES),
        cells.key(dataclasses.replace(cell, codec="x264"), MEASURES),
        cells.key(dataclasses.replace(cell, quality=51), MEASURES),
        cells.key(dataclasses.replace(cell, gop=4), MEASURES),
        cells.key(dataclasses.replace(cell, extent=Extent((0, 0, 32, 32))), MEASURES),
        cells.key(dataclasses.replace(cell, extent=Extent(None, 0, 8)), MEASURES),
        cells.key(cell, Measures(tuple(METRICS[:2]))),
        cells.key(cell, Measures((*METRICS[:2], dataclasses.replace(METRICS[2], definition="ssim/other")))),
        cells.key(cell, MEASURES, with_codecs(jpeg=jpeg(arguments="other"))),
        cells.key(cell, MEASURES, with_codecs(jpeg=jpeg(version=lambda: "other"))),
    ]
    assert len({reference, *others}) == len(others) + 1
    assert cells.key(cell, Measures(tuple(METRICS[::-1]))) == reference


@given(st.lists(st.tuples(st.text(max_size=4), st.sampled_from(["jpeg", "x264"]), st.integers(0, 99)), unique=True))
@settings(deadline=None)
def test_keys_do_not_collide(grid: list[tuple[str, str, int]]) -> None:
    assert len({cells.key(Cell(*cell), MEASURES) for cell in grid}) == len(grid)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"encode": raising(InvalidSample("too wide"))}, "InvalidSample: too wide"),
        ({"decode": raising(UnreadableFile("damaged"))}, "UnreadableFile: damaged"),
        ({"decode": raising(TypeError("our own fault"))}, "TypeError: our own fault"),
        ({"decode": lambda data, size: PHOTO[:-1]}, "BrokenPlugin: codec 'jpeg' decodes an image of shape"),
        ({"decode": lambda data, size: PHOTO.astype(float)}, "BrokenPlugin: codec 'jpeg' decodes an image of shape"),
        ({"encode": lambda image, quality: Encoded(b"rubbish", 7)}, "UnreadableFile: mjpeg cannot decode 7 bytes"),
    ],
)
def test_a_failure_stays_in_its_cell(changes: dict[str, Any], expected: str) -> None:
    rows = rows_of(lookup=with_codecs(jpeg=jpeg(**changes)))
    assert [row["error"] is None for row in rows] == [False, True, False]
    assert rows[0]["error"].startswith(expected)
    assert {rows[0][name] for name in MEASURED} == {None}
    assert (rows[0]["height"], rows[0]["width"]) == (64, 80)
    assert rows[1] | {"encode_cpu_s": 0, "decode_cpu_s": 0, "metric_cpu_s": 0} == rows_of(plan=PLAN[1:2])[0] | {
        "encode_cpu_s": 0,
        "decode_cpu_s": 0,
        "metric_cpu_s": 0,
    }
    pa.Table.from_pylist(rows, schema=cells.schema(MEASURES))


def test_only_unexpected_failures_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        rows_of(plan=PLAN[:1], lookup=with_codecs(jpeg=jpeg(encode=raising(InvalidSample("expected")))))
        assert not caplog.records
        rows_of(plan=PLAN[:1], lookup=with_codecs(jpeg=jpeg(encode=raising(ZeroDivisionError("surprise")))))
    (record,) = caplog.records
    assert record.exc_info is not None
    assert record.exc_info[0] is ZeroDivisionError


def test_what_is_not_installed_stops_the_sweep() -> None:
    """It is no property of a cell: a row with an error would pass for an answer."""
    with pytest.raises(MissingDependency):
        rows_of(lookup=with_codecs(jpeg=jpeg(encode=raising(MissingDependency("no encoder")))))
    with pytest.raises(UnknownPlugin):
        rows_of(plan=[Cell(HASH, "jpeg2001", 3)])


def test_an_image_too_small_for_a_metric_is_an_error_row() -> None:
    (row,) = rows_of(PHOTO[:8, :8], PLAN[:1])
    assert row["error"].startswith("InvalidSample: SSIM needs")
    assert row["bytes_total"] is None


def test_an_image_that_cannot_be_converted_is_refused() -> None:
    with pytest.raises(InvalidSample, match="an image to code must be grey"):
        rows_of(np.zeros((5, 6, 7), np.uint8))


def test_rows_of_an_unreadable_image() -> None:
    rows = [cells.failed(cell, MEASURES, OSError("gone"), image_id="cat").row for cell in PLAN]
    assert [row["error"] for row in rows] == ["OSError: gone"] * 3
    assert all(set(row) == set(cells.schema(MEASURES).names) for row in rows)
    assert {row["height"] for row in rows} == {None}


@pytest.mark.parametrize(("value", "stored"), [(math.nan, None), (math.inf, None), (2, 2.0), (np.float32(0.5), 0.5)])
def test_values_are_finite_or_null(value: float, stored: float | None) -> None:
    (row,) = rows_of(plan=PLAN[:1], metrics=[metric(value)])
    assert row["error"] is None
    assert row["odd"] == stored
    assert type(row["odd"]) is type(stored)


def test_a_metric_must_not_take_the_name_of_a_column() -> None:
    with pytest.raises(BrokenPlugin, match="'height'"):
        cells.schema(Measures((dataclasses.replace(METRICS[0], name="height"),)))


def test_grey_and_rgba_images_are_coded() -> None:
    grey = rows_of(PHOTO[..., 0], PLAN[:1])[0]
    assert grey["error"] is None
    opaque = np.dstack([PHOTO, np.full(PHOTO.shape[:2], 255, np.uint8)])
    assert rows_of(opaque, PLAN[:1])[0]["bitstream_hash"] == rows_of(PHOTO, PLAN[:1])[0]["bitstream_hash"]


@given(npst.arrays(np.uint8, st.tuples(st.integers(1, 5), st.integers(1, 5), st.just(3))))
@settings(deadline=None)
def test_depths_of_the_same_image_become_the_same(image: np.ndarray) -> None:
    expected = to_rgb8(image)
    assert np.array_equal(expected, image)
    assert np.array_equal(to_rgb8(image.astype(np.uint16) * 257), image)
    for kind in (np.float32, np.float64):
        assert np.array_equal(to_rgb8((image / 255).astype(kind)), image)
    grey = image[..., 0]
    for shaped in (grey, grey[..., np.newaxis]):
        assert np.array_equal(to_rgb8(shaped), np.dstack([grey] * 3))


def test_16_bits_are_rounded_to_the_nearest() -> None:
    levels = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    assert np.array_equal(to_rgb8(levels)[..., 0], np.rint(levels / 257).astype(np.uint8))


def test_rgba_lies_over_black() -> None:
    image = np.array([[[200, 100, 50, 255], [200, 100, 50, 0], [200, 101, 50, 128]]], np.uint8)
    expected = [[200, 100, 50], [0, 0, 0], [100, 51, 25]]
    assert to_rgb8(image).tolist() == [expected]
    assert to_rgb8(image.astype(np.uint16) * 257).tolist() == [expected]


@pytest.mark.parametrize(
    "wrong",
    [
        np.zeros((4, 4, 2), np.uint8),
        np.zeros((2, 4, 4, 3), np.uint8),
        np.zeros((0, 4, 3), np.uint8),
        np.zeros((4, 4, 3), np.int32),
        np.zeros((4, 4), bool),
        np.zeros((4, 4), complex),
        np.full((4, 4), 1.5),
        np.full((4, 4), -0.1),
        np.full((4, 4), np.nan),
    ],
    ids=lambda array: f"{array.shape}-{array.dtype}-{array.flat[:1]}",
)
def test_other_images_are_refused(wrong: np.ndarray) -> None:
    with pytest.raises(InvalidSample, match="image"):
        to_rgb8(wrong)


def test_content_hash_sees_pixels_shape_and_type_but_not_layout() -> None:
    image = np.arange(24, dtype=np.uint16).reshape(4, 6)
    assert cells.content_hash(image) == cells.content_hash(np.asfortranarray(image))
    assert cells.content_hash(image) == cells.content_hash(image.astype(">u2"))
    changed = image.copy()
    changed[0, 0] += 1
    different = [image, changed, image.reshape(6, 4), image.astype(np.int16), image.view(np.int16), image.T]
    assert len({cells.content_hash(array) for array in different}) == 5
