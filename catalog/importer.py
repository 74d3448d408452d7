"""The form of an importer: files in, samples out.

An importer is one file that makes one :class:`Importer`, named by an entry point of the group ``sensorium.importers``.
It works in two steps. ``plan`` looks at names and headers only and yields one cheap, picklable :class:`Item` per sample;
``read`` decodes one item. The parting gives dry runs, resumption (items whose id is in the data set are never decoded),
decoding in parallel, and one bad file that does not spoil the others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sensorium.catalog.fields import Field

__all__ = ["GROUP", "Importer", "Item", "Source", "suffix"]

GROUP = "sensorium.importers"


@dataclass(frozen=True)
class Source:
    """What is to be imported.

    Attributes:
        path: a file or a folder.
        options: ``--set key=value`` of the command line, for the importer to read.
    """

    path: Path
    options: Mapping[str, str] = field(default_factory=dict)

    def files(self, suffixes: frozenset[str]) -> list[Path]:
        """The source itself, or all files below it, whose suffix (lower case, such as ``.png``) is wanted; sorted."""
        if self.path.is_file():
            return [self.path] if suffix(self.path) in suffixes else []
        return sorted(path for path in self.path.rglob("*") if suffix(path) in suffixes and path.is_file())

    def identifier(self, path: Path) -> str:
        """A sample id for ``path``: its place below the source, without suffix, with ``/`` between folders."""
        place = path.relative_to(self.path) if self.path.is_dir() else Path(path.name)
        text = place.as_posix()
        return text[: len(text) - len(suffix(path))] or text


@dataclass(frozen=True)
class Item:
    """One sample to be. It goes to the process that reads it: nothing but these fields does, so do not derive from it.

    Attributes:
        id: the sample's id.
        paths: the files that it is made from, the main one first; errors name it.
        scalars: values known without decoding, such as a label from a folder's name.
        place: what ``read`` needs to know of where in its files the sample is, or of the source as a whole; numbers, texts,
            and lists and mappings of such.
    """

    id: str
    paths: tuple[Path, ...]
    scalars: Mapping[str, Any] = field(default_factory=dict)
    place: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Importer:
    """A file format, or a usual layout of files.

    Attributes:
        name: as in ``--format``.
        title: for people.
        modality: of the data set that it makes.
        matches: how sure it is (0 to 1) that the source is its own, by content; must be quick.
        plan: yields the items of a source. Raises ``UnreadableFile`` if the source as a whole cannot be read.
        read: decodes one item to a sample (without ``id``). Raises ``UnreadableFile`` naming file, reason and remedy.
        attributes: what holds for the whole data set, such as the names of variables.
        fields: declarations beyond the modality's own.
        options: the keys of ``--set`` that it understands, with their meaning.
        modality_of: the modality of a source, where that is not always the same; ``modality`` is the usual one then.
        guarded: whether ``read`` runs native decoders, which a hostile file may crash or hang; such are never run in the
            user's own process.
        plans_guarded: whether ``plan``, ``fields`` and ``attributes`` run such decoders, too.
    """

    name: str
    title: str
    modality: str
    matches: Callable[[Source], float]
    plan: Callable[[Source], Iterator[Item]]
    read: Callable[[Item, Mapping[str, str]], dict[str, Any]]
    attributes: Callable[[Source], dict[str, Any]] | None = None
    fields: Callable[[Source], tuple[Field, ...]] | None = None
    options: Mapping[str, str] = field(default_factory=dict)
    modality_of: Callable[[Source], str] | None = None
    guarded: bool = True
    plans_guarded: bool = False

    def makes(self, source: Source) -> str:
        """Modality of the data set that it makes of ``source``."""
        return self.modality if self.modality_of is None else self.modality_of(source)


def suffix(path: Path) -> str:
    """Lower-case suffix of ``path``; ``.nii.gz`` and the like as one."""
    suffixes = [suffix.lower() for suffix in path.suffixes[-2:]]
    if len(suffixes) == 2 and suffixes[1] == ".gz":
        return "".join(suffixes)
    return suffixes[-1] if suffixes else ""
