"""New pictures for the holes of a data set: asked for, generated, looked at, picked, labelled; the model that made them
stays in their history. Everything that was generated is kept with its verdict; killed, the same command goes on.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from onmodel.character import Character
from onmodel.curate.audit import Audit
from onmodel.curate.duplicates import find_links, group_links
from onmodel.curate.look import Looks, look
from onmodel.curate.picking import Judged, alien_traits, hidden_traits, label, pick
from onmodel.curate.provenance import GENERATED, model_of
from onmodel.curate.sentences import sentence_of
from onmodel.curate.workshop import Decision, Piece, Workshop, keep_models, piece_as_table
from onmodel.errors import InputError
from onmodel.evaluate.axes.base import References, Unavailable
from onmodel.evaluate.axes.reproduction import threshold
from onmodel.evaluate.features import Features
from onmodel.evaluate.observers import Observers
from onmodel.hashing import sha256_file, write_json
from onmodel.ledger.lineage import Lineage, add
from onmodel.models import header
from onmodel.models.weights import read_metadata
from onmodel.progress import Progress
from onmodel.randomness import generator
from onmodel.records import Model
from onmodel.sample.pictures import Request, Sampling, render
from onmodel.sample.suites import Prompt, noise_seed

if TYPE_CHECKING:
    from onmodel.models.family import Family

HIDDEN = 2  # traits that a picture must lack: one may be covered, or missed by the tagger
REFERENCES = 200  # pictures of the set that new ones are compared with


@dataclass(frozen=True)
class Maker:
    """The model that makes pictures: a base, and a LoRA on it if there is one. `family` loads the base."""

    family: "Callable[[], Family]"
    base_name: str
    base_sha256: str
    lora: Model | None = None

    @property
    def sha256(self) -> str:
        return self.lora.sha256 if self.lora else self.base_sha256

    @property
    def name(self) -> str:
        return self.lora.name if self.lora else self.base_name

    @property
    def lineage(self) -> Lineage:
        """Its history: what the LoRA's header tells, or the base alone."""
        if self.lora is None:
            return add([], "base", name=self.base_name, sha256=self.base_sha256)
        from onmodel.models.lora import Lora  # torch

        return header.imported(Lora({}, read_metadata(self.lora.path)), self.lora.sha256, self.lora.name)


@dataclass(frozen=True)
class Made:
    """What a synthesis gave: the new pictures, and a row for each candidate with its verdict."""

    pieces: Sequence[Piece]
    rows: Sequence[Mapping[str, Any]]

    @property
    def refusals(self) -> Counter[str]:
        return Counter(str(row["refused"]).partition(":")[0] for row in self.rows if row["refused"])


def lora_at(path: Path) -> Model:
    """A LoRA file, or the one in a release folder. Raises InputError when there is none, or more than one."""
    files = sorted(path.glob("*.safetensors")) if path.is_dir() else [path]
    if len(files) != 1 or not files[0].is_file():
        raise InputError(
            "lora", path, f"holds {len(files)} .safetensors; name one" if path.is_dir() else "no such file"
        )
    return Model(files[0].stem, files[0], sha256_file(files[0]))


