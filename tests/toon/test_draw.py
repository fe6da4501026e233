"""The renderer and the sampling of toons."""

import hashlib
import subprocess
import sys

import numpy as np
import pytest

from onmodel.toon.attributes import (
    BACKGWA,
    OTHER,
    VOCABULARY,
    WORLD,
    Toon,
    is_standin,
    sample_toon,
    visible,
)
from onmodel.toon.draw import draw, head_box, person_box

# Everything on and coloured, whole figure: each attribute has something to change.
RICH = Toon(
    ears="cat ears",
    headwear="hair bow",
    neck="ribbon",
    outfit="jacket",
    framing="full body",
    nuisance=5,
)
SIZES = ((96, 96), (80, 112), (112, 80), (64, 64), (192, 192))
DIGEST = """
import hashlib, numpy as np
from onmodel.toon.attributes import sample_toon
from onmodel.toon.draw import draw
rng = np.random.default_rng(3)
print(hashlib.sha256(b"".join(draw(sample_toon(rng)).tobytes() for _ in range(24))).hexdigest())
"""


def pixels(toon: Toon, size: tuple[int, int] = (96, 96)) -> np.ndarray:
    return np.asarray(draw(toon, *size), dtype=np.int16)


def test_same_bytes_in_another_process() -> None:
    rng = np.random.default_rng(3)
    here = hashlib.sha256(b"".join(draw(sample_toon(rng)).tobytes() for _ in range(24))).hexdigest()
    there = subprocess.run(
        [sys.executable, "-c", DIGEST], capture_output=True, text=True, check=True
    ).stdout.strip()
    assert here == there


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("style", VOCABULARY["style"])
def test_size_and_mode(style: str, size: tuple[int, int]) -> None:
    image = draw(RICH.replace(style=style), *size)
    assert (image.size, image.mode) == (size, "RGB")


def test_size_must_fit_the_latent_grid() -> None:
    with pytest.raises(ValueError, match="multiples of 16"):
        draw(RICH, 100, 96)


@pytest.mark.parametrize("attribute", VOCABULARY)
def test_every_value_gives_its_own_picture(attribute: str) -> None:
    pictures = {
        value: pixels(RICH.replace(**{attribute: value})) for value in VOCABULARY[attribute]
    }
    values = list(pictures)
    for i, a in enumerate(values):
        for b in values[:i]:
            assert np.abs(pictures[a] - pictures[b]).max() > 40, (a, b)


@pytest.mark.parametrize("style", ["lineart", "noir"])
@pytest.mark.parametrize(
    "attribute", ["hair_style", "ears", "headwear", "outfit", "expression", "view", "background"]
)
def test_styles_without_colour_still_tell_shapes(style: str, attribute: str) -> None:
    base = RICH.replace(style=style, framing="upper body")
    pictures = {
        pixels(base.replace(**{attribute: value})).tobytes() for value in VOCABULARY[attribute]
    }
    assert len(pictures) == len(VOCABULARY[attribute])


def test_nuisance_changes_the_picture() -> None:
    assert len({pixels(RICH.replace(nuisance=seed)).tobytes() for seed in range(40)}) == 40


def test_picture_language_is_frozen() -> None:
    """The toon base is trained on these pictures: a change here means training it again."""
    means = {
        style: pixels(BACKGWA.toon(style=style, background="beach", nuisance=1))
        .mean((0, 1))
        .round()
        .tolist()
        for style in VOCABULARY["style"]
    }
    for style, mean in FROZEN.items():
        assert np.abs(np.subtract(means[style], mean)).max() <= 1.5, (style, means[style])


# Mean red, green and blue of the stand-in on the beach, nuisance 1.
FROZEN: dict[str, list[float]] = {
    "flat color": [155, 170, 193],
    "lineart": [219, 218, 220],
    "pixel art": [136, 148, 168],
    "pastel": [200, 198, 211],
    "noir": [90, 89, 91],
    "comic": [129, 147, 170],
}


