"""WebDataset: tar shards (``.tar``, ``.tar.gz``, ``.tgz``) in which members of one key, ``KEY.EXTENSION``, are a sample.

The key is the member's place up to the first dot of its name, and the sample's id. Of the extension the last part says what
the member is, and what comes before it, which field: ``a.png`` is the modality's picture, ``a.mask.png`` the mask. Pictures,
sound, videos and ``.npy`` arrays are decoded as the importers of such files do. ``.json`` objects become scalars, ``.cls`` the
scalar ``label`` (a whole number, else text), ``.txt`` a scalar ``text``, or that of the field's name. A key ``id`` of an object
becomes ``metadata_id``. ``.pyd``, ``.pickle``, ``.pth`` and their like are refused, and so are extensions that are not known,
unless ``skip`` names them.

The modality is that of the option, or that whose arrays the first sample has. Planning reads headers of members only; of a
compressed shard everything before them has to be unpacked. A shard that is cut off or holds links, devices or names that lead
out of it is refused where that begins.
"""

from __future__ import annotations

import functools
import json
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from sensorium.catalog import modality as modalities
from sensorium.catalog.fields import Field
from sensorium.catalog.importer import Importer, Item, Source
from sensorium.catalog.importers import _embedded, _metadata, _modalities, _tar
from sensorium.catalog.importers._files import number, once, places, probe, unreadable, visible
from sensorium.platform.errors import InvalidSetting, UnreadableFile

__all__ = ["importer"]

_SUFFIXES = frozenset((".tar", ".tar.gz", ".tgz"))
_TEXTS = {"json": "", "cls": "label", "txt": "text", "text": "text", "caption": "caption", "index": "index"}
_MAX_BYTES = 1e9
_PROBED = 8
_EXPORT = "Write the shard anew, or leave it out."


def _split(name: str) -> tuple[str, str]:
    """Key and extension of a member."""
    folder, slash, base = name.rpartition("/")
    key, _, extension = base.partition(".")
    return folder + slash + key, extension


def _is_shard(path: Path) -> float:
    if not _tar.is_tar(path):
        return 0.0
    try:
        first = [member for member, _ in zip(_tar.members(path), range(_PROBED), strict=False)]
    except UnreadableFile:
        return 0.5  # an archive, if a bad one
    known = [_split(member.name)[1] for member in first]
    return 1.0 if any(_role(extension) for extension in known) else 0.0


def _matches(source: Source) -> float:
    return probe(source, _SUFFIXES, _is_shard)


def _role(extension: str) -> str:
    """``image``, ``audio``, ``video``, ``array`` or ``text``; empty for what is not known."""
    last = extension.rpartition(".")[2].lower()
    return "text" if last in _TEXTS else _embedded.kind_of_suffix(f".{last}")


def _field(extension: str, modality: str) -> str:
    """The field that a member is."""
    before, _, last = extension.rpartition(".")
    role = _role(extension)
    if before:
        return before.replace(".", "_")
    return _TEXTS[last.lower()] if role == "text" else _embedded.main_field(modality, role)


@once
def _samples(source: Source) -> dict[str, tuple[Path, list[_tar.Member], str]]:
    """Shard, members and problem of each sample; a shard's problem is that of the sample where it breaks."""
    mode = source.options.get("id", "key")
    if mode not in ("key", "shard"):
        raise InvalidSetting(f"id must be key or shard; got {mode!r}.")
    found: dict[str, tuple[Path, list[_tar.Member], str]] = {}
    for path, place in places(source, visible(source, _SUFFIXES)).items():
        shard = place.removesuffix(".gz").rpartition(".")[0] or place
        last = ""
        try:
            for member in _tar.members(path):
                key, extension = _split(member.name)
                if not extension or not key.rpartition("/")[2]:  # a note beside the samples, or a hidden file
                    continue
                name = f"{shard}/{key}" if mode == "shard" else key
                if name in found and last != name:
                    where = f"there and in {found[name][0].name}" if found[name][0] != path else "in two places of it"
                    remedy = "Say id=shard, or write the members of a sample one after another."
                    raise unreadable(path, f"the key {key!r} is {where}", remedy)
                found.setdefault(name, (path, [], ""))[1].append(member)
                last = name
        except UnreadableFile as error:
            # of the sample where it breaks, further members may have followed
            found[last or f"{place} (shard)"] = (path, [], str(error))
    return found


@once
def _modality(source: Source) -> str:
    if "modality" in source.options:
        return modalities.get(source.options["modality"]).name
    _, members, _ = next((one for one in _samples(source).values() if one[1]), (None, [], ""))
    bare = {"image": "image", "audio": "audio", "video": "encoded"}
    names = set()
    for extension in (_split(member.name)[1] for member in members):
        before, role = extension.rpartition(".")[0], _role(extension)
        if role and role != "text":
            names.add(before.replace(".", "_") or bare.get(role, "array"))
    found = _modalities.guessed(names)
    if len(found) != 1:
        says = (
            f"the first sample has {', '.join(_split(member.name)[1] for member in members)}"
            if members
            else "no sample"
        )
        raise unreadable(source.path, f"which modality is it? ({says})", "Say modality=NAME.")
    return found[0]


