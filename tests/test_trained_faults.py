"""bench-faults: its training sets carry the faults that their names say, and its findings count
what a page says."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from onmodel.engine.plan import make_plan
from onmodel.evaluate.axes import AXES
from onmodel.evaluate.compare import Comparison
from onmodel.evaluate.evaluation import EvaluatedModel
from onmodel.recipe import load_recipe
from onmodel.toon.random_character import random_character
from tests.support import evaluations as made_up

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

import trained_faults as bench

SEED = 3
CHARACTER = random_character(SEED)
FAULTS = bench.faults_of(CHARACTER, SEED)


def sets() -> dict[str, bench.Dataset]:
    return {one.name: one for one in bench.datasets(FAULTS, bench.NAMES, bench.DOSES, SEED)}


def written(one: bench.Dataset, folder: Path) -> tuple[list[np.ndarray], list[str]]:
    bench.write_pictures(CHARACTER, one, folder)
    pictures = [np.asarray(Image.open(path)) for path in sorted(folder.glob("*.png"))]
    return pictures, [path.read_text() for path in sorted(folder.glob("*.txt"))]


def test_every_fault_has_an_axis_and_a_half_dose_unless_it_is_four_copies() -> None:
    names = sets()
    assert {fault.axis for fault in FAULTS.values()} <= AXES.keys()
    assert {f"{name}_half" for name in FAULTS} - names.keys() == {"copies_half"}
    assert len({one.seed for one in names.values()}) == len(names)


@pytest.mark.parametrize("name", ["missing_accessory", "swapped_eye_colour", "wrong_trait"])
def test_half_a_dose_spoils_every_second_picture(name: str, tmp_path: Path) -> None:
    half = sets()[f"{name}_half"]
    spoilt, captions = written(half, tmp_path / "half")
    clean, clean_captions = written(replace(half, fault=None), tmp_path / "clean")
    differs = [not np.array_equal(a, b) for a, b in zip(spoilt, clean, strict=True)]
    assert not any(differs[1::2]) and sum(differs[::2]) > len(differs) / 4
    assert captions[1::2] == clean_captions[1::2]


def test_wrong_hair_is_captioned_with_the_right_colour(tmp_path: Path) -> None:
    _, captions = written(sets()["wrong_trait"], tmp_path)
    right = f"{CHARACTER.traits['hair_color']} hair"
    coloured = [text for text in captions if "lineart" not in text and "monochrome" not in text]
    assert coloured and all(right in text for text in coloured)


def test_a_leaked_outfit_is_in_every_picture_and_in_no_caption(tmp_path: Path) -> None:
    _, captions = written(sets()["outfit_leak"], tmp_path / "leak")
    _, clean = written(sets()["clean"], tmp_path / "clean")
    outfits = [one for one in bench.VOCABULARY["outfit"] if one != "jacket"]
    assert not any(outfit in text for text in captions for outfit in outfits)
    assert any(outfit in text for text in clean for outfit in outfits)


def test_the_recipe_trains_every_set_from_its_own_seed_and_evaluates_confirm(
    tmp_path: Path,
) -> None:
    some = list(sets().values())[:4]
    (tmp_path / "character.toml").write_text(bench.model_sheet(CHARACTER))
    (tmp_path / "recipe.toml").write_text(bench.recipe_text(some, SEED, 2))
    recipe = load_recipe(tmp_path / "recipe.toml")
    plans = {step.name: step.plan for step in make_plan(recipe)}
    assert plans["evaluated"].pictures == 24 * 2 * (3 + 2 * len(some))
    assert recipe.character.trigger == CHARACTER.trigger


def test_what_was_planted_is_read_where_no_prompt_asks_for_it() -> None:
    style, coat = FAULTS["one_style"].planted, FAULTS["outfit_leak"].planted
    assert style is not None and coat is not None
    assert style.counts(made_up.prompt("p", outfit="kimono"))
    assert not style.counts(made_up.prompt("p", style="pixel art"))
    own = CHARACTER.traits["outfit"]
    other = next(one for one in bench.VOCABULARY["outfit"] if one != own)
    assert coat.counts(made_up.prompt("p", outfit=other))
    assert not coat.counts(made_up.prompt("p", outfit=own)) and not coat.counts(made_up.prompt("p"))


def test_a_finding_says_which_sentence_names_the_planted_trait(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    prompts = "pqrstu"
    shared = {"design": {"own": [0.0], "severity": [1.0]}}

    def model(name: str, trait: str, missing: float) -> EvaluatedModel:
        traits = {trait: {"checks": 24, "violated": missing, "references": 0.0}}
        details = {"design": {"traits": traits, "worst": trait, "required": [trait]}}
        found = made_up.model(name, {"design": dict.fromkeys(prompts, missing)})
        return replace(found, details=details, rows={"design": [[missing, 1.0]] * len(prompts)})

    design = Comparison(AXES["design"][0], "clean", "worse", -0.8, -0.9, -0.7, 0.001, n=24)
    cast = Comparison(AXES["colour_cast"][0], "clean", "better", 20.0, 19.0, 21.0, 0.001, n=24)
    monkeypatch.setattr(bench, "compare_models", lambda *_: [design, cast])
    for trait, place in ((FAULTS["wrong_trait"].traits[0], 2), ("brown eyes", None)):
        models = [model("wrong", trait, 0.9), model("clean", trait, 0.1)]
        for one in models:
            one.per_prompt["colour_cast"] = dict.fromkeys(prompts, 1.0)  # type: ignore[index]
        evaluation = replace(made_up.evaluation(models), shared=shared)
        found = bench.finding(
            evaluation, "wrong", "clean", FAULTS["wrong_trait"], 1.0, [design, cast]
        )
        assert (found.outcome, found.place, found.better) == ("worse", place, ["colour_cast"])
        read = replace(found, rates=(0.1, 0.9))
        table = bench.page(CHARACTER, SEED, 30, [found, read], ["grain worse"], 3)
        shown = int(bool(place))
        assert f"2 of 2 called worse on their own axis, {2 * shown} in" in table
        assert f"Present in the pictures: 1, of them 1 called worse and {shown} in" in table
        assert "| not read |" in table and "| 0.10 → 0.90 |" in table
        assert table.endswith("False calls of the twin: grain worse.")
        json.dumps(bench.asdict(found))