def test_unknown_value_is_refused() -> None:
    with pytest.raises(ValueError, match="hair_color = 'teal'"):
        Toon(hair_color="teal")
    with pytest.raises(ValueError, match="unknown toon attributes: shoes"):
        sample_toon(np.random.default_rng(0), shoes="red")


def test_world_never_draws_the_standin() -> None:
    rng = np.random.default_rng(11)
    toons = [sample_toon(rng) for _ in range(3000)]
    assert not any(is_standin(toon) for toon in toons)
    for key in ("hair_color", "eye_color", "ears", "headwear", "neck", "outfit"):
        assert sum(getattr(toon, key) == BACKGWA.traits[key] for toon in toons) > 250, key
    bare = sum(toon.ears == "none" and toon.headwear == "none" for toon in toons)
    assert bare < 0.3 * len(toons)


def test_world_resamples_near_the_standin() -> None:
    rng = np.random.default_rng(0)
    near = [sample_toon(rng, hair_color="light blue", ears="cat ears") for _ in range(200)]
    assert all(toon.headwear != "beret" for toon in near)
    asked = sample_toon(rng, WORLD, **BACKGWA.traits)
    assert is_standin(asked)


def test_other_is_not_the_standin() -> None:
    assert is_standin(BACKGWA.toon())
    assert not is_standin(OTHER.toon())


def test_visible_follows_style_and_framing() -> None:
    toon = BACKGWA.toon(framing="full body")
    assert visible(toon) == set(VOCABULARY)
    assert not {"hair_color", "eye_color", "outfit_color"} & visible(toon.replace(style="noir"))
    assert not {"outfit", "pose", "body", "neck"} & visible(toon.replace(framing="close-up"))
    assert "body" not in visible(toon.replace(framing="upper body"))
    assert "headwear_color" not in visible(toon.replace(headwear="none"))


@pytest.mark.parametrize("attribute", sorted(VOCABULARY))
def test_what_is_not_visible_does_not_change_the_picture_much(attribute: str) -> None:
    """Attributes called invisible in a close-up must hardly matter there."""
    toon = RICH.replace(framing="close-up", neck="none", glasses="none")
    if attribute in visible(toon) or attribute == "neck":
        pytest.skip("visible")
    first, *others = (pixels(toon.replace(**{attribute: value})) for value in VOCABULARY[attribute])
    assert all(np.abs(first - other).mean() < 12 for other in others)


@pytest.mark.parametrize("size", SIZES[:3])
def test_the_persons_box_is_where_the_picture_differs_from_its_empty_scene(
    size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(11)
    toons = [toon for toon in (sample_toon(rng) for _ in range(30)) if toon.style != "pixel art"]
    pictures = [pixels(toon, size) for toon in toons]
    boxes = [person_box(toon, *size) for toon in toons]
    monkeypatch.setattr("onmodel.toon.draw.draw_figure", lambda *_: None)
    for toon, picture, box in zip(toons, pictures, boxes, strict=True):
        differs = (picture != pixels(toon, size)).any(axis=2)
        columns, rows = np.flatnonzero(differs.any(axis=0)), np.flatnonzero(differs.any(axis=1))
        edges = (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
        assert np.abs(np.array(edges) - box).max() <= 1, toon


def test_pixel_arts_box_lies_on_its_grid() -> None:
    toon = Toon(style="pixel art", framing="full body")
    assert all(edge % 2 == 0 for edge in person_box(toon))


def test_the_heads_box_is_the_skull_and_ends_at_the_picture() -> None:
    left, top, right, bottom = head_box(Toon(framing="full body", nuisance=5))
    assert right - left == pytest.approx(bottom - top)
    wide, small = Toon(framing="close-up"), Toon(framing="full body", body="tall")
    assert head_box(wide)[2] - head_box(wide)[0] > 3 * (head_box(small)[2] - head_box(small)[0])
    for size in SIZES:
        box = head_box(Toon(framing="close-up", nuisance=3), *size)
        assert min(box) >= 0 and box[2] <= size[0] and box[3] <= size[1]
