"""Times as exports write them, in seconds since 1970. A time without a zone is taken for UTC: only gaps matter."""

from __future__ import annotations

import re
from datetime import datetime, timezone

_FRACTION = re.compile(r"\.(\d+)")


def from_iso(text: str) -> float:
    """ISO 8601, also with a space for the T. Raises ValueError for anything else."""
    # Python 3.10 reads fractions of exactly three or six digits and no Z.
    text = _FRACTION.sub(lambda found: "." + found[1][:6].ljust(6, "0"), text.strip().replace("Z", "+00:00"))
    found = datetime.fromisoformat(text)
    return (found if found.tzinfo else found.replace(tzinfo=timezone.utc)).timestamp()
