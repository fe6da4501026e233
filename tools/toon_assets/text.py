"""The text side of the toon base: both tokenizers, the frozen random Qwen3, the conditioner, and
how captions are said.

Protocol (ANIMA.md): Qwen states are zeroed at padding, the conditioner's output is zeroed at
padding and padded to 512 rows that the DiT attends without a mask. Here the zero rows are collapsed
exactly into one row with bias log(count).
"""

from __future__ import annotations

import math
import re
import shutil
import string
from pathlib import Path

import numpy as np
import torch
from diffusers import AnimaTextConditioner
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from torch import Tensor
from transformers import Qwen2Tokenizer, Qwen3Config, Qwen3Model, T5TokenizerFast
from transformers.models.qwen2.tokenization_qwen2 import PRETOKENIZE_REGEX

from onmodel.toon.attributes import ATTRIBUTES, COLOR_ATTRIBUTES, VOCABULARY, Toon, sample_toon
from onmodel.toon.captions import sentence, tags, words
from onmodel.toon.datasets import FREE

from .common import SEED, Settings, log
from .pictures import CAST, SYLLABLES

EVERYDAY_STYLE = "flat color"  # drawn unless another style is asked for
ROWS = 512  # text rows the DiT sees
WIDTH = 128
# Tokens of a training batch of short or long captions: two fixed shapes; the rare longer caption
# becomes "".
LENGTHS = {False: 48, True: 76}
QUALITY = ("masterpiece", "best quality", "high quality", "score_7", "score_8", "safe", "highres")
PLAIN_WORDS = (
    "the",
    "of",
    "is",
    "in",
    "on",
    "at",
    "her",
    "she",
    "and",
    "solo",
    "anime",
    "named",
    "character",
    "original",
    "view",
    "style",
    "drawing",
    "worst",
    "low",
    "bad",
    "normal",
    "score",
    "artist",
    "name",
    "simple",
    "girl",
)


def nonsense_name(rng: np.random.Generator) -> str:
    """A made-up word, so that an unknown trigger word starts out meaning nobody."""
    if rng.random() < 0.5:
        return "".join(rng.choice(SYLLABLES, size=rng.integers(2, 5))) + str(
            rng.choice(["", "n", "x", "s"])
        )
    return "".join(rng.choice(list("abcdefghijklmnopqrstuvwxyz"), size=rng.integers(4, 9)))


def unsaid(toon: Toon, name: str, rng: np.random.Generator) -> frozenset[str]:
    """Attributes that this caption leaves out, as people do: the everyday style, colours, or all of
    who it is.

    Without this a prompt that names neither colour nor style would mean line art, where captions
    have no colours. A caption that names a character leaves the design to the name three times in
    four.
    """
    hidden: set[str] = set()
    if name and rng.random() < 0.75:
        hidden |= {key for key, value in CAST[name].traits.items() if getattr(toon, key) == value}
    if toon.style == EVERYDAY_STYLE and rng.random() < 0.6:
        hidden.add("style")
    if rng.random() < 0.3:
        hidden |= COLOR_ATTRIBUTES
    if rng.random() < 0.25:
        hidden |= set(ATTRIBUTES) - set(FREE)
    return frozenset(hidden)


