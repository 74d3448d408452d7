"""Chunks as bytes: plain, Zstandard, Blosc or gzip, as Zarr's codecs of these names write them."""

from __future__ import annotations

import gzip
import sys
import threading
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import zstandard
from google_crc32c import value as crc32c
from numcodecs import blosc, zstd

__all__ = ["Compressor", "DecodingFailed", "crc32c", "little", "native"]

# chunks are coded by several threads at a time; Blosc's own would stand in their way
blosc.use_threads = False

_SHUFFLES = {"noshuffle": blosc.NOSHUFFLE, "shuffle": blosc.SHUFFLE, "bitshuffle": blosc.BITSHUFFLE}


#: from here on, one copy less is worth more than a context that is there already
_LARGE_BYTES = 1 << 20


class DecodingFailed(ValueError):
    """A chunk's bytes are not what its codec writes."""


@dataclass(frozen=True)
class Compressor:
    """One of Zarr's compressors.

    Attributes:
        name: ``zstd``, ``blosc`` or ``gzip``.
        level: of compression.
        inner: Blosc's own compressor, such as ``lz4``.
        shuffle: Blosc's filter: ``noshuffle``, ``shuffle``, ``bitshuffle``.
        typesize: bytes of an element, for that filter.
        blocksize: of Blosc; 0 lets it choose.
        checksum: whether Zstandard frames have their own.
    """

    name: str
    level: int = 1
    inner: str = "lz4"
    shuffle: str = "noshuffle"
    typesize: int = 1
    blocksize: int = 0
    checksum: bool = False

    def metadata(self) -> dict[str, Any]:
        """As in ``zarr.json``."""
        if self.name == "blosc":
            configuration: dict[str, Any] = {
                "typesize": self.typesize,
                "cname": self.inner,
                "clevel": self.level,
                "shuffle": self.shuffle,
                "blocksize": self.blocksize,
            }
        elif self.name == "zstd":
            configuration = {"level": self.level, "checksum": self.checksum}
        else:
            configuration = {"level": self.level}
        return {"name": self.name, "configuration": configuration}

    @classmethod
    def parsed(cls, metadata: Mapping[str, Any]) -> Compressor | None:
        """What :meth:`metadata` says; None for a codec that is not known here."""
        name, given = metadata["name"], metadata.get("configuration", {})
        if name == "blosc":
            shuffle = given.get("shuffle", "noshuffle")
            return cls(name, given["clevel"], given["cname"], shuffle, given.get("typesize", 1), given["blocksize"])
        if name == "zstd":
            return cls(name, given.get("level", 0), checksum=given.get("checksum", False))
        return cls(name, given.get("level", 5)) if name == "gzip" else None

    def encode(self, chunk: np.ndarray) -> bytes:
        """The bytes of a C-contiguous chunk, compressed."""
        if self.name == "zstd":
            return _contexts.compressor(self.level, checksum=self.checksum).compress(chunk.data)
        if self.name == "gzip":
            return gzip.compress(chunk.tobytes(), self.level)
        flat = chunk.reshape(-1).view(np.uint8)  # Blosc would take its type size from the array
        shuffle = _SHUFFLES[self.shuffle]
        return bytes(blosc.compress(flat, self.inner.encode(), self.level, shuffle, self.blocksize, self.typesize))

    def decode(self, content: memoryview, target: np.ndarray) -> None:
        """Decompress into ``target``, C-contiguous, which must be filled exactly.

        Raises:
            DecodingFailed: damaged bytes, or more or fewer than fit.
        """
        try:
            if self.name == "zstd":
                _decode_zstd(content, target)
            elif self.name == "blosc":
                self._decode_blosc(content, target)
            else:
                plain = gzip.decompress(content)
                if len(plain) != target.nbytes:
                    raise DecodingFailed(f"holds {len(plain)} bytes, not {target.nbytes}")
                target.reshape(-1).view(np.uint8)[:] = np.frombuffer(plain, np.uint8)
        except DecodingFailed:
            raise
        except (RuntimeError, ValueError, OSError, EOFError, zlib.error, zstandard.ZstdError) as error:
            raise DecodingFailed(str(error)) from error

    def _decode_blosc(self, content: memoryview, target: np.ndarray) -> None:
        # its header says how much it holds and how long it is; Blosc itself trusts what it says
        if len(content) < 16:
            raise DecodingFailed("is shorter than a header")
        holds, length = (int.from_bytes(content[at : at + 4], "little") for at in (4, 12))
        if holds != target.nbytes or length > len(content):
            raise DecodingFailed(f"holds {holds} bytes in {length}, not {target.nbytes} in {len(content)}")
        blosc.decompress(content, target)


class _Zstandard(threading.local):
    """Contexts of this thread: making one for each chunk costs more than coding a small chunk."""

    def __init__(self) -> None:
        self.decompressor = zstandard.ZstdDecompressor()
        self._compressors: dict[tuple[int, bool], zstandard.ZstdCompressor] = {}

    def compressor(self, level: int, *, checksum: bool) -> zstandard.ZstdCompressor:
        found = self._compressors.get((level, checksum))
        if found is None:
            found = zstandard.ZstdCompressor(level=level, write_checksum=checksum)
            self._compressors[level, checksum] = found
        return found


_contexts = _Zstandard()


def _decode_zstd(content: memoryview, target: np.ndarray) -> None:
    says = _zstd_size(content)
    if says not in (-1, target.nbytes):
        raise DecodingFailed(f"holds {says} bytes, not {target.nbytes}")
    if says > _LARGE_BYTES:
        zstd.decompress(content, target)  # in place
        return
    plain = _contexts.decompressor.decompress(content, max_output_size=target.nbytes)
    if len(plain) != target.nbytes:
        raise DecodingFailed(f"holds {len(plain)} bytes, not {target.nbytes}")
    target.reshape(-1).view(np.uint8)[:] = np.frombuffer(plain, np.uint8)


def _zstd_size(content: memoryview) -> int:
    """Bytes that a Zstandard frame says to hold (RFC 8878, 3.1.1.1); -1 where it does not say."""
    if len(content) < 6:
        return -1
    flags = content[4]
    single, length = flags >> 5 & 1, (0, 2, 4, 8)[flags >> 6]
    length = length or single
    begin = 5 + (1 - single) + (0, 1, 2, 4)[flags & 3]
    if not length or len(content) < begin + length:
        return -1
    return int.from_bytes(content[begin : begin + length], "little") + 256 * (length == 2)


def native(dtype: np.dtype[Any]) -> bool:
    """Whether the bytes of ``dtype`` are in this machine's order."""
    return bool(dtype.isnative)


def little(dtype: np.dtype[Any]) -> bool:
    """Whether the bytes of ``dtype`` are those of a little-endian machine."""
    return dtype.itemsize == 1 or (dtype.byteorder == "<" if dtype.byteorder != "=" else sys.byteorder == "little")
