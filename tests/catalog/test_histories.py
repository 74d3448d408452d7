"""Random histories of a data set against a plain-Python model of what each version holds."""

from __future__ import annotations

import shutil
import tempfile
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from sensorium.catalog import Catalog, upkeep
from sensorium.platform.errors import DuplicateSample, ExpiredVersion, UnknownSample

IDS = st.sampled_from([f"s{n}" for n in range(8)])
VALUES = st.integers(0, 5)
SIZES = st.integers(1, 4)

State = dict[str, dict[str, Any]]


def array(value: int, size: int) -> np.ndarray:
    return np.full((size, 3, 1), value, np.uint8)


class History(RuleBasedStateMachine):
    """Every version, once seen, must read the same for as long as it is kept."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="sensorium-history-"))
        self.versions: dict[int, State] = {}
        self.tags: dict[str, int] = {}
        self.expired: set[int] = set()
        self.factor, upkeep._FACTOR = upkeep._FACTOR, 3

    @initialize()
    def create(self) -> None:
        self.dataset = Catalog(self.folder / "lake").create("d", modality="image", fields=None)
        self.state: State = {}
        self.note(self.dataset.version)

    def teardown(self) -> None:
        upkeep._FACTOR = self.factor
        shutil.rmtree(self.folder)

    def note(self, version: int) -> None:
        """What the newest version holds; versions between it and the last one hold what the last one held."""
        last = max(self.versions, default=-1)
        for skipped in range(last + 1, version):
            self.versions[skipped] = self.versions[last]
        for number in range(
            version, max(version, self.dataset.version) + 1
        ):  # table files may have been merged after it
            self.versions[number] = {identifier: dict(row) for identifier, row in self.state.items()}

    @rule(ids=st.lists(IDS, min_size=1, max_size=4, unique=True), value=VALUES, size=SIZES, dedupe=st.booleans())
    def append(self, ids: list[str], value: int, size: int, dedupe: bool) -> None:
        samples = [{"id": identifier, "image": array(value, size), "value": value} for identifier in ids]
        if set(ids) & set(self.state):
            with pytest.raises(DuplicateSample):
                self.dataset.append(samples, evolve=True, dedupe=dedupe)
            return
        version = self.dataset.append(samples, evolve=True, dedupe=dedupe)
        self.state |= {identifier: {"value": value, "image": (value, size)} for identifier in ids}
        self.note(version)

    @rule(ids=st.lists(IDS, min_size=1, max_size=4, unique=True), value=VALUES)
    def append_what_is_missing(self, ids: list[str], value: int) -> None:
        samples = [{"id": identifier, "image": array(value, 2), "value": value} for identifier in ids]
        version = self.dataset.append(samples, evolve=True, existing="skip")
        self.state |= {i: {"value": value, "image": (value, 2)} for i in ids if i not in self.state}
        self.note(version)

    @rule(ids=st.lists(IDS, min_size=1, max_size=3, unique=True), value=VALUES)
    def update(self, ids: list[str], value: int) -> None:
        rows = [{"id": identifier, "value": value} for identifier in ids]
        if not set(ids) <= set(self.state):
            with pytest.raises(UnknownSample):
                self.dataset.update(rows, evolve=True)
            return
        version = self.dataset.update(rows, evolve=True)
        for identifier in ids:
            self.state[identifier]["value"] = value
        self.note(version)

    @rule(identifier=IDS, value=VALUES, size=SIZES)
    def update_array(self, identifier: str, value: int, size: int) -> None:
        if identifier in self.state:
            version = self.dataset.update([{"id": identifier, "image": array(value, size)}])
            self.state[identifier]["image"] = (value, size)
            self.note(version)

    @precondition(lambda self: any("value" in row for row in self.state.values()))
    @rule(value=VALUES)
    def delete(self, value: int) -> None:
        version = self.dataset.delete(f"value = {value}")
        self.state = {i: row for i, row in self.state.items() if row["value"] != value}
        self.note(version)

    @rule(name=st.sampled_from(["a", "b"]))
    def tag(self, name: str) -> None:
        self.tags[name] = self.dataset.tag(name, move=True)

    @rule()
    def compact(self) -> None:
        self.note(self.dataset.compact())

    @precondition(lambda self: any("value" in row for row in self.state.values()))
    @rule(columns=st.sampled_from([["value"], ["value", "id"], []]))
    def cluster(self, columns: list[str]) -> None:
        self.note(self.dataset.compact(cluster=columns))

    @rule()
    def vacuum_within_retention(self) -> None:
        report = self.dataset.vacuum(grace=timedelta(0), dry_run=False)
        assert report.versions == []

    @rule()
    def vacuum_everything(self) -> None:
        report = self.dataset.vacuum(timedelta(0), grace=timedelta(0), dry_run=False)
        self.expired |= set(report.versions)
        newest = max(self.versions)
        assert newest not in report.versions
        assert not set(report.versions) & set(self.tags.values())
        self.note(self.dataset.version)

    @invariant()
    def every_version_reads_what_it_held(self) -> None:
        catalog = Catalog(self.folder / "lake")
        if "d" not in catalog:
            return
        for version, state in self.versions.items():
            if version in self.expired:
                with pytest.raises(ExpiredVersion):
                    catalog.dataset("d", version)
                continue
            held = catalog.dataset("d", version).select()
            assert {sample.id for sample in held} == set(state)
            for sample in held:
                row = state[sample.id]
                value, size = row["image"]
                np.testing.assert_array_equal(sample["image"], array(value, size))
                assert sample.get("value") == row["value"]
        for name, version in self.tags.items():
            assert catalog.dataset("d", name).version == version

    @invariant()
    def payload_is_whole(self) -> None:
        if self.versions:
            assert self.dataset.verify().is_empty()


TestHistory = History.TestCase
TestHistory.settings = settings(
    max_examples=15, stateful_step_count=14, deadline=None, suppress_health_check=list(HealthCheck)
)
TestHistory = pytest.mark.slow(TestHistory)
