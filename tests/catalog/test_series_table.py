"""Tables of series, long and wide, become observations and signals; what cannot be one is named by row and column."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from sensorium.catalog.importer import Source
from sensorium.platform.errors import InvalidSetting
from tests.catalog.importing import LONG, imported, importer, refusal, shared, write

WIDE = "time,x,y\n0.0,1,2\n0.1,3,4\n0.2,5,6\n"


def test_long_tables_become_observations_sorted_by_time(tmp_path: Path) -> None:
    path = write(tmp_path / "s.csv", LONG)
    found = importer("series_table")
    assert found.attributes is not None
    assert found.attributes(Source(path)) == {"variable_names": ["pulse", "temp"]}
    samples = imported("series_table", path)
    assert list(samples) == ["b", "a"]
    assert samples["a"]["times"].tolist() == [0.25, 0.5]
    assert samples["a"]["variables"].tolist() == [0, 1]
    assert samples["a"]["values"].tolist() == pytest.approx([80, 37.2])
    assert samples["b"]["variables"].tolist() == [0, 1]  # equal times keep the order of the rows
    assert "variable_names" not in samples["a"]  # of the data set, not of each sample


def test_many_observations_of_one_time_keep_their_order(tmp_path: Path) -> None:
    rows = "".join(f"{1 - i % 2},x,{i}\n" for i in range(1000))
    sample = imported("series_table", write(tmp_path / "s.csv", f"time,variable,value\n{rows}"))["s"]
    assert sample["values"].tolist() == [*range(1, 1000, 2), *range(0, 1000, 2)]


@pytest.mark.parametrize(
    ("unit", "times", "hours"),
    [
        ({"time_unit": "minutes"}, ["30", "90"], [0.5, 1.5]),
        ({"time_unit": "days"}, ["0.5", "2"], [12, 48]),
        ({"time_unit": "seconds"}, ["0", "1800"], [0, 0.5]),
        ({}, ["-1", "1e1"], [-1, 10]),
        ({}, ["00:30", "36:15"], [0.5, 36.25]),
        ({}, ["00:00:36", "01:00:00"], [0.01, 1]),
    ],
)
def test_times_become_hours(tmp_path: Path, unit: dict[str, str], times: list[str], hours: list[float]) -> None:
    rows = "".join(f"{time},x,1\n" for time in times)
    sample = imported("series_table", write(tmp_path / "s.csv", f"time,parameter,value\n{rows}"), **unit)["s"]
    assert sample["times"].tolist() == pytest.approx(hours)
    named = imported("series_table", write(tmp_path / "m.csv", "Minutes,item,valuenum\n90,x,1\n"))["m"]
    assert named["times"].tolist() == [1.5]


def test_columns_can_be_named(tmp_path: Path) -> None:
    path = write(tmp_path / "s.csv", "who,when,what,how much\n1,0,x,2\n2,0,y,3\n")
    options = {"id": "who", "time": "when", "variable": "what", "value": "how much", "variables": "z,y,x"}
    samples = imported("series_table", path, **options)
    assert samples["1"]["variables"].tolist() == [2]
    assert samples["2"]["variables"].tolist() == [1]
    assert "'when'" in refusal("series_table", path, **{**options, "time": "whn"})
    assert "'y' is none of the variables" in refusal("series_table", path, **{**options, "variables": "x"})


def test_a_folder_may_hold_a_sample_per_file_or_many(tmp_path: Path) -> None:
    write(tmp_path / "a.csv", "time,variable,value\n0,u,1\n")
    write(tmp_path / "sub/b.csv", "time,variable,value\n0,v,2\n1,u,3\n")
    write(tmp_path / "outcomes.csv", "RecordID,death\na,0\nb,1\n")
    samples = imported("series_table", tmp_path, key="RecordID")
    assert {name: sample["death"] for name, sample in samples.items()} == {"a": 0, "sub/b": 1}
    assert samples["sub/b"]["variables"].tolist() == [1, 0]
    many = write(tmp_path / "many/one.csv", LONG)
    write(tmp_path / "many/two.csv", LONG.replace("\nb,", "\nc,"))
    assert f"sample 'a' is in {many} too" in refusal("series_table", tmp_path / "many")
    write(tmp_path / "many/two.csv", LONG.replace("\nb,", "\nc,").replace("\na,", "\nd,"))
    assert set(imported("series_table", tmp_path / "many")) == {"a", "b", "c", "d"}


def test_targets_join_by_the_name_of_the_id_column(tmp_path: Path) -> None:
    write(tmp_path / "series.csv", LONG.replace("id,", "stay_id,", 1))
    write(tmp_path / "targets.csv", "stay_id,died\na,true\nb,false\n")
    samples = imported("series_table", tmp_path)
    assert {name: sample["died"] for name, sample in samples.items()} == {"a": True, "b": False}


def test_a_table_that_is_written_anew_is_read_anew(tmp_path: Path) -> None:
    path = write(tmp_path / "s.csv", LONG)
    assert len(imported("series_table", path)["a"]["values"]) == 2
    write(path, LONG + "a,9,pulse,1\n")
    assert len(imported("series_table", path)["a"]["values"]) == 3


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ("id,time,variable\na,0,x\n", "no column is known to be the value"),
        ("id,variable,value\na,x,1\n", "no column is known to be the time"),
        ("id,time,variable,value\na,0,x,high\n", "column 'value', row 1: the value is 'high'"),
        ("id,time,variable,value\na,0,x,1\na,1,x,nan\n", "column 'value', row 2: the value is 'nan'"),
        ("id,time,variable,value\na,0,x,\n", "column 'value', row 1: the value is missing"),
        ("id,time,variable,value\na,0,x,inf\n", "column 'value', row 1: the value is 'inf'"),
        ("id,time,variable,value\na,noon,x,1\n", "column 'time', row 1: the value is 'noon'"),
        ("id,time,variable,value\na,,x,1\n", "column 'time', row 1: the value is missing"),
        ("id,time,variable,value\n,0,x,1\n", "column 'id', row 1: no id"),
        ("id,time,variable,value\na,0,,1\n", "column 'variable', row 1: None is none of the variables"),
        ("id,time,variable,value\na,0,x,1e39\n", "does not fit into float32"),
        ("id,time,variable,value\na,0,x,16777217\n", "16777217.0 does not fit into float32. Say dtype=float64"),
        ("time,variable,value\n", "has no row"),
    ],
)
def test_broken_long_tables_are_refused(tmp_path: Path, table: str, says: str) -> None:
    path = write(tmp_path / "s.csv", table)
    text = refusal("series_table", path)
    assert text.startswith(f"{path}: ")
    assert says in text


def test_channels_may_be_called_by_numbers(tmp_path: Path) -> None:
    path = write(tmp_path / "w.csv", "0,1\n0.5,2\n0.25,4\n")
    assert imported("series_table", path, sampling_rate="1")["w"]["channels"] == ["0", "1"]


def test_rows_without_a_value_can_be_skipped(tmp_path: Path) -> None:
    path = write(tmp_path / "s.csv", "time,variable,value\n0,x,NA\n1,x,5\n2,x,\n")
    sample = imported("series_table", path, missing="skip")["s"]
    assert sample["times"].tolist() == [1]
    assert sample["values"].tolist() == [5]
    assert "high" in refusal(
        "series_table", write(tmp_path / "t.csv", "time,variable,value\n0,x,high\n"), missing="skip"
    )
    with pytest.raises(InvalidSetting, match="missing"):
        imported("series_table", path, missing="ignore")


def test_wide_tables_become_signals(tmp_path: Path) -> None:
    path = write(tmp_path / "w.csv", WIDE)
    sample = imported("series_table", path)["w"]
    assert sample["signal"].tolist() == [[1, 3, 5], [2, 4, 6]]
    assert sample["signal"].dtype == np.float32
    assert sample["sampling_rate"] == 10.0
    assert sample["channels"] == ["x", "y"]
    chosen = imported("series_table", path, channels="y, x", dtype="int16")["w"]
    assert chosen["signal"].tolist() == [[2, 4, 6], [1, 3, 5]]
    assert chosen["signal"].dtype == np.int16


def test_the_rate_can_be_given(tmp_path: Path) -> None:
    path = write(tmp_path / "w.csv", ",x,y\n0,1,2\n1,3,4\n")  # the unnamed column is an index
    assert "has no column of times" in refusal("series_table", path)
    sample = imported("series_table", path, sampling_rate="125")["w"]
    assert (sample["sampling_rate"], sample["channels"]) == (125.0, ["x", "y"])
    timed = write(tmp_path / "t.csv", WIDE)
    assert imported("series_table", timed, sampling_rate="10")["t"]["sampling_rate"] == 10.0
    assert "the times make 10 Hz" in refusal("series_table", timed, sampling_rate="12")
    assert "has no" not in refusal("series_table", timed, sampling_rate="10", time_unit="minutes")


@pytest.mark.parametrize(
    ("rate", "decimals"), [(128, 3), (128, 6), (44100, 6), (250, 3), (300, 4), (0.5, 1), (1 / 7, 0), (100, 2)]
)
def test_rates_are_found_through_rounded_times(tmp_path: Path, rate: float, decimals: int) -> None:
    rows = "".join(f"{i / rate:.{decimals}f},{i}\n" for i in range(1001))
    path = write(tmp_path / "w.csv", f"seconds,x\n{rows}")
    assert imported("series_table", path)["w"]["sampling_rate"] == pytest.approx(rate, rel=1e-6)


@pytest.mark.parametrize("gap", [1, 500, 999])
def test_a_missing_row_is_noticed(tmp_path: Path, gap: int) -> None:
    rows = "".join(f"{i / 128:.3f},{i}\n" for i in range(1001) if i != gap)
    text = refusal("series_table", write(tmp_path / "w.csv", f"seconds,x\n{rows}"))
    assert f"row {gap}: a step of 0.01" in text


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ("time,x\n0,1\n2,2\n1,3\n", "row 3: time 1 s follows 2 s"),
        ("time,x\n0,1\n0,2\n", "row 2: time 0 s follows 0 s"),
        ("time,x\n0,1\n1,2\n5,3\n", "a step of"),
        ("time,x\n0,1\n1,2\n2,3\n4,4\n", "row 3: a step of 2 s"),  # no rounding of whole seconds explains it
        ("time,x\n0,1\n1,\n", "column 'x', row 2: the value is missing"),
        ("time,x\n0,1\n1,nan\n", "column 'x', row 2: the value is 'nan'"),
        ("time,x\n0,1\n1,on\n", "column 'x', row 2: the value is 'on'"),
        ("time\n0\n1\n", "no column is left for a channel"),
        ("id,time,x\n7,0,1\n7,1,2\n", "Say id=id"),
        ("0.5,-1\n0.6,-2\n", "has no header line (its first row is 0.5, -1)"),
    ],
)
def test_broken_wide_tables_are_refused(tmp_path: Path, table: str, says: str) -> None:
    path = write(tmp_path / "w.csv", table)
    text = refusal("series_table", path)
    assert text.startswith(f"{path}: ")
    assert says in text


def test_a_wide_table_may_hold_many_samples(tmp_path: Path) -> None:
    path = write(tmp_path / "w.csv", "id,time,x\na,0,1\na,1,2\nb,0,3\nb,1,4\nb,2,5\n")
    samples = imported("series_table", path, id="id")
    assert {name: sample["signal"].tolist() for name, sample in samples.items()} == {"a": [[1, 2]], "b": [[3, 4, 5]]}


def test_parquet_series_keep_their_types(tmp_path: Path) -> None:
    wide = pl.DataFrame({"t": [0.0, 0.5, 1.0], "x": pl.Series([1, -2, 3], dtype=pl.Int16)})
    wide.write_parquet(tmp_path / "wide.parquet")
    sample = imported("series_table", tmp_path / "wide.parquet")["wide"]
    assert sample["signal"].dtype == np.int16
    assert sample["sampling_rate"] == 2.0
    long = pl.read_csv(write(tmp_path / "l.csv", LONG)).with_columns(pl.col("id").replace_strict({"a": 1, "b": 2}))
    long.write_parquet(tmp_path / "long.parquet")
    samples = imported("series_table", tmp_path / "long.parquet")
    assert samples["1"]["values"].tolist() == pytest.approx([80, 37.2])
    write(tmp_path / "cut.parquet", (tmp_path / "long.parquet").read_bytes()[:-9])
    assert "is no Parquet file" in refusal("series_table", tmp_path / "cut.parquet")


def test_forms_are_not_mixed_and_options_are_checked(tmp_path: Path) -> None:
    write(tmp_path / "a.csv", LONG)
    write(tmp_path / "b.csv", WIDE)
    assert "in the wide form" in refusal("series_table", tmp_path)
    for wrong in ({"form": "tall"}, {"time_unit": "weeks"}, {"dtype": "text"}, {"sampling_rate": "fast"}):
        with pytest.raises(InvalidSetting, match=next(iter(wrong.values()))):
            imported("series_table", tmp_path / "b.csv", **wrong)


def test_fractions_do_not_become_whole_numbers(tmp_path: Path) -> None:
    path = write(tmp_path / "w.csv", "time,x\n0,1.5\n1,2\n")
    assert "1.5 does not fit into int16" in refusal("series_table", path, dtype="int16")


def test_a_real_clinical_record() -> None:
    path = min(shared("clinical_ts/physionet2012").rglob("1*.txt"))
    sample = imported("series_table", path)[path.stem]
    assert len(sample["times"]) > 10
    assert 0 <= sample["times"].min() <= sample["times"].max() <= 48  # hours, from text such as 36:30
    found = importer("series_table")
    assert found.attributes is not None
    assert "RecordID" in found.attributes(Source(path))["variable_names"]
