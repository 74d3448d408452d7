"""What unpacks: zip archives and gzip files, bounded before and while they are inflated.

The names in an archive are looked at, never used as paths: nothing is ever extracted to a disk.
"""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

from sensorium.catalog.fields import check_name
from sensorium.platform.errors import InvalidName
from sensorium.serve.uploads.errors import TOO_LARGE, RejectedUpload, shown
from sensorium.serve.uploads.limits import Limits

__all__ = ["array_name", "gunzip", "members", "opened", "read_member"]

_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
#: what the reader of archives raises on damaged ones
_FAULTS = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    OSError,
    EOFError,
    ValueError,
    LookupError,
    NotImplementedError,
    RuntimeError,
)
_BLOCK = 1 << 20
_PACK = "Pack it anew."


@contextmanager
def opened(data: bytes, label: str) -> Iterator[zipfile.ZipFile]:
    """The archive in ``data``; whatever the reader of archives says of damage becomes a 422."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            yield archive
    except RejectedUpload:
        raise
    except _FAULTS as error:
        raise RejectedUpload(f"{label}: is a damaged archive ({shown(str(error))}). {_PACK}") from error


def members(archive: zipfile.ZipFile, size: int, label: str, limits: Limits) -> list[zipfile.ZipInfo]:
    """The files of an archive of ``size`` bytes, once their list has been found harmless; folders are left out.

    Raises:
        RejectedUpload: 413 for what is too many, too large or packed too tightly; 422 for names that climb out of the
            archive, that come twice, and for what is encrypted or packed in a foreign way.
    """
    infos = [info for info in archive.infolist() if not info.is_dir()]
    if len(infos) > limits.members:
        raise RejectedUpload(f"{label}: holds {len(infos)} files, more than {limits.members}. Send fewer.", TOO_LARGE)
    seen: set[str] = set()
    for info in infos:
        _check_member(info, seen, label)
        seen.add(info.filename)
    _check_unpacked(sum(info.file_size for info in infos), size, label, limits)
    return infos


def _check_member(info: zipfile.ZipInfo, seen: set[str], label: str) -> None:
    name = info.filename
    parts = name.replace("\\", "/").split("/")
    if name.startswith(("/", "\\")) or ".." in parts or ":" in parts[0] or "\0" in info.orig_filename:
        raise RejectedUpload(f"{label}: the name {shown(name)} leads out of the archive. {_PACK}")
    if name in seen:
        raise RejectedUpload(f"{label}: holds {shown(name)} twice. {_PACK}")
    if info.compress_type not in _METHODS or info.flag_bits & 1:
        raise RejectedUpload(f"{label}: {shown(name)} is encrypted or packed in a foreign way. {_PACK}")


def _check_unpacked(unpacked: int, packed: int, label: str, limits: Limits) -> None:
    if unpacked > limits.decompressed_bytes:
        raise RejectedUpload(
            f"{label}: unpacks to {unpacked} bytes, more than {limits.decompressed_bytes}. Send less at a time.",
            TOO_LARGE,
        )
    if unpacked > limits.ratio_from_bytes and unpacked > limits.compression_ratio * packed:
        raise RejectedUpload(
            f"{label}: {packed} bytes unpack to {unpacked}, more than {limits.compression_ratio:g} times as many. "
            "Send it less tightly packed.",
            TOO_LARGE,
        )


def read_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, label: str) -> bytes:
    """A file of an archive: as long as the list says, its checksum compared.

    Raises:
        RejectedUpload: 422, the list lies.
    """
    with archive.open(info) as stream:
        content = stream.read(info.file_size)
        rest = stream.read(1)  # to the end, where the checksum is compared
    if len(content) != info.file_size or rest:
        raise RejectedUpload(f"{label}: {shown(info.filename)} is not as long as the archive's list says. {_PACK}")
    return content


def array_name(info: zipfile.ZipInfo, label: str) -> str:
    """The field that a member ``FIELD.npy`` of an NPZ archive is for.

    Raises:
        RejectedUpload: 422, it can name no field.
    """
    name = info.filename.removesuffix(".npy")
    try:
        return check_name(name, "field")
    except InvalidName as error:
        raise RejectedUpload(
            f"{label}: {shown(info.filename)} names no field. Name each array after the field that it is for."
        ) from error


def gunzip(data: bytes, label: str, limits: Limits) -> bytes:
    """What a gzip file of one part holds, its checksum compared.

    Raises:
        RejectedUpload: 413 it unpacks to too much, 422 it is damaged or cut off.
    """
    # as far as the ratio allows, and no byte further: the sum is not known before
    most = min(limits.decompressed_bytes, max(limits.ratio_from_bytes, int(limits.compression_ratio * len(data))))
    stream = zlib.decompressobj(wbits=31)
    blocks: list[bytes] = []
    total = 0
    rest = data
    try:
        while not stream.eof:
            block = stream.decompress(rest, _BLOCK)
            rest = stream.unconsumed_tail
            if not block and not rest and not stream.eof:
                raise RejectedUpload(f"{label}: its gzip data is cut off. Compress it anew.")
            blocks.append(block)
            total += len(block)
            if total > most:
                _check_unpacked(total, len(data), label, limits)
    except zlib.error as error:
        raise RejectedUpload(f"{label}: is damaged gzip ({shown(str(error))}). Compress it anew.") from error
    if stream.unused_data.strip(b"\0"):
        raise RejectedUpload(f"{label}: something follows the gzip data. Compress it anew.")
    return b"".join(blocks)
