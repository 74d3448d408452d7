"""Recognising: how much further compression takes a picture's embedding from that of its kind (paper 18, section 4.3).

With ``emb`` the embedding of a picture by a network, the similarity of two pictures is (equation 1)

    R(a, b) = cos(emb(a), emb(b)),

and what compression costs is (equation 2)

    F(reference, compressed) = R(reference, database) − R(compressed, database),

where ``database`` is another picture of the same person or thing. Its embedding comes with the sample, as the label
``database`` (made by :func:`embedding` with the same network). Without it the reference stands for it: then R(reference,
database) is 1 and F is one less the similarity of the compressed picture to the reference.

Where the sample has ``boxes``, each is an object by itself and ``database`` a list of one embedding for each; else the whole
picture is.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from sensorium.jobs.machine_tasks import Scorer, Task, _boxes
from sensorium.jobs.machine_tasks._encoder import Embedder, open_encoder
from sensorium.jobs.machine_tasks._onnx import Network, open_network
from sensorium.platform.errors import InvalidSample, InvalidSetting
from sensorium.platform.optional import require

__all__ = ["Truth", "cosine", "embedding", "scorer", "task"]

#: side of the pictures that a network without a size of its own is given, pixels
_SIDE = 112

_COLUMNS = {**_boxes.COLUMNS, "cosine_ref": "float64", "cosine": "float64", "delta": "float64"}
_SUMMARY = ("delta", "cosine", "pictures")


@dataclass(frozen=True)
class Truth:
    """What a reference shows.

    Attributes:
        boxes: of the objects [N, 4].
        database: embeddings [N, D] that all pictures are compared with.
        similarity: R(reference, database) [N].
    """

    boxes: _boxes.Boxes
    database: npt.NDArray[np.float64]
    similarity: npt.NDArray[np.float64]


def cosine(one: npt.NDArray[np.float64], other: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Cosine of each row of ``one`` [N, D] with the same row of ``other`` (equation 1): [N]; 0 for a vector of length 0."""
    lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    dots = (one * other).sum(axis=1)
    return np.asarray(np.clip(np.divide(dots, lengths, out=np.zeros_like(dots), where=lengths > 0), -1.0, 1.0))


def scorer(embedder: Embedder) -> Scorer:
    """The scorer of the task with an embedding."""

    def prepare(reference: np.ndarray, labels: Mapping[str, Any]) -> Truth:
        height, width = reference.shape[:2]
        boxes = _boxes.labelled(labels, (height, width))
        single = boxes is None
        if boxes is None:
            boxes = np.array([[0.0, 0.0, width, height]])
        own = _embedded(embedder, reference, boxes)
        given = labels.get("database")
        database = own if given is None else _database([given] if single else given, own.shape)
        return Truth(boxes, database, cosine(own, database))

    def score(truth: Truth, picture: np.ndarray) -> list[dict[str, Any]]:
        similarity = cosine(_embedded(embedder, picture, truth.boxes), truth.database)
        return [
            {
                **_boxes.row_of(box),
                **{"cosine_ref": float(before), "cosine": float(now), "delta": float(before - now)},
            }
            for box, before, now in zip(truth.boxes, truth.similarity, similarity, strict=True)
        ]

    return Scorer(f"recognise 1: {embedder.definition}", prepare, score, _summarise, _COLUMNS, _SUMMARY)


def embedding(argument: str, picture: np.ndarray) -> list[float]:
    """The embedding of a picture [H, W, 3], RGB, uint8, for the label ``database``.

    Args:
        argument: the task's: an ONNX file, or empty for the platform's own encoder.
        picture: of one person or thing, cut out as the boxes of the samples are.
    """
    height, width = picture.shape[:2]
    return [float(value) for value in _embedded(_embedder(argument), picture, np.array([[0.0, 0.0, width, height]]))[0]]


def _embedded(embedder: Embedder, picture: np.ndarray, boxes: _boxes.Boxes) -> npt.NDArray[np.float64]:
    """Embeddings [N, D] of the objects of a picture."""
    cv2 = require("cv2", "scale pictures for an embedding")
    height, width = (side or _SIDE for side in embedder.size)
    cuts = []
    for box in boxes:
        cut = _boxes.cut(picture, box)
        how = cv2.INTER_AREA if cut.shape[0] > height else cv2.INTER_LINEAR
        cuts.append(cv2.resize(np.ascontiguousarray(cut), (width, height), interpolation=how))
    # one at a time, since a network's batch may be fixed to 1, and results must not depend on the neighbours
    vectors = [embedder.embed(np.moveaxis(cut.astype(np.float32) / np.float32(255), 2, 0)[None].copy()) for cut in cuts]
    return np.concatenate(vectors).astype(np.float64) if vectors else np.empty((0, 0))


def _database(given: Any, shape: tuple[int, ...]) -> npt.NDArray[np.float64]:
    try:
        found = np.array(given, np.float64).reshape(len(given), -1)
    except (TypeError, ValueError) as error:
        raise InvalidSample("label 'database' must be an embedding, or one for each box.") from error
    if found.shape != shape or not np.isfinite(found).all():
        raise InvalidSample(
            f"label 'database' must be finite embeddings of shape {list(shape)}; got {list(found.shape)}. Make them with the "
            "network that the sweep is run with."
        )
    return found


def _summarise(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    count = len(rows)
    means = {name: math.fsum(row[name] for row in rows) / count if count else math.nan for name in ("delta", "cosine")}
    return {**means, "pictures": float(count)}


def _embedder(argument: str) -> Embedder:
    if not argument:
        return _own()
    if argument.endswith(".onnx"):
        return _of_file(open_network(argument, "embed pictures with a network of your own"))
    raise InvalidSetting(
        f"--tasks recognise={argument}: name an embedding network that ends in .onnx, or nothing for the platform's own."
    )


def _of_file(network: Network) -> Embedder:
    def embed(pictures: np.ndarray) -> np.ndarray:
        (vector, *others) = network.run(pictures).values()
        if others or vector.ndim < 2 or len(vector) != len(pictures) or not np.isfinite(vector).all():
            raise InvalidSample(
                f"{network.path} must give one finite vector [B, D]; it gave {[list(vector.shape)]} and {len(others)} more."
            )
        return vector.reshape(len(vector), -1)

    try:  # its outputs are known only once it has run
        embed(np.full((1, 3, network.height or _SIDE, network.width or _SIDE), 0.5, np.float32))
    except InvalidSample as error:
        raise InvalidSetting(str(error)) from error
    return Embedder(f"ONNX {network.digest}", (network.height, network.width), embed)


@functools.cache
def _own() -> Embedder:
    return open_encoder()


task = Task(
    name="recognise",
    title="recognition: cosine delta of an embedding (default: a small encoder fitted by the platform itself)",
    main="delta",
    higher_is_better=False,
    open=lambda argument: scorer(_embedder(argument)),
    fields=("boxes", "database"),
    cost=0.1,
)
