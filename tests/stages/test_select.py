"""The select stage: from an evaluation to kept files, with reasons, and loud where constraints
could not be met."""

from pathlib import Path
from typing import Any

import pytest

from onmodel.errors import InputError
from onmodel.evaluate.evaluation import FILE, write_evaluation
from onmodel.hashing import read_json, sha256_file, write_json
from onmodel.ledger.lineage import add, root
from onmodel.records import Artifact
from onmodel.release.history import SENTENCES
from onmodel.stages import select
from onmodel.stages.base import Inputs, Plan, write_models
from tests.support.drawn_family import DrawnFamily, drawn_context, lora
from tests.support.evaluations import evaluation
from tests.support.events import Recorded
from tests.support.graded_models import model

ROWS = (
    model("preview", colour_cast=0.6),
    model("a@10", expression=0.5),
    model("a@20"),
    model("a@30", drift=0.5),
)


def candidates(folder: Path) -> Inputs:
    """An evaluate artifact of made-up numbers with real files."""
    path = folder / "candidates"
    for row in ROWS:
        lora(path, row.name, row.epoch, yellow=0.01 * len(row.name) + (row.epoch or 0))
    write_models(
        path,
        [(row.name, row.epoch, f"{row.name.replace('@', '-')}.safetensors") for row in ROWS],
    )
    write_evaluation(path / FILE, evaluation(ROWS, signature="onm|made-up"))
    write_json(path / "lineage.json", add([], "evaluation", signature="onm|made-up"))
    return Inputs({"candidates": Artifact("evaluation", "e", path)})


def run(folder: Path, **changes: Any) -> tuple[Artifact, dict[str, Any], Inputs]:
    given, events = candidates(folder), changes.pop("events", None)
    settings = select.Settings.model_validate(
        {"do": "select", "candidates": "candidates"} | changes
    )
    artifact = select.run(given, settings, drawn_context(folder, DrawnFamily(), "chosen", events))
    return artifact, read_json(artifact.path / "selection.json"), given


def test_one_is_kept_with_reasons_for_all(tmp_path: Path) -> None:
    artifact, told, given = run(tmp_path)
    assert (
        artifact.kind == "selection"
        and told["chosen"] == ["a@20"]
        and not told["too_close_to_call"]
    )
    assert [row["name"] for row in told["candidates"]] == [row.name for row in ROWS]
    assert all(row["reason"] for row in told["candidates"])
    assert "colour cast" in told["candidates"][0]["reason"]
    (kept,) = Inputs({"chosen": artifact}).models(["chosen"])
    (source,) = given.models(["candidates@20"])
    assert (
        kept.name == "a@20"
        and kept.epoch == 20
        and kept.sha256 == source.sha256 == sha256_file(kept.path)
    )
    lineage = read_json(artifact.path / "lineage.json")
    assert lineage[root(lineage)]["chosen"] == [kept.sha256]


def test_several_are_kept_best_first_and_named_together(tmp_path: Path) -> None:
    artifact, told, _ = run(tmp_path, count=3)
    kept = Inputs({"chosen": artifact}).models(["chosen"])
    assert (
        [m.name for m in kept] == told["chosen"] and told["chosen"][0] == "a@20" and len(kept) == 3
    )


def test_only_some_may_be_candidates(tmp_path: Path) -> None:
    _, told, _ = run(tmp_path, among=["a@1*", "a@3*"])
    assert {row["name"] for row in told["candidates"]} == {"a@10", "a@30"}
    with pytest.raises(InputError, match=r"matches no candidate.*a@20"):
        run(tmp_path, among=["b@*"])


def test_unmet_constraints_are_told_loudly(tmp_path: Path) -> None:
    said = Recorded()
    _, told, _ = run(tmp_path, at_least={"reproduction": 0.999}, events=said)
    assert not told["constraints_met"] and len(told["chosen"]) == 1
    assert "NOT EVERY CONSTRAINT IS MET" in said.text


def test_an_unknown_axis_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(ValueError, match="did you mean reproduction"):
        select.Settings.model_validate(
            {"do": "select", "candidates": "c", "at_least": {"reprodction": 1}}
        )


def test_the_plan_knows_how_many_models_come() -> None:
    settings = select.Settings.model_validate({"do": "select", "candidates": "c", "count": 5})
    assert select.estimate(settings, {"c": Plan(models=8)}) == Plan(models=5)
    assert settings.needs() == ["c"]


def test_a_pick_by_hand_is_recorded_with_its_reason(tmp_path: Path) -> None:
    reason = "The best eyes; nothing measures them."
    artifact, told, _ = run(tmp_path, among=["a@10"], reason=reason)
    assert told["chosen"] == ["a@10"]
    lineage = read_json(artifact.path / "lineage.json")
    assert lineage[root(lineage)]["settings"]["reason"] == reason
    lineage[root(lineage)]["signature"] = "onm|suite:choose-1|P:4|S:2"  # as a real plan's
    sentence = SENTENCES["selection"](lineage, root(lineage))
    assert sentence.startswith(f"1 model chosen by hand (`{reason}`) among those measured")


def test_a_selection_without_a_reason_is_named_as_before(tmp_path: Path) -> None:
    settings = {"do": "select", "candidates": "candidates"}
    plain = select.Settings.model_validate(settings)
    assert "reason" not in plain.keyed() and "reason" not in plain.told()
    picked = select.Settings.model_validate({**settings, "reason": "eyes"})
    assert picked.keyed() == {**plain.keyed(), "reason": "eyes"}
    with pytest.raises(ValueError, match="control characters"):
        select.Settings.model_validate({**settings, "reason": "a\x00b"})
