"""Text <-> token ids: byte-level BPE by the `tokenizers` library.

A vocabulary comes from a tokenizer.json or from GGUF metadata and gives the same ids either way. Added tokens (special
or not) are cut out of the raw text first, in both; what is between them is split by the LFM2 expression and merged.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Self

from tokenizers import AddedToken, Encoding, Regex, decoders, models, normalizers, pre_tokenizers
from tokenizers import Tokenizer as Backend

from headrace.errors import FileInvalid, ModelNotFound, RequestInvalid, Unsupported

# The split expression of the `lfm2` pre-tokenizer, as every LFM2 tokenizer.json has it.
LFM2_SPLIT: Final = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)

# Pre-tokenizers by GGUF's name for them. Llama 3 splits as LFM2 does, and takes a piece that is a token as it is.
LLAMA3_PRE: Final = "llama-bpe"
SMOLLM_PRE: Final = "smollm"
PRE_TOKENIZERS: Final = ("lfm2", LLAMA3_PRE, SMOLLM_PRE)

# Token types of GGUF (`gguf.TokenType`). Type 3 is a special added token, 4 an added token that is not special.
_NORMAL: Final = 1
_CONTROL: Final = 3
_USER_DEFINED: Final = 4
_UNUSED: Final = 5

# The family's names, for files that name none.
_FAMILY: Final = MappingProxyType(
    {"bos_token": "<|startoftext|>", "eos_token": "<|im_end|>", "pad_token": "<|pad|>"},
)


def _byte_characters() -> dict[str, int]:
    """GPT-2's table: the character that stands for each byte in a byte-level vocabulary -> the byte."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    rest = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + i): byte for i, byte in enumerate(rest)}


_BYTE_OF: Final[Mapping[str, int]] = MappingProxyType(_byte_characters())
_CHARACTER_OF: Final[Mapping[int, str]] = MappingProxyType({byte: character for character, byte in _BYTE_OF.items()})


