"""The evaluate stage: what evaluation.json holds, the same bytes again and after a kill, nothing
measured by guess."""

import itertools
import os
import shutil
import signal
import threading
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from onmodel.errors import InputError
from onmodel.evaluate import assess
from onmodel.evaluate.axes import AXES, JOININGS
from onmodel.evaluate.evaluation import QUESTIONS
from onmodel.evaluate.features import Features
from onmodel.hashing import read_json, tree_hash, write_atomic, write_json
from onmodel.ledger.lineage import add, root
from onmodel.records import Artifact
from onmodel.stages import evaluate
from onmodel.stages.assessing import make_assessor
from onmodel.stages.base import Inputs, Plan
from tests.support.drawn_family import (
    DrawnFamily,
    colour_observers,
    drawn_context,
    drawn_dataset,
    install,
    lora,
    trained,
    training_dataset,
)


@pytest.fixture
def family(monkeypatch: pytest.MonkeyPatch) -> DrawnFamily:
    return install(monkeypatch)


def settings(folder: Path, **changes: Any) -> evaluate.Settings:
    given = {
        "do": "evaluate",
        "models": ["a@*"],
        "seeds": 2,
        "size": 48,
        "steps": 4,
        "references": {"stage": "references", "subset": "reference"},
        **colour_observers(folder / "observers"),
    }
    return evaluate.Settings.model_validate(given | changes)


def inputs(folder: Path) -> Inputs:
    if (folder / "a").exists():
        return Inputs(
            {
                "a": Artifact("run", "a", folder / "a"),
                "references": Artifact("dataset", "r", folder / "references"),
            }
        )
    return Inputs(
        {
            "a": trained(folder, "a", {10: {}, 20: {"yellow": 0.3}}),
            "references": drawn_dataset(folder),
        }
    )


def run(
    folder: Path, family: DrawnFamily, name: str = "candidates", **changes: Any
) -> tuple[Artifact, dict[str, Any]]:
    artifact = evaluate.run(
        inputs(folder), settings(folder, **changes), drawn_context(folder, family, name)
    )
    return artifact, read_json(artifact.path / "evaluation.json")


@dataclass(frozen=True)
class Finished:
    """An evaluation that ran once, for all tests that only read it."""

    folder: Path
    artifact: Artifact
    found: dict[str, Any]
    drawn: int
    applications: int


def finished(folder: Path, **changes: Any) -> Finished:
    with pytest.MonkeyPatch.context() as patch:
        family = install(patch)
        artifact, found = run(folder, family, **changes)
    return Finished(folder, artifact, found, family.drawn, family.applications)


