"""What the built-in patterns find, what they leave alone, and how long they take over anything."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spanflow.patterns import BUILT_IN

FOUND = [
    ("email", "mail alice@example.com now", "mail [email] now"),
    ("email", "o'brien+tag@x.co.uk.", "[email]."),
    ("email", "{'to': 'a_b-c@x.io'}", "{'to': '[email]'}"),
    ("email", r'{"a":"b\nalice@x.com\n"}', r'{"a":"b\n[email]\n"}'),
    ("email", r"C:\alice@x.com", r"C:\[email]"),
    ("email", "to=alice%40example.com&x", "to=[email]&x"),
    ("email", "100%alice@x.com 5%-10%deal@x.com", "100%[email] 5%[email]"),
    ("email", "jose\u0301@ex\u00e4mple.de \u5c71@\u4f8b\u5b50.jp", "[email] [email]"),
    ("email", "a@x.com,b@y.org;<c@z.net>", "[email],[email];<[email]>"),
    ("phone", "+49 170 1234567, x", "[phone], x"),
    ("phone", "tel 0049 (0)170/1234567!", "tel [phone]!"),
    (
        "phone",
        "(415) 555-2671 or 1-415-555-2671 or 415.555.2671.",
        "[phone] or [phone] or [phone].",
    ),
    ("phone", "0170 1234567 and 06 12 34 56 78", "[phone] and [phone]"),
    ("phone", "06.12.34.56.78 01701234567", "[phone] [phone]"),
    ("phone", r"\n+491701234567\n", r"\n[phone]\n"),
    ("credit_card", "4111 1111 1111 1111 123 Main St", "[credit_card] 123 Main St"),
    ("credit_card", "4111111111111111/4111-1111-1111-1111", "[credit_card]/[credit_card]"),
    ("credit_card", "378282246310005 3782 822463 10005", "[credit_card] [credit_card]"),
    ("iban", "DE89 3704 0044 0532 0130 00 for Ada", "[iban] for Ada"),
    ("iban", "GB82WEST12345698765432 de89370400440532013000", "[iban] [iban]"),
    ("iban", "XX12 DE89 3704 0044 0532 0130 00", "XX12 [iban]"),
    ("ip", "192.168.1.10:80 via 2001:db8::8a2e:370:7334.", "[ip]:80 via [ip]."),
    ("ip", "fe80::1%eth0 [::ffff:10.0.0.1]", "[ip]%eth0 [::ffff:[ip]]"),
    ("ssn", "219-09-9999, 219 09 9999", "[ssn], [ssn]"),
    ("api_key", "sk-proj-abcdefghijklmnop1234 AKIAIOSFODNN7EXAMPLE", "[api_key] [api_key]"),
    ("api_key", "ghp_abcdefghijklmnopqrst1234", "[api_key]"),
    ("api_key", "Authorization: Bearer abc123def456ghi", "Authorization: Bearer [api_key]"),
    ("api_key", "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0.abc-d_e", "[api_key]"),
    ("api_key", r"\nsk-abcdefghijklmnop1234", r"\n[api_key]"),
    (
        "api_key",
        "a -----BEGIN RSA PRIVATE KEY-----\nMII\n-----END RSA PRIVATE KEY----- b",
        "a [api_key] b",
    ),
    ("url_credentials", "postgres://u:p@ss@host/db", "postgres://[url_credentials]@host/db"),
    (
        "url_credentials",
        "redis://:pw@h https://tok@h/",
        "redis://[url_credentials]@h https://[url_credentials]@h/",
    ),
    ("url_credentials", "/a?x=1&token=abc&y=2", "/a?x=1&token=[url_credentials]&y=2"),
]
LEFT = [
    "a plain sentence, with nothing in it",
    "user@host @decorator x @ y a@ @b.c",
    "2024-01-15 10:30:00 01-02-2024 10:30 01.02.2024 1700000000 1700000000000 1700000000000000000",
    "4111111111111112 order 1234567890123 3.14159265358979 1 000 000 000",
    "123e4567-e89b-12d3-a456-426614174000 0190a1b2-1234-7123-8123-012345678901",
    "4bf92f3577b34da6a3ce929d0e0e4736 00f067aa0ba902b7",
    "DE89370400440532013001 v1.2.3 10:30:00 x[::2] std::string 999.1.1.1",
    "000-12-3456 666-12-3456 basic understanding bearer of tidings",
    "https://medium.com/@user https://example.com/a?b=c#d",
    'File "/usr/lib/python3.11/site-packages/langgraph/pregel/main.py", line 2745, in invoke',
    "[email] [phone] [credit_card] [iban] [ip] [ssn] [api_key] [url_credentials] [redacted]",
]


def every(text: str) -> str:
    for pattern in BUILT_IN.values():
        text = pattern(text)
    return text


@pytest.mark.parametrize(("name", "text", "kept"), FOUND)
def test_what_a_pattern_finds(name: str, text: str, kept: str) -> None:
    assert BUILT_IN[name](text) == kept
    assert BUILT_IN[name](kept) == kept


@pytest.mark.parametrize("text", LEFT)
def test_what_all_of_them_leave_alone(text: str) -> None:
    assert every(text) == text


@given(st.text(), st.sampled_from(["alice@example.com", "+49 170 1234567", "4111111111111111"]))
def test_json_text_stays_json_and_holds_it_no_more(around: str, secret: str) -> None:
    written = json.dumps({"a": [f"{around}\n{secret}\n{around}"]})
    kept = every(written)
    assert secret not in kept
    json.loads(kept)


@given(st.text(alphabet="aeyJ1 +-()./:@%\\n'4D&?=\u00e9"))
def test_a_second_time_changes_nothing(text: str) -> None:
    once = every(text)
    assert every(once) == once


HALF_A_MILLION = 500_000
TEDIOUS = r"""
a a@ a. a@b. a%2B a%zz a' \na \\ \n é 1 1- +1 +1. (0 4111- 0170- DE89 : a: 1. 1.1.1.1 :// ://a eyJ
eyJaaaaaaaa. sk- ?key= & @ %40 a%40 123-45- gh xox- SG.aaaaaaaaaaaaaaaaa 555-555-
"""
WITH_SPACES = ["1 ", "+1 ", "4111 ", "0170 ", "06 12 34 56 7x ", "DE89 ", "bearer ", "token a"]
WITH_SPACES += ["a@b.c ", "-----BEGIN PRIVATE KEY-----"]


@pytest.mark.parametrize("name", BUILT_IN)
def test_no_text_takes_long(name: str) -> None:
    """The worst here takes half a second; what backtracks would take hours."""
    for unit in [*TEDIOUS.split(), *WITH_SPACES]:
        text = (unit * HALF_A_MILLION)[:HALF_A_MILLION]
        began = time.process_time()
        BUILT_IN[name](text)
        BUILT_IN[name](f"://{text}")
        assert time.process_time() - began < 20, unit
