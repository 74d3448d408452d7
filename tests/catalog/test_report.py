"""The report on a data set says what is in it: counted here once more by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sensorium.catalog import Catalog
from sensorium.catalog.dataset import Dataset
from sensorium.catalog.fields import ArrayField
from sensorium.catalog.report import report, summary
from sensorium.catalog.rules import Rule
from sensorium.platform.errors import UserError


@pytest.fixture
def pictures(catalog: Catalog) -> Dataset:
    made = catalog.create(
        "pictures",
        modality="image",
        fields={"label": "string", "age": "float64", "marks": "int64"},
        description="<i>made</i>",
    )
    rng = np.random.default_rng(3)
    samples = []
    for n in range(40):
        side = 5 if n % 4 else 7
        image = rng.integers(10, 250, (side, 6, 1)).astype(np.uint8)
        age = None if n < 3 else float(n)
        samples.append({"id": f"p{n:02}", "image": image, "label": "xy<"[n % 3], "age": age, "marks": n % 2})
    samples[9]["image"] = samples[5]["image"]
    made.append(samples)
    return made


def test_counts_ranges_shapes_and_copies_are_those_of_the_samples(pictures: Dataset) -> None:
    found = summary(pictures.select())
    scalars = {one.name: one for one in found.scalars}
    assert dict(scalars["label"].counts) == {"x": 14, "y": 13, "<": 13}
    assert (scalars["age"].missing, scalars["age"].distinct) == (3, 37)
    assert (scalars["age"].minimum, scalars["age"].mean, scalars["age"].maximum) == (3.0, 21.0, 39.0)
    edges, counts = scalars["age"].histogram or ((), ())
    assert (edges[0], edges[-1], sum(counts)) == (3.0, 39.0, 37)
    assert dict(scalars["marks"].counts) == {"0": 20, "1": 20}
    (image,) = found.arrays
    assert dict(image.shapes) == {"uint8 [5, 6, 1]": 30, "uint8 [7, 6, 1]": 10}
    assert image.repeated == (("p05", "p09"),)
    values = np.concatenate([sample["image"].ravel() for sample in pictures.select()]).astype(float)
    assert (image.read, image.minimum, image.maximum) == (40, values.min(), values.max())
    assert image.mean == pytest.approx(values.mean())
    assert image.nbytes == values.size


def test_values_that_are_not_finite_are_counted(catalog: Catalog) -> None:
    depth = ArrayField("depth", "A B", finite=False)
    made = catalog.create("depths", modality="table", fields=[depth])
    made.append(
        [{"id": "a", "depth": np.array([[1, np.nan, 3], [np.inf, 2, 2]])}, {"id": "b", "depth": np.zeros((2, 3))}]
    )
    (one,) = summary(made.select()).arrays
    assert (one.not_finite, one.minimum, one.maximum, one.mean) == (2, 0.0, 3.0, 0.8)


def test_the_page_stands_alone_and_shows_text_as_text(pictures: Dataset, tmp_path: Path) -> None:
    pictures.set_rules([Rule("old", "age > 10", action="warn")])
    page = report(pictures, pictures.select(), tmp_path / "new" / "report.html").read_text()
    assert "&lt;i&gt;made&lt;/i&gt;" in page
    assert "<i>made" not in page
    assert page.count("data:image/png;base64,") == 2  # the sheet, and the distribution of ages
    assert "http" not in page.replace("http-equiv", "")
    assert "3 (7.5%)" in page
    assert "p05, p09" in page
    assert "<td>8</td>" in page  # ages 3 to 10 break the rule


def test_an_empty_selection_has_no_report(pictures: Dataset, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="the selection is empty"):
        report(pictures, pictures.select("age > 100"), tmp_path / "report.html")
