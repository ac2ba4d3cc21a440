"""One engine, one process: `python peers.py ENGINE FILE ROWS` prints what it reaches, as JSON.

Alone in a process, so that each engine has the machine's memory and threads to itself, and so that a peer may live in
an environment of its own (this file imports nothing of Headrace but where it measures it). ROWS is JSON: a list of
`{"kind": "prefill" | "decode", "tokens", "depth", "sequences"}`; a line of JSON comes for each row as it is measured.
"""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

STEPS, WARM_UP = 24, 2  # of a decode row
REPEATS = 2  # of a prefill row


class NotMeasured(Exception):
    """This engine has no figure for a row; it may have for the next."""


Row = dict[str, Any]
Measure = Callable[[Row], float]  # tokens a second, of all sequences together


def headrace(file: str, rows: list[Row], threads: int) -> Measure:
    from headrace import bench, checkpoint

    asked = bench.Asked(
        prefill=tuple(row["tokens"] for row in rows if row["kind"] == "prefill") or (1,),
        depth=tuple(row["depth"] for row in rows),
        sequences=tuple(row["sequences"] for row in rows),
        threads=(threads,),
        decode_steps=STEPS,
    )
    run = bench.Bench(checkpoint.read(file), asked, threads)

    def measure(row: Row) -> float:
        if row["kind"] == "prefill":
            found = run.prefill(row["tokens"], row["depth"])
        else:
            found = run.decode(row["sequences"], row["depth"], STEPS)
        row |= {name: value for name, value in found.items() if name.endswith(("_per_s", "of_limit", "_bytes"))}
        return float(found["tokens_per_s"])

    return measure


def llama_cpp(file: str, rows: list[Row], threads: int) -> Measure:
    """`llama-cpp-python` where this Python has it, else `llama-bench`, which measures one sequence at a time."""
    if importlib.util.find_spec("llama_cpp"):
        return llama_cpp_python(file, rows, threads)
    if program := shutil.which("llama-bench"):
        return llama_bench(program, file, threads)
    raise SystemExit("neither the package llama-cpp-python nor the program llama-bench is here")


def llama_bench(program: str, file: str, threads: int) -> Measure:
    def measure(row: Row) -> float:
        if row["sequences"] > 1:
            raise NotMeasured("llama-bench measures one sequence at a time")
        counts = {"prefill": (row["tokens"], 0), "decode": (0, STEPS)}[row["kind"]]
        command = [program, "-m", file, "-t", str(threads), "-d", str(row["depth"]), "-r", "1", "-o", "json"]
        command += ["-p", str(counts[0]), "-n", str(counts[1])]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"llama-bench: {(done.stderr.strip().splitlines() or ['no word'])[-1]}")
        (found,) = json.loads(done.stdout)
        return float(found["avg_ts"])

    return measure


def llama_cpp_python(file: str, rows: list[Row], threads: int) -> Measure:
    """Its low-level interface: what `llama-bench` times, too."""
    import llama_cpp as llama

    model = llama.llama_model_load_from_file(file.encode(), llama.llama_model_default_params())
    if not model:
        raise SystemExit(f"llama.cpp cannot load {file}")
    options = llama.llama_context_default_params()
    sequences = max(row["sequences"] for row in rows)
    longest = max(row["depth"] + (row["tokens"] if row["kind"] == "prefill" else STEPS + WARM_UP) for row in rows)
    options.n_ctx = (longest + 256) * sequences if sequences > 1 else longest + 256
    options.n_batch = options.n_ubatch = 512
    options.n_threads = options.n_threads_batch = threads
    options.n_seq_max = sequences
    context = llama.llama_init_from_model(model, options)
    memory = llama.llama_get_memory(context)
    batch = llama.llama_batch_init(512, 0, 1)
    words = llama.llama_vocab_n_tokens(llama.llama_model_get_vocab(model))

    def decode(parts: list[tuple[int, int, int]]) -> None:
        """(token, position, sequence) of each; the logits of the last one of a prompt, or of all."""
        batch.n_tokens = len(parts)
        for i, (token, position, sequence) in enumerate(parts):
            batch.token[i], batch.pos[i] = token, position
            batch.n_seq_id[i], batch.seq_id[i][0] = 1, sequence
            batch.logits[i] = i == len(parts) - 1 or parts[i + 1][2] != sequence
        if status := llama.llama_decode(context, batch):
            raise SystemExit(f"llama.cpp: decode failed with {status}")
        llama.llama_synchronize(context)

    def prompt(count: int, position: int) -> None:
        for first in range(0, count, 512):
            decode([(token(position + i, words), position + i, 0) for i in range(first, min(first + 512, count))])

    def measure(row: Row) -> float:
        llama.llama_memory_clear(memory, True)
        prompt(row["depth"], 0)
        if row["kind"] == "prefill":
            started = time.perf_counter()
            prompt(row["tokens"], row["depth"])
            return float(row["tokens"] / (time.perf_counter() - started))
        for sequence in range(1, row["sequences"]):
            llama.llama_memory_seq_cp(memory, 0, sequence, -1, -1)
        seconds = []
        for step in range(STEPS + WARM_UP):
            place = row["depth"] + step
            parts = [(token(place + 977 * sequence, words), place, sequence) for sequence in range(row["sequences"])]
            started = time.perf_counter()
            decode(parts)
            seconds.append(time.perf_counter() - started)
        return float(row["sequences"] / median(seconds[WARM_UP:]))

    return measure


