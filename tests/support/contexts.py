"""The context that stages get in tests: their artifact stays in its scratch folder."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from onmodel.character import Author, Character, Outfit
from onmodel.events import Events
from onmodel.hashing import tree_hash, write_json
from onmodel.ledger.lineage import Lineage, check, root
from onmodel.records import Artifact
from onmodel.stages.base import Context
from tests.support.events import Recorded

CHARACTER = Character(
    name="Backgwa",
    trigger="backgwa",
    tags=["light blue hair"],
    description="a cat-eared girl",
    free=["expression"],
    palette={"hair": "#aaddee"},
    outfits=[Outfit(id="default", label="blue jacket", tags=["blue jacket"])],
    author=Author(name="someone"),
    license="MIT",
    rating="safe",
)


def context(
    scratch: Path,
    family: Callable[[], Any],
    name: str,
    seed: int = 1,
    character: Character = CHARACTER,
    pictures: Path | None = None,
    events: Events | None = None,
) -> Context:
    """A context of a stage called `name`. `pictures` is the picture cache, by default inside
    `scratch`; without `events`, what the stage reports is in `said(context)`."""

    def commit(kind: str, lineage: Lineage) -> Artifact:
        check(lineage)
        assert root(lineage)
        write_json(scratch / "out" / "lineage.json", lineage)
        return Artifact(kind, tree_hash(scratch / "out"), scratch / "out")

    scratch.mkdir(parents=True, exist_ok=True)
    return Context(
        name=name,
        seed=seed,
        date="2026-11-22",
        character=character,
        family=family,
        base_name="toon",
        base_sha256="b" * 64,
        threads=1,
        scratch=scratch,
        pictures=pictures or scratch / "pictures",
        events=events or Recorded(),
        commit=commit,
    )


def said(context: Context) -> str:
    """The messages that the stage reported, as a terminal shows them."""
    return context.events.text  # type: ignore[attr-defined]
