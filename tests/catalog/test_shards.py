"""The direct shard codec against zarr-python, each reading what the other wrote."""

from __future__ import annotations

import itertools
import json
import os
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
import zarr
import zarr.codecs
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from sensorium.catalog.shards import (
    Compressor,
    Layout,
    ShardedArray,
    UnknownLayout,
    files,
    forget_files,
    write_array,
    write_group,
)
from sensorium.platform.errors import CorruptData
from sensorium.platform.storage import Storage

DTYPES = ["bool", *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64))]
DTYPES += ["float16", "float32", "float64", "complex64", "complex128"]
COMPRESSORS: list[Any] = [
    None,
    zarr.codecs.ZstdCodec(level=3),
    zarr.codecs.ZstdCodec(level=1, checksum=True),
    zarr.codecs.GzipCodec(level=2),
    zarr.codecs.BloscCodec(cname="lz4", shuffle="bitshuffle"),
    zarr.codecs.BloscCodec(cname="zstd", clevel=3, shuffle="shuffle"),
    zarr.codecs.BloscCodec(cname="blosclz", shuffle="noshuffle"),
]


@pytest.fixture(autouse=True)
def opened_anew() -> None:
    forget_files()


@st.composite
def foreign(draw: st.DrawFn) -> dict[str, Any]:
    """Arguments of ``zarr.create_array``, and what to write where."""
    dtype = np.dtype(draw(st.sampled_from(DTYPES)))
    rank = draw(st.integers(1, 4))
    chunk = draw(st.tuples(*[st.integers(1, 4)] * rank))
    shape = draw(st.tuples(*[st.integers(1, 9)] * rank))
    shards = tuple(part * draw(st.integers(1, 3)) for part in chunk) if draw(st.booleans()) else None
    fill = draw(arrays.arrays(dtype, ()))[()] if draw(st.booleans()) else None
    values = draw(arrays.arrays(dtype, shape))
    corner = [draw(st.integers(0, size)) for size in shape]
    return {
        "values": values,
        "written": tuple(slice(0, at) for at in corner) if draw(st.booleans()) else (slice(None),),
        "create": {
            "shape": shape,
            "dtype": dtype,
            "chunks": chunk,
            "shards": shards,
            "fill_value": fill,
            "compressors": draw(st.sampled_from(COMPRESSORS)),
            "serializer": zarr.codecs.BytesCodec(endian=draw(st.sampled_from(["little", "big"]))),
            "chunk_key_encoding": {
                "name": draw(st.sampled_from(["default", "v2"])),
                "separator": draw(st.sampled_from(["/", "."])),
            },
        },
    }


