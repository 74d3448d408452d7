"""Fits, folds, searches and bulk predictions on a real Ray session."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from sensorium.catalog import Catalog
from sensorium.jobs.training import launch, prediction
from sensorium.jobs.training.checkpoints import from_bytes
from sensorium.jobs.training.configuration import overridden
from sensorium.jobs.training.fit import FitReport, FitRequest, cross_validate, fit, resume
from sensorium.jobs.training.method import load_model
from sensorium.jobs.training.search import parse_space, search
from sensorium.jobs.water_pollutants import simulator
from sensorium.jobs.water_pollutants.config import WaterConfig
from sensorium.platform.errors import InvalidSetting, UserError
from sensorium.platform.settings import Settings

SETTINGS = Settings()
LIQUIDS = ("ammonia", "hydrochloric_acid")
#: an LSTM is quick; all of its noise and order come from the seed
TINY = ("network=lstm", "optimiser=adam", "lr=0.003", "stride=24", "folds=4", "validation=0.34", "batch_size=32")

pytestmark = pytest.mark.usefixtures("ray_cluster")


@pytest.fixture(scope="module")
def water(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    catalog = Catalog(tmp_path_factory.mktemp("lake"))
    dataset = catalog.create("water", modality="series", fields=list(simulator.FIELDS))
    dataset.append(simulator.samples(liquids=LIQUIDS, measurements=6))
    return catalog


def request(*settings: str, **more: Any) -> FitRequest:
    return FitRequest("water_pollutants", "water", overridden(WaterConfig(), [*TINY, *settings]), **more)


def weights(report: FitReport) -> dict[str, torch.Tensor]:
    return from_bytes(report.model.weights(), "it")[0]


def close(one: FitReport, other: FitReport) -> bool:
    ours, theirs = weights(one), weights(other)
    return all(torch.allclose(ours[name], theirs[name], rtol=1e-5, atol=1e-6) for name in ours)


def workers() -> list[int]:
    """Processes of the workers of Ray Train."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if b"RayTrainWorker" in path.read_bytes():
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


class Shown:
    """A progress bar of the driver's terminal."""

    def __init__(self) -> None:
        self.title, self.total, self.done = "", 0.0, 0.0

    @contextmanager
    def __call__(self, title: str, total: float, unit: str) -> Iterator[Shown]:
        self.title, self.total, self.done = title, total, 0.0
        assert unit == "steps"
        yield self

    def advance(self, amount: float) -> None:
        self.done += amount

    def note(self, text: str) -> None:
        """What is behind the bar is for people."""


