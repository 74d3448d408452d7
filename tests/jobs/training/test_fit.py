"""A whole fit in this process: split, preprocessing, loop, test part, model, records."""

from __future__ import annotations

import io
import json
import os
import signal
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
import toy
from wandb_files import read_run

from sensorium.catalog import Catalog
from sensorium.jobs.training import fit as fitting
from sensorium.jobs.training import prediction, worker
from sensorium.jobs.training.configuration import overridden
from sensorium.jobs.training.fit import FitRequest, cross_validate, fit, forget, resume
from sensorium.jobs.training.folds import Split
from sensorium.jobs.training.method import load_model
from sensorium.jobs.training.recipe import Moment, Phase, Recipe, Update, Workspace
from sensorium.jobs.training.worker import Job, finished
from sensorium.platform.errors import (
    DataLeak,
    FitStopped,
    InvalidSample,
    InvalidSetting,
    UnknownField,
    UnknownRun,
    UserError,
)
from sensorium.platform.settings import Settings

SETTINGS = Settings()


@pytest.fixture(autouse=True)
def _toy(monkeypatch: pytest.MonkeyPatch) -> None:
    toy.install(monkeypatch)


@pytest.fixture
def waves(catalog: Catalog) -> Catalog:
    catalog.create("waves", modality="series").append(toy.toy_samples())
    return catalog


def request(*settings: str, **more: Any) -> FitRequest:
    return FitRequest("toy", "waves", overridden(toy.ToyConfig(), settings), **more)


def test_a_fit_ends_as_a_model_with_everything_that_made_it(waves: Catalog) -> None:
    report = fit(waves, request("epochs=3"), SETTINGS)
    model = waves.model("toy")
    assert (model.reference, model.system, model.run) == ("toy@1", "toy", report.run)
    assert model.configuration["fit"]["epochs"] == 3
    assert model.preprocessing["classes"] == ["slow", "fast"]
    assert [str(source) for source in model.sources] == ["waves@1"]
    assert model.metrics["accuracy"]["value"] == report.figures["accuracy"].value > 0.9
    assert model.metrics["validation"]["epoch"] in (1, 2, 3)
    assert {"python", "torch", "sensorium", "cores"} <= set(model.environment)
    assert model.parameters == 16 * 8 + 8 + 2 * 8 + 8 * 2 + 2
    assert {"weights.safetensors", "split.parquet", "confusion.png"} <= set(model.files)
    assert model.read("confusion.png").startswith(b"\x89PNG")
    run = waves.runs().row(0, named=True)
    assert (run["run"], run["kind"], run["state"]) == (report.run, "fit", "finished")
    assert run["outputs"] == [{"dataset": "models/toy", "version": 1}]
    assert not waves.storage.folders("checkpoints")
    assert waves.lineage("models/toy").row(0, named=True)["made_from"] == "waves"
    for file in report.files:
        assert waves.storage.exists(*file.split("/"))


def test_the_curves_are_in_the_lake(waves: Catalog) -> None:
    report = fit(waves, request("epochs=3", "log_steps=5"), SETTINGS)
    records = waves.records(report.run)
    names = set(records["name"])
    assert {"train/loss", "validation/accuracy", "lr", "load/cores", "load/examples_per_s", "epoch"} <= names
    losses = records.filter(pl.col("name") == "train/loss").sort("step")
    assert losses["step"].to_list() == list(range(5, report.outcome.steps + 1, 5))
    assert losses["value"].to_list()[-1] < losses["value"].to_list()[0]
    by_epoch = records.filter(pl.col("name") == "validation/accuracy")["value"].to_list()
    assert by_epoch == [figures["accuracy"] for figures in report.outcome.history[0]]


def test_a_loaded_model_predicts_the_same(waves: Catalog) -> None:
    fit(waves, request("epochs=1"), SETTINGS)
    method, fitted = load_model(waves.model("toy"), "cpu")
    sample = dict(waves["waves"].select()["series-003"])
    one, other = method.predict(fitted, [sample]), method.predict(load_model(waves.model("toy"), "cpu")[1], [sample])
    assert np.array_equal(one[0]["windows"], other[0]["windows"])


