"""A model behind an OpenAI-compatible address, a server on this machine or a service: how it is asked, waited for and
believed. What is asked is told in scene.py and captioner.py (`/chat/completions`) and in painter.py (pictures).

Pictures go to the address that is named and nowhere else. The key is sent to it and never written or printed.
https://platform.openai.com/docs/api-reference/chat
"""

import base64
import io
import json
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

import httpx2
from PIL import Image

from onmodel.errors import InputError, ServiceError

Message = Mapping[str, Any]
Asked = TypeVar("Asked")
Answer = TypeVar("Answer")
PASSING = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})  # the same question may be answered later
LONGEST_WAIT = 120.0  # seconds between two tries; a service that asks for more is given up for now
LARGEST = 4 * 2**20  # bytes of an answer
SIDE, QUALITY = 1024, 92  # of the JPEG that is sent


class Unusable(Exception):
    """An answer, or a refusal of one question, that cannot be used; the text is the reason."""


class Declined(Unusable):
    """The refusal of one question: asked again as it is, it will be refused again."""


@dataclass(frozen=True)
class Endpoint:
    """`url` ends before `/chat/completions` and the like, e.g. http://127.0.0.1:8080/v1. `timeout`: seconds for a whole
    answer; `attempts`: times that one question is sent while it gets none. `sleep` waits so many seconds."""

    url: str
    model: str
    key: str = field(default="", repr=False)
    timeout: float = 120.0
    attempts: int = 6
    sleep: Callable[[float], None] = time.sleep

    def __post_init__(self) -> None:
        if not self.url.startswith(("http://", "https://")):
            raise InputError("endpoint", self.url or "missing", "name it, e.g. --endpoint http://127.0.0.1:8080/v1")
        if not self.model:
            raise InputError("model", "missing", "name what the endpoint calls its model: --model NAME")

    def ask(self, messages: Sequence[Message], schema: Mapping[str, Any] | None = None) -> str:
        """The answer's text, held to a JSON schema if one is given.

        Raises Unusable for an answer without text, and what `send` raises.
        """
        question: dict[str, Any] = {"model": self.model, "messages": list(messages), "temperature": 0, "stream": False}
        if schema is not None:
            held = {"name": "answer", "schema": schema, "strict": True}
            question["response_format"] = {"type": "json_schema", "json_schema": held}
        return _text(self.send("chat/completions", question))

    def send(self, path: str, question: Mapping[str, Any], largest: int = LARGEST) -> bytes:
        """The body of the answer, of at most `largest` bytes. Waits and asks again while the service is busy or away.

        Raises Declined for a question it refuses, InputError for a wrong address, model or key, ServiceError when it
        stays away.
        """
        why, wait = "", None
        for attempt in range(self.attempts):
            if attempt:
                self.sleep(min(2.0 ** (attempt - 1), LONGEST_WAIT) if wait is None else wait)
            status, wait, body = self._post(path, question, largest)
            if status == 200:
                return body
            why = f"{status}: {_reason(body)}" if status else _reason(body)
            if status and status not in PASSING:
                raise self._refusal(status, body)
            if wait is not None and wait > LONGEST_WAIT:
                raise ServiceError(f"endpoint: {self.url} wants {wait:.0f} s of rest; run the same command again then")
        raise ServiceError(
            f"endpoint: {self.url} gave no answer in {self.attempts} tries ({why}); what was answered is kept, "
            "run the same command again to go on"
        )

    def _post(self, path: str, question: Mapping[str, Any], largest: int) -> tuple[int, float | None, bytes]:
        """Status (0 when there was no answer), seconds to wait if it says so, and the answer or what went wrong."""
        headers = {"Authorization": f"Bearer {self.key}"} if self.key else {}
        ends = time.monotonic() + self.timeout
        url = f"{self.url.rstrip('/')}/{path}"
        parts: list[bytes] = []
        try:
            with httpx2.stream("POST", url, json=question, headers=headers, timeout=self.timeout) as answer:
                for part in answer.iter_bytes():
                    parts.append(part)
                    if (largest := largest - len(part)) < 0:
                        return 0, None, b"the answer never ends"
                    if time.monotonic() > ends:  # a trickle keeps a connection's own clock from running out
                        return 0, None, f"no whole answer in {self.timeout:g} s".encode()
                return answer.status_code, _rest(answer.headers.get("retry-after")), b"".join(parts)
        except httpx2.TimeoutException:
            return 0, None, f"no answer in {self.timeout:g} s".encode()
        except httpx2.InvalidURL as error:
            raise InputError("endpoint", self.url, f"is no address ({error})") from error
        except httpx2.HTTPError as error:
            return 0, None, (str(error) or type(error).__name__).encode()

    def _refusal(self, status: int, body: bytes) -> Exception:
        if status in (401, 403):
            return InputError("OPENAI_API_KEY", "set" if self.key else "not set", f"{self.url} refuses it ({status})")
        if status < 400 or status in (404, 405):
            remedy = f"answers {status} ({_reason(body)}); check the address, which ends in /v1 mostly, and the model"
            return InputError("endpoint", self.url, remedy)
        return Declined(f"the endpoint refuses the question ({status}: {_reason(body)})")


def ask_all(todo: Sequence[Asked], ask: Callable[[Asked], Answer], at_once: int) -> Iterator[tuple[Asked, Answer]]:
    """Each with its answer, as they come, `at_once` questions open at a time. The first error, or leaving off, drops
    what was not asked yet."""
    with ThreadPoolExecutor(at_once) as pool:
        asked = {pool.submit(ask, one): one for one in todo}
        try:
            for done in as_completed(asked):
                yield asked[done], done.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def picture_url(image: Image.Image) -> str:
    """An RGB picture as a data URI, no side longer than 1024 pixels."""
    small, buffer = image.copy(), io.BytesIO()
    small.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    small.save(buffer, "JPEG", quality=QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def _text(body: bytes) -> str:
    """The text of an answer, without what a model thought before it."""
    try:
        choice = json.loads(body)["choices"][0]
        text = choice["message"]["content"]
    except (ValueError, LookupError, TypeError) as error:
        raise Unusable("the answer is no chat completion") from error
    if not isinstance(text, str) or not text.strip():
        raise Unusable("the answer is empty")
    if choice.get("finish_reason") == "length":
        raise Unusable("the answer was cut off")
    return re.sub(r"<think>.*?</think>", "", text, flags=re.S).strip()


def _reason(body: bytes) -> str:
    """The first words of what a service says went wrong."""
    text = " ".join(body.decode("utf-8", "replace").split())
    said = re.search(r'"message"\s*:\s*"((?:[^"\\]|\\.)*)"', text)
    return (said[1] if said else text)[:120] or "no word why"


def _rest(header: str | None) -> float | None:
    """Seconds of a Retry-After header, in either of its forms (RFC 9110, 10.2.3); None without one."""
    if header is None:
        return None
    if re.fullmatch(r"\d+(\.\d+)?", header.strip()):
        return float(header)
    try:
        return max(0.0, (parsedate_to_datetime(header) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):
        return None
