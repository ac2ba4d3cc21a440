"""The training module: LFM2-MoE as `Lfm2MoeForCausalLM` computes it, over one prefix and many dialogues that follow it.

A step's tokens lie flat, the prefix first: [P + N * L, hidden]. Whatever looks at one token alone (norms, projections,
experts) sees one long matrix; only the convolution and the attention know that N dialogues continue one prefix.
"""

# ruff: noqa: E501 (a wording stands on one line)

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 (its common name)
from torch import Tensor, nn


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
    """One prefix [P] and the dialogues after it [N, L]; dialogue tokens stand at P + gap and on."""

    prefix: Tensor
    dialogues: Tensor
    gap: int = 0

    @property
    def tokens(self) -> Tensor:
        return torch.cat([self.prefix, self.dialogues.flatten()])


@dataclass(frozen=True, slots=True)
class Shape:
    """What the convolution and the attention need to know of a batch."""

    prefix: int
    count: int
    length: int
    rope: tuple[Tensor, Tensor]
    prefix_mask: Tensor
    mask: Tensor


def linear(x: Tensor, weight: Tensor) -> Tensor:
    """float32 master weights, used in the activations' type."""
    return F.linear(x, weight.to(x.dtype))


class Norm(nn.Module):
    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, self.weight.shape, self.weight.to(x.dtype), self.eps)


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
        gated = before * value
        past = self.taps.shape[1] - 1
        prefix = F.pad(gated[: shape.prefix], (0, 0, past, 0))
        state = prefix[-past:].expand(shape.count, past, -1)
        following = torch.cat([state, gated[shape.prefix :].view(shape.count, shape.length, -1)], dim=1)
        mixed = torch.cat([self.convolve(prefix), self.convolve(following).flatten(0, 1)])
        return linear(after * mixed, self.out_proj)

    def convolve(self, x: Tensor) -> Tensor:
        """[..., past + T, hidden] -> [..., T, hidden]; the last tap is the current token's."""
        taps = self.taps.to(x.dtype)
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
        q = rotate(self.q_layernorm(linear(x, self.q_proj).view(len(x), -1, self.head_dim)), shape.rope)
        k = rotate(self.k_layernorm(linear(x, self.k_proj).view(len(x), -1, self.head_dim)), shape.rope)
        v = linear(x, self.v_proj).view(len(x), -1, self.head_dim)
        q = (q * self.head_dim**-0.5).view(len(x), self.kv_heads, -1, self.head_dim)
        p = shape.prefix
        first = attend(q[None, :p], k[None, :p], v[None, :p], shape.prefix_mask)
        own = (shape.count, shape.length)
        rest = attend(
            q[p:].view(*own, *q.shape[1:]), k[p:].view(*own, *k.shape[1:]), v[p:].view(*own, *v.shape[1:]), shape.mask,
            (k[:p], v[:p]),
        )  # fmt: skip
        return linear(torch.cat([first.flatten(0, 1), rest.flatten(0, 1)]).flatten(1), self.out_proj)


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor, before: tuple[Tensor, Tensor] | None = None) -> Tensor:
    """Scaled queries [N, L, kv_heads, groups, d] over own keys [N, L, kv_heads, d] under `mask` and, all of them,
    over the keys of a common prefix [P, kv_heads, d]: one product for all dialogues. Returns [N, L, heads * d].
    """
    count, length, heads, groups, d = q.shape
    rows = q.permute(2, 0, 3, 1, 4).reshape(heads, count, groups * length, d)
    own_k, own_v = (t.permute(2, 0, 1, 3).reshape(heads * count, length, d) for t in (k, v))
    scores = torch.baddbmm(mask.repeat(groups, 1), rows.flatten(0, 1), own_k.transpose(1, 2))
    scores = scores.view(heads, count * groups * length, length)
    if before is not None:
        prefix_k, prefix_v = (t.transpose(0, 1) for t in before)
        past = torch.bmm(rows.flatten(1, 2), prefix_k.transpose(1, 2))
        past, scores = torch.cat([past, scores], dim=-1).softmax(-1).split([past.shape[-1], length], dim=-1)
        out = torch.bmm(past, prefix_v)
    else:
        scores, out = scores.softmax(-1), None
    own = torch.bmm(scores.reshape(heads * count, groups * length, length), own_v).view(heads, -1, d)
    out = own if out is None else out + own
    return out.view(heads, count, groups, length, d).permute(1, 3, 0, 2, 4).reshape(count, length, -1)


