"""The local server of a session, behind the gate. Its replies never name a model.

GET /  /page.css  /page.js
GET /state               how far, and the prompt of the pair that is shown
GET /picture/3/left      a picture of that pair or the next: pixels alone, since the files name
                         their LoRA
POST /answer {"pair": 3, "answer": "left"}    POST /undo {"pair": 3}    POST /end {}
"""

import io
import re
import threading
from collections.abc import Callable
from http import HTTPStatus

from PIL import Image

from onmodel.errors import SpaceError, StateError
from onmodel.events import Events
from onmodel.judge.gate import GatedServer, HttpRequest, JsonTable, RefusedError, Reply, json_reply
from onmodel.judge.page import page_script, page_style, result_fragment, session_page
from onmodel.judge.result import SessionResult, result
from onmodel.judge.session import Session
from onmodel.judge.votes import Votes

_PICTURE = re.compile("/picture/([0-9]{1,9})/(left|right)")


Action = Callable[[JsonTable], dict[str, object]]  # of a POST: its body → the answer


class JudgeServer(GatedServer):
    """Serves one session until it ends; `found` is its result then. `port` 0 takes a free one."""

    def __init__(self, session: Session, votes: Votes, events: Events, port: int = 0) -> None:
        self.session, self.votes = session, votes
        self.found: SessionResult | None = None
        self.lock = threading.Lock()
        self._files = {
            "/": Reply(session_page(session).encode(), "text/html; charset=utf-8"),
            "/page.css": Reply(page_style().encode(), "text/css; charset=utf-8"),
            "/page.js": Reply(page_script().encode(), "text/javascript; charset=utf-8"),
        }
        self._actions: dict[str, Action] = {
            "/answer": self._answer,
            "/undo": self._undo,
            "/end": self._end,
        }
        super().__init__(events, port)

    def answer(self, request: HttpRequest) -> Reply:
        if request.method == "POST" and request.target in self._actions:
            return self._act(self._actions[request.target], request.table())
        if request.method == "GET" and request.target in self._files:
            return self._files[request.target]
        if request.method == "GET" and request.target == "/state":
            with self.lock:
                return json_reply(self.state())
        picture = _PICTURE.fullmatch(request.target)
        if request.method == "GET" and picture:
            return self._picture(int(picture[1]), picture[2] == "right")
        raise RefusedError(HTTPStatus.NOT_FOUND, "no such page")

    def state(self) -> dict[str, object]:
        """What the page shows next: `prompt` is None when every pair was answered."""
        at, pairs = len(self.votes.answers), self.session.pairs
        prompt = self.session.shown.texts[pairs[at].prompt] if at < len(pairs) else None
        return {"pair": at, "of": len(pairs), "prompt": prompt}

    def _picture(self, at: int, right: bool) -> Reply:
        """PNG of pixels alone, of the pair that is shown or the next."""
        if at not in range(min(len(self.votes.answers) + 2, len(self.session.pairs))):
            raise RefusedError(HTTPStatus.NOT_FOUND, "not shown yet")
        try:
            return Reply(_pixels(self.session.picture(self.session.pairs[at], right)), "image/png")
        except StateError as error:  # it names the file, which the judge must not see
            self.events.note(str(error), "error")
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            self.events.note(f"a picture of pair {at} cannot be read ({error})", "error")
        sentence = (
            "A picture is missing or damaged. The terminal names it. Restore it and reload this"
            " page."
        )
        raise RefusedError(HTTPStatus.INTERNAL_SERVER_ERROR, sentence)

    def _act(self, action: Action, row: JsonTable) -> Reply:
        with self.lock:
            try:
                return json_reply(action(row), last=self.found is not None)
            except ValueError as error:  # a second tab, or a key pressed twice
                return json_reply({"error": str(error)} | self.state(), HTTPStatus.CONFLICT)
            except SpaceError:
                sentence = "no space left on the disk: free some room and answer again"
                raise RefusedError(HTTPStatus.INSUFFICIENT_STORAGE, sentence) from None

    def _answer(self, row: JsonTable) -> dict[str, object]:
        self.votes.vote(row.get("pair", -1), row.get("answer", ""))
        return self.state()

    def _undo(self, row: JsonTable) -> dict[str, object]:
        self.votes.undo(row.get("pair", -1))
        return self.state()

    def _end(self, row: JsonTable) -> dict[str, object]:
        """Work out the result and close the votes."""
        if not self.votes.answers:
            raise ValueError("no pair was answered yet")
        found = result(self.session, self.votes.answers)
        self.votes.end()
        self.found = found
        return {"result": result_fragment(found)}


def _pixels(file: bytes) -> bytes:
    """A picture file as PNG without anything but its pixels."""
    buffer = io.BytesIO()
    with Image.open(io.BytesIO(file), formats=["PNG"]) as image:
        plain = Image.new("RGB", image.size)
        plain.paste(image.convert("RGB"))
    plain.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()
