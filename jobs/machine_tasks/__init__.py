"""What a machine makes of a picture, and how much of that compression takes away.

A task is one file that makes one :class:`Task`, named by an entry point of the group ``sensorium.tasks``: finding objects,
reading plates, recognising faces. A sweep asks it about the reference once, and then about each decoded picture.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sensorium.platform import plugins
from sensorium.platform.errors import InvalidSetting

if TYPE_CHECKING:
    import numpy as np

__all__ = ["GROUP", "Scorer", "Task", "get", "open_task"]

GROUP = "sensorium.tasks"

Row = dict[str, Any]


@dataclass(frozen=True)
class Scorer:
    """A task with its model loaded, in one process.

    Attributes:
        definition: changes whenever a score could: model, version, thresholds; part of a result's key.
        prepare: the reference [H, W, 3], RGB, uint8, and the sample's labels (``fields`` of the task; None where the sample
            has none) to whatever ``score`` compares with: computed once per picture. Raises ``InvalidSample`` for labels
            that cannot be used.
        score: what was prepared, and the decoded picture, to a row for each object: scalars by the names of ``columns``.
        summarise: rows of one picture to the numbers of its cell, by the names of ``summary``; NaN where there is no object.
        columns: Arrow types of the columns of an object's row, as :func:`pyarrow.type_for_alias` knows them.
        summary: names of the cell's numbers; the sweep puts the task's name and ``_`` before each.
    """

    definition: str
    prepare: Callable[[np.ndarray, Mapping[str, Any]], Any]
    score: Callable[[Any, np.ndarray], list[Row]]
    summarise: Callable[[Sequence[Row]], Mapping[str, float]]
    columns: Mapping[str, str]
    summary: tuple[str, ...]


@dataclass(frozen=True)
class Task:
    """A task as ``--tasks`` names it: ``NAME`` or ``NAME=ARGUMENT``.

    Attributes:
        name: as in ``--tasks``.
        title: for people.
        main: the number of ``summary`` that says what compression costs, and ``higher_is_better`` its sense.
        open: a scorer for the argument (such as the file of a model; empty for the task's own default). Raises
            ``InvalidSetting`` for an argument that it cannot use, ``MissingDependency`` where a program is not there.
        fields: scalars of a sample that ``prepare`` looks at.
        cost: CPU seconds a megapixel, a first guess.
    """

    name: str
    title: str
    main: str
    higher_is_better: bool
    open: Callable[[str], Scorer]
    fields: tuple[str, ...] = ()
    cost: float = 1.0


def get(name: str) -> Task:
    """The installed task ``name``.

    Raises:
        UnknownPlugin: there is none.
    """
    task: Task = plugins.load(GROUP, name, Task)
    return task


def open_task(text: str) -> tuple[Task, Scorer]:
    """The task and the scorer that ``NAME`` or ``NAME=ARGUMENT`` asks for.

    Raises:
        UnknownPlugin: there is no such task.
        InvalidSetting: its argument cannot be used.
    """
    name, mark, argument = text.partition("=")
    if mark and not argument:
        raise InvalidSetting(f"--tasks {text!r}: an argument is expected after the sign =.")
    task = get(name.strip())
    return task, task.open(argument.strip())
