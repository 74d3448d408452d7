"""What the rows of a sweep hold: the numbers of each cell with their senses, and rows that can be compared."""

from __future__ import annotations

import json
from dataclasses import dataclass

import polars as pl

from sensorium.jobs import image_metrics, machine_tasks
from sensorium.platform import plugins
from sensorium.platform.errors import InvalidSample, InvalidSetting, close_matches

__all__ = ["Number", "comparable", "definitions", "find", "numbers"]


@dataclass(frozen=True)
class Number:
    """A column of numbers.

    Attributes:
        column: its name in the rows.
        title: for people, with the unit.
        owner: name of the metric or task that gives it.
        is_task: a task gives it, not a metric.
        higher_is_better: the sense; None where the plug-in does not say (numbers of a task besides its main one).
        main: the only number of its metric, or the one that its task says counts: those have curves and BD-rates.
    """

    column: str
    title: str
    owner: str
    is_task: bool
    higher_is_better: bool | None
    main: bool

    @property
    def sign(self) -> float:
        """1 where more is better, -1 where less is."""
        return -1.0 if self.higher_is_better is False else 1.0


def definitions(frame: pl.DataFrame) -> dict[str, str]:
    """The metrics and tasks of a sweep's rows with their definitions, by name.

    Raises:
        InvalidSample: the rows mix definitions of one metric, or settings or versions of one codec: values that must
            not be compared as if they were of one kind.
    """
    found: dict[str, str] = {}
    for text in sorted(frame["metric_definitions"].unique()):
        for name, definition in json.loads(text).items():
            if found.setdefault(name, definition) != definition:
                raise InvalidSample(
                    f"these rows hold metric {name!r} in two definitions, {found[name]!r} and {definition!r}. "
                    "Select one of them by metric_definitions."
                )
    for column in ("encoder_arguments", "codec_version"):
        mixed = frame.group_by("codec").agg(pl.col(column).unique().sort()).filter(pl.col(column).list.len() > 1)
        if mixed.height:
            codec, values = mixed.sort("codec").row(0)
            raise InvalidSample(
                f"these rows hold codec {codec!r} with several {column}: {values}. Select one of them by {column}."
            )
    return dict(sorted(found.items()))


def numbers(frame: pl.DataFrame) -> tuple[Number, ...]:
    """The numbers of a sweep's rows, metrics first. A metric or task that is not installed here has none.

    Raises:
        InvalidSample: see :func:`definitions`.
    """
    known = definitions(frame)
    found = [number for name in known for number in _of_metric(name, frame)]
    return (*found, *(number for name in known for number in _of_task(name, frame)))


def _of_metric(name: str, frame: pl.DataFrame) -> list[Number]:
    if name not in plugins.names(image_metrics.GROUP) and name not in frame.columns:
        return []
    if name in plugins.names(machine_tasks.GROUP):
        return []
    metric = image_metrics.get(name)
    title = f"{metric.title}, {metric.unit}" if metric.unit else metric.title
    # the columns say for themselves which they are; a column of the name is a metric's only number
    columns = [name] if name in frame.columns else [column for column in metric.names if column in frame.columns]
    single = len(columns) == 1
    return [
        Number(column, title if single else f"{title}: {column}", name, False, metric.higher_is_better, single)
        for column in columns
    ]


def _of_task(name: str, frame: pl.DataFrame) -> list[Number]:
    if name not in plugins.names(machine_tasks.GROUP):
        return []
    task = machine_tasks.get(name)
    columns = [column for column in frame.columns if column.startswith(f"{name}_")]
    main = f"{name}_{task.main}"
    return [
        Number(
            column,
            f"{name}: {column.removeprefix(f'{name}_')}",
            name,
            True,
            task.higher_is_better if column == main else None,
            column == main,
        )
        for column in sorted(columns, key=lambda column: (column != main, column))
    ]


def find(text: str, known: tuple[Number, ...]) -> Number:
    """The number of that column; of a task's, what follows the task's name is enough where only one task has it.

    Raises:
        InvalidSetting: there is none, or more than one.
    """
    exact = [number for number in known if number.column == text]
    short = [number for number in known if number.is_task and number.column == f"{number.owner}_{text}"]
    found = exact or short
    if len(found) == 1:
        return found[0]
    columns = [number.column for number in known]
    if found:
        raise InvalidSetting(
            f"{text!r} is a number of several tasks: {', '.join(one.column for one in found)}. Write one."
        )
    raise InvalidSetting(f"no metric or number {text!r} in this sweep. {close_matches(text, columns)}".rstrip())


def comparable(frame: pl.DataFrame) -> pl.DataFrame:
    """Rows in which ``codec`` and ``image_id`` alone say which cells may be compared; idempotent.

    ``source_id`` is the sample; ``image_id`` becomes the sample and the part of it that was coded, and tells apart
    samples whose content was replaced during a sweep; ``codec`` names the GOP too where a codec has several.
    """
    if "source_id" in frame.columns:
        return frame
    frame = frame.with_columns(source_id=pl.col("image_id"))
    if "extent" in frame.columns:
        frame = frame.with_columns(
            image_id=pl.when(pl.col("extent") == "")
            .then(pl.col("image_id"))
            .otherwise(pl.concat_str("image_id", pl.lit(" ["), "extent", pl.lit("]")))
        )
    if "image_hash" in frame.columns:
        replaced = pl.col("image_hash").n_unique().over("image_id") > 1
        named = pl.concat_str("image_id", pl.lit(" #"), pl.col("image_hash").str.head(6))
        frame = frame.with_columns(image_id=pl.when(replaced).then(named).otherwise(pl.col("image_id")))
    if "gop" in frame.columns:
        several = pl.col("gop").n_unique().over("codec") > 1
        named = pl.concat_str("codec", pl.lit(", GOP "), pl.col("gop"))
        frame = frame.with_columns(codec=pl.when(several).then(named).otherwise(pl.col("codec")))
    return frame
