"""Importing files: plan, skip what is there, read groups of the rest where it does no harm, land them, report.

Readers (:mod:`.readers`) decode, check and write payload; here rows become visible, a batch at a time.
"""

from __future__ import annotations

import logging
import os
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from sensorium.catalog import readers
from sensorium.catalog.declaration import Declaration
from sensorium.catalog.importer import GROUP, Importer, Item, Source
from sensorium.catalog.landing import Landing
from sensorium.catalog.readers import Lost, Reader
from sensorium.catalog.reading import NO_ROWS, Failure, Group, Read, declared
from sensorium.catalog.table import CommitNote
from sensorium.platform import plugins
from sensorium.platform.errors import InvalidSetting, MissingDependency, UnknownPlugin, UnreadableFile, UserError
from sensorium.platform.progress import progress

if TYPE_CHECKING:
    from sensorium.catalog.dataset import Dataset
    from sensorium.catalog.lake import Catalog

__all__ = ["IngestReport", "choose_importer", "ingest", "named_importer"]

logger = logging.getLogger(__name__)

#: so little work, of a reader that can do no harm, is done in this process
_FEW = 32
_THREADS = max(2, os.cpu_count() or 2)
#: groups under way for each reader: one is read, one waits
_AHEAD = 2
#: samples of a group, at least and at most, and bytes of their files
_GROUPS, _GROUP_BYTES = (64, 256), 16 << 20
#: groups of an import of few small samples; each is a fragment of payload
_SHARES = 8
#: an importer that is less sure than this does not claim a source
_SURE_ENOUGH = 0.3
_LISTED = "`sensorium catalog formats` lists them"


@dataclass
class IngestReport:
    """What an import did.

    Attributes:
        dataset: name of the data set.
        format: name of the importer.
        version: of the data set afterwards; None for a dry run.
        planned: samples found in the source.
        added: samples that are new in the data set.
        skipped: samples that were there already.
        failed: (file, reason) of each sample that could not be read or breaks a rule.
        dry_run: whether nothing was written.
    """

    dataset: str
    format: str
    version: int | None = None
    planned: int = 0
    added: int = 0
    skipped: int = 0
    failed: list[tuple[str, str]] = field(default_factory=list)
    dry_run: bool = False


def ingest(
    catalog: Catalog,
    path: Path,
    dataset: str,
    format: str = "auto",  # noqa: A002 - the command line's name for it
    *,
    options: Mapping[str, str] | None = None,
    description: str = "",
    licence: str = "",
    strict: bool = False,
    dry_run: bool = False,
    batch: int = 256,
    workers: int = 0,
    on_ray: bool = False,
    seconds: float = 120.0,
    dedupe: bool = False,
) -> IngestReport:
    """Import the file or folder ``path`` into the data set ``dataset``, creating it if need be.

    Samples whose id is there already are skipped without being decoded, so that an import can be repeated or resumed. A file
    that cannot be read is reported and the others go in, also where it crashes or hangs its reader.

    Args:
        catalog: the lake.
        path: a file or a folder.
        dataset: name of the data set.
        format: name of an importer, or ``auto`` to find it by content.
        options: for the importer.
        description: of a data set that is created.
        licence: likewise.
        strict: stop at the first bad file instead; batches committed before stay.
        dry_run: find and count, write nothing.
        batch: samples a commit.
        workers: processes that read; 0 for as many as there are cores.
        on_ray: read in tasks of the Ray session that runs, on all its machines; they must see the files and the lake.
        seconds: that one sample may take where its reader can be ended.
        dedupe: an array that the data set has already, or that a group of samples read together has twice, is not written
            again.

    Raises:
        UnreadableFile: the path is not there, or no importer knows it.
        InvalidSetting: an option that the importer does not have, or a data set of another modality.
    """
    _check_settings(path, batch, workers, seconds)
    source = Source(path.absolute(), dict(options or {}))
    importer = _importer(source, format)
    count = workers or os.cpu_count() or 1
    items, about = _planned(importer, source, (dataset, description, licence), count)
    present = _present(catalog[dataset], items) if dataset in catalog else set()
    report = IngestReport(dataset, importer.name, planned=len(items), skipped=len(present), dry_run=dry_run)
    if dry_run:
        return report
    wanted = [item for item in items if item.id not in present]
    note = CommitNote("append", message=f"import of {path.name} as {importer.name}")
    landing = Landing(catalog, about or declared(importer, source, dataset, description, licence), batch, note)
    with _reader(importer, len(wanted), count, on_ray=on_ray) as reader:
        groups = _read(importer, wanted, source.options, landing, reader, batch, seconds, dedupe=dedupe)
        _land(groups, landing, report, len(wanted), strict=strict)
    return _closed(catalog, report, path)


