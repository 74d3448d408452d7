"""What the experiment asks of one fold besides its accuracy, in the fold's own task.

Features, simple classifiers upon them, their dichotomy impurity, importance of the electrodes. Everything is fitted on the
fold's training part; the networks whose features are taken never saw its test part.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from sensorium.catalog.selection import Selection
from sensorium.jobs.eeg_obesity import data
from sensorium.jobs.eeg_obesity.config import EegConfig
from sensorium.jobs.eeg_obesity.drawing import reduced
from sensorium.jobs.eeg_obesity.impurity import dichotomy_impurity
from sensorium.jobs.eeg_obesity.method import featuriser, score_row
from sensorium.jobs.training.method import Fitted
from sensorium.jobs.training.worker import Job, finished
from sensorium.platform.optional import require

__all__ = ["Looked", "classifiers", "features_of", "look"]

Floats = npt.NDArray[np.float32]
#: times that labels are shuffled for the impurity of features that know nothing
_SHUFFLES = 5


@dataclass(frozen=True)
class Looked:
    """What was found in one fold, of N epochs in all and D features.

    Attributes:
        rows: by simple classifier, rows of :func:`.score_row` with ``id`` for the recordings of the test part.
        held_out: dichotomy impurity [D] on the epochs of the test part.
        everything: the same on all N epochs, as the paper has it.
        shuffled: mean impurity on the test part when the labels of its epochs are shuffled.
        points: features of all epochs [N, 50], for t-SNE.
        labels: class of each of these.
        ids: recording of each of these.
        importance: of the electrodes by class [K, C]; None where there is no autoencoder.
        reconstructed: share of the test part's squared signal that the autoencoder gives back; None where there is none.
    """

    rows: dict[str, list[dict[str, Any]]]
    held_out: npt.NDArray[np.float64]
    everything: npt.NDArray[np.float64]
    shuffled: float
    points: Floats
    labels: npt.NDArray[np.int64]
    ids: list[str]
    importance: npt.NDArray[np.float64] | None = None
    reconstructed: float | None = None


@dataclass
class _Part:
    """Epochs of a part of the data: features [n, D], classes [n], recordings [n]; with an autoencoder also what it says of
    the electrodes [n, C], and how much of each epoch it misses [n, 2] (squared error, squared signal).
    """

    features: Floats
    labels: npt.NDArray[np.int64]
    ids: list[str]
    importance: Floats | None = None
    missed: Floats | None = None


def classifiers(config: EegConfig, seed: int) -> dict[str, Any]:
    """The paper's simple classifiers (2.3), not fitted yet, by name."""
    require("sklearn", "compare with simple classifiers")
    from sklearn.ensemble import AdaBoostClassifier, RandomForestClassifier
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.svm import SVC

    return {
        "SVM": SVC(kernel="rbf", gamma=config.gamma or "auto"),
        f"{config.neighbours}-NN": KNeighborsClassifier(config.neighbours),
        "random forest": RandomForestClassifier(config.trees, max_depth=config.tree_depth, random_state=seed),
        "AdaBoost": AdaBoostClassifier(n_estimators=config.boosts, learning_rate=config.boost_rate, random_state=seed),
    }


def features_of(fitted: Fitted) -> data.Featuriser:
    """The features of a fitted system, [n, C, T] to [n, M, S]: of the encoder, of EEGNet's spatial convolution, or the
    signals themselves.
    """
    if fitted.config.architecture == "eegnet":
        found: data.Featuriser = fitted.modules["classifier"].spatial
        return found
    return featuriser(fitted.modules, fitted.config) or (lambda epochs: epochs)


