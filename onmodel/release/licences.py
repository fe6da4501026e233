"""The licence of a release comes from its base model's row here, never from a default. No law is
written here.

`LICENCES` says what each licence is called, where its text is and what it asks of whoever passes a
LoRA on; `BASES` which base is under which. A base without a row cannot be released on. What a row
says is a pointer for people, checked against the licences' own pages; their text is what counts.
"""

from dataclasses import dataclass
from pathlib import Path

from onmodel.errors import InputError
from onmodel.reading import read_text
from onmodel.text import code_span, markdown

# What licences ask for → how LICENSE.md says it.
DEMANDS = {
    "text": "a copy of the licence goes with it",
    "notice": "the owners' notices go with it, unchanged (NOTICE)",
    "changes": "it says that it is a changed work",
    "restrictions": "the licence's use restrictions hold for whoever receives it",
    "same licence": "it stays under this licence, and so does what is made from it",
}


@dataclass(frozen=True)
class Licence:
    """One licence. `name` is the hub's `license_name`, `hub_id` its `license:` field.

    A sheet, header or card declares it by a text that begins with one of `declared` (lower case).
    `marks` stand in its text, each of them; `demands` are keys of DEMANDS; `commercial`: whether it
    allows commercial use at all.
    """

    name: str
    title: str
    link: str
    hub_id: str
    declared: tuple[str, ...]
    marks: tuple[str, ...]
    demands: tuple[str, ...]
    commercial: bool


@dataclass(frozen=True)
class Base:
    """A base model, or a family of them, under one licence.

    `models` are hub ids, or their beginnings where they end in "*"; the first stands on the card.
    `diffusers_id` is what diffusers loads, `civitai` what Civitai calls it. `use` tells a user
    where the terms come from; `notice` are the owners' own words to be passed on.
    """

    licence: Licence
    title: str
    models: tuple[str, ...]
    use: str
    link: str | None = None
    diffusers_id: str | None = None
    civitai: str = "Other"
    notice: tuple[str, ...] = ()


MIT = Licence(
    name="mit",
    title="MIT License",
    link="https://opensource.org/license/mit",
    hub_id="mit",
    declared=("mit",),
    marks=("Permission is hereby granted, free of charge",),
    demands=("text",),
    commercial=True,
)
# Version 1.2, section 3b asks for the notices below.
CIRCLESTONE = Licence(
    name="circlestone-labs-non-commercial-license",
    title="CircleStone Labs Non-Commercial License",
    link="https://huggingface.co/circlestone-labs/Anima/blob/main/LICENSE.md",
    hub_id="other",
    declared=("circlestone-labs-non-commercial", "circlestone labs non-commercial"),
    marks=("CircleStone Labs Non-Commercial License",),
    demands=("text", "notice", "changes", "restrictions"),
    commercial=False,
)
# Section III asks for copy, notices and changes, Attachment A lists the restrictions.
OPENRAIL_PP = Licence(
    name="openrail++",
    title="CreativeML Open RAIL++-M License",
    link="https://huggingface.co/stabilityai/stable-diffusion-xl-base-1.0/blob/main/LICENSE.md",
    hub_id="openrail++",
    declared=("openrail++", "creativeml open rail++-m", "creativeml-openrail++"),
    marks=("Open RAIL++-M", "Attachment A"),
    demands=("text", "changes", "restrictions"),
    commercial=True,
)
FAIPL = Licence(
    name="fair-ai-public-license-1.0-sd",
    title="Fair AI Public License 1.0-SD",
    link="https://freedevproject.org/faipl-1.0-sd/",
    hub_id="other",
    declared=("fair-ai-public-license-1.0-sd", "fair ai public license 1.0-sd", "faipl-1.0-sd"),
    marks=("Fair AI Public License", "1.0-SD", "Prohibited Uses"),
    demands=("text", "restrictions", "same licence"),
    commercial=True,
)
# NoobAI's own card adds to the FAIPL: no commercial use of the model, what is derived from it, or
# its pictures.
NOOBAI = Licence(
    name="fair-ai-public-license-1.0-sd",
    title="Fair AI Public License 1.0-SD with NoobAI's terms",
    link="https://huggingface.co/Laxhar/noobai-XL-1.0#model-license",
    hub_id="other",
    declared=FAIPL.declared,
    marks=FAIPL.marks,
    demands=FAIPL.demands,
    commercial=False,
)
LICENCES = (MIT, CIRCLESTONE, OPENRAIL_PP, NOOBAI, FAIPL)

