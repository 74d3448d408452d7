"""SQL of strangers over the lake: one bounded SELECT, run in a process that may die.

Polars' SQL can read any file of the server (``SELECT * FROM read_csv('/etc/passwd')``), and :meth:`.Catalog.sql` lets it: there
the user sits at the machine. Here a query is parsed into a tree of which every node and every function is on a list of what
is allowed, and **what runs is text written anew from that tree**: two parsers cannot disagree about what has been checked.
"""

from __future__ import annotations

import functools
import io
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import polars as pl
import pyarrow as pa
from sqlglot import exp, parse
from sqlglot.dialects.postgres import Postgres
from sqlglot.errors import SqlglotError
from sqlglot.generators.postgres import PostgresGenerator
from sqlglot.parsers.postgres import PostgresParser

from sensorium.catalog import Catalog
from sensorium.platform.errors import InvalidQuery, InvalidSetting, UserError
from sensorium.platform.processes import wire
from sensorium.platform.processes.pool import JobLost, Pool
from sensorium.platform.processes.zygote import Job

__all__ = ["JOBS", "Queries", "QueryLimits", "QueryResult", "check_condition", "check_query", "prepare"]

logger = logging.getLogger(__name__)

#: scalar, aggregate and window functions of Polars' SQL that neither read files nor make rows out of nothing
_FUNCTION_NAMES = """
abs acos array_agg array_contains array_get array_length array_mean array_reverse array_sum array_to_string array_unique asin
atan atan2 avg bit_count bit_length cbrt ceil ceiling char_length character_length coalesce concat concat_ws corr cos cot
count covar covar_samp date date_part degrees dense_rank div ends_with exp first first_value floor greatest if ifnull initcap
lag last last_value lead least left length ln log log10 log1p log2 lower ltrim max median min mod normalize nullif
octet_length pi pow power quantile_cont quantile_disc radians rank regexp_like replace reverse right round row_number rtrim
sign sin split_part sqrt starts_with stddev stddev_samp stdev stdev_samp strftime string_agg string_to_array strpos strptime
substr substring sum tan timestamp trim upper var var_samp variance
"""
_FUNCTIONS = frozenset(_FUNCTION_NAMES.split())

#: what a tree may be made of; all else, known to the parser today or in a later version, is refused
_NODE_NAMES = """
Add Alias Aliases And Anonymous Between BitwiseAnd BitwiseNot BitwiseOr BitwiseXor Boolean Bracket Case Cast Column CTE DPipe
DataType DataTypeParam Distinct Div Dot EQ Escape Except Exists Extract Fetch Filter From GT GTE Group Having Identifier If
ILike In IntDiv Intersect Interval Is JSONExtract JSONPath JSONPathKey JSONPathRoot Join LT LTE Like Limit LimitOptions Literal
Mod Mul NEQ Neg Not Null NullSafeEQ NullSafeNEQ Offset Or Order Ordered Paren RegexpILike RegexpLike Select Slice Star
StrPosition Sub Subquery Table TableAlias Trim TryCast Tuple Union Var Where Window WindowSpec With
"""
_NODES = frozenset(_NODE_NAMES.split())
#: how deeply a query may be nested, before Python's own stack says it less kindly
_DEEPEST = 60


class _Lake(Postgres):
    """The dialect of Polars' SQL, near enough: PostgreSQL's, with every function under the name by which it was called."""

    class Parser(PostgresParser):
        FUNCTIONS: ClassVar[dict[str, Any]] = {}

    class Generator(PostgresGenerator):
        TRANSFORMS = {  # noqa: RUF012 - likewise
            **PostgresGenerator.TRANSFORMS,
            exp.TryCast: lambda self, tree: f"TRY_CAST({self.sql(tree, 'this')} AS {self.sql(tree, 'to')})",
        }


@dataclass(frozen=True)
class QueryLimits:
    """How much one query may ask.

    Attributes:
        characters: of its text.
        rows: of the answer; what goes beyond is cut off.
        answer_bytes: of the answer as Arrow IPC.
        seconds: wall-clock and CPU time, s.
        megabytes: address space, beyond what its process takes by itself, MiB.
    """

    characters: int = 10_000
    rows: int = 10_000
    answer_bytes: int = 64 << 20
    seconds: float = 20.0
    megabytes: int = 1536

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not value > 0:
                raise InvalidSetting(f"limit {name} of queries must be above 0; got {value!r}.")


