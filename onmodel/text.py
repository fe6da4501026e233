"""Text at the edges: what a stranger wrote, made safe for a terminal, a message, a Markdown file or
a CSV file.

HTML pages escape through Jinja2 (report/pages.py) and SVG through markupsafe (report/svg.py).
"""

import os
import re
import unicodedata
from collections.abc import Iterable
from urllib.parse import quote

# Cc: control characters; Cf: format characters, such as right-to-left overrides; Cs: halves of
# surrogate pairs, which stand for bytes that are not UTF-8; Zl, Zp: U+2028 and U+2029, which end a
# line for some readers.
_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
_JOINERS = frozenset("\u200c\u200d")  # Persian words and composed emoji need them

_USER_INFO = re.compile(
    r"(?<![\w+.-])([a-z][a-z0-9+.-]*://)"
    # a password may hold "/" and "@", a port may not
    r"(?:[^\s/?#@:]*:(?!\d+(?:[/?#\s]|$))\S*|[^\s/?#]*)@",
    re.I,
)
_QUERY = re.compile(
    r"([?&;][\w.%-]*(?:key|token|secret|sig|pass|pwd|auth|cred)[\w.%-]*=)[^\s&;#\"'<>]+", re.I
)
_HEADER = re.compile(r"(\bbearer|\bauthorization\W{1,4}basic)\s+[\w.~+/=-]{4,}", re.I)
_TOKEN = re.compile(r"\b(?:hf_|sk-|gh[pousr]_|github_pat_)[\w-]{16,}")
_SECRET_NAMES = ("KEY", "TOKEN", "SECRET", "PASSWORD", "PASSWD")  # ends of environment variables
# characters; a shorter value is a common word, such as "none" for a server that asks for no key
SHORTEST_SECRET = 6
GONE = "***"
MINUS = "\N{MINUS SIGN}"

_MARKDOWN = re.compile(
    r"[\\`*\[\]|~$]|(?<!\w)_|_(?!\w)"
)  # "_" within a word, as in an address, marks nothing
_FORMULA = frozenset("=+-@\t\r\n")


def printable(text: object) -> str:
    """`text` on one line, with every character that a terminal obeys or hides written as an escape,
    e.g. `\\x1b`."""
    return "".join(_escaped(sign) if _hidden(sign) else sign for sign in str(text))


def shown(text: object, most: int = 120) -> str:
    """A stranger's text inside a message: printable and at most `most` characters, its middle left
    out."""
    line = printable(_clipped(str(text), most))  # cut first: escapes of a large text take long
    return _clipped(line, most)


def _clipped(text: str, most: int) -> str:
    half = (most - 1) // 2
    return text if len(text) <= most else f"{text[:half]}…{text[-half:]}"


def is_printable(text: str) -> bool:
    """Whether `printable` would leave `text` as it is."""
    if text.isascii():  # most names are; this is twenty times faster
        return text.isprintable()
    return not any(_hidden(sign) for sign in text)


def one_line(text: object) -> str:
    """`text` with every run of white space as one space."""
    return " ".join(str(text).split())


def without_secrets(text: str, secrets: Iterable[str] = ()) -> str:
    """`text` without user names and passwords in addresses, keys in queries and headers, and known
    key values.

    Known are `secrets` and the values of environment variables whose names end in KEY, TOKEN,
    SECRET or PASSWORD.
    """
    known = [
        *secrets,
        *(value for name, value in os.environ.items() if name.upper().endswith(_SECRET_NAMES)),
    ]
    forms = {
        form
        for value in known
        if len(value) >= SHORTEST_SECRET
        for form in (value, quote(value, ""))
    }
    for secret in sorted(forms, key=len, reverse=True):
        text = text.replace(secret, GONE)
    text = _USER_INFO.sub(r"\1", text)
    for pattern in (_QUERY, _HEADER):
        text = pattern.sub(
            lambda found: f"{found[1]}{'' if found[1].endswith('=') else ' '}{GONE}", text
        )
    return _TOKEN.sub(GONE, text)


def markdown(text: object) -> str:
    """`text` as plain words on one line of Markdown, also in a cell of a table; no markup or HTML
    in it is read."""
    line = _MARKDOWN.sub(r"\\\g<0>", printable(one_line(text)))
    return line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def code_span(text: object) -> str:
    """`text` as Markdown code. A backtick cannot stand in it; an apostrophe does instead."""
    return f"`{printable(text).replace('`', chr(39)) or ' '}`"


def csv_cell(value: object) -> object:
    """A value for a CSV file: an apostrophe stands before text that a spreadsheet would run as a
    formula."""
    return f"'{value}" if isinstance(value, str) and value[:1] in _FORMULA and value else value


def decimal(value: float, places: int, signed: bool = False) -> str:
    """A number as people read it: a real minus sign, and no minus before a zero."""
    text = f"{abs(value):.{places}f}"
    zero = not text.strip("0.")
    sign = "" if zero else MINUS if value < 0 else "+" if signed else ""
    return sign + text


def capital(words: str) -> str:
    """With a large first letter; the rest stays."""
    return words[:1].upper() + words[1:]


def _hidden(sign: str) -> bool:
    noncharacter = ord(sign) & 0xFFFE == 0xFFFE  # XML has none
    return noncharacter or (unicodedata.category(sign) in _HIDDEN and sign not in _JOINERS)


def _escaped(sign: str) -> str:
    return sign.encode("unicode_escape").decode("ascii")
