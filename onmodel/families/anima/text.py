"""Captions to Anima's text: Qwen3 states and T5 token ids through the text conditioner, and the
collapse of zero rows.

The transformer attends to at least 512 rows without a mask, more for a longer caption, so the zero
rows behind a caption act as sinks and must count. A zero row has zero keys and values (there are no
biases), hence any number of them equals fewer with a bias of log(count) on their scores: exact, and
the sequence is as short as the longest caption.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Self

import torch
from torch import Tensor

from onmodel.families.anima.parts import Parts
from onmodel.families.protocol import Text
from onmodel.families.settings import EmptyText
from onmodel.prompt_syntax import Segment, segments

ZERO_PLACES = 2  # that stand for the zero rows behind a caption


@dataclass(frozen=True, slots=True)
class AnimaText:
    """An encoded caption: its non-zero rows [n, D] and how many zero rows the base would attend to
    after them."""

    rows_sd: Tensor
    zero_rows: int

    def to(self, device: torch.device | str) -> Self:
        return type(self)(self.rows_sd.to(device), self.zero_rows)

    def tensors(self) -> dict[str, Tensor]:
        return {"rows": self.rows_sd, "zero_rows": torch.tensor(self.zero_rows)}


@dataclass(frozen=True, slots=True)
class UnfinishedText:
    """A caption before the components that are trained: Qwen3's token ids [s], or the states [s, D]
    that the text encoder gives for them; T5's token ids [n], and the weights of their rows [n],
    none where all are 1."""

    source: Tensor
    t5_ids: Tensor
    weights: Tensor

    def to(self, device: torch.device | str) -> Self:
        return type(self)(self.source.to(device), self.t5_ids.to(device), self.weights.to(device))

    def tensors(self) -> dict[str, Tensor]:
        return {"source": self.source, "t5_ids": self.t5_ids, "weights": self.weights}

    def encoded(self, text_encoder: Any) -> Self:
        """The text with the encoder's states of its tokens."""
        if len(self.source):
            states = text_encoder(self.source.unsqueeze(0)).last_hidden_state[0]
        else:
            states = torch.empty(0, text_encoder.config.hidden_size).to(
                self.source.device, text_encoder.dtype
            )
        return replace(self, source=states)

    def conditioned(self, conditioner: Any) -> AnimaText:
        """The text that the transformer reads, from the encoder's states."""
        states_bsd, seen = self.source.unsqueeze(0), None
        if not len(self.source):  # one masked zero state stands for it
            states_bsd = self.source.new_zeros(1, 1, self.source.shape[1])
            seen = torch.zeros(1, 1, device=self.source.device)
        rows_bsd = conditioner(states_bsd, self.t5_ids.unsqueeze(0), source_attention_mask=seen)
        rows = len(self.t5_ids)
        rows_sd = rows_bsd[0, :rows].clone()
        if len(self.weights):
            rows_sd = rows_sd * self.weights.to(rows_sd).unsqueeze(1)
        return AnimaText(rows_sd, rows_bsd.shape[1] - rows)


def read_text(tensors: Mapping[str, Tensor]) -> AnimaText | UnfinishedText:
    """The reverse of their `tensors()`."""
    if "rows" in tensors:
        return AnimaText(tensors["rows"], int(tensors["zero_rows"]))
    return UnfinishedText(tensors["source"], tensors["t5_ids"], tensors["weights"])


