"""pure: RFC 3339 stamps of the API -> nanoseconds since 1970; 0 for "never"."""

from __future__ import annotations

import calendar
import re

from compose.client.errors import BadAnswer

_STAMP = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(?:\.(\d{1,9})\d*)?(?:Z|([+-])(\d\d):(\d\d))"
)


def parse_time(text: str) -> int:
    if not text or text.startswith("0001-"):
        return 0
    match = _STAMP.fullmatch(text)
    if not match:
        raise BadAnswer(f"the engine's answer has {text!r} where a time belongs")
    year, month, day, hour, minute, second = (int(part) for part in match.groups()[:6])
    seconds = calendar.timegm((year, month, day, hour, minute, second))
    if match[8]:
        offset = int(match[9]) * 3600 + int(match[10]) * 60
        seconds += offset if match[8] == "-" else -offset
    return seconds * 1_000_000_000 + int((match[7] or "").ljust(9, "0"))
