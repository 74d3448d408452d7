"""A fit that is done once: asked for again, it goes on where it stopped, or tells what came of it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import polars as pl

from sensorium.catalog.lineage import environment
from sensorium.jobs.training import fit as fitting
from sensorium.jobs.training import worker

if TYPE_CHECKING:
    from sensorium.catalog.lake import Catalog
    from sensorium.jobs.training.fit import FitReport, FitRequest
    from sensorium.platform.settings import Settings

__all__ = ["FinishedFit", "fit_once"]

_KEY_LENGTH = 16


@dataclass(frozen=True)
class FinishedFit:
    """A fit that was finished before.

    Attributes:
        run: its id.
        model: NAME@VERSION that it saved.
        metrics: final figures, JSON types only.
    """

    run: str
    model: str
    metrics: dict[str, Any]


def fit_once(catalog: Catalog, request: FitRequest, settings: Settings) -> FitReport | FinishedFit:
    """Fit, unless the same fit was finished; one that was stopped or lost goes on from its newest checkpoint.

    Fits are the same with equal data (at its version), configuration, workers, name and version of the code. The id of the
    run is made of these. Two at a time would write the same checkpoints: whoever starts it sees to it that there is one, as
    ``sensorium submit`` does.
    """
    dataset = catalog.dataset(request.data)
    request = replace(request, data=f"{dataset.name}@{dataset.version}")
    identity = _identity(request)
    runs = catalog.runs().filter(pl.col("run") == identity)
    if runs.is_empty() or not _has_split(catalog, identity, runs.row(0, named=True)["state"]):
        return fitting.fit(catalog, request, settings, identity=identity)
    row = runs.row(0, named=True)
    if row["state"] != "finished":
        return fitting.resume(catalog, identity, settings, request.track)
    model = ", ".join(f"{part['dataset'].removeprefix('models/')}@{part['version']}" for part in row["outputs"])
    return FinishedFit(identity, model, json.loads(row["metrics"] or "{}"))


def _identity(request: FitRequest) -> str:
    made = environment()
    code = made.get("commit") or made["sensorium"]
    record = {name: value for name, value in request.record().items() if name != "track"}
    text = json.dumps([code, record], sort_keys=True)
    return f"once-{hashlib.sha256(text.encode()).hexdigest()[:_KEY_LENGTH]}"


def _has_split(catalog: Catalog, identity: str, state: str) -> bool:
    """Whether a run can be gone on with: its parts are the first that it writes, and the first that is cleaned away."""
    if state == "finished":
        return True
    try:
        worker.read_split(catalog.storage, identity)
    except FileNotFoundError:
        return False
    return True
