"""A stand-in for a vision model and an image model on the toon world, as a local HTTP server that
speaks OpenAI's protocol: `python tools/toon_services.py`, or `serving()` in a program.

`/v1/chat/completions` describes the toon picture in a question as the JSON of onmodel's scenes; it
is looked at by the toon tagger. `/v1/images/generations` draws a toon with the tags that stand in
the prompt.
"""

from __future__ import annotations

import argparse
import base64
import io
import json
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT)]

import numpy as np  # noqa: E402
from PIL import Image  # noqa: E402

from onmodel.evaluate.observers import load_observers  # noqa: E402
from onmodel.hashing import hash_json  # noqa: E402
from onmodel.toon.attributes import VOCABULARY, Toon, sample_toon, visible  # noqa: E402
from onmodel.toon.captions import COLORED, sentence  # noqa: E402
from onmodel.toon.draw import draw  # noqa: E402

WORN = {"headwear": "head", "neck": "neck", "outfit": "body", "glasses": "face", "ears": "head"}
SIDE = 96


class Services:
    """Both models. Answers depend on the questions and on how often one was asked."""

    def __init__(self) -> None:
        self._tagger = load_observers("toon", {}, 1).tagger
        self._lock = threading.Lock()
        self._drawn: dict[str, int] = {}

    def describe(self, picture: Image.Image, notes: str = "") -> dict[str, object]:
        """The scene that a picture shows; what the notes say is true."""
        assert self._tagger is not None
        (row,) = self._tagger([picture])
        toon = read_toon(dict(zip(self._tagger.tags, row, strict=True))).replace(**_asked(notes))
        seen = visible(toon)
        things = []
        for name, place in WORN.items():
            tag = VOCABULARY[name][getattr(toon, name)]
            if tag and name in seen:
                color = COLORED.get(name)
                if color in seen:
                    tag = f"{VOCABULARY[color][getattr(toon, color)]} {tag}"
                things.append({"name": tag, "description": tag, "position": place})
        hair = f"{VOCABULARY['hair_color'][toon.hair_color]}"
        things.append({"name": hair, "description": toon.hair_style, "position": "head"})
        return {"description": sentence(toon), "object": things}

    def paint(self, prompt: str, side: int) -> bytes:
        """A PNG of a toon with the tags of the prompt; the rest is drawn by lot."""
        with self._lock:
            turn = self._drawn[prompt] = self._drawn.get(prompt, -1) + 1
        rng = np.random.default_rng(int(hash_json([prompt, turn])[:12], 16))
        toon = sample_toon(rng).replace(**_asked(prompt))
        buffer = io.BytesIO()
        draw(toon, side, side).save(buffer, "PNG")
        return buffer.getvalue()


def read_toon(seen: Mapping[str, float]) -> Toon:
    """The toon whose attributes a tagger sees: of each the surest value, or the untagged one where
    none is surer than one half. `seen`: tag → probability."""
    values: dict[str, str] = {}
    for name, tags in VOCABULARY.items():
        if name in COLORED.values():
            thing = next(key for key, color in COLORED.items() if color == name)
            worn = [tag for tag in VOCABULARY[thing].values() if tag]
            score = {
                value: max(seen.get(f"{word} {tag}", 0.0) for tag in worn)
                for value, word in tags.items()
            }
        else:
            score = {value: seen.get(tag, 0.5) if tag else 0.5 for value, tag in tags.items()}
        values[name] = max(score, key=lambda value: score[value])
    return sample_toon(np.random.default_rng(0)).replace(**values)


def _asked(text: str) -> dict[str, str]:
    """The attributes whose tags stand in a text; of several values the last one."""
    words = text.casefold()
    asked: dict[str, str] = {}
    for name, values in VOCABULARY.items():
        if name not in COLORED.values():
            places = {value: words.rfind(tag) for value, tag in values.items() if tag}
            found = [value for value, place in places.items() if place >= 0]
            if found:
                ends = {value: places[value] + len(values[value]) for value in found}
                asked[name] = max(found, key=lambda value: (ends[value], len(values[value])))
    for thing, color in COLORED.items():
        tag = VOCABULARY[thing].get(asked.get(thing, ""), "")
        for value, word in VOCABULARY[color].items():
            if tag and f"{word} {tag}" in words:
                asked[color] = value
    return asked


@contextmanager
def serving(port: int = 0) -> Iterator[str]:
    """Serve on this machine until the block ends; yields the address."""
    services = Services()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            question = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if self.path == "/v1/chat/completions":
                parts = question["messages"][1]["content"]
                url = next(part["image_url"]["url"] for part in parts if "image_url" in part)
                data = base64.b64decode(url.partition(",")[2])
                notes = next(part["text"] for part in parts if "text" in part)
                said = services.describe(Image.open(io.BytesIO(data)).convert("RGB"), notes)
                message = {"role": "assistant", "content": json.dumps(said)}
                self._answer({"choices": [{"message": message, "finish_reason": "stop"}]})
            elif self.path == "/v1/images/generations":
                side = int(question.get("size", str(SIDE)).partition("x")[0])
                png = services.paint(question["prompt"], side)
                self._answer({"data": [{"b64_json": base64.b64encode(png).decode()}]})
            else:
                self.send_error(404)

        def _answer(self, body: dict[str, Any]) -> None:
            data = json.dumps(body).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", port), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/v1"
        server.shutdown()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8077)
    with serving(parser.parse_args().port) as address:
        print(address, flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    main()
