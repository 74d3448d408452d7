"""Arrays out of files: whole rows into given places, or any box, decoding only the chunks that are needed."""

from __future__ import annotations

import functools
import itertools
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from sensorium.catalog.shards import files
from sensorium.catalog.shards.codecs import DecodingFailed, crc32c, native
from sensorium.catalog.shards.files import Range, Recent, octets
from sensorium.catalog.shards.layout import Layout
from sensorium.catalog.shards.threads import in_threads
from sensorium.catalog.shards.writing import MISSING
from sensorium.platform.errors import CorruptData
from sensorium.platform.storage import Storage

__all__ = ["ShardedArray", "groups", "is_range"]

#: indices of so many shards of an array are kept; one of 1000 chunks takes 16 kB
_INDICES = 1024
#: up to this size, rows of a shard are gathered by one call of NumPy's, which copies them twice
_SMALL_BYTES = 8 << 10

#: no file is larger, so that offset and size can be added
_LARGEST = 1 << 62
#: place of a file in the grid of files
Shard = tuple[int, ...]


class _Piece(NamedTuple):
    """What of one chunk goes where."""

    shard: Shard
    slot: int
    source: tuple[slice, ...]
    target: np.ndarray


class ShardedArray:
    """A Zarr v3 array that never changes.

    Attributes:
        layout: what its metadata say.
        shape, ndim: of the array.
        dtype: of what is read, in this machine's byte order.
        dtype_name: its name, which takes NumPy a while to find.
    """

    def __init__(self, storage: Storage, path: str) -> None:
        """Read the metadata. An attribute ``complete`` of the array says that a chunk that is missing is damage.

        Args:
            storage: any storage that ``path`` lies in.
            path: the array's folder.

        Raises:
            FileNotFoundError: there is none.
            UnknownLayout, CorruptData: it cannot be read here; it makes no sense.
        """
        self._storage, self._path = storage, path
        try:
            self.layout = Layout.parsed(files.read_whole(storage, f"{path}/zarr.json"))
        except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
            raise CorruptData(
                f"{path}/zarr.json: makes no sense ({error}). Run verify, and restore the fragment from a copy."
            ) from error
        self.shape, self.ndim = self.layout.shape, len(self.layout.shape)
        self.dtype = self.layout.dtype.newbyteorder("=")
        self.dtype_name = self.dtype.name
        self._complete = bool(self.layout.attributes.get("complete"))
        self._first_of_rest = (0,) * (self.ndim - 1)
        self._indices: Recent[np.ndarray] = Recent(_INDICES)
        self._maps: Recent[np.ndarray] = Recent(_INDICES)

    # -- what is asked for --------------------------------------------------------------------------------------------

    def box(self, begin: Sequence[int], end: Sequence[int]) -> np.ndarray:
        """The part from ``begin`` up to and without ``end``, along each axis; both in the array.

        Raises:
            CorruptData: a shard is gone, cut short or damaged.
        """
        target = np.empty([high - low for low, high in zip(begin, end, strict=True)], self.dtype)
        if target.size:
            self._read(list(self._pieces(begin, end, target)))
        return target

    def rows(self, rows: Sequence[int], targets: Sequence[np.ndarray]) -> None:
        """Read whole rows, each in the array, into ``targets``: of the rows' shape and dtype, C-contiguous.

        Raises:
            CorruptData: a shard is gone, cut short or damaged.
        """
        if not (self._storage.local and self._plain):
            self._read_rows(rows, [target[np.newaxis] for target in targets])
            return
        length, rest = self.layout.shard[0], self._first_of_rest
        straight: dict[int, list[tuple[int, memoryview]]] = defaultdict(list)
        for row, target in zip(rows, targets, strict=True):
            number, slot = divmod(row, length)
            begin = self._whole_chunk((number, *rest), slot)
            if begin is None:
                target[...] = self.layout.fill
            else:
                straight[number].append((begin, octets(target)))
        for number, reads in straight.items():
            self._scatter((number, *rest), reads)

    def row(self, number: int) -> np.ndarray:
        """One whole row, in memory of its own: what many small reads at random come down to.

        Raises:
            CorruptData: a shard is gone, cut short or damaged.
        """
        target = np.empty(self.shape[1:], self.dtype)
        if not (self._storage.local and self._row_is_chunk):
            self._read_rows([number], [target[np.newaxis]])
            return target
        shard, slot = divmod(number, self.layout.shard[0])
        if not self._plain:
            for work in self._coded_mapped(shard, np.array([slot]), target[np.newaxis], np.array([0])):
                self._decode(work)
        elif slot >= len(held := self._rows_of(shard)):  # not all of them are there, or not in order
            self._read_rows([number], [target[np.newaxis]])
        else:
            target[...] = held[slot]
        return target

    def _whole_chunk(self, shard: Shard, slot: int) -> int | None:
        """Where a chunk that is stored as plain bytes begins; None where it was never written."""
        begin, size = self._index(shard)[slot].tolist()
        if begin == MISSING:
            if self._complete:
                raise self._damaged(shard, f"chunk {slot} is missing")
            return None
        if size != self.layout.chunk_bytes:
            raise self._damaged(shard, f"chunk {slot} has {size} bytes instead of {self.layout.chunk_bytes}")
        return int(begin)

    def _scatter(self, shard: Shard, reads: list[tuple[int, memoryview]]) -> None:
        path = self._file(shard)
        with self._explained(shard):
            for begin, targets in _stretches(reads):
                files.scatter(path, begin, targets)

    def _read_rows(self, rows: Sequence[int], targets: Sequence[np.ndarray]) -> None:
        rest = self._first_of_rest
        pieces = [
            piece
            for row, target in zip(rows, targets, strict=True)
            for piece in self._pieces((row, *rest), (row + 1, *self.shape[1:]), target)
        ]
        self._read(pieces)

    def gather(self, rows: np.ndarray, target: np.ndarray, places: np.ndarray) -> None:
        """Read many rows at once, plain ones of local files by memory map, which is the fastest way.

        A file that somebody cuts short *while* it is mapped ends the process, as everywhere; one that was cut before raises.

        Args:
            rows: [n] along the first axis, each in the array.
            target: [m, ...], rows of the array's shape and dtype, C-contiguous.
            places: [n], where in ``target`` each goes.

        Raises:
            CorruptData: a shard is gone, cut short or damaged.
        """
        if not (self._storage.local and self._row_is_chunk):
            self._read_rows(rows.tolist(), [target[place : place + 1] for place in places.tolist()])
            return
        length = self.layout.shard[0]
        numbers = rows // length
        coded: list[tuple[_Piece, memoryview]] = []
        for chosen in groups(numbers):
            number = int(numbers[chosen[0]])
            local = rows[chosen] - number * length
            if self._plain:
                self._gather_mapped(number, local, target, places[chosen])
            else:
                coded += self._coded_mapped(number, local, target, places[chosen])
        in_threads(self._decode, coded, len(coded) * self.layout.chunk_bytes)

    # -- by memory map ------------------------------------------------------------------------------------------------

    @functools.cached_property
    def _row_is_chunk(self) -> bool:
        layout = self.layout
        simple = layout.sharded and not layout.chunk_checked and native(layout.dtype)
        return simple and layout.chunk == (1, *self.shape[1:]) and layout.slots == layout.shard[0] > 0

    @functools.cached_property
    def _plain(self) -> bool:
        """Whether a row is a chunk, and a chunk the bytes that are wanted."""
        return self._row_is_chunk and self.layout.compressor is None

    def _coded_mapped(
        self, number: int, rows: np.ndarray, target: np.ndarray, places: np.ndarray
    ) -> list[tuple[_Piece, memoryview]]:
        """Chunks of one file, which are its rows, numbered from its own first on, with their bytes."""
        shard = (number, *self._first_of_rest)
        index = self._index(shard)[rows]
        if (index[:, 0] == MISSING).any():
            whole = rows + number * self.layout.shard[0]
            self._read_rows(whole.tolist(), [target[place : place + 1] for place in places.tolist()])
            return []
        with self._explained(shard):
            content = files.mapped(self._file(shard))
        if int(index.sum(axis=1).max()) > len(content):
            raise self._damaged(shard, "ends before its chunks do")
        view, whole_chunk = content.data, tuple(slice(0, size) for size in self.layout.chunk)
        return [
            (_Piece(shard, slot, whole_chunk, target[place : place + 1]), view[begin : begin + size])
            for slot, place, (begin, size) in zip(rows.tolist(), places.tolist(), index.tolist(), strict=True)
        ]

    def _gather_mapped(self, number: int, rows: np.ndarray, target: np.ndarray, places: np.ndarray) -> None:
        """Rows of one file, numbered from its own first on."""
        held = self._rows_of(number)
        if len(held) <= rows.max():  # not all of them are there, or not in order
            whole = rows + number * self.layout.shard[0]
            self._read_rows(whole.tolist(), [target[place : place + 1] for place in places.tolist()])
        elif self.layout.chunk_bytes <= _SMALL_BYTES and not (is_range(rows) and is_range(places)):
            target[places] = held[rows]
        else:
            for first, place, count in _runs(rows, places):
                target[place : place + count] = held[first : first + count]

    def _rows_of(self, number: int) -> np.ndarray:
        """Rows [n, ...] of a file, mapped; see :meth:`_mapped`."""
        return self._maps.get(number, lambda: self._mapped((number, *self._first_of_rest)))

    def _mapped(self, shard: Shard) -> np.ndarray:
        """Rows [n, ...] of a file that lie one after another from its first on; none where they do not."""
        size, index = self.layout.chunk_bytes, self._index(shard)
        there = int((index[:, 0] != MISSING).sum())
        expected = np.arange(there, dtype=np.uint64) * np.uint64(size) + np.uint64(self._data_begin)
        orderly = size > 0 and bool((index[:there, 0] == expected).all() and (index[:there, 1] == size).all())
        if not orderly or not there:
            return np.empty((0, *self.shape[1:]), self.dtype)
        with self._explained(shard):
            content = files.mapped(self._file(shard))
        return content[self._data_begin :][: there * size].view(self.dtype).reshape(there, *self.shape[1:])

    # -- by pieces ----------------------------------------------------------------------------------------------------

    def _pieces(self, begin: Sequence[int], end: Sequence[int], target: np.ndarray) -> Iterator[_Piece]:
        """What of which chunk makes up a box."""
        layout = self.layout
        spans = [range(low // part, -(-high // part)) for low, high, part in zip(begin, end, layout.chunk, strict=True)]
        for place in itertools.product(*spans):
            shard, slot, source, goes = [], 0, [], []
            for at, part, across, low, high in zip(place, layout.chunk, layout.grid, begin, end, strict=True):
                shard.append(at // across)
                slot = slot * across + at % across
                first, last = max(low, at * part), min(high, (at + 1) * part)
                source.append(slice(first - at * part, last - at * part))
                goes.append(slice(first - low, last - low))
            yield _Piece(tuple(shard), slot, tuple(source), target[tuple(goes)])

    def _read(self, pieces: Sequence[_Piece]) -> None:
        by_shard: dict[Shard, list[_Piece]] = defaultdict(list)
        for piece in pieces:
            by_shard[piece.shard].append(piece)
        if not self._storage.local:
            self._load_indices(list(by_shard))
        coded: list[tuple[_Piece, Range]] = []
        for shard, wanted in by_shard.items():
            coded += self._direct(shard, wanted)
        contents = self._fetched(coded)
        work = [(piece, content) for (piece, _), content in zip(coded, contents, strict=True)]
        in_threads(self._decode, work, len(work) * self.layout.chunk_bytes if self.layout.compressor else 0)

    def _direct(self, shard: Shard, wanted: Sequence[_Piece]) -> list[tuple[_Piece, Range]]:
        """Fill what needs no decoding; returns the chunks to be decoded, and where their bytes are."""
        layout, path = self.layout, self._file(shard)
        index = self._index(shard)
        simple = layout.compressor is None and not layout.chunk_checked and native(layout.dtype)
        straight: list[tuple[int, memoryview]] = []
        coded: list[tuple[_Piece, Range]] = []
        for piece in wanted:
            begin, size = int(index[piece.slot, 0]), int(index[piece.slot, 1])
            if begin == MISSING:
                if self._complete:
                    raise self._damaged(shard, f"chunk {piece.slot} is missing")
                piece.target[...] = layout.fill
                continue
            if layout.compressor is None and size != layout.chunk_bytes + 4 * layout.chunk_checked:
                raise self._damaged(shard, f"chunk {piece.slot} has {size} bytes instead of {layout.chunk_bytes}")
            if simple and piece.target.flags.c_contiguous and _is_stretch(piece.source, layout.chunk):
                begin += _offset(piece.source, layout.chunk) * layout.dtype.itemsize
                if self._storage.local:
                    straight.append((begin, octets(piece.target)))
                    continue
                piece, size = piece._replace(source=()), piece.target.nbytes
            coded.append((piece, Range(path, begin, size)))
        self._scatter(shard, straight)
        return coded

    def _fetched(self, coded: Sequence[tuple[_Piece, Range]]) -> list[memoryview]:
        if not coded:
            return []
        with self._explained(coded[0][0].shard):
            return files.fetch(self._storage, [place for _, place in coded])

    def _decode(self, work: tuple[_Piece, memoryview]) -> None:
        piece, content = work
        layout = self.layout
        if not piece.source:  # a stretch of a plain chunk, as it is
            octets(piece.target)[:] = content
            return
        if layout.chunk_checked:
            if crc32c(bytes(content[:-4])) != int.from_bytes(content[-4:], "little"):
                raise self._damaged(piece.shard, f"chunk {piece.slot} has another checksum")
            content = content[:-4]
        if layout.compressor is None:
            chunk = np.frombuffer(content, layout.dtype).reshape(layout.chunk)
        else:
            whole = piece.target.shape == layout.chunk and piece.target.flags.c_contiguous and native(layout.dtype)
            chunk = piece.target if whole else np.empty(layout.chunk, layout.dtype)
            try:
                layout.compressor.decode(content, chunk)
            except DecodingFailed as error:
                raise self._damaged(piece.shard, f"chunk {piece.slot} cannot be decoded: {error}") from error
            if whole:
                return
        piece.target[...] = chunk[piece.source]

    # -- files --------------------------------------------------------------------------------------------------------

    @property
    def _data_begin(self) -> int:
        return 0 if self.layout.index_at_end else self.layout.index_bytes

    def _file(self, shard: Shard) -> str:
        return f"{self._path}/{self.layout.key(shard)}"

    def _index(self, shard: Shard) -> np.ndarray:
        """Offset and size of each chunk of a file [slots, 2]."""
        return self._indices.get(shard, lambda: self._read_index(shard))

    def _load_indices(self, shards: Sequence[Shard]) -> None:
        """Read the indices that are not known yet at the same time: each is a round trip to the store."""
        in_threads(self._index, shards, _LARGEST)

    def _read_index(self, shard: Shard) -> np.ndarray:
        layout, path = self.layout, self._file(shard)
        with self._explained(shard):
            try:
                if not layout.sharded:
                    return np.array([[0, files.size_of(self._storage, path)]], np.uint64)
                content = files.edge(self._storage, path, layout.index_bytes, at_end=layout.index_at_end)
            except FileNotFoundError:
                if self._complete:
                    raise
                return np.full((layout.slots, 2), MISSING, np.uint64)
        plain = bytes(content[: 16 * layout.slots])
        if layout.index_checked and crc32c(plain) != int.from_bytes(content[-4:], "little"):
            raise self._damaged(shard, "its index has another checksum: it was cut short or changed")
        index = np.frombuffer(plain, "<u8").reshape(layout.slots, 2)
        there = index[index[:, 0] != MISSING]
        if (there > _LARGEST).any():
            raise self._damaged(shard, "its index points beyond any end")
        return index

    def _explained(self, shard: Shard) -> _Explained:
        """Say which file is gone, or ends too early."""
        return _Explained(self, shard)

    def _damaged(self, shard: Shard, what: str) -> CorruptData:
        return CorruptData(
            f"{self._file(shard)}: {what}. Run verify to see what is damaged, and restore the fragment from a copy."
        )


class _Explained:
    """A block that reads a file; not a generator, which would cost as much as a small read."""

    __slots__ = ("_array", "_shard")

    def __init__(self, array: ShardedArray, shard: Shard) -> None:
        self._array, self._shard = array, shard

    def __enter__(self) -> None:
        return

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, FileNotFoundError):
            raise self._array._damaged(self._shard, "is gone") from error
        if isinstance(error, files.CutShort):
            raise self._array._damaged(self._shard, str(error)) from error


def groups(keys: np.ndarray) -> list[np.ndarray]:
    """Where equal keys are, for each key; places in rising order."""
    if len(keys) < 2 or bool((keys == keys[0]).all()):
        return [np.arange(len(keys))] if len(keys) else []
    order = np.argsort(keys, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(keys[order])) + 1)


def is_range(numbers: np.ndarray) -> bool:
    """Whether each number is one more than the one before; there is at least one."""
    return bool(numbers[-1] - numbers[0] == len(numbers) - 1 and (numbers[1:] > numbers[:-1]).all())


def _runs(rows: np.ndarray, places: np.ndarray) -> Iterator[tuple[int, int, int]]:
    """Stretches in which rows and places both go up by one: first row, first place, how many."""
    breaks = (rows[1:] - rows[:-1] != 1) | (places[1:] - places[:-1] != 1)
    begins = np.concatenate([[0], np.flatnonzero(breaks) + 1])
    counts = np.diff(begins, append=len(rows))
    return zip(rows[begins].tolist(), places[begins].tolist(), counts.tolist(), strict=True)


def _is_stretch(source: Sequence[slice], chunk: Sequence[int]) -> bool:
    """Whether a part of a chunk lies in one piece: single places, then a range, then whole axes."""
    state = 0
    for part, size in zip(reversed(source), reversed(chunk), strict=True):
        length = part.stop - part.start
        if state and length != 1:
            return False
        state = state or int(length != size)
    return True


def _offset(source: Sequence[slice], chunk: Sequence[int]) -> int:
    """Elements before the first of a part of a chunk."""
    offset = 0
    for part, size in zip(source, chunk, strict=True):
        offset = offset * size + part.start
    return offset


def _stretches(reads: list[tuple[int, memoryview]]) -> Iterator[tuple[int, list[memoryview]]]:
    """Reads, of which those that follow one another in the file are one."""
    reads.sort(key=lambda read: read[0])
    begin, reach = 0, -1
    targets: list[memoryview] = []
    for at, target in reads:
        if at != reach and targets:
            yield begin, targets
            targets = []
        if not targets:
            begin = at
        targets.append(target)
        reach = at + target.nbytes
    if targets:
        yield begin, targets
