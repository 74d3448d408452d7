"""What every codec must do, and what is particular to some."""

import io
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest
import skimage.data
from av.bitstream import BitStreamFilterContext
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from sensorium.jobs import codecs, colour
from sensorium.jobs.codecs import Codec, Picture, _av, x264
from sensorium.platform import plugins
from sensorium.platform.errors import InvalidSample, InvalidSetting, MissingDependency, UnknownPlugin, UnreadableFile

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


def test_the_first_codecs_are_installed() -> None:
    assert {"jpeg", "x264"} <= set(NAMES)
    with pytest.raises(UnknownPlugin, match="x264"):
        codecs.get("x246")


def test_importing_a_codec_imports_no_encoder() -> None:
    modules = [f"sensorium.jobs.codecs.{name}" for name in ("jpeg", "x264")]
    modules += [f"sensorium.jobs.image_metrics.{name}" for name in ("psnr", "ssim")]
    heavy = {"av", "cv2", "simplejpeg", "skimage", "scipy"}
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
    assert max(headers) - min(headers) <= 2  # x264 writes a QP offset into a parameter set, in a variable-length code
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
    stream = x264._stream(Picture.of(PHOTO), quality)
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
