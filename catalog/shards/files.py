"""Files of fragments: ranges of bytes, from this machine's disks or from an object store.

Files of a fragment never change, so that what was opened stays open, up to a limit. What is deleted meanwhile can still be
read by whoever has it open.
"""

from __future__ import annotations

import errno
import mmap
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from typing import Generic, NamedTuple, TypeVar

import numpy as np

from sensorium.platform.storage import Storage

__all__ = [
    "CutShort",
    "Range",
    "Recent",
    "fetch",
    "forget",
    "mapped",
    "octets",
    "read_whole",
    "scatter",
    "size_of",
    "sync_folder",
    "write_new",
]

T = TypeVar("T")

_OPEN_FILES = 256
_MAPPED_FILES = 4096
#: buffers of one system call; Linux takes 1024
_VECTORS = min(1024, os.sysconf("SC_IOV_MAX"))
#: a gap that is read along rather than asked around: on a disk, and over a network
_GAP_BYTES = 16 << 10
_REMOTE_GAP_BYTES = 256 << 10
#: of one system call: of calls for much more, ext4 makes the writer wait for the disk, though there is room in memory
_WRITE_BYTES = 1 << 20
#: of one read, so that decoding can begin
_READ_BYTES = 16 << 20


class CutShort(OSError):
    """A file ends before what is wanted of it."""


class Range(NamedTuple):
    """Bytes of a file."""

    path: str
    begin: int
    size: int


class Recent(Generic[T]):
    """The things that were asked for last, by name; whoever holds one that was dropped can go on with it."""

    def __init__(self, limit: int) -> None:
        self._limit, self._lock = limit, threading.Lock()
        self._held: OrderedDict[Hashable, T] = OrderedDict()

    def get(self, name: Hashable, make: Callable[[], T]) -> T:
        """The thing of this name; made if it is not held."""
        with self._lock:
            found = self._held.get(name)
            if found is not None:
                self._held.move_to_end(name)
                return found
        made = make()
        with self._lock:
            self._held[name] = made
            while len(self._held) > self._limit:
                self._held.popitem(last=False)
        return made

    def clear(self) -> None:
        """Hold nothing."""
        with self._lock:
            self._held.clear()


class _Open:
    """An open file, closed when nobody holds it any more: a thread may be reading from one that was just dropped."""

    def __init__(self, path: str) -> None:
        self.descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self.size = os.fstat(self.descriptor).st_size

    def __del__(self) -> None:
        if hasattr(self, "descriptor"):
            os.close(self.descriptor)


_open_files: Recent[_Open] = Recent(_OPEN_FILES)
_maps: Recent[np.ndarray] = Recent(_MAPPED_FILES)


def forget() -> None:
    """Close what is open, so that files are looked up anew."""
    _open_files.clear()
    _maps.clear()


def _opened(path: str) -> _Open:
    return _open_files.get(path, lambda: _Open(path))


def size_of(storage: Storage, path: str) -> int:
    """Bytes of a file."""
    return _opened(path).size if storage.local else int(storage.fs.size(path))


def read_whole(storage: Storage, path: str) -> bytes:
    """All bytes of a small file."""
    if storage.local:
        with open(path, "rb", buffering=0) as file:
            return file.read()
    return bytes(storage.fs.cat_file(path))


def edge(storage: Storage, path: str, size: int, *, at_end: bool) -> memoryview:
    """The first or last bytes of a file, in one request where it is far away.

    Raises:
        CutShort: it has fewer.
    """
    if storage.local:
        whole = _opened(path).size
        if whole < size:
            raise CutShort(f"has {whole} bytes, fewer than its index")
        return _read(Range(path, whole - size if at_end else 0, size))
    content = storage.fs.cat_file(path, start=-size) if at_end else storage.fs.cat_file(path, start=0, end=size)
    if len(content) != size:
        raise CutShort(f"has {len(content)} bytes, fewer than its index")
    return memoryview(content)


def mapped(path: str) -> np.ndarray:
    """A local file as bytes in memory, read as they are touched.

    A file that is cut short after this ends the process that reads it: only for files whose end was seen to be there.
    """
    return _maps.get(path, lambda: _map(path))


def _map(path: str) -> np.ndarray:
    file = _opened(path)
    return np.frombuffer(mmap.mmap(file.descriptor, file.size, access=mmap.ACCESS_READ), np.uint8)


