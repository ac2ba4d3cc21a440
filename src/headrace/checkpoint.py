"""A model as found on disk: a GGUF file or a Hugging Face folder, read into one shape, before anything runs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from headrace import defaults, models, nano, packaged
from headrace.defaults import Defaults
from headrace.errors import FileInvalid, ModelNotFound, Unsupported
from headrace.models import lfm2, lfm2_moe, llama
from headrace.plan import Plan
from headrace.preset import Preset
from headrace.text.template import FALLBACK_LFM2, FALLBACK_LFM25, Template
from headrace.text.tokenizer import Tokenizer
from headrace.weights import safetensors, split
from headrace.weights.fields import Fields
from headrace.weights.tensor import Weights

END_OF_TURN = ("<|im_end|>", "<|endoftext|>", "<|eot_id|>")  # end an answer whatever else a file says
# Beside the one id that the tokenizer reads: llama.cpp's ends of a turn and of a message, and Ollama's list.
GGUF_END_IDS = ("tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id", "tokenizer.ggml.eos_token_ids")

SAMPLED_BYTES = 4096  # of each end of a tensor, for a fingerprint

NO_TEMPLATE = "{{ raise_exception('the file has none, and its vocabulary is not LFM2\\'s') }}"

NO_PRESET = Preset()

Backbone = lfm2.Config | llama.Config
Config = Backbone | lfm2_moe.Config


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """All that a file or folder says of a model. Weights are views of the mapped file."""

    name: str
    path: Path
    architecture: str  # the model_type
    config: Config
    plan: Plan
    weights: Weights
    tokenizer: Tokenizer
    template: Template
    has_template: bool  # of its own; else `template` is the architecture's
    defaults: Defaults
    end_ids: frozenset[int]
    preset: Preset

    @property
    def backbone(self) -> Backbone:
        return backbone_of(self.config)

    @property
    def context_length(self) -> int:
        """The window, in tokens, when none is asked for."""
        largest = self.backbone.max_position_embeddings
        if self.preset.num_ctx is not None:
            return min(self.preset.num_ctx, largest)
        return defaults.context_length(self.backbone.vocab_size, largest)


def backbone_of(config: Config) -> Backbone:
    return config.backbone if isinstance(config, lfm2_moe.Config) else config


def read(name_or_path: str | Path, preset: Preset = NO_PRESET) -> Checkpoint:
    """Reads `nano`, a GGUF file or a folder with config.json; what the `preset` states comes before what they say.

    Raises ModelNotFound, FileInvalid, Unsupported. Names of the library are for `headrace.library.opening`.
    """
    path = find(name_or_path)
    return _assemble(path, _read_folder(path) if path.is_dir() else _read_gguf(path), preset)


def find(name_or_path: str | Path) -> Path:
    """The file or folder of a model. Raises ModelNotFound."""
    if found := always_there(str(name_or_path)):
        return found
    path = Path(name_or_path).expanduser()
    if path.exists():
        return path
    names = ", ".join(map(repr, (nano.NAME, *packaged.MODELS)))
    raise ModelNotFound(f"there is no model {str(name_or_path)!r}: give {names}, a GGUF file, or a model folder")


def always_there(name: str) -> Path | None:
    """The file of the embedded model, or of one that comes in a package, where the name is one of theirs.

    Raises ModelNotFound where it is, and the file is not installed.
    """
    name = name.lower().removesuffix(":latest")
    if name in packaged.MODELS:
        return packaged.find(name)
    if name == nano.NAME and not nano.FILE.exists():
        raise ModelNotFound(f"the embedded model is missing from this installation: {nano.FILE} does not exist")
    return nano.FILE if name == nano.NAME else None


@dataclass(frozen=True, slots=True)
class _Found:
    """What the two kinds of packaging have in common. `template` is empty where there is none."""

    architecture: ModuleType
    config: Config
    plan: Plan
    weights: Weights
    tokenizer: Tokenizer
    template: str
    stated: Mapping[str, Mapping[str, Any]]  # where parameters are stated -> which
    end_ids: frozenset[int] = frozenset()


def _read_gguf(path: Path) -> _Found:
    parts = split.read(path)
    metadata, tensors = parts[0].metadata, split.tensors(parts)
    fields = Fields(str(path), metadata)
    architecture = by_gguf_architecture(fields)
    config = architecture.config_from_gguf(fields, tensors)
    plan = architecture.plan(config)
    return _Found(
        architecture=architecture,
        config=config,
        plan=plan,
        weights=architecture.weights_from_gguf(plan.weights(), tensors, str(path), config),
        tokenizer=Tokenizer.from_gguf(metadata, path),
        template=fields.text("tokenizer.chat_template", ""),
        stated={"general.sampling": defaults.from_gguf(fields)},
        end_ids=frozenset[int]().union(*(_ids(fields, key) for key in GGUF_END_IDS)),
    )


def _read_folder(path: Path) -> _Found:
    fields = _json(path / "config.json", required=_no_config(path))
    generation = _json(path / "generation_config.json")
    architecture = _by_model_type(fields)
    config = architecture.config_from_hf(fields)
    plan = architecture.plan(config)
    return _Found(
        architecture=architecture,
        config=config,
        plan=plan,
        weights=architecture.weights_from_hf(plan.weights(), safetensors.read_folder(path), str(path), config),
        tokenizer=Tokenizer.from_json(path / "tokenizer.json"),
        template=_folder_template(path),
        stated={"generation_config.json": defaults.from_generation_config(generation)},
        end_ids=_ids(fields, "eos_token_id") | _ids(generation, "eos_token_id"),
    )


def _no_config(path: Path) -> str:
    """What to say of a folder without one; many a repository is a folder of GGUF files to choose from."""
    files = sorted(file.name for file in path.glob("*.gguf"))
    choose = f": give one of its GGUF files, such as {files[0]}" if files else ""
    return f"{path}: a model folder has a config.json, and this one has none{choose}"


def _assemble(path: Path, found: _Found, preset: Preset) -> Checkpoint:
    """Adds what the family says where the file says nothing."""
    tokenizer = found.tokenizer
    backbone = backbone_of(found.config)
    if tokenizer.vocab_size > backbone.vocab_size:
        raise FileInvalid(path, f"{tokenizer.vocab_size} tokens, but embeddings for {backbone.vocab_size}")
    architecture = found.architecture.__name__.rpartition(".")[2]
    family = defaults.family(architecture, layers=backbone.layers, vocab_size=backbone.vocab_size)
    template = preset.template or found.template
    ends = (tokenizer.eos_id, *map(tokenizer.id_of, END_OF_TURN), *found.end_ids)
    return Checkpoint(
        name=preset.name or (split.model_name(path) if path.is_file() else path.name),
        path=path,
        architecture=architecture,
        config=found.config,
        plan=found.plan,
        weights=found.weights,
        tokenizer=tokenizer,
        template=Template(template or _fallback(tokenizer), tokenizer.special_names),
        has_template=bool(template),
        defaults=defaults.resolve({"manifest": preset.parameters, **found.stated, "model card": family}),
        end_ids=frozenset(id_ for id_ in ends if id_ is not None and tokenizer.has(id_)),
        preset=preset,
    )


_architectures = models.architectures


def _by_model_type(fields: Fields) -> ModuleType:
    known, asked = _architectures(), fields.text("model_type", "")
    if asked not in known:
        raise Unsupported(f"{fields.source}: model_type {asked!r} is not supported, only {', '.join(known)}")
    return known[asked]


def by_gguf_architecture(fields: Fields) -> ModuleType:
    """The architecture's file in models/. Raises Unsupported for another one."""
    known = {module.GGUF_ARCHITECTURE: module for module in _architectures().values()}
    asked = fields.text("general.architecture", "")
    if asked not in known:
        raise Unsupported(f"{fields.source}: architecture {asked!r} is not supported, only {', '.join(known)}")
    return known[asked]


