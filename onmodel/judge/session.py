"""A blind session: which pairs are shown, in which order and on which side, all drawn once, before
the first answer.

    <project>/judge/<id>/session.json   the pairs; which model is on which side stays in it
                         votes.jsonl    every answer (votes.py)
                         result.json

The same wishes give the same session, so the same command goes on with it, also when a newer
evaluation has come. Pictures are shown only as the evaluation's hash names them: one that was
changed afterwards would change the result.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path

from PIL import Image
from pydantic import ValidationError

from onmodel.engine.project import Project
from onmodel.errors import InputError, StateError
from onmodel.evaluate.evaluation import FILE, Evaluation, read_evaluation
from onmodel.hashing import file_hashes, hash_json, read_json, sha256_bytes, write_json
from onmodel.judge.votes import REMEDY, Votes, ended
from onmodel.paths import inside
from onmodel.randomness import generator
from onmodel.records import Artifact
from onmodel.text import is_printable
from onmodel.validation import StrictTable

LARGEST_NUMBER = 2**53 - 1  # canonical JSON holds no larger one
RESTORE = "restore the folder from a copy, or evaluate again in a new project"
QUESTION = "Which picture is better for this prompt?"
FOLDER, SAVED, VOTES = "judge", "session.json", "votes.jsonl"
PAIRS = 60
REPEATED = 0.1  # of the pairs are shown again


@dataclass(frozen=True, slots=True)
class Pair:
    """Two models' pictures of one prompt under the same noise, number `seed` of the prompt's;
    `left` and `right` are models. `repeats` is the place of the pair's first showing, with the
    sides the other way round."""

    prompt: str
    seed: int
    left: str
    right: str
    repeats: int | None = None


@dataclass(frozen=True, slots=True)
class SessionPictures:
    """What a session needs of evaluation.json: the text of each prompt, pictures per prompt, their
    size in pixels (width, height), and model → prompt → files."""

    texts: Mapping[str, str]
    seeds: int
    size: tuple[int, int]
    pictures: Mapping[str, Mapping[str, Sequence[str]]]

    def files(self, pair: Pair) -> tuple[str, str]:
        """The left and the right picture, relative to the evaluation."""
        left, right = (
            self.pictures[model][pair.prompt][pair.seed] for model in (pair.left, pair.right)
        )
        return left, right


@dataclass(frozen=True)
class Session:
    """Pairs in the order in which they are shown, over the pictures of one evaluation, and the
    SHA-256 of its files."""

    folder: Path
    evaluation: Artifact
    models: Sequence[str]
    question: str
    seed: int
    pairs: Sequence[Pair]
    shown: SessionPictures
    hashes: Mapping[str, str]

    @property
    def id(self) -> str:
        """Names the session in its project."""
        return self.folder.name

    @property
    def votes(self) -> Path:
        return self.folder / VOTES

    def measured(self) -> Evaluation:
        """The evaluation of the pictures."""
        return read_evaluation(self.evaluation.path / FILE)

    def picture(self, pair: Pair, right: bool) -> bytes:
        """The file of one side of a pair. Raises StateError when it is not the one that the
        evaluation made."""
        file = self.shown.files(pair)[right]
        path = self.evaluation.path / file
        try:
            data = path.read_bytes()
        except OSError as error:
            raise StateError(
                path, f"the picture cannot be read ({error.strerror}); {RESTORE}"
            ) from error
        if sha256_bytes(data) != self.hashes[file]:
            raise StateError(path, f"the picture was changed after it was made; {RESTORE}")
        return data

    def save(self) -> None:
        """Write session.json, once; from then on it says what is shown."""
        file = self.folder / SAVED
        if not file.exists():
            write_json(
                file,
                {
                    "evaluation": self.evaluation.hash,
                    "models": list(self.models),
                    "question": self.question,
                    "seed": self.seed,
                    "pairs": [asdict(pair) for pair in self.pairs],
                },
            )


@dataclass(frozen=True, slots=True)
class SessionSummary:
    """A saved session: how many of its pairs are answered, and whether it has ended."""

    id: str
    question: str
    models: Sequence[str]
    answered: int
    of: int
    ended: bool


def summaries(project: Project) -> list[SessionSummary]:
    """The saved sessions of a project, by id."""
    found = []
    for file in sorted((project.folder / FOLDER).glob(f"*/{SAVED}")):
        saved, votes = _read(file), Votes(file.parent / VOTES)
        counts = len(votes.answers), len(saved.pairs)
        row = SessionSummary(
            file.parent.name, saved.question, saved.models, *counts, ended=votes.ended
        )
        found.append(row)
    return found


def saved_session(project: Project, id: str) -> Session:
    """The session with this id. Raises InputError when there is none, StateError when it or its
    evaluation is damaged."""
    file = inside(project.folder / FOLDER, id, "session") / SAVED
    if not file.is_file():
        raise InputError("session", id, "is not in this project; start another one")
    saved = _read(file)
    if saved.evaluation not in project.ledger.artifacts("evaluation"):
        raise StateError(file, f"its evaluation is not in this project; {REMEDY}")
    evaluation = project.object("evaluation", saved.evaluation)
    shown = _shown(evaluation)
    pairs = _saved_pairs(file, saved.models, shown)
    hashes = _check_pictures(evaluation, _files(shown, pairs))
    rest = saved.question, saved.seed, pairs, shown, hashes
    return Session(file.parent, evaluation, saved.models, *rest)


def open_session(
    project: Project,
    models: Sequence[str],
    count: int | None,
    seed: int,
    question: str,
    evaluation_hash: str = "",
) -> Session:
    """The session of these wishes: an unfinished one, else one over the newest evaluation that
    holds the models, or over the evaluation with `evaluation_hash`.

    No models means all of an evaluation; `count` pairs, without the repeats. Raises InputError when
    no evaluation holds the models, or holds that many pairs.
    """
    if len(set(models)) != len(models) or len(models) == 1:
        raise InputError(
            "MODEL", " ".join(models), "name two or more different models, or none for all"
        )
    for option, number in (("--seed", seed), ("--pairs", count or 0)):
        if abs(number) > LARGEST_NUMBER:
            raise InputError(option, number, f"use a number up to {LARGEST_NUMBER}")
    if not is_printable(question):
        raise InputError(
            "--question", question, "leave out control characters and characters that are not shown"
        )
    wishes = {"pairs": PAIRS if count is None else count, "seed": seed, "question": question}
    folders = {}
    for evaluation, measured in _fitting(project, models).items():
        if evaluation_hash not in ("", evaluation.hash):
            continue
        names = [name for name in measured if not models or name in models]
        identity = hash_json(wishes | {"evaluation": evaluation.hash, "models": names})
        folders[evaluation] = project.folder / FOLDER / identity[:12], names
    if not folders:
        raise InputError("evaluation", evaluation_hash, "does not hold these models; choose others")
    begun = [
        found
        for found, (folder, _) in folders.items()
        if (folder / SAVED).exists() and not ended(folder / VOTES)
    ]
    evaluation = (begun or list(folders))[0]
    folder, names = folders[evaluation]
    shown = _shown(evaluation)
    if (folder / SAVED).exists():
        pairs = _saved_pairs(folder / SAVED, names, shown)
    else:
        prompts, seeds = list(shown.texts), shown.seeds
        most = len(list(combinations(names, 2))) * len(prompts) * seeds
        wanted = min(PAIRS, most) if count is None else count
        if not 2 <= wanted <= most:
            remedy = f"2 to {most}: the evaluation has {len(prompts)} prompts × {seeds} seeds"
            raise InputError("--pairs", wanted, remedy)
        pairs = draw_pairs(names, prompts, seeds, wanted, seed)
    hashes = _check_pictures(evaluation, _files(shown, pairs))
    return Session(folder, evaluation, names, question, seed, pairs, shown, hashes)


def draw_pairs(
    models: Sequence[str], prompts: Sequence[str], seeds: int, count: int, seed: int
) -> list[Pair]:
    """`count` pairs and their repeats, in order.

    Rounds show each two models once, every time on the next prompt of an order of their own, and
    take a prompt's second noise only when all prompts had the first: whoever stops early has a
    balanced session, too. A tenth of the pairs, of the first third, comes again in the last third.
    """
    duels = list(combinations(models, 2))
    orders: dict[tuple[str, str], list[tuple[str, int]]] = {duel: [] for duel in duels}
    for duel, order in orders.items():
        for noise in range(seeds):
            permuted = generator(seed, "judge prompts", *duel, noise).permutation(prompts)
            order += [(str(prompt), noise) for prompt in permuted]
    shown = [
        (duels[at], orders[duels[at]][turn])
        for turn in range(-(-count // len(duels)))
        for at in generator(seed, "judge round", turn).permutation(len(duels))
    ]
    pairs = []
    for at, ((a, b), (prompt, noise)) in enumerate(shown[:count]):
        left, right = (a, b) if generator(seed, "judge side", at).integers(2) else (b, a)
        pairs.append(Pair(prompt, noise, left, right))
    third = max(1, count // 3)
    repeats = max(1, round(REPEATED * count))
    again = generator(seed, "judge repeats").choice(third, repeats, replace=False)
    places = generator(seed, "judge places of repeats").integers(
        count - third + 1, count + 1, repeats
    )
    for first, place in sorted(
        zip(again.tolist(), places.tolist(), strict=True), key=lambda row: -row[1]
    ):
        pair = pairs[first]
        pairs.insert(place, Pair(pair.prompt, pair.seed, pair.right, pair.left, repeats=first))
    return pairs


class _SavedSession(StrictTable):
    """What session.json holds."""

    evaluation: str
    models: list[str]
    question: str
    seed: int
    pairs: list[dict[str, str | int | None]]


def _read(file: Path) -> _SavedSession:
    """Raises StateError."""
    try:
        return _SavedSession.model_validate(read_json(file))
    except ValidationError as error:
        raise StateError(file, f"is damaged; {REMEDY}") from error


def _files(shown: SessionPictures, pairs: Sequence[Pair]) -> list[str]:
    """The pictures of the pairs, each once."""
    return list(dict.fromkeys(file for pair in pairs for file in shown.files(pair)))


def _saved_pairs(file: Path, models: Sequence[str], shown: SessionPictures) -> list[Pair]:
    """The pairs of session.json. Raises StateError where they are not pairs of these models and
    pictures."""
    try:
        pairs = [Pair(**row) for row in _read(file).pairs]  # type: ignore[arg-type]
        sound = bool(pairs) and all(
            _is_sound(at, pair, models, shown) for at, pair in enumerate(pairs)
        )
    except TypeError as error:
        raise StateError(file, f"is damaged; {REMEDY}") from error
    if not sound:
        raise StateError(file, f"does not fit its evaluation; {REMEDY}")
    return pairs


def _is_sound(at: int, pair: Pair, models: Sequence[str], shown: SessionPictures) -> bool:
    places = [pair.seed, 0 if pair.repeats is None else pair.repeats]
    return (
        all(type(place) is int for place in places)
        and pair.prompt in shown.texts
        and pair.seed in range(shown.seeds)
        and pair.left != pair.right
        and {pair.left, pair.right} <= set(models)
        and (pair.repeats is None or pair.repeats in range(at))
    )


def _check_pictures(evaluation: Artifact, files: Collection[str]) -> dict[str, str]:
    """SHA-256 of every file of the evaluation. Raises StateError before the first answer when a
    picture is gone, or when the files are not those that the evaluation's hash stands for."""
    for file in files:
        path = inside(evaluation.path, file, FILE)
        if not path.is_file():
            raise StateError(path, f"the picture that the evaluation names is missing; {RESTORE}")
    hashes = file_hashes(evaluation.path)
    if hash_json(hashes) != evaluation.hash:
        broken = next((file for file in files if _is_broken(evaluation.path / file)), ".")
        raise StateError(
            evaluation.path / broken, f"was changed after the evaluation made it; {RESTORE}"
        )
    return hashes


