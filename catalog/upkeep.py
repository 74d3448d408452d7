"""What keeps a table quick without anybody asking: small files of rows are merged as they come.

A table of ten thousand commits is slow because of its ten thousand files, not because of its log, of which a checkpoint is
taken every 50 commits. So every 16th version merges files of about one size, as soon as there are 16 of them, in a commit of
its own. Files of merged rows are merged again when there are 16 of those: a row is written a few times in all, and a table
has a few dozen small files at most. The work is bounded; where another writer is always first it is left to a later version.
"""

from __future__ import annotations

import logging
import math
from collections import defaultdict
from collections.abc import Sequence

import pyarrow as pa
from deltalake import DeltaTable

from sensorium.catalog.arrangement import arranged, declared_columns
from sensorium.catalog.rows import aligned
from sensorium.catalog.table import Change, CommitNote, Table, TableFile
from sensorium.platform.errors import SensoriumError

__all__ = ["OPERATION", "tidy"]

logger = logging.getLogger(__name__)

#: in the history
OPERATION = "merge"
#: every so many versions one writer looks, which is also how many files of a size there may be
_FACTOR = 16
#: a file of so many rows or bytes is large enough; only compact touches it
_LARGE_ROWS, _LARGE_BYTES = 65_536, 8 << 20
#: of one merge, so that no append waits long for it
_MOST_ROWS, _MOST_BYTES = 131_072, 32 << 20
#: seconds of losing to others
_PATIENCE_S = 1.0


def tidy(table: Table, version: int) -> None:
    """Merge small files of the table, if ``version`` is one whose writer looks after that and there are enough of them.

    It never fails: what cannot be merged now is merged later.
    """
    if version % _FACTOR:
        return
    done: list[tuple[frozenset[str], Change]] = []  # a merge that was written for an earlier attempt

    def plan(snapshot: DeltaTable) -> Change | None:
        files = table.files(snapshot)
        if done and done[0][0] <= {file.path for file in files} and table.still_there(done[0][1].add):
            return done[0][1]
        if done:  # some of them were merged or changed by somebody else: enough for now
            return None
        chosen = _chosen(files)
        if not chosen:
            return None
        schema = pa.schema(snapshot.schema().to_arrow())
        rows = pa.concat_tables([aligned(table.read_file(file), schema, table.name) for file in chosen])
        written = table.write_file(arranged(rows, declared_columns(snapshot)))
        change = Change(
            add=[written],
            remove=[table.removal(file) for file in chosen],
            note=CommitNote(OPERATION, message=f"{len(chosen)} small table files"),
        )
        done.append((frozenset(file.path for file in chosen), change))
        return change

    try:
        table.commit(plan, CommitNote(OPERATION), patience=_PATIENCE_S)
    except (SensoriumError, OSError) as error:
        logger.debug("data set %r: small files were not merged: %s", table.name, error)


def _chosen(files: Sequence[TableFile]) -> list[TableFile]:
    """Files to merge into one: those of the smallest size of which there are too many; none where there are few."""
    sizes: dict[int, list[TableFile]] = defaultdict(list)
    for file in files:
        if file.rows < _LARGE_ROWS and file.size < _LARGE_BYTES:
            sizes[int(math.log(max(1, file.rows), _FACTOR))].append(file)
    many = next((sizes[size] for size in sorted(sizes) if len(sizes[size]) >= _FACTOR), [])
    chosen: list[TableFile] = []
    rows = size = 0
    for file in sorted(many, key=lambda one: (one.rows, one.path)):
        rows, size = rows + file.rows, size + file.size
        if rows > _MOST_ROWS or size > _MOST_BYTES:
            break
        chosen.append(file)
    return chosen if len(chosen) > 1 else []
