"""What the experiment asks of one fold besides its own figures, in the fold's own task.

Predictions while variables are hidden, boosted trees on summary features, the learned graph. Everything is fitted on the
fold's training part.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from sensorium.jobs.clinical_series import data
from sensorium.jobs.clinical_series.baselines import summary_features
from sensorium.jobs.clinical_series.config import ClinicalConfig
from sensorium.jobs.clinical_series.method import probabilities
from sensorium.jobs.clinical_series.network import MVMformer
from sensorium.jobs.training.worker import Job, finished
from sensorium.platform.optional import require

__all__ = ["DRAWS", "SHARES", "Graph", "Looked", "Trees", "hidden_variables", "look"]

#: shares of the variables that are hidden (section 5.4), and how often variables are drawn for each
SHARES = (0.1, 0.2, 0.3, 0.4)
DRAWS = 3

Values = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Graph:
    """What ``MVMformer.graph`` gives, with names."""

    measurements: npt.NDArray[np.float32]
    organs: npt.NDArray[np.float32]
    variable_names: list[str]
    organ_names: list[str]
    groups: list[int]


@dataclass(frozen=True)
class Trees:
    """Boosted trees of the same fold.

    Attributes:
        seconds: of features and fit.
        plain: probability for each of n stays of the test part [n].
        hidden: the same while variables are hidden [shares, draws, n].
    """

    seconds: float
    plain: Values
    hidden: Values


@dataclass(frozen=True)
class Looked:
    """What was found in one fold.

    Attributes:
        ids: of the n stays of the test part.
        labels: their outcomes [n].
        hidden: probabilities while variables are hidden [shares, draws, n].
        trees, graph: of the fold of MVMformer only.
    """

    ids: list[str]
    labels: npt.NDArray[np.int64]
    hidden: Values
    trees: Trees | None = None
    graph: Graph | None = field(default=None)


def hidden_variables(variables: int, share: float, draw: int) -> tuple[int, ...]:
    """The variables of K that are hidden: the same for all samples, models and folds, and more for a greater share."""
    order = np.random.default_rng(draw).permutation(variables)
    return tuple(sorted(order[: round(share * variables)].tolist()))


def look(job: Job) -> Looked:
    """Predictions of a fold that is fitted while variables are hidden; trees and graph beside MVMformer."""
    done = finished(job)
    fitted, config = done.fitted, done.fitted.config
    names = fitted.preprocessing["variables"]
    test = list(data.read_samples(done.parts["test"]))

    def predicted(hidden: Collection[int]) -> Values:
        return probabilities(fitted, test, hidden)

    network, graph, trees = fitted.modules["network"], None, None
    if isinstance(network, MVMformer):
        organs, groups = fitted.preprocessing["organs"], fitted.preprocessing["groups"]
        graph = Graph(*network.graph(), names, organs, groups)
        trees = _trees(list(data.read_samples(done.parts["train"])), test, names, config)
    return Looked(
        ids=[str(sample["id"]) for sample in test],
        labels=np.array([data.label_of(sample, config) for sample in test]),
        hidden=_while_hidden(predicted, len(names)),
        trees=trees,
        graph=graph,
    )


def _while_hidden(predicted: Any, variables: int) -> Values:
    """[shares, draws, n] of a function that predicts without the variables that it is given."""
    return np.array(
        [[predicted(hidden_variables(variables, share, draw)) for draw in range(DRAWS)] for share in SHARES]
    )


def _trees(
    train: Sequence[dict[str, Any]], test: Sequence[dict[str, Any]], names: Sequence[str], config: ClinicalConfig
) -> Trees:
    """Boosted trees on :func:`.summary_features` and the statics; settings are assumed, not searched."""
    require("sklearn", "compare with boosted trees")
    from sklearn.ensemble import HistGradientBoostingClassifier

    started = time.monotonic()
    train = [data.checked(sample, names, config) for sample in train]
    test = [data.checked(sample, names, config) for sample in test]
    inputs = summary_features(train, len(names), config.statics)
    known = ~np.isnan(inputs).all(axis=0)  # the trees refuse a column without any value
    model = HistGradientBoostingClassifier(
        learning_rate=0.05, max_iter=150, max_leaf_nodes=15, l2_regularization=1.0, random_state=config.fit.seed
    )
    model.fit(inputs[:, known], [data.label_of(sample, config) for sample in train])
    seconds = time.monotonic() - started

    def predicted(hidden: Collection[int]) -> Values:
        features = summary_features([_without(sample, hidden) for sample in test], len(names), config.statics)
        found: Values = model.predict_proba(features[:, known])[:, 1]
        return found

    return Trees(seconds, predicted(()), _while_hidden(predicted, len(names)))


def _without(sample: dict[str, Any], hidden: Collection[int]) -> dict[str, Any]:
    kept = ~np.isin(sample["variables"], list(hidden))
    return {**sample, **{name: sample[name][kept] for name in ("times", "variables", "values")}}
