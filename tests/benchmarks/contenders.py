"""One way to keep samples, measured in a process of its own: ``python contenders.py NAME FOLDER``.

It reads a line of JSON for each measurement and answers with a line: the seconds that it took. It needs NumPy, torch and the
library of its contender only, so that peers can be installed in an environment of their own. Whatever a contender reads ends
up in memory of its own that may be written to, as a training loop wants it: batches as tensors [64, ...].
"""

from __future__ import annotations

import io
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

BATCH = 64
SHARD = 64
#: what was read, so that memory of one batch is still held while the next is filled, as in a training loop
held: list[Any] = [None, None]


def stack_of(case: str) -> np.ndarray:
    """The samples of a case, [N, ...]."""
    random = np.random.default_rng(0)
    if case == "images":
        ramps = np.add.outer(np.arange(256), np.arange(256))[None, ..., None] // 4
        return ((ramps + random.integers(0, 24, (600, 256, 256, 3), dtype=np.int64)) % 256).astype(np.uint8)
    if case == "signals":
        walk = np.cumsum(random.normal(size=(8_000, 1024)), axis=1)
        return np.round(walk, 2).astype(np.float32)
    raise SystemExit(f"no case {case!r}")


def consume(batch: Any) -> None:
    """Take a batch as a training loop does: it has it while the next is read."""
    held[0], held[1] = held[1], batch


def tensor(array: np.ndarray) -> Any:
    import torch

    return torch.from_numpy(array)


def chunks(order: np.ndarray) -> Iterator[np.ndarray]:
    for begin in range(0, len(order), BATCH):
        yield order[begin : begin + BATCH]


def ray_mean(dataset: Any, column: str) -> float:
    """The mean over a Ray data set, each batch in a worker."""
    import ray

    def means(batch: dict[str, np.ndarray]) -> dict[str, list[float]]:
        return {"sum": [float(np.sum(batch[column], dtype=np.float64))]}

    if not ray.is_initialized():
        ray.init(address="local", log_to_driver=False, include_dashboard=False)
        ray.data.DataContext.get_current().enable_progress_bars = False
    return float(dataset.map_batches(means, batch_size=BATCH).sum("sum"))


class Contender:
    """What a contender can be asked: write all samples, then read them in three ways."""

    def __init__(self, folder: Path, stack: np.ndarray) -> None:
        self.folder, self.stack = folder, stack
        self.shape, self.dtype = stack.shape[1:], stack.dtype

    def write(self, number: int) -> None:
        raise NotImplementedError

    def open(self, number: int) -> None:
        """Open what :meth:`write` made; not measured."""

    def one(self, index: int) -> np.ndarray:
        """A sample, in memory of its own."""
        raise NotImplementedError

    def batch(self, index: np.ndarray) -> np.ndarray:
        out = np.empty((len(index), *self.shape), self.dtype)
        for place, number in enumerate(index.tolist()):
            out[place] = self.one(number)
        return out

    def run(self, index: np.ndarray) -> np.ndarray:
        """A batch of neighbours."""
        return self.batch(index)

    def scan(self, order: np.ndarray) -> None:
        for index in chunks(np.sort(order)):
            consume(tensor(self.run(index)))

    def single(self, order: np.ndarray) -> None:
        for number in order.tolist():
            consume(self.one(number))

    def shuffled(self, order: np.ndarray) -> None:
        for index in chunks(order):
            consume(tensor(self.batch(index)))


class Raw(Contender):
    """The limits: one file, ``readinto`` in order; a gather from memory otherwise. Into one buffer, over and over."""

    def write(self, number: int) -> None:
        content = self.stack.reshape(-1).view(np.uint8).data
        with open(self.folder / f"{number}.raw", "wb", buffering=0) as file:
            os.posix_fallocate(file.fileno(), 0, len(content))
            for begin in range(0, len(content), 1 << 20):  # one write of all may be made to wait for the disk
                file.write(content[begin : begin + (1 << 20)])

    def open(self, number: int) -> None:
        self.file = open(self.folder / f"{number}.raw", "rb", buffering=0)  # noqa: SIM115
        self.buffer = np.empty((BATCH, *self.shape), self.dtype)

    def scan(self, order: np.ndarray) -> None:
        self.file.seek(0)
        for index in chunks(order):
            self.file.readinto(self.buffer[: len(index)].reshape(-1).view(np.uint8).data)
            consume(tensor(self.buffer[: len(index)]))

    def one(self, index: int) -> np.ndarray:
        return self.stack[index].copy()

    def batch(self, index: np.ndarray) -> np.ndarray:
        out = self.buffer[: len(index)]
        np.take(self.stack, index, axis=0, out=out, mode="clip")
        return out


