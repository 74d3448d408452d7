"""Lakes of every format version are read and written; those of a later one are refused."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from sensorium.catalog import Catalog, Dataset, formats

LAKES = Path(__file__).parent / "lakes"
VERSIONS = sorted(path.name for path in LAKES.iterdir() if path.is_dir() and path.name.startswith("v"))


def made() -> ModuleType:
    """The program that made the lakes, for what is in them."""
    spec = importlib.util.spec_from_file_location("make_lakes", LAKES / "make.py")
    if spec is None or spec.loader is None:
        pytest.fail("tests/catalog/lakes/make.py is gone")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(params=VERSIONS)
def lake(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return Path(shutil.copytree(LAKES / request.param, tmp_path / "lake"))


def images() -> dict[str, np.ndarray]:
    return {f"p{n}": made().image(n) for n in range(1, 6)}


def test_there_is_a_lake_of_each_version_up_to_the_present_one() -> None:
    assert [f"v{number}" for number in range(1, formats.FORMAT + 1)] == VERSIONS


def check_photos(dataset: Dataset, wanted: dict[str, np.ndarray]) -> None:
    """Every reader gives every image."""
    assert dataset.verify().is_empty()
    selection = dataset.select()
    assert {sample.id for sample in selection} == set(wanted)
    for sample in selection:
        np.testing.assert_array_equal(sample["image"], wanted[sample.id])
        np.testing.assert_array_equal(sample.view("image")[1:3], wanted[sample.id][1:3])
    read = selection.read()
    for identifier, image in zip(read["id"], read["image"], strict=True):
        np.testing.assert_array_equal(image, wanted[identifier])
    for batch in selection.torch(batch_size=1):
        np.testing.assert_array_equal(batch["image"][0].numpy(), wanted[batch["id"][0]])
    lazy = selection.dask("image")
    for identifier, part in zip(selection.frame()["id"], lazy, strict=True):
        np.testing.assert_array_equal(part.compute(), wanted[identifier])


def test_every_reader_reads_an_old_lake(lake: Path) -> None:
    dataset = Catalog(lake)["photos"]
    check_photos(dataset, images())
    frame = dataset.select().frame()
    assert frame["label"].to_list() == ["lynx", "dog", "cat", "dog", "cat"]
    assert frame["weight"].to_list() == [None, 2.5, None, None, None]
    whole = Catalog(lake).dataset("photos", "whole")
    check_photos(whole, {**images(), "p0": made().image(0)})
    assert "weight" not in whole.fields
    sounds = Catalog(lake)["sounds"].select()
    for number, sample in enumerate(sounds):
        np.testing.assert_array_equal(sample["audio"], made().sound(number))
        np.testing.assert_array_equal(sample.view("audio")[20:60], made().sound(number)[20:60])
    assert dataset.history()["operation"].to_list()[-1] == "create"


def test_stacked_readers_read_an_old_lake(lake: Path) -> None:
    selection = Catalog(lake)["photos"].select("id = 'p1' or id = 'p3' or id = 'p5'")  # of one height
    wanted = np.stack([images()[name] for name in ("p1", "p3", "p5")])
    np.testing.assert_array_equal(selection.dask("image").compute(), wanted)  # type: ignore[union-attr]
    np.testing.assert_array_equal(selection.xarray()["image"].values, wanted)


@pytest.mark.slow
def test_ray_reads_an_old_lake(lake: Path, ray_cluster: None) -> None:
    for row in Catalog(lake)["photos"].select().ray().take_all():
        np.testing.assert_array_equal(row["image"], images()[row["id"]])


def test_an_old_lake_is_changed_like_a_new_one(lake: Path) -> None:
    dataset = Catalog(lake)["photos"]
    before = dataset.version
    dataset.append([{"id": "new", "image": made().image(9), "label": "new", "depth": 3}], evolve=True)
    dataset.update([{"id": "p3", "image": made().image(10)}])
    dataset.delete("id = 'p4'")
    wanted = {**images(), "new": made().image(9), "p3": made().image(10)}
    del wanted["p4"]
    check_photos(dataset, wanted)
    dataset.compact()
    check_photos(dataset, wanted)
    check_photos(Catalog(lake).dataset("photos", before), images())
    check_photos(Catalog(lake).dataset("photos", "whole"), {**images(), "p0": made().image(0)})


def properties(dataset: Dataset) -> dict[str, Any]:
    return dict(dataset._table.open().metadata().configuration)


def test_what_is_new_says_its_format(catalog: Catalog) -> None:
    dataset = catalog.create("rows", modality="table")
    assert properties(dataset)[formats.PROPERTY] == str(formats.FORMAT)
    assert json.loads(catalog.storage.read(formats.FILE)) == {"format": formats.FORMAT}


def test_a_newer_lake_is_refused(catalog: Catalog) -> None:
    catalog.create("rows", modality="table")
    catalog.storage.write(b'{"format": 99}', formats.FILE)
    for action in (lambda c: c.names(), lambda c: c["rows"], lambda c: c.create("more", modality="table")):
        with pytest.raises(formats.NewerFormat, match=r"format version 99.*reads up to.*[Uu]pgrade"):
            action(Catalog(catalog.storage.root))


def test_a_newer_table_is_refused_and_the_others_are_not(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    catalog.create("other", modality="table").append([{"id": "a"}])
    with monkeypatch.context() as later:
        later.setattr(formats, "FORMAT", formats.FORMAT + 1)
        catalog.create("rows", modality="table")
    formats.mark_lake(catalog.storage)
    with pytest.raises(formats.NewerFormat, match=r"rows.*[Uu]pgrade"):
        catalog["rows"].select()
    assert len(catalog["other"]) == 1


def test_a_newer_catalog_raises_the_version_with_its_first_commit(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = catalog.create("rows", modality="table")
    dataset.append([{"id": "a"}])
    monkeypatch.setattr(formats, "FORMAT", formats.FORMAT + 1)
    assert len(Catalog(catalog.storage.root)["rows"]) == 1
    dataset.append([{"id": "b"}])
    assert properties(dataset)[formats.PROPERTY] == str(formats.FORMAT)
    assert len(dataset) == 2


def test_a_format_that_is_no_number_is_damage(catalog: Catalog) -> None:
    from sensorium.platform.errors import CorruptData

    catalog.storage.write(b"{}", formats.FILE)
    with pytest.raises(CorruptData, match=r"format\.json"):
        catalog.names()
