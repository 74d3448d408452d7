"""Logging: one set-up for the command line and for Ray workers."""

from __future__ import annotations

import logging
import os
import sys

__all__ = ["configure"]


def configure(verbose: int = 0) -> None:
    """Send the logs of ``sensorium`` to standard error: warnings, or with ``verbose`` 1 info, 2 debug."""
    level = (logging.WARNING, logging.INFO, logging.DEBUG)[min(verbose, 2)]
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s", "%H:%M:%S"))
    logger = logging.getLogger("sensorium")
    logger.handlers[:] = [handler]
    logger.setLevel(level)
    logger.propagate = False
    os.environ.setdefault("POLARS_VERBOSE", "0")
