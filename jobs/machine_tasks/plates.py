"""Reading licence plates: how much less of a plate's text is read in the compressed picture (paper 18, section 4.5).

Each plate is cut out at its true box, read, and compared with its true text by the Jaro similarity, from 0 (no characters
match) to 1 (the same text). ``jaro_ref`` is that of the reference, ``delta_jaro`` what compression takes away from it.

A plate of which nothing is read in the reference says nothing of compression: it has its row, and counts in the means of
both similarities, but not in the picture's mean ``delta_jaro``.

Samples need ``boxes`` and ``texts``, as the importer ``plates`` makes them. Texts are compared as capitals and digits only.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sensorium.jobs.machine_tasks import Scorer, Task, _boxes
from sensorium.jobs.machine_tasks._tesseract import LETTERS, Reader, open_tesseract
from sensorium.platform.errors import InvalidSample, InvalidSetting
from sensorium.platform.optional import require

__all__ = ["Truth", "crop", "normalised", "scorer", "similarity", "task"]

#: height in pixels that plates are scaled to, and the border around them: recognisers are made for letters of this size,
#: with room around the line
_HEIGHT, _BORDER = 48, 10

_COLUMNS = {
    **_boxes.COLUMNS,
    **{"text_true": "string", "text_ref": "string", "text": "string"},
    **{"jaro_ref": "float64", "jaro": "float64", "delta_jaro": "float64"},
}
_SUMMARY = ("delta_jaro", "jaro", "jaro_ref", "plates")


@dataclass(frozen=True)
class Truth:
    """What a reference shows.

    Attributes:
        boxes: of the plates [N, 4].
        texts: that they have.
        read: what is read in the reference.
    """

    boxes: _boxes.Boxes
    texts: tuple[str, ...]
    read: tuple[str, ...]


def scorer(reader: Reader) -> Scorer:
    """The scorer of the task with a recogniser."""

    def read(picture: np.ndarray, boxes: _boxes.Boxes) -> tuple[str, ...]:
        found = reader.read([crop(picture, box) for box in boxes])
        return tuple(normalised(text) for text in found)

    def prepare(reference: np.ndarray, labels: Mapping[str, Any]) -> Truth:
        height, width = reference.shape[:2]
        boxes = _boxes.labelled(labels, (height, width))
        if boxes is None:
            raise InvalidSample("plates are read at their true places: the sample needs labels 'boxes' and 'texts'.")
        texts = _texts(labels.get("texts"), len(boxes))
        return Truth(boxes, texts, read(reference, boxes))

    def score(truth: Truth, picture: np.ndarray) -> list[dict[str, Any]]:
        rows = []
        for box, text, reference, found in zip(
            truth.boxes, truth.texts, truth.read, read(picture, truth.boxes), strict=True
        ):
            before, now = similarity(reference, text), similarity(found, text)
            rows.append(
                {
                    **_boxes.row_of(box),
                    **{"text_true": text, "text_ref": reference, "text": found},
                    **{"jaro_ref": before, "jaro": now, "delta_jaro": before - now},
                }
            )
        return rows

    definition = f"plates 1: grey, {_HEIGHT} + 2 x {_BORDER} px high; {reader.definition}"
    return Scorer(definition, prepare, score, _summarise, _COLUMNS, _SUMMARY)


def _texts(given: Any, count: int) -> tuple[str, ...]:
    if not isinstance(given, Sequence) or isinstance(given, str) or len(given) != count:
        raise InvalidSample(f"label 'texts' must be a list of {count}, one for each box; got {given!r}.")
    texts = tuple(normalised(text) if isinstance(text, str) else "" for text in given)
    if not all(texts):
        raise InvalidSample(f"label 'texts': a plate's text must have letters A-Z or digits; got {given!r}.")
    return texts


def normalised(text: str) -> str:
    """``text`` as capitals and digits only."""
    return re.sub(f"[^{LETTERS}]", "", text.upper())


def similarity(one: str, other: str) -> float:
    """Jaro similarity (paper 18, section 4.5): 0 where no character matches, so also where both are empty."""
    jaro = require("rapidfuzz", "compare the texts of plates").distance.Jaro
    return float(jaro.similarity(one, other)) if one and other else 0.0


def crop(picture: np.ndarray, box: Any) -> np.ndarray:
    """A plate as recognisers get it: grey [68, W], uint8, scaled to one height, its edges continued around it."""
    cv2 = require("cv2", "scale the pictures of plates")
    grey = cv2.cvtColor(np.ascontiguousarray(_boxes.cut(picture, box)), cv2.COLOR_RGB2GRAY)
    width = max(1, round(grey.shape[1] * _HEIGHT / grey.shape[0]))
    scaled = cv2.resize(grey, (width, _HEIGHT), interpolation=cv2.INTER_CUBIC)
    bordered: np.ndarray = cv2.copyMakeBorder(scaled, *[_BORDER] * 4, borderType=cv2.BORDER_REPLICATE)
    return bordered


def _summarise(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    means = {name: _mean([row[name] for row in rows]) for name in ("jaro", "jaro_ref")}
    lost = _mean([row["delta_jaro"] for row in rows if row["jaro_ref"] > 0])
    return {"delta_jaro": lost, **means, "plates": float(len(rows))}


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values) if values else math.nan


@functools.cache
def _tesseract() -> Reader:
    """Once for each process: loading its data takes longer than reading ten plates."""
    return open_tesseract()


def _open(argument: str) -> Scorer:
    """Tesseract; it takes no argument."""
    if argument:
        raise InvalidSetting(f"--tasks plates={argument}: the task takes no argument. Plates are read by Tesseract.")
    require("rapidfuzz", "compare the texts of plates")
    return scorer(_tesseract())


task = Task(
    name="plates",
    title="licence plates: Jaro similarity of the text that is read",
    main="delta_jaro",
    higher_is_better=False,
    open=_open,
    fields=("boxes", "texts"),
    cost=0.3,
)
