"""The licence of a release comes from its base model's row here, never from a default. No law is written here."""

from dataclasses import dataclass

from onmodel.errors import InputError


@dataclass(frozen=True)
class Licence:
    """What a base's licence asks of a model card, and the words that have to go with a copy of the weights.

    `base_model` and `base_link` name the base on the card; `hub_id` is the hub's `license:` field, `name` its
    `license_name`, `diffusers_id` the hub repository that diffusers loads. A model sheet declares it by a text that
    begins with one of `declared`. `notice` are the owners' own words, `use` tells a user where the terms come from.
    """

    name: str
    title: str
    link: str
    hub_id: str
    declared: tuple[str, ...]
    base_model: str
    base_title: str
    base_link: str | None
    diffusers_id: str | None
    use: str
    notice: tuple[str, ...] = ()


# Base name of a recipe → its licence. The notices are those that the licences themselves ask to be passed on
# (CircleStone Labs Non-Commercial License v1.2, section 3b; NVIDIA Open Model License, redistribution).
LICENCES: dict[str, Licence] = {
    "anima": Licence(
        name="circlestone-labs-non-commercial-license",
        title="CircleStone Labs Non-Commercial License",
        link="https://huggingface.co/circlestone-labs/Anima/blob/main/LICENSE.md",
        hub_id="other",
        declared=("circlestone-labs-non-commercial", "circlestone labs non-commercial"),
        base_model="circlestone-labs/Anima",
        base_title="Anima (anima-base-v1.0)",
        base_link="https://huggingface.co/circlestone-labs/Anima",
        diffusers_id="circlestone-labs/Anima-Base-v1.0-Diffusers",
        use="This LoRA is a derivative of Anima, so its weights are under Anima's own licence, which limits them to "
        "non-commercial purposes. The text behind the link is what counts, for the weights and for pictures made with "
        "them.",
        notice=(
            "The CircleStone Model is licensed by CircleStone Labs LLC under the CircleStone Non-Commercial License. "
            "Copyright CircleStone Labs LLC.\n"
            "IN NO EVENT SHALL CIRCLESTONE LABS LLC BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN "
            "ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM, OUT OF OR IN CONNECTION WITH USE OF THIS MODEL.",
            "Licensed by NVIDIA Corporation under the NVIDIA Open Model License\n"
            "(https://www.nvidia.com/en-us/agreements/enterprise-software/nvidia-open-model-license/)",
            "Built on NVIDIA Cosmos",
        ),
    ),
    "toon": Licence(
        name="onmodel-toon",
        title="MIT License (onmodel toon base)",
        link="https://opensource.org/license/mit",
        hub_id="mit",
        declared=("mit", "onmodel-toon"),
        base_model="onmodel-toon",
        base_title="onmodel's toon base",
        base_link=None,
        diffusers_id=None,
        use="This LoRA was trained on onmodel's toon base, which is under the MIT License, as is this LoRA.",
    ),
}


def licence_of(base_name: str, declared: str) -> Licence:
    """The licence of a release on this base. `declared` is the model sheet's `license`.

    Raises InputError when the base has no row, or when the sheet promises another licence than the base's.
    """
    if base_name not in LICENCES:
        raise InputError(
            "base",
            base_name,
            f"has no known licence, so nothing made from it is released; known: {', '.join(LICENCES)}",
        )
    licence = LICENCES[base_name]
    if not declared.casefold().startswith(licence.declared):
        raise InputError(
            "character.license", declared or "missing", f"a LoRA on this base is under {licence.name!r}; write that"
        )
    return licence


def licence_text(licence: Licence, file_name: str, author: str, date: str) -> str:
    """LICENSE.md: which licence holds, where its text is, and that this is a changed work."""
    parts = [
        f"# {licence.title}",
        f"`{file_name}.safetensors` (by {author}, {date}) is a LoRA adapter that modifies {licence.base_title}; "
        f"it was not made by that model's authors.",
        licence.use,
        f"Licence: [{licence.title}]({licence.link})",
    ]
    if licence.notice:
        parts.append("The notices that the licence asks to be kept stand in NOTICE.")
    return "\n\n".join(parts) + "\n"


def notice_text(licence: Licence) -> str | None:
    """NOTICE: the owners' words, unchanged; None when the base asks for none."""
    return "\n\n".join(licence.notice) + "\n" if licence.notice else None
