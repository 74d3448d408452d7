"""Every importer plans cheaply, decodes what it planned into valid samples, and names file, fault and remedy otherwise."""

from __future__ import annotations

import gzip
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest

from sensorium.catalog import modality as modalities
from sensorium.catalog.fields import ArrayField
from sensorium.catalog.importer import GROUP, Importer, Source
from sensorium.catalog.importers import _tables
from sensorium.platform import plugins
from sensorium.platform.errors import InvalidSetting, UnreadableFile
from tests.catalog.importing import LONG, imported, importer, picture, refusal, sound, volume, write


def make_example(name: str, folder: Path) -> None:
    """A small source of the importer ``name``, samples a and b, with metadata beside them."""
    if name == "image_folder":
        picture(folder / "a.png")
        picture(folder / "b.png")
    elif name == "audio_files":
        sound(folder / "a.wav")
        sound(folder / "b.wav")
    elif name == "nifti":
        volume(folder / "a.nii.gz")
        volume(folder / "b.nii")
    else:
        write(folder / "series.csv", LONG)
    write(folder / "metadata.csv", "id,age,note\na,61,x\nb,,y\n")


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


def test_files_and_tables_of_a_source_are_read_once(example: tuple[Importer, Path]) -> None:
    """Rows and fields come from the same reading, whatever is written meanwhile; another source is read anew."""
    found, folder = example
    assert found.fields is not None
    source = Source(folder)
    items = list(found.plan(source))
    (folder / "metadata.csv").unlink()
    assert {item.id: item.scalars.get("note") for item in items} == {"a": "x", "b": "y"}
    assert {"age", "note"} <= {field.name for field in found.fields(source)}
    assert [item.scalars for item in found.plan(source)] == [item.scalars for item in items]
    assert not {"age", "note"} & {field.name for field in found.fields(Source(folder))}


@pytest.mark.parametrize("name", ["a.nii.gz", "a.png", "a.flac"])
def test_a_wrong_bit_is_noticed_where_the_format_has_a_checksum(tmp_path: Path, name: str) -> None:
    makers: dict[str, Callable[[Path], Path]] = {"a.nii.gz": volume, "a.png": picture, "a.flac": sound}
    of = {"a.nii.gz": "nifti", "a.png": "image_folder", "a.flac": "audio_files"}[name]
    path = makers[name](tmp_path / name)
    content = bytearray(path.read_bytes())
    content[-8 if name == "a.nii.gz" else len(content) * 3 // 4] ^= 1  # the checksum, or what it is of
    write(path, bytes(content))
    assert "cannot be decoded" in refusal(of, path)


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
