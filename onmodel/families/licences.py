"""The licences of base models: their types, the licences that several bases share, and the bases
that ship with the package.

`registry.licence_rows` has the rows of all tables `BASES`. A row is a pointer for people, checked
against the licence's own page. The text of the licence is what counts.
"""

from dataclasses import dataclass, replace


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
class LicensedBase:
    """A base model, or a family of them, under one licence.

    `models` are hub ids, or their beginnings where they end in "*"; the first stands on the card.
    `diffusers_id` is what diffusers loads; `civitai` and `a1111` are their words for it. `use`
    tells a user where the terms come from; `notice` are the owners' own words to be passed on;
    `refused`: why nothing made from it is released. `called` is a pattern of what the name or the
    title of its files says, in lower case.
    """

    licence: Licence
    title: str
    models: tuple[str, ...]
    use: str
    link: str | None = None
    diffusers_id: str | None = None
    civitai: str = "Other"
    a1111: str = "Unknown"
    notice: tuple[str, ...] = ()
    refused: str = ""
    called: str = ""


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

_TOON = LicensedBase(
    MIT,
    title="onmodel's toon base",
    models=("onmodel-toon",),
    use=(
        "This LoRA was trained on onmodel's toon base, which is under the MIT License, as is this"
        " LoRA."
    ),
)

# The bases that ship with the package.
BASES: dict[str, LicensedBase] = {
    "toon": _TOON,
    "toon-sdxl": replace(
        _TOON, title="onmodel's toon SDXL base", models=("onmodel-toon-sdxl",), a1111="SDXL"
    ),
}