def _is_broken(picture: Path) -> bool:
    """Do the checksums inside a PNG fail? This only finds the name for a message."""
    try:
        with Image.open(picture, formats=["PNG"]) as image:
            image.verify()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return True
    return False


def _fitting(project: Project, models: Sequence[str]) -> dict[Artifact, list[str]]:
    """Evaluations that hold all the models (any two, when none is named), newest first, with the
    names of their models."""
    held = {
        artifact: read_evaluation(artifact.path / FILE).names
        for artifact in reversed(project.artifacts("evaluation"))
    }
    found = {
        artifact: names
        for artifact, names in held.items()
        if set(models) <= set(names) and len(names) > 1
    }
    if not found:
        known = list(dict.fromkeys(name for names in held.values() for name in names))
        missing = [model for model in models if model not in known]
        if not known:
            remedy = (
                "no evaluation was made there yet; judge looks at pictures that an evaluate stage"
                " made"
            )
        elif missing:
            remedy = f"not in an evaluation of this project; there are: {', '.join(known)}"
        else:
            remedy = (
                "no evaluation holds two of them together; pictures are compared at the same prompt"
                " and noise"
            )
        raise InputError("MODEL", ", ".join(missing or models) or project.folder, remedy)
    return found


def _shown(evaluation: Artifact) -> SessionPictures:
    """Raises StateError when a prompt lacks its pictures."""
    report = read_evaluation(evaluation.path / FILE)
    texts = {prompt.id: prompt.text.get("L", "") for prompt in report.plan.prompts}
    pictures = {row.name: row.pictures.get("L", {}) for row in report.models}
    for name, files in pictures.items():
        if set(files) != set(texts):
            what = f"lacks pictures of {name}; evaluate again in a new project"
            raise StateError(evaluation.path / FILE, what)
    return SessionPictures(texts, len(report.plan.seeds), report.plan.size, pictures)
