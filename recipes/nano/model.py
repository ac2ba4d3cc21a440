"""The training module: LFM2-MoE as `Lfm2MoeForCausalLM` computes it, over the flat tokens of a step: [T, hidden].

Whatever looks at one token alone (norms, projections, experts) sees one long matrix; only the convolution and the
attention ask how the tokens lie in sequences, which `prefixed` answers for a processor and `rows` for an accelerator.
"""

# ruff: noqa: E501 (a wording stands on one line)

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import torch
import torch.nn.functional as F  # noqa: N812 (its common name)
from torch import Tensor, nn

from recipes.nano.fused import fused
from recipes.nano.gathering import deal, pick, up_to


@dataclass(frozen=True, slots=True)
class Config:
    """Widths divide by 32, so that every matrix can be stored in Q8_0."""

    vocab_size: int = 16384
    hidden_size: int = 256
    intermediate_size: int = 384
    moe_intermediate_size: int = 96
    layer_types: tuple[str, ...] = (
        "conv", "conv", "full_attention", "conv", "full_attention", "full_attention",
        "conv", "full_attention", "conv", "full_attention", "conv", "full_attention",
    )  # fmt: skip
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


class Sequences(Protocol):
    """How a step's T flat tokens lie in sequences."""

    @property
    def rope(self) -> tuple[Tensor, Tensor]:
        """Cosine and sine of each token's position [T, 1, head_dim / 2]."""

    def convolve(self, x: Tensor, taps: Tensor) -> Tensor:
        """Each token with those before it in its sequence, by taps [hidden, K], the last of them its own: [T, hidden]."""

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Scaled queries [T, kv_heads, groups, d] over keys and values [T, kv_heads, d]: [T, heads * d]."""

    def load(self, chosen: Tensor, experts: int) -> Tensor:
        """How many real tokens went to each expert [E]; chosen is [T, k]."""


class Step(Protocol):
    """Tokens of one step of training."""

    def laid_out(self, config: Config, dtype: torch.dtype) -> tuple[Tensor, Sequences]:
        """The flat tokens [T] and how they lie."""

    def to(self, device: str) -> Step: ...

    def heard(self, x: Tensor) -> Tensor:
        """Of [T, hidden] the rows [R, hidden] that targets belong to."""

    def aims(self, targets: Tensor) -> Tensor:
        """Of a step's targets those of `heard` [R]."""

    @property
    def size(self) -> int:
        """Tokens, as the speed of training counts them."""


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

    def forward(self, x: Tensor, sequences: Sequences) -> Tensor:
        before, after, value = linear(x, self.in_proj).chunk(3, dim=-1)
        return linear(after * sequences.convolve(before * value, self.taps), self.out_proj)


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

    def forward(self, x: Tensor, sequences: Sequences) -> Tensor:
        q, k, v = (linear(x, w).view(len(x), -1, self.head_dim) for w in (self.q_proj, self.k_proj, self.v_proj))
        q = turned(q, self.q_layernorm.weight * self.head_dim**-0.5, self.q_layernorm.eps, *sequences.rope)
        k = turned(k, self.k_layernorm.weight, self.k_layernorm.eps, *sequences.rope)
        return linear(sequences.attend(q.view(len(x), self.kv_heads, -1, self.head_dim), k, v), self.out_proj)


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

    def forward(self, x: Tensor, sequences: Sequences) -> Tensor:  # noqa: ARG002 (as of Experts)
        return linear(F.silu(linear(x, self.w1)) * linear(x, self.w3), self.w2)


