"""A physical simulator of the measurements: what six metals in tap water read while a pollutant is let in.

**Simulated, not measured.** The data of the paper is not public; this takes its place for trying things out, and no figure
obtained from it says anything of the real sensor. The chemistry is in :mod:`.chemistry`, the electrodes in
:mod:`.electrodes`; here are the protocol and what differs between measurements.

*Protocol* (the paper's section 3): readings at 0.5 Hz; 600 in potable water, then 1000 while the pollutant is slowly
injected; 10 measurements of each of 9 liquids, potable water alone among them: 9 · 10 · 1600 = 144,000 readings.

*Ten features*. The paper names impedances at two frequencies on two and on four electrodes, six in all, and ten features,
and shows one called "200 Hz in-phase". At 78 kHz the solution's resistance is nearly all of the impedance, and its imaginary
part says little; at 200 Hz both parts matter. Ten come about as in-phase parts at 78 kHz (2) and both parts at 200 Hz (8).

*Variation*. Its sizes were set once, by what is plausible in a laboratory with tap water, a dosing pump and small sensors
(see :class:`Variation`), before any classifier saw the data, and are not to be tuned to a classifier's score.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import scipy.signal

from sensorium.catalog.fields import ScalarField
from sensorium.jobs.water_pollutants.chemistry import conductivity, ionic_strength, speciate
from sensorium.jobs.water_pollutants.electrodes import CELL, METALS, Cell, Metal, impedance
from sensorium.platform.errors import InvalidSetting, close_matches

__all__ = [
    "BASELINE",
    "DESCRIPTION",
    "FEATURES",
    "FIELDS",
    "LIQUIDS",
    "MEASUREMENTS",
    "POLLUTANTS",
    "RATE",
    "READINGS",
    "WATER",
    "Variation",
    "measurement",
    "samples",
]

Floats = npt.NDArray[np.float64]

#: readings a second, Hz; readings in potable water first; in all; measurements of each liquid (paper, 3)
RATE, BASELINE, READINGS, MEASUREMENTS = 0.5, 600, 1600, 10
#: (metal, frequency in Hz, part) of each feature
_PARTS: tuple[tuple[str, float, str], ...] = (
    *((metal, 78e3, "in-phase") for metal in ("gold", "platinum")),
    *(
        (metal, 200.0, part)
        for metal in ("gold", "platinum", "silver", "nickel")
        for part in ("in-phase", "quadrature")
    ),
)
#: names of the features, in their order: :func:`samples`' channels
FEATURES = tuple(f"{metal} {'78 kHz' if frequency > 1e3 else '200 Hz'} {part}" for metal, frequency, part in _PARTS)

#: what a mole of each pollutant brings; charge that is left over is H+ or OH- (see ``speciate``)
POLLUTANTS: dict[str, dict[str, float]] = {
    "acetic_acid": {"acetate": 1.0},
    "ammonia": {"ammonia": 1.0},
    "hydrogen_peroxide": {"peroxide": 1.0},
    "hydrochloric_acid": {"Cl-": 1.0},
    "phosphoric_acid": {"phosphate": 1.0},
    "sodium_chloride": {"Na+": 1.0, "Cl-": 1.0},
    "sodium_hydroxide": {"Na+": 1.0},
    # made of chlorine and soda lye, it holds as much chloride
    "sodium_hypochlorite": {"Na+": 2.0, "Cl-": 1.0, "hypochlorite": 1.0},
}
#: the ninth liquid: nothing is let in
WATER = "potable_water"
LIQUIDS = (*POLLUTANTS, WATER)

#: tap water of medium hardness, mol/L (assumed, within what European suppliers publish): κ about 50 mS/m, pH about 7.5
_TAP = {
    **{"Ca2+": 1.5e-3, "Mg2+": 0.4e-3, "Na+": 0.9e-3, "K+": 0.05e-3},
    **{"Cl-": 0.9e-3, "SO4 2-": 0.45e-3, "NO3-": 0.15e-3},
}
#: dissolved CO2 for each mole of alkalinity; sets the pH (assumed)
_FREE_CO2 = 0.07
#: concentration at the end of the injection, mol/L; the same for all, so that the amount tells nothing (assumed)
_DOSE = 5e-3

DESCRIPTION = (
    "SIMULATED impedances of interdigitated electrodes in tap water while one of eight pollutants is injected, or none; "
    "10 features at 0.5 Hz, 600 readings of potable water and 1000 of injection. A physical model with assumed constants "
    "of the electrodes, not a measurement."
)
#: declarations of a data set of these samples, beyond those of the modality series
FIELDS = (
    ScalarField("pollutant", pa.string(), required=True, description="what is let in; potable_water for nothing"),
    ScalarField("measurement", pa.int64(), minimum=0, required=True, description="which repetition; the unit of folds"),
    ScalarField("simulated", pa.bool_(), required=True, description="made by a model, not measured"),
)


@dataclass(frozen=True)
class Variation:
    """What differs from one measurement to the next, and what is uncertain within one. All assumed.

    "Spread" is the standard deviation of a logarithm: 0.1 is about 10 %.

    Attributes:
        minerals: spread of all the tap water's minerals together (seasons, sources).
        ion: spread of each ion besides.
        dose: spread of the amount let in (hand-filled pump).
        uptake: mean time constant of mixing into the vessel, s.
        uptake_spread: its spread.
        plume: standard deviation of the concentration at the sensor, relative, for the stirring is uneven.
        plume_time: correlation time of that, s.
        temperature: mean at the start, °C.
        temperature_spread: its standard deviation, K.
        warming: standard deviation of a steady change, K/h.
        wander: standard deviation of a random walk of the temperature after one hour, K.
        cell: spread of each electrode's cell constant (photolithography, deposits).
        area: spread of each electrode's active area (wetting, deposits).
        kinetics: spread of each electrode's conductance of charge transfer (oxides, poisoning).
        ageing: active area that is lost with each measurement, relative.
        white: standard deviation of white noise of a reading, relative to the impedance's magnitude.
        flicker: likewise of 1/f noise.
    """

    minerals: float = 0.1
    ion: float = 0.08
    dose: float = 0.2
    uptake: float = 90.0
    uptake_spread: float = 0.3
    plume: float = 0.015
    plume_time: float = 20.0
    temperature: float = 20.0
    temperature_spread: float = 1.5
    warming: float = 0.3
    wander: float = 0.1
    cell: float = 0.03
    area: float = 0.1
    kinetics: float = 0.3
    ageing: float = 0.01
    white: float = 1e-3
    flicker: float = 1e-3

    def __post_init__(self) -> None:
        wrong = [name for name, value in dataclasses.asdict(self).items() if value < 0 and name != "temperature"]
        if wrong or self.plume_time <= 0 or self.uptake <= 0:
            raise InvalidSetting(
                f"{(wrong or ['plume_time and uptake'])[0]} must be above 0, spreads 0 or more; got {self}."
            )


def samples(
    seed: int = 0,
    *,
    liquids: Sequence[str] = LIQUIDS,
    measurements: int = MEASUREMENTS,
    variation: Variation | None = None,
) -> Iterator[dict[str, Any]]:
    """Samples of the modality ``series``, one for each measurement; see ``FIELDS`` and ``DESCRIPTION``.

    Each depends on ``seed``, its liquid and its number alone, not on which others are made.

    Raises:
        InvalidSetting: an unknown liquid.
    """
    for liquid in liquids:
        for number in range(measurements):
            yield {
                "id": f"{liquid}-{number:02d}",
                "signal": measurement(liquid, number, seed, variation).astype(np.float32),
                "sampling_rate": RATE,
                "channels": list(FEATURES),
                "pollutant": liquid,
                "measurement": number,
                "simulated": True,
            }


def measurement(liquid: str, number: int, seed: int = 0, variation: Variation | None = None) -> Floats:
    """One measurement, [10, 1600] in Ω; rows are ``FEATURES``."""
    if liquid not in LIQUIDS:
        raise InvalidSetting(f"unknown liquid {liquid!r}. {close_matches(liquid, LIQUIDS)}".rstrip())
    vary = variation or Variation()
    random = np.random.default_rng((seed, LIQUIDS.index(liquid), number))
    totals = _tap(vary, random)
    amount = _concentration(vary, random)
    for one, moles in POLLUTANTS.get(liquid, {}).items():
        totals[one] = totals.get(one, 0.0) + moles * amount
    temperature = _temperature(vary, random)
    species = {name: np.broadcast_to(value, READINGS) for name, value in speciate(totals).items()}
    readings = np.empty((len(FEATURES), READINGS))
    drawn = {name: _electrode(metal, vary, number, random) for name, metal in METALS.items()}
    for row, (name, frequency, part) in enumerate(_PARTS):
        metal, cell = drawn[name]
        surface = {one: _followed(value, metal.settling) for one, value in species.items() if _acts(metal, one)}
        strength = _followed(ionic_strength(species), metal.settling)
        value = impedance(metal, frequency, conductivity(species, temperature), strength, surface, cell)
        noise = np.abs(value) * (vary.white * random.normal(size=READINGS) + vary.flicker * _flicker(random))
        readings[row] = (value.real if part == "in-phase" else value.imag) + noise
    return readings


def _tap(vary: Variation, random: np.random.Generator) -> dict[str, Any]:
    """Totals of one day's tap water, mol/L; hydrogen carbonate balances the ions."""
    common = random.normal(0, vary.minerals)
    totals = {ion: value * np.exp(common + random.normal(0, vary.ion)) for ion, value in _TAP.items()}
    charge = {"Ca2+": 2, "Mg2+": 2, "SO4 2-": -2, "Cl-": -1, "NO3-": -1}
    alkalinity = sum(charge.get(ion, 1) * value for ion, value in totals.items())
    # water is never acid from its minerals: where chance says so, sodium makes up for it
    short = max(0.0, 2e-4 - alkalinity)
    totals["Na+"] += short
    totals["carbonate"] = (alkalinity + short) * (1 + _FREE_CO2)
    return totals


