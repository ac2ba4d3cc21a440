"""The training module: LFM2-MoE as `Lfm2MoeForCausalLM` computes it, over one prefix and many dialogues that follow it.

A step's tokens lie flat, the prefix first, without the padding of shorter dialogues: [T, hidden]. Whatever looks at one
token alone (norms, projections, experts) sees one long matrix; only the convolution and the attention know that N
dialogues continue one prefix. Lengths are rounded up, for oneDNN compiles each product for its shape: with every step's
own lengths that took longer than the products.
"""

# ruff: noqa: E501 (a wording stands on one line)

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import cache, wraps
from itertools import product
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 (its common name)
from torch import Tensor, nn

from recipes.nano import vectors


@dataclass(frozen=True, slots=True)
class Config:
    """Widths divide by 32, so that every matrix can be stored in Q8_0."""

    vocab_size: int = 16384
    hidden_size: int = 256
    intermediate_size: int = 384
    moe_intermediate_size: int = 96
    layer_types: tuple[str, ...] = (
        "conv",
        "conv",
        "full_attention",
        "conv",
        "full_attention",
        "full_attention",
        "conv",
        "full_attention",
    )
    num_dense_layers: int = 1
    num_attention_heads: int = 8
    num_key_value_heads: int = 4
    num_experts: int = 8
    num_experts_per_tok: int = 2
    conv_L_cache: int = 3  # noqa: N815 (the name in config.json)
    norm_eps: float = 1e-5
    rope_theta: float = 1e6
    max_position_embeddings: int = 4096

    @property
    def head_dim(self) -> int:
        return self.hidden_size // self.num_attention_heads

    def to_hf(self) -> dict[str, Any]:
        """config.json."""
        return {
            "architectures": ["Lfm2MoeForCausalLM"], "model_type": "lfm2_moe", **asdict(self), "layer_types": list(self.layer_types),
            "num_hidden_layers": len(self.layer_types), "conv_bias": False, "norm_topk_prob": True, "use_expert_bias": True,
            "routed_scaling_factor": 1.0, "tie_word_embeddings": True, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 7,
            "dtype": "float32",
        }  # fmt: skip


