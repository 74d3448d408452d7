"""What importers of files share: finding them, naming them, guessing whose they are, saying what is wrong with one."""

from __future__ import annotations

import functools
import itertools
import os
import re
import weakref
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TypeVar

from sensorium.catalog.importer import Source, suffix
from sensorium.platform.errors import InvalidSetting, UnreadableFile

__all__ = ["head", "identifiers", "number", "once", "places", "probe", "stem", "suffix", "unreadable", "visible"]

#: files that may lie beside those of any importer, and say nothing of whose folder it is
_SIDECARS = frozenset(
    {
        "",
        ".csv",
        ".csv.gz",
        ".db",
        ".html",
        ".ini",
        ".json",
        ".jsonl",
        ".md",
        ".parquet",
        ".pdf",
        ".rst",
        ".toml",
        ".tsv",
    }
    | {".tsv.gz", ".txt", ".xml", ".yaml", ".yml"}
)
_PROBED = 8
_WALKED = 2000
#: folders that archivers leave behind
_DEBRIS = frozenset(("__MACOSX", "__pycache__"))

Found = TypeVar("Found")


def once(find: Callable[[Source], Found]) -> Callable[[Source], Found]:
    """``find``, which is run once for each source and kept as long as that source is.

    An importer is asked for the plan, the fields and the attributes of one source, and all come from the same files and
    tables. What is found is shared: do not change it.
    """
    kept: dict[int, Found] = {}  # by identity: the options of a source are a mapping, so that it has no hash

    @functools.wraps(find)
    def found(source: Source) -> Found:
        if id(source) not in kept:
            kept[id(source)] = find(source)
            weakref.finalize(source, kept.pop, id(source), None)
        return kept[id(source)]

    return found


def unreadable(path: Path, reason: object, remedy: str) -> UnreadableFile:
    """The error for a file that cannot be decoded: which, why, and what to do."""
    return UnreadableFile(f"{path}: {' '.join(str(reason).split()).rstrip('.')}. {remedy}")


def stem(path: Path) -> str:
    """Name of ``path`` without its suffix."""
    return path.name[: len(path.name) - len(suffix(path))] or path.name


def places(source: Source, paths: Iterable[Path]) -> dict[Path, str]:
    """Where each path is below the source, with ``/`` between folders; its name where the source is that file."""
    root = source.path if source.path.is_dir() else source.path.parent
    return {path: path.relative_to(root).as_posix() for path in paths}


def visible(source: Source, suffixes: frozenset[str]) -> list[Path]:
    """The files of the source with these suffixes, sorted, without hidden ones; a source that is a file is all of it.

    Raises:
        UnreadableFile: there is no such path, or no such file below it.
    """
    if source.path.is_file():
        return [source.path]
    if not source.path.exists():
        raise unreadable(source.path, "there is no such file or folder", "Check the path.")
    where = places(source, source.files(suffixes))
    files = [path for path, place in where.items() if not _is_hidden(place.split("/"))]
    if not files:
        wanted = " ".join(sorted(suffixes))
        raise unreadable(source.path, f"no file below it ends in {wanted}", "Name the folder that holds the files.")
    return files


def _is_hidden(parts: Iterable[str]) -> bool:
    return any(part.startswith(".") or part in _DEBRIS for part in parts)


def identifiers(source: Source, paths: Iterable[Path]) -> dict[Path, str]:
    """The sample id of each path: its place without suffix, or with it where two files differ in nothing else."""
    where = places(source, paths)
    short = {path: place[: len(place) - len(path.name)] + stem(path) for path, place in where.items()}
    counts = Counter(short.values())
    return {path: name if counts[name] == 1 else where[path] for path, name in short.items()}


def head(path: Path, count: int) -> bytes:
    """The first ``count`` bytes of ``path``, fewer where it is shorter, none where it cannot be read."""
    try:
        with path.open("rb") as stream:
            return stream.read(count)
    except OSError:
        return b""


def probe(source: Source, suffixes: frozenset[str], is_mine: Callable[[Path], float | None]) -> float:
    """How sure (0 to 0.9) an importer of ``suffixes`` is of a source; ``is_mine`` judges one file's content, 0 to 1.

    Of a folder, up to eight files are judged; files of foreign suffixes lower the result.
    """
    if source.path.is_file():
        return 0.9 * (is_mine(source.path) or 0.0)
    if not source.path.is_dir():
        return 0.0
    wanted: list[Path] = []
    foreign = 0
    for path, ending in _listing(source):
        if ending in suffixes:
            wanted.append(path)
        elif ending not in _SIDECARS:
            foreign += 1
    if not wanted:
        return 0.0
    judged = [is_mine(path) for path in wanted[:: max(1, len(wanted) // _PROBED)][:_PROBED]]
    marks = [mark for mark in judged if mark is not None]
    share = sum(marks) / max(1, len(marks))
    return 0.9 * share * len(wanted) / (len(wanted) + foreign)


@once
def _listing(source: Source) -> list[tuple[Path, str]]:
    """Files below a source with their suffixes, up to a number: walked once for all importers that are asked."""
    return [(path, suffix(path)) for path in itertools.islice(_walk(source.path), _WALKED)]


def _walk(folder: Path) -> Iterator[Path]:
    """Visible files below ``folder``, one at a time: a probe must not list a million."""
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not _is_hidden((name,)))
        yield from (Path(parent, name) for name in sorted(names) if not name.startswith("."))


def number(options: Mapping[str, str], key: str, default: float) -> float:
    """The option ``key`` as a number above zero.

    Raises:
        InvalidSetting: it is none.
    """
    text = options.get(key)
    if text is None:
        return default
    value = float(text) if re.fullmatch(r"\s*\d*\.?\d+([eE][+-]?\d+)?\s*", text) else 0.0
    if value <= 0:
        raise InvalidSetting(f"{key} must be a number above 0; got {text!r}.")
    return value
