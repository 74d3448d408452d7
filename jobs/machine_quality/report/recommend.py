"""Which codec at which quality: chosen on one half of the source images, checked on the other.

Two questions: the cheapest setting that keeps something (``--keep``), and the best score under a bit budget
(``--budget``). A choice among many settings flatters the one that is chosen; the half that took no part tells by how much.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from sensorium.jobs.machine_quality.report.numbers import Number, find
from sensorium.jobs.machine_quality.report.rows import SweepRows
from sensorium.platform.errors import InvalidSetting

__all__ = ["Condition", "parse_condition", "recommendation_table", "split"]

Floats = npt.NDArray[np.float64]

_RATE = "bits_per_pixel"
_SCHEMA = {
    "question": pl.String,
    "codec": pl.String,
    "best": pl.Boolean,
    "quality": pl.Int64,
    "rate": pl.Float64,
    "score": pl.Float64,
    "images": pl.Int64,
    "rate_checked": pl.Float64,
    "score_checked": pl.Float64,
    "images_checked": pl.Int64,
    "holds": pl.Boolean,
    "remark": pl.String,
}


@dataclass(frozen=True)
class Condition:
    """What a setting has to keep.

    Attributes:
        number: its column.
        percentile: of the values of single images, 0 to 100; None for their mean.
        at_most: ``<=``; otherwise ``>=``.
        bound: on the scale of the number.
    """

    number: str
    percentile: float | None
    at_most: bool
    bound: float

    def statistic(self, values: Floats) -> float:
        """Of one value for each image."""
        return float(values.mean() if self.percentile is None else np.percentile(values, self.percentile))

    def holds(self, value: float) -> bool:
        """Whether ``value`` of the statistic is on the right side."""
        return value <= self.bound if self.at_most else value >= self.bound

    def __str__(self) -> str:
        which = "mean" if self.percentile is None else f"P{self.percentile:g}"
        return f"{which} of {self.number} {'≤' if self.at_most else '≥'} {self.bound:g}"


def parse_condition(text: str, numbers: tuple[Number, ...]) -> Condition:
    """A condition out of ``NUMBER<=BOUND``, ``NUMBER>=BOUND``, or the same behind ``mean:`` or ``pNN:``.

    ``NUMBER`` is a metric, or a number of a task with or without the task's name. Without a statistic the mean over
    images is meant; ``p90:delta_iou<=0.05`` asks that 90 % of the images lose no more than 0.05.

    Raises:
        InvalidSetting: it cannot be read, or there is no such number.
    """
    match = re.fullmatch(r"\s*(?:(mean|[pP]\d+(?:\.\d+)?)\s*:)?\s*(\w+)\s*(<=|>=)\s*([-+.\deE]+)\s*", text)
    try:
        bound = float(match[4]) if match else math.nan
    except ValueError:
        bound = math.nan
    percentile = float(match[1][1:]) if match and match[1] and match[1] != "mean" else None
    if match is None or not math.isfinite(bound) or (percentile is not None and percentile > 100):
        raise InvalidSetting(
            f"--keep {text!r} cannot be read. Write NUMBER<=BOUND or NUMBER>=BOUND, such as 'psnr_y>=38', with a statistic "
            "in front if the mean over images is not meant: 'p90:delta_iou<=0.05'."
        )
    return Condition(find(match[2], numbers).column, percentile, match[3] == "<=", bound)


def split(sources: Sequence[str], seed: int) -> tuple[list[str], list[str]]:
    """Source images to choose by, and those to check by: halves, the first the larger; the same for the same seed."""
    shuffled = np.random.default_rng(seed).permutation(len(sources))
    names = sorted(sources)
    middle = -(-len(names) // 2)
    return [names[index] for index in shuffled[:middle]], [names[index] for index in shuffled[middle:]]


def recommendation_table(
    rows: SweepRows, conditions: Sequence[Condition], budgets: Sequence[float], *, seed: int = 0
) -> pl.DataFrame:
    """A row for each question and codec; ``best`` marks the codec to take.

    ``question`` in words; ``quality``, mean ``rate`` (bits per pixel) and ``score`` (the statistic asked for) on the
    ``images`` chosen by; the same on the images checked by (null where the sweep has one image), and whether the
    condition, or the budget, ``holds`` there; ``remark`` where there is no such setting. An image's value is the mean
    over its tiles. A setting that some image lacks, because a cell failed or a task found nothing to score, is judged by
    the images that it has; one that lacks more than half of them is not considered.
    """
    halves = split(rows.cells["source_id"].unique().to_list(), seed)
    known = {number.column: number for number in rows.numbers}
    questions: list[_Question] = [_Question(known[one.number], one, None) for one in conditions]
    scores = [number for number in rows.main if number.is_task] or rows.main[:1]
    questions += [_Question(number, None, budget) for budget in budgets for number in scores]
    found: list[dict[str, Any]] = []
    for question in questions:
        lines = [_answer(rows.cells.filter(codec=codec), codec, question, halves) for codec in rows.codecs]
        told = [line for line in lines if line["quality"] is not None]
        best = min(told, key=question.order, default=None)
        found += [{**line, "best": line is best} for line in lines]
    return pl.DataFrame(found, schema=_SCHEMA)


@dataclass(frozen=True)
class _Question:
    number: Number
    condition: Condition | None
    budget: float | None

    def __str__(self) -> str:
        if self.condition is not None:
            return f"cheapest with {self.condition}"
        return f"best mean of {self.number.column} within {self.budget:g} bits per pixel"

    def statistic(self, values: Floats) -> float:
        return float(values.mean()) if self.condition is None else self.condition.statistic(values)

    def holds(self, rate: float, score: float) -> bool:
        if self.condition is not None:
            return self.condition.holds(score)
        return self.budget is not None and rate <= self.budget

    def order(self, line: dict[str, Any]) -> tuple[float, float]:
        """The least comes first: the cheapest, or the best score and then the cheapest."""
        gain = self.number.sign * line["score"]
        return (line["rate"], -gain) if self.condition is not None else (-gain, line["rate"])


def _answer(
    cells: pl.DataFrame, codec: str, question: _Question, halves: tuple[list[str], list[str]]
) -> dict[str, Any]:
    """The best setting of one codec."""
    line: dict[str, Any] = dict.fromkeys(_SCHEMA) | {"question": str(question), "codec": codec}
    column = question.number.column
    values = cells.filter(pl.col(column).is_not_null()).group_by("quality", "source_id")
    images = values.agg(pl.col(_RATE, column).mean()).sort("quality", "source_id")
    settings = [
        _measured(part, int(str(quality)), question, halves[0]) for (quality,), part in images.group_by("quality")
    ]
    complete = [one for one in settings if one["images"] * 2 > len(halves[0])]
    good = [one for one in complete if question.holds(one["rate"], one["score"])]
    if not good:
        reason = "no quality of this sweep does" if complete else "too few images have this number"
        return {**line, "remark": reason}
    chosen = min(good, key=question.order)
    line |= chosen
    if not halves[1]:
        return {**line, "remark": "not checked: there is one image only"}
    checked = _measured(images.filter(quality=chosen["quality"]), chosen["quality"], question, halves[1])
    if not checked["images"]:
        return {**line, "remark": "not checked: no image kept for it has this number"}
    line |= {f"{name}_checked": checked[name] for name in ("rate", "score", "images")}
    return {**line, "holds": question.holds(checked["rate"], checked["score"])}


def _measured(part: pl.DataFrame, quality: int, question: _Question, sources: list[str]) -> dict[str, Any]:
    here = part.filter(pl.col("source_id").is_in(sources))
    score = question.statistic(here[question.number.column].to_numpy()) if here.height else math.nan
    rate = float(here[_RATE].to_numpy().mean()) if here.height else math.nan
    return {"quality": quality, "rate": rate, "score": score, "images": here.height}
