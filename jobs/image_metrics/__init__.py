"""Full-reference image quality metrics.

A metric is one file that makes one or more :class:`Metric`, each named by an entry point of the group
``sensorium.metrics``. A metric has a definition id: two values may be compared only if their definitions are the same
(libraries disagree about "SSIM" of one pair by 0.06).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sensorium.platform import plugins

if TYPE_CHECKING:
    import numpy as np

__all__ = ["GROUP", "Metric", "get"]

GROUP = "sensorium.metrics"


@dataclass(frozen=True)
class Metric:
    """A full-reference metric.

    Attributes:
        name: as in ``--metrics``; also the name of its column.
        title: for people.
        definition: changes whenever the values could; part of a result's key.
        unit: such as ``dB``; empty for a plain number.
        higher_is_better: the sense of the scale.
        compute: reference and distorted image, both [H, W, 3], RGB, uint8, to a number.
    """

    name: str
    title: str
    definition: str
    unit: str
    higher_is_better: bool
    compute: Callable[[np.ndarray, np.ndarray], float]


def get(name: str) -> Metric:
    """The installed metric ``name``.

    Raises:
        UnknownPlugin: there is none.
    """
    metric: Metric = plugins.load(GROUP, name, Metric)
    return metric
