"""Every importer plans cheaply, decodes what it planned into valid samples, and names file, fault and remedy otherwise."""

from __future__ import annotations

import gzip
import pickle
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import polars as pl
import pyarrow as pa
import pytest
import scipy.io
import skimage
import soundfile
from PIL import Image, ImageOps

from sensorium.catalog import modality as modalities
from sensorium.catalog.fields import ArrayField
from sensorium.catalog.importer import GROUP, Importer, Item, Source
from sensorium.catalog.importers import _tables
from sensorium.platform import plugins
from sensorium.platform.errors import InvalidSetting, UnreadableFile

SHARED = Path(__file__).parents[2] / "../shared/data"
PICTURES = Path(skimage.__file__).parent / "data"
SOUNDS = Path(scipy.io.__file__).parent / "tests/data"
VOLUMES = Path(nibabel.__file__).parent / "tests/data"


def importer(name: str) -> Importer:
    found: Importer = plugins.load(GROUP, name, Importer)
    return found


def imported(name: str, path: Path, **options: str) -> dict[str, dict[str, Any]]:
    """All samples that the importer makes of ``path``, by id."""
    found = importer(name)
    return {item.id: found.read(item, options) for item in found.plan(Source(path, options))}


def refusal(name: str, path: Path, **options: str) -> str:
    """What the importer says of a source that it cannot read."""
    with pytest.raises(UnreadableFile) as caught:
        imported(name, path, **options)
    return str(caught.value)


def shared(place: str) -> Path:
    path = SHARED / place
    if not path.exists():
        pytest.skip(f"the folder of sample data {SHARED} has no {place}")
    return path


