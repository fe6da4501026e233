"""An OpenAI-compatible endpoint over real HTTP: busy, slow, broken, wrong; and sentences from it,
none asked twice."""

import base64
import contextlib
import io
import socket
import threading
import time
from pathlib import Path

import pytest
from PIL import Image

from onmodel.character import Character, load_character
from onmodel.curate import captioner
from onmodel.curate.captioner import describe, fault_of, stored
from onmodel.curate.endpoint import LARGEST, Endpoint, Unusable
from onmodel.curate.workshop import Piece, Said
from onmodel.errors import InputError, ServiceError
from onmodel.events import Events
from onmodel.hashing import sha256_file
from tests.support.chat_server import Answer, completion, serving

SHEET = Path(__file__).parents[2] / "onmodel/toon/characters/backgwa.toml"
GOOD = "backgwa smiles at the viewer in front of a forest."
HELLO = [{"role": "user", "content": "hello"}]


@pytest.fixture(scope="module")
def character() -> Character:
    return load_character(SHEET)


def pieces(folder: Path, count: int) -> list[Piece]:
    found = []
    for i in range(count):
        path = folder / f"{i}.png"
        Image.new("RGBA", (40, 20), (10 * i, 200, 30, 128)).save(path)
        tags = (Said("1girl", "file"), Said("smile", "file"))
        found.append(
            Piece(
                f"base/{i}",
                path,
                sha256_file(path),
                40,
                20,
                "base",
                tags,
                "",
                "",
                "",
                paper="#000000",
            )
        )
    return found


def waits() -> tuple[list[float], Endpoint]:
    rests: list[float] = []
    return rests, Endpoint("http://127.0.0.1:1/v1", "eyes", sleep=rests.append, timeout=5)


def at(url: str, rests: list[float] | None = None, **options: object) -> Endpoint:
    return Endpoint(
        url, "eyes", "secret", sleep=(rests if rests is not None else []).append, **options
    )  # type: ignore[arg-type]


def test_the_picture_and_the_key_arrive(tmp_path: Path, character: Character) -> None:
    with serving(lambda n, question: GOOD) as server, Events().task("ask", 1) as task:
        found = describe(pieces(tmp_path, 1), character, at(server.url), tmp_path / "kept", 1, task)
    assert found.sentences == {"base/0": GOOD} and found.asked == 1
    (question,) = server.questions
    assert question["model"] == "eyes" and server.keys == ["Bearer secret"]
    text, image = question["messages"][1]["content"]
    assert "smile" in text["text"] and "light blue hair" in question["messages"][0]["content"]
    sent = Image.open(io.BytesIO(base64.b64decode(image["image_url"]["url"].partition(",")[2])))
    assert sent.size == (40, 20) and sent.mode == "RGB"
    assert sent.getpixel((9, 9)) == pytest.approx((0, 100, 15), abs=4)  # on its black paper


@pytest.mark.parametrize("header", ["7", "7.0"])
def test_a_busy_service_is_given_the_rest_that_it_asks_for(header: str) -> None:
    rests: list[float] = []
    script: list[Answer] = [(429, {"Retry-After": header}, "{}"), (503, {}, "busy"), GOOD]
    with serving(lambda n, question: script[n]) as server:
        assert at(server.url, rests).ask(HELLO) == GOOD
    assert rests == [7.0, 2.0]


