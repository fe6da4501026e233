"""Design errors: what the character sheet requires and is missing, or forbids and is there, where
it can be seen."""

from collections.abc import Iterable

import numpy as np

from onmodel.evaluate.axes.base import Axis, Evidence, Measured, References, Unavailable
from onmodel.evaluate.features import Features
from onmodel.ledger import versions

RECORD = Axis(
    id="design",
    title="design errors",
    unit="share of visible checks",
    range=(0.0, 1.0),
    direction="down",
    across="mean",
    arm="L",
    observers=("tagger",),
    version=versions.AXES["design"],
    fault=0.5,
    origin=(
        "violated ÷ applicable checks of the sheet's required and forbidden tags and of one head,"
        " each weighed by the sheet's severity; applicable is what the held-out references of the"
        " same framing and of the same style show"
    ),
    limits=(
        "What has a tag is checked, and that there is one head where a detector counts them; no"
        " sides. The tagger's own errors on the references are in the details; they are the floor."
    ),
)
SEEN = 0.5
CLASSES = ("framing", "style")
ONE_HEAD = "one head"


def measure(evidence: Evidence) -> Measured:
    """Share of a prompt's applicable checks that are violated; details: each trait, and the
    references' own share."""
    sheet = evidence.character
    expected = {
        tag: wanted
        for tags, wanted in ((sheet.required, True), (sheet.forbidden, False))
        for tag in tags
        if tag in evidence.columns
    } | {ONE_HEAD: True}
    found, shape = evidence.arm("L"), evidence.arm("L").tags.shape[:2]
    if found.tags.shape[-1] == 0:
        raise Unavailable("no tagger was given")
    if evidence.references is None:
        raise Unavailable("no held-out references were given")
    if len(expected) == 1:
        raise Unavailable("the tagger knows none of the sheet's required and forbidden tags")
    wrong, applicable = _checks(evidence, found.flat(), expected, evidence.references)
    own_wrong, own_applicable = _checks(
        evidence, evidence.references.features, expected, evidence.references
    )
    weights = np.array([sheet.severity.get(tag, 1.0) for tag in expected])
    per_prompt = [
        (array * weights).reshape(*shape, -1).sum((1, 2))
        for array in (wrong & applicable, applicable)
    ]
    values = np.where(
        per_prompt[1] > 0, per_prompt[0] / np.where(per_prompt[1] > 0, per_prompt[1], 1), np.nan
    )
    traits = {
        tag: {
            "checks": int(applicable[:, i].sum()),
            "violated": _share(wrong[:, i], applicable[:, i]),
        }
        for i, tag in enumerate(expected)
    }
    own = _share(own_wrong * weights, own_applicable * weights)
    return Measured(values, details={"traits": traits, "references": own})


def _checks(
    evidence: Evidence, pictures: Features, expected: dict[str, bool], references: References
) -> tuple[np.ndarray, np.ndarray]:
    """What is violated and what is applicable, [N, checks] each, of pictures [N]."""
    seen, own = (_seen(evidence, part, expected) for part in (pictures, references.features))
    wanted = np.array(list(expected.values()))
    applicable = np.ones(seen.shape, dtype=bool)
    for attribute in CLASSES:
        of_pictures, of_references = (
            _class(evidence, part, attribute) for part in (pictures, references.features)
        )
        for kind in np.unique(of_pictures):
            same = own[of_references == kind]
            shown = (
                (same.mean(0) >= SEEN) == wanted if len(same) else np.zeros(len(wanted), dtype=bool)
            )
            applicable[of_pictures == kind] &= shown
    return (seen >= SEEN) != wanted, applicable


def _seen(evidence: Evidence, pictures: Features, expected: Iterable[str]) -> np.ndarray:
    """How surely each check's tag is seen in pictures [N, checks]; without a detector no picture
    has one head."""
    rows = [
        pictures.heads == 1 if tag == ONE_HEAD else pictures.tags[:, evidence.columns[tag]]
        for tag in expected
    ]
    return np.stack(rows, axis=-1).astype(float)


def _class(evidence: Evidence, pictures: Features, attribute: str) -> np.ndarray:
    """Which value of the attribute each picture shows, as a number; −1 where the tagger is sure of
    none."""
    columns = [
        evidence.columns[tag]
        for tag in evidence.vocabulary.get(attribute, {}).values()
        if tag in evidence.columns
    ]
    if not columns:
        return np.full(len(pictures.tags), -1)
    found = pictures.tags[:, columns]
    return np.where(found.max(1) >= SEEN, found.argmax(1), -1)


def _share(wrong: np.ndarray, applicable: np.ndarray) -> float | None:
    """Weight of what is violated over the weight of what is applicable; None where nothing is."""
    return float((wrong * (applicable > 0)).sum() / applicable.sum()) if applicable.any() else None