def write(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def picture(path: Path, array: Any = None, **options: Any) -> Path:
    """Write ``array`` (noise [6, 9, 3] by default) as a picture."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(len(path.name)).integers(0, 256, (6, 9, 3), np.uint8) if array is None else array
    Image.fromarray(np.asarray(pixels)).save(path, **options)
    return path


def sound(path: Path, array: Any = None, rate: int = 8000, subtype: str = "PCM_16") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.arange(-50, 50, dtype=np.int16) if array is None else array
    soundfile.write(path, values, rate, subtype=subtype)
    return path


def volume(path: Path, array: Any = None, affine: Any = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.arange(24, dtype=np.int16).reshape(2, 3, 4) if array is None else array
    nibabel.save(nibabel.Nifti1Image(values, np.eye(4) if affine is None else affine), path)
    return path


LONG = "id,time,variable,value\nb,2,pulse,70\na,0.5,temp,37.2\na,0.25,pulse,80\nb,2,temp,36\n"
WIDE = "time,x,y\n0.0,1,2\n0.1,3,4\n0.2,5,6\n"


def make_example(name: str, folder: Path) -> None:
    """A small source of the importer ``name``, with metadata beside it."""
    if name == "image_folder":
        paths = [picture(folder / "a.png"), picture(folder / "b.png")]
    elif name == "audio_files":
        paths = [sound(folder / "a.wav"), sound(folder / "b.wav")]
    elif name == "nifti":
        paths = [volume(folder / "a.nii.gz"), volume(folder / "b.nii")]
    else:
        paths = [write(folder / "series.csv", LONG)]
    write(folder / "metadata.csv", "id,age,note\na,61,x\nb,,y\n")
    assert paths


@pytest.fixture(params=["image_folder", "audio_files", "nifti", "series_table"])
def example(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Importer, Path]:
    make_example(request.param, tmp_path)
    return importer(request.param), tmp_path


# what holds for all importers


@pytest.mark.parametrize("name", plugins.names(GROUP))
def test_an_importer_is_documented_and_makes_an_installed_modality(name: str) -> None:
    found = importer(name)
    assert found.title
    assert found.modality in plugins.names(modalities.GROUP)
    assert all(found.options.values())


@pytest.mark.parametrize("name", plugins.names(GROUP))
def test_what_is_none_of_its_own_is_not_claimed(name: str, tmp_path: Path) -> None:
    found = importer(name)
    assert found.matches(Source(tmp_path)) == 0  # empty
    assert found.matches(Source(tmp_path / "absent")) == 0
    for ending in (".png", ".wav", ".nii", ".nii.gz", ".csv", ".parquet"):
        fake = write(tmp_path / f"fake{ending}", "just a text\nof two lines\n")
        assert found.matches(Source(fake)) == 0, ending
    assert found.matches(Source(tmp_path)) == 0


@pytest.mark.parametrize("name", plugins.names(GROUP))
def test_sources_without_anything_are_refused(name: str, tmp_path: Path) -> None:
    assert "no such file or folder" in refusal(name, tmp_path / "absent")
    assert str(tmp_path) in refusal(name, tmp_path)


def test_the_surest_importer_is_the_right_one(example: tuple[Importer, Path]) -> None:
    found, folder = example
    sure = {name: importer(name).matches(Source(folder)) for name in plugins.names(GROUP)}
    assert max(sure, key=lambda name: sure[name]) == found.name
    assert 0.5 < sure[found.name] <= 1
    single = next(path for path in sorted(folder.iterdir()) if path.name != "metadata.csv")
    assert found.matches(Source(single)) > 0.5


def test_plans_are_picklable_and_samples_are_as_declared(example: tuple[Importer, Path]) -> None:
    found, folder = example
    source = Source(folder)
    items = list(found.plan(source))
    assert sorted(item.id for item in items) == ["a", "b"]
    modality = modalities.get(found.modality)
    attributes = found.attributes(source) if found.attributes else {}
    declared = {field.name: field for field in (*modality.fields, *(found.fields(source) if found.fields else ()))}
    for item in pickle.loads(pickle.dumps(items)):
        sample = found.read(item, {})
        assert set(sample) <= set(declared), set(sample) - set(declared)
        for name, value in sample.items():
            field = declared[name]
            if isinstance(field, ArrayField):
                assert value.dtype.name in field.dtypes
                assert value.ndim in [len(layout) for layout in field.layouts]
                assert value.flags.c_contiguous
            else:
                pa.array([value], type=field.type)  # raises where the value is of another type
        assert modality.check is None or list(modality.check({**attributes, **sample})) == []


def test_metadata_is_joined_with_its_types(example: tuple[Importer, Path]) -> None:
    found, folder = example
    assert found.fields is not None
    types = {field.name: field.type for field in found.fields(Source(folder)) if not isinstance(field, ArrayField)}
    assert types["age"] == pa.int64()
    assert types["note"] == pa.string()
    samples = imported(found.name, folder)
    assert samples["a"]["age"] == 61
    assert "age" not in samples["b"]  # null
    assert [samples[name]["note"] for name in "ab"] == ["x", "y"]
    assert "note" not in imported(found.name, folder, metadata="none")["a"]


def test_a_file_of_a_plan_that_is_gone_is_named(example: tuple[Importer, Path]) -> None:
    found, folder = example
    item = next(found.plan(Source(folder)))
    item.paths[0].unlink()
    with pytest.raises(UnreadableFile, match=item.paths[0].name):
        found.read(item, {})


# metadata, folders and names


def test_columns_become_scalars_of_their_types(tmp_path: Path) -> None:
    for name in ("001.png", "b.png", "c.png"):
        picture(tmp_path / name)
    write(
        tmp_path / "labels.csv",
        "file_name;whole;decimal;truth;code;Length of stay (d);image;id;empty;0th\n"
        "001.png;1;0.5;true;007;3;x;9;;a\nb.png;NA;1e3;False;12;4;y;8;;b\nc.png;-3;;true;NA;;z;7;;c\n",
    )
    found = importer("image_folder")
    assert found.fields is not None
    types = {field.name: str(field.type) for field in found.fields(Source(tmp_path)) if hasattr(field, "type")}
    assert types == {
        "source": "string",
        "whole": "int64",
        "decimal": "double",
        "truth": "bool",
        "code": "string",  # 007 is a name
        "Length_of_stay_d": "int64",
        "metadata_image": "string",
        "metadata_id": "int64",
        "column_0th": "string",
    }
    samples = imported("image_folder", tmp_path)
    scalars = {key: value for key, value in samples["001"].items() if key != "image"}
    assert scalars == {
        "source": "001.png",
        "whole": 1,
        "decimal": 0.5,
        "truth": True,
        "code": "007",
        "Length_of_stay_d": 3,
        "metadata_image": "x",
        "metadata_id": 9,
        "column_0th": "a",
    }
    assert "whole" not in samples["b"]
    assert samples["b"]["decimal"] == 1000.0


def test_parquet_metadata_keeps_its_types(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    boxes = [[{"x": 1.5, "name": "plate"}]]
    pl.DataFrame({"path": ["./a.png"], "boxes": boxes, "n": pl.Series([3], dtype=pl.Int16)}).write_parquet(
        tmp_path / "metadata.parquet"
    )
    found = importer("image_folder")
    assert found.fields is not None
    types = {field.name: field.type for field in found.fields(Source(tmp_path)) if hasattr(field, "type")}
    assert types["boxes"] == pa.list_(pa.struct([("x", pa.float64()), ("name", pa.string())]))
    assert types["n"] == pa.int16()
    assert imported("image_folder", tmp_path)["a"]["boxes"] == boxes[0]


def test_splits_and_classes_come_from_folders(tmp_path: Path) -> None:
    for place in ("train/cat/1.png", "train/dog/1.png", "Validation/cat/1.png", "test/dog/deep/er/1.png"):
        picture(tmp_path / place)
    picture(tmp_path / ".hidden/2.png")
    picture(tmp_path / "__MACOSX/2.png")
    write(tmp_path / "train/cat/._1.png", "resource fork")
    samples = imported("image_folder", tmp_path)
    assert {name: (sample["split"], sample["label"]) for name, sample in samples.items()} == {
        "train/cat/1": ("train", "cat"),
        "train/dog/1": ("train", "dog"),
        "Validation/cat/1": ("val", "cat"),
        "test/dog/deep/er/1": ("test", "dog"),
    }
    assert "label" not in imported("image_folder", tmp_path, label="none")["train/cat/1"]


def test_a_single_sub_folder_is_no_class_unless_told(tmp_path: Path) -> None:
    picture(tmp_path / "photos/1.png")
    assert "label" not in imported("image_folder", tmp_path)["photos/1"]
    assert imported("image_folder", tmp_path, label="folder")["photos/1"]["label"] == "photos"
    with pytest.raises(InvalidSetting, match="'maybe'"):
        imported("image_folder", tmp_path, label="maybe")


def test_a_column_of_labels_replaces_those_of_folders(tmp_path: Path) -> None:
    for place in ("cat/1.png", "dog/2.png"):
        picture(tmp_path / place)
    write(tmp_path / "metadata.csv", "file,label\ncat/1.png,3\n")
    samples = imported("image_folder", tmp_path)
    assert samples["cat/1"]["label"] == 3
    assert "label" not in samples["dog/2"]  # never a name among numbers


def test_the_nearest_table_wins_and_whole_numbers_widen(tmp_path: Path) -> None:
    for place in ("train/1.png", "test/1.png"):
        picture(tmp_path / place)
    write(tmp_path / "metadata.csv", "file,x,y\ntrain/1.png,1,5\ntest/1.png,2,6\n")
    write(tmp_path / "train/metadata.csv", "file,x\n1.png,1.5\n")
    samples = imported("image_folder", tmp_path)
    assert (samples["train/1"]["x"], samples["train/1"]["y"]) == (1.5, 5)
    assert repr(samples["test/1"]["x"]) == "2.0"


@pytest.mark.parametrize(
    ("table", "options", "says"),
    [
        ("name,x\n1.png,1\n", {}, "no column says which file"),
        ("file,x\n9.png,1\n", {}, "'9.png') is there"),
        ("file,x\ntrain/1.png,1\ntrain/1.png,2\n", {}, "row 2: 'train/1.png' is there twice"),
        ("file,x\n,1\n", {}, "row 1: no name"),
        ("file,x\n1.png,1\n", {}, "fits both"),
        ("file,x\ntrain/1.png,1\n", {"key": "fil"}, "'file'"),
        ("file,a b,a_b\ntrain/1.png,1,2\n", {}, "both be 'a_b'"),
        ("file,x\ntrain/1.png,1,2\n", {}, "more fields"),
        (b"file,x\ntrain/1.png,\xe9\n", {}, "UTF-8"),
        ("file,x\n".encode("utf-16"), {}, "UTF-8"),
        ("", {}, "is empty"),
        ("file,x\ntrain/1.png,1\n", {"metadata": "absent.csv"}, "absent.csv"),
    ],
)
def test_broken_metadata_is_refused(tmp_path: Path, table: str | bytes, options: dict[str, str], says: str) -> None:
    for place in ("train/1.png", "test/1.png"):
        picture(tmp_path / place)
    write(tmp_path / "metadata.csv", table)
    text = refusal("image_folder", tmp_path, **options)
    assert says in text
    assert ".csv: " in text


def test_a_table_beside_a_single_file_may_be_about_its_neighbours(tmp_path: Path) -> None:
    path = picture(tmp_path / "a.png")
    table = write(tmp_path / "metadata.csv", "file,x\nb.png,1\n")
    assert "x" not in imported("image_folder", path)["a"]
    assert "is there" in refusal("image_folder", path, metadata="metadata.csv")
    write(table, "file,x\nb.png,1\na.png,2\n")
    assert imported("image_folder", path)["a"]["x"] == 2


def test_pattern_groups_become_scalars(tmp_path: Path) -> None:
    for name in ("7_jackson_0.wav", "0_george_11.wav"):
        sound(tmp_path / name)
    pattern = r"(?P<digit>\d)_(?P<speaker>\w+)_(?P<take>\d+)"
    samples = imported("audio_files", tmp_path, pattern=pattern)
    assert {key: samples["7_jackson_0"][key] for key in ("digit", "speaker", "take")} == {
        "digit": 7,
        "speaker": "jackson",
        "take": 0,
    }
    sound(tmp_path / "noise.wav")
    assert "digit" not in imported("audio_files", tmp_path, pattern=pattern)["noise"]
    assert "fits none of 3 files" in refusal("audio_files", tmp_path, pattern=r"(?P<x>#)")
    for wrong in ("(", r"\d", "(?P<audio>.)", "(?P<_x>.)"):
        with pytest.raises((InvalidSetting, ValueError)):
            imported("audio_files", tmp_path, pattern=wrong)


def test_files_that_differ_in_suffix_only_keep_it_in_their_ids(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    picture(tmp_path / "a.bmp")
    picture(tmp_path / "b.png")
    source = Source(tmp_path)
    items = {item.paths[0].name: item.id for item in importer("image_folder").plan(source)}
    assert items == {"a.bmp": "a.bmp", "a.png": "a.png", "b.png": source.identifier(tmp_path / "b.png")}


# tables


@pytest.mark.parametrize(
    ("cells", "kind", "values"),
    [
        (["1", "-20", None], pa.int64(), [1, -20, None]),
        (["1", "2.5", "nan", ".5", "5."], pa.float64(), [1.0, 2.5, None, 0.5, 5.0]),
        (["1", "x"], pa.string(), ["1", "x"]),
        (["01", "02"], pa.string(), ["01", "02"]),
        (["123456789012345678901"], pa.string(), ["123456789012345678901"]),
        (["NA", "BE"], pa.string(), ["NA", "BE"]),
        (["True", "false", ""], pa.bool_(), [True, False, None]),
        ([None, None], pa.null(), [None, None]),
        (["inf", "1"], pa.string(), ["inf", "1"]),
    ],
)
def test_types_of_text_columns(cells: list[str | None], kind: pa.DataType, values: list[Any]) -> None:
    assert _tables.infer(cells) == (kind, values)


def test_tables_are_read_with_marks_quotes_blank_lines_and_compression(tmp_path: Path) -> None:
    text = '\ufeffa\tb\n1\t"x, y"\n\n3\t\n'
    path = tmp_path / "t.tsv.gz"
    path.write_bytes(gzip.compress(text.encode()))
    frame = _tables.read(path)
    assert frame["a"].to_list() == ["1", "3"]
    assert frame["b"].to_list() == ["x, y", None]
    assert frame[_tables.ROW].to_list() == [1, 3]


# images


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


# sound


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


# volumes


@pytest.mark.parametrize("codes", ["RAS", "LPS", "LAS", "PSR", "ASL", "IRP"])
def test_volumes_are_turned_to_ras(tmp_path: Path, codes: str) -> None:
    """The same body, scanned in another orientation, gives the same array, spacing and place."""
    body = np.random.default_rng(0).integers(-1000, 1000, (4, 3, 5)).astype(np.int16)  # x, y, z in RAS
    affine = np.array([[2.0, 0, 0, -7], [0, 3, 0, 11], [0, 0, 5, 1], [0, 0, 0, 1]])
    image = nibabel.Nifti1Image(body, affine)
    target = nibabel.orientations.axcodes2ornt(tuple(codes))
    start = nibabel.orientations.io_orientation(affine)
    nibabel.save(image.as_reoriented(nibabel.orientations.ornt_transform(start, target)), tmp_path / "a.nii.gz")
    sample = imported("nifti", tmp_path, unit="HU")["a"]
    assert sample["volume"].dtype == np.int16
    assert np.array_equal(sample["volume"], body.transpose(2, 1, 0))
    assert sample["spacing"] == pytest.approx([5, 3, 2])
    assert sample["affine"] == pytest.approx(affine.ravel())
    assert (sample["orientation"], sample["unit"]) == ("RAS", "HU")


def test_scaling_types_and_units_of_length(tmp_path: Path) -> None:
    values = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    scaled = nibabel.Nifti1Image(values, np.diag([1e-3, 1e-3, 2e-3, 1]))
    scaled.header.set_slope_inter(2, -1024)
    scaled.header.set_xyzt_units("meter")
    nibabel.save(scaled, tmp_path / "scaled.nii")
    volume(tmp_path / "double.nii", values.astype(np.float64) / 3)
    volume(tmp_path / "big.nii", values.astype(">u2"))
    volume(tmp_path / "long.nii", values.reshape(2, 3, 4, 1, 1))
    samples = imported("nifti", tmp_path)
    assert samples["scaled"]["volume"].dtype == np.float32
    assert samples["double"]["volume"].dtype == np.float32
    assert samples["big"]["volume"].dtype == np.dtype("=u2")
    assert samples["long"]["volume"].shape == (4, 3, 2)
    expected = nibabel.load(tmp_path / "scaled.nii").get_fdata()
    assert np.allclose(samples["scaled"]["volume"], expected.transpose(2, 1, 0))
    assert samples["scaled"]["spacing"] == pytest.approx([2, 1, 1])


@pytest.mark.parametrize("place", ["a_mask.nii.gz", "a-seg.nii", "a_label.nii.gz", "masks/a.nii.gz", "labels/a.nii"])
def test_masks_of_volumes_are_found(tmp_path: Path, place: str) -> None:
    volume(tmp_path / "a.nii.gz")
    marks = (np.arange(24).reshape(2, 3, 4) % 4).astype(np.uint8)
    volume(tmp_path / place, marks)
    samples = imported("nifti", tmp_path)
    assert list(samples) == ["a"]
    assert np.array_equal(samples["a"]["mask"], marks.transpose(2, 1, 0))
    assert samples["a"]["mask"].dtype == np.uint8


def test_masks_with_fractions_are_cut_at_half_of_their_maximum(tmp_path: Path) -> None:
    volume(tmp_path / "a.nii")
    marks = np.zeros((2, 3, 4), np.float32)
    marks[0, 0] = [10.5, 99.9, 100, 200]
    volume(tmp_path / "a_mask.nii", marks)
    mask = imported("nifti", tmp_path)["a"]["mask"]
    assert mask.dtype == np.uint8
    assert mask[:, 0, 0].tolist() == [0, 0, 1, 1]
    assert mask.sum() == 2
    volume(tmp_path / "a_mask.nii", np.float32(7) * (marks > 50))  # whole numbers in floats
    assert set(np.unique(imported("nifti", tmp_path)["a"]["mask"])) == {0, 7}


def test_a_mask_on_another_grid_is_refused(tmp_path: Path) -> None:
    volume(tmp_path / "a.nii")
    volume(tmp_path / "a_mask.nii", affine=np.diag([-1, 1, 1, 1]))
    assert "not on the grid" in refusal("nifti", tmp_path)
    volume(tmp_path / "a_mask.nii", np.zeros((2, 3, 5), np.uint8))
    assert "not on the grid" in refusal("nifti", tmp_path)


def _claim(shape: tuple[int, ...], affine: Any = None) -> bytes:
    """A NIfTI header of a volume of ``shape``, without voxels."""
    header = nibabel.Nifti1Header()
    header.set_data_dtype(np.float64)
    header.set_data_shape(shape)
    header.set_sform(np.eye(4) if affine is None else affine, code=1)
    header["magic"] = b"n+1"
    header["vox_offset"] = 352
    return bytes(header.binaryblock) + b"\0" * 4


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("claim.nii", lambda _: _claim((1000, 1000, 2000)), "claims 16000000000 bytes"),
        ("claim.nii.gz", lambda _: gzip.compress(_claim((1000, 1000, 2000))), "claims 16000000000 bytes"),
        ("huge.nii.gz", lambda _: gzip.compress(_claim((1100, 1000, 1000)) + bytes(10**7)), "claims 8800000000 bytes"),
        ("cut.nii", lambda whole: whole[:-40], "the file has"),
        ("cut.nii.gz", lambda whole: whole[: len(whole) // 2], "cannot be decoded as NIfTI"),
        ("short.nii.gz", lambda _: gzip.compress(_claim((10, 10, 10))), "cannot be decoded as NIfTI"),
        ("text.nii", lambda _: b"no volume at all" * 100, "is no NIfTI file"),
        ("text.nii.gz", lambda _: b"no volume at all" * 100, "is no NIfTI file"),
        ("none.nii", lambda _: b"", "is no NIfTI file"),
        ("flat.nii", lambda _: _claim((9, 9)) + bytes(648), "not that of one volume"),
        ("film.nii", lambda _: _claim((2, 2, 2, 3)) + bytes(192), "not that of one volume"),
        ("squash.nii", lambda _: _claim((2, 2, 2), np.diag([1, 0, 1, 1])) + bytes(64), "gives no voxel size"),
    ],
)
def test_broken_volumes_are_refused(tmp_path: Path, name: str, content: Callable[[bytes], bytes], says: str) -> None:
    noise = np.random.default_rng(0).integers(0, 999, (9, 9, 9)).astype(np.int16)
    path = tmp_path / name
    whole = volume(path, noise).read_bytes()
    text = refusal("nifti", write(path, content(whole)))
    assert text.startswith(f"{path}: ")
    assert says in text
    assert text.endswith(".")


@pytest.mark.parametrize("name", ["a.nii.gz", "a.png", "a.flac"])
def test_a_wrong_bit_is_noticed_where_the_format_has_a_checksum(tmp_path: Path, name: str) -> None:
    makers: dict[str, Callable[[Path], Path]] = {"a.nii.gz": volume, "a.png": picture, "a.flac": sound}
    of = {"a.nii.gz": "nifti", "a.png": "image_folder", "a.flac": "audio_files"}[name]
    path = makers[name](tmp_path / name)
    content = bytearray(path.read_bytes())
    content[-8 if name == "a.nii.gz" else len(content) * 3 // 4] ^= 1  # the checksum, or what it is of
    write(path, bytes(content))
    assert "cannot be decoded" in refusal(of, path)


def test_voxels_that_are_not_finite_need_a_number_in_their_place(tmp_path: Path) -> None:
    values = np.zeros((2, 3, 4), np.float32)
    values[1, 2, 3] = np.nan
    path = volume(tmp_path / "a.nii", values)
    assert "1 voxels are not finite, the first is nan at (x, y, z) = (1, 2, 3)" in refusal("nifti", path)
    assert imported("nifti", path, nan="-3500")["a"]["volume"][3, 2, 1] == -3500
    with pytest.raises(InvalidSetting, match="nan"):
        imported("nifti", path, nan="nan")


def test_the_limit_of_voxels_is_an_option(tmp_path: Path) -> None:
    path = volume(tmp_path / "a.nii")
    assert "max_voxels=24" in refusal("nifti", path, max_voxels="23")
    assert imported("nifti", path, max_voxels="24")["a"]["volume"].size == 24


def test_volumes_that_ship_with_a_library_are_read() -> None:
    samples = imported("nifti", VOLUMES / "anatomical.nii")
    assert samples["anatomical"]["volume"].shape == (25, 41, 33)
    assert samples["anatomical"]["volume"].dtype == np.int16
    for name in ("example4d.nii.gz", "functional.nii", "row_major.dconn.nii"):
        assert "not that of one volume" in refusal("nifti", VOLUMES / name)


# series


def test_long_tables_become_observations_sorted_by_time(tmp_path: Path) -> None:
    path = write(tmp_path / "s.csv", LONG)
    found = importer("series_table")
    assert found.attributes is not None
    assert found.attributes(Source(path)) == {"variable_names": ["pulse", "temp"]}
    samples = imported("series_table", path)
    assert list(samples) == ["b", "a"]
    assert samples["a"]["times"].tolist() == [0.25, 0.5]
    assert samples["a"]["variables"].tolist() == [0, 1]
    assert samples["a"]["values"].tolist() == pytest.approx([80, 37.2])
    assert samples["b"]["variables"].tolist() == [0, 1]  # equal times keep the order of the rows
    assert "variable_names" not in samples["a"]  # of the data set, not of each sample


def test_many_observations_of_one_time_keep_their_order(tmp_path: Path) -> None:
    rows = "".join(f"{1 - i % 2},x,{i}\n" for i in range(1000))
    sample = imported("series_table", write(tmp_path / "s.csv", f"time,variable,value\n{rows}"))["s"]
    assert sample["values"].tolist() == [*range(1, 1000, 2), *range(0, 1000, 2)]


@pytest.mark.parametrize(
    ("unit", "times", "hours"),
    [
        ({"time_unit": "minutes"}, ["30", "90"], [0.5, 1.5]),
        ({"time_unit": "days"}, ["0.5", "2"], [12, 48]),
        ({"time_unit": "seconds"}, ["0", "1800"], [0, 0.5]),
        ({}, ["-1", "1e1"], [-1, 10]),
        ({}, ["00:30", "36:15"], [0.5, 36.25]),
        ({}, ["00:00:36", "01:00:00"], [0.01, 1]),
    ],
)
def test_times_become_hours(tmp_path: Path, unit: dict[str, str], times: list[str], hours: list[float]) -> None:
    rows = "".join(f"{time},x,1\n" for time in times)
    sample = imported("series_table", write(tmp_path / "s.csv", f"time,parameter,value\n{rows}"), **unit)["s"]
    assert sample["times"].tolist() == pytest.approx(hours)
    named = imported("series_table", write(tmp_path / "m.csv", "Minutes,item,valuenum\n90,x,1\n"))["m"]
    assert named["times"].tolist() == [1.5]


def test_columns_can_be_named(tmp_path: Path) -> None:
    path = write(tmp_path / "s.csv", "who,when,what,how much\n1,0,x,2\n2,0,y,3\n")
    options = {"id": "who", "time": "when", "variable": "what", "value": "how much", "variables": "z,y,x"}
    samples = imported("series_table", path, **options)
    assert samples["1"]["variables"].tolist() == [2]
    assert samples["2"]["variables"].tolist() == [1]
    assert "'when'" in refusal("series_table", path, **{**options, "time": "whn"})
    assert "'y' is none of the variables" in refusal("series_table", path, **{**options, "variables": "x"})


def test_a_folder_may_hold_a_sample_per_file_or_many(tmp_path: Path) -> None:
    write(tmp_path / "a.csv", "time,variable,value\n0,u,1\n")
    write(tmp_path / "sub/b.csv", "time,variable,value\n0,v,2\n1,u,3\n")
    write(tmp_path / "outcomes.csv", "RecordID,death\na,0\nb,1\n")
    samples = imported("series_table", tmp_path, key="RecordID")
    assert {name: sample["death"] for name, sample in samples.items()} == {"a": 0, "sub/b": 1}
    assert samples["sub/b"]["variables"].tolist() == [1, 0]
    many = write(tmp_path / "many/one.csv", LONG)
    write(tmp_path / "many/two.csv", LONG.replace("\nb,", "\nc,"))
    assert f"sample 'a' is in {many} too" in refusal("series_table", tmp_path / "many")
    write(tmp_path / "many/two.csv", LONG.replace("\nb,", "\nc,").replace("\na,", "\nd,"))
    assert set(imported("series_table", tmp_path / "many")) == {"a", "b", "c", "d"}


def test_targets_join_by_the_name_of_the_id_column(tmp_path: Path) -> None:
    write(tmp_path / "series.csv", LONG.replace("id,", "stay_id,", 1))
    write(tmp_path / "targets.csv", "stay_id,died\na,true\nb,false\n")
    samples = imported("series_table", tmp_path)
    assert {name: sample["died"] for name, sample in samples.items()} == {"a": True, "b": False}


def test_a_table_that_is_written_anew_is_read_anew(tmp_path: Path) -> None:
    path = write(tmp_path / "s.csv", LONG)
    assert len(imported("series_table", path)["a"]["values"]) == 2
    write(path, LONG + "a,9,pulse,1\n")
    assert len(imported("series_table", path)["a"]["values"]) == 3


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ("id,time,variable\na,0,x\n", "no column is known to be the value"),
        ("id,variable,value\na,x,1\n", "no column is known to be the time"),
        ("id,time,variable,value\na,0,x,high\n", "column 'value', row 1: the value is 'high'"),
        ("id,time,variable,value\na,0,x,1\na,1,x,nan\n", "column 'value', row 2: the value is 'nan'"),
        ("id,time,variable,value\na,0,x,\n", "column 'value', row 1: the value is missing"),
        ("id,time,variable,value\na,0,x,inf\n", "column 'value', row 1: the value is 'inf'"),
        ("id,time,variable,value\na,noon,x,1\n", "column 'time', row 1: the value is 'noon'"),
        ("id,time,variable,value\na,,x,1\n", "column 'time', row 1: the value is missing"),
        ("id,time,variable,value\n,0,x,1\n", "column 'id', row 1: no id"),
        ("id,time,variable,value\na,0,,1\n", "column 'variable', row 1: None is none of the variables"),
        ("id,time,variable,value\na,0,x,1e39\n", "does not fit into float32"),
        ("id,time,variable,value\na,0,x,16777217\n", "16777217.0 does not fit into float32. Say dtype=float64"),
        ("time,variable,value\n", "has no row"),
    ],
)
def test_broken_long_tables_are_refused(tmp_path: Path, table: str, says: str) -> None:
    path = write(tmp_path / "s.csv", table)
    text = refusal("series_table", path)
    assert text.startswith(f"{path}: ")
    assert says in text


def test_channels_may_be_called_by_numbers(tmp_path: Path) -> None:
    path = write(tmp_path / "w.csv", "0,1\n0.5,2\n0.25,4\n")
    assert imported("series_table", path, sampling_rate="1")["w"]["channels"] == ["0", "1"]


def test_rows_without_a_value_can_be_skipped(tmp_path: Path) -> None:
    path = write(tmp_path / "s.csv", "time,variable,value\n0,x,NA\n1,x,5\n2,x,\n")
    sample = imported("series_table", path, missing="skip")["s"]
    assert sample["times"].tolist() == [1]
    assert sample["values"].tolist() == [5]
    assert "high" in refusal(
        "series_table", write(tmp_path / "t.csv", "time,variable,value\n0,x,high\n"), missing="skip"
    )
    with pytest.raises(InvalidSetting, match="missing"):
        imported("series_table", path, missing="ignore")


def test_wide_tables_become_signals(tmp_path: Path) -> None:
    path = write(tmp_path / "w.csv", WIDE)
    sample = imported("series_table", path)["w"]
    assert sample["signal"].tolist() == [[1, 3, 5], [2, 4, 6]]
    assert sample["signal"].dtype == np.float32
    assert sample["sampling_rate"] == 10.0
    assert sample["channels"] == ["x", "y"]
    chosen = imported("series_table", path, channels="y, x", dtype="int16")["w"]
    assert chosen["signal"].tolist() == [[2, 4, 6], [1, 3, 5]]
    assert chosen["signal"].dtype == np.int16


def test_the_rate_can_be_given(tmp_path: Path) -> None:
    path = write(tmp_path / "w.csv", ",x,y\n0,1,2\n1,3,4\n")  # the unnamed column is an index
    assert "has no column of times" in refusal("series_table", path)
    sample = imported("series_table", path, sampling_rate="125")["w"]
    assert (sample["sampling_rate"], sample["channels"]) == (125.0, ["x", "y"])
    timed = write(tmp_path / "t.csv", WIDE)
    assert imported("series_table", timed, sampling_rate="10")["t"]["sampling_rate"] == 10.0
    assert "the times make 10 Hz" in refusal("series_table", timed, sampling_rate="12")
    assert "has no" not in refusal("series_table", timed, sampling_rate="10", time_unit="minutes")


@pytest.mark.parametrize(
    ("rate", "decimals"), [(128, 3), (128, 6), (44100, 6), (250, 3), (300, 4), (0.5, 1), (1 / 7, 0), (100, 2)]
)
def test_rates_are_found_through_rounded_times(tmp_path: Path, rate: float, decimals: int) -> None:
    rows = "".join(f"{i / rate:.{decimals}f},{i}\n" for i in range(1001))
    path = write(tmp_path / "w.csv", f"seconds,x\n{rows}")
    assert imported("series_table", path)["w"]["sampling_rate"] == pytest.approx(rate, rel=1e-6)


@pytest.mark.parametrize("gap", [1, 500, 999])
def test_a_missing_row_is_noticed(tmp_path: Path, gap: int) -> None:
    rows = "".join(f"{i / 128:.3f},{i}\n" for i in range(1001) if i != gap)
    text = refusal("series_table", write(tmp_path / "w.csv", f"seconds,x\n{rows}"))
    assert f"row {gap}: a step of 0.01" in text


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ("time,x\n0,1\n2,2\n1,3\n", "row 3: time 1 s follows 2 s"),
        ("time,x\n0,1\n0,2\n", "row 2: time 0 s follows 0 s"),
        ("time,x\n0,1\n1,2\n5,3\n", "a step of"),
        ("time,x\n0,1\n1,2\n2,3\n4,4\n", "row 3: a step of 2 s"),  # no rounding of whole seconds explains it
        ("time,x\n0,1\n1,\n", "column 'x', row 2: the value is missing"),
        ("time,x\n0,1\n1,nan\n", "column 'x', row 2: the value is 'nan'"),
        ("time,x\n0,1\n1,on\n", "column 'x', row 2: the value is 'on'"),
        ("time\n0\n1\n", "no column is left for a channel"),
        ("id,time,x\n7,0,1\n7,1,2\n", "Say id=id"),
        ("0.5,-1\n0.6,-2\n", "has no header line (its first row is 0.5, -1)"),
    ],
)
def test_broken_wide_tables_are_refused(tmp_path: Path, table: str, says: str) -> None:
    path = write(tmp_path / "w.csv", table)
    text = refusal("series_table", path)
    assert text.startswith(f"{path}: ")
    assert says in text


def test_a_wide_table_may_hold_many_samples(tmp_path: Path) -> None:
    path = write(tmp_path / "w.csv", "id,time,x\na,0,1\na,1,2\nb,0,3\nb,1,4\nb,2,5\n")
    samples = imported("series_table", path, id="id")
    assert {name: sample["signal"].tolist() for name, sample in samples.items()} == {"a": [[1, 2]], "b": [[3, 4, 5]]}


def test_parquet_series_keep_their_types(tmp_path: Path) -> None:
    wide = pl.DataFrame({"t": [0.0, 0.5, 1.0], "x": pl.Series([1, -2, 3], dtype=pl.Int16)})
    wide.write_parquet(tmp_path / "wide.parquet")
    sample = imported("series_table", tmp_path / "wide.parquet")["wide"]
    assert sample["signal"].dtype == np.int16
    assert sample["sampling_rate"] == 2.0
    long = pl.read_csv(write(tmp_path / "l.csv", LONG)).with_columns(pl.col("id").replace_strict({"a": 1, "b": 2}))
    long.write_parquet(tmp_path / "long.parquet")
    samples = imported("series_table", tmp_path / "long.parquet")
    assert samples["1"]["values"].tolist() == pytest.approx([80, 37.2])
    write(tmp_path / "cut.parquet", (tmp_path / "long.parquet").read_bytes()[:-9])
    assert "is no Parquet file" in refusal("series_table", tmp_path / "cut.parquet")


def test_forms_are_not_mixed_and_options_are_checked(tmp_path: Path) -> None:
    write(tmp_path / "a.csv", LONG)
    write(tmp_path / "b.csv", WIDE)
    assert "in the wide form" in refusal("series_table", tmp_path)
    for wrong in ({"form": "tall"}, {"time_unit": "weeks"}, {"dtype": "text"}, {"sampling_rate": "fast"}):
        with pytest.raises(InvalidSetting, match=next(iter(wrong.values()))):
            imported("series_table", tmp_path / "b.csv", **wrong)


def test_fractions_do_not_become_whole_numbers(tmp_path: Path) -> None:
    path = write(tmp_path / "w.csv", "time,x\n0,1.5\n1,2\n")
    assert "1.5 does not fit into int16" in refusal("series_table", path, dtype="int16")


# real data


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


def test_real_photographs_of_plates() -> None:
    samples = imported("image_folder", shared("plates_eu"))
    assert len(samples) == 87
    assert {sample["image"].shape[2] for sample in samples.values()} <= {1, 3, 4}


def test_real_lungs_and_their_masks() -> None:
    samples = imported("nifti", shared("unclear/ct/lung_masks"), unit="HU")
    assert len(samples) == 3
    for sample in samples.values():
        lung, volume_ = sample["mask"] != 0, sample["volume"]
        assert volume_.shape == (64, 128, 128)
        assert 0.03 < lung.mean() < 0.4
        assert volume_[lung].mean() < -600 < volume_[~lung & (volume_ > -3000)].mean()  # lungs are full of air


def test_a_real_clinical_record() -> None:
    path = min(shared("clinical_ts/physionet2012").rglob("1*.txt"))
    sample = imported("series_table", path)[path.stem]
    assert len(sample["times"]) > 10
    assert 0 <= sample["times"].min() <= sample["times"].max() <= 48  # hours, from text such as 36:30
    found = importer("series_table")
    assert found.attributes is not None
    assert "RecordID" in found.attributes(Source(path))["variable_names"]


def test_real_flac() -> None:
    samples = imported("audio_files", shared("audio/vctk_samples"))
    assert {(sample["audio"].dtype.name, sample["sampling_rate"]) for sample in samples.values()} == {
        ("int16", 48000.0)
    }


def test_items_carry_their_files(tmp_path: Path) -> None:
    path = picture(tmp_path / "images/a.png")
    mask = picture(tmp_path / "masks/a.png", np.zeros((6, 9), np.uint8))
    (item,) = importer("image_folder").plan(Source(tmp_path))
    assert item == Item("images/a", (path, mask), {"source": "images/a.png"})
