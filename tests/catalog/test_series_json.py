"""Series in JSON lines are those of the same table in CSV and Parquet; what is nested or broken is named."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pandas
import pytest

from sensorium.catalog import Catalog
from sensorium.catalog.importer import Source
from sensorium.catalog.ingest import choose_importer
from tests.catalog.importing import LONG, imported, refusal, write

WIDE = pandas.DataFrame({"time": np.arange(50) / 10, "a": np.arange(50), "Ö b": np.arange(50) / 64})


def tables(folder: Path, frame: pandas.DataFrame) -> list[Path]:
    """``frame`` in every form, each in a folder of its own."""
    for name in ("csv", "jsonl", "ndjson", "parquet"):
        (folder / name).mkdir(parents=True)
    frame.to_csv(folder / "csv/x.csv", index=False)
    for name in ("jsonl", "ndjson"):
        frame.to_json(folder / f"{name}/x.{name}", orient="records", lines=True, double_precision=15)
    frame.to_parquet(folder / "parquet/x.parquet")
    return [folder / name for name in ("csv", "jsonl", "ndjson", "parquet")]


def test_long_and_wide_are_the_same_in_every_form(tmp_path: Path) -> None:
    long = pandas.read_csv(io.StringIO(LONG))
    first, *others = (imported("series_table", folder) for folder in tables(tmp_path / "long", long))
    for other in others:
        assert list(other) == list(first) == ["b", "a"]
        for name in first:
            assert all(np.array_equal(first[name][key], other[name][key]) for key in ("times", "variables", "values"))
    folders = tables(tmp_path / "wide", WIDE)
    one, *rest = (imported("series_table", folder, dtype="float64")["x"] for folder in folders)
    for sample in rest:
        assert np.array_equal(sample["signal"], one["signal"])
        assert (sample["sampling_rate"], sample["channels"]) == (10.0, ["a", "Ö b"])


def test_json_is_recognised_and_goes_in_once(tmp_path: Path, catalog: Catalog) -> None:
    folder = tables(tmp_path, pandas.read_csv(io.StringIO(LONG)))[1]
    assert choose_importer(Source(folder)).name == "series_table"
    assert catalog.ingest(folder, "series").added == 2
    assert catalog.ingest(folder, "series").added == 0


def test_entries_may_be_missing(tmp_path: Path) -> None:
    rows = '{"id":"a","time":1,"variable":"x","value":2}\n\n{"id":"a","time":2,"variable":"x","unit":"m"}\n'
    path = write(tmp_path / "a.jsonl", rows)
    assert imported("series_table", path, missing="skip")["a"]["values"].tolist() == [2]
    assert "column 'value', row 2: the value is missing" in refusal("series_table", path)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ('{"time": 1, "variable": "x", "value": 2}\n{"time": 1, ', "line 2: is no JSON"),
        ('{"time": 1, "variable": "x", "value": [2]}\n', "line 1: entry 'value' is nested"),
        ("[1, 2]\n", "line 1: is no object"),
        ("", "is empty"),
        ("[" * 100_000, "line 1: is no JSON"),
        (b"\xff\xfe", "no UTF-8 text"),
    ],
)
def test_broken_json_is_refused(tmp_path: Path, content: str | bytes, says: str) -> None:
    path = write(tmp_path / "a.jsonl", content)
    text = refusal("series_table", path)
    assert text.startswith(f"{path}: ")
    assert says in text
