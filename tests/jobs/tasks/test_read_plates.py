"""The task of reading plates: the Jaro similarity against its formula, plates that Tesseract reads and loses."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensorium.catalog.importer import GROUP, Importer, Source
from sensorium.jobs import codecs, machine_tasks
from sensorium.jobs.codecs import Picture
from sensorium.jobs.machine_tasks import _tesseract
from sensorium.jobs.machine_tasks._tesseract import Reader, open_tesseract
from sensorium.jobs.machine_tasks.plates import crop, normalised, scorer, similarity
from sensorium.platform import plugins
from sensorium.platform.errors import InvalidSample, InvalidSetting, MissingDependency

needs_tesseract = pytest.mark.skipif(
    shutil.which("tesseract") is None, reason="the program tesseract is not installed (apt-get install tesseract-ocr)"
)


def jaro(one: str, other: str) -> float:
    """The paper's formula (section 4.5), with Jaro's rule for which characters match."""
    window = max(len(one), len(other)) // 2 - 1
    used: set[int] = set()
    first = []
    for place, letter in enumerate(one):
        for there, same in enumerate(other):
            if letter == same and abs(place - there) <= max(0, window) and there not in used:
                used.add(there)
                first.append(letter)
                break
    second = [other[place] for place in sorted(used)]
    matching = len(first)
    if matching == 0:
        return 0.0
    half = sum(a != b for a, b in zip(first, second, strict=True)) // 2
    return (matching / len(one) + matching / len(other) + (matching - half) / matching) / 3


@given(st.text("AB1", max_size=7), st.text("AB1", max_size=7))
def test_similarity_is_the_papers(one: str, other: str) -> None:
    assert similarity(one, other) == pytest.approx(jaro(one, other))


def test_known_similarities() -> None:
    assert similarity("MARTHA", "MARHTA") == pytest.approx(17 / 18)
    assert similarity("RK735AS", "RK735AS") == 1
    assert similarity("", "A") == similarity("", "") == 0


def test_texts_are_compared_as_capitals_and_digits() -> None:
    assert normalised(" rk-735·as ") == "RK735AS"


BOXES = [[10, 10, 200, 40], [10, 60, 200, 40]]
TEXTS = ["RK735AS", "WA 56660"]


def road(height: int = 30) -> np.ndarray:
    """A picture of two plates, the letters ``height`` pixels high."""
    picture = np.full((120, 240, 3), 90, np.uint8)
    for (x, y, width, high), text in zip(BOXES, TEXTS, strict=True):
        picture[y : y + high, x : x + width] = 255
        place = (x + 12, y + (high + height) // 2)
        cv2.putText(picture, text, place, cv2.FONT_HERSHEY_SIMPLEX, height / 30, (0, 0, 0), 2, cv2.LINE_AA)
    return picture


def told(*answers: list[str]) -> Reader:
    waiting = iter(answers)
    return Reader("told", lambda pictures: next(waiting))


def test_what_compression_takes_from_each_plate() -> None:
    task = scorer(told(["RK735AS", "WA5666"], ["RK7", ""]))
    truth = task.prepare(road(), {"boxes": BOXES, "texts": TEXTS})
    rows = task.score(truth, road())
    assert [row["text_true"] for row in rows] == ["RK735AS", "WA56660"]
    assert [row["text_ref"] for row in rows] == ["RK735AS", "WA5666"]
    assert [row["jaro_ref"] for row in rows] == pytest.approx([1, jaro("WA5666", "WA56660")])
    assert [row["delta_jaro"] for row in rows] == pytest.approx([1 - jaro("RK7", "RK735AS"), jaro("WA5666", "WA56660")])
    assert task.summarise(rows)["plates"] == 2
    assert task.summarise(rows)["delta_jaro"] == pytest.approx(np.mean([row["delta_jaro"] for row in rows]))
    assert set(rows[0]) == set(task.columns)


@pytest.mark.parametrize(
    "labels",
    [{}, {"boxes": BOXES}, {"boxes": BOXES, "texts": TEXTS[:1]}, {"boxes": BOXES, "texts": "RK735AS"},
     {"boxes": BOXES, "texts": ["RK735AS", "·"]}, {"boxes": BOXES, "texts": ["RK735AS", 5]}],
)  # fmt: skip
def test_labels_that_cannot_be_used_are_refused(labels: dict[str, Any]) -> None:
    with pytest.raises(InvalidSample):
        scorer(told(["", ""])).prepare(road(), labels)


def test_crops_have_one_height_and_the_box_alone() -> None:
    picture = np.zeros((50, 80, 3), np.uint8)
    picture[10:20, 30:50] = 255
    found = crop(picture, [30, 10, 20, 10])
    assert found.shape == (48 + 20, 96 + 20)
    assert (found == 255).all()


def readers(monkeypatch: pytest.MonkeyPatch) -> dict[str, Reader]:
    """Tesseract in the process, where it is there, and beside it."""
    found = {"within": open_tesseract()} if _tesseract._tesserocr() and _tesseract._data() else {}
    monkeypatch.setattr(_tesseract, "_tesserocr", lambda: None)
    return {**found, "beside": open_tesseract()}


@needs_tesseract
def test_rendered_plates_are_read_both_ways(monkeypatch: pytest.MonkeyPatch) -> None:
    pictures = [crop(road(), box) for box in BOXES]
    for name, reader in readers(monkeypatch).items():
        assert [normalised(text) for text in reader.read(pictures)] == ["RK735AS", "WA56660"], name
        blank = np.full_like(pictures[0], 255)
        first, second, third = reader.read([blank, pictures[0], blank])  # whatever it sees in nothing
        assert (normalised(second), first) == ("RK735AS", third), name
        assert reader.read([]) == []
        assert [reader.read([one])[0] for one in pictures] == reader.read(pictures), name


@needs_tesseract
def test_plates_are_lost_by_hard_compression() -> None:
    _, task = machine_tasks.open_task("plates")
    picture = Picture.of(road(24))  # smaller ones are read by some versions of Tesseract only
    truth = task.prepare(picture.rgb, {"boxes": BOXES, "texts": TEXTS})
    means = []
    for name, quality in (("jpeg", 90), ("vvenc", 63)):
        codec = codecs.get(name)
        decoded = codec.decode(codec.encode(picture, quality).data, picture.size)
        means.append(task.summarise(task.score(truth, decoded))["jaro"])
    assert means[0] > 0.8
    assert means[1] < means[0]


@needs_tesseract
def test_real_plates_are_read(shared_data: Path) -> None:
    folder = shared_data / "plates_eu"
    if not folder.is_dir():
        pytest.skip("the folder of real samples has no plates_eu")
    importer: Importer = plugins.load(GROUP, "plates", Importer)
    _, task = machine_tasks.open_task("plates")
    rows = []
    for item in list(importer.plan(Source(folder)))[:20]:
        sample = importer.read(item, {})
        rows += task.score(task.prepare(sample["image"], sample), sample["image"])
    summary = task.summarise(rows)
    assert summary["jaro"] > 0.5
    assert summary["delta_jaro"] == 0


def test_without_tesseract_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_tesseract, "_tesserocr", lambda: None)
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(MissingDependency, match="apt-get install tesseract-ocr"):
        open_tesseract()


def test_tesserocr_without_data_is_passed_over(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TESSDATA_PREFIX", str(tmp_path))
    monkeypatch.setattr(_tesseract, "_tesserocr", lambda: ModuleType("tesserocr"))
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(MissingDependency):
        open_tesseract()


def test_it_takes_no_argument() -> None:
    with pytest.raises(InvalidSetting, match="no argument"):
        machine_tasks.open_task("plates=better")