# A recipe's base name, or a name for bases that only `onmodel release check` meets.
BASES: dict[str, Base] = {
    "anima": Base(
        CIRCLESTONE,
        title="Anima (anima-base-v1.0)",
        models=("circlestone-labs/Anima", "circlestone-labs/Anima*"),
        use=(
            "This LoRA is a derivative of Anima, so its weights are under Anima's own licence,"
            " which limits them to non-commercial purposes. The text behind the link is what"
            " counts, for the weights and for pictures made with them."
        ),
        link="https://huggingface.co/circlestone-labs/Anima",
        diffusers_id="circlestone-labs/Anima-Base-v1.0-Diffusers",
        civitai="Anima",
        notice=(
            (
                "The CircleStone Model is licensed by CircleStone Labs LLC under the CircleStone"
                " Non-Commercial License. Copyright CircleStone Labs LLC.\nIN NO EVENT SHALL"
                " CIRCLESTONE LABS LLC BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER"
                " IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM, OUT OF OR IN"
                " CONNECTION WITH USE OF THIS MODEL."
            ),
            (
                "Licensed by NVIDIA Corporation under the NVIDIA Open Model License\n"
                "(https://www.nvidia.com/en-us/agreements/enterprise-software/nvidia-open-model-license/)"
            ),
            "Built on NVIDIA Cosmos",
        ),
    ),
    "toon": Base(
        MIT,
        title="onmodel's toon base",
        models=("onmodel-toon",),
        use=(
            "This LoRA was trained on onmodel's toon base, which is under the MIT License, as is"
            " this LoRA."
        ),
    ),
    "sdxl": Base(
        OPENRAIL_PP, "Stable Diffusion XL", ("stabilityai/stable-diffusion-xl-base-1.0",), ""
    ),
    "illustrious": Base(
        FAIPL, "Illustrious XL 0.1", ("OnomaAIResearch/Illustrious-xl-early-release-v0",), ""
    ),
    "noobai": Base(
        NOOBAI, "NoobAI XL", ("Laxhar/noobai-XL-1.0", "Laxhar/noobai-XL*", "Laxhar/sdxl_noob"), ""
    ),
    "animagine-3": Base(
        FAIPL,
        "Animagine XL 3",
        ("cagliostrolab/animagine-xl-3.1", "cagliostrolab/animagine-xl-3*"),
        "",
    ),
    "animagine-4": Base(OPENRAIL_PP, "Animagine XL 4", ("cagliostrolab/animagine-xl-4.0*",), ""),
    "kohaku": Base(FAIPL, "Kohaku XL", ("KBlueLeaf/Kohaku-XL*",), ""),
}


def base_of(base_name: str, declared: str) -> Base:
    """The row of a recipe's base. `declared` is the model sheet's `license`.

    Raises InputError when the base has no row, or when the sheet promises another licence than the
    base's.
    """
    if base_name not in BASES:
        remedy = (
            f"has no known licence, so nothing made from it is released; known: {', '.join(BASES)}"
        )
        raise InputError("base", base_name, remedy)
    base = BASES[base_name]
    if not declared.casefold().startswith(base.licence.declared):
        remedy = f"a LoRA on this base is under {base.licence.name!r}; write that"
        raise InputError("character.license", declared or "missing", remedy)
    return base


def base_on_hub(model: str) -> Base | None:
    """The row of a hub id, as cards name it under `base_model`; None when there is none."""
    for base in BASES.values():
        for known in (name.casefold() for name in base.models):
            if model.casefold() == known or (
                known.endswith("*") and model.casefold().startswith(known[:-1])
            ):
                return base
    return None


def licence_declared(text: str) -> Licence | None:
    """The licence that a header's or card's words name."""
    return next((row for row in LICENCES if text.casefold().startswith(row.declared)), None)


def licence_in(text: str) -> Licence | None:
    """The licence whose text this is, or holds."""
    words = " ".join(text.split()).casefold()
    return next(
        (row for row in LICENCES if all(mark.casefold() in words for mark in row.marks)), None
    )


def licence_text(base: Base, file: Path | None) -> str:
    """The whole text of the base's licence: the author's copy in `file`; for MIT, the package's
    own.

    Raises InputError when a text is asked for and none is given, or when the file holds another
    licence.
    """
    licence = base.licence
    if file is None and licence is MIT:
        file = Path(__file__).with_name("mit.txt")
    if file is None:
        remedy = f"{licence.title} goes with every copy: save {licence.link} and name the file"
        raise InputError("license_file", "missing", remedy)
    text = read_text(file, "license_file")
    found = licence_in(text)
    if found is None or found.marks != licence.marks:
        what = f"holds {found.title}" if found else "is no licence that is known here"
        raise InputError(
            "license_file", file, f"{what}; this base is under {licence.title}: save {licence.link}"
        )
    return text.replace("\r\n", "\n").strip() + "\n"


def licence_page(base: Base, text: str, file_name: str, author: str, date: str) -> str:
    """LICENSE.md: which licence holds, what it asks for, that this is a changed work, and the
    licence's whole text."""
    licence = base.licence
    asked = "\n".join(f"- {DEMANDS[demand]}" for demand in licence.demands)
    return "\n\n".join(
        [
            f"# {licence.title}",
            (
                f"{code_span(file_name + '.safetensors')} (by {markdown(author)}, {date}) is a LoRA"
                f" adapter that modifies {base.title}; it was not made by that model's authors."
            ),
            base.use,
            f"Of whoever passes it on the licence asks, in short:\n\n{asked}",
            f"Its text, which alone counts, from <{licence.link}>:",
            "---",
            text,
        ]
    )


def notice_text(base: Base) -> str | None:
    """NOTICE: the owners' words, unchanged; None when the base asks for none."""
    return "\n\n".join(base.notice) + "\n" if base.notice else None