@settings(max_examples=150, deadline=None)
@given(made=foreign(), data=st.data())
def test_what_zarr_writes_is_read(
    tmp_path_factory: pytest.TempPathFactory, made: dict[str, Any], data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("foreign")
    target = zarr.create_array(folder / "a", filters=None, **made["create"])
    target[made["written"]] = made["values"][made["written"]]
    expected = target[...]
    source = ShardedArray(Storage.at(folder), str(folder / "a"))
    assert source.shape == expected.shape
    assert source.dtype == expected.dtype.newbyteorder("=")
    assert source.box([0] * source.ndim, source.shape).tobytes() == expected.astype(source.dtype).tobytes()
    begin = [data.draw(st.integers(0, size)) for size in source.shape]
    end = [data.draw(st.integers(low, size)) for low, size in zip(begin, source.shape, strict=True)]
    part = expected[tuple(slice(*span) for span in zip(begin, end, strict=True))]
    assert source.box(begin, end).tobytes() == part.astype(source.dtype).tobytes()
    rows = np.array(data.draw(st.lists(st.integers(0, source.shape[0] - 1), min_size=1, max_size=9)))
    gathered = np.empty((len(rows), *source.shape[1:]), source.dtype)
    places = np.random.default_rng(len(rows)).permutation(len(rows))
    source.gather(rows, gathered, places)
    assert gathered[places].tobytes() == expected[rows].astype(source.dtype).tobytes()


@st.composite
def own(draw: st.DrawFn) -> tuple[Layout, np.ndarray]:
    dtype = np.dtype(draw(st.sampled_from(DTYPES)))
    rank = draw(st.integers(1, 4))
    shape = draw(st.tuples(*[st.integers(1, 9)] * rank))
    chunk = draw(st.tuples(*[st.integers(1, 4)] * rank))
    whole = [-(-size // part) * part for size, part in zip(shape, chunk, strict=True)]
    shard = (chunk[0] * draw(st.integers(1, 3)), *whole[1:])
    compressor = draw(
        st.sampled_from(
            [
                None,
                Compressor("zstd", 1),
                Compressor("gzip", 3),
                Compressor("blosc", 5, shuffle="bitshuffle", typesize=dtype.itemsize),
                Compressor("blosc", 1, inner="zstd", shuffle="shuffle", typesize=dtype.itemsize),
            ]
        )
    )
    layout = Layout(
        shape, dtype, shard, chunk, compressor, separator=draw(st.sampled_from([".", "-"])).replace("-", ".")
    )
    return layout, draw(arrays.arrays(dtype, shape))


@settings(max_examples=150, deadline=None)
@given(made=own())
def test_what_we_write_zarr_reads(tmp_path_factory: pytest.TempPathFactory, made: tuple[Layout, np.ndarray]) -> None:
    layout, values = made
    folder = tmp_path_factory.mktemp("own")
    (folder / "g" / "a").mkdir(parents=True)
    storage = Storage.at(folder)
    pieces = [values[begin : begin + layout.shard[0]] for begin in range(0, layout.shape[0], layout.shard[0])]
    write_array(storage, str(folder / "g" / "a"), layout, pieces)
    write_group(storage, str(folder / "g"), {"title": "é"})
    group = zarr.open_group(folder / "g", mode="r")
    assert group.attrs["title"] == "é"
    assert group["a"][...].tobytes() == values.tobytes()
    assert Layout.parsed((folder / "g" / "a" / "zarr.json").read_bytes()).written() == layout.written()
    source = ShardedArray(storage, str(folder / "g" / "a"))
    assert source.box([0] * source.ndim, source.shape).tobytes() == values.tobytes()


@pytest.mark.parametrize("compressor", [None, zarr.codecs.ZstdCodec(), zarr.codecs.BloscCodec()])
def test_an_index_at_the_start_and_checksums_of_chunks(tmp_path: Path, compressor: Any) -> None:
    values = np.random.default_rng(0).integers(0, 99, (7, 6), dtype=np.int32)
    inner = [zarr.codecs.BytesCodec(), *([compressor] if compressor else []), zarr.codecs.Crc32cCodec()]
    codec = zarr.codecs.ShardingCodec(chunk_shape=(1, 6), codecs=inner, index_location="start")
    target = zarr.create_array(
        tmp_path / "a", shape=(7, 6), dtype="int32", chunks=(4, 6), serializer=codec, compressors=None
    )
    target[:] = values
    source = ShardedArray(Storage.at(tmp_path), str(tmp_path / "a"))
    np.testing.assert_array_equal(source.box((0, 0), (7, 6)), values)
    rows, out = np.array([6, 0, 3]), np.empty((3, 6), np.int32)
    source.gather(rows, out, np.arange(3))
    np.testing.assert_array_equal(out, values[rows])
    shard = tmp_path / "a" / "c" / "0" / "0"
    content = bytearray(shard.read_bytes())
    content[-1] ^= 1  # the checksum of the last chunk
    shard.write_bytes(content)
    with pytest.raises(CorruptData, match=r"c/0/0: chunk 3 "):
        source.box((0, 0), (7, 6))


@pytest.mark.filterwarnings("ignore:The data type")
def test_what_is_not_known_is_said(tmp_path: Path) -> None:
    transposed = [zarr.codecs.TransposeCodec(order=(1, 0))]
    zarr.create_array(tmp_path / "t", shape=(2, 3), dtype="int8", chunks=(2, 3), filters=transposed)
    zarr.create_array(tmp_path / "s", shape=(2,), dtype="datetime64[s]", chunks=(2,))
    for name in "ts":
        with pytest.raises(UnknownLayout):
            ShardedArray(Storage.at(tmp_path), str(tmp_path / name))


@pytest.fixture
def images(tmp_path: Path) -> tuple[ShardedArray, np.ndarray, Path]:
    """Plain images, 16 kB each, in three files."""
    values = np.random.default_rng(0).integers(0, 255, (25, 64, 64, 4), dtype=np.uint8)
    layout = Layout(values.shape, values.dtype, (10, 64, 64, 4), (1, 64, 64, 4), attributes={"complete": True})
    folder = tmp_path / "images"
    folder.mkdir()
    write_array(Storage.at(tmp_path), str(folder), layout, [values[n : n + 1] for n in range(25)])
    return ShardedArray(Storage.at(tmp_path), str(folder)), values, folder


@pytest.mark.parametrize("count", [1, 7, 25])
def test_rows_in_any_order_and_in_runs(images: tuple[ShardedArray, np.ndarray, Path], count: int) -> None:
    source, values, _ = images
    generator = np.random.default_rng(count)
    for rows in (generator.integers(0, 25, count), np.sort(generator.integers(0, 25, count)), np.arange(count)):
        out = np.zeros((count, 64, 64, 4), np.uint8)
        source.gather(rows, out, np.arange(count))
        np.testing.assert_array_equal(out, values[rows])
        single = [np.zeros((64, 64, 4), np.uint8) for _ in rows]
        source.rows(rows.tolist(), single)
        np.testing.assert_array_equal(np.stack(single), values[rows])


@pytest.mark.parametrize("damage", ["gone", "empty", "short", "index", "metadata"])
def test_damage_is_told_with_its_file(images: tuple[ShardedArray, np.ndarray, Path], damage: str) -> None:
    _, _, folder = images
    shard = folder / "c.1.0.0.0"
    content = shard.read_bytes()
    if damage == "gone":
        shard.unlink()
    elif damage == "empty":
        shard.write_bytes(b"")
    elif damage == "short":
        shard.write_bytes(content[:-100])
    elif damage == "index":
        shard.write_bytes(content[:-30] + bytes([content[-30] ^ 4]) + content[-29:])
    else:
        (folder / "zarr.json").write_bytes(b"{}")
    place = "zarr.json" if damage == "metadata" else "c.1.0.0.0"
    for mapped in (True, False):
        with pytest.raises(CorruptData, match=rf"{place}.*Run verify"):
            read_all(folder, mapped=mapped)


def read_all(folder: Path, *, mapped: bool) -> None:
    source = ShardedArray(Storage.at(folder.parent), str(folder))
    out = np.empty((25, 64, 64, 4), np.uint8)
    if mapped:
        source.gather(np.arange(25), out, np.arange(25))
    else:
        source.rows(range(25), list(out))


def test_a_file_cut_short_after_it_was_opened_raises(images: tuple[ShardedArray, np.ndarray, Path]) -> None:
    source, _, folder = images
    out = [np.empty((64, 64, 4), np.uint8)]
    source.rows([19], out)
    os.truncate(folder / "c.1.0.0.0", 1000)
    with pytest.raises(CorruptData, match="ends before byte"):
        source.rows([19], out)


@pytest.mark.parametrize("name", ["zstd", "blosc", "gzip"])
def test_a_damaged_chunk_is_told_or_has_other_values(tmp_path: Path, name: str) -> None:
    """Whatever byte is changed: an error of ours, or an array of the right shape, never a crash."""
    values = np.arange(600, dtype=np.int16).reshape(3, 200)
    layout = Layout((3, 200), values.dtype, (3, 200), (1, 200), Compressor(name, 1, typesize=2, shuffle="bitshuffle"))
    (tmp_path / "a").mkdir()
    write_array(Storage.at(tmp_path), str(tmp_path / "a"), layout, [values])
    shard = tmp_path / "a" / "c.0.0"
    content = shard.read_bytes()
    told = 0
    for at, mask in itertools.product(range(len(content) - layout.index_bytes), (1, 0x80, 0xFF)):
        shard.write_bytes(content[:at] + bytes([content[at] ^ mask]) + content[at + 1 :])
        try:
            assert ShardedArray(Storage.at(tmp_path), str(tmp_path / "a")).box((0, 0), (3, 200)).shape == (3, 200)
        except CorruptData:
            told += 1
        forget_files()
    assert told


def test_a_chunk_missing_from_a_complete_array_is_damage(tmp_path: Path) -> None:
    target = zarr.create_array(
        tmp_path / "a", shape=(4, 3), dtype="int8", chunks=(1, 3), shards=(4, 3), attributes={"complete": True}
    )
    target[1] = 1
    source = ShardedArray(Storage.at(tmp_path), str(tmp_path / "a"))
    np.testing.assert_array_equal(source.box((1, 0), (2, 3)), [[1, 1, 1]])
    with pytest.raises(CorruptData, match="chunk 0 is missing"):
        source.box((0, 0), (2, 3))


class Counting:
    """A store far away, as :class:`.Storage` shows it, that counts its requests."""

    local = False

    def __init__(self) -> None:
        self.fs = fsspec.filesystem("memory", skip_instance_cache=True)
        self.ranges: list[int] = []
        self.cat_ranges, self.fs.cat_ranges = self.fs.cat_ranges, self._count

    def _count(self, paths: list[str], starts: Any, ends: Any, **options: Any) -> Any:
        self.ranges.append(len(paths))
        return self.cat_ranges(paths, starts, ends, **options)


@pytest.mark.parametrize("compressor", [None, Compressor("zstd", 1)])
def test_far_away_neighbours_are_one_request(compressor: Compressor | None) -> None:
    store: Any = Counting()
    values = np.random.default_rng(0).integers(0, 255, (40, 100_000), dtype=np.uint8)
    layout = Layout(values.shape, values.dtype, (20, 100_000), (1, 100_000), compressor)
    path = f"/far/{compressor.name if compressor else 'none'}"
    write_array(store, path, layout, [values[:20], values[20:]])
    source = ShardedArray(store, path)
    out = np.empty((6, 100_000), np.uint8)
    rows = np.array([3, 2, 1, 35, 15, 36])
    source.gather(rows, out, np.arange(6))
    np.testing.assert_array_equal(out, values[rows])
    assert store.ranges == [3]  # 1 to 3, 15, 35 and 36, all asked for at once
    store.ranges.clear()
    np.testing.assert_array_equal(source.box((4, 10), (6, 90)), values[4:6, 10:90])
    assert store.ranges == [1]


def test_only_the_bytes_that_are_needed_are_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.arange(64**3, dtype=np.float32).reshape(1, 64, 64, 64)
    layout = Layout(values.shape, values.dtype, (1, 64, 64, 64), (1, 16, 64, 64))
    (tmp_path / "v").mkdir()
    write_array(Storage.at(tmp_path), str(tmp_path / "v"), layout, [values])
    source = ShardedArray(Storage.at(tmp_path), str(tmp_path / "v"))
    read: list[int] = []
    whole = os.preadv
    monkeypatch.setattr(
        files.os, "preadv", lambda file, to, at: read.append(sum(t.nbytes for t in to)) or whole(file, to, at)
    )
    np.testing.assert_array_equal(source.box((0, 20, 0, 0), (1, 22, 64, 64)), values[:, 20:22])
    assert sum(read) == 2 * 64 * 64 * 4 + layout.index_bytes


def test_threads_read_the_same(images: tuple[ShardedArray, np.ndarray, Path]) -> None:
    from concurrent.futures import ThreadPoolExecutor

    source, values, _ = images
    orders = [np.random.default_rng(seed).permutation(25) for seed in range(40)]

    def read(order: np.ndarray) -> bool:
        out = np.empty_like(values)
        source.gather(order, out, np.arange(25))
        forget_files()
        return bool((out == values[order]).all())

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(read, orders))


def test_metadata_are_what_zarr_itself_would_write(tmp_path: Path) -> None:
    """But for the order of keys, and attributes."""
    zarr.create_array(
        tmp_path / "z",
        shape=(5, 7),
        dtype="uint16",
        chunks=(1, 4),
        shards=(2, 8),
        compressors=zarr.codecs.BloscCodec(cname="lz4", shuffle="bitshuffle", typesize=2),
        filters=None,
        dimension_names=("sample", "x"),
        chunk_key_encoding={"name": "default", "separator": "."},
    )
    layout = Layout(
        (5, 7),
        np.dtype("uint16"),
        (2, 8),
        (1, 4),
        Compressor("blosc", 5, shuffle="bitshuffle", typesize=2),
        axes=("sample", "x"),
    )
    assert json.loads(layout.written()) == json.loads((tmp_path / "z" / "zarr.json").read_text())
