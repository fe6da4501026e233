"""A blind session: which pairs are shown, in which order and on which side, all drawn once, before the first answer.

    <project>/judge/<id>/session.json   the pairs; names never leave it while the session runs
                         votes.jsonl    every answer (votes.py)
                         result.json

The same wishes give the same session, so the same command goes on with it, also when a newer evaluation has come.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

from onmodel.errors import InputError, StateError
from onmodel.hashing import hash_json, read_json, write_json
from onmodel.judge.votes import ended
from onmodel.project import Project
from onmodel.randomness import generator
from onmodel.records import Artifact

PAIRS = 60
REPEATED = 0.1  # of the pairs are shown again


@dataclass(frozen=True, slots=True)
class Pair:
    """Two models' pictures of one prompt under the same noise, number `seed` of the prompt's; `left` and `right` are
    models. `repeats` is the place of the pair's first showing, with the sides the other way round."""

    prompt: str
    seed: int
    left: str
    right: str
    repeats: int | None = None


@dataclass(frozen=True)
class Session:
    """Pairs in the order in which they are shown, over the pictures of one evaluation."""

    folder: Path
    evaluation: Artifact
    models: Sequence[str]
    question: str
    seed: int
    pairs: Sequence[Pair]

    @property
    def votes(self) -> Path:
        return self.folder / "votes.jsonl"

    def report(self) -> dict[str, Any]:
        """evaluation.json of the pictures."""
        return _report(self.evaluation)

    def save(self) -> None:
        """Write session.json, once; from then on it says what is shown."""
        file = self.folder / "session.json"
        if not file.exists():
            write_json(file, {
                "evaluation": self.evaluation.hash, "models": list(self.models), "question": self.question,
                "seed": self.seed, "pairs": [asdict(pair) for pair in self.pairs],
            })  # fmt: skip


def open_session(project: Project, models: Sequence[str], count: int | None, seed: int, question: str) -> Session:
    """The session of these wishes: an unfinished one, else one over the newest evaluation that holds the models.

    No models means all of an evaluation; `count` pairs, without the repeats. Raises InputError when no
    evaluation holds the models, or holds that many pairs.
    """
    if len(set(models)) != len(models) or len(models) == 1:
        raise InputError("MODEL", " ".join(models), "name two or more different models, or none for all")
    wishes = {"pairs": PAIRS if count is None else count, "seed": seed, "question": question}
    folders = {}
    for evaluation in _fitting(project, models):
        names = [name for name in _names(_report(evaluation)) if not models or name in models]
        identity = hash_json(wishes | {"evaluation": evaluation.hash, "models": names})
        folders[evaluation] = project.folder / "judge" / identity[:12], names
    begun = [found for found, (folder, _) in folders.items()
             if (folder / "session.json").exists() and not ended(folder / "votes.jsonl")]  # fmt: skip
    evaluation = (begun or list(folders))[0]
    folder, names = folders[evaluation]
    if (folder / "session.json").exists():
        pairs = [Pair(**row) for row in read_json(folder / "session.json")["pairs"]]
    else:
        plan = _report(evaluation)["plan"]
        prompts, seeds = [row["id"] for row in plan["prompts"]], len(plan["seeds"])
        most = len(list(combinations(names, 2))) * len(prompts) * seeds
        wanted = min(PAIRS, most) if count is None else count
        if not 2 <= wanted <= most:
            remedy = f"2 to {most}: the evaluation has {len(prompts)} prompts × {seeds} seeds"
            raise InputError("--pairs", wanted, remedy)
        pairs = draw_pairs(names, prompts, seeds, wanted, seed)
    session = Session(folder, evaluation, names, question, seed, pairs)
    _check_pictures(session)
    return session


def draw_pairs(models: Sequence[str], prompts: Sequence[str], seeds: int, count: int, seed: int) -> list[Pair]:
    """`count` pairs and their repeats, in order.

    Rounds show each two models once, every time on the next prompt of an order of their own, and take a prompt's second
    noise only when all prompts had the first: whoever stops early has a balanced session, too. A tenth of the pairs, of
    the first third, comes again in the last third.
    """
    duels = list(combinations(models, 2))
    orders = {
        duel: [
            (str(prompt), noise)
            for noise in range(seeds)
            for prompt in generator(seed, "judge prompts", *duel, noise).permutation(prompts)
        ]
        for duel in duels
    }
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
    places = generator(seed, "judge places of repeats").integers(count - third + 1, count + 1, repeats)
    for first, place in sorted(zip(again.tolist(), places.tolist(), strict=True), key=lambda row: -row[1]):
        pair = pairs[first]
        pairs.insert(place, Pair(pair.prompt, pair.seed, pair.right, pair.left, repeats=first))
    return pairs


def _check_pictures(session: Session) -> None:
    """Raises StateError for a picture that is gone, before the first answer."""
    pictures = {row["name"]: row["pictures"]["L"] for row in session.report()["models"]}
    for pair in session.pairs:
        for model in (pair.left, pair.right):
            path = session.evaluation.path / pictures[model][pair.prompt][pair.seed]
            if not path.is_file():
                raise StateError(path, "the picture that the evaluation names is missing; run the recipe again")


def _fitting(project: Project, models: Sequence[str]) -> list[Artifact]:
    """Evaluations that hold all the models (any two, when none is named), newest first."""
    held = {artifact: _names(_report(artifact)) for artifact in reversed(project.artifacts("evaluation"))}
    found = [artifact for artifact, names in held.items() if set(models) <= set(names) and len(names) > 1]
    if not found:
        known = list(dict.fromkeys(name for names in held.values() for name in names))
        missing = [model for model in models if model not in known]
        if not known:
            remedy = "no evaluation was made there yet; judge looks at pictures that an evaluate stage made"
        elif missing:
            remedy = f"not in an evaluation of this project; there are: {', '.join(known)}"
        else:
            remedy = "no evaluation holds two of them together; pictures are compared at the same prompt and noise"
        raise InputError("MODEL", ", ".join(missing or models) or project.folder, remedy)
    return found


def _report(evaluation: Artifact) -> dict[str, Any]:
    report: dict[str, Any] = read_json(evaluation.path / "evaluation.json")
    return report


def _names(report: Mapping[str, Any]) -> list[str]:
    return [row["name"] for row in report["models"]]