def _fallback(tokenizer: Tokenizer) -> str:
    """The dialect of a model without a template: thinking came with LFM2.5, and with a token of its own.

    A vocabulary without the family's tokens is no LFM2: such a model can go on with a text, but not chat.
    """
    if tokenizer.id_of("<|im_start|>") is None:
        return NO_TEMPLATE
    return FALLBACK_LFM25 if tokenizer.id_of("<think>") is not None else FALLBACK_LFM2


def _folder_template(path: Path) -> str:
    """From chat_template.jinja, else chat_template.json, else tokenizer_config.json; there it may be one of several."""
    file = path / "chat_template.jinja"
    if file.exists():
        return _read_text(file)
    settings = ("chat_template.json", "tokenizer_config.json")
    stated = next(filter(None, (_json(path / name).values.get("chat_template") for name in settings)), "")
    if isinstance(stated, list):
        named = (entry for entry in stated if isinstance(entry, dict) and entry.get("name") == "default")
        stated = next(named, {}).get("template")
    return stated if isinstance(stated, str) else ""


def _json(path: Path, required: str = "") -> Fields:
    """The object in a JSON file; an optional file that is absent is an empty object."""
    if not path.exists():
        if required:
            raise ModelNotFound(required)
        return Fields(str(path), {})
    try:
        value = json.loads(_read_text(path))
    except (ValueError, RecursionError) as error:
        raise FileInvalid(path, f"not valid JSON ({error})") from None
    if not isinstance(value, dict):
        raise FileInvalid(path, "should hold a JSON object")
    return Fields(str(path), value)


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise FileInvalid(path, f"the file cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise FileInvalid(path, "should be UTF-8 text: download it again") from None


def _ids(fields: Fields, key: str) -> frozenset[int]:
    """One id or several, in a list (JSON) or an array (GGUF)."""
    value = fields.values.get(key)
    ids = value.tolist() if isinstance(value, np.ndarray) else value if isinstance(value, list) else [value]
    return frozenset(id_ for id_ in ids if isinstance(id_, int) and not isinstance(id_, bool))


def fingerprint(source: Checkpoint) -> str:
    """A digest that tells models apart: the plan, and every tensor's name, type, shape, beginning and end."""
    digest = hashlib.sha256(repr([(s.op, s.inputs, s.weights, dict(s.attributes)) for s in source.plan.steps]).encode())
    for name, tensors in sorted(source.weights.items()):
        for tensor in tensors:
            digest.update(repr((name, tensor.type, tensor.shape)).encode())
            digest.update(tensor.data[:SAMPLED_BYTES].tobytes())
            digest.update(tensor.data[-SAMPLED_BYTES:].tobytes())
    return digest.hexdigest()
