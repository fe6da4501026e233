"""`onmodel dataset synthesize`: pictures that a data set lacks, made by a release, a LoRA, a base
or an endpoint."""

import os
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from onmodel.cli.console import say, say_json
from onmodel.cli.numbers import finite
from onmodel.errors import InputError
from onmodel.paths import check_distinct, check_name

if TYPE_CHECKING:
    from onmodel.character import Character
    from onmodel.curate.audit import Audit
    from onmodel.curate.makers import Maker
    from onmodel.curate.synthesis import Made
    from onmodel.sample.pictures import Sampling

SHOWN = 5  # prompts that are printed


def command(
    work: Annotated[
        Path,
        typer.Argument(help="The folder that `onmodel dataset import` made.", show_default=False),
    ],
    character: Annotated[
        Path, typer.Option("--character", "-c", help="The model sheet.", show_default=False)
    ],
    count: Annotated[
        int,
        typer.Option("--count", "-n", min=1, help="Pictures that are wanted.", show_default=False),
    ],
    lora: Annotated[
        Path | None,
        typer.Option(
            help="A LoRA file, or a release folder; without, the base from the sheet's tags."
        ),
    ] = None,
    base: Annotated[
        list[str] | None,
        typer.Option(help='As for `doctor`: "toon", a folder, a hub id, or field=path, repeated.'),
    ] = None,
    endpoint: Annotated[
        str,
        typer.Option(
            help="An OpenAI-compatible address that makes them, e.g. http://127.0.0.1:8080/v1."
        ),
    ] = "",
    model: Annotated[
        str, typer.Option(help="What the endpoint calls the model. Key: OPENAI_API_KEY.")
    ] = "",
    scenes: Annotated[
        Path | None,
        typer.Option(
            help="Ask for the scenes of this folder, as `onmodel dataset scene` writes them."
        ),
    ] = None,
    subset: Annotated[str, typer.Option(help="The subset that they go into.")] = "synthetic",
    target: Annotated[
        list[str] | None,
        typer.Option(
            help="attribute=value:share,…; without, every value of what is free equally often."
        ),
    ] = None,
    tries: Annotated[
        int, typer.Option(min=1, help="Candidates for each picture that is wanted.")
    ] = 4,
    agreement: Annotated[
        float | None,
        typer.Option(
            callback=finite,
            min=0,
            max=1,
            help="Least agreement with the character; without, as nine in ten of the set's own.",
        ),
    ] = None,
    rights: Annotated[
        str, typer.Option(help="The right or licence to use what the model makes.")
    ] = "unknown",
    seed: Annotated[int, typer.Option(min=0, help="Another seed gives other candidates.")] = 0,
    size: Annotated[
        int, typer.Option(help="Side in pixels; 0: 96 for the toon base, else 1024.")
    ] = 0,
    steps: Annotated[
        int, typer.Option(min=0, help="Sampling steps; 0: 16 for the toon base, else 30.")
    ] = 0,
    guidance: Annotated[
        float,
        typer.Option(callback=finite, min=0, help="Guidance; 0: 3 for the toon base, else 4.5."),
    ] = 0.0,
    weight: Annotated[float, typer.Option(callback=finite, help="Weight of the LoRA.")] = 1.0,
    batch: Annotated[int, typer.Option(min=1, help="Pictures at a time.")] = 8,
    at_once: Annotated[
        int, typer.Option(min=1, max=64, help="Questions that are open at the endpoint.")
    ] = 2,
    timeout: Annotated[
        float, typer.Option(callback=finite, min=1, help="Seconds for one of its answers.")
    ] = 300.0,
    tagger: Annotated[
        str | None, typer.Option(help="A tagger in WD v3 format: a folder or hf://owner/name.")
    ] = None,
    identity: Annotated[
        str | None, typer.Option(help="An identity model in CCIP format, likewise.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the holes and prompts; make nothing.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")] = False,
) -> None:
    """Fill what a data set shows too seldom: generate, look, pick, label from the prompt and from
    what is seen.

    The model that made them stands in the history of each picture, and of every data set that is
    exported from here.
    """
    from onmodel.character import load_character
    from onmodel.cli.dataset import parse_target
    from onmodel.cli.render import on_terminal
    from onmodel.curate.audit import run_audit
    from onmodel.curate.holes import even, prompts_for, prompts_of_scenes
    from onmodel.curate.lettering import load_reader
    from onmodel.curate.scene import scenes_in
    from onmodel.curate.synthesis import synthesize
    from onmodel.curate.workshop import open_workshop
    from onmodel.evaluate.observers import load_observers

    sheet, workshop = load_character(character), open_workshop(work)
    check_name(subset, "subset")
    check_distinct(
        [*dict.fromkeys(piece.subset for piece in workshop.pieces.values()), subset], "subset"
    )
    own = {"lora": lora, "base": base, "steps": steps, "guidance": guidance}
    if endpoint and (given := [name for name, value in own.items() if value]):
        raise InputError(
            given[0], own[given[0]], "is the endpoint's affair; leave it out, or --endpoint"
        )
    if model and not endpoint:
        raise InputError("model", model, "is an endpoint's; name --endpoint too")
    toon = not (tagger or identity) if endpoint else (base or ["toon"]) == ["toon"]
    if not (toon or (tagger and identity)):
        raise InputError(
            "tagger",
            tagger or "missing",
            "name --tagger and --identity; the toon world's know toons only",
        )
    told = {name: scene.prompt for name, scene in scenes_in(scenes).items()} if scenes else {}
    if endpoint:
        maker = _painter(endpoint, model, timeout, at_once, size or 1024, seed)
    else:
        sampling = _sampling(toon, size, steps, guidance, weight, batch)
        maker = _sampler(base or ["toon"], lora, sampling, seed)
    observers = load_observers("toon" if toon else "", {"tagger": tagger, "identity": identity}, 1)
    with on_terminal() as events:
        audit = run_audit(workshop, sheet, observers, events, load_reader(1))
        targets = dict(map(parse_target, target)) if target else even(audit.vocabulary, sheet.free)
        prompts, wanted = prompts_for(audit.coverage, audit.vocabulary, targets, sheet, count, seed)
        if told:
            prompts = prompts_of_scenes(told, audit.vocabulary, sheet, count)
        if dry_run:
            _say_plan(
                audit, wanted, list(map(maker.words, prompts)), len(prompts) * tries, maker, as_json
            )
            return
        made = synthesize(
            workshop,
            audit,
            observers,
            sheet,
            maker,
            prompts,
            wanted,
            tries,
            subset,
            rights,
            events,
            agreement,
        )
    _say_made(made, wanted, sheet, work, as_json)