class Tokenizer:
    """A byte-level BPE vocabulary with its added tokens. Immutable; safe to share between threads.

    `adds_bos`: whether a prompt begins with BOS. LFM2's always does; of others, the file says so.
    `vocab_size`: one more than the highest id it knows (padding rows of the embedding lie above).
    `special`: content -> id of the special added tokens, in order of id; `special_ids`: the same ids as a set.
    `special_names`: transformers' names ("bos_token", "eos_token", ...) -> content, as chat templates see them.
    `bos_id`, `eos_id`, `pad_id`: None where the vocabulary has no such token.
    """

    __slots__ = (
        "_backend",
        "adds_bos",
        "bos_id",
        "eos_id",
        "pad_id",
        "special",
        "special_ids",
        "special_names",
        "vocab_size",
    )

    def __init__(
        self, backend: Backend, special_names: Mapping[str, str], vocab_size: int, adds_bos: bool = True
    ) -> None:
        self._backend = backend
        added = sorted(backend.get_added_tokens_decoder().items())
        self.special: Mapping[str, int] = MappingProxyType(
            {entry.content: token for token, entry in added if entry.special}
        )
        self.special_ids = frozenset(self.special.values())
        self.special_names: Mapping[str, str] = MappingProxyType(dict(special_names))
        self.vocab_size = vocab_size
        self.bos_id = self._named("bos_token")
        self.eos_id = self._named("eos_token")
        self.pad_id = self._named("pad_token")
        self.adds_bos = adds_bos or self.special_names.get("bos_token") == _FAMILY["bos_token"]

    def _named(self, name: str) -> int | None:
        content = self.special_names.get(name)
        return None if content is None else self._backend.token_to_id(content)

    @classmethod
    def from_json(cls, path: Path) -> Self:
        """Read a tokenizer.json; the names of its special tokens come from tokenizer_config.json beside it, if any.

        Raises ModelNotFound (no such file), FileInvalid (not a tokenizer) and Unsupported (not byte-level BPE).
        """
        backend = _read_backend(path)
        _require_byte_level(backend, path)
        # Truncation and padding belong to batches for training; a prompt has neither.
        backend.no_truncation()
        backend.no_padding()
        named = _read_special_tokens(path.with_name("tokenizer_config.json"))
        return cls(backend, _with_family(named, backend), _vocab_size(backend), bool(_added_in_front(backend, path)))

    @classmethod
    def from_gguf(cls, metadata: Mapping[str, Any], source: object = "GGUF metadata") -> Self:
        """Rebuild the tokenizer from the `tokenizer.ggml.*` keys of a GGUF file, with the ids of its tokenizer.json.

        `source` is what errors name (the file's path). Raises FileInvalid (a key is missing or makes no sense) and
        Unsupported (another tokenizer model or pre-tokenizer).
        """
        _require(metadata, "tokenizer.ggml.model", ("gpt2",), "tokenizer model", source)
        _require(metadata, "tokenizer.ggml.pre", PRE_TOKENIZERS, "pre-tokenizer", source)
        pre = str(metadata["tokenizer.ggml.pre"])
        tokens = _strings(metadata, "tokenizer.ggml.tokens", source)
        kinds = _without_padding(tokens, _token_types(metadata, len(tokens), source))
        used = [(content, i) for i, (content, kind) in enumerate(zip(tokens, kinds, strict=True)) if kind != _UNUSED]
        vocabulary = dict(used)
        if len(vocabulary) != len(used) or not used:
            raise FileInvalid(source, "tokenizer.ggml.tokens repeats a token or has none: the file is damaged")
        backend = _backend_of(pre, vocabulary, _strings(metadata, "tokenizer.ggml.merges", source), source)
        backend.add_tokens(
            [
                AddedToken(content, special=kind == _CONTROL, normalized=kind == _USER_DEFINED)
                for content, kind in zip(tokens, kinds, strict=True)
                if kind in (_CONTROL, _USER_DEFINED)
            ]
        )
        named = _gguf_special_tokens(metadata, tokens, source)
        stated = metadata.get("tokenizer.ggml.add_bos_token")
        adds_bos = stated if isinstance(stated, bool) else pre == LLAMA3_PRE  # llama.cpp's own default
        return cls(backend, _with_family(named, backend), used[-1][1] + 1, adds_bos)

    def gguf_metadata(self, embeddings: int) -> dict[str, Any]:
        """The `tokenizer.ggml.*` keys from which `from_gguf` rebuilds it; rows of the embedding without a token are
        padding. Raises Unsupported for a split of the text that GGUF has no name for.
        """
        state = json.loads(self._backend.to_str())
        pre = _pre_name(state)
        if pre is None:
            raise Unsupported("the tokenizer splits text in a way that GGUF has no name for: expected LFM2's")
        added = self._backend.get_added_tokens_decoder()
        contents = self.contents()
        ids = {"bos": self.bos_id, "eos": self.eos_id, "padding": self.pad_id}
        return {
            "tokenizer.ggml.model": "gpt2",
            "tokenizer.ggml.pre": pre,
            "tokenizer.ggml.tokens": [contents.get(i, f"[PAD{i}]") for i in range(embeddings)],
            "tokenizer.ggml.token_type": [_kind(i, contents, added) for i in range(embeddings)],
            "tokenizer.ggml.merges": [" ".join(pair) for pair in state["model"]["merges"]],
            **{f"tokenizer.ggml.{name}_token_id": token for name, token in ids.items() if token is not None},
            "tokenizer.ggml.add_bos_token": self.adds_bos,
            "tokenizer.ggml.add_eos_token": False,
            "tokenizer.ggml.add_sep_token": False,
        }

    def to_json(self) -> str:
        """A tokenizer.json from which `from_json` and transformers give the same ids, BOS before a text where it adds
        one.
        """
        state = json.loads(self._backend.to_str())
        if state["post_processor"] is None and self.adds_bos and self.bos_id is not None:
            state["post_processor"] = _bos_first(self.special_names["bos_token"], self.bos_id)
        return json.dumps(state, indent=2, ensure_ascii=False) + "\n"

    def encode(self, text: str, add_bos: bool = False) -> list[int]:
        """Token ids of `text`, sentinels in it as special tokens: transformers' `add_special_tokens=False`.

        With `add_bos` they begin with exactly one BOS. Raises RequestInvalid for text that is no Unicode.
        """
        ids = _encode(self._backend, text)
        return self.with_bos(ids) if add_bos else ids

    def encode_guarded(self, text: str, guard: str) -> list[int]:
        """Token ids of `text`, in which a `guard` character inside a sentinel makes it plain text.

        Special tokens are cut out first, then every `guard` is dropped, then the rest is split and merged as if it had
        never been there.
        """
        return _encode(_guarded(self._backend, guard), text)

    def with_bos(self, ids: list[int]) -> list[int]:
        """`ids` with BOS in front, unless it is there already or the vocabulary has none, or adds none."""
        if self.bos_id is None or not self.adds_bos or ids[:1] == [self.bos_id]:
            return ids
        return [self.bos_id, *ids]

    def decode(self, ids: Iterable[int], skip_special: bool = True) -> str:
        """The text of `ids`; bytes that are no UTF-8 become U+FFFD. Raises RequestInvalid for an id out of range."""
        tokens = [int(token) for token in ids]
        if tokens and (min(tokens) < 0 or max(tokens) >= self.vocab_size):
            raise self._unknown(next(token for token in tokens if not 0 <= token < self.vocab_size))
        return str(self._backend.decode(tokens, skip_special_tokens=skip_special))

    def token_bytes(self, token: int) -> bytes:
        """The bytes that one token adds to the text; a special token's are those of its content.

        Raises RequestInvalid for an id that is no token.
        """
        content = self._backend.id_to_token(token) if 0 <= token < self.vocab_size else None
        if content is None:
            raise self._unknown(token)
        try:
            return bytes([_BYTE_OF[character] for character in content])
        except KeyError:  # an added token that is not spelled in the byte alphabet: the decoder takes it as it is
            return content.encode()

    def without_first(self, text: str, tokens: int) -> str:
        """`text` without its first `tokens` tokens, sentinels in it as plain text.

        A character of which one of them is a part goes with them.
        """
        if tokens <= 0:
            return text
        ends = [end for _, end in _encoding(_plain(self._backend), text).offsets]
        return text[max(ends[:tokens]) :] if tokens < len(ends) else ""

    def has(self, token: int) -> bool:
        """Whether the id is a token's."""
        return 0 <= token < self.vocab_size and self._backend.id_to_token(token) is not None

    def ids(self) -> list[int]:
        """The ids of all tokens, in order."""
        return sorted(self._backend.get_vocab().values())

    def contents(self) -> dict[int, str]:
        """The ids of all tokens, and how the vocabulary spells each."""
        return {token: content for content, token in self._backend.get_vocab().items()}

    def gaps(self, rows: int) -> list[int]:
        """The ids below `rows` that are no token's: rows that fill an embedding up to a round number, and holes.

        They were never trained: what a model scores for them is noise.
        """
        return sorted(set(range(rows)).difference(self._backend.get_vocab().values()))

    def known_bytes(self, token: int) -> bytes:
        """As `token_bytes`, but none for an id that is no token, as for the padding rows of an embedding."""
        return self.token_bytes(token) if self.has(token) else b""

    def id_of(self, content: str) -> int | None:
        """The id of the one token whose text is `content`, or None."""
        token = self._backend.token_to_id(content)
        if token is not None and self.token_bytes(token) == content.encode():
            return token
        return self._backend.token_to_id("".join(_CHARACTER_OF[byte] for byte in content.encode()))

    def _unknown(self, token: int) -> RequestInvalid:
        return RequestInvalid(f"token id {token} is not in the vocabulary: expected 0 to {self.vocab_size - 1}")


