"""BrainVision recordings, written by pybv, become series; what is broken or elsewhere is named."""

from __future__ import annotations

import datetime
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mne
import numpy as np
import pybv
import pytest

from sensorium.catalog import Catalog
from sensorium.catalog.importer import Source
from sensorium.catalog.ingest import choose_importer
from tests.catalog.importing import imported, importer, refusal, write

WAVES = np.random.default_rng(3).normal(0, 40, (3, 500))  # µV
EVENTS = [
    {"onset": 30, "description": 1, "duration": 2},
    {"onset": 50, "description": "eyes closed", "type": "Comment"},
]


def record(path: Path, waves: Any = WAVES, **options: Any) -> Path:
    """Write ``waves`` (µV) as a recording of 250 Hz."""
    path.parent.mkdir(parents=True, exist_ok=True)
    names = ["Fp1", "Cz 2", "Ö,3"][: len(waves)]
    given = {"events": EVENTS, "meas_date": datetime.datetime(2021, 3, 4, 9, 5, 1), **options}
    pybv.write_brainvision(
        data=waves * 1e-6, sfreq=250.0, ch_names=names, fname_base=path.stem, folder_out=path.parent, **given
    )
    return path


def changed(path: Path, old: str, new: str) -> Path:
    """``path`` with some of its text replaced."""
    text = path.read_text()
    assert old in text
    return write(path, text.replace(old, new, 1))


@pytest.mark.parametrize(("kind", "step"), [("binary_float32", 0.0), ("binary_int16", 0.1)])
def test_values_are_physical(tmp_path: Path, kind: str, step: float) -> None:
    path = record(tmp_path / "Übung 1/a b.vhdr", fmt=kind)
    sample = imported("brainvision", tmp_path / "Übung 1")["a b"]
    assert sample["signal"].dtype == np.float32
    assert np.abs(sample["signal"] - WAVES).max() <= step + 2e-5  # the writer cuts fractions of a step off
    assert sample["channels"] == ["Fp1", "Cz 2", "Ö,3"]
    assert (sample["sampling_rate"], sample["units"]) == (250.0, ["µV"] * 3)
    assert sample["recorded"] == "2021-03-04T09:05:01"
    assert importer("brainvision").matches(Source(path)) > 0.5


def test_markers_become_annotations(tmp_path: Path) -> None:
    sample = imported("brainvision", record(tmp_path / "a.vhdr"))["a"]
    assert sample["annotation_times"] == [30 / 250, 50 / 250]
    assert sample["annotation_labels"] == ["Stimulus/S  1", "Comment/eyes closed"]
    assert sample["annotation_durations"] == [2 / 250, 1 / 250]
    plain = imported("brainvision", record(tmp_path / "b.vhdr", events=None, meas_date=None))["b"]
    assert not {"annotation_times", "recorded"} & set(plain)


def test_units_other_than_microvolts(tmp_path: Path) -> None:
    path = record(tmp_path / "a.vhdr", resolution=1.0)
    for name, unit in (("Fp1", "mV"), ("Cz 2", "C"), (r"Ö\13", "µS")):
        changed(path, f"{name},,1,µV", f"{name},,1,{unit}")
    sample = imported("brainvision", path)["a"]
    assert sample["units"] == ["µV", "C", "µS"]
    assert np.allclose(sample["signal"] / WAVES, np.array([[1e3], [1], [1]]), rtol=1e-5)


def test_values_channel_by_channel(tmp_path: Path) -> None:
    """Vectorised files hold all values of the first channel, then all of the second."""
    path = record(tmp_path / "a.vhdr", fmt="binary_float32", resolution=1.0)
    stored = np.fromfile(path.with_suffix(".eeg"), "<f4").reshape(-1, 3)
    np.ascontiguousarray(stored.T).tofile(path.with_suffix(".eeg"))
    changed(path, "DataOrientation=MULTIPLEXED", "DataOrientation=VECTORIZED\nDataPoints=500")
    assert np.array_equal(imported("brainvision", path)["a"]["signal"], stored.T)


