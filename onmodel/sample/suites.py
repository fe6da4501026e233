"""Prompt suites made from the model sheet: what is asked of a model, in which words, under which
seeds.

Suite "choose" (12 prompts) is for choosing among checkpoints and searching merges, "check" (20
fresh prompts) decides whether what was found is really better, "confirm" (24 more) is for the
numbers that are published; they share no text and no seed. "thorough" is confirm and 24 more: 48 ×
2 pictures tell more than 24 × 4. Confirm and thorough are dealt by a design, so that every question
is asked by half of the prompts. Tags and sheets are literal; the prompts made of them are escaped.

A prompt asks for values of attributes that the character leaves free; a value's tag is also how its
answer is found in a tagger's columns. No picture is made here.

Arms: L is the LoRA with the trigger, B the base with the same words, D the base with the trigger
replaced by the character's tag description, N the LoRA without the trigger, BN the base with N's
words, its partner at the same noise. Every second prompt's N describes another character; prompts
of kind "sentence" say everything in a sentence. A change of a suite's words changes its hash, and
with that the signature of every number.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Literal

from onmodel.character import Character
from onmodel.errors import InputError
from onmodel.prompt_syntax import escaped
from onmodel.randomness import generator
from onmodel.toon.attributes import VOCABULARY as TOON
from onmodel.toon.base import TOON_BASES

Vocabulary = Mapping[str, Mapping[str, str]]
"""Attribute → value → its tag; an empty tag says nothing and is never asked for."""

# The same attributes and values in Danbooru's words, for bases trained on such captions.
DANBOORU: dict[str, dict[str, str]] = {
    "expression": {
        "expressionless": "expressionless",
        "smile": "smile",
        "sad": "sad",
        "angry": "angry",
        "surprised": "surprised",
        "wink": "one eye closed",
    },
    "framing": {value: value for value in ("close-up", "upper body", "full body")},
    "view": {
        "looking at viewer": "looking at viewer",
        "three-quarter view": "looking to the side",
        "from side": "from side",
    },
    "pose": {
        "standing": "standing",
        "arms up": "arms up",
        "hand on hip": "hand on own hip",
        "waving": "waving",
    },
    "background": {
        value: value
        for value in (
            "white background",
            "blue sky",
            "night sky",
            "forest",
            "indoors",
            "beach",
            "sunset",
        )
    },
    "body": {"normal": "", "chibi": "chibi", "tall": "tall"},
    "outfit": {
        value: value
        for value in ("t-shirt", "hoodie", "dress", "school uniform", "kimono", "jacket")
    },
    "style": {
        "flat color": "flat color",
        "lineart": "lineart",
        "pixel art": "pixel art",
        "pastel": "pastel colors",
        "noir": "monochrome",
        "comic": "halftone",
    },
}

# Characters that nobody trains, for N: the words that both vocabularies have.
STRANGERS = (
    ("pink hair", "twintails", "red eyes"),
    ("brown hair", "ponytail", "glasses"),
    ("purple hair", "long hair", "green eyes"),
)
QUALITY = ("masterpiece", "best quality")
NEGATIVE = "worst quality, low quality"


@dataclass(frozen=True, slots=True)
class Prompt:
    """One question. `asked`: attribute → value; `tags`: the same as tags; `text`: L, B, D, N →
    prompt."""

    id: str
    kind: str
    asked: Mapping[str, str]
    tags: tuple[str, ...]
    text: Mapping[str, str]
    negative: str = NEGATIVE

    def words(self, arm: str) -> str:
        """The prompt of an arm; N and BN share theirs."""
        return self.text["N" if arm == "BN" else arm]

    def as_dict(self) -> dict[str, object]:
        return asdict(self)


# kind → rows of what is asked, the attribute in question first. "1", "2" … for an outfit are the
# vocabulary's outfits other than the one the character wears. Expressions are asked only where a
# face is large enough to be read.
_CHOOSE: tuple[tuple[str, dict[str, str]], ...] = (
    ("identity", {}),
    ("expression", {"expression": "smile", "framing": "upper body"}),
    ("expression", {"expression": "sad", "framing": "close-up"}),
    ("expression", {"expression": "angry", "framing": "upper body", "outfit": "2"}),
    ("expression", {"expression": "surprised", "framing": "close-up"}),
    ("expression", {"expression": "wink", "framing": "upper body"}),
    ("expression", {"expression": "expressionless", "framing": "close-up"}),
    (
        "framing",
        {"framing": "full body", "pose": "arms up", "background": "blue sky", "outfit": "4"},
    ),
    (
        "view",
        {"view": "from side", "framing": "full body", "background": "indoors", "style": "noir"},
    ),
    ("outfit", {"outfit": "1", "style": "lineart", "pose": "standing"}),
    ("sentence", {"style": "comic", "background": "forest", "view": "looking at viewer"}),
    (
        "mixed",
        {
            "style": "pastel",
            "outfit": "3",
            "framing": "full body",
            "view": "three-quarter view",
            "pose": "waving",
        },
    ),
)
# More for the longer looks of a tuning, which begin where suite "choose" ends: its first 24 and all
# 48 prompts ask every axis often enough, for all axes count alike in a choice. What is not asked is
# open, and a default shows there.
_WIDER: tuple[tuple[str, dict[str, str]], ...] = (
    ("identity", {"background": "beach"}),
    ("expression", {"expression": "wink", "framing": "close-up", "view": "three-quarter view"}),
    ("expression", {"expression": "sad", "framing": "upper body", "background": "blue sky"}),
    ("expression", {"expression": "surprised", "framing": "upper body", "outfit": "5"}),
    ("framing", {"framing": "full body", "pose": "hand on hip", "background": "forest"}),
    ("pose", {"pose": "waving", "framing": "full body", "outfit": "1"}),
    ("background", {"background": "indoors", "view": "from side"}),
    ("sentence", {"background": "night sky", "pose": "standing"}),
    ("outfit", {"outfit": "2", "background": "blue sky"}),
    ("outfit", {"outfit": "3", "style": "flat color", "framing": "full body"}),
    ("style", {"style": "pixel art", "pose": "waving"}),
    ("style", {"style": "noir", "background": "forest"}),
    ("expression", {"expression": "smile", "framing": "close-up", "background": "indoors"}),
    ("expression", {"expression": "angry", "framing": "close-up", "background": "forest"}),
    (
        "expression",
        {"expression": "expressionless", "framing": "upper body", "view": "three-quarter view"},
    ),
    ("mixed", {"expression": "sad", "framing": "upper body", "style": "comic"}),
    ("mixed", {"expression": "surprised", "framing": "close-up", "style": "pastel"}),
    ("mixed", {"expression": "wink", "framing": "upper body", "outfit": "4"}),
    ("framing", {"framing": "close-up", "background": "night sky"}),
    ("framing", {"framing": "upper body", "view": "looking at viewer", "background": "sunset"}),
    ("view", {"view": "three-quarter view", "framing": "full body", "background": "beach"}),
    ("view", {"view": "looking at viewer", "pose": "hand on hip"}),
    ("view", {"view": "from side", "outfit": "1"}),
    ("pose", {"pose": "arms up", "background": "sunset"}),
    ("pose", {"pose": "standing", "framing": "full body", "style": "comic"}),
    ("pose", {"pose": "hand on hip", "outfit": "4"}),
    ("background", {"background": "sunset", "framing": "full body"}),
    ("background", {"background": "white background", "pose": "arms up", "framing": "full body"}),
    ("background", {"background": "blue sky", "style": "pastel"}),
    ("outfit", {"outfit": "4", "framing": "full body", "background": "night sky"}),
    ("outfit", {"outfit": "5", "style": "noir"}),
    ("outfit", {"outfit": "1", "pose": "standing", "view": "three-quarter view"}),
    ("style", {"style": "lineart", "framing": "upper body", "background": "forest"}),
    ("style", {"style": "comic", "framing": "full body", "pose": "waving"}),
    ("style", {"style": "flat color", "view": "three-quarter view"}),
    ("sentence", {"view": "from side", "background": "sunset"}),
)
_CHECK: tuple[tuple[str, dict[str, str]], ...] = (
    ("identity", {"framing": "close-up"}),
    ("identity", {"pose": "standing", "framing": "upper body"}),
    ("expression", {"expression": "smile", "framing": "upper body", "background": "indoors"}),
    ("expression", {"expression": "sad", "framing": "close-up", "background": "night sky"}),
    ("expression", {"expression": "angry", "framing": "upper body", "view": "three-quarter view"}),
    ("expression", {"expression": "surprised", "framing": "close-up", "style": "flat color"}),
    ("expression", {"expression": "wink", "framing": "upper body", "background": "forest"}),
    (
        "expression",
        {"expression": "expressionless", "framing": "close-up", "view": "looking at viewer"},
    ),
    ("framing", {"framing": "full body", "background": "forest"}),
    ("framing", {"framing": "upper body", "view": "from side"}),
    ("view", {"view": "looking at viewer", "background": "blue sky"}),
    ("view", {"view": "from side", "framing": "full body"}),
    ("pose", {"pose": "arms up", "framing": "upper body"}),
    ("pose", {"pose": "waving", "framing": "full body"}),
    (
        "background",
        {"background": "night sky", "view": "three-quarter view", "framing": "upper body"},
    ),
    ("outfit", {"outfit": "1", "framing": "full body", "background": "indoors"}),
    ("outfit", {"outfit": "2", "expression": "smile", "framing": "upper body"}),
    ("style", {"style": "comic", "framing": "upper body"}),
    ("style", {"style": "lineart", "framing": "full body", "pose": "waving"}),
    ("style", {"style": "pastel", "expression": "wink", "framing": "close-up"}),
)
# Suites confirm and thorough are dealt by a design: every attribute is asked in 12 of 24 prompts
# and left open in 12, each pair is asked together in 6, each three in 3. Plackett & Burman 1946: 11
# cyclic shifts of a row and one of minuses; and the same with all signs turned.
_DESIGN = "++-+++---+-"
_VALUES: dict[str, tuple[str, ...]] = {
    "expression": ("smile", "sad", "angry", "surprised", "wink", "expressionless"),
    "framing": ("full body",),  # with an expression: one that shows the face
    "style": ("flat color", "lineart", "pixel art", "pastel", "noir", "comic"),
    "outfit": ("1", "2", "3", "4", "5"),
    "view": ("looking at viewer", "three-quarter view", "from side"),
    "pose": ("standing", "arms up", "hand on hip", "waving"),
    "background": ("white background", "blue sky", "night sky", "forest", "indoors", "sunset"),
}


def _dealt(first_column: int) -> tuple[tuple[str, dict[str, str]], ...]:
    """24 rows: kind and what is asked. The design has more columns than there are attributes;
    another first one gives other prompts."""
    signs = [_DESIGN[-shift:] + _DESIGN[:-shift] for shift in range(11)] + ["-" * 11]
    turned = [row.translate(str.maketrans("+-", "-+")) for row in signs]
    times = dict.fromkeys(_VALUES, first_column)
    rows: list[tuple[str, dict[str, str]]] = []
    for signs_of_row in [*signs, *turned]:
        asked: dict[str, str] = {}
        for column, (attribute, values) in enumerate(_VALUES.items()):
            if signs_of_row[(first_column + column) % 11] == "+":
                asked[attribute] = values[times[attribute] % len(values)]
                times[attribute] += 1
        if not asked and first_column:
            asked = {"background": "beach"}  # the first design asks for nothing once already
        if {"expression", "framing"} <= asked.keys():
            cut_off = asked.keys() & {"pose", "outfit"}
            asked["framing"] = "upper body" if cut_off else "close-up"
        rows.append(_row(asked, rows))
    return tuple(rows)


def _row(
    asked: Mapping[str, str], before: Sequence[tuple[str, dict[str, str]]]
) -> tuple[str, dict[str, str]]:
    """The row, called by the attribute that fewest rows are called by; what asks for next to
    nothing is a sentence."""
    if len(asked) < 2:
        return "sentence", dict(asked)
    kinds = [kind for kind, _ in before]
    first = min(asked, key=kinds.count)
    return first, {first: asked[first], **asked}


_CONFIRM, _MORE = _dealt(0), _dealt(3)
SUITES = {"choose": _CHOOSE, "check": _CHECK, "confirm": _CONFIRM, "thorough": _CONFIRM + _MORE}
CUT_OFF = {"close-up": ("pose", "outfit")}
SuiteName = Literal["choose", "check", "confirm", "thorough"]


def suite(name: SuiteName, character: Character, vocabulary: Vocabulary) -> list[Prompt]:
    """The prompts of a suite for this character. What she does not leave free is not asked, but for
    another outfit.

    Raises InputError when so little is free that two prompts of one suite would be the same.
    """
    return _prompts(name, SUITES[name], character, vocabulary, "more-", len(_CONFIRM))


def wide_suite(character: Character, vocabulary: Vocabulary) -> list[Prompt]:
    """The 48 prompts of a tuning, suite "choose" first. Raises what `suite` raises."""
    return _prompts("choose", _CHOOSE + _WIDER, character, vocabulary, "wider-", len(_CHOOSE))


def _prompts(
    name: str,
    rows: Sequence[tuple[str, dict[str, str]]],
    character: Character,
    vocabulary: Vocabulary,
    later: str,
    start: int,
) -> list[Prompt]:
    """The prompts of the rows; ids of the rows after `start` begin with `later`."""
    prompts: dict[str, Prompt] = {}
    known: set[tuple[bool, tuple[str, ...]]] = set()
    others = _other_outfits(character, vocabulary)
    for number, (kind, row) in enumerate(rows):
        asked = {
            attribute: value
            for attribute, value in row.items()
            if attribute in {*character.free, "outfit"}
        }
        if "outfit" in asked:
            asked["outfit"] = others[(int(asked["outfit"]) - 1) % len(others)]
        tags = [vocabulary[attribute][value] for attribute, value in asked.items()]
        id = "-".join([kind, next(iter(asked.values()), "")]).strip("-").replace(" ", "-")
        id = later + id if number >= start else id
        if id in prompts:
            id = "-".join([id, *list(asked.values())[1:3]]).replace(" ", "-")
        same = (kind == "sentence", tuple(sorted(tags)))
        if id in prompts or same in known:
            missing = next((name for name in row if name not in character.free), "more")
            raise InputError(
                "character.free",
                ", ".join(character.free),
                f"suite {name!r} asks for {missing}; add it",
            )
        known.add(same)
        said = (
            in_words(character, tags)
            if kind == "sentence"
            else texts(character, tags, "outfit" in asked)
        )
        if number % 2 == 0 and kind != "sentence":
            stranger = ", ".join(
                [*QUALITY, character.count_tag, *STRANGERS[number // 2 % len(STRANGERS)], *tags]
            )
            said = said | {"N": escaped(stranger)}
        prompts[id] = Prompt(id, kind, asked, tuple(tags), said)
    return list(prompts.values())


def texts(character: Character, tags: Sequence[str], other_outfit: bool) -> dict[str, str]:
    """L, B, D and N for the tags that are asked. With another outfit asked, D leaves the default
    one unsaid."""
    worn = set(character.outfits[0].tags) if other_outfit and character.outfits else set()
    described = [tag for tag in character.tags if tag not in worn]

    def line(*who: str) -> str:
        return escaped(", ".join([*QUALITY, character.count_tag, *who, *tags]))

    return {
        "L": line(character.trigger),
        "B": line(character.trigger),
        "D": line(*described),
        "N": line(),
    }


def in_words(character: Character, tags: Sequence[str]) -> dict[str, str]:
    """L, B, D and N as sentences: the trigger inside one, and the sheet's description in D."""
    named = f"{whom(character)} named {character.trigger}."
    who = {
        "L": named,
        "B": named,
        "D": " ".join(character.description.split()),
        "N": f"{whom(character)}.",
    }
    return {
        arm: escaped(f"{', '.join(QUALITY)}. {first}{it_shows(tags)}") for arm, first in who.items()
    }


