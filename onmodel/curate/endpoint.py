"""A model behind an OpenAI-compatible address, local or remote: requests, retries and checks of
answers. The prompts are in scene.py and captioner.py (`/chat/completions`) and painter.py (images).

Pictures are sent to the named address only. The key is sent to it and never written or printed.
https://platform.openai.com/docs/api-reference/chat
"""

import asyncio
import base64
import io
import json
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TypeVar
from urllib.parse import unquote, urlsplit, urlunsplit

import httpx2
from PIL import Image

from onmodel.errors import InputError, ServiceError
from onmodel.text import is_printable, one_line, shown, without_secrets

Message = Mapping[str, object]  # of the chat: role and content
Asked = TypeVar("Asked")
Answer = TypeVar("Answer")
PASSING = frozenset(
    {408, 409, 425, 429, 500, 502, 503, 504, 529}
)  # the same question may be answered later
LONGEST_WAIT = 120.0  # seconds between two tries; a service that asks for more is given up for now
LONGEST_TIMEOUT = 86_400.0  # seconds
LARGEST = 4 * 2**20  # bytes of an answer
SIDE, QUALITY = 1024, 92  # of the JPEG that is sent


class Unusable(Exception):
    """An answer that cannot be used, or a refused question; the text is the reason."""


class Declined(Unusable):
    """A refused question. The same question will be refused again."""