class TextEncoder:
    """Encodes captions one at a time, so that a caption's text never depends on its neighbours, and
    remembers them."""

    def __init__(self, parts: Parts) -> None:
        self.tokenizer, self.t5_tokenizer = parts.tokenizer, parts.t5_tokenizer
        self._parts = parts
        self._known: dict[tuple[tuple[Segment, ...], EmptyText], AnimaText | UnfinishedText] = {}
        self._changed = 0  # contexts of `changed`
        self._trained: frozenset[str] = frozenset()

    def encode(self, captions: Sequence[str]) -> list[AnimaText | UnfinishedText]:
        return [self._remembered((Segment(caption),), "diffusers") for caption in captions]

    def encode_prompts(
        self, prompts: Sequence[str], empty_text: EmptyText = "diffusers"
    ) -> list[AnimaText | UnfinishedText]:
        """As ComfyUI does for Anima: the segments of a prompt are tokenised apart, and a weight
        multiplies the rows that the text conditioner gives for the T5 tokens of its segment.

        Without a Qwen token the text encoder does not run, and the conditioner reads nothing, as in
        AnimaModularPipeline and sd-scripts; for "comfyui" it reads the padding token.
        """
        return [self._remembered(tuple(segments(prompt)), empty_text) for prompt in prompts]

    def _remembered(
        self, caption: tuple[Segment, ...], empty_text: EmptyText
    ) -> AnimaText | UnfinishedText:
        key = caption, empty_text
        if key not in self._known:
            self._known[key] = self._encode(caption, empty_text)
        return self._known[key]

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
        """Within the context these components are trained: captions are encoded as far as the
        others in front of them go."""
        outer, self._trained = self._trained, frozenset(trained)
        known, self._known = self._known, {} if trained else self._known
        try:
            yield
        finally:
            self._known, self._trained = known, outer

    def release(self) -> None:
        """Drop the weights, unless they are changed now: what is read again is as it was. What a
        training step computes stays too."""
        if not self._changed and "text_encoder" not in self._trained:
            self._parts.text_encoder.release()
        if not self._changed and not self._trained:
            self._parts.text_conditioner.release()

    # Not under a caller's inference mode: its tensors could not be used in training afterwards.
    @torch.inference_mode(False)
    @torch.no_grad()
    def _encode(
        self, caption: tuple[Segment, ...], empty_text: EmptyText
    ) -> AnimaText | UnfinishedText:
        ids, _ = self._tokens(self.tokenizer, caption)
        t5_ids, weights = self._tokens(self.t5_tokenizer, caption)
        if not ids and empty_text == "comfyui":
            ids = [self.tokenizer.pad_token_id]
        text = UnfinishedText(
            torch.tensor(ids, dtype=torch.long),
            torch.tensor(t5_ids),
            torch.tensor(weights if any(weight != 1.0 for weight in weights) else []),
        )
        if "text_encoder" in self._trained:
            return text
        text_encoder = self._parts.text_encoder.model
        text = text.to(text_encoder.device).encoded(text_encoder)
        return text if self._trained else text.conditioned(self._parts.text_conditioner.model)

    def losses(self, caption: str) -> list[str]:
        """What is not read of a caption: letters that the T5 tokenizer does not know."""
        lines = []
        unknown = self.t5_tokenizer.unk_token_id
        if unknown in self.t5_tokenizer(caption, verbose=False).input_ids:
            letters = sorted({c for c in caption if unknown in self.t5_tokenizer(c).input_ids})
            lines.append(f"the T5 tokenizer does not know {' '.join(letters)}")
        return lines

    @staticmethod
    def _tokens(tokenizer: Any, caption: tuple[Segment, ...]) -> tuple[list[int], list[float]]:
        """Token ids and their weights, however many: only padding has a length, as in ComfyUI. T5
        ends a caption with a token of its own, which has weight 1."""
        end: list[int] = tokenizer("").input_ids
        ids: list[int] = []
        weights: list[float] = []
        for segment in caption:
            own = tokenizer(segment.text, truncation=False, verbose=False).input_ids
            ids += own[: len(own) - len(end)]
            weights += [segment.weight] * (len(own) - len(end))
        return ids + end, weights + [1.0] * len(end)


def stack(texts: Sequence[Text], dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Texts as one batch in `dtype`: rows [B, S, D] and the bias [B, S] on their attention scores.

    S is the longest caption and two places; what a shorter text leaves free are more places for its
    zero rows.
    """
    own = [text for text in texts if isinstance(text, AnimaText)]
    assert len(own) == len(texts), "texts of another family"
    length = max(len(text.rows_sd) + ZERO_PLACES * (text.zero_rows > 0) for text in own)
    first = own[0].rows_sd
    rows_bsd = first.new_zeros(len(own), length, first.shape[1], dtype=dtype)
    bias_bs = first.new_zeros(len(own), length, dtype=dtype)
    for place, text in enumerate(own):
        count = len(text.rows_sd)
        rows_bsd[place, :count] = text.rows_sd
        bias_bs[place, count:] = _sink_bias(text.zero_rows, length - count, dtype)
    return rows_bsd, bias_bs


def _sink_bias(zero_rows: int, places: int, dtype: torch.dtype) -> Tensor:
    """Biases of the places that stand for so many zero rows: their exponentials sum to `zero_rows`;
    −∞ for none.

    One bias of log(count) is up to 1.6 % off in bfloat16. So the first place takes the rounded
    logarithm of most of them, and the others share what that leaves.
    """
    bias = torch.full((places,), 0.98 * zero_rows, dtype=torch.float64).log().to(dtype)
    left = zero_rows - bias[:1].double().exp()
    bias[1:] = (left / max(places - 1, 1)).log()
    return bias
