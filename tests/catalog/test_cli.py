"""Every ``sensorium catalog`` command, end to end on a small lake made from files; every mistake is one clear line."""

from __future__ import annotations

import io
import json
import logging
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl
import pytest
from PIL import Image

from sensorium.catalog import Catalog
from sensorium.catalog.cli import app
from sensorium.catalog.declaration import Source
from sensorium.catalog.lineage import Run
from sensorium.platform.cli import main

#: folder/name of the pictures, and their pixels [6, 8, 3], uint8
PIXELS = {
    name: np.random.default_rng(index).integers(0, 256, (6, 8, 3), np.uint8)
    for index, name in enumerate(("cat/felix", "cat/tom", "dog/rex"))
}
RUN = "20260101-000000-abcdef"


class End(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def complaint(self) -> str:
        """The single line on standard error."""
        assert self.out == ""
        assert self.err.count("\n") == 1, self.err
        assert self.err.startswith("sensorium: ")
        assert len(self.err) < 500
        return self.err.removeprefix("sensorium: ").rstrip()


Command = Callable[..., End]


def pictures(folder: Path) -> Path:
    """Three good pictures in two folders, and a file that is none."""
    for name, pixels in PIXELS.items():
        path = folder / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    (folder / "dog" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n and no picture")
    return folder


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake with ``pets`` at version 2 (made, filled, one label changed), ``thumbnails`` made of it by a run, and files.

    Version 1 of ``pets`` has the tag ``first``.
    """
    folder = tmp_path_factory.mktemp("prepared")
    pictures(folder / "pictures")
    catalog = Catalog(folder / "lake")
    catalog.ingest(folder / "pictures", "pets", licence="CC0")
    pets = catalog["pets"]
    pets.tag("first")
    pets.update([{"id": "dog/rex", "label": "wolf"}])
    run = Run("shrink", "thumbnailer", {"size": 2}, inputs=(Source("pets", 2),), id=RUN)
    catalog.record(run)
    thumbnails = catalog.create("thumbnails", modality="image", sources=[Source("pets", 2)])
    thumbnails.append(
        ({"id": name, "image": pixels[::3, ::4]} for name, pixels in PIXELS.items()),
        sources=[Source("pets", 2)],
        run=RUN,
    )
    catalog.record(run.ended("finished", [Source("thumbnails", 1)]))
    return folder


@pytest.fixture
def lake(prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Catalog:
    """A copy of the prepared lake, and its files beside it, in the working folder."""
    shutil.copytree(prepared, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return Catalog(tmp_path / "lake")


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Iterator[Command]:
    """Runs ``sensorium catalog …`` in this process, on ``./lake``."""
    logger = logging.getLogger("sensorium")
    before = logger.handlers[:], logger.level, logger.propagate

    def ended(*arguments: str) -> End:
        with pytest.raises(SystemExit) as caught:
            main(["catalog", *arguments])
        assert isinstance(caught.value.code, int)
        return End(caught.value.code, *capsys.readouterr())

    yield ended
    logger.handlers[:], logger.level, logger.propagate = before


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with the files, and no lake yet."""
    pictures(tmp_path / "pictures")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_promised_command_is_there() -> None:
    names = {registered.name or getattr(registered.callback, "__name__", "") for registered in app.registered_commands}
    promised = "list show query ingest export history diff tag rules check quarantine verify repair compact vacuum preview report"
    promised += " lineage runs drop formats"
    assert names == set(promised.split())


# -- ingest -----------------------------------------------------------------------------------------------------------


def test_bad_file_is_reported_and_the_others_go_in(elsewhere: Path, command: Command) -> None:
    end = command("ingest", "pictures", "--dataset", "pets", "--description", "two kinds", "--licence", "CC0")
    assert end.code == 2
    assert end.out == "pets@1: 3 samples added as image_folder, 0 were there already, 1 failed\n"
    assert "broken.png: cannot be decoded" in end.err
    assert "Traceback" not in end.err
    pets = Catalog("lake")["pets"]
    assert (pets.declaration.description, pets.declaration.licence) == ("two kinds", "CC0")
    selection = pets.select(order="id")
    assert {sample.id: sample["label"] for sample in selection} == {name: name[:3] for name in PIXELS}
    assert all(np.array_equal(selection[name]["image"], pixels) for name, pixels in PIXELS.items())


def test_bad_file_is_told_once(elsewhere: Path, command: Command) -> None:
    assert command("ingest", "pictures", "--dataset", "pets").err.count("broken.png") == 1


def test_report_as_json(elsewhere: Path, command: Command) -> None:
    report = command("ingest", "pictures", "--dataset", "pets", "--json").json
    (failed,) = report.pop("failed")
    assert failed["file"].endswith("pictures/dog/broken.png")
    assert "cannot be decoded" in failed["reason"]
    assert report == {
        "dataset": "pets",
        "format": "image_folder",
        "version": 1,
        "planned": 4,
        "added": 3,
        "skipped": 0,
        "dry_run": False,
    }


def test_second_import_adds_only_what_is_new(elsewhere: Path, command: Command) -> None:
    (elsewhere / "pictures" / "dog" / "broken.png").unlink()
    assert command("ingest", "pictures", "--dataset", "pets").code == 0
    Image.fromarray(PIXELS["cat/tom"]).save("pictures/cat/new.png")
    again = command("ingest", "pictures", "--dataset", "pets")
    assert again == End(0, "pets@2: 1 samples added as image_folder, 3 were there already, 0 failed\n", "")
    assert command("ingest", "pictures", "--dataset", "pets", "--json").json["version"] == 2


def test_strict_stops_at_the_bad_file(elsewhere: Path, command: Command) -> None:
    end = command("ingest", "pictures", "--dataset", "pets", "--strict")
    assert end.code == 2
    assert "broken.png: cannot be decoded" in end.complaint
    assert "pets" not in Catalog("lake")


def test_dry_run_counts_and_writes_nothing(elsewhere: Path, command: Command) -> None:
    end = command("ingest", "pictures", "--dataset", "pets", "--dry-run")
    assert end == End(0, "4 samples as image_folder, 4 of them new; nothing was written (dry run)\n", "")
    assert not (elsewhere / "lake").exists()
    command("ingest", "pictures", "--dataset", "pets")
    report = command("ingest", "pictures", "--dataset", "pets", "--dry-run", "--json").json
    assert (report["planned"], report["skipped"], report["added"], report["version"]) == (4, 3, 0, None)
    assert Catalog("lake")["pets"].version == 1


def test_batches_are_commits(elsewhere: Path, command: Command) -> None:
    command("ingest", "pictures/cat", "--dataset", "cats", "--batch", "1")
    assert Catalog("lake")["cats"].version == 2


def test_file_that_is_not_what_it_is_said_to_be(elsewhere: Path, command: Command) -> None:
    (elsewhere / "notes.png").write_text("remember the milk")
    end = command("ingest", "notes.png", "--dataset", "pets", "--format", "image_folder")
    assert end.code == 2
    assert "none of the 1 samples in notes.png can be read" in end.complaint
    assert "notes.png: cannot be decoded" in end.complaint
    assert Catalog("lake").names() == []


def test_options_of_the_importer(elsewhere: Path, command: Command) -> None:
    end = command("ingest", "pictures/cat", "--dataset", "cats", "--format", "image_folder", "--set", "max_pixels=40")
    assert end.code == 2
    assert "none of the 2 samples" in end.complaint
    assert "more than the limit" in end.complaint


# -- listings ---------------------------------------------------------------------------------------------------------


def test_formats(elsewhere: Path, command: Command) -> None:
    rows = {row["format"]: row for row in command("formats", "--json").json}
    assert rows["nifti"]["modality"] == "volume"
    assert rows["arrays"]["modality"] == "any"
    assert command("formats").out.count("\n") == len(rows) + 2  # a line each
    options = {row["option"] for row in command("formats", "nifti", "--json").json}
    assert {"nan", "max_voxels"} <= options
    end = command("formats", "nifty")
    assert (end.code, "Did you mean 'nifti'" in end.complaint) == (2, True)


def test_list(lake: Catalog, command: Command) -> None:
    first, second = command("list", "--json").json
    assert {key: first[key] for key in ("name", "modality", "samples", "bytes", "version", "licence")} == {
        "name": "pets",
        "modality": "image",
        "samples": 3,
        "bytes": 3 * 6 * 8 * 3,
        "version": 2,
        "licence": "CC0",
    }
    assert (second["name"], second["version"]) == ("thumbnails", 1)
    words = command("list").out.split()
    assert [word for word in ("pets", "thumbnails", "432", "CC0") if word not in words] == []


def test_list_of_an_empty_lake(elsewhere: Path, command: Command) -> None:
    assert command("list", "--json").json == []
    assert command("list").out.startswith("./lake has no data sets yet. Begin with: sensorium catalog ingest")


def test_show(lake: Catalog, command: Command) -> None:
    about = command("show", "pets", "--json", "--limit", "2").json
    assert (about["name"], about["version"], about["modality"], about["samples"]) == ("pets", 2, "image", 3)
    assert about["tags"] == {"first": 1}
    assert {field["field"]: field["kind"] for field in about["fields"]}["image"] == "array"
    assert [(row["id"], row["label"]) for row in about["first"]] == [("cat/felix", "cat"), ("cat/tom", "cat")]
    shown = command("show", "pets").out
    assert [word for word in ("CC0", '{"first": 1}', "cat/felix", "uint8 [6, 8, 3]", "wolf") if word not in shown] == []


@pytest.mark.parametrize(
    ("reference", "label"), [("pets", "wolf"), ("pets@2", "wolf"), ("pets@1", "dog"), ("pets@first", "dog")]
)
def test_show_at_a_version_or_tag(lake: Catalog, command: Command, reference: str, label: str) -> None:
    about = command("show", reference, "--where", "id = 'dog/rex'", "--json").json
    assert about["samples"] == 1
    assert [row["label"] for row in about["first"]] == [label]


def test_query(lake: Catalog, command: Command) -> None:
    sql = "select label, count(*) as n from pets group by label order by label"
    assert command("query", sql, "--json").json == [{"label": "cat", "n": 2}, {"label": "wolf", "n": 1}]
    assert command("query", sql).out.split()[-4:] == ["cat", "2", "wolf", "1"]
    assert command("query", "select id from pets where label = 'bird'").out == "No rows.\n"


def test_query_of_versions_and_of_several_data_sets(lake: Catalog, command: Command) -> None:
    sql = 'select p.id, p.label from pets p join "pets@first" f on p.id = f.id where p.label <> f.label'
    assert command("query", sql, "--json").json == [{"id": "dog/rex", "label": "wolf"}]
    sql = "select count(*) as n from pets join thumbnails on pets.id = thumbnails.id"
    assert command("query", sql, "--json").json == [{"n": 3}]


def test_query_shows_people_a_part_and_programs_all(lake: Catalog, command: Command) -> None:
    assert "… and 2 more rows" in command("query", "select id from pets", "--limit", "1").out
    assert len(command("query", "select id from pets", "--limit", "1", "--json").json) == 3


def test_history(lake: Catalog, command: Command) -> None:
    versions = command("history", "pets", "--json").json
    assert [(row["version"], row["operation"], row["tags"]) for row in versions] == [
        (2, "update", []),
        (1, "append", ["first"]),
        (0, "create", []),
    ]
    assert "import of pictures as image_folder" in command("history", "pets").out


@pytest.mark.parametrize(("a", "b"), [("1", "2"), ("first", "2")])
def test_diff(lake: Catalog, command: Command, a: str, b: str) -> None:
    changed = [{"id": "dog/rex", "change": "changed", "fields": ["label"]}]
    assert command("diff", "pets", a, b, "--json").json == changed
    assert command("diff", "pets", a, b).out.split()[-3:] == ["dog/rex", "changed", "label"]


def test_diff_of_nothing(lake: Catalog, command: Command) -> None:
    assert command("diff", "pets", "1", "first").out == "pets: 1 and first hold the same samples.\n"
    assert command("diff", "pets", "1", "first", "--json").json == []


def test_lineage(lake: Catalog, command: Command) -> None:
    edges = command("lineage", "thumbnails", "--json").json
    assert {(edge["direction"], edge["made_from"], edge["from_version"]) for edge in edges} == {("upstream", "pets", 2)}
    assert {edge["dataset"] for edge in command("lineage", "pets@1", "--json").json} == {"thumbnails"}
    assert {edge["run"] for edge in command("lineage", RUN, "--json").json} == {RUN}
    assert "thumbnails" in command("lineage", "pets").out


def test_lineage_of_a_data_set_that_stands_alone(lake: Catalog, command: Command) -> None:
    lake.create("alone", modality="table")
    assert command("lineage", "alone").out == "alone: made from no other data set, and nothing from it.\n"
    assert command("lineage", "alone", "--json").json == []


def test_runs(lake: Catalog, command: Command) -> None:
    (run,) = command("runs", "--json").json
    assert (run["run"], run["kind"], run["state"]) == (RUN, "shrink", "finished")
    assert run["inputs"] == [{"dataset": "pets", "version": 2}]
    assert run["outputs"] == [{"dataset": "thumbnails", "version": 1}]
    assert json.loads(run["configuration"]) == {"size": 2}
    assert "thumbnailer" in command("runs").out


def test_runs_of_an_empty_lake(elsewhere: Path, command: Command) -> None:
    assert command("runs").out == "No runs yet.\n"
    assert command("runs", "--json").json == []


# -- versions and upkeep ----------------------------------------------------------------------------------------------


def test_tag(lake: Catalog, command: Command) -> None:
    assert command("tag", "pets", "now") == End(0, "pets@now is version 2\n", "")
    assert command("tag", "pets@first", "start") == End(0, "pets@start is version 1\n", "")
    refused = command("tag", "pets", "first")
    assert refused.code == 2
    assert "tag 'first' names version 1, not 2" in refused.complaint
    assert "--move" in refused.complaint
    assert command("tag", "pets", "first", "--move").code == 0
    assert lake["pets"].tags() == {"first": 2, "now": 2, "start": 1}


def test_verify_of_a_sound_data_set(lake: Catalog, command: Command) -> None:
    for options in ([], ["--quick"]):
        assert command("verify", "pets", *options) == End(0, "pets: 3 samples, all well.\n", "")
        assert command("verify", "pets@first", *options, "--json").json == []


def payload(lake: Catalog, name: str) -> list[Path]:
    """The files that hold pixels, largest first."""
    chunks = Path(lake.storage.root, "datasets", name, "fragments").rglob("*")
    return sorted(
        (path for path in chunks if path.is_file() and path.name != "zarr.json"),
        key=lambda path: path.stat().st_size,
        reverse=True,
    )


def test_verify_names_a_damaged_sample(lake: Catalog, command: Command) -> None:
    damaged = payload(lake, "pets")[0]
    content = bytearray(damaged.read_bytes())
    content[len(content) // 2] ^= 1
    damaged.write_bytes(content)
    end = command("verify", "pets", "--json")
    assert end.code == 1
    assert {problem["field"] for problem in end.json} == {"image"}
    assert {problem["id"] for problem in end.json} <= set(PIXELS)
    shown = command("verify", "pets")
    assert shown.code == 1
    assert end.json[0]["id"] in shown.out
    assert command("verify", "thumbnails").code == 0


def test_quick_verify_sees_missing_payload(lake: Catalog, command: Command) -> None:
    for fragment in Path(lake.storage.root, "datasets", "pets").glob("fragments/*"):
        shutil.rmtree(fragment)
    end = command("verify", "pets", "--quick", "--json")
    assert end.code == 1
    assert {problem["id"] for problem in end.json} == set(PIXELS)


def test_compact(elsewhere: Path, command: Command) -> None:
    command("ingest", "pictures", "--dataset", "pets", "--batch", "1")
    pets = Catalog("lake")["pets"]
    version = pets.version
    assert version == 3
    assert command("compact", "pets") == End(0, "pets is compact at version 4\n", "")
    assert command("diff", "pets", "3", "4", "--json").code == 0
    assert all(np.array_equal(pets.select()[name]["image"], pixels) for name, pixels in PIXELS.items())
    assert command("compact", "pets") == End(0, "pets is compact at version 4\n", "")


def test_compact_by_columns(elsewhere: Path, command: Command) -> None:
    command("ingest", "pictures", "--dataset", "pets", "--batch", "1")
    pets = Catalog("lake")["pets"]
    assert command("compact", "pets", "--cluster", "label,id") == End(0, "pets is compact at version 5\n", "")
    assert pets.history()["operation"].to_list()[:2] == ["compact", "cluster"]
    refused = command("compact", "pets", "--cluster", "lable")
    assert refused.code == 2
    assert "'label'" in refused.complaint


def test_repair_says_what_it_would_do_and_does_it_when_told(lake: Catalog, command: Command) -> None:
    assert command("repair", "pets") == End(0, "pets: nothing is damaged.\n", "")
    for damaged in payload(lake, "pets"):
        content = bytearray(damaged.read_bytes())
        content[len(content) // 2] ^= 1
        damaged.write_bytes(content)
    dry = command("repair", "pets")
    assert dry.code == 0
    assert "sample dropped" in dry.out
    assert "--apply" in dry.out
    assert lake["pets"].version == 2
    broken = {problem["id"] for problem in command("verify", "pets", "--json").json}
    assert broken
    done = command("repair", "pets", "--apply", "--json").json
    assert {one["id"] for one in done} == broken
    assert command("verify", "pets").code == 0
    assert {sample.id for sample in lake["pets"].select()} == set(PIXELS) - broken


def test_vacuum_says_what_it_would_remove_and_removes_it_when_told(lake: Catalog, command: Command) -> None:
    pets = lake["pets"]
    pets.delete("label = 'cat'")
    now = ("--retention-days", "0", "--grace-hours", "0")
    plan = command("vacuum", "pets", *now, "--json").json
    assert plan["dry_run"] is True
    assert plan["versions"] == [0, 2]
    told = command("vacuum", "pets", *now)
    assert told.code == 0
    assert "would remove" in told.out
    assert "unreadable: versions 0, 2" in told.out
    assert "--apply" in told.out
    assert command("show", "pets@2").code == 0
    assert command("vacuum", "pets", *now, "--apply", "--json").json == {**plan, "dry_run": False}
    assert "version 2 was removed by a vacuum" in command("show", "pets@2").complaint
    assert command("show", "pets@2").code == 2
    assert command("show", "pets@first", "--json").json["samples"] == 3
    assert command("verify", "pets@first").code == 0
    assert [row["version"] for row in command("history", "pets", "--json").json] == [4, 3, 1]


def test_vacuum_keeps_what_is_young(lake: Catalog, command: Command) -> None:
    lake["pets"].delete("label = 'cat'")
    plan = command("vacuum", "pets", "--apply", "--json").json
    assert (plan["versions"], plan["fragments"], plan["files"], plan["nbytes"]) == ([], [], [], 0)
    assert command("show", "pets@1").code == 0


def test_drop_asks_first(lake: Catalog, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("n\n"))
    refused = command("drop", "pets")
    assert refused.code == 2
    assert "Remove pets with 3 samples and all its versions" in refused.out
    assert refused.err == "sensorium: nothing was removed.\n"
    assert "pets" in lake
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
    assert command("drop", "pets").out.endswith("removed pets\n")
    assert lake.names() == ["thumbnails"]


def test_drop_without_asking(lake: Catalog, command: Command) -> None:
    assert command("drop", "pets", "--yes") == End(0, "removed pets\n", "")
    assert not Path(lake.storage.root, "datasets", "pets").exists()


def test_drop_with_nobody_to_ask_removes_nothing(
    lake: Catalog, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    assert command("drop", "pets").code != 0
    assert "pets" in lake


# -- pictures and files -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["sheet.png", "sheets/new/sheet.JPG"])
def test_preview(lake: Catalog, command: Command, name: str) -> None:
    assert command("preview", "pets@first", "-o", name) == End(0, f"saved {name}\n", "")
    with Image.open(name) as sheet:
        assert len(np.unique(np.asarray(sheet.convert("L")))) > 50


def test_preview_as_drawing(lake: Catalog, command: Command) -> None:
    command("preview", "pets", "-o", "sheet.svg")
    assert "<svg" in Path("sheet.svg").read_text()


def test_preview_shows_as_many_as_asked_for(lake: Catalog, command: Command) -> None:
    widths = []
    for count in (1, 2, 3):
        command("preview", "pets", "-o", "sheet.png", "--count", str(count))
        with Image.open("sheet.png") as sheet:
            widths.append(sheet.width)
    assert widths == [widths[0], 2 * widths[0], 3 * widths[0]]


def test_export_and_import_give_the_same_samples(lake: Catalog, command: Command) -> None:
    end = command("export", "pets@first", "-o", "out", "--where", "label = 'cat'")
    assert end == End(0, "2 samples written to out\n", "")
    table = pl.read_parquet("out/samples.parquet")
    assert table["id"].to_list() == ["cat/felix", "cat/tom"]
    for identifier, file in table.select("id", "file").iter_rows():
        assert np.array_equal(np.asarray(Image.open(Path("out", file))), PIXELS[identifier])
    about = json.loads(Path("out/dataset.json").read_text())
    assert (about["data_set"], about["version"], about["licence"]) == ("pets", 1, "CC0")
    assert command("ingest", "out", "--dataset", "again").code == 0
    again = lake["again"].select()
    assert len(again) == 2
    assert np.array_equal(again["cat/tom"]["image"], PIXELS["cat/tom"])


def test_export_as_npz(lake: Catalog, command: Command) -> None:
    assert command("export", "pets", "-o", "out", "--format", "npz").code == 0
    with np.load("out/dog/rex.npz") as arrays:
        assert np.array_equal(arrays["image"], PIXELS["dog/rex"])


# -- mistakes ---------------------------------------------------------------------------------------------------------


#: what is typed, and what the complaint must say: the object, and what to do
MISTAKES: list[tuple[list[str], list[str]]] = [
    # a name
    (["show", "pest"], ["no data set 'pest'", "Did you mean 'pets'?"]),
    (["show", "a/b"], ["no data set 'a/b'"]),
    (["history", "birds"], ["no data set 'birds'", "There are: pets, thumbnails."]),
    (["diff", "birds", "1", "2"], ["no data set 'birds'"]),
    (["tag", "birds", "v1"], ["no data set 'birds'"]),
    (["verify", "birds"], ["no data set 'birds'"]),
    (["compact", "birds"], ["no data set 'birds'"]),
    (["vacuum", "birds"], ["no data set 'birds'"]),
    (["preview", "birds", "-o", "x.png"], ["no data set 'birds'"]),
    (["export", "birds", "-o", "out"], ["no data set 'birds'"]),
    (["drop", "birds", "--yes"], ["no data set 'birds'"]),
    (["lineage", "birds"], ["neither a data set, a model nor a run 'birds'", "pets"]),
    (["ingest", "pictures", "--dataset", "a/b"], ["'a/b' cannot name a data set", "letters, digits"]),
    (["tag", "pets", "a b"], ["'a b' cannot name a tag", "letters, digits"]),
    # a version
    (["show", "pets@9"], ["'pets' has no version 9; it has 0 to 2", "history"]),
    (["show", "pets@fist"], ["'pets' has no tag 'fist'", "Did you mean 'first'?"]),
    (["show", "pets@"], ["'pets@' ends in @", "NAME@VERSION"]),
    (["diff", "pets", "0", "9"], ["'pets' has no version 9"]),
    (["diff", "pets", "fist", "1"], ["'pets' has no tag 'fist'"]),
    (["tag", "pets@9", "v9"], ["'pets' has no version 9"]),
    (["export", "pets@9", "-o", "out"], ["'pets' has no version 9"]),
    (["query", 'select * from "pets@9"'], ["'pets' has no version 9"]),
    (["query", 'select * from "pets@fist"'], ["'pets' has no tag 'fist'"]),
    (["compact", "pets@1"], ["no data set 'pets@1'", "Did you mean 'pets'?"]),
    # SQL
    (["query", "selec * from pets"], ["the query cannot be run", "selec"]),
    (["query", "select * from pest"], ["'pest' was not found", "Did you mean 'pets'?"]),
    (["query", "select colour from pets"], ["the query cannot be run", "colour", "label"]),
    (["query", ""], ["the query cannot be run"]),
    (["query", "drop table pets"], ["the query cannot be run", "SELECT"]),
    (["query", "insert into pets values (1)"], ["the query cannot be run", "SELECT"]),
    (["query", "update pets set label = 'x'"], ["the query cannot be run"]),
    (["query", "select label + 1 from pets"], ["the query cannot be run"]),
    (["show", "pets", "--where", "label ="], ["the predicate 'label =' is not SQL", "WHERE"]),
    (["show", "pets", "--where", "colour = 'red'"], ["no field 'colour'"]),
    (["show", "pets", "--where", "lable = 'red'"], ["no field 'lable'", "Did you mean 'label'?"]),
    (["export", "pets", "-o", "out", "--where", "colour = 'red'"], ["no field 'colour'"]),
    (["preview", "pets", "-o", "x.png", "--where", "colour = 'red'"], ["no field 'colour'"]),
    # files and folders
    (["ingest", "nowhere", "--dataset", "new"], ["nowhere: there is no such file or folder"]),
    (["ingest", "empty", "--dataset", "new"], ["empty: no importer recognises it", "--format"]),
    (
        ["ingest", "notes.txt", "--dataset", "new"],
        ["notes.txt: no importer recognises it", "--format", "catalog formats"],
    ),
    (["export", "pets", "-o", "pictures"], ["pictures is not an empty folder", "Give a new one"]),
    (["export", "pets", "-o", "notes.txt"], ["notes.txt is not an empty folder"]),
    (["export", "pets", "-o", "notes.txt/out"], ["notes.txt"]),
    (["preview", "pets", "-o", "notes.txt/x.png"], ["notes.txt"]),
    (["preview", "pets", "-o", "folder.png"], ["folder.png"]),
    (["preview", "pets", "-o", "sheet.txt"], ["sheet.txt: this will be a picture", ".png"]),
    (["preview", "pets", "-o", "sheet"], ["sheet: this will be a picture", ".png"]),
    (["preview", "pets", "-o", "x.png", "--where", "label = 'bird'"], ["'pets'", "the selection is empty"]),
    # options
    (["ingest", "pictures", "--dataset", "new", "--set", "lable=x"], ["no option 'lable'", "label"]),
    (["ingest", "pictures", "--dataset", "new", "--set", "label"], ["--set takes KEY=VALUE; got 'label'"]),
    (["ingest", "pictures", "--dataset", "new", "--set", "max_pixels=many"], ["max_pixels", "'many'"]),
    (["ingest", "pictures", "--dataset", "new", "--format", "nifty"], ["'nifty'", "Did you mean 'nifti'"]),
    (["ingest", "table.csv", "--dataset", "pets"], ["'pets'", "modality image"]),
    (
        ["export", "pets", "-o", "out", "--format", "tar"],
        ["format must be one of native, npz, webdataset", "got 'tar'"],
    ),
]


@pytest.mark.parametrize(("line", "told"), MISTAKES, ids=[" ".join(line) for line, _ in MISTAKES])
def test_mistake_is_one_line_that_names_the_object_and_the_remedy(
    lake: Catalog, command: Command, line: list[str], told: list[str]
) -> None:
    Path("empty").mkdir()
    Path("folder.png").mkdir()
    Path("notes.txt").write_text("remember the milk")
    Path("table.csv").write_text("id,time,variable,value\na,0,HR,80\na,1,HR,82\n")
    before = lake.names(), lake["pets"].version
    end = command(*line)
    assert end.code == 2
    complaint = end.complaint
    assert [words for words in told if words not in complaint] == []
    assert "Traceback" not in complaint
    assert not complaint.startswith("internal error")
    assert (lake.names(), lake["pets"].version) == before


@pytest.mark.parametrize(
    ("line", "named"),
    [
        (["ingest", "pictures"], "--dataset"),
        (["ingest", "pictures", "--dataset", "x", "--batch", "0"], "--batch"),
        (["show", "pets", "--limit", "-1"], "--limit"),
        (["preview", "pets"], "--output"),
        (["preview", "pets", "-o", "x.png", "--count", "0"], "--count"),
        (["vacuum", "pets", "--retention-days", "-1"], "--retention-days"),
        (["diff", "pets", "1"], "B"),
    ],
)
def test_option_out_of_its_range_is_named(lake: Catalog, command: Command, line: list[str], named: str) -> None:
    end = command(*line)
    assert (end.code, end.out) == (2, "")
    assert named in end.err.splitlines()[-1]


def test_modality_without_a_preview_is_told(lake: Catalog, command: Command) -> None:
    lake.create("rows", modality="table").append([{"id": "a", "n": 1}])
    end = command("preview", "rows", "-o", "x.png")
    assert end.code == 2
    assert "'rows'" in end.complaint
    assert "no preview" in end.complaint


def test_lake_that_is_a_file_is_told(elsewhere: Path, command: Command) -> None:
    (elsewhere / "notes.txt").write_text("remember the milk")
    end = command("list", "--lake", "notes.txt")
    assert end.code == 2
    assert "notes.txt" in end.complaint


# -- whole processes --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", ["pets.diff(1, 3)", "pets.vacuum(timedelta(0), grace=timedelta(0))"])
def test_process_that_has_read_table_files_ends_well(lake: Catalog, code: str) -> None:
    """A thread that lets go of what Python read, when Python has ended, brings the process down: now and then."""
    lake["pets"].delete("label = 'cat'")
    script = (
        f"from datetime import timedelta\nfrom sensorium.catalog import Catalog\npets = Catalog('lake')['pets']\n{code}"
    )

    def ended(_: int) -> tuple[int, str]:
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
        return done.returncode, done.stderr

    with ThreadPoolExecutor(2) as pool:
        assert set(pool.map(ended, range(5))) == {(0, "")}
