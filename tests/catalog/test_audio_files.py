"""Sound of every encoding keeps its values and rate; what is cut off, empty or not finite is named."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import scipy.io

from sensorium.catalog.importer import Source
from sensorium.platform.errors import UnreadableFile
from tests.catalog.importing import imported, importer, refusal, shared, sound, write

SOUNDS = Path(scipy.io.__file__).parent / "tests/data"


@pytest.mark.parametrize(
    ("ending", "subtype", "dtype"),
    [
        ("wav", "PCM_16", "int16"),
        ("wav", "PCM_U8", "float32"),
        ("wav", "PCM_24", "float32"),
        ("wav", "PCM_32", "float32"),
        ("wav", "FLOAT", "float32"),
        ("wav", "DOUBLE", "float32"),
        ("wav", "ULAW", "float32"),
        ("flac", "PCM_16", "int16"),
        ("flac", "PCM_24", "float32"),
        ("aiff", "PCM_16", "int16"),
        ("ogg", "VORBIS", "float32"),
        ("mp3", "MPEG_LAYER_III", "float32"),
    ],
)
@pytest.mark.parametrize("channels", [1, 2])
def test_sound_of_every_encoding_is_read(tmp_path: Path, ending: str, subtype: str, dtype: str, channels: int) -> None:
    wave = (0.5 * np.sin(np.arange(8000) / 20)).astype(np.float32)
    wave = wave if channels == 1 else np.stack([wave, -wave], axis=1)
    path = sound(tmp_path / f"a.{ending}", wave, 16000, subtype)
    sample = imported("audio_files", path)["a"]
    audio = sample["audio"]
    assert audio.dtype == dtype
    assert audio.shape[:-1] == (() if channels == 1 else (2,))
    assert sample["sampling_rate"] == 16000.0
    scale = 32768 if dtype == "int16" else 1
    if subtype not in ("VORBIS", "MPEG_LAYER_III"):  # those that keep the samples in their places
        assert np.allclose(audio / scale, wave.T, atol=0.02)
    else:
        assert np.abs(audio).max() == pytest.approx(0.5, abs=0.1)
    assert importer("audio_files").matches(Source(path)) > 0.5


def test_the_strangest_sound_files_read_or_are_refused_with_reason() -> None:
    """Encodings of every width and order, cut and inconsistent headers."""
    found = importer("audio_files")
    read, refused = {}, {}
    for path in sorted(SOUNDS.glob("*.wav")):
        (item,) = found.plan(Source(path))
        try:
            read[path.stem] = found.read(item, {})
        except UnreadableFile as error:
            refused[path.stem] = str(error)
    assert len(read) > len(refused) > 0
    assert read["test-44100Hz-2ch-32bit-float-be"]["audio"].shape == (2, 441)
    assert read["test-8000Hz-be-3ch-5S-24bit"]["audio"].shape == (3, 5)
    assert read["test-44100Hz-le-1ch-4bytes-rf64"]["audio"].shape == (4410,)
    whole, cut = "test-44100Hz-le-1ch-4bytes", "test-44100Hz-le-1ch-4bytes-early-eof"
    assert whole in read
    assert "17640 bytes of sound promised, 944 there" in refused[cut]
    assert all(f"{name}.wav: " in text and text.endswith(".") for name, text in refused.items())


def _header(size: int) -> bytes:
    """A WAV file of one channel of 16 bits whose data chunk claims ``size`` bytes, and holds none."""
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, 8000, 16000, 2, 16)
    return b"RIFF" + struct.pack("<I", 36) + b"WAVE" + form + b"data" + struct.pack("<I", size)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("zero.wav", lambda _: _header(0), "holds no sound"),
        ("text.wav", lambda _: b"no sound at all", "cannot be decoded as sound"),
        ("empty.flac", lambda _: b"", "cannot be decoded as sound"),
        ("cut.wav", lambda whole: whole[: len(whole) // 2], "is cut off: 4000 bytes of sound promised, 1978 there"),
        ("cut.flac", lambda whole: whole[: len(whole) // 2], ""),
        ("claim.wav", lambda _: _header(0x7FFFFFF0), "2147483632 bytes of sound promised, 0 there"),
        ("header.wav", lambda whole: whole[:20], "cannot be decoded as sound"),
    ],
)
def test_broken_sound_is_refused(tmp_path: Path, name: str, content: Callable[[bytes], bytes], says: str) -> None:
    noise = np.random.default_rng(0).integers(-9999, 9999, 2000).astype(np.int16)
    whole = sound(tmp_path / name, noise).read_bytes()
    path = write(tmp_path / name, content(whole))
    text = refusal("audio_files", path)
    assert text.startswith(f"{path}: ")
    assert says in text
    assert text.count(str(path)) == 1


def test_a_stream_of_unknown_length_is_read(tmp_path: Path) -> None:
    """Programs that write to a pipe leave the size of the data chunk at its largest value."""
    path = write(tmp_path / "a.wav", _header(0xFFFFFFFF) + np.arange(100, dtype="<i2").tobytes())
    assert imported("audio_files", path)["a"]["audio"].tolist() == list(range(100))


def test_sound_that_is_not_finite_is_refused(tmp_path: Path) -> None:
    wave = np.zeros((9, 2), np.float32)
    wave[3, 1] = np.nan
    assert "value 3 is [0.0, nan]" in refusal("audio_files", sound(tmp_path / "a.wav", wave, subtype="FLOAT"))


def test_the_limit_of_sound_values_is_an_option(tmp_path: Path) -> None:
    path = sound(tmp_path / "a.wav", np.zeros((10, 2), np.int16))
    assert "max_values=20" in refusal("audio_files", path, max_values="19")
    assert imported("audio_files", path, max_values="20")["a"]["audio"].shape == (2, 10)


def test_real_spoken_digits() -> None:
    folder = shared("audio/fsdd")
    options = {"pattern": r"(?P<digit>\d)_(?P<speaker>\w+)_(?P<take>\d+)"}
    found = importer("audio_files")
    items = list(found.plan(Source(folder, options)))
    assert len(items) == 1200
    assert {item.scalars["digit"] for item in items} == set(range(10))
    assert len({item.scalars["speaker"] for item in items}) == 6
    sample = found.read(items[0], options)
    assert (sample["audio"].dtype, sample["sampling_rate"]) == (np.int16, 8000.0)


def test_real_flac() -> None:
    samples = imported("audio_files", shared("audio/vctk_samples"))
    assert {(sample["audio"].dtype.name, sample["sampling_rate"]) for sample in samples.values()} == {
        ("int16", 48000.0)
    }
