"""Pictures of every kind are decoded as they are meant to be seen; masks are found; what is broken is named."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skimage
import tifffile
from PIL import Image, ImageOps

from sensorium.catalog.importer import Item, Source
from sensorium.platform.errors import InvalidSetting, UnreadableFile
from tests.catalog.importing import imported, importer, picture, refusal, shared, write

PICTURES = Path(skimage.__file__).parent / "data"


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("ending", ["jpg", "png", "tif"])
def test_orientation_is_applied(tmp_path: Path, orientation: int, ending: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = picture(tmp_path / f"a.{ending}", exif=exif)
    with Image.open(path) as image:
        upright = np.asarray(ImageOps.exif_transpose(image))
    assert np.array_equal(imported("image_folder", path)["a"]["image"], upright)
    assert upright.shape[:2] == ((6, 9) if orientation < 5 else (9, 6))


def _palette(transparent: bool) -> Image.Image:
    image = Image.fromarray(np.array([[0, 1], [2, 1]], np.uint8), mode=None).convert("P")
    image.putdata([0, 1, 2, 1])
    image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    if transparent:
        image.info["transparency"] = 1
    return image


#: orientation 3: upside down
TURNED = [(0x0112, "H", 1, 3, True)]
RED, GREEN, BLUE = [255, 0, 0], [0, 255, 0], [0, 0, 255]


@pytest.mark.parametrize(
    ("name", "make", "pixels"),
    [
        ("grey.png", lambda: Image.fromarray(np.array([[0, 200]], np.uint8)), [[[0], [200]]]),
        ("deep.png", lambda: Image.fromarray(np.array([[0, 60000]], np.uint16)), [[[0], [60000]]]),
        ("deep.tif", lambda: Image.fromarray(np.array([[0, 60000]], np.uint16)), [[[0], [60000]]]),
        ("bit.png", lambda: Image.fromarray(np.array([[False, True]])), [[[0], [255]]]),
        ("bit.tif", lambda: Image.fromarray(np.array([[False, True]])), [[[0], [255]]]),
        ("palette.png", lambda: _palette(False), [[RED, GREEN], [BLUE, GREEN]]),
        ("still.gif", lambda: _palette(False), [[RED, GREEN], [BLUE, GREEN]]),
        (
            "clear.png",
            lambda: _palette(True),
            [[[*RED, 255], [*GREEN, 0]], [[*BLUE, 255], [*GREEN, 0]]],
        ),
        ("veil.png", lambda: Image.fromarray(np.array([[[9, 70]]], np.uint8)), [[[9, 9, 9, 70]]]),
        ("ink.tif", lambda: Image.new("CMYK", (1, 1), (0, 0, 0, 255)), [[[0, 0, 0]]]),
        ("lossless.webp", lambda: Image.new("RGB", (1, 1), (1, 2, 3)), [[[1, 2, 3]]]),
        ("plain.bmp", lambda: Image.new("RGB", (1, 1), (1, 2, 3)), [[[1, 2, 3]]]),
        ("whole.tif", lambda: Image.fromarray(np.array([[7, 40000]], np.int32)), [[[7], [40000]]]),
    ],
)
def test_every_kind_of_picture_becomes_height_width_channels(
    tmp_path: Path, name: str, make: Callable[[], Image.Image], pixels: list[Any]
) -> None:
    options: dict[str, Any] = {"lossless": True} if name.endswith("webp") else {}
    make().save(tmp_path / name, **options)
    image = imported("image_folder", tmp_path / name)[Path(name).stem]["image"]
    assert image.tolist() == pixels
    assert image.dtype == (np.uint16 if np.max(pixels) > 255 else np.uint8)


def test_colour_of_sixteen_bits_keeps_them(tmp_path: Path) -> None:
    cv2 = pytest.importorskip("cv2")
    colours = np.random.default_rng(0).integers(0, 65536, (4, 5, 4), np.uint16)
    for name, count in (("rgb.png", 3), ("rgba.png", 4), ("rgb.tif", 3)):
        stored = colours[..., [2, 1, 0, 3][:count]]
        write(tmp_path / name, cv2.imencode(Path(name).suffix, stored)[1].tobytes())
        (sample,) = imported("image_folder", tmp_path / name).values()
        assert sample["image"].dtype == np.uint16
        assert np.array_equal(sample["image"], colours[..., :count])


@pytest.mark.parametrize("bands", [1, 3, 4])
@pytest.mark.parametrize("dtype", ["int8", "int16", "int32", "float32", "float64"])
def test_tiff_of_measurements_keeps_its_values(tmp_path: Path, dtype: str, bands: int) -> None:
    array = (np.random.default_rng(0).random((6, 9, bands)) * 200 - 100).astype(dtype)
    layout: dict[str, Any] = {"photometric": "minisblack", **({"planarconfig": "contig"} if bands > 1 else {})}
    for name, options in (("plain", {}), ("packed", {"compression": "zlib"}), ("turned", {"extratags": TURNED})):
        path = tmp_path / f"{name}.tif"
        tifffile.imwrite(path, array if bands > 1 else array[..., 0], **layout, **options)
        image = imported("image_folder", path)[name]["image"]
        assert image.dtype == {"int8": np.int16, "int32": np.int16}.get(dtype, np.dtype(dtype))
        assert np.array_equal(image, array[::-1, ::-1] if name == "turned" else array)


def test_tiff_of_measurements_at_fault_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.zeros((6, 9, 5), np.uint8), photometric="minisblack", planarconfig="contig")
    assert "has 5 bands" in refusal("image_folder", path)
    tifffile.imwrite(path, np.zeros((2, 6, 9), np.int16), photometric="minisblack")
    assert "holds 2 frames or pages" in refusal("image_folder", path)
    tifffile.imwrite(path, np.full((6, 9), -70_000, np.int32))
    assert "more than 16 bits" in refusal("image_folder", path)
    tifffile.imwrite(path, np.random.default_rng(0).random((90, 90)), compression="zlib")
    assert "max_pixels=8100" in refusal("image_folder", path, max_pixels="8000")
    write(path, path.read_bytes()[:20_000])
    assert "cannot be decoded" in refusal("image_folder", path)


def test_masks_are_found_in_sibling_folders(tmp_path: Path) -> None:
    mask = np.array([[0, 255], [255, 0]], np.uint8)
    labels = Image.fromarray(np.array([[0, 1], [2, 3]], np.uint8)).convert("P")
    for place in ("images/a.jpg", "train/images/a.jpg", "loose/a.jpg", "loose/bare.jpg"):
        picture(tmp_path / place, np.zeros((2, 2, 3), np.uint8))
    picture(tmp_path / "masks/a.png", mask)
    picture(tmp_path / "train/masks/a.png", np.repeat(mask[..., None], 3, axis=2))  # grey saved as RGB
    (tmp_path / "labels/loose").mkdir(parents=True)
    labels.save(tmp_path / "labels/loose/a.png")
    samples = imported("image_folder", tmp_path)
    assert set(samples) == {"images/a", "train/images/a", "loose/a", "loose/bare"}
    assert np.array_equal(samples["images/a"]["mask"], mask)
    assert np.array_equal(samples["train/images/a"]["mask"], mask)
    assert samples["loose/a"]["labels"].tolist() == np.asarray(labels).tolist()
    assert "mask" not in samples["loose/bare"]
    assert "labels" not in samples["loose/bare"]


def test_masks_at_fault_are_refused(tmp_path: Path) -> None:
    picture(tmp_path / "images/a.png")
    picture(tmp_path / "masks/b.png", np.zeros((6, 9), np.uint8))
    assert "none of 1 masks" in refusal("image_folder", tmp_path)
    picture(tmp_path / "masks/a.png")
    assert "mask in colour" in refusal("image_folder", tmp_path)
    picture(tmp_path / "masks/a.bmp", np.zeros((6, 9), np.uint8))
    assert "two masks" in refusal("image_folder", tmp_path)


def test_folders_called_like_masks_may_be_classes(tmp_path: Path) -> None:
    picture(tmp_path / "mask/1.png")
    picture(tmp_path / "no_mask/1.png")
    assert "say masks=none" in refusal("image_folder", tmp_path)
    samples = imported("image_folder", tmp_path, masks="none")
    assert {name: sample["label"] for name, sample in samples.items()} == {"mask/1": "mask", "no_mask/1": "no_mask"}
    with pytest.raises(InvalidSetting, match="'no'"):
        imported("image_folder", tmp_path, masks="no")


def _png(width: int, height: int) -> bytes:
    """A PNG file whose header claims a size, without the pixels."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("bomb.png", lambda _: _png(50_000, 50_000), "50000 x 50000 pixels, more than the limit of 500 megapixels"),
        ("text.png", lambda _: b"no picture at all", "no picture of a known format"),
        ("empty.jpg", lambda _: b"", "no picture of a known format"),
        ("cut.png", lambda whole: whole[: len(whole) // 2], "cannot be decoded"),
        ("cut.jpg", lambda whole: whole[: len(whole) // 2], "truncated"),
        ("cut.tif", lambda whole: whole[: len(whole) // 2], "cannot be decoded"),
        ("cut.webp", lambda whole: whole[: len(whole) // 2], "cannot be decoded"),
        ("cut.bmp", lambda whole: whole[: len(whole) // 2], "truncated"),
        ("short.png", lambda _: _png(100, 100), "cannot be decoded"),
    ],
)
def test_broken_pictures_are_refused(tmp_path: Path, name: str, content: Callable[[bytes], bytes], says: str) -> None:
    whole = picture(tmp_path / name, np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)).read_bytes()
    path = write(tmp_path / name, content(whole))
    text = refusal("image_folder", path)
    assert text.startswith(f"{path}: ")
    assert says in text
    assert text.endswith(".")


def test_the_limit_of_pixels_is_an_option(tmp_path: Path) -> None:
    path = picture(tmp_path / "a.png", np.zeros((10, 10), np.uint8))
    assert "max_pixels=100" in refusal("image_folder", path, max_pixels="99")
    assert imported("image_folder", path, max_pixels="100")["a"]["image"].shape == (10, 10, 1)
    for wrong in ("many", "0", "-1"):
        with pytest.raises(InvalidSetting, match="max_pixels"):
            imported("image_folder", path, max_pixels=wrong)


def test_a_picture_beyond_the_decoders_own_limit_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The decoder's limit is a global of the process; it is neither in the way nor left changed."""
    path = picture(tmp_path / "a.png", np.zeros((64, 64), np.uint8))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert imported("image_folder", path)["a"]["image"].shape == (64, 64, 1)
    assert Image.MAX_IMAGE_PIXELS == 100


def test_files_of_several_pictures_are_refused(tmp_path: Path) -> None:
    pages = [Image.new("L", (4, 4), shade) for shade in (0, 200)]
    for name in ("film.gif", "pages.tif", "film.webp"):
        pages[0].save(tmp_path / name, save_all=True, append_images=pages[1:])
        assert "holds 2 frames or pages" in refusal("image_folder", tmp_path / name), name


def test_pictures_that_ship_with_a_library_are_read() -> None:
    found = importer("image_folder")
    assert found.matches(Source(PICTURES)) > 0.5
    read, refused = {}, set()
    for item in found.plan(Source(PICTURES)):
        try:
            read[item.id] = found.read(item, {})["image"]
        except UnreadableFile:
            refused.add(item.id)
    assert read["astronaut"].shape == (512, 512, 3)
    assert read["camera"].shape == (512, 512, 1)
    assert read["horse"].shape == (328, 400, 4)
    assert refused <= {"multipage", "multipage_rgb", "no_time_for_that_tiny"}


def test_real_photographs_of_plates() -> None:
    samples = imported("image_folder", shared("plates_eu"))
    assert len(samples) == 87
    assert {sample["image"].shape[2] for sample in samples.values()} <= {1, 3, 4}


def test_items_carry_their_files(tmp_path: Path) -> None:
    path = picture(tmp_path / "images/a.png")
    mask = picture(tmp_path / "masks/a.png", np.zeros((6, 9), np.uint8))
    (item,) = importer("image_folder").plan(Source(tmp_path))
    assert item == Item("images/a", (path, mask), {"source": "images/a.png"})
