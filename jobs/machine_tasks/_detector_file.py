"""A detector in an ONNX file, in one of two usual forms of output.

* ``boxes`` [N, 4] (left, top, right, bottom) and ``scores`` [N], with ``classes`` or ``labels`` [N] if it knows several
  classes; a leading dimension of 1 is taken off. The network has suppressed multiple boxes itself.
* one output [1, 4 + C, N] as YOLO has it: centre x and y, width, height, then a score for each of C classes, for N
  candidates. The class with the highest score counts, candidates below 0.25 are dropped, and of those of one class that
  overlap by more than 0.45 the surest is kept.

Boxes are in pixels of the network's input. A picture is laid in the top left corner of it: scaled to fit where the input has
a fixed size, else enlarged to multiples of 32; the rest is grey (114 of 255).
"""

from __future__ import annotations

import functools
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from sensorium.jobs.machine_tasks import _boxes
from sensorium.jobs.machine_tasks._detections import Detections, Detector
from sensorium.jobs.machine_tasks._onnx import Network, open_network
from sensorium.platform.errors import InvalidSample, InvalidSetting
from sensorium.platform.optional import require

__all__ = ["open_file"]

_FOUND, _CONFIDENT, _OVERLAP = 0.25, 0.5, 0.45
_MULTIPLE, _GREY = 32, 114


def open_file(path: str) -> Detector:
    """The detector in an ONNX file.

    Raises:
        InvalidSetting: it is no such file, or gives something else.
        MissingDependency: onnxruntime or OpenCV is not installed.
    """
    network = open_network(path, "find objects with a network of your own")
    require("cv2", "scale pictures for a detector")
    definition = f"ONNX {network.digest}, found from {_FOUND}, sure from {_CONFIDENT}, overlap {_OVERLAP}"
    try:  # its outputs are known only once it has run
        _find(network, np.full((64, 64, 3), _GREY, np.uint8))
    except InvalidSample as error:
        raise InvalidSetting(str(error)) from error
    return Detector(definition, functools.partial(_find, network), _CONFIDENT)


def _find(network: Network, picture: np.ndarray) -> Detections:
    laid, scale = _laid(picture, network)
    outputs = network.run(laid)
    found = _plain(outputs, network.path) if "boxes" in outputs else _yolo(outputs, network.path)
    if not (np.isfinite(found.boxes).all() and np.isfinite(found.scores).all()):
        raise InvalidSample(f"{network.path} gave boxes or scores that are not finite.")
    found = Detections(_inside(found.boxes / scale, picture), found.scores, found.classes)
    kept = (found.scores >= _FOUND) & (found.boxes[:, 2:] > 0).all(axis=1)
    return Detections(found.boxes[kept], found.scores[kept], found.classes[kept]).sorted()


def _laid(picture: np.ndarray, network: Network) -> tuple[np.ndarray, npt.NDArray[np.float64]]:
    """The input [1, 3, H, W], and by how much x, y, width and height are scaled in it [4]."""
    cv2 = require("cv2", "scale pictures for a detector")
    height, width = picture.shape[:2]
    share = min(
        1.0 if network.height is None else network.height / height,
        1.0 if network.width is None else network.width / width,
    )
    if network.height is not None and network.width is not None:
        share = min(network.height / height, network.width / width)
    high, wide = max(1, round(height * share)), max(1, round(width * share))
    if (high, wide) != (height, width):
        how = cv2.INTER_AREA if share < 1 else cv2.INTER_LINEAR
        picture = cv2.resize(picture, (wide, high), interpolation=how)
    bottom = network.height or -(-high // _MULTIPLE) * _MULTIPLE
    right = network.width or -(-wide // _MULTIPLE) * _MULTIPLE
    canvas = np.full((bottom, right, 3), _GREY, np.uint8)
    canvas[:high, :wide] = picture
    scales = np.array([wide / width, high / height] * 2)
    return np.moveaxis(canvas.astype(np.float32) / np.float32(255), 2, 0)[None], scales


def _plain(outputs: Mapping[str, np.ndarray], path: str) -> Detections:
    named = {name: value[0] if value.ndim == rank + 1 and len(value) == 1 else value
             for name, rank in (("boxes", 2), ("scores", 1), ("classes", 1), ("labels", 1))
             if (value := outputs.get(name)) is not None}  # fmt: skip
    boxes, scores = named["boxes"], named.get("scores")
    classes = named.get("classes", named.get("labels"))
    shapes = {name: list(value.shape) for name, value in named.items()}
    if boxes.ndim != 2 or boxes.shape[1] != 4 or scores is None or scores.shape != boxes.shape[:1]:
        raise InvalidSample(f"{path} must give boxes [N, 4] and scores [N]; it gave {shapes}. Export it so.")
    if classes is not None and classes.shape != scores.shape:
        raise InvalidSample(f"{path} must give a class for each box; it gave {shapes}. Export it so.")
    corners = boxes.astype(np.float64)
    whole = np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1)
    kinds = np.zeros(len(scores)) if classes is None else classes
    return Detections(whole, scores.astype(np.float64), kinds.astype(np.int64))


def _yolo(outputs: Mapping[str, np.ndarray], path: str) -> Detections:
    shapes = {name: list(value.shape) for name, value in outputs.items()}
    (value, *others) = outputs.values()
    if others or value.ndim != 3 or value.shape[0] != 1 or value.shape[1] < 5:
        raise InvalidSample(
            f"{path} must give boxes [N, 4] and scores [N], or one output [1, 4 + classes, N]; it gave {shapes}. Export it so."
        )
    candidates = value[0].astype(np.float64)
    classes, scores = candidates[4:].argmax(axis=0), candidates[4:].max(axis=0)
    kept = scores >= _FOUND
    centre, size = candidates[:2, kept].T, candidates[2:4, kept].T
    boxes = np.concatenate([centre - size / 2, size], axis=1)
    found = Detections(boxes, scores[kept], classes[kept].astype(np.int64)).sorted()
    return _suppressed(found)


def _suppressed(found: Detections) -> Detections:
    """Of boxes of one class that overlap the surest; ``found`` has the surest first."""
    alike = found.classes[:, None] == found.classes[None, :]
    over = (_boxes.iou(found.boxes, found.boxes) > _OVERLAP) & alike
    kept: list[int] = []
    for index in range(len(found.scores)):
        if not over[index, kept].any():
            kept.append(index)
    return Detections(found.boxes[kept], found.scores[kept], found.classes[kept])


def _inside(boxes: _boxes.Boxes, picture: np.ndarray) -> _boxes.Boxes:
    """Boxes cut off at the edges of the picture; some may be empty afterwards."""
    limit = np.array([picture.shape[1], picture.shape[0]], np.float64)
    begin = np.clip(boxes[:, :2], 0, limit)
    end = np.clip(boxes[:, :2] + boxes[:, 2:], 0, limit)
    return np.concatenate([begin, end - begin], axis=1)