def test_the_same_seed_gives_the_same_model(waves: Catalog) -> None:
    for _ in range(2):
        fit(waves, request("epochs=1"), SETTINGS)
    assert waves.model("toy@1").checksum == waves.model("toy@2").checksum
    fit(waves, request("epochs=1", "fit.seed=1"), SETTINGS)
    assert waves.model("toy@3").checksum != waves.model("toy@1").checksum


def test_statistics_are_of_the_training_part_only(waves: Catalog, catalog: Catalog) -> None:
    """The same fit on data whose other parts are spoilt gives the same statistics and weights."""
    fit(waves, request("epochs=1", "validation=0"), SETTINGS)
    split = Split.read(pl.read_parquet(io.BytesIO(waves.model("toy").read("split.parquet"))))
    spoilt = [
        {**sample, "signal": sample["signal"] * 1000} if sample["id"] in split.test else sample
        for sample in toy.toy_samples()
    ]
    waves.create("spoilt", modality="series").append(spoilt)
    fit(waves, replace(request("epochs=1", "validation=0"), data="spoilt"), SETTINGS)
    assert waves.model("toy@1").preprocessing == waves.model("toy@2").preprocessing
    assert waves.model("toy@1").checksum == waves.model("toy@2").checksum


def test_subjects_are_on_one_side(waves: Catalog) -> None:
    fit(waves, request("epochs=1"), SETTINGS)
    split = pl.read_parquet(io.BytesIO(waves.model("toy").read("split.parquet")))
    subjects = split.join(waves["waves"].select(fields=["subject"]).frame(), on="id")
    assert subjects.group_by("subject").agg(pl.col("part").n_unique())["part"].max() == 1
    assert set(split["part"]) == {"train", "validation", "test"}


class _Interrupt:
    """Presses Ctrl-C in a step of the toy's recipe, once."""

    def __init__(self, step: int) -> None:
        self.step, self.done, self.plain = step, False, toy.method

    def phases(self, config: toy.ToyConfig) -> tuple[Phase, ...]:
        return (Phase("classify", self.recipe),)

    def recipe(self, space: Workspace) -> Recipe:
        made = self.plain.phases(space.config)[0].recipe(space)

        def step(batch: Any, moment: Moment, update: Update) -> Mapping[str, torch.Tensor]:
            if moment.step == self.step and not self.done:
                self.done = True
                os.kill(os.getpid(), signal.SIGINT)
            return made.step(batch, moment, update)

        return replace(made, step=step)


