"""What the service writes down: one JSON object a line."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from logging.handlers import MemoryHandler, RotatingFileHandler

from sensorium.platform.errors import StorageError

__all__ = ["JsonLines", "flush", "open_journal"]

#: a file is put aside at this size, and so many old ones are kept
_FILE_BYTES, _KEPT = 64 << 20, 4
#: lines that are held back at most: writing each by itself is a tenth of what a quick answer costs
_HELD = 200


class JsonLines(logging.Formatter):
    """Time, level, logger, and the message; what an access record holds stands beside them."""

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        known = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
        }
        fields = getattr(record, "fields", None)
        content = {**known, **fields} if isinstance(fields, dict) else {**known, "message": record.getMessage()}
        if record.exc_info:
            content["trace"] = self.formatException(record.exc_info)
        return json.dumps(content)


def open_journal(file: str) -> None:
    """Have the project's loggers of this process write to ``file``; to the standard error where it is empty.

    Raises:
        StorageError: it cannot be written.
    """
    try:
        handler: logging.Handler = (
            RotatingFileHandler(file, maxBytes=_FILE_BYTES, backupCount=_KEPT) if file else logging.StreamHandler()
        )
    except OSError as error:
        raise StorageError(f"the log {file} cannot be written: {error}. Choose another --log.") from error
    handler.setFormatter(JsonLines())
    logger = logging.getLogger("sensorium")
    logger.handlers[:] = [MemoryHandler(_HELD, logging.WARNING, handler)]
    logger.setLevel(logging.INFO)
    logger.propagate = False


def flush() -> None:
    """Write the lines that are held back; warnings and errors never are."""
    for handler in logging.getLogger("sensorium").handlers:
        handler.flush()
