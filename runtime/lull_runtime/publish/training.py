"""What training a network cost, as its publisher or CodeCarbon's file tells it."""

import csv
import re
from pathlib import Path

from lull_runtime.artifact.card import Training
from lull_runtime.publish.errors import NotPublishableError

_ENERGY = re.compile(r"(\d+(?:\.\d+)?)\s*(Wh|kWh|MWh)")
_WATT_HOURS = {"Wh": 1.0, "kWh": 1e3, "MWh": 1e6}


def read_training(text: str) -> Training:
    """Return what training cost.

    Args:
        text: an energy with its unit (`1.2kWh`), or the path of the emissions.csv that CodeCarbon wrote,
            whose last row counts (its columns: energy_consumed in kWh, emissions in kg CO2e, duration in s).

    Raises:
        NotPublishableError: it is neither, or the file does not say.
    """
    if match := _ENERGY.fullmatch(text.strip()):
        watt_hours = float(match[1]) * _WATT_HOURS[match[2]]
        return Training(watt_hours=watt_hours, source="declared")
    path = Path(text)
    if not path.is_file():
        raise NotPublishableError(
            f"--training-energy {text}: neither an energy with its unit (350Wh, 1.2kWh) nor CodeCarbon's file"
        )
    try:
        with path.open(newline="") as file:
            (*_, last) = csv.DictReader(file)
        return Training(
            watt_hours=float(last["energy_consumed"]) * 1e3,
            grams_co2e=float(last["emissions"]) * 1e3,
            duration_seconds=float(last["duration"]),
            source="codecarbon",
        )
    except (ValueError, KeyError, TypeError, csv.Error) as error:
        raise NotPublishableError(
            f"{path} is no emissions.csv of CodeCarbon with energy_consumed, emissions and duration: {error}"
        ) from error