def as_text(
    path: Path, *, orientation: str = "MULTIPLEXED", lines: int = 0, columns: int = 0, comma: str = "."
) -> Path:
    """The recording ``path`` with its values as NumPy writes them to text, in steps of 0.1 µV."""
    record(path, fmt="binary_int16", resolution=0.1)
    stored = np.fromfile(path.with_suffix(".eeg"), "<i2").reshape(-1, 3) / 4
    rows = stored if orientation == "MULTIPLEXED" else stored.T
    names = ["Fp1", "Cz", "Oz"] if orientation == "VECTORIZED" else [f"t{place}" for place in range(len(rows))]
    text = "".join(f"{'head;' * 3}\n" for _ in range(lines))
    for name, row in zip(names, rows, strict=True):
        text += " ".join([*[name] * columns, *(repr(float(value)) for value in row)]).replace(".", comma) + "\n"
    write(path.with_suffix(".eeg"), text)
    changed(path, "=BINARY", "=ASCII")
    changed(path, "=MULTIPLEXED", f"={orientation}")
    entries = f"[ASCII Infos]\nDecimalSymbol={comma}\nSkipLines={lines}\nSkipColumns={columns}\n"
    changed(path, "[Binary Infos]\nBinaryFormat=INT_16\n", entries)
    write(path.with_name("expected.f8"), stored.T.tobytes())
    return path


@pytest.mark.parametrize("orientation", ["MULTIPLEXED", "VECTORIZED"])
@pytest.mark.parametrize(("lines", "columns", "comma"), [(0, 0, "."), (1, 1, ","), (2, 0, ",")])
def test_values_that_are_text(tmp_path: Path, orientation: str, lines: int, columns: int, comma: str) -> None:
    path = as_text(tmp_path / "Übung 1/a b.vhdr", orientation=orientation, lines=lines, columns=columns, comma=comma)
    stored = np.fromfile(path.with_name("expected.f8")).reshape(3, -1)
    sample = imported("brainvision", path)["a b"]
    assert sample["signal"].dtype == np.float32
    assert np.allclose(sample["signal"], stored * 0.1, rtol=3e-7, atol=0)
    assert (sample["channels"], sample["units"]) == (["Fp1", "Cz 2", "Ö,3"], ["µV"] * 3)
    assert sample["annotation_labels"] == ["Stimulus/S  1", "Comment/eyes closed"]
    assert sample["recorded"] == "2021-03-04T09:05:01"


def test_text_is_what_the_reference_reads(tmp_path: Path) -> None:
    path = as_text(tmp_path / "a.vhdr")
    reference = mne.io.read_raw_brainvision(path, verbose="ERROR").get_data() * 1e6
    assert np.allclose(imported("brainvision", path)["a"]["signal"], reference, rtol=3e-7, atol=0)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("\n", " 1.5\n", "a.eeg, line 1: has 4 values, not 3"),
        (" ", " x", "line 1: could not convert string to float"),
        (" ", " nan ", "a.eeg, line 1: has 4 values, not 3"),
        ("SkipLines=0", "SkipLines=-1", "its values are text, MULTIPLEXED, after -1 lines"),
        ("DecimalSymbol=.", "DecimalSymbol=;", "with ';'"),
        ("=MULTIPLEXED", "=SIDEWAYS", "its values are text, SIDEWAYS"),
        ("=MULTIPLEXED", "=VECTORIZED", "promises 3 points of 3 channels; a.eeg has 3 of 500"),
        ("=MULTIPLEXED", "=MULTIPLEXED\nDataPoints=501", "promises 501 points of 3 channels; a.eeg has 500 of 3"),
        ("", None, "a.eeg has no values"),
    ],
)
def test_broken_text_is_refused(tmp_path: Path, old: str, new: str | None, says: str) -> None:
    path = as_text(tmp_path / "a.vhdr")
    if new is None:
        write(path.with_suffix(".eeg"), b"")
    else:
        changed(path if "=" in old else path.with_suffix(".eeg"), old, new)
    text = refusal("brainvision", path)
    assert says in text
    assert str(tmp_path) in text
    assert "claims 1500 values" in refusal("brainvision", as_text(tmp_path / "b.vhdr"), max_values="1499")


