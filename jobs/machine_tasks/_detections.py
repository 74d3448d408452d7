"""What a detector is, and what it says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sensorium.jobs.machine_tasks._boxes import Boxes

__all__ = ["Detections", "Detector"]


@dataclass(frozen=True)
class Detections:
    """Objects that were found in a picture.

    Attributes:
        boxes: [N, 4]: x, y, width, height, pixels.
        scores: [N], the higher the surer; on the detector's own scale.
        classes: [N], indices; all 0 where there is one class.
    """

    boxes: Boxes
    scores: npt.NDArray[np.float64]
    classes: npt.NDArray[np.int64]

    def sorted(self) -> Detections:
        """The surest first; of equals the one furthest up, then furthest to the left: an order without chance."""
        order = np.lexsort((self.boxes[:, 0], self.boxes[:, 1], -self.scores))
        return Detections(self.boxes[order], self.scores[order], self.classes[order])


@dataclass(frozen=True)
class Detector:
    """Something that finds objects.

    Attributes:
        definition: model, version and thresholds.
        find: objects in a picture [H, W, 3], RGB, uint8.
        confident: score from which an object that is found in the reference counts as true.
    """

    definition: str
    find: Callable[[np.ndarray], Detections]
    confident: float
