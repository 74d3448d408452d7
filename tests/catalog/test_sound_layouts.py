"""Collections of sound: what names, transcripts, manifests and Kaldi's tables say, and parts cut to the value."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from sensorium.catalog import Catalog
from sensorium.catalog.importer import Source
from sensorium.catalog.ingest import choose_importer
from sensorium.platform.errors import InvalidName, InvalidSetting
from tests.catalog.importing import imported, importer, refusal, shared, sound, write

RAMP = np.arange(8000, dtype=np.int16)


def scalars(path: Path, name: str = "audio_files", **options: str) -> dict[str, dict[str, Any]]:
    return {item.id: dict(item.scalars) for item in importer(name).plan(Source(path, options))}


def manifest(folder: Path, *entries: dict[str, Any], name: str = "manifest.jsonl") -> Path:
    return write(folder / name, "".join(f"{json.dumps(entry)}\n" for entry in entries))


def kaldi(folder: Path, **tables: str) -> Path:
    """A data folder of two recordings of one second, with further tables."""
    for name in ("one", "two"):
        sound(folder / f"wav/{name}.wav", RAMP)
    write(folder / "wav.scp", "one wav/one.wav\ntwo wav/two.wav\n")
    for name, text in tables.items():
        write(folder / name, text)
    return folder


# names


@pytest.mark.parametrize(
    ("place", "says"),
    [
        ("7_theo_12.wav", {"digit": 7, "speaker": "theo", "take": 12}),
        ("wav/id10001/1zcIwhmdeo4/00001.wav", {"speaker": "id10001", "video": "1zcIwhmdeo4", "utterance": "00001"}),
        ("p225/p225_001_mic2.flac", {"speaker": "p225", "utterance": "001", "microphone": 2}),
        ("bed/0a7c2a8d_nohash_0.wav", {"word": "bed", "speaker": "0a7c2a8d", "take": 0}),
    ],
)
def test_layouts_of_collections_are_recognised_by_all_names(tmp_path: Path, place: str, says: dict[str, Any]) -> None:
    folder = tmp_path / "Sammlung Ä"
    sound(folder / place)
    (found,) = scalars(folder).values()
    assert found == {**says, "source": place}
    (plain,) = scalars(folder, layout="none").values()
    assert plain == {"source": place}
    (own,) = scalars(folder, pattern=r"(?P<name>[^/]+)\.").values()
    assert set(own) == {"source", "name"}
    sound(folder / "something else.wav")
    assert not any(set(says) & set(found) for found in scalars(folder).values())


def test_an_unknown_layout_is_said(tmp_path: Path) -> None:
    sound(tmp_path / "a.wav")
    with pytest.raises(InvalidSetting, match="layout must be auto, none, fsdd"):
        scalars(tmp_path, layout="fsd")
    with pytest.raises(InvalidSetting, match="transcripts must be auto or none; got 'x'"):
        scalars(tmp_path, transcripts="x")
    assert "fits none of 1 files" in refusal("audio_files", tmp_path, layout="fsdd")


def test_real_collections(catalog: Catalog) -> None:
    digits = scalars(shared("audio/fsdd"))
    assert len(digits) == 1200
    assert {row["digit"] for row in digits.values()} == set(range(10))
    assert len({row["speaker"] for row in digits.values()}) == 6
    spoken = imported("audio_files", shared("audio/vctk_samples"))
    assert {row["text"] for row in spoken.values()} == {"Please call Stella."}
    assert sorted({(row["speaker"], row["microphone"]) for row in spoken.values()}) == [
        ("p225", 1),
        ("p225", 2),
        ("p226", 1),
        ("p226", 2),
    ]
    report = catalog.ingest(shared("audio/vctk_samples"), "vctk")
    assert (report.format, report.added, report.failed) == ("audio_files", 4, [])


# transcripts


def test_transcripts_lie_beside_or_in_vctks_folder(tmp_path: Path, catalog: Catalog) -> None:
    sound(tmp_path / "in/wav48/p225/p225_001_mic1.flac")
    sound(tmp_path / "in/wav48/p225/p225_002_mic1.flac")
    write(tmp_path / "in/txt/p225/p225_001.txt", "  Bitte  Stella\nanrufen. \n")
    samples = imported("audio_files", tmp_path / "in")
    assert samples["wav48/p225/p225_001_mic1"]["text"] == "Bitte Stella anrufen."
    assert "text" not in samples["wav48/p225/p225_002_mic1"]
    assert not any("text" in sample for sample in imported("audio_files", tmp_path / "in", transcripts="none").values())
    assert catalog.ingest(tmp_path / "in", "speech").failed == []
    assert catalog["speech"].select().frame()["text"].to_list() == ["Bitte Stella anrufen.", None]


def test_a_table_that_has_the_text_goes_before_files(tmp_path: Path) -> None:
    sound(tmp_path / "a.wav")
    write(tmp_path / "a.txt", "from the file")
    write(tmp_path / "metadata.csv", "file,text\na.wav,from the table\n")
    assert imported("audio_files", tmp_path)["a"]["text"] == "from the table"
    assert imported("audio_files", tmp_path / "a.wav", metadata="none")["a"]["text"] == "from the file"


def test_a_transcript_that_is_no_text_is_named(tmp_path: Path) -> None:
    sound(tmp_path / "a.wav")
    path = write(tmp_path / "a.txt", b"\xff\xfe")
    assert refusal("audio_files", tmp_path).startswith(f"{path}: is no UTF-8 text")


# lengths


@pytest.mark.parametrize(
    ("ending", "subtype"), [("flac", "PCM_16"), ("ogg", "VORBIS"), ("opus", "OPUS"), ("mp3", "MPEG_LAYER_III")]
)
@pytest.mark.parametrize("length", [1, 1153, 48_001])
def test_compressed_sound_is_as_long_as_what_was_written(
    tmp_path: Path, ending: str, subtype: str, length: int
) -> None:
    wave = (0.5 * np.sin(np.arange(length) / 20)).astype(np.float32)
    path = tmp_path / f"a.{ending}"
    soundfile.write(path, wave, 48000, subtype=subtype, format="OGG" if ending == "opus" else None)
    audio = imported("audio_files", path)["a"]["audio"]
    assert audio.shape == (length,)
    if length > 10_000 and ending != "flac":
        assert np.corrcoef(audio, wave)[0, 1] > 0.98  # nothing is shifted


# manifests


def test_a_manifest_names_sounds_and_parts_of_them(tmp_path: Path, catalog: Catalog) -> None:
    folder = tmp_path / "Ü bung"
    sound(folder / "a/x 1.wav", RAMP)
    sound(folder / "b.flac", RAMP)
    manifest(
        folder,
        {"audio_filepath": "a/x 1.wav", "duration": 1.0, "text": "all", "lang": "de", "weight": 1},
        {"audio_filepath": "b.flac", "duration": 0.25, "offset": 0.5, "text": "part", "weight": 0.5, "tags": ["q"]},
        {"audio_filepath": "b.flac", "duration": 0.125, "offset": 0.125, "text": "other", "id": 7},
    )
    assert choose_importer(Source(folder)).name == "sound_manifest"
    assert choose_importer(Source(folder / "manifest.jsonl")).name == "sound_manifest"
    samples = imported("sound_manifest", folder)
    assert sorted(samples) == ["a/x 1", "b@125", "b@500"]
    assert np.array_equal(samples["a/x 1"]["audio"], RAMP)
    assert np.array_equal(samples["b@500"]["audio"], RAMP[4000:6000])
    assert np.array_equal(samples["b@125"]["audio"], RAMP[1000:2000])
    assert (samples["a/x 1"]["weight"], samples["b@500"]["weight"]) == (1.0, 0.5)
    assert samples["b@500"]["tags"] == '["q"]'
    assert samples["b@125"]["metadata_id"] == 7
    assert samples["b@125"]["source"] == "b.flac"
    assert catalog.ingest(folder, "speech").added == 3
    assert catalog.ingest(folder, "speech").added == 0
    assert catalog["speech"].select()["a/x 1"]["lang"] == "de"


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        ({"audio_filepath": "../x.wav"}, "line 2: '../x.wav' is not below"),
        ({"audio_filepath": "/etc/passwd"}, "line 2: '/etc/passwd' is not below"),
        ({"audio_filepath": "none.wav"}, "line 2: there is no sound 'none.wav'"),
        ({"text": "x"}, "line 2: names no audio_filepath"),
        ({"audio_filepath": "a.wav", "offset": -1}, "line 2: offset is -1, no number of seconds"),
        ({"audio_filepath": "a.wav", "duration": "long"}, "line 2: duration is 'long'"),
        ({"audio_filepath": "a.wav", "offset": 0.5, "duration": 9}, "the part from 0.5 s to 9.5 s is asked for"),
        ({"audio_filepath": "a.wav", "offset": 2}, "the part from 2 s to the end is asked for"),
    ],
)
def test_lines_of_a_manifest_that_cannot_be_read(tmp_path: Path, entry: dict[str, Any], says: str) -> None:
    sound(tmp_path / "in/a.wav", RAMP)
    sound(tmp_path / "in/good.wav")
    manifest(tmp_path / "in", {"audio_filepath": "good.wav"}, entry)
    assert says in refusal("sound_manifest", tmp_path / "in")


def test_broken_manifests(tmp_path: Path) -> None:
    sound(tmp_path / "a.wav")
    path = manifest(tmp_path, {"audio_filepath": "a.wav"})
    write(path, path.read_text() + '{"audio_filepath": "a.w')
    assert refusal("sound_manifest", path).startswith(f"{path}: line 2: is no JSON")
    manifest(tmp_path, {"audio_filepath": "a.wav", "a b": 1})
    with pytest.raises(InvalidName):
        imported("sound_manifest", tmp_path)
    write(path, "[" * 100_000)
    assert importer("sound_manifest").matches(Source(tmp_path)) == 0


def test_sounds_may_lie_below_another_root(tmp_path: Path) -> None:
    path = sound(tmp_path / "sounds/a.wav")
    manifest(tmp_path / "tables", {"audio_filepath": str(path)}, name="train.json")
    manifest(tmp_path / "tables", {"audio_filepath": "a.wav", "offset": 0}, name="test.json")
    samples = imported("sound_manifest", tmp_path / "tables", root="../sounds")
    assert {name: sample["manifest"] for name, sample in samples.items()} == {"a": "train.json", "a@0": "test.json"}
    (tmp_path / "tables/test.json").unlink()
    assert "Name a folder that holds all sounds with root=" in refusal("sound_manifest", tmp_path / "tables")
    with pytest.raises(InvalidSetting, match="root must be a folder"):
        imported("sound_manifest", tmp_path / "tables", root="nowhere")


# Kaldi


def test_a_data_folder_without_segments(tmp_path: Path, catalog: Catalog) -> None:
    folder = kaldi(tmp_path / "in", text="one  GUTEN Tag\n", utt2spk="one ann\ntwo bob\n", spk2gender="ann f\n")
    assert choose_importer(Source(folder)).name == "kaldi"
    samples = imported("kaldi", folder)
    assert samples["one"]["text"] == "GUTEN Tag"
    assert [samples[name]["speaker"] for name in ("one", "two")] == ["ann", "bob"]
    assert samples["one"]["gender"] == "f"
    assert not {"text", "gender", "start"} & set(samples["two"])
    assert np.array_equal(samples["two"]["audio"], RAMP)
    assert catalog.ingest(folder, "speech").added == 2
    assert catalog.ingest(folder, "speech").added == 0


def test_segments_are_cut_to_the_value(tmp_path: Path) -> None:
    segments = "one-b one 0.5 0.75\none-a one 0 0.1\ntwo-a two 0.25 -1\ntwo-b two 0.5 1.2\n"
    samples = imported("kaldi", kaldi(tmp_path, segments=segments, utt2spk="one-b ann\n"))
    parts = {"one-b": (4000, 6000), "one-a": (0, 800), "two-a": (2000, 8000), "two-b": (4000, 8000)}
    assert list(samples) == list(parts)
    for name, (start, stop) in parts.items():
        assert np.array_equal(samples[name]["audio"], RAMP[start:stop])
    assert (samples["one-b"]["recording"], samples["one-b"]["start"], samples["one-b"]["stop"]) == ("one", 0.5, 0.75)
    assert samples["one-b"]["speaker"] == "ann"
    assert "stop" not in samples["two-a"]


def test_several_data_folders_are_splits(tmp_path: Path) -> None:
    for name in ("train", "test"):
        kaldi(tmp_path / "data" / name)
    assert "there is no sound 'wav/one.wav' below" in refusal("kaldi", tmp_path / "data")
    for name in ("train", "test"):
        write(tmp_path / "data" / name / "wav.scp", f"one {name}/wav/one.wav\n")
    found = scalars(tmp_path / "data", "kaldi")
    assert {key: row["split"] for key, row in found.items()} == {"test/one": "test", "train/one": "train"}


def test_commands_are_never_run(tmp_path: Path) -> None:
    folder = kaldi(tmp_path / "in")
    mark = tmp_path / "ran"
    write(folder / "wav.scp", f"one touch {mark} |\n")
    text = refusal("kaldi", folder)
    assert "line 1: recording 'one' is made by a command, which is never run" in text
    assert not mark.exists()


@pytest.mark.parametrize(
    ("tables", "says"),
    [
        ({"wav.scp": "one ../../x.wav\n"}, "is not below"),
        ({"wav.scp": "one wav/three.wav\n"}, "line 1: there is no sound 'wav/three.wav'"),
        ({"wav.scp": "one wav/one.wav\none wav/two.wav\n"}, "line 2: 'one' is there twice"),
        ({"wav.scp": "\n"}, "names no recording"),
        ({"wav.scp": b"one \xff\n"}, "is no UTF-8 text"),
        ({"segments": "a one 0\n"}, "line 1: 'one 0' is not a recording, a start and an end"),
        ({"segments": "a one 0 x\n"}, "line 1: 'one 0 x' is not"),
        ({"segments": "a three 0 1\n"}, "wav.scp has no recording 'three'"),
        ({"segments": "a one 0.5 0.5\n"}, "a part from 0.5 s to 0.5 s is none"),
        ({"segments": "a one 0.5 2\n"}, "has 1 s, and the part from 0.5 s to 2 s is asked for"),
        ({"segments": "a one 5 -1\n"}, "has 1 s, and the part from 5 s to the end is asked for"),
    ],
)
def test_broken_tables_are_refused(tmp_path: Path, tables: dict[str, str | bytes], says: str) -> None:
    folder = kaldi(tmp_path / "in")
    for name, text in tables.items():
        write(folder / name, text)
    text = refusal("kaldi", folder)
    assert says in text
    assert str(folder) in text


def test_a_part_is_held_against_the_limit_and_not_the_whole(tmp_path: Path) -> None:
    folder = kaldi(tmp_path, segments="a one 0 0.1\n")
    assert imported("kaldi", folder, max_values="800")["a"]["audio"].shape == (800,)
    assert "claims 800 values" in refusal("kaldi", folder, max_values="799")