def it_shows(tags: Sequence[str]) -> str:
    """The sentence that says what a picture shows, with a space before it; nothing when there is
    nothing to say."""
    *most, last = tags or ("",)
    asked = " and ".join([", ".join(most), last] if most else [last])
    return f" It shows {asked}." if asked else ""


def whom(character: Character) -> str:
    """How a sentence begins: "A girl"."""
    return {"1girl": "A girl", "1boy": "A boy"}.get(character.count_tag, "A character")


def free_table(character: Character, vocabulary: Vocabulary) -> dict[str, list[str]]:
    """Attribute → tags for everything that the character leaves free; one round in each asks for no
    style."""
    table = {}
    for attribute in character.free:
        if attribute in vocabulary:
            table[attribute] = [tag for tag in vocabulary[attribute].values() if tag]
    return {
        attribute: [*tags, ""] if attribute == "style" else tags
        for attribute, tags in table.items()
    }


def matrix(
    table: Mapping[str, Sequence[str]], character: Character, count: int, seed: int
) -> list[Prompt]:
    """`count` prompts that draw one tag from each attribute's list: each tag equally often, in
    shuffled rounds.

    An empty tag asks for nothing, and so does what the framing cuts off. `asked` holds the tags
    themselves, since a recipe writes tags.
    """
    columns = {
        attribute: _rounds(values, count, seed, attribute) for attribute, values in table.items()
    }
    prompts = []
    for i in range(count):
        asked = {attribute: column[i] for attribute, column in columns.items() if column[i]}
        for attribute in CUT_OFF.get(asked.get("framing", ""), ()):
            asked.pop(attribute, None)
        tags = list(asked.values())
        prompts.append(
            Prompt(
                f"{i:04d}", "matrix", asked, tuple(tags), texts(character, tags, "outfit" in asked)
            )
        )
    return prompts


