"""The axes on real drawings seen by the toon world's own observers: faults of known size are found, the rest is quiet.

Nothing is generated here: the renderer draws what a model with a fault would draw, so what is tested is seeing.
"""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import pytest
from PIL import Image

from onmodel.evaluate.axes import Evidence, Result, evaluate_axis
from onmodel.evaluate.features import Features, observe
from onmodel.evaluate.observers import Observers, load_observers
from onmodel.toon.attributes import BACKGWA, OTHER, Toon
from onmodel.toon.datasets import STANDIN_SETS, deal
from onmodel.toon.draw import draw
from tests.evaluate.drawn import Faults, evidence, sheet

FAULTS = {
    "clean": Faults(),
    "yellow": Faults(yellow=0.3),
    "expression": Faults(expression="smile"),
    "style": Faults(style="comic"),
    "layout": Faults(frozen_layout=True),
    "hair": Faults(wrong_hair=True),
    "leak": Faults(leak=True),
}


@lru_cache
def observers() -> Observers:
    return load_observers("toon", None, None, threads=1)


def look(made: Sequence[tuple[Image.Image, Toon]]) -> Features:
    return observe([image for image, _ in made], observers(), sheet().palette)


@lru_cache
def seen(name: str) -> Evidence:
    tagger, identity = observers().tagger, observers().identity
    assert tagger is not None and identity is not None
    return evidence(FAULTS[name], seeds=2, look=look, tags=tagger.tags, compare=identity.differences)


@lru_cache
def measured(name: str, axis: str) -> Result:
    return evaluate_axis(axis, seen(name))


def test_the_right_character_is_nearer_than_another() -> None:
    situations = [(e, f) for e in ("smile", "sad", "angry") for f in ("close-up", "upper body")]
    toons = [
        character.toon(expression=expression, framing=framing, nuisance=7 * i)
        for character in (BACKGWA, OTHER)
        for i, (expression, framing) in enumerate(situations)
    ]
    identity = observers().identity
    assert identity is not None
    found = identity.differences(*[identity([draw(toon, 96, 96) for toon in toons])] * 2)
    own, cross = found[:6, :6][~np.eye(6, dtype=bool)], found[:6, 6:]
    assert np.mean(own.ravel()[:, None] < cross.ravel()[None]) > 0.95


@pytest.mark.parametrize(("fault", "axis", "low", "high"), [
    ("yellow", "colour_cast", 5, 40),
    ("yellow", "colour_area", 5, 100),
    ("expression", "expression", 0, 0.5),
    ("style", "style", 0.6, 1),
    ("layout", "composition", 0.3, 0.9),
    ("hair", "reproduction", 0, 0.2),
    ("leak", "drift", 0.2, 3),
])  # fmt: skip
def test_a_planted_fault_is_seen(fault: str, axis: str, low: float, high: float) -> None:
    found, clean = measured(fault, axis).interval, measured("clean", axis).interval
    assert low <= found.value <= high
    assert found.low > clean.value or found.high < clean.value


def test_a_clean_lora_reads_clean() -> None:
    value = {axis: measured("clean", axis).interval.value for axis in (
        "reproduction", "responsiveness", "expression", "composition", "style", "colour_cast", "drift")}  # fmt: skip
    assert value["reproduction"] > 0.7
    assert (
        0.8 < value["responsiveness"] < 1.2 and 0.7 < value["expression"] < 1.3 and 0.85 < value["composition"] < 1.15
    )
    assert value["style"] < 0.2 and abs(value["colour_cast"]) < 2 and value["drift"] < 0.01


def test_eight_bit_jpeg_does_not_move_the_references() -> None:
    import io

    toons = deal(STANDIN_SETS["reference"])[:8]
    images = [draw(toon, 96, 96) for toon in toons]
    jpegs = []
    for image in images:
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=95)
        jpegs.append(Image.open(buffer).convert("RGB"))
    before, after = (observe(pictures, observers(), sheet().palette) for pictures in (images, jpegs))
    identity = observers().identity
    assert identity is not None
    assert np.diag(identity.differences(before.identity, after.identity)).max() < 0.05
    assert np.abs(before.tags - after.tags).mean() < 0.02
