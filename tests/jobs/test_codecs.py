"""What every codec must do, and what is particular to some."""

import hashlib
import io
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import av
import numpy as np
import pytest
import skimage.data
from av.bitstream import BitStreamFilterContext
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from sensorium.jobs import codecs, colour, subprocesses
from sensorium.jobs.codecs import Codec, Picture, _av, _boxes, _ffmpeg, _obu, x264
from sensorium.platform import plugins
from sensorium.platform.errors import (
    InvalidSample,
    InvalidSetting,
    MissingDependency,
    ProgramFailed,
    UnknownPlugin,
    UnreadableFile,
)

NAMES = plugins.names(codecs.GROUP)
PHOTO = skimage.data.astronaut()[20:148, 160:320]
OTHER = skimage.data.coffee()[150:278, 200:360]
SIZES = [(1, 1), (1, 2), (2, 1), (1, 23), (17, 1), (2, 2), (3, 5), (15, 16), (16, 16), (17, 23)]


@pytest.fixture(params=NAMES)
def codec(request: pytest.FixtureRequest) -> Codec:
    return codecs.get(request.param)


def middle(codec: Codec) -> int:
    return (codec.best + codec.worst) // 2


def luma_psnr(one: np.ndarray, other: np.ndarray) -> float:
    error = np.mean((colour.luma(one).astype(float) - colour.luma(other)) ** 2)
    return float(10 * np.log10(255**2 / max(error, 1e-10)))


def test_the_codecs_are_installed() -> None:
    assert {"avif", "jpeg", "jpeg_xl", "rav1e", "svt_av1", "vvenc", "webp", "x264", "x265"} <= set(NAMES)
    with pytest.raises(UnknownPlugin, match="x264"):
        codecs.get("x246")


def test_importing_a_codec_imports_no_encoder() -> None:
    modules = [f"sensorium.jobs.codecs.{name}" for name in NAMES]
    modules += [f"sensorium.jobs.image_metrics.{name}" for name in ("psnr", "ssim")]
    heavy = {"av", "cv2", "imageio_ffmpeg", "pillow_jxl", "simplejpeg", "skimage", "scipy"}
    program = f"import sys, {', '.join(modules)}; print(sorted({heavy!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_best_quality_is_close(codec: Codec) -> None:
    encoded = codec.encode(Picture.of(PHOTO), codec.best)
    decoded = codec.decode(encoded.data, PHOTO.shape[:2])
    assert decoded.shape == PHOTO.shape
    assert decoded.dtype == np.uint8
    assert luma_psnr(PHOTO, decoded) > 40


def test_rate_and_quality_fall_together(codec: Codec) -> None:
    # the very best is left out: lossless coding may well take fewer bytes than almost lossless
    qualities = np.linspace(codec.best, codec.worst, 8).round().astype(int)[1:]
    sizes, psnrs = [], []
    for quality in qualities:
        encoded = codec.encode(Picture.of(PHOTO), int(quality))
        sizes.append(encoded.payload)
        psnrs.append(luma_psnr(PHOTO, codec.decode(encoded.data, PHOTO.shape[:2])))
    assert sizes == sorted(sizes, reverse=True)
    assert psnrs == sorted(psnrs, reverse=True)
    assert sizes[0] > 4 * sizes[-1]


def test_an_encoder_remembers_nothing(codec: Codec) -> None:
    quality = middle(codec)
    first, between, again = (codec.encode(Picture.of(image), quality) for image in (PHOTO, OTHER, PHOTO))
    assert first == again
    assert between.data != first.data


def test_two_threads_give_the_same_bytes(codec: Codec) -> None:
    quality, alone = middle(codec), [codec.encode(Picture.of(image), middle(codec)) for image in (PHOTO, OTHER)]
    with ThreadPoolExecutor(2) as threads:
        together = list(threads.map(lambda image: codec.encode(Picture.of(image), quality), [PHOTO, OTHER] * 2))
    assert together == alone * 2


def test_another_process_gives_the_same_bytes() -> None:
    program = """if True:
        import hashlib
        import skimage.data
        from sensorium.jobs import codecs
        from sensorium.platform import plugins
        picture = codecs.Picture.of(skimage.data.astronaut()[20:148, 160:320])
        for name in plugins.names(codecs.GROUP):
            codec = codecs.get(name)
            print(name, hashlib.sha256(codec.encode(picture, (codec.best + codec.worst) // 2).data).hexdigest())
    """
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    here = {name: codecs.get(name).encode(Picture.of(PHOTO), middle(codecs.get(name))).data for name in NAMES}
    wanted = [f"{name} {hashlib.sha256(data).hexdigest()}" for name, data in here.items()]
    assert done.stdout.splitlines() == wanted