class RawFresh(Raw):
    """The limits again, each batch in new memory, as a batch that may be kept."""

    def scan(self, order: np.ndarray) -> None:
        self.file.seek(0)
        for index in chunks(order):
            out = np.empty((len(index), *self.shape), self.dtype)
            self.file.readinto(out.reshape(-1).view(np.uint8).data)
            consume(tensor(out))

    def batch(self, index: np.ndarray) -> np.ndarray:
        out = np.empty((len(index), *self.shape), self.dtype)
        np.take(self.stack, index, axis=0, out=out, mode="clip")
        return out


class Sensorium(Contender):
    """The catalog."""

    codec = "none"
    durable = False

    def write(self, number: int) -> None:
        from sensorium.catalog import ArrayField, Catalog

        field = ArrayField("x", dtypes=(self.dtype.name,), codec=self.codec)
        dataset = Catalog(self.folder / f"{number}.lake").create("samples", modality="table", fields=[field])
        ids = [f"{n:06d}" for n in range(len(self.stack))]
        dataset.append({"id": ids, "x": self.stack}, durable=self.durable)

    def open(self, number: int) -> None:
        from sensorium.catalog import Catalog

        self.selection = Catalog(self.folder / f"{number}.lake")["samples"].select(fields=["x"])
        self.in_order = self.selection.torch(batch_size=BATCH)
        self.mixed = self.selection.torch(batch_size=BATCH, shuffle=True)
        _ = self.selection.rows

    def one(self, index: int) -> np.ndarray:
        return self.selection[index]["x"]

    def scan(self, order: np.ndarray) -> None:
        for batch in self.in_order:
            consume(batch)

    def shuffled(self, order: np.ndarray) -> None:
        for batch in self.mixed:
            consume(batch)

    def dask(self, order: np.ndarray) -> None:
        self.mean = float(self.selection.dask("x").mean().compute())

    def ray(self, order: np.ndarray) -> None:
        ray_mean(self.selection.ray(batch=BATCH), "x")


class SensoriumDurable(Sensorium):
    """The catalog as it appends without being asked otherwise: synced to the disk."""

    durable = True


class SensoriumZstd(Sensorium):
    """The catalog, compressed."""

    codec = "zstd"


class SensoriumBlosc(Sensorium):
    """The catalog, compressed."""

    codec = "blosc"


class Npy(Contender):
    """A NumPy file per sample."""

    def write(self, number: int) -> None:
        self.open(number)
        self.place.mkdir()
        for index, sample in enumerate(self.stack):
            np.save(self.place / f"{index}.npy", sample)

    def open(self, number: int) -> None:
        self.place = self.folder / f"{number}.npy"

    def one(self, index: int) -> np.ndarray:
        return np.load(self.place / f"{index}.npy")

    def dask(self, order: np.ndarray) -> None:
        import dask
        import dask.array

        files = [self.place / f"{index}.npy" for index in range(len(self.stack))]

        def load(part: list[Path]) -> np.ndarray:
            return np.stack([np.load(path) for path in part])

        parts = [files[begin : begin + BATCH] for begin in range(0, len(files), BATCH)]
        arrays = [
            dask.array.from_delayed(dask.delayed(load)(part), (len(part), *self.shape), self.dtype) for part in parts
        ]
        self.mean = float(dask.array.concatenate(arrays).mean().compute())

    def ray(self, order: np.ndarray) -> None:
        import ray

        ray_mean(ray.data.read_numpy(str(self.place)), "data")


class Npz(Npy):
    """A compressed NumPy file per sample (zlib)."""

    def write(self, number: int) -> None:
        self.open(number)
        self.place.mkdir()
        for index, sample in enumerate(self.stack):
            np.savez_compressed(self.place / f"{index}.npz", sample)

    def one(self, index: int) -> np.ndarray:
        with np.load(self.place / f"{index}.npz") as file:
            return file["arr_0"]


