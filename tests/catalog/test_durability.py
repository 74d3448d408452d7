"""What is on disk, and in which order, when a commit is told to have succeeded."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sensorium.catalog import Catalog
from sensorium.catalog.models import ModelDraft, Models
from sensorium.platform.errors import StorageError
from sensorium.platform.storage import Storage


class Syncs:
    """Records what is made durable, and when the log gets a new entry."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, log: Path) -> None:
        self.paths: list[str] = []
        self.entries: list[int] = []
        plain = os.fsync

        def recorded(descriptor: int) -> None:
            self.paths.append(os.readlink(f"/proc/self/fd/{descriptor}"))
            self.entries.append(len(list(log.glob("*.json"))))
            plain(descriptor)

        monkeypatch.setattr(os, "fsync", recorded)

    def before(self, entries: int) -> set[str]:
        """What was made durable while the log had ``entries`` entries."""
        return {path for path, count in zip(self.paths, self.entries, strict=True) if count == entries}


def samples(*names: str) -> list[dict[str, Any]]:
    return [{"id": name, "image": np.full((4, 5, 3), number, np.uint8)} for number, name in enumerate(names)]


def files_of(folder: Path) -> set[str]:
    return {str(path) for path in folder.rglob("*") if path.is_file()}


def folders_of(folder: Path) -> set[str]:
    return {str(folder), *(str(path) for path in folder.rglob("*") if path.is_dir())}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    Catalog(tmp_path / "lake").create("photos", modality="image")
    return tmp_path / "lake" / "datasets" / "photos"


def test_payload_and_rows_are_on_disk_before_the_commit_and_the_log_before_the_answer(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = Catalog(root.parent.parent)["photos"]
    dataset.append(samples("a"))
    known = files_of(root / "fragments")
    syncs = Syncs(monkeypatch, root / "samples" / "_delta_log")
    assert dataset.append(samples("b", "c")) == 2
    before, after = syncs.before(2), syncs.before(3)
    payload = files_of(root / "fragments") - known
    assert payload
    assert payload <= before
    assert folders_of(next(Path(path).parent for path in payload if path.endswith("zarr.json"))) <= before
    assert {str(root / "fragments"), str(root / "samples")} <= before
    added = dataset._table.added_in(2)
    assert {path.rpartition(".part")[0] or path for path in before} >= {str(root / "samples" / path) for path in added}
    log = root / "samples" / "_delta_log"
    assert {str(log), str(log / f"{2:020}.json")} <= after


def test_the_folders_of_a_new_lake_are_on_disk_up_to_the_one_that_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = tmp_path / "deep" / "lake"
    syncs = Syncs(monkeypatch, lake)
    Catalog(lake).create("photos", modality="image").append(samples("a"))
    wanted = {tmp_path / "deep", lake, lake / "datasets", lake / "datasets" / "photos"}
    assert {str(path) for path in wanted} <= set(syncs.paths)


def test_scratch_syncs_rows_only(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = Catalog(root.parent.parent)["photos"]
    syncs = Syncs(monkeypatch, root / "samples" / "_delta_log")
    dataset.append(samples("a"), durable=False)
    assert syncs.paths
    assert all("/samples" in path and "_delta_log" not in path for path in syncs.paths)


def test_a_durable_commit_settles_the_scratch_before_it(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = Catalog(root.parent.parent)["photos"]
    dataset.append(samples("a"), durable=False)
    syncs = Syncs(monkeypatch, root / "samples" / "_delta_log")
    dataset.update([{"id": "a", "image": np.zeros((2, 2, 3), np.uint8)}])
    log = root / "samples" / "_delta_log"
    assert {str(log / f"{version:020}.json") for version in (1, 2)} <= set(syncs.paths)


def test_a_disk_that_does_not_confirm_is_told_of(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = Catalog(root.parent.parent)["photos"]
    plain = os.fsync

    def failing(descriptor: int) -> None:
        if "_delta_log" in os.readlink(f"/proc/self/fd/{descriptor}"):
            raise OSError(5, "Input/output error")
        plain(descriptor)

    monkeypatch.setattr(os, "fsync", failing)
    with pytest.raises(StorageError, match=r"photos.*version 1 is there.*not confirmed"):
        dataset.append(samples("a"))
    assert len(dataset) == 1


def test_a_file_is_whole_or_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = Storage.at(tmp_path)
    storage.write(b"old", "deep", "er", "file")
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(StorageError, match=r"deep/er/file.*full"):
        storage.write(b"new", "deep", "er", "file", durable=True)
    assert storage.read("deep", "er", "file") == b"old"
    assert storage.files("deep", "er") == ["file"]


def test_a_tag_is_on_disk_when_it_is_told_of(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = Catalog(root.parent.parent)["photos"]
    dataset.append(samples("a"))
    log = root / "tags" / "_delta_log"
    syncs = Syncs(monkeypatch, log)
    dataset.tag("first", 1)
    content = {str(path) for path in (root / "tags").glob("*.parquet")}
    assert content
    assert content <= {path.rpartition(".part")[0] or path for path in syncs.before(1)}
    assert {str(log), str(root), str(log / f"{0:020}.json"), str(log / f"{1:020}.json")} <= syncs.before(2)
    dataset.tag("first", 0, move=True)
    assert str(log / f"{2:020}.json") in syncs.before(3)
    assert dataset.tags() == {"first": 0}


def test_the_files_of_a_model_are_on_disk_before_it_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    models = Models(Storage.at(tmp_path / "lake"))
    syncs = Syncs(monkeypatch, tmp_path / "lake" / "models" / "samples" / "_delta_log")
    weights = (2).to_bytes(8, "little") + b"{}"
    model = models.save(ModelDraft("net", "none", weights, {}, files={"split.json": b"[]"}))
    folder = tmp_path / "lake" / "models" / "files"
    wanted = {str(folder / model.folder / name) for name in ("weights.safetensors", "split.json")}
    before = {path.rpartition(".part")[0] or path for path in syncs.before(0)}
    assert wanted | {str(folder), str(folder / model.folder), str(folder.parent)} <= before
