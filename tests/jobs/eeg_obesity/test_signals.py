"""Preprocessing keeps what is in the band, in place, and refuses what it cannot use."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sensorium.jobs.eeg_obesity.config import CHANNELS, EegConfig
from sensorium.jobs.eeg_obesity.signals import Standardisation, electrode, epochs, pick
from sensorium.platform.errors import InvalidSample, InvalidSetting

CONFIG = EegConfig()


def wave(frequency: float, seconds: float = 65, rate: float = 128) -> np.ndarray:
    """A cosine on all 19 channels [19, T], 10 µV."""
    time = np.arange(round(seconds * rate)) / rate
    return np.tile(10 * np.cos(2 * np.pi * frequency * time), (19, 1))


def recording(seconds: float = 65, rate: float = 128, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 20, (19, round(seconds * rate)))


@pytest.mark.parametrize(
    "name", ["Fp1", "FP1", "EEG Fp1", "EEG FP1-REF", "eeg fp1-le", "Fp1.", "EEG_Fp1-A2", " Fp1 ", "EEG Fp1-M1"]
)
def test_spellings_of_an_electrode(name: str) -> None:
    assert electrode(name) == "FP1"


def test_names_of_the_10_10_system_and_bipolar_channels() -> None:
    assert [electrode(name) for name in ("T7", "T8", "P7", "EEG P8-REF")] == ["T3", "T4", "T5", "T6"]
    assert electrode("Fp1-F7") == "FP1-F7"  # a difference of two electrodes is none of them


def test_channels_are_put_in_order() -> None:
    values = np.arange(20 * 3).reshape(20, 3)
    names = ["ECG", *(f"EEG {name}-REF" for name in reversed(CHANNELS))]
    assert np.array_equal(pick(values, names, CHANNELS), values[:0:-1])
    with pytest.raises(InvalidSample, match=r"s1: electrode Cz is missing among its 18 channels"):
        pick(values[:18], [name for name in CHANNELS if name != "Cz"], CHANNELS, name="s1")
    with pytest.raises(InvalidSample, match="T3 is there 2 times"):
        pick(values, [*CHANNELS, "T7"], CHANNELS)
    with pytest.raises(InvalidSample, match="needs C names"):
        pick(values, CHANNELS, CHANNELS)


@pytest.mark.parametrize("frequency", [1.0, 10.0, 30.0])
@pytest.mark.parametrize("rate", [125.0, 128.0, 256.0, 500.0])
def test_waves_in_the_band_come_through_unshifted(frequency: float, rate: float) -> None:
    found = epochs(wave(frequency, rate=rate), rate, CHANNELS, CONFIG)
    assert found.shape == (6, 19, 1280)
    assert found.dtype == np.float32
    expected = wave(frequency)[:, 640:].reshape(19, 6, 1280).transpose(1, 0, 2)
    inner = slice(1, -1)  # without the ends of the recording
    assert np.abs(found[inner] - expected[inner]).max() < 0.35


@pytest.mark.parametrize(("frequency", "left"), [(0.02, 0.01), (55.0, 0.05), (50.0, 0.2), (0.1, 0.55), (45.0, 0.55)])
def test_waves_outside_go(frequency: float, left: float) -> None:
    found = epochs(wave(frequency, 265), 128, CHANNELS, replace(CONFIG, most_epochs=100))
    assert np.abs(found[3:-3]).max() < 10 * left


def test_an_offset_goes_and_makes_no_ends() -> None:
    found = epochs(wave(10, rate=500) + 5000, 500, CHANNELS, CONFIG)
    assert np.abs(found).max() < 14


def test_cut_length_and_number_of_epochs() -> None:
    assert epochs(recording(300), 128, CHANNELS, CONFIG).shape == (26, 19, 1280)
    assert epochs(recording(64.9), 128, CHANNELS, CONFIG).shape == (5, 19, 1280)
    assert epochs(recording(15), 128, CHANNELS, CONFIG).shape == (1, 19, 1280)
    spoiled = recording(25)
    spoiled[:, :600] = 1e5  # a loud start does not reach the epochs
    assert np.abs(epochs(spoiled, 128, CHANNELS, CONFIG)).max() < 150


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda x: x[:, : 128 * 14], "14 s are too short for a cut of 5 s and an epoch of 10 s"),
        (lambda x: np.where(np.arange(x.shape[1]) == 1280, np.nan, x), "electrode Fp1 is nan at 10 s"),
        (lambda x: np.where(np.arange(19)[:, None] == 9, 3.0, x), "electrode Cz is flat at 3"),
    ],
)
def test_what_cannot_be_used_is_named(change: Any, says: str) -> None:
    with pytest.raises(InvalidSample, match=f"s7: .*{says}"):
        epochs(change(recording()), 128, CHANNELS, CONFIG, name="s7")


def test_rates_are_checked() -> None:
    with pytest.raises(InvalidSample, match="above 0 Hz"):
        epochs(recording(), 0.0, CHANNELS, CONFIG)
    with pytest.raises(InvalidSample, match="holds nothing up to 45 Hz"):
        epochs(recording(), 80.0, CHANNELS, CONFIG)


@pytest.mark.parametrize(
    "wrong",
    [
        *({"low": 0.0}, {"high": 64.0}, {"channels": ("Fp1", "Fp1")}, {"channels": ("A1",)}, {"latent": 0}),
        *({"epoch": 0.1}, {"cnn_dropout": 1.0}, {"features": "both"}, {"gamma": -1.0}, {"cut": -1.0}),
        *({"architecture": "rnn"}, {"features": "latent", "latent": 31}, {"target": ""}),
    ],
)
def test_configurations_are_checked(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidSetting, match="got"):
        EegConfig(**wrong)


def test_standardisation_is_of_the_given_epochs_only() -> None:
    parts = [epochs(recording(35, seed=seed) * np.arange(1, 20)[:, None], 128, CHANNELS, CONFIG) for seed in (1, 2)]
    fitted = Standardisation.fit(parts)
    together = np.concatenate(parts)
    assert fitted.mean == pytest.approx(together.mean(axis=(0, 2)), abs=1e-3)
    assert fitted.deviation == pytest.approx(together.std(axis=(0, 2)), rel=1e-4)
    applied = fitted.apply(together)
    assert applied.dtype == np.float32
    assert np.abs(applied.mean(axis=(0, 2))).max() < 1e-4
    assert applied.std(axis=(0, 2)) == pytest.approx(np.ones(19), rel=1e-4)
    assert Standardisation.fit(iter(parts[:1])) != fitted
    with pytest.raises(InvalidSample, match="one epoch at least"):
        Standardisation.fit([])
    with pytest.raises(InvalidSample, match="channel 3 never varies"):
        Standardisation.fit([np.where(np.arange(19)[:, None] == 3, 0, parts[0])])


def test_real_eeg(shared_data: Path) -> None:
    with np.load(shared_data / "eeg/eegmat/npz125/Subject00.npz", allow_pickle=False) as archive:
        signal, names = archive["rest"] * archive["scale_uV"], archive["channels"].tolist()
        found = epochs(signal, float(archive["fs"]), names, CONFIG)
    assert found.shape == (11, 19, 1280)
    assert 1 < found.std() < 50  # µV
    spectrum = np.abs(np.fft.rfft(found, axis=2)) ** 2
    frequency = np.fft.rfftfreq(1280, 1 / 128)
    assert spectrum[..., (frequency > 0.5) & (frequency < 40)].sum() > 0.95 * spectrum.sum()
