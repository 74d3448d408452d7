"""Reports of a small real sweep: through the functions, and through the command line."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
import skimage.data
from PIL import Image

from sensorium.catalog import Catalog
from sensorium.catalog.declaration import Source
from sensorium.catalog.fields import ScalarField
from sensorium.jobs.codecs import Picture
from sensorium.jobs.machine_quality import cells
from sensorium.jobs.machine_quality.report.command import write
from sensorium.jobs.machine_quality.report.content import ReportSettings, build
from sensorium.platform.cli import main
from sensorium.platform.errors import InvalidSample, InvalidSetting

GRID = {"jpeg": (10, 30, 60, 90), "x264": (45, 38, 30, 22)}
METRICS = ("psnr_y", "ssim")


def crops() -> dict[str, np.ndarray]:
    """Three photographs [96, 128, 3]."""
    names = ("astronaut", "coffee", "chelsea")
    return {name: np.ascontiguousarray(getattr(skimage.data, name)()[60:156, 150:278]) for name in names}


def append_rows(catalog: Catalog, name: str, grid: dict[str, tuple[int, ...]], pictures: dict[str, np.ndarray]) -> None:
    """Rows of a sweep over the data set ``photos``, as its workers write them."""
    measures = cells.Measures.open(METRICS)
    schema = cells.schema(measures)
    rows = []
    for identity, image in pictures.items():
        content = cells.content_hash(image)
        plan = [cells.Cell(content, codec, quality) for codec, values in grid.items() for quality in values]
        subject = cells.Subject(identity, [Picture.of(image)], {})
        rows += [result.row for result in cells.evaluate(subject, plan, measures)]
    rows.append(cells.failed(cells.Cell("other", "jpeg", 10), measures, OSError("gone"), image_id="lost").row)
    fields = [ScalarField(column.name, column.type) for column in schema if column.name != "id"]
    source = Source("photos", catalog["photos"].version)
    target = catalog.create(name, modality="table", fields=fields, sources=[source])
    target.append(pa.Table.from_pylist(rows, schema=schema).to_pylist(), sources=[source])


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    catalog = Catalog(tmp_path_factory.mktemp("report") / "lake")
    photos = catalog.create("photos", modality="image")
    photos.append([{"id": name, "image": image} for name, image in crops().items()])
    append_rows(catalog, "rd", GRID, crops())
    return catalog


def test_report_of_a_sweep(lake: Catalog, tmp_path: Path) -> None:
    content = build(lake, "rd", ReportSettings(keep=("psnr_y>=30",), worst=3, repeats=200))
    best = content.tables["recommendations"].filter("best").row(0, named=True)
    settings = content.rows.cells.group_by("codec", "quality").agg(pl.col("bits_per_pixel", "psnr_y").mean())
    assert best["score"] >= 30
    assert best["codec"] in GRID
    assert (best["images"], best["images_checked"]) == (2, 1)
    assert settings.height == 8
    saved = content.tables["bd_rates"].filter(number="psnr_y", codec="x264").row(0, named=True)
    assert -70 < saved["bd_rate"] < -10
    assert saved["low"] <= saved["bd_rate"] <= saved["high"]
    assert content.rows.failed.height == 1
    assert content.tables["errors"].rows() == [("jpeg", "OSError: gone", 1)]

    page = write(content, tmp_path / "out").read_text()
    assert not re.search(r"(src|href)=[\"'](?!data:|#)", page)
    assert "http" not in page
    names = {path.stem for path in (tmp_path / "out" / "tables").glob("*.parquet")}
    assert names == set(content.tables)
    assert pl.read_parquet(tmp_path / "out" / "tables" / "bd_rates.parquet").equals(content.tables["bd_rates"])
    for figure in (tmp_path / "out" / "figures").glob("*.png"):
        with Image.open(figure) as image:
            assert len(image.getcolors(1 << 20) or range(9)) > 8, f"{figure.name} is blank"


def test_worst_cases_are_coded_again(lake: Catalog) -> None:
    """The picture shows the crop of the reference, and what the codec made of it."""
    content = build(lake, "rd", ReportSettings(worst=3, repeats=100))
    values = [case.value for case in content.cases]
    assert values == sorted(values)
    assert values[0] == content.rows.cells["psnr_y"].min()
    assert [case.note for case in content.cases] == [""] * 3
    for case in content.cases:
        assert case.picture is not None
        with Image.open(io.BytesIO(case.picture)) as image:
            pixels = np.asarray(image)
        assert pixels.shape == (96, 128 + 4 + 128, 3)
        assert np.array_equal(pixels[:, :128], crops()[case.row["image_id"]])
        error = np.mean((pixels[:, :128].astype(float) - pixels[:, 132:]) ** 2)
        assert abs(10 * np.log10(255**2 / error) - case.value) < 6  # PSNR of RGB and of luma are not far apart


def test_another_encoder_or_a_lost_sample_is_told(lake: Catalog) -> None:
    other = crops()
    other["coffee"] = other["coffee"][::-1]
    append_rows(lake, "replaced", {"jpeg": (10,)}, {"coffee": other["coffee"], "unknown": other["chelsea"]})
    content = build(lake, "replaced", ReportSettings(worst=5, repeats=100))
    notes = {case.row["image_id"]: case for case in content.cases}
    assert "not the one that was measured" in notes["coffee"].note
    assert notes["coffee"].picture is not None
    assert "holds sample 'unknown' any more" in notes["unknown"].note
    assert notes["unknown"].picture is None


def test_rows_can_be_selected(lake: Catalog) -> None:
    content = build(lake, "rd", ReportSettings(where="codec = 'jpeg'", worst=0, repeats=100))
    assert content.rows.codecs == ["jpeg"]
    assert content.tables["bd_rates"].is_empty()
    with pytest.raises(InvalidSetting, match="no rows here"):
        build(lake, "rd", ReportSettings(where="codec = 'none'"))
    with pytest.raises(InvalidSetting, match="holds no rows of a sweep"):
        build(lake, "photos", ReportSettings())


def test_mixed_definitions_name_the_way_out(lake: Catalog) -> None:
    measures = cells.Measures.open(METRICS)
    fields = [ScalarField(column.name, column.type) for column in cells.schema(measures) if column.name != "id"]
    rows = lake["rd"].select("error is null").frame().to_dicts()
    changed = [{**row, "id": f"b{row['id']}", "codec_version": "0.1"} for row in rows if row["codec"] == "jpeg"]
    lake.create("mixed", modality="table", fields=fields).append([*rows, *changed])
    with pytest.raises(InvalidSample, match=r"several codec_version.*--where"):
        build(lake, "mixed", ReportSettings())
    selected = build(lake, "mixed", ReportSettings(where="codec_version <> '0.1'", worst=0, repeats=100))
    assert selected.rows.cells.height == 24


def test_on_the_command_line(lake: Catalog, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = [
        "--lake",
        str(lake.storage.at_path()),
        "sweep",
        "report",
        "rd",
        "-o",
        str(tmp_path / "r"),
        "--worst",
        "2",
    ]
    with pytest.raises(SystemExit) as end:
        main([*command, "--budget", "1.5", "--keep", "p90:ssim>=0.8", "--repeats", "100"])
    assert not end.value.code
    printed = capsys.readouterr().out
    assert "24 cells, 1 failed, codecs jpeg, x264" in printed
    assert "cheapest with P90 of ssim" in printed
    assert str(tmp_path / "r" / "report.html") in printed.replace("\n", "")
    with pytest.raises(SystemExit):
        main([*command, "--repeats", "100", "--json"])
    said = json.loads(capsys.readouterr().out)
    assert said["cells"] == 24
    assert [case["shown"] for case in said["worst"]] == [True, True]
    assert {row["question"] for row in said["recommendations"]} == {
        f"best mean of psnr_y within {bits} bits per pixel" for bits in ("0.25", "0.5", "1")
    }


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--keep", "psnr_y=3"], "cannot be read"),
        (["--keep", "psnry>=3"], "Did you mean 'psnr_y'"),
        (["--budget", "-1"], "above 0"),
        (["--worst-by", "nothing"], "no metric or number 'nothing'"),
    ],
)
def test_mistakes_on_the_command_line(
    options: list[str], message: str, lake: Catalog, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = ["--lake", str(lake.storage.at_path()), "sweep", "report", "rd", "-o", str(tmp_path), *options]
    with pytest.raises(SystemExit) as end:
        main([*line, "--repeats", "100"])
    assert end.value.code == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_the_report_is_listed_beside_the_systems(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["sweep", "--help"])
    printed = capsys.readouterr().out
    assert "report" in printed
    assert "machine_quality" in printed