def default_outfit(character: Character, vocabulary: Vocabulary) -> str | None:
    """The vocabulary's word for the sheet's first outfit; None when it has none."""
    return next(
        (value for value, tag in vocabulary["outfit"].items() if tag and _wears(character, tag)),
        None,
    )


def vocabulary_of(base_name: str) -> Vocabulary:
    """The words that a base was trained on: the toon world's, Danbooru's for every other."""
    return TOON if base_name in TOON_BASES else DANBOORU


def noise_seed(suite: str, prompt: str, index: int) -> int:
    """The seed of a prompt's picture `index`, equal for all arms and models.

    Prompts do not share noise: they are the units that statistics treat as independent.
    """
    digest = hashlib.sha256(f"{suite}\x1f{prompt}\x1f{index}".encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1


def _rounds(values: Sequence[str], count: int, seed: int, attribute: str) -> list[str]:
    rounds = -(-count // len(values))
    order = [
        generator(seed, "prompt matrix", attribute, k).permutation(len(values))
        for k in range(rounds)
    ]
    return [values[int(i)] for permutation in order for i in permutation][:count]


def _other_outfits(character: Character, vocabulary: Vocabulary) -> list[str]:
    return [
        value for value, tag in vocabulary["outfit"].items() if tag and not _wears(character, tag)
    ]


def _wears(character: Character, tag: str) -> bool:
    return bool(character.outfits) and tag in " ".join(character.outfits[0].tags)
