"""Repeats of one picture are found, however they were made; another drawing of her is another
picture."""

import io
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image, ImageChops, ImageOps

from onmodel.curate import duplicates
from onmodel.curate.duplicates import Thumb, find_links, group_links
from onmodel.randomness import generator
from onmodel.toon.attributes import BACKGWA
from onmodel.toon.datasets import BUCKETS, STANDIN_SETS, deal
from onmodel.toon.draw import draw

Change = Callable[[Image.Image], Image.Image]
SPEC = STANDIN_SETS["backgwa_base"]
TOONS = deal(SPEC)[::2]


def drawn(double: int = 2) -> list[Image.Image]:
    """Twenty pictures of one character in three shapes, of 192 px as a person's are larger than a
    thumbnail."""
    return [draw(toon, *(double * side for side in BUCKETS[i % 3])) for i, toon in enumerate(TOONS)]


def linked(images: list[Image.Image]) -> dict[tuple[int, int], str]:
    links = find_links([Thumb.of(image) for image in images])
    return {(min(link.part, link.whole), max(link.part, link.whole)): link.kind for link in links}


def jpeg(image: Image.Image, quality: int) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return Image.open(buffer)


def cut(image: Image.Image, share: float, seed: int) -> Image.Image:
    rng = generator(seed, "cut")
    width, height = (round(share * side) for side in image.size)
    left, top = int(rng.integers(image.width - width)), int(rng.integers(image.height - height))
    return image.crop((left, top, left + width, top + height))


NEAR: dict[str, Change] = {
    "resaved at 60": lambda image: jpeg(image, 60),
    "moved and resaved": lambda image: jpeg(ImageChops.offset(image, 1, 1), 80),
    "doubled": lambda image: image.resize(
        (2 * image.width, 2 * image.height), Image.Resampling.BICUBIC
    ),
    "with an alpha channel": lambda image: image.convert("RGBA"),
}


@pytest.mark.parametrize("change", NEAR)
def test_resaved_pictures_are_near(change: str) -> None:
    images = drawn()
    found = linked([*images, *map(NEAR[change], images)])
    assert (
        sum(found.get((i, i + len(images))) == "near" for i in range(len(images)))
        >= len(images) - 1
    )


def test_mirrored_pictures_are_found() -> None:
    images = drawn()
    found = linked([*images, *(jpeg(ImageOps.mirror(image), 85) for image in images)])
    assert (
        sum(found.get((i, i + len(images))) in ("flip", "near") for i in range(len(images)))
        >= len(images) - 1
    )


@pytest.mark.parametrize("share", [0.6, 0.75, 0.9])
@pytest.mark.parametrize("mirror", [False, True])
def test_cut_outs_are_found_mirrored_or_not(share: float, mirror: bool) -> None:
    images = drawn()
    parts = [
        cut(image, share, i).resize((150, 150 * image.height // image.width))
        for i, image in enumerate(images)
    ]
    found = linked(
        [*images, *(jpeg(ImageOps.mirror(part) if mirror else part, 85) for part in parts)]
    )
    assert sum((i, i + len(images)) in found for i in range(len(images))) >= len(images) - 1


def test_the_picture_that_a_crop_was_cut_from_is_compared_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Else others of a large folder take its place."""
    monkeypatch.setattr(duplicates, "PROPOSED", 1)
    images = [draw(toon, 192, 192) for toon in deal(SPEC)]
    parts = [jpeg(cut(image, 0.65, i).resize((160, 160)), 80) for i, image in enumerate(images)]
    found = linked([*images, *parts])
    assert sum((i, i + len(images)) in found for i in range(len(images))) >= len(images) - 1


def test_a_link_says_where_the_cut_out_lies() -> None:
    image = draw(TOONS[0], 192, 192)
    [link] = find_links([Thumb.of(image), Thumb.of(image.crop((40, 10, 160, 130)))])
    assert (link.kind, link.part, link.whole) == ("crop", 1, 0)
    assert np.allclose(np.array(link.box) * 192, [40, 10, 160, 130], atol=3)


def test_one_scene_with_another_expression_is_one_group() -> None:
    toons = [toon for toon in TOONS if toon.style != "pixel art"]
    images = [draw(toon, 192, 192) for toon in toons]
    others = [draw(toon.replace(eye_color="red", glasses="glasses"), 192, 192) for toon in toons]
    found = linked([*images, *others])
    assert sum((i, i + len(images)) in found for i in range(len(images))) >= 0.8 * len(images)


def test_a_whole_set_of_one_character_has_no_repeats() -> None:
    images = [
        draw(toon, *(2 * side for side in BUCKETS[i % 3])) for i, toon in enumerate(deal(SPEC))
    ]
    groups = group_links(len(images), find_links([Thumb.of(image) for image in images]))
    assert groups == list(range(SPEC.count))


def test_another_pose_or_face_drawn_anew_is_another_picture() -> None:
    poses = [
        ("standing", "smile"),
        ("arms up", "angry"),
        ("waving", "sad"),
        ("hand on hip", "surprised"),
    ]
    images = [
        draw(BACKGWA.toon(nuisance=7 * i, pose=p, expression=e), 192, 192)
        for i, (p, e) in enumerate(poses)
    ]
    assert linked(images) == {}


def test_another_shape_is_another_picture() -> None:
    image = draw(BACKGWA.toon(), 192, 192)
    assert linked([image, image.resize((192, 128))]) == {}


def test_flat_and_tiny_data_sets_are_no_trouble() -> None:
    white = Image.new("RGB", (64, 64), (255, 255, 255))
    assert linked([]) == linked([white]) == {}
    assert linked([white, white, white])[0, 1] == "near"


def test_the_order_of_the_pictures_does_not_change_the_groups() -> None:
    images = drawn()[:8]
    images += [ImageOps.mirror(images[2]), cut(images[5], 0.7, 1)]
    order = generator(0, "order").permutation(len(images))
    straight, shuffled = linked(images), linked([images[i] for i in order])
    assert (
        {tuple(sorted((int(order[i]), int(order[j])))) for i, j in shuffled}
        == set(straight)
        == {(2, 8), (5, 9)}
    )


def test_many_copies_of_one_picture_are_one_group() -> None:
    one, *others = drawn()[:6]
    links = find_links([Thumb.of(image) for image in [one] * 24 + others])
    assert group_links(29, links) == [0] * 24 + [1, 2, 3, 4, 5]
