"""The one rule without a switch: no text may put minors and sexual content together.

It is checked on captions (curate), on every prompt (sample/pictures.py), on the model sheet and on
a release's words. Words are matched whole, in the spelling of tags and of sentences alike, so
"kidney" and "baby blue" harm nobody; where a word is doubtful, the text is refused. Prompt weights,
spaced-out letters, look-alike letters and digits in place of letters are read through. It judges
text, not pictures, and knows no negation: hand it what is asked for, not a negative prompt or an
author's terms. English, Japanese, Chinese and Korean are read; other languages are not.
"""

import re
import unicodedata

from onmodel.errors import InputError

# Whole words or phrases, parted by commas; a star stands for any ending. Hyphens and underscores
# count as spaces.
_MINOR = """
loli, lolis, lolita, lolicon, shota, shotas, shotacon, child, children, childlike, childish body,
kid, kids, toddler*, infant*, newborn*, baby, babies, minor, minors, underage*, under age, under
aged, preteen*, pre teen*, tween, tweens, teen, teens, teenage*, juvenile, juveniles, youngster*,
aged down, age regression, school age, little girl*, little boy*, little sister*, little brother*,
little daughter*, little son, young girl*, young boy*, small girl*, small boy*, schoolgirl*,
school girl*, schoolboy*, school boy*, schoolchild*, pupil of, kindergart*, preschool*, elementary
school*, primary school*, grade school*, grader, graders, middle school*, junior high*, high
school girl*, high school boy*, high school student*, high schooler*, highschool girl*,
highschooler*, joshi kousei, joshi kosei, jk
"""
_SEXUAL = """
nsfw, explicit, rating questionable, sexual*, sexy, sexier, sexualis*, sexualiz*, sensual*,
erotic*, lewd*, porn*, hentai, ecchi, xxx, r18, r 18, smut*, nude, nudes, nudity, nudist*, naked*,
topless, bottomless, undress*, striptease, no panties, no bra, bare breasts, sex, intercourse,
penetrat*, vaginal, anal, oral, fellatio, blowjob*, handjob*, paizuri, cunnilingus, masturbat*,
fingering, orgasm*, ahegao, cum, cumshot*, creampie*, ejaculat*, semen, bukkake, rape, raped,
molest*, gangbang*, orgy, bondage, bdsm, fetish*, penis*, erection*, dildo*, vibrator*, pussy,
vagina*, genital*, nipple*, areola*, clitor*, anus, cameltoe, pubic hair, breast, breasts, boob*,
tits, cleavage, sideboob, underboob, groping, buttocks, ass, asshole, panty, panties, pantyshot*,
upskirt, thong, lingerie, underwear, seductive*, aroused, in heat, spread legs
"""
# What sounds like one of the above and is not: colours, clothes, titles, wear and tear.
_HARMLESS = """
baby blue, baby pink, baby breath, baby's breath, kid gloves, kid icarus, minor edit*, minor
change*, minor detail*, minor damage, minor scratch*, minor character*, minor key, child of light,
destiny's child, gothic lolita, sweet lolita, classic lolita, wa lolita, lolita fashion, lolita
hairband, breast pocket*, breast plate*, robin redbreast, oral history, explicit outline*,
explicit line*, teenage mutant ninja turtles
"""
# Scripts that put no spaces between words. Kana and hangul must not stand within another word
# (カロリー, 칼로리).
_KANA, _HAN, _HANGUL = "ァ-ヶー", "一-鿿", "가-힣"
_MINOR_UNSPACED = re.compile(
    rf"(?<![{_KANA}])(?:ロリ|ショタ)(?![{_KANA}])|(?<![{_KANA}])(?:ロリコン|ロリータ|ロリババア|ショタコン|メスガキ)"
    "|幼女|幼児|幼兒|幼い|子供|子ども|こども|小学生|小學生|中学生|中學生|高校生|女子高生|女高生|児童|未成年"
    "|萝莉|蘿莉|正太|初中生|高中生|儿童|兒童|女童|男童|幼童|小女孩|小男孩|(?<![女男])孩子"
    rf"|(?<![{_HANGUL}])(?:로리(?:콘|타)?(?![{_HANGUL}])|쇼타(?!임)|미성년|어린이|어린아이|꼬마|아동"
    "|초등학생|중학생|고등학생|여중생|여고생)"
)
_SEXUAL_UNSPACED = re.compile(
    rf"(?<![{_KANA}])(?:エロ(?![ー])|エッチ|セクシー|セックス|オナニー|フェラ|ヌード)|えっち|おっぱい|中出し|(?<![{_HAN}])性的"
    "|裸(?![足眼婦妇麦])|乳首|性器|陰部|阴部|下着|緊縛|色情|情色|性交|性爱|性愛|性感|做爱|做愛|色图|色圖|内衣|內衣|春画"
    rf"|(?<![{_HANGUL}])(?:섹스|야한|알몸|나체|누드|에로|속옷|야동|성행위)"
)