def _sampler(base: list[str], lora: Path | None, sampling: "Sampling", seed: int) -> "Maker":
    from onmodel.curate.makers import Sampler, lora_at
    from onmodel.doctor import base_settings
    from onmodel.families.registry import base_sha256, load_base

    model = lora_at(lora) if lora else None
    settings = base_settings(base, None)
    if settings is None:
        raise InputError("base", "none", 'name one, e.g. --base "toon"')
    sha256 = base_sha256(settings)
    name = "toon" if base == ["toon"] else settings.hub or settings.family
    return Sampler(cache(lambda: load_base(settings, sha256)), name, sha256, model, sampling, seed)


def _painter(url: str, model: str, timeout: float, at_once: int, side: int, seed: int) -> "Maker":
    from onmodel.curate.endpoint import Endpoint
    from onmodel.curate.painter import Painter

    return Painter(
        Endpoint(url, model, os.environ.get("OPENAI_API_KEY", ""), timeout), side, at_once, seed
    )


def _sampling(
    toon: bool, size: int, steps: int, guidance: float, weight: float, batch: int
) -> "Sampling":
    from onmodel.sample.pictures import Sampling

    side = size or (96 if toon else 1024)
    if side % 16 or side < 16:
        raise InputError("size", side, "sides are multiples of 16")
    return Sampling(
        steps or (16 if toon else 30),
        guidance or (3.0 if toon else 4.5),
        weight=weight,
        width=side,
        height=side,
        batch=batch,
    )


def _say_plan(
    audit: "Audit",
    wanted: dict[str, dict[str, int]],
    texts: list[str],
    pictures: int,
    maker: "Maker",
    as_json: bool,
) -> None:
    if as_json:
        say_json({"wanted": wanted, "prompts": texts, "candidates": pictures})
        return
    for name, values in ((name, values) for name, values in wanted.items() if values):
        have = audit.coverage[name].counts if name in audit.coverage else {}
        say(
            f"{name}: "
            + ", ".join(f"{value} {have.get(value, 0):.0f} + {n}" for value, n in values.items())
        )
    for text in texts[:SHOWN]:
        say(text)
    if len(texts) > SHOWN:
        say(f"and {len(texts) - SHOWN} more prompts")
    say(f"{pictures} candidates would be made by {maker.name}; nothing is made")


def _say_made(
    made: "Made", wanted: dict[str, dict[str, int]], sheet: "Character", work: Path, as_json: bool
) -> None:
    picked = [row for row in made.rows if row["picked"]]
    got = {
        name: {value: sum(row["values"].get(name) == value for row in picked) for value in values}
        for name, values in wanted.items()
    }
    if as_json:
        table = {
            "pictures": [piece.name for piece in made.pieces],
            "wanted": wanted,
            "got": got,
            "candidates": len(made.rows),
            "refused": dict(made.refusals),
        }
        say_json(table)
        return
    for name, values in ((name, values) for name, values in wanted.items() if values):
        say(
            f"{name}: "
            + ", ".join(f"{value} {got[name][value]} of {n}" for value, n in values.items())
        )
    refused = ", ".join(f"{count} × {why}" for why, count in made.refusals.most_common())
    say(
        f"{len(made.pieces)} of {len(made.rows)} candidates are in the set now"
        + f"; refused: {refused}" * bool(refused)
    )
    if made.pieces:
        say(f"`onmodel dataset undo {work}` takes them back; `onmodel dataset report` shows them")
    else:
        say(
            f"none shows {sheet.name} well enough and something that is wanted; try another model"
            " or --tries"
        )