def test_channels_may_be_chosen(tmp_path: Path) -> None:
    path = record(tmp_path / "a.vhdr")
    whole, part = (imported("brainvision", path, channels=text)["a"] for text in ("*", "C*"))
    assert part["channels"] == ["Cz 2"]
    assert np.array_equal(part["signal"], whole["signal"][1:2])
    assert "Did you mean 'Fp1'" in refusal("brainvision", path, channels="Fp")


def test_it_is_recognised_and_goes_in_once(tmp_path: Path, catalog: Catalog) -> None:
    record(tmp_path / "in/a.vhdr")
    record(tmp_path / "in/b.vhdr", WAVES[:2, :100])
    (tmp_path / "in/metadata.csv").write_text("id,age\na,31\nb,40\n")
    assert choose_importer(Source(tmp_path / "in")).name == "brainvision"
    report = catalog.ingest(tmp_path / "in", "eeg")
    assert (report.added, report.failed) == (2, [])
    assert catalog.ingest(tmp_path / "in", "eeg").added == 0
    assert catalog["eeg"].select()["b"]["signal"].shape == (2, 100)
    assert catalog["eeg"].select()["a"]["age"] == 31
    assert catalog["eeg"].preview("a").content.startswith(b"\x89PNG")


def cut(path: Path) -> None:
    data = path.with_suffix(".eeg")
    data.write_bytes(data.read_bytes()[:-5])


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (cut, "a.eeg is not as long as the header says: 5988 bytes promised, 5995 there"),
        (lambda path: path.with_suffix(".eeg").write_bytes(b""), "0 bytes promised, 0 there"),
        (lambda path: path.with_suffix(".eeg").unlink(), "names 'a.eeg', which is not beside it"),
        (lambda path: path.with_suffix(".vmrk").unlink(), "names 'a.vmrk', which is not beside it"),
        (lambda path: changed(path, "=a.eeg", "=../a.eeg"), "names a file elsewhere, '../a.eeg'"),
        (lambda path: changed(path, "=a.eeg", "=/etc/passwd"), "names a file elsewhere"),
        (lambda path: changed(path, "=a.vmrk", "=C:\\a.vmrk"), "names a file elsewhere"),
        (lambda path: changed(path, "Channels=3", "Channels=99999999"), "claims 99999999 channels and describes 3"),
        (lambda path: changed(path, "Channels=3", "Channels=x"), "gives 'x' as numberofchannels"),
        (lambda path: changed(path, "=BINARY", "=CSV"), "its values are CSV IEEE_FLOAT_32. Export it as BINARY"),
        (lambda path: changed(path, "IEEE_FLOAT_32", "FLOAT_7"), "its values are BINARY FLOAT_7"),
        (lambda path: changed(path, "Interval=4000.0", "Interval=0"), "gives '0' as the interval"),
        (lambda path: changed(path, "Interval=4000.0", "Interval=nan"), "gives 'nan' as the interval"),
        (lambda path: changed(path, "=MULTIPLEXED", "=SIDEWAYS"), "cannot be decoded as BrainVision recordings"),
        (lambda path: write(path, path.read_bytes()[:150]), "claims"),
        (lambda path: write(path, b""), "is no header of a BrainVision recording"),
        (lambda path: write(path, b"\0\xff" * 400), "is no header of a BrainVision recording"),
    ],
)
def test_broken_recordings_are_refused(tmp_path: Path, damage: Callable[[Path], object], says: str) -> None:
    path = record(tmp_path / "a.vhdr")
    damage(path)
    text = refusal("brainvision", path)
    assert text.startswith(f"{path}: ")
    assert says in text or says == "claims"


def test_what_is_too_large_or_not_finite_is_refused(tmp_path: Path) -> None:
    path = record(tmp_path / "a.vhdr")
    assert "claims 1500 values, more than the limit of 1499" in refusal("brainvision", path, max_values="1499")
    data = path.with_suffix(".eeg")
    data.write_bytes(struct.pack("<f", np.nan) + data.read_bytes()[4:])
    assert "channel 'Fp1' is not finite" in refusal("brainvision", path)