def _pre_name(state: Mapping[str, Any]) -> str | None:
    """GGUF's name for how a tokenizer.json splits text."""
    pre_tokenizer = state["pre_tokenizer"] or {}
    parts = pre_tokenizer.get("pretokenizers", [pre_tokenizer])
    if any(part.get("pattern") == {"Regex": LFM2_SPLIT} for part in parts):
        return LLAMA3_PRE if state["model"].get("ignore_merges") else "lfm2"
    if [part.get("type") for part in parts] == ["Digits", "ByteLevel"]:
        digits, bytes_ = parts
        exact = digits["individual_digits"] and bytes_["use_regex"] and not bytes_["add_prefix_space"]
        return SMOLLM_PRE if exact else None
    return None


def _added_in_front(backend: Backend, path: Path) -> list[int]:
    """The tokens that a tokenizer.json puts before any text, as Llama 3's does with BOS."""
    try:
        return list(backend.encode("", add_special_tokens=True).ids)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as problem:  # as when it is read: bare Exception, or a panic
        raise FileInvalid(path, f"its post-processor fails ({problem}): fetch it again") from problem


def _bos_first(content: str, token: int) -> dict[str, Any]:
    """The post-processor of a tokenizer.json that puts one token before a text, and before each of two."""
    bos = {"SpecialToken": {"id": content, "type_id": 0}}
    first, second = ({"Sequence": {"id": name, "type_id": number}} for number, name in enumerate("AB"))
    return {
        "type": "TemplateProcessing",
        "single": [bos, first],
        "pair": [bos, first, bos, second],
        "special_tokens": {content: {"id": content, "ids": [token], "tokens": [content]}},
    }


