"""Which pictures the next run holds out, known before it: the split is drawn from the recipe's seed
and the groups of repeats that the last audit found."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from onmodel.curate.export import suffix_of
from onmodel.curate.split import held_out
from onmodel.curate.workshop import Piece, Workshop
from onmodel.errors import OnmodelError
from onmodel.hashing import read_json
from onmodel.recipe import load_recipe
from onmodel.stages import curate
from onmodel.studio.plans import planned
from onmodel.studio.training_set import subset_in
from onmodel.studio.workspace import CharacterFolder

AUDIT = "audit the data set first: repeats are held out together"
ANEW = "audit the data set anew: it has pictures that the last audit did not see"


@dataclass(frozen=True)
class KnownSplit:
    """Name of a kept picture → "heldout" or "training"; without, why it is not known."""

    split: Mapping[str, str] = field(default_factory=dict)
    unknown: str = ""


def known_split(character: CharacterFolder, workshop: Workshop) -> KnownSplit:
    """The split that a run would make of the kept pictures of now."""
    if character.recipe is None:
        return KnownSplit(unknown="its recipe is not in this workspace")
    try:
        settings, seed = _curate(character.recipe), load_recipe(character.recipe).seed
    except OnmodelError as error:
        return KnownSplit(unknown=f"the recipe is wrong: {error}")
    if settings is None:
        return KnownSplit(unknown="the recipe has no curate stage, or several")
    audit = character.data / "audit.json"
    if not audit.is_file():
        return KnownSplit(unknown=AUDIT)
    known: dict[str, int] = read_json(audit).get("groups", {})
    rows = _rows(character, settings, workshop)
    if rows is None:
        return KnownSplit(unknown="the recipe takes pictures from elsewhere, or a part of a folder")
    if any(piece.name not in known for _, piece in rows):
        return KnownSplit(unknown=ANEW)
    numbers: dict[int, int] = {}  # in order of first appearance, as the stage numbers them
    groups = [numbers.setdefault(known[piece.name], len(numbers)) for _, piece in rows]
    subsets = [subset for subset, _ in rows]
    shares = {name: settings.share_heldout(name) for name in settings.sources}
    held = held_out(subsets, groups, shares, settings.whole_heldout, seed)
    return KnownSplit(
        {
            piece.name: "heldout" if group in held else "training"
            for (_, piece), group in zip(rows, groups, strict=True)
        }
    )


def _curate(recipe: Path) -> curate.Settings | None:
    """The curate stage of a recipe; None where there is not exactly one."""
    found = [row.settings for row in planned(recipe) if isinstance(row.settings, curate.Settings)]
    return found[0] if len(found) == 1 else None


def _rows(
    character: CharacterFolder, settings: curate.Settings, workshop: Workshop
) -> list[tuple[str, Piece]] | None:
    """The recipe's subset of each kept picture, in the order in which the stage takes them; None
    where it takes other pictures too."""
    found: list[tuple[str, Piece]] = []
    for subset, sources in settings.sources.items():
        for source in sources:
            own = source.folder and subset_in(character, str(source.folder))
            if not own or source.count is not None or source.larger_than:
                return None
            pieces = [piece for piece in workshop.kept if piece.subset == own]
            found += [(subset, piece) for piece in sorted(pieces, key=_file)]
    return found


def _file(piece: Piece) -> str:
    """The file that an export writes, by which the stage sorts."""
    return piece.name.removeprefix(f"{piece.subset}/") + suffix_of(piece)