@pytest.mark.parametrize("size", SIZES)
def test_any_size(codec: Codec, size: tuple[int, int]) -> None:
    image = PHOTO[60 : 60 + size[0], 60 : 60 + size[1]]
    encoded = codec.encode(Picture.of(image), codec.best)
    decoded = codec.decode(encoded.data, size)
    assert decoded.shape == image.shape
    assert np.abs(colour.luma(decoded).astype(int) - colour.luma(image)).max() <= 16
    assert 0 < encoded.payload < len(encoded.data)


def test_only_pixels_count_as_payload(codec: Codec) -> None:
    """Headers depend on nothing but the size, and are small."""
    coded = [
        codec.encode(Picture.of(image), quality) for image in (PHOTO, OTHER) for quality in (middle(codec), codec.worst)
    ]
    headers = {len(encoded.data) - encoded.payload for encoded in coded}
    # x264 writes a QP offset into a parameter set, in a variable-length code; VVenC, alone, writes a start code (4 bytes,
    # no payload) more where it fits a filter
    assert max(headers) - min(headers) <= (4 if codec.name == "vvenc" else 2)
    assert max(headers) < 700


def test_grey_stays_grey(codec: Codec) -> None:
    image = np.repeat(colour.luma(PHOTO)[..., np.newaxis], 3, axis=2)
    decoded = codec.decode(codec.encode(Picture.of(image), middle(codec)).data, image.shape[:2]).astype(int)
    assert (decoded.max(axis=2) - decoded.min(axis=2)).max() <= 2


def test_damage_is_a_clean_error(codec: Codec, capfd: pytest.CaptureFixture[str]) -> None:
    size = PHOTO.shape[:2]
    data = codec.encode(Picture.of(PHOTO), middle(codec)).data
    damaged = {
        "empty": b"",
        "text": b"this is not an image" * 40,
        "zeros": bytes(len(data)),
        "first half": data[: len(data) // 2],
        "last half": data[len(data) // 2 :],
        "headers only": data[:30],
        "two pictures": data + data,
    }
    if codec.name == "jpeg_xl":  # its decoder stops at the end of the first codestream, wherever the bytes end
        del damaged["two pictures"]
    for kind, stream in damaged.items():
        with pytest.raises(UnreadableFile):
            pytest.fail(f"{kind}: decoded to {codec.decode(stream, size).shape}")
    with pytest.raises(UnreadableFile, match="64 x 64"):
        codec.decode(data, (64, 64))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", NAMES)
@given(flips=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 7)), min_size=1, max_size=4))
@settings(max_examples=60, deadline=None)
def test_flipped_bits_decode_or_are_an_error(name: str, flips: list[tuple[float, int]]) -> None:
    codec = codecs.get(name)
    image = PHOTO[:32, :48]
    data = bytearray(codec.encode(Picture.of(image), middle(codec)).data)
    for place, bit in flips:
        data[int(place * len(data))] ^= 1 << bit
    try:
        decoded = codec.decode(bytes(data), image.shape[:2])
    except UnreadableFile:
        return
    assert decoded.shape == image.shape


def test_a_library_without_the_codec_is_named() -> None:
    planes = colour.to_planes(PHOTO)
    with pytest.raises(MissingDependency, match="without libx263"):
        _av.encode("libx263", planes, {})
    with pytest.raises(MissingDependency, match="without h263x"):
        _av.decode("h263x", b"", PHOTO.shape[:2])
    with pytest.raises(MissingDependency, match="without libx263"):
        _ffmpeg.encode([planes], "libx263", [], "obu")


def test_quality_off_the_scale_is_refused(codec: Codec) -> None:
    low, high = sorted((codec.best, codec.worst))
    for quality in (low - 1, high + 1):
        with pytest.raises(InvalidSetting, match=f"from {low} to {high}"):
            codec.encode(Picture.of(PHOTO), quality)


@pytest.mark.parametrize("wrong", [PHOTO[..., 0], PHOTO / 255, PHOTO[:0]])
def test_what_is_no_rgb8_image_is_refused(codec: Codec, wrong: np.ndarray) -> None:
    with pytest.raises(InvalidSample):
        codec.encode(Picture.of(wrong), middle(codec))