def _closed(catalog: Catalog, report: IngestReport, path: Path) -> IngestReport:
    """The report with the version that the import made."""
    if report.dataset not in catalog:
        raise UnreadableFile(
            f"none of the {report.planned} samples in {path} can be read. The first: {report.failed[0][1]}"
        )
    report.version = catalog[report.dataset].version
    return report


def _check_settings(path: Path, batch: int, workers: int, seconds: float) -> None:
    if batch < 1 or workers < 0 or seconds <= 0:
        raise InvalidSetting(
            f"batch must be 1 or more, workers 0 or more, seconds above 0; got {batch}, {workers} and {seconds:g}."
        )
    if not path.exists():
        raise UnreadableFile(f"{path}: there is no such file or folder.")


def _planned(
    importer: Importer, source: Source, about: tuple[str, str, str], workers: int
) -> tuple[Sequence[Item], Declaration | None]:
    """The samples of a source; and, where that came from a process beside this one, the declaration of ``about``.

    ``about`` is the name, the description and the licence of the data set.
    """
    declaration: Declaration | None = None
    items: Iterable[Item]
    if importer.plans_guarded:
        items, declaration = _planned_beside(importer, source, about, workers)
    else:
        items = importer.plan(source)
    found = _unique(importer, items)
    if not found:
        raise UnreadableFile(
            f"{source.path}: importer {importer.name!r} finds no samples in it. Look at --format and at the layout."
        )
    return found, declaration


def _planned_beside(
    importer: Importer, source: Source, about: tuple[str, str, str], workers: int
) -> tuple[Sequence[Item], Declaration]:
    """Plan where it does no harm; the processes will read what was planned."""
    request = {
        **dict(zip(("dataset", "description", "licence"), about, strict=True)),
        "importer": importer.name,
        "path": str(source.path),
        "options": dict(source.options),
    }
    try:
        with readers.processes(workers) as reader:
            return reader.plan(request)
    except Lost as error:
        raise UnreadableFile(
            f"{source.path}: a file in it crashes the importer {importer.name!r} as it plans, or needs too much time or memory "
            f"({str(error).rstrip('.')}). Import its parts one by one, and leave out the one that does."
        ) from error


def _land(
    groups: Iterator[tuple[int, Read]], landing: Landing, report: IngestReport, total: int, *, strict: bool
) -> None:
    """Take what is read into the data set, and what cannot be into the report."""
    with progress(f"ingest {report.dataset}", total=total, unit="samples") as bar:
        for size, read in groups:
            for failure in read.failures.values():
                if strict:
                    raise failure.error()
                report.failed.append((failure.path, failure.message))
                bar.note(f"{len(report.failed)} failed")
                logger.info("%s", failure.message)
            landing.take(read)
            bar.advance(size)
        landing.land()
    report.failed += landing.refused
    report.added = landing.added


@contextmanager
def _reader(importer: Importer, samples: int, workers: int, *, on_ray: bool) -> Iterator[Reader]:
    """Where to read: not in this process, unless it cannot come to harm and the work is too little to share."""
    if on_ray:
        from sensorium.platform.session import ray_session
        from sensorium.platform.settings import Settings

        with ray_session(Settings.load()), readers.ray_tasks() as reader:
            yield reader
    elif samples <= _FEW and not importer.guarded:
        with readers.here(_THREADS) as reader:
            yield reader
    else:
        with readers.processes(workers) as reader:
            yield reader


