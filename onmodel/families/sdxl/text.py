"""Captions to SDXL's text: the states of both CLIP text encoders side by side, in chunks of 77
tokens, and the second encoder's pooled projection of the first chunk.

A longer caption is cut into chunks of 75 tokens, each between CLIP's first and last mark, as
ComfyUI, A1111 and sd-scripts do. Where captions of a batch differ in length, the U-Net does not see
the rows that the shorter ones lack, so a caption's text never depends on its neighbours.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor

from onmodel.families.parts import LazyPart
from onmodel.families.protocol import Text
from onmodel.families.settings import EmptyText
from onmodel.prompt_syntax import Segment, segments

CHUNK = 75  # tokens of a caption in one pass of a text encoder
ENCODERS = ("text_encoder", "text_encoder_2")


@dataclass(frozen=True, slots=True)
class SdxlText:
    """An encoded caption: rows [chunks · 77, D] and the pooled projection [P]."""

    rows_sd: Tensor
    pooled: Tensor

    def to(self, device: torch.device | str) -> Self:
        return type(self)(self.rows_sd.to(device), self.pooled.to(device))

    def tensors(self) -> dict[str, Tensor]:
        return {"rows": self.rows_sd, "pooled": self.pooled}


@dataclass(frozen=True, slots=True)
class SdxlTokens:
    """A caption before the text encoders, where they are trained: the token ids of each
    [chunks, 77], and the weights of their rows [chunks, 77], none where all are 1."""

    ids: tuple[Tensor, Tensor]
    weights: tuple[Tensor, Tensor]

    def to(self, device: torch.device | str) -> Self:
        first, second = (tensor.to(device) for tensor in self.ids)
        return type(self)((first, second), self.weights)

    def tensors(self) -> dict[str, Tensor]:
        first, second = self.weights
        return {
            "ids": self.ids[0],
            "ids_2": self.ids[1],
            "weights": first,
            "weights_2": second,
        }

    def encoded(self, encoders: Sequence[Any], skip: int) -> SdxlText:
        """The text by both encoders, whose states of the layer `skip` from the end are read."""
        sides, pooled = [], torch.empty(0)
        for model, ids, weights in zip(encoders, self.ids, self.weights, strict=True):
            out = model(ids.to(model.device), output_hidden_states=True)
            rows_csd = out.hidden_states[-skip]
            if len(weights):  # the last chunk is the empty prompt
                empty_sd = rows_csd[-1]
                scale = weights.to(rows_csd).unsqueeze(2)
                rows_csd = empty_sd + (rows_csd[:-1] - empty_sd) * scale
            sides.append(rows_csd.flatten(0, 1))
            if model is encoders[-1]:
                pooled = out.text_embeds[0].clone()
        return SdxlText(torch.cat(sides, dim=1), pooled)


def read_text(tensors: Mapping[str, Tensor]) -> SdxlText | SdxlTokens:
    """The reverse of their `tensors()`."""
    if "rows" in tensors:
        return SdxlText(tensors["rows"], tensors["pooled"])
    ids = tensors["ids"], tensors["ids_2"]
    return SdxlTokens(ids, (tensors["weights"], tensors["weights_2"]))


class ClipEncoder:
    """Encodes captions one at a time and remembers them. `skip` is A1111's clip skip: the states
    of the layer so far from the end are read, 2 for SDXL."""

    def __init__(
        self, encoders: Mapping[str, LazyPart], tokenizers: Sequence[Any], skip: int
    ) -> None:
        self._encoders = [encoders[name] for name in ENCODERS]
        self.tokenizers, self._skip = tuple(tokenizers), skip
        self._known: dict[tuple[Segment, ...], SdxlText | SdxlTokens] = {}
        self._changed = 0  # contexts of `changed`
        self._trained: frozenset[str] = frozenset()

    def encode(self, captions: Sequence[str]) -> list[SdxlText | SdxlTokens]:
        return [self._remembered((Segment(caption),)) for caption in captions]

    def encode_prompts(
        self, prompts: Sequence[str], empty_text: EmptyText = "diffusers"
    ) -> list[SdxlText | SdxlTokens]:
        """As ComfyUI does for SDXL: a weight multiplies how far the rows of its tokens are from
        those of an empty prompt. An empty prompt is encoded like any other everywhere."""
        return [self._remembered(tuple(segments(prompt))) for prompt in prompts]

    def _remembered(self, caption: tuple[Segment, ...]) -> SdxlText | SdxlTokens:
        if caption not in self._known:
            self._known[caption] = self._encode(caption)
        return self._known[caption]

    @contextmanager
    def changed(self) -> Iterator[None]:
        """Within the context captions are encoded again, and what it remembers is dropped after
        it."""
        known, self._known = self._known, {}
        self._changed += 1
        try:
            yield
        finally:
            self._known = known
            self._changed -= 1

    @contextmanager
    def training(self, trained: Collection[str]) -> Iterator[None]:
        """Within the context these components are trained: captions are cut into tokens alone, for
        both encoders read the same caption."""
        outer, self._trained = self._trained, frozenset(trained)
        known, self._known = self._known, {} if trained else self._known
        try:
            yield
        finally:
            self._known, self._trained = known, outer

    def release(self) -> None:
        """Drop the weights, unless they are changed or trained now."""
        if not self._changed and not self._trained:
            for part in self._encoders:
                part.release()

    def losses(self, caption: str) -> list[str]:
        """Nothing: every byte is a token, and a long caption has more chunks."""
        return []

    # Not under a caller's inference mode: its tensors could not be used in training afterwards.
    @torch.inference_mode(False)
    @torch.no_grad()
    def _encode(self, caption: tuple[Segment, ...]) -> SdxlText | SdxlTokens:
        first, second = (_tokens(one, caption) for one in self.tokenizers)
        text = SdxlTokens((first[0], second[0]), (first[1], second[1]))
        if self._trained:
            return text
        return text.encoded([part.model for part in self._encoders], self._skip)


def _tokens(tokenizer: Any, caption: tuple[Segment, ...]) -> tuple[Tensor, Tensor]:
    """The token ids of a caption in chunks [chunks, 77], at least one, and the weight of every
    row, 1 for marks and padding. Without weights none; with them an empty prompt is the last of the
    chunks."""
    ids: list[int] = []
    weights: list[float] = []
    for segment in caption:
        own = tokenizer(segment.text, truncation=False, verbose=False).input_ids[1:-1]
        ids += own
        weights += [segment.weight] * len(own)
    chunks = [ids[start : start + CHUNK] for start in range(0, max(len(ids), 1), CHUNK)]
    rows = torch.empty(0)
    if any(weight != 1.0 for weight in weights):
        rows = torch.ones(len(chunks), CHUNK + 2)
        for place, weight in enumerate(weights):
            rows[place // CHUNK, 1 + place % CHUNK] = weight
        chunks.append([])
    first, last, pad = tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id
    found = [[first, *own, last, *[pad] * (CHUNK - len(own))] for own in chunks]
    return torch.tensor(found, dtype=torch.long), rows


def stack(texts: Sequence[Text], dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor | None]:
    """Texts as one batch in `dtype`: rows [B, S, D], pooled [B, P], and which rows there are
    [B, S]; None where all are equally long."""
    own = [text for text in texts if isinstance(text, SdxlText)]
    assert len(own) == len(texts), "texts of another family"
    length = max(len(text.rows_sd) for text in own)
    pooled = torch.stack([text.pooled for text in own]).to(dtype)
    if all(len(text.rows_sd) == length for text in own):
        return torch.stack([text.rows_sd for text in own]).to(dtype), pooled, None
    first = own[0].rows_sd
    rows_bsd = first.new_zeros(len(own), length, first.shape[1], dtype=dtype)
    there_bs = torch.zeros(len(own), length, dtype=torch.bool, device=first.device)
    for place, text in enumerate(own):
        rows_bsd[place, : len(text.rows_sd)] = text.rows_sd.to(dtype)
        there_bs[place, : len(text.rows_sd)] = True
    return rows_bsd, pooled, there_bs