class HuggingFace(Contender):
    """``datasets`` over raw bytes: a memory-mapped Arrow file, the quickest way to keep arrays in it."""

    def write(self, number: int) -> None:
        import datasets
        import pyarrow as pa

        datasets.disable_progress_bars()
        column = pa.array([sample.tobytes() for sample in self.stack], pa.large_binary())
        features = datasets.Features({"x": datasets.Value("large_binary")})
        table = pa.table({"x": column})
        datasets.Dataset(table).cast(features).save_to_disk(str(self.folder / f"{number}.hf"))

    def open(self, number: int) -> None:
        import datasets

        self.arrow = datasets.load_from_disk(str(self.folder / f"{number}.hf")).with_format("arrow")

    def one(self, index: int) -> np.ndarray:
        content = self.arrow[index]["x"][0].as_buffer()
        return np.frombuffer(content, self.dtype).reshape(self.shape).copy()

    def batch(self, index: np.ndarray) -> np.ndarray:
        return self._stacked(self.arrow[index.tolist()])

    def run(self, index: np.ndarray) -> np.ndarray:
        return self._stacked(self.arrow[int(index[0]) : int(index[-1]) + 1])

    def _stacked(self, table: Any) -> np.ndarray:
        column = table["x"]
        out = np.empty((len(column), *self.shape), self.dtype)
        place = 0
        for chunk in column.chunks:
            first = chunk.offset
            ends = np.frombuffer(chunk.buffers()[1], np.int64)[first : first + len(chunk) + 1]
            plain = np.frombuffer(chunk.buffers()[2], np.uint8)[int(ends[0]) : int(ends[-1])]
            out[place : place + len(chunk)] = plain.view(self.dtype).reshape(len(chunk), *self.shape)
            place += len(chunk)
        return out


class Lance(Contender):
    """Lance, a fixed-size list per sample."""

    def write(self, number: int) -> None:
        import lance
        import pyarrow as pa

        flat = pa.array(self.stack.reshape(-1))
        column = pa.FixedSizeListArray.from_arrays(flat, int(np.prod(self.shape)))
        lance.write_dataset(pa.table({"x": column}), str(self.folder / f"{number}.lance"))

    def open(self, number: int) -> None:
        import lance

        self.dataset = lance.dataset(str(self.folder / f"{number}.lance"))

    def one(self, index: int) -> np.ndarray:
        return self.batch(np.array([index]))[0]

    def batch(self, index: np.ndarray) -> np.ndarray:
        return self._stacked(self.dataset.take(index.tolist())["x"])

    def _stacked(self, column: Any) -> np.ndarray:
        flat = column.combine_chunks().flatten().to_numpy(zero_copy_only=False)
        return flat.reshape(len(column), *self.shape).copy()

    def scan(self, order: np.ndarray) -> None:
        for batch in self.dataset.to_batches(batch_size=BATCH):
            flat = batch["x"].flatten().to_numpy(zero_copy_only=False)
            consume(tensor(flat.reshape(len(batch), *self.shape).copy()))


