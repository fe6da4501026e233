"""The data sets of BACKGWA's stand-in, with planted and known biases.

A set is a dealt deck: each attribute's values come in their stated shares, rounded to whole
pictures, so the planted truth is exact and not itself a sample. SetFaults (a yellow cast, missing
labels, wrong labels) are stated the same way. Nothing here reads a folder or trains.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from onmodel.toon.attributes import (
    BACKGWA,
    RGB,
    VOCABULARY,
    WORLD,
    Distribution,
    Toon,
    ToonCharacter,
    sample_toon,
    uniform,
    visible,
)
from onmodel.toon.captions import sentence, tags
from onmodel.toon.draw import draw

__all__ = [
    "BACKGWA",
    "FREE",
    "STANDIN_SETS",
    "SetFaults",
    "SetSpec",
    "deal",
    "draw_item",
    "planted",
    "shares",
    "write_set",
]

Size = tuple[int, int]
BUCKETS: tuple[Size, ...] = ((96, 96), (80, 112), (112, 80))
# What may change from picture to picture without changing who is drawn.
FREE: tuple[str, ...] = ("expression", "framing", "view", "pose", "background", "style")
# Labels that a fault may turn wrong; a wrong framing or style would also change which other tags
# are said.
_MISLABELLED = ("expression", "view", "pose", "background")
WARM_YELLOW: RGB = (255, 206, 70)


@dataclass(frozen=True)
class SetFaults:
    """What is wrong with a set on purpose. Shares are 0..1."""

    yellow_tint: float = 0.0  # strength: share of warm yellow blended into a picture
    tinted: float = 1.0  # share of the pictures that have the tint
    unlabelled: frozenset[str] = frozenset()  # attributes that no caption of the set mentions
    # share of visible expression, view, pose and background labels: half wrong, half missing
    label_errors: float = 0.0


@dataclass(frozen=True)
class SetSpec:
    """One data set: attributes not in `distribution` follow WORLD when free and the design of
    `character` otherwise.

    `others` shows characters of the WORLD instead, captions in full and without her trigger:
    regularisation pictures.
    """

    name: str
    count: int
    purpose: str
    seed: int
    distribution: Distribution = field(default_factory=dict)
    faults: SetFaults = SetFaults()
    tied: tuple[str, ...] = ()  # attributes whose leading values fall on the same pictures
    others: bool = False
    character: ToonCharacter = BACKGWA


def _lead(attribute: str, **weights: float) -> dict[str, float]:
    """Stated shares for some values ('_' for a space or hyphen); the other values share the rest
    equally."""
    named = {_value(attribute, key): weight for key, weight in weights.items()}
    others = [value for value in VOCABULARY[attribute] if value not in named]
    rest = max(0.0, 1.0 - sum(named.values()))
    return named | {value: rest / len(others) for value in others if rest > 1e-9}


def _value(attribute: str, key: str) -> str:
    return next(v for v in VOCABULARY[attribute] if v.replace(" ", "_").replace("-", "_") == key)


def _balanced(*names: str) -> dict[str, dict[str, float]]:
    return {name: uniform(name) for name in names}


STANDIN_SETS: dict[str, SetSpec] = {
    spec.name: spec
    for spec in (
        SetSpec(
            "preview",
            16,
            "the first quick set: one style, one mood, one framing, a yellow cast",
            101,
            {
                "style": _lead("style", pastel=0.9),
                "expression": _lead("expression", smile=0.7),
                "framing": _lead("framing", upper_body=0.8),
                "view": _lead("view", looking_at_viewer=0.8),
            },
            SetFaults(yellow_tint=0.25, unlabelled=frozenset({"style"})),
            tied=("framing", "view"),
        ),
        SetSpec(
            "release_1",
            24,
            "wider, with new faults: evening light, unstable proportions and outfit colours",
            102,
            _balanced("style", "expression")
            | {
                "background": _lead("background", sunset=0.5),
                "body": {"normal": 0.5, "chibi": 0.25, "tall": 0.25},
                "outfit_color": {"blue": 0.75, "purple": 0.125, "black": 0.125},
                "framing": {"full body": 0.5, "upper body": 0.375, "close-up": 0.125},
            },
            SetFaults(yellow_tint=0.15, tinted=0.5, unlabelled=frozenset({"body", "outfit_color"})),
        ),
        SetSpec(
            "backgwa_base",
            40,
            "the standard design, clean, styles balanced",
            103,
            _balanced("style", "expression", "background", "pose"),
        ),
        SetSpec(
            "backgwa_alignment",
            20,
            "neutral pictures in flat light that hold the identity still",
            104,
            {
                "style": {"flat color": 0.7, "comic": 0.3},
                "background": {"white background": 0.8, "indoors": 0.2},
                "expression": {"expressionless": 0.6, "smile": 0.4},
                "pose": {"standing": 1.0},
                "framing": {"full body": 0.5, "upper body": 0.3, "close-up": 0.2},
                "view": {"looking at viewer": 0.6, "three-quarter view": 0.2, "from side": 0.2},
            },
        ),
        SetSpec(
            "backgwa_additional",
            40,
            "variety with a style skew, other outfits and bodies, and some wrong labels",
            105,
            _balanced("expression", "pose", "background")
            | {
                "style": _lead("style", comic=0.6),
                "outfit": _lead("outfit", jacket=0.4),
                "body": {"normal": 0.6, "chibi": 0.2, "tall": 0.2},
            },
            SetFaults(label_errors=0.1),
        ),
        SetSpec(
            "refinement",
            19,
            "clean, balanced and expressive",
            106,
            _balanced("style", "expression", "background", "pose", "view"),
        ),
        SetSpec(
            "others",
            80,
            "regularisation: other characters, so that hers hangs on the trigger alone",
            108,
            others=True,
        ),
        SetSpec(
            "reference",
            24,
            "held out: never trained on, without faults",
            107,
            _balanced("style", "expression"),
        ),
    )
}


# --- dealing
# -------------------------------------------------------------------------------------------------


def _rng(spec: SetSpec, *parts: object) -> np.random.Generator:
    """A stream of its own for every use, so that one attribute's shares do not move another's."""
    key = "/".join(str(part) for part in (spec.name, spec.seed, *parts))
    return np.random.default_rng(int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big"))


def _apportion(weights: Mapping[str, float], count: int) -> list[str]:
    """`count` values in the given shares, rounded by largest remainder, the most frequent value
    first."""
    total = sum(weights.values())
    exact = {value: count * weight / total for value, weight in weights.items()}
    whole = {value: int(share + 1e-9) for value, share in exact.items()}
    by_remainder = sorted(exact, key=lambda value: whole[value] - exact[value])
    for value in by_remainder[: count - sum(whole.values())]:
        whole[value] += 1
    return [
        value
        for value in sorted(whole, key=lambda value: -whole[value])
        for _ in range(whole[value])
    ]


def deal(spec: SetSpec) -> tuple[Toon, ...]:
    """The toons of a set, in order."""
    if spec.others:
        rng = _rng(spec, "others")
        return tuple(sample_toon(rng) for _ in range(spec.count))
    columns: dict[str, Sequence[str]] = {}
    for attribute in VOCABULARY:
        if attribute not in spec.distribution and attribute not in FREE:
            continue
        values = _apportion(spec.distribution.get(attribute, WORLD[attribute]), spec.count)
        order = _rng(spec, "tied" if attribute in spec.tied else attribute).permutation(spec.count)
        columns[attribute] = [values[place] for place in order]
    seeds = _rng(spec, "nuisance").integers(2**31, size=spec.count)
    return tuple(
        spec.character.toon(
            **{name: column[i] for name, column in columns.items()}, nuisance=int(seeds[i])
        )
        for i in range(spec.count)
    )


def _chosen(spec: SetSpec, what: str, slots: int, share: float) -> frozenset[int]:
    """An exact share of `slots`."""
    return frozenset(
        int(slot) for slot in _rng(spec, what).permutation(slots)[: round(share * slots)]
    )


def _mislabelled(spec: SetSpec, toons: Sequence[Toon]) -> dict[int, dict[str, str]]:
    """Picture → attribute → the wrong value its caption says, '' for a missing label."""
    slots = [
        (i, name) for i, toon in enumerate(toons) for name in _MISLABELLED if name in visible(toon)
    ]
    errors: dict[int, dict[str, str]] = {}
    for rank, slot in enumerate(
        sorted(_chosen(spec, "label_errors", len(slots), spec.faults.label_errors))
    ):
        i, name = slots[slot]
        others = [value for value in VOCABULARY[name] if value != getattr(toons[i], name)]
        wrong = others[int(_rng(spec, "wrong", i, name).integers(len(others)))]
        errors.setdefault(i, {})[name] = wrong if rank % 2 else ""
    return errors


# --- items
# -------------------------------------------------------------------------------------------------


def draw_item(spec: SetSpec, i: int, size: Size = (96, 96)) -> tuple[Image.Image, Toon, str, str]:
    """Picture, truth, tag caption and sentence of item `i`; `size` is (width, height) in pixels.

    The toon is what was drawn; the captions leave the design to the trigger, say what departs from
    it, and carry the set's label faults. Raises IndexError outside the set.
    """
    toons = deal(spec)
    toon, faults = toons[i], spec.faults
    image = draw(toon, *size)
    if faults.yellow_tint and i in _chosen(spec, "tinted", spec.count, faults.tinted):
        image = Image.blend(image, Image.new("RGB", image.size, WARM_YELLOW), faults.yellow_tint)
    if spec.others:
        return image, toon, ", ".join(tags(toon)), sentence(toon, rng=_rng(spec, "words", i))
    errors = _mislabelled(spec, toons).get(i, {})
    said = toon.replace(**{name: value for name, value in errors.items() if value})
    silent = (
        _as_designed(spec.character, toon)
        | faults.unlabelled
        | {name for name, value in errors.items() if not value}
    )
    trigger = spec.character.trigger
    caption = ", ".join(tags(said, trigger=trigger, absorbed=silent))
    return (
        image,
        toon,
        caption,
        sentence(said, trigger=trigger, absorbed=silent, rng=_rng(spec, "words", i)),
    )


def _as_designed(character: ToonCharacter, toon: Toon) -> frozenset[str]:
    """The traits as the design has them; a part of another outfit is never one of them."""
    same = {name for name, value in character.traits.items() if getattr(toon, name) == value}
    return frozenset(same if "outfit" in same else same - {"outfit_color"})


def write_set(
    name: str,
    folder: Path | str,
    *,
    size_buckets: Sequence[Size] = BUCKETS,
    count: int | None = None,
) -> None:
    """Write a set as NNN.png and NNN.txt: the tag caption on the first line, the sentence on the
    second.

    The same call writes the same bytes. `count` deals the set's shares over another number of
    pictures.
    """
    spec = (
        STANDIN_SETS[name]
        if count is None
        else dataclasses.replace(STANDIN_SETS[name], count=count)
    )
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(spec.count):
        image, _, caption, words = draw_item(spec, i, size_buckets[i % len(size_buckets)])
        image.save(folder / f"{i:03d}.png", "PNG", compress_level=6)
        (folder / f"{i:03d}.txt").write_bytes(f"{caption}\n{words}\n".encode())


# --- truth
# -------------------------------------------------------------------------------------------------


def planted(name: str) -> dict[str, object]:
    """The stated truth of a set: attribute → value → share for what it plants, and each fault that
    is not zero."""
    spec, truth = STANDIN_SETS[name], dict[str, object]()
    for attribute, weights in spec.distribution.items():
        total = sum(weights.values())
        truth[attribute] = {value: round(weight / total, 4) for value, weight in weights.items()}
    faults: dict[str, object] = {}
    if spec.faults.yellow_tint:
        faults |= {"yellow_tint": spec.faults.yellow_tint, "tinted": spec.faults.tinted}
    if spec.faults.unlabelled:
        faults["unlabelled"] = sorted(spec.faults.unlabelled)
    if spec.faults.label_errors:
        faults["label_errors"] = spec.faults.label_errors
    return {**truth, **faults}


def shares(toons: Sequence[Toon], attribute: str) -> dict[str, float]:
    """The real share of each value of an attribute that occurs, largest first."""
    values = [getattr(toon, attribute) for toon in toons]
    return {
        value: values.count(value) / len(values)
        for value in sorted(set(values), key=lambda v: -values.count(v))
    }