def _concentration(vary: Variation, random: np.random.Generator) -> Floats:
    """What has been let in and taken up, mol/L [1600].

    The pump gives a constant rate for the whole of the injection; a first-order uptake follows it, c' = (given − c) / τ.
    """
    final = _DOSE * np.exp(random.normal(0, vary.dose))
    delay = vary.uptake * np.exp(random.normal(0, vary.uptake_spread))
    time = np.maximum(np.arange(READINGS) - BASELINE, 0) / RATE
    whole = (READINGS - BASELINE) / RATE
    taken = final * (time - delay * (1 - np.exp(-time / delay))) / whole
    step = 1 / RATE / vary.plume_time
    keep = np.exp(-step)
    unrest = scipy.signal.lfilter([np.sqrt(1 - keep**2)], [1, -keep], random.normal(size=READINGS))
    return np.asarray(np.maximum(taken * (1 + vary.plume * unrest), 0))


def _temperature(vary: Variation, random: np.random.Generator) -> Floats:
    """°C [1600]."""
    start = random.normal(vary.temperature, vary.temperature_spread)
    hours = np.arange(READINGS) / RATE / 3600
    walk = np.cumsum(random.normal(size=READINGS)) * np.sqrt(1 / RATE / 3600)
    return np.asarray(start + random.normal(0, vary.warming) * hours + vary.wander * walk)