def test_ctrl_c_and_resume_give_the_undisturbed_model(waves: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    fit(waves, request(), SETTINGS)
    plain = toy.method
    monkeypatch.setattr(toy, "method", replace(plain, phases=_Interrupt(31).phases))
    with pytest.raises(
        FitStopped, match=r"run (\S+) stopped at epoch \d, step 32; go on with: sensorium fit toy --resume \1"
    ):
        fit(waves, request(), SETTINGS)
    monkeypatch.setattr(toy, "method", plain)
    run = waves.runs().row(0, named=True)
    assert run["state"] == "stopped"
    report = resume(waves, run["run"], SETTINGS)
    assert report.run == run["run"]
    assert waves.model("toy@2").checksum == waves.model("toy@1").checksum
    assert waves.runs().row(0, named=True)["state"] == "finished"
    records = waves.records(report.run)
    assert records.height == records.unique(["step", "name"]).height
    with pytest.raises(UserError, match=r"is finished: its model is models/toy@2"):
        resume(waves, report.run, SETTINGS)


def test_what_cannot_be_resumed_is_told(waves: Catalog) -> None:
    with pytest.raises(UnknownRun, match="has no run 'nothing'"):
        resume(waves, "nothing", SETTINGS)


def test_a_failed_fit_is_recorded_and_leaves_no_model(waves: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*arguments: Any) -> Any:
        raise InvalidSample("sample 'x', field 'signal': too short. Leave it out.")

    monkeypatch.setattr(toy, "method", replace(toy.method, preprocess=broken))
    with pytest.raises(InvalidSample, match="too short"):
        fit(waves, request(), SETTINGS)
    run = waves.runs().row(0, named=True)
    assert (run["state"], run["message"]) == (
        "failed",
        "InvalidSample: sample 'x', field 'signal': too short. Leave it out.",
    )
    assert waves.models().is_empty()


def test_a_missing_label_is_named(catalog: Catalog) -> None:
    samples = list(toy.toy_samples())
    del samples[5]["label"]
    catalog.create("waves", modality="series", fields={"label": "int64"}).append(samples)
    with pytest.raises(InvalidSample, match=r"sample 'series-005' has no 'label'.*--where \"label IS NOT NULL\""):
        fit(catalog, request(), SETTINGS)
    fit(catalog, request("epochs=1", where="label IS NOT NULL"), SETTINGS)


@pytest.mark.parametrize(
    ("made", "error", "says"),
    [
        ({"modality": "table", "fields": {"label": "int64"}}, InvalidSetting, "is of modality table; series is needed"),
        ({"modality": "series"}, UnknownField, "has no field 'signal'"),
    ],
)
def test_other_data_is_refused_before_anything_runs(
    catalog: Catalog, made: dict[str, Any], error: type[Exception], says: str
) -> None:
    catalog.create("waves", **made)
    with pytest.raises(error, match=says):
        fit(catalog, request(), SETTINGS)
    assert catalog.runs().is_empty()


def test_no_samples_are_told(waves: Catalog) -> None:
    with pytest.raises(InvalidSetting, match=r"no samples are chosen\. Look at --where"):
        fit(waves, request(where="label = 7"), SETTINGS)


# -- folds ------------------------------------------------------------------------------------------------------------


def _note(job: Job) -> int:
    found = finished(job)
    return len(found.parts["test"]) if found.scores is not None else -1


def test_folds_measure_each_sample_once(waves: Catalog) -> None:
    report = cross_validate(waves, request("epochs=1"), SETTINGS, folds=4, after=_note, parallel=False)
    assert report.folds["fold"].to_list() == [0, 1, 2, 3]
    assert sorted(report.rows["id"]) == waves["waves"].select().frame()["id"].to_list()
    assert report.extras == dict.fromkeys(range(4), 6)
    summary = report.summary().row(0, named=True)
    assert summary["mean"] == pytest.approx(np.mean(report.folds["accuracy"].to_numpy()))
    assert summary["deviation"] == pytest.approx(np.std(report.folds["accuracy"].to_numpy()))
    assert summary["units"] == 12
    assert summary["low"] <= summary["pooled"] <= summary["high"]
    assert waves.models().is_empty()
    assert not waves.storage.folders("checkpoints")
    run = waves.runs().row(0, named=True)
    assert (run["kind"], run["state"]) == ("cross_validation", "finished")
    assert json.loads(run["metrics"])["accuracy"]["mean"] == summary["mean"]


def test_folds_that_are_kept_are_not_fitted_again(waves: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cross-validation that is stopped goes on at the fold where it was, to the same figures."""
    whole = cross_validate(waves, request("epochs=2"), SETTINGS, folds=3, parallel=False)
    trained: list[str] = []
    train = worker.run_phase

    def counted(*given: Any, **named: Any) -> Any:
        trained.append("phase")
        if len(trained) == 2:
            raise KeyboardInterrupt
        return train(*given, **named)

    monkeypatch.setattr(worker, "run_phase", counted)
    monkeypatch.setattr(fitting, "_PROCESS", "")
    asked = {"folds": 3, "parallel": False, "keep": "experiment"}
    with pytest.raises(KeyboardInterrupt):
        cross_validate(waves, request("epochs=2"), SETTINGS, **asked)
    done = cross_validate(waves, request("epochs=2"), SETTINGS, **asked)
    assert len(trained) == 4  # three folds, and the one that was stopped once more
    assert done.rows.equals(whole.rows)
    cross_validate(waves, request("epochs=2"), SETTINGS, **asked)
    assert len(trained) == 4
    cross_validate(waves, request("epochs=1"), SETTINGS, **asked)
    assert len(trained) == 7  # another configuration, other folds
    assert waves.storage.folders("checkpoints")
    forget(waves, "experiment")
    assert not waves.storage.folders("checkpoints")


def test_some_folds_only(waves: Catalog) -> None:
    report = cross_validate(waves, request("epochs=1"), SETTINGS, only=(2,), parallel=False)
    assert report.folds["fold"].to_list() == [2]


def test_folds_have_no_workers(waves: Catalog) -> None:
    with pytest.raises(InvalidSetting, match="leave --workers out"):
        cross_validate(waves, request(workers=2), SETTINGS)


# -- evaluation -------------------------------------------------------------------------------------------------------


def test_an_evaluation_leaves_out_what_was_learnt_from(waves: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    report = fit(waves, request("epochs=2"), SETTINGS)
    found = prediction.evaluate(waves, "toy", "waves", SETTINGS)
    assert found.rows.height == 6
    assert found.left_out == 18
    assert found.figures["accuracy"].value == report.figures["accuracy"].value
    waves.create("more", modality="series").append(toy.toy_samples(seed=9))
    assert prediction.evaluate(waves, "toy", "more", SETTINGS).left_out == 0
    learnt = Split.read(pl.read_parquet(io.BytesIO(waves.model("toy").read("split.parquet")))).train
    with pytest.raises(DataLeak, match="was fitted on all 1 samples"):
        prediction.evaluate(waves, "toy", "waves", SETTINGS, where=f"id = '{learnt[0]}'")
    with pytest.raises(InvalidSetting, match="is of the system 'toy', not 'other'"):
        prediction.evaluate(waves, "toy", "waves", SETTINGS, system="other")


# -- tracking ---------------------------------------------------------------------------------------------------------


def test_what_was_tracked_can_be_read_back(waves: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("WANDB_SILENT", "true")
    report = fit(waves, request("epochs=2", "log_steps=7", track="offline"), SETTINGS)
    (folder,) = Path(waves.storage.at_path("tracking", "wandb")).glob("offline-run-*")
    tracked = read_run(folder)
    assert (tracked.run_id, tracked.job_type, tracked.exit_code) == (report.run, "fit", 0)
    assert tracked.config["fit"]["epochs"] == 2
    assert tracked.config["data"] == "waves@1"
    assert tracked.config["environment"]["sensorium"]
    lake = {(row["step"], row["name"]): row["value"] for row in waves.records(report.run).iter_rows(named=True)}
    names = {name for _, name in lake}
    logged = {
        (int(row["step"]), name): value
        for row in tracked.history
        for name, value in row.items()
        if "step" in row and name in names
    }
    assert logged == pytest.approx(lake)
    assert any("confusion/path" in row for row in tracked.history)
    assert any("confusion_matrix/path" in row for row in tracked.history)
    assert tracked.summary["accuracy/value"] == report.figures["accuracy"].value
    assert [(kind, files) for _, kind, files in tracked.artifacts if kind == "model"] == [
        ("model", ["weights.safetensors"])
    ]


def test_a_tracker_that_breaks_does_not_stop_the_fit(
    waves: Catalog, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import wandb

    def refuse(**settings: Any) -> Any:
        raise RuntimeError("no space for files")

    monkeypatch.setattr(wandb, "init", refuse)
    report = fit(waves, request("epochs=1", track="offline"), SETTINGS)
    assert waves.records(report.run).height > 0
    assert "tracking stopped: RuntimeError: no space for files" in caplog.text


def test_pngs_are_drawn_without_a_screen() -> None:
    assert fitting.png(lambda axes: axes.plot([1, 2])).startswith(b"\x89PNG")