@dataclass(frozen=True)
class QueryResult:
    """The answer to a query.

    Attributes:
        frame: its rows.
        truncated: whether there are more.
    """

    frame: pl.DataFrame
    truncated: bool

    @property
    def columns(self) -> list[str]:
        """Names of the columns."""
        return self.frame.columns

    @property
    def rows(self) -> list[tuple[Any, ...]]:
        """The rows as Python values."""
        return self.frame.rows()


# -- what is allowed --------------------------------------------------------------------------------------------------


def check_query(text: str, datasets: Sequence[str], characters: int = QueryLimits.characters) -> str:
    """The query to run for ``text``.

    Args:
        text: from a stranger.
        datasets: the names that tables may have, alone or as ``"name@version"``.
        characters: that it may have.

    Raises:
        InvalidQuery: it is more than one SELECT over these data sets, and in what.
    """
    tree = _parsed(text, characters)
    if not isinstance(tree, (exp.Select, exp.SetOperation, exp.Subquery)):
        raise _refused("it is no SELECT")
    _check_nodes(tree)
    made = {cte.alias for cte in tree.find_all(exp.CTE)}
    for table in tree.find_all(exp.Table):
        _check_table(table, made, datasets)
    return tree.sql(dialect=_Lake, comments=False, identify=True)


def check_condition(text: str, characters: int = QueryLimits.characters) -> None:
    """See that ``text`` is a condition on the fields of one data set, as ``Dataset.select`` takes it.

    Raises:
        InvalidQuery: it is something else, and what.
    """
    tree = _parsed(f"SELECT * FROM samples WHERE (\n{text}\n)", characters)  # noqa: S608 - parsed, never run
    condition = tree.args["where"].this if tree.args.get("where") is not None else None
    # nothing but the condition, and all of it within the one pair of brackets
    if not isinstance(condition, exp.Paren) or tree != exp.select("*").from_("samples").where(condition):
        raise _refused("it is no condition on the fields of a sample")
    if len(list(tree.find_all(exp.Query))) != 1:
        raise _refused("a condition may not select from elsewhere")
    _check_nodes(tree)


def _parsed(text: str, characters: int) -> exp.Expr:
    if len(text) > characters:
        raise _refused(f"it has {len(text)} characters, more than {characters}")
    if "\0" in text:
        raise _refused("it has zero bytes")
    try:
        trees = [tree for tree in parse(text, dialect=_Lake) if tree is not None]
    except (SqlglotError, RecursionError) as error:
        raise _refused(f"it cannot be parsed ({str(error).partition(chr(10))[0][:200]})") from error
    if len(trees) != 1:
        raise _refused(f"it has {len(trees)} statements, not one")
    return trees[0]


def _check_nodes(tree: exp.Expr) -> None:
    for node in tree.walk():
        kind = type(node).__name__
        if kind not in _NODES:
            raise _refused(f"{kind} is not allowed ({node.sql(dialect=_Lake)[:60]})")
        if node.depth > _DEEPEST:
            raise _refused(f"it is nested more than {_DEEPEST} deep")
        if isinstance(node, exp.Anonymous) and str(node.this).lower() not in _FUNCTIONS:
            raise _refused(f"function {str(node.this)[:40]!r} is not allowed")
        if isinstance(node, exp.With) and node.recursive:
            raise _refused("WITH RECURSIVE is not allowed")
        # no dialect at work here reads a backslash before a quote as an escape, and none shall have the occasion
        if isinstance(node, exp.Literal) and (node.name.endswith("\\") or "\\'" in node.name):
            raise _refused("a text has a backslash before a quote")


def _check_table(table: exp.Table, made: set[str], datasets: Sequence[str]) -> None:
    if not isinstance(table.this, exp.Identifier) or table.args.get("db") or table.args.get("catalog"):
        raise _refused(f"{table.sql(dialect=_Lake)[:60]} is no data set: functions and schemas cannot be read from")
    name = table.name
    if name not in made and name.partition("@")[0] not in datasets:
        known = ", ".join(list(datasets)[:12]) or "none yet"
        raise _refused(f"there is no data set {name[:60]!r}; there are: {known}")


