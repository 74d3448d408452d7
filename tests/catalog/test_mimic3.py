"""Extracts of MIMIC-III, made up: what belongs to a stay, when, and what is refused."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pandas
import pytest

from sensorium.catalog import Catalog
from sensorium.catalog.importer import Source
from sensorium.catalog.importers import mimic3
from sensorium.catalog.ingest import choose_importer
from sensorium.platform.errors import InvalidSetting
from tests.catalog.importing import imported, importer, refusal, write

CHARTS = (
    "ROW_ID,SUBJECT_ID,HADM_ID,ICUSTAY_ID,ITEMID,CHARTTIME,VALUE,VALUENUM,VALUEUOM,ERROR\n"
    "1,1,10,100,211,2101-01-01 02:30:00,80,80,bpm,\n"
    "2,1,10,100,678,2101-01-01 01:00:00,98.6,98.6,F,0\n"
    "3,1,10,100,211,2101-01-01 03:00:00,999,999,bpm,1\n"  # marked as an error
    '4,1,10,100,211,2101-01-01 04:00:00,"high, very",,bpm,0\n'  # no number
    "5,1,10,100,211,2100-12-31 23:59:59,70,70,bpm,0\n"  # before the stay
    "6,2,20,200,211,2102-05-05 12:00:00,60.5,60.5,bpm,0\n"
    "7,2,20,,211,2102-05-05 12:00:00,61,61,bpm,0\n"  # of no stay
)
LABS = (
    "ROW_ID,SUBJECT_ID,HADM_ID,ITEMID,CHARTTIME,VALUE,VALUENUM,VALUEUOM,FLAG\n"
    "1,1,10,50912,2101-01-01 02:00:00,1.1,1.1,mg/dL,\n"
    "2,1,10,50912,2101-01-09 02:00:00,1.2,1.2,mg/dL,\n"  # after the stay
    "3,2,,50912,2102-05-05 12:00:00,1.3,1.3,mg/dL,\n"
)
STAYS = (
    "ROW_ID,SUBJECT_ID,HADM_ID,ICUSTAY_ID,DBSOURCE,INTIME,OUTTIME,LOS\n"
    "1,2,20,200,metavision,2102-05-05 00:00:00,2102-05-06 12:00:00,1.5\n"
    "2,1,10,100,carevue,2101-01-01 00:00:00,2101-01-02 00:00:00,1\n"
)
ADMISSIONS = "ROW_ID,SUBJECT_ID,HADM_ID,HOSPITAL_EXPIRE_FLAG\n1,1,10,1\n2,2,20,0\n"


def extract(folder: Path, **tables: str) -> Path:
    contents = {"CHARTEVENTS": CHARTS, "LABEVENTS": LABS, "ICUSTAYS": STAYS, "ADMISSIONS": ADMISSIONS, **tables}
    for name, text in contents.items():
        if text:
            write(folder / f"{name}.csv", text)
    return folder


def test_observations_go_to_their_stays_in_hours(tmp_path: Path) -> None:
    samples = imported("mimic3", extract(tmp_path / "Übung 1"))
    assert list(samples) == ["100", "200"]
    first = samples["100"]
    assert first["times"].tolist() == [1.0, 2.0, 2.5]
    assert first["variables"].tolist() == [1, 2, 0]
    assert first["values"].tolist() == [np.float32(98.6), np.float32(1.1), 80]
    assert [first[name].dtype.name for name in ("times", "variables", "values")] == ["float64", "int32", "float32"]
    assert (first["subject_id"], first["hadm_id"], first["in_hospital_death"]) == (1, 10, 1)
    assert samples["200"]["length_of_stay_h"] == 36.0
    assert samples["200"]["values"].tolist() == [60.5]
    assert samples["200"]["in_hospital_death"] == 0


def test_items_are_chosen_in_their_order(tmp_path: Path, catalog: Catalog) -> None:
    folder = extract(tmp_path / "in")
    samples = imported("mimic3", folder, items="50912, 211")
    assert samples["100"]["variables"].tolist() == [0, 1]
    catalog.ingest(folder, "stays", options={"items": "50912,211"})
    assert catalog["stays"].attributes["variable_names"] == ["50912", "211"]
    assert "stay 200 has no observation of the wanted items" in refusal("mimic3", folder, items="678")
    for text in ("", "211,211", "HR"):
        with pytest.raises(InvalidSetting, match="items must name ITEMIDs"):
            imported("mimic3", folder, items=text)


def test_lower_case_and_packed_tables(tmp_path: Path) -> None:
    plain = imported("mimic3", extract(tmp_path / "plain"))
    for name, text in {"chartevents": CHARTS, "labevents": LABS, "icustays": STAYS, "admissions": ADMISSIONS}.items():
        head, _, rows = text.partition("\n")
        write(tmp_path / f"packed/{name}.csv.gz", gzip.compress(f"{head.lower()}\n{rows}".encode()))
    packed = imported("mimic3", tmp_path / "packed")
    assert choose_importer(Source(tmp_path / "packed")).name == "mimic3"
    for name in plain:
        assert all(np.array_equal(plain[name][key], packed[name][key]) for key in ("times", "variables", "values"))


def test_parts_hold_what_the_whole_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against pandas, 40 stays in one part and in many."""
    rng = np.random.default_rng(0)
    stays = pandas.DataFrame({"SUBJECT_ID": range(40), "HADM_ID": range(100, 140), "ICUSTAY_ID": rng.permutation(40)})
    stays = stays.assign(INTIME="2101-01-01 00:00:00", OUTTIME="")
    charts = pandas.DataFrame({"ICUSTAY_ID": rng.integers(0, 40, 5000), "ITEMID": rng.integers(0, 9, 5000)})
    moments = pandas.Timestamp("2101-01-01") + pandas.to_timedelta(rng.integers(0, 90_000, 5000), unit="s")
    charts = charts.assign(CHARTTIME=moments.astype(str), VALUENUM=rng.normal(0, 1, 5000))
    admissions = stays[["HADM_ID"]].assign(HOSPITAL_EXPIRE_FLAG=1)
    tables = {"ICUSTAYS": stays, "CHARTEVENTS": charts, "ADMISSIONS": admissions}
    extract(tmp_path, LABEVENTS="", **{name: table.to_csv(index=False) for name, table in tables.items()})
    whole = imported("mimic3", tmp_path)
    for name, sample in whole.items():
        mine = charts[int(name) == charts.ICUSTAY_ID].sort_values(["CHARTTIME", "ITEMID"])
        assert sample["values"].tolist() == mine.VALUENUM.astype(np.float32).tolist()
        assert sample["variables"].tolist() == mine.ITEMID.tolist()
    monkeypatch.setattr(mimic3, "_PART_BYTES", 20_000)
    places = {item.place["part"] for item in importer("mimic3").plan(Source(tmp_path))}
    assert len(places) > 5
    parted = imported("mimic3", tmp_path)
    assert all(np.array_equal(parted[name]["values"], whole[name]["values"]) for name in whole)


