"""Dilute aqueous solutions: acid–base equilibrium and conductivity.

Concentrations are in mol/L, as arrays of any one shape; temperatures in °C. Equilibria are those of ideal solutions
(activities are concentrations) at 25 °C, in a closed vessel (no gas is exchanged, nothing precipitates): good to some
percent below 0.05 mol/L, which is what the simulator needs.

Sources: CRC Handbook of Chemistry and Physics, tables "Ionic conductivity and diffusion at infinite dilution" and
"Dissociation constants"; what it does not list is marked *assumed*.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from sensorium.platform.errors import InvalidSample

__all__ = ["IONS", "PK_WATER", "WEAK", "conductivity", "ionic_strength", "speciate"]

Floats = npt.NDArray[np.float64]

#: ion -> (charge, limiting conductivity per equivalent at 25 °C, S cm²/mol), CRC Handbook
IONS: dict[str, tuple[int, float]] = {
    "H+": (1, 349.65),
    "Na+": (1, 50.08),
    "K+": (1, 73.48),
    "NH4+": (1, 73.5),
    "Ca2+": (2, 59.47),
    "Mg2+": (2, 53.0),
    "OH-": (-1, 198.0),
    "Cl-": (-1, 76.31),
    "NO3-": (-1, 71.42),
    "SO4 2-": (-2, 80.0),
    "HCO3-": (-1, 44.5),
    "CO3 2-": (-2, 69.3),
    "CH3COO-": (-1, 40.9),
    "H2PO4-": (-1, 36.0),
    "HPO4 2-": (-2, 57.0),
    "PO4 3-": (-3, 92.8),
    "ClO-": (-1, 52.0),  # assumed: that of ClO2-
    "HO2-": (-1, 50.0),  # assumed: hardly ever there
}

#: weak electrolyte -> (its forms from most protons to fewest, pKa between them at 25 °C), CRC Handbook
WEAK: dict[str, tuple[tuple[str, ...], tuple[float, ...]]] = {
    "carbonate": (("CO2", "HCO3-", "CO3 2-"), (6.35, 10.33)),
    "acetate": (("CH3COOH", "CH3COO-"), (4.756,)),
    "ammonia": (("NH4+", "NH3"), (9.25,)),
    "phosphate": (("H3PO4", "H2PO4-", "HPO4 2-", "PO4 3-"), (2.16, 7.21, 12.32)),
    "hypochlorite": (("HClO", "ClO-"), (7.40,)),
    "peroxide": (("H2O2", "HO2-"), (11.62,)),
}

#: −log10 of the ion product of water at 25 °C
PK_WATER = 13.995

#: Onsager's coefficients for water at 25 °C: λ falls by (A |z| + B λ) √I; A in S cm²/mol (L/mol)^½ an ion, B in (L/mol)^½
_ONSAGER_A, _ONSAGER_B = 30.1, 0.229
#: conductivity grows by so much of its value at 25 °C for each kelvin (usual compensation of water meters)
_PER_KELVIN = 0.02
#: halvings of the interval of pH 0 … 14: to 1e-9
_HALVINGS = 34


def _charge(form: str) -> int:
    return IONS[form][0] if form in IONS else 0


def speciate(totals: Mapping[str, npt.ArrayLike]) -> dict[str, Floats]:
    """All forms of a solution in equilibrium, ``H+`` and ``OH-`` among them.

    Args:
        totals: mol/L of strong ions (``Na+`` …) and of weak electrolytes in all their forms (``acetate`` …). The charge that
            they lack is made up by H+ and OH-: hydrochloric acid is ``Cl-`` alone, sodium hydroxide ``Na+`` alone.

    Raises:
        InvalidSample: an unknown name, or a concentration below 0.
    """
    unknown = [name for name in totals if name not in WEAK and name not in IONS]
    if unknown or "H+" in totals or "OH-" in totals:
        raise InvalidSample(f"totals are strong ions and {', '.join(WEAK)}; got {(unknown or ['H+ or OH-'])[0]!r}.")
    arrays = dict(
        zip(totals, np.broadcast_arrays(*(np.asarray(value, np.float64) for value in totals.values())), strict=True)
    )
    for name, value in arrays.items():
        if not (value >= 0).all():
            raise InvalidSample(f"the concentration of {name} must be 0 mol/L or more; got {float(value.min())}.")
    strong = sum((_charge(name) * value for name, value in arrays.items() if name in IONS), start=np.zeros(()))
    weak = {name: value for name, value in arrays.items() if name in WEAK}
    shape = np.broadcast_shapes(*(value.shape for value in arrays.values()))
    low, high = np.zeros(shape), np.full(shape, 14.0)
    for _ in range(_HALVINGS):  # the charge falls strictly with the pH
        middle = (low + high) / 2
        charge = strong + _weak_charge(weak, middle)
        low, high = np.where(charge > 0, middle, low), np.where(charge > 0, high, middle)
    acidity = (low + high) / 2
    found = {name: value for name, value in arrays.items() if name in IONS}
    found["H+"], found["OH-"] = 10.0**-acidity, 10.0 ** (acidity - PK_WATER)
    for name, value in weak.items():
        for form, part in _fractions(name, acidity).items():
            found[form] = found.get(form, 0.0) + value * part
    return found


def _weak_charge(weak: Mapping[str, Floats], acidity: Floats) -> Floats:
    """Charge (mol/L) of H+, OH- and the weak electrolytes at a pH."""
    charge = 10.0**-acidity - 10.0 ** (acidity - PK_WATER)
    for name, value in weak.items():
        charge = charge + value * sum(_charge(form) * part for form, part in _fractions(name, acidity).items())
    return np.asarray(charge)


def _fractions(name: str, acidity: Floats) -> dict[str, Floats]:
    """Share of each form of a weak electrolyte at a pH."""
    forms, constants = WEAK[name]
    terms = [np.ones_like(acidity)]
    for constant in constants:
        terms.append(terms[-1] * 10.0 ** (acidity - constant))
    total = np.sum(terms, axis=0)
    return {form: term / total for form, term in zip(forms, terms, strict=True)}


def ionic_strength(species: Mapping[str, Floats]) -> Floats:
    """½ Σ c z², mol/L."""
    return np.asarray(0.5 * sum(_charge(form) ** 2 * value for form, value in species.items()))


def conductivity(species: Mapping[str, Floats], temperature: npt.ArrayLike = 25.0) -> Floats:
    """Conductivity in S/m: Kohlrausch's sum over the ions, each slowed by its cloud of counter-ions (Onsager).

    Onsager's law holds up to some 0.001 mol/L; divided by 1 + √I, as is usual, it is good to some percent up to 0.05.
    """
    root = np.sqrt(ionic_strength(species))
    slowing = root / (1 + root)
    total = np.zeros(())
    for ion, value in species.items():
        if ion in IONS:
            charge, limiting = IONS[ion]
            molar = limiting - (_ONSAGER_A * abs(charge) + _ONSAGER_B * limiting) * slowing
            total = total + value * abs(charge) * molar
    # mol/L · S cm²/mol is 0.1 S/m
    return np.asarray(0.1 * total * (1 + _PER_KELVIN * (np.asarray(temperature) - 25)))
