"""Object storage that fails, forgets to answer, stalls, or is away."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

from sensorium.catalog import Catalog
from tests.chaos.outcome import Ledger, Outcome, command, finished, start
from tests.chaos.work import pixels
from tests.object_store import BUCKET, Store, running

__all__ = ["every_tenth_fails", "every_tenth_is_lost", "outage", "stalls"]

_PICTURES, _QUALITIES = 6, (20, 50, 80)
_OUTAGE_S = 20.0


def worked(
    folder: Path, trouble: dict[str, Any], outage: float = 0.0
) -> tuple[list[int | None], Ledger, dict[str, int]]:
    """Import, then sweep, on a store in trouble: exit codes (a command that failed is given once more), ledger, counts."""
    from PIL import Image

    (folder / "files").mkdir()
    for number in range(_PICTURES):
        Image.fromarray(pixels(number, 64)).save(folder / "files" / f"p{number}.png")
    with running() as store:
        options = {"key": store.environment()["AWS_ACCESS_KEY_ID"], "secret": store.environment()["AWS_SECRET_ACCESS_KEY"],
                   "endpoint_url": store.address, "client_kwargs": {"region_name": "eu-central-1"}}  # fmt: skip
        commands = [
            ["catalog", "ingest", folder / "files", "--dataset", "photos", "--batch", 2],
            ["sweep", "machine_quality", "--data", "photos", "--into", "rd", "--codecs", "jpeg", "--metrics", "psnr",
             "--qualities", ",".join(map(str, _QUALITIES)), "--block-seconds", 0.05],
        ]  # fmt: skip
        store.trouble(**trouble)
        absence = threading.Thread(target=_absent, args=(store, outage))
        if outage:
            absence.start()
        codes: list[int | None] = []
        for words in commands:
            for _ in range(3):
                line = command("--lake", f"s3://{BUCKET}/lake", *words)
                codes.append(finished(start(line, folder / "commands.log", store.environment())))
                if codes[-1] == 0:
                    break
        if outage:
            absence.join()
        counted = store.trouble()
        ledger = _judged(Catalog(f"s3://{BUCKET}/lake", options=options))
    return codes, ledger, counted


def _absent(store: Store, seconds: float) -> None:
    """Be away for some seconds once the work has begun."""
    time.sleep(6.0)
    store.trouble(fail_every=1)
    time.sleep(seconds)
    store.trouble()


def _judged(catalog: Catalog) -> Ledger:
    frame = catalog["rd"].select().frame()
    photos = catalog["photos"]
    names = photos.select().frame()["id"].to_list()
    if len(names) != _PICTURES or not photos.verify().is_empty():
        return Ledger(_PICTURES, lost=_PICTURES - len(set(names)), twice=len(names) - len(set(names)), failed=1)
    expected = [(name, quality) for name in names for quality in _QUALITIES]
    failed = frame["error"].drop_nulls().len()
    return Ledger.of(catalog["rd"], expected, frame.select("image_id", "quality").rows(), failed)


def _told(codes: list[int | None], ledger: Ledger, what: str) -> str:
    given = f"commands ended with {', '.join(map(str, codes))}"
    return f"{what}; {given}; {ledger}"


def every_tenth_fails(folder: Path) -> Outcome:
    codes, ledger, counted = worked(folder, {"fail_every": 10})
    told = _told(codes, ledger, f"{counted['failed']} of {counted['requests']} requests failed (503)")
    return Outcome(
        "requests are made again, and the commands end well",
        told,
        codes == [0, 0] and ledger.whole and counted["failed"] > 5,
    )


def every_tenth_is_lost(folder: Path) -> Outcome:
    codes, ledger, counted = worked(folder, {"lose_every": 10, "status": 500})
    told = _told(codes, ledger, f"{counted['lost']} of {counted['requests']} were done and answered with 500")
    return Outcome(
        "a commit that was made is recognised, not made again",
        told,
        codes == [0, 0] and ledger.whole and counted["lost"] > 5,
    )


def stalls(folder: Path) -> Outcome:
    codes, ledger, counted = worked(folder, {"stall_every": 50, "stall_s": 4.0})
    told = _told(codes, ledger, f"{counted['stalled']} of {counted['requests']} requests waited for 4 s")
    return Outcome(
        "the commands take longer and end well", told, codes == [0, 0] and ledger.whole and counted["stalled"] > 2
    )


def outage(folder: Path) -> Outcome:
    codes, ledger, _ = worked(folder, {}, _OUTAGE_S)
    told = _told(codes, ledger, f"no request succeeded for {_OUTAGE_S:.0f} s")
    return Outcome(
        "a command waits, or fails and does the rest when it is given again", told, codes[-1] == 0 and ledger.whole
    )
