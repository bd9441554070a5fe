"""E-mail addresses, network addresses and dates of birth."""

import re
from collections.abc import Callable
from typing import Final

from secureml.detect._checksums import is_date

__all__ = ["BIRTH_DATE", "Found", "birth_dates", "emails", "ip_addresses"]

Found = Callable[[int, int, str], None]
"""Takes a start, an end and a kind."""

# Searched from the "@": one comparison for a character that is none.  No part
# can match a stretch of text in two ways, and all have a limit.
_DOMAIN: Final = (
    r"(?:[^\W_](?:[\w-]{0,62})\.){1,10}(?:xn--[0-9A-Za-z-]{1,59}|[^\W\d_]{2,63})(?![\w(-]|\.\w)"
)
_AT: Final = re.compile("@" + _DOMAIN)
_AT_ENCODED: Final = re.compile("%40" + _DOMAIN)
_LOCAL_MARKS: Final = frozenset("!#$%&'*+-/=?^_`{|}~.")
_LOCAL_ASCII: Final = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.+-"
_LOCAL_MAX: Final = 64
_FILES: Final = (".png", ".jpg", ".jpeg", ".gif", ".webp", ".svg", ".avif", ".js", ".css", ".git")


def emails(text: str, found: Found) -> None:
    """
    Report e-mail addresses, those with letters of any script and in URLs too.

    Source: RFC 5322, section 3.4.1, without quoted local parts; RFC 6531.
    """
    if "@" in text:
        _emails(text, _AT, found)
    if "%40" in text:
        _emails(text, _AT_ENCODED, found)


def _emails(text: str, pattern: re.Pattern[str], found: Found) -> None:
    floor = 0
    for match in pattern.finditer(text):
        at, end = match.span()
        least = max(floor, at - _LOCAL_MAX)
        start = least + len(text[least:at].rstrip(_LOCAL_ASCII))
        while start > least and (text[start - 1].isalnum() or text[start - 1] in _LOCAL_MARKS):
            start -= 1
        while start < at and text[start] in "'/.&?=`*{|}!$#%^~":
            start += 1
        if start == at or text[at - 1] == "." or match.group().lower().endswith(_FILES):
            continue
        floor = end
        if text[start:at] == "git" and text[end : end + 1] in {":", "/"}:
            continue
        found(start, end, "email")


_IPV4: Final = re.compile(
    r"[0-9](?<![\w.][0-9])(?:(?<=[01])[0-9]{0,2}|(?<=2)(?:[0-4][0-9]|5[0-5]|[0-9]?)|(?<=[3-9])[0-9]?)"
    r"(?:\.(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])){3}(?![\w]|\.[0-9])"
)
_IPV6: Final = re.compile(r":(?=[0-9A-Fa-f:]{1,38})")
_HEX_COLON: Final = frozenset("0123456789abcdefABCDEF:")
_IPV6_MAX: Final = 45


def ip_addresses(text: str, found: Found) -> None:
    """Report IPv4 and IPv6 addresses; a version number of four parts looks the same."""
    if text.count(".") >= 3:  # noqa: PLR2004  dots of an address
        for match in _IPV4.finditer(text):
            found(*match.span(), "ip-address")
    if text.count(":") >= 2:  # noqa: PLR2004  colons of the shortest address
        _ipv6(text, found)


def _ipv6(text: str, found: Found) -> None:
    from ipaddress import IPv6Address

    end = 0
    for match in _IPV6.finditer(text):
        start = match.start()
        if start < end:
            continue
        least = max(end, start - _IPV6_MAX)
        while start > least and text[start - 1] in _HEX_COLON:
            start -= 1
        stop = match.start()
        limit = min(len(text), start + _IPV6_MAX + 1)
        while stop < limit and (text[stop] in _HEX_COLON or text[stop] == "."):
            stop += 1
        end = stop
        word = text[start:stop].rstrip(".")
        around = text[start - 1 : start] + text[start + len(word) : start + len(word) + 1]
        if word.count(":") < 2 or any(c.isalnum() or c == "_" for c in around):  # noqa: PLR2004
            continue
        try:
            IPv6Address(word)
        except ValueError:
            continue
        if len(word) > 3:  # noqa: PLR2004  "::" and "::1" name no person
            found(start, start + len(word), "ip-address")


_BORN: Final = re.compile(
    r"\b(?:d\.?o\.?b\b|(?:date|day|year) of birth|birth ?date|birthday|date_of_birth|birth_?date|"
    r"born|geboren|geb\.|geburtsdatum|geburtstag|née?\b|date de naissance|nacid[oa]|"
    r"fecha de nacimiento|nat[oa] il|data di nascita|data de nascimento|nascid[oa]|"
    r"geboortedatum|födelsedatum|data urodzenia|urodzon[ya]|出生|生年月日)"
    r"[^0-9]{0,16}$",
    re.IGNORECASE,
)
_MONTHS: Final = (
    "jan(?:uary|uar|vier)?|feb(?:ruary|ruar)?|mar(?:ch|s|zo)?|märz|apr(?:il)?|may|mai|ju[nl][eiy]?|"
    "aug(?:ust)?|sep(?:t|tember)?|o[ck]t(?:ober)?|nov(?:ember)?|de[cz](?:ember)?"
)
BIRTH_DATE: Final = re.compile(
    r"[0-9](?<![0-9A-Za-z_][0-9])(?:"
    r"(?<=[12])(?P<y1>[0-9]{3})[-/.年 ](?P<m1>[0-9]{1,2})[-/.月 ](?P<d1>[0-9]{1,2})日?"
    r"|(?P<a2>[0-9]?)[-/. ]{1,2}(?P<b2>[0-9]{1,2})[-/. ]{1,2}(?P<y2>[0-9]{4}|[0-9]{2})"
    r"|[0-9]?(?:st|nd|rd|th|\.)?(?: of)? (?:" + _MONTHS + r")[a-zé.]{0,4},? [0-9]{4}"
    r")(?![0-9])",
    re.IGNORECASE,
)
_NAMED_DATE: Final = re.compile(
    r"(?:" + _MONTHS + r")[a-zé.]{0,4} [0-9]{1,2}(?:st|nd|rd|th)?,? [0-9]{4}(?![0-9])",
    re.IGNORECASE,
)
_WINDOW: Final = 40
_YEARS: Final = ("18", "19", "20")


def birth_dates(text: str, found: Found) -> None:
    """Report a date that stands after a word for birth."""
    for pattern in (BIRTH_DATE, _NAMED_DATE):
        for match in pattern.finditer(text):
            start, end = match.span()
            if _BORN.search(text[max(0, start - _WINDOW) : start]) and _possible(match):
                found(start, end, "birth-date")


def _possible(match: re.Match[str]) -> bool:
    groups = match.groupdict()
    first = match.group()[0]
    if groups.get("y1"):
        year = int(first + groups["y1"])
        return is_date(year, groups["m1"], groups["d1"])
    if groups.get("y2"):
        short = groups["y2"]
        year = int(short) if len(short) == 4 else 2000 + int(short)  # noqa: PLR2004  digits
        one, two = first + groups["a2"], groups["b2"]
        return is_date(year, two, one) or is_date(year, one, two)
    return True
