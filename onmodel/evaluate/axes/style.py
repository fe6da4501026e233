"""Style fixation: when a style is asked, does the LoRA move as far towards it as the base does?"""

from collections.abc import Mapping

import numpy as np

from onmodel.evaluate.axes.base import Axis, Evidence, Joining, Joint, Shared, Unavailable
from onmodel.evaluate.features import Features
from onmodel.ledger import versions

RECORD = Axis(
    id="style",
    title="style fixation",
    unit="share of the shift that is missing",
    range=(0.0, 1.0),
    direction="zero",
    across="mean",
    arm="L, D",
    observers=("tagger",),
    version=versions.AXES["style"],
    fault=1.0,
    origin=(
        "1 − projection of the LoRA's style shift on the base's shift when a style is asked, cut to"
        " 0 … 1"
    ),
    limits=(
        "Style is the style embedding, and without one the tagger's style tags; styles that the"
        " base ignores are skipped. The pull of unstyled pictures is a number of its own, in the"
        " details."
    ),
)
ATTRIBUTE = "style"
BASE_MOVES = 0.2  # length of the base's shift below which it ignores the style word


def measure(evidence: Evidence) -> Joint:
    """1 − projection for prompts that ask a style; shifts start from the mean of the prompts that
    ask none.

    Details: how far pictures that ask for no style moved from the base's (`pull`: the length; by
    tags half the sum of changes, 0 … 1, and `pull_towards` which of them), and `pull_by_subset`:
    how much of the way from the base's to the mean style of the training pictures of each subset (0
    none, 1 all of it).
    """
    asked = np.array([ATTRIBUTE in prompt.asked for prompt in evidence.prompts])
    if not asked.any() or asked.all():
        raise Unavailable("needs prompts with and without a style")
    by_prompt = {letter: _styles(evidence, evidence.arm(letter)).mean(1) for letter in ("L", "D")}
    starts = {letter: found[~asked].mean(0) for letter, found in by_prompt.items()}
    shift = by_prompt["D"] - starts["D"]
    squared = (shift**2).sum(-1)
    usable = np.flatnonzero(asked & (squared >= BASE_MOVES**2))
    if not len(usable):
        raise Unavailable("the base itself ignores every style that was asked")
    ways = shift[usable] / squared[usable, None]
    details = _pull(evidence, starts["L"] - starts["D"]) | _by_subset(evidence, starts)
    return Joint(by_prompt["L"] @ ways.T, {"styled": usable, "plain": ~asked}, details)


def _spread(rows_rpk: np.ndarray, weights_rp: np.ndarray, shared: Shared) -> np.ndarray:
    """A row says how far its prompt's pictures lie along the base's shift of each styled
    prompt."""
    styled, plain = shared["styled"].astype(int), shared["plain"].astype(bool)
    weights = weights_rp[:, plain, None]
    count = weights.sum(1)
    start = (rows_rpk[:, plain] * weights).sum(1) / np.where(count > 0, count, np.nan)
    projection = rows_rpk[:, styled, np.arange(len(styled))] - start
    values = np.full((len(projection), len(plain)), np.nan)
    values[:, styled] = np.clip(1 - projection, 0, 1)
    return values


JOINING = Joining(_spread)


def _styles(evidence: Evidence, features: Features) -> np.ndarray:
    """The style of pictures […, V]: the embedding, or the probabilities of the style tags."""
    if features.style.shape[-1]:
        return features.style
    if features.tags.shape[-1] == 0:
        raise Unavailable("no tagger and no style embedding was given")
    evidence.require(ATTRIBUTE)
    columns = _tags(evidence)
    if not columns:
        raise Unavailable("the tagger knows none of the styles")
    return features.tags[..., list(columns.values())]


def _tags(evidence: Evidence) -> dict[str, int]:
    """Style → column of the tagger."""
    styles = evidence.vocabulary.get(ATTRIBUTE, {})
    return {
        style: evidence.columns[tag] for style, tag in styles.items() if tag in evidence.columns
    }


def _pull(evidence: Evidence, change: np.ndarray) -> dict[str, object]:
    if evidence.arm("L").style.shape[-1]:
        return {"pull": float(np.linalg.norm(change))}
    return {
        "pull": float(np.abs(change).sum() / 2),
        "pull_towards": list(_tags(evidence))[int(change.argmax())],
    }


def _by_subset(evidence: Evidence, starts: Mapping[str, np.ndarray]) -> dict[str, object]:
    if evidence.training is None:
        return {}
    styles, found = _styles(evidence, evidence.training.features), {}
    subsets = np.array([name.partition("/")[0] for name in evidence.training.names])
    for subset in dict.fromkeys(subsets.tolist()):
        way = styles[subsets == subset].mean(0) - starts["D"]
        length = float((way**2).sum())
        found[subset] = (
            float((starts["L"] - starts["D"]) @ way / length) if length >= BASE_MOVES**2 else None
        )
    return {"pull_by_subset": found}
