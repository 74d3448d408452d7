"""The sweep on a real Ray: every cell once, bad images contained, workers that die, runs that stop."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from sensorium.catalog import Catalog, Dataset
from sensorium.jobs.machine_quality.config import SweepConfig, parse_qualities
from sensorium.jobs.machine_quality.sweep import plan_sweep, run_sweep, sweep_rows
from sensorium.platform.errors import InvalidSetting, UnknownField, UnknownPlugin

GRID = {"jpeg": (20, 80), "x264": (45, 25)}


def config(**changes: Any) -> SweepConfig:
    return SweepConfig(**{"data": "photos", "into": "rd", "qualities": GRID, "metrics": ("psnr", "ssim"), **changes})


@pytest.fixture
def photos(catalog: Catalog) -> Dataset:
    from skimage import data

    dataset = catalog.create("photos", modality="image")
    cat, cup, man = data.chelsea()[100:164, 100:180], data.coffee()[50:114, 100:180], data.camera()[::8, ::8, None]
    dataset.append([{"id": "cat", "image": cat}, {"id": "cup", "image": cup}, {"id": "man", "image": man}])
    return dataset


@pytest.mark.usefixtures("ray_cluster")
def test_every_cell_once_and_nothing_to_do_the_second_time(photos: Dataset, catalog: Catalog) -> None:
    report = run_sweep(catalog, plan_sweep(catalog, config()))
    assert (report.cells, report.computed, report.present, report.errors) == (12, 12, 0, 0)
    rows = catalog["rd"].select().frame()
    assert rows.height == rows["id"].n_unique() == 12
    assert set(rows.select("image_id", "codec", "quality").rows()) == {
        (image, codec, quality)
        for image in ("cat", "cup", "man")
        for codec, values in GRID.items()
        for quality in values
    }
    assert rows["psnr"].min() > 15
    assert rows["bits_per_pixel"].min() > 0
    plan = plan_sweep(catalog, config())
    assert plan.missing.is_empty()
    again = run_sweep(catalog, plan)
    assert (again.computed, again.present, again.version) == (0, 12, report.version)


@pytest.mark.usefixtures("ray_cluster")
def test_a_larger_grid_runs_only_what_is_new(photos: Dataset, catalog: Catalog) -> None:
    run_sweep(catalog, plan_sweep(catalog, config()))
    wider = config(qualities={"jpeg": (20, 50, 80), "x264": (45, 25)})
    assert run_sweep(catalog, plan_sweep(catalog, wider)).computed == 3
    photos.append([{"id": "new", "image": np.zeros((32, 32, 3), np.uint8)}])
    assert run_sweep(catalog, plan_sweep(catalog, wider)).computed == 5
    assert sweep_rows(catalog, config()).height == 16


@pytest.mark.usefixtures("ray_cluster")
def test_results_do_not_depend_on_how_the_work_was_cut(photos: Dataset, catalog: Catalog) -> None:
    run_sweep(catalog, plan_sweep(catalog, config()))
    run_sweep(catalog, plan_sweep(catalog, config(into="rd2", block_seconds=1e-6)))
    columns = ["id", "bitstream_hash", "bytes_total", "psnr", "ssim"]
    assert catalog["rd"].select().frame().select(columns).equals(catalog["rd2"].select().frame().select(columns))


@pytest.mark.usefixtures("ray_cluster")
def test_lineage_and_run_are_recorded(photos: Dataset, catalog: Catalog) -> None:
    report = run_sweep(catalog, plan_sweep(catalog, config()))
    edges = catalog.lineage("rd").filter(direction="upstream")
    assert set(edges["made_from"]) == {"photos"}
    assert set(edges["from_version"]) == {1}
    run = catalog.runs().row(0, named=True)
    assert (run["run"], run["kind"], run["name"], run["state"]) == (report.run, "sweep", "machine_quality", "finished")
    assert json.loads(run["configuration"])["qualities"] == {"jpeg": [20, 80], "x264": [45, 25]}
    assert "rd" in set(catalog.lineage("photos")["dataset"])


@pytest.mark.usefixtures("ray_cluster")
def test_a_damaged_image_spoils_its_own_cells_only(photos: Dataset, catalog: Catalog) -> None:
    fragment = photos.append([{"id": "bad", "image": np.zeros((32, 32, 3), np.uint8) + 7}])
    reference = photos.select("id = 'bad'").rows["image"][0]
    folder = Path(photos.storage.at_path("fragments", reference["fragment"]))
    for path in folder.rglob("c/**/*"):
        if path.is_file():
            path.write_bytes(b"")
    assert fragment == 2
    report = run_sweep(catalog, plan_sweep(catalog, config()))
    assert (report.computed, report.errors) == (16, 4)
    bad = catalog["rd"].select("error is not null").frame()
    assert set(bad["image_id"]) == {"bad"}
    assert bad["psnr"].null_count() == 4
    assert run_sweep(catalog, plan_sweep(catalog, config())).computed == 0
    assert run_sweep(catalog, plan_sweep(catalog, config(retry_errors=True))).errors == 4


@pytest.mark.slow
@pytest.mark.usefixtures("ray_cluster")
def test_a_worker_that_dies_costs_no_cell(
    photos: Dataset, catalog: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sensorium.jobs.machine_quality import sweep

    mark = tmp_path / "died"
    work = sweep._Work

    class DiesOnce(work):  # type: ignore[valid-type, misc]
        def __call__(self, batch: dict[str, Any]) -> Any:
            for result in super().__call__(batch):
                if not mark.exists():  # its rows are committed, and it dies before it can say so
                    mark.touch()
                    os._exit(1)
                yield result

    monkeypatch.setattr(sweep, "_Work", DiesOnce)
    report = run_sweep(catalog, plan_sweep(catalog, config()))
    assert mark.exists()
    rows = catalog["rd"].select().frame()
    assert rows.height == rows["id"].n_unique() == 12
    assert report.computed == 12


_SWEEP = """
import sys
from sensorium.catalog import Catalog
from sensorium.jobs.machine_quality.cli import sweep_on_ray
from sensorium.jobs.machine_quality.config import SweepConfig
from sensorium.platform.settings import Settings
grid = {"jpeg": tuple(range(5, 95, 3)), "x264": tuple(range(18, 50, 2))}
config = SweepConfig(data="photos", into="rd", qualities=grid, metrics=("psnr", "ssim"), block_seconds=0.05)
print(sweep_on_ray(Catalog(sys.argv[1]), config, Settings(cpus=2, object_store_mb=200)).computed)
"""


@pytest.mark.slow
def test_a_driver_that_is_killed_loses_only_blocks_under_way(tmp_path: Path) -> None:
    catalog = Catalog(tmp_path / "lake")
    photos = catalog.create("photos", modality="image")
    random = np.random.default_rng(0)
    photos.append([{"id": f"p{n}", "image": random.integers(0, 256, (256, 256, 3), dtype=np.uint8)} for n in range(16)])
    cells = 16 * (30 + 16)
    command = [sys.executable, "-c", _SWEEP, str(tmp_path / "lake")]
    with subprocess.Popen(
        command, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as driver:
        while driver.poll() is None and ("rd" not in catalog or len(catalog["rd"]) == 0):
            pass
        assert driver.poll() is None, "the sweep was over before it could be killed"
        driver.kill()
    landed = len(catalog["rd"])
    assert 0 < landed < cells
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    rows = catalog["rd"].select().frame()
    assert rows.height == rows["id"].n_unique() == cells
    assert int(done.stdout.splitlines()[-1]) <= cells - landed
    assert set(catalog.runs()["state"]) == {"running", "finished"}


class TestConfig:
    def test_grids_from_the_command_line(self) -> None:
        assert parse_qualities("10,50", ["jpeg", "x264"]) == {"jpeg": (10, 50), "x264": (10, 50)}
        assert parse_qualities("jpeg=10,50; x264=40", ["jpeg", "x264"]) == {"jpeg": (10, 50), "x264": (40,)}
        spaced = parse_qualities("auto:3", ["jpeg", "x264"])
        assert len(spaced["jpeg"]) == len(spaced["x264"]) == 3
        assert list(spaced["jpeg"]) == sorted(spaced["jpeg"])  # from worst to best: a JPEG quality rises
        assert list(spaced["x264"]) == sorted(spaced["x264"], reverse=True)  # a QP falls

    @pytest.mark.parametrize(
        ("text", "message"),
        [("jpeg=10", "x264"), ("ten", "ten"), ("auto:0", "auto"), ("webp=3", "webp"), ("", "cannot be read")],
    )
    def test_bad_grids(self, text: str, message: str) -> None:
        with pytest.raises(InvalidSetting, match=message):
            parse_qualities(text, ["jpeg", "x264"])

    def test_bad_settings(self) -> None:
        with pytest.raises(InvalidSetting, match=r"jpeg.*101"):
            config(qualities={"jpeg": (101,)})
        with pytest.raises(UnknownPlugin, match=r"psnt.*psnr"):
            config(metrics=("psnt",))
        with pytest.raises(InvalidSetting, match="block_seconds"):
            config(block_seconds=0)
        with pytest.raises(InvalidSetting, match="metric"):
            config(metrics=())

    def test_data_without_images(self, catalog: Catalog) -> None:
        catalog.create("photos", modality="table").append([{"id": "a", "x": 1}])
        with pytest.raises(UnknownField, match="image"):
            plan_sweep(catalog, config())
        assert "rd" not in catalog

    def test_nothing_chosen(self, photos: Dataset, catalog: Catalog) -> None:
        with pytest.raises(InvalidSetting, match=r"photos.*--where"):
            plan_sweep(catalog, config(where="id = 'nobody'"))

    def test_images_of_one_content_are_one(self, photos: Dataset, catalog: Catalog) -> None:
        photos.append([{"id": "cat again", "image": photos.select()["cat"]["image"]}])
        assert plan_sweep(catalog, config()).cells == 12


def test_blocks_are_balanced_and_longest_first() -> None:
    from sensorium.jobs.machine_quality.sweep import _blocks

    missing = pl.DataFrame(
        {
            "key": [f"k{n}" for n in range(40)],
            "id": [f"i{n // 2}" for n in range(40)],
            "hash": [f"h{n // 2}" for n in range(40)],
            "codec": ["slow", "quick"] * 20,
            "quality": [1] * 40,
            "megapixels": [float(1 + n // 2) for n in range(40)],
        }
    )
    blocks = _blocks(missing, {"slow": 1.0, "quick": 0.01}, seconds=30.0, cores=2)
    costs = [sum(1.01 * (1 + int(identifier[1:])) for identifier, _, _ in block) for block in blocks]
    assert sorted(identifier for block in blocks for identifier, _, _ in block) == sorted(f"i{n}" for n in range(20))
    assert costs == sorted(costs, reverse=True)
    assert len(blocks) == 8
    assert max(costs) < 2 * 212.1 / 8