def _read(
    importer: Importer,
    items: Sequence[Item],
    options: Mapping[str, str],
    landing: Landing,
    reader: Reader,
    batch: int,
    seconds: float,
    *,
    dedupe: bool,
) -> Iterator[tuple[int, Read]]:
    """What becomes of the items, group by group in their order, and how many were in each; read ahead of the writer."""
    if isinstance(reader, readers.Here):
        seconds = 0.0  # a thread of this process cannot be ended
    waiting = deque(_grouped(items, batch))
    running: deque[tuple[Sequence[Item], Future[Read]]] = deque()
    while waiting or running:
        while waiting and len(running) < _AHEAD * reader.at_once:
            part = waiting.popleft()
            group = Group(importer.name, options, tuple(part), landing.declaration, landing.storage, seconds, dedupe)
            running.append((part, reader.submit(group)))
        part, future = running.popleft()
        try:
            read = future.result()
        except Lost as error:
            if len(part) > 1:  # one of them is to blame, and the others are not
                waiting.extendleft([item] for item in reversed(part))
                continue
            read = Read(NO_ROWS, {0: _lost(importer, part[0], error)})
        if not landing.fits(read):
            # another sample brought the same field as something else meanwhile: read again, which is at odds is said by sample
            waiting.appendleft(part)
            continue
        yield len(part), read


def _lost(importer: Importer, item: Item, error: Lost) -> Failure:
    path = item.paths[0]
    return Failure(
        str(path),
        UnreadableFile.__name__,
        f"{path}: it crashes its reader, or takes too long or too much memory ({str(error).rstrip('.')}). Export it anew from "
        f"its source, leave it out, or allow more time with --seconds; format {importer.name}.",
    )


def _grouped(items: Sequence[Item], batch: int) -> Iterator[Sequence[Item]]:
    """Items in groups that take a moment to read and little memory."""
    part: list[Item] = []
    counted: set[Path] = set()  # samples of one table read it once
    size = 0
    most = min(batch, max(_GROUPS[0], min(_GROUPS[1], len(items) // _SHARES)))
    for item in items:
        part.append(item)
        new = [path for path in item.paths if path not in counted]
        size += sum(path.stat().st_size for path in new if path.exists())
        counted.update(new)
        if len(part) >= most or size >= _GROUP_BYTES:
            yield part
            part, size = [], 0
            counted.clear()
    if part:
        yield part


def choose_importer(source: Source) -> Importer:
    """The importer that is surest that ``source`` is its own.

    Raises:
        UnreadableFile: none is.
    """
    scores: list[tuple[float, Importer]] = []
    lacking: list[str] = []
    for importer in plugins.load_all(GROUP, Importer).values():
        try:
            scores.append((importer.matches(source), importer))
        except MissingDependency as error:
            lacking.append(str(error))
    score, best = max(scores, key=lambda pair: pair[0], default=(0.0, None))
    if best is None or score < _SURE_ENOUGH:
        raise UnreadableFile(
            f"{source.path}: no importer recognises it. Name one with --format; {_LISTED}."
            + "".join(f" {text}" for text in lacking)
        )
    return best


def named_importer(name: str) -> Importer:
    """The importer ``name``.

    Raises:
        UnknownPlugin: there is none; with close matches.
    """
    try:
        found: Importer = plugins.load(GROUP, name, Importer)
    except UnknownPlugin as error:
        raise UnknownPlugin(f"{error} {_LISTED[:1].upper()}{_LISTED[1:]}.") from error
    return found


def _importer(source: Source, name: str) -> Importer:
    """The importer ``name``, or the one that ``auto`` finds, if it knows the options of the source."""
    importer = choose_importer(source) if name == "auto" else named_importer(name)
    _check_options(importer, source.options)
    return importer


def _check_options(importer: Importer, options: Mapping[str, str]) -> None:
    unknown = sorted(set(options) - set(importer.options))
    if unknown:
        known = ", ".join(importer.options) or "none"
        raise InvalidSetting(f"importer {importer.name!r} has no option {unknown[0]!r}; its options: {known}.")


def _unique(importer: Importer, items: Iterable[Item]) -> list[Item]:
    found: dict[str, Item] = {}
    for item in items:
        if item.id in found:
            raise UserError(
                f"importer {importer.name!r}: {item.paths[0]} and {found[item.id].paths[0]} would both be sample {item.id!r}. "
                "Rename one, or import their folders into different data sets."
            )
        found[item.id] = item
    return list(found.values())


def _present(dataset: Dataset, items: Sequence[Item]) -> set[str]:
    ids = set(dataset.select(fields=[]).frame()["id"])
    return ids.intersection(item.id for item in items)
