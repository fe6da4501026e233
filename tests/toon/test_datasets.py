"""The stand-in's sets: counts, planted shares, faults, and files that are the same bytes every
time."""

import tomllib
from pathlib import Path

import numpy as np
import pytest

import onmodel.toon
from onmodel.character import load_character
from onmodel.toon.attributes import BACKGWA, COLORS, VOCABULARY, is_standin, visible
from onmodel.toon.captions import ALL_TAGS, tags, tags_of
from onmodel.toon.datasets import FREE, STANDIN_SETS, deal, draw_item, planted, shares, write_set
from onmodel.toon.draw import draw

SHEET = Path(onmodel.toon.__file__).parent / "characters" / "backgwa.toml"
COUNTS = {
    "preview": 16,
    "release_1": 24,
    "backgwa_base": 40,
    "backgwa_alignment": 20,
    "backgwa_additional": 40,
    "refinement": 19,
    "others": 80,
    "reference": 24,
}


def test_counts() -> None:
    assert {name: len(deal(spec)) for name, spec in STANDIN_SETS.items()} == COUNTS


@pytest.mark.parametrize("name", COUNTS)
def test_planted_shares_are_exact_to_the_picture(name: str) -> None:
    spec = STANDIN_SETS[name]
    toons = deal(spec)
    for attribute in spec.distribution:
        real = shares(toons, attribute)
        for value, share in planted(name)[attribute].items():  # type: ignore[attr-defined]
            assert abs(real.get(value, 0.0) - share) < 1 / spec.count + 1e-9, (attribute, value)


@pytest.mark.parametrize("name", sorted(set(COUNTS) - {"others"}))
def test_every_picture_is_the_standin(name: str) -> None:
    assert all(is_standin(toon) for toon in deal(STANDIN_SETS[name]))


def test_others_show_other_characters_and_say_all_of_them() -> None:
    spec = STANDIN_SETS["others"]
    for i, toon in enumerate(deal(spec)):
        _, _, caption, words = draw_item(spec, i, (64, 64))
        assert (
            not is_standin(toon)
            and caption.split(", ") == tags(toon)
            and "backgwa" not in caption + words
        )


def test_preview_is_poor_on_purpose() -> None:
    spec = STANDIN_SETS["preview"]
    toons = deal(spec)
    assert shares(toons, "style")["pastel"] == 15 / 16  # 14.4 rounded by largest remainder
    assert sum(t.framing == "upper body" and t.view == "looking at viewer" for t in toons) == 13
    assert planted("preview")["yellow_tint"] == 0.25
    style_tags = set(VOCABULARY["style"].values())
    assert not any(style_tags & set(draw_item(spec, i)[2].split(", ")) for i in range(spec.count))


def test_tint_is_yellow() -> None:
    spec = STANDIN_SETS["preview"]
    image, toon, _, _ = draw_item(spec, 0)
    clean, tinted = (
        np.asarray(draw(toon), float).mean((0, 1)),
        np.asarray(image, float).mean((0, 1)),
    )
    assert tinted[2] - tinted[0] < clean[2] - clean[0] - 20


def test_release_1_hides_its_faults_from_the_captions() -> None:
    spec = STANDIN_SETS["release_1"]
    toons = deal(spec)
    assert shares(toons, "body") == {"normal": 0.5, "chibi": 0.25, "tall": 0.25}
    assert shares(toons, "background")["sunset"] == 0.5
    captions = [draw_item(spec, i, (64, 64))[2] for i in range(spec.count)]
    assert not any(
        {"chibi", "tall", "purple jacket", "black jacket"} & set(text.split(", "))
        for text in captions
    )


def test_label_errors_are_a_tenth() -> None:
    spec = STANDIN_SETS["backgwa_additional"]
    slots = errors = 0
    for i, toon in enumerate(deal(spec)):
        said = set(draw_item(spec, i, (64, 64))[2].split(", "))
        for name in ("expression", "view", "pose", "background"):
            if name in visible(toon):
                slots += 1
                errors += VOCABULARY[name][getattr(toon, name)] not in said
    assert errors == round(0.1 * slots)


@pytest.mark.parametrize("name", ["backgwa_base", "backgwa_alignment", "refinement", "reference"])
def test_clean_sets_say_exactly_what_is_drawn(name: str) -> None:
    spec = STANDIN_SETS[name]
    for i, toon in enumerate(deal(spec)):
        caption = draw_item(spec, i, (64, 64))[2].split(", ")
        assert caption == tags(toon, trigger="backgwa", absorbed=BACKGWA.fixed)
        assert set(caption) - {"backgwa"} <= tags_of(toon)


def test_other_outfits_are_said_with_their_colour() -> None:
    spec = STANDIN_SETS["backgwa_additional"]
    for i, toon in enumerate(deal(spec)):
        caption = draw_item(spec, i, (64, 64))[2].split(", ")
        if toon.outfit == "hoodie" and {"outfit", "outfit_color"} <= visible(toon):
            assert "blue hoodie" in caption
        assert "jacket" not in caption and "blue jacket" not in caption


def test_write_set_twice_is_the_same_bytes(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        write_set("preview", tmp_path / folder, count=6)
    files = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert files == sorted(f"{i:03d}.{end}" for i in range(6) for end in ("png", "txt"))
    assert all(
        (tmp_path / "a" / f).read_bytes() == (tmp_path / "b" / f).read_bytes() for f in files
    )
    lines = (tmp_path / "a" / "000.txt").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 2 and lines[0].startswith("1girl, backgwa, ") and "backgwa" in lines[1]


def test_sheet_agrees_with_the_renderer() -> None:
    sheet = load_character(SHEET)
    rgb = {
        "hair": COLORS["hair_color"]["light blue"],
        "eyes": COLORS["eye_color"]["yellow"],
        "beret": COLORS["headwear_color"]["navy"],
        "ribbon": COLORS["neck_color"]["red"],
        "shirt": COLORS["fixed"]["shirt"],
        "jacket": COLORS["outfit_color"]["blue"],
        "skin": COLORS["fixed"]["skin"],
        "accent": COLORS["accent"]["rose"],
    }
    assert dict(sheet.palette) == {
        name: "#{:02x}{:02x}{:02x}".format(*color) for name, color in rgb.items()
    }
    design = BACKGWA.toon(framing="upper body")
    assert set(sheet.tags) == set(tags(design, absorbed=frozenset(FREE))) - {"1girl"}
    assert set(sheet.required) | set(sheet.forbidden) <= set(ALL_TAGS)
    assert not set(sheet.forbidden) & tags_of(BACKGWA.toon(framing="full body"))
    assert tuple(sheet.free) == FREE
    assert (
        tomllib.loads(SHEET.read_text(encoding="utf-8"))["character"]["trigger"] == BACKGWA.trigger
    )
