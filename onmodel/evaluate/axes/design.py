"""Design errors: what the character sheet requires and is missing, or forbids and is there, where
it can be seen."""

from collections.abc import Iterable

import numpy as np

from onmodel.evaluate.axes.base import (
    Axis,
    Evidence,
    Joining,
    Joint,
    References,
    Shared,
    Unavailable,
)
from onmodel.evaluate.features import Features
from onmodel.ledger import versions

RECORD = Axis(
    id="design",
    title="design errors",
    unit="share of the worst trait's checks",
    range=(-1.0, None),
    direction="down",
    across="mean",
    arm="L",
    observers=("tagger",),
    version=versions.AXES["design"],
    fault=1.0,
    origin=(
        "the worst of the sheet's traits: share of its applicable checks that are violated, less"
        " that of the references, times its severity; checks are the required and forbidden tags"
        " and one head; applicable is what the held-out references of the same framing and of the"
        " same style show, those aside whose style or framing hides it"
    ),
    limits=(
        "One trait that is always wrong makes another character, so traits are not averaged; the"
        " others are in the details. Two models are compared in the trait that differs most between"
        " them; the test allows for that choice. Traits that fewer than six prompts show are left"
        " out. The largest of many shares lies above 0 by chance, for equal models alike. What has"
        " a tag is checked, and that there is one head where a detector counts them; no sides."
    ),
)
SEEN = 0.5
CLASSES = ("framing", "style")
ONE_HEAD = "one head"
FEWEST = 6  # prompts that show a trait


def measure(evidence: Evidence) -> Joint:
    """Share of a prompt's checks of the worst trait that are violated, less the references'.

    Details: each trait, and the worst by name.
    """
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
    own = [
        _share(own_wrong[:, i], own_applicable[:, i]) or 0.0 for i in range(len(expected))
    ]  # of the references
    counts = [
        array.reshape(*shape, -1).sum(1).astype(float) for array in (wrong & applicable, applicable)
    ]
    rows = np.concatenate(counts, axis=1)
    severity = np.array([sheet.severity.get(tag, 1.0) for tag in expected])
    shared = {"own": np.array(own), "severity": severity}
    worst = int(_worst(_excess(rows[None], np.ones((1, len(rows))), shared)[1])[0])
    traits = {
        tag: {
            "checks": int(applicable[:, i].sum()),
            "violated": _share(wrong[:, i], applicable[:, i]),
            "references": own[i],
        }
        for i, tag in enumerate(expected)
    }
    details = {"traits": traits, "worst": list(expected)[worst], "required": list(sheet.required)}
    return Joint(rows, shared, details)


def _spread(rows_rpk: np.ndarray, weights_rp: np.ndarray, shared: Shared) -> np.ndarray:
    excess, mean = _excess(rows_rpk, weights_rp, shared)
    chosen = _worst(mean)[:, None, None]
    rows = np.broadcast_to(excess, (len(chosen), *excess.shape[1:]))
    return np.take_along_axis(rows, chosen, axis=2)[..., 0]


def _excess(
    rows_rpk: np.ndarray, weights_rp: np.ndarray, shared: Shared
) -> tuple[np.ndarray, np.ndarray]:
    """Violated share beyond the references', times severity: of each prompt and trait [R, P, T],
    NaN where it does not apply, and the weighted means over prompts [R, T]."""
    wrong, checks = np.split(rows_rpk, 2, axis=2)
    known = checks > 0
    share = np.where(known, wrong / np.where(known, checks, 1), np.nan)
    excess = (share - shared["own"]) * shared["severity"]
    weights = weights_rp[..., None] * known
    count = weights.sum(1)
    mean = (np.nan_to_num(excess) * weights).sum(1) / np.where(count > 0, count, np.nan)
    return excess, np.where(known.sum(1) >= FEWEST, mean, np.nan)


def _worst(mean_rt: np.ndarray) -> np.ndarray:
    """The trait [R] that is violated most."""
    return np.asarray(np.nan_to_num(mean_rt, nan=-np.inf).argmax(1))


def _contrast(
    a_rpk: np.ndarray, b_rpk: np.ndarray, weights_rp: np.ndarray, shared: Shared
) -> np.ndarray:
    """The change of the trait that changed most: one that both models lack hides no new fault."""
    change = _excess(a_rpk, weights_rp, shared)[1] - _excess(b_rpk, weights_rp, shared)[1]
    change = np.nan_to_num(change)
    return np.take_along_axis(change, np.abs(change).argmax(1)[:, None], axis=1)[:, 0]


JOINING = Joining(_spread, contrast=_contrast)


def _checks(
    evidence: Evidence, pictures: Features, expected: dict[str, bool], references: References
) -> tuple[np.ndarray, np.ndarray]:
    """What is violated and what is applicable, [N, checks] each, of pictures [N]."""
    seen, own = (_seen(evidence, part, expected) for part in (pictures, references.features))
    wanted = np.array(list(expected.values()))
    applicable = np.ones(seen.shape, dtype=bool)
    ours = [_class(evidence, pictures, attribute) for attribute in CLASSES]
    theirs = [_class(evidence, references.features, attribute) for attribute in CLASSES]
    alone = [_shown(own, kinds, wanted, np.ones(own.shape, dtype=bool)) for kinds in theirs]
    for i, kinds in enumerate(theirs):
        # References are few: those of one framing may be mostly of styles without colours, which
        # says nothing about the framing. So they are asked again without the styles that hide it.
        counted = np.stack([alone[1 - i][kind] for kind in theirs[1 - i]])
        again = _shown(own, kinds, wanted, counted)
        for kind in np.unique(ours[i]):
            known = kind in again
            applicable[ours[i] == kind] &= (alone[i][kind] | again[kind]) if known else False
    return (seen >= SEEN) != wanted, applicable


def _shown(
    own_nt: np.ndarray, kinds_n: np.ndarray, wanted_t: np.ndarray, counted_nt: np.ndarray
) -> dict[int, np.ndarray]:
    """Kind → the checks [T] that its counted references show as wanted."""
    found = {}
    for kind in np.unique(kinds_n):
        chosen = (kinds_n == kind)[:, None] & counted_nt
        count = chosen.sum(0)
        mean = (own_nt * chosen).sum(0) / np.maximum(count, 1)
        found[int(kind)] = (count > 0) & ((mean >= SEEN) == wanted_t)
    return found


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
