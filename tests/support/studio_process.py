"""`onmodel studio` as a process of its own, which a test can kill."""

import http.client
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from onmodel.studio.gate import HOST, Key
from tests.support.studio import Browser


@dataclass(frozen=True)
class StudioProcess:
    """A running studio: the address that it printed, and a browser that has its cookie."""

    process: subprocess.Popen[str]
    url: str
    browser: Browser

    def kill(self) -> None:
        """End it as a crash does."""
        self.process.kill()
        self.process.wait()


@contextmanager
def studio_process(folder: Path) -> Iterator[StudioProcess]:
    """Serve a workspace until the block ends. What its runs started goes on."""
    command = [sys.executable, "-m", "onmodel", "studio", str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            url = process.stdout.readline().strip()
            yield StudioProcess(process, url, Browser(_key(url)))
        finally:
            process.kill()


def _key(url: str) -> Key:
    """The key of a studio from its address, with the cookie that the address sets."""
    parts = urlsplit(url)
    assert parts.port is not None
    connection = http.client.HTTPConnection(HOST, parts.port, timeout=60)
    connection.request("GET", f"/?{parts.query}")
    answer = connection.getresponse().getheader("Set-Cookie") or ""
    connection.close()
    cookie = answer.partition("=")[2].partition(";")[0]
    return Key(parts.port, parse_qs(parts.query)["token"][0], cookie)
