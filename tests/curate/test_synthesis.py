"""Synthesis from holes to labelled pictures, with a model that obeys, one that draws others, and
one that disobeys."""

import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from onmodel.character import load_character
from onmodel.curate import makers, synthesis
from onmodel.curate.audit import Audit, run_audit
from onmodel.curate.endpoint import Endpoint
from onmodel.curate.export import export
from onmodel.curate.gather import gather
from onmodel.curate.holes import even, prompts_for, prompts_of_scenes
from onmodel.curate.makers import Sampler, lora_at
from onmodel.curate.painter import Painter
from onmodel.curate.picking import Judged, pick
from onmodel.curate.provenance import read_known
from onmodel.curate.settings import SynthesisSettings
from onmodel.curate.synthesis import Made
from onmodel.curate.workshop import Workshop, open_workshop
from onmodel.errors import InputError
from onmodel.evaluate.observers import Observers, load_observers
from onmodel.events import Events, Task
from onmodel.randomness import generator
from onmodel.sample.pictures import PictureRequest, key, picture_path
from onmodel.sample.sampling import Sampling
from onmodel.toon.attributes import BACKGWA, VOCABULARY, WORLD, sample_toon
from onmodel.toon.datasets import write_set
from onmodel.toon.draw import draw
from tests.support.chat_server import serving

CHARACTER = load_character(Path(__file__).parents[2] / "onmodel/toon/characters/backgwa.toml")
SIDE = 128


@pytest.fixture(scope="module")
def observers() -> Observers:
    return load_observers("toon", {}, 1)


@pytest.fixture
def work(tmp_path: Path) -> Workshop:
    write_set("backgwa_base", tmp_path / "heap" / "base", count=10)
    write_set(
        "backgwa_alignment", tmp_path / "heap" / "alignment", count=14
    )  # calm faces, flat colours
    gather([tmp_path / "heap"], tmp_path / "work", "a renderer", "MIT", Events())
    return open_workshop(tmp_path / "work")


Hand = Callable[[str, int], Any]


def obedient(prompt: str, seed: int) -> Any:
    """BACKGWA as the prompt asks for her."""
    tags = prompt.split(", ")
    free = {
        name: next((value for value, tag in VOCABULARY[name].items() if tag in tags), None)
        for name in CHARACTER.free
    }
    drawn = sample_toon(generator(seed, "test"), WORLD)
    return BACKGWA.toon(
        **{name: value or getattr(drawn, name) for name, value in free.items()},
        nuisance=drawn.nuisance,
    )


def drawing(hand: Hand) -> Callable[..., list[Path]]:
    """In the place of the sampler: pictures under the same names, drawn by `hand`."""

    def render(
        family: object,
        base: str,
        requests: Sequence[PictureRequest],
        sampling: Sampling,
        folder: Path,
        task: Task,
    ) -> list[Path]:
        paths = [picture_path(folder, key(base, request, sampling)) for request in requests]
        for request, path in zip(requests, paths, strict=True):
            path.parent.mkdir(parents=True, exist_ok=True)
            made = hand(request.prompt, request.seed)
            (made if isinstance(made, Image.Image) else draw(made, SIDE, SIDE)).save(path)
        return paths

    return render


def synthesized(
    work: Workshop, observers: Observers, monkeypatch: pytest.MonkeyPatch, hand: Hand
) -> tuple[Audit, Made]:
    monkeypatch.setattr(makers, "render", drawing(hand))
    sampling = Sampling(width=SIDE, height=SIDE)
    return made_by(
        Sampler(lambda: pytest.fail("no base is needed"), "toon", "b" * 64, None, sampling),
        work,
        observers,
    )


def made_by(
    maker: makers.Maker, work: Workshop, observers: Observers, scenes: dict[str, str] | None = None
) -> tuple[Audit, Made]:
    audit = run_audit(work, CHARACTER, observers, Events())
    targets = even(audit.vocabulary, CHARACTER.free)
    prompts, wanted = prompts_for(audit.coverage, audit.vocabulary, targets, CHARACTER, 8, 0)
    if scenes:
        prompts = prompts_of_scenes(scenes, audit.vocabulary, CHARACTER, 8)
    settings = SynthesisSettings(count=8, tries=2, subset="new", rights="MIT")
    order = synthesis.Order(prompts, wanted, settings)
    made = synthesis.synthesize(work, audit, observers, CHARACTER, maker, order, Events())
    return audit, made


