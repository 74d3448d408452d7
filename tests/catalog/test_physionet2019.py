"""Records of the PhysioNet Challenge 2019: every hour's values and labels, and what is refused."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pandas
import pytest

from sensorium.catalog import Catalog
from sensorium.catalog.importer import Source
from sensorium.catalog.importers.physionet2019 import VARIABLES
from sensorium.catalog.ingest import choose_importer
from tests.catalog.importing import imported, importer, refusal, write

HOURS = 5


def table(hours: int = HOURS, **columns: object) -> pandas.DataFrame:
    """A record in the Challenge's order of columns, most cells empty; ``columns`` replace some."""
    rng = np.random.default_rng(hours)
    measured = np.where(rng.random((hours, len(VARIABLES))) < 0.3, rng.normal(50, 20, (hours, len(VARIABLES))), np.nan)
    frame = pandas.DataFrame(measured.round(2), columns=list(VARIABLES))
    static = {"Age": 83.14, "Gender": 0, "Unit1": np.nan, "Unit2": np.nan, "HospAdmTime": -0.03}
    frame = frame.assign(**static, ICULOS=range(2, hours + 2), SepsisLabel=[0] * (hours - 2) + [1, 1])
    return frame.assign(**columns)


def record(path: Path, frame: pandas.DataFrame | None = None) -> Path:
    text = io.StringIO()
    (table() if frame is None else frame).to_csv(text, sep="|", na_rep="NaN", index=False)
    return write(path, text.getvalue())


def test_every_measurement_comes_back_at_its_hour(tmp_path: Path) -> None:
    for number, hours in enumerate((5, 40)):
        record(tmp_path / f"training setÄ/p{number:06}.psv", table(hours))
    samples = imported("physionet2019", tmp_path)
    assert sorted(samples) == ["training setÄ/p000000", "training setÄ/p000001"]
    for sample, hours in zip(samples.values(), (5, 40), strict=True):
        back = np.full((hours, len(VARIABLES)), np.nan, np.float32)
        back[sample["times"].astype(int) - 2, sample["variables"]] = sample["values"]
        expected = table(hours)[list(VARIABLES)].to_numpy().astype(np.float32)
        assert np.array_equal(back, expected, equal_nan=True)
        assert [sample[name].dtype.name for name in ("times", "variables", "values")] == ["float64", "int32", "float32"]
        assert (np.diff(sample["times"]) >= 0).all()


def test_labels_and_what_does_not_change(tmp_path: Path) -> None:
    (sample,) = imported("physionet2019", record(tmp_path / "p1.psv", table(Unit1=0, Unit2=1))).values()
    assert (sample["age"], sample["gender"], sample["unit1"], sample["unit2"]) == (83.14, 0, 0, 1)
    assert sample["hospital_admission_h"] == -0.03
    assert (sample["sepsis"], sample["sepsis_any"]) == ([0, 0, 0, 1, 1], 1)
    assert sample["sepsis_times"] == [2, 3, 4, 5, 6]
    (healthy,) = imported("physionet2019", record(tmp_path / "p2.psv", table(SepsisLabel=0))).values()
    assert healthy["sepsis_any"] == 0
    assert "unit1" not in healthy
    (hidden,) = imported("physionet2019", record(tmp_path / "p3.psv", table().drop(columns="SepsisLabel"))).values()
    assert not {"sepsis", "sepsis_any", "sepsis_times"} & set(hidden)


def test_it_is_recognised_by_its_header(tmp_path: Path, catalog: Catalog) -> None:
    record(tmp_path / "in/p000001.psv")
    record(tmp_path / "in/p000002.psv", table(9))
    assert choose_importer(Source(tmp_path / "in")).name == "physionet2019"
    assert choose_importer(Source(tmp_path / "in/p000001.psv")).name == "physionet2019"
    assert importer("physionet2019").matches(Source(write(tmp_path / "p3.psv", "a|b\n1|2\n"))) == 0
    assert catalog.ingest(tmp_path / "in", "stays").added == 2
    assert catalog.ingest(tmp_path / "in", "stays").added == 0
    assert catalog["stays"].attributes["variable_names"] == list(VARIABLES)
    assert catalog["stays"].select()["p000002"]["sepsis"] == [0] * 7 + [1, 1]
    assert catalog["stays"].preview().content.startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("|83.14|", "|old|", "line 2: 'old' in column Age is no finite number"),
        ("|83.14|", "|inf|", "line 2: 'inf' in column Age is no finite number"),
        ("|83.14|", "|83.14|5|", "line 2: has 42 cells, not 41"),
        ("|83.14|", "|70|", "column Age changes within the stay (70, 83.14)"),
        ("|2|0\n", "|2|7\n", "column SepsisLabel holds 7, neither 0 nor 1"),
        ("|2|0\n", "|2|NaN\n", "column SepsisLabel holds nan"),
        ("|2|0\n", "|9|0\n", "the hours in column ICULOS do not rise"),
        ("|ICULOS|", "|Hour|", "line 1: has no column 'ICULOS'"),
        ("HR|", "HR|Height|", "the columns are not the Challenge's (Height)"),
    ],
)
def test_broken_records_are_refused(tmp_path: Path, old: str, new: str, says: str) -> None:
    path = record(tmp_path / "p1.psv")
    content = path.read_text().replace(old, new, 1)
    path.write_text(content)
    text = refusal("physionet2019", path)
    assert text.startswith(f"{path}: ")
    assert says in text


@pytest.mark.parametrize(
    ("harm", "says"),
    [
        (lambda text: "", "has no column 'HR'"),
        (lambda text: text.splitlines()[0], "the record is empty"),
        (lambda text: text[: len(text) - 20], "it may be cut off"),
        (lambda text: text.encode() + b"\xff", "no UTF-8 text"),
    ],
)
def test_files_that_are_no_record_are_refused(tmp_path: Path, harm: object, says: str) -> None:
    assert callable(harm)
    path = record(tmp_path / "p1.psv")
    write(path, harm(path.read_text()))
    assert says in refusal("physionet2019", path)


def test_a_stay_without_any_measurement_is_refused(tmp_path: Path) -> None:
    path = record(tmp_path / "p1.psv", table(**dict.fromkeys(VARIABLES, np.nan)))
    assert "nothing was measured" in refusal("physionet2019", path)
