"""Imports whose files crash, hang or starve their reader: the others go in, the file is named, the user's process lives."""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from sensorium.catalog import Catalog, readers
from sensorium.catalog.declaration import Declaration
from sensorium.catalog.importer import Item
from sensorium.catalog.reading import Group
from sensorium.catalog.reading_message import pack, unpack
from sensorium.platform.errors import BrokenPlugin, InvalidSetting, UnknownPlugin, UnreadableFile
from tests.catalog import wild


@pytest.fixture(autouse=True, scope="module")
def _installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with wild.installed(tmp_path_factory.mktemp("site")):
        yield


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    return tmp_path / "in"


def write(folder: Path, **contents: str) -> None:
    for name, content in contents.items():
        (folder / f"{name}.wild").write_text(content)


def readings(folder: Path, name: str) -> list[int]:
    """Processes that have read a file, in order."""
    return [int(line) for line in (folder / f"{name}.read").read_text().split()]


@pytest.mark.parametrize("harm", ["crash", "hang", "grow", "odd", "bad"])
def test_a_file_that_harms_its_reader_is_named_and_the_others_go_in(harm: str, catalog: Catalog, folder: Path) -> None:
    write(folder, **{f"n{n}": f"number {n}" for n in range(5)}, harmful=harm)
    report = catalog.ingest(folder, "signals", seconds=6)
    assert report.added == 5
    ((path, reason),) = report.failed
    assert path == str(folder / "harmful.wild")
    assert reason.startswith(f"{path}: ")
    assert set(catalog["signals"].select()["n3"]["signal"].ravel()) == {3.0}
    assert os.getpid() not in readings(folder, "harmful")
    # a reader that is lost costs its group a second reading, one by one, and the file a third process at most
    assert len(readings(folder, "harmful")) <= 2
    again = catalog.ingest(folder, "signals", seconds=6)
    assert (again.added, again.skipped, len(again.failed)) == (0, 5, 1)


def test_a_plan_that_may_do_harm_is_made_beside_this_process(catalog: Catalog, folder: Path) -> None:
    write(folder, a="number 1", b="number 2")
    report = catalog.ingest(folder, "signals", "wild_planner", options={"plan": "well"}, licence="CC0")
    assert (report.planned, report.added) == (2, 2)
    made = catalog["signals"]
    assert (made.declaration.licence, made.attributes) == ("CC0", {"sampling_rate": 1.0})
    assert catalog.ingest(folder, "signals", "wild_planner", options={"plan": "well"}, dry_run=True).skipped == 2
    assert str(os.getpid()) not in (folder / "planned").read_text().split()


@pytest.mark.parametrize(
    ("harm", "says"),
    [
        ("crash", "a file in it crashes the importer 'wild_planner' as it plans"),
        ("odd", "a fault of the planner"),
        ("bad", "is bad. Mend it."),
    ],
)
def test_a_plan_that_does_harm_is_an_error(harm: str, says: str, catalog: Catalog, folder: Path) -> None:
    write(folder, a="number 1")
    with pytest.raises(UnreadableFile, match=re.escape(str(folder))) as caught:
        catalog.ingest(folder, "signals", "wild_planner", options={"plan": harm})
    assert says in str(caught.value)
    assert "signals" not in catalog


def test_a_format_that_is_not_there_is_said_in_a_line(catalog: Catalog, folder: Path) -> None:
    with pytest.raises(
        UnknownPlugin, match=r"unknown name 'nifty' among importers. Did you mean 'nifti'.*catalog formats"
    ):
        catalog.ingest(folder, "signals", "nifty")
    with pytest.raises(UnreadableFile, match=r"no importer recognises it\. Name one with --format") as caught:
        catalog.ingest(folder, "signals")
    assert len(str(caught.value).removeprefix(str(folder))) < 120


def test_nothing_is_made_where_nothing_can_be_read(catalog: Catalog, folder: Path) -> None:
    write(folder, a="crash", b="bad")
    with pytest.raises(UnreadableFile, match="none of the 2 samples"):
        catalog.ingest(folder, "signals", seconds=6)
    assert "signals" not in catalog


def test_a_wrong_option_is_told_once_and_not_file_by_file(catalog: Catalog, folder: Path) -> None:
    write(folder, a="number 1", b="number 2")
    with pytest.raises(InvalidSetting, match="limit must be a number"):
        catalog.ingest(folder, "signals", options={"limit": "x"})


def test_samples_that_disagree_on_a_field_are_named(catalog: Catalog, folder: Path) -> None:
    write(folder, **{f"n{n:03}": f"number {n}" for n in range(100)}, z="text words")
    report = catalog.ingest(folder, "signals")
    assert report.added == 100
    ((path, reason),) = report.failed
    assert path.endswith("z.wild")
    assert "field 'note'" in reason