@once
def _known(source: Source) -> _metadata.Known:
    owners = {name: path for name, (path, _, _) in _samples(source).items()}
    return _metadata.known(source, owners, tuple(modalities.get(_modality(source)).arrays), label="none")


def _plan(source: Source) -> Iterator[Item]:
    rows, modality = _known(source).rows, _modality(source)
    for name, (path, members, problem) in _samples(source).items():
        yield Item(
            name,
            (path,),
            rows[name],
            {"members": [list(member) for member in members], "problem": problem, "modality": modality},
        )


def _fields(source: Source) -> tuple[Field, ...]:
    return _known(source).fields()


def _read(item: Item, options: Mapping[str, str]) -> dict[str, Any]:
    path = item.paths[0]
    if item.place["problem"]:
        raise UnreadableFile(str(item.place["problem"]))
    members = [_tar.Member(*member) for member in item.place["members"]]
    skipped = {f".{text.strip().lstrip('.')}" for text in options.get("skip", "").split(",") if text.strip()}
    members = [member for member in members if not f".{_split(member.name)[1]}".endswith(tuple(skipped))]
    for member in members:
        ending = "." + member.name.rpartition(".")[2].lower()
        if ending in _embedded.PICKLES:
            problem = f"{member.name!r} is a pickle, which may run anything and is never read"
            raise unreadable(path, problem, f"Write it as .npy or .json, or say skip={ending[1:]}.")
        if not _role(_split(member.name)[1]):
            raise unreadable(path, f"{member.name!r} is of an unknown kind", f"Leave such out with skip={ending[1:]}.")
    limit, size = number(options, "max_bytes", _MAX_BYTES), sum(member.size for member in members)
    if size > limit:
        problem = f"sample {item.id!r} has {size} bytes, more than the limit of {limit:g}"
        raise unreadable(path, problem, f"If it is real, raise the limit with max_bytes={size}.")
    arrays: dict[str, Any] = {}
    scalars: dict[str, Any] = {}
    for member in members:
        content, extension = _content(path, member), _split(member.name)[1]
        field, role = _field(extension, str(item.place["modality"])), _role(extension)
        if role == "text":
            scalars |= _scalars(path, member.name, content, extension, field)
        elif field in arrays:
            raise unreadable(path, f"{member.name!r} is a second {field}", f"Leave one out with skip={extension}.")
        else:
            arrays |= _embedded.decoded(path, member.name, content, role, field)
    sample = {**scalars, **item.scalars, **arrays}
    _embedded.check_whole(path, f"sample {item.id!r}", str(item.place["modality"]), sample)
    return sample


def _content(path: Path, member: _tar.Member) -> bytes:
    try:
        if path.suffix.lower() == ".tar":
            with path.open("rb") as file:
                file.seek(member.offset)
                content = file.read(member.size)
        else:
            stream = _unpacked(path, path.stat().st_mtime_ns)
            stream.seek(member.offset)
            content = stream.read(member.size)
    except (OSError, EOFError, zlib.error) as error:
        _unpacked.cache_clear()
        raise unreadable(path, f"{member.name!r} cannot be read ({error})", _EXPORT) from error
    if len(content) < member.size:
        raise unreadable(path, f"{member.name!r} has {member.size} bytes, of which {len(content)} are there", _EXPORT)
    return content


@functools.lru_cache(maxsize=1)
def _unpacked(path: Path, changed: int) -> IO[bytes]:  # noqa: ARG001 - a file that was written anew is opened anew
    """A compressed shard, kept open: samples come in its order, and going forward is cheap."""
    return _tar.opened(path)


def _scalars(path: Path, name: str, content: bytes, extension: str, field: str) -> dict[str, Any]:
    try:
        text = content.decode("utf-8-sig")
        if not extension.lower().endswith("json"):
            kept = text.strip()
            whole = extension.lower().rpartition(".")[2] in ("cls", "index") and kept.lstrip("-").isdecimal()
            return {field: int(kept) if whole and len(kept) < 18 else kept}
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise unreadable(path, f"{name!r} cannot be read ({error})", _EXPORT) from error
    if not isinstance(values, dict):
        values = {field or "json": values}
    told = {_embedded.field_name(key): value for key, value in values.items() if key != "id"}
    return _embedded.plain({"metadata_id": values.get("id"), **told})


importer = Importer(
    name="webdataset",
    title="WebDataset shards (.tar, .tar.gz)",
    modality="image",
    modality_of=_modality,
    matches=_matches,
    plan=_plan,
    read=_read,
    fields=_fields,
    options={
        "modality": "of the samples (default: the one whose arrays the first sample has)",
        "id": "key (default), or shard: ids begin with the shard's name, where shards have the same keys",
        "skip": "extensions to leave out, parted by commas, such as pyd,thumb.jpg",
        "max_bytes": f"refuse samples whose members have more (default {_MAX_BYTES:.0f})",
        **_metadata.FILE_OPTIONS,
    },
)
