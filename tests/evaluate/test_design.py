"""Which checks of the design apply to a picture, with few references."""

import dataclasses

import numpy as np

from onmodel.evaluate.axes import Evidence, evaluate_axis
from onmodel.evaluate.axes.design import Check, checks_of
from tests.support.drawn_family import Faults, evidence


def checks(one: Evidence, tag: str) -> int:
    found: int = evaluate_axis("design", one).details["traits"][tag]["checks"]
    return found


def with_references(one: Evidence, rows: np.ndarray) -> Evidence:
    """The evidence with some of its references alone."""
    assert one.references is not None
    some = dataclasses.replace(one.references, features=one.references.features.take(rows))
    return dataclasses.replace(one, references=some)


def test_a_framing_that_few_references_show_in_colour_is_still_checked_for_colours() -> None:
    """Full bodies that are mostly drawn without colours say nothing about full bodies."""
    one = evidence(Faults(wrong_hair=True))
    assert one.references is not None
    seen, columns = one.references.features.tags, one.columns
    full = seen[:, columns["full body"]] >= 0.5
    bare = (seen[:, columns["lineart"]] >= 0.5) | (seen[:, columns["monochrome"]] >= 0.5)
    assert (full & bare).any() and (full & ~bare).any()
    coloured = with_references(one, np.flatnonzero(~full | ~bare))
    assert checks(one, "light blue hair") == checks(coloured, "light blue hair") > 0
    rest, first = np.flatnonzero(~full | bare), np.flatnonzero(full & ~bare)[:1]
    skewed = with_references(one, np.concatenate([rest, first]))
    assert checks(skewed, "light blue hair") == checks(coloured, "light blue hair")
    assert checks(skewed, "bob cut") == checks(coloured, "bob cut")


def test_what_no_reference_of_a_style_shows_is_not_checked_in_that_style() -> None:
    one = evidence(Faults(wrong_hair=True))
    assert 0 < checks(one, "light blue hair") < checks(one, "bob cut")  # noir and lineart


def test_a_coloured_trait_implies_the_thing_and_no_other_colour_of_it() -> None:
    checks = checks_of(["light blue hair", "red eyes", "blue eyes"], ["horns"], {"red eyes": 2.0})
    assert "hair" in checks and not checks["blue hair"].wanted
    assert checks["blue hair"].shown_by == "light blue hair"
    assert checks["red eyes"] == Check(True, "red eyes", 2.0) and checks["blue eyes"].wanted
    assert not checks["green eyes"].wanted and not checks["horns"].wanted


def test_another_colour_in_place_of_the_required_one_is_named() -> None:
    """Hair in a colour that nothing in the sheet forbids."""
    details = evaluate_axis("design", evidence(Faults(wrong_hair=True))).details
    traits = details["traits"]
    assert "blue hair" not in details["required"] and "light blue hair" in details["required"]
    drawn = [tag for tag in traits if tag.endswith(" hair") and traits[tag]["violated"]]
    assert len(drawn) >= 2  # the one that is missing, and the one in its place