class WebDataset(Contender):
    """WebDataset: tar files of NumPy files; what is called shuffled mixes files and a buffer of 200 samples."""

    def write(self, number: int) -> None:
        import webdataset

        place = self.folder / f"{number}.wds"
        place.mkdir()
        per_file = max(1, (12 << 20) // self.stack[0].nbytes)
        for first in range(0, len(self.stack), per_file):
            with webdataset.TarWriter(str(place / f"{first:06d}.tar")) as sink:
                for index in range(first, min(first + per_file, len(self.stack))):
                    content = io.BytesIO()
                    np.save(content, self.stack[index])
                    sink.write({"__key__": f"{index:06d}", "npy": content.getvalue()})

    def open(self, number: int) -> None:
        self.files = [str(path) for path in sorted((self.folder / f"{number}.wds").iterdir())]

    def _read(self, *, mixed: bool) -> None:
        import webdataset

        source = webdataset.WebDataset(self.files, shardshuffle=len(self.files) if mixed else False)
        if mixed:
            source = source.shuffle(200)
        samples = []
        for sample in source:
            samples.append(np.load(io.BytesIO(sample["npy"])))
            if len(samples) == BATCH:
                consume(tensor(np.stack(samples)))
                samples = []
        consume(tensor(np.stack(samples))) if samples else None

    def scan(self, order: np.ndarray) -> None:
        self._read(mixed=False)

    def shuffled(self, order: np.ndarray) -> None:
        self._read(mixed=True)


class DeepLake(Contender):
    """Deep Lake."""

    def write(self, number: int) -> None:
        import deeplake

        dataset = deeplake.create(str(self.folder / f"{number}.deeplake"))
        dataset.add_column("x", deeplake.types.Array(self.dtype.name, len(self.shape)))
        for first in range(0, len(self.stack), 64):
            dataset.append({"x": list(self.stack[first : first + 64])})
        dataset.commit()

    def open(self, number: int) -> None:
        import deeplake

        self.dataset = deeplake.open_read_only(str(self.folder / f"{number}.deeplake"))
        self.column = self.dataset["x"]

    def one(self, index: int) -> np.ndarray:
        return np.array(self.column[index])

    def batch(self, index: np.ndarray) -> np.ndarray:
        return np.asarray(self.column[index.tolist()])

    def run(self, index: np.ndarray) -> np.ndarray:
        return np.array(self.column[int(index[0]) : int(index[-1]) + 1])


class ZarrPython(Contender):
    """zarr-python, sharded as ours, with the same codec."""

    compressors: Any = "zstd"

    def write(self, number: int) -> None:
        import zarr

        per_shard = max(1, min(len(self.stack), (32 << 20) // self.stack[0].nbytes))
        array = zarr.create_array(
            str(self.folder / f"{number}.zarr"),
            shape=self.stack.shape,
            dtype=self.dtype,
            chunks=(1, *self.shape),
            shards=(per_shard, *self.shape),
            compressors=zarr.codecs.ZstdCodec(level=1) if self.compressors else None,
            filters=None,
        )
        for first in range(0, len(self.stack), per_shard):
            array[first : first + per_shard] = self.stack[first : first + per_shard]

    def open(self, number: int) -> None:
        import zarr

        self.array = zarr.open_array(str(self.folder / f"{number}.zarr"), mode="r")

    def one(self, index: int) -> np.ndarray:
        return np.asarray(self.array[index])

    def run(self, index: np.ndarray) -> np.ndarray:
        return np.asarray(self.array[int(index[0]) : int(index[-1]) + 1])

    def dask(self, order: np.ndarray) -> None:
        import dask.array

        self.mean = float(dask.array.from_zarr(self.array).mean().compute())


class ZarrPlain(ZarrPython):
    """zarr-python, sharded as ours, not compressed."""

    compressors: Any = None


class ParquetZstd(Contender):
    """A Parquet file of raw bytes, Zstandard, 64 samples a row group: a row group is decoded for every sample."""

    def write(self, number: int) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        table = pa.table({"x": pa.array([sample.tobytes() for sample in self.stack], pa.binary())})
        path = self.folder / f"{number}.parquet"
        pq.write_table(table, path, compression="zstd", compression_level=1, use_dictionary=False, row_group_size=SHARD)

    def open(self, number: int) -> None:
        import pyarrow.parquet as pq

        self.file = pq.ParquetFile(self.folder / f"{number}.parquet")

    def one(self, index: int) -> np.ndarray:
        group = self.file.read_row_group(index // SHARD)["x"]
        return np.frombuffer(group[index % SHARD].as_buffer(), self.dtype).reshape(self.shape).copy()

    def scan(self, order: np.ndarray) -> None:
        for group in range(self.file.num_row_groups):
            column = self.file.read_row_group(group)["x"]
            out = np.empty((len(column), *self.shape), self.dtype)
            for place, value in enumerate(column):
                out[place] = np.frombuffer(value.as_buffer(), self.dtype).reshape(self.shape)
            consume(tensor(out))


CONTENDERS: dict[str, Callable[[Path, np.ndarray], Contender]] = {
    "raw": Raw,
    "raw, new memory": RawFresh,
    "sensorium": Sensorium,
    "sensorium, durable": SensoriumDurable,
    "sensorium, zstd": SensoriumZstd,
    "sensorium, blosc": SensoriumBlosc,
    "npy": Npy,
    "npz": Npz,
    "datasets": HuggingFace,
    "lance": Lance,
    "webdataset": WebDataset,
    "deeplake": DeepLake,
    "zarr-python": ZarrPlain,
    "zarr-python, zstd": ZarrPython,
    "parquet, zstd": ParquetZstd,
}


def check(contender: Contender) -> None:
    """What is measured must be right."""
    for index in (0, len(contender.stack) - 1):
        np.testing.assert_array_equal(contender.one(index), contender.stack[index])


def main() -> None:
    """Answer one measurement a line until the input ends."""
    name, case, folder = sys.argv[1], sys.argv[2], Path(sys.argv[3])
    answers = sys.stdout
    sys.stdout = sys.stderr  # libraries print
    contender = CONTENDERS[name](folder, stack_of(case))
    tensor(contender.stack[:1])  # torch is imported now, not in the middle of a measurement
    for line in sys.stdin:
        asked = json.loads(line)
        if asked["what"] == "can":
            answers.write(json.dumps([what for what in asked["of"] if hasattr(contender, what)]) + "\n")
            answers.flush()
            continue
        order = np.random.default_rng(asked["number"]).permutation(len(contender.stack))
        count = asked.get("count", len(order))
        if asked["what"] == "open":
            contender.open(asked["number"])
            if type(contender).one is not Contender.one:
                check(contender)
        begin = time.perf_counter()
        if asked["what"] == "write":
            contender.write(asked["number"])
        elif asked["what"] != "open":
            getattr(contender, asked["what"])(order[:count])
        answers.write(json.dumps(time.perf_counter() - begin) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
