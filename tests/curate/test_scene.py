"""A picture as a structured sheet: what fits the schema is taken, what does not is asked for
again."""

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from onmodel.curate.endpoint import Endpoint
from onmodel.curate.scene import TIMES, Scene, parse_scene, read_scene
from onmodel.errors import InputError, ServiceError
from tests.support.chat_server import Answer, serving

THING: dict[str, Any] = {
    "name": "beret",
    "description": "a navy beret",
    "position": "top, on her head",
}
GOOD: dict[str, Any] = {"description": "A girl stands in a forest and waves.", "object": [THING]}


def at(url: str) -> Endpoint:
    return Endpoint(url, "eyes", sleep=lambda seconds: None)


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    Image.new("RGB", (32, 32), (9, 90, 200)).save(tmp_path / "a.png")
    return tmp_path / "a.png"


@pytest.mark.parametrize(
    ("answer", "what"),
    [
        ("A girl in a forest.", "Invalid JSON"),
        (json.dumps({"description": GOOD["description"]}), "object: Field required"),
        (
            json.dumps(GOOD | {"object": [THING | {"position": ""}]}),
            "object.0.position: String should have",
        ),
        (json.dumps(GOOD | {"mood": "gay"}), "mood: Extra inputs"),
        (json.dumps(GOOD | {"description": "A nude child in a forest."}), "refused everywhere"),
    ],
)
def test_what_does_not_fit_is_asked_for_again_with_the_reason(
    picture: Path, answer: str, what: str
) -> None:
    with serving(lambda n, question: json.dumps(GOOD) if n else answer) as server:
        assert read_scene(
            picture, "She waves with her left.", at(server.url)
        ) == Scene.model_validate(GOOD)
    one, two = server.questions
    assert "She waves with her left." in one["messages"][1]["content"][0]["text"]
    assert one["response_format"]["json_schema"]["schema"]["required"] == ["description", "object"]
    assert what in two["messages"][-1]["content"]


def test_a_server_without_schemas_is_asked_without(picture: Path) -> None:
    def script(n: int, question: dict[str, Any]) -> Answer:
        refuses = (400, {}, '{"error": {"message": "unknown field response_format"}}')
        return refuses if "response_format" in question else f"```json\n{json.dumps(GOOD)}\n```"

    with serving(script) as server:
        assert read_scene(picture, "", at(server.url)).object[0].name == "beret"
    assert len(server.questions) == 2


def test_bad_answers_end(picture: Path) -> None:
    with (
        serving(lambda n, question: "{}") as server,
        pytest.raises(ServiceError, match=r"a\.png: no usable answer"),
    ):
        read_scene(picture, "", at(server.url))
    assert len(server.questions) == TIMES
    with pytest.raises(InputError, match="no such file"):
        read_scene(picture.with_name("gone.png"), "", at("http://127.0.0.1:9/v1"))


def test_a_sheet_becomes_a_prompt() -> None:
    said = "A girl stands in a forest and waves. beret (top, on her head): a navy beret."
    assert parse_scene(json.dumps(GOOD)).prompt == said
