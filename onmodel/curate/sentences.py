"""Sentences from tags by template, offline: a caption's sentence beside its tags.

A tag's last word says what it is (hair, a shirt, a smile), so Danbooru's vocabulary reads as well
as the toon world's; what no list knows is still said, in the last sentence. Nothing is said that no
tag says. Quality words, ratings, marks and artists are left out. The English is plain, and stiff
where a tag is no phrase.
"""

import re
from collections.abc import Iterable, Sequence

from onmodel.character import Character
from onmodel.curate.vocabulary import MARKS, names_an_artist
from onmodel.policy import check_text

_QUALITY = re.compile(
    r"^(masterpiece|(best|amazing|great|good|high|normal|average|low|bad|worst) quality|score["
    r" _]\d.*|safe|general"
    r"|sensitive|questionable|explicit|nsfw|sfw|rating.*|absurdres|highres|lowres|newest|recent|mid|early|old"
    r"|year \d+|very aesthetic|aesthetic|solo|solo focus|female focus|male focus|dated)$"
)
_COUNT = re.compile(r"^(\d+\+?|multiple ?)(girl|boy|other)s?$")
_EMOTICONS = {
    ":d": "open mouth smile",
    ";d": "wink",
    ":o": "open mouth",
    ":3": "cat-like mouth",
    ":p": "tongue out",
    ":q": "tongue out",
    "^_^": "closed eyes",
    ">_<": "tightly closed eyes",
    ":<": "frown",
    ":t": "pout",
    ":/": "frown",
    "d:": "open mouth frown",
    "xd": "laughing",
    "o_o": "wide eyes",
    "@_@": "dizzy eyes",
    "v": "v sign",
}


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_BODY = _words("chibi tall petite muscular")
_LOOKS = _words(
    "hair eyes eye ears ear horns horn tail tails wings wing bangs ponytail twintails braid braids"
    " ahoge fang fangs freckles mole scar skin eyebrows eyelashes pupils bun buns sidelocks halo"
    " beard mustache mark teeth tattoo nails antennae heterochromia cut makeup lipstick drills updo"
    " forehead fluff"
)
_WORN = _words(
    "shirt t-shirt skirt miniskirt dress uniform hat beret cap headwear headgear gloves thighhighs"
    " kneehighs socks pantyhose tights leggings boots shoes footwear sandals heels sneakers loafers"
    " jacket coat hoodie sweater cardigan vest blazer suit kimono yukata hakama serafuku bikini"
    " swimsuit leotard bodysuit armor cape capelet scarf necktie bowtie bow ribbon choker collar"
    " necklace pendant earrings earring bracelet jewelry glasses sunglasses goggles eyewear"
    " eyepatch mask hairband headband hairclip hairpin ornament scrunchie tiara crown veil apron"
    " belt sash obi pants shorts jeans sleeves hood helmet headphones headdress ascot neckerchief"
    " turtleneck corset robe cloak overalls cuffs legwear clothes top blouse tunic gown costume"
    " bells bobbles tubes pin suspenders crop"
)
_FACE = _words("smile grin smirk frown pout blush mouth lips tears sweatdrop tongue")
_FACES = frozenset(
    {
        "closed eyes",
        "half-closed eyes",
        "one eye closed",
        "tongue out",
        "wide eyes",
        "narrowed eyes",
        "tightly closed eyes",
        "dizzy eyes",
        "clenched teeth",
        "nose blush",
        "wink",
        "v sign",
        "peace sign",
    }
)
_MOODS = _words(
    "angry sad surprised happy embarrassed expressionless serious worried scared sleepy nervous"
    " bored annoyed confused shy excited drunk tired barefoot laughing"
)
_PARTS = _words("arm arms hand hands leg legs knee knees head finger fingers feet foot")
_NO_ACTIONS = _words(
    "clothing string building ceiling lighting painting drawing coloring shading piercing morning"
    " evening"
)
_FRAMES = {
    "close-up": "in a close-up",
    "portrait": "in a portrait",
    "upper body": "in an upper body picture",
    "lower body": "in a lower body picture",
    "full body": "in a full body picture",
    "cowboy shot": "in a cowboy shot",
    "wide shot": "in a wide shot",
    "three-quarter view": "in three-quarter view",
    "profile": "in profile",
    "dutch angle": "at a dutch angle",
    "pov": "in pov",
    "from side": "from the side",
    "on back": "on her back",
    "on side": "on her side",
    "on stomach": "on her stomach",
    "multiple views": "in multiple views",
}
_PLACES = {
    "in": _words(
        "forest city street room classroom bedroom kitchen park garden library cafe bathroom pool "
        "field rain snow water alley shop train car cave desert hallway office stadium"
    ),
    "on": _words("beach bed rooftop stage balcony bridge chair couch bench background"),
    "under": _words("sky"),
    "at": _words("sunset sunrise night dusk dawn day"),
}
_STYLES = _words(
    "monochrome greyscale lineart sketch watercolor comic halftone noir painterly realistic 3d"
    " 4koma media art artstyle shading coloring grayscale painting"
)
_STYLE_TAGS = frozenset(
    {
        "flat color",
        "pastel colors",
        "limited palette",
        "spot color",
        "partially colored",
        "muted color",
        "pale color",
        "high contrast",
        "colored pencil",
        "anime screenshot",
    }
)
_UNCOUNTED = _words(
    "hair skin makeup jewelry headwear footwear legwear headgear armor lipstick fluff eyewear "
    "heterochromia blush water rain snow tears clothes teeth"
)


