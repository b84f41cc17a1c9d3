"""Credentials that stand in URLs, taken out of whatever is shown or stored."""

from __future__ import annotations

import re
from typing import Any

# user:password@ or token@ before a host; registry://model@tag has no host.
_USER = re.compile(r"\b(?!registry://)([A-Za-z][A-Za-z0-9+.-]*://)[^/\s@'\"]+@")
# What others call their secrets, and Amazon, Google, Azure, Alibaba and Baidu the parameters of a signed URL.
_NAME = (
    r"(?:[\w.-]*(?:authenticat|authorization|credential|jwt|key|passw|policy|pwd|secret|session|sig|ticket|token)[\w.-]*"
    r"|auth|code|sas)"
)
_PARAMETER = re.compile(rf"([?&#]{_NAME}=)[^&#\s'\"]+", re.IGNORECASE)
# The same within a path: "/token=…/", ";token=…", "/token/…".
_IN_PATH = re.compile(
    rf"([/;]{_NAME}=|/(?:access[_-]?key|api[_-]?key|secret|sig|signature|token)s?/)[^/;?&#\s'\"]+",
    re.IGNORECASE,
)
_URL = re.compile(r"\b[A-Za-z][A-Za-z0-9+.-]*://[^\s'\"]+")
# Nobody's word for anything: as many letters, large and small, and digits among them. Digests are hexadecimal.
_RANDOM = re.compile(
    r"(?<![A-Za-z0-9])(?=[a-z0-9]*[A-Z])(?=[A-Z0-9]*[a-z])(?=[A-Za-z]*[0-9])[A-Za-z0-9]{20,}(?![A-Za-z0-9])"
)
_SHOWN = "***"


def redacted(text: str) -> str:
    """Return ``text`` without the credentials of the URLs in it.

    Those before a host; values that a name calls one, in a query, a fragment or a path; and, of web addresses, what no
    one would choose for a name.

    >>> redacted("https://me:secret@host/a?part=1&X-Amz-Signature=abc")
    'https://***@host/a?part=1&X-Amz-Signature=***'
    >>> redacted("https://host/share/Yk3x0Qm9Zr7Lw2Vb8Tn4/net.pdparams")
    'https://host/share/***/net.pdparams'
    """
    return _URL.sub(_without, text) if "://" in text else text


def _without(found: re.Match[str]) -> str:
    url = _USER.sub(rf"\g<1>{_SHOWN}@", found[0])
    url = _IN_PATH.sub(rf"\g<1>{_SHOWN}", _PARAMETER.sub(rf"\g<1>{_SHOWN}", url))
    scheme, _, place = url.partition("://")
    host, slash, rest = place.partition("/")
    if scheme.lower() in ("http", "https", "ftp"):
        rest = _RANDOM.sub(_SHOWN, rest)
    return f"{scheme}://{host}{slash}{rest}"


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