@pytest.mark.slow
def test_a_killed_worker_changes_nothing(water: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two workers; one is killed in the middle, is replaced, and the weights are those of an undisturbed fit."""
    wanted = request("epochs=6", "checkpoint_steps=10", "patience=0", workers=2)
    shown = Shown()
    monkeypatch.setattr(launch, "progress", shown)
    monkeypatch.setattr(launch, "_LOOK_EVERY_S", 0.02)
    undisturbed = fit(water, wanted, SETTINGS)
    assert 0 < shown.done <= shown.total
    assert shown.title == "fit"
    killed: list[int] = []

    def kill() -> None:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and not killed:
            done = [
                name for run in water.storage.folders("checkpoints") for name in water.storage.files("checkpoints", run)
            ]
            if any(name.startswith("000-") for name in done):
                killed.append(workers()[-1])
                os.kill(killed[0], signal.SIGKILL)
            time.sleep(0.01)

    thread = threading.Thread(target=kill)
    thread.start()
    disturbed = fit(water, wanted, SETTINGS)
    thread.join()
    assert killed
    assert disturbed.outcome.steps == undisturbed.outcome.steps
    assert close(disturbed, undisturbed)
    assert disturbed.outcome.history == [
        [pytest.approx(entry) for entry in phase] for phase in undisturbed.outcome.history
    ]
    records = water.records(disturbed.run)
    assert records.height == records.unique(["step", "name"]).height
    steps = records.filter(pl.col("name") == "train/loss")["step"].to_list()
    assert steps == list(range(20, undisturbed.outcome.steps + 1, 20))


def test_folds_side_by_side_are_those_of_one_process(water: Catalog) -> None:
    alone = cross_validate(water, request("epochs=1"), SETTINGS, only=(0, 3), parallel=False)
    together = cross_validate(water, request("epochs=1"), SETTINGS, only=(0, 3))
    assert together.folds.drop("seconds").equals(alone.folds.drop("seconds"))


def test_a_mistake_in_a_worker_comes_back_as_itself(water: Catalog) -> None:
    with pytest.raises(UserError, match="1600 readings, and 1632 are needed"):
        cross_validate(water, request("skip=1600"), SETTINGS, only=(0,))


def test_too_many_workers_are_refused(water: Catalog) -> None:
    with pytest.raises(InvalidSetting, match="64 workers need as many cores"):
        fit(water, request(workers=64), SETTINGS)


def test_a_search_finds_the_better_of_two(water: Catalog) -> None:
    before = water.storage.folders("checkpoints")
    report = search(
        water, request("epochs=2"), parse_space(["lr=log(1e-7,2e-7)", "optimiser=choice(adam)"]), SETTINGS, trials=2
    )
    assert report.trials.height == 2
    assert report.trials["accuracy"].is_sorted(descending=True)
    assert 1e-7 <= report.config.fit.lr <= 2e-7
    assert report.best["lr"] == report.trials["lr"][0] == report.config.fit.lr
    assert water.storage.folders("checkpoints") == before
    assert water.runs().row(0, named=True)["kind"] == "search"


def test_replicas_on_every_core_leave_none_waiting(water: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    """More batches than replicas, and a replica on each core: nothing else may need a core."""
    fit(water, request("epochs=1", name="every"), SETTINGS)
    monkeypatch.setattr(prediction, "_BATCH", 2)
    found = prediction.predict(water, "every", "water", "every_found", SETTINGS, workers=2)
    assert (found.computed, found.errors) == (12, 0)
    assert sorted(water["every_found"].select().frame()["id"]) == water["water"].select().frame()["id"].to_list()


def test_bulk_prediction_is_resumable_and_has_lineage(water: Catalog) -> None:
    report = fit(water, request("epochs=1", name="bulk"), SETTINGS)
    some = prediction.predict(water, "bulk", "water", "found", SETTINGS, where="measurement < 2")
    assert (some.computed, some.present, some.errors) == (4, 0, 0)
    rest = prediction.predict(water, "bulk", "water", "found", SETTINGS)
    assert (rest.computed, rest.present, rest.errors) == (8, 4, 0)
    again = prediction.predict(water, "bulk", "water", "found", SETTINGS)
    assert (again.computed, again.version) == (0, rest.version)
    method, fitted = load_model(report.model, "cpu")
    for sample in water["water"].select():
        (expected,) = method.predict(fitted, [sample])
        held = water["found"].select()[sample.id]
        np.testing.assert_allclose(held["probabilities"], expected["probabilities"], atol=1e-6)
        assert held["predicted"] == expected["predicted"]
    upstream = water.lineage("found").filter(pl.col("direction") == "upstream")
    assert {"water", "models/bulk"} <= set(upstream["made_from"])
    assert water["found"].verify().is_empty()
    fit(water, request("epochs=1", name="bulk"), SETTINGS)
    with pytest.raises(InvalidSetting, match="holds results of model bulk@1, not of bulk@2"):
        prediction.predict(water, "bulk", "water", "found", SETTINGS)


def test_one_bad_sample_does_not_spoil_the_others(water: Catalog) -> None:
    if "bulk" not in set(water.models()["name"]):
        fit(water, request("epochs=1", name="bulk"), SETTINGS)
    dataset = water.create("mixed", modality="series", fields=list(simulator.FIELDS))
    samples = list(simulator.samples(liquids=LIQUIDS, measurements=1, seed=3))
    samples[1] = {**samples[1], "signal": samples[1]["signal"][:7], "channels": samples[1]["channels"][:7]}
    dataset.append(samples)
    report = prediction.predict(water, "bulk@1", "mixed", "mixed_found", SETTINGS)
    assert (report.computed, report.errors) == (2, 1)
    rows = water["mixed_found"].select().frame()
    assert rows.filter(pl.col("error").is_not_null())["id"].to_list() == [samples[1]["id"]]
    assert "10 features are needed" in rows["error"].drop_nulls()[0]


def test_evaluation_on_replicas_is_that_of_one_process(water: Catalog) -> None:
    if "bulk" not in set(water.models()["name"]):
        fit(water, request("epochs=1", name="bulk"), SETTINGS)
    alone = prediction.evaluate(water, "bulk@1", "water", SETTINGS)
    replicas = prediction.evaluate(water, "bulk@1", "water", SETTINGS, workers=2)
    assert alone.figures == replicas.figures
    assert alone.left_out == replicas.left_out == 8


def test_a_lost_fit_is_resumed_by_another_process(water: Catalog) -> None:
    """The driver is killed; what another process resumes ends as an undisturbed fit."""
    wanted = request("epochs=4", "checkpoint_steps=5", "patience=0", name="lost")
    undisturbed = fit(water, wanted, SETTINGS)
    settings = [
        text for setting in (*TINY, "epochs=4", "checkpoint_steps=5", "patience=0") for text in ("--set", setting)
    ]
    program = "import sys; from sensorium.platform.cli import main; main(sys.argv[1:])"
    command = [
        sys.executable,
        "-c",
        program,
        "--lake",
        water.storage.root,
        "fit",
        "water_pollutants",
        "--data",
        "water",
    ]
    with subprocess.Popen([*command, "--name", "lost", "--track", "off", *settings]) as driver:
        deadline = time.monotonic() + 100
        while time.monotonic() < deadline:
            runs = water.storage.folders("checkpoints")
            if any(name.startswith("000-") for run in runs for name in water.storage.files("checkpoints", run)):
                break
            time.sleep(0.005)
        driver.kill()
    run = water.runs().row(0, named=True)
    assert (run["kind"], run["state"]) == ("fit", "running")
    report = resume(water, run["run"], SETTINGS)
    assert report.model.reference == "lost@2"
    assert close(report, undisturbed)
