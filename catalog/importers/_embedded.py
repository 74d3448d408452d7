"""Files within files: pictures, sound, videos and NumPy arrays in the members of archives and the cells of tables.

They are decoded by the importers of such files, with their limits and refusals; pickles are refused by name.
"""

from __future__ import annotations

import io
import json
import math
import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sensorium.catalog import modality as modalities
from sensorium.catalog.fields import check_name
from sensorium.catalog.importer import Item
from sensorium.catalog.importers import audio_files, image_folder, videos
from sensorium.catalog.importers._files import unreadable
from sensorium.platform.errors import InvalidName, UnreadableFile

__all__ = [
    "PICKLES",
    "array",
    "check_whole",
    "decoded",
    "field_name",
    "kind_of",
    "kind_of_suffix",
    "main_field",
    "plain",
]

Array = npt.NDArray[Any]

_KINDS = {
    **dict.fromkeys((".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp", ".bmp"), "image"),
    **dict.fromkeys((".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".au"), "audio"),
    **dict.fromkeys((".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi"), "video"),
    ".npy": "array",
}
#: formats that run what they hold
PICKLES = frozenset((".pyd", ".pickle", ".pkl", ".pth", ".pt", ".joblib", ".dill"))
_MARKS = ("mask", "masks", "labels", "change")
_SAVE = "Save plain arrays with numpy.save."


def kind_of_suffix(ending: str) -> str:
    """``image``, ``audio``, ``video`` or ``array`` by a lower-case suffix such as ``.png``; empty for none."""
    return _KINDS.get(ending, "")


def kind_of(content: bytes) -> str:
    """The same by the first bytes of a file."""
    start = bytes(content[:16])
    if start.startswith(b"\x93NUMPY"):
        return "array"
    if start.startswith((b"\x89PNG", b"\xff\xd8\xff", b"II*\0", b"MM\0*", b"BM", b"GIF8")):
        return "image"
    if start[:4] == b"RIFF":
        return {b"WAVE": "audio", b"WEBP": "image", b"AVI ": "video"}.get(start[8:12], "")
    if start.startswith((b"fLaC", b"OggS", b"ID3", b"FORM", b"\xff\xfb", b"\xff\xf3", b"\xff\xf2")):
        return "audio"
    return "video" if start[4:8] == b"ftyp" or start[:4] == b"\x1a\x45\xdf\xa3" else ""


def main_field(modality: str, kind: str) -> str:
    """The field that a file of this kind is, where nothing else says so."""
    arrays = modalities.get(modality).arrays
    if kind == "video":
        return "encoded"
    return kind if kind in arrays else next((name for name, field in arrays.items() if field.required), kind)


def decoded(owner: Path, member: str, content: bytes, kind: str, field: str) -> dict[str, Any]:
    """The fields of a sample that the file ``content`` gives; ``member`` names it within ``owner``, for messages.

    Raises:
        UnreadableFile: it cannot be decoded.
    """
    if kind == "array":
        return {field: array(owner, member, content)}
    with _as_file(owner, member, content) as path:
        if kind == "image":
            convert = image_folder.as_mask if field in _MARKS else image_folder.as_picture
            return {field: image_folder.decode(path, image_folder.MAX_PIXELS, convert)}
        importer = audio_files.importer if kind == "audio" else videos.importer
        sample = importer.read(Item(member, (path,)), {})
    return {
        field if name == ("audio" if kind == "audio" else "encoded") else name: value for name, value in sample.items()
    }


@contextmanager
def _as_file(owner: Path, member: str, content: bytes) -> Iterator[Path]:
    """``content`` as a file for decoders that want one; what they say of it is said of the member."""
    with tempfile.TemporaryDirectory(prefix="sensorium-") as folder:
        path = Path(folder, "member")
        path.write_bytes(content)
        try:
            yield path
        except UnreadableFile as error:
            raise UnreadableFile(str(error).replace(str(path), f"{owner}: {member}")) from error


def array(owner: Path, member: str, content: bytes) -> Array:
    """A ``.npy`` file, once its header agrees with its length; nothing is unpickled.

    Raises:
        UnreadableFile: it is none.
    """
    stream = io.BytesIO(content)
    try:
        version = np.lib.format.read_magic(stream)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, kind = read(stream)
        if kind.hasobject:
            raise unreadable(owner, f"{member} holds Python objects, which are never unpickled", _SAVE)
        claimed, there = math.prod(shape) * kind.itemsize, len(content) - stream.tell()
        if claimed != there or kind.kind not in "biufc":
            raise unreadable(owner, f"{member}: its header claims {claimed} bytes of {kind}, {there} are there", _SAVE)
        stream.seek(0)
        values = np.load(stream, allow_pickle=False)
    except (ValueError, EOFError, OverflowError) as error:
        if isinstance(error, UnreadableFile):
            raise
        raise unreadable(owner, f"{member} is no NumPy array ({error})", _SAVE) from error
    return np.ascontiguousarray(values.astype(values.dtype.newbyteorder("="), copy=False))


def check_whole(owner: Path, where: str, modality: str, sample: Mapping[str, Any]) -> None:
    """Refuse a sample without an array that its modality needs; ``where`` names it within ``owner``.

    Raises:
        UnreadableFile: it lacks one.
    """
    required = [name for name, field in modalities.get(modality).arrays.items() if field.required]
    missing = next((name for name in required if name not in sample), None)
    if missing is not None:
        problem = f"{where} has no {missing}, which a sample of modality {modality} needs"
        raise unreadable(owner, problem, "Add it, or leave the sample out.")


def field_name(name: str) -> str:
    """The field that a column or key becomes; one called ``id`` is another thing than the sample's id."""
    try:
        good = check_name(name, "field")
    except InvalidName:
        letters = re.sub(r"[^A-Za-z0-9]+", "_", name).strip("_")[:100]
        good = check_name(letters if re.match("[A-Za-z]", letters) else f"column_{letters}".rstrip("_"), "field")
    return "metadata_id" if good == "id" else good


def plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values of JSON as scalars: objects and lists of several types as JSON text, null left out."""
    return {name: _plain(value) for name, value in values.items() if value is not None}


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        kinds = {type(part) for part in value}
        if kinds in ({str}, {int}, {float}, {bool}) or kinds == {int, float}:
            return [float(part) for part in value] if kinds == {int, float} else value
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict) else value
