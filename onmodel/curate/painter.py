"""Pictures from an OpenAI-compatible image model (`/images/generations`): a server on this machine,
or a service.

Prompts go to the address that is named, and pictures are taken from its answer alone: no other
address is asked. Each picture is stored the moment it comes, so that a command that was stopped
asks only for the others. https://platform.openai.com/docs/api-reference/images/create
"""

import base64
import binascii
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from onmodel.curate.endpoint import Declined, Endpoint, Unusable, ask_all
from onmodel.curate.makers import GeneratedPicture
from onmodel.dataset.decoder import Decoder
from onmodel.dataset.decoding import Decode, DecodedPicture, Refused
from onmodel.dataset.pixels import WHITE
from onmodel.events import Events
from onmodel.hashing import hash_json, read_json, write_atomic, write_json
from onmodel.ledger.lineage import Lineage, add, root
from onmodel.policy import check_text
from onmodel.prompt_syntax import plain
from onmodel.sample.suites import Prompt

ASKED = 1  # raised when the question changes: older pictures answer another one
TIMES = 3  # that a picture is asked for before its answers are given up
LARGEST = 96 * 2**20  # bytes of an answer


@dataclass(frozen=True)
class Painter:
    """`side`: pixels of the square pictures that are asked for; `at_once`: questions that are open
    at a time. Another `seed` asks anew; it is not sent, since the protocol knows none."""

    endpoint: Endpoint
    side: int = 1024
    at_once: int = 2
    seed: int = 0

    @property
    def name(self) -> str:
        return self.endpoint.model

    @property
    def sha256(self) -> str:
        """The id of its node: the model's bytes are known to those who run it."""
        return root(self.lineage)

    @property
    def lineage(self) -> Lineage:
        return add([], "service", name=self.name, address=self.endpoint.address)

    def words(self, prompt: Prompt) -> str:
        """By the sheet's tags, which other models can read, and without prompt syntax."""
        return plain(prompt.text["D"])

    def make(
        self, rounds: Sequence[tuple[Prompt, int]], folder: Path, events: Events
    ) -> list[GeneratedPicture]:
        """As makers.py says. What no usable answer comes for has its reason; raises ServiceError
        when none comes at all any more."""
        for prompt, _ in rounds:
            check_text(self.words(prompt), "prompt")
        keys = [self._key(*row) for row in rounds]
        places = [folder / key[:2] / f"{key}.json" for key in keys]
        todo = [i for i, place in enumerate(places) if not place.exists()]
        failed: dict[int, str] = {}
        with events.task(f"ask {self.name}", len(rounds)) as task, Decoder() as decode:
            task.advance(len(rounds) - len(todo))
            asked = ask_all(
                todo, lambda i: self._one(self.words(rounds[i][0]), decode), self.at_once
            )
            for i, (picture, told) in asked:
                if picture is None:
                    failed[i] = told
                else:
                    file = places[i].with_suffix(picture.suffix)
                    write_atomic(file, picture.data)
                    write_json(places[i], {"file": file.name, "revised": told})
                task.advance()
        return [
            self._candidate(prompt, place, failed.get(i, ""))
            for i, ((prompt, _), place) in enumerate(zip(rounds, places, strict=True))
        ]

    def _candidate(self, prompt: Prompt, place: Path, why: str) -> GeneratedPicture:
        made: dict[str, object] = {
            "model": self.name,
            "address": self.endpoint.address,
            "prompt": self.words(prompt),
        }
        if why:
            return GeneratedPicture(prompt, None, made, why)
        kept = read_json(place)
        if kept["revised"]:
            made["revised_prompt"] = kept["revised"]
        return GeneratedPicture(prompt, place.with_name(kept["file"]), made)

    def _key(self, prompt: Prompt, turn: int) -> str:
        return hash_json(
            [ASKED, self.sha256, prompt.id, self.words(prompt), self.side, self.seed, turn]
        )

    def _one(self, words: str, decode: Decode) -> tuple[DecodedPicture | None, str]:
        """A picture and the prompt that the service made of ours, if it did; or none and the
        reason."""
        why = ""
        for _ in range(TIMES):
            try:
                picture, revised = picture_in(self._ask(words), decode)
                return picture, self.endpoint.clean(revised)
            except Declined as reason:
                return None, str(reason)
            except Unusable as reason:
                why = str(reason)
        return None, why

    def _ask(self, words: str) -> bytes:
        question = {"model": self.name, "prompt": words, "n": 1, "size": f"{self.side}x{self.side}"}
        try:
            return self.endpoint.send(
                "images/generations", question | {"response_format": "b64_json"}, LARGEST
            )
        except Declined as refused:
            if "response_format" not in str(refused):
                raise
            return self.endpoint.send(
                "images/generations", question, LARGEST
            )  # a model that knows no other form


def picture_in(body: bytes, decode: Decode) -> tuple[DecodedPicture, str]:
    """The checked picture in an answer, and the prompt that the service made of ours, "" where it
    kept it.

    Raises Unusable.
    """
    try:
        row = json.loads(body)["data"][0]
        text, revised = row.get("b64_json"), row.get("revised_prompt")
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise Unusable("the answer is no generated picture") from error
    if not isinstance(text, str) or not text:
        where = (
            "an address instead of a picture; only b64_json is taken"
            if row.get("url")
            else "no picture"
        )
        raise Unusable(f"the answer holds {where}")
    try:
        picture = decode(base64.b64decode(text, validate=True), WHITE)
    except binascii.Error as error:
        raise Unusable("the answer's picture is no base64") from error
    except Refused as reason:
        raise Unusable(f"the answer's picture: {reason}") from reason
    return picture, revised if isinstance(revised, str) else ""
