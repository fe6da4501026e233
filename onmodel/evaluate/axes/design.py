"""Design errors: what the character sheet requires and is missing, or forbids and is there, where
it can be seen."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from onmodel.evaluate.axes.base import (
    Axis,
    Evidence,
    Joining,
    Joint,
    References,
    Shared,
    Unavailable,
    weighted_mean,
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
    retraining=0.3,
    origin=(
        "the worst of the sheet's traits: probability that its applicable checks are violated, less"
        " that of the references, times its severity; checks are the required and forbidden tags,"
        " the required ones without their colour, the other colours of the same thing, and one"
        " head; applicable is what the held-out references of the same framing and of the same"
        " style show, those aside whose style or framing hides it"
    ),
    limits=(
        "One trait that is always wrong makes another character, so traits are not averaged; the"
        " others are in the details. Two models are compared in the trait whose difference is"
        " largest for the noise of its prompts and trainings; the test allows for that choice."
        " Traits that fewer than six prompts show are left out. The largest of many probabilities"
        " lies above 0 by chance, for equal models alike. What has a tag is checked, and that there"
        " is one head where a detector counts them; no sides."
    ),
)
SEEN = 0.5
CLASSES = ("framing", "style")
ONE_HEAD = "one head"
FEWEST = 6  # prompts that show a trait
TRAINING_NOISE = 0.1  # of a trait, between two trainings on the same kind of data (statistics.md)
COLOURS = (
    "aqua",
    "black",
    "blonde",
    "blue",
    "brown",
    "green",
    "grey",
    "light blue",
    "navy",
    "orange",
    "pink",
    "purple",
    "red",
    "silver",
    "white",
    "yellow",
)


@dataclass(frozen=True)
class Check:
    """What a tag is checked for: that it is seen, or is not; `shown_by`: the tag that references
    must show where it applies."""

    wanted: bool
    shown_by: str
    severity: float


def checks_of(
    required: Sequence[str], forbidden: Sequence[str], severity: Mapping[str, float]
) -> dict[str, Check]:
    """Tag → its check. "red hair flower" implies "hair flower", and no hair flower of another
    colour where a red one can be seen; what the sheet itself says comes first."""
    found: dict[str, Check] = {}
    for tag in required:
        colour = max((one for one in COLOURS if tag.startswith(f"{one} ")), key=len, default="")
        if colour:
            thing, weight = tag.removeprefix(f"{colour} "), severity.get(tag, 1.0)
            others = [f"{one} {thing}" for one in COLOURS if one != colour]
            found |= {other: Check(False, tag, weight) for other in others}
            found[thing] = Check(True, thing, weight)
    for tags, wanted in ((forbidden, False), (required, True)):
        found |= {tag: Check(wanted, tag, severity.get(tag, 1.0)) for tag in tags}
    return found


def measure(evidence: Evidence) -> Joint:
    """Probability that a prompt's checks of the worst trait are violated, less the references'.

    Details: each trait, and the worst by name; violated there is a probability of over one half.
    """
    sheet = evidence.character
    checks = {
        tag: check
        for tag, check in checks_of(sheet.required, sheet.forbidden, sheet.severity).items()
        if tag in evidence.columns and check.shown_by in evidence.columns
    } | {ONE_HEAD: Check(True, ONE_HEAD, sheet.severity.get(ONE_HEAD, 1.0))}
    found, shape = evidence.arm("L"), evidence.arm("L").tags.shape[:2]
    if found.tags.shape[-1] == 0:
        raise Unavailable("no tagger was given")
    if evidence.references is None:
        raise Unavailable("no held-out references were given")
    if len(checks) == 1:
        raise Unavailable("the tagger knows none of the sheet's required and forbidden tags")
    wrong, applicable = _checked(evidence, found.flat(), checks, evidence.references)
    own_wrong, own_applicable = _checked(
        evidence, evidence.references.features, checks, evidence.references
    )
    own = [_share(own_wrong[:, i], own_applicable[:, i]) or 0.0 for i in range(len(checks))]
    counts = [
        array.reshape(*shape, -1).sum(1).astype(float) for array in (wrong * applicable, applicable)
    ]
    rows = np.concatenate(counts, axis=1)
    severity = np.array([check.severity for check in checks.values()])
    shared = {"own": np.array(own), "severity": severity}
    worst = int(_worst(_excess(rows[None], np.ones((1, len(rows))), shared)[1])[0])
    traits = {
        tag: {
            "checks": int(applicable[:, i].sum()),
            "violated": _share(wrong[:, i] > SEEN, applicable[:, i]),
            "references": own[i],
        }
        for i, tag in enumerate(checks)
    }
    required = [tag for tag, check in checks.items() if check.wanted and tag != ONE_HEAD]
    return Joint(
        rows, shared, {"traits": traits, "worst": list(checks)[worst], "required": required}
    )


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


def differing(
    a_rpk: np.ndarray, b_rpk: np.ndarray, shared: Shared
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """How much more each trait is violated by a than by b in each prompt [R, P, T], NaN where it
    does not apply to both; the trait [R] whose mean difference is largest for its noise; and that
    ratio [R].

    The noise has two parts: the spread over prompts, which is the same for every way of swapping
    them, and TRAINING_NOISE. Without the second one a difference that nobody sees, but in all
    prompts alike, would hide a large one.
    """
    once = np.ones((1, a_rpk.shape[1]))
    change = _excess(a_rpk, once, shared)[0] - _excess(b_rpk, once, shared)[0]
    count = (~np.isnan(change)).sum(1)
    known = np.nan_to_num(change)
    noise = np.sqrt((known**2).sum(1) / np.maximum(count, 1) ** 2 + TRAINING_NOISE**2)
    ratio = np.where(count >= FEWEST, known.sum(1) / np.maximum(count, 1) / noise, 0.0)
    chosen = np.where(count >= FEWEST, np.abs(ratio), -1.0).argmax(1)
    return change, chosen, np.take_along_axis(ratio, chosen[:, None], axis=1)[:, 0]


def mean_violation(rows_pk: np.ndarray, trait: int) -> float:
    """The mean probability with which the checks of a trait are violated, from the rows [P, K] of a
    model; 0 without any."""
    wrong, checks = np.split(rows_pk, 2, axis=1)
    count = float(checks[:, trait].sum())
    return float(wrong[:, trait].sum()) / count if count else 0.0


def _contrast(
    a_rpk: np.ndarray, b_rpk: np.ndarray, weights_rp: np.ndarray, shared: Shared
) -> np.ndarray:
    """The change of the trait that differs most: one that both models lack hides no new fault."""
    return weighted_mean(_changes(a_rpk, b_rpk, shared), weights_rp)


def _changes(a_rpk: np.ndarray, b_rpk: np.ndarray, shared: Shared) -> np.ndarray:
    """The change of that trait in each prompt [R, P]."""
    change, chosen, _ = differing(a_rpk, b_rpk, shared)
    return np.take_along_axis(change, chosen[:, None, None], axis=2)[..., 0]


def _tested(a_rpk: np.ndarray, b_rpk: np.ndarray, shared: Shared) -> np.ndarray:
    return differing(a_rpk, b_rpk, shared)[2]


JOINING = Joining(_spread, contrast=_contrast, changes=_changes, tested=_tested)


def _checked(
    evidence: Evidence, pictures: Features, checks: Mapping[str, Check], references: References
) -> tuple[np.ndarray, np.ndarray]:
    """How surely a check is violated, and whether it is applicable, [N, checks] each, of pictures
    [N]."""
    seen, own = (_seen(evidence, part, checks) for part in (pictures, references.features))
    wanted = np.array([check.wanted for check in checks.values()])
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
    tags = list(checks)
    shown_by = applicable[:, [tags.index(check.shown_by) for check in checks.values()]]
    return np.where(wanted, 1 - seen, seen), applicable & shown_by


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