def fetch(storage: Storage, ranges: Sequence[Range]) -> list[memoryview]:
    """The bytes of each range; neighbours are read together, those of an object store all at a time.

    Raises:
        CutShort: a file ends before a range does.
    """
    found: list[memoryview] = [memoryview(b"")] * len(ranges)
    order = sorted(range(len(ranges)), key=lambda place: ranges[place])
    gap = _GAP_BYTES if storage.local else _REMOTE_GAP_BYTES
    runs = list(_runs([ranges[place] for place in order], gap))
    wholes = [Range(run[0].path, run[0].begin, max(r.begin + r.size for r in run) - run[0].begin) for run in runs]
    contents = (_read(whole) for whole in wholes) if storage.local else _cat(storage, wholes)
    places = iter(order)
    for run, whole, content in zip(runs, wholes, contents, strict=True):
        for part in run:
            found[next(places)] = content[part.begin - whole.begin :][: part.size]
    return found


def _runs(ranges: Iterable[Range], gap: int) -> Iterable[list[Range]]:
    run: list[Range] = []
    reach = 0
    for part in ranges:
        if run and (part.path != run[0].path or part.begin - reach > gap or reach - run[0].begin > _READ_BYTES):
            yield run
            run = []
        reach = max(part.begin + part.size, reach if run else 0)
        run.append(part)
    if run:
        yield run


def _read(whole: Range) -> memoryview:
    content = bytearray(whole.size)
    _fill(whole.path, whole.begin, [memoryview(content)])
    return memoryview(content)


def _cat(storage: Storage, wholes: Sequence[Range]) -> list[memoryview]:
    contents = storage.fs.cat_ranges(
        [whole.path for whole in wholes],
        [whole.begin for whole in wholes],
        [whole.begin + whole.size for whole in wholes],
        on_error="raise",
    )
    for whole, content in zip(wholes, contents, strict=True):
        if len(content) != whole.size:
            raise _short(whole.begin, whole.size)
    return [memoryview(content) for content in contents]


def scatter(path: str, begin: int, targets: Sequence[memoryview]) -> None:
    """Read a stretch of a local file, from ``begin`` on, straight into ``targets``, one after another.

    Raises:
        CutShort: the file ends before they are full.
    """
    for first in range(0, len(targets), _VECTORS):
        part = targets[first : first + _VECTORS]
        _fill(path, begin, part)
        begin += sum(target.nbytes for target in part)


def _fill(path: str, begin: int, targets: Sequence[memoryview]) -> None:
    file = _opened(path)
    total = sum(target.nbytes for target in targets)
    done = os.preadv(file.descriptor, targets, begin)
    while done < total:  # interrupted, over 2 GB, or the end of the file
        rest = list(_after(targets, done))
        count = os.preadv(file.descriptor, rest, begin + done)
        if count == 0:
            raise _short(begin, total)
        done += count


def _after(targets: Sequence[memoryview], done: int) -> Iterable[memoryview]:
    """What is left of ``targets`` without their first ``done`` bytes."""
    reach = 0
    for target in targets:
        if reach + target.nbytes > done:
            yield target.cast("B")[max(0, done - reach) :]
        reach += target.nbytes


def _short(begin: int, size: int) -> CutShort:
    return CutShort(f"ends before byte {begin + size}")


def octets(array: np.ndarray) -> memoryview:
    """The bytes of a C-contiguous array."""
    return array.reshape(-1).view(np.uint8).data


def write_new(storage: Storage, path: str, parts: Sequence[bytes | np.ndarray], *, durable: bool = False) -> None:
    """Write a file that is not there yet; ``durable``: its bytes are on the disk, not just on their way, afterwards."""
    if not storage.local:
        storage.fs.pipe_file(path, b"".join(bytes(part) for part in parts))
        return
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        views = [octets(part) if isinstance(part, np.ndarray) else memoryview(part) for part in parts]
        _reserve(descriptor, sum(view.nbytes for view in views))
        for some in _portions(views):
            _write_all(descriptor, some)
        if durable:
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _reserve(descriptor: int, size: int) -> None:
    """Have room for a file of ``size`` bytes: a full disk is told at once, and nobody waits for blocks while writing."""
    if size < _WRITE_BYTES or not hasattr(os, "posix_fallocate"):
        return
    try:
        os.posix_fallocate(descriptor, 0, size)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO):
            raise  # else a file system that cannot


def _portions(views: Iterable[memoryview]) -> Iterator[list[memoryview]]:
    """``views`` in the pieces and numbers that one system call takes."""
    some: list[memoryview] = []
    size = 0
    for view in views:
        for begin in range(0, view.nbytes, _WRITE_BYTES):
            some.append(view[begin : begin + _WRITE_BYTES])
            size += some[-1].nbytes
            if size >= _WRITE_BYTES or len(some) == _VECTORS:
                yield some
                some, size = [], 0
    if some:
        yield some


def _write_all(descriptor: int, views: list[memoryview]) -> None:
    total = sum(view.nbytes for view in views)
    done = os.writev(descriptor, views)
    while done < total:  # interrupted
        done += os.writev(descriptor, list(_after(views, done)))


def sync_folder(path: str) -> None:
    """Make the names in a local folder durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
