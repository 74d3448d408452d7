"""Files of every kind become the samples that they are; files of attackers become a 4xx that says why."""

from __future__ import annotations

import gzip
import io
import json
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from sensorium.platform.errors import InvalidSetting, UnknownPlugin
from sensorium.serve.uploads import kinds, npy, readers
from sensorium.serve.uploads.errors import RejectedUpload
from sensorium.serve.uploads.limits import Limits
from tests.serve import made_files as made

LIMITS = Limits()
FILES = made.every_kind()


def read(data: bytes | dict[str, bytes], modality: str, limits: Limits = LIMITS, **scalars: Any) -> dict[str, Any]:
    return readers.read(data if isinstance(data, dict) else {"file": data}, modality, scalars, limits)


def rejected(
    status: int, words: str, data: bytes | dict[str, bytes], modality: str, limits: Limits = LIMITS, **scalars: Any
) -> None:
    with pytest.raises(RejectedUpload, match=words) as caught:
        read(data, modality, limits, **scalars)
    assert caught.value.status == status, str(caught.value)
    assert "/tmp" not in str(caught.value)


def outcome(data: bytes, modality: str, limits: Limits = LIMITS, **scalars: Any) -> int:
    """200 for a sample, else the status of the refusal; anything else that is raised fails the test."""
    try:
        sample = read(data, modality, limits, **scalars)
    except RejectedUpload as error:
        return error.status
    return 200 if sample else 0


# -- what is read -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FILES)
def test_every_kind_is_read(name: str) -> None:
    modality, data, scalars = FILES[name]
    sample = read(data, modality, **scalars)
    assert any(isinstance(value, np.ndarray) and value.size for value in sample.values())


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF"])
def test_pictures_keep_every_value(kind: str) -> None:
    np.testing.assert_array_equal(read(made.picture(kind), "image")["image"], made.RGB)


def test_sixteen_bits_and_alpha_are_kept() -> None:
    deep = made.RNG.integers(0, 65536, (5, 6), dtype=np.uint16)
    np.testing.assert_array_equal(read(made.picture("PNG", deep), "image")["image"], deep[..., None])
    rgba = made.RNG.integers(0, 256, (5, 6, 4), dtype=np.uint8)
    np.testing.assert_array_equal(read(made.picture("PNG", rgba), "image")["image"], rgba)


def test_a_photograph_is_turned_as_its_exif_says() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = read(made.picture("PNG", exif=exif), "image")["image"]
    np.testing.assert_array_equal(turned, np.rot90(made.RGB, -1))


def test_an_image_with_its_mask_and_a_pair() -> None:
    mask = (made.RGB[..., 0] > 99).astype(np.uint8)
    sample = read({"image": made.picture("PNG"), "mask": made.picture("PNG", mask)}, "image", label="cat")
    np.testing.assert_array_equal(sample["mask"], mask)
    assert sample["label"] == "cat"
    pair = read({"before": made.picture("PNG"), "after": made.picture("BMP", made.RGB[::-1])}, "image_pair")
    np.testing.assert_array_equal(pair["after"], pair["before"][::-1])


@pytest.mark.parametrize("kind", ["WAV", "FLAC"])
def test_sound_keeps_its_integers(kind: str) -> None:
    sample = read(made.sound(kind), "audio")
    np.testing.assert_array_equal(sample["audio"], made.SOUND)
    assert sample["sampling_rate"] == 8000
    stereo = np.stack([made.SOUND, made.SOUND[::-1]])
    np.testing.assert_array_equal(read(made.sound(kind, stereo.T), "audio")["audio"], stereo)


def test_volumes_of_nifti_and_dicom() -> None:
    for data in (made.nifti(), gzip.compress(made.nifti())):
        sample = read(data, "volume")
        np.testing.assert_array_equal(sample["volume"], made.VOXELS)
        assert sample["spacing"] == [2.0, 1.5, 1.0]
        assert sample["orientation"] == "RAS"
    mask = (made.VOXELS > 0).astype(np.uint8)
    both = read({"mask": made.nifti(mask), "volume": made.nifti()}, "volume")
    np.testing.assert_array_equal(both["mask"], mask)


