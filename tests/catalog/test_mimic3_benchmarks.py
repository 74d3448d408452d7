"""Folders of the MIMIC-III benchmarks, written with pandas: series, targets, splits, and texts that become numbers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas
import pytest

from sensorium.catalog import Catalog
from sensorium.catalog.importer import Source
from sensorium.catalog.ingest import choose_importer
from sensorium.platform.errors import InvalidSetting, UnreadableFile
from tests.catalog.importing import imported, importer, refusal, write

EYES = "Glascow coma scale eye opening"
TOTAL = "Glascow coma scale total"
VARIABLES = ["Capillary refill rate", EYES, TOTAL, "Heart Rate", "pH"]


def table(path: Path, rows: int = 5, **columns: object) -> pandas.DataFrame:
    """A stay, most cells empty; ``columns`` replace some."""
    rng = np.random.default_rng(rows)
    measured = np.where(rng.random((rows, 5)) < 0.6, rng.normal(50, 20, (rows, 5)).round(2), np.nan)
    frame = pandas.DataFrame(measured, columns=VARIABLES).assign(**{EYES: None, **columns})
    frame.insert(0, "Hours", np.arange(rows) / 3)
    path.parent.mkdir(parents=True, exist_ok=True)
    frame.to_csv(path, index=False)
    return frame


def task(folder: Path) -> Path:
    """Two stays to learn from and one to be tested with."""
    for place, rows in (("train/10011_episode1", 5), ("train/12_episode2", 40), ("test/7_episode1", 3)):
        table(folder / f"{place}_timeseries.csv", rows)
    write(folder / "train/listfile.csv", "stay,y_true\n10011_episode1_timeseries.csv,1\n12_episode2_timeseries.csv,0\n")
    write(folder / "test/listfile.csv", "stay,y_true\n7_episode1_timeseries.csv,0\n")
    return folder


def test_every_measurement_comes_back_at_its_hour(tmp_path: Path) -> None:
    task(tmp_path / "Übung 1")
    expected = table(tmp_path / "Übung 1/train/12_episode2_timeseries.csv", 40)
    samples = imported("mimic3_benchmarks", tmp_path / "Übung 1")
    assert list(samples) == [
        "test/7_episode1_timeseries",
        *(f"train/{n}_timeseries" for n in ("10011_episode1", "12_episode2")),
    ]
    sample = samples["train/12_episode2_timeseries"]
    assert [sample[name].dtype.name for name in ("times", "variables", "values")] == ["float64", "int32", "float32"]
    back = np.full((40, 5), np.nan, np.float32)
    back[np.searchsorted(np.arange(40) / 3, sample["times"] - 1e-9), sample["variables"]] = sample["values"]
    wanted = expected[VARIABLES].assign(**{EYES: np.nan}).to_numpy(np.float32)
    assert np.array_equal(back, wanted, equal_nan=True)
    assert sample["times"].tolist() == np.repeat(expected.Hours, np.isfinite(wanted).sum(1)).tolist()
    told = [(one["split"], one["subject_id"], one["episode"], one["y_true"]) for one in samples.values()]
    assert told == [("test", 7, 1, 0), ("train", 10011, 1, 1), ("train", 12, 2, 0)]


def test_it_is_recognised_and_goes_in_once(tmp_path: Path, catalog: Catalog) -> None:
    folder = task(tmp_path / "in")
    assert choose_importer(Source(folder)).name == "mimic3_benchmarks"
    assert choose_importer(Source(folder / "train")).name == "mimic3_benchmarks"
    assert catalog.ingest(folder, "stays").added == 3
    assert catalog.ingest(folder, "stays").added == 0
    assert catalog["stays"].attributes == {"variable_names": VARIABLES}
    assert catalog["stays"].preview().content.startswith(b"\x89PNG")
    assert set(imported("mimic3_benchmarks", folder / "train")) == {
        "10011_episode1_timeseries",
        "12_episode2_timeseries",
    }


def test_lists_beside_the_folders_part_them(tmp_path: Path) -> None:
    folder = task(tmp_path)
    write(folder / "val_listfile.csv", "stay,y_true\n12_episode2_timeseries.csv,0\n")
    splits = {name: sample["split"] for name, sample in imported("mimic3_benchmarks", folder).items()}
    assert splits["train/12_episode2_timeseries"] == "val"
    assert splits["train/10011_episode1_timeseries"] == "train"


def test_several_rows_of_a_stay_become_lists(tmp_path: Path, catalog: Catalog) -> None:
    folder = task(tmp_path)
    rows = "".join(f"7_episode1_timeseries.csv,{hour},{hour / 4}\n" for hour in (5, 6))
    write(folder / "test/listfile.csv", "stay,period_length,y_true\n" + rows)
    write(folder / "train/listfile.csv", "stay,period_length,y_true\n10011_episode1_timeseries.csv,9,2\n")
    samples = imported("mimic3_benchmarks", folder)
    assert samples["test/7_episode1_timeseries"]["period_length"] == [5, 6]
    assert samples["test/7_episode1_timeseries"]["y_true"] == [1.25, 1.5]
    assert samples["train/10011_episode1_timeseries"]["y_true"] == [2.0]
    assert catalog.ingest(folder, "stays").added == 2


def test_names_of_phenotypes_become_names_of_fields(tmp_path: Path) -> None:
    folder = task(tmp_path)
    for split, stay in (("train", "12_episode2"), ("test", "7_episode1")):
        text = f'stay,period_length,"Shock",Acute and unspecified renal failure\n{stay}_timeseries.csv,9.5,1,0\n'
        write(folder / split / "listfile.csv", text)
    sample = imported("mimic3_benchmarks", folder)["test/7_episode1_timeseries"]
    assert (sample["period_length"], sample["Shock"], sample["Acute_and_unspecified_renal_failure"]) == (9.5, 1, 0)


def eyes(path: Path, *texts: str, **options: str) -> list[float]:
    task(path)
    table(path / "test/7_episode1_timeseries.csv", len(texts), **{EYES: texts})
    sample = imported("mimic3_benchmarks", path, **options)["test/7_episode1_timeseries"]
    return [float(value) for value in sample["values"][sample["variables"] == VARIABLES.index(EYES)]]


def test_texts_that_begin_with_a_number_are_that_number(tmp_path: Path) -> None:
    assert eyes(tmp_path, "4 Spontaneously", "1.0 ET/Trach", "2 To pain") == [4, 1, 2]


def test_other_texts_are_places_in_their_sorted_list(tmp_path: Path, catalog: Catalog) -> None:
    assert eyes(tmp_path, "To Speech", "4 Spontaneously", "None", "To Speech") == [2, 0, 1, 2]
    catalog.ingest(tmp_path, "stays")
    assert catalog["stays"].attributes["categories"] == {EYES: ["4 Spontaneously", "None", "To Speech"]}


def test_texts_have_the_numbers_that_are_given(tmp_path: Path) -> None:
    write(tmp_path / "codes.json", json.dumps({EYES: {"None": 1, "To Speech": 3}}))
    assert eyes(tmp_path, "To Speech", "4 Spontaneously", "None", categories="codes.json") == [3, 4, 1]
    write(tmp_path / "codes.json", json.dumps({EYES: ["None", "To Pain"]}))
    assert eyes(tmp_path, "To Pain", "None", categories="codes.json") == [2, 1]
    table(tmp_path / "test/7_episode1_timeseries.csv", 1, **{EYES: ["Perhaps"]})
    text = refusal("mimic3_benchmarks", tmp_path, categories="codes.json")
    assert f"column {EYES!r}, row 1: 'Perhaps' has no number" in text
    for content in ("[1]", '{"pH": 3}', '{"pH": {"low": "x"}}', "{", '{"pH": {"low": NaN}}'):
        write(tmp_path / "codes.json", content)
        with pytest.raises(InvalidSetting, match="cannot be used"):
            imported("mimic3_benchmarks", tmp_path, categories="codes.json")


def test_a_stray_text_among_numbers_is_refused(tmp_path: Path, catalog: Catalog) -> None:
    folder = task(tmp_path)
    table(folder / "test/7_episode1_timeseries.csv", 2, pH=["7.4", "acid"])
    report = catalog.ingest(folder, "stays")
    assert report.added == 2
    ((_, reason),) = report.failed
    assert "column 'pH', row 2: 'acid' has no number" in reason


@pytest.mark.parametrize(
    ("place", "content", "says"),
    [
        ("test/listfile.csv", "name,y_true\na,1\n", "its columns are not those of a list of stays (name, y_true)"),
        (
            "test/listfile.csv",
            "stay,y_true\n../7_episode1_timeseries.csv,1\n",
            "row 1: '../7_episode1_timeseries.csv' is no name",
        ),
        ("test/listfile.csv", "stay,values\n7_episode1_timeseries.csv,1\n", "its columns are not those"),
        (
            "test/listfile.csv",
            "stay,y_true\n8_episode1_timeseries.csv,1\n",
            "8_episode1_timeseries.csv: a listfile.csv names it",
        ),
        ("test/listfile.csv", "", "is empty"),
        ("test/7_episode1_timeseries.csv", "Hours,pH\n1,2\n", "not those of the other tables"),
        ("test/7_episode1_timeseries.csv", "", "is empty"),
        (
            "test/7_episode1_timeseries.csv",
            ",".join(["Hours", *VARIABLES]) + "\n,1,,,,\n",
            "column 'Hours', row 1: the value is missing",
        ),
        ("test/7_episode1_timeseries.csv", ",".join(["Hours", *VARIABLES]) + "\n1,,,,,\n", "nothing was measured"),
        ("test/7_episode1_timeseries.csv", ",".join(["Hours", *VARIABLES]) + "\n1,inf,,,,\n", "'inf' has no number"),
    ],
)
def test_broken_folders_are_refused(tmp_path: Path, place: str, content: str, says: str) -> None:
    folder = task(tmp_path)
    write(folder / place, content)
    text = refusal("mimic3_benchmarks", folder)
    assert says in text
    assert str(tmp_path) in text


def test_one_table_with_other_columns_costs_itself(tmp_path: Path, catalog: Catalog) -> None:
    folder = task(tmp_path / "in")
    write(folder / "test/7_episode1_timeseries.csv", "Hours\n1\n")
    report = catalog.ingest(folder, "stays")
    assert (report.added, len(report.failed)) == (2, 1)
    for path in folder.rglob("*_timeseries.csv"):
        write(path, "")
    assert "none of the tables that it names is there" in refusal("mimic3_benchmarks", folder)


def test_folders_without_lists_are_not_its_own(tmp_path: Path) -> None:
    table(tmp_path / "train/1_episode1_timeseries.csv")
    assert importer("mimic3_benchmarks").matches(Source(tmp_path)) == 0
    assert (
        importer("mimic3_benchmarks").matches(Source(write(tmp_path / "x/listfile.csv", "stay,a\nb,1\n").parent)) == 0
    )
    (tmp_path / "x/listfile.csv").unlink()
    with pytest.raises(UnreadableFile, match=r"has no train/listfile\.csv"):
        imported("mimic3_benchmarks", tmp_path)
