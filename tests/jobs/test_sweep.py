"""The sweep on a real Ray: every cell once, bad images contained, workers that die, runs that stop."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from sensorium.catalog import Catalog, Dataset
from sensorium.jobs import codecs, image_metrics
from sensorium.jobs.codecs import Picture
from sensorium.jobs.machine_quality import balance, sweep
from sensorium.jobs.machine_quality.cells import Cell, Measures, Subject, evaluate
from sensorium.jobs.machine_quality.config import SweepConfig, parse_frames, parse_gops, parse_qualities
from sensorium.jobs.machine_quality.material import to_rgb8
from sensorium.jobs.machine_quality.plan import blocks, plan_sweep, subjects
from sensorium.jobs.machine_quality.sweep import run_sweep, sweep_rows
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
def test_bitstreams_and_values_are_those_of_one_process(photos: Dataset, catalog: Catalog) -> None:
    wanted = config(metrics=("psnr", "ssim", "vmaf"))
    run_sweep(catalog, plan_sweep(catalog, wanted))
    measures = Measures.open(wanted.metrics)
    alone = []
    for row in plan_sweep(catalog, config(into="none")).subjects.frame.iter_rows(named=True):
        subject = Subject(row["id"], [Picture.of(to_rgb8(photos.select()[row["id"]]["image"]))], {})
        plan = [Cell(row["hash"], codec, quality) for codec, values in GRID.items() for quality in values]
        alone += [result.row for result in evaluate(subject, plan, measures)]
    columns = ["id", "image_id", "bitstream_hash", "bytes_total", "psnr", "ssim", "vmaf"]
    serial = pl.DataFrame(alone).select(columns).sort("id")
    assert catalog["rd"].select().frame().select(columns).sort("id").equals(serial)


@pytest.mark.usefixtures("ray_cluster")
def test_frames_of_an_encoded_video_are_coded_again(catalog: Catalog, tmp_path: Path) -> None:
    import av

    with av.open(str(tmp_path / "pan.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"qp": "10"})
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for number in range(6):
            picture = np.full((64, 96, 3), 40 * number, np.uint8)
            for packet in stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    encoded = np.frombuffer((tmp_path / "pan.mp4").read_bytes(), np.uint8)
    videos = catalog.create("videos", modality="video", attributes={"frame_rate": 25.0})
    videos.append([{"id": "pan", "encoded": encoded}, {"id": "cut", "encoded": encoded[: len(encoded) // 2]}])
    wanted = config(data="videos", field="encoded", frames=(2, 5), gops=(3,), qualities={"x264": (20,)})
    report = run_sweep(catalog, plan_sweep(catalog, wanted))
    assert (report.computed, report.errors) == (2, 1)
    rows = {row["image_id"]: row for row in catalog["rd"].select().frame().iter_rows(named=True)}
    assert (rows["pan"]["frames"], rows["pan"]["height"], rows["pan"]["width"]) == (3, 64, 96)
    assert rows["cut"]["error"].startswith(("UnreadableFile", "InvalidSetting"))
    with pytest.raises(InvalidSetting, match="--frames FIRST:END"):
        plan_sweep(catalog, config(data="videos", field="encoded"))


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
    for path in folder.rglob("c.*"):
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


@pytest.mark.usefixtures("ray_cluster")
def test_an_image_that_cannot_be_converted_fails_in_all_its_cells(photos: Dataset, catalog: Catalog) -> None:
    photos.append([{"id": "hot", "image": np.full((32, 32, 3), 1.5, np.float32)}])
    report = run_sweep(catalog, plan_sweep(catalog, config()))
    assert (report.computed, report.errors) == (16, 4)
    bad = catalog["rd"].select("error is not null").frame()
    assert set(bad["image_id"]) == {"hot"}
    assert all(error.startswith("InvalidSample: floating-point images must lie in [0, 1]") for error in bad["error"])


@pytest.mark.slow
@pytest.mark.usefixtures("ray_cluster")
def test_a_worker_that_dies_costs_no_cell(
    photos: Dataset, catalog: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mark, whole = tmp_path / "died", sweep._run_block

    def dies_once(*arguments: Any, **options: Any) -> Any:
        if not mark.exists():
            mark.touch()
            os._exit(1)
        return whole(*arguments, **options)

    monkeypatch.setattr(sweep, "_run_block", dies_once)
    report = run_sweep(catalog, plan_sweep(catalog, config()))
    assert mark.exists()
    rows = catalog["rd"].select().frame()
    assert rows.height == rows["id"].n_unique() == 12
    assert (report.computed, report.errors, report.quarantined) == (12, 0, 0)


@pytest.mark.slow
@pytest.mark.usefixtures("ray_cluster")
def test_a_cell_that_kills_or_hangs_its_worker_is_put_in_quarantine(
    photos: Dataset, catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its neighbours in the block are not lost, and it can be run again once the encoder is mended."""
    whole, evaluate = sweep._run_block, sweep.evaluate

    def poisoned(subject: Any, cells: Any, measures: Any) -> Any:
        if subject.image_id == "cup" and ("x264", 25) in [(cell.codec, cell.quality) for cell in cells]:
            os._exit(1)
        return evaluate(subject, cells, measures)

    def run_block(*arguments: Any, **options: Any) -> Any:
        sweep.evaluate = poisoned
        try:
            return whole(*arguments, **options)
        finally:
            sweep.evaluate = evaluate  # the process is used again

    with monkeypatch.context() as patch:
        patch.setattr(sweep, "_run_block", run_block)
        report = run_sweep(catalog, plan_sweep(catalog, config(block_seconds=100.0)))
    assert (report.computed, report.errors, report.quarantined) == (12, 1, 1)
    bad = catalog["rd"].select("error is not null").frame().row(0, named=True)
    assert (bad["image_id"], bad["codec"], bad["quality"]) == ("cup", "x264", 25)
    assert "quarantine" in bad["error"]
    assert run_sweep(catalog, plan_sweep(catalog, config())).computed == 0
    mended = run_sweep(catalog, plan_sweep(catalog, config(retry_errors=True)))
    assert (mended.computed, mended.errors) == (1, 0)


