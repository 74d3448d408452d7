"""NumPy archives become regular series; bombs, objects and contradictions are refused before they cost anything."""

from __future__ import annotations

import io
import struct
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sensorium.catalog import Catalog
from sensorium.catalog.importer import GROUP, Importer, Source
from sensorium.platform import plugins
from sensorium.platform.errors import InvalidSetting, UnreadableFile

SIGNAL = np.arange(12, dtype=np.int16).reshape(2, 6)


def npz() -> Importer:
    found: Importer = plugins.load(GROUP, "npz", Importer)
    return found


def imported(path: Path, **options: str) -> dict[str, dict[str, Any]]:
    return {item.id: npz().read(item, options) for item in npz().plan(Source(path, options))}


def refusal(path: Path, **options: str) -> str:
    with pytest.raises(UnreadableFile) as caught:
        imported(path, **options)
    return str(caught.value)


def save(path: Path, **arrays: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, **arrays)
    return path


def test_usual_names_need_no_options(tmp_path: Path) -> None:
    path = save(tmp_path / "a.npz", data=SIGNAL, sfreq=128, ch_names=np.array([" Fz", "Cz"]))
    sample = imported(path)["a"]
    assert np.array_equal(sample["signal"], SIGNAL)
    assert sample["signal"].dtype == np.int16
    assert (sample["sampling_rate"], sample["channels"], sample["member"]) == (128.0, ["Fz", "Cz"], "data")


def test_several_members_make_several_samples(tmp_path: Path) -> None:
    save(tmp_path / "in/s1.npz", rest=SIGNAL, task=SIGNAL[:, :3], fs=100, gain=0.5)
    (tmp_path / "subjects.csv").write_text("Subject,age\ns1,31\n")
    options = {"signal": "rest, task", "scale": "gain", "label_from": "member", "metadata": "../subjects.csv"}
    samples = imported(tmp_path / "in", **options)
    assert list(samples) == ["s1/rest", "s1/task"]
    assert {sample["label"] for sample in samples.values()} == {"rest", "task"}
    assert {sample["age"] for sample in samples.values()} == {31}
    assert samples["s1/task"]["signal"].dtype == np.float32
    assert np.array_equal(samples["s1/task"]["signal"], SIGNAL[:, :3] * np.float32(0.5))


def test_numbers_may_stand_for_members(tmp_path: Path) -> None:
    path = save(tmp_path / "a.npz", x=SIGNAL[0], rate=1)
    sample = imported(path, sampling_rate="250", scale="2e-1")["a"]
    assert sample["signal"].shape == (1, 6)
    assert sample["sampling_rate"] == 250.0
    assert sample["signal"][0, 5] == np.float32(1.0)


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        *[(kind, kind) for kind in ("int16", "int32", "float32", "float64")],
        *[("int8", "int16"), ("uint16", "int32"), ("int64", "float64"), ("float16", "float32"), (">i2", "int16")],
    ],
)
def test_types_widen_without_loss(tmp_path: Path, given: str, kept: str) -> None:
    path = save(tmp_path / "a.npz", signal=np.asfortranarray(SIGNAL.astype(given)), fs=1)
    signal = imported(path)["a"]["signal"]
    assert signal.dtype.name == kept
    assert signal.dtype.isnative
    assert signal.flags.c_contiguous
    assert np.array_equal(signal, SIGNAL)


@pytest.mark.parametrize(
    ("arrays", "options", "says"),
    [
        ({"rest": SIGNAL, "fs": 1}, {}, "no array has a usual name of a signal (there are: rest, fs)"),
        ({"rest": SIGNAL, "fs": 1}, {"signal": "rset"}, "has no array 'rset' (signal=). Mend the option. Did you mean"),
        ({"data": SIGNAL}, {}, "Say sampling_rate=HZ"),
        ({"data": SIGNAL, "fs": 0}, {}, "its sampling rate is 0.0"),
        ({"data": SIGNAL, "fs": [1, 2]}, {}, "its sampling rate is [1.0, 2.0]"),
        ({"data": SIGNAL, "fs": "fast"}, {}, "array 'fs' (sampling_rate) holds no finite numbers"),
        ({"data": SIGNAL, "fs": 1}, {"sampling_rate": "fast"}, "has no array 'fast'"),
        ({"data": SIGNAL.T, "fs": 1, "channels": ["a", "b"]}, {}, "Save it as [channels, times]"),
        ({"data": SIGNAL, "fs": 1, "n": [1, 2]}, {"channels": "n"}, "holds no list of names"),
        ({"data": SIGNAL[None], "fs": 1}, {}, "has shape (1, 2, 6)"),
        ({"data": SIGNAL[:, :0], "fs": 1}, {}, "has shape (2, 0)"),
        ({"data": SIGNAL > 3, "fs": 1}, {}, "values of type bool"),
        ({"data": SIGNAL + 1j, "fs": 1}, {}, "values of type complex128"),
        ({"data": np.array([[1.0, 2.0], [3.0, np.nan]]), "fs": 1}, {}, "the value of channel 1 at 1 is nan"),
        ({"data": SIGNAL.astype(np.int64) + 2**60 + 1, "fs": 1}, {}, "integers beyond 2^53"),
        ({"data": SIGNAL.astype(float), "fs": 1}, {"scale": "1e300"}, "does not fit into float32"),
        ({"data": SIGNAL, "fs": 1, "k": [1.0, 2.0]}, {"scale": "k"}, "its scale is [1.0, 2.0]"),
    ],
)
def test_contradictions_are_refused(tmp_path: Path, arrays: Any, options: dict[str, str], says: str) -> None:
    path = save(tmp_path / "a.npz", **arrays)
    text = refusal(path, **options)
    assert text.startswith(f"{path}: ")
    assert says in text