def test_a_model_that_obeys_fills_the_holes(
    work: Workshop, observers: Observers, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    before, made = synthesized(work, observers, monkeypatch, obedient)
    assert (
        len({(row["prompt"], row["seed"]) for row in made.rows}) == 16
    )  # the same prompt has other noise
    assert len(made.rows) == 16 and 6 <= len(made.pieces) <= 8
    work = open_workshop(work.folder)
    assert {piece.subset for piece in work.kept} == {"base", "alignment", "new"}
    piece = made.pieces[0]
    assert (
        piece.words[:2] == ["1girl", "backgwa"]
        and piece.origin == f"generated:{'b' * 64}"
        and piece.rights == "MIT"
    )
    assert (
        "light blue hair" in piece.made["prompt"]
        and piece.told == "template"
        and "backgwa" in piece.sentence
    )
    assert any(
        said.by.startswith("prompt, tagger 0.") for piece in made.pieces for said in piece.tags
    )
    after = run_audit(work, CHARACTER, observers, Events())
    for name in ("expression", "style"):
        assert after.coverage[name].effective > before.coverage[name].effective, name
    assert after.taught["new"].own == len(made.pieces) and after.taught["base"].generated == 0
    assert [row.subject for row in after.findings if row.kind == "self-training"] == ["new"]
    rows = json.loads(next((work.folder / "synthesis").glob("new-*.json")).read_text())
    assert len(rows) == 16 and sum(row["picked"] for row in rows) == len(made.pieces)
    assert len(work.undo()[0].kept) == 24


def test_a_model_that_draws_others_gives_nothing(
    work: Workshop, observers: Observers, monkeypatch: pytest.MonkeyPatch
) -> None:
    stranger = lambda prompt, seed: sample_toon(generator(seed, "stranger"), WORLD)  # noqa: E731
    _, made = synthesized(work, observers, monkeypatch, stranger)
    assert len(made.pieces) <= 1 and sum(made.refusals.values()) >= 14
    assert set(made.refusals) <= {"off model", "another character"}


def test_what_is_seen_and_not_what_was_asked_becomes_the_label(
    work: Workshop, observers: Observers, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stubborn(prompt: str, seed: int) -> Any:
        toon = obedient(prompt, seed)
        return BACKGWA.toon(
            **{n: getattr(toon, n) for n in CHARACTER.free} | {"background": "forest"},
            nuisance=toon.nuisance,
        )

    audit, made = synthesized(work, observers, monkeypatch, stubborn)
    assert audit.sight is not None and audit.sight.judges("background") and made.pieces
    forest = [said for piece in made.pieces for said in piece.tags if said.tag == "forest"]
    assert len(forest) >= len(made.pieces) - 1 and any(
        said.by.startswith("tagger") for said in forest
    )
    backgrounds = set(VOCABULARY["background"].values()) - {"forest"}
    assert (
        sum(bool(backgrounds & set(piece.words)) for piece in made.pieces) <= 1
    )  # what was asked is in none of them
    assert any("background" in row["asked"] and row["unshown"] for row in made.rows)


def test_what_the_set_has_already_is_no_new_picture(
    work: Workshop, observers: Observers, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = [
        Image.open(piece.path).resize((SIDE, SIDE))
        for piece in work.kept
        if piece.width == piece.height
    ]
    _, made = synthesized(work, observers, monkeypatch, lambda prompt, seed: own[seed % len(own)])
    assert not made.pieces and set(made.refusals) == {"repeat"}


def test_pictures_of_a_service_are_picked_like_any(
    work: Workshop, observers: Observers, tmp_path: Path
) -> None:
    def paint(n: int, question: dict[str, Any]) -> bytes:
        words = question["prompt"].replace(".", ",").lower()  # prose is read by its words
        said = [
            tag
            for values in VOCABULARY.values()
            for tag in values.values()
            if tag and f" {tag}," in words
        ]
        buffer = io.BytesIO()
        draw(obedient(", ".join(said), n), SIDE, SIDE).save(buffer, "PNG")
        return buffer.getvalue()

    scenes = {
        "wave": "A girl in a forest, waving, with a smile, in lineart.",
        "sea": "She is angry, at the beach, comic.",
        "night": "A close-up, sad, under a night sky, flat color.",
    }
    with serving(paint) as server:
        painter = Painter(Endpoint(server.url, "brush"), SIDE)
        _, made = made_by(painter, work, observers, scenes)
    assert len(server.questions) == 16 and {q["size"] for q in server.questions} == {
        f"{SIDE}x{SIDE}"
    }
    assert all(
        "light blue hair" in q["prompt"] and "backgwa" not in q["prompt"] for q in server.questions
    )
    assert [row["asked"]["expression"] for row in made.rows[:3]] == ["smile", "angry", "sad"]
    assert made.pieces and any(row["picked"] for row in made.rows)
    piece = made.pieces[0]
    assert piece.origin == f"generated:{painter.sha256}" and piece.made["model"] == "brush"
    assert piece.made["address"] == server.url and piece.words[:2] == ["1girl", "backgwa"]
    work = open_workshop(work.folder)
    (node,) = work.models[painter.sha256].values()
    assert (node["type"], node["name"]) == ("service", "brush")
    after = run_audit(work, CHARACTER, observers, Events())
    assert (
        after.taught["new"].generated == len(made.pieces) and after.taught["new"].own == 0
    )  # no ancestor of hers
    export(work, tmp_path / "out", False, Events())
    assert read_known(tmp_path / "out" / "new").models == work.models


def test_picking_goes_where_something_is_wanted() -> None:
    def judged(agreement: float, refused: str = "", **values: str) -> Judged:
        return Judged((), values, (), agreement, refused)

    rows = [
        judged(0.9, pose="a"),
        judged(0.8, pose="a", style="x"),
        judged(0.7, pose="b"),
        judged(0.99, "no", pose="b"),
    ]
    wanted = {"pose": {"a": 1, "b": 1}, "style": {"x": 1}}
    assert pick(rows, [0, 1, 2, 3], wanted, 4) == [1, 2]
    assert pick(rows, [0, 1, 1, 3], wanted, 4) == [1]
    assert pick(rows, [0, 1, 2, 3], {"pose": {"a": 2}}, 4) == [0, 1]


def test_a_lora_is_one_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"lora: .*no such file"):
        lora_at(tmp_path / "x.safetensors")
    with pytest.raises(InputError, match="holds 0"):
        lora_at(tmp_path)
