"""The string formats that are enforced, and the integer ones as bounds. Pure data.

A format that llguidance knows keeps its name. Those whose regular expression there lets through what the format's RFC
does not (29 February of every year, second 60 at any time) have one of ours.
"""

from __future__ import annotations

NATIVE_FORMATS = frozenset({"duration", "email", "hostname", "ipv4", "ipv6", "uuid", "uri"})

# Years 0001 to 9999: date libraries know no year 0. Leap years are the multiples of 4 that are none of 100, and of 400.
_YEAR = "(?:[0-9]{3}[1-9]|[0-9]{2}[1-9]0|[0-9][1-9]00|[1-9]000)"
_LEAP = "(?:[0-9]{2}(?:0[48]|[2468][048]|[13579][26])|(?:0[48]|[2468][048]|[13579][26])00)"
_DATE = (
    f"(?:{_YEAR}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)"
    f"|02-(?:0[1-9]|1[0-9]|2[0-8]))|{_LEAP}-02-29)"
)
_CLOCK = "(?:[01][0-9]|2[0-3]):[0-5][0-9]"
_TIME = rf"{_CLOCK}:[0-5][0-9](?:\x{{2E}}[0-9]{{1,9}})?(?:Z|[\x{{2B}}\x{{2D}}]{_CLOCK})"

PATTERNS = {"date": f"^{_DATE}$", "time": f"^{_TIME}$", "date-time": f"^{_DATE}T{_TIME}$"}

# The longest name DNS has, and the longest part before the @ that SMTP has.
MAX_LENGTHS = {"hostname": 253}

# "int64" ends where every JSON reader still has the exact number.
INTEGER_BOUNDS = {"int32": (-(2**31), 2**31 - 1), "int64": (-(2**53) + 1, 2**53 - 1)}
NUMBER_FORMATS = frozenset({"float", "double"})
