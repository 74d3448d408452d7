"""Image quality metrics, with and without a reference.

A metric is one file that makes one or more :class:`Metric`, each named by an entry point of the group
``sensorium.metrics``. A metric has a definition id: two values may be compared only if their definitions are the same
(libraries disagree about "SSIM" of one pair by 0.06).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sensorium.platform import plugins

if TYPE_CHECKING:
    import numpy as np

__all__ = ["GROUP", "Metric", "Values", "get"]

GROUP = "sensorium.metrics"

#: a metric's number, or its numbers
Values = float | Sequence[float]


@dataclass(frozen=True)
class Metric:
    """A metric of a distorted image, most of them against a reference.

    Attributes:
        name: as in ``--metrics``; also the name of its column.
        title: for people.
        definition: changes whenever the values could; part of a result's key.
        unit: such as ``dB``; empty for a plain number.
        higher_is_better: the sense of the scale.
        compute: reference and distorted image, both [H, W, 3], RGB, uint8, to a number; to as many as ``columns`` if there
            are any.
        columns: of a metric of several numbers; empty for one number in a column of the metric's name.
        needs_reference: False for a metric that looks at the distorted image only (it is given both).
        many: the same for one reference and several distorted images, where that is cheaper; the same numbers to the bit.
        cost: CPU seconds a megapixel, a first guess.
        clip: reference and distorted frames to one number, for a metric that looks at time; without it, a clip's value is
            the mean over its frames.
    """

    name: str
    title: str
    definition: str
    unit: str
    higher_is_better: bool
    compute: Callable[[np.ndarray, np.ndarray], Values]
    columns: tuple[str, ...] = ()
    needs_reference: bool = True
    many: Callable[[np.ndarray, Sequence[np.ndarray]], list[Values]] | None = None
    cost: float = 0.05
    clip: Callable[[Sequence[np.ndarray], Sequence[np.ndarray]], Values] | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """Names of its columns."""
        return self.columns or (self.name,)


def get(name: str) -> Metric:
    """The installed metric ``name``.

    Raises:
        UnknownPlugin: there is none.
    """
    metric: Metric = plugins.load(GROUP, name, Metric)
    return metric
