"""The machine: Ray, accelerators, caches, tracking. Neither Ray nor torch is imported, which would take seconds."""

from __future__ import annotations

import os
import re
import shutil
import socket
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

from sensorium.jobs.doctor.report import FAILED, MISSING, OK, Finding
from sensorium.platform.settings import Settings
from sensorium.platform.tables import human_bytes
from sensorium.platform.tracking import resolve_mode

__all__ = ["accelerator_findings", "cache_findings", "ray_findings", "tracking_findings"]

_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - asked for its size only
#: Ray warns below this, and spills to the disk early
_LEAST_SHARED = 1 << 30
_KNOCK_S = 1.0
_TOKEN = Path("~/.ray/auth_token")


def ray_findings(settings: Settings) -> list[Finding]:
    """Whether Ray is there, its parts for clusters, its memory, the cluster that is named, its token."""
    installed = _installed("ray")
    if installed is None:
        told = Finding("ray", "version", MISSING, "not installed", "pip install 'sensorium[ray]' – for jobs.")
        return [told]
    found = [Finding("ray", "version", OK, installed), _shared_memory()]
    if find_spec("aiohttp") is None or find_spec("opencensus") is None:
        found.append(
            Finding("ray", "dashboard", MISSING, "not installed", "pip install 'ray[default]' – for submit and jobs.")
        )
    else:
        found.append(Finding("ray", "dashboard", OK, "its packages are installed"))
    if settings.address:
        found.append(_cluster(settings.address))
    found += _token()
    return found


def _shared_memory() -> Finding:
    if not _SHARED_MEMORY.is_dir():
        return Finding("ray", "shared memory", MISSING, "no /dev/shm", "Objects go to the disk, which is slower.")
    free = shutil.disk_usage(_SHARED_MEMORY).free
    if free < _LEAST_SHARED:
        return Finding(
            "ray",
            "shared memory",
            MISSING,
            f"{human_bytes(free)} free",
            "Start the container with --shm-size=4g or more, or objects go to the disk, which is slower.",
        )
    return Finding("ray", "shared memory", OK, f"{human_bytes(free)} free")


def _cluster(address: str) -> Finding:
    """Knock at the address; who lives there is for the command that uses it to find out."""
    parts = urlsplit(address if "://" in address else f"//{address}")
    try:
        port = parts.port
    except ValueError:
        port = None
    if not parts.hostname or port is None:
        return Finding("ray", "cluster", OK, f"{address}, which Ray resolves")
    try:
        socket.create_connection((parts.hostname, port), timeout=_KNOCK_S).close()
    except OSError as error:
        return Finding(
            "ray", "cluster", FAILED, f"nobody answers at {address}: {error}", "Check --address and RAY_ADDRESS."
        )
    return Finding("ray", "cluster", OK, f"{address} answers")


def _token() -> list[Finding]:
    """The token for clusters, where one is set: its file must be there, and nobody else's to read."""
    if os.environ.get("RAY_AUTH_TOKEN"):
        return [Finding("ray", "token", OK, "RAY_AUTH_TOKEN")]
    named = os.environ.get("RAY_AUTH_TOKEN_PATH", "")
    path = Path(named).expanduser() if named else _TOKEN.expanduser()
    if not path.is_file():
        if named or os.environ.get("RAY_AUTH_MODE") == "token":
            remedy = "Put the cluster's token there, or set RAY_AUTH_TOKEN."
            return [Finding("ray", "token", FAILED, f"{path} is not there", remedy)]
        return []
    if path.stat().st_mode & 0o077:
        return [Finding("ray", "token", MISSING, f"others may read {path}", f"chmod 600 {path}")]
    return [Finding("ray", "token", OK, str(path))]


def accelerator_findings() -> list[Finding]:
    """Whether there is an accelerator, and a torch that can use it."""
    cards = [path for path in Path("/dev").glob("nvidia*") if re.fullmatch(r"nvidia\d+", path.name)]
    built = _torch_cuda()
    if not cards:
        return [Finding("accelerator", "GPU", MISSING, "none", "Fits run on the CPU, which takes longer.")]
    told = f"{len(cards)} NVIDIA"
    if built is None:
        return [Finding("accelerator", "GPU", MISSING, f"{told}, without torch", "pip install 'sensorium[torch]'.")]
    if not built:
        remedy = "Install a build of torch for CUDA: fits would run on the CPU."
        return [Finding("accelerator", "GPU", FAILED, f"{told}, but this torch is built for CPUs", remedy)]
    return [Finding("accelerator", "GPU", OK, f"{told}, torch for CUDA {built}")]


def _torch_cuda() -> str | None:
    """The CUDA that the installed torch is built for: empty for none; None without torch. Read from its file."""
    spec = find_spec("torch")
    if spec is None or spec.origin is None:
        return None
    file = Path(spec.origin).parent / "version.py"
    text = file.read_text(encoding="utf-8") if file.is_file() else ""
    found = re.search(r"^cuda\b.*=\s*['\"]([^'\"]+)['\"]", text, re.MULTILINE)
    return found[1] if found else ""


def cache_findings() -> list[Finding]:
    """The folders in which weights are kept that are made or fetched once."""
    own = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "sensorium"
    hub = Path(os.environ.get("HF_HOME") or own.parent / "huggingface").expanduser()
    return [_cache("own weights", own), _cache("Hugging Face weights", hub)]


def _cache(subject: str, folder: Path) -> Finding:
    there = next(place for place in (folder, *folder.parents) if place.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):
        remedy = "Set XDG_CACHE_HOME (HF_HOME) to a folder that can be written, or weights are made anew each time."
        return Finding("caches", subject, MISSING, f"{folder} cannot be written", remedy)
    if there != folder:
        return Finding("caches", subject, OK, f"{folder}, empty as yet")
    held = sum(path.stat().st_size for path in folder.glob("*") if path.is_file())
    return Finding("caches", subject, OK, f"{folder}, files of {human_bytes(held)} at its top")


def tracking_findings() -> list[Finding]:
    """How a fit would be tracked with ``--track auto``."""
    if _installed("wandb") is None:
        return []  # among the packages already
    return [Finding("tracking", "Weights & Biases", OK, f"{resolve_mode('auto')} by default")]


def _installed(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
