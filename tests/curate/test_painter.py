"""Pictures from an OpenAI-compatible image endpoint over real HTTP: what is asked, what is
believed, what is kept."""

import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from onmodel.curate.endpoint import Endpoint
from onmodel.curate.makers import GeneratedPicture
from onmodel.curate.painter import TIMES, Painter
from onmodel.errors import InputError, ServiceError
from onmodel.events import Events
from onmodel.sample.suites import Prompt
from tests.support.chat_server import Answer, generation, serving
from tests.support.picture_heads import png_header


def picture(colour: str = "teal") -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (64, 48), colour).save(buffer, "PNG")
    return buffer.getvalue()


def prompts(*words: str) -> list[tuple[Prompt, int]]:
    return [
        (Prompt(f"{i:04d}", "hole", {}, (), {"D": text, "L": "x"}), 0)
        for i, text in enumerate(words)
    ]


def make(
    url: str, folder: Path, *words: str, rests: list[float] | None = None, **options: Any
) -> list[GeneratedPicture]:
    endpoint = Endpoint(
        url, "brush", "secret", sleep=(rests if rests is not None else []).append, **options
    )
    return Painter(endpoint, 512).make(prompts(*words), folder, Events())


def test_a_picture_is_asked_for_and_kept_as_it_came(tmp_path: Path) -> None:
    with serving(
        lambda n, question: (200, {}, generation(picture(), revised_prompt="a girl, teal"))
    ) as server:
        (one,) = make(server.url, tmp_path, "a girl")
    (question,) = server.questions
    assert question == {
        "model": "brush",
        "prompt": "a girl",
        "n": 1,
        "size": "512x512",
        "response_format": "b64_json",
    }
    assert server.keys == ["Bearer secret"]
    assert one.path is not None and one.path.read_bytes() == picture() and one.path.suffix == ".png"
    assert one.made == {
        "model": "brush",
        "address": server.url,
        "prompt": "a girl",
        "revised_prompt": "a girl, teal",
    }
    assert "secret" not in "".join(
        path.read_text("latin-1") for path in tmp_path.rglob("*") if path.is_file()
    )


def test_a_busy_and_a_silent_service_are_waited_for(tmp_path: Path) -> None:
    rests: list[float] = []
    script: list[Answer] = [(429, {"Retry-After": "7"}, "{}"), (503, {}, "busy"), 9.0, picture()]
    with serving(lambda n, question: script[n]) as server:
        (one,) = make(server.url, tmp_path, "a girl", rests=rests, timeout=2)
    assert one.path is not None and rests == [7.0, 2.0, 4.0]


def test_a_model_that_knows_one_form_only_is_asked_without(tmp_path: Path) -> None:
    def script(n: int, question: dict[str, Any]) -> Answer:
        refuses = (400, {}, '{"error": {"message": "Unknown parameter: \'response_format\'."}}')
        return refuses if "response_format" in question else picture()

    with serving(script) as server:
        (one,) = make(server.url, tmp_path, "a girl")
    assert one.path is not None and len(server.questions) == 2


@pytest.mark.parametrize(
    ("answer", "what"),
    [
        ((200, {}, "<html>"), "no generated picture"),
        ((200, {}, '{"data": []}'), "no generated picture"),
        (
            (200, {}, '{"data": [{"url": "http://127.0.0.1:1/a.png"}]}'),
            "an address instead of a picture",
        ),
        ((200, {}, '{"data": [{"b64_json": "%%%"}]}'), "no base64"),
        (b"hello", "not a PNG"),
        (picture()[:60], "damaged"),
        (png_header(60_000, 60_000), "exceeds limit"),
    ],
)
def test_what_is_no_picture_is_asked_for_again_and_then_named(
    tmp_path: Path, answer: Answer, what: str
) -> None:
    with serving(
        lambda n, question: picture() if "boy" in question["prompt"] else answer
    ) as server:
        bad, good = make(server.url, tmp_path, "a girl", "a boy")
    assert bad.path is None and re.search(what, bad.why) and good.path is not None
    assert len(server.questions) == TIMES + 1


def test_what_is_refused_is_not_asked_again(tmp_path: Path) -> None:
    refuses = (400, {}, '{"error": {"message": "content policy"}}')
    with serving(
        lambda n, question: picture() if "boy" in question["prompt"] else refuses
    ) as server:
        bad, good = make(server.url, tmp_path, "a girl", "a boy")
    assert (
        bad.path is None
        and bad.why == "the endpoint refuses the question (400: content policy)"
        and good.path
    )
    assert len(server.questions) == 2


def test_what_came_is_never_asked_for_again(tmp_path: Path) -> None:
    words = ["a", "b", "c", "d"]
    with serving(lambda n, question: picture() if n < 2 else (401, {}, "{}")) as server:
        with pytest.raises(InputError, match="OPENAI_API_KEY"):
            make(server.url, tmp_path, *words)
        kept = len(list(tmp_path.rglob("*.json")))
        assert 1 <= kept <= 2
        server.script = lambda n, question: picture()
        asked = len(server.questions)
        found = make(server.url, tmp_path, *words)
        assert all(one.path for one in found) and len(server.questions) == asked + 4 - kept
        make(server.url, tmp_path, *words)
        assert len(server.questions) == asked + 4 - kept
    assert not list(tmp_path.rglob(".tmp*")) and len(list(tmp_path.rglob("*.png"))) == 4


def test_a_service_that_stays_away_is_given_up(tmp_path: Path) -> None:
    with (
        serving(lambda n, question: (500, {}, "{}")) as server,
        pytest.raises(ServiceError, match="to go on"),
    ):
        make(server.url, tmp_path, "a girl")


def test_a_prompt_against_the_policy_is_never_sent(tmp_path: Path) -> None:
    with serving(lambda n, question: picture()) as server:
        with pytest.raises(InputError, match="prompt"):
            make(server.url, tmp_path, "a girl", "a nude child")
        assert not server.questions


def test_its_name_in_a_history_holds_no_secret() -> None:
    painter = Painter(Endpoint("https://me:word@host:1/v1/?token=x", "brush", "secret"))
    ((id, node),) = painter.lineage.items()
    assert painter.sha256 == id and node["address"] == "https://host:1/v1"
    assert "secret" not in json.dumps(node) and "word" not in json.dumps(node)
