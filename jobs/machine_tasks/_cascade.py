"""The detectors that come with OpenCV: cascades of Haar features (Viola and Jones 2001).

They need no download, and are far behind detectors of today; they are there so that the task works at once. OpenCV 5 has
them no more, which is why this project asks for a version below.
"""

from __future__ import annotations

import functools
import threading
from pathlib import Path
from typing import Any

import numpy as np

from sensorium.jobs.machine_tasks._detections import Detections, Detector
from sensorium.platform.errors import InvalidSetting, MissingDependency, close_matches
from sensorium.platform.optional import require

__all__ = ["DEFAULT", "open_cascade"]

DEFAULT = "frontalface_default"
_PREFIX = "haarcascade_"
#: from one size of the window to the next; smaller steps place boxes better and take longer
_SCALE = 1.1
#: windows that must agree on an object for it to be found, and for it to count as true in a reference
_FOUND, _CONFIDENT = 3, 8


def open_cascade(name: str) -> Detector:
    """A cascade bundled with OpenCV, such as ``frontalface_default`` or ``haarcascade_russian_plate_number``.

    Its scores are the number of windows that agree.

    Raises:
        InvalidSetting: there is none of that name.
        MissingDependency: OpenCV is not installed, or is one without cascades.
    """
    cv2 = require("cv2", "find objects with a cascade")
    folder = Path(getattr(getattr(cv2, "data", None), "haarcascades", ""))
    known = sorted(path.stem.removeprefix(_PREFIX) for path in folder.glob(f"{_PREFIX}*.xml"))
    if not hasattr(cv2, "CascadeClassifier") or not known:
        raise MissingDependency(
            f"OpenCV {cv2.__version__} has no cascades (version 5 dropped them). Install one that has: "
            "pip install 'opencv-python-headless>=4.13,<5'"
        )
    short = name.removeprefix(_PREFIX)
    if short not in known:
        raise InvalidSetting(
            f"--tasks detect=cascade:{name}: OpenCV bundles no such cascade. {close_matches(short, known)}".rstrip()
        )
    definition = (
        f"OpenCV {cv2.__version__} cascade {short}, scale {_SCALE}, {_FOUND} neighbours, sure from {_CONFIDENT}"
    )
    path = str(folder / f"{_PREFIX}{short}.xml")
    return Detector(definition, functools.partial(_find, cv2, _Loaded(cv2, path)), float(_CONFIDENT))


class _Loaded(threading.local):
    """The cascade once for each thread: it is not safe to share."""

    def __init__(self, cv2: Any, path: str) -> None:
        self.classifier = cv2.CascadeClassifier(path)


def _find(cv2: Any, loaded: _Loaded, picture: np.ndarray) -> Detections:
    grey = cv2.cvtColor(np.ascontiguousarray(picture), cv2.COLOR_RGB2GRAY)
    boxes, counts = loaded.classifier.detectMultiScale2(grey, scaleFactor=_SCALE, minNeighbors=_FOUND)
    found = np.asarray(boxes, np.float64).reshape(-1, 4)
    return Detections(found, np.asarray(counts, np.float64).reshape(-1), np.zeros(len(found), np.int64)).sorted()