_NUMBERS = (
    "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen"
    " sixteen seventeen"
)
_NUMBER = rf"(?<![\d.])(\d{{1,4}}|{_NUMBERS.replace(' ', '|')})"
_AGE = re.compile(
    rf"{_NUMBER}(?: (?:to |or )?{_NUMBER})? ?(?:(?:years?|yrs?) olds?|months? olds?|yo|y/o|y\.o)\b"
    r"|\bage[ds]?:? (\d{1,4})\b|(?<!\d)(\d{1,4}) ?(?:歳|才|岁|歲|살|세(?![가-힣]))"
    r"|(?<![〇一二三四五六七八九十百])(十?[一二三四五六七八九]|十)(?:歳|才|岁|歲)"
)
_HAN_DIGITS = "〇一二三四五六七八九十"
_ADULT = 18

_LOOKALIKES = str.maketrans("аеорсухіјѕԁοαερικν", "aeopcyxijsdoaepikv")  # Cyrillic and Greek
_LEET = str.maketrans("013457@$", "oieastas")
_WEIGHT = re.compile(r":\s*-?[\d.]+(?=\s*[)\]>])|[()\[\]{}\\]")
_ASIAN = f"[{_KANA}{_HAN}{_HANGUL}]"
_SPACED_OUT = re.compile(
    rf"(?<!\w)(?:[^\W\d_](?:[ .*·]+[^\W\d_]){{2,}}|{_ASIAN}(?: {_ASIAN})+)(?!\w)"
)


def check_text(text: str, where: str) -> None:
    """Raise InputError when `text` names minors and sexual content together; `where` says whose
    text it is."""
    readings = _readings(text)
    minor = _found(readings, _MINOR_WORDS, _MINOR_UNSPACED) or _young_age(readings[0])
    sexual = _found(readings, _SEXUAL_WORDS, _SEXUAL_UNSPACED)
    if minor and sexual:
        raise InputError(
            where, f"{minor!r} with {sexual!r}", "minors with sexual content are refused everywhere"
        )


def _readings(text: str) -> list[str]:
    """The text in lower case, one spelling of each letter, spaces for underscores and hyphens,
    harmless phrases gone; then as it reads without prompt weights, with spaced-out letters
    together, and with digits as letters."""
    folded = unicodedata.normalize("NFKD", text).casefold().replace("’", "'").translate(_LOOKALIKES)
    bare = re.sub(r"[̀-ͯ]", "", folded)  # accents, not the marks of kana and hangul
    visible = "".join(
        c for c in unicodedata.normalize("NFKC", bare) if unicodedata.category(c) != "Cf"
    )
    plain = re.sub(r"[\s_\-‐-―]+", " ", visible)
    unweighted = _WEIGHT.sub("", plain)
    together = _SPACED_OUT.sub(lambda run: re.sub(r"[ .*·]+", "", run[0]), unweighted)
    lettered = re.sub(r"\w*[^\W\d_][\w@$]*", lambda word: word[0].translate(_LEET), together)
    return [
        str(_HARMLESS_WORDS.sub(" ", reading))
        for reading in dict.fromkeys((plain, unweighted, together, lettered))
    ]


def _found(readings: list[str], words: re.Pattern[str], unspaced: re.Pattern[str]) -> str | None:
    matches = (
        match
        for text in readings
        for pattern in (words, unspaced)
        if (match := pattern.search(text))
    )
    return next((match[0] for match in matches), None)


def _young_age(plain: str) -> str | None:
    """The first stated age below 18 years."""
    for match in _AGE.finditer(plain):
        if "month" in match[0] or min(_age(group) for group in match.groups() if group) < _ADULT:
            return match[0]
    return None


def _age(word: str) -> int:
    if word.isascii() and word.isdecimal():
        return int(word)
    if word[0] in _HAN_DIGITS:
        return sum(_HAN_DIGITS.index(digit) for digit in word)  # at most 十九
    return _NUMBERS.split().index(word) + 1


def _pattern(phrases: str) -> re.Pattern[str]:
    parts = (
        re.escape(" ".join(phrase.split())).replace(r"\*", r"\w*") for phrase in phrases.split(",")
    )
    return re.compile(rf"(?<!\w)(?:{'|'.join(parts)})(?!\w)")


_MINOR_WORDS, _SEXUAL_WORDS, _HARMLESS_WORDS = (
    _pattern(_MINOR),
    _pattern(_SEXUAL),
    _pattern(_HARMLESS),
)
