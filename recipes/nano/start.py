"""The start of a training: vectors, gates and heads laid out so that copying already works."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor

from recipes.nano import vectors
from recipes.nano.model import Attention, Config, Embedding, Experts, Layer, Nano, ShortConv


@dataclass(frozen=True, slots=True)
class Layout:
    """What the dimensions of the stream begin as: a constant, a token's form, its word, and the word before it."""

    hidden_size: int

    @property
    def form(self) -> slice:
        return slice(1, 4)

    @property
    def words(self) -> int:
        return (self.hidden_size - 4) // 2

    @property
    def word(self) -> slice:
        return slice(4, 4 + self.words)

    @property
    def previous(self) -> slice:
        return slice(4 + self.words, 4 + 2 * self.words)


def start_embedding(embedding: Embedding, pieces: list[str], layout: Layout, g: torch.Generator) -> None:
    """Words of like meaning begin near one another, as far as `vectors` knows them; else those of one stem do."""
    width = layout.words
    words = [_word(piece) for piece in pieces]
    stems = [_stem(word, set(words)) for word in words]
    first = {word: index for index, word in reversed([*enumerate(words)])}

    def of(names: list[str]) -> Tensor:
        order = {name: index for index, name in enumerate(dict.fromkeys(names))}
        return torch.randn(len(order), width, generator=g)[torch.tensor([order[name] for name in names])]

    meant = of(stems)
    known = vectors.load()
    for index, word in enumerate(words):
        if word in known:
            meant[index] = torch.from_numpy(known[word][:width])
    meant *= width**0.5 / meant.norm(dim=1, keepdim=True)
    embedding.word_of.copy_(torch.tensor([first[word] for word in words]))
    embedding.form_of.copy_(torch.tensor([_form(piece) for piece in pieces]))
    embedding.words[:, layout.word] = 0.48 * (0.7 * meant + 0.7 * of(words))
    for spaced, case in product(range(2), range(3)):
        signs = torch.tensor([2.0 * spaced - 1, 2.0 * (case == 1) - 1, 2.0 * (case == 2) - 1])
        embedding.forms[1 + spaced + 2 * case, layout.form] = 1.5 * signs


def _word(piece: str) -> str:
    """Lower-case, without the space before it; what is no word in one of the usual cases stays as it is."""
    return piece.removeprefix("Ġ").lower() if _form(piece) else piece


def _form(piece: str) -> int:
    """0 where the piece is no word, else 1 + 1 after a space + 0, 2 or 4 for "word", "Word" and "WORD"."""
    word = piece.removeprefix("Ġ")
    if not (word.isalpha() and word.isascii()):
        return 0
    cases = [word.islower(), word == word.capitalize(), word.isupper()]
    return 1 + (word != piece) + 2 * cases.index(True) if any(cases) else 0


def _stem(word: str, known: set[str]) -> str:
    for ending in ("ing", "ed", "es", "s", "er", "ly", "e"):
        short = word.removesuffix(ending)
        if len(short) > 2 and short != word and (short in known or short + "e" in known):
            return short
    return word


@torch.no_grad()
def initialise(model: Nano, seed: int, pieces: list[str]) -> None:
    """A start in which copying already works, so that training need not find it.

    The stream's scale is about one, so that a step of the optimiser is small beside it, and the output projections are
    small beside it too, so that their noise does not drown the copy before the head (an embedding of 0.06 lost it both
    ways).

    The embedding has four parts (`Layout`): a constant, which opens the convolutions' gates, the token's form, its
    word, and an empty half that layer 0's convolution fills with the previous word. In the first attention layer one
    query head of each key-value head then finds where the present word stood before and reads which word followed it:
    an induction head, blind to forms.
    """
    c, g, layout = model.config, torch.Generator().manual_seed(seed), Layout(model.config.hidden_size)
    for parameter in model.parameters():
        if parameter.dim() > 1:
            parameter.copy_(torch.randn(parameter.shape, generator=g) * parameter.shape[-1] ** -0.5)
    for part in model.embedding.parameters():
        part.zero_()
    model.embedding.words[:, 0] = 4.0
    start_embedding(model.embedding, pieces, layout, g)
    model.embedding_norm.weight.fill_(0.125)
    for layer in model.blocks():
        _start_layer(layer, c)
    operators = [layer.operator for layer in model.blocks()]
    _carry_previous(next(o for o in operators if isinstance(o, ShortConv)), layout.word, layout.previous)
    _start_induction(next(o for o in operators if isinstance(o, Attention)), layout, g)


def _start_layer(layer: Layer, c: Config) -> None:
    """Small outputs; gates near one through the constant dimension; taps that pass the current token."""
    small = 0.16 / len(c.layer_types) ** 0.5
    operator, mlp = layer.operator, layer.feed_forward
    operator.out_proj.mul_(small)
    mlp.w2.mul_(small)
    if isinstance(mlp, Experts):
        mlp.gate.mul_(0.5)
    if isinstance(operator, Attention):  # sharp enough to pick one key of a thousand
        operator.q_layernorm.weight.fill_(2.0)
        operator.k_layernorm.weight.fill_(2.0)
    if isinstance(operator, ShortConv):
        operator.in_proj[: 2 * c.hidden_size].mul_(0.3)
        operator.in_proj[: 2 * c.hidden_size, 0] = 0.09
        operator.taps.mul_(0.2)
        operator.taps[:, -1] += 1.0


def _carry_previous(conv: ShortConv, identity: slice, previous: slice) -> None:
    width = conv.out_proj.shape[0]
    count = previous.stop - previous.start
    value = conv.in_proj[2 * width :]
    value[:count] = 0
    value[torch.arange(count), identity.start + torch.arange(count)] = 1.0
    conv.taps[:count] = torch.tensor([0.0, 1.0, 0.0])
    conv.out_proj[:, :count] = 0
    conv.out_proj[previous.start + torch.arange(count), torch.arange(count)] = 0.48


def _start_induction(attention: Attention, layout: Layout, g: torch.Generator) -> None:
    """Matching uses only the slow half of RoPE's pairs, which a distance of a thousand hardly turns.

    The form is copied with the word, for most copies keep it, and stronger, for the present token's is there, too.
    """
    d = attention.head_dim
    slow = torch.cat([torch.arange(d // 4, d // 2), torch.arange(3 * d // 4, d)])
    groups = attention.heads // attention.kv_heads
    copied = torch.arange(layout.form.start, layout.word.stop)
    gain = torch.where(copied < layout.word.start, 2.4, 1.2)
    attention.v_proj.zero_()
    for kv in range(attention.kv_heads):
        look = torch.randn(len(slow), layout.words, generator=g) * layout.words**-0.5
        query, key = attention.q_proj[kv * groups * d :][:d], attention.k_proj[kv * d :][:d]
        query.zero_()
        key.zero_()
        query[slow, layout.word] = look
        key[slow, layout.previous] = look
        part = torch.arange(kv * d, min((kv + 1) * d, len(copied)))
        attention.v_proj[part, copied[part]] = 1.0
        out = attention.out_proj[:, kv * groups * d :][:, :d]
        out.zero_()
        out[copied[part], part - kv * d] = gain[part]