@pytest.mark.parametrize("order", [[0, 1, 2, 3], [2, 0, 3, 1]])
def test_dicom_slices_are_put_in_order_and_turned(order: list[int]) -> None:
    data = made.zipped({f"{i}.dcm": made.dicom(made.VOXELS[i], 2.5 * i) for i in order})
    sample = read(data, "volume")
    # DICOM's x and y grow to the left and to the back: RAS has them the other way round
    np.testing.assert_array_equal(sample["volume"], made.VOXELS[:, ::-1, ::-1] - 1000)
    assert sample["spacing"] == [2.5, 0.5, 0.5]
    assert (sample["orientation"], sample["unit"]) == ("RAS", "HU")


def test_nothing_of_the_patient_is_carried() -> None:
    for data, modality in ((made.dicom(made.VOXELS[0]), "volume"), (made.edf(), "series")):
        told = repr([item for item in read(data, modality).items() if not isinstance(item[1], np.ndarray)])
        assert not any(secret in told for secret in ("Jane", "12345", "1970", "X7", "1.2.3"))


def test_series_of_tables() -> None:
    long = read(made.LONG, "series")
    assert long["variable_names"] == ["HR", "Temp"]
    np.testing.assert_array_equal(long["variables"], [0, 1, 0])
    asked = read(made.LONG, "series", variable_names=["Temp", "RR", "HR"])
    np.testing.assert_array_equal(asked["variables"], [2, 0, 2])
    wide = read(made.WIDE, "series")
    assert wide["signal"].shape == (2, 40)
    assert (wide["sampling_rate"], wide["channels"]) == (50, ["a", "b"])
    assert read(b"a,b\n1,2\n3,4\n", "series", sampling_rate=20)["sampling_rate"] == 20


def test_arrays_of_npz_and_json_become_fields_and_scalars() -> None:
    data = made.npz(signal=np.ones((2, 5), np.float32), sampling_rate=np.array(50.0), channels=np.array(["a", "b"]))
    assert read(data, "series")["channels"] == ["a", "b"]
    sample = read(b'{"image": [[[1], [255]]], "age": 3}', "image")
    assert (sample["image"].dtype, sample["image"].shape, sample["age"]) == (np.uint8, (1, 2, 1), 3)
    assert read({}, "series", signal=[[1, 2]], sampling_rate=4)["signal"].dtype == np.float32
    assert read({"audio": made.npy(np.ones(4, ">f4"))}, "audio", sampling_rate=4)["audio"].dtype.isnative


def test_video_is_kept_as_it_came() -> None:
    sample = read(FILES["mp4"][1], "video")
    assert bytes(sample["encoded"]) == FILES["mp4"][1]
    assert sample["frame_rate"] == 10


def test_files_of_the_real_world(shared_data: Path) -> None:
    pieces = {
        "audio": [*shared_data.glob("audio/**/*.wav"), *shared_data.glob("audio/**/*.flac")],
        "image": sorted(shared_data.glob("plates_eu/*.jpg")),
        "series": sorted(shared_data.glob("eeg/**/*.edf")),
        "video": sorted(shared_data.glob("video/**/*.mp4")),
        "volume": sorted(shared_data.glob("unclear/**/*.nii*")),
    }
    wide = Limits(seconds=60)
    done = 0
    for modality, paths in pieces.items():
        for path in [path for path in paths if path.stat().st_size < 8 << 20][:2]:
            assert read(path.read_bytes(), modality, wide)
            done += 1
    assert done


def test_what_a_modality_takes() -> None:
    assert {"png", "jpeg", "avif", "npy"} <= set(readers.takes("image")["image"])
    assert {"nifti", "nifti_gz", "dicom", "zip"} <= set(readers.takes("volume")["file"])
    assert "png" not in readers.takes("audio")["file"]
    with pytest.raises(UnknownPlugin, match="imaeg"):
        readers.takes("imaeg")


def test_limits_check_themselves() -> None:
    with pytest.raises(InvalidSetting, match="pixels"):
        Limits(pixels=0)
    with pytest.raises(InvalidSetting, match="megabytes"):
        Limits(megabytes=1)


# -- kinds ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["png", "jpeg", "webp", "avif", "tiff", "bmp", "wav", "flac", "ogg", "nifti", "edf"])
def test_kinds_are_told_by_content(kind: str) -> None:
    assert kinds.recognise(FILES[kind][1], "x") == kind