def _kind(token: int, contents: Mapping[int, str], added: Mapping[int, AddedToken]) -> int:
    """The token's type in GGUF."""
    if token in added:
        return _CONTROL if added[token].special else _USER_DEFINED
    return _NORMAL if token in contents else _UNUSED


def _encode(backend: Backend, text: str) -> list[int]:
    return list(_encoding(backend, text).ids)


def _encoding(backend: Backend, text: str) -> Encoding:
    try:
        return backend.encode(text, add_special_tokens=False)
    except TypeError as problem:
        if not isinstance(text, str):
            raise RequestInvalid(f"the text to tokenize is a {type(text).__name__}: expected a string") from problem
        raise RequestInvalid(
            "the text holds half of a surrogate pair, which is no character: send it as whole Unicode characters"
        ) from problem
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as problem:  # as when it is read: bare Exception, or a panic
        raise RequestInvalid(f"the model's tokenizer fails on this text ({problem}): fetch it again") from problem


def _guarded(backend: Backend, guard: str) -> Backend:
    """The same tokenizer (the model is shared, not copied), dropping `guard` after special tokens were cut out."""
    drop = normalizers.Replace(guard, "")
    guarded = Backend(backend.model)
    guarded.normalizer = normalizers.Sequence([drop, backend.normalizer]) if backend.normalizer else drop
    guarded.pre_tokenizer = backend.pre_tokenizer
    # Only tokens that are not "normalized" are cut out before the normalizer runs, so special tokens must not be.
    guarded.add_tokens(
        [
            AddedToken(
                token.content,
                single_word=token.single_word,
                lstrip=token.lstrip,
                rstrip=token.rstrip,
                normalized=token.normalized and not token.special,
                special=token.special,
            )
            for _, token in sorted(backend.get_added_tokens_decoder().items())
        ]
    )
    return guarded


def _plain(backend: Backend) -> Backend:
    """The same tokenizer (the model is shared, not copied) without its added tokens."""
    plain = Backend(backend.model)
    if backend.normalizer:
        plain.normalizer = backend.normalizer
    plain.pre_tokenizer = backend.pre_tokenizer
    return plain


def _read_backend(path: Path) -> Backend:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ModelNotFound(f"{path} does not exist: a model's folder needs its tokenizer.json") from None
    except (OSError, UnicodeDecodeError) as problem:
        raise FileInvalid(path, f"cannot be read as UTF-8 text ({problem})") from problem
    try:
        return Backend.from_str(text)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as problem:  # the library raises bare Exception, and a panic of its is no Exception at all
        raise FileInvalid(path, f"is no tokenizer.json ({problem}): fetch it again") from problem


def _require_byte_level(backend: Backend, path: Path) -> None:
    model = type(backend.model).__name__
    state = json.loads(backend.decoder.__getstate__()) if backend.decoder else {}
    kinds = {part.get("type") for part in state.get("decoders", [state])}
    if model != "BPE" or "ByteLevel" not in kinds:
        raise Unsupported(
            f"{path}: a tokenizer of kind {model} that is not byte-level BPE, the only kind of LFM2 models"
        )
    unknown = backend.model.unk_token
    if unknown is not None and backend.token_to_id(unknown) is None:
        raise FileInvalid(path, f"its unknown token {unknown!r} is not in its vocabulary: fetch it again")


def _vocab_size(backend: Backend) -> int:
    return 1 + max(backend.get_vocab().values(), default=-1)  # not their count: a damaged file's ids may have holes


