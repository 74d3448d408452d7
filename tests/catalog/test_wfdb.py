"""Records of the Waveform Database, written by its own library, become series; what lies elsewhere or is cut is named."""

from __future__ import annotations

import datetime
import importlib
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sensorium.catalog import Catalog
from sensorium.catalog.importer import Source
from sensorium.catalog.ingest import choose_importer
from sensorium.platform.errors import InvalidSetting
from tests.catalog.importing import imported, importer, refusal, write

DIGITAL = np.random.default_rng(2).integers(-1500, 1500, (1000, 2))


def record(path: Path, kind: str = "16", digital: Any = DIGITAL, *, marks: bool = True, **options: Any) -> Path:
    """Write ``digital`` [T, C] as mV and mmHg at 250 Hz; returns the header's path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    given = {"comments": ["<age>: 69", "<sex>: M"], "d_signal": np.asarray(digital), "fmt": [kind] * 2, **options}
    where = {"write_dir": str(path.parent)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the library uses what pandas is about to drop
        wfdb = importlib.import_module("wfdb")
        names = {"units": ["mV", "mmHg"], "sig_name": ["MLII", "Art press"]}
        wfdb.wrsamp(path.stem, fs=250, adc_gain=[200.0, 10.0], baseline=[0, 100], **names, **given, **where)
        if marks:
            notes = {"symbol": ["+", "V"], "aux_note": ["(AFIB", ""]}
            wfdb.wrann(path.stem, "atr", np.array([10, 250]), **notes, **where)
    return path


def expected(digital: Any = DIGITAL) -> Any:
    return np.stack([digital[:, 0] / 200 * 1000, (digital[:, 1] - 100) / 10]).astype(np.float32)


@pytest.mark.parametrize("kind", ["16", "212", "24", "32"])
def test_values_are_physical(tmp_path: Path, kind: str) -> None:
    path = record(tmp_path / "Übung 1/100.hea", kind)
    sample = imported("wfdb", tmp_path / "Übung 1")["100"]
    assert sample["signal"].dtype == np.float32
    assert np.array_equal(sample["signal"], expected())
    assert (sample["channels"], sample["units"]) == (["MLII", "Art press"], ["µV", "mmHg"])
    assert sample["sampling_rate"] == 250.0
    assert importer("wfdb").matches(Source(path)) > 0.5


def test_annotations_and_dates_but_no_persons(tmp_path: Path) -> None:
    when = {"base_date": datetime.date(2021, 3, 4), "base_time": datetime.time(9, 5, 1)}
    path = record(tmp_path / "a.hea", **when)
    sample = imported("wfdb", path)["a"]
    assert sample["annotation_times"] == [10 / 250, 1.0]
    assert (sample["annotation_labels"], sample["annotation_notes"]) == (["+", "V"], ["(AFIB", ""])
    assert sample["recorded"] == "2021-03-04T09:05:01"
    assert "69" not in str({key: value for key, value in sample.items() if key != "signal"})
    assert "annotation_times" not in imported("wfdb", path, annotator="none")["a"]
    with pytest.raises(InvalidSetting, match="annotator must be the end"):
        imported("wfdb", path, annotator="../x")
    write(path.with_suffix(".atr"), b"\xff" * 7)
    assert "annotator=none" in refusal("wfdb", path)


def test_channels_may_be_chosen(tmp_path: Path) -> None:
    sample = imported("wfdb", record(tmp_path / "a.hea"), channels="Art*")["a"]
    assert np.array_equal(sample["signal"], expected()[1:])
    assert sample["units"] == ["mmHg"]


def test_several_rates_must_be_chosen_from(tmp_path: Path) -> None:
    """Signals of 2 and 1 values per frame, in one file of 16 bits."""
    write(tmp_path / "m.hea", "m 2 100 3\nm.dat 16x2 200/mV 16 0 0 0 0 ECG\nm.dat 16 10/mmHg 16 0 0 0 0 ABP\n")
    write(tmp_path / "m.dat", np.array([1, 2, 10, 3, 4, 20, 5, 6, 30], "<i2").tobytes())
    assert "several rates: 'ECG' (200 Hz), 'ABP' (100 Hz)" in refusal("wfdb", tmp_path)
    fast = imported("wfdb", tmp_path, channels="ECG")["m"]
    assert fast["sampling_rate"] == 200.0
    assert fast["signal"].tolist() == [[5, 10, 15, 20, 25, 30]]
    assert imported("wfdb", tmp_path, channels="ABP")["m"]["signal"].tolist() == [[1, 2, 3]]


def test_invalid_values_are_refused_or_replaced(tmp_path: Path) -> None:
    digital = DIGITAL.copy()
    digital[7, 1] = -32768  # WFDB's mark
    path = record(tmp_path / "a.hea", digital=digital)
    assert "1 values are not finite, the first is nan at (1, 7)" in refusal("wfdb", path)
    assert imported("wfdb", path, nan="-1")["a"]["signal"][1, 7] == -1


def test_it_is_recognised_and_goes_in_once(tmp_path: Path, catalog: Catalog) -> None:
    folder = tmp_path / "in"
    record(folder / "a.hea")
    record(folder / "b.hea", digital=DIGITAL[:77], marks=False)
    write(folder / "whole.hea", "whole/2 2 250 1077\na 1000\nb 77\n")
    assert choose_importer(Source(folder)).name == "wfdb"
    report = catalog.ingest(folder, "ecg")
    assert (report.added, report.failed) == (2, [])
    assert catalog.ingest(folder, "ecg").added == 0
    assert catalog["ecg"].select()["b"]["signal"].shape == (2, 77)
    assert catalog["ecg"].preview("a").content.startswith(b"\x89PNG")
    assert "is a record of 2 segments" in refusal("wfdb", folder / "whole.hea")


def changed(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def cut(path: Path) -> None:
    data = path.with_suffix(".dat")
    data.write_bytes(data.read_bytes()[:-1])


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (cut, "a.dat is cut off: 4000 bytes promised, 3999 there"),
        (lambda path: path.with_suffix(".dat").write_bytes(b""), "a.dat is cut off: 4000 bytes promised, 0 there"),
        (lambda path: path.with_suffix(".dat").unlink(), "names 'a.dat', which is not beside it"),
        (lambda path: changed(path, "a.dat", "../a.dat"), "names a file elsewhere, '../a.dat'"),
        (lambda path: changed(path, "a.dat", "/etc/passwd"), "names a file elsewhere, '/etc/passwd'"),
        (lambda path: changed(path, "a.dat", "s3://bucket/a.dat"), "names a file elsewhere, 's3://bucket/a.dat'"),
        (lambda path: changed(path, "a.dat", "~"), "names a file elsewhere, '~'"),
        (lambda path: changed(path, "a 2 250 1000", "a 3 250 1000"), "claims 3 signals and describes 2"),
        (lambda path: changed(path, "a 2 250 1000", "a 0 250 1000"), "claims 0 signals and describes 2"),
        (lambda path: changed(path, "a 2 250 1000", "a 2 0 1000"), "gives 0 Hz"),
        (
            lambda path: changed(path, "a 2 250 1000", "a 2 250 999999999999"),
            "is cut off: 3999999999996 bytes promised",
        ),
        (lambda path: changed(path, "a.dat 16 ", "a.dat 16x0 "), "0 values per frame"),
        (lambda path: changed(path, "a.dat 16 ", "a.dat 999 "), "cannot be decoded as a WFDB record"),
        (lambda path: write(path, b""), "is no header of a WFDB record"),
        (lambda path: write(path, b"\xff\0" * 300), "is no header of a WFDB record"),
        (lambda path: write(path, path.read_text().splitlines()[0]), "claims 2 signals and describes 0"),
    ],
)
def test_broken_records_are_refused(tmp_path: Path, damage: Callable[[Path], object], says: str) -> None:
    path = record(tmp_path / "a.hea")
    damage(path)
    text = refusal("wfdb", path)
    assert text.startswith(f"{path}: ")
    assert says in text


def test_the_limit_of_values(tmp_path: Path) -> None:
    path = record(tmp_path / "a.hea")
    assert "claims 2000 values, more than the limit of 1999" in refusal("wfdb", path, max_values="1999")
