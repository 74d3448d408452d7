"""Finding objects: how much worse a detector places each object in the compressed picture (paper 18, section 4.1).

For an object with the true box *g* and the boxes that the detector finds in a picture, matched one to one:

* Object IoU: the intersection over union of *g* and its match; 0 where no box is left that overlaps;
* Delta Object IoU: Object IoU in the reference less Object IoU in the compressed picture;
* mean-IoU: the mean of Object IoU over all objects of the picture.

Where the sample has labels (``boxes``), they are the truth. Where it has none, the boxes are that the detector itself finds
in the reference with high confidence (the paper's rule for its test set); Object IoU of the reference is then 1.

An object that the detector misses in the reference says nothing of compression: it has its row, and counts in mean-IoU, but
not in the picture's mean Delta Object IoU.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from sensorium.jobs.machine_tasks import Scorer, Task, _boxes
from sensorium.jobs.machine_tasks._cascade import DEFAULT, open_cascade
from sensorium.jobs.machine_tasks._detections import Detections, Detector
from sensorium.jobs.machine_tasks._detector_file import open_file
from sensorium.platform.errors import InvalidSetting

__all__ = ["Truth", "scorer", "task"]

_COLUMNS = {
    **_boxes.COLUMNS,
    **{f"found_{name}": kind for name, kind in _boxes.COLUMNS.items()},
    "iou_ref": "float64",
    "iou": "float64",
    "delta_iou": "float64",
    "unmatched": "bool",
    "score": "float64",
}
_SUMMARY = ("delta_iou", "mean_iou", "mean_iou_ref", "objects")


@dataclass(frozen=True)
class Truth:
    """What a reference shows.

    Attributes:
        boxes: of the objects [N, 4].
        classes: of the objects [N]; None where labels do not say.
        overlaps: Object IoU of the reference [N].
    """

    boxes: _boxes.Boxes
    classes: npt.NDArray[np.int64] | None
    overlaps: npt.NDArray[np.float64]


def scorer(detector: Detector) -> Scorer:
    """The scorer of the task with a detector."""

    def prepare(reference: np.ndarray, labels: Mapping[str, Any]) -> Truth:
        found = detector.find(reference)
        height, width = reference.shape[:2]
        boxes = _boxes.labelled(labels, (height, width))
        classes = None
        if boxes is None:
            sure = found.scores >= detector.confident
            boxes, classes = found.boxes[sure], found.classes[sure]
        overlaps, _ = _object_iou(boxes, classes, found)
        return Truth(boxes, classes, overlaps)

    def score(truth: Truth, picture: np.ndarray) -> list[dict[str, Any]]:
        found = detector.find(picture)
        overlaps, match = _object_iou(truth.boxes, truth.classes, found)
        rows = []
        for number, (box, place) in enumerate(zip(truth.boxes, match, strict=True)):
            reference, overlap = float(truth.overlaps[number]), float(overlaps[number])
            where = dict.fromkeys(_boxes.COLUMNS) if place is None else _boxes.row_of(found.boxes[place])
            rows.append(
                {
                    **_boxes.row_of(box),
                    **{f"found_{name}": value for name, value in where.items()},
                    "iou_ref": reference,
                    "iou": overlap,
                    "delta_iou": reference - overlap,
                    "unmatched": place is None,
                    "score": None if place is None else float(found.scores[place]),
                }
            )
        return rows

    return Scorer(f"detect 1: {detector.definition}", prepare, score, _summarise, _COLUMNS, _SUMMARY)


def _object_iou(
    boxes: _boxes.Boxes, classes: npt.NDArray[np.int64] | None, found: Detections
) -> tuple[npt.NDArray[np.float64], list[int | None]]:
    """Object IoU of each box [N], and which of ``found`` it was matched with."""
    overlaps = _boxes.iou(boxes, found.boxes)
    if classes is not None:
        overlaps = np.where(classes[:, None] == found.classes[None, :], overlaps, 0.0)
    match = _boxes.matched(overlaps)
    values = [0.0 if place is None else float(overlaps[row, place]) for row, place in enumerate(match)]
    return np.array(values, np.float64), match


def _summarise(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    seen = [row["delta_iou"] for row in rows if row["iou_ref"] > 0]
    return {
        "delta_iou": _mean(seen),
        "mean_iou": _mean([row["iou"] for row in rows]),
        "mean_iou_ref": _mean([row["iou_ref"] for row in rows]),
        "objects": float(len(rows)),
    }


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values) if values else math.nan


def _open(argument: str) -> Scorer:
    """``cascade:NAME``, ``PATH.onnx``, or empty for the bundled cascade of faces."""
    kind, mark, name = argument.partition(":")
    if not argument or (mark and kind == "cascade"):
        return scorer(open_cascade(name or DEFAULT))
    if argument.endswith(".onnx"):
        return scorer(open_file(argument))
    raise InvalidSetting(
        f"--tasks detect={argument}: a detector is a file that ends in .onnx, or cascade:NAME. (TorchScript files run code of "
        "their own when they are loaded, and are not taken: export the network to ONNX.)"
    )


task = Task(
    name="detect",
    title="object detection: Delta Object IoU",
    main="delta_iou",
    higher_is_better=False,
    open=_open,
    fields=("boxes",),
    cost=1.0,
)