def test_many_files_go_through_all_readers_and_keep_their_order(catalog: Catalog, folder: Path) -> None:
    write(folder, **{f"n{n:03}": f"number {n}" for n in range(200)})
    report = catalog.ingest(folder, "signals", workers=2, batch=80)
    assert (report.added, report.failed) == (200, [])
    assert len({readings(folder, f"n{n:03}")[0] for n in range(200)}) == 2
    assert catalog["signals"].select().frame()["note"].to_list() == [float(n) for n in range(200)]
    assert len(catalog["signals"].history().filter(operation="append")) == 2  # 128 and 72, by groups of 64


def test_readers_wait_for_the_next_import_and_new_settings_get_new_ones(
    catalog: Catalog, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(folder, a="number 1")
    catalog.ingest(folder, "one", workers=1)
    catalog.ingest(folder, "two", workers=1)
    first, second = readings(folder, "a")
    assert first == second
    monkeypatch.setenv("SOME_CREDENTIAL", "new")
    catalog.ingest(folder, "three", workers=1)
    assert readings(folder, "a")[2] != second
    assert len(readers._kept) == 1


_THOUSANDS = 10_000
_ON_RAY = """
import resource, sys
from pathlib import Path
from sensorium.catalog import Catalog
from sensorium.platform.session import ray_session
from sensorium.platform.settings import Settings
if __name__ == "__main__":
    with ray_session(Settings(cpus=2, object_store_mb=200)):
        catalog = Catalog("lake")
        catalog.ingest("first", "first", on_ray=True)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        report = catalog.ingest("in", "signals", on_ray=True, seconds=8, batch=2000)
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    print(report.added, *sorted(Path(path).stem for path, _ in report.failed), grown)
"""


def test_thousands_of_files_stream_through_ray_and_a_crash_costs_one(tmp_path: Path, folder: Path) -> None:
    (tmp_path / "first").mkdir()
    write(tmp_path / "first", a="number 1")
    write(folder, **{f"n{n:05}": f"large {n}" for n in range(_THOUSANDS)}, harmful="crash", worse="hang")
    (tmp_path / "job.py").write_text(_ON_RAY)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    ended = subprocess.run(
        [sys.executable, "job.py"], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300
    )
    assert ended.returncode == 0, ended.stderr
    added, harmful, worse, grown = ended.stdout.splitlines()[-1].split()
    assert (int(added), harmful, worse) == (_THOUSANDS, "harmful", "worse")
    selection = Catalog(tmp_path / "lake")["signals"].select()
    payload = _THOUSANDS * selection[_THOUSANDS - 1]["signal"].nbytes
    assert payload == 300_000_000
    assert 1024 * int(grown) < payload / 3  # the plan, and the rows of one commit


def test_a_group_reaches_its_reader_as_it_is(catalog: Catalog) -> None:
    moment = datetime(2024, 2, 29, 12, 30, tzinfo=UTC)
    scalars = {
        "when": moment, "day": moment.date(), "for": timedelta(hours=3), "raw": b"\x00\xff", "nan": math.inf,
        "words": ["ä", None], "pair": {"a": [1, 2.5]}, "one": np.int64(7), "many": np.arange(3.0),
    }  # fmt: skip
    place = {"row": 3, "names": ["a", "b"]}
    items = (Item("a b/ü", (Path("/x y/ü.png"), Path("/m.png")), scalars, place), Item("c", (Path("/c.png"),)))
    declaration = Declaration.new("d", "image", {"age": "int64"}, attributes={"wave": [1.5]})
    group = Group("image_folder", {"key": "value"}, items, declaration, catalog.folder("d"), 2.5)
    header, buffers = pack(group)
    found = unpack(json.loads(json.dumps(header)), [memoryview(part) for part in buffers])
    plain = {**scalars, "one": 7, "many": [0.0, 1.0, 2.0]}
    assert found == replace(group, items=(replace(items[0], scalars=plain), items[1]))


def test_an_item_that_would_arrive_as_less_is_refused(catalog: Catalog) -> None:
    class More(Item):
        pass

    group = Group("x", {}, (More("a", (Path("/a"),)),), Declaration.new("d", "image"), catalog.folder("d"))
    with pytest.raises(BrokenPlugin, match=r"Item\.place"):
        pack(group)


def test_many_series_of_a_table_go_through_readers(catalog: Catalog, tmp_path: Path) -> None:
    rows = [f"s{n:03},{t},{name},{n + t}" for n in range(100) for t in range(3) for name in ("pulse", "temp")]
    (tmp_path / "long.csv").write_text("\n".join(["id,time,variable,value", *rows]))
    report = catalog.ingest(tmp_path / "long.csv", "series")
    assert (report.added, report.failed) == (100, [])
    sample = catalog["series"].select()["s042"]
    assert sample["values"].tolist() == [42, 42, 43, 43, 44, 44]


def test_settings_that_cannot_be_are_refused(catalog: Catalog, folder: Path) -> None:
    write(folder, a="number 1")
    with pytest.raises(InvalidSetting, match="batch must be 1"):
        catalog.ingest(folder, "signals", batch=0)