def test_too_large_an_image_is_refused(codec: Codec) -> None:
    with pytest.raises(InvalidSample, match="2 x 70000"):
        codec.encode(Picture.of(np.zeros((2, 70_000, 3), np.uint8)), codec.worst)


def test_nothing_is_printed(codec: Codec, capfd: pytest.CaptureFixture[str]) -> None:
    codec.decode(codec.encode(Picture.of(PHOTO), codec.worst).data, PHOTO.shape[:2])
    assert capfd.readouterr() == ("", "")


def test_codec_describes_itself(codec: Codec) -> None:
    assert codec.version() == codec.version()
    assert any(digit in codec.version() for digit in "0123456789")
    assert colour.DEFINITION in codec.arguments


def test_jpeg_of_an_odd_size_is_not_one_of_the_even_size() -> None:
    """Their chroma has the same size; luma tells."""
    codec = codecs.get("jpeg")
    with pytest.raises(UnreadableFile, match="32 x 34 pixels and 8 bits expected; got yuvj420p, 31 x 33"):
        codec.decode(codec.encode(Picture.of(PHOTO[:31, :33]), 50).data, (32, 34))


def test_jpeg_is_a_jpeg_to_others(tmp_path: Path) -> None:
    codec = codecs.get("jpeg")
    image = PHOTO[:101, :99]
    path = tmp_path / "photo.jpg"
    path.write_bytes(codec.encode(Picture.of(image), 90).data)
    with Image.open(path) as opened:
        assert opened.format == "JPEG"
        other = np.asarray(opened.convert("RGB"))
    assert other.shape == image.shape
    assert luma_psnr(other, codec.decode(path.read_bytes(), image.shape[:2])) > 45


def test_x264_at_qp_0_is_lossless_on_planes() -> None:
    codec = codecs.get("x264")
    decoded = codec.decode(codec.encode(Picture.of(PHOTO), 0).data, PHOTO.shape[:2])
    assert np.array_equal(decoded, colour.to_rgb(colour.to_planes(PHOTO)))


@pytest.mark.parametrize("quality", [1, 28, 51])
def test_x264_takes_its_options(quality: int) -> None:
    """x264 ignores options that it does not know; in its stream it says which it used."""
    stream = x264._stream([Picture.of(PHOTO)], quality, gop=1)
    used = stream[stream.index(b"options:") :].split(b"\x00")[0].decode().split()
    wanted = {"rc=cqp", f"qp={quality}", "ip_ratio=1.00", "keyint=1", "threads=1", "lookahead_threads=1", "subme=7"}
    assert wanted <= set(used)


def test_x264_stream_carries_colour_but_no_text() -> None:
    encoded = codecs.get("x264").encode(Picture.of(PHOTO[:31, :33]), 30)
    assert b"x264" not in encoded.data
    decoder = av.CodecContext.create("h264", "r")
    packets = [*decoder.parse(encoded.data), *decoder.parse(b""), None]
    (frame,) = [frame for packet in packets for frame in decoder.decode(packet)]
    assert (frame.height, frame.width) == (32, 34)  # 4:2:0 has even sizes only
    full_range, bt601 = 2, 5
    assert (frame.color_range, frame.colorspace) == (full_range, bt601)


def test_x264_payload_is_what_ffmpeg_finds_in_slices() -> None:
    encoded = codecs.get("x264").encode(Picture.of(PHOTO), 30)
    with av.open(io.BytesIO(encoded.data), format="h264") as container:
        only_slices = BitStreamFilterContext("filter_units=pass_types=1-5", container.streams.video[0])
        packets = [packet for packet in container.demux(video=0) if packet.size]
        slices = b"".join(bytes(kept) for packet in packets for kept in only_slices.filter(packet))
    start_code = 4
    assert encoded.payload == len(slices) - start_code


def test_x264_names_its_version() -> None:
    assert codecs.get("x264").version().startswith("x264 core ")


