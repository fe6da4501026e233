"""Describe a reference picture and its author's notes as structured data, with a vision model.

The answer must fit the schema. Otherwise the model is told the fault and asked again, a bounded
number of times.
"""

import json
import re
from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from onmodel.curate.endpoint import Endpoint, Message, Unusable, picture_url
from onmodel.dataset.pixels import open_picture
from onmodel.errors import InputError, ServiceError
from onmodel.events import Events
from onmodel.hashing import write_json
from onmodel.paths import check_name
from onmodel.policy import check_text
from onmodel.reading import read_json_of_others, read_text
from onmodel.text import printable

TIMES = 4  # that a picture is asked about before its answers are given up


class Thing(BaseModel):
    """One thing in a picture; `position` in words, e.g. "lower left, in her right hand"."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(min_length=1, max_length=80)
    description: str = Field(min_length=1, max_length=600)
    position: str = Field(min_length=1, max_length=120)


class Scene(BaseModel):
    """What a picture shows: as a whole, and each thing in it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    description: str = Field(min_length=20, max_length=2000)
    object: list[Thing] = Field(min_length=1, max_length=32)

    @property
    def prompt(self) -> str:
        """The scene as words for an image model."""
        things = (f"{thing.name} ({thing.position}): {thing.description}" for thing in self.object)
        return " ".join([self.description, *(f"{text.rstrip('.')}." for text in things)])


def read_scene(picture: Path, notes: str, endpoint: Endpoint) -> Scene:
    """Ask for the sheet of a picture; the notes are facts that stand over what a model thinks it
    sees.

    Raises InputError for a picture that cannot be shown, ServiceError when no answer can be used.
    """
    if not picture.is_file():
        raise InputError("picture", picture, "no such file")
    schema = Scene.model_json_schema()
    instruction = (
        "Describe the picture as one JSON object that fits this JSON schema, and nothing else."
        " Describe only what is visible; name no artist and no series; position says where in the"
        f" picture a thing is. {json.dumps(schema)}"
    )
    facts = (
        f"The author's notes, which are true: {notes.strip()}"
        if notes.strip()
        else "There are no notes."
    )
    image = {"type": "image_url", "image_url": {"url": picture_url(open_picture(picture))}}
    first: list[Message] = [
        {"role": "system", "content": instruction},
        {"role": "user", "content": [{"type": "text", "text": facts}, image]},
    ]
    messages: Sequence[Message] = first
    held: dict[str, object] | None = schema
    why = ""
    for _ in range(TIMES):
        try:
            answer = endpoint.ask(messages, held)
        except Unusable as reason:
            why, held = str(reason), None  # not every server can hold a model to a schema
            continue
        try:
            return parse_scene(answer)
        except ValueError as reason:
            why = str(reason)
        again = {
            "role": "user",
            "content": f"This cannot be used: {why}. Answer with the whole JSON object again.",
        }
        messages = [*first, {"role": "assistant", "content": answer}, again]
    raise ServiceError(f"picture: {picture.name}: no usable answer in {TIMES} tries ({why})")


def write_scenes(
    pictures: Sequence[Path],
    notes: Path | None,
    endpoint: Endpoint,
    out: Path,
    events: Events,
    dry_run: bool = False,
) -> tuple[list[Path], int]:
    """Describe pictures, a file in `out` each; files that exist stay. Returns all files, and how
    many were (in a dry run: would be) asked about. Raises InputError before anything is asked."""
    words = read_text(notes, "notes") if notes else ""
    stems = [picture.stem for picture in pictures]
    for picture in pictures:
        if not picture.is_file():
            raise InputError("picture", picture, "no such file")
        check_name(f"{picture.stem}.json", "picture", 255)
    if twice := next((stem for stem in stems if stems.count(stem) > 1), None):
        raise InputError("pictures", twice, "two pictures have this name; rename one")
    files = [out / f"{stem}.json" for stem in stems]
    todo = [pair for pair in zip(pictures, files, strict=True) if not pair[1].exists()]
    if dry_run:
        return files, len(todo)
    with events.task(f"ask {endpoint.model}", len(todo)) as task:
        for picture, file in todo:
            scene = read_scene(picture, words, endpoint)
            write_json(file, {"by": endpoint.model, **scene.model_dump(), "prompt": scene.prompt})
            task.advance()
    return files, len(todo)


def scenes_in(folder: Path) -> dict[str, Scene]:
    """The sheets of a folder by their files' names. Raises InputError where there is none, or one
    does not fit."""
    found = {}
    for path in sorted(folder.glob("*.json")):
        table = read_json_of_others(path, "scenes")
        if not isinstance(table, dict):
            raise InputError("scenes", path, "is no table; write it with `onmodel dataset scene`")
        try:
            said = json.dumps({key: table[key] for key in Scene.model_fields if key in table})
            found[printable(path.stem)] = parse_scene(said)
        except ValueError as error:
            raise InputError(
                "scenes", path, f"is no scene ({error}); write it with `onmodel dataset scene`"
            ) from error
    if not found:
        raise InputError(
            "scenes", folder, "holds no scene; write some with `onmodel dataset scene`"
        )
    return found


def parse_scene(answer: str) -> Scene:
    """The sheet in an answer, also from within a Markdown fence. Raises ValueError that says what
    does not fit."""
    text = re.sub(r"^```\w*\s*|\s*```$", "", answer.strip())
    try:
        scene = Scene.model_validate_json(text)
        check_text(scene.prompt, "scene")
    except ValidationError as error:
        rows = [
            f"{'.'.join(map(str, row['loc'])) or 'the answer'}: {row['msg']}"
            for row in error.errors()[:3]
        ]
        raise ValueError("; ".join(rows)) from error
    except InputError as refused:
        raise ValueError(refused.remedy) from refused
    return scene
