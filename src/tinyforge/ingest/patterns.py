"""What gives a person or a secret away by its form: one finder per kind, each with the check that keeps it precise.

A finder takes a text and yields ``(start, end)``. Where a form has a check digit or a plan of numbers, that is what
decides: IBAN (ISO 13616), cards (Luhn, ISO/IEC 7812), phone numbers (libphonenumber's plans), addresses (ipaddress).
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterator

from tinyforge.ingest.scan import near, near_digits
from tinyforge.ingest.secret_patterns import credentials, secrets

Spans = Iterator[tuple[int, int]]

# --- e-mail -----------------------------------------------------------------------------------------------------------

_EMAIL = re.compile(
    r"(?<![\w.+-])[A-Za-z0-9](?:[\w.+'-]{0,62}[\w+-])?@(?:[\w](?:[\w-]{0,61}[\w])?\.)+[^\W\d_]{2,24}(?![\w-])"
    r"|(?<!\w)[\w.+-]{1,64} ?[\[(] ?at ?[\])] ?[\w-]{1,63}(?:(?: ?[\[(] ?dot ?[\])] ?|\.)[\w-]{2,63}){1,4}",
    re.I,
)
_NO_MAIL = re.compile(r"^git@|@\dx\.(?:png|jpe?g|gif|webp|svg)$|\.(?:png|jpe?g|gif|webp|svg)$", re.I)


def emails(text: str) -> Spans:
    """``anna@example.org`` and ``anna [at] example [dot] org``; not git's ``git@host`` nor picture names."""
    for found in near(text, ("@", "at]", "at)", "AT]", "AT)"), _EMAIL):
        if not _NO_MAIL.search(found[0]):
            yield found.span()


# --- bank accounts and cards ------------------------------------------------------------------------------------------

_IBAN_LENGTHS = {
    name[:2]: int(name[2:])
    for name in (
        "AD24 AE23 AL28 AT20 AZ28 BA20 BE16 BG22 BH22 BI27 BR29 BY28 CH21 CR22 CY28 CZ24 DE22 DJ27 DK18 DO28 EE20 EG29 "
        "ES24 FI18 FK18 FO18 FR27 GB22 GE22 GI23 GL18 GR27 GT28 HN28 HR21 HU28 IE22 IL23 IQ23 IS26 IT27 JO30 KW30 KZ20 "
        "LB28 LC32 LI21 LT20 LU20 LV21 LY25 MC27 MD24 ME22 MK19 MN20 MR27 MT31 MU30 NI28 NL18 NO15 OM23 PK24 PL28 PS29 "
        "PT25 QA29 RO24 RS22 RU33 SA24 SC31 SD18 SE24 SI19 SK24 SM27 SO23 ST25 SV28 TL23 TN24 TR26 UA29 VA22 VG24 XK20 "
        "YE30"
    ).split()
}
_IBAN = re.compile(r"(?<![A-Za-z0-9])[A-Z]{2}\d{2}(?:[ -]?[A-Z0-9]){11,30}", re.I)


def ibans(text: str) -> Spans:
    """Account numbers with their country's length and a checksum of 1 modulo 97, in groups or not."""
    for found in near_digits(text, _IBAN):
        end = _iban_end(found[0])
        if end and not text[found.start() + end : found.start() + end + 1].isalnum():
            yield found.start(), found.start() + end


def _iban_end(text: str) -> int:
    """Where the account number at the start of ``text`` ends, 0 where there is none."""
    wanted = _IBAN_LENGTHS.get(text[:2].upper(), 0)
    places = [i for i, char in enumerate(text) if char.isalnum()]
    if not wanted or len(places) < wanted:
        return 0
    number = "".join(text[i] for i in places[:wanted]).upper()
    digits = "".join(str(int(char, 36)) for char in number[4:] + number[:4])
    return places[wanted - 1] + 1 if int(digits) % 97 == 1 else 0


