"""Clips: several frames as one stream, for the codecs that predict from frame to frame."""

import numpy as np
import pytest
import skimage.data

from sensorium.jobs import codecs, colour
from sensorium.jobs.codecs import ClipCoder, Codec, Encoded, Picture
from sensorium.platform import plugins
from sensorium.platform.errors import InvalidSample, InvalidSetting, UnreadableFile

NAMES = [name for name in plugins.names(codecs.GROUP) if codecs.get(name).clips]
SIZE = (72, 96)
#: A view that moves over a photograph by 2 pixels a frame; 10 frames.
CLIP = [
    Picture.of(np.ascontiguousarray(skimage.data.astronaut()[20:92, start : start + 96]))
    for start in range(160, 180, 2)
]
OTHER = [Picture.of(np.ascontiguousarray(picture.rgb[::-1])) for picture in CLIP]


@pytest.fixture(params=NAMES)
def codec(request: pytest.FixtureRequest) -> Codec:
    return codecs.get(request.param)


def coder(codec: Codec) -> ClipCoder:
    assert codec.clips is not None
    return codec.clips


def middle(codec: Codec) -> int:
    return (codec.best + codec.worst) // 2


def encode(codec: Codec, frames: list[Picture], gop: int, quality: int | None = None) -> Encoded:
    return coder(codec).encode(frames, middle(codec) if quality is None else quality, gop)


def decode(codec: Codec, encoded: Encoded, frames: list[Picture]) -> list[np.ndarray]:
    return coder(codec).decode(encoded.data, frames[0].size, len(frames))


def error(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.mean((colour.luma(one).astype(float) - colour.luma(other)) ** 2))


def test_the_video_codecs_code_clips() -> None:
    assert {"rav1e", "svt_av1", "vvenc", "x264", "x265"} <= set(NAMES)


def test_intra_frames_are_those_of_the_still_picture_codec(codec: Codec) -> None:
    """Nothing leaks from frame to frame; fails for VVenC with its temporal filter, and for SVT-AV1 with its own."""
    frames = [CLIP[0], OTHER[0], *CLIP[1:8], CLIP[0]]
    stills = [codec.decode(codec.encode(picture, middle(codec)).data, SIZE) for picture in frames]
    decoded = decode(codec, encode(codec, frames, gop=1), frames)
    assert [np.array_equal(one, other) for one, other in zip(decoded, stills, strict=True)] == [True] * len(frames)


def test_a_clip_of_one_frame_is_the_still_picture(codec: Codec) -> None:
    encoded = encode(codec, CLIP[:1], gop=1)
    (decoded,) = decode(codec, encoded, CLIP[:1])
    assert encoded == codec.encode(CLIP[0], middle(codec))
    assert np.array_equal(decoded, codec.decode(encoded.data, SIZE))


@pytest.mark.parametrize("gop", [1, 4, 32])
def test_all_frames_come_back_in_order(codec: Codec, gop: int) -> None:
    quality = round(codec.best + (codec.worst - codec.best) * 0.35)
    decoded = decode(codec, encode(codec, CLIP, gop, quality), CLIP)
    errors = np.array([[error(picture.rgb, image) for image in decoded] for picture in CLIP])
    assert errors.argmin(axis=1).tolist() == list(range(len(CLIP)))
    assert all(image.shape == (*SIZE, 3) and image.dtype == np.uint8 for image in decoded)


def test_prediction_saves_bytes(codec: Codec) -> None:
    sizes = [encode(codec, CLIP, gop).payload for gop in (1, 4, 32)]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] < sizes[0] / 2


def test_a_gop_does_not_depend_on_those_before(codec: Codec) -> None:
    """Key frames stand where they should: what follows the first GOP decodes to the same, whatever the first shows."""
    gop = 4
    frames, others = CLIP[:8], OTHER[:gop] + CLIP[gop:8]
    one, other = (decode(codec, encode(codec, clip, gop), clip) for clip in (frames, others))
    same = [np.array_equal(first, second) for first, second in zip(one, other, strict=True)]
    assert same == [False] * gop + [True] * gop


def test_an_encoder_remembers_nothing(codec: Codec) -> None:
    first, between, again = (encode(codec, clip, gop=4) for clip in (CLIP[:6], OTHER[:6], CLIP[:6]))
    assert first == again
    assert first.data != between.data


def test_only_pixels_count_as_payload(codec: Codec) -> None:
    """The part that is no payload is smaller than the still pictures' in all, and payload falls with the quality."""
    fine, coarse = (
        encode(codec, CLIP, 4, round(codec.best + (codec.worst - codec.best) * part)) for part in (0.4, 0.8)
    )
    still = codec.encode(CLIP[0], middle(codec))
    for encoded in (fine, coarse):
        assert 0 < len(encoded.data) - encoded.payload <= len(CLIP) * (len(still.data) - still.payload + 8)
    assert coarse.payload < fine.payload / 2


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (17, 23)])
def test_any_size(codec: Codec, size: tuple[int, int]) -> None:
    frames = [Picture.of(picture.rgb[: size[0], : size[1]]) for picture in CLIP[:3]]
    decoded = decode(codec, encode(codec, frames, gop=8), frames)
    assert [image.shape for image in decoded] == [(*size, 3)] * 3


def test_damage_is_a_clean_error(codec: Codec, capfd: pytest.CaptureFixture[str]) -> None:
    data = encode(codec, CLIP, gop=4).data
    for stream in (b"", bytes(len(data)), data[: len(data) // 2], data[len(data) // 2 :], data + data):
        with pytest.raises(UnreadableFile):
            coder(codec).decode(stream, SIZE, len(CLIP))
    for size, count in (((64, 64), len(CLIP)), (SIZE, len(CLIP) - 1), (SIZE, len(CLIP) + 1)):
        with pytest.raises(UnreadableFile):
            coder(codec).decode(data, size, count)
    assert capfd.readouterr() == ("", "")


def test_what_is_no_clip_is_refused(codec: Codec) -> None:
    with pytest.raises(InvalidSample, match="got 0"):
        encode(codec, [], gop=1)
    with pytest.raises(InvalidSample, match="of one size"):
        encode(codec, [CLIP[0], Picture.of(CLIP[0].rgb[:64])], gop=1)
    with pytest.raises(InvalidSetting, match="at least 1"):
        encode(codec, CLIP, gop=0)
    with pytest.raises(InvalidSetting, match=f"codec '{codec.name}'"):
        encode(codec, CLIP, gop=1, quality=1000)


def test_clips_describe_themselves(codec: Codec) -> None:
    assert colour.DEFINITION in coder(codec).arguments
