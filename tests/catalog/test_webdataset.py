"""Shards of WebDataset, written by the package of that name: exact values, and no way out of an archive."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import webdataset
from PIL import Image

from sensorium.catalog import Catalog
from sensorium.catalog.export import export
from sensorium.catalog.importer import Source
from sensorium.catalog.importers import _tar
from sensorium.catalog.ingest import choose_importer
from sensorium.platform.errors import InvalidSetting, UnreadableFile
from tests.catalog import test_videos
from tests.catalog.importing import imported, importer, picture, refusal, write


def pixels(seed: int, *shape: int) -> Any:
    return np.random.default_rng(seed).integers(0, 256, shape or (5, 7 + seed, 3), np.uint8)


def png(array: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(array).save(file, "PNG")
    return file.getvalue()


def shard(path: Path, *samples: dict[str, Any]) -> Path:
    """Write samples with ``webdataset``; values that are bytes already are written as they are."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with webdataset.TarWriter(str(path), encoder=True) as writer:
        for sample in samples:
            writer.write(sample)
    return path


def two(path: Path) -> Path:
    return shard(
        path,
        {
            "__key__": "a/Bild 1",
            "png": png(pixels(0)),
            "cls": 3,
            "json": {"id": "x", "note": "ü", "box": [1, 2.5], "in": {"k": 1}, "a b": 1},
        },
        {
            "__key__": "a/Bild 2",
            "png": png(pixels(1)),
            "cls": 4,
            "mask.png": png(np.eye(5, 8, dtype=np.uint8) * 7),
            "txt": "zwei",
        },
    )


@pytest.mark.parametrize("name", ["shard 0.tar", "Übung.tar.gz", "x.tgz"])
def test_pictures_and_scalars(tmp_path: Path, name: str) -> None:
    plain = two(tmp_path / "plain.tar")
    path = tmp_path / "in" / name
    write(path, plain.read_bytes() if name.endswith(".tar") else gzip.compress(plain.read_bytes()))
    samples = imported("webdataset", path.parent)
    assert list(samples) == ["a/Bild 1", "a/Bild 2"]
    first, second = samples.values()
    assert first["image"].dtype == np.uint8
    assert np.array_equal(first["image"], pixels(0))
    assert np.array_equal(second["image"], pixels(1))
    assert np.array_equal(second["mask"], np.eye(5, 8) * 7)
    scalars = {key: value for key, value in first.items() if key != "image"}
    assert scalars == {
        "label": 3,
        "metadata_id": "x",
        "note": "ü",
        "box": [1.0, 2.5],
        "in": '{"k": 1}',
        "a_b": 1,
        "source": name,
    }
    assert second["text"] == "zwei"


def test_sound_arrays_and_videos(tmp_path: Path) -> None:
    values = np.arange(-200, 200, dtype=np.int16)
    file = io.BytesIO()
    soundfile.write(file, values, 8000, format="FLAC")
    sample = imported("webdataset", shard(tmp_path / "a.tar", {"__key__": "a", "flac": file.getvalue(), "cls": "dog"}))[
        "a"
    ]
    assert sample["audio"].dtype == np.int16
    assert np.array_equal(sample["audio"], values)
    assert (sample["sampling_rate"], sample["label"]) == (8000.0, "dog")
    film = test_videos.film(tmp_path / "film.mp4", pictures=test_videos.moving(3)).read_bytes()
    sample = imported("webdataset", shard(tmp_path / "b.tar", {"__key__": "a", "mp4": film}))["a"]
    assert sample["encoded"].tobytes() == film
    assert sample["frame_rate"] == 25.0
    cube = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    path = shard(tmp_path / "c.tar", {"__key__": "a", "npy": cube, "spacing.json": [1.0, 2.0, 3.0]})
    assert "which modality is it? (the first sample has npy" in refusal("webdataset", path)
    sample = imported("webdataset", path, modality="volume")["a"]
    assert sample["volume"].dtype == np.int16
    assert np.array_equal(sample["volume"], cube)
    assert sample["spacing"] == [1.0, 2.0, 3.0]
    path = shard(tmp_path / "d.tar", {"__key__": "a", "before.npy": pixels(0), "after.png": png(pixels(0))})
    assert importer("webdataset").makes(Source(path)) == "image_pair"
    assert np.array_equal(imported("webdataset", path)["a"]["before"], pixels(0))


