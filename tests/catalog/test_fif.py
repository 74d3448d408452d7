"""Raw FIF files, written by MNE, become series; epochs and later parts are no samples; what is cut off is named."""

from __future__ import annotations

import datetime
import gzip
import struct
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mne
import numpy as np
import pytest

from sensorium.catalog import Catalog
from sensorium.catalog.importer import Source
from sensorium.catalog.ingest import choose_importer
from tests.catalog.importing import imported, importer, refusal, write

NAMES, KINDS = ["Fz", "Oz 2", "MEG1", "STI"], ["eeg", "eog", "mag", "stim"]
VALUES = np.random.default_rng(5).normal(0, 4e-5, (4, 1000))
VALUES[2] *= 1e-8
VALUES[3] = np.arange(1000) // 100


def recording(values: Any = VALUES, first: int = 0) -> Any:
    info = mne.create_info(NAMES, 200.0, KINDS)
    info["bads"] = ["Oz 2"]
    return mne.io.RawArray(values, info, first_samp=first, verbose="ERROR")


def record(path: Path, raw: Any = None, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of names that do not end in raw.fif
        (recording() if raw is None else raw).save(path, overwrite=True, verbose="ERROR", **options)
    return path


@pytest.mark.parametrize("kind", ["single", "double"])
def test_values_units_and_marks(tmp_path: Path, kind: str) -> None:
    path = record(tmp_path / "Übung 1/a b_raw.fif", fmt=kind)
    sample = imported("fif", tmp_path / "Übung 1")["a b_raw"]
    expected = VALUES * np.array([[1e6], [1e6], [1], [1]])
    assert sample["signal"].dtype == np.float32
    assert np.allclose(sample["signal"], expected, rtol=3e-7, atol=0)
    assert np.array_equal(sample["signal"][3], VALUES[3])
    assert sample["channels"] == NAMES
    assert sample["units"] == ["µV", "µV", "T", ""]
    assert (sample["sampling_rate"], sample["bad_channels"]) == (200.0, ["Oz 2"])
    assert "recorded" not in sample
    assert importer("fif").matches(Source(path)) > 0.5


def test_packed_files_hold_the_same(tmp_path: Path, catalog: Catalog) -> None:
    plain = imported("fif", record(tmp_path / "a_raw.fif"))["a_raw"]
    record(tmp_path / "in/Übung 1/b_raw.fif.gz")
    epochs = mne.make_fixed_length_epochs(recording(), 1.0, verbose="ERROR")
    epochs.save(tmp_path / "in/b-epo.fif.gz", verbose="ERROR")
    assert choose_importer(Source(tmp_path / "in")).name == "fif"
    (packed,) = imported("fif", tmp_path / "in").items()
    assert packed[0] == "Übung 1/b_raw"
    assert np.array_equal(packed[1]["signal"], plain["signal"])
    assert packed[1]["channels"] == plain["channels"]
    assert catalog.ingest(tmp_path / "in", "meg").added == 1
    assert catalog.ingest(tmp_path / "in", "meg").added == 0


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (lambda plain: gzip.compress(plain)[:-200], "cannot be unpacked"),
        (lambda plain: gzip.compress(plain[:-30]), "is cut off or damaged"),
        (lambda plain: plain, "cannot be unpacked"),
        (lambda plain: b"", "is no FIF file"),
        (lambda plain: gzip.compress(bytes(400 << 20), 1), "inflates to more than 2.76435e+08 bytes"),
    ],
)
def test_broken_packed_files_are_refused(tmp_path: Path, content: Callable[[bytes], bytes], says: str) -> None:
    plain = record(tmp_path / "a_raw.fif").read_bytes()
    path = write(tmp_path / "b_raw.fif.gz", content(plain))
    text = refusal("fif", path, max_values="1e6")
    assert text.startswith(f"{path}: ")
    assert says in text


