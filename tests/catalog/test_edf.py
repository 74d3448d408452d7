"""EDF and BDF files, written by edfio, become series; what is broken is named."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from pathlib import Path
from typing import Any

import edfio
import numpy as np
import pytest

from sensorium.catalog import Catalog
from sensorium.catalog.importer import GROUP, Importer, Source
from sensorium.platform import plugins
from sensorium.platform.errors import UnreadableFile

RATE = 100
WAVES = np.random.default_rng(3).normal(0, 40, (3, 4 * RATE))


def imported(path: Path, **options: str) -> dict[str, dict[str, Any]]:
    found: Importer = plugins.load(GROUP, "edf", Importer)
    return {item.id: found.read(item, options) for item in found.plan(Source(path, options))}


def refusal(path: Path, **options: str) -> str:
    with pytest.raises(UnreadableFile) as caught:
        imported(path, **options)
    return str(caught.value)


def channel(row: int, label: str, unit: str = "uV", rate: int = RATE, *, bdf: bool = False) -> Any:
    kind = edfio.BdfSignal if bdf else edfio.EdfSignal
    data = np.resize(WAVES[row], rate * 4)
    return kind(data, rate, label=label, physical_dimension=unit, physical_range=(-400, 400))


def record(path: Path, channels: list[Any] | None = None, *, bdf: bool = False, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    made = channels or [channel(0, "EEG Fp1", bdf=bdf), channel(1, "EEG Cz", bdf=bdf)]
    (edfio.Bdf if bdf else edfio.Edf)(made, **options).write(path)
    return path


def patched(path: Path, place: int, field: bytes) -> Path:
    """``path`` with a field of its header replaced."""
    content = bytearray(path.read_bytes())
    content[place : place + len(field)] = field
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(("bdf", "step"), [(False, 800 / 65535), (True, 800 / (2**24 - 1))])
def test_values_are_physical_within_half_a_step(tmp_path: Path, bdf: bool, step: float) -> None:
    path = record(tmp_path / ("a.bdf" if bdf else "a.edf"), bdf=bdf)
    sample = imported(path)["a"]
    assert sample["signal"].dtype == np.float32
    assert sample["signal"].shape == (2, 400)
    assert np.abs(sample["signal"] - WAVES[:2]).max() <= 0.5 * step + 2e-5  # and the rounding of float32
    assert sample["channels"] == ["EEG Fp1", "EEG Cz"]
    assert (sample["sampling_rate"], sample["units"]) == (100.0, ["µV", "µV"])


def test_voltages_become_microvolts_and_other_units_stay(tmp_path: Path) -> None:
    channels = [channel(0, "a", "mV"), channel(0, "b", "nV"), channel(0, "c", "V"), channel(0, "d", "degreeC")]
    sample = imported(record(tmp_path / "a.edf", channels))["a"]
    ratios = sample["signal"].mean(axis=1) / sample["signal"][3].mean()
    assert ratios.tolist() == pytest.approx([1e3, 1e-3, 1e6, 1], rel=1e-5)
    assert sample["units"] == ["µV", "µV", "µV", "degreeC"]


def test_the_micro_sign_of_old_programs_is_understood(tmp_path: Path) -> None:
    path = record(tmp_path / "a.edf", [channel(0, "a")])
    patched(path, 256 + 16 + 80, "µV      ".encode("latin-1"))
    assert imported(path)["a"]["units"] == ["µV"]


def test_annotations_and_persons_are_left_out(tmp_path: Path) -> None:
    person = edfio.Patient(code="P7", name="Jane_Doe")
    recording = edfio.Recording(startdate=datetime.date(2021, 3, 4), investigator_technician_code="Erika_M")
    notes = [edfio.EdfAnnotation(1.0, None, "eyes closed")]
    path = record(
        tmp_path / "a.edf", patient=person, recording=recording, starttime=datetime.time(9, 5, 1), annotations=notes
    )
    sample = imported(path)["a"]
    assert sample["channels"] == ["EEG Fp1", "EEG Cz"]
    assert sample["recorded"] == "2021-03-04T09:05:01"
    assert not any(word in str(sample) for word in ("Jane", "P7", "Erika"))


@pytest.mark.parametrize(
    ("recording", "date", "expected"),
    [
        (b"", b"16.09.87", "1987-09-16T00:00:00"),
        (b"", b"16.09.07", "2007-09-16T00:00:00"),
        (b"", b"99.99.99", None),
        (b"", b"01.01.85", None),  # what EDF+ writes to hide a date
        (b"Startdate 02-AUG-2051 X X X", b"02.08.yy", "2051-08-02T00:00:00"),
        (b"Startdate X X X X", b"01.01.85", None),
    ],
)
def test_dates(tmp_path: Path, recording: bytes, date: bytes, expected: str | None) -> None:
    path = patched(record(tmp_path / "a.edf"), 88, recording.ljust(80))
    assert imported(patched(path, 168, date))["a"].get("recorded") == expected


def test_channels_of_several_rates_must_be_chosen(tmp_path: Path) -> None:
    path = record(tmp_path / "a.edf", [channel(0, "EEG A"), channel(1, "EEG B"), channel(2, "Resp", rate=25)])
    text = refusal(path)
    assert "most channels have 100 Hz, but not 'Resp' (25 Hz)" in text
    assert "channels=" in text
    assert imported(path, channels="EEG*")["a"]["channels"] == ["EEG A", "EEG B"]
    slow = imported(path, channels="Resp")["a"]
    assert (slow["signal"].shape, slow["sampling_rate"]) == ((1, 100), 25.0)
    assert "'Rasp'. Mend the option. Did you mean 'Resp'" in refusal(path, channels="Rasp")


def test_metadata_joins_by_the_name_of_the_file(tmp_path: Path) -> None:
    record(tmp_path / "edf/s1.edf")
    record(tmp_path / "edf/s2.bdf", bdf=True)
    (tmp_path / "subjects.csv").write_text("Subject,age\ns1,31\ns2,44\n")
    samples = imported(tmp_path / "edf", metadata="../subjects.csv")
    assert {name: sample["age"] for name, sample in samples.items()} == {"s1": 31, "s2": 44}


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def lengthen(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\0\0")


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (cut, "is cut off: "),
        (lengthen, "is longer than its header says"),
        (lambda path: path.write_bytes(path.read_bytes()[:100]), "is no EDF or BDF file"),
        (lambda path: path.write_bytes(path.read_bytes()[:300]), "is cut off within the header of its 2 channels"),
        (lambda path: path.write_bytes(b"RIFF" + path.read_bytes()[4:]), "is no EDF or BDF file"),
        (lambda path: patched(path, 236, b"-1      "), "never finished"),
        (lambda path: patched(path, 236, b"0       "), "holds no data record"),
        (lambda path: patched(path, 236, b"four    "), "gives 'four' as number of data records"),
        (lambda path: patched(path, 244, b"0       "), "its data records last 0 s"),
        (lambda path: patched(path, 244, b"nan     "), "gives 'nan' as duration"),
        (lambda path: patched(path, 252, b"0   "), "gives '0' as number of channels"),
        (lambda path: patched(path, 256 + 2 * 104, b"nan     "), "gives 'nan' as range of channel 'EEG Fp1'"),
        (lambda path: patched(path, 256 + 2 * 104, b"400     "), "which is no scale"),
        (lambda path: patched(path, 256 + 2 * 120, b"32767   "), "which is no scale"),
        (lambda path: patched(path, 256 + 2 * 112, b"1e300   "), "is not finite in float32"),
    ],
)
def test_broken_files_are_refused(tmp_path: Path, damage: Callable[[Path], object], says: str) -> None:
    path = record(tmp_path / "a.edf")
    damage(path)
    text = refusal(path)
    assert text.startswith(f"{path}: ")
    assert says in text


def test_a_cut_bdf_and_a_large_one_are_refused(tmp_path: Path) -> None:
    path = record(tmp_path / "a.bdf", bdf=True)
    assert "claims 800 values, more than the limit of 799" in refusal(path, max_values="799")
    cut(path)
    assert "is cut off" in refusal(path)


def test_gaps_between_records_are_refused(tmp_path: Path) -> None:
    path = record(tmp_path / "a.edf", [channel(0, "x")], annotations=[], data_record_duration=1.0)
    patched(path, 192, b"EDF+D")
    assert imported(path)["a"]["signal"].shape == (1, 400)  # called discontinuous, without a gap
    content = path.read_bytes()
    assert content.count(b"+2\x14\x14") == 1
    path.write_bytes(content.replace(b"+2\x14\x14", b"+7\x14\x14"))
    assert "has gaps between its data records" in refusal(path)


def test_it_is_recognised_and_a_bad_file_spoils_no_other(tmp_path: Path, catalog: Catalog) -> None:
    record(tmp_path / "in/a.edf")
    cut(record(tmp_path / "in/b.edf"))
    report = catalog.ingest(tmp_path / "in", "recordings")
    assert (report.format, report.added, len(report.failed)) == ("edf", 1, 1)
    stored = catalog["recordings"].select()["a"]
    assert np.array_equal(stored["signal"], imported(tmp_path / "in/a.edf")["a"]["signal"])
    assert stored["units"] == ["µV", "µV"]


def test_real_eeg(shared_data: Path) -> None:
    folder = shared_data / "eeg/eegmat"
    sample = imported(folder / "edf", metadata="none")["Subject00_1"]
    assert sample["signal"].shape == (21, 91000)
    assert sample["sampling_rate"] == 500.0
    assert sample["channels"][0] == "EEG Fp1"
    with np.load(folder / "npz125/Subject00.npz", allow_pickle=False) as archive:
        derived = archive["rest"] * 0.1  # decimated by 4 behind a low-pass, so it agrees roughly
    length = min(derived.shape[1], 91000 // 4)
    one, other = sample["signal"][0, ::4][:length], derived[0, :length]
    assert np.corrcoef(one, other)[0, 1] > 0.9
