"""The task of finding objects: overlaps and matches against brute force, real cascades, networks made on the spot."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import skimage.data
from hypothesis import given
from hypothesis import strategies as st

from sensorium.jobs import codecs, image_metrics, machine_tasks
from sensorium.jobs.codecs import Picture
from sensorium.jobs.machine_quality.cells import Cell, Measures, Subject, content_hash, evaluate
from sensorium.jobs.machine_tasks import _boxes
from sensorium.jobs.machine_tasks._detections import Detections, Detector
from sensorium.jobs.machine_tasks.detect import scorer
from sensorium.platform.errors import InvalidSample, InvalidSetting

onnx = pytest.importorskip("onnx")

_BOX = st.tuples(st.integers(0, 12), st.integers(0, 12), st.integers(1, 9), st.integers(1, 9))


# -- geometry ----------------------------------------------------------------------------------------------------------


def pixels(box: tuple[int, ...]) -> set[tuple[int, int]]:
    x, y, width, height = box
    return {(column, row) for column in range(x, x + width) for row in range(y, y + height)}


@given(st.lists(_BOX, max_size=4), st.lists(_BOX, max_size=4))
def test_iou_counts_pixels(ones: list[tuple[int, ...]], others: list[tuple[int, ...]]) -> None:
    found = _boxes.iou(np.array(ones, float).reshape(-1, 4), np.array(others, float).reshape(-1, 4))
    expected = [[len(pixels(a) & pixels(b)) / len(pixels(a) | pixels(b)) for b in others] for a in ones]
    np.testing.assert_allclose(found, np.array(expected).reshape(len(ones), len(others)), atol=1e-12)


@given(st.lists(st.lists(st.integers(0, 4), min_size=3, max_size=3), max_size=4))
def test_matching_takes_the_best_pair_that_is_left(rows: list[list[int]]) -> None:
    overlaps = np.array(rows, float).reshape(-1, 3) / 4
    pairs = sorted((-overlaps[r, c], r, c) for r in range(len(rows)) for c in range(3))
    expected: list[int | None] = [None] * len(rows)
    taken: set[int] = set()
    for value, row, column in pairs:
        if value < 0 and expected[row] is None and column not in taken:
            expected[row] = column
            taken.add(column)
    assert _boxes.matched(overlaps) == expected


@pytest.mark.parametrize(
    "boxes",
    [
        "1 2 3 4",
        [1, 2, 3, 4],
        [[1, 2, 3]],
        [[1, 2, 0, 4]],
        [[1, 2, math.nan, 4]],
        [[200, 2, 3, 4]],
        [{"x": 1, "y": 2}],
        7,
    ],
)
def test_labels_that_are_no_boxes_are_refused(boxes: Any) -> None:
    with pytest.raises(InvalidSample):
        _boxes.labelled({"boxes": boxes}, (100, 100))


def test_labels_are_lists_or_structs_and_end_at_the_picture() -> None:
    struct = {"x": -5, "y": 90, "width": 10, "height": 20}
    found = _boxes.labelled({"boxes": [[1, 2, 3, 4], struct]}, (100, 100))
    assert found is not None
    assert found.tolist() == [[1, 2, 3, 4], [0, 90, 5, 10]]
    assert _boxes.labelled({"boxes": None}, (100, 100)) is None


# -- the definition ----------------------------------------------------------------------------------------------------


def told(*answers: list[tuple[float, ...]]) -> Detector:
    """A detector that gives these boxes with scores (x, y, w, h, score) one call after the other."""
    waiting = iter(answers)

    def find(picture: np.ndarray) -> Detections:
        rows = np.array(next(waiting), float).reshape(-1, 5)
        return Detections(rows[:, :4], rows[:, 4], np.zeros(len(rows), np.int64))

    return Detector("told", find, 0.5)


BLANK = np.zeros((50, 50, 3), np.uint8)


def test_delta_object_iou_as_the_paper_defines_it() -> None:
    reference = [(0.0, 0, 10, 10, 0.9), (20.0, 20, 10, 10, 0.9)]
    compressed = [(0.0, 5, 10, 10, 0.8)]
    task = scorer(told(reference, compressed))
    rows = task.score(task.prepare(BLANK, {"boxes": [[0, 0, 10, 20], [20, 20, 10, 10], [40, 40, 5, 5]]}), BLANK)
    assert [row["iou_ref"] for row in rows] == [0.5, 1.0, 0.0]
    assert [row["iou"] for row in rows] == [0.5, 0.0, 0.0]
    assert [row["delta_iou"] for row in rows] == [0.0, 1.0, 0.0]
    assert [row["unmatched"] for row in rows] == [False, True, True]
    assert rows[0]["found_y"] == 5
    assert rows[1]["found_x"] is None
    # the third object is missed in the reference: it is no loss of compression's
    expected = {"delta_iou": 0.5, "mean_iou": 1 / 6, "mean_iou_ref": 0.5, "objects": 3}
    assert task.summarise(rows) == pytest.approx(expected)


def test_without_labels_the_truth_is_what_the_detector_is_sure_of() -> None:
    task = scorer(told([(0.0, 0, 10, 10, 0.9), (20.0, 20, 10, 10, 0.4)], []))
    rows = task.score(task.prepare(BLANK, {"boxes": None}), BLANK)
    assert [(row["x"], row["iou_ref"], row["delta_iou"]) for row in rows] == [(0, 1, 1)]


def test_no_objects_give_no_number() -> None:
    task = scorer(told([], []))
    rows = task.score(task.prepare(BLANK, {}), BLANK)
    assert rows == []
    summary = task.summarise(rows)
    assert math.isnan(summary["delta_iou"])
    assert summary["objects"] == 0


# -- the bundled cascade -----------------------------------------------------------------------------------------------


def test_a_real_face_is_found_and_lost_by_compression() -> None:
    picture = np.ascontiguousarray(skimage.data.astronaut())
    _, task = machine_tasks.open_task("detect=cascade:frontalface_alt2")
    truth = task.prepare(picture, {})
    assert len(truth.boxes) == 1
    x, y, width, height = truth.boxes[0]
    assert 150 < x + width / 2 < 300
    assert 50 < y + height / 2 < 200
    (same,) = task.score(truth, picture)
    assert (same["iou"], same["delta_iou"]) == (1.0, 0.0)
    (lost,) = task.score(truth, np.full_like(picture, 128))
    assert (lost["unmatched"], lost["delta_iou"]) == (True, 1.0)


def test_a_cell_of_a_sweep_has_the_numbers_and_rows_of_the_task() -> None:
    measures = Measures.open(("psnr",), ("detect=cascade:frontalface_alt2",))
    picture = np.ascontiguousarray(skimage.data.astronaut()[:256, 100:356])
    subject = Subject("face", [Picture.of(picture)], {})
    (result,) = evaluate(subject, [Cell(content_hash(picture), "jpeg", 40)], measures)
    assert result.row["error"] is None
    assert result.row["detect_objects"] == 1
    (row,) = result.objects["detect"]
    assert row["delta_iou"] == pytest.approx(result.row["detect_delta_iou"])
    schema = pa.schema([(name, pa.type_for_alias(kind)) for name, kind in measures.tasks[0][1].columns.items()])
    assert pa.Table.from_pylist(result.objects["detect"], schema=schema).num_rows == 1
    assert image_metrics.get("psnr").higher_is_better
    assert codecs.get("jpeg").best > 0


@pytest.mark.parametrize("argument", ["cascade:nothing", "faces", "model.pt", "missing.onnx"])
def test_a_detector_that_is_not_there_is_refused(argument: str) -> None:
    with pytest.raises(InvalidSetting):
        machine_tasks.open_task(f"detect={argument}")


# -- detectors in files ------------------------------------------------------------------------------------------------


def network(path: Path, outputs: dict[str, np.ndarray], sides: tuple[Any, Any] = ("h", "w")) -> Path:
    """An ONNX file that gives constants, times a one that depends on the picture (its mean over itself)."""
    helper, kinds = onnx.helper, onnx.TensorProto
    nodes, results = [], []
    for name, value in outputs.items():
        constant = onnx.numpy_helper.from_array(value.astype(np.float32))
        nodes += [
            helper.make_node("Constant", [], [f"{name}_value"], value=constant),
            helper.make_node("ReduceMax", ["images"], [f"{name}_max"], keepdims=0),
            helper.make_node("Ceil", [f"{name}_max"], [f"{name}_one"]),
            helper.make_node("Mul", [f"{name}_value", f"{name}_one"], [name]),
        ]
        results.append(helper.make_tensor_value_info(name, kinds.FLOAT, list(value.shape)))
    images = helper.make_tensor_value_info("images", kinds.FLOAT, [1, 3, *sides])
    graph = helper.make_graph(nodes, "constants", [images], results)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    onnx.save(model, path)
    return path


PICTURE = np.full((100, 200, 3), 200, np.uint8)


def found(path: Path) -> list[list[float]]:
    _, task = machine_tasks.open_task(f"detect={path}")
    return [[float(value) for value in box] for box in task.prepare(PICTURE, {}).boxes]


def test_boxes_and_scores_of_a_file(tmp_path: Path) -> None:
    boxes = np.array([[10, 20, 30, 60], [0, 0, 5, 5], [150, 50, 400, 90]])
    path = network(tmp_path / "plain.onnx", {"boxes": boxes, "scores": np.array([0.9, 0.1, 0.8])})
    assert found(path) == [[10, 20, 20, 40], [150, 50, 50, 40]]
    batched = {"boxes": boxes[None], "scores": np.array([[0.9, 0.1, 0.8]]), "labels": np.array([[1, 2, 3]])}
    assert found(network(tmp_path / "batched.onnx", batched)) == [[10, 20, 20, 40], [150, 50, 50, 40]]


def test_a_file_of_fixed_size_sees_the_picture_scaled(tmp_path: Path) -> None:
    # 100 x 200 is laid in 64 x 64 at scale 0.32
    outputs = {"boxes": np.array([[3.2, 6.4, 9.6, 19.2]]), "scores": np.array([0.9])}
    (box,) = found(network(tmp_path / "fixed.onnx", outputs, (64, 64)))
    assert box == pytest.approx([10, 20, 20, 40], abs=1e-4)


def test_the_layout_of_yolo(tmp_path: Path) -> None:
    candidates = np.zeros((1, 6, 4))  # two classes
    candidates[0, :4] = np.array([[20, 40, 20, 40], [21, 40, 20, 40], [20, 40, 20, 40], [100, 50, 10, 10]]).T
    candidates[0, 4:] = np.array([[0.9, 0], [0.8, 0], [0, 0.7], [0.2, 0.1]]).T
    # the second is the first once more, the third another class, the fourth unsure
    assert found(network(tmp_path / "yolo.onnx", {"output0": candidates})) == [[10, 20, 20, 40], [10, 20, 20, 40]]


@pytest.mark.parametrize(
    "outputs",
    [
        {"boxes": np.zeros((3, 4))},
        {"boxes": np.zeros((3, 5)), "scores": np.zeros(3)},
        {"boxes": np.zeros((3, 4)), "scores": np.zeros(2)},
        {"boxes": np.zeros((3, 4)), "scores": np.zeros(3), "classes": np.zeros(2)},
        {"output0": np.zeros((1, 4, 8))},
        {"output0": np.zeros((2, 6, 8))},
        {"one": np.zeros((1, 6, 8)), "two": np.zeros(1)},
        {"boxes": np.full((1, 4), np.nan), "scores": np.ones(1)},
    ],
)
def test_a_file_that_gives_something_else_is_refused(tmp_path: Path, outputs: dict[str, np.ndarray]) -> None:
    path = network(tmp_path / "other.onnx", outputs)
    with pytest.raises(InvalidSetting, match=r"other\.onnx"):
        machine_tasks.open_task(f"detect={path}")


def test_a_file_that_is_no_network_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "broken.onnx"
    path.write_bytes(b"not a network")
    with pytest.raises(InvalidSetting, match="no ONNX file"):
        machine_tasks.open_task(f"detect={path}")


def test_the_definition_names_the_file_by_its_content(tmp_path: Path) -> None:
    outputs = {"boxes": np.ones((1, 4)), "scores": np.ones(1)}
    one, other = network(tmp_path / "a.onnx", outputs), network(tmp_path / "b.onnx", outputs)
    definitions = [machine_tasks.open_task(f"detect={path}")[1].definition for path in (one, other)]
    assert definitions[0] == definitions[1]
    network(other, {"boxes": np.ones((2, 4)), "scores": np.ones(2)})
    assert machine_tasks.open_task(f"detect={other}")[1].definition != definitions[0]
