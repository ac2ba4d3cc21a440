"""`headrace bench`: it counts what the shapes say, a forked context is the context, its JSON is complete."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

import headrace
from headrace import bench, checkpoint, nano, synthetic
from headrace.bench import Asked, Bench, Cost, batch_of
from headrace.cli import headrace as cli
from headrace.engine.core import BLOCK_TOKENS
from headrace.errors import RequestInvalid
from headrace.weights.quantisation import nbytes
from headrace.weights.tensor import Tensor


def shapes_of(name: str) -> Any:
    """A checkpoint of the family's shapes, Q4_0 throughout, whose bytes take no memory."""
    member = synthetic.FAMILY[name]
    architecture, config = synthetic.config_of(name, member)
    weights: dict[str, tuple[Tensor, ...]] = {}
    plan = architecture.plan(config)
    for weight in plan.weights():
        shape = synthetic.shape_of(weight, member)
        small = len(shape) == 1 or weight.endswith((".gate", "conv.conv"))
        kind = "F32" if small else "Q4_0"
        data = np.broadcast_to(np.uint8(0), (nbytes(kind, shape),))
        tensor = Tensor(weight, kind, shape, data)
        weights[weight] = tensor.unstack() if len(shape) == 3 else (tensor,)
    return SimpleNamespace(plan=plan, weights=weights, config=config, backbone=config.backbone)


def test_the_cost_of_the_8b_is_that_of_its_published_arithmetic() -> None:
    """1.42 G multiply-adds and 0.881 GB a token, 12,288 bytes a position, 4.2 GB a step of sixteen."""
    cost = Cost.of(shapes_of("lfm2:8b"))
    assert cost.multiply_adds == pytest.approx(1.42e9, rel=0.01)
    assert cost.step_bytes(1, 0, "fp16") == pytest.approx(0.881e9, rel=0.01)
    assert cost.step_bytes(1, 1000, "fp16") - cost.step_bytes(1, 0, "fp16") == 1000 * 12_288
    assert cost.step_bytes(1, 1000, "int8") - cost.step_bytes(1, 0, "int8") == 1000 * 6_144
    assert cost.step_bytes(16, 0, "fp16") == pytest.approx(4.2e9, rel=0.03)


def test_a_forked_context_is_the_context() -> None:
    """Two sequences that share a filled depth and then differ: the logits of each are those of its whole text."""
    source = checkpoint.read(nano.NAME)
    asked = Asked(prefill=(10,), depth=(150,), sequences=(2,), threads=(1,))
    measured = Bench(source, asked, 1)
    depth = measured.fill(150)
    assert depth == 150 // BLOCK_TOKENS * BLOCK_TOKENS
    common, tails = measured.tokens[:depth], np.arange(300, 320).reshape(2, 10)
    shared = list(range(depth // BLOCK_TOKENS))
    blocks = [[*shared, measured.deepest + i] for i in range(2)]
    got = measured.model.logits(batch_of(list(tails), [depth, depth], blocks, last=True))
    with headrace.load(nano.NAME) as model:
        for tail, row in zip(tails, got, strict=True):
            assert model.logits([*common.tolist(), *tail.tolist()])[-1].tobytes() == row.tobytes()


def test_json_has_a_row_for_everything_asked() -> None:
    command = ["bench", "nano", "--prefill", "16,80", "--depth", "0,128", "--sequences", "1,3", "--threads", "1,2"]
    result = CliRunner().invoke(
        cli, [*command, "--decode-steps", "3", "--kv", "fp16,int8", "--json"], catch_exceptions=False
    )
    report = json.loads(result.stdout)
    assert report["machine"]["read_gb_per_s"] > 0
    assert report["machine"]["int8_tmac_per_s"] > 0
    found = {(r["kind"], r["tokens"], r["depth"], r["sequences"], r["threads"], r["kv"]) for r in report["rows"][1:]}
    runs = [(threads, kv) for threads in (1, 2) for kv in ("fp16", "int8")]
    wanted = {("prefill", n, d, 1, *r) for n in (16, 80) for d in (0, 128) for r in runs}
    wanted |= {("decode", 3, d, n, *r) for n in (1, 3) for d in (0, 128) for r in runs}
    assert found == wanted
    assert report["rows"][0]["kind"] == "start"
    for row in report["rows"][1:]:
        assert row["tokens_per_s"] > 0
        assert row["share_of_limit"] > 0
        assert row["peak_memory_bytes"] > 0


def test_the_table_and_a_synthetic_file_that_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(synthetic, "FAMILY", {"tiny": synthetic.Member(512, 8, 512, 3, (2,))})
    out = tmp_path / "tiny.gguf"
    command = ["bench", "--synthetic", "tiny", "--out", str(out), "--prefill", "16", "--decode-steps", "2"]
    result = CliRunner().invoke(cli, [*command, "--threads", "1"], catch_exceptions=False)
    assert result.exit_code == 0
    assert [line.split()[0] for line in result.stdout.splitlines()[2:]] == ["kind", "start", "prefill", "decode"]
    assert out.exists()


@pytest.mark.parametrize(
    ("asked", "named"),
    [
        (Asked(prefill=(0,)), "--prefill is 0"),
        (Asked(depth=(-1,)), "--depth"),
        (Asked(threads=(0,)), "--threads is 0"),
        (Asked(kv=("int3",)), "kv is 'int3' but should be one of fp16, int8, fp32"),
        (Asked(depth=(4000,)), "4,512 positions.*4,096"),
    ],
)
def test_what_cannot_be_measured_is_refused(asked: Asked, named: str) -> None:
    with pytest.raises(RequestInvalid, match=named):
        next(bench.rows(nano.NAME, asked))