_CARD = re.compile(
    r"(?<![\w.#@:/&=+-])(?:\d{4}([ -])\d{4}\1\d{4}\1\d{4}(?:\1\d{3})?|3\d{3}([ -])\d{6}\2\d{4,5}|\d{13,16}|\d{19})"
    r"(?![\w-]|[.,]\d|>)"
)
_CARD_LENGTHS = (  # the networks' first digits and how long their numbers are
    (re.compile(r"4"), (13, 16, 19)),
    (re.compile(r"5[1-5]|222[1-9]|22[3-9]|2[3-6]|27[01]|2720"), (16,)),
    (re.compile(r"3[47]"), (15,)),
    (re.compile(r"3(?:0[0-5]|[689])"), (14, 16, 19)),
    (re.compile(r"6(?:011|4[4-9]|5|2)|35(?:2[89]|[3-8])"), (16, 19)),
    (re.compile(r"50|5[6-8]|6[37]"), (13, 14, 15, 16, 19)),
)


def cards(text: str) -> Spans:
    """Payment cards: a network's first digits and length, and Luhn's check digit."""
    for found in near_digits(text, _CARD):
        digits = re.sub(r"\D", "", found[0])
        known = any(first.match(digits) and len(digits) in lengths for first, lengths in _CARD_LENGTHS)
        if known and len(set(digits)) > 1 and _luhn(digits):
            yield found.span()


def _luhn(digits: str) -> bool:
    doubled = (int(d) * (1 + place % 2) for place, d in enumerate(reversed(digits)))
    return sum(d - 9 if d > 9 else d for d in doubled) % 10 == 0


# --- phone numbers ----------------------------------------------------------------------------------------------------

_GAP = r"[ .\-/\u00a0\u2011\u2013]{0,2}"
_WORLD = re.compile(rf"(?<![\w.+=])(?:\+|00(?=[1-9])){_GAP}\(?[1-9](?:{_GAP}[()]?{_GAP}\d){{6,14}}(?![\w%]|[.,]\d)")
_HOME = re.compile(
    rf"(?<![\w.,+#:/=-])(?:\(0\d{{1,5}}\){_GAP}\d|0\d)(?:{_GAP}\d){{7,10}}(?![\w%]|[.,:]\d)"
    r"|(?<![\w.,+#/=-])(?:1[-. ])?\(?[2-9]\d\d\)?[-. ] ?[2-9]\d\d[-. ]\d{4}(?![\w%-]|[.,]\d)"
)
_CALLED = re.compile(
    r"\b(?:call|phone|telephone|tel|mobile|cell|fax|text|sms|ring|whatsapp|signal|number|handy|nummer|mobil)\b"
    r"(?:[ :.#]|\b(?:me|us|him|her|them|at|on|is|it|my|number|no|nr|under|via|to|back|now|mobile|phone|cell|the)\b)"
    r"{1,12}"
    r"(\d(?:[ .\-/]?\d){6,14})(?![\w%]|[.,]\d)|(?<![\w<])@(\d{8,15})(?!\w)",
    re.I,
)
_REGIONS = ("GB", "DE", "FR", "IT", "ES", "NL", "BE", "AT", "CH", "AU", "JP", "SE", "TR", "ZA", "IN", "BR")
_DATE = re.compile(r"\d{4}[-./ ]\d\d?[-./ ]\d\d?|\d\d?[-./ ]\d\d?[-./ ]\d{4}")


def phones(text: str) -> Spans:
    """International numbers of a possible length, national ones of a valid plan, and digits after a word for calling.

    A national number begins with 0 or has the three groups of North America's; which country it is from is not known,
    so one plan of many has to take it.
    """
    for found in near_digits(text, _WORLD):
        if _possible("+" + re.sub(r"^00|\D", "", found[0])):
            yield _trimmed(found)
    for found in near_digits(text, _HOME):
        if not _DATE.match(found[0]) and not _counts_up(found[0]) and _valid(found[0]):
            yield _trimmed(found)
    for found in near_digits(text, _CALLED):
        group = 1 if found[1] else 2
        if not _DATE.match(found[group]) and not _counts_up(found[group]):
            yield found.span(group)


