"""Credentials that stand in URLs, taken out of whatever is shown or stored."""

from __future__ import annotations

import re
from typing import Any

# user:password@ or token@ before a host; registry://model@tag has no host.
_USER = re.compile(r"\b(?!registry://)([A-Za-z][A-Za-z0-9+.-]*://)[^/\s@'\"]+@")
# A signed URL's parameters, of Amazon, Google, Azure, Alibaba and Baidu, and what others call theirs.
_PARAMETER = re.compile(
    r"([?&][\w.-]*(?:authorization|credential|key|password|passwd|secret|sig|signature|token)[\w.-]*=)[^&#\s'\"]+",
    re.IGNORECASE,
)
_SHOWN = "***"


def redacted(text: str) -> str:
    """Return ``text`` without the credentials of the URLs in it.

    >>> redacted("https://me:secret@host/a?part=1&X-Amz-Signature=abc")
    'https://***@host/a?part=1&X-Amz-Signature=***'
    """
    if "://" not in text:
        return text
    return _PARAMETER.sub(rf"\g<1>{_SHOWN}", _USER.sub(rf"\g<1>{_SHOWN}@", text))


def redacted_values(value: Any) -> Any:
    """Return ``value`` with every string in its dictionaries, lists and tuples :func:`redacted`."""
    if type(value) is str:
        return redacted(value)
    if type(value) is dict:
        return {key: redacted_values(item) for key, item in value.items()}
    if type(value) in (list, tuple):
        return type(value)(map(redacted_values, value))
    return value


def cause(error: Exception) -> Exception | None:
    """Return ``error`` if its text may be shown as another's cause, or None if there are credentials in it."""
    return error if redacted(str(error)) == str(error) else None


def from_log(record: Any) -> bool:
    """Take credentials out of a log record; a filter for a ``logging.Logger``."""
    said = record.getMessage()
    kept = redacted(said)
    if kept != said:
        record.msg, record.args = kept, None
    return True