def transformers(file: str, _: list[Row], threads: int) -> Measure:
    """Random bf16 weights of the same shapes, for it cannot read the file; the configuration comes from its header."""
    import gguf
    import torch
    from transformers import Lfm2MoeConfig, Lfm2MoeForCausalLM

    torch.set_num_threads(threads)
    header = {name: field.contents() for name, field in gguf.GGUFReader(file).fields.items() if name.startswith("lfm2")}
    found = {name.split(".", 1)[1]: value for name, value in header.items()}
    kv_heads = found["attention.head_count_kv"]
    config = Lfm2MoeConfig(
        vocab_size=found["vocab_size"],
        hidden_size=found["embedding_length"],
        intermediate_size=found["feed_forward_length"],
        moe_intermediate_size=found["expert_feed_forward_length"],
        num_hidden_layers=found["block_count"],
        num_attention_heads=found["attention.head_count"],
        num_key_value_heads=max(kv_heads),
        num_experts=found["expert_count"],
        num_experts_per_tok=found["expert_used_count"],
        num_dense_layers=found["leading_dense_block_count"],
        layer_types=["full_attention" if heads else "conv" for heads in kv_heads],
        conv_L_cache=found["shortconv.l_cache"],
        dtype=torch.bfloat16,
    )
    with torch.device("meta"):
        model = Lfm2MoeForCausalLM(config).to(torch.bfloat16)
    model = model.to_empty(device="cpu").eval()
    noise = torch.randn(1 << 20).to(torch.bfloat16)
    for parameter in model.parameters():  # drawing eight thousand million numbers would take minutes
        flat = parameter.data.view(-1)
        for first in range(0, len(flat), len(noise)):
            part = flat[first : first + len(noise)]
            part.copy_(noise[: len(part)]).mul_(0.02)
    model.tie_weights()
    for name, buffer in model.named_buffers():  # what `to_empty` left undefined
        if name.endswith("inv_freq"):
            turns = torch.arange(0, config.hidden_size // config.num_attention_heads, 2).float()
            buffer.copy_(1 / found["rope.freq_base"] ** (turns / (2 * len(turns))))
        else:
            buffer.zero_()

    @torch.no_grad()
    def measure(row: Row) -> float:
        ids = torch.tensor([[token(i) for i in range(row["depth"] + row["tokens"])]] * row["sequences"])
        cache = model(ids[:, : row["depth"]], use_cache=True).past_key_values if row["depth"] else None
        if row["kind"] == "prefill":
            started = time.perf_counter()
            model(ids[:, row["depth"] :], past_key_values=cache, use_cache=True, logits_to_keep=1)
            return float(row["tokens"] / (time.perf_counter() - started))
        cache = cache or model(ids[:, :1], use_cache=True).past_key_values
        seconds = []
        for step in range(STEPS // 3 + WARM_UP):
            started = time.perf_counter()
            model(ids[:, step : step + 1], past_key_values=cache, use_cache=True)
            seconds.append(time.perf_counter() - started)
        return float(row["sequences"] / median(seconds[WARM_UP:]))

    return measure


def token(place: int, words: int = 60_000) -> int:
    """Different tokens at neighbouring places, so that an expert's weights are not read once for all."""
    return place * 7919 % min(words, 60_000)


ENGINES: dict[str, Callable[[str, list[Row], int], Measure]] = {
    "headrace": headrace,
    "llama.cpp": llama_cpp,
    "transformers": transformers,
}


def main() -> None:
    engine, file, asked, threads = sys.argv[1:]
    rows = json.loads(asked)
    sys.path = [path for path in sys.path if Path(path or ".").resolve() != Path(__file__).parent]
    measure = ENGINES[engine](file, rows, int(threads))
    for row in rows:
        repeats = REPEATS if row["kind"] == "prefill" and engine != "headrace" else 1
        try:
            row["tokens_per_s"] = max(measure(row) for _ in range(repeats))
        except NotMeasured as reason:
            print(f"{engine}: {reason}", file=sys.stderr)
            continue
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