REFUSED = {
    "ELF": b"\x7fELF\x02\x01\x01" + bytes(200),
    "PE": b"MZ\x90\0" + bytes(200),
    "HTML": b"<!DOCTYPE html><script>alert(1)</script>",
    "SVG": b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"/>',
    "pickle": b"\x80\x04\x95\x10\0\0\0\0\0\0\0\x8c\x02os\x94.",
    "old pickle": b"cos\nsystem\n(S'id'\ntR.",
    "HDF5": b"\x89HDF\r\n\x1a\n" + bytes(100),
    "GLB": b"glTF\x02\0\0\0" + bytes(100),
    "GIF that is a script": b"GIF89a/*" + bytes(20) + b"*/=1;alert(1)",
    "script": b"#!/bin/sh\nid\n",
    "PDF": b"%PDF-1.7\n",
    "DICOM that is a program": b"MZ" + bytes(126) + b"DICM" + bytes(100),
    "gzip of text": gzip.compress(b"hello"),
    "HEIC": b"\0\0\0\x18ftypheic" + bytes(40),
    "empty zip": b"PK\x05\x06" + bytes(18),
    "noise": bytes(range(256)),
}


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("modality", ["image", "volume", "audio", "series"])
def test_what_is_of_no_kind_is_415(name: str, modality: str) -> None:
    rejected(415, "the file", REFUSED[name], modality)


def test_a_polyglot_is_what_its_head_says() -> None:
    both = made.picture("PNG") + made.npz(image=np.zeros((2, 2, 3), np.uint8))
    np.testing.assert_array_equal(read(both, "image")["image"], made.RGB)
    rejected(415, "PNG", both, "volume")
    disguised = made.picture("PNG") + b"\x80\x04\x95pickle"
    assert read(disguised, "image")["image"].shape == (20, 24, 3)


def test_a_kind_that_is_not_of_the_modality_is_415() -> None:
    rejected(415, "PNG, which cannot be", made.picture("PNG"), "audio")
    rejected(415, "WAV", {"image": made.sound("WAV")}, "image")
    rejected(415, "no such array", {"imaeg": made.picture("PNG")}, "image")


# -- bombs and liars --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("side", [30000, 12000])
def test_picture_bombs(side: int) -> None:
    rejected(413, "pixels", made.png_header(side, side, bytes(10 << 20)), "image")
    rejected(413, "pixels", {"before": made.png_header(side, side), "after": made.picture("PNG")}, "image_pair")


def test_npz_bombs() -> None:
    zeros = made.npz(cube=np.zeros((100, 1000, 500), np.float32))
    assert len(zeros) < 1 << 20
    rejected(413, "times as many", zeros, "hyperspectral")
    rejected(413, "unpacks to", zeros, "hyperspectral", Limits(decompressed_bytes=1 << 20))
    many = made.zipped({f"a{i}.npy": b"" for i in range(30)}, zipfile.ZIP_STORED)
    rejected(413, "files", many, "image", Limits(members=20))


def test_an_archive_whose_list_lies() -> None:
    data = bytearray(made.npz(image=np.zeros((64, 64, 3), np.uint8)))
    place = data.rfind(b"PK\x01\x02")
    struct.pack_into("<I", data, place + 24, 100)  # unpacked size in the list
    rejected(422, "archive", bytes(data), "image")


@pytest.mark.parametrize("name", ["../../etc/passwd.npy", "/etc/x.npy", "..\\x.npy", "C:\\x.npy", "a/../../b.npy"])
def test_names_that_leave_the_archive(name: str) -> None:
    rejected(422, "leads out", made.zipped({name: made.npy(made.RGB)}), "image")
    rejected(422, "leads out", made.zipped({name.replace(".npy", ".dcm"): made.dicom(made.VOXELS[0])}), "volume")


def test_nested_and_strange_archives() -> None:
    inner = made.npz(image=made.RGB)
    rejected(415, "something else", made.zipped({"inner.npz": inner}), "image")
    rejected(422, "no NumPy array|header", made.zipped({"image.npy": inner}), "image")
    rejected(422, "names no field", made.zipped({"a b.npy": made.npy(made.RGB)}), "image")
    rejected(422, "names no field", made.zipped({"a/image.npy": made.npy(made.RGB)}), "image")
    rejected(422, "packed in a foreign way", made.zipped({"image.npy": made.npy(made.RGB)}, zipfile.ZIP_LZMA), "image")
    rejected(415, "something else", made.zipped({"readme.txt": b"x"}), "image")
    twice = made.zipped({"image.npy": made.npy(made.RGB), "imagE.npy": made.npy(made.RGB[::-1])})
    rejected(422, "twice", twice.replace(b"imagE.npy", b"image.npy"), "image")
    nameless = made.zipped({"x": made.npy(made.RGB)}).replace(b"\x01\0\0\0", b"\0\0\0\0")
    assert outcome(nameless, "image") in (415, 422)
    torch_like = made.zipped({"model/data.pkl": b"\x80\x02}q\0.", "model/version": b"3"})
    rejected(415, "something else", torch_like, "image")