MINIATURE = Config(
    vocab_size=2048, hidden_size=64, intermediate_size=96, moe_intermediate_size=32,
    layer_types=("conv", "full_attention"), num_attention_heads=4, num_key_value_heads=2, num_experts=4,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Batch:
    """One prefix [P] and the dialogues after it [N, L], filled up with PAD at their ends; they stand at P + gap and on."""

    prefix: Tensor
    dialogues: Tensor
    gap: int = 0

    def to(self, device: str) -> Batch:
        return Batch(self.prefix.to(device), self.dialogues.to(device), self.gap)

    @property
    def real(self) -> Tensor:
        """Places [R] in the flattened dialogues that hold a token."""
        return self.dialogues.flatten().nonzero()[:, 0]


@dataclass(frozen=True, slots=True)
class Shape:
    """What the convolution and the attention need to know of a batch whose T flat tokens are prefix, dialogues, filling."""

    prefix: int
    count: int
    length: int
    tokens: int
    real: Tensor
    rope: tuple[Tensor, Tensor]
    prefix_mask: Tensor
    past_mask: Tensor
    mask: Tensor

    def apart(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """[T, ...] -> the prefix's [P, ...] and the dialogues' [N, L, ...], 0 where they are filled up."""
        rows = spread(x[self.prefix : self.prefix + len(self.real)], self.real, self.count * self.length)
        return x[: self.prefix], rows.view(self.count, self.length, *x.shape[1:])

    def together(self, prefix: Tensor, dialogues: Tensor) -> Tensor:
        """The reverse, from [P, width] and [N * L, width]."""
        rows = pick(dialogues, self.real)
        filling = prefix.new_zeros(self.tokens - len(prefix) - len(rows), prefix.shape[1])
        return torch.cat([prefix, rows, filling])


class _Spread(torch.autograd.Function):
    """Rows put at given places of a longer matrix of zeros. Its gradient picks them again, which autograd's own
    indexing, made for places that may repeat, does many times more slowly."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, places: Tensor, length: int) -> Tensor:
        ctx.save_for_backward(places)
        return rows.new_zeros(length, *rows.shape[1:]).index_copy_(0, places, rows)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return gradient.index_select(0, ctx.saved_tensors[0]), None, None


def spread(rows: Tensor, places: Tensor, length: int) -> Tensor:
    """A matrix of `length` rows with `rows` at `places`, none of which occurs twice, and zeros elsewhere."""
    whole: Tensor = _Spread.apply(rows, places, length)
    return whole


class _Pick(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, places: Tensor) -> Tensor:
        ctx.save_for_backward(places)
        ctx.length = len(rows)
        return rows.index_select(0, places)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        whole = gradient.new_zeros(ctx.length, *gradient.shape[1:])
        return whole.index_copy_(0, ctx.saved_tensors[0], gradient), None


def pick(rows: Tensor, places: Tensor) -> Tensor:
    """The rows [len(places), ...] at `places`, none of which occurs twice."""
    picked: Tensor = _Pick.apply(rows, places)
    return picked


class _Deal(torch.autograd.Function):
    """Each token's row [T, hidden] at its `slots` [T, k] among the experts' rows [E * capacity, hidden]."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, slots: Tensor, capacity: int) -> Tensor:
        ctx.save_for_backward(slots)
        token_of = slots.new_zeros(capacity)
        token_of[slots] = torch.arange(len(slots), device=slots.device)[:, None]
        return x.index_select(0, token_of)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (slots,) = ctx.saved_tensors
        return gradient.index_select(0, slots.flatten()).view(*slots.shape, -1).sum(1), None, None


def up_to(number: int, multiple: int) -> int:
    return -(-number // multiple) * multiple


_compiling = False


def compile_steps() -> None:
    """From here on, what is `fused` is compiled when it is first called, which takes a minute in all."""
    global _compiling
    _compiling = True


def fused(function: Callable[..., Any]) -> Callable[..., Any]:
    """Steps that touch each number once or twice are bound by memory: compiled, a chain of them is one pass."""
    compiled = cache(lambda: torch.compile(function, dynamic=True))
    return wraps(function)(lambda *arguments: (compiled() if _compiling else function)(*arguments))


def linear(x: Tensor, weight: Tensor) -> Tensor:
    """float32 master weights, used in the activations' type."""
    return F.linear(x, weight.to(x.dtype))


class Norm(nn.Module):
    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        normed: Tensor = normalise(x, self.weight, self.eps)
        return normed


@fused
def normalise(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    return F.rms_norm(x, weight.shape, weight.to(x.dtype), eps)


def matrix(rows: int, columns: int) -> nn.Parameter:
    return nn.Parameter(torch.empty(rows, columns))


class ShortConv(nn.Module):
    def __init__(self, c: Config) -> None:
        super().__init__()
        self.in_proj = matrix(3 * c.hidden_size, c.hidden_size)
        self.taps = matrix(c.hidden_size, c.conv_L_cache)
        self.out_proj = matrix(c.hidden_size, c.hidden_size)

    def forward(self, x: Tensor, shape: Shape) -> Tensor:
        before, after, value = linear(x, self.in_proj).chunk(3, dim=-1)
        prefix, dialogues = shape.apart(before * value)
        past = self.taps.shape[1] - 1
        prefix = F.pad(prefix, (0, 0, past, 0))
        state = prefix[-past:].expand(shape.count, past, -1)
        following = convolve(torch.cat([state, dialogues], dim=1), self.taps)
        mixed = shape.together(convolve(prefix, self.taps), following.flatten(0, 1))
        return linear(after * mixed, self.out_proj)


@fused
def convolve(x: Tensor, taps: Tensor) -> Tensor:
    """[..., past + T, hidden] -> [..., T, hidden]; the last tap is the current token's."""
    taps = taps.to(x.dtype)
    length = x.shape[-2] - taps.shape[1] + 1
    return sum(x[..., k : k + length, :] * taps[:, k] for k in range(taps.shape[1]))  # type: ignore[return-value]


class Attention(nn.Module):
    def __init__(self, c: Config) -> None:
        super().__init__()
        self.heads, self.kv_heads, self.head_dim = c.num_attention_heads, c.num_key_value_heads, c.head_dim
        self.q_proj = matrix(self.heads * c.head_dim, c.hidden_size)
        self.k_proj = matrix(self.kv_heads * c.head_dim, c.hidden_size)
        self.v_proj = matrix(self.kv_heads * c.head_dim, c.hidden_size)
        self.out_proj = matrix(c.hidden_size, self.heads * c.head_dim)
        self.q_layernorm, self.k_layernorm = Norm(c.head_dim, c.norm_eps), Norm(c.head_dim, c.norm_eps)

    def forward(self, x: Tensor, shape: Shape) -> Tensor:
        q, k, v = (linear(x, w).view(len(x), -1, self.head_dim) for w in (self.q_proj, self.k_proj, self.v_proj))
        q = turned(q, self.q_layernorm.weight * self.head_dim**-0.5, self.q_layernorm.eps, *shape.rope)
        k = turned(k, self.k_layernorm.weight, self.k_layernorm.eps, *shape.rope)
        q = q.view(len(x), self.kv_heads, -1, self.head_dim)
        (before_q, q), (before_k, k), (before_v, v) = (shape.apart(t) for t in (q, k, v))
        filling = len(shape.prefix_mask) - shape.prefix
        before_q = F.pad(before_q, (0, 0, 0, 0, 0, 0, 0, filling))
        before_k, before_v = (F.pad(t, (0, 0, 0, 0, 0, filling)) for t in (before_k, before_v))
        first = attend(before_q[None], before_k[None], before_v[None], shape.prefix_mask)[0, : shape.prefix]
        rest = attend(q, k, v, shape.mask, (before_k, before_v, shape.past_mask))
        return linear(shape.together(first, rest.flatten(0, 1)), self.out_proj)


def attend(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor, before: tuple[Tensor, Tensor, Tensor] | None = None
) -> Tensor:
    """Scaled queries [N, L, kv_heads, groups, d] over own keys [N, L, kv_heads, d] under `mask` and, all of them, over
    the keys of a common prefix [P, kv_heads, d] under its own [P]: one product for all dialogues. Returns [N, L, heads * d].

    Values carry a 1 behind them, so that the products sum the weights, too, which are the scores' plain exponentials:
    normed queries and keys keep those small.
    """
    count, length, heads, groups, d = q.shape
    rows = q.permute(2, 0, 3, 1, 4).reshape(heads, count, groups * length, d)
    own_k = k.permute(2, 0, 3, 1).reshape(heads * count, d, length)
    own_v = F.pad(v, (0, 1), value=1.0).permute(2, 0, 1, 3).reshape(heads * count, length, d + 1)
    weights = weighed(torch.bmm(rows.flatten(0, 1), own_k), mask.repeat(groups, 1))
    out = torch.bmm(weights, own_v).view(heads, -1, d + 1)
    if before is not None:
        prefix_k, prefix_v = before[0].permute(1, 2, 0), F.pad(before[1], (0, 1), value=1.0).transpose(0, 1)
        out = out + torch.bmm(weighed(torch.bmm(rows.flatten(1, 2), prefix_k), before[2]), prefix_v)
    out = out[..., :d] / out[..., d:]
    return out.view(heads, count, groups, length, d).permute(1, 3, 0, 2, 4).reshape(count, length, -1)


@fused
def weighed(scores: Tensor, mask: Tensor) -> Tensor:
    return (scores.float() + mask).clamp(max=80.0).exp().to(scores.dtype)


@fused
def turned(x: Tensor, weight: Tensor, eps: float, cos: Tensor, sin: Tensor) -> Tensor:
    """Norm and RoPE over halves: x is [T, heads, head_dim]."""
    low, high = F.rms_norm(x, weight.shape, weight.to(x.dtype), eps).chunk(2, dim=-1)
    return torch.cat([low * cos - high * sin, high * cos + low * sin], dim=-1)


class Dense(nn.Module):
    def __init__(self, c: Config) -> None:
        super().__init__()
        self.w1, self.w3 = (matrix(c.intermediate_size, c.hidden_size) for _ in range(2))
        self.w2 = matrix(c.hidden_size, c.intermediate_size)

    def forward(self, x: Tensor, counted: int) -> Tensor:  # noqa: ARG002 (as of Experts)
        return linear(F.silu(linear(x, self.w1)) * linear(x, self.w3), self.w2)


class Experts(nn.Module):
    """Sigmoid router whose bias only selects; each expert's tokens gathered, all experts one product of many matrices."""

    expert_bias: Tensor
    load: Tensor

    def __init__(self, c: Config) -> None:
        super().__init__()
        self.top_k = c.num_experts_per_tok
        self.gate = matrix(c.num_experts, c.hidden_size)
        self.w13 = nn.Parameter(torch.empty(c.num_experts, 2 * c.moe_intermediate_size, c.hidden_size))
        self.w2 = nn.Parameter(torch.empty(c.num_experts, c.hidden_size, c.moe_intermediate_size))
        self.register_buffer("expert_bias", torch.zeros(c.num_experts))
        self.register_buffer("load", torch.zeros(c.num_experts), persistent=False)

    def forward(self, x: Tensor, counted: int) -> Tensor:
        """The first `counted` tokens are real, and count when experts are balanced."""
        scores = F.linear(x.float(), self.gate).sigmoid()
        chosen = (scores.detach() + self.expert_bias).topk(self.top_k, dim=-1).indices
        weights = scores.gather(1, chosen)
        weights = (weights / (weights.sum(-1, keepdim=True) + 1e-6)).to(x.dtype)
        self.load += F.one_hot(chosen[:counted], len(self.gate)).sum((0, 1))
        slots, capacity = self._slots(chosen)
        gate, up = torch.bmm(
            _Deal.apply(x, slots, self.w13.shape[0] * capacity).view(-1, capacity, x.shape[1]),
            self.w13.to(x.dtype).transpose(1, 2),
        ).chunk(2, dim=-1)
        out = torch.bmm(F.silu(gate) * up, self.w2.to(x.dtype).transpose(1, 2)).flatten(0, 1)
        each = pick(out, slots.flatten()).view(*chosen.shape, -1)
        return (each * weights[..., None]).sum(1)

    def _slots(self, chosen: Tensor) -> tuple[Tensor, int]:
        """Where each token's rows [T, k] stand when every expert has room for `capacity` of them."""
        taken = F.one_hot(chosen.flatten(), len(self.gate))
        place = (taken.cumsum(0) - 1).gather(1, chosen.view(-1, 1))[:, 0]
        capacity = up_to(int(place.max()) + 1, 64)
        return (chosen.flatten() * capacity + place).view(chosen.shape), capacity

    @torch.no_grad()
    def balance(self, rate: float) -> None:
        """Aux-loss-free: a little more bias to whoever got less than its share since the last call."""
        self.expert_bias += rate * torch.sign(self.load.mean() - self.load)
        self.expert_bias -= self.expert_bias.mean()
        self.load.zero_()


class Layer(nn.Module):
    def __init__(self, c: Config, index: int) -> None:
        super().__init__()
        self.operator_norm, self.ffn_norm = Norm(c.hidden_size, c.norm_eps), Norm(c.hidden_size, c.norm_eps)
        self.operator = Attention(c) if c.layer_types[index] == "full_attention" else ShortConv(c)
        self.feed_forward = Dense(c) if index < c.num_dense_layers else Experts(c)

    def forward(self, x: Tensor, shape: Shape) -> Tensor:
        x = x + self.operator(self.operator_norm(x), shape)
        out: Tensor = x + self.feed_forward(self.ffn_norm(x), shape.prefix + len(shape.real))
        return out


class Embedding(nn.Module):
    """A token's vector while it is trained: its word's, its form's ("a space before it", "capital"), and one of its own.

    What copies "bag" into a place that wants " bag" or "Bag" has then only to choose the form: with vectors that are
    trained apart it had to learn that step for each word, and half of what went wrong in calls was just that. The sum
    is an ordinary embedding, which is what ships.
    """

    FORMS = 7

    def __init__(self, config: Config) -> None:
        super().__init__()
        size = (config.vocab_size, config.hidden_size)
        self.words, self.forms = nn.Parameter(torch.zeros(size)), nn.Parameter(torch.zeros(self.FORMS, size[1]))
        self.own = nn.Parameter(torch.zeros(size))
        self.register_buffer("word_of", torch.arange(config.vocab_size))  # the row of the first token with that word
        self.register_buffer("form_of", torch.zeros(config.vocab_size, dtype=torch.long))
        self.word_of: Tensor
        self.form_of: Tensor

    def forward(self, tokens: Tensor) -> Tensor:
        """[..., hidden]."""
        words, forms = F.embedding(self.word_of[tokens], self.words), F.embedding(self.form_of[tokens], self.forms)
        return words + forms + F.embedding(tokens, self.own)

    def table(self) -> Tensor:
        """[vocabulary, hidden]."""
        return F.embedding(self.word_of, self.words) + F.embedding(self.form_of, self.forms) + self.own


class Nano(nn.Module):
    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.embedding = Embedding(config)
        self.layers = nn.ModuleList(Layer(config, index) for index in range(len(config.layer_types)))
        self.embedding_norm = Norm(config.hidden_size, config.norm_eps)

    def forward(self, batch: Batch, dtype: torch.dtype = torch.float32) -> Tensor:
        """Final hidden states of the dialogues' real tokens [R, hidden], normed."""
        shape = self.shape_of(batch, dtype)
        said = batch.dialogues.flatten()[shape.real]
        tokens = torch.cat([batch.prefix, said])
        x = self.embedding(F.pad(tokens, (0, shape.tokens - len(tokens)))).to(dtype)
        for layer in self.blocks():
            x = layer(x, shape)
        normed: Tensor = self.embedding_norm(x[shape.prefix : len(tokens)])
        return normed

    def head(self, hidden: Tensor, table: Tensor | None = None) -> Tensor:
        """Logits; `table` is the embedding's, where it is at hand."""
        return linear(hidden, self.embedding.table() if table is None else table)

    def blocks(self) -> list[Layer]:
        return [layer for layer in self.layers if isinstance(layer, Layer)]

    def experts(self) -> Iterator[Experts]:
        return (layer.feed_forward for layer in self.blocks() if isinstance(layer.feed_forward, Experts))

    def shape_of(self, batch: Batch, dtype: torch.dtype) -> Shape:
        p, (count, length), real, c = len(batch.prefix), batch.dialogues.shape, batch.real, self.config
        device, padded = batch.prefix.device, up_to(p, 128)
        positions = torch.cat([torch.arange(p, device=device), p + batch.gap + real % length])
        positions = F.pad(positions, (0, up_to(len(positions), 256) - len(positions)))
        frequencies = 1.0 / c.rope_theta ** (torch.arange(0, c.head_dim, 2, device=device) / c.head_dim)
        angles = (positions[:, None] * frequencies)[:, None]
        rope = (angles.cos().to(dtype), angles.sin().to(dtype))
        past_mask = torch.where(torch.arange(padded, device=device) < p, 0.0, HIDDEN).to(dtype)
        masks = (causal(padded, dtype, device), past_mask, causal(length, dtype, device))
        return Shape(p, count, length, len(positions), real, rope, *masks)


HIDDEN = -3e4  # a score as good as minus infinity


def causal(length: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """0 where a position may look, else `HIDDEN`."""
    return torch.full((length, length), HIDDEN, dtype=dtype, device=device).triu(1)


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
    small beside it too, so that their noise does not drown the copy before the head (an embedding of 0.06 lost it both ways).

    The embedding has four parts (`Layout`): a constant, which opens the convolutions' gates, the token's form, its word,
    and an empty half that layer 0's convolution fills with the previous word. In the first attention layer one query head
    of each key-value head then finds where the present word stood before and reads which word followed it: an induction
    head, blind to forms.
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
