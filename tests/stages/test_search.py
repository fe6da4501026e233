"""The search stage on drawn pictures: two models with opposite faults, whose even merge has
none."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from onmodel.errors import InputError
from onmodel.evaluate.weight_search import Weights, is_single
from onmodel.hashing import read_json
from onmodel.ledger.lineage import Lineage, add, root
from onmodel.lora import header
from onmodel.lora.tensors import read_lora
from onmodel.records import Artifact, Model
from onmodel.release.history import SENTENCES, signatures_chosen_on
from onmodel.stages import merge, search
from onmodel.stages.base import Context, Inputs, Plan, write_models
from tests.support import merge_inputs as made
from tests.support.drawn_family import (
    DrawnFamily,
    colour_observers,
    drawn_context,
    drawn_dataset,
    faults_of,
    install,
    lora,
    trained,
)

CHECKED = 20 * (3 + 2 * 3)  # pictures of the check: prompts × arms of the base and of three models


def install_merges(monkeypatch: pytest.MonkeyPatch) -> DrawnFamily:
    """Drawn pictures; a merge adds up the yellow veils of what it merges, each one being a
    direction of its own."""

    def yellow(models: Sequence[Model], weights: Sequence[float]) -> float:
        faults = [faults_of(model.path).yellow for model in models]
        return round(sum(w * one for w, one in zip(weights, faults, strict=True)), 9)

    def make(
        models: Sequence[Model],
        settings: merge.Settings,
        reasons: Sequence[Lineage],
        context: Context,
    ) -> Artifact:
        weights = settings.weights
        assert isinstance(weights, list)
        made = lora(context.out, "merged", yellow=yellow(models, weights))
        write_models(context.out, [(context.name, None, made.path.name)])
        return context.commit("merge", add(reasons, "merge", name=context.name, weights=weights))

    def model(merger: search.Merger, weights: Weights, rank: int | None) -> Model:
        if is_single(weights):
            return merger.models[weights.index(1)]
        return lora(merger.context.scratch, "draft", yellow=yellow(merger.models, weights))

    def gram(merger: search.Merger) -> np.ndarray:
        lengths = np.array([faults_of(model.path).yellow for model in merger.models])
        return np.outer(lengths, lengths)

    monkeypatch.setattr(merge, "make", make)
    monkeypatch.setattr(search.Merger, "model", model)
    monkeypatch.setattr(search.Merger, "gram", property(gram))
    return install(monkeypatch)


@pytest.fixture
def family(monkeypatch: pytest.MonkeyPatch) -> DrawnFamily:
    return install_merges(monkeypatch)


def settings(folder: Path, **changes: Any) -> search.Settings:
    given = {
        "do": "search",
        "models": ["a", "b"],
        "evaluations": 6,
        "seeds": 1,
        "size": 48,
        "steps": 4,
        "references": {"stage": "references", "subset": "reference"},
        **colour_observers(folder / "observers"),
    }
    return search.Settings.model_validate(given | changes)


def inputs(folder: Path, b: float) -> Inputs:
    if (folder / "a").exists():
        found = {name: Artifact("run", name, folder / name) for name in "ab"}
        return Inputs({**found, "references": Artifact("dataset", "r", folder / "references")})
    found = {
        "a": trained(folder, "a", {10: {"yellow": 0.35}}),
        "b": trained(folder, "b", {10: {"yellow": b}}),
    }
    return Inputs({**found, "references": drawn_dataset(folder)})


def run(
    folder: Path, family: DrawnFamily, b: float = -0.35, **changes: Any
) -> tuple[Artifact, dict[str, Any]]:
    artifact = search.run(
        inputs(folder, b), settings(folder, **changes), drawn_context(folder, family, "searched")
    )
    return artifact, read_json(artifact.path / "search.json")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Artifact, dict[str, Any], int]:
    """A search that ran once, and the number of pictures that it drew."""
    with pytest.MonkeyPatch.context() as patch:
        family = install_merges(patch)
        artifact, found = run(tmp_path_factory.mktemp("whole"), family)
    return artifact, found, family.drawn


def sentence(lineage: Lineage) -> str:
    """What a card says of the search."""
    (id,) = [id for id, node in lineage.items() if node["type"] == "search"]
    return SENTENCES["search"](lineage, id)


def test_a_merge_that_is_clearly_better_is_made(
    whole: tuple[Artifact, dict[str, Any], int],
) -> None:
    artifact, found, _ = whole
    assert artifact.kind == "merge" and max(found["taken"]) < 1
    assert abs(found["taken"][0] - 0.5) < 0.1
    assert abs(faults_of(artifact.path / "merged.safetensors").yellow) < 0.07
    assert [row["name"] for row in read_json(artifact.path / "models.json")] == ["searched"]
    decision = read_json(artifact.path / "selection.json")
    names = [row["name"] for row in decision["candidates"]]
    assert (
        names[0] in ("a@10", "b@10")
        and names[1] == "uniform_mean"
        and decision["chosen"] != names[:1]
    )

    trials = found["trials"]
    assert [t["weights"] for t in trials[:3]] == [[1, 0], [0, 1], [0.5, 0.5]] and len(trials) == 6
    assert [t["why"] for t in trials].count("repeat") == 2 and trials[2]["value"] < trials[0][
        "value"
    ]
    assert "|suite:choose-" in found["signature"] and "|suite:check-" in found["check"]
    lineage = read_json(artifact.path / "lineage.json")
    (told,) = [node for node in lineage.values() if node["type"] == "search"]
    assert lineage[root(lineage)]["type"] == "merge" and told["trials"] == trials
    assert signatures_chosen_on(lineage) == {found["signature"], found["check"]}
    assert "for merge weights, 6 measurements on suite `choose-" in sentence(lineage)


def test_without_a_better_merge_the_best_model_is_kept_as_it_is(
    family: DrawnFamily, tmp_path: Path
) -> None:
    artifact, found = run(tmp_path, family, b=0.0)
    assert artifact.kind == "selection" and found["taken"] == [0, 1]
    given = tmp_path / "b" / "b-10.safetensors"
    (row,) = read_json(artifact.path / "models.json")
    assert (
        row["name"] == "b@10" and (artifact.path / row["file"]).read_bytes() == given.read_bytes()
    )
    lineage = read_json(artifact.path / "lineage.json")
    assert lineage[root(lineage)]["type"] == "search"
    assert sentence(lineage).endswith("`b@10` alone, which no merge clearly beat.")


def test_a_killed_search_draws_nothing_twice_and_ends_the_same(
    family: DrawnFamily, whole: tuple[Artifact, dict[str, Any], int], tmp_path: Path
) -> None:
    artifact, _, drawn = whole
    family.stop_after = drawn // 2
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "killed", family)
    kept = len(list((tmp_path / "killed" / "pictures").rglob("*.png")))
    family.drawn, family.stop_after = 0, None
    again, _ = run(tmp_path / "killed", family)
    assert again.hash == artifact.hash
    assert family.drawn <= drawn - kept + 8  # the batch that it was in


def test_the_plan_knows_the_pictures_and_refuses_a_search_that_ends_in_its_starts(
    tmp_path: Path,
) -> None:
    before = {"a": Plan(steps=9, models=3), "b": Plan(steps=9, models=1), "references": Plan()}
    plan = search.estimate(settings(tmp_path, evaluations=8, seeds=2), before)
    assert plan.pictures == 2 * (12 * (2 * 8 + 3 * 3) + CHECKED)
    with pytest.raises(InputError, match="evaluations: 4 — the search begins with 4"):
        search.estimate(settings(tmp_path, evaluations=4), before)


def test_its_merges_are_those_of_the_merge_stage_and_carry_the_search(tmp_path: Path) -> None:
    """With real files: distances are those of ΔW, a model without weight is left out, the history
    travels inside."""
    loras = {name: made.lora(seed, rank=2 + seed) for seed, name in enumerate("abc")}
    artifacts = {name: made.save(tmp_path, name, one) for name, one in loras.items()}
    models = Inputs(artifacts).models(list(loras))
    table = search.Settings(do="search", models=list(loras), rank=3)
    where = made.merge_context(tmp_path / "scratch", "searched")
    merger = search.Merger(models, table, where)
    flat = np.array(
        [
            np.concatenate([d.ravel() for d in made.deltas((one, 1.0)).values()])
            for one in loras.values()
        ]
    )
    assert np.allclose(merger.gram, flat @ flat.T, rtol=1e-4, atol=1e-4 * np.trace(flat @ flat.T))
    assert merger.model((0.0, 1.0, 0.0), 3) == models[1]
    draft = read_lora(merger.model((0.25, 0.0, 0.75), None).path, made.SPEC)
    assert made.difference(draft, made.deltas((loras["a"], 0.25), (loras["c"], 0.75))) < 1e-6
    assert header.RECIPE_KEY not in draft.metadata

    history = add([], "search", name="searched", trials=[])
    artifact = merger.merge((0.25, 0.0, 0.75), None, history)
    one = read_lora(artifact.path / "merged.safetensors", made.SPEC)
    assert made.difference(one, made.deltas((loras["a"], 0.25), (loras["c"], 0.75))) < 1e-6
    assert {factors.rank for factors in one.modules.values()} == {2 + 4}
    inside = json.loads(one.metadata[header.RECIPE_KEY])
    top = inside[root(inside)]
    assert top["type"] == "merge" and root(history) in top["used"]
    assert [(part["name"], part["weight"]) for part in top["parts"]] == [
        ("a@30", 0.25),
        ("c@30", 0.75),
    ]


def test_one_model_is_no_search(family: DrawnFamily, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="at least two"):
        run(tmp_path, family, models=["a"])


def test_a_bound_is_part_of_what_is_lowered(
    family: DrawnFamily, whole: tuple[Artifact, dict[str, Any], int], tmp_path: Path
) -> None:
    _, free, _ = whole
    _, bound = run(tmp_path, family, at_most={"colour_cast": 3.0})
    assert bound["trials"][0]["value"] > free["trials"][0]["value"] + 0.5
    with pytest.raises(ValueError, match="did you mean colour_cast"):
        settings(tmp_path, at_most={"color_cast": 3.0})
