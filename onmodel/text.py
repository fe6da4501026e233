"""Text at the edges: what a stranger wrote, made safe for one line of a terminal, a log or a message."""

import unicodedata

# Cc: control characters; Cf: format characters, such as right-to-left overrides; Cs: halves of surrogate pairs, which
# stand for bytes that are not UTF-8; Zl, Zp: U+2028 and U+2029, which end a line for some readers.
_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
_JOINERS = frozenset("\u200c\u200d")  # Persian words and composed emoji need them


def printable(text: object) -> str:
    """`text` on one line, with every character that a terminal obeys or hides written as an escape, e.g. `\\x1b`."""
    return "".join(_escaped(sign) if _hidden(sign) else sign for sign in str(text))


def shown(text: object, most: int = 120) -> str:
    """A stranger's text inside a message: printable and at most `most` characters, its middle left out."""
    line = printable(_clipped(str(text), most))  # cut first: escapes of a large text take long
    return _clipped(line, most)


def _clipped(text: str, most: int) -> str:
    half = (most - 1) // 2
    return text if len(text) <= most else f"{text[:half]}…{text[-half:]}"


def is_printable(text: str) -> bool:
    """Whether `printable` would leave `text` as it is."""
    return not any(_hidden(sign) for sign in text)


def _hidden(sign: str) -> bool:
    return unicodedata.category(sign) in _HIDDEN and sign not in _JOINERS


def _escaped(sign: str) -> str:
    return sign.encode("unicode_escape").decode("ascii")
