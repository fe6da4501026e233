"""Outfit stability, three numbers never merged: is the default outfit kept, do others follow, does
it leak?"""

import numpy as np

from onmodel.evaluate.axes.base import (
    Axis,
    Evidence,
    Joining,
    Joint,
    Measured,
    Shared,
    Unavailable,
    asked_columns,
    informedness,
    seen_rows,
)
from onmodel.ledger import versions
from onmodel.sample.suites import CUT_OFF, default_outfit

KEEP = Axis(
    id="outfit_keep",
    title="outfit kept",
    unit="probability",
    range=(0.0, 1.0),
    direction="up",
    across="mean",
    arm="L",
    observers=("tagger",),
    version=versions.AXES["outfit_keep"],
    fault=1.0,
    retraining=0.55,
    origin=(
        "probability that the default garment is seen over seeds, where no other outfit is asked; a"
        " picture whose framing nobody asked counts as far as it shows a body"
    ),
    limits=(
        "The garment is the vocabulary's word, not its cut or colour. The tagger's errors lower it"
        " for every model."
    ),
)
CHANGE = Axis(
    id="outfit_change",
    title="outfit changed when asked",
    unit="Youden's J",
    range=(-1.0, 1.0),
    direction="up",
    across="mean",
    arm="L",
    observers=("tagger",),
    version=versions.AXES["outfit_change"],
    fault=1.0,
    origin=(
        "mean J = P(outfit seen | asked) − P(outfit seen | another asked) over other outfits; the"
        " base's is told"
    ),
    limits="A suite asks for few outfits. What the base cannot draw lowers it for every model.",
)
LEAK = Axis(
    id="outfit_leak",
    title="default outfit where another is asked",
    unit="probability",
    range=(-1.0, 1.0),
    direction="zero",
    across="mean",
    arm="L-D",
    observers=("tagger",),
    version=versions.AXES["outfit_leak"],
    fault=1.0,
    origin=(
        "ΔP(default garment seen | other outfit asked), LoRA minus the base whose description"
        " leaves it out"
    ),
    limits="A garment worn under or over the asked one also counts.",
)
ATTRIBUTE = "outfit"


def keep(evidence: Evidence) -> Measured:
    """Mean probability of the default garment over a prompt's seeds; details: how alike two seeds
    of a prompt are."""
    seen = _garments(evidence, "L")
    cut_off = {framing for framing, hidden in CUT_OFF.items() if ATTRIBUTE in hidden}
    shown = np.array(
        [
            ATTRIBUTE not in prompt.asked and prompt.asked.get("framing") not in cut_off
            for prompt in evidence.prompts
        ]
    )
    if not shown.any():
        raise Unavailable("every prompt asks for another outfit or cuts it off")
    found, weight = seen[_default(evidence, seen)], _showing(evidence, cut_off)
    weight[weight.sum(1) < 0.5] = np.nan
    whole = np.stack(list(seen.values()), axis=-1)
    whole = whole / np.maximum(whole.sum(-1, keepdims=True), 1e-6)
    seeds = whole.shape[1]
    alike = None
    if seeds > 1:
        first, second = np.triu_indices(seeds, 1)
        alike = float((whole[:, first] * whole[:, second]).sum(-1)[shown].mean())
    kept = (found * weight).sum(1) / weight.sum(1)
    return Measured(np.where(shown, kept, np.nan), details={"seeds_alike": alike})


def change(evidence: Evidence) -> Joint:
    """J of the asked outfit, for prompts that ask another than the default; details: the same on
    the base."""
    _garments(evidence, "L")
    (rows, columns), (base, _) = (seen_rows(evidence, letter, [ATTRIBUTE]) for letter in ("L", "D"))
    shared = {"asked": asked_columns(evidence, columns)}
    once = np.ones((1, len(rows)))
    values, control = (CHANGE_JOINING.value(one[None], once, shared)[0] for one in (rows, base))
    if np.isnan(values):
        raise Unavailable("no two outfits are asked that this tagger knows")
    return Joint(rows, shared, {"J_control": float(control)})


def _change_spread(rows_rpk: np.ndarray, weights_rp: np.ndarray, shared: Shared) -> np.ndarray:
    return informedness(rows_rpk, weights_rp, shared["asked"][0].astype(int))


CHANGE_JOINING = Joining(_change_spread)


def leak(evidence: Evidence) -> Measured:
    """Mean rise of the default garment over a prompt's seeds, for prompts that ask another
    outfit."""
    on, off = _garments(evidence, "L"), _garments(evidence, "D")
    default = _default(evidence, on)
    other = np.array(
        [prompt.asked.get(ATTRIBUTE, default) != default for prompt in evidence.prompts]
    )
    if not other.any():
        raise Unavailable("no prompt asks for another outfit")
    return Measured(np.where(other, (on[default] - off[default]).mean(1), np.nan))


def _showing(evidence: Evidence, cut_off: set[str]) -> np.ndarray:
    """[P, S]: 1 where a framing is asked; else how surely the picture has none that cuts the
    garment off."""
    framings = evidence.seen("L", "framing")
    cut = sum(
        (framings[value] for value in cut_off & framings.keys()),
        np.zeros(evidence.arm("L").tags.shape[:2]),
    )
    asked = np.array(["framing" in prompt.asked for prompt in evidence.prompts])
    return np.where(asked[:, None], 1.0, 1.0 - cut)


def _garments(evidence: Evidence, letter: str) -> dict[str, np.ndarray]:
    seen = evidence.seen(letter, ATTRIBUTE)
    if not seen:
        raise Unavailable("the tagger knows none of the outfits")
    return seen


def _default(evidence: Evidence, seen: dict[str, np.ndarray]) -> str:
    value = default_outfit(evidence.character, evidence.vocabulary)
    if value not in seen:
        raise Unavailable(
            "the sheet's first outfit is called by no garment that the vocabulary and the tagger"
            " know"
        )
    return value