class Experts(nn.Module):
    """Sigmoid router whose bias only selects.

    Each expert's tokens are gathered, all experts one product of many matrices; or, where multiplications cost nothing
    beside the gathering (`dense`), every expert sees every token, and those not chosen weigh 0.
    """

    expert_bias: Tensor
    taken: Tensor

    def __init__(self, c: Config) -> None:
        super().__init__()
        self.top_k, self.dense = c.num_experts_per_tok, False
        self.gate = matrix(c.num_experts, c.hidden_size)
        self.w13 = nn.Parameter(torch.empty(c.num_experts, 2 * c.moe_intermediate_size, c.hidden_size))
        self.w2 = nn.Parameter(torch.empty(c.num_experts, c.hidden_size, c.moe_intermediate_size))
        self.register_buffer("expert_bias", torch.zeros(c.num_experts))
        self.register_buffer("taken", torch.zeros(c.num_experts), persistent=False)

    def forward(self, x: Tensor, sequences: Sequences) -> Tensor:
        scores = F.linear(x.float(), self.gate).sigmoid()
        chosen = (scores.detach() + self.expert_bias).topk(self.top_k, dim=-1).indices
        weights = scores.gather(1, chosen)
        weights = (weights / (weights.sum(-1, keepdim=True) + 1e-6)).to(x.dtype)
        self.taken += sequences.load(chosen, len(self.gate))
        return (self._by_all if self.dense else self._by_chosen)(x, chosen, weights)

    def _by_all(self, x: Tensor, chosen: Tensor, weights: Tensor) -> Tensor:
        experts, width, hidden = self.w13.shape
        gate, up = linear(x, self.w13.view(-1, hidden)).view(len(x), experts, 2, width // 2).unbind(2)
        shares = torch.zeros_like(gate[..., 0]).scatter(1, chosen, weights)
        products = (F.silu(gate) * up * shares[..., None]).flatten(1)
        return linear(products, self.w2.transpose(0, 1).flatten(1))

    def _by_chosen(self, x: Tensor, chosen: Tensor, weights: Tensor) -> Tensor:
        slots, capacity = self._slots(chosen)
        rows = deal(x, slots, len(self.w13) * capacity).view(-1, capacity, x.shape[1])
        gate, up = torch.bmm(rows, self.w13.to(x.dtype).transpose(1, 2)).chunk(2, dim=-1)
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
        self.expert_bias += rate * torch.sign(self.taken.mean() - self.taken)
        self.expert_bias -= self.expert_bias.mean()
        self.taken.zero_()


class Layer(nn.Module):
    def __init__(self, c: Config, index: int) -> None:
        super().__init__()
        self.operator_norm, self.ffn_norm = Norm(c.hidden_size, c.norm_eps), Norm(c.hidden_size, c.norm_eps)
        self.operator = Attention(c) if c.layer_types[index] == "full_attention" else ShortConv(c)
        self.feed_forward = Dense(c) if index < c.num_dense_layers else Experts(c)

        self.dropout = 0.0

    def forward(self, x: Tensor, sequences: Sequences) -> Tensor:
        x = x + self._dropped(self.operator(self.operator_norm(x), sequences))
        return x + self._dropped(self.feed_forward(self.ffn_norm(x), sequences))

    def _dropped(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.dropout, self.training) if self.dropout else x


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

    def forward(self, step: Step, dtype: torch.dtype = torch.float32) -> Tensor:
        """Final hidden states of the tokens that have targets [R, hidden], normed."""
        tokens, sequences = step.laid_out(self.config, dtype)
        x = self.embedding(tokens).to(dtype)
        for layer in self.blocks():
            x = layer(x, sequences)
        normed: Tensor = self.embedding_norm(step.heard(x))
        return normed

    def head(self, hidden: Tensor, table: Tensor | None = None) -> Tensor:
        """Logits; `table` is the embedding's, where it is at hand."""
        return linear(hidden, self.embedding.table() if table is None else table)

    def blocks(self) -> list[Layer]:
        return [layer for layer in self.layers if isinstance(layer, Layer)]

    def experts(self) -> Iterator[Experts]:
        return (layer.feed_forward for layer in self.blocks() if isinstance(layer.feed_forward, Experts))


def rope(config: Config, positions: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Cosine and sine of positions [T]: [T, 1, head_dim / 2] each."""
    halves = torch.arange(0, config.head_dim, 2, device=positions.device) / config.head_dim
    angles = (positions[:, None] * (1.0 / config.rope_theta**halves))[:, None]
    return angles.cos().to(dtype), angles.sin().to(dtype)
