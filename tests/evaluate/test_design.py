"""Which checks of the design apply to a picture, with few references."""

import dataclasses

import numpy as np

from onmodel.evaluate.axes import Evidence, evaluate_axis
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
