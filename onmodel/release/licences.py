"""The licence of a release comes from its base model's row (families/licences.py), never from a
default. A base without a row cannot be released on.

`BASES` says which base is under which licence, `LICENCES` what each licence is called, where its
text is and what it asks of whoever passes a LoRA on.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from onmodel.errors import InputError
from onmodel.families.licences import FAIPL, MIT, NOOBAI, OPENRAIL_PP, Licence, LicensedBase
from onmodel.families.protocol import BaseSettings
from onmodel.families.registry import licence_rows
from onmodel.reading import read_text
from onmodel.text import code_span, markdown, shown
from onmodel.weights import read_header

# What licences ask for → how LICENSE.md says it.
DEMANDS = {
    "text": "a copy of the licence goes with it",
    "notice": "the owners' notices go with it, unchanged (NOTICE)",
    "changes": "it says that it is a changed work",
    "restrictions": "the licence's use restrictions hold for whoever receives it",
    "same licence": "it stays under this licence, and so does what is made from it",
}


# A recipe's base name, or a name for bases that only `onmodel release check` meets → its row.
BASES = licence_rows()
# NoobAI's licence stands before the FAIPL, whose text and name it shares.
LICENCES = tuple(
    dict.fromkeys(
        (MIT, *(row.licence for row in BASES.values() if row.use), OPENRAIL_PP, NOOBAI, FAIPL)
    )
)


def base_of(base_name: str, declared: str) -> LicensedBase:
    """The row of a recipe's base, or of the model that its files are (`base_model`). `declared` is
    the model sheet's `license`.

    Raises InputError when the base has no row, when nothing is released on it, or when the sheet
    promises another licence than the base's.
    """
    if base_name not in BASES:
        known = ", ".join(name for name, row in BASES.items() if not row.refused)
        remedy = f"has no known licence; set base_model to what the base is: {known}"
        raise InputError("base_model", base_name, remedy)
    base = BASES[base_name]
    if base.refused:
        remedy = f"nothing made from it is released: {base.refused}"
        raise InputError("base_model", base_name, remedy)
    if not declared.casefold().startswith(base.licence.declared):
        remedy = f"a LoRA on this base is under {base.licence.name!r}; write that"
        raise InputError("character.license", declared or "missing", remedy)
    return base


def check_said(base_model: str, base: BaseSettings) -> None:
    """Raise InputError where the hub id, the name of a file or its title says that the base is
    another model than `base_model`: it may be under another licence. Of several that a name says,
    those count on which nothing is released."""
    for where, text in _names_in(base):
        said = {name for name, row in BASES.items() if re.search(row.called or "$^", text.lower())}
        said = {name for name in said if BASES[name].refused} or said
        if said and base_model not in said:
            other = BASES[min(said)].title
            remedy = f'{where} says {other} ({shown(text, 80)}); set base_model = "{min(said)}"'
            raise InputError("base_model", base_model, remedy)


def _names_in(base: BaseSettings) -> Iterator[tuple[str, str]]:
    """Where a base's files are named, and how."""
    if base.hub:
        yield "the hub id", base.hub
    if base.folder:
        yield "the name of base.folder", base.folder.name
    for field, value in base:
        if not isinstance(value, Path) or value.suffix != ".safetensors" or not value.is_file():
            continue
        yield f"the name of base.{field}", value.stem
        _, words = read_header(value, f"base.{field}")
        for key in ("modelspec.title", "modelspec.architecture", "ss_base_model_version"):
            if key in words:
                yield f"{key} of base.{field}", words[key]


def base_on_hub(model: str) -> LicensedBase | None:
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
    for licence in LICENCES:
        if all(mark.casefold() in words for mark in licence.marks):
            return licence
    return None


def licence_text(base: LicensedBase, file: Path | None) -> str:
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
        what = f"holds {found.title}" if found else "is not a licence that is known here"
        raise InputError(
            "license_file", file, f"{what}; this base is under {licence.title}: save {licence.link}"
        )
    return text.replace("\r\n", "\n").strip() + "\n"


def licence_page(base: LicensedBase, text: str, file_name: str, author: str, date: str) -> str:
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


def notice_text(base: LicensedBase) -> str | None:
    """NOTICE: the owners' words, unchanged; None when the base asks for none."""
    return "\n\n".join(base.notice) + "\n" if base.notice else None
