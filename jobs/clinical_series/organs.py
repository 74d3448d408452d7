"""Which organ system each clinical variable speaks of, for the variables of PhysioNet 2012, PhysioNet 2019 and MIMIC-III.

The paper (section 4.3) groups variables by "public medical knowledge" and prints no table; the grouping here is ours. A
variable belongs to the system whose failure it is measured for first, following the organs of the SOFA score (brain, heart
and circulation, lung, kidney, liver, coagulation) with two more for what that score leaves out (immunity, metabolism). Many
variables tell of several organs; the graph of organs is there to learn such links.

MIMIC-III: the paper names no variables beyond their number, 28. Here they are the 17 of the usual benchmark (H. Harutyunyan
et al., "Multitask learning and benchmarking with clinical time series data", Scientific Data 6, 2019) and 11 laboratory
values and outputs that are measured on most first days.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from sensorium.platform.errors import InvalidSetting, close_matches

__all__ = ["MIMIC3", "ORGANS", "PHYSIONET2012", "PHYSIONET2019", "organ_groups"]

#: organ -> why its variables belong to it
ORGANS: Mapping[str, str] = MappingProxyType(
    {
        "Brain": "The Glasgow coma scale and its three parts measure consciousness, and nothing else does so routinely.",
        "Heart": "Heart rate and blood pressures, invasive or not, are the work of the pump against the vessels' resistance; "
        "capillary refill is the perfusion that results; troponins leak from dying heart muscle.",
        "Lung": "Breathing rate and support by a ventilator, the oxygen given and what of it arrives (PaO2, saturations), the "
        "carbon dioxide left behind, and the arterial pH of the same blood-gas sample, which it moves first.",
        "Kidney": "Urine output and the waste that should leave by it (urea, creatinine); the electrolytes that the kidney "
        "holds within narrow limits; bicarbonate and base excess, the metabolic part of acid-base balance, "
        "which it regenerates.",
        "Liver": "Aminotransferases and alkaline phosphatase leak from damaged cells and bile ducts; bilirubin is what the liver "
        "should excrete; albumin and cholesterol are what it makes.",
        "Blood": "Red cells (haematocrit, haemoglobin) carry oxygen; platelets, fibrinogen and clotting time are coagulation.",
        "Immunity": "White cells and body temperature are the classical signs of infection and inflammation.",
        "Metabolism": "Glucose and lactate are supply and distress of energy in all tissues; weight and height give the body's "
        "size, and weight's changes its fluid balance.",
    }
)


def _table(**organs: Sequence[str]) -> Mapping[str, str]:
    """Variable -> organ, from organ -> variables."""
    return MappingProxyType({variable: organ for organ, variables in organs.items() for variable in variables})


#: the 37 time-series parameters of the Challenge 2012
PHYSIONET2012 = _table(
    Brain=("GCS",),
    Heart=("HR", "SysABP", "DiasABP", "MAP", "NISysABP", "NIDiasABP", "NIMAP", "TroponinI", "TroponinT"),
    Lung=("RespRate", "MechVent", "FiO2", "PaO2", "PaCO2", "SaO2", "pH"),
    Kidney=("Urine", "BUN", "Creatinine", "Na", "K", "Mg", "HCO3"),
    Liver=("ALT", "AST", "ALP", "Bilirubin", "Albumin", "Cholesterol"),
    Blood=("HCT", "Platelets"),
    Immunity=("WBC", "Temp"),
    Metabolism=("Glucose", "Lactate", "Weight"),
)

#: the 8 vital signs and 26 laboratory values of the Challenge 2019
PHYSIONET2019 = _table(
    Heart=("HR", "SBP", "MAP", "DBP", "TroponinI"),
    Lung=("Resp", "O2Sat", "EtCO2", "FiO2", "PaCO2", "SaO2", "pH"),
    Kidney=(
        *("BUN", "Creatinine", "Potassium", "Calcium", "Chloride"),
        *("Magnesium", "Phosphate", "HCO3", "BaseExcess"),
    ),
    Liver=("AST", "Alkalinephos", "Bilirubin_direct", "Bilirubin_total"),
    Blood=("Hct", "Hgb", "Platelets", "PTT", "Fibrinogen"),
    Immunity=("WBC", "Temp"),
    Metabolism=("Glucose", "Lactate"),
)

#: 28 variables of MIMIC-III, in the benchmark's spelling
MIMIC3 = _table(
    Brain=(
        *("Glascow coma scale eye opening", "Glascow coma scale motor response"),
        *("Glascow coma scale verbal response", "Glascow coma scale total"),
    ),
    Heart=(
        *("Heart Rate", "Systolic blood pressure", "Diastolic blood pressure", "Mean blood pressure"),
        "Capillary refill rate",
    ),
    Lung=("Respiratory rate", "Oxygen saturation", "Fraction inspired oxygen", "pH"),
    Kidney=("Urine output", "Blood urea nitrogen", "Creatinine", "Sodium", "Potassium", "Bicarbonate"),
    Liver=("Bilirubin",),
    Blood=("Hemoglobin", "Platelets"),
    Immunity=("White blood cell count", "Temperature"),
    Metabolism=("Glucose", "Lactate", "Weight", "Height"),
)


def _plain(name: str) -> str:
    """A spelling without case, spaces and marks; the benchmark's "Glascow" is the Glasgow scale."""
    return "".join(mark for mark in name.lower() if mark.isalnum()).replace("glascow", "glasgow")


_KNOWN: Mapping[str, str] = MappingProxyType(
    {_plain(name): organ for table in (PHYSIONET2012, PHYSIONET2019, MIMIC3) for name, organ in table.items()}
)


def organ_groups(variable_names: Sequence[str]) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """The organs that occur, in the order of :data:`ORGANS`, and for each variable the index of its own among them.

    Names may be in the spelling of any of the three tables; case, spaces and marks do not count.

    Raises:
        InvalidSetting: a variable is in no table.
    """
    found: list[str] = []
    for name in variable_names:
        organ = _KNOWN.get(_plain(name))
        if organ is None:
            hint = close_matches(name, {*PHYSIONET2012, *PHYSIONET2019, *MIMIC3})
            raise InvalidSetting(
                f"no organ is known for the variable {name!r}. {hint} Rename it, or group variables without such "
                "knowledge with graph=clustered or graph=single.".replace("  ", " ")
            )
        found.append(organ)
    organs = tuple(organ for organ in ORGANS if organ in found)
    return organs, tuple(organs.index(organ) for organ in found)
