"""A bounded round of the fuzzer, with fixed seeds; ``make fuzz`` goes on for longer."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from sensorium.catalog import readers
from sensorium.catalog.importer import GROUP
from sensorium.platform import plugins
from tests.catalog.examples import EXAMPLES
from tests.catalog.fuzz import attempt, damaged

ROUNDS = 6


@pytest.mark.filterwarnings("ignore")  # of the libraries, at damaged headers
@pytest.mark.parametrize("name", [name for name in plugins.names(GROUP) if name in EXAMPLES])
def test_damaged_files_are_samples_or_sentences(name: str, tmp_path: Path) -> None:
    with readers.processes(1) as reader:
        for seed in range(ROUNDS):
            folder = tmp_path / str(seed) / "in"
            folder.mkdir(parents=True)
            found = attempt(name, seed, folder, reader)
            assert (found["fault"], found["lost"]) == (0, 0), f"seed {seed}"


def test_damage_differs_and_is_the_same_for_a_seed() -> None:
    content = bytes(range(256)) * 4
    made = [damaged(content, random.Random(seed)) for seed in range(50)]
    assert len(set(made)) > 45
    assert made == [damaged(content, random.Random(seed)) for seed in range(50)]
