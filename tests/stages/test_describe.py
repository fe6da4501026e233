"""From reference pictures to a training without them: scenes by a vision model, candidates that are
drawn from the scenes, the best of them as a data set."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from onmodel.dataset.captions import split_tags
from onmodel.engine import local
from onmodel.engine.plan import make_plan
from onmodel.engine.project import Project
from onmodel.errors import InputError
from onmodel.evaluate.observers.files import TOON_ASSETS
from onmodel.hashing import read_json
from onmodel.recipe import load_recipe
from onmodel.toon.base import TOON_BASE
from tests.support.chat_server import Answer, Server, serving
from tests.support.events import Recorded
from tests.support.toon_pictures import toon_picture

HEAD = """
[recipe]
name = "scenes"
character = "toon:backgwa"
seed = 3
date = "2026-12-01"
threads = 1

[stages.references]
do = "curate"
subsets.reference = [{ toon = "reference" }]
heldout_subsets = ["reference"]

[stages.scenes]
do = "describe"
dataset = "references"
count = 3
endpoint = "URL"
model = "vision"
"""
CANDIDATES = """
[stages.candidates]
do = "sample"
scenes = "scenes"
count = 6
keep = 2
agreement = 0.0
steps = 4
tags = [5, 8]
references = "references"
"""
PAINTED = CANDIDATES.replace("steps = 4", 'endpoint = "URL"\nimage_model = "painter"')
DATA = """
[stages.data]
do = "curate"
subsets.synthetic = [{ stage = "candidates" }]
"""
SCENE = {
    "description": "A girl with light blue hair and cat ears wearing a navy beret.",
    "object": [{"name": "beret", "description": "navy beret", "position": "head"}],
}


def answers(n: int, question: dict[str, Any]) -> Answer:
    """A scene for a picture; a picture of the character for a prompt."""
    if "messages" in question:
        return json.dumps(SCENE)
    return toon_picture(n)[0]


def run(folder: Path, server: Server, text: str) -> Project:
    (folder / "recipe.toml").write_text(text.replace("URL", server.url))
    project = Project(folder / "project")
    with project.writing():
        local.run(load_recipe(folder / "recipe.toml"), project, Recorded())
    return project


def rows(project: Project) -> list[dict[str, Any]]:
    (artifact,) = project.artifacts("pictures")
    found: list[dict[str, Any]] = read_json(artifact.path / "pictures.json")
    return found


@pytest.fixture
def server() -> Iterator[Server]:
    with serving(answers) as started:
        yield started


def test_scenes_become_a_data_set_without_the_reference_pictures(
    tmp_path: Path, server: Server
) -> None:
    project = run(tmp_path, server, HEAD + CANDIDATES + DATA)
    assert len(server.questions) == 3
    (scenes,) = project.artifacts("scenes")
    assert len(list((scenes.path / "scenes").glob("*.json"))) == 3
    made = rows(project)
    assert len(made) == 6 and sum(row["kept"] for row in made) == 2
    for row in made:
        assert row["prompt"] == SCENE["description"]  # the base is not told the trigger
        assert row["reason"]
        own = [tag for tag in split_tags(row["tags"]) if tag != "backgwa"]
        assert own[0] == "1girl" and 5 <= len(own) <= 8
    _, data = project.artifacts("dataset")
    manifest = read_json(data.path / "manifest.json")
    assert len(manifest["items"]) == 2
    assert all(item["origin"].startswith("generated:") for item in manifest["items"])
    kinds = {node["type"] for node in read_json(data.path / "lineage.json").values()}
    assert {"service", "scenes", "pictures", "base"} <= kinds


def test_an_image_service_draws_the_scenes(tmp_path: Path, server: Server) -> None:
    project = run(tmp_path, server, HEAD + PAINTED)
    asked = [question for question in server.questions if "prompt" in question]
    assert len(asked) == 6 and all("beret" in question["prompt"] for question in asked)
    made = rows(project)
    assert len(made) == 6 and len({row["model_sha256"] for row in made}) == 1
    text = (project.artifacts("pictures")[0].path / "lineage.json").read_text()
    assert "painter" in text and str(tmp_path) not in text


def test_a_run_that_was_stopped_asks_only_for_the_rest(tmp_path: Path) -> None:
    broken = True

    def script(n: int, question: dict[str, Any]) -> Answer:
        if broken and n >= 2:
            return 401, {}, '{"error": {"message": "no"}}'
        return answers(n, question)

    with serving(script) as server:
        with pytest.raises(InputError, match="OPENAI_API_KEY"):
            run(tmp_path, server, HEAD)
        assert len(server.questions) == 3
        broken = False
        project = run(tmp_path, server, HEAD)
        assert len(server.questions) == 4
    assert project.artifacts("scenes")


def test_a_dry_run_asks_nothing_and_says_whom(tmp_path: Path, server: Server) -> None:
    (tmp_path / "recipe.toml").write_text((HEAD + PAINTED).replace("URL", server.url))
    plan = make_plan(load_recipe(tmp_path / "recipe.toml"))
    notes = {step.name: list(step.plan.notes) for step in plan}
    assert notes["scenes"] == [f"asks {server.url} about 3 pictures"]
    assert notes["candidates"] == [f"asks {server.url} for 6 pictures"]
    assert not server.questions


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (("URL", "ftp://x"), "endpoint"),
        (('model = "vision"', 'model = ""'), "model"),
        (('dataset = "references"', 'dataset = "nobody"'), "dataset"),
        (("keep = 2", "keep = 7"), "keep is more than count"),
        (("tags = [5, 8]", "tags = [8, 5]"), "tags is"),
        (("agreement = 0.0\n", "agreement = 2\n"), "agreement"),
        (("keep = 2\n", ""), "set keep too"),
        (('references = "references"', ""), "keep needs references"),
        (("steps = 4", 'endpoint = "http://127.0.0.1:9/v1"'), "endpoint needs image_model"),
        (('scenes = "scenes"', 'scenes = "references"'), "makes a data set; name scenes"),
        (('scenes = "scenes"', 'scenes = "scenes"\nprompts = "check"'), "exclude each other"),
        (("steps = 4", 'image_model = "x"\nendpoint = "nothing"'), "endpoint"),
    ],
)
def test_wrong_settings_are_named_before_anything_runs(
    tmp_path: Path, change: tuple[str, str], match: str
) -> None:
    text = (HEAD + CANDIDATES).replace(*change).replace("URL", "http://127.0.0.1:9/v1")
    (tmp_path / "recipe.toml").write_text(text)
    with pytest.raises(InputError, match=match):
        make_plan(load_recipe(tmp_path / "recipe.toml"))


def test_what_judges_is_missing_before_anything_is_drawn(tmp_path: Path, server: Server) -> None:
    base = f'base = {{ family = "anima", folder = "{TOON_BASE}", device = "cpu" }}'
    text = (HEAD + PAINTED).replace("seed = 3", f"{base}\nseed = 3")
    for observer in ("identity", "tagger"):
        with pytest.raises(InputError, match=rf"candidates\.{observer}: none — name the folder"):
            run(tmp_path, server, text)
        text += f'identity = "{TOON_ASSETS / "identity"}"\n'
    assert not [question for question in server.questions if "prompt" in question]
