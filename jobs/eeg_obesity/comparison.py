"""What the experiment asks of one fold besides its accuracy, in the fold's own task.

Features, simple classifiers upon them, their dichotomy impurity, importance of the electrodes. Everything is fitted on the
fold's training part; the networks whose features are taken never saw its test part.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
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
        shuffled: mean impurity on the test part when the recordings' labels are shuffled.
        points: features of all epochs [N, 50], for t-SNE.
        labels: class of each of these.
        ids: recording of each of these.
        importance: of the electrodes by class [K, C]; None where there is no encoder.
    """

    rows: dict[str, list[dict[str, Any]]]
    held_out: npt.NDArray[np.float64]
    everything: npt.NDArray[np.float64]
    shuffled: float
    points: Floats
    labels: npt.NDArray[np.int64]
    ids: list[str]
    importance: npt.NDArray[np.float64] | None = None


@dataclass
class _Part:
    """Epochs of a part of the data: features [n, D], classes [n], recordings [n], importance [n, C] or [n, 0]."""

    features: Floats
    labels: npt.NDArray[np.int64]
    ids: list[str] = field(default_factory=list)
    importance: Floats = field(default_factory=lambda: np.empty((0, 0), np.float32))


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
    importance = None
    if "vae" in fitted.modules:
        outputs = np.concatenate([part.importance for part in parts.values()]).astype(np.float64)
        importance = np.stack([outputs[labels == label].mean(axis=0) for label in np.unique(labels)])
    return Looked(
        rows=rows,
        held_out=dichotomy_impurity(test.features, test.labels),
        everything=dichotomy_impurity(features, labels),
        shuffled=_shuffled(test, config.fit.seed),
        points=reduced(features, config.fit.seed),
        labels=labels,
        ids=[identifier for part in parts.values() for identifier in part.ids],
        importance=importance,
    )


def _gathered(selection: Selection, fitted: Fitted) -> _Part:
    config, classes = fitted.config, list(fitted.preprocessing["classes"])
    found = features_of(fitted)
    features, labels, ids, importance = [], [], [], []
    for sample in data.read_samples(selection):
        epochs = torch.from_numpy(data.prepared(sample, config, fitted.preprocessing))
        features.append(data.featurised(epochs, found, fitted.device).flatten(1).numpy())
        labels += [classes.index(str(sample[config.target]))] * len(epochs)
        ids += [str(sample["id"])] * len(epochs)
        if "vae" in fitted.modules:
            outputs = fitted.modules["vae"].encoder.channel_outputs
            importance.append(data.featurised(epochs, outputs, fitted.device).numpy())
    part = _Part(np.concatenate(features), np.array(labels), ids)
    if importance:
        part.importance = np.concatenate(importance)
    return part


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
    """Mean impurity with the labels of whole recordings shuffled: what features that know nothing of the classes have."""
    random = np.random.default_rng(seed)
    names, first, member = np.unique(test.ids, return_index=True, return_inverse=True)
    found = []
    for _ in range(_SHUFFLES):
        shuffled = random.permutation(test.labels[first])[member]
        found.append(dichotomy_impurity(test.features, shuffled).mean())
    return float(np.mean(found)) if len(names) > 1 else float("nan")
