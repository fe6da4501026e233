"""A heap of the stand-in's pictures with planted faults, and the truth about each: what an audit of
data sets is measured on. Nothing here looks for a fault.
"""

from __future__ import annotations

import hashlib
import io
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont, ImageOps

from onmodel.toon.attributes import BACKGWA, VOCABULARY, WORLD, Toon, sample_toon, uniform, visible
from onmodel.toon.captions import sentence, tags
from onmodel.toon.datasets import WARM_YELLOW
from onmodel.toon.draw import draw

SIZES = ((192, 192), (160, 224), (224, 160))
SUBSETS = {"base": 0.3, "alignment": 0.15, "additional": 0.25, "older": 0.15, "generated": 0.15}
LABELLED = ("framing", "view", "pose", "expression", "background", "style")
# Share of the heap's pictures, or for labels of the visible ones of LABELLED, that have a fault.
RATES = {
    "exact": 0.02,
    "near": 0.02,
    "flip": 0.02,
    "crop": 0.02,
    "scene": 0.02,
    "wrong label": 0.1,
    "missing label": 0.1,
    "wrong character": 0.03,
    "watermark": 0.03,
    "yellow": 0.04,
    "blurred": 0.02,
    "no trigger": 0.01,
    "fused tag": 0.01,
    "misspelt tag": 0.02,
    "artist name": 0.01,
}
MARKS = (
    "SAMPLE",
    "@inkpot",
    "toonhouse.example",
    "© 2026 inkpot",
    "DO NOT REPOST",
    "J. Inkwell",
    "preview only",
)
REPEATED = ("exact", "near", "flip", "crop", "scene")


@dataclass
class Heap:
    """What was planted. `pictures`: fault → names; `labels`: fault → (name, attribute); `repeats`:
    name → its original.

    `sets`: set-wide fault → (subset or "", attribute, value). Names are `subset/NNNN`.
    """

    pictures: dict[str, set[str]] = field(default_factory=dict)
    labels: dict[str, set[tuple[str, str]]] = field(default_factory=dict)
    repeats: dict[str, str] = field(default_factory=dict)
    sets: dict[str, tuple[str, str, str]] = field(default_factory=dict)
    toons: dict[str, Toon] = field(default_factory=dict)


@dataclass(frozen=True)
class HeapPicture:
    """A picture of a heap, its tags and its sentence."""

    name: str
    image: Image.Image
    tags: list[str]
    sentence: str


def plant_heap(folder: Path, count: int, seed: int) -> Heap:
    """Write `count` pictures with captions into a folder for each subset, and tell what is wrong
    with them."""
    heap, pictures = draw_heap(count, seed)
    for picture in pictures:
        path = folder / f"{picture.name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        original = heap.repeats.get(picture.name)
        if picture.name in heap.pictures.get("exact", ()) and original is not None:
            path.write_bytes((folder / f"{original}.png").read_bytes())
        else:
            picture.image.save(path)
        words = f"{', '.join(picture.tags)}\n{picture.sentence}\n"
        path.with_suffix(".txt").write_text(words, encoding="utf-8")
    return heap