class Evil:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return (exec, ("raise SystemExit('unpickled')",))


def test_pickles_are_never_opened() -> None:
    objects = np.array([Evil()], dtype=object)
    rejected(415, "never unpickled", made.npz(image=objects), "image")
    rejected(415, "never unpickled", {"image": made.npy(objects)}, "image")
    named = np.zeros(3, dtype=[("x", "f4"), ("y", "O")])
    rejected(422, "plain array", {"image": made.npy(np.zeros(3, dtype=[("x", "f4")]))}, "image")
    rejected(415, "never unpickled", {"image": made.npy(named)}, "image")


def header(text: str, body: bytes = b"", version: int = 1) -> bytes:
    content = text.encode()
    return (
        b"\x93NUMPY" + bytes([version, 0]) + len(content).to_bytes(2 if version == 1 else 4, "little") + content + body
    )


PLAIN = "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }"


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (header(PLAIN, bytes(23)), 422),
        (header(PLAIN, bytes(25)), 422),
        (header(PLAIN.replace("(2, 3)", "(99999999999, 99999999999)")), 413),
        (header(PLAIN.replace("(2, 3)", "(-2, 3)"), bytes(24)), 422),
        (header(PLAIN.replace("(2, 3)", "(2\r 3)"), bytes(24)), 422),
        (header(PLAIN.replace("(2, 3)", "(2 L, 3)"), bytes(24)), 422),
        (header(PLAIN.replace("(2, 3)", "(" + "1," * 9 + ")"), bytes(4)), 422),
        (header(PLAIN.replace("(2, 3)", "(2, 3) + (__import__('os').system('id'),)"), bytes(24)), 422),
        (header(PLAIN + " " * 5000, bytes(24)), 413),
        (header(PLAIN, bytes(24), version=3)[:40], 422),
        (b"\x93NUMPY\x02\0\xff\xff\xff\xff" + bytes(40), 413),
        (b"\x93NUMPY\x09\0" + bytes(40), 422),
        (b"\x93NUMPY", 422),
        (header(PLAIN.replace("<f4", "|V4"), bytes(24)), 415),
        (header(PLAIN.replace("<f4", "<f3"), bytes(18)), 415),
        (header(PLAIN.replace("<f4", "<U1"), bytes(24)), 415),
        (header(PLAIN.replace("<f4", "<M8"), bytes(48)), 415),
    ],
)
def test_numpy_headers_that_lie(data: bytes, status: int) -> None:
    rejected(status, "field 'cube'", {"cube": data}, "hyperspectral")


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["bool", "u1", "i2", ">i4", "u8", "f2", "f4", ">f8", "c8"])
def test_numpy_arrays_are_read_as_numpy_reads_them(version: tuple[int, int], order: Any, dtype: str) -> None:
    array = np.asarray(made.RNG.integers(0, 2, (3, 4, 5)).astype(dtype), order=order)
    stream = io.BytesIO()
    np.lib.format.write_array(stream, array, version=version)
    found = npy.parse(stream.getvalue(), LIMITS)
    np.testing.assert_array_equal(found, array)
    assert found.dtype == array.dtype


@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 2), (1,)])
def test_numpy_arrays_of_unusual_shapes(shape: tuple[int, ...]) -> None:
    assert npy.parse(made.npy(np.zeros(shape, np.float32)), LIMITS).shape == shape


def test_nifti_that_lies() -> None:
    claims = made.nifti_claiming((2000, 2000, 2000))
    packed = gzip.compress(claims)
    assert len(packed) < 300
    rejected(413, "voxels", packed, "volume")
    rejected(413, "voxels", claims, "volume")
    rejected(422, "bytes of voxels", made.nifti_claiming((200, 200, 200)), "volume")
    rejected(422, "NIfTI|voxels", made.nifti()[:-9], "volume")
    flat = bytearray(made.nifti())
    flat[280:296] = bytes(16)  # the first row of its affine matrix
    rejected(422, "no voxel size", bytes(flat), "volume")