@pytest.fixture(scope="module")
def two_seeds(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    return finished(tmp_path_factory.mktemp("two_seeds"))


@pytest.fixture(scope="module")
def one_seed(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    return finished(tmp_path_factory.mktemp("one_seed"), seeds=1)


def test_evaluation_json_says_everything(two_seeds: Finished) -> None:
    artifact, found = two_seeds.artifact, two_seeds.found
    assert artifact.kind == "evaluation"
    assert two_seeds.drawn == 12 * 2 * (3 + 2 * 2) and two_seeds.applications == 2
    assert (
        found["signature"].startswith("onm|base:bbbbbbbb|suite:choose-")
        and "|P:12|S:2|cfg:3|steps:4|" in found["signature"]
    )
    plan = found["plan"]
    own = {"detectors", "corruption"}  # the toon base's; the others were named
    assert plan["size"] == [48, 48] and plan["seeds"] == [0, 1]
    assert set(plan["observers"]) == {"tagger", "identity"} | own == set(found["observers"])
    assert all(found["observers"][name] == [{"from": "toon", "licence": "mit"}] for name in own)
    assert found["observers"]["tagger"] == [{"from": "tagger", "licence": None}]
    assert (
        set(plan["prompts"][1]["text"]) == {"L", "B", "D", "N"}
        and len(plan["prompts"][1]["seeds"]) == 2
    )
    assert list(found["axes"]) == list(AXES) and found["axes"]["drift"]["range"] == [0.0, None]
    assert [m["name"] for m in found["models"]] == ["a@10", "a@20"]
    for row in [*found["models"], *found["controls"].values()]:
        for id, score in row["axes"].items():
            assert score["signature"] == found["signature"]
            if score["value"] is None:
                assert score["why"]
            else:
                assert score["low"] <= score["value"] <= score["high"] and score["n"] == len(
                    row["per_prompt"][id]
                )
        for arm in row["pictures"].values():
            assert all((artifact.path / file).exists() for files in arm.values() for file in files)
    assert set(found["models"][0]["pictures"]) == {"L", "N"} and set(
        found["controls"]["D"]["pictures"]
    ) == {"D"}
    yellow = [m["axes"]["colour_cast"]["value"] for m in found["models"]]
    assert yellow[1] > yellow[0] + 10
    assert found["controls"]["D"]["axes"]["colour_cast"]["value"] == 0


def test_means_of_prompts_are_the_values(two_seeds: Finished) -> None:
    found = two_seeds.found
    for row in found["models"]:
        for id, values in row["per_prompt"].items():
            if found["axes"][id]["across"] == "mean":
                assert sum(values.values()) / len(values) == pytest.approx(row["axes"][id]["value"])


def test_the_models_lie_in_the_artifact_and_the_history_knows_them(two_seeds: Finished) -> None:
    artifact = two_seeds.artifact
    kept = Inputs({"candidates": artifact}).models(["candidates@*"])
    assert [m.name for m in kept] == ["a@10", "a@20"] and all(m.path.exists() for m in kept)
    lineage = read_json(artifact.path / "lineage.json")
    assert lineage[root(lineage)]["models"] == [m.sha256 for m in kept]
    assert {lineage[id]["type"] for id in lineage[root(lineage)]["used"]} == {
        "recipe",
        "run",
        "dataset",
    }


def test_again_it_draws_nothing_and_gives_the_same_bytes(
    family: DrawnFamily, two_seeds: Finished, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(two_seeds.folder, tmp_path / "again"))
    shutil.rmtree(folder / "candidates")
    again, _ = run(folder, family)
    assert family.drawn == 0 and tree_hash(again.path) == tree_hash(two_seeds.artifact.path)


@pytest.mark.parametrize("killed_at", [5, 130])
def test_killed_and_started_again_it_gives_the_same_bytes(
    family: DrawnFamily, two_seeds: Finished, tmp_path: Path, killed_at: int
) -> None:
    family.stop_after = killed_at
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "killed", family)
    family.faults, family.stop_after = None, None
    resumed, _ = run(tmp_path / "killed", family)
    assert tree_hash(resumed.path) == tree_hash(two_seeds.artifact.path)
    assert family.drawn <= two_seeds.drawn + 8


@pytest.mark.skipif(os.name != "posix", reason="needs fork and SIGKILL")
@pytest.mark.filterwarnings(
    "ignore::DeprecationWarning"
)  # newer Pythons warn of fork; the child only draws
@pytest.mark.parametrize(("where", "number"), [("sample.pictures", 40), ("dataset.arrays", 3)])
def test_killed_while_it_writes_it_loses_only_that_file(
    family: DrawnFamily,
    one_seed: Finished,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    where: str,
    number: int,
) -> None:
    inputs(tmp_path / "killed")
    child = os.fork()
    if child == 0:
        written = itertools.count(1)

        def torn(path: Path, data: bytes) -> None:
            if next(written) == number:
                path.parent.mkdir(parents=True, exist_ok=True)
                (path.parent / ".onmodel-torn").write_bytes(data[: len(data) // 2])
                os.kill(os.getpid(), signal.SIGKILL)
            write_atomic(path, data)

        try:
            monkeypatch.setattr(f"onmodel.{where}.write_atomic", torn)
            run(tmp_path / "killed", family, seeds=1)
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
    made = len(list((tmp_path / "killed" / "pictures").rglob("*.png")))
    resumed, _ = run(tmp_path / "killed", family, seeds=1)
    assert tree_hash(resumed.path) == tree_hash(one_seed.artifact.path)
    assert one_seed.drawn - made <= family.drawn < one_seed.drawn - made + 8
    assert not list((tmp_path / "killed" / "pictures").rglob(".onmodel-*"))


def test_it_looks_at_pictures_while_it_generates_the_next_model_s(
    family: DrawnFamily, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looking, applied, measure = threading.Event(), family.applied, assess.measure

    def noticed(*arguments: Any) -> Features:
        looking.set()
        return measure(*arguments)

    def waiting(*arguments: Any) -> AbstractContextManager[None]:
        assert looking.wait(60), (
            "nobody looked at the base's pictures before the first model's were generated"
        )
        return applied(*arguments)

    monkeypatch.setattr(assess, "measure", noticed)
    monkeypatch.setattr(family, "applied", waiting)
    run(tmp_path, family, seeds=1, references=None)


def test_another_plan_is_another_signature(family: DrawnFamily, tmp_path: Path) -> None:
    changes: tuple[dict[str, Any], ...] = (
        {},
        {"suite": "confirm"},
        {"seeds": 1},
        {"guidance": 2.0},
        {"weight": 0.5},
        {"size": 32},
        {"references": None},
    )
    made = set()
    for change in changes:
        table, where = settings(tmp_path, **change), drawn_context(tmp_path, family)
        assessor = make_assessor(inputs(tmp_path), table, table.suite, table.seeds, where)
        made.add(assessor.signature)
    assert len(made) == len(changes)


def test_without_references_the_axes_that_need_them_say_so(
    family: DrawnFamily, tmp_path: Path
) -> None:
    _, found = run(tmp_path, family, references=None, seeds=1)
    score = found["models"][0]["axes"]["reproduction"]
    assert score["value"] is None and "references" in score["why"]
    assert "reproduction" not in found["models"][0]["per_prompt"]


def test_a_lora_of_others_is_asked_for_by_its_own_word(family: DrawnFamily, tmp_path: Path) -> None:
    artifact, found = run(tmp_path, family, seeds=1, triggers={"a@20": "theirword"})
    ours, theirs = found["models"]
    assert (ours["trigger"], theirs["trigger"]) == ("backgwa", "theirword")
    for prompt in found["plan"]["prompts"]:
        said = {}
        for arm in "LN":
            for row in (ours, theirs):
                with Image.open(artifact.path / row["pictures"][arm][prompt["id"]][0]) as picture:
                    words, _, rest = picture.info["parameters"].partition("\n")
                said[arm, row["name"]] = words
                assert f"Seed: {prompt['seeds'][0]}," in rest
        assert (
            said["L", "a@10"].replace("backgwa", "theirword")
            == said["L", "a@20"]
            != said["L", "a@10"]
        )
        assert said["N", "a@10"] == said["N", "a@20"]
    with pytest.raises(InputError, match="triggers: b — no such model; there are a@10, a@20"):
        run(tmp_path, family, "other", seeds=1, triggers={"b": "theirword"})
    with pytest.raises(InputError, match=r"triggers\.a@10: empty — write the word"):
        run(tmp_path, family, "other", seeds=1, triggers={"a@10": " "})


def test_training_pictures_are_no_references(family: DrawnFamily, tmp_path: Path) -> None:
    given = Inputs(
        {
            "a": trained(tmp_path, "a", {10: {}}),
            "references": drawn_dataset(tmp_path, split="train"),
        }
    )
    with pytest.raises(InputError, match="no held-out pictures"):
        evaluate.run(given, settings(tmp_path), drawn_context(tmp_path, family))


def test_the_plan_counts_what_will_be_generated(tmp_path: Path) -> None:
    before = {"a": Plan(steps=100, models=8), "five": Plan(models=5), "references": Plan()}
    assert evaluate.estimate(settings(tmp_path), before).pictures == 12 * 2 * (3 + 2 * 8)
    several = settings(tmp_path, models=["a", "a@10", "five"], suite="confirm", seeds=4)
    assert evaluate.estimate(several, before).pictures == 24 * 4 * (3 + 2 * 7)


def test_settings_are_checked_before_anything_heavy(tmp_path: Path) -> None:
    for wrong in ({"size": 50}, {"steps": 0}, {"suite": "chose"}, {"models": []}, {"seed": 3}):
        with pytest.raises(ValueError, match="validation error"):
            settings(tmp_path, **wrong)
    assert settings(tmp_path, references="references").needs() == ["a@*", "references"]
    assert settings(tmp_path, size=[64, 96]).sampling.height == 96


def test_copies_of_training_pictures_are_looked_for_when_it_knows_them(
    family: DrawnFamily, tmp_path: Path
) -> None:
    given = Inputs(
        {
            "a": trained(tmp_path, "a", {10: {}, 20: {"copies": True}}),
            "references": drawn_dataset(tmp_path),
            "data": training_dataset(tmp_path),
        }
    )
    artifact = evaluate.run(
        given, settings(tmp_path, training=["data"]), drawn_context(tmp_path, family)
    )
    found = read_json(artifact.path / "evaluation.json")
    clean, copied = (row["axes"]["memorisation"]["value"] for row in found["models"])
    assert clean < 0.2 and copied > 0.5 and "|train:none|" not in found["signature"]
    nearest = found["models"][1]["details"]["memorisation"]["nearest"][0]["training"]
    assert nearest.startswith("training/") and nearest.endswith(".png")
    assert "data" in settings(tmp_path, training=["data"]).needs()
    with pytest.raises(InputError, match="training"):
        evaluate.run(
            given, settings(tmp_path, training=["references"]), drawn_context(tmp_path, family)
        )


def test_a_model_is_held_to_the_pictures_it_was_trained_on(
    family: DrawnFamily, tmp_path: Path
) -> None:
    few, many = training_dataset(tmp_path, "few", 4), training_dataset(tmp_path, "many")
    older = add([read_json(many.path / "lineage.json")], "run", name="older")
    data = add([older], "dataset", name="few", root="")  # of pictures that another model made
    write_json(few.path / "lineage.json", data)
    given = Inputs(
        {
            "a": trained(tmp_path, "a", {10: {}}, data),
            "b": trained(tmp_path, "b", {10: {}}),
            "references": drawn_dataset(tmp_path),
            "few": few,
            "many": many,
        }
    )
    chosen = settings(tmp_path, models=["a", "b"], training=["few", "many"])
    found = read_json(
        evaluate.run(given, chosen, drawn_context(tmp_path, family)).path / "evaluation.json"
    )
    own, unknown = (
        [one["training"].partition("/")[0] for one in row["details"]["memorisation"]["nearest"]]
        for row in found["models"]
    )
    assert set(own) == {"few"} and "many" in unknown


def test_floors_are_controls_of_their_own(
    family: DrawnFamily, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    null = lora(tmp_path / "made", "null", noise=16.0).path
    monkeypatch.setattr(
        "onmodel.evaluate.null.write_null", lambda model, path, spec, seed: shutil.copy(null, path)
    )
    _, found = run(tmp_path, family, floors=True)
    assert set(found["controls"]) == {"B", "D", "R", "Z"}
    again, random = (found["controls"][arm] for arm in "RZ")
    for row in (*found["models"], again, random):
        assert list(row["answers"]) == [prompt["id"] for prompt in found["plan"]["prompts"]]
    assert abs(again["axes"]["grain"]["value"]) < 2 < 8 < random["axes"]["grain"]["value"]
    assert again["axes"]["drift"]["value"] == 0 and again["axes"]["colour_cast"]["value"] != 0
    assert again["pictures"]["R"] and random["pictures"]["Z"]
    before = {"a": Plan(steps=100, models=2), "references": Plan()}
    assert evaluate.estimate(settings(tmp_path, floors=True), before).pictures == family.drawn


def test_questions_are_axes_and_stand_in_the_evaluation(
    family: DrawnFamily, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="styl is no axis; did you mean style"):
        settings(tmp_path, questions=["styl"])
    _, found = run(tmp_path, family, questions=["drift", "style"])
    assert found["questions"] == ["drift", "style"]
    assert settings(tmp_path).questions == QUESTIONS
    rows, shared = found["models"][0]["rows"], found["shared"]
    assert rows and rows.keys() <= shared.keys() <= set(JOININGS)


def test_the_negative_prompt_is_a_factor(family: DrawnFamily, tmp_path: Path) -> None:
    family.without_negative = {"yellow": 0.3}  # the model hides a veil behind its negative prompt
    _, found = run(tmp_path, family, negatives=True)
    clean, veiled = (row["negative"]["effect"]["colour_cast"] for row in found["models"])
    assert clean["gain"] > 1 and clean["p"] < 0.05 and not clean["remains"]
    assert (
        abs(veiled["gain"]) < 0.2 and veiled["left"] > 1 and veiled["remains"]
    )  # no negative prompt cures this one
    without = found["models"][0]["negative"]["without"]["colour_cast"]
    assert without["value"] > 10 and without["signature"] != found["signature"]
    before = {"a": Plan(steps=100, models=2), "references": Plan()}
    assert evaluate.estimate(settings(tmp_path, negatives=True), before).pictures == family.drawn


def test_models_to_compare_with_are_named_by_themselves_or_by_their_stage() -> None:
    names = ["a@1", "a@2", "b"]
    assert evaluate.declared(["a", "b"], names, "against") == ["a@1", "a@2", "b"]
    assert evaluate.declared(["a@2", "a@2"], names, "against") == ["a@2"]
    with pytest.raises(InputError, match="against: c — no such model; there are a@1, a@2, b"):
        evaluate.declared(["c"], names, "against")
