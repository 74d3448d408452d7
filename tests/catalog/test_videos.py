"""Videos go in as they are, and their frames by number are those that decoding everything gives."""

from __future__ import annotations

import io
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
import pytest

from sensorium.catalog import Catalog
from sensorium.catalog import modality as modalities
from sensorium.catalog.fields import ArrayField
from sensorium.catalog.importer import Source
from sensorium.catalog.importers import videos
from sensorium.catalog.ingest import choose_importer
from sensorium.catalog.preview import sample_sheet, stepper
from sensorium.catalog.video_stream import VideoStream, frames
from sensorium.platform.errors import InvalidSetting, UnreadableFile
from tests.catalog.importing import imported, importer, picture, refusal, shared, write

Frames = npt.NDArray[np.uint8]


def moving(count: int = 40, height: int = 48, width: int = 64) -> Frames:
    """A view [T, H, W, 3] that moves over a picture."""
    view = np.random.default_rng(0).integers(0, 256, (height, width + count, 3), np.uint8)
    return np.stack([view[:, index : index + width] for index in range(count)])


def film(
    path: Path,
    codec: str = "libx264",
    pictures: Frames | None = None,
    first: int = 0,
    pixels: str = "yuv420p",
    **options: str,
) -> Path:
    """Write frames [T, H, W, 3] at 25 Hz, the first at time ``first`` / 25 s."""
    path.parent.mkdir(parents=True, exist_ok=True)
    shown = moving() if pictures is None else pictures
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25, options=options)
        stream.height, stream.width = shown.shape[1:3]
        stream.pix_fmt = pixels
        stream.codec_context.gop_size = 12
        for number, pixel in enumerate(shown):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixel), format="rgb24")
            frame.pts, frame.time_base = number + first, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def everything(path: Path) -> Frames:
    """All frames, decoded in one go."""
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


FORMS: dict[str, dict[str, Any]] = {
    "b_frames.mp4": {},
    "late.mp4": {"first": 77},
    "late.mov": {"first": 5},
    "open_gop.mkv": {"x264-params": "open-gop=1:bframes=3"},
    "refreshed.mp4": {"x264-params": "intra-refresh=1"},
    "unordered.avi": {"codec": "mpeg4", "bf": "2"},
    "plain.avi": {"codec": "mjpeg", "pixels": "yuvj420p"},
    "hidden_frames.webm": {"codec": "libvpx", "auto-alt-ref": "1", "lag-in-frames": "16"},
    "superframes.webm": {"codec": "libvpx-vp9", "auto-alt-ref": "1", "lag-in-frames": "16", "deadline": "realtime"},
}


@pytest.mark.parametrize("name", FORMS)
def test_frames_by_number_are_those_of_decoding_everything(tmp_path: Path, name: str) -> None:
    path = film(tmp_path / name, **FORMS[name])
    whole = everything(path)
    assert len(whole) == 40
    sample = imported("videos", path)[path.stem]
    content = sample["encoded"]
    assert content.tobytes() == path.read_bytes()
    assert (sample["frame_count"], sample["frame_rate"], sample["width"], sample["height"]) == (40, 25.0, 64, 48)
    assert sample["duration"] == pytest.approx(1.6)
    assert "rotation" not in sample
    assert np.array_equal(frames(content), whole)
    assert np.array_equal(frames(content, 31, 5), whole[31:5])
    assert np.array_equal(frames(content, -9, None, 4), whole[-9::4])
    with VideoStream(content) as stream:
        for number in (39, 0, 13, 12, 11, 25, 38):  # backwards, too
            assert np.array_equal(stream.frames(number, number + 1)[0], whole[number]), number
        assert stream.seconds == pytest.approx(np.arange(40) / 25)
    with pytest.raises(InvalidSetting, match="step"):
        frames(content, step=-1)