def _electrode(metal: Metal, vary: Variation, number: int, random: np.random.Generator) -> tuple[Metal, Cell]:
    """The metal and geometry of one electrode in the state that the measurement ``number`` finds it in."""
    kinetics = np.exp(random.normal(0, vary.kinetics))
    reactions: Mapping[str, float] = {name: rate * kinetics for name, rate in metal.reactions.items()}
    area = CELL.area * np.exp(random.normal(0, vary.area)) * (1 - vary.ageing) ** number
    cell = dataclasses.replace(CELL, area=area, constant=CELL.constant * np.exp(random.normal(0, vary.cell)))
    return dataclasses.replace(metal, reactions=reactions, leak=metal.leak * kinetics), cell


def _acts(metal: Metal, species: str) -> bool:
    return species in metal.reactions or species in metal.adsorption


def _followed(values: Floats, settling: float) -> Floats:
    """``values`` [1600] as a surface follows them: first-order, in equilibrium at the start."""
    keep = float(np.exp(-1 / RATE / settling))
    followed, _ = scipy.signal.lfilter([1 - keep], [1, -keep], values, zi=[keep * values[0]])
    return np.asarray(followed)


def _flicker(random: np.random.Generator) -> Floats:
    """Noise of power 1/f [1600], standard deviation about 1, mean 0."""
    spectrum = np.fft.rfft(random.normal(size=READINGS))
    shape = np.zeros(len(spectrum))
    shape[1:] = 1 / np.sqrt(np.arange(1, len(spectrum)))
    shape *= np.sqrt(len(shape) / np.sum(shape**2))
    return np.asarray(np.fft.irfft(spectrum * shape, READINGS))
