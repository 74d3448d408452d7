"""Data folders of Kaldi: sounds in ``wav.scp``, and tables of who speaks, what, and where in them.

The source is such a folder, or holds several (``train``, ``test``). With ``segments`` every line of it is a sample, cut
when it is read; without it every recording is. Ids are those of the tables, with the data folder before them where there
are several. Sounds become ``audio`` and ``sampling_rate`` as in :mod:`.audio_files`; ``text``, ``speaker`` (``utt2spk``) and
``gender`` (``spk2gender``) are as the tables have them, ``recording`` is the recording's name, ``start`` and ``stop`` (s)
where its part begins and ends; ``split`` comes from the folder's name.

A line of ``wav.scp`` may be a command that ends in ``|``. Commands are never run: such a line is an error.
Source of the layout: https://kaldi-asr.org/doc/data_prep.html.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from sensorium.catalog.fields import Field, ScalarField
from sensorium.catalog.importer import Importer, Item, Source
from sensorium.catalog.importers import _utterances
from sensorium.catalog.importers._files import head, once, unreadable
from sensorium.catalog.importers._folders import from_folders
from sensorium.catalog.importers._text import lines

__all__ = ["importer"]

_SOUNDS = "wav.scp"
#: data folders lie at most so deep below the source
_DEPTH = 3
_FIELDS: tuple[Field, ...] = (
    ScalarField("text", pa.string(), description="what is spoken"),
    ScalarField("speaker", pa.string(), description="who speaks"),
    ScalarField("gender", pa.string(), description="of the speaker: m or f"),
    ScalarField("recording", pa.string(), description="name of the recording that this is, or is a part of"),
    ScalarField("start", pa.float64(), unit="s", minimum=0, description="of the part of the recording"),
    ScalarField("stop", pa.float64(), unit="s", minimum=0, description="of the part of the recording"),
    ScalarField("split", pa.string(), description="from the name of the data folder"),
)
_SECONDS = re.compile(r"-1|\d+(\.\d*)?|\.\d+")


@once
def _tables(source: Source) -> list[Path]:
    """The ``wav.scp`` of all data folders."""
    if source.path.is_file():
        return [source.path] if source.path.name == _SOUNDS else []
    found = [path for depth in range(_DEPTH) for path in source.path.glob("*/" * depth + _SOUNDS)]
    return sorted(path for path in found if path.is_file())


def _matches(source: Source) -> float:
    tables = _tables(source)
    if not tables:
        return 0.0
    try:
        first = head(tables[0], 4096).decode("utf-8").partition("\n")[0]
    except UnicodeDecodeError:
        return 0.0
    return 0.95 if len(first.split(maxsplit=1)) == 2 else 0.0  # surer than importers of the sounds that it names


def _table(path: Path, *, required: bool = False) -> dict[str, tuple[int, str]]:
    """Key -> (number of the line, rest of the line); an absent table is empty unless it is required.

    Raises:
        UnreadableFile: a line has no key, or the key of another.
    """
    if not required and not path.is_file():
        return {}
    found: dict[str, tuple[int, str]] = {}
    for number, line in enumerate(lines(path), start=1):
        key, *rest = line.split(maxsplit=1)[:2] or [""]
        if not key:
            continue
        if key in found:
            raise unreadable(path, f"line {number}: {key!r} is there twice", "Name everything once.")
        found[key] = (number, rest[0].strip() if rest else "")
    return found


def _plan(source: Source) -> Iterator[Item]:
    if not source.path.exists():
        raise unreadable(source.path, "there is no such file or folder", "Check the path.")
    tables = _tables(source)
    if not tables:
        raise unreadable(source.path, f"has no {_SOUNDS} in it or in folders below it", "Name Kaldi's data folder.")
    root = _utterances.root_of(source)
    top = source.path if source.path.is_dir() else source.path.parent
    _, splits = from_folders({path: f"{path.parent.relative_to(top).as_posix()}/x" for path in tables}, "none")
    for path in tables:
        prefix = f"{path.parent.relative_to(top).as_posix()}/" if len(tables) > 1 else ""
        yield from _folder(path, root, prefix, splits[path])


def _folder(table: Path, root: Path, prefix: str, scalars: dict[str, Any]) -> Iterator[Item]:
    """The utterances of one data folder."""
    sounds = _sounds(table, root)
    texts, speakers, genders = (_table(table.with_name(name)) for name in ("text", "utt2spk", "spk2gender"))
    segments = table.with_name("segments")
    parts = _segments(segments, set(sounds)) if segments.is_file() else {name: (name, 0.0, None) for name in sounds}
    if not parts:
        raise unreadable(table, "names no recording", "Leave the folder out.")
    for name, (recording, start, stop) in parts.items():
        known: dict[str, Any] = {**scalars, "recording": recording}
        if name in texts:
            known["text"] = texts[name][1]
        if name in speakers:
            known["speaker"] = speakers[name][1]
            known["gender"] = genders.get(known["speaker"], (0, None))[1]
        if segments.is_file():
            known.update(start=start, stop=stop)
        known = {key: value for key, value in known.items() if value is not None}
        yield Item(prefix + name, (sounds[recording],), known, {"start": start, "stop": stop})


def _sounds(table: Path, root: Path) -> dict[str, Path]:
    """Recording -> its file."""
    found = {}
    for name, (number, text) in _table(table, required=True).items():
        if text.endswith("|"):
            problem = f"line {number}: recording {name!r} is made by a command, which is never run"
            raise unreadable(table, problem, "Run it yourself, and name the file that it made.")
        found[name] = _utterances.located(root, text, table, number)
    return found


def _segments(path: Path, recordings: set[str]) -> dict[str, tuple[str, float, float | None]]:
    """Utterance -> (recording, start, stop in s); an end of -1 is that of the recording."""
    found: dict[str, tuple[str, float, float | None]] = {}
    for name, (number, text) in _table(path, required=True).items():
        cells = text.split()
        if len(cells) != 3 or not all(_SECONDS.fullmatch(cell) for cell in cells[1:]):
            problem = f"line {number}: {text!r} is not a recording, a start and an end in seconds"
            raise unreadable(path, problem, "Mend the line.")
        start, stop = float(cells[1]), float(cells[2])
        if cells[0] not in recordings:
            raise unreadable(path, f"line {number}: {_SOUNDS} has no recording {cells[0]!r}", "Mend the line.")
        if start < 0 or -1 != stop <= start:
            raise unreadable(path, f"line {number}: a part from {start:g} s to {stop:g} s is none", "Mend the line.")
        found[name] = (cells[0], start, None if stop == -1 else stop)
    return found


def _fields(_source: Source) -> tuple[Field, ...]:
    return _FIELDS


importer = Importer(
    name="kaldi",
    title="Kaldi data folders (wav.scp, segments, text, utt2spk)",
    modality="audio",
    matches=_matches,
    plan=_plan,
    read=_utterances.read,
    fields=_fields,
    options=_utterances.OPTIONS,
)