def test_one_frame_is_decoded_from_the_key_frame_before_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = film(tmp_path / "a.mp4", pictures=moving(200)).read_bytes()
    fed: list[int] = []
    decoded = VideoStream._decoded

    def watched(self: VideoStream, first: int, cursor: list[int]) -> Any:
        fed.append(first)
        return decoded(self, first, cursor)

    monkeypatch.setattr(VideoStream, "_decoded", watched)
    frames(content, 150, 160)
    assert fed == [144]
    fed.clear()
    frames(content, 3, None, 60)
    assert fed == [0, 60, 120, 180]


def test_lossless_frames_are_exact_also_when_they_are_stored_decoded(tmp_path: Path) -> None:
    pictures = moving(7, 32, 48)
    path = film(tmp_path / "Übung 1" / "a b.mkv", "ffv1", pictures, pixels="bgr0")
    film(tmp_path / "Übung 1" / "kürzer.mkv", "ffv1", pictures[:3, :20, :30], pixels="bgr0")
    samples = imported("videos", tmp_path, decode="yes")
    assert set(samples) == {"Übung 1/a b", "Übung 1/kürzer"}
    stored = samples["Übung 1/a b"]["frames"]
    assert stored.dtype == np.uint8
    assert np.array_equal(stored, pictures)
    assert samples["Übung 1/kürzer"]["frames"].shape == (3, 20, 30, 3)
    assert "encoded" not in samples["Übung 1/a b"]
    assert samples["Übung 1/a b"]["codec"] == "ffv1"
    assert np.array_equal(frames(path.read_bytes(), 2, 5), pictures[2:5])
    with pytest.raises(InvalidSetting, match="decode"):
        imported("videos", path, decode="maybe")


def test_samples_are_as_declared(tmp_path: Path) -> None:
    film(tmp_path / "a.mp4", pictures=moving(5))
    write(tmp_path / "metadata.csv", "file,label,width\na.mp4,cup,3\n")
    found, source = importer("videos"), Source(tmp_path)
    modality = modalities.get("video")
    assert found.fields is not None
    declared = {field.name: field for field in (*modality.fields, *found.fields(source))}
    sample = imported("videos", tmp_path)["a"]
    assert sample["label"] == "cup"
    assert (sample["width"], sample["metadata_width"]) == (64, 3)
    assert set(sample) <= set(declared)
    assert isinstance(declared["encoded"], ArrayField)
    assert modality.check is not None
    assert list(modality.check(sample)) == []


def test_a_second_import_adds_nothing_and_what_is_in_is_drawn(tmp_path: Path, catalog: Catalog) -> None:
    folder = tmp_path / "in"
    path = film(folder / "long one.mp4", pictures=moving(250))
    film(folder / "short.webm", "libvpx", moving(3))
    write(folder / "broken.mp4", path.read_bytes()[:-100])
    report = catalog.ingest(folder, "clips")
    assert (report.format, report.added, len(report.failed)) == ("videos", 2, 1)
    assert catalog.ingest(folder, "clips").added == 0
    stored = catalog["clips"].select()["long one"]
    assert np.array_equal(frames(stored["encoded"], 100, 102), everything(path)[100:102])
    assert catalog["clips"].preview().content.startswith(b"\x89PNG")
    sample_sheet(catalog["clips"].select(), "long one", tmp_path / "sheet.png")
    sample_sheet(catalog["clips"].select(), "short", tmp_path / "sheet2.png")
    stepper(catalog["clips"].select(), "long one", tmp_path / "steps.html")
    modality = modalities.get("video")
    assert modality.steps is not None
    captions = [caption for caption, _ in modality.steps(stored)]
    assert len(captions) == 200
    assert captions[1] == "frame 1, 0.04 s"
    assert captions[-1] == "frame 248, 9.92 s"
    decoded = {"frames": moving(9), "frame_rate": 2.0}
    pages = list(modality.steps(decoded))
    assert len(pages) == 9
    assert pages[3][0] == "frame 3, 1.50 s"
    assert np.array_equal(pages[3][1], decoded["frames"][3])


