"""A studio that is really served, and a browser's requests to it."""

import http.client
import json
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import uvicorn

from onmodel.studio.app import Services, make_app
from onmodel.studio.datasets import Datasets
from onmodel.studio.drawing import Drawing
from onmodel.studio.gate import HOST, Key
from onmodel.studio.jobs import Jobs
from onmodel.studio.server import listen
from onmodel.studio.workspace import open_workspace


@dataclass(frozen=True)
class Answer:
    """What the studio answered."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Browser:
    """Sends what a browser sends, with the cookie that it got. A header of None is left out."""

    key: Key

    def get(self, path: str, **headers: str | None) -> Answer:
        return self.send("GET", path, None, headers)

    def post(self, path: str, value: object = None, **headers: str | None) -> Answer:
        """Post JSON."""
        kind = {"Content-Type": "application/json"}
        return self.send("POST", path, json.dumps(value).encode(), {**kind, **headers})

    def form(self, path: str, *fields: tuple[str, str]) -> Answer:
        kind = {"Content-Type": "application/x-www-form-urlencoded"}
        return self.send("POST", path, urlencode(fields).encode(), kind)

    def upload(self, path: str, name: str, data: bytes) -> Answer:
        return self.send("POST", f"{path}?name={quote(name)}", data, {})

    def send(
        self, method: str, path: str, body: bytes | None, headers: Mapping[str, str | None]
    ) -> Answer:
        host = f"{HOST}:{self.key.port}"
        sent: dict[str, str | None] = {
            "Host": host,
            "Cookie": f"{self.key.cookie_name}={self.key.cookie}",
            "Origin": f"http://{host}" if method == "POST" else None,
            "Sec-Fetch-Site": "same-origin",
            **{name.replace("_", "-"): value for name, value in headers.items()},
        }
        connection = http.client.HTTPConnection(HOST, self.key.port, timeout=60)
        try:
            connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
            for name, value in sent.items():
                if value is not None:
                    connection.putheader(name, value)
            if body is not None:
                connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body)
            found = connection.getresponse()
            return Answer(found.status, {k.lower(): v for k, v in found.getheaders()}, found.read())
        finally:
            connection.close()


@dataclass(frozen=True)
class DataRoom:
    """The data room of one character of a served workspace."""

    browser: Browser
    folder: Path
    address: str

    @classmethod
    def made(cls, browser: Browser, workspace: Path, files: Mapping[str, bytes]) -> "DataRoom":
        """A new character, "momo", from files, imported."""
        id = browser.form("/new", ("name", "momo")).json()["character"]
        for name, data in files.items():
            assert browser.upload(f"/upload/{id}", name, data).status == 200
        made = browser.form(f"/new/{id}/finish", ("trigger", "momochar"))
        assert made.status == 200, made.text
        assert browser.post(f"/c/{id}/data/import").status == 200
        return cls(browser, workspace / "momo", f"/c/{id}/data")

    def get(self, path: str) -> Answer:
        return self.browser.get(f"{self.address}/{path}")

    def post(self, path: str, value: object = None) -> Answer:
        return self.browser.post(f"{self.address}/{path}", value)

    def form(self, path: str, *fields: tuple[str, str]) -> Answer:
        return self.browser.form(f"{self.address}/{path}", *fields)


@contextmanager
def serving(folder: Path, roots: Sequence[Path] = ()) -> Iterator[Browser]:
    """Serve a workspace in a thread; the queue does not advance by itself."""
    workspace = open_workspace(folder, roots)
    with listen(0) as listener, closing(Drawing()) as drawing:
        key = Key(listener.getsockname()[1])
        app = make_app(workspace, Services(Jobs(workspace), drawing, Datasets()), key)
        config = uvicorn.Config(app, log_level="critical", lifespan="off")
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        while not server.started:
            time.sleep(0.01)
        try:
            yield Browser(key)
        finally:
            server.should_exit = True
            thread.join()