def test_our_own_export_comes_back(tmp_path: Path, catalog: Catalog) -> None:
    two(tmp_path / "in" / "s.tar")
    report = catalog.ingest(tmp_path / "in", "data")
    assert (report.format, report.added, report.failed) == ("webdataset", 2, [])
    assert catalog.ingest(tmp_path / "in", "data").added == 0
    assert catalog["data"].preview().content.startswith(b"\x89PNG")
    export(catalog["data"].select(), tmp_path / "out", format="webdataset")
    catalog.ingest(tmp_path / "out", "again")
    for one, other in zip(catalog["data"].select(), catalog["again"].select(), strict=True):
        assert np.array_equal(one["image"], other["image"])
        assert other["metadata_id"] == one.get("metadata_id", one.id)
        assert other["label"] == one["label"]


def test_shards_with_the_same_keys(tmp_path: Path) -> None:
    two(tmp_path / "train/0.tar")
    two(tmp_path / "test/0.tar")
    assert "Say id=shard" in refusal("webdataset", tmp_path, modality="image")
    samples = imported("webdataset", tmp_path, id="shard")
    assert samples["train/0/a/Bild 1"]["split"] == "train"
    assert samples["test/0/a/Bild 2"]["split"] == "test"
    with pytest.raises(InvalidSetting, match="id"):
        imported("webdataset", tmp_path, id="other")


def test_shards_are_claimed_by_what_is_in_them(tmp_path: Path) -> None:
    two(tmp_path / "in/s.tar")
    assert choose_importer(Source(tmp_path / "in")).name == "webdataset"
    with tarfile.open(tmp_path / "other.tar", "w") as archive:
        archive.add(write(tmp_path / "notes.md", "text"), "notes.md")
    assert importer("webdataset").matches(Source(tmp_path / "other.tar")) == 0
    picture(tmp_path / "pictures/a.png")
    assert importer("webdataset").matches(Source(tmp_path / "pictures")) == 0


@pytest.mark.parametrize("ending", ["pyd", "pickle", "pth", "pt", "pkl"])
def test_pickles_are_refused_by_name(tmp_path: Path, ending: str) -> None:
    path = shard(tmp_path / "s.tar", {"__key__": "a", "png": png(pixels(0)), ending: b"cos\nsystem\n"})
    text = refusal("webdataset", path)
    assert f"'a.{ending}' is a pickle" in text
    assert set(imported("webdataset", path, skip=ending)["a"]) == {"source", "image"}