@pytest.mark.slow
@pytest.mark.usefixtures("ray_cluster")
def test_a_cell_that_takes_too_long_is_given_up(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even inside an encoder that never comes back: the worker is ended."""
    catalog.create("photos", modality="image").append([{"id": "one", "image": np.zeros((32, 32, 3), np.uint8)}])
    whole, evaluate = sweep._run_block, sweep.evaluate

    def slow(*arguments: Any) -> Any:
        time.sleep(60)
        return evaluate(*arguments)

    def run_block(*arguments: Any, **options: Any) -> Any:
        sweep.evaluate = slow
        try:
            return whole(*arguments, **options)
        finally:
            sweep.evaluate = evaluate  # the process is used again

    monkeypatch.setattr(sweep, "_run_block", run_block)
    small = config(qualities={"jpeg": (50,)}, cell_seconds=0.3)
    report = run_sweep(catalog, plan_sweep(catalog, small))
    assert (report.computed, report.errors, report.quarantined) == (1, 1, 1)


@pytest.mark.usefixtures("ray_cluster")
def test_tiles_are_pictures_of_their_own(photos: Dataset, catalog: Catalog) -> None:
    report = run_sweep(catalog, plan_sweep(catalog, config(tile=64, qualities={"jpeg": (50,)})))
    rows = catalog["rd"].select().frame().sort("image_id", "extent")
    assert (report.cells, report.errors) == (5, 0)  # two pictures of 64 x 80 in two tiles, one of 64 x 64 in one
    assert rows["extent"].to_list() == ["0,0,64,64", "0,64,64,16", "0,0,64,64", "0,64,64,16", ""]
    whole = photos.select()["cat"]["image"]
    codec = codecs.get("jpeg")
    alone = codec.encode(Picture.of(np.ascontiguousarray(whole[:, 64:])), 50)
    assert rows["bytes_total"][1] == len(alone.data)


@pytest.mark.usefixtures("ray_cluster")
def test_clips_are_coded_with_and_without_prediction(catalog: Catalog) -> None:
    from skimage import data

    whole = data.astronaut()
    frames = np.stack([whole[100 + n : 196 + n, 150:278] for n in range(8)])  # a slow pan
    catalog.create("clips", modality="video", attributes={"frame_rate": 25.0}).append([{"id": "pan", "frames": frames}])
    wanted = config(data="clips", gops=(1, 8), frames=(1, 7), qualities={"jpeg": (50,), "x264": (30,)})
    report = run_sweep(catalog, plan_sweep(catalog, wanted))
    rows = {(row["codec"], row["gop"]): row for row in catalog["rd"].select().frame().iter_rows(named=True)}
    assert (report.cells, report.errors) == (3, 0)
    assert set(rows) == {("jpeg", 1), ("x264", 1), ("x264", 8)}  # JPEG has no prediction from frame to frame
    assert {row["frames"] for row in rows.values()} == {6}
    assert {row["extent"] for row in rows.values()} == {"frames 1:7"}
    assert rows["x264", 8]["bytes_payload"] < 0.6 * rows["x264", 1]["bytes_payload"]
    codec = codecs.get("jpeg")
    each = [codec.encode(Picture.of(frame), 50) for frame in frames[1:7]]
    assert rows["jpeg", 1]["bytes_total"] == sum(len(one.data) for one in each)
    psnr = image_metrics.get("psnr").compute
    values = [psnr(frame, codec.decode(one.data, (96, 128))) for frame, one in zip(frames[1:7], each, strict=True)]
    assert rows["jpeg", 1]["psnr"] == pytest.approx(np.mean(values))


@pytest.mark.usefixtures("ray_cluster")
def test_bands_of_a_cube_are_grey_frames(catalog: Catalog) -> None:
    from skimage import data

    grey = data.camera()[::4, ::4].astype(np.float32)
    cube = np.stack([grey * (0.5 + 0.1 * band) for band in range(4)], axis=2)
    catalog.create("cubes", modality="hyperspectral").append([{"id": "one", "cube": cube}])
    wanted = config(data="cubes", gops=(1, 4), qualities={"x264": (24,)})
    report = run_sweep(catalog, plan_sweep(catalog, wanted))
    rows = catalog["rd"].select().frame().sort("gop")
    assert (report.cells, report.errors) == (2, 0)
    assert rows["frames"].to_list() == [4, 4]
    assert rows["psnr"].min() > 35
    assert rows["bytes_payload"][1] < rows["bytes_payload"][0]


@pytest.mark.usefixtures("ray_cluster")
def test_balanced_qualities_give_codecs_the_same_distribution(photos: Dataset, catalog: Catalog) -> None:
    pictures = subjects(photos, config(), Measures(()))
    found = balance.balanced(photos.storage, pictures, ["jpeg", "x264"], 6, pilot=2)
    assert set(found.qualities) == {"jpeg", "x264"}
    assert all(3 <= len(values) <= 6 for values in found.qualities.values())
    middle = [np.mean(found.reached[name]) for name in ("jpeg", "x264")]
    assert abs(middle[0] - middle[1]) < 1.0
    unbalanced = parse_qualities("jpeg=90,92,94;x264=44,48,51", ["jpeg", "x264"])
    assert found.imbalance < 0.5
    assert balance.draw(found)[:4] == b"\x89PNG"
    assert unbalanced != found.qualities


def test_bisection_finds_the_nearest_quality() -> None:
    codec = codecs.get("x264")
    asked: list[int] = []

    def mean(quality: int) -> float:
        asked.append(quality)
        return 60.0 - quality

    assert balance.matched(codec, mean, [20.2, 35.0, 44.6]) == [40, 25, 15]
    assert len(asked) < 45


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
            time.sleep(0.02)
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
        with pytest.raises(InvalidSetting, match="no field of pictures"):
            plan_sweep(catalog, config())
        with pytest.raises(UnknownField, match="image"):
            plan_sweep(catalog, config(field="image"))
        assert "rd" not in catalog

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"gops": (8,)}, "stills"),
            ({"frames": (0, 4)}, "stills"),
            ({"gops": (0,)}, "GOP"),
            ({"frames": (4, 4)}, "FIRST:END"),
            ({"tile": 8}, "tiles"),
            ({"cell_seconds": 0}, "cell_seconds"),
        ],
    )
    def test_settings_that_do_not_suit(
        self, changes: dict[str, Any], message: str, photos: Dataset, catalog: Catalog
    ) -> None:
        with pytest.raises(InvalidSetting, match=message):
            plan_sweep(catalog, config(**changes))

    def test_frames_and_gops_from_the_command_line(self) -> None:
        assert (parse_gops("1, 16"), parse_gops("")) == ((1, 16), ())
        assert (parse_frames("0:64"), parse_frames("")) == ((0, 64), None)
        for wrong in ("8", "a:b", "1:2:3"):
            with pytest.raises(InvalidSetting, match="--frames"):
                parse_frames(wrong)
        with pytest.raises(InvalidSetting, match="--gop"):
            parse_gops("one")

    def test_nothing_chosen(self, photos: Dataset, catalog: Catalog) -> None:
        with pytest.raises(InvalidSetting, match=r"photos.*--where"):
            plan_sweep(catalog, config(where="id = 'nobody'"))

    def test_images_of_one_content_are_one(self, photos: Dataset, catalog: Catalog) -> None:
        photos.append([{"id": "cat again", "image": photos.select()["cat"]["image"]}])
        assert plan_sweep(catalog, config()).cells == 12


@pytest.mark.usefixtures("ray_cluster")
def test_blocks_are_balanced_and_longest_first(photos: Dataset, catalog: Catalog) -> None:
    photos.append([{"id": f"flat{n}", "image": np.full((16 * (n + 1), 64, 3), n, np.uint8)} for n in range(10)])
    plan = plan_sweep(catalog, config(block_seconds=plan_sweep(catalog, config()).cpu_seconds / 12))
    cut = blocks(plan, cores=2)
    costs = [sum(unit.cost for unit in block) for block in cut]
    assert sum(costs) == pytest.approx(plan.cpu_seconds)
    cells = [(unit.subject, *cell) for block in cut for unit in block for cell in unit.cells]
    assert len(cells) == len(set(cells)) == plan.missing.height == 52
    assert len(cut) >= 12
    assert max(costs) < 2 * plan.config.block_seconds
    assert costs[-1] < costs[0] / 2  # the last ones are small, so that no core waits for another
    assert costs[0] == max(costs)
    each = [unit.cost for block in cut for unit in block]
    dear = sorted(each, reverse=True)[: len(each) // 4]
    assert set(dear) <= {unit.cost for block in cut[: len(cut) // 2] for unit in block}  # the longest first


_BOUNDED = """
import json, resource, sys
import numpy as np
from sensorium.catalog import Catalog
from sensorium.jobs.machine_quality.config import SweepConfig
from sensorium.jobs.machine_quality.sweep import plan_sweep, run_sweep
from sensorium.platform.session import ray_session
from sensorium.platform.settings import Settings

catalog, allowance = Catalog(sys.argv[1]), int(sys.argv[2])

def swept(into, where):
    config = SweepConfig("big", into, {"jpeg": (30,)}, ("psnr_y",), where=where)
    return run_sweep(catalog, plan_sweep(catalog, config))

with ray_session(Settings(cpus=2, object_store_mb=300)):
    swept("first", "id < '0002'")  # imports and pools are there now
    data = resource.getrlimit(resource.RLIMIT_DATA)
    # private writable memory: all that a process can allocate, less the shared memory that Ray maps
    anonymous = int(open("/proc/self/status").read().split("VmData:")[1].split()[0]) * 1024
    resource.setrlimit(resource.RLIMIT_DATA, (anonymous + allowance, data[1]))
    report = swept("all", "")
    try:
        np.ones(2 * allowance, np.uint8)
        bounded = False
    except MemoryError:
        bounded = True
    resource.setrlimit(resource.RLIMIT_DATA, data)
print(json.dumps({"bounded": bounded, "computed": report.computed, "errors": report.errors}))
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux limits a process's private memory")
def test_a_sweep_over_more_than_the_drivers_memory(tmp_path: Path) -> None:
    """The driver may not allocate a quarter of what the workers read."""
    random = np.random.default_rng(0)
    count, shape = 96, (1024, 1024, 3)
    tile = random.integers(0, 256, (64, 64, 3), dtype=np.uint8)
    with Catalog(tmp_path / "lake").create("big", modality="image").writer(batch=16) as writer:
        for number in range(count):
            writer.add({"id": f"{number:04d}", "image": np.tile(tile + np.uint8(number), (16, 16, 1))})
    allowance = count * int(np.prod(shape)) // 4
    # a thread reserves a stack of the limit's size: a small one, or threads alone would use up the allowance
    small_stacks = ["bash", "-c", 'ulimit -s 512 && exec "$@"', "bounded"]
    done = subprocess.run(
        [*small_stacks, sys.executable, "-c", _BOUNDED, str(tmp_path / "lake"), str(allowance)],
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert told == {"bounded": True, "computed": count, "errors": 0}
