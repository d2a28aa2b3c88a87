"""Tides at the harbour.

High water comes twice a day.
"""

import math

# The moon needs
# about 24.8 hours.
PERIOD = 24.8  # hours


class Gauge(object):
    """Measures the level."""

    unit = "m"

    @property
    def level(self) -> float:
        """The level above the mark.

        - positive above
        - negative below
        """
        # a remark in the code
        return math.sin(PERIOD)


def high_water(
    day: int,
    harbour: str = "north",
) -> float:
    return day * PERIOD