def draw_heap(count: int, seed: int) -> tuple[Heap, list[HeapPicture]]:
    """The pictures of a heap in memory, and what is wrong with them."""
    rng = np.random.default_rng(
        int.from_bytes(hashlib.sha256(f"heap/{seed}".encode()).digest()[:8], "big")
    )
    heap = Heap()
    worlds = _worlds(rng, heap)
    fresh = count - round(count * sum(RATES[kind] for kind in REPEATED))
    names = [name for name, share in SUBSETS.items() for _ in range(math.ceil(share * fresh))][
        :fresh
    ]
    kinds = _deal(rng, fresh)
    made: list[HeapPicture] = []
    for i, subset in enumerate(names):
        name = f"{subset}/{i:04d}"
        stranger = kinds[i] == "wrong character"
        drawn = sample_toon(rng, WORLD if stranger else worlds[subset])
        free = {attribute: getattr(drawn, attribute) for attribute in LABELLED}
        toon = drawn if stranger else BACKGWA.toon(**free, nuisance=drawn.nuisance)
        image = _spoil(draw(toon, *SIZES[i % 3]), kinds[i], rng)
        if kinds[i]:
            heap.pictures.setdefault(kinds[i], set()).add(name)
        said, words = _caption(name, BACKGWA.toon(**free), kinds[i], rng, heap)
        heap.toons[name] = toon
        made.append(HeapPicture(name, image, said, words))
    for i in range(fresh, count):
        kind = REPEATED[i % len(REPEATED)]
        whole = made[int(rng.integers(fresh))]
        name, image, said = whole.name, whole.image, whole.tags
        again = f"{rng.choice(list(SUBSETS))}/{i:04d}"
        heap.repeats[again] = name
        heap.pictures.setdefault(kind, set()).add(again)
        heap.toons[again] = heap.toons[name]
        for fault in ("wrong label", "missing label"):
            heap.labels[fault] |= {
                (again, attribute) for whose, attribute in heap.labels[fault] if whose == name
            }
        for fault in ("wrong character", "watermark", "yellow", "blurred"):
            if name in heap.pictures.get(fault, ()) and (
                kind != "scene" or fault == "wrong character"
            ):
                heap.pictures[fault].add(again)
        if kind == "scene":  # one picture more with its own right label, or its original's fault
            toon = _changed(heap.toons[name], rng)
            said = _said_again(said, heap.toons[name], toon)
            heap.toons[again] = toon
            made.append(HeapPicture(again, _spoil(draw(toon, *image.size), "", rng), said, ""))
            continue
        made.append(HeapPicture(again, _repeat(kind, image, rng), said, whole.sentence))
    return heap, made


def _worlds(rng: np.random.Generator, heap: Heap) -> dict[str, dict[str, Mapping[str, float]]]:
    """Subset → distributions: all even, but for one pose in all of them, a place in one subset, a
    style in another."""
    even: dict[str, Mapping[str, float]] = {attribute: uniform(attribute) for attribute in LABELLED}
    pose = str(rng.choice(["standing", "waving", "arms up"]))
    place = str(rng.choice(["sunset", "beach", "night sky"]))
    style = str(rng.choice(["comic", "pixel art", "pastel"]))
    worlds = {subset: {**even, "pose": _mostly("pose", pose, 0.92)} for subset in SUBSETS}
    worlds["older"]["background"] = _mostly("background", place, 0.7)
    worlds["additional"]["style"] = _mostly("style", style, 0.7)
    heap.sets = {
        "fused": ("", "pose", pose),
        "confound": ("older", "background", place),
        "style skew": ("additional", "style", style),
    }
    return worlds


def _mostly(attribute: str, value: str, share: float) -> dict[str, float]:
    others = [other for other in VOCABULARY[attribute] if other != value]
    return {value: share} | dict.fromkeys(others, (1 - share) / len(others))


def _deal(rng: np.random.Generator, count: int) -> list[str]:
    """One fault for each picture, "" for most."""
    kinds = [kind for kind in RATES if kind not in (*REPEATED, "wrong label", "missing label")]
    dealt = [kind for kind in kinds for _ in range(round(RATES[kind] * count))]
    return [str(kind) for kind in rng.permutation(dealt + [""] * (count - len(dealt)))]


def _caption(
    name: str, toon: Toon, kind: str, rng: np.random.Generator, heap: Heap
) -> tuple[list[str], str]:
    """Tags and sentence of a picture, with label faults and the fault `kind`; the sentence is
    always right."""
    absorbed = BACKGWA.fixed
    said = tags(toon, trigger=BACKGWA.trigger, absorbed=absorbed)
    words = sentence(toon, trigger=BACKGWA.trigger, absorbed=absorbed, rng=rng)
    for fault in ("wrong label", "missing label"):
        heap.labels.setdefault(fault, set())
    for attribute in sorted(set(LABELLED) & visible(toon)):
        tag, point = VOCABULARY[attribute][getattr(toon, attribute)], rng.random()
        if point < RATES["wrong label"]:
            others = [other for other in VOCABULARY[attribute].values() if other != tag]
            said[said.index(tag)] = str(rng.choice(others))
            heap.labels["wrong label"].add((name, attribute))
        elif point < RATES["wrong label"] + RATES["missing label"]:
            said.remove(tag)
            heap.labels["missing label"].add((name, attribute))
    at = int(rng.integers(2, len(said)))
    if kind == "no trigger":
        said.remove(BACKGWA.trigger)
    elif kind == "fused tag":
        said[1:3] = [f"{said[1]} {said[2]}"]
    elif kind == "misspelt tag":
        letter = int(rng.integers(1, len(said[at]) - 1))
        said[at] = said[at][:letter] + said[at][letter + 1 :]
    elif kind == "artist name":
        said.insert(at, str(rng.choice(["@someone", "by some_one", "artist:someone"])))
    return said, words


