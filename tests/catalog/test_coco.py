"""Annotations in COCO's form come in with their pictures; outlines become the pixels that the reference gives them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from sensorium.catalog import Catalog
from sensorium.catalog import modality as modalities
from sensorium.catalog.importer import Source
from sensorium.catalog.importers import _outlines
from sensorium.catalog.ingest import choose_importer
from tests.catalog.importing import imported, importer, picture, refusal, write

CATEGORIES = [{"id": 7, "name": "dog"}, {"id": 2, "name": "a cat"}]
SQUARE = [[1.0, 1.0, 5.0, 1.0, 5.0, 4.0, 1.0, 4.0]]


def thing(identifier: int = 1, image: int = 1, **changes: Any) -> dict[str, Any]:
    return {"id": identifier, "image_id": image, "category_id": 7, "bbox": [1, 2, 3.5, 4], "area": 9.25} | changes


def document(annotations: list[Any], images: list[Any] | None = None, **changes: Any) -> str:
    one = {"id": 1, "file_name": "a.png", "width": 9, "height": 6}
    return json.dumps({"images": images or [one], "annotations": annotations, "categories": CATEGORIES} | changes)


def source(folder: Path, annotations: list[Any], name: str = "instances.json") -> Path:
    picture(folder / "a.png")
    write(folder / name, document(annotations))
    return folder


def outlined(outline: Any, height: int = 40, width: int = 50) -> np.ndarray:
    canvas = np.zeros((height, width), np.uint8)
    _outlines.paint(canvas, outline, 1)
    return canvas


def test_objects_come_as_they_are_written(tmp_path: Path) -> None:
    crowd = thing(2, category_id=2, iscrowd=1, bbox=[0, 0, 9, 6], area=None)
    sample = imported("coco", source(tmp_path, [thing(), crowd]))["a"]
    assert np.array_equal(sample["image"], np.asarray(Image.open(tmp_path / "a.png")))
    assert sample["boxes"] == [[1.0, 2.0, 3.5, 4.0], [0.0, 0.0, 9.0, 6.0]]
    assert sample["categories"] == ["dog", "a cat"]
    assert sample["category_ids"] == [7, 2]
    assert sample["areas"] == [9.25, None]
    assert sample["iscrowd"] == [False, True]
    assert "labels" not in sample
    assert "split" not in sample


def test_outlines_become_labels_later_ones_over_earlier(tmp_path: Path) -> None:
    everywhere = {"size": [6, 9], "counts": [0, 54]}
    things = [
        thing(1, segmentation=everywhere, category_id=2, iscrowd=1),
        thing(2, segmentation=SQUARE),
        thing(3, segmentation=[]),
    ]
    folder = source(tmp_path, things)
    labels = imported("coco", folder)["a"]["labels"]
    found = importer("coco")
    assert found.attributes is not None
    names = found.attributes(Source(folder))["categories"]
    assert names == ["background", "a cat", "dog"]
    assert labels.dtype == np.uint8
    assert np.array_equal(labels == names.index("dog"), outlined(SQUARE, 6, 9) == 1)
    assert (labels[labels != names.index("dog")] == names.index("a cat")).all()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the reference, which is older than NumPy 2
def test_polygons_are_the_pixels_of_the_reference() -> None:
    mask = pytest.importorskip("pycocotools.mask")
    random = np.random.default_rng(0)
    for _ in range(150):
        height, width = (int(length) for length in random.integers(1, 60, 2))
        polygons = [
            random.uniform(-10, 70, 2 * int(random.integers(3, 9))).round(int(random.integers(0, 3))).tolist()
            for _ in range(random.integers(1, 4))
        ]
        expected = mask.decode(mask.merge(mask.frPyObjects(polygons, height, width)))
        assert np.array_equal(outlined(polygons, height, width), expected), (polygons, height, width)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_run_lengths_are_the_pixels_of_the_reference() -> None:
    mask = pytest.importorskip("pycocotools.mask")
    random = np.random.default_rng(1)
    for _ in range(50):
        height, width = (int(length) for length in random.integers(1, 90, 2))
        blocks = random.random((height // 7 + 1, width // 7 + 1)) > 0.5
        shape = np.asfortranarray(np.kron(blocks, np.ones((7, 7)))[:height, :width].astype(np.uint8))
        packed = mask.encode(shape)
        text = {"size": packed["size"], "counts": packed["counts"].decode()}
        assert np.array_equal(outlined(text, height, width), shape)


def test_known_shapes() -> None:
    assert outlined([[0, 0, 3, 0, 3, 2, 0, 2]], 4, 5).tolist() == [[1, 1, 1, 0, 0]] * 2 + [[0] * 5] * 2
    assert outlined({"size": [2, 3], "counts": [1, 2, 3]}, 2, 3).tolist() == [[0, 1, 0], [1, 0, 0]]
    assert not outlined([[-9, -9, -5, -9, -5, -5]]).any()


@pytest.mark.parametrize(
    ("outline", "says"),
    [
        ([[0, 0, 1]], "three points or more"),
        ([[0, 0, 1, 1, "x", 2]], "no list of numbers"),
        ([[0, 0, 1, 1, 1e300, 2]], "in pixels"),
        ([[0, 0, 1, 1, float("nan"), 2]], "in pixels"),
        ([[0, 0, 1e6, 1e6] * 20], "too long"),
        ({"size": [40, 50], "counts": [1, 2]}, "add up to 3"),
        ({"size": [40, 50], "counts": [-1, 2001]}, "no whole numbers"),
        ({"size": [4, 5], "counts": [20]}, "of size"),
        ({"size": [40, 50], "counts": "\x01"}, "no text of cocoapi's form"),
        ({"size": [40, 50], "counts": "o" * 1000}, "no text of cocoapi's form"),
        ({"size": [40, 50], "counts": "P"}, "cut off"),
        ("polygon", "neither polygons nor run lengths"),
    ],
)
def test_outlines_at_fault_are_refused(outline: Any, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        outlined(outline)


def test_the_published_layout_with_captions_and_key_points(tmp_path: Path) -> None:
    entry = {"id": 1, "file_name": "1.png", "width": 9, "height": 6}
    for split in ("train", "val"):
        picture(tmp_path / f"{split}2017/1.png")
        picture(tmp_path / f"{split}2017/unnamed.png")
        write(tmp_path / f"annotations/instances_{split}2017.json", document([thing()], [entry]))
        said = {"id": 5, "image_id": 1, "caption": f"of {split}"}
        captions = document([said], [entry])
        write(tmp_path / f"annotations/captions_{split}2017.json", captions.replace('"categories"', '"none"'))
        points = [{"id": 7, "name": "dog", "keypoints": ["nose"]}]
        whole = document([thing(keypoints=[1, len(split), 2])], [entry], categories=points)
        write(tmp_path / f"annotations/person_keypoints_{split}2017.json", whole)
    assert choose_importer(Source(tmp_path)).name == "coco"
    samples = imported("coco", tmp_path)
    assert {name: (sample["split"], sample["captions"]) for name, sample in samples.items()} == {
        "train2017/1": ("train", ["of train"]),
        "val2017/1": ("val", ["of val"]),
    }
    assert all(sample["categories"] == ["dog"] for sample in samples.values())
    assert [samples[f"{split}2017/1"]["keypoints"] for split in ("train", "val")] == [[[[1, 5, 2]]], [[[1, 3, 2]]]]
    upwards = [entry | {"file_name": "../val2017/1.png"}]
    write(tmp_path / "annotations/instances_val2017.json", document([thing()], upwards))
    single = imported("coco", tmp_path / "annotations/instances_val2017.json")
    assert list(single) == ["val2017/1"]


def test_key_points_come_with_their_names_and_skeleton(tmp_path: Path, catalog: Catalog) -> None:
    folder = tmp_path / "in"
    picture(folder / "a.png")
    kinds = [{"id": 7, "name": "dog", "keypoints": ["nose", "tail"], "skeleton": [[2, 1]]}, {"id": 2, "name": "cat"}]
    things = [thing(1, keypoints=[1.5, 2, 2, 0, 0, 0], num_keypoints=1), thing(2, category_id=2), thing(3)]
    write(folder / "points.json", document(things, categories=kinds))
    assert catalog.ingest(folder, "things").added == 1
    assert catalog["things"].attributes["skeletons"] == {"dog": {"names": ["nose", "tail"], "edges": [[1, 0]]}}
    assert catalog["things"].select()["a"]["keypoints"] == [[[1.5, 2, 2], [0, 0, 0]], [], []]


@pytest.mark.parametrize("skeleton", [[[0, 1]], [[1, 3]], [1, 2], [["a", "b"]], "nose-tail"])
def test_skeletons_at_fault_are_refused(tmp_path: Path, skeleton: Any) -> None:
    picture(tmp_path / "a.png")
    kinds = [{"id": 7, "name": "dog", "keypoints": ["nose", "tail"], "skeleton": skeleton}]
    write(tmp_path / "points.json", document([thing()], categories=kinds))
    assert "category 'dog' has key points of no known form" in refusal("coco", tmp_path)


@pytest.mark.parametrize("points", [[1, 2], [1, 2, 2], [1, 2, 2, 1, 2, float("inf")], [1, 2, 2, 1, 2, "x"], {"x": 1}])
def test_key_points_at_fault_cost_their_own_picture(tmp_path: Path, points: Any) -> None:
    picture(tmp_path / "a.png")
    kinds = [{"id": 7, "name": "dog", "keypoints": ["nose", "tail"]}]
    write(tmp_path / "points.json", document([thing(keypoints=points)], categories=kinds))
    assert "keypoints must be 6 finite numbers" in refusal("coco", tmp_path)


def test_pictures_of_ragged_sizes_in_folders_with_strange_names(tmp_path: Path) -> None:
    names = ["Übung 1/ä b.png", "Übung 1/c.png", "日本/c.png"]
    for index, name in enumerate(names):
        picture(tmp_path / name, np.full((index + 2, 5, 3), index, np.uint8))
    images = [{"id": f"n{index}", "file_name": name} for index, name in enumerate(names)]
    write(tmp_path / "all.json", document([thing(image="n1")], images))  # type: ignore[arg-type]
    samples = imported("coco", tmp_path)
    assert set(samples) == {"Übung 1/ä b", "Übung 1/c", "日本/c"}
    assert [len(samples[name]["boxes"]) for name in ("Übung 1/ä b", "Übung 1/c", "日本/c")] == [0, 1, 0]
    assert samples["日本/c"]["image"].shape == (4, 5, 3)


def test_it_is_found_by_content(tmp_path: Path) -> None:
    source(tmp_path, [thing()])
    assert choose_importer(Source(tmp_path)).name == "coco"
    assert choose_importer(Source(tmp_path / "instances.json")).name == "coco"
    write(tmp_path / "instances.json", '{"images": [], "frames": []}')
    assert choose_importer(Source(tmp_path)).name == "image_folder"


def test_a_second_import_adds_nothing_and_the_preview_draws(tmp_path: Path, catalog: Catalog) -> None:
    folder = source(tmp_path / "in", [thing(segmentation=SQUARE)])
    picture(folder / "b.png")
    two = [{"id": index, "file_name": f"{name}.png"} for index, name in enumerate("ab")]
    write(folder / "instances.json", document([thing(image=0, segmentation=SQUARE)], two))
    assert catalog.ingest(folder, "things").added == 2
    report = catalog.ingest(folder, "things")
    assert (report.added, report.skipped, report.failed) == (0, 2, [])
    dataset = catalog["things"]
    assert dataset.verify().is_empty()
    assert dataset.attributes["categories"] == ["background", "a cat", "dog"]
    sample = dataset.select()["a"]
    assert sample["boxes"] == [[1.0, 2.0, 3.5, 4.0]]
    drawing = modalities.get("image").preview
    assert drawing is not None
    drawing(Figure().subplots(), sample)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"bbox": [1, 2, 3]}, "four finite numbers"),
        ({"bbox": [1, 2, 3, float("nan")]}, "four finite numbers"),
        ({"bbox": [1, 2, 3, 10**400]}, "four finite numbers"),
        ({"category_id": 3}, "none of the categories"),
        ({"category_id": [3]}, "none of the categories"),
        ({"area": "big"}, "area must be"),
        ({"segmentation": [[1, 2]]}, "three points"),
        ({"segmentation": {"size": [600000, 900000], "counts": [540000000000]}}, "of size"),
    ],
)
def test_an_object_at_fault_costs_its_own_picture(tmp_path: Path, change: dict[str, Any], says: str) -> None:
    text = refusal("coco", source(tmp_path, [thing(42, **change)]))
    assert text.startswith(f"{tmp_path / 'a.png'}: object 42 of {tmp_path / 'instances.json'}: ")
    assert says in text


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "has no JSON file"),
        (document([thing()])[:-30], "is no JSON file"),
        ('{"images": [' + '{"file_name": [' + "[" * 100_000, "has no JSON file"),
        ('{"images": [{"file_name": 1}], "annotations": []' + ', "x": ' + "[" * 100_000, "is no JSON file"),
        (document([thing()], images=[{"id": 1}, {"file_name": "a.png"}]), "no id or file_name"),
        (document([thing()], images=[{"id": 1, "file_name": "a.png"}] * 2), "there twice"),
        (document([thing()], images=[{"id": 1, "file_name": "../../etc/passwd"}]), "none of the 1 pictures"),
        (document([1, 2]), "no list of objects"),
        (document([thing()], categories=[{"id": "x"}]), "no number or name"),
    ],
)
def test_files_at_fault_are_refused(tmp_path: Path, content: str, says: str) -> None:
    picture(tmp_path / "a.png")
    write(tmp_path / "instances.json", content)
    assert says in refusal("coco", tmp_path)


def test_pictures_at_fault_are_named(tmp_path: Path) -> None:
    folder = source(tmp_path, [thing()])
    write(folder / "instances.json", document([thing()], [{"id": 1, "file_name": "a.png", "width": 6, "height": 9}]))
    assert "has 9 x 6 pixels" in refusal("coco", folder)
    images = [{"id": 1, "file_name": "a.png"}, {"id": 2, "file_name": "gone.png"}]
    write(folder / "instances.json", document([thing()], images))
    assert "there is no such picture" in refusal("coco", folder)
    write(folder / "a.png", b"")
    assert "cannot be decoded" in refusal("coco", folder)
    assert "max_bytes=" in refusal("coco", folder, max_bytes="10")


def test_objects_of_a_picture_come_from_one_file(tmp_path: Path) -> None:
    folder = source(tmp_path, [thing()])
    write(folder / "again.json", document([thing()]))
    assert "has objects here and in" in refusal("coco", folder)
    write(folder / "again.json", document([], [{"id": 1, "file_name": "b.png"}], categories=[{"id": 7, "name": "cow"}]))
    assert "category 7 is" in refusal("coco", folder)
