"""The simulator against handbook values, laws of physics, and its own promises."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensorium.catalog import Catalog
from sensorium.jobs.water_pollutants import simulator
from sensorium.jobs.water_pollutants.chemistry import PK_WATER, conductivity, ionic_strength, speciate
from sensorium.jobs.water_pollutants.electrodes import METALS, impedance
from sensorium.jobs.water_pollutants.simulator import (
    BASELINE,
    FEATURES,
    LIQUIDS,
    POLLUTANTS,
    WATER,
    Variation,
    measurement,
)
from sensorium.platform.errors import InvalidSample, InvalidSetting

#: nothing differs, nothing is uncertain
EXACT = Variation(**{name: 0.0 for name in vars(Variation()) if name not in ("uptake", "plume_time", "temperature")})


def acidity(totals: dict[str, Any]) -> float:
    return float(-np.log10(speciate(totals)["H+"]))


@pytest.mark.parametrize(
    ("totals", "expected"),  # S/m at 25 °C, CRC Handbook: equivalent conductivities of electrolytes
    [
        ({"Na+": 0.001, "Cl-": 0.001}, 0.01237),
        ({"Na+": 0.01, "Cl-": 0.01}, 0.1185),
        ({"K+": 0.01, "Cl-": 0.01}, 0.1413),
        ({"Cl-": 0.01}, 0.412),
        ({"Na+": 0.01}, 0.238),
        ({"acetate": 0.01}, 0.0163),
        ({"Na+": 0.01, "acetate": 0.01}, 0.0837),
        ({"Ca2+": 0.005, "Cl-": 0.01}, 0.1203),
    ],
)
def test_conductivities_of_the_handbook(totals: dict[str, float], expected: float) -> None:
    assert float(conductivity(speciate(totals))) == pytest.approx(expected, rel=0.03)


@pytest.mark.parametrize(
    ("totals", "expected"),
    [
        ({"Na+": 0.0}, 7.0),
        ({"Cl-": 0.01}, 2.0),
        ({"Na+": 0.001}, 11.0),
        ({"acetate": 0.1}, 2.88),
        ({"ammonia": 0.1}, 11.13),
        ({"phosphate": 0.1}, 1.63),
        ({"Na+": 0.05, "acetate": 0.1}, 4.76),  # half neutralised: pH = pKa
        ({"Na+": 0.15, "phosphate": 0.1}, 7.21),
    ],
)
def test_acidities_of_the_textbook(totals: dict[str, float], expected: float) -> None:
    assert acidity(totals) == pytest.approx(expected, abs=0.03)


@given(
    st.dictionaries(
        st.sampled_from(
            ["Na+", "Ca2+", "Cl-", "SO4 2-", "carbonate", "acetate", "ammonia", "phosphate", "hypochlorite"]
        ),
        st.floats(0, 0.05),
        min_size=1,
    )
)
def test_solutions_are_neutral_and_lose_nothing(totals: dict[str, float]) -> None:
    species = speciate(totals)
    charge = {"Na+": 1, "Ca2+": 2, "Cl-": -1, "SO4 2-": -2, "H+": 1, "OH-": -1, "HCO3-": -1, "CO3 2-": -2, "NH4+": 1}
    charge |= {"CH3COO-": -1, "H2PO4-": -1, "HPO4 2-": -2, "PO4 3-": -3, "ClO-": -1}
    size = sum(abs(charge.get(form, 0)) * float(value) for form, value in species.items())
    assert sum(charge.get(form, 0) * float(value) for form, value in species.items()) == pytest.approx(
        0, abs=1e-6 * size
    )
    assert float(species["H+"] * species["OH-"]) == pytest.approx(10**-PK_WATER)
    if "phosphate" in totals:
        forms = sum(float(species[form]) for form in ("H3PO4", "H2PO4-", "HPO4 2-", "PO4 3-"))
        assert forms == pytest.approx(totals["phosphate"])
    assert all((value >= 0).all() for value in species.values())


def test_wrong_solutions_are_refused() -> None:
    with pytest.raises(InvalidSample, match="'sugar'"):
        speciate({"sugar": 1.0})
    with pytest.raises(InvalidSample, match=r"Na.*-0\.1"):
        speciate({"Na+": -0.1})


def spectrum(metal: str, totals: dict[str, Any], frequency: float) -> complex:
    species = speciate(totals)
    return complex(impedance(METALS[metal], frequency, conductivity(species), ionic_strength(species), species))


@pytest.mark.parametrize("metal", METALS)
def test_impedance_obeys_physics(metal: str) -> None:
    salt = [spectrum(metal, {"Na+": c, "Cl-": c}, f) for c in (0.001, 0.003, 0.01) for f in (200.0, 78e3)]
    assert abs(salt[0]) > abs(salt[2]) > abs(salt[4])  # salt conducts
    assert abs(salt[1]) > abs(salt[3]) > abs(salt[5])
    assert spectrum(metal, {"Cl-": 0.005}, 78e3).real < 0.4 * spectrum(metal, {"acetate": 0.005}, 78e3).real
    for frequency in np.logspace(0, 7, 30):
        value = spectrum(metal, {"Na+": 0.005, "Cl-": 0.005}, float(frequency))
        assert -90 <= np.degrees(np.angle(value)) <= 0  # passive and capacitive
    magnitudes = [abs(spectrum(metal, {"Na+": 0.005, "Cl-": 0.005}, float(f))) for f in np.logspace(0, 7, 30)]
    assert magnitudes == sorted(magnitudes, reverse=True)


def test_at_78_khz_the_solution_counts_and_at_200_hz_the_interface() -> None:
    totals = {"Na+": 0.005, "Cl-": 0.005}
    resistance = 35.0 / float(conductivity(speciate(totals)))
    assert spectrum("gold", totals, 78e3).real == pytest.approx(resistance, rel=0.02)
    assert -spectrum("gold", totals, 200.0).imag > 3 * resistance


def test_peroxide_reacts_on_platinum_more_than_on_gold() -> None:
    tap, with_peroxide = {"Na+": 0.005, "Cl-": 0.005}, {"Na+": 0.005, "Cl-": 0.005, "peroxide": 0.005}
    change = {m: abs(spectrum(m, with_peroxide, 200.0) / spectrum(m, tap, 200.0) - 1) for m in ("gold", "platinum")}
    assert change["platinum"] > 3 * change["gold"]


def test_shapes_and_what_the_paper_counts() -> None:
    assert len(FEATURES) == len(set(FEATURES)) == 10
    assert len(LIQUIDS) * simulator.MEASUREMENTS * simulator.READINGS == 144_000
    assert len(POLLUTANTS) == 8
    samples = list(simulator.samples(0, liquids=["ammonia", WATER], measurements=2))
    assert [sample["id"] for sample in samples] == ["ammonia-00", "ammonia-01", "potable_water-00", "potable_water-01"]
    signal = samples[0]["signal"]
    assert (signal.shape, signal.dtype) == ((10, 1600), np.float32)
    assert np.isfinite(signal).all()
    for name, row in zip(FEATURES, signal, strict=True):
        assert (row < 0).all() if "quadrature" in name else (row > 0).all()


def test_a_measurement_depends_on_its_own_seed_alone() -> None:
    one = measurement("ammonia", 3, 7)
    again = next(s for s in simulator.samples(7, liquids=[WATER, "ammonia"]) if s["id"] == "ammonia-03")
    assert np.array_equal(one.astype(np.float32), again["signal"])
    for other in (measurement("ammonia", 3, 8), measurement("ammonia", 4, 7), measurement(WATER, 3, 7)):
        assert not np.array_equal(one, other)


@pytest.mark.parametrize("liquid", LIQUIDS)
def test_nothing_happens_before_the_injection(liquid: str) -> None:
    signal, water = measurement(liquid, 0, variation=EXACT), measurement(WATER, 0, variation=EXACT)
    assert np.array_equal(signal[:, :BASELINE], water[:, :BASELINE])
    assert np.ptp(signal[:, :BASELINE], axis=1) == pytest.approx(np.zeros(10), abs=1e-6)
    changed = np.abs(signal[:, -1] / water[:, -1] - 1).max()
    assert changed > 0.02 if liquid != WATER else changed == 0


def test_the_pollutants_act_as_chemistry_says() -> None:
    end = {liquid: measurement(liquid, 0, variation=EXACT)[:, -1] for liquid in LIQUIDS}
    conductance = {liquid: 1 / value[FEATURES.index("gold 78 kHz in-phase")] for liquid, value in end.items()}
    assert conductance["hydrochloric_acid"] > 1.2 * conductance["sodium_chloride"] > 2 * conductance[WATER]
    assert (
        conductance["hydrochloric_acid"] > conductance["phosphoric_acid"] > conductance["acetic_acid"]
    )  # strong to weak
    assert conductance["sodium_hydroxide"] > 1.5 * conductance["ammonia"] > 1.5 * conductance[WATER]
    assert conductance["hydrogen_peroxide"] == pytest.approx(conductance[WATER], rel=0.001)  # no ions to speak of
    for one in range(len(LIQUIDS)):
        for other in range(one):
            assert np.abs(end[LIQUIDS[one]] / end[LIQUIDS[other]] - 1).max() > 0.01, (LIQUIDS[one], LIQUIDS[other])


def test_runs_differ_as_much_as_said() -> None:
    runs = np.stack([measurement(WATER, number)[0, :BASELINE].mean() for number in range(40)])
    spread = float(np.log(runs).std())
    assert 0.06 < spread < 0.25  # minerals 10 %, ions, temperature 3 %, cell 3 %
    calm = measurement(WATER, 0)[:, :BASELINE]
    assert 5e-4 < (np.diff(calm[0]).std() / calm[0].mean()) < 5e-3  # noise within one


def test_warmer_water_conducts_better() -> None:
    cold, warm = (
        measurement(WATER, 0, variation=Variation(**{**vars(EXACT), "temperature": t}))[0, 0] for t in (20.0, 21.0)
    )
    assert cold / warm == pytest.approx((1 + 0.02 * -4) / (1 + 0.02 * -5), rel=0.003)  # 2 %/K of the value at 25 °C


def test_settings_are_checked() -> None:
    with pytest.raises(InvalidSetting, match=r"'amonia'\. Did you mean 'ammonia'"):
        measurement("amonia", 0)
    with pytest.raises(InvalidSetting, match="dose must be"):
        Variation(dose=-0.1)
    with pytest.raises(InvalidSetting, match="plume_time"):
        Variation(plume_time=0)


def test_samples_go_into_a_catalog(catalog: Catalog) -> None:
    dataset = catalog.create("water", modality="series", fields=simulator.FIELDS, description=simulator.DESCRIPTION)
    dataset.append(simulator.samples(0, measurements=1))
    frame = catalog["water"].select().frame()
    assert frame.height == 9
    assert frame["simulated"].all()
    assert "SIMULATED" in simulator.DESCRIPTION
    stored = catalog["water"].select()["ammonia-00"]
    assert np.array_equal(stored["signal"], measurement("ammonia", 0).astype(np.float32))
    assert stored["channels"] == list(FEATURES)
