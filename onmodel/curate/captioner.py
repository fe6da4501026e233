"""Sentences about pictures from a vision model: the prompt, the checks of its answers, and their
cache.

Each answer is stored at once, so an interrupted command asks only for the others. After an answer
that fails a check, the model is told the fault and asked again, a bounded number of times.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from onmodel.character import Character
from onmodel.curate.endpoint import Endpoint, Message, Unusable, ask_all, picture_url
from onmodel.curate.workshop import Piece
from onmodel.errors import InputError
from onmodel.events import Task
from onmodel.hashing import hash_json, read_json, write_json
from onmodel.policy import check_text

ASKED = 1  # raised when the question changes: older answers are to another one
TIMES = 3  # that a picture is asked about before its answers are given up
FEWEST, MOST = 15, 1200  # characters of an answer
_REFUSES = re.compile(
    r"^(i['’]?m sorry|sorry|i (can(no|['’])t|am unable|won['’]t)|as an ai|unfortunately)", re.I
)
_MARKUP = re.compile(r"```|\*\*|^\s*([-*#>]|\d+[.)])\s|^\s*[{\[<]|\|\|", re.M)
_ARTIST = re.compile(r"\bstyle of\b|\b(art|drawn|illustrated|painted) by\b|@\w", re.I)
_UNSPACED = re.compile("[぀-ヿ㐀-鿿가-힣]")  # T5's tokenizer knows none of these


@dataclass
class Answers:
    """`sentences`: picture → sentence; `failed`: picture → reason; `asked`: number of requests
    sent."""

    sentences: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    asked: int = 0


def stored(
    pieces: Iterable[Piece], character: Character, endpoint: Endpoint, folder: Path
) -> dict[str, str]:
    """Picture → sentence, for answers that are stored."""
    paths = {piece.name: _place(piece, character, endpoint, folder) for piece in pieces}
    return {name: read_json(path)["sentence"] for name, path in paths.items() if path.exists()}


def describe(
    pieces: Sequence[Piece],
    character: Character,
    endpoint: Endpoint,
    folder: Path,
    at_once: int,
    task: Task,
) -> Answers:
    """Ask about every picture that has no answer in `folder` yet, `at_once` at a time; `task` moves
    by pictures.

    Raises ServiceError or InputError when asking on makes no sense; the answers until then are
    stored.
    """
    found = Answers(stored(pieces, character, endpoint, folder))
    task.advance(len(found.sentences))
    todo = [piece for piece in pieces if piece.name not in found.sentences]
    for piece, (sentence, why, asked) in ask_all(
        todo, lambda piece: _one(piece, character, endpoint), at_once
    ):
        found.asked += asked
        if why:
            found.failed[piece.name] = why
        else:
            found.sentences[piece.name] = sentence
            write_json(
                _place(piece, character, endpoint, folder), {"sentence": sentence, "asked": asked}
            )
        task.advance()
    return found


def fault_of(answer: str, character: Character) -> str:
    """Why an answer cannot be a caption, as an instruction to the model; "" when it can."""
    if _REFUSES.search(answer):
        return "it describes nothing"
    if _MARKUP.search(answer):
        return "it holds a list or markup; write plain sentences"
    if not FEWEST <= len(answer) <= MOST:
        return f"it has {len(answer)} characters; write between {FEWEST} and {MOST}"
    if _UNSPACED.search(answer):
        return "it is not in English"
    if not re.search(rf"\b{re.escape(character.trigger)}\b", answer):
        return f"it does not call the character {character.trigger}"
    if _ARTIST.search(answer):
        return "it names an artist or somebody's style"
    try:
        check_text(answer, "sentence")
    except InputError as error:
        return f"{error.value}: {error.remedy}"
    return ""


def question(piece: Piece, character: Character) -> list[Message]:
    """The prompt about a picture: the picture, its tags as facts, and the tags that the trigger
    stands for."""
    design = ", ".join(character.tags)
    instruction = (
        "You write captions that train an image model. Describe the picture in one to three plain"
        f" English sentences, on one line, without markup. Call the character {character.trigger}."
        f" Leave unsaid what always belongs to this character ({design}), unless it is missing or"
        " different here. Say what may change: expression, pose, view, framing, clothes,"
        " background, drawing style. Say only what is visible. Name no artist and no series."
    )
    facts = f"Tags that are known to be true: {', '.join(piece.words)}."
    image = {
        "type": "image_url",
        "image_url": {"url": picture_url(piece.cropped.open())},
    }
    return [
        {"role": "system", "content": instruction},
        {"role": "user", "content": [{"type": "text", "text": facts}, image]},
    ]


def _one(piece: Piece, character: Character, endpoint: Endpoint) -> tuple[str, str, int]:
    """Sentence, reason for none, and number of requests."""
    messages: list[Message] = question(piece, character)
    why = ""
    for turn in range(1, TIMES + 1):
        try:
            answer = endpoint.ask(messages).strip(" \"'\n")
        except Unusable as reason:
            why = str(reason)
            continue
        if not (why := fault_of(answer, character)):
            return " ".join(answer.split()), "", turn
        again: Message = {
            "role": "user",
            "content": f"This cannot be used: {why}. Write it again.",
        }
        messages = [*messages[:2], {"role": "assistant", "content": answer}, again]
    return "", why, TIMES


def _place(piece: Piece, character: Character, endpoint: Endpoint, folder: Path) -> Path:
    """The file of the answer to this question by this model."""
    sheet = [character.trigger, character.tags]
    asked = [ASKED, endpoint.model, piece.content, piece.paper, piece.words, sheet]
    return folder / f"{hash_json(asked)}.json"