def test_gzip_bombs() -> None:
    rejected(413, "times as many", gzip.compress(made.nifti() + bytes(64 << 20)), "volume")
    rejected(413, "unpacks to", gzip.compress(made.nifti()), "volume", Limits(decompressed_bytes=400))
    whole = gzip.compress(made.nifti())
    rejected(422, "cut off", whole[:-20], "volume")
    rejected(422, "follows", whole + b"PK\x03\x04", "volume")
    rejected(422, "damaged|check", whole[:-8] + bytes(8), "volume")


def test_dicom_that_lies() -> None:
    plane = made.VOXELS[0]
    rejected(413, "voxels", made.dicom(plane, Rows=65000, Columns=65000), "volume")
    rejected(413, "voxels", made.dicom(plane, NumberOfFrames="2000000000"), "volume")
    rejected(422, "are there", made.dicom(plane, Rows=60), "volume")
    rejected(422, "decoded|there", made.dicom(plane)[:-30], "volume")
    rejected(422, "DICOM", made.dicom(plane)[:200], "volume")
    rejected(415, "colours", made.dicom(plane, SamplesPerPixel=3), "volume")
    rejected(422, "rescale", made.dicom(plane, RescaleSlope="0"), "volume")
    rejected(422, "two directions", made.dicom(plane, ImageOrientationPatient=[1, 0, 0, 1, 0, 0]), "volume")
    rejected(422, "cannot be decoded", made.dicom(plane, ImagePositionPatient=[0, 0, 0, 0]), "volume")
    rejected(415, "transfer syntax", made.dicom(plane, deflated=True), "volume")


def test_dicom_slices_that_do_not_fit() -> None:
    planes = made.VOXELS
    gap = {str(i): made.dicom(planes[i], place) for i, place in enumerate((0, 2.5, 9))}
    rejected(422, "distances", made.zipped(gap), "volume")
    twice = {str(i): made.dicom(planes[i], 0) for i in range(2)}
    rejected(422, "distances", made.zipped(twice), "volume")
    mixed = {"a": made.dicom(planes[0]), "b": made.dicom(planes[1], 2.5, series="9.9")}
    rejected(422, "differ", made.zipped(mixed), "volume")
    rejected(415, "no DICOM", made.zipped({"a": made.dicom(planes[0]), "b": b"x" * 200}), "volume")
    rejected(413, "voxels", made.zipped({"a": made.dicom(planes[0])}), "volume", Limits(voxels=40))


def test_sound_that_lies_or_is_none() -> None:
    flac = bytearray(made.sound("FLAC"))
    flac[21] = flac[21] & 0xF0 | 0x0F  # 36 bits count the values per channel
    flac[22:26] = b"\xff\xff\xff\xff"
    rejected(413, "seconds", bytes(flac), "audio")
    rejected(422, "no sound", made.sound("WAV", np.zeros(0, np.int16)), "audio")
    rejected(422, "cut off", made.sound("WAV")[:-50], "audio")
    rejected(413, "seconds", made.sound("WAV"), "audio", Limits(audio_seconds=0.05))


