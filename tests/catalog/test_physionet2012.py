"""Records of the PhysioNet Challenge 2012: the layout, what is cleaned, and what is refused."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from sensorium.catalog import Catalog
from sensorium.catalog import modality as modalities
from sensorium.catalog.fields import ScalarField
from sensorium.catalog.importer import GROUP, Importer, Source
from sensorium.catalog.importers.physionet2012 import VARIABLES
from sensorium.catalog.importers.physionet2012 import importer as physionet
from sensorium.catalog.ingest import choose_importer, ingest
from sensorium.platform import plugins
from sensorium.platform.errors import UnreadableFile

HEAD = "Time,Parameter,Value\n"
DESCRIPTORS = "00:00,RecordID,{}\n00:00,Age,54\n00:00,Gender,0\n00:00,Height,-1\n00:00,ICUType,4\n00:00,Weight,76.5\n"
OUTCOMES = (
    "RecordID,SAPS-I,SOFA,Length_of_stay,Survival,In-hospital_death\n101,6,1,5,-1,0\n102,-1,8,8,3,1\n999,1,1,1,1,1\n"
)


def record(folder: Path, name: int = 101, lines: str = "00:07,HR,73\n01:37,Temp,35.1\n00:37,HR,77\n") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.txt"
    path.write_text(HEAD + DESCRIPTORS.format(name) + lines)
    return path


def imported(path: Path) -> dict[str, dict[str, Any]]:
    return {item.id: physionet.read(item, {}) for item in physionet.plan(Source(path))}


def refusal(path: Path) -> str:
    with pytest.raises(UnreadableFile) as caught:
        imported(path)
    return str(caught.value)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    record(tmp_path / "set-a", 101)
    record(tmp_path / "set-a", 102, "00:00,Weight,80\n47:59,pH,100\n00:30,HR,0\n")
    record(tmp_path / "set-b", 103)
    (tmp_path / "Outcomes-a.txt").write_text(OUTCOMES)
    return tmp_path


def test_there_are_37_variables_in_a_fixed_order() -> None:
    assert len(VARIABLES) == len(set(VARIABLES)) == 37
    assert list(VARIABLES) == sorted(VARIABLES)
    assert {"Weight", "MechVent"} <= set(VARIABLES)
    assert not {"Age", "Gender", "Height", "ICUType", "RecordID"} & set(VARIABLES)


def test_a_record_becomes_a_sorted_series(source: Path) -> None:
    sample = imported(source)["101"]
    names = [VARIABLES[index] for index in sample["variables"]]
    assert names == ["Weight", "HR", "HR", "Temp"]
    assert sample["times"].tolist() == [0, 7 / 60, 37 / 60, 1 + 37 / 60]
    assert sample["values"].tolist() == [76.5, 73, 77, np.float32(35.1)]
    dtypes = {name: sample[name].dtype.name for name in ("times", "variables", "values")}
    assert dtypes == {"times": "float64", "variables": "int32", "values": "float32"}


def test_descriptors_and_outcomes_become_scalars_of_their_types(source: Path) -> None:
    samples = imported(source)
    plain = {key: value for key, value in samples["101"].items() if not isinstance(value, np.ndarray)}
    assert plain == {
        "age": 54,
        "gender": 0,
        "icu_type": 4,
        "weight_kg": 76.5,  # height -1: null
        "saps_i": 6,
        "sofa": 1,
        "length_of_stay_d": 5,
        "in_hospital_death": 0,  # survival -1: null
    }
    assert samples["102"]["survival_d"] == 3
    assert "saps_i" not in samples["102"]
    assert "in_hospital_death" not in samples["103"]  # no row, no label
    assert physionet.fields is not None
    types = {field.name: field.type for field in physionet.fields(Source(source)) if isinstance(field, ScalarField)}
    assert types["in_hospital_death"] == pa.int64()
    assert set(plain) <= set(types)
    modality = modalities.get("series")
    assert modality.check is not None
    for sample in samples.values():
        assert list(modality.check({**sample, "variable_names": VARIABLES})) == []


def test_what_is_certain_is_cleaned_and_the_rest_is_left(source: Path) -> None:
    record(source / "set-a", 102, "00:00,Weight,80\n47:59,pH,100\n00:30,HR,0\n01:00,Temp,-17.8\n02:00,Weight,-1\n")
    sample = imported(source)["102"]
    seen = [
        (VARIABLES[index], float(value)) for index, value in zip(sample["variables"], sample["values"], strict=True)
    ]
    assert seen == [("Weight", 76.5), ("Weight", 80), ("HR", 0), ("pH", 100)]  # -17.8 and -1 are missing
    assert sample["weight_kg"] == 76.5  # the first at 00:00


@pytest.mark.parametrize("place", [".", "set-a", "set-a/101.txt"])
def test_outcomes_are_found_below_beside_and_above(source: Path, place: str) -> None:
    assert imported(source / place)["101"]["in_hospital_death"] == 0


def test_a_folder_of_records_is_told_from_other_tables(source: Path) -> None:
    (source / "README.txt").write_text("records of a challenge\n")
    (source / "set-a" / "notes.csv").write_text("time,x\n0,1\n1,2\n")
    assert choose_importer(Source(source)).name == "physionet2012"
    assert choose_importer(Source(source / "set-a")).name == "physionet2012"
    single = Source(source / "set-a/101.txt")
    assert choose_importer(single).name == "physionet2012"
    sure = {name: plugins.load(GROUP, name, Importer).matches(single) for name in plugins.names(GROUP)}
    assert sure["physionet2012"] > max(value for name, value in sure.items() if name != "physionet2012")
    (other := source / "other").mkdir()
    (other / "a.csv").write_text("id,time,variable,value\na,1,x,2\n")
    assert physionet.matches(Source(other)) == 0
    assert choose_importer(Source(other)).name == "series_table"


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("00:07,HR\n", "line 8: '00:07,HR' has 2 cells"),
        ("00:07,HR,1,2\n", "line 8: '00:07,HR,1,2' has 4 cells"),
        ("0:7,HR,1\n", "line 8: the time '0:7' is not HH:MM"),
        ("00:61,HR,1\n", "line 8: the time '00:61' is not HH:MM"),
        ("00:07,RespRat,1\n", "'RespRat'. Did you mean 'RespRate'?"),
        ("00:07,,1\n", "line 8: the Challenge has no parameter ''"),
        ("00:07,HR,x\n", "line 8: the value 'x' of HR is no finite number"),
        ("00:07,HR,nan\n", "line 8: the value 'nan' of HR"),
        ("00:07,HR,\n", "line 8: the value '' of HR"),
        ("00:07,HR,-1\n00:00,Weight,-1\n", ""),  # fine: the admission's weight is there
    ],
)
def test_broken_records_are_refused_with_file_line_and_remedy(tmp_path: Path, line: str, says: str) -> None:
    path = record(tmp_path, lines=line)
    if not says:
        assert len(imported(tmp_path)["101"]["values"]) == 1
        return
    text = refusal(tmp_path)
    assert text.startswith(f"{path}: ")
    assert says in text
    assert text.rstrip().endswith(".")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "line 1: does not read 'Time,Parameter,Value'"),
        ("a,b\n", "line 1: does not read"),
        (HEAD, "the record is empty"),
        (HEAD + "00:00,RecordID,101\n00:00,Age,3\n", "no observation, only descriptors"),
        (HEAD + "00:00,RecordID,7\n00:01,HR,3\n", "its RecordID is 7. Rename it to 7.txt"),
        (HEAD + "00:00,Age,3.5\n00:01,HR,3\n", "Age is 3.5, not a whole number"),
        (b"Time,Parameter,Value\n00:00,HR,\xff\n", "no UTF-8 text"),
    ],
)
def test_records_that_are_none_are_refused(tmp_path: Path, content: str | bytes, says: str) -> None:
    path = tmp_path / "101.txt"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    assert says in refusal(tmp_path)


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ("id,x\n1,2\n", "line 1: the columns are id, x"),
        ("", "line 1: the columns are none"),
        ("RecordID,In-hospital_death\n101\n", "line 2: '101' is not 2 whole numbers"),
        ("RecordID,In-hospital_death\n101,dead\n", "line 2: '101,dead'"),
        ("RecordID,In-hospital_death\n101,1\n101,0\n", "line 3: record 101 is there with other values"),
    ],
)
def test_broken_outcomes_are_refused(tmp_path: Path, table: str, says: str) -> None:
    record(tmp_path / "set-a")
    (tmp_path / "Outcomes-a.txt").write_text(table)
    text = refusal(tmp_path)
    assert says in text
    assert "Outcomes-a.txt" in text


def test_two_tables_may_not_contradict_each_other(source: Path) -> None:
    (source / "set-a" / "Outcomes-copy.txt").write_text(OUTCOMES.replace("101,6", "101,7"))
    assert "record 101 has other outcomes" in refusal(source)


def test_a_record_that_is_gone_is_named(source: Path) -> None:
    items = list(physionet.plan(Source(source)))
    items[0].paths[0].unlink()
    with pytest.raises(UnreadableFile, match=r"101\.txt: is gone"):
        physionet.read(items[0], {})


def test_the_published_records_go_into_the_catalog_quickly(catalog: Catalog, shared_data: Path) -> None:
    folder = shared_data / "clinical_ts/physionet2012"
    if not folder.exists():
        pytest.skip(f"{folder} is not here")
    began = time.perf_counter()
    report = ingest(catalog, folder, "records")
    took = time.perf_counter() - began
    assert (report.format, report.added, report.failed) == ("physionet2012", 2000, [])
    assert took < 60  # 3 s on one core
    frame = catalog["records"].select().frame()
    assert frame["in_hospital_death"].sum() == 277
    assert frame["height_cm"].null_count() == 964
    assert frame["weight_kg"].null_count() == 162
    assert frame["gender"].null_count() == 1
    assert catalog["records"].attributes["variable_names"] == list(VARIABLES)
    sample = catalog["records"].select()["132539"]
    assert sample["values"].min() >= 0
    assert len(sample["values"]) == 274 - 1 - 6  # lines of the file without its head and the descriptors