def look(job: Job) -> Looked:
    """Features of a fold that is fitted, and what they are worth."""
    done = finished(job)
    fitted, config = done.fitted, done.fitted.config
    parts = {name: _gathered(selection, fitted) for name, selection in done.parts.items() if len(selection)}
    train, test = parts["train"], parts["test"]
    features = np.concatenate([part.features for part in parts.values()])
    labels = np.concatenate([part.labels for part in parts.values()])
    rows = {} if config.architecture == "eegnet" else _classified(train, test, fitted)
    outputs = [part.importance for part in parts.values() if part.importance is not None]
    importance = reconstructed = None
    if outputs and test.missed is not None:
        levels = np.concatenate(outputs).astype(np.float64)
        importance = np.stack([levels[labels == label].mean(axis=0) for label in np.unique(labels)])
        error, signal = test.missed.sum(axis=0, dtype=np.float64)
        reconstructed = float(1 - error / signal)
    return Looked(
        rows=rows,
        held_out=dichotomy_impurity(test.features, test.labels),
        everything=dichotomy_impurity(features, labels),
        shuffled=_shuffled(test, config.fit.seed),
        points=reduced(features, config.fit.seed),
        labels=labels,
        ids=[identifier for part in parts.values() for identifier in part.ids],
        importance=importance,
        reconstructed=reconstructed,
    )


def _gathered(selection: Selection, fitted: Fitted) -> _Part:
    config, classes = fitted.config, list(fitted.preprocessing["classes"])
    found = {"features": features_of(fitted)}
    if "vae" in fitted.modules:
        found["importance"] = fitted.modules["vae"].encoder.channel_outputs
        found["missed"] = _missed(fitted)
    parts: dict[str, list[Floats]] = {name: [] for name in found}
    labels: list[int] = []
    ids: list[str] = []
    for sample in data.read_samples(selection):
        epochs = torch.from_numpy(data.prepared(sample, config, fitted.preprocessing))
        for name, function in found.items():
            parts[name].append(data.featurised(epochs, function, fitted.device).flatten(1).numpy())
        labels += [classes.index(str(sample[config.target]))] * len(epochs)
        ids += [str(sample["id"])] * len(epochs)
    return _Part(labels=np.array(labels), ids=ids, **{name: np.concatenate(own) for name, own in parts.items()})


def _missed(fitted: Fitted) -> data.Featuriser:
    """Squared error of the reconstruction, and squared signal, of each epoch."""

    def missed(epochs: torch.Tensor) -> torch.Tensor:
        reconstruction = fitted.modules["vae"](epochs)[0]
        return torch.stack([(reconstruction - epochs).square().sum(dim=(1, 2)), epochs.square().sum(dim=(1, 2))], dim=1)

    return missed


def _classified(train: _Part, test: _Part, fitted: Fitted) -> dict[str, list[dict[str, Any]]]:
    """Votes on the test part's recordings of each simple classifier, fitted on the training part."""
    weights = data.weights(fitted.config, fitted.preprocessing)
    seed, kinds = fitted.config.fit.seed, len(fitted.preprocessing["classes"])
    rows = {}
    for name, classifier in classifiers(fitted.config, seed).items():
        if name.endswith("NN"):  # has no loss that could be weighted
            classifier.fit(train.features, train.labels)
        else:
            classifier.fit(train.features, train.labels, sample_weight=weights[train.labels])
        rows[name] = _rows(test, np.eye(kinds)[classifier.predict(test.features)])
    return rows


def _rows(test: _Part, probabilities: npt.NDArray[np.float64]) -> list[dict[str, Any]]:
    """A row for each recording."""
    ids = np.array(test.ids)
    places: Mapping[str, npt.NDArray[np.int64]] = {
        name: np.flatnonzero(ids == name) for name in dict.fromkeys(test.ids)
    }
    return [{"id": name, **score_row(int(test.labels[own[0]]), probabilities[own])} for name, own in places.items()]


def _shuffled(test: _Part, seed: int) -> float:
    """Mean impurity with the labels of the epochs shuffled: what features that know nothing of the classes have."""
    random = np.random.default_rng(seed)
    found = [dichotomy_impurity(test.features, random.permutation(test.labels)).mean() for _ in range(_SHUFFLES)]
    return float(np.mean(found))
