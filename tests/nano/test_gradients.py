"""Where the recipe writes its own gradients, they are those of the plain formula."""

# ruff: noqa: E402 (the recipe needs packages that may be absent)

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("faker", reason="the recipe's extra is not installed")

import torch.nn.functional as F  # noqa: N812 (its common name)
from torch import Tensor

from recipes.nano import vectors
from recipes.nano.gathering import pick, spread
from recipes.nano.loss import ROWS, cross_entropy
from recipes.nano.model import MINIATURE, Embedding, Experts
from recipes.nano.start import Layout, start_embedding


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).requires_grad_()


def test_picking_and_spreading_rows() -> None:
    places = torch.tensor([4, 0, 6])
    assert torch.autograd.gradcheck(lambda x: pick(x, places), numbers(7, 3))
    assert torch.autograd.gradcheck(lambda x: spread(x, places, 8), numbers(3, 2, 2))
    assert torch.equal(spread(torch.ones(3, 1), places, 8)[:, 0].nonzero()[:, 0], torch.tensor([0, 4, 6]))


@pytest.mark.parametrize("rows", [1, ROWS, 3 * ROWS + 5])
def test_cross_entropy(rows: int) -> None:
    """Summed, targets below 0 left out; the gradients of rows and table."""
    targets = torch.arange(rows) % 11 - 1
    found = [numbers(rows, 8), numbers(11, 8, seed=1)]
    plain = [tensor.detach().clone().requires_grad_() for tensor in found]
    ours = cross_entropy(*found, targets) * 0.5
    theirs = F.cross_entropy(plain[0] @ plain[1].T, targets, ignore_index=-1, reduction="sum") * 0.5
    ours.backward()  # type: ignore[no-untyped-call]
    theirs.backward()  # type: ignore[no-untyped-call]
    torch.testing.assert_close(ours, theirs.float(), rtol=1e-5, atol=0)
    for tensor, expected in zip(found, plain, strict=True):
        torch.testing.assert_close(tensor.grad, expected.grad, rtol=0, atol=1e-5)


class Lying:
    """Tokens of which the first `real` count."""

    def __init__(self, real: int) -> None:
        self.real = real

    def load(self, chosen: Tensor, experts: int) -> Tensor:
        return F.one_hot(chosen[: self.real], experts).sum((0, 1))


@pytest.mark.parametrize("dense", [False, True])
def test_experts_are_the_weighted_sum_of_those_that_were_chosen(dense: bool) -> None:
    """One product of all experts, however unevenly tokens fall on them, against each token by itself; gradients too."""
    experts = Experts(MINIATURE).double()
    experts.dense = dense
    for seed, parameter in enumerate(experts.parameters()):
        parameter.data.copy_(numbers(*parameter.shape, seed=seed).detach() * 0.3)
    experts.expert_bias[0] = 10.0  # everybody's first choice
    x = numbers(150, MINIATURE.hidden_size, seed=9)
    scores = F.linear(x.float(), experts.gate.float()).sigmoid().double()
    chosen = (scores + experts.expert_bias).topk(2, dim=-1).indices
    weights = scores.gather(1, chosen)
    weights = weights / (weights.sum(-1, keepdim=True) + 1e-6)
    expected = torch.zeros_like(x)
    for rank in range(2):
        up = torch.einsum("th,toh->to", x, experts.w13[chosen[:, rank]])
        gate, up = up.chunk(2, dim=-1)
        down = torch.einsum("ti,thi->th", F.silu(gate) * up, experts.w2[chosen[:, rank]])
        expected = expected + weights[:, rank, None] * down
    experts.gate.data = experts.gate.data.float()
    found = experts(x, Lying(100))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    assert experts.taken.tolist()[0] == 100  # only real tokens count
    ours, theirs = (torch.autograd.grad(y.sum(), [x, experts.w13, experts.w2]) for y in (found, expected))
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-4)


def test_a_word_is_one_vector_in_all_its_forms_and_like_what_it_means() -> None:
    pieces = ["Ġ", "remind", "Ġremind", "Remind", "ĠREMIND", "reminder", "kitchen", "zzq", "12"]
    embedding = Embedding(MINIATURE)
    embedding.word_of, embedding.form_of = torch.zeros(9, dtype=torch.long), torch.zeros(9, dtype=torch.long)
    layout = Layout(256)
    embedding.words.data, embedding.own.data = torch.zeros(9, 256), torch.zeros(9, 256)
    embedding.forms.data = torch.zeros(Embedding.FORMS, 256)
    with torch.no_grad():
        start_embedding(embedding, pieces, layout, torch.Generator().manual_seed(1))
    table = embedding.table().detach()
    word, form = table[:, layout.word], table[:, layout.form]
    assert all(torch.equal(word[1], word[i]) for i in (2, 3, 4))
    assert len({tuple(form[i].tolist()) for i in (1, 2, 3, 4)}) == 4
    alike, unlike = (F.cosine_similarity(word[1], word[i], dim=0) for i in (5, 6))
    assert alike > 0.2 + unlike
    assert vectors.load()["remind"] @ vectors.load()["reminder"] > 0.4