def _trimmed(found: re.Match[str]) -> tuple[int, int]:
    """Without an opening bracket that is not closed inside."""
    start = found.start() + (found[0].startswith("(") and ")" not in found[0])
    return start, found.end()


def _possible(number: str) -> bool:
    import phonenumbers

    try:
        return phonenumbers.is_possible_number(phonenumbers.parse(number, None))
    except phonenumbers.NumberParseException:
        return False


def _valid(text: str) -> bool:
    import phonenumbers

    for region in _REGIONS if re.sub(r"\D", "", text).startswith("0") else ("US",):
        try:
            if phonenumbers.is_valid_number(phonenumbers.parse(text, region)):
                return True
        except phonenumbers.NumberParseException:
            continue
    return False


def _counts_up(text: str) -> bool:
    """``0123456789`` and the like are examples of digits."""
    digits = re.sub(r"\D", "", text)
    return len(set(digits)) < 3 or digits in "012345678901234567890" or digits in "09876543210987654321"


# --- network addresses ------------------------------------------------------------------------------------------------

_IPV4 = re.compile(r"(?<![\w.-])\d{1,3}(?:\.\d{1,3}){3}(?![\w-]|\.\d)")
_IPV6 = re.compile(r"(?<![\w:.])(?:[0-9a-f]{1,4}:|:(?=:))(?:[0-9a-f]{0,4}:){1,6}[0-9a-f]{0,4}(?![\w:])", re.I)
_NETWORK = re.compile(
    r"(?:\b(?:ip|ipv4|address|addr|host|server|ping|ssh|inet|gateway|dns|router|subnet|network|from|logged in|login|"
    r"connect\w*|proxy|vpn)\b[^\n]{0,24}|https?://|@)$",
    re.I,
)
_NUMBERED = re.compile(
    r"(?:\b(?:v|ver|version|release|rev|build|section|sect?|chapter|clause|article|part|figure|fig|table|step|level|"
    r"paragraph|item|python|java|chrome|firefox|kernel|upgrade\w*|update\w*)\.?|§+|[<>=~^!]=?) ?$",
    re.I,
)


def addresses(text: str) -> Spans:
    """IPv4 and IPv6 addresses that name a machine; not versions, section numbers, masks, loopback or multicast."""
    for found in _IPV4.finditer(text):
        if _names_machine(found[0]) and _looks_like_ipv4(text, found):
            yield found.span()
    for found in _IPV6.finditer(text):
        groups = [group for group in found[0].split(":") if group]
        if len(groups) >= 3 and _names_machine(found[0]):
            yield found.span()


def _names_machine(text: str) -> bool:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    mask = text.startswith(("255.", "0."))
    return not (mask or address.is_loopback or address.is_unspecified or address.is_multicast)


def _looks_like_ipv4(text: str, found: re.Match[str]) -> bool:
    """Four numbers are an address where the words around say so, or where they are larger than those of versions."""
    before = text[max(0, found.start() - 40) : found.start()]
    after = text[found.end() : found.end() + 6]
    if _NUMBERED.search(before):
        return False
    if _NETWORK.search(before) or re.match(r":\d{2,5}\b|/\d{1,2}\b", after):
        return True
    lengths = [len(part) for part in found[0].split(".")]
    return max(lengths) == 3 or sum(length > 1 for length in lengths) >= 3


FINDERS: dict[str, Callable[[str], Spans]] = {
    "SECRET": secrets,
    "CREDENTIALS": credentials,
    "EMAIL": emails,
    "IBAN": ibans,
    "CARD": cards,
    "IP": addresses,
    "PHONE": phones,
}
"""By kind, the surest first: where two overlap, the earlier one has it."""
