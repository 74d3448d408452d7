"""Precision, recall, F1 and IoU of the change class from counts that are summed over the data set (section 3.2)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import polars as pl

from sensorium.jobs.training.measures import Figure, Statistic, Weights, with_intervals

__all__ = ["FIGURES", "counts", "figures", "ratio", "statistics"]

#: figure -> (counts above, counts below the line), each with its factor
FIGURES: Mapping[str, tuple[Mapping[str, int], Mapping[str, int]]] = {
    "f1": ({"tp": 2}, {"tp": 2, "fp": 1, "fn": 1}),
    "iou": ({"tp": 1}, {"tp": 1, "fp": 1, "fn": 1}),
    "precision": ({"tp": 1}, {"tp": 1, "fp": 1}),
    "recall": ({"tp": 1}, {"tp": 1, "fn": 1}),
}


def counts(found: npt.NDArray[np.generic], truth: npt.NDArray[np.generic]) -> dict[str, int]:
    """``tp``, ``fp``, ``fn``, ``tn``: pixels by what was found and what is true."""
    changed, true = np.asarray(found) != 0, np.asarray(truth) != 0
    tp, positive, actual = int((changed & true).sum()), int(changed.sum()), int(true.sum())
    return {"tp": tp, "fp": positive - tp, "fn": actual - tp, "tn": changed.size - positive - actual + tp}


def ratio(totals: Mapping[str, float], figure: str) -> float:
    """A figure of summed counts; NaN where nothing is below the line."""
    above, below = (sum(factor * totals[name] for name, factor in side.items()) for side in FIGURES[figure])
    return above / below if below else float("nan")


def statistics(rows: pl.DataFrame) -> dict[str, Statistic]:
    """Figures as functions of the weights of rows, for a bootstrap over scenes."""
    columns = {name: rows[name].to_numpy().astype(np.float64) for name in ("tp", "fp", "fn")}

    def statistic(figure: str) -> Statistic:
        def of(weights: Weights) -> float:
            return ratio({name: float(weights @ column) for name, column in columns.items()}, figure)

        return of

    return {figure: statistic(figure) for figure in FIGURES}


def figures(rows: pl.DataFrame, units: str = "group") -> dict[str, Figure]:
    """Figures with 95 % intervals over the groups that scenes belong to."""
    return with_intervals(statistics(rows), rows[units if units in rows.columns else "id"].to_numpy())