@dataclass(frozen=True)
class Endpoint:
    """`url` ends before `/chat/completions` and the like, e.g. http://127.0.0.1:8080/v1. `timeout`:
    seconds for a whole answer; `attempts`: times that one question is sent while it gets none.
    `sleep` waits so many seconds."""

    url: str
    model: str
    key: str = field(default="", repr=False)
    timeout: float = 120.0
    attempts: int = 6
    sleep: Callable[[float], None] = time.sleep

    def __post_init__(self) -> None:
        if fault := _address_fault(self.url):
            remedy = f"{fault}; write it like --endpoint http://127.0.0.1:8080/v1"
            raise InputError("endpoint", self.clean(self.url) or "missing", remedy)
        if not self.model:
            raise InputError(
                "model", "missing", "name what the endpoint calls its model: --model NAME"
            )
        if not re.fullmatch(r"[!-~]*", self.key):
            raise InputError(
                "OPENAI_API_KEY", "set", "holds a space or sign that no key has; copy it again"
            )
        if not 0 < self.timeout < LONGEST_TIMEOUT:
            raise InputError(
                "timeout", self.timeout, f"use seconds between 0 and {LONGEST_TIMEOUT:.0f}"
            )

    @property
    def address(self) -> str:
        """Where it is, without a name or word that only its owner should know: for messages and
        files."""
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path.rstrip('/')}"

    def clean(self, text: str) -> str:
        """`text` of the service, as in an answer or error, without the key and password that were
        sent to it."""
        with suppress(ValueError):
            password = urlsplit(self.url).password or ""
            return without_secrets(text, (self.key, password, unquote(password)))
        return without_secrets(text, (self.key,))

    def ask(self, messages: Sequence[Message], schema: Mapping[str, object] | None = None) -> str:
        """The answer's text, held to a JSON schema if one is given.

        Raises Unusable for an answer without text, and what `send` raises.
        """
        question: dict[str, object] = {
            "model": self.model,
            "messages": list(messages),
            "temperature": 0,
            "stream": False,
        }
        if schema is not None:
            held = {"name": "answer", "schema": schema, "strict": True}
            question["response_format"] = {"type": "json_schema", "json_schema": held}
        return self.clean(_text(self.send("chat/completions", question)))

    def send(self, path: str, question: Mapping[str, object], largest: int = LARGEST) -> bytes:
        """The body of the answer, of at most `largest` bytes. Waits and asks again while the
        service is busy or away.

        Raises Declined for a question it refuses, InputError for a wrong address, model or key,
        ServiceError when it stays away.
        """
        why, wait = "", None
        for attempt in range(self.attempts):
            if attempt:
                self.sleep(min(2.0 ** (attempt - 1), LONGEST_WAIT) if wait is None else wait)
            status, wait, body = self._post(path, question, largest)
            if status == 200:
                return body
            why = f"{status}: {self._reason(body)}" if status else self._reason(body)
            if status and status not in PASSING:
                raise self._refusal(status, body)
            if wait is not None and wait > LONGEST_WAIT:
                raise ServiceError(
                    f"endpoint: {self.address} wants {wait:.0f} s of rest; run the same command"
                    " again then"
                )
        raise ServiceError(
            f"endpoint: {self.address} gave no answer in {self.attempts} tries ({why}); what was"
            " answered is kept, run the same command again to go on"
        )

    def _post(
        self, path: str, question: Mapping[str, object], largest: int
    ) -> tuple[int, float | None, bytes]:
        """Status (0 when there was no answer), seconds to wait if it says so, and the answer or
        what went wrong."""
        try:
            return asyncio.run(self._exchange(path, question, largest))
        except (TimeoutError, httpx2.TimeoutException):
            return 0, None, f"no whole answer in {self.timeout:g} s".encode()
        except (
            httpx2.InvalidURL,
            ValueError,
        ) as error:  # also a proxy's address, from the environment
            remedy = (
                f"cannot be asked ({shown(one_line(self.clean(str(error))))});"
                " check the address and HTTPS_PROXY"
            )
            raise InputError("endpoint", self.address, remedy) from error
        except httpx2.HTTPError as error:
            return 0, None, (str(error) or type(error).__name__).encode()

    async def _exchange(
        self, path: str, question: Mapping[str, object], largest: int
    ) -> tuple[int, float | None, bytes]:
        """One question. The clock holds for all of it: a server that trickles its headers or answer
        is given up."""
        parts = urlsplit(self.url)
        url = urlunsplit(parts._replace(path=f"{parts.path.rstrip('/')}/{path}", fragment=""))
        headers = {"Accept-Encoding": "identity"}  # a packed answer could grow without end
        if self.key:
            headers["Authorization"] = f"Bearer {self.key}"
        body = bytearray()
        async with (
            asyncio.timeout(self.timeout),
            httpx2.AsyncClient(timeout=None) as client,
            client.stream("POST", url, json=question, headers=headers) as answer,
        ):
            async for part in answer.aiter_raw():
                body += part
                if len(body) > largest:
                    return 0, None, b"the answer never ends"
            return answer.status_code, _rest(answer.headers.get("retry-after")), bytes(body)

    def _refusal(self, status: int, body: bytes) -> Exception:
        if status in (401, 403):
            remedy = f"{self.address} refuses it ({status}); check the key"
            return InputError("OPENAI_API_KEY", "set" if self.key else "not set", remedy)
        if status < 400 or status in (404, 405):
            remedy = (
                f"answers {status} ({self._reason(body)}); check the address, which ends in /v1"
                " mostly, and the model"
            )
            return InputError("endpoint", self.address, remedy)
        return Declined(f"the endpoint refuses the question ({status}: {self._reason(body)})")

    def _reason(self, body: bytes) -> str:
        """The first words of what a service says went wrong."""
        text = " ".join(body[:65536].decode("utf-8", "replace").split())
        said = re.search(r'"message"\s*:\s*"((?:[^"\\]|\\.)*)"', text)
        return shown(one_line(self.clean(said[1] if said else text))) or "no word why"


def ask_all(
    todo: Sequence[Asked], ask: Callable[[Asked], Answer], at_once: int
) -> Iterator[tuple[Asked, Answer]]:
    """Each with its answer, as they come, `at_once` questions open at a time. The first error, or
    leaving off, drops what was not asked yet."""
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


def _address_fault(url: str) -> str:
    """What keeps `url` from being the address of a service; "" when nothing does."""
    if not url.lower().startswith(("http://", "https://")):
        return "name the service"
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return "its host or port cannot be read"
    if not host or not is_printable(url) or " " in url:
        return "it has no host, or a sign that no address has"
    return ""


def _rest(header: str | None) -> float | None:
    """Seconds of a Retry-After header, in either of its forms (RFC 9110, 10.2.3); None without
    one."""
    if header is None:
        return None
    if re.fullmatch(r"\d+(\.\d+)?", header.strip()):
        return float(header)
    try:
        return max(0.0, (parsedate_to_datetime(header) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):
        return None
