"""The task of recognising: equations 1 and 2 against a plain transcription, embeddings in files, the platform's own."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skimage.data
import torch

from sensorium.jobs import codecs, machine_tasks
from sensorium.jobs.codecs import Picture
from sensorium.jobs.machine_tasks import _encoder
from sensorium.jobs.machine_tasks._encoder import Embedder, open_encoder
from sensorium.jobs.machine_tasks.recognise import cosine, embedding, scorer
from sensorium.platform.errors import CorruptData, InvalidSample, InvalidSetting

onnx = pytest.importorskip("onnx")

PICTURE = np.ascontiguousarray(skimage.data.astronaut()[:120, 150:290])


def colours() -> Embedder:
    """The mean and the spread of each colour."""

    def embed(pictures: np.ndarray) -> np.ndarray:
        return np.concatenate([pictures.mean(axis=(2, 3)), pictures.std(axis=(2, 3))], axis=1)

    return Embedder("colours", (16, 16), embed)


def similarity(one: Any, other: Any) -> float:
    """Equation 1, in plain numbers."""
    dot = sum(a * b for a, b in zip(one, other, strict=True))
    return float(dot / (math.sqrt(sum(a * a for a in one)) * math.sqrt(sum(b * b for b in other))))


def small(picture: np.ndarray) -> np.ndarray:
    """What ``colours`` sees of a picture."""
    import cv2

    scaled = cv2.resize(picture, (16, 16), interpolation=cv2.INTER_AREA) / np.float32(255)
    return np.concatenate([scaled.mean(axis=(0, 1)), scaled.std(axis=(0, 1))])


def darker(picture: np.ndarray) -> np.ndarray:
    return (picture * np.array([0.3, 0.6, 0.9])).astype(np.uint8)


def test_the_delta_is_that_of_equation_2() -> None:
    database = [0.5, 0.1, 0.4, 0.2, 0.2, 0.9]
    task = scorer(colours())
    (row,) = task.score(task.prepare(PICTURE, {"database": database}), darker(PICTURE))
    before, now = similarity(small(PICTURE), database), similarity(small(darker(PICTURE)), database)
    assert row["cosine_ref"] == pytest.approx(before, abs=1e-5)
    assert row["cosine"] == pytest.approx(now, abs=1e-5)
    assert row["delta"] == pytest.approx(before - now, abs=1e-5)
    assert task.summarise([row]) == pytest.approx({"delta": row["delta"], "cosine": row["cosine"], "pictures": 1})


def test_without_a_database_the_reference_stands_for_it() -> None:
    task = scorer(colours())
    truth = task.prepare(PICTURE, {"boxes": None, "database": None})
    (row,) = task.score(truth, darker(PICTURE))
    assert row["delta"] == pytest.approx(1 - similarity(small(PICTURE), small(darker(PICTURE))), abs=1e-5)
    (same,) = task.score(truth, PICTURE)
    assert same["delta"] == 0
    assert (same["width"], same["height"]) == (140, 120)


def test_boxes_are_objects_by_themselves() -> None:
    task = scorer(colours())
    boxes = [[0, 0, 40, 40], [60, 30, 50, 80]]
    spoilt = PICTURE.copy()
    spoilt[30:110, 60:110] = darker(spoilt[30:110, 60:110])
    rows = task.score(task.prepare(PICTURE, {"boxes": boxes}), spoilt)
    assert rows[0]["delta"] == 0
    assert rows[1]["delta"] > 0.001
    assert task.score(task.prepare(PICTURE, {"boxes": []}), spoilt) == []
    assert math.isnan(task.summarise([])["delta"])


@pytest.mark.parametrize("database", ["text", [1.0, 2.0], [math.nan] * 6, 5])
def test_a_database_that_does_not_fit_is_refused(database: Any) -> None:
    with pytest.raises(InvalidSample):
        scorer(colours()).prepare(PICTURE, {"database": database})


def test_a_vector_of_length_0_is_like_nothing() -> None:
    assert cosine(np.zeros((1, 3)), np.ones((1, 3))).tolist() == [0.0]


# -- embeddings in files -----------------------------------------------------------------------------------------------


def network(path: Path, operator: str, sides: tuple[Any, Any] = (24, 16), channels: int = 3) -> Path:
    """An ONNX file of one operator over the picture's rows and columns."""
    helper, kinds = onnx.helper, onnx.TensorProto
    images = helper.make_tensor_value_info("images", kinds.FLOAT, ["b", channels, *sides])
    vector = helper.make_tensor_value_info("vector", kinds.FLOAT, None)
    graph = helper.make_graph([helper.make_node(operator, ["images"], ["vector"])], "one", [images], [vector])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    onnx.save(model, path)
    return path


