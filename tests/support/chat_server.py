"""A real local HTTP server that speaks OpenAI's protocol, chat or images, with a script of what
goes wrong."""

import base64
import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

# words, or the bytes of a picture; or status, headers, body; or seconds of silence; or pieces of a
# body, a tenth of a second apart
Answer = str | bytes | tuple[int, dict[str, str], str] | float | list[str]


class Server:
    """`script(n, question)` gives the answer to the n-th question (from 0); `questions` holds what
    was asked."""

    def __init__(self, script: Callable[[int, dict[str, Any]], Answer]) -> None:
        self.script = script
        self.questions: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.lock = threading.Lock()
        self.url = ""


@contextmanager
def serving(script: Callable[[int, dict[str, Any]], Answer]) -> Iterator[Server]:
    server = Server(script)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            question = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with server.lock:
                n = len(server.questions)
                server.questions.append(question)
                server.keys.append(self.headers.get("Authorization"))
            if self.path not in ("/v1/chat/completions", "/v1/images/generations"):
                return self.answer(404, {}, '{"error": {"message": "no such path"}}')
            said = server.script(n, question)
            if isinstance(said, float):
                time.sleep(said)
                return None
            if isinstance(said, list):
                return self.trickle(said)
            if isinstance(said, bytes):
                said = 200, {}, generation(said)
            return (
                self.answer(*said)
                if isinstance(said, tuple)
                else self.answer(200, {}, completion(said))
            )

        def answer(self, status: int, headers: dict[str, str], body: str) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body.encode())))
            self.end_headers()
            self.wfile.write(body.encode())

        def trickle(self, pieces: list[str]) -> None:
            self.send_response(200)
            self.end_headers()
            with contextlib.suppress(OSError):  # the other side hangs up
                for piece in pieces:
                    self.wfile.write(piece.encode())
                    time.sleep(0.1)

        def log_message(self, format: str, *args: object) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(
        target=http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
    )
    thread.start()
    server.url = f"http://127.0.0.1:{http.server_port}/v1"
    try:
        yield server
    finally:
        http.shutdown()
        http.server_close()
        thread.join()


def completion(text: str | None, finish: str = "stop") -> str:
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": text},
        "finish_reason": finish,
    }
    return json.dumps({"id": "1", "object": "chat.completion", "choices": [choice]})


def generation(picture: bytes, **more: str) -> str:
    return json.dumps(
        {"created": 1, "data": [{"b64_json": base64.b64encode(picture).decode(), **more}]}
    )
