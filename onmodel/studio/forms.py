"""Numbers that a person typed into a form."""

from onmodel.errors import InputError

LONGEST = 9  # digits


def whole_number(text: str, field: str) -> int:
    """A whole number. Raises InputError naming the field."""
    if not (text.isascii() and text.isdecimal() and len(text) <= LONGEST):
        raise InputError(field, text, "must be a whole number below 1,000,000,000")
    return int(text)