def test_an_embedding_from_a_file(tmp_path: Path) -> None:
    path = network(tmp_path / "mean.onnx", "GlobalAveragePool")
    _, task = machine_tasks.open_task(f"recognise={path}")
    (row,) = task.score(task.prepare(PICTURE, {}), darker(PICTURE))
    one, other = embedding(str(path), PICTURE), embedding(str(path), darker(PICTURE))
    assert one == pytest.approx((PICTURE / 255).mean(axis=(0, 1)).tolist(), abs=0.01)
    assert row["cosine"] == pytest.approx(similarity(one, other), abs=1e-6)


def test_files_that_are_no_embedding_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidSetting, match=r"B, 3, H, W"):
        machine_tasks.open_task(f"recognise={network(tmp_path / 'grey.onnx', 'GlobalAveragePool', channels=1)}")
    with pytest.raises(InvalidSetting, match="finite"):
        machine_tasks.open_task(f"recognise={network(tmp_path / 'log.onnx', 'Acosh')}")
    for argument in ("model.pt", str(tmp_path / "missing.onnx")):
        with pytest.raises(InvalidSetting):
            machine_tasks.open_task(f"recognise={argument}")


# -- the platform's own ------------------------------------------------------------------------------------------------


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A cache of its own and few steps."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(_encoder, "_STEPS", 25)
    return tmp_path / "sensorium"


def test_the_own_encoder_is_fitted_once_and_always_the_same(quick: Path) -> None:
    state = torch.random.get_rng_state()
    first = open_encoder()
    (path,) = quick.iterdir()
    written = path.stat().st_mtime_ns
    assert open_encoder().definition == first.definition
    assert path.stat().st_mtime_ns == written
    path.unlink()
    assert open_encoder().definition == first.definition
    assert torch.equal(torch.random.get_rng_state(), state)
    assert "fitted here" in first.definition


def test_the_own_encoder_learns_to_tell_places_apart(quick: Path) -> None:
    import sensorium.jobs.machine_tasks._encoder as own

    fitted = open_encoder()
    torch.manual_seed(0)
    fresh = own._network(torch)
    pairs = own._pairs(np.random.default_rng(5), own._photographs())
    with torch.no_grad():
        before = float(own._loss(torch, fresh, pairs))
        after = float(own._loss(torch, lambda pictures: torch.from_numpy(fitted.embed(pictures.numpy())), pairs))
    assert after < before - 0.5


def test_a_damaged_cache_is_named(quick: Path) -> None:
    open_encoder()
    (path,) = quick.iterdir()
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CorruptData, match="damaged"):
        open_encoder()


def test_stronger_compression_goes_further_from_the_reference(quick: Path) -> None:
    task, codec = scorer(open_encoder()), codecs.get("jpeg")
    picture = Picture.of(PICTURE)
    truth = task.prepare(PICTURE, {})
    deltas = [
        task.score(truth, codec.decode(codec.encode(picture, quality).data, picture.size))[0]["delta"]
        for quality in (95, 5)
    ]
    assert 0 <= deltas[0] < deltas[1]
