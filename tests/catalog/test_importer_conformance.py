"""What every importer must hold, run on all that are installed; the examples are in ``examples.py``."""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path

import pytest

from sensorium.catalog import Catalog
from sensorium.catalog.importer import GROUP, Importer, Source
from sensorium.catalog.ingest import choose_importer
from sensorium.platform import plugins
from sensorium.platform.errors import UserError
from tests.catalog.examples import EXAMPLES

NAMES = plugins.names(GROUP)


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    if request.param not in EXAMPLES:
        pytest.fail(f"importer {request.param!r} has no example: add one to tests/catalog/examples.py")
    return str(request.param)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "Übung 1 (neu)" / "in"
    made.mkdir(parents=True)
    return made


def test_its_example_is_its_own(name: str, folder: Path) -> None:
    options = EXAMPLES[name](folder)
    assert choose_importer(Source(folder, options)).name == name


def test_samples_go_in_are_drawn_and_a_second_import_changes_nothing(name: str, folder: Path, catalog: Catalog) -> None:
    options = EXAMPLES[name](folder)
    importer: Importer = plugins.load(GROUP, name, Importer)
    planned = list(importer.plan(Source(folder, options)))
    assert len(planned) >= 2
    assert len(pickle.dumps(planned)) < 100_000  # items are cheap
    report = catalog.ingest(folder, "data", name, options=options)
    assert (report.added, report.failed) == (len(planned), [])
    made = catalog["data"]
    assert made.modality.name == importer.makes(Source(folder, options))
    assert made.verify().is_empty()
    if made.modality.preview is not None:
        assert made.preview().content.startswith(b"\x89PNG")
        assert made.preview(planned[0].id).content.startswith(b"\x89PNG")
    again = catalog.ingest(folder, "data", name, options=options)
    assert (again.added, again.skipped, again.version) == (0, len(planned), report.version)


def test_a_dry_run_writes_nothing(name: str, folder: Path, catalog: Catalog) -> None:
    options = EXAMPLES[name](folder)
    report = catalog.ingest(folder, "data", name, options=options, dry_run=True)
    assert report.planned >= 2
    assert "data" not in catalog


def test_an_import_that_was_stopped_is_resumed(name: str, folder: Path, catalog: Catalog) -> None:
    options = EXAMPLES[name](folder)
    whole = catalog.ingest(folder, "whole", name, options=options)
    catalog.ingest(folder, "parts", name, options=options, batch=1)
    first = catalog["parts"].select().frame()["id"][0]
    catalog["parts"].delete(f"id = '{first}'")  # as if it had been stopped before this one
    report = catalog.ingest(folder, "parts", name, options=options)
    assert (report.added, report.skipped) == (1, whole.added - 1)


@pytest.mark.parametrize("harm", ["cut", "emptied", "text"])
def test_a_damaged_file_is_named_or_left_out_and_nothing_falls(
    harm: str, name: str, folder: Path, catalog: Catalog
) -> None:
    options = EXAMPLES[name](folder)
    importer: Importer = plugins.load(GROUP, name, Importer)
    path = list(importer.plan(Source(folder, options)))[-1].paths[0]
    if path.is_dir():  # of files
        path = sorted(inner for inner in path.rglob("*") if inner.is_file())[-1]
    content = path.read_bytes()
    path.write_bytes({"cut": content[: len(content) // 2], "emptied": b"", "text": b"no such thing\n" * 50}[harm])
    try:
        told = [reason for _, reason in catalog.ingest(folder, "data", name, options=options).failed]
    except UserError as error:  # it is all there is, or a table that all depend on
        told = [str(error)]
    for reason in told:
        assert "Traceback" not in reason
        assert ". " in reason  # what is wrong, and what to do
    assert not told or any(path.name in reason or str(folder) in reason for reason in told)


def test_what_is_not_there_is_said(name: str, folder: Path, catalog: Catalog) -> None:
    with pytest.raises(UserError, match="no such file or folder"):
        catalog.ingest(folder / "absent", "data", name)
    with pytest.raises(UserError, match="in"):
        catalog.ingest(folder, "data", name)
    assert "data" not in catalog


def test_a_source_may_be_moved_between_imports(name: str, folder: Path, catalog: Catalog) -> None:
    options = EXAMPLES[name](folder)
    report = catalog.ingest(folder, "data", name, options=options)
    moved = folder.parent / "moved here" / folder.name
    shutil.copytree(folder, moved)
    assert catalog.ingest(moved, "data", name, options=options).skipped == report.added
