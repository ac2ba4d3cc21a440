"""Export: the trained weights as a Hugging Face folder, and that folder as `headrace convert` writes it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer
from torch import Tensor

from headrace import checkpoint
from headrace.convert import convert
from headrace.weights.quantisation import dequantise
from recipes.nano.dialogues import TEMPLATE
from recipes.nano.model import Config, Nano
from recipes.nano.tokenizer import BOS, EOS, PAD, SPECIAL, load

_OPERATOR = {
    "conv": {"in_proj": "conv.in_proj.weight", "taps": "conv.conv.weight", "out_proj": "conv.out_proj.weight"},
    "full_attention": {
        **{f"{name}_proj": f"self_attn.{name}_proj.weight" for name in ("q", "k", "v", "out")},
        **{f"{name}_layernorm.weight": f"self_attn.{name}_layernorm.weight" for name in ("q", "k")},
    },
}


def hf_tensors(state: Mapping[str, Tensor], config: Config) -> dict[str, Tensor]:
    """The training module's tensors under the names and shapes of `Lfm2MoeForCausalLM`, one entry for each expert."""
    tensors = {
        "model.embed_tokens.weight": _embedding(state),
        "model.embedding_norm.weight": state["embedding_norm.weight"],
    }
    for index, kind in enumerate(config.layer_types):
        ours, theirs = f"layers.{index}.", f"model.layers.{index}."
        for name in ("operator_norm.weight", "ffn_norm.weight"):
            tensors[theirs + name] = state[ours + name]
        for name, target in _OPERATOR[kind].items():
            tensor = state[f"{ours}operator.{name}"]
            tensors[theirs + target] = tensor[:, None] if name == "taps" else tensor
        dense = index < config.num_dense_layers
        part = _dense(state, ours) if dense else _experts(state, ours)
        tensors |= {theirs + "feed_forward." + name: tensor for name, tensor in part.items()}
    return {name: tensor.contiguous().clone() for name, tensor in tensors.items()}


def _embedding(state: Mapping[str, Tensor]) -> Tensor:
    words, forms, own, word_of, form_of = (
        state[f"embedding.{name}"] for name in ("words", "forms", "own", "word_of", "form_of")
    )
    return words[word_of] + forms[form_of] + own


def _dense(state: Mapping[str, Tensor], layer: str) -> dict[str, Tensor]:
    return {f"{name}.weight": state[f"{layer}feed_forward.{name}"] for name in ("w1", "w2", "w3")}


def _experts(state: Mapping[str, Tensor], layer: str) -> dict[str, Tensor]:
    part = {"gate.weight": state[layer + "feed_forward.gate"], "expert_bias": state[layer + "feed_forward.expert_bias"]}
    up, down = state[layer + "feed_forward.w13"], state[layer + "feed_forward.w2"]
    for expert in range(len(up)):
        w1, w3 = up[expert].chunk(2)
        part |= {f"experts.{expert}.{name}.weight": t for name, t in (("w1", w1), ("w2", down[expert]), ("w3", w3))}
    return part


def write_folder(folder: Path, tensors: dict[str, Tensor], config: Config, tokenizer: Tokenizer) -> None:
    """What `AutoModelForCausalLM` and `AutoTokenizer` load."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "chat_template.jinja").write_text(TEMPLATE, encoding="utf-8")
    (folder / "README.md").write_text("---\nlicense: apache-2.0\nlanguage: en\n---\n", encoding="utf-8")
    tokens = {"bos_token": SPECIAL[BOS], "eos_token": SPECIAL[EOS], "pad_token": SPECIAL[PAD]}
    _write(folder / "config.json", config.to_hf())
    _write(
        folder / "generation_config.json",
        # nano copies figures: no token may be made less likely because it was already said.
        {"bos_token_id": BOS, "eos_token_id": EOS, "pad_token_id": PAD, "do_sample": False, "repetition_penalty": 1.0},
    )
    tokenizer_config = {"tokenizer_class": "PreTrainedTokenizerFast", **tokens, "clean_up_tokenization_spaces": False}
    _write(folder / "tokenizer_config.json", {**tokenizer_config, "model_max_length": config.max_position_embeddings})


def _write(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def read_back(path: Path, model: Nano) -> dict[str, Tensor]:
    """What `export` wrote, as a state of the training module: a run of another day may begin with it.

    `model` knows each token's word and form. Their parts of the embedding are means of the rows that share them;
    what is left is the token's own, so that their sum is what the file holds.
    """
    source = checkpoint.read(path)
    stored = {name: [torch.from_numpy(dequantise(one).copy()) for one in many] for name, many in source.weights.items()}
    state = {name: value.clone() for name, value in model.state_dict().items()}
    _take_apart(stored["embed_tokens"][0], state)
    state["embedding_norm.weight"] = stored["embedding_norm"][0]
    for index, kind in enumerate(model.config.layer_types):
        layer = f"layers.{index}."
        for name in ("operator_norm", "ffn_norm"):
            state[f"{layer}{name}.weight"] = stored[layer + name][0]
        for name, target in _OPERATOR[kind].items():
            state[f"{layer}operator.{name}"] = stored[layer + target.removesuffix(".weight")][0]
        part, many = f"{layer}feed_forward.", f"{layer}feed_forward.experts."
        if index < model.config.num_dense_layers:
            state |= {part + name: stored[part + name][0] for name in ("w1", "w2", "w3")}
            continue
        state |= {part + name: stored[part + name][0] for name in ("gate", "expert_bias")}
        pairs = zip(stored[many + "w1"], stored[many + "w3"], strict=True)
        state[part + "w13"] = torch.stack([torch.cat(pair) for pair in pairs])
        state[part + "w2"] = torch.stack(stored[many + "w2"])
    return state


def _take_apart(table: Tensor, state: dict[str, Tensor], rounds: int = 20) -> None:
    word_of, form_of = state["embedding.word_of"], state["embedding.form_of"]
    words, forms = torch.zeros_like(table), state["embedding.forms"].clone()
    for _ in range(rounds):
        words = _means(table - forms[form_of], word_of, len(table))
        forms = _means(table - words[word_of], form_of, len(forms))
    state["embedding.words"], state["embedding.forms"] = words, forms
    state["embedding.own"] = table - words[word_of] - forms[form_of]


def _means(rows: Tensor, group: Tensor, count: int) -> Tensor:
    """The mean row of each group [count, width]; 0 where a group has none."""
    sums = torch.zeros(count, rows.shape[1]).index_add_(0, group, rows)
    return sums / group.bincount(minlength=count).clamp(min=1)[:, None]


def export(work: Path, config: Config, target: Path) -> None:
    """The averaged weights of `work/state.pt` as a folder, and as `headrace convert` writes it: Q8_0 and float32."""
    tensors = hf_tensors(torch.load(work / "state.pt", map_location="cpu")["average"], config)
    write_folder(work / "nano", tensors, config, load(work / "tokenizer.json"))
    convert(work / "nano", target, "q8_0")
    convert(work / "nano", work / "nano-f32.gguf", "f32")