def test_it_is_recognised_and_goes_in_once(tmp_path: Path, catalog: Catalog) -> None:
    folder = extract(tmp_path / "in")
    assert choose_importer(Source(folder)).name == "mimic3"
    report = catalog.ingest(folder, "stays")
    assert (report.added, report.failed) == (2, [])
    assert catalog.ingest(folder, "stays").added == 0
    assert catalog["stays"].attributes["variable_names"] == ["211", "678", "50912"]
    assert catalog["stays"].preview("100").content.startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("tables", "says"),
    [
        ({"ADMISSIONS": ""}, "has no table ADMISSIONS"),
        ({"CHARTEVENTS": "", "LABEVENTS": ""}, "has no table CHARTEVENTS or LABEVENTS"),
        ({"ICUSTAYS": STAYS.replace("INTIME", "IN")}, "has no column INTIME"),
        ({"ICUSTAYS": STAYS.replace("2101-01-01 00", "yesterday 00")}, "ICUSTAYS.csv: cannot be read"),
        ({"ICUSTAYS": STAYS.replace("20,200,", "20,100,")}, "stay 100 is there twice"),
        ({"ICUSTAYS": STAYS.partition("\n")[0] + "\n"}, "holds no stay"),
        ({"ADMISSIONS": ADMISSIONS.replace("10,1", "10,7")}, "HOSPITAL_EXPIRE_FLAG is 7 of admission 10"),
        ({"CHARTEVENTS": CHARTS.replace("80,80", "80,x")}, "CHARTEVENTS.csv: cannot be read"),
        ({"CHARTEVENTS": CHARTS.replace("100,211", "100,HR")}, "CHARTEVENTS.csv: cannot be read"),
        ({"CHARTEVENTS": CHARTS.replace("VALUENUM", "NUMBER")}, "CHARTEVENTS.csv: has no column VALUENUM"),
        ({"LABEVENTS": " "}, "LABEVENTS.csv: is empty"),
    ],
)
def test_broken_extracts_are_refused(tmp_path: Path, tables: dict[str, str], says: str) -> None:
    text = refusal("mimic3", extract(tmp_path, **tables))
    assert says in text
    assert str(tmp_path) in text