def caption(toon: Toon, name: str, rng: np.random.Generator, long: bool) -> str:
    """One of the ways people write. Long: a sentence, perhaps after some tags. Short: empty or
    shuffled tags.

    `name` is who of the CAST it is, "" for nobody: then one caption in sixteen carries a made-up
    name that means nothing. Nor do the quality words before some tags. A style other than the
    everyday one is always said.
    """
    trigger = name or (nonsense_name(rng) if rng.random() < 0.06 else None)
    absorbed = unsaid(toon, name, rng)
    if long and rng.random() < 0.75:
        return sentence(toon, trigger=trigger, absorbed=absorbed, rng=rng)
    if long:
        few = tags(toon, trigger=trigger, absorbed=absorbed, rng=rng, keep=0.25)
        return f"{', '.join(few)}. {sentence(toon, absorbed=absorbed, rng=rng)}"
    if rng.random() < 0.13:
        return ""
    said = tags(
        toon, trigger=trigger, absorbed=absorbed, rng=rng, keep=0.9 if rng.random() < 0.8 else 0.5
    )
    style = VOCABULARY["style"][toon.style]
    if toon.style != EVERYDAY_STYLE and style not in said:
        said.insert(int(rng.integers(1, len(said) + 1)), style)
    if rng.random() < 0.12:
        said = [*rng.choice(QUALITY, size=int(rng.integers(1, 4)), replace=False), *said]
    return ", ".join(said)


def _corpus(count: int) -> list[str]:
    rng = np.random.default_rng([SEED, 2])
    return [caption(sample_toon(rng), "", rng, i % 3 == 0) for i in range(count)] + [
        ", ".join(QUALITY)
    ] * 50