@pytest.mark.parametrize("dated", [True, False])
def test_annotations_count_from_the_first_value(tmp_path: Path, dated: bool) -> None:
    raw = recording(first=400)
    if dated:
        raw.set_meas_date(datetime.datetime(2021, 3, 4, 9, 5, 1, tzinfo=datetime.UTC))
    start = raw.info["meas_date"]
    onsets = np.array([3.0, 1.0]) + (raw.first_time if dated else 0)
    raw.set_annotations(mne.Annotations(onsets, [0.5, 0], ["eyes closed", "BAD"], orig_time=start))
    sample = imported("fif", record(tmp_path / "a_raw.fif", raw))["a_raw"]
    assert sample["annotation_times"] == pytest.approx([1.0, 3.0])
    assert sample["annotation_labels"] == ["BAD", "eyes closed"]
    assert sample["annotation_durations"] == [0, 0.5]
    assert sample.get("recorded") == ("2021-03-04T09:05:01+00:00" if dated else None)


def test_persons_are_left_out(tmp_path: Path) -> None:
    raw = recording()
    raw.info["subject_info"] = {"last_name": "Doe", "his_id": "P7"}
    sample = imported("fif", record(tmp_path / "a_raw.fif", raw))["a_raw"]
    assert not any(word in str(sample) for word in ("Doe", "P7"))


def test_later_parts_and_other_kinds_are_no_samples(tmp_path: Path, catalog: Catalog) -> None:
    folder = tmp_path / "in"
    long = recording(np.tile(VALUES, 180))  # 180 000 moments
    record(folder / "long_raw.fif", long, split_size="2MB", buffer_size_sec=50)
    record(folder / "short_raw.fif")
    epochs = mne.make_fixed_length_epochs(recording(), 1.0, verbose="ERROR")
    epochs.save(folder / "short-epo.fif", verbose="ERROR")
    assert len(list(folder.iterdir())) > 3
    assert choose_importer(Source(folder)).name == "fif"
    report = catalog.ingest(folder, "meg")
    assert (report.added, report.failed) == (2, [])
    assert catalog.ingest(folder, "meg").added == 0
    assert catalog["meg"].select()["long_raw"]["signal"].shape == (4, 180_000)
    assert catalog["meg"].preview("short_raw").content.startswith(b"\x89PNG")
    assert "holds no raw data" in refusal("fif", folder / "short-epo.fif")
    (folder / "short_raw.fif").unlink()
    for path in folder.glob("long*"):
        path.unlink()
    assert "none of its FIF files holds raw data" in refusal("fif", folder)


def test_a_part_that_is_absent_is_said(tmp_path: Path) -> None:
    path = record(tmp_path / "a_raw.fif", recording(np.tile(VALUES, 180)), split_size="2MB", buffer_size_sec=50)
    (tmp_path / "a_raw-1.fif").unlink()
    assert "cannot be decoded as FIF recordings" in refusal("fif", path)


def test_a_gap_that_claims_more_than_the_limit_is_refused(tmp_path: Path) -> None:
    """A skip of a few bytes stands for as many buffers of zeros as it says."""
    path = record(tmp_path / "a_raw.fif")
    assert "claims 4000 values, more than the limit of 3999" in refusal("fif", path, max_values="3999")
    content = path.read_bytes()
    place = content.index(struct.pack(">2i", 300, 4), content.index(struct.pack(">2i", 300, 4)) + 8)
    skip = struct.pack(">5i", 301, 3, 4, 0, 2_000_000)
    path.write_bytes(content[:place] + skip + content[place:])
    assert "more than the limit of 1e+09" in refusal("fif", path)


@pytest.mark.parametrize(
    ("harm", "says"),
    [
        (lambda content: content[: len(content) // 2], "is cut off or damaged"),
        (lambda content: content[:-30], "is cut off or damaged"),
        (lambda content: content[:40], "is cut off or damaged"),
        (lambda content: b"", "is no FIF file"),
        (lambda content: b"no such thing\n" * 9, "is no FIF file"),
        (lambda content: content[:100] + b"\xff" * 400 + content[500:], "is cut off or damaged"),
    ],
)
def test_broken_files_are_refused(tmp_path: Path, harm: Callable[[bytes], bytes], says: str) -> None:
    path = record(tmp_path / "a_raw.fif")
    write(path, harm(path.read_bytes()))
    text = refusal("fif", path)
    assert text.startswith(f"{path}: ")
    assert says in text


def test_values_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    values = VALUES.copy()
    values[2, 7] = np.inf
    path = record(tmp_path / "a_raw.fif", recording(values), fmt="double")
    assert "channel 'MEG1' is not finite" in refusal("fif", path)
    assert imported("fif", path, channels="F*")["a_raw"]["channels"] == ["Fz"]
