"""Of what kind a file is, by its content alone: its name and the type that the sender claims count for nothing.

A file is what its first bytes say, and is given to that one reader only. So a polyglot (a picture with an archive behind
it, a DICOM file that begins as a program) is read as its head, or refused for its head; nothing looks for a second nature.
"""

from __future__ import annotations

import struct
import zlib

from sensorium.serve.uploads.errors import NOT_TAKEN, RejectedUpload

__all__ = ["TITLES", "is_dicom", "is_nifti", "recognise"]

#: what is recognised, with its name for people
TITLES = {
    "npy": "NumPy array (.npy)",
    "zip": "archive of NumPy arrays (.npz) or of DICOM slices (.zip)",
    "json": "JSON",
    "csv": "table (CSV, TSV)",
    "png": "PNG",
    "jpeg": "JPEG",
    "webp": "WebP",
    "avif": "AVIF",
    "tiff": "TIFF",
    "bmp": "BMP",
    "wav": "WAV",
    "flac": "FLAC",
    "ogg": "OGG",
    "mp4": "MP4",
    "matroska": "Matroska or WebM",
    "avi": "AVI",
    "nifti": "NIfTI (.nii)",
    "nifti_gz": "NIfTI (.nii.gz)",
    "dicom": "DICOM",
    "edf": "EDF",
    "bdf": "BDF",
}

_HEADS = (
    (b"\x93NUMPY", "npy"),
    (b"PK\x03\x04", "zip"),
    (b"\x89PNG\r\n\x1a\n", "png"),
    (b"\xff\xd8\xff", "jpeg"),
    (b"II*\0", "tiff"),
    (b"MM\0*", "tiff"),
    (b"II+\0", "tiff"),
    (b"MM\0+", "tiff"),
    (b"fLaC", "flac"),
    (b"OggS", "ogg"),
    (b"\x1a\x45\xdf\xa3", "matroska"),
    (b"\xffBIOSEMI", "bdf"),
)
#: what a RIFF file holds; RIFX and RF64 are of sound only
_RIFF = {b"WAVE": "wav", b"WEBP": "webp", b"AVI ": "avi"}
#: brands of ISO media files that are pictures
_AVIF = (b"avif", b"avis")
_OTHER_PICTURES = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1", b"jpx ", b"crx ")

#: what is refused by its head even where a later part could be read
_REFUSED = (
    (b"\x7fELF", "a program (ELF)"),
    (b"MZ", "a program (PE)"),
    (b"\xca\xfe\xba\xbe", "a program (Java or Mach-O)"),
    (b"\xcf\xfa\xed\xfe", "a program (Mach-O)"),
    (b"\xce\xfa\xed\xfe", "a program (Mach-O)"),
    (b"\0asm", "a program (WebAssembly)"),
    (b"#!", "a script"),
    (b"\x80\x02", "a Python pickle"),
    (b"\x80\x03", "a Python pickle"),
    (b"\x80\x04", "a Python pickle"),
    (b"\x80\x05", "a Python pickle"),
    (b"\x89HDF\r\n\x1a\n", "HDF5"),
    (b"MATLAB ", "a MATLAB file"),
    (b"glTF", "a 3-D model (GLB)"),
    (b"%PDF", "PDF"),
    (b"%!PS", "PostScript"),
    (b"GIF8", "GIF"),
    (b"Rar!", "an archive (RAR)"),
    (b"7z\xbc\xaf", "an archive (7z)"),
    (b"\xfd7zXZ", "an archive (xz)"),
    (b"BZh", "an archive (bzip2)"),
    (b"\x28\xb5\x2f\xfd", "an archive (zstd)"),
    (b"PK", "an empty or split archive"),
)
#: bytes that are inflated to see what a gzip file holds
_PEEK = 1024
#: bytes that are looked at to see whether it is text
_TEXT = 4096
_PRINTABLE = frozenset(range(32, 127)) | {9, 10, 13} | frozenset(range(128, 256))


def recognise(data: bytes, label: str) -> str:
    """The kind of a file, a key of ``TITLES``.

    Args:
        data: the whole file.
        label: what to call it in a message.

    Raises:
        RejectedUpload: 415, it is of no such kind.
    """
    for magic, kind in _HEADS:
        if data.startswith(magic):
            return kind
    found = _container(data) or _signal_or_volume(data)
    if found:
        return found
    for magic, what in _REFUSED:
        if data.startswith(magic):
            raise _refused(label, what)
    if data[:2] == b"\x1f\x8b":
        return _inside_gzip(data, label)
    if is_dicom(data):
        return "dicom"
    if data[:2] == b"BM" and len(data) > 26 and struct.unpack_from("<I", data, 14)[0] in (12, 40, 52, 56, 64, 108, 124):
        return "bmp"
    return _text(data, label)


def is_nifti(start: bytes) -> bool:
    """Whether these first bytes (348 or more) are those of a NIfTI-1 or NIfTI-2 file that holds its own voxels."""
    if len(start) < 348:
        return False
    sizes = {struct.unpack_from(f"{order}i", start)[0] for order in "<>"}
    return (348 in sizes and start[344:348] == b"n+1\0") or (540 in sizes and start[4:8] == b"n+2\0")


def is_dicom(start: bytes) -> bool:
    """Whether these first bytes are those of a DICOM file; the 128 before the mark may be anything that is not refused."""
    return start[128:132] == b"DICM" and not any(start.startswith(magic) for magic, _ in _REFUSED)


def _container(data: bytes) -> str | None:
    if data[:4] in (b"RIFF", b"RIFX", b"RF64"):
        kind = _RIFF.get(data[8:12])
        return kind if kind == "wav" or data[:4] == b"RIFF" else None
    if data[4:8] != b"ftyp":
        return None
    brand = data[8:12]
    if brand in _AVIF or (brand == b"mif1" and b"avif" in data[16:64]):
        return "avif"
    return None if brand in _OTHER_PICTURES else "mp4"


def _signal_or_volume(data: bytes) -> str | None:
    if is_nifti(data[:348]):
        return "nifti"
    if data[:8] == b"0       " and data[252:256].strip().isdigit():
        return "edf"
    return None


def _inside_gzip(data: bytes, label: str) -> str:
    try:
        start = zlib.decompressobj(wbits=31).decompress(data[: 1 << 16], _PEEK)
    except zlib.error as error:
        raise RejectedUpload(f"{label}: is damaged gzip ({error}). Compress it anew.") from error
    if is_nifti(start):
        return "nifti_gz"
    raise _refused(label, "gzip of something else than NIfTI")


def _text(data: bytes, label: str) -> str:
    start = data[:_TEXT].removeprefix(b"\xef\xbb\xbf")
    if not _PRINTABLE.issuperset(start):
        raise _refused(label, "of no known kind")
    stripped = start.lstrip()
    if stripped[:1] in (b"{", b"["):
        return "json"
    if stripped[:1] == b"<":
        raise _refused(label, "HTML, SVG or other XML")
    first, newline, _ = stripped.partition(b"\n")
    if not (newline or len(data) > _TEXT) or not any(mark in first for mark in (b",", b";", b"\t")):
        raise _refused(label, "text, but neither JSON nor a table")
    return "csv"


def _refused(label: str, what: str) -> RejectedUpload:
    return RejectedUpload(f"{label}: is {what}. Taken are: {', '.join(TITLES.values())}.", NOT_TAKEN)
