"""What a request goes through, the same with every peer."""

from lull.simulate.meter import Meter
from lull.simulate.setting import HOLD_SECONDS


def serve(meter: Meter, model: int, arrived: float, ready: float, duration: float) -> float:
    """Serve a request once its model is ready; return when it leaves: served, or dropped for its wait."""
    began = max(arrived, ready)
    meter.served(model, arrived, began, began + duration)
    dropped = arrived + HOLD_SECONDS
    return dropped if began > dropped else began + duration