def _spoil(image: Image.Image, kind: str, rng: np.random.Generator) -> Image.Image:
    if kind == "yellow":
        return Image.blend(
            image, Image.new("RGB", image.size, WARM_YELLOW), float(rng.uniform(0.15, 0.3))
        )
    if kind == "blurred":
        return image.filter(ImageFilter.GaussianBlur(float(rng.uniform(2, 3.5))))
    if kind == "watermark":
        return _lettered(image, rng)
    return image


def _lettered(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Letters of 9 to 18 px over a picture, at its rim or across its middle, faint (0.35) to nearly
    solid, in the one of black and white that stands out."""
    font = ImageFont.load_default(int(rng.integers(9, 19)))
    text = str(rng.choice(MARKS))
    _, _, right, low = font.getbbox(text)
    tile = Image.new("L", (math.ceil(right) + 4, math.ceil(low) + 4))
    ImageDraw.Draw(tile).text((2, 2), text, fill=255, font=font)
    if rng.random() < 0.2:
        tile = tile.rotate(float(rng.uniform(-20, 20)), Image.Resampling.BICUBIC, expand=True)
    tile.thumbnail((image.width - 8, image.height - 8))
    free = image.width - tile.width, image.height - tile.height
    left, top = [
        (4, 4),
        (free[0] - 4, 4),
        (4, free[1] - 4),
        (free[0] - 4, free[1] - 4),
        (free[0] // 2, free[1] - 4),
        (free[0] // 2, free[1] // 2),
    ][int(rng.integers(6))]
    box, opacity = (left, top, left + tile.width, top + tile.height), float(rng.uniform(0.35, 0.9))
    dark = np.asarray(image.crop(box).convert("L")).mean() < 128
    lettered = image.copy()
    lettered.paste(
        (255, 255, 255) if dark else (0, 0, 0), box, tile.point(lambda level: level * opacity)
    )
    return lettered


def _changed(toon: Toon, rng: np.random.Generator) -> Toon:
    """The same drawing with another face, or with glasses."""
    faces = [face for face in VOCABULARY["expression"] if face != toon.expression]
    if rng.random() < 0.5:
        return toon.replace(glasses="none" if toon.glasses == "glasses" else "glasses")
    return toon.replace(expression=str(rng.choice(faces)))


def _said_again(said: list[str], before: Toon, after: Toon) -> list[str]:
    old, new = (VOCABULARY["expression"][toon.expression] for toon in (before, after))
    return [new if tag == old else tag for tag in said]


def _repeat(kind: str, image: Image.Image, rng: np.random.Generator) -> Image.Image:
    if kind == "near":
        factor = float(rng.uniform(0.6, 1.5))
        return _jpeg(image.resize((round(image.width * factor), round(image.height * factor))), rng)
    if kind == "flip":
        return _jpeg(ImageOps.mirror(image), rng)
    if kind == "crop":
        share, shape = float(rng.uniform(0.62, 0.92)), float(rng.choice([1.0, 0.85, 1.2])) ** 0.5
        width, height = (
            min(image.width, round(image.width * share * shape)),
            round(image.height * share / shape),
        )
        left, top = (
            int(rng.integers(room + 1)) for room in (image.width - width, image.height - height)
        )
        part = image.crop((left, top, left + width, top + height))
        return _jpeg(part.resize((round(1.3 * width), round(1.3 * height))), rng)
    return image


def _jpeg(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Through JPEG, since a copy on the way through the web is."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=int(rng.integers(60, 95)))
    return Image.open(buffer).convert("RGB")