def test_video_that_is_too_much() -> None:
    data = FILES["mp4"][1]
    rejected(413, "frames", data, "video", Limits(frames=3))
    rejected(413, "pixels", data, "video", Limits(pixels=100))
    rejected(422, "video", data[: len(data) // 3], "video")
    rejected(422, "no video stream|cannot be decoded", b"\0\0\0\x18ftypisom" + bytes(100), "video")


@pytest.mark.parametrize("name", [name for name in FILES if name not in ("long table", "wide table", "json")])
def test_whatever_is_cut_off_is_refused_or_read(name: str) -> None:
    modality, data, scalars = FILES[name]
    for part in (0.2, 0.5, 0.9):
        assert outcome(data[: int(len(data) * part)], modality, **scalars) in (200, 413, 415, 422)


@pytest.mark.parametrize(
    "name", ["png", "cube", "cube in npz", "nifti", "nifti_gz", "dicom", "slices", "wav", "edf", "scene"]
)
def test_what_is_cut_in_the_middle_is_refused(name: str) -> None:
    modality, data, scalars = FILES[name]
    with pytest.raises(RejectedUpload):
        read(data[: len(data) // 2], modality, **scalars)


# -- rules of samples -------------------------------------------------------------------------------------------------


def test_values_against_the_rules() -> None:
    cube = np.ones((4, 4, 3), np.float32)
    cube[1, 2, 0] = np.nan
    rejected(422, "field 'cube': has 1 of 48 values NaN", made.npy(cube), "hyperspectral")
    rejected(422, "field 'wavelength'", made.npy(np.ones((4, 4, 3))), "hyperspectral", wavelength=[1.0, 2.0])
    rejected(422, "field 'image'.*2", made.picture("PNG"), "panorama")
    rejected(422, "5 along C", made.npy(np.zeros((3, 4, 5), np.uint8)), "image")
    rejected(
        422, "field 'after'", {"before": made.picture("PNG"), "after": made.picture("PNG", made.RGB[:9])}, "image_pair"
    )
    rejected(422, "'sampling_rate'.*missing", made.npy(np.ones(9, np.float32)), "audio")
    rejected(422, "'sampling_rate'.*says", made.sound("WAV"), "audio", sampling_rate=44100)
    rejected(422, "mask in colour", {"image": made.picture("PNG"), "mask": made.picture("PNG")}, "image")
    rejected(422, "lists have unequal", b'{"signal": [[1, 2], [3]], "sampling_rate": 5}', "series")
    rejected(413, "voxels", {"volume": made.npy(made.VOXELS)}, "volume", Limits(voxels=100))


def test_names_and_sizes_of_the_request() -> None:
    png = made.picture("PNG")
    rejected(422, "names no field", {"../../etc/passwd": png}, "image")
    rejected(422, "no id", {"id": png}, "image")
    rejected(422, "empty", {"image": b""}, "image")
    rejected(422, "neither a file", {}, "image")
    rejected(422, "as a file and as a scalar", {"image": png}, "image", image=[[[1]]])
    rejected(413, "bytes", png, "image", Limits(body_bytes=100))
    rejected(413, "files", {"image": png, "mask": png}, "image", Limits(files=1))
    rejected(413, "scalars", png, "image", Limits(json_bytes=100), note="x" * 200)
    rejected(413, "together|sample have", {"before": png, "after": png}, "image_pair", Limits(array_bytes=2000))


def test_json_of_attackers() -> None:
    rejected(422, "JSON", b"[" * 100_000, "series")
    rejected(422, "twice", b'{"signal": 1, "signal": 2}', "series")
    rejected(422, "JSON", b'{"signal": ' + b"9" * 5000 + b"}", "series")
    rejected(422, "JSON", b"{", "series")
    nested: Any = 1
    for _ in range(500):
        nested = [nested]
    rejected(422, "nested", json.dumps({"signal": nested, "sampling_rate": 1}).encode(), "series")
    rejected(422, "nested", {}, "series", note=nested)
    rejected(422, "NaN or infinite", b'{"signal": [[1e300]], "sampling_rate": 5}', "series")
    rejected(
        422, "something else than numbers", b'{"signal": [[1, 9999999999999999999999]], "sampling_rate": 5}', "series"
    )
    rejected(422, "note", {}, "series", signal=[[1]], sampling_rate=5, note="\ud800")
    rejected(422, "JSON list", b"[1, 2]", "series")
    rejected(413, "JSON", json.dumps({"signal": [[0] * 5000]}).encode(), "series", Limits(json_bytes=1000))
    rejected(422, "NaN or infinite", b'{"signal": [[1e999]], "sampling_rate": 5}', "series")


def test_tables_of_attackers() -> None:
    rejected(413, "columns", b"time," + b"a," * 5000 + b"b\n", "series")
    rejected(422, "send variable_names", made.LONG, "series", variable_names=["RR"])
    rejected(422, "send sampling_rate", b"a,b\n1,2\n", "series")
    rejected(422, "holds 2 samples", b"id,time,variable,value\n1,0,HR,5\n2,0,HR,5\n", "series")
    rejected(422, "no finite number", b"time,variable,value\n0,HR,=cmd\n", "series")


# -- noise ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FILES)
@settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_damage_is_refused_or_read(name: str, data: st.DataObject) -> None:
    modality, whole, scalars = FILES[name]
    content = bytearray(whole[: data.draw(st.integers(1, len(whole)))])
    for place in data.draw(st.lists(st.integers(0, len(content) - 1), max_size=6)):
        content[place] ^= data.draw(st.integers(1, 255))
    tight = Limits(array_bytes=32 << 20, decompressed_bytes=32 << 20)
    assert outcome(bytes(content), modality, tight, **scalars) in (200, 413, 415, 422)