def test_videos_are_claimed_by_content(tmp_path: Path) -> None:
    for name in ("a.mp4", "b.mkv", "c.avi", "d.mov"):
        path = film(tmp_path / name, "mpeg4", moving(2))
        assert choose_importer(Source(path)).name == "videos"
    assert choose_importer(Source(tmp_path)).name == "videos"
    assert importer("videos").matches(Source(write(tmp_path / "e/heic.mp4", b"\0\0\0\x18ftypheic" + bytes(60)))) == 0
    assert importer("videos").matches(Source(write(tmp_path / "f/text.mp4", "just a text"))) == 0
    picture(tmp_path / "g/a.png")
    assert importer("videos").matches(Source(tmp_path / "g")) == 0


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.avi", "a.mov"])
@pytest.mark.parametrize(
    ("harm", "says"),
    [
        (lambda whole: whole[:-40], "are there. It is cut off"),
        (lambda whole: whole[: len(whole) // 2], "are there. It is cut off"),
        (lambda whole: whole[:20], ". "),
        (lambda _: b"", "is no video file of a known kind"),
        (lambda _: b"no video at all" * 100, "is no video file of a known kind"),
    ],
)
def test_broken_videos_are_refused(tmp_path: Path, name: str, harm: Callable[[bytes], bytes], says: str) -> None:
    path = film(tmp_path / name, "mpeg4")
    text = refusal("videos", write(path, harm(path.read_bytes())))
    assert text.startswith(f"{path}: ")
    assert says in text


def test_frames_that_are_not_in_the_file_are_noticed(tmp_path: Path) -> None:
    """The boxes fit the file, but their content was zeroed, as by a disk that was full."""
    path = film(tmp_path / "a.mp4")
    whole = bytearray(path.read_bytes())
    media = whole.index(b"mdat")
    whole[media + len(whole) // 4 : media + len(whole) // 2] = bytes(len(whole) // 2 - len(whole) // 4)
    write(path, bytes(whole))
    content = imported("videos", path)["a"]["encoded"]  # its ends are whole
    with pytest.raises(UnreadableFile, match="cannot be decoded"):
        frames(content)
    sound = io.BytesIO()
    with av.open(sound, "w", format="mp4") as container:
        stream = container.add_stream("aac", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    assert "has no video in it" in refusal("videos", write(tmp_path / "sound.mp4", sound.getvalue()))


def test_limits_are_options(tmp_path: Path) -> None:
    path = film(tmp_path / "a.mp4")
    assert "max_pixels=3072" in refusal("videos", path, max_pixels="3071")
    assert f"max_bytes={path.stat().st_size}" in refusal("videos", path, max_bytes="100")
    assert "max_bytes=368640" in refusal("videos", path, max_bytes="368639", decode="yes")
    assert imported("videos", path, max_bytes="368640", decode="yes")["a"]["frames"].nbytes == 368640


def test_sizes_of_unknown_length_are_left_to_the_decoder(tmp_path: Path) -> None:
    """Programs that stream WebM do not know the segment's length."""
    path = film(tmp_path / "a.webm", "libvpx")
    whole = bytearray(path.read_bytes())
    place = whole.index(b"\x18\x53\x80\x67") + 4
    whole[place : place + 8] = b"\x01" + b"\xff" * 7
    videos._check_segment(path, io.BytesIO(whole), len(whole))
    assert imported("videos", write(path, bytes(whole)))["a"]["frame_count"] == 40


def test_a_real_video() -> None:
    path = shared("video/umi_cup/umi_cup_in_the_wild_ep000000.mp4")
    sample = imported("videos", path)[path.stem]
    assert (sample["frame_count"], sample["frame_rate"], sample["codec"]) == (400, 10.0, "h264")
    whole = everything(path)
    for number in (0, 1, 199, 250, 399):
        assert np.array_equal(frames(sample["encoded"], number, number + 1)[0], whole[number])
