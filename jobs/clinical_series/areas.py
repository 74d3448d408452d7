"""Areas under the two curves as functions of weights, sorted once: for bootstraps that ask for thousands of them.

The same values as ``auroc`` and ``auprc`` of :mod:`sensorium.jobs.training.measures`, which sort at every call.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from sensorium.jobs.training.measures import Statistic, Weights

__all__ = ["AREAS", "auprc", "auroc"]


def auroc(labels: npt.ArrayLike, scores: npt.ArrayLike) -> Statistic:
    """Area under the receiver operating characteristic; NaN where one outcome is missing."""
    along = _curve(labels, scores)

    def statistic(weights: Weights) -> float:
        right, wrong = along(weights)
        whole = right[-1] * wrong[-1]
        area = np.diff(wrong) @ (right[1:] + right[:-1]) / 2  # ties are crossed in a straight line
        return float(area / whole) if whole else float("nan")

    return statistic


def auprc(labels: npt.ArrayLike, scores: npt.ArrayLike) -> Statistic:
    """Area under the precision-recall curve, as average precision; NaN where one outcome is missing."""
    along = _curve(labels, scores)

    def statistic(weights: Weights) -> float:
        right, wrong = along(weights)
        if not right[-1] * wrong[-1]:
            return float("nan")
        found = right[1:] + wrong[1:]
        precision = np.divide(right[1:], found, out=np.zeros_like(found), where=found > 0)
        return float(np.diff(right) @ precision / right[-1])

    return statistic


AREAS: dict[str, Callable[[npt.ArrayLike, npt.ArrayLike], Statistic]] = {"auroc": auroc, "auprc": auprc}


def _curve(labels: npt.ArrayLike, scores: npt.ArrayLike) -> Callable[[Weights], tuple[Weights, Weights]]:
    """From weights of n rows to the weight of true and of false positives, as the threshold falls past each score."""
    truth, found = np.asarray(labels, np.float64), np.asarray(scores, np.float64)
    order = np.argsort(-found, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(found[order])), len(order) - 1)  # rows of one score are passed together
    positive = truth[order]

    def along(weights: Weights) -> tuple[Weights, Weights]:
        sorted_weights = weights[order]
        right = np.cumsum(sorted_weights * positive)[ends]
        wrong = np.cumsum(sorted_weights * (1 - positive))[ends]
        return np.concatenate([[0.0], right]), np.concatenate([[0.0], wrong])

    return along