def _read_special_tokens(path: Path) -> dict[str, str]:
    """`bos_token` and the like of a tokenizer_config.json: strings, or objects with "content"."""
    if not path.is_file():
        return {}
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as problem:
        raise FileInvalid(path, f"is no JSON ({problem}): fetch it again") from problem
    if not isinstance(config, dict):
        raise FileInvalid(path, "is not a JSON object: fetch it again")
    named = {}
    for name in ("bos", "eos", "unk", "sep", "pad", "cls", "mask"):
        token = config.get(f"{name}_token")
        content = token.get("content") if isinstance(token, dict) else token
        if isinstance(content, str):
            named[f"{name}_token"] = content
    return named


def _with_family(named: Mapping[str, str], backend: Backend) -> dict[str, str]:
    return {name: token for name, token in _FAMILY.items() if backend.token_to_id(token) is not None} | dict(named)


def _backend_of(pre: str, vocabulary: dict[str, int], merges: Sequence[str], source: object) -> Backend:
    pairs = [(left, right) for left, _, right in (merge.partition(" ") for merge in merges)]
    try:
        backend = Backend(models.BPE(vocab=vocabulary, merges=pairs, ignore_merges=pre == LLAMA3_PRE))
    except Exception as problem:  # the library's own class, with the merge that does not fit
        raise FileInvalid(source, f"tokenizer.ggml.merges do not fit the tokens ({problem})") from problem
    backend.pre_tokenizer = pre_tokenizers.Sequence(_splits(pre))
    backend.decoder = decoders.ByteLevel()
    return backend


def _splits(pre: str) -> list[pre_tokenizers.PreTokenizer]:
    """SmolLM's takes digits one by one and the rest as GPT-2 does, whose expression ByteLevel has in it."""
    if pre == SMOLLM_PRE:
        digits = pre_tokenizers.Digits(individual_digits=True)
        return [digits, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)]
    split = pre_tokenizers.Split(Regex(LFM2_SPLIT), behavior="isolated")
    return [split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]


def _missing(metadata: Mapping[str, Any], key: str, source: object) -> Any:
    if key not in metadata:
        raise FileInvalid(source, f"{key} is missing: the file has no complete tokenizer, convert it again")
    return metadata[key]


def _require(metadata: Mapping[str, Any], key: str, expected: Sequence[str], what: str, source: object) -> None:
    found = _missing(metadata, key, source)
    if not isinstance(found, str) or found not in expected:
        names = " or ".join(map(repr, expected))
        raise Unsupported(f"{source}: the {what} {found!r} ({key}) is not supported, expected {names}")


def _strings(metadata: Mapping[str, Any], key: str, source: object) -> list[str]:
    strings = _missing(metadata, key, source)
    if not isinstance(strings, list) or not all(isinstance(string, str) for string in strings):
        raise FileInvalid(source, f"{key} is not a list of strings")
    return strings


def _token_types(metadata: Mapping[str, Any], count: int, source: object) -> list[int]:
    kinds = _missing(metadata, "tokenizer.ggml.token_type", source)
    try:
        kinds = [int(kind) for kind in kinds]
    except (TypeError, ValueError, OverflowError) as problem:
        raise FileInvalid(source, "tokenizer.ggml.token_type is not a list of integers") from problem
    if len(kinds) != count:
        raise FileInvalid(source, f"tokenizer.ggml.token_type has {len(kinds)} entries for {count} tokens")
    return kinds


def _without_padding(tokens: Sequence[str], kinds: list[int]) -> list[int]:
    """Ollama fills the vocabulary up with [PAD0], [PAD1], ... as if they were added tokens: they are none."""
    count = next((i for i, token in enumerate(reversed(tokens)) if token == "[PAD0]"), -1) + 1
    first = len(tokens) - count
    if tokens[first:] != [f"[PAD{i}]" for i in range(count)] or set(kinds[first:]) - {_USER_DEFINED}:
        return kinds
    return kinds[:first] + [_UNUSED] * count


def _gguf_special_tokens(metadata: Mapping[str, Any], tokens: Sequence[str], source: object) -> dict[str, str]:
    keys = {"bos_token": "bos", "eos_token": "eos", "pad_token": "padding", "unk_token": "unknown"}
    named = {}
    for name, key in keys.items():
        token = metadata.get(f"tokenizer.ggml.{key}_token_id")
        if token is None:
            continue
        if not isinstance(token, int) or not 0 <= token < len(tokens):
            raise FileInvalid(source, f"tokenizer.ggml.{key}_token_id is {token!r}: expected 0 to {len(tokens) - 1}")
        named[name] = tokens[token]
    return named