def synthesize(
    workshop: Workshop, audit: Audit, observers: Observers, character: Character, maker: Maker,
    prompts: Sequence[Prompt], wanted: Mapping[str, Mapping[str, int]], tries: int, sampling: Sampling, subset: str,
    rights: str, seed: int, progress: Progress, least: float | None = None,
) -> Made:  # fmt: skip
    """Generate `tries` pictures for each prompt, pick as many as there are prompts at most, and put them into `subset`,
    as one step.

    Without a LoRA the character is described by her sheet's tags. `least` is the agreement with the set's pictures that
    a new one needs, 0…1; without, what nine in ten of them reach among themselves. Raises InputError when the set has
    too few pictures to tell the character by, or a prompt is refused.
    """
    if observers.identity is None or observers.tagger is None:
        raise InputError("observers", "none", "name the folders: --tagger and --identity")
    arm = "L" if maker.lora else "D"
    rounds = [(prompt, turn) for turn in range(tries) for prompt in prompts]
    requests = [
        Request(
            prompt.text[arm],
            prompt.negative,
            noise_seed(f"synthesis/{seed}", f"{prompt.id} {prompt.text[arm]}", turn),
            maker.lora,
        )
        for prompt, turn in rounds
    ]
    room = workshop.folder / "synthesis"
    with progress.task("make candidates", len(requests)) as task:
        paths = render(maker.family, maker.base_sha256, requests, sampling, room / "pictures", task)
    hashes = [sha256_file(path) for path in paths]
    with progress.task("look at candidates", len(paths)) as task:
        looks = look(paths, hashes, observers, character.palette, workshop.folder / "seen", task)
    agreement, usual = _agreement(audit, observers, looks)
    needed = usual if least is None else least
    tags = observers.tagger.tags
    aliens = alien_traits(character, tags, looks.tags)
    hidden = hidden_traits(character, tags, audit.vocabulary, audit.looks.tags, looks.tags)
    repeats, groups = _repeats(audit, looks, progress)
    known = {piece.sha256: piece.name for piece in workshop.pieces.values()}
    sight = None if audit.sight is None else audit.sight.over(looks.tags)
    judged = []
    for i, (prompt, _) in enumerate(rounds):
        why = (
            f"in the set already: {known[hashes[i]]}" if hashes[i] in known
            else f"repeat: of {repeats[i]}" if i in repeats
            else f"off model: seen {', '.join(aliens[i])}" if aliens[i]
            else f"off model: not seen {', '.join(hidden[i])}" if len(hidden[i]) >= HIDDEN
            else f"another character: agreement {agreement[i]:.3f}, {needed:.3f} is needed" if agreement[i] < needed
            else ""
        )  # fmt: skip
        said, values, unshown = label(prompt.asked, i, sight, audit.vocabulary, character)
        judged.append(Judged(said, values, unshown, float(agreement[i]), why))
    chosen = pick(judged, groups, wanted, len(prompts))
    pieces = [
        _piece(judged[i], rounds[i][0], requests[i], paths[i], hashes[i], maker, sampling, subset, rights, character)
        for i in chosen
    ]
    rows = [
        {"file": path.relative_to(workshop.folder).as_posix(), "prompt": request.prompt, "seed": request.seed,
         "asked": dict(prompt.asked), **asdict(one), "picked": i in chosen}
        for i, ((prompt, _), request, path, one) in enumerate(zip(rounds, requests, paths, judged, strict=True))
    ]  # fmt: skip
    keep_models(workshop.folder, {maker.sha256: maker.lineage})
    write_json(room / f"{subset}-{seed}-{len(workshop.journal)}.json", rows)
    if pieces:
        workshop.decide([Decision(0, "add", f"synthesis {maker.name}", piece.name, piece=piece_as_table(piece))
                         for piece in pieces])  # fmt: skip
    return Made(pieces, rows)


def _agreement(audit: Audit, observers: Observers, looks: Looks) -> tuple[np.ndarray, float]:
    """How well candidates agree with the set's pictures [N], and the least that counts: what nine in ten of the set's
    own reach among themselves. Pictures that no model made are the measure where there are enough of them."""
    drawn = [i for i, piece in enumerate(audit.pieces) if not model_of(piece.origin)]
    own = np.array(drawn if len({audit.groups[i] for i in drawn}) >= 4 else range(len(audit.pieces)))
    own = own[generator(0, "references").permutation(len(own))[:REFERENCES]]
    none = np.zeros((len(own), 0))
    features = Features(audit.looks.tags[own], audit.looks.identity[own], none, none, none, none, none)
    assert observers.identity is not None
    references = References(features, np.array(audit.groups)[own], observers.identity.differences)
    try:
        return references.agreement(looks.identity), threshold(references)
    except Unavailable as why:
        raise InputError("work", f"{len(own)} pictures", f"too few to tell the character by ({why})") from why


def _repeats(audit: Audit, looks: Looks, progress: Progress) -> tuple[dict[int, str], list[int]]:
    """Candidate → the picture of the set that it repeats; and the groups of candidates that repeat each other."""
    first = len(audit.pieces)
    with progress.task("compare with the set", 2 * (first + len(looks.thumbs))) as task:
        links = find_links([*audit.looks.small, *looks.small], task)
    groups = group_links(first + len(looks.thumbs), links)
    shown = dict(zip(reversed(groups[:first]), (piece.name for piece in reversed(audit.pieces)), strict=True))
    return {i: shown[group] for i, group in enumerate(groups[first:]) if group in shown}, groups[first:]


def _piece(
    judged: Judged, prompt: Prompt, request: Request, path: Path, sha256: str, maker: Maker, sampling: Sampling,
    subset: str, rights: str, character: Character,
) -> Piece:  # fmt: skip
    with Image.open(path) as image:
        width, height = image.size
    facts = {
        "model": maker.name, "base_sha256": maker.base_sha256, "prompt": request.prompt, "negative": request.negative,
        "seed": request.seed, "steps": sampling.steps, "guidance": sampling.guidance, "shift": sampling.shift,
        "weight": sampling.weight if maker.lora else 0.0, "agreement": round(judged.agreement, 4),
        "asked_and_not_seen": ", ".join(judged.unshown),
    }  # fmt: skip
    sentence = sentence_of([said.tag for said in judged.tags], character)
    return Piece(
        f"{subset}/{path.stem[:12]}", path.resolve(), sha256, width, height, subset, judged.tags, sentence,
        f"{GENERATED}{maker.sha256}", rights, told="template", made=facts,
    )  # fmt: skip
