"""Repeats of one picture are found; another expression on the same drawing is another picture."""

import io
from itertools import combinations

import numpy as np
import pytest
from PIL import Image, ImageChops

from onmodel.curate.duplicates import NEAR, Small, _candidates, difference, group_duplicates
from onmodel.toon.attributes import BACKGWA, VOCABULARY, Toon
from onmodel.toon.datasets import BUCKETS, STANDIN_SETS, deal, draw_item
from onmodel.toon.draw import draw


def grouped(*images: Image.Image) -> list[int]:
    return group_duplicates([Small.of(image) for image in images])


def jpeg(image: Image.Image, quality: int) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return Image.open(buffer)


CHANGES = {
    "resaved at 90": lambda image: jpeg(image, 90),
    "resaved at 60": lambda image: jpeg(image, 60),
    "moved right": lambda image: ImageChops.offset(image, 1, 0),
    "moved down": lambda image: ImageChops.offset(image, 0, 1),
    "moved and resaved": lambda image: jpeg(ImageChops.offset(image, 1, 0), 80),
    "doubled": lambda image: image.resize((2 * image.width, 2 * image.height), Image.Resampling.BICUBIC),
    "with an alpha channel": lambda image: image.convert("RGBA"),
}
SPEC = STANDIN_SETS["backgwa_base"]


@pytest.mark.parametrize("change", CHANGES)
def test_repeats_are_found(change: str) -> None:
    images = [draw_item(SPEC, i, BUCKETS[i % 3])[0] for i in range(0, SPEC.count, 4)]
    found = sum(len(set(grouped(image, CHANGES[change](image)))) == 1 for image in images)
    assert found >= len(images) - 1


def test_other_expressions_stay_apart() -> None:
    together = drawings = 0
    for toon in deal(SPEC)[::5]:
        faces = [draw(toon.replace(expression=face)) for face in VOCABULARY["expression"]]
        groups = grouped(*faces)
        assert len(set(groups)) > (1 if toon.framing == "full body" else 4)
        together += len(faces) - len(set(groups))
        drawings += len(faces)
    assert together / drawings < 0.2


def test_a_whole_set_has_no_repeats() -> None:
    images = [draw_item(SPEC, i, BUCKETS[i % 3])[0] for i in range(SPEC.count)]
    assert grouped(*images) == list(range(SPEC.count))
    assert grouped(*images[:10], *map(CHANGES["resaved at 90"], images[:10])) == [*range(10), *range(10)]


def test_one_scene_many_drawings() -> None:
    toons: list[Toon] = [BACKGWA.toon(nuisance=i, expression=face) for i in range(8) for face in ("smile", "angry")]
    assert len(set(grouped(*map(draw, toons)))) >= 15


def test_another_shape_is_another_picture() -> None:
    image = draw(BACKGWA.toon(), 96, 96)
    assert grouped(image, image.resize((96, 64))) == [0, 1]


def test_candidates_are_all_near_pairs() -> None:
    rng = np.random.default_rng(0)
    centres = rng.integers(0, 2, (6, 128))
    bits = np.concatenate([np.where(rng.random((8, 128)) < rate, 1 - c, c) for c in centres for rate in (0.02, 0.1)])
    hashes = [np.packbits(row.astype(np.uint8)).view(np.uint16) for row in bits]
    near = {(i, j) for i, j in combinations(range(len(bits)), 2) if (bits[i] != bits[j]).sum() <= NEAR}
    found = list(_candidates(hashes))
    assert set(found) == near and len(found) == len(near) > 100


def test_difference_is_symmetric_and_forgives_a_pixel() -> None:
    image = draw(BACKGWA.toon())
    one, moved, other = (Small.of(x) for x in (image, ImageChops.offset(image, 1, 1), draw(BACKGWA.toon(nuisance=5))))
    assert difference(one, one) == 0
    assert difference(one, moved) == difference(moved, one) < 45 < difference(one, other)
