"""Faults at every step of a change, and damage at every place of the payload: nothing is lost in silence."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sensorium.catalog import ArrayField, Catalog, Dataset, fragments
from sensorium.platform.errors import CorruptData

everything = pytest.mark.skipif("SENSORIUM_ALL_FAULTS" not in os.environ, reason="takes minutes: make faults runs it")

_PROGRAM = Path(__file__).with_name("faults.py")
#: a trial is short: teams of threads would take longer to start than to work
_ENVIRONMENT = {**os.environ, "POLARS_MAX_THREADS": "1", "TOKIO_WORKER_THREADS": "1", "OMP_NUM_THREADS": "1"}


def program(*arguments: object) -> list[dict[str, Any]]:
    ended = subprocess.run(
        [sys.executable, str(_PROGRAM), *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        env=_ENVIRONMENT,
    )
    assert ended.returncode == 0, ended.stderr
    return [json.loads(line) for line in ended.stdout.splitlines()]


def trials(folder: Path, operation: str, first: int, step: int, offset: int) -> list[dict[str, Any]]:
    """What became of each trial of :mod:`faults`; the last, which met no fault, left out."""
    program(folder / "template", operation, "template")
    found = program(folder / "template", folder, operation, first, step, offset)
    assert found[-1]["ended"], "there were more calls to fail"
    return found[:-1]


def check(found: list[dict[str, Any]]) -> None:
    wrong = [(one["number"], one["fault"], one.get("event"), one["wrong"]) for one in found if one["wrong"]]
    assert not wrong
    assert {one["outcome"] for one in found} <= {"done", "error", "killed"}


@pytest.mark.parametrize(("operation", "first"), [("append", 3), ("compact", 5), ("vacuum", 7)])
def test_a_fault_at_some_calls_loses_nothing(tmp_path: Path, operation: str, first: int) -> None:
    found = trials(tmp_path, operation, first, 8, 0)
    check(found)
    assert {one["fault"] for one in found} >= {"ENOSPC", "EIO", "EACCES"}


@everything
@pytest.mark.parametrize(("operation", "offset"), [("append", 1), ("compact", 2), ("vacuum", 3)])
def test_a_fault_at_any_call_loses_nothing(tmp_path: Path, operation: str, offset: int) -> None:
    found = trials(tmp_path, operation, 1, 1, offset)
    check(found)
    assert len(found) > 30
    assert any(one["outcome"] == "killed" for one in found)
    assert any(one["outcome"] == "error" for one in found)


# -- damage -----------------------------------------------------------------------------------------------------------

_CODECS = ("none", "zstd", "blosc")


def payload(dataset: Dataset) -> list[Path]:
    folder = Path(dataset.storage.at_path(fragments.FOLDER))
    return sorted(path for path in folder.rglob("*") if path.is_file())


@pytest.fixture(params=_CODECS)
def dataset(catalog: Catalog, request: pytest.FixtureRequest) -> Dataset:
    """A fragment with stacked, and one with flat, payload; both with more samples than a chunk holds."""
    dataset = catalog.create("x", modality="table", fields=[ArrayField("v", codec=request.param)])
    chance = np.random.default_rng(3)
    dataset.append([{"id": f"s{n}", "v": chance.integers(0, 5, (3, 4), dtype=np.int16)} for n in range(5)])
    dataset.append([{"id": f"f{n}", "v": chance.integers(0, 5, 7 + 5 * n, dtype=np.int16)} for n in range(4)])
    return dataset


def anew(dataset: Dataset) -> Dataset:
    """The data set with nothing remembered of its files, as another process sees it."""
    fragments.forget()
    return Catalog(dataset.storage.above().above().root)["x"]


def unchecked(dataset: Dataset) -> dict[str, bytes | None]:
    """Every sample's bytes as they are read without a look at checksums; None where they cannot be read."""
    found: dict[str, bytes | None] = {}
    for identifier, reference in dataset.select().rows.select("id", "v").iter_rows():
        try:
            [array] = fragments.read_many(dataset.storage, [reference], check=False)
            found[identifier] = f"{array.dtype} {array.shape}".encode() + array.tobytes()
        except Exception:  # whatever a damaged file makes a decoder raise
            found[identifier] = None
    return found


def check_flips(dataset: Dataset, places: list[tuple[Path, int]]) -> int:
    """Flip a bit at each place in turn: ``verify`` names just the samples that read otherwise. Returns how often it named one."""
    whole = unchecked(dataset)
    named = 0
    for path, offset in places:
        content = path.read_bytes()
        damaged = bytearray(content)
        damaged[offset] ^= 1 << (offset % 8)
        path.write_bytes(damaged)
        changed = {name for name, read in unchecked(anew(dataset)).items() if read != whole[name]}
        found = set(dataset.verify()["id"])
        assert found == changed, f"byte {offset} of {path}"
        named += bool(found)
        path.write_bytes(content)
    assert dataset.verify().is_empty()
    return named


def places_of(dataset: Dataset) -> tuple[list[tuple[Path, int]], list[tuple[Path, int]]]:
    """Every byte of the shards, index and all, and every byte of the metadata."""
    everywhere = [(path, offset) for path in payload(dataset) for offset in range(path.stat().st_size)]
    return [one for one in everywhere if one[0].name != "zarr.json"], [
        one for one in everywhere if one[0].name == "zarr.json"
    ]


def test_verify_names_just_the_samples_that_a_flipped_byte_changed(dataset: Dataset) -> None:
    shards, metadata = places_of(dataset)
    chance = random.Random(4)
    assert check_flips(dataset, chance.sample(shards, 50)) > 25
    check_flips(dataset, chance.sample(metadata, 30))


@everything
def test_verify_names_just_the_samples_that_any_flipped_byte_changed(dataset: Dataset) -> None:
    shards, metadata = places_of(dataset)
    assert check_flips(dataset, shards) > len(shards) // 2
    check_flips(dataset, random.Random(5).sample(metadata, 300))


def test_a_flipped_byte_is_an_error_to_whoever_reads_the_sample(dataset: Dataset) -> None:
    shard = next(path for path in payload(dataset) if path.name != "zarr.json")
    content = bytearray(shard.read_bytes())
    content[len(content) // 3] ^= 8
    shard.write_bytes(content)
    damaged = set(anew(dataset).verify()["id"])
    assert damaged
    for sample in anew(dataset).select():
        if sample.id in damaged:
            with pytest.raises(CorruptData):
                sample["v"]
        else:
            assert sample["v"].dtype == np.int16


def test_verify_names_every_sample_of_a_shard_cut_short(dataset: Dataset) -> None:
    for shard in [path for path in payload(dataset) if path.name != "zarr.json"]:
        content = shard.read_bytes()
        for length in (0, 1, len(content) // 2, len(content) - 1):
            shard.write_bytes(content[:length])
            read = unchecked(anew(dataset))
            lost = {name for name, array in read.items() if array is None}
            assert lost
            assert set(anew(dataset).verify()["id"]) >= lost
        shard.write_bytes(content)
    assert anew(dataset).verify().is_empty()
