"""Annotations of Pascal VOC come in with pictures, labels and splits; XML that means harm is refused."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from sensorium.catalog import Catalog
from sensorium.catalog import modality as modalities
from sensorium.catalog.importer import Source
from sensorium.catalog.ingest import choose_importer
from sensorium.platform.errors import InvalidSetting
from tests.catalog.importing import imported, importer, picture, refusal, write

BOMB = (
    '<!DOCTYPE a [<!ENTITY x "xxxxxxxxxx"><!ENTITY y "&x;&x;&x;&x;">]><annotation><filename>&y;</filename></annotation>'
)


def annotations(
    path: Path, *boxes: tuple[float, ...], name: str = "dog", size: tuple[int, int] | None = (9, 6), **flags: int
) -> Path:
    """Write a file of annotations, an object for each box of four corners."""
    root = ElementTree.Element("annotation")
    ElementTree.SubElement(root, "filename").text = f"{path.stem}.jpg"
    if size is not None:
        sizes = ElementTree.SubElement(root, "size")
        for axis, length in zip(("width", "height"), size, strict=True):
            ElementTree.SubElement(sizes, axis).text = str(length)
    for box in boxes:
        entry = ElementTree.SubElement(root, "object")
        ElementTree.SubElement(entry, "name").text = name
        for flag, value in flags.items():
            ElementTree.SubElement(entry, flag).text = str(value)
        corners = ElementTree.SubElement(entry, "bndbox")
        for corner, value in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=False):
            ElementTree.SubElement(corners, corner).text = str(value)
    path.parent.mkdir(parents=True, exist_ok=True)
    ElementTree.ElementTree(root).write(path)
    return path


def year(folder: Path, *names: str) -> Path:
    for name in names or ("a",):
        picture(folder / f"JPEGImages/{name}.jpg")
        annotations(folder / f"Annotations/{name}.xml", (1, 1, 9, 6), (2, 3, 2, 3), difficult=1)
    return folder


def test_boxes_count_from_zero_and_have_a_size(tmp_path: Path) -> None:
    sample = imported("voc", year(tmp_path))["Annotations/a"]
    assert np.array_equal(sample["image"], np.asarray(Image.open(tmp_path / "JPEGImages/a.jpg")))
    assert sample["boxes"] == [[0, 0, 9, 6], [1, 2, 1, 1]]
    assert sample["categories"] == ["dog", "dog"]
    assert sample["difficult"] == [True, True]
    assert sample["truncated"] == sample["occluded"] == [False, False]
    zero = imported("voc", tmp_path, first_pixel="0")["Annotations/a"]
    assert zero["boxes"] == [[1, 1, 8, 5], [2, 3, 0, 0]]
    with pytest.raises(InvalidSetting, match="first_pixel"):
        imported("voc", tmp_path, first_pixel="2")


def test_labels_and_splits_of_the_published_layout(tmp_path: Path) -> None:
    one = year(tmp_path / "VOC2012", "a", "b", "c")
    year(tmp_path / "VOC2007", "a")
    labels = Image.fromarray(np.arange(54, dtype=np.uint8).reshape(6, 9) % 21).convert("P")
    labels.putpalette(list(range(256)) * 3)
    (one / "SegmentationClass").mkdir()
    labels.save(one / "SegmentationClass/b.png")
    write(one / "ImageSets/Main/train.txt", "a\n")
    write(one / "ImageSets/Main/trainval.txt", "a\nb\nc\n")
    write(one / "ImageSets/Main/val.txt", "b 1\n")
    assert choose_importer(Source(tmp_path)).name == "voc"
    samples = imported("voc", tmp_path)
    assert {name: sample.get("split") for name, sample in samples.items()} == {
        "VOC2012/Annotations/a": "train",
        "VOC2012/Annotations/b": "val",
        "VOC2012/Annotations/c": "trainval",
        "VOC2007/Annotations/a": None,
    }
    assert np.array_equal(samples["VOC2012/Annotations/b"]["labels"], np.asarray(labels))
    assert samples["VOC2012/Annotations/b"]["labels"].dtype == np.uint8
    assert "labels" not in samples["VOC2012/Annotations/a"]


def test_values_of_labels_are_named_where_the_classes_are_known(tmp_path: Path) -> None:
    from sensorium.catalog.importers import voc

    found = importer("voc")
    assert found.attributes is not None
    year(tmp_path)
    assert found.attributes(Source(tmp_path)) == {}
    for name in voc._CLASSES[1:]:
        write(tmp_path / f"ImageSets/Main/{name}_val.txt", "a  1\n")
    names = found.attributes(Source(tmp_path))["categories"]
    assert (names[0], names[15], len(names)) == ("background", "person", 21)


def test_files_beside_pictures_of_ragged_sizes_with_strange_names(tmp_path: Path) -> None:
    for index, name in enumerate(["Übung 1/ä b", "日本/c"]):
        picture(tmp_path / f"{name}.PNG", np.zeros((index + 2, 5, 3), np.uint8))
        annotations(tmp_path / f"{name}.xml", *[(1, 1, 2, 2)] * index, size=None)
    picture(tmp_path / "日本/alone.png")
    assert choose_importer(Source(tmp_path)).name == "voc"
    samples = imported("voc", tmp_path)
    assert {name: (sample["image"].shape, len(sample["boxes"])) for name, sample in samples.items()} == {
        "Übung 1/ä b": ((2, 5, 3), 0),
        "日本/c": ((3, 5, 3), 1),
    }


def test_other_xml_is_not_claimed(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    write(tmp_path / "a.xml", "<?xml version='1.0'?><notes/>")
    assert choose_importer(Source(tmp_path)).name == "image_folder"
    assert importer("voc").matches(Source(tmp_path / "a.xml")) == 0
    assert "no XML file" in refusal("voc", tmp_path)


def test_a_second_import_adds_nothing_and_the_preview_draws(tmp_path: Path, catalog: Catalog) -> None:
    folder = year(tmp_path / "in", "a", "b c")
    assert catalog.ingest(folder, "things").added == 2
    report = catalog.ingest(folder, "things")
    assert (report.added, report.skipped, report.failed) == (0, 2, [])
    assert catalog["things"].verify().is_empty()
    sample = catalog["things"].select()["Annotations/b c"]
    assert sample["boxes"] == [[0, 0, 9, 6], [1, 2, 1, 1]]
    drawing = modalities.get("image").preview
    assert drawing is not None
    drawing(Figure().subplots(), sample)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (BOMB, "DTDForbidden"),
        (BOMB.replace('"xxxxxxxxxx"', 'SYSTEM "file:///etc/passwd"'), "DTDForbidden"),
        ("<annotation><filename>a", "no plain XML"),
        ("<annotation><filename/></annotation><more/>", "no plain XML"),
        ("<other><annotation><filename/></annotation></other>", "is about 'other'"),
        ("<annotation><object/></annotation>", "no box of four numbers"),
        ("<annotation><filename/>" + " " * 10_000_001 + "</annotation>", "bytes, more than"),
        ("<annotation><filename/>" + "<a>" * 100_000, "no plain XML"),
    ],
)
def test_xml_at_fault_is_refused(tmp_path: Path, content: str, says: str) -> None:
    path = write(year(tmp_path) / "Annotations/a.xml", content)
    text = refusal("voc", tmp_path)
    assert text.startswith(f"{path}: ")
    assert says in text


@pytest.mark.parametrize("box", [(1, 2, 3), (1, 2, 3, float("nan")), (1, 2, 3, 1e999), (5, 1, 4, 2)])
def test_boxes_at_fault_are_refused(tmp_path: Path, box: tuple[float, ...]) -> None:
    annotations(year(tmp_path) / "Annotations/a.xml", box)
    assert "box" in refusal("voc", tmp_path)


def test_pictures_at_fault_are_refused(tmp_path: Path) -> None:
    path = year(tmp_path) / "JPEGImages/a.jpg"
    annotations(tmp_path / "Annotations/a.xml", name="", size=(6, 9))
    assert "a.jpg has 9 x 6" in refusal("voc", tmp_path)
    annotations(tmp_path / "Annotations/a.xml", (1, 1, 2, 2), name="")
    assert "object 1 has no name" in refusal("voc", tmp_path)
    write(path, path.read_bytes()[:200])
    assert "cannot be decoded" in refusal("voc", tmp_path)
    path.unlink()
    assert "there is no picture a in JPEGImages" in refusal("voc", tmp_path)
    write(tmp_path / "Annotations/a.xml", "")
    assert "no XML file" in refusal("voc", tmp_path)
