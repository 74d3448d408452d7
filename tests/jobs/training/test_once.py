"""A fit that is done once."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import polars as pl
import pytest

from sensorium.catalog import Catalog
from sensorium.jobs.training import fit as fitting
from sensorium.jobs.training.once import FinishedFit, fit_once
from sensorium.jobs.water_pollutants import simulator
from sensorium.jobs.water_pollutants.method import method
from sensorium.platform.settings import Settings


@pytest.fixture
def request_(catalog: Catalog) -> fitting.FitRequest:
    from sensorium.jobs.training.configuration import overridden

    dataset = catalog.create("water", modality="series", fields=list(simulator.FIELDS))
    dataset.append(simulator.samples(liquids=("ammonia", "hydrochloric_acid"), measurements=4))
    words = ["network=rnn", "optimiser=adam", "stride=60", "epochs=1", "folds=4", "validation=0.34"]
    return fitting.FitRequest("water_pollutants", "water", overridden(method.config(), words))


def test_the_same_fit_is_told_and_another_is_fitted(catalog: Catalog, request_: fitting.FitRequest) -> None:
    first = fit_once(catalog, request_, Settings())
    assert isinstance(first, fitting.FitReport)
    assert first.run.startswith("once-")
    again = fit_once(catalog, replace(request_, track="off", data="water@1"), Settings())
    assert isinstance(again, FinishedFit)
    assert (again.run, again.model) == (first.run, first.model.reference)
    assert again.metrics["steps"] == first.outcome.steps
    catalog["water"].delete("id = '" + catalog["water"].select().frame()["id"][0] + "'")
    assert isinstance(fit_once(catalog, request_, Settings()), fitting.FitReport)
    assert catalog.models().height == 2


def test_a_fit_that_was_lost_goes_on(
    catalog: Catalog, request_: fitting.FitRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    resumed: list[str] = []
    real = fitting.resume

    def watched(catalog: Catalog, run: str, *rest: Any) -> fitting.FitReport:
        resumed.append(run)
        return real(catalog, run, *rest)

    monkeypatch.setattr(fitting, "resume", watched)
    with monkeypatch.context() as patch:
        patch.setattr(fitting, "_concluded", lambda *_: 1 // 0)  # the driver is lost after the last step
        with pytest.raises(ZeroDivisionError):
            fit_once(catalog, request_, Settings())
    report = fit_once(catalog, request_, Settings())
    assert isinstance(report, fitting.FitReport)
    assert resumed == [report.run]
    assert catalog.runs().filter(pl.col("run") == report.run)["state"].to_list() == ["finished"]


def test_a_fit_whose_checkpoints_are_gone_begins_anew(
    catalog: Catalog, request_: fitting.FitRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(fitting, "_concluded", lambda *_: 1 // 0)
        with pytest.raises(ZeroDivisionError):
            fit_once(catalog, request_, Settings())
    catalog.storage.remove("checkpoints")
    assert isinstance(fit_once(catalog, request_, Settings()), fitting.FitReport)
    assert catalog.runs().height == 1