def _refused(reason: str) -> InvalidQuery:
    return InvalidQuery(
        f"the query is not taken: {reason}. Send one SELECT over the data sets, with their names as tables, and "
        "functions of numbers, text and times."
    )


# -- what runs in the worker ------------------------------------------------------------------------------------------


def prepare() -> None:
    """Import what the first query needs: the lake's own modules have been imported with this one."""
    parse("SELECT 1", dialect=_Lake)


@functools.cache
def _lake(url: str, options: tuple[tuple[str, Any], ...]) -> Catalog:
    return Catalog(url, options=dict(options))


def _run(request: Mapping[str, Any], _: Sequence[memoryview]) -> tuple[Mapping[str, Any], Sequence[wire.Buffer]]:
    try:
        lake = _lake(request["url"], tuple(sorted(request["options"].items())))
        checked = check_query(request["query"], lake.names(), request["characters"])
        rows = int(request["rows"])
        frame = lake.sql(f"SELECT * FROM (\n{checked}\n) AS answer LIMIT {rows + 1}")  # noqa: S608 - written by us
    except UserError as error:
        return {"invalid": str(error)}, ()
    stream = io.BytesIO()
    frame.head(rows).write_ipc_stream(stream)
    content = stream.getbuffer()
    if len(content) > request["answer_bytes"]:
        size = f"its answer has {len(content)} bytes, more than {request['answer_bytes']}"
        return {"invalid": str(_refused(f"{size}; ask for fewer columns or rows"))}, ()
    return {"truncated": frame.height > rows}, (content,)


JOBS: dict[str, Job] = {"query": _run}

# -- the service's side -----------------------------------------------------------------------------------------------


class Queries:
    """Runs the queries of strangers over one lake in processes of its own."""

    def __init__(
        self,
        url: str,
        *,
        options: Mapping[str, Any] | None = None,
        limits: QueryLimits | None = None,
        processes: int = 1,
    ) -> None:
        """Start the processes. They get the environment, for credentials of the storage stand there.

        Args:
            url: of the lake; not ``memory://``, which no other process sees.
            options: of the storage, JSON types.
            limits: of each query.
            processes: queries at the same time.
        """
        self._url, self._options = url, dict(options or {})
        self.limits = limits if limits is not None else QueryLimits()
        self._pool = Pool(__name__, processes=processes, environment=os.environ, open_files=1024)

    async def run(self, query: str, *, rows: int | None = None) -> QueryResult:
        """The answer to ``query``, of at most ``rows`` rows where that is fewer than the limit.

        Raises:
            InvalidQuery: it is not allowed, cannot be run, or asks too much.
            WorkerFailed: no process can be started.
        """
        limits = self.limits
        most = limits.rows if rows is None else max(0, min(rows, limits.rows))
        if len(query) > limits.characters:
            raise _refused(f"it has {len(query)} characters, more than {limits.characters}")
        request = {"url": self._url, "options": self._options, "query": query, "rows": most}
        bounds = {"characters": limits.characters, "answer_bytes": limits.answer_bytes}
        try:
            answer, buffers = await self._pool.run(
                "query",
                {**request, **bounds},
                seconds=limits.seconds,
                megabytes=limits.megabytes,
                answer_bytes=limits.answer_bytes + 64,
            )
        except JobLost as error:
            logger.warning("a query was given up: %s", error)
            raise _explained(error, limits) from error
        if "invalid" in answer:
            raise InvalidQuery(str(answer["invalid"]))
        with pa.ipc.open_stream(pa.py_buffer(buffers[0])) as stream:
            frame = pl.DataFrame(pl.from_arrow(stream.read_all()))
        return QueryResult(frame, bool(answer["truncated"]))

    def close(self) -> None:
        """End the processes; the queries that run are lost."""
        self._pool.close()


def _explained(error: JobLost, limits: QueryLimits) -> InvalidQuery:
    if error.cause == "time":
        return _refused(f"it takes more than {limits.seconds:g} s")
    if error.cause == "error":
        return _refused("it cannot be run (an error that the engine does not explain)")
    return _refused(f"it takes more than {limits.megabytes} MiB, or crashed its engine")