def rotate(x: Tensor, rope: tuple[Tensor, Tensor]) -> Tensor:
    """RoPE over halves: x is [T, heads, head_dim]."""
    cos, sin = rope
    low, high = x.chunk(2, dim=-1)
    return torch.cat([low * cos - high * sin, high * cos + low * sin], dim=-1)


class Dense(nn.Module):
    def __init__(self, c: Config) -> None:
        super().__init__()
        self.w1, self.w3 = (matrix(c.intermediate_size, c.hidden_size) for _ in range(2))
        self.w2 = matrix(c.hidden_size, c.intermediate_size)

    def forward(self, x: Tensor) -> Tensor:
        return linear(F.silu(linear(x, self.w1)) * linear(x, self.w3), self.w2)


class Experts(nn.Module):
    """Sigmoid router whose bias only selects; tokens sorted by expert, each expert one matrix product."""

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

    def forward(self, x: Tensor) -> Tensor:
        scores = F.linear(x.float(), self.gate).sigmoid()
        chosen = (scores.detach() + self.expert_bias).topk(self.top_k, dim=-1).indices
        weights = scores.gather(1, chosen)
        weights = (weights / (weights.sum(-1, keepdim=True) + 1e-6)).to(x.dtype)
        order = chosen.flatten().argsort(stable=True)
        counts = chosen.flatten().bincount(minlength=len(self.gate))
        self.load += counts
        sorted_x = torch.split(x[order // self.top_k], counts.tolist())
        out = [
            linear(F.silu(h[0]) * h[1], down)
            for part, up, down in zip(sorted_x, self.w13.unbind(), self.w2.unbind(), strict=True)
            for h in [linear(part, up).chunk(2, dim=-1)]
        ]
        back = torch.empty_like(order)
        back[order] = torch.arange(len(order), device=order.device)
        each = torch.cat(out)[back].view(*chosen.shape, -1)
        return (each * weights[..., None]).sum(1)

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
        out: Tensor = x + self.feed_forward(self.ffn_norm(x))
        return out


class Embedding(nn.Module):
    """A token's vector while it is trained: its word's, its form's ("a space before it", "capital"), and one of its own.

    What copies "bag" into a place that wants " bag" or "Bag" has then only to choose the form: with vectors that are
    trained apart it had to learn that step for each word, and half of what went wrong in calls was just that. The sum
    is an ordinary embedding, which is what ships.
    """

    FORMS = 4

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
        """Final hidden states [P + N * L, hidden], normed."""
        x = self.embedding(batch.tokens).to(dtype)
        shape = self.shape_of(batch, dtype)
        for layer in self.blocks():
            x = layer(x, shape)
        normed: Tensor = self.embedding_norm(x)
        return normed

    def head(self, hidden: Tensor, table: Tensor | None = None) -> Tensor:
        """Logits; `table` is the embedding's, where it is at hand."""
        return linear(hidden, self.embedding.table() if table is None else table)

    def blocks(self) -> list[Layer]:
        return [layer for layer in self.layers if isinstance(layer, Layer)]

    def experts(self) -> Iterator[Experts]:
        return (layer.feed_forward for layer in self.blocks() if isinstance(layer.feed_forward, Experts))

    def shape_of(self, batch: Batch, dtype: torch.dtype) -> Shape:
        p, (count, length) = len(batch.prefix), batch.dialogues.shape
        device = batch.prefix.device
        own = torch.arange(p + batch.gap, p + batch.gap + length, device=device)
        positions = torch.cat([torch.arange(p, device=device), own.repeat(count)])
        c = self.config
        frequencies = 1.0 / c.rope_theta ** (torch.arange(0, c.head_dim, 2, device=device) / c.head_dim)
        angles = (positions[:, None] * frequencies)[:, None]
        rope = (angles.cos().to(dtype), angles.sin().to(dtype))
        return Shape(p, count, length, rope, causal(p, dtype, device), causal(length, dtype, device))


def causal(length: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """0 where a position may look, else as good as minus infinity."""
    return torch.full((length, length), -3e4, dtype=dtype, device=device).triu(1)


def start_embedding(embedding: Embedding, pieces: list[str], identity: slice, g: torch.Generator) -> None:
    """What a token is stands in the dimensions `identity`; forms of one word ("book", " Book", "books") begin near one
    another: a word's vector is mostly its stem's, and a token's mostly its word's.
    """
    width = identity.stop - identity.start
    words = [_word(piece) for piece in pieces]
    stems = [_stem(word, set(words)) for word in words]
    first = {word: index for index, word in reversed([*enumerate(words)])}

    def of(names: list[str]) -> Tensor:
        order = {name: index for index, name in enumerate(dict.fromkeys(names))}
        return torch.randn(len(order), width, generator=g)[torch.tensor([order[name] for name in names])]

    embedding.word_of.copy_(torch.tensor([first[word] for word in words]))
    embedding.form_of.copy_(torch.tensor([_form(piece) for piece in pieces]))
    embedding.words[:, identity] = 0.48 * (0.7 * of(stems) + 0.45 * of(words))
    embedding.own[:, identity] = 0.48 * 0.35 * torch.randn(len(pieces), width, generator=g)
    spaced, capital = 0.48 * 0.35 * torch.randn(2, width, generator=g)
    embedding.forms[:, identity] = torch.stack([torch.zeros(width), spaced, capital, spaced + capital])


def _word(piece: str) -> str:
    """Lower-case, without the space before it."""
    return piece.lower() if piece == "Ġ" else piece.lower().removeprefix("Ġ")


def _form(piece: str) -> int:
    spaced, capital = piece.startswith("Ġ") and piece != "Ġ", piece.removeprefix("Ġ")[:1].isupper()
    return spaced + 2 * capital


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

    The embedding has three parts: a constant (which opens the convolutions' gates), the token's identity, and an empty
    half that layer 0's convolution fills with the previous token. In the first attention layer one query head of each
    key-value head then finds where the present token stood before and reads what followed it: an induction head.
    """
    c, g = model.config, torch.Generator().manual_seed(seed)
    width, identity = c.hidden_size, slice(1, c.hidden_size // 2 + 1)
    previous = slice(identity.stop, width)
    for parameter in model.parameters():
        if parameter.dim() > 1:
            parameter.copy_(torch.randn(parameter.shape, generator=g) * parameter.shape[-1] ** -0.5)
    for part in model.embedding.parameters():
        part.zero_()
    model.embedding.words[:, 0] = 4.0
    start_embedding(model.embedding, pieces, identity, g)
    model.embedding_norm.weight.fill_(0.125)
    for layer in model.blocks():
        _start_layer(layer, c)
    operators = [layer.operator for layer in model.blocks()]
    _carry_previous(next(o for o in operators if isinstance(o, ShortConv)), identity, previous)
    _start_induction(next(o for o in operators if isinstance(o, Attention)), identity, previous, g)


def _start_layer(layer: Layer, c: Config) -> None:
    """Small outputs; gates near one through the constant dimension; taps that pass the current token."""
    small = 0.16 / len(c.layer_types) ** 0.5
    operator, mlp = layer.operator, layer.feed_forward
    operator.out_proj.mul_(small)
    mlp.w2.mul_(small)
    if isinstance(mlp, Experts):
        mlp.gate.mul_(0.5)
    if isinstance(operator, Attention):  # sharp enough to pick one key of a thousand
        operator.q_layernorm.weight.fill_(1.4)
        operator.k_layernorm.weight.fill_(1.4)
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


def _start_induction(attention: Attention, identity: slice, previous: slice, g: torch.Generator) -> None:
    """Matching uses only the slow half of RoPE's pairs, which a distance of a thousand hardly turns."""
    d = attention.head_dim
    slow = torch.cat([torch.arange(d // 4, d // 2), torch.arange(3 * d // 4, d)])
    count = previous.stop - previous.start
    groups = attention.heads // attention.kv_heads
    attention.v_proj.zero_()
    for kv in range(attention.kv_heads):
        look = torch.randn(len(slow), count, generator=g) * count**-0.5
        query, key = attention.q_proj[kv * groups * d :][:d], attention.k_proj[kv * d :][:d]
        query.zero_()
        key.zero_()
        query[slow, identity.start : identity.start + count] = look
        key[slow, previous] = look
        part = torch.arange(kv * d, min((kv + 1) * d, identity.stop - 1))
        attention.v_proj[part, identity.start + part] = 1.0
        out = attention.out_proj[:, kv * groups * d :][:, :d]
        out.zero_()
        out[identity.start + part, part - kv * d] = 1.2
