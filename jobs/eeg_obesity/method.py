"""How eeg_obesity is fitted, measured and used.

Two phases, one after the other: the autoencoder learns from the signals of the training subjects, without their classes;
then a classifier learns from what the frozen encoder makes of them, which is computed once. The other architectures have the
second phase only.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import torch
from torch import Tensor, nn
from torch.nn import functional

from sensorium.catalog.fields import ArrayField, Field, ScalarField
from sensorium.jobs.eeg_obesity import data, drawing
from sensorium.jobs.eeg_obesity.config import EegConfig
from sensorium.jobs.eeg_obesity.network import EEGNet, SignalCNN, VariationalAutoencoder, vae_terms
from sensorium.jobs.eeg_obesity.simulation import recordings
from sensorium.jobs.training.measures import Figure, Statistic, Weights, accuracy, auroc, with_intervals
from sensorium.jobs.training.method import Export, Fitted, Method, Picture, Sample
from sensorium.jobs.training.recipe import Moment, Phase, Recipe, Update, Workspace

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["class_scores", "featuriser", "method", "score_row", "silenced", "statistics", "summarise", "vote"]

logger = logging.getLogger(__name__)

Floats = npt.NDArray[np.float32]

#: electrodes that a map of the head needs
_HEAD = 4


# -- networks ---------------------------------------------------------------------------------------------------------


def _build(config: EegConfig, preprocessing: Mapping[str, Any]) -> dict[str, nn.Module]:
    classes = len(preprocessing["classes"])
    outputs = 1 if classes == 2 else classes
    if config.architecture == "eegnet":
        return {"classifier": EEGNet(config, outputs)}
    if config.architecture == "cnn":
        return {"classifier": SignalCNN(len(config.channels), config.length, config, outputs)}
    maps = config.temporal_filters * config.depth
    shape = (maps, config.length) if config.features == "spatial" else (1, config.latent)
    return {"vae": VariationalAutoencoder(config), "classifier": SignalCNN(*shape, config, outputs)}


def class_scores(logits: Tensor) -> Tensor:
    """Scores [B, K] of the classes, whose softmax are probabilities; the one logit [B, 1] of two classes is the second's."""
    logits = logits.float()
    return torch.cat([torch.zeros_like(logits), logits], dim=1) if logits.shape[1] == 1 else logits


def featuriser(modules: Mapping[str, nn.Module], config: EegConfig) -> data.Featuriser | None:
    """What the frozen encoder makes of epochs; None where the signals themselves are classified."""
    if config.architecture != "vae_cnn":
        return None
    return lambda epochs: modules["vae"].features(epochs, config.features)


class _EndToEnd(nn.Module):
    """Standardised epochs [B, C, T] to probabilities [B, K]."""

    def __init__(self, fitted: Fitted) -> None:
        super().__init__()
        vae = fitted.modules.get("vae")
        self.encoder = None if vae is None else vae.encoder
        self.classifier = fitted.modules["classifier"]
        self.spatial = fitted.config.features == "spatial"

    def forward(self, epochs: Tensor) -> Tensor:
        found = epochs
        if self.encoder is not None:
            found = self.encoder.spatial(epochs) if self.spatial else self.encoder(epochs).mean.unsqueeze(1)
        return class_scores(self.classifier(found)).softmax(dim=1)


# -- the two phases ---------------------------------------------------------------------------------------------------


def _vae_recipe(space: Workspace) -> Recipe:
    config, vae = space.config, space.modules["vae"]

    def step(batch: Any, moment: Moment, update: Update) -> dict[str, Tensor]:  # noqa: ARG001
        error, divergence = (term.mean() for term in vae_terms(batch["inputs"], *vae(batch["inputs"])))
        update(error + divergence)
        return {"loss": (error + divergence).detach(), "error": error.detach(), "divergence": divergence.detach()}

    def evaluate(batch: Any) -> dict[str, Tensor]:
        error, divergence = vae_terms(batch["inputs"], *vae(batch["inputs"]))
        return {"loss": error + divergence, "error": error, "divergence": divergence}

    def measure(outputs: Mapping[str, np.ndarray]) -> dict[str, float]:
        return {name: float(values.mean()) for name, values in outputs.items()}

    kept, device = space.validation, space.context.device
    optimiser = torch.optim.Adam(vae.parameters(), lr=config.vae_fit.lr, weight_decay=config.vae_fit.weight_decay)
    return Recipe(
        modules={"vae": vae},
        optimisers={"main": optimiser},
        examples=data.examples(space.train, config, space.preprocessing, device),
        step=step,
        options=config.vae_fit,
        validation=None if kept is None else data.examples(kept, config, space.preprocessing, device),
        evaluate=evaluate,
        measure=measure,
    )