def sentence_of(tags: Sequence[str], character: Character) -> str:
    """The sentences, on one line, that say what `tags` say of a picture of the character.

    Raises InputError when the content policy refuses them.
    """
    said: dict[str, list[str]] = {}
    for tag in dict.fromkeys(_plain(tag) for tag in tags if not _left_out(tag, character)):
        said.setdefault(_kind(tag), []).append(tag)
    she, her, has = _pronouns(tags, character)
    first = f"{_who(tags, character, said.get('body', []))} named {character.trigger}"
    if looks := said.get("looks"):
        first += f" with {_and(map(_a, looks))}"
    if worn := said.get("worn"):
        first += f"{',' if looks else ''} wearing {_and(map(_a, worn))}"
    is_ = {"has": "is", "have": "are"}[has]
    doing = [
        f"{is_} {_and(said['mood'])}" if "mood" in said else "",
        f"{has} {_and(_a(tag) for tag in said['face'])}" if "face" in said else "",
        (
            f"{is_} {_and(tag.replace('at viewer', 'at the viewer') for tag in said['action'])}"
            if "action" in said
            else ""
        ),
        f"{has} {_and(_a(tag) for tag in said['part'])}" if "part" in said else "",
    ]
    scene = [
        *(_FRAMES.get(tag, tag).replace("her ", f"{_own(her)} ") for tag in said.get("frame", [])),
        *map(_place, said.get("place", [])),
    ]
    if styles := said.get("style"):
        scene.append(f"in {_and(styles)} style")
    lines = [
        first,
        f"{she} {_and(filter(None, doing))}" if any(doing) else "",
        f"The picture shows {her} {', '.join(scene)}" if scene else "",
        f"The picture also shows {_and(said['other'])}" if "other" in said else "",
    ]
    text = " ".join(f"{line}." for line in lines if line)
    check_text(text, "sentence")
    return text


def _plain(tag: str) -> str:
    """A tag as words: without underscores, escapes and Danbooru's (qualifier); an emoticon as what
    it means."""
    if tag.lower() in _EMOTICONS:
        return _EMOTICONS[tag.lower()]
    words = re.sub(r"\s*\([^()]*\)$", "", tag.replace("\\", "").replace("_", " "))
    return " ".join(words.split()) or tag


def _left_out(tag: str, character: Character) -> bool:
    plain = _plain(tag).lower()
    return bool(
        plain == character.trigger.lower()
        or plain in MARKS
        or names_an_artist(tag)
        or _QUALITY.match(plain)
        or _COUNT.match(plain)
        or not re.search(r"\w", plain)
    )


def _kind(tag: str) -> str:
    """Which part of the sentences says a tag."""
    plain = tag.lower()
    words = plain.split()
    first, last = words[0], words[-1]
    if plain in _FRAMES or (first == "from" and len(words) == 2):
        return "frame"
    if plain in _FACES or last in _FACE:
        return "face"
    if " of " in plain:
        return "other"
    if last in ("hair", "eyes"):
        return "looks"
    if first.endswith("ing") and len(first) > 4 and first not in _NO_ACTIONS | _WORN | _LOOKS:
        return "action"
    if plain in _STYLE_TAGS or last in _STYLES:
        return "style"
    if plain in ("indoors", "outdoors") or any(last in places for places in _PLACES.values()):
        return "place"
    if plain in _BODY:
        return "body"
    if plain in _MOODS:
        return "mood"
    if last in _WORN or (first == "hair" and last == "flower"):
        return "worn"
    if last in _LOOKS or " hair " in f" {plain} ":
        return "looks"
    return "part" if set(words) & _PARTS else "other"


def _place(tag: str) -> str:
    last = tag.lower().split()[-1]
    word = next((word for word, places in _PLACES.items() if last in places), "")
    timed = word == "at" or not word
    return f"{word} {tag if timed else _a(tag)}".strip()


def _a(tag: str) -> str:
    """With its article, where it wants one."""
    first, last = tag.lower().split()[0], tag.lower().split()[-1]
    several = any(word.endswith("s") and not word.endswith(("ss", "us")) for word in (first, last))
    strand = first == "hair" and last not in _WORN | {"flower", "bun"}
    if (
        several
        or strand
        or last in _UNCOUNTED | {"out", "up"}
        or first in ("one", "own", "two", "hand", "head")
    ):
        return tag
    return (
        f"{'an' if re.match('[aeio]|u(?!ni)', first) and not first.startswith('one-') else 'a'}"
        f" {tag}"
    )


def _and(parts: Iterable[str]) -> str:
    *most, last = parts
    return f"{', '.join(most)} and {last}" if most else last


def _counts(tags: Sequence[str], character: Character) -> list[str]:
    return [plain for tag in tags if _COUNT.match(plain := _plain(tag).lower())] or [
        character.count_tag
    ]


def _who(tags: Sequence[str], character: Character, body: Sequence[str]) -> str:
    counts = _counts(tags, character)
    if len(counts) > 1 or not counts[0].startswith("1"):
        return "Several characters, one of them"
    noun = {"1girl": "girl", "1boy": "boy"}.get(counts[0], "character")
    return _a(" ".join([*body, noun])).capitalize()


def _pronouns(tags: Sequence[str], character: Character) -> tuple[str, str, str]:
    counts = _counts(tags, character)
    one = {"1girl": ("She", "her", "has"), "1boy": ("He", "him", "has")}
    return (
        one.get(counts[0], ("They", "them", "have"))
        if len(counts) == 1
        else ("They", "them", "have")
    )


def _own(her: str) -> str:
    return {"her": "her", "him": "his"}.get(her, "their")