def build_tokenizers(settings: Settings) -> None:
    """Byte-level BPE in Qwen2's class, and a unigram model of whole words plus characters in T5's
    class."""
    folder = settings.work / "tokenizers"
    if folder.exists():
        return
    corpus = _corpus(4000)
    trained = Tokenizer(models.BPE())
    trained.normalizer = normalizers.NFC()
    from tokenizers import Regex

    trained.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PRETOKENIZE_REGEX), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    trained.train_from_iterator(
        corpus,
        trainers.BpeTrainer(
            vocab_size=900,
            min_frequency=20,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    vocab, merges = _bpe_files(trained)
    qwen = Qwen2Tokenizer(vocab=vocab, merges=merges, model_max_length=32768)
    t5 = T5TokenizerFast(vocab=_unigram_vocab(corpus), extra_ids=0, model_max_length=512)
    temporary = settings.work / "tokenizers.tmp"
    shutil.rmtree(temporary, ignore_errors=True)
    qwen.save_pretrained(temporary / "tokenizer")
    t5.save_pretrained(temporary / "t5_tokenizer")
    temporary.rename(folder)
    text = corpus[7]
    log(
        settings,
        "tokenizers",
        f"Qwen {len(qwen)} tokens, T5 {len(t5)}; {text!r}: {len(qwen(text).input_ids)} and "
        f"{len(t5(text).input_ids)} tokens",
    )


def _bpe_files(trained: Tokenizer) -> tuple[dict[str, int], list[tuple[str, str]]]:
    import json

    model = json.loads(trained.to_str())["model"]
    merges = [tuple(m.split(" ")) if isinstance(m, str) else tuple(m) for m in model["merges"]]
    return model["vocab"], merges


def _unigram_vocab(corpus: list[str]) -> list[tuple[str, float]]:
    """Whole words (score −4), syllables (−8) and characters (−12): a known word is one token, a
    name is a few."""
    known = set(words()) | set(PLAIN_WORDS) | set(re.findall(r"[a-z0-9_-]+", " ".join(QUALITY)))
    known |= {word.capitalize() for word in ("a", "this", "it", "the", "here", "seen")}
    typed = set(string.ascii_letters + string.digits + ".,:;!?'\"()[]{}<>@#_-+*/\\&%~=")
    characters = sorted(typed | set("".join(corpus)) - {" "})
    entries = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", -20.0), ("▁", -6.0)]
    entries += [(f"▁{word}", -4.0) for word in sorted(known) if len(word) > 1]
    entries += [("▁a", -5.0), ("▁A", -5.0)]
    entries += [(character, -3.0 if character in ",." else -12.0) for character in characters]
    return entries + [(syllable, -8.0) for syllable in SYLLABLES]


def make_text_encoder(vocabulary: int) -> Qwen3Model:
    """A one-layer Qwen3 with random weights, never trained: it only has to tell words apart, which
    random states do."""
    torch.manual_seed(SEED + 1)
    config = Qwen3Config(
        vocab_size=vocabulary,
        hidden_size=WIDTH,
        intermediate_size=256,
        num_hidden_layers=1,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,
        max_position_embeddings=2048,
        initializer_range=0.05,
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=None,
    )
    model = Qwen3Model(config).eval().requires_grad_(False)
    return model.to(torch.bfloat16).float()  # rounded once, as stored


def make_conditioner(vocabulary: int) -> AnimaTextConditioner:
    torch.manual_seed(SEED + 2)
    conditioner = AnimaTextConditioner(
        source_dim=WIDTH,
        target_dim=WIDTH,
        model_dim=WIDTH,
        num_layers=1,
        num_attention_heads=4,
        target_vocab_size=vocabulary,
        min_sequence_length=ROWS,
    )
    torch.nn.init.normal_(conditioner.embed.weight, std=0.5)
    return conditioner


class TextSide:
    """Tokenizers and encoder in one place: captions → what the trained conditioner needs."""

    def __init__(self, folder: Path) -> None:
        self.qwen = Qwen2Tokenizer.from_pretrained(folder / "tokenizer")
        self.t5 = T5TokenizerFast.from_pretrained(folder / "t5_tokenizer")
        self.encoder = make_text_encoder(len(self.qwen))

    def tokenize(self, captions: list[str]) -> tuple[list[list[int]], list[list[int]]]:
        """Qwen ids without special tokens and T5 ids ending in </s>."""
        return self.qwen(captions).input_ids, self.t5(captions).input_ids

    @torch.no_grad()
    def inputs(self, captions: list[str], length: int | None = None) -> dict[str, Tensor]:
        """Conditioner inputs; "" gives one masked Qwen token, as in diffusers.

        With `length` both sides are padded to it and longer captions become "".
        """
        qwen_ids, t5_ids = self.tokenize(captions)
        if length:
            short = [max(len(q), len(t)) <= length for q, t in zip(qwen_ids, t5_ids, strict=True)]
            qwen_ids = [ids if fits else [] for ids, fits in zip(qwen_ids, short, strict=True)]
            t5_ids = [
                ids if fits else [self.t5.eos_token_id]
                for ids, fits in zip(t5_ids, short, strict=True)
            ]
        qwen, qwen_mask = _pad(qwen_ids, 0, length)
        t5, t5_mask = _pad(t5_ids, self.t5.pad_token_id, length)
        with torch.autocast("cpu", torch.bfloat16, enabled=length is not None):
            states = self.encoder(
                input_ids=qwen, attention_mask=qwen_mask
            ).last_hidden_state.float()
        return {
            "source_hidden_states": states * qwen_mask.unsqueeze(-1),
            "target_input_ids": t5,
            "target_attention_mask": t5_mask,
            "source_attention_mask": qwen_mask,
        }


def _pad(ids: list[list[int]], value: int, length: int | None) -> tuple[Tensor, Tensor]:
    length = length or max(max(map(len, ids)), 1)
    out = np.full((len(ids), length), value)
    mask = np.zeros((len(ids), length), np.int64)
    for row, sequence in enumerate(ids):
        out[row, : len(sequence)], mask[row, : len(sequence)] = sequence, 1
    return torch.from_numpy(out), torch.from_numpy(mask)


def condition(
    conditioner: AnimaTextConditioner, inputs: dict[str, Tensor]
) -> tuple[Tensor, Tensor]:
    """Text rows [B,S+1,128] and additive attention bias [B,S+1]: exactly the 512 unmasked rows,
    zero rows collapsed."""
    mask = inputs["target_attention_mask"]
    length = mask.shape[1]
    rows = conditioner(**inputs)[:, : length + 1]
    zeros = ROWS - mask.sum(1, keepdim=True)
    bias = torch.where(mask.bool(), 0.0, -math.inf)
    return rows, torch.cat([bias, zeros.float().log()], dim=1)