def _classifier_recipe(space: Workspace) -> Recipe:
    config, network, device = space.config, space.modules["classifier"], space.context.device
    weight = torch.tensor(data.weights(config, space.preprocessing), dtype=torch.float32, device=device)
    features = featuriser(space.modules, config)

    def step(batch: Any, moment: Moment, update: Update) -> dict[str, Tensor]:  # noqa: ARG001
        scores = class_scores(network(batch["inputs"]))
        loss = functional.cross_entropy(scores, batch["label"], weight)
        update(loss)
        right = (scores.detach().argmax(dim=1) == batch["label"]).float().mean()
        return {"loss": loss.detach(), "accuracy": right}

    def evaluate(batch: Any) -> dict[str, Tensor]:
        scores = class_scores(network(batch["inputs"]))
        losses = functional.cross_entropy(scores, batch["label"], weight, reduction="none")
        return {
            "loss": losses,
            "weight": weight[batch["label"]],
            "right": scores.argmax(dim=1) == batch["label"],
        }

    def measure(outputs: Mapping[str, np.ndarray]) -> dict[str, float]:
        whole = float(outputs["weight"].sum())
        return {
            "loss": float(outputs["loss"].sum()) / whole,
            "accuracy": float(outputs["right"].mean()),
            "balanced_accuracy": float((outputs["right"] * outputs["weight"]).sum()) / whole,
        }

    kept = space.validation
    optimiser = torch.optim.Adam(network.parameters(), lr=config.fit.lr, weight_decay=config.fit.weight_decay)
    return Recipe(
        modules={"classifier": network},
        optimisers={"main": optimiser},
        examples=data.examples(space.train, config, space.preprocessing, device, features),
        step=step,
        options=config.fit,
        validation=None if kept is None else data.examples(kept, config, space.preprocessing, device, features),
        evaluate=evaluate,
        measure=measure,
    )


def _phases(config: EegConfig) -> tuple[Phase, ...]:
    classifier = Phase("classifier", _classifier_recipe)
    return (Phase("vae", _vae_recipe), classifier) if config.architecture == "vae_cnn" else (classifier,)


# -- use --------------------------------------------------------------------------------------------------------------


def _predict(fitted: Fitted, samples: Sequence[Sample]) -> list[dict[str, Any]]:
    config, classes = fitted.config, fitted.preprocessing["classes"]
    network = _EndToEnd(fitted).eval()
    results = []
    for sample in samples:
        epochs = torch.from_numpy(data.prepared(sample, config, fitted.preprocessing)).to(fitted.device)
        with torch.no_grad():
            probabilities = network(epochs).cpu().numpy()
        winner = vote(probabilities)
        agreement = float((probabilities.argmax(axis=1) == winner).mean())
        results.append({"probabilities": probabilities, "predicted": classes[winner], "agreement": agreement})
    return results


def silenced(fitted: Fitted, sample: Sample, winner: int) -> Floats:
    """What each electrode adds to the mean probability of class ``winner`` [C]: the fall when it is held at its mean."""
    network = _EndToEnd(fitted).eval()
    inputs = torch.from_numpy(data.prepared(sample, fitted.config, fitted.preprocessing)).to(fitted.device)
    found = []
    with torch.no_grad():
        for channel in (None, *range(inputs.shape[1])):
            changed = inputs.clone()
            if channel is not None:
                changed[:, channel] = 0  # of standardised signals
            found.append(network(changed)[:, winner].mean())
    levels = torch.stack(found)
    fall: Floats = (levels[0] - levels[1:]).cpu().numpy()
    return fall


def _illustrate(fitted: Fitted, sample: Sample, result: Mapping[str, Any]) -> dict[str, Picture]:
    """Probabilities over the recording, and where on the head the vote comes from."""
    config, classes = fitted.config, list(fitted.preprocessing["classes"])
    pictures: dict[str, Picture] = {
        "probability_of_epochs": lambda axes: drawing.epochs(
            axes, result["probabilities"], classes, config.cut, config.epoch
        )
    }
    if len(config.channels) >= _HEAD:
        added = silenced(fitted, sample, classes.index(result["predicted"]))
        unit = f"fall of P({result['predicted']}) without the electrode"
        pictures["contribution_of_electrodes"] = lambda axes: drawing.head(axes, added, config.channels, unit)
    return pictures


def vote(probabilities: npt.NDArray[np.floating]) -> int:
    """The class that most epochs [n, K] are put into (2.3); of equally many, the one with the highest mean probability."""
    votes = np.bincount(probabilities.argmax(axis=1), minlength=probabilities.shape[1])
    best = np.flatnonzero(votes == votes.max())
    return int(best[probabilities.mean(axis=0)[best].argmax()])


