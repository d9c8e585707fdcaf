"""What personal and secret text looks like: the built-in patterns that redaction may be given.

Each pattern is a function from text to text that puts ``[its name]`` where it found something, in
time linear in the text, whatever the text is: repetitions are possessive or bounded, and what a
shape alone cannot tell is settled by arithmetic (Luhn, ISO 7064). It knows the usual written forms
and promises no more; it knows nothing of spans.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from ipaddress import IPv6Address
from typing import Final

__all__ = ["BUILT_IN", "Replacement", "nothing_kept"]

Replacement = Callable[[str], str | None]
"""Returns the text with what must not be kept replaced, or None to drop all of it."""


def nothing_kept(_text: str, /) -> None:
    """Drop every text: what holds where a person asked for redaction and it cannot be had."""


def _after(blocked: str) -> str:
    """Return the start of a pattern that must not follow one of the characters `blocked`.

    JSON and ``repr`` write a line break as two characters of which the last is a letter: what
    follows that letter starts afresh.
    """
    return rf"(?:(?<![{blocked}])|(?<=\\[nrtbf]))(?!(?<=\\)[nrtbf])"


def _starting(first: str, blocked: str) -> str:
    """Return the same start for a pattern whose first character is one of `first`.

    Searching for a character is several times as fast as looking back at every place.
    """
    return rf"[{first}](?:(?<![{blocked}][{first}])|(?<=\\[nrtbf][{first}]))"


def _replaced(
    text: str,
    pattern: re.Pattern[str],
    mark: str,
    end_of: Callable[[re.Match[str]], int],
    before: int = 0,
) -> str:
    """Return `text` with `mark` for each match.

    Args:
        text: Any text.
        pattern: What is looked for.
        mark: What to put there.
        end_of: Tells where a match really ends; -1 if it is none.
        before: How many characters before the match are part of it.
    """
    found = pattern.search(text)
    if found is None:
        return text
    pieces: list[str] = []
    kept = 0
    while found is not None:
        end = end_of(found)
        if end > found.start():
            pieces += (text[kept : found.start() - before], mark)
            kept = end
        found = pattern.search(text, max(end, found.start() + 1))
    return "".join((*pieces, text[kept:]))


_DIGIT = re.compile(r"\d")

# Everything but what commonly stands around an address: letters of any script with their accents.
_LOCAL = r"[^\s@<>()\[\]{},;:\"'\\/?=&%|!#$*~^`]"
_LABEL = r"[^\s@<>()\[\]{},;:\"'\\/?=&%|!#$*~^`.+]"
_LETTERS = rf"(?:{_LOCAL}|%(?!40)[0-9A-Fa-f]{{2}})++"
_EMAIL = re.compile(
    _after(_LOCAL[1:-1])
    + rf"(?!(?<=%)[0-9A-Fa-f]{{2}}){_LETTERS}(?:[!#$&'*~^]{_LETTERS}){{0,3}}+"
    + rf"(?:@|%40){_LABEL}++(?:\.{_LABEL}++)++"
)


def _email(text: str) -> str:
    if "@" not in text and "%40" not in text:
        return text
    return _EMAIL.sub("[email]", text)


_NUMBER = r"[\d ()./\-\u00a0\u2010-\u2015]{5,24}+"
_PHONES = (
    # +49 170 1234567
    re.compile(_starting("+", r"\w+") + r"\d" + _NUMBER),
    # 0049 (0)170/1234567
    re.compile(_starting("0", r"\w+.\-:,/") + "0[1-9]" + _NUMBER),
    # (415) 555-2671, 1-415-555-2671, 415.555.2671
    re.compile(
        _starting("(1-9", r"\w.+\-")
        + r"(?:(?<=\()\d{3}\) ?|(?<=1)[ .\-](?:\(\d{3}\) ?|\d{3}[ .\-])|(?<=\d)\d\d[ .\-])"
        r"\d{3}[ .\-]\d{4}(?![\w\-])"
    ),
    # 0170 1234567, 06 12 34 56 78, (030) 123 456, 01701234567
    re.compile(_starting("(0", r"\w.:,+\-/") + r"(?:(?<=0)|0)[1-9][\d ()/.\-\u00a0]{5,15}\d(?!\w)"),
)
_FEWEST_DIGITS, _MOST_DIGITS = 8, 15  # E.164 allows fifteen
_DATE = re.compile(r"\d\d([-/.])\d\d\1(?:\d{4}|\d\d)(?!\d|\1\d)")


def _phone_end(found: re.Match[str]) -> int:
    """Return where the number ends, before what separates it from what follows."""
    run = found.group().rstrip(" ()./-\u00a0\u2010\u2011\u2012\u2013\u2014\u2015")
    if _DATE.match(run):
        return -1
    while sum(map(str.isdigit, run)) > _MOST_DIGITS:
        cut = max(run.rfind(separator) for separator in " ./-\u00a0")
        if cut < 0:
            return -1
        run = run[:cut]
    digits = sum(map(str.isdigit, run))
    return found.start() + len(run) if digits >= _FEWEST_DIGITS else -1


def _phone(text: str) -> str:
    if not _DIGIT.search(text):
        return text
    for pattern in _PHONES:
        text = _replaced(text, pattern, "[phone]", _phone_end)
    return text


_CARD = re.compile(
    _starting("2-6", r"\w") + r"(?:\d{12,18}|\d{3}(?P<s>[ .\-\u00a0])(?:"
    r"\d{4}(?P=s)\d{4}(?P=s)\d{4}(?P<more>(?P=s)\d{1,3})?|\d{6}(?P=s)\d{4,5}))(?!\w)"
)


def _card_end(found: re.Match[str]) -> int:
    """Return where a number ends that passes Luhn's check; a fifth group may be another's."""
    ends = [found.end(), found.start("more")] if found["more"] else [found.end()]
    return next((end for end in ends if _luhn(found.string[found.start() : end])), -1)


def _luhn(text: str) -> bool:
    digits = [int(character) for character in text if character.isdigit()]
    doubled = [digit * 2 - 9 * (digit > 4) for digit in digits[-2::-2]]  # noqa: PLR2004 - Luhn
    return (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0


def _credit_card(text: str) -> str:
    return _replaced(text, _CARD, "[credit_card]", _card_end) if _DIGIT.search(text) else text


# Lengths by country: the IBAN registry of ISO 13616.
_IBAN_REGISTRY = (
    "AD24 AE23 AL28 AT20 AZ28 BA20 BE16 BG22 BH22 BI27 BR29 BY28 CH21 CR22 CY28 CZ24 DE22 "
    "DJ27 DK18 DO28 EE20 EG29 ES24 FI18 FK18 FO18 FR27 GB22 GE22 GI23 GL18 GR27 GT28 HN28 "
    "HR21 HU28 IE22 IL23 IQ23 IS26 IT27 JO30 KW30 KZ20 LB28 LC32 LI21 LT20 LU20 LV21 LY25 "
    "MC27 MD24 ME22 MK19 MN20 MR27 MT31 MU30 NI28 NL18 NO15 OM23 PK24 PL28 PS29 PT25 QA29 "
    "RO24 RS22 RU33 SA24 SC31 SD18 SE24 SI19 SK24 SM27 SO23 ST25 SV28 TL23 TN24 TR26 UA29 "
    "VA22 VG24 XK20 YE30 "
)
_IBAN_LENGTHS: Final = {entry[:2]: int(entry[2:]) for entry in _IBAN_REGISTRY.split()}
# Its first digit is looked for, and the two letters before it: digits are rarer.
_IBAN = re.compile(
    r"[0-9](?<=[A-Za-z]{2}.)(?:(?<![A-Za-z0-9]...)|(?<=\\[nrtbf]...))"
    r"[0-9](?:[ \u00a0]?[A-Za-z0-9]){11,30}"
)


def _iban_end(found: re.Match[str]) -> int:
    """Return where an account number of its country's length ends, if its check digits are right.

    The match may run on into the words that follow.
    """
    start = found.start() - 2
    run = found.string[start : found.end()]
    wanted = _IBAN_LENGTHS.get(run[:2].upper(), 0)
    places = [at for at, character in enumerate(run) if character.isalnum()]
    if not wanted or len(places) < wanted:
        return -1
    end = start + places[wanted - 1] + 1
    if found.string[end : end + 1].isalnum():
        return -1
    number = "".join(run[at] for at in places[:wanted])
    return end if int("".join(str(int(c, 36)) for c in number[4:] + number[:4])) % 97 == 1 else -1


def _iban(text: str) -> str:
    return _replaced(text, _IBAN, "[iban]", _iban_end, 2) if _DIGIT.search(text) else text


_IPV4 = re.compile(_starting("0-9", r"\w.") + r"[0-9]{0,2}(?:\.[0-9]{1,3}){3}(?!\w)(?!\.[0-9])")
_IPV6 = re.compile(_after(r"\w:.") + r"[0-9a-fA-F]{0,4}:[0-9a-fA-F:]{2,41}+(?!\w|\.[0-9])")


def _ipv6_end(found: re.Match[str]) -> int:
    run = found.group().rstrip(":") if not found.group().endswith("::") else found.group()
    if sum(map(bool, run.split(":"))) < 2:  # noqa: PLR2004 - `::1` is nobody's, and in code a slice
        return -1
    try:
        IPv6Address(run)
    except ValueError:
        return -1
    return found.start() + len(run)


def _ipv4_end(found: re.Match[str]) -> int:
    return found.end() if all(int(part) < 256 for part in found.group().split(".")) else -1  # noqa: PLR2004 - a byte


def _ip(text: str) -> str:
    if text.count(":") > 1:
        text = _replaced(text, _IPV6, "[ip]", _ipv6_end)
    return _replaced(text, _IPV4, "[ip]", _ipv4_end) if "." in text else text


_SSN = re.compile(
    _starting("0-8", r"\w\-") + r"(?:(?<!0)|(?!00))(?:(?<!6)|(?!66))"
    r"[0-9]{2}([ \-])(?!00)[0-9]{2}\1(?!0000)[0-9]{4}(?!\w)(?!-[0-9])"
)


def _ssn(text: str) -> str:
    return _SSN.sub("[ssn]", text) if _DIGIT.search(text) else text


# What providers' keys begin with, and what must follow.
_KEYS = {
    "sk-": r"sk-[A-Za-z0-9_\-]{16,}+",
    "k_live_": r"[srp]k_live_[A-Za-z0-9]{10,}+",
    "k_test_": r"[srp]k_test_[A-Za-z0-9]{10,}+",
    "whsec_": r"whsec_[A-Za-z0-9+/=]{16,}+",
    "gsk_": r"gsk_[A-Za-z0-9]{20,}+",
    "xai-": r"xai-[A-Za-z0-9]{20,}+",
    "pplx-": r"pplx-[A-Za-z0-9]{20,}+",
    "hf_": r"hf_[A-Za-z0-9]{20,}+",
    "lsv2_": r"lsv2_[a-z]{2}_[a-z0-9_]{20,}+",
    "AKIA": r"AKIA[A-Z0-9]{16}(?![A-Za-z0-9])",
    "ASIA": r"ASIA[A-Z0-9]{16}(?![A-Za-z0-9])",
    "AIza": r"AIza[A-Za-z0-9_\-]{30,}+",
    "ya29.": r"ya29\.[A-Za-z0-9_\-.]{20,}+",
    "gh": r"gh[pousr]_[A-Za-z0-9]{20,}+",
    "github_pat_": r"github_pat_[A-Za-z0-9_]{20,}+",
    "glpat-": r"glpat-[A-Za-z0-9_\-.]{16,}+",
    "xox": r"xox[a-z]-[A-Za-z0-9\-]{10,}+",
    "xapp-": r"xapp-[A-Za-z0-9\-]{10,}+",
    "npm_": r"npm_[A-Za-z0-9]{30,}+",
    "pypi-": r"pypi-[A-Za-z0-9_\-]{40,}+",
    "SG.": r"SG\.[A-Za-z0-9_\-]{16,}+\.[A-Za-z0-9_\-]{16,}+",
    "eyJ": r"eyJ[A-Za-z0-9_\-]{8,}+\.eyJ[A-Za-z0-9_\-]{4,}+(?:\.[A-Za-z0-9_\-]*+)?",
}
_KEY = re.compile(_after(r"A-Za-z0-9_\-") + f"(?:{'|'.join(_KEYS.values())})")
_PEM = re.compile(
    r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY-----"
    r"(?:(?!-----END )[\s\S])*+(?:-----END [A-Z0-9 ]{0,40}PRIVATE KEY-----)?"
)
# A scheme and a token that no word of a language looks like.
_AUTHORIZATION = re.compile(
    r"(?i)\b((?:bearer|basic|token)[ \t]{1,8})"
    r"(?=[A-Za-z._~+/=\-]{0,400}[0-9])[A-Za-z0-9._~+/=\-]{12,}+"
)
_SCHEMES = ("bearer", "basic", "token")


def _api_key(text: str) -> str:
    if "PRIVATE KEY" in text:
        text = _PEM.sub("[api_key]", text)
    if any(prefix in text for prefix in _KEYS):
        text = _KEY.sub("[api_key]", text)
    lower = text.lower()
    if any(scheme in lower for scheme in _SCHEMES):
        text = _AUTHORIZATION.sub(r"\1[api_key]", text)
    return text


_USER = re.compile(r"(?<=://)[^\s/?#\"'<>\\]{1,2048}@")
_SECRET = re.compile(
    r"(?i)([?&;](?:access_token|api[_\-]?key|auth|client_secret|code|id_token|key|passw(?:or)?d|pwd|"
    r"refresh_token|secret|sig|signature|token|x-amz-[a-z\-]{1,30})=)[^&\s#\"'<>\\;]++"
)


def _url_credentials(text: str) -> str:
    if "://" in text and "@" in text:
        text = _USER.sub("[url_credentials]@", text)
    return _SECRET.sub(r"\1[url_credentials]", text) if "=" in text else text


BUILT_IN: Final[dict[str, Callable[[str], str]]] = {
    # The order in which they are applied: the more particular first.
    "api_key": _api_key,
    "url_credentials": _url_credentials,
    "email": _email,
    "iban": _iban,
    "credit_card": _credit_card,
    "ssn": _ssn,
    "ip": _ip,
    "phone": _phone,
}
"""The patterns people may ask for by name."""
