"""The model sheet: what is checked weighs what the sheet says, and wrong weights are refused by
name."""

import pytest

from onmodel.character import parse_character
from onmodel.errors import InputError
from tests.support.drawn_family import sheet


def test_severity_weighs_only_what_is_checked() -> None:
    told = sheet().model_dump()
    assert parse_character(told | {"severity": {"cat ears": 3}}, "x.toml").severity == {
        "cat ears": 3.0
    }
    for wrong in ({"dog ears": 2}, {"cat ears": 0}, {"cat ears": float("inf")}):
        with pytest.raises(InputError, match=next(iter(wrong))):
            parse_character(told | {"severity": wrong}, "x.toml")