@pytest.mark.parametrize("size", [(300, 451), (303, 384), (191, 384), (33, 47), (17, 23), (1, 1)])
def test_nothing_outside_the_picture_is_coded(codec: Codec, size: tuple[int, int]) -> None:
    """An encoder that works in units of 16 pixels must not look at the memory behind a picture that ends inside one."""
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    streams = set()
    for value in range(12):
        behind = [np.full(length, value, np.uint8) for length in (1_000, 60_000, 140_000, 500_000)]
        del behind  # memory that the next allocations are likely to get
        streams.add(codec.encode(Picture.of(image), round((codec.best + codec.worst) / 2)).data)
    assert len(streams) == 1


def frame_of(decoder_name: str, data: bytes) -> av.VideoFrame:
    """The only frame of a bitstream, as FFmpeg sees it."""
    decoder = av.CodecContext.create(decoder_name, "r")
    packets = [*decoder.parse(data), *decoder.parse(b""), None]
    (frame,) = [frame for packet in packets for frame in decoder.decode(packet)]
    return frame


@pytest.mark.parametrize(
    ("name", "decoder", "layout"),
    [
        ("x265", "hevc", "yuvj420p"),
        ("vvenc", "vvc", "yuv420p10le"),
        ("rav1e", "libdav1d", "yuv420p"),
        ("svt_av1", "libdav1d", "yuv420p"),
    ],
)
def test_streams_carry_colour_but_no_text(name: str, decoder: str, layout: str) -> None:
    codec = codecs.get(name)
    encoded = codec.encode(Picture.of(PHOTO), middle(codec))
    frame = frame_of(decoder, encoded.data)
    full_range, bt601 = 2, 5
    assert (frame.color_range, frame.colorspace, frame.format.name) == (full_range, bt601, layout)
    assert (frame.height, frame.width) == PHOTO.shape[:2]
    assert not any(text in encoded.data.lower() for text in (b"x265", b"vvenc", b"rav1e", b"svt", b"lavc", b"options"))


@pytest.mark.parametrize("name", ["x264", "x265", "vvenc"])
def test_a_qp_is_the_same_step_in_all(name: str) -> None:
    """The error at one QP is alike: none codes intra pictures 3 steps (about 2.5 dB) finer than it is told.

    At QP 10 the step is 2^((10 - 4) / 6) = 2. Rounding to it leaves an error of 2^2 / 12, a PSNR of 52.9 dB; encoders that
    prefer small coefficients leave a little more.
    """
    codec = codecs.get(name)
    pictures = [codec.decode(codec.encode(Picture.of(PHOTO), qp).data, PHOTO.shape[:2]) for qp in (10, 16, 22)]
    psnrs = [luma_psnr(PHOTO, picture) for picture in pictures]
    assert psnrs[0] == pytest.approx(51.9, abs=1)
    assert 3 < psnrs[0] - psnrs[1] < 6.5
    assert 3 < psnrs[1] - psnrs[2] < 6.5


def test_ten_bits_are_rounded_to_eight() -> None:
    """VVenC's own loss is less than half a level at QP 0: no bias is left from the conversion to 10 bits and back."""
    codec = codecs.get("vvenc")
    grey = np.repeat(np.repeat(np.arange(256, dtype=np.uint8), 256).reshape(256, 256, 1), 3, axis=2)
    decoded = codec.decode(codec.encode(Picture.of(grey), 0).data, (256, 256))
    assert np.abs(decoded.astype(int) - grey).max() <= 1
    assert abs(float(np.mean(decoded.astype(int) - grey))) < 0.02


def test_vvenc_has_no_room_for_noise() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    with pytest.raises(ProgramFailed, match="ended with"):
        codecs.get("vvenc").encode(Picture.of(noise), 0)


@pytest.mark.parametrize(("name", "kind"), [("avif", "AVIF"), ("webp", "WEBP"), ("jpeg_xl", "JXL")])
def test_still_picture_files_are_read_by_others(name: str, kind: str) -> None:
    if kind == "JXL":
        pytest.importorskip("pillow_jxl")  # teaches Pillow to read it
    codec = codecs.get(name)
    image = PHOTO[:101, :99]
    data = codec.encode(Picture.of(image), round(codec.best + (codec.worst - codec.best) * 0.2)).data
    with Image.open(io.BytesIO(data)) as opened:
        assert opened.format == kind
        other = np.asarray(opened.convert("RGB"))
    assert other.shape == image.shape
    decoded = codec.decode(data, image.shape[:2])
    if kind == "WEBP":  # no way to signal full range: others stretch 16 to 235
        decoded = ((decoded.astype(float) - 16) * 255 / 219).clip(0, 255).round().astype(np.uint8)
    assert luma_psnr(other, decoded) > 38