def test_a_date_says_when_to_come_again() -> None:
    rests: list[float] = []
    script: list[Answer] = [(429, {"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}, "{}"), GOOD]
    with serving(lambda n, question: script[n]) as server:
        assert at(server.url, rests).ask(HELLO) == GOOD
    assert rests == [0.0]


def test_a_service_that_stays_away_is_given_up() -> None:
    rests: list[float] = []
    with serving(
        lambda n, question: (500, {}, '{"error": {"message": "out of memory"}}')
    ) as server:
        with pytest.raises(ServiceError, match=r"6 tries \(500: out of memory\).*to go on"):
            at(server.url, rests).ask(HELLO)
        assert len(server.questions) == 6 and rests == [1, 2, 4, 8, 16]
        with pytest.raises(ServiceError, match="3600 s of rest"):
            server.script = lambda n, question: (429, {"Retry-After": "3600"}, "{}")
            at(server.url, rests).ask(HELLO)
    rests, nowhere = waits()
    with pytest.raises(ServiceError, match="no answer in 6 tries"):
        nowhere.ask(HELLO)
    assert len(rests) == 5


def test_silence_is_not_waited_for_longer_than_said() -> None:
    rests: list[float] = []
    with serving(lambda n, question: GOOD if n else 9.0) as server:
        assert at(server.url, rests, timeout=2).ask(HELLO) == GOOD
    assert rests and rests[0] == 1


def test_a_trickle_of_bytes_is_not_waited_for_either() -> None:
    with (
        serving(lambda n, question: ["{"] * 60) as server,
        pytest.raises(ServiceError, match="no whole answer in 1 s"),
    ):
        at(server.url, timeout=1, attempts=1).ask(HELLO)


@pytest.mark.parametrize(
    ("status", "error", "what"),
    [
        (401, InputError, "OPENAI_API_KEY: set .* refuses it"),
        (404, InputError, "endpoint: .*no such model.*check the address"),
        (302, InputError, "answers 302"),
        (400, Unusable, "refuses the question .400: no such model"),
    ],
)
def test_what_asking_again_cannot_mend_is_said_at_once(
    status: int, error: type[Exception], what: str
) -> None:
    with serving(
        lambda n, question: (status, {}, '{"error": {"message": "no such model"}}')
    ) as server:
        with pytest.raises(error, match=what) as raised:
            at(server.url).ask(HELLO)
        assert len(server.questions) == 1 and "secret" not in str(raised.value) + repr(
            at(server.url)
        )


@pytest.mark.parametrize(
    "body",
    [
        "<html>",
        "{}",
        '{"choices": []}',
        completion(None),
        completion(" "),
        completion("cut", "length"),
    ],
)
def test_an_answer_without_words_is_unusable(body: str) -> None:
    with serving(lambda n, question: (200, {}, body)) as server, pytest.raises(Unusable):
        at(server.url).ask(HELLO)


def test_thoughts_are_no_part_of_an_answer() -> None:
    with serving(lambda n, question: f"<think>hm\nhm</think>\n{GOOD}") as server:
        assert at(server.url).ask(HELLO) == GOOD


@pytest.mark.parametrize(
    "answer",
    [
        "I'm sorry, I can't help with that.",
        "A girl smiles at the viewer.",
        "- backgwa smiles\n- forest",
        "backgwa",
        '{"caption": "backgwa smiles at the viewer"}',
        "**backgwa** smiles at the viewer",
        "backgwa " * 300,
        "backgwa smiles, in the style of somebody",
        "backgwa は笑っています。森の前です。",
        "backgwa, a nude child smiling",
    ],
)
def test_what_no_caption_can_be_is_asked_for_again(
    tmp_path: Path, character: Character, answer: str
) -> None:
    assert fault_of(answer, character)
    with (
        serving(lambda n, question: GOOD if n else answer) as server,
        Events().task("ask", 1) as task,
    ):
        found = describe(pieces(tmp_path, 1), character, at(server.url), tmp_path / "kept", 1, task)
    assert found.sentences == {"base/0": GOOD} and found.asked == 2
    told = server.questions[1]["messages"]
    assert told[2]["role"] == "assistant" and "This cannot be used" in told[3]["content"]


def test_bad_answers_end_and_the_others_go_on(tmp_path: Path, character: Character) -> None:
    def script(n: int, question: dict) -> Answer:
        first = question["messages"][1]["content"][1]["image_url"]["url"]
        with lock:
            bad.setdefault(first, len(bad))
        return GOOD if bad[first] else "no."

    lock, bad = threading.Lock(), dict[str, int]()
    with serving(script) as server, Events().task("ask", 3) as task:
        found = describe(pieces(tmp_path, 3), character, at(server.url), tmp_path / "kept", 3, task)
    assert len(found.failed) == 1 and len(found.sentences) == 2
    assert next(iter(found.failed.values())).startswith("it has 3 characters")
    assert len(server.questions) == captioner.TIMES + 2


def test_what_was_answered_is_never_asked_again(tmp_path: Path, character: Character) -> None:
    own, kept = pieces(tmp_path, 5), tmp_path / "kept"
    with (
        serving(lambda n, question: GOOD if n < 3 else (401, {}, "{}")) as server,
        Events().task("a", 5) as task,
    ):
        with pytest.raises(InputError, match="OPENAI_API_KEY"):
            describe(own, character, at(server.url), kept, 1, task)
        assert len(stored(own, character, at(server.url), kept)) == 3
        server.script = lambda n, question: GOOD
        asked = len(server.questions)
        found = describe(own, character, at(server.url), kept, 2, task)
        assert len(found.sentences) == 5 and len(server.questions) == asked + 2 and found.asked == 2
    assert stored(own, character, Endpoint(server.url, "other eyes"), kept) == {}


@pytest.mark.parametrize(
    ("url", "model", "what"),
    [
        ("", "m", "endpoint: missing"),
        ("x.y", "m", "endpoint: x.y"),
        ("http://x/v1", "", "model: missing"),
    ],
)
def test_a_wrong_address_is_one_line(url: str, model: str, what: str) -> None:
    with pytest.raises(InputError, match=what):
        Endpoint(url, model)


@pytest.mark.parametrize(
    "url",
    [
        "http://",
        "http:///v1",
        "http://host:99999/v1",
        "http://[::1/v1",
        "http://a b/v1",
        "http://a\nb/v1",
        "ftp://x",
    ],
)
def test_an_address_that_none_is_is_refused_before_anything_is_sent(url: str) -> None:
    with pytest.raises(InputError, match="endpoint"):
        Endpoint(url, "m")


@pytest.mark.parametrize(
    "key", ["two words", "line\n", "k\N{LATIN SMALL LETTER E WITH ACUTE}y", "\x00"]
)
def test_a_key_with_signs_that_no_key_has_is_named_and_not_shown(key: str) -> None:
    with pytest.raises(InputError, match="OPENAI_API_KEY: set") as raised:
        Endpoint("http://x/v1", "m", key)
    assert key not in str(raised.value)


@pytest.mark.parametrize("timeout", [0.0, -1.0, float("nan"), float("inf")])
def test_a_time_without_an_end_is_refused(timeout: float) -> None:
    with pytest.raises(InputError, match="timeout"):
        Endpoint("http://x/v1", "m", timeout=timeout)


@pytest.mark.parametrize("status", [400, 401, 404, 302, 500, 429])
def test_no_key_or_password_is_in_a_message_even_if_the_service_says_it(status: int) -> None:
    body = (
        '{"error": {"message": "Bearer secret of me:pass/w0rd at http://me:pass%2Fw0rd@here,'
        ' \\u001b[31m"}}'
    )
    with serving(lambda n, question: (status, {}, body)) as server:
        endpoint = at(server.url.replace("http://", "http://me:pass%2Fw0rd@"), attempts=1)
        with pytest.raises((InputError, ServiceError, Unusable)) as raised:
            endpoint.ask(HELLO)
    said = str(raised.value)
    assert "secret" not in said and "w0rd" not in said and "\x1b" not in said and len(said) < 400


def test_the_password_of_an_address_is_used_and_the_words_of_an_answer_hold_no_secret() -> None:
    with serving(lambda n, question: "my key is pass-word-1") as server:
        endpoint = Endpoint(
            server.url.replace("http://", "http://me:pass-word-1@"), "eyes", attempts=1
        )
        assert endpoint.ask(HELLO) == "my key is ***"
        assert server.keys[0] is not None and server.keys[0].startswith("Basic ")
        assert "pass-word-1" not in endpoint.address


def test_a_query_in_the_address_is_kept() -> None:
    with (
        serving(lambda n, question: (404, {}, "{}")) as server,
        pytest.raises(InputError, match="answers 404"),
    ):
        at(server.url + "?version=1", attempts=1).ask(HELLO)


def test_headers_that_trickle_are_not_waited_for() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def trickle() -> None:
            with contextlib.suppress(OSError):
                peer, _ = listening.accept()
                peer.sendall(b"HTTP/1.1 200 OK\r\n")
                for i in range(100):
                    peer.sendall(f"X-{i}: a\r\n".encode())
                    time.sleep(0.1)

        threading.Thread(target=trickle, daemon=True).start()
        started = time.monotonic()
        with pytest.raises(ServiceError, match="no whole answer in 1 s"):
            at(f"http://127.0.0.1:{listening.getsockname()[1]}/v1", timeout=1, attempts=1).ask(
                HELLO
            )
        assert time.monotonic() - started < 5


def test_a_packed_or_endless_answer_is_not_taken() -> None:
    with (
        serving(lambda n, question: "x" * (LARGEST + 1)) as server,
        pytest.raises(ServiceError, match="never ends"),
    ):
        at(server.url, attempts=1).ask(HELLO)