def score_row(label: int, probabilities: npt.NDArray[np.floating]) -> dict[str, Any]:
    """A recording of class ``label`` as a row for :func:`summarise`: its epochs by predicted class, its vote, and the
    probabilities of the last class.
    """
    counts = np.bincount(probabilities.argmax(axis=1), minlength=probabilities.shape[1])
    return {
        "label": label,
        "confusion": counts.tolist(),
        "right": int(counts[label]),
        "epochs": len(probabilities),
        "voted": vote(probabilities),
        "last": probabilities[:, -1].astype(float).tolist(),
    }


def _score(fitted: Fitted, sample: Sample, result: Mapping[str, Any]) -> dict[str, Any] | None:
    classes, truth = list(fitted.preprocessing["classes"]), sample.get(fitted.config.target)
    if truth is None:
        return None
    if str(truth) not in classes:
        logger.warning("sample %r is not measured: class %r is not in the training part", sample.get("id"), truth)
        return None
    return score_row(classes.index(str(truth)), np.asarray(result["probabilities"]))


def statistics(rows: pl.DataFrame) -> dict[str, Statistic]:
    """Of rows of :func:`score_row`: accuracy of votes and of epochs, plain and as the mean over the classes; the area under
    the ROC for two classes.
    """
    labels, kinds = rows["label"].to_numpy(), len(rows["confusion"][0])
    epochs = np.zeros((rows.height, kinds, kinds))
    epochs[np.arange(rows.height), labels] = np.array(rows["confusion"].to_list())
    votes = np.zeros_like(epochs)
    votes[np.arange(rows.height), labels, rows["voted"].to_numpy()] = 1
    found: dict[str, Statistic] = {
        "recording_accuracy": accuracy(rows["voted"] == rows["label"]),
        "recording_balanced_accuracy": _balanced_accuracy(votes),
        "epoch_accuracy": accuracy(rows["right"], rows["epochs"]),
        "epoch_balanced_accuracy": _balanced_accuracy(epochs),
    }
    if kinds == 2:
        found["recording_auroc"] = auroc(labels, rows["last"].list.mean())
    return found


def summarise(rows: pl.DataFrame, config: EegConfig) -> dict[str, Figure]:  # noqa: ARG001
    """:func:`statistics` with intervals over groups: recordings of one subject are drawn together."""
    return with_intervals(statistics(rows), rows["group"].to_numpy())


def _balanced_accuracy(confusion: npt.NDArray[np.float64]) -> Statistic:
    """Mean over the classes that are there of the share found; ``confusion`` [rows, K, K] counts true by predicted."""

    def statistic(drawn: Weights) -> float:
        table = np.tensordot(drawn, confusion, axes=1)
        whole = table.sum(axis=1)
        there = whole > 0
        return float(np.mean(np.diag(table)[there] / whole[there])) if there.any() else float("nan")

    return statistic


def _results(config: EegConfig) -> tuple[Field, ...]:  # noqa: ARG001
    return (
        ArrayField(
            "probabilities", "N K", dtypes=("float32",), description="of each epoch, by class in order of names"
        ),
        ScalarField("predicted", pa.string(), description="the class that most epochs are put into"),
        ScalarField("agreement", pa.float64(), minimum=0, maximum=1, description="share of the epochs that are"),
    )


def _pictures(rows: pl.DataFrame, fitted: Fitted) -> dict[str, Picture]:
    """Mean probability of the last class, a dot for each recording, parted by its true class."""
    classes = fitted.preprocessing["classes"]

    def draw(axes: Axes) -> None:
        means = rows.with_columns(pl.col("last").list.mean().alias("mean")).sort("label", "mean")
        for label, own in means.with_row_index("place").partition_by("label", as_dict=True).items():
            axes.scatter(own["place"], own["mean"], s=18, label=classes[int(label[0])])
        axes.axhline(1 / len(classes), color="grey", linewidth=0.8)
        axes.set(xlabel="recording", ylabel=f"mean probability of {classes[-1]}", ylim=(-0.02, 1.02), xticks=[])
        axes.legend(title=fitted.config.target)

    return {"recordings": draw}


def _export(fitted: Fitted) -> Export:
    epochs = torch.zeros(3, len(fitted.config.channels), fitted.config.length)
    return Export(_EndToEnd(fitted), {"epochs": epochs}, ("probabilities",), ("epochs", "probabilities"))


method = Method(
    config=EegConfig,
    modality=lambda config: "series",  # noqa: ARG005
    fields=data.fields,
    target=lambda config: config.target,
    preprocess=data.preprocess,
    build=_build,
    phases=_phases,
    predict=_predict,
    score=_score,
    summarise=summarise,
    results=_results,
    example=recordings,
    small={
        "vae_fit.epochs": 1,
        "fit.epochs": 1,
        "epoch": 2.5,
        "latent": 8,
        "split.folds": 4,
        "split.validation": 0.34,
    },
    pictures=_pictures,
    confusion=lambda fitted: list(fitted.preprocessing["classes"]),
    export=_export,
    illustrate=_illustrate,
)
