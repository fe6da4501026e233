"""The one rule without a switch: no text may put minors and sexual content together.

It is checked on captions (curate), on prompts (sample) and on a release's words. Words are matched whole, in the
spelling of tags and of sentences alike, so "kidney" and "baby blue" harm nobody; where a word is doubtful, the text is
refused. It judges text, not pictures, and knows no negation: hand it what is asked for, not a negative prompt.
"""

import re
import unicodedata

from onmodel.errors import InputError

# Whole words or phrases, parted by commas; a star stands for any ending. Hyphens and underscores count as spaces.
_MINOR = """
loli, lolis, lolita, lolicon, shota, shotas, shotacon, child, children, childlike, childish body, kid, kids,
toddler*, infant*, newborn*, baby, babies, minor, minors, underage*, under age, under aged, preteen*, pre teen*,
tween, tweens, teen, teens, teenage*, juvenile, juveniles, youngster*, aged down, age regression, school age, little
girl*, little boy*, little sister*, little brother*, little daughter*, little son, young girl*, young boy*, small
girl*, small boy*, schoolgirl*, school girl*, schoolboy*, school boy*, schoolchild*, pupil of, kindergart*,
preschool*, elementary school*, primary school*, grade school*, grader, graders, middle school*, junior high*, high
school girl*, high school boy*, high school student*, high schooler*, highschool girl*, highschooler*
"""
_SEXUAL = """
nsfw, explicit, rating questionable, sexual*, sexy, sexier, sexualis*, sexualiz*, sensual*, erotic*, lewd*, porn*,
hentai, ecchi, xxx, r18, r 18, smut*, nude, nudes, nudity, nudist*, naked*, topless, bottomless, undress*,
striptease, no panties, no bra, bare breasts, sex, intercourse, penetrat*, vaginal, anal, oral, fellatio, blowjob*,
handjob*, paizuri, cunnilingus, masturbat*, fingering, orgasm*, ahegao, cum, cumshot*, creampie*, ejaculat*, semen,
bukkake, rape, raped, molest*, gangbang*, orgy, bondage, bdsm, fetish*, penis*, erection*, dildo*, vibrator*, pussy,
vagina*, genital*, nipple*, areola*, clitor*, anus, cameltoe, pubic hair, breast, breasts, boob*, tits, cleavage,
sideboob, underboob, groping, buttocks, ass, asshole, panty, panties, pantyshot*, upskirt, thong, lingerie,
underwear, seductive*, aroused, in heat, spread legs
"""
# What sounds like one of the above and is not: colours, clothes, titles, wear and tear.
_HARMLESS = """
baby blue, baby pink, baby breath, baby's breath, kid gloves, kid icarus, minor edit*, minor change*, minor detail*,
minor damage, minor scratch*, minor character*, minor key, child of light, destiny's child, gothic lolita, sweet
lolita, classic lolita, wa lolita, lolita fashion, lolita hairband, breast pocket*, breast plate*, robin redbreast,
oral history, explicit outline*, explicit line*, teenage mutant ninja turtles
"""
# Scripts that put no spaces between words: matched anywhere.
_MINOR_UNSPACED = (
    "ロリ ショタ 幼女 幼児 子供 こども 小学生 中学生 高校生 児童 未成年 "
    "萝莉 蘿莉 儿童 兒童 孩子 로리 쇼타 미성년 어린이 초등학생"
)
_SEXUAL_UNSPACED = "エロ 裸 セックス 性的 乳首 おっぱい 性器 下着 色情 性交 做爱 섹스 야한 알몸 나체"

_NUMBERS = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen"
_NUMBER = rf"(?<![\d.])(\d{{1,4}}|{_NUMBERS.replace(' ', '|')})"
_AGE = re.compile(
    rf"{_NUMBER}(?: (?:to |or )?{_NUMBER})? ?(?:(?:years?|yrs?) olds?|months? olds?|yo|y/o|y\.o)\b"
    r"|\bage[ds]?:? (\d{1,4})\b|(?<!\d)(\d{1,4}) ?(?:歳|才|岁|歲|살)"
)
_ADULT = 18


def check_text(text: str, where: str) -> None:
    """Raise InputError when `text` names minors and sexual content together; `where` says whose text it is."""
    plain = _plain(text)
    minor = _found(plain, _MINOR_WORDS, _MINOR_UNSPACED) or _young_age(plain)
    sexual = _found(plain, _SEXUAL_WORDS, _SEXUAL_UNSPACED)
    if minor and sexual:
        raise InputError(where, f"{minor!r} with {sexual!r}", "minors with sexual content are refused everywhere")


def _plain(text: str) -> str:
    """Lower case, one spelling of each letter, spaces for underscores and hyphens, harmless phrases gone."""
    folded = unicodedata.normalize("NFKC", text).casefold().replace("’", "'")
    visible = "".join(letter for letter in folded if unicodedata.category(letter) != "Cf")
    return str(_HARMLESS_WORDS.sub(" ", re.sub(r"[\s_\-‐-―]+", " ", visible)))


def _found(plain: str, words: re.Pattern[str], unspaced: str) -> str | None:
    match = words.search(plain)
    return match[0] if match else next((word for word in unspaced.split() if word in plain), None)


def _young_age(plain: str) -> str | None:
    """The first stated age below 18 years."""
    for match in _AGE.finditer(plain):
        said = [group for group in match.groups() if group]
        ages = [int(group) if group.isdecimal() else _NUMBERS.split().index(group) + 1 for group in said]
        if "month" in match[0] or min(ages) < _ADULT:
            return match[0]
    return None


def _pattern(phrases: str) -> re.Pattern[str]:
    parts = (re.escape(" ".join(phrase.split())).replace(r"\*", r"\w*") for phrase in phrases.split(","))
    return re.compile(rf"(?<!\w)(?:{'|'.join(parts)})(?!\w)")


_MINOR_WORDS, _SEXUAL_WORDS, _HARMLESS_WORDS = _pattern(_MINOR), _pattern(_SEXUAL), _pattern(_HARMLESS)