def test_x265_names_its_version() -> None:
    assert codecs.get("x265").version().startswith("x265 ")
    assert "unknown" not in codecs.get("x265").version()


@pytest.mark.parametrize("name", ["avif", "rav1e", "vvenc"])
@pytest.mark.parametrize(
    ("does", "message"),
    [("kill -SEGV $$", "signal 11"), ("exit 1", "ended with 1"), (": > coded", "wrote nothing")],
)
def test_an_encoder_that_crashes_costs_one_picture(
    name: str, does: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "encoder"
    program.write_text(f"#!/bin/sh\ncat > /dev/null\n{does}\n")
    program.chmod(0o755)
    monkeypatch.setattr(subprocesses, "ffmpeg", lambda: str(program))
    codec = codecs.get(name)
    with pytest.raises(ProgramFailed, match=message):
        codec.encode(Picture.of(PHOTO), middle(codec))


def unit(kind: int, data: bytes) -> bytes:
    return bytes([kind << 3 | 2, len(data)]) + data


def test_units_of_av1() -> None:
    header, frame = unit(1, b"sequence"), unit(6, b"frame")
    extended = bytes([6 << 3 | 4 | 2, 0, 3]) + b"abc"  # with a byte of layers
    long = bytes([6 << 3 | 2, 0x80 | 72, 1]) + bytes(200)  # 200 = 72 + 128
    assert [(found.kind, len(found.data)) for found in _obu.units(header + frame + extended + long)] == [
        (1, 10),
        (6, 7),
        (6, 6),
        (6, 203),
    ]
    assert _obu.payload(header + frame + extended + long) == 7 + 6 + 203
    assert _obu.payload(b"") == 0
    for wrong in (
        frame[:-1],
        b"\x80" + frame,
        bytes([6 << 3]) + b"no size",
        bytes([6 << 3 | 2]),
        b"\x32" + b"\xff" * 9,
    ):
        with pytest.raises(UnreadableFile, match="AV1"):
            list(_obu.units(wrong))


def box(kind: bytes, data: bytes) -> bytes:
    return (8 + len(data)).to_bytes(4, "big") + kind + data


def still_file(location: bytes, kind: bytes = b"iloc") -> bytes:
    return box(b"ftyp", b"avif") + box(b"meta", bytes(4) + box(kind, location)) + box(b"mdat", b"picture")


def test_boxes_of_a_still_picture() -> None:
    large = (1).to_bytes(4, "big") + b"wide" + (20).to_bytes(8, "big") + b"data"
    assert list(_boxes.boxes(large + box(b"free", b""))) == [("wide", b"data"), ("free", b"")]
    # sizes of 4 bytes for offset and length; one item of one piece
    start = len(still_file(bytes(22))) - 7
    location = b"\0\0\0\0\x44\0" + b"\0\1" + b"\0\1\0\0" + b"\0\1" + start.to_bytes(4, "big") + b"\0\0\0\7"
    file = still_file(location)
    assert _boxes.item(file) == b"picture"
    wrong = {
        "ftyp": file + file,
        "iloc": still_file(location, kind=b"free"),
        "version 0": still_file(b"\1" + location[1:]),
        "one item": still_file(location[:7] + b"\2" + location[8:]),
        "the file has": still_file(location[:-1] + b"\x9f"),
        "in the middle": still_file(location[:-2]),
        "whole box": file[:-1],
    }
    for message, damaged in wrong.items():
        with pytest.raises(UnreadableFile, match=message):
            _boxes.item(damaged)


@pytest.mark.skipif(not hasattr(os, "sched_getscheduler"), reason="not on Linux")
@pytest.mark.parametrize("name", NAMES)
def test_no_thread_becomes_real_time(name: str) -> None:
    """An encoder that raises its priority (SVT-AV1 does, run as root) would starve the machine, and all that starts later."""
    codec = codecs.get(name)
    pictures = [Picture.of(np.full((64, 96, 3), value, np.uint8)) for value in (10, 90, 200)]
    codec.encode(pictures[0], codec.worst)
    if codec.clips is not None:
        codec.clips.encode(pictures, codec.worst, 3)
    tasks = [int(task) for task in os.listdir("/proc/self/task")]
    assert {os.sched_getscheduler(task) for task in tasks} <= {os.SCHED_OTHER, os.SCHED_BATCH, os.SCHED_IDLE}
