"""The sample stage: balanced prompts, captions, choosing what shows the character and differs, and
refusals."""

from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from onmodel.errors import InputError
from onmodel.evaluate.axes import References
from onmodel.evaluate.features import Features
from onmodel.hashing import read_json, tree_hash
from onmodel.records import Artifact
from onmodel.stages import sample
from onmodel.stages.base import Inputs, Plan
from onmodel.stages.choosing import captions, choose
from tests.support.drawn_family import (
    DrawnFamily,
    colour_observers,
    drawn_context,
    drawn_dataset,
    half_of_one_minus_cosine,
    install,
    sheet,
    trained,
)
from tests.support.events import Recorded


@pytest.fixture
def family(monkeypatch: pytest.MonkeyPatch) -> DrawnFamily:
    return install(monkeypatch)


def run(folder: Path, family: DrawnFamily, **changes: Any) -> tuple[Artifact, list[dict[str, Any]]]:
    given = {
        "do": "sample",
        "model": "a",
        "count": 12,
        "size": 48,
        **colour_observers(folder / "observers"),
    }
    events = changes.pop("events", None)
    settings = sample.Settings.model_validate(given | changes)
    if not (folder / "a").exists():
        trained(folder, "a", {10: {}})
        drawn_dataset(folder)
    artifacts = {name: Artifact(name, name, folder / name) for name in ("a", "references")}
    artifact = sample.run(
        Inputs(artifacts), settings, drawn_context(folder, family, "generated", events)
    )
    return artifact, read_json(artifact.path / "pictures.json")


def test_every_row_has_its_picture_captions_and_reason(family: DrawnFamily, tmp_path: Path) -> None:
    prompts = {"expression": ["smile", "sad", "angry"], "style": ["comic", ""]}
    artifact, rows = run(tmp_path, family, prompts=prompts)
    assert artifact.kind == "pictures" and len(rows) == 12 == len({row["seed"] for row in rows})
    for row in rows:
        assert (
            (artifact.path / row["file"]).exists()
            and row["kept"]
            and row["reason"]
            and len(row["model_sha256"]) == 64
        )
        assert row["tags"].startswith("1girl, backgwa, ") and row["prompt"].endswith(row["tags"])
        assert row["sentence"].startswith("A girl named backgwa. It shows ")
    assert (
        sum("comic" in row["tags"] for row in rows) == 6
        and sum("sad" in row["tags"] for row in rows) == 4
    )


def test_without_prompts_everything_free_is_varied(family: DrawnFamily, tmp_path: Path) -> None:
    _, rows = run(tmp_path, family, count=24)
    for tag in ("surprised", "from side", "pixel art", "beach", "full body"):
        assert any(tag in row["tags"] for row in rows)


def test_a_suite_goes_round_with_fresh_seeds(family: DrawnFamily, tmp_path: Path) -> None:
    _, rows = run(tmp_path, family, prompts="choose", count=14)
    assert rows[0]["prompt"] == rows[12]["prompt"] and rows[0]["seed"] != rows[12]["seed"]
    _, moved = run(tmp_path, family, prompts="choose", count=14, seed=1)
    assert {row["seed"] for row in rows[12:]} <= {row["seed"] for row in moved}
    assert rows[2]["seed"] not in {row["seed"] for row in moved[:12]}


def test_keep_says_why_for_each(family: DrawnFamily, tmp_path: Path) -> None:
    artifact, rows = run(tmp_path, family, keep=4, references="references")
    kept = [row for row in rows if row["kept"]]
    assert 1 <= len(kept) <= 4 and len(rows) == 12
    assert all(row["reason"].startswith(("agreement ", "looks damaged", "shows ")) for row in rows)
    assert any(row["reason"].endswith(", the best") for row in kept)
    again, _ = run(tmp_path, family, keep=4, references="references")
    assert tree_hash(again.path) == tree_hash(artifact.path)


def test_choose_takes_what_shows_the_character_and_differs() -> None:
    def features(identity: np.ndarray, tags: np.ndarray) -> Features:
        others = {field.name: np.ones((len(identity), 4)) for field in fields(Features)}
        return Features(**others | {"tags": tags, "identity": identity})

    character, stranger = np.array([1.0, 0.0]), np.array([0.0, 1.0])
    references = References(
        features(np.tile(character, (5, 1)), np.ones((5, 3))),
        np.arange(5),
        half_of_one_minus_cosine,
    )
    looks = np.array([[1.0, 0, 0], [0.99, 0.01, 0], [0, 1, 0], [0, 0, 1], [0, 0, 1]])
    found = choose(features(np.stack([character] * 4 + [stranger]), looks), references, keep=3)
    assert [kept for kept, _ in found] == [True, False, True, True, False]
    assert "only 0.01" in found[1][1] and "below" in found[4][1]
    assert (
        sum(kept for kept, _ in choose(features(np.stack([stranger] * 5), looks), references, 3))
        == 0
    )


def test_too_few_that_show_her_is_told(
    family: DrawnFamily,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sample, "choose", lambda *_: [(i < 2, "so") for i in range(12)])
    said = Recorded()
    _, rows = run(tmp_path, family, keep=4, references="references", events=said)
    assert sum(row["kept"] for row in rows) == 2
    assert "only 2 of 12 pictures show the character well enough; 4 were wanted" in said.text


def test_keep_needs_somebody_to_judge_by(family: DrawnFamily, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="keep needs references"):
        run(tmp_path, family, keep=4)


def test_refused_prompts_and_empty_lists_generate_nothing(
    family: DrawnFamily, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="minors"):
        run(tmp_path, family, prompts={"body": ["nude"], "who": ["child"]})
    with pytest.raises(InputError, match="at least one tag"):
        run(tmp_path, family, prompts={"style": []})
    assert family.drawn == 0


def test_captions_say_trigger_and_what_was_asked() -> None:
    from onmodel.sample.suites import matrix

    (prompt,) = matrix({"a": ["smile"], "b": ["upper body"], "c": ["forest"]}, sheet(), 1, 0)
    assert captions(prompt, sheet()) == (
        "1girl, backgwa, smile, upper body, forest",
        "A girl named backgwa. It shows smile, upper body and forest.",
    )
    (plain,) = matrix({"a": [""]}, sheet(), 1, 0)
    assert captions(plain, sheet()) == ("1girl, backgwa", "A girl named backgwa.")


def test_the_plan_counts_pictures(tmp_path: Path) -> None:
    settings = sample.Settings.model_validate(
        {"do": "sample", "model": "a", "count": 96, "keep": 16, "references": "r"}
    )
    assert sample.estimate(settings, {}) == Plan(
        pictures=96, counts={"pictures": 16}, drawn=settings.sampling.drawn(96)
    ) and settings.needs() == [
        "a",
        "r",
    ]