@pytest.mark.parametrize(
    ("sample", "says"),
    [
        ({"png": b"no picture"}, "s.tar: a.png: cannot be decoded"),
        ({"mask.png": png(np.eye(3, dtype=np.uint8))}, "sample 'a' has no image"),
        ({"png": b""}, "s.tar: a.png: cannot be decoded"),
        ({"png": png(pixels(0))[:60]}, "s.tar: a.png: cannot be decoded"),
        ({"png": png(pixels(0)), "jpg": png(pixels(0))}, "is a second image"),
        ({"png": png(pixels(0)), "xyz": b"1"}, "'a.xyz' is of an unknown kind"),
        ({"png": png(pixels(0)), "json": b"{"}, "'a.json' cannot be read"),
        ({"png": png(pixels(0)), "txt": b"\xff\xfe"}, "'a.txt' cannot be read"),
        ({"png": png(pixels(0)), "x.npy": b"\x93NUMPY\x01\0"}, "a.x.npy is no NumPy array"),
    ],
)
def test_broken_members_are_named(tmp_path: Path, sample: dict[str, bytes], says: str) -> None:
    with tarfile.open(tmp_path / "s.tar", "w") as archive:
        for ending, content in sample.items():
            member = tarfile.TarInfo(f"a.{ending}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    assert says in refusal("webdataset", tmp_path / "s.tar", modality="image")


def test_objects_in_arrays_are_refused(tmp_path: Path) -> None:
    file = io.BytesIO()
    np.save(file, np.array([{}], dtype=object), allow_pickle=True)
    path = shard(tmp_path / "s.tar", {"__key__": "a", "image.npy": file.getvalue()})
    assert "never unpickled" in refusal("webdataset", path)


def _member(name: str, kind: bytes = tarfile.REGTYPE, **more: Any) -> Callable[[tarfile.TarFile], None]:
    def add(archive: tarfile.TarFile) -> None:
        member = tarfile.TarInfo(name)
        member.type = kind
        for key, value in more.items():
            setattr(member, key, value)
        archive.addfile(member)

    return add


@pytest.mark.parametrize(
    ("add", "says"),
    [
        (_member("b.png", tarfile.SYMTYPE, linkname="/etc/passwd"), "'b.png' is a link"),
        (_member("b.png", tarfile.LNKTYPE, linkname="a.png"), "'b.png' is a hard link"),
        (_member("b.png", tarfile.CHRTYPE), "is a device"),
        (_member("b.png", tarfile.FIFOTYPE), "is a pipe"),
        (_member("/etc/b.png"), "leads out of the archive"),
        (_member("x/../../b.png"), "leads out of the archive"),
        (_member("b.png", size=10**12), "has 1000000000000 bytes, the file has"),
        (_member("b.png", pax_headers={"size": str(10**15)}), "bytes, the file has"),
        (_member("b.png", pax_headers={"GNU.sparse.major": "1"}), "sparse"),
    ],
)
def test_hostile_archives_are_refused_and_samples_before_go_in(
    tmp_path: Path, add: Callable[[tarfile.TarFile], None], says: str
) -> None:
    path = tmp_path / "s.tar"
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as archive:
        for name in ("a.png", "aa.png"):
            content = png(pixels(0))
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
        add(archive)
    assert says in refusal("webdataset", path)
    items = list(importer("webdataset").plan(Source(path)))
    assert [item.id for item in items] == ["a", "aa"]
    assert np.array_equal(importer("webdataset").read(items[0], {})["image"], pixels(0))
    with pytest.raises(UnreadableFile, match=r"s\.tar"):  # more of it may have followed
        importer("webdataset").read(items[1], {})


@pytest.mark.parametrize("packed", [False, True])
def test_cut_and_damaged_archives(tmp_path: Path, packed: bool) -> None:
    whole = two(tmp_path / "whole.tar").read_bytes()
    for name, content in {
        "cut": whole[:3000],
        "short": whole[:1000],
        "none": b"",
        "text": b"no archive at all" * 90,
    }.items():
        path = tmp_path / f"{name}.tar{'.gz' if packed else ''}"
        write(path, gzip.compress(content) if packed else content)
        text = refusal("webdataset", path, modality="image")
        assert str(path) in text
        assert ". It is cut off or damaged" in text or "this" in text, text
    if packed:
        path = write(tmp_path / "gz.tar.gz", gzip.compress(whole)[:-40])
        assert "cannot be read as an archive" in refusal("webdataset", path, modality="image")


def test_long_names_of_both_dialects(tmp_path: Path) -> None:
    name = "ä/" + "long " * 50 + "/a"
    for form in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT):
        path = tmp_path / f"{form}.tar"
        with tarfile.open(path, "w", format=form) as archive:
            content = json.dumps({"x": 1}).encode()
            member = tarfile.TarInfo(f"{name}.json")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
        with tarfile.open(path) as archive:
            there = archive.getmembers()[0]
        assert list(_tar.members(path)) == [_tar.Member(f"{name}.json", there.offset_data, len(content))]


def test_sizes_are_limited(tmp_path: Path) -> None:
    path = shard(tmp_path / "s.tar", {"__key__": "a", "png": png(pixels(0))})
    size = len(png(pixels(0)))
    assert f"max_bytes={size}" in refusal("webdataset", path, max_bytes=str(size - 1))
    assert imported("webdataset", path, max_bytes=str(size))
