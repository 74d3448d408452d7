"""Impedance of interdigitated electrodes in a solution.

The equivalent circuit is the usual one (Randles, without diffusion: at 200 Hz and above its share is small):

    geometric and cable capacitance  ∥  ( solution resistance  +  two interfaces in series )

An interface, one for each set of fingers, is a constant phase element beside a charge transfer. The capacitance is that of
Stern's model: the compact layer in series with the diffuse one, 228 √I µF/cm² at the potential of zero charge and 25 °C (A. J.
Bard, L. R. Faulkner, "Electrochemical Methods", 2nd ed., eq. 13.3.21b). Species that adsorb change the compact layer along
Langmuir's isotherm; species that react add to the conductance of the charge transfer in proportion to their concentration,
as the exchange current does in the Butler–Volmer equation at small signals.

The constants of the metals are **assumed**: orders of magnitude and ranks are chemistry's (platinum, palladium and silver
decompose hydrogen peroxide, gold hardly; chloride adsorbs on silver most; nickel dissolves in acid and is passivated by
phosphate and hydroxide; copper and silver are complexed by ammonia), the numbers are nobody's measurement.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["CELL", "METALS", "Cell", "Metal", "impedance"]

Floats = npt.NDArray[np.float64]

#: of vacuum, F/m; relative, of water at 25 °C (CRC Handbook)
_PERMITTIVITY, _RELATIVE = 8.854e-12, 78.4
#: diffuse layer, µF/cm² at 1 mol/L
_DIFFUSE = 228.0
#: angular frequency at which the constant phase element has the capacitance's own impedance, rad/s (assumed)
_REFERENCE = 2 * np.pi * 100.0


@dataclass(frozen=True)
class Cell:
    """Geometry of one interdigitated electrode; all assumed, of the order of millimetre-sized sensors.

    Attributes:
        constant: resistance of the solution times its conductivity, 1/m.
        area: of each of both sets of fingers, cm².
        cable: capacitance of leads and chip, F.
    """

    constant: float = 35.0
    area: float = 0.03
    cable: float = 50e-12


@dataclass(frozen=True)
class Metal:
    """A metal's interface with water; all assumed (see the module's text).

    Attributes:
        capacitance: of the compact layer, µF/cm², roughness of the fingers included.
        exponent: of the constant phase element, 0.5 to 1; 1 is a capacitor.
        leak: conductance of charge transfer in clean water, S/cm².
        settling: time in which the surface follows the solution, s.
        reactions: species -> conductance per concentration, S/cm² L/mol.
        adsorption: species -> (Langmuir's constant, L/mol; relative change of the compact layer's capacitance when full).
    """

    capacitance: float
    exponent: float
    leak: float
    settling: float
    reactions: Mapping[str, float]
    adsorption: Mapping[str, tuple[float, float]]


CELL = Cell()

METALS: dict[str, Metal] = {
    "gold": Metal(
        *(25.0, 0.93, 4e-6, 20.0),
        {"H+": 0.02, "OH-": 0.02, "H2O2": 0.08, "HClO": 0.6, "ClO-": 0.25},
        {"Cl-": (60, 0.35), "CH3COO-": (80, -0.15), "H2PO4-": (120, -0.12), "HPO4 2-": (120, -0.12), "OH-": (200, 0.1)},
    ),
    "platinum": Metal(
        *(30.0, 0.91, 8e-6, 30.0),
        {"H+": 0.25, "OH-": 0.05, "NH3": 0.12, "H2O2": 1.0, "HClO": 0.8, "ClO-": 0.35},
        {"Cl-": (100, 0.2), "CH3COO-": (100, -0.2), "H2PO4-": (150, -0.2), "HPO4 2-": (150, -0.2), "OH-": (200, 0.15)},
    ),
    "silver": Metal(
        *(22.0, 0.90, 1.5e-5, 45.0),
        {"H+": 0.03, "Cl-": 0.05, "NH3": 0.3, "H2O2": 0.9, "HClO": 0.7, "ClO-": 0.4},
        {"Cl-": (150, 0.4), "OH-": (300, 0.2), "CH3COO-": (50, -0.1), "H2PO4-": (100, -0.15), "HPO4 2-": (100, -0.15)},
    ),
    "nickel": Metal(
        *(35.0, 0.86, 3e-5, 90.0),
        {"H+": 0.4, "OH-": 0.25, "CH3COOH": 0.05, "NH3": 0.1, "H2O2": 0.25, "HClO": 0.5, "ClO-": 0.5},
        {"OH-": (500, 0.3), "H2PO4-": (200, -0.35), "HPO4 2-": (200, -0.35), "Cl-": (40, 0.15), "CH3COO-": (60, -0.1)},
    ),
    "copper": Metal(
        *(28.0, 0.87, 4e-5, 60.0),
        {"H+": 0.3, "Cl-": 0.1, "NH3": 0.8, "H2O2": 0.6, "CH3COOH": 0.05, "HClO": 0.6, "ClO-": 0.5},
        {"Cl-": (80, 0.25), "OH-": (300, 0.2), "H2PO4-": (120, -0.2), "HPO4 2-": (120, -0.2), "CH3COO-": (60, -0.1)},
    ),
    "palladium": Metal(
        *(35.0, 0.89, 1e-5, 50.0),
        {"H+": 0.5, "OH-": 0.05, "NH3": 0.05, "H2O2": 0.7, "HClO": 0.8, "ClO-": 0.35},
        {"Cl-": (90, 0.2), "CH3COO-": (90, -0.15), "H2PO4-": (120, -0.15), "HPO4 2-": (120, -0.15), "OH-": (200, 0.15)},
    ),
}


def impedance(
    metal: Metal,
    frequency: float,
    conductivity: Floats,
    strength: Floats,
    surface: Mapping[str, Floats],
    cell: Cell = CELL,
) -> npt.NDArray[np.complex128]:
    """Impedance in Ω at ``frequency`` (Hz); its real part is what the chip calls in-phase, its imaginary part quadrature.

    Args:
        metal: of the electrode.
        frequency: Hz, above 0.
        conductivity: of the solution, S/m.
        strength: ionic strength at the surface, mol/L, above 0.
        surface: concentrations of the species at the surface, mol/L; those that do nothing to the metal are passed over.
        cell: geometry.
    """
    omega = 2 * np.pi * frequency
    change, conductance = np.zeros(()), np.full((), metal.leak)
    for species, (constant, full) in metal.adsorption.items():
        if species in surface:
            change = change + full * constant * surface[species] / (1 + constant * surface[species])
    for species, rate in metal.reactions.items():
        if species in surface:
            conductance = conductance + rate * surface[species]
    compact = metal.capacitance * np.maximum(1 + change, 0.1)
    diffuse = _DIFFUSE * np.sqrt(strength)
    capacitance = 1e-6 * compact * diffuse / (compact + diffuse)  # F/cm²
    phase_element = capacitance * _REFERENCE ** (1 - metal.exponent) * (1j * omega) ** metal.exponent
    interface = 1 / (cell.area * (phase_element + conductance))
    inner = cell.constant / conductivity + 2 * interface
    geometric = _PERMITTIVITY * _RELATIVE / cell.constant + cell.cable
    return np.asarray(1 / (1 / inner + 1j * omega * geometric))
