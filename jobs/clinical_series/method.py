"""How clinical_series is fitted, measured and used."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import torch
from torch import nn
from torch.nn import functional

from sensorium.catalog.fields import Field, ScalarField
from sensorium.jobs.clinical_series import data, drawing
from sensorium.jobs.clinical_series.config import ClinicalConfig
from sensorium.jobs.clinical_series.example import records
from sensorium.jobs.clinical_series.network import MVMformer, build
from sensorium.jobs.training.measures import Figure, auprc, auroc, with_intervals
from sensorium.jobs.training.method import Fitted, Method, Picture, Sample
from sensorium.jobs.training.recipe import Moment, Phase, Recipe, Update, Workspace

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["method", "probabilities", "summarise"]

#: records that are predicted at a time
_CHUNK = 32
#: of a death, from which on it is predicted
_THRESHOLD = 0.5

#: variables, and moments of a stay, that are drawn of one prediction
_LANES, _BARS, _MOMENTS = 6, 12, 12

_AREAS = {"auroc": auroc, "auprc": auprc}


def _build(config: ClinicalConfig, preprocessing: Mapping[str, Any]) -> dict[str, nn.Module]:
    return {"network": build(config, len(preprocessing["variables"]), preprocessing["groups"])}


def _recipe(space: Workspace) -> Recipe:
    config, network = space.config, space.modules["network"]

    def step(batch: Any, moment: Moment, update: Update) -> dict[str, torch.Tensor]:  # noqa: ARG001
        logits = network(batch["records"]).float()
        loss = functional.binary_cross_entropy_with_logits(logits, batch["label"])
        update(loss)
        return {"loss": loss.detach()}

    def evaluate(batch: Any) -> dict[str, torch.Tensor]:
        logits = network(batch["records"]).float()
        losses = functional.binary_cross_entropy_with_logits(logits, batch["label"], reduction="none")
        return {"loss": losses, "logit": logits, "label": batch["label"]}

    def measure(outputs: Mapping[str, np.ndarray]) -> dict[str, float]:
        ones = np.ones(len(outputs["label"]))
        found = {name: kind(outputs["label"], outputs["logit"])(ones) for name, kind in _AREAS.items()}
        return {"loss": float(outputs["loss"].mean()), **found}

    kept = space.validation
    optimiser = torch.optim.Adam(network.parameters(), lr=config.fit.lr, weight_decay=config.fit.weight_decay)
    return Recipe(
        modules={"network": network},
        optimisers={"main": optimiser},
        examples=data.examples(space.train, config, space.preprocessing),
        step=step,
        options=config.fit,
        validation=None if kept is None else data.examples(kept, config, space.preprocessing),
        evaluate=evaluate,
        measure=measure,
    )


def probabilities(fitted: Fitted, samples: Sequence[Sample], hidden: Collection[int] = ()) -> npt.NDArray[np.float64]:
    """Probability of the outcome for each of n samples [n], as if the variables ``hidden`` had not been observed.

    Raises:
        InvalidSample: a record cannot be used.
    """
    found = []
    for begin in range(0, len(samples), _CHUNK):
        batch = data.batch_of(samples[begin : begin + _CHUNK], fitted.config, fitted.preprocessing, hidden)
        with torch.no_grad():
            logits = fitted.modules["network"](batch.to(fitted.device))
        found.append(logits.double().sigmoid().cpu().numpy())
    return np.concatenate(found) if found else np.empty(0)


def _predict(fitted: Fitted, samples: Sequence[Sample]) -> list[dict[str, Any]]:
    return [
        {"probability": float(value), "predicted": int(value >= _THRESHOLD)} for value in probabilities(fitted, samples)
    ]


def _score(fitted: Fitted, sample: Sample, result: Mapping[str, Any]) -> dict[str, Any] | None:
    if sample.get(fitted.config.target) is None:
        return None
    return {
        "label": data.label_of(sample, fitted.config),
        "probability": float(result["probability"]),
        "predicted": int(result["predicted"]),
        "observations": len(sample["times"]),
        "variables": len(np.unique(sample["variables"])),
    }


def summarise(rows: pl.DataFrame, config: ClinicalConfig) -> dict[str, Figure]:  # noqa: ARG001
    """Areas under the two curves, with intervals over groups (stays, where the split has nothing else)."""
    found = {name: kind(rows["label"], rows["probability"]) for name, kind in _AREAS.items()}
    return with_intervals(found, rows["group"].to_numpy())


def _results(config: ClinicalConfig) -> tuple[Field, ...]:
    what = f"{config.target} is 1"
    return (
        ScalarField("probability", pa.float64(), minimum=0, maximum=1, description=f"that {what}"),
        ScalarField("predicted", pa.int64(), minimum=0, maximum=1, description=f"1 where it is {_THRESHOLD} or more"),
    )


def _pictures(rows: pl.DataFrame, fitted: Fitted) -> dict[str, Picture]:
    labels, found = rows["label"].to_numpy(), {"": (rows["label"].to_numpy(), rows["probability"].to_numpy())}
    pictures: dict[str, Picture] = {}
    if len(np.unique(labels)) == 2:
        pictures["roc"] = lambda axes: drawing.roc(axes, found)
        pictures["precision_recall"] = lambda axes: drawing.precision_recall(axes, found)
        pictures["calibration"] = lambda axes: drawing.calibration(axes, *found[""])
    network = fitted.modules["network"]
    if isinstance(network, MVMformer):
        pictures["graph"] = lambda axes: _draw_graph(axes, network, fitted.preprocessing)
    return pictures


def _illustrate(fitted: Fitted, sample: Sample, result: Mapping[str, Any]) -> dict[str, Picture]:
    """What was measured most, the risk as the stay went on, and what the risk comes from."""
    names, target = fitted.preprocessing["variables"], fitted.config.target
    record = data.checked(sample, names, fitted.config)
    times, variables, values = (np.asarray(record[name]) for name in ("times", "variables", "values"))
    found, counts = np.unique(variables, return_counts=True)
    frequent = found[np.argsort(-counts, kind="stable")].tolist()
    series = {names[one]: (times[variables == one], values[variables == one]) for one in frequent[:_LANES]}
    moments = np.unique(np.linspace(times.min(), times.max(), _MOMENTS)).tolist()
    until = [{**sample, **_observed(sample, times <= moment)} for moment in moments]
    risks = probabilities(fitted, until)
    falls = {
        names[one]: float(result["probability"] - probabilities(fitted, [sample], hidden=(one,))[0])
        for one in frequent[:_BARS]
    }
    return {
        "most_measured": lambda axes: drawing.observations(axes, times, series),
        "risk_over_time": lambda axes: drawing.risk(axes, moments, risks, target),
        "contribution_of_variables": lambda axes: drawing.importance(axes, falls),
    }


def _observed(sample: Sample, kept: npt.NDArray[np.bool_]) -> dict[str, Any]:
    return {name: np.asarray(sample[name])[kept] for name in ("times", "variables", "values")}


def _draw_graph(axes: Axes, network: MVMformer, preprocessing: Mapping[str, Any]) -> None:
    measurements, organs = network.graph()
    names, groups = preprocessing["variables"], preprocessing["groups"]
    drawing.measurement_graph(axes, measurements, names, preprocessing["organs"] if len(organs) else (), groups)


method = Method(
    config=ClinicalConfig,
    modality=lambda config: "series",  # noqa: ARG005
    fields=data.fields,
    target=lambda config: config.target,
    preprocess=data.preprocess,
    build=_build,
    phases=lambda config: (Phase("fit", _recipe),),  # noqa: ARG005
    predict=_predict,
    score=_score,
    summarise=summarise,
    results=_results,
    example=records,
    small={
        "epochs": 1,
        "lengths": ((5.0, 13.0),),
        "heads": 2,
        "time_dim": 8,
        "value_dim": 8,
        "hidden": 12,
        "batch_size": 8,
        "folds": 4,
        "validation": 0.34,
    },
    pictures=_pictures,
    illustrate=_illustrate,
)