def test_options_are_checked(tmp_path: Path) -> None:
    path = save(tmp_path / "a.npz", data=SIGNAL, fs=1)
    for wrong in ({"signal": "data,data"}, {"signal": ","}, {"label_from": "name"}, {"max_bytes": "some"}):
        with pytest.raises(InvalidSetting, match=next(iter(wrong))):
            imported(path, **wrong)


def test_objects_are_never_unpickled(tmp_path: Path) -> None:
    path = save(tmp_path / "a.npz", data=np.array([[{"a": 1}]], dtype=object), fs=1)
    assert "Python objects, which are never unpickled" in refusal(path)


def npy(shape: tuple[int, ...], payload: bytes) -> bytes:
    """An array file whose header claims ``shape`` of bytes."""
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return stream.getvalue() + payload


def test_large_archives_are_refused_before_they_are_inflated(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("data.npy", npy((1, 30_000_000), b"\0" * 30_000_000))
    tracemalloc.start()
    assert "more than the limit of 1e+06. Split it, or, if it is real, raise the limit with max_bytes=300" in refusal(
        path, max_bytes="1e6"
    )
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3e6
    sample = imported(path, sampling_rate="1")["a"]
    assert sample["signal"].shape == (1, 30_000_000)


def test_lies_about_sizes_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("data.npy", npy((1, 10**12), b"\0" * 100))
    assert "its header claims (1, 1000000000000) of uint8, its size says otherwise" in refusal(path)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("data.npy", npy((1, 100), b"\0" * 100))
    content = bytearray(path.read_bytes())
    place = content.index(b"PK\x01\x02")  # the list of contents: claim 4 GB
    content[place + 24 : place + 28] = struct.pack("<I", 0xFFFFFFF0)
    path.write_bytes(content)
    assert "which no compression reaches" in refusal(path)


def test_damaged_and_foreign_archives_are_refused(tmp_path: Path) -> None:
    whole = save(tmp_path / "a.npz", data=SIGNAL, fs=1).read_bytes()
    path = tmp_path / "b.npz"
    path.write_bytes(whole[:-30])
    assert "cannot be read as a NumPy archive" in refusal(path)
    path.write_bytes(b"not a zip file at all")
    assert "cannot be read as a NumPy archive" in refusal(path)
    plain = io.BytesIO()
    np.savez(plain, data=SIGNAL, fs=1)
    damaged = bytearray(plain.getvalue())
    damaged[damaged.index(SIGNAL.tobytes()) + 5] ^= 1  # one bit of one value
    path.write_bytes(damaged)
    assert "CRC" in refusal(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "nothing here")
    assert "holds no array" in refusal(path)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("data.npy", npy((1, 9), b"\0" * 9))
    assert "compressed in a foreign way" in refusal(path)


def test_it_is_recognised_and_a_bad_file_spoils_no_other(tmp_path: Path, catalog: Catalog) -> None:
    save(tmp_path / "in/a.npz", data=SIGNAL, fs=2)
    (tmp_path / "in/b.npz").write_bytes(b"broken")
    report = catalog.ingest(tmp_path / "in", "series")
    assert (report.format, report.added, len(report.failed)) == ("npz", 1, 1)
    assert np.array_equal(catalog["series"].select()["a"]["signal"], SIGNAL)
    save(tmp_path / "out/a.npz", weights=SIGNAL)
    assert npz().matches(Source(tmp_path / "out")) == 0
    assert npz().matches(Source(tmp_path / "out", {"signal": "weights"})) == pytest.approx(0.54)


def test_real_eeg(shared_data: Path, catalog: Catalog) -> None:
    options = {
        "signal": "rest,task",
        "scale": "scale_uV",
        "label_from": "member",
        "metadata": "../subject-info.csv",
        "pattern": r"(?P<subject>Subject\d+)",
    }
    report = catalog.ingest(shared_data / "eeg/eegmat/npz125", "eegmat", "npz", options=options)
    assert (report.added, report.failed) == (58, [])
    frame = catalog["eegmat"].select().frame()
    assert frame["subject"].n_unique() == 29
    assert sorted(frame["label"].unique()) == ["rest", "task"]
    assert frame["Age"].null_count() == frame["Gender"].null_count() == 0
    sample = catalog["eegmat"].select()["Subject00/rest"]
    assert sample["signal"].shape == (21, 15000)
    assert sample["sampling_rate"] == 125.0
    assert float(np.abs(sample["signal"][:19]).max()) < 500  # µV, without the electrocardiogram
