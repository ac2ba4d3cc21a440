"""Grammars on a model's own tokens: which of them may come next, and which must. llguidance does the parsing."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from headrace.errors import RequestInvalid
from headrace.text.json_schema import looks_like_a_schema, without_foreign_formats
from headrace.text.tokenizer import Tokenizer

if TYPE_CHECKING:
    from llguidance import LLMatcher, LLTokenizer
    from llguidance._lib import JsonCompileOptions

Mask = NDArray[np.uint32]  # [ceil(V / 32)], bit t % 32 of word t // 32 allows token t

KINDS: Final = ("regex", "lark", "gbnf", "choices")
MOST_GRAMMAR_CHARACTERS: Final = 1_000_000
# Between the parts of a JSON answer: enough for any usual indentation, and no room to go on for ever.
_JSON_SPACE: Final = r" |\n{1,2}[ \t]{0,40}"
# Sets of tokens whose masks are made once: those that fit a string in either quote.
_SLICES: Final = (r"[\x20\x0A\x0D\x09]+", *(rf"[^\"'\\\x00-\x1F\x7F]{{1,{most}}}" for most in (10, 30, "")))


class Grammars:
    """Grammars over one tokenizer's tokens. `rows` are those of the embedding, `end_ids` the tokens that end an answer.

    The first grammar waits for the vocabulary to be made (a quarter of a second for 65,536 tokens). Safe to share
    between threads.
    """

    __slots__ = ("_lock", "_vocabulary", "end_ids", "rows", "tokenizer")

    def __init__(self, tokenizer: Tokenizer, rows: int, end_ids: Collection[int]) -> None:
        self.tokenizer = tokenizer
        self.rows = rows
        self.end_ids = end_ids
        self._lock = threading.Lock()
        self._vocabulary: Vocabulary | None = None

    @property
    def words(self) -> int:
        return -(-self.rows // 32)

    @property
    def end_id(self) -> int:
        """The token by which an answer is ended for the model."""
        eos = self.tokenizer.eos_id
        return eos if eos is not None and eos in self.end_ids else min(self.end_ids)

    def matcher(self, grammar: str) -> Matcher:
        """A matcher at the beginning of a grammar in llguidance's notation. Raises RequestInvalid where it is none."""
        from llguidance import LLMatcher  # 40 ms that a start without grammars need not wait for

        found = LLMatcher(self.vocabulary().tokens, grammar, log_level=0)
        if found.is_error():
            raise RequestInvalid(_problem(found.get_error()))
        return Matcher(found, self.words)

    def lark(self, grammar: str) -> Matcher:
        from llguidance import LLMatcher

        return self.matcher(LLMatcher.grammar_from_lark(grammar))

    def mask(self, tokens: Collection[int]) -> Mask:
        """The mask that allows these tokens."""
        bits = np.zeros(self.words * 32, bool)
        bits[np.fromiter(tokens, np.int64, len(tokens))] = True
        return np.packbits(bits, bitorder="little").view(np.uint32)

    def all_but(self, tokens: Collection[int]) -> Mask:
        """The mask that allows all tokens but these; rows without a token are none."""
        return self.mask(self.tokenizer.ids()) & ~self.mask(tokens)

    def vocabulary(self) -> Vocabulary:
        """What grammars need to know of the tokens, made when it is first asked for."""
        with self._lock:
            if self._vocabulary is None:
                self._vocabulary = self._made()
            return self._vocabulary

    def _made(self) -> Vocabulary:
        from llguidance import LLTokenizer, TokenizerWrapper

        words = _Words(self.tokenizer, self.rows, self.end_id)
        special = self.tokenizer.special_ids
        return Vocabulary(
            LLTokenizer(TokenizerWrapper(words), n_vocab=self.rows, eos_token=sorted(self.end_ids), slices=[*_SLICES]),
            self.mask([i for i, text in enumerate(words.tokens) if i in special or b"<|" not in text]),
            self.mask([i for i, text in enumerate(words.tokens) if not text.startswith(b"|")]),
        )


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """llguidance's view of the tokens, and two masks: of those that no sentinel begins in (and the sentinels), and of
    those that do not complete the beginning of one after a `<`."""

    tokens: LLTokenizer
    no_sentinel: Mask
    no_bar: Mask


class Matcher:
    """A place in a grammar. It moves with each token that is accepted."""

    __slots__ = ("_inner", "_words")

    def __init__(self, inner: LLMatcher, words: int) -> None:
        self._inner = inner
        self._words = words

    @property
    def complete(self) -> bool:
        """Nothing more can come but the end."""
        return self._inner.is_stopped()

    def mask(self) -> Mask:
        """What may come next, the end of the answer included where it may be. Releases the GIL."""
        row = np.zeros(self._words, np.uint32)
        self._inner.unsafe_compute_mask_ptr(row.ctypes.data, row.nbytes)
        self._check()
        return row

    def accept(self, token: int) -> None:
        self._inner.consume_token(token)
        self._check()

    def forced(self) -> list[int]:
        """The tokens that must come next, as the tokenizer would write their text; often none."""
        tokens: list[int] = self._inner.compute_ff_tokens()
        self._check()
        return tokens

    def reset(self) -> None:
        self._inner.reset()

    def copy(self) -> Matcher:
        """The same place, which moves by itself."""
        return Matcher(self._inner.deep_copy(), self._words)

    def _check(self) -> None:
        if self._inner.is_error():
            raise RequestInvalid(_problem(self._inner.get_error()))


def answer_grammar(format_: Any) -> str:
    """What `format` asks for, in llguidance's notation: "json", a JSON schema, or one of KINDS.

    Raises RequestInvalid for what is neither; whether a grammar makes sense is seen when it is compiled.
    """
    from llguidance import LLMatcher

    if format_ == "json":
        format_ = {"type": ["object", "array"]}
    named = isinstance(format_, Mapping) and len(format_) == 1 and next(iter(format_)) in KINDS
    if not isinstance(format_, Mapping) or not (named or looks_like_a_schema(format_)):
        raise RequestInvalid(
            f'format is {str(format_)[:60]!r} but should be "json", a JSON schema, or {{"{KINDS[0]}": ...}} '
            f"(likewise {', '.join(KINDS[1:])})"
        )
    if named:
        ((kind, value),) = format_.items()
        return _of_kind(kind, value)
    options: JsonCompileOptions = {"whitespace_pattern": _JSON_SPACE}
    try:
        return _bounded(LLMatcher.grammar_from_json_schema(json.dumps(without_foreign_formats(format_)), options))
    except (TypeError, ValueError, RecursionError) as problem:
        raise RequestInvalid(f"format is no JSON schema: {problem}") from None


def _of_kind(kind: str, value: Any) -> str:
    from llguidance import LLMatcher
    from llguidance.gbnf_to_lark import gbnf_to_lark

    if kind == "choices":
        return LLMatcher.grammar_from_lark(_bounded(f"start: {' | '.join(map(json.dumps, _choices(value)))}"))
    if not isinstance(value, str):
        raise RequestInvalid(f"the {kind} is a {type(value).__name__} but should be text")
    _bounded(value)
    match kind:
        case "regex":
            return LLMatcher.grammar_from_regex(value)
        case "lark":
            return LLMatcher.grammar_from_lark(value)
    try:
        return LLMatcher.grammar_from_lark(gbnf_to_lark(value))
    except Exception as problem:  # the library's own class, and whatever a strange text makes it stumble over
        raise RequestInvalid(f"the gbnf grammar cannot be read: {problem}") from None


def _choices(value: Any) -> list[str]:
    if not isinstance(value, list | tuple) or not value or not all(isinstance(one, str) and one for one in value):
        raise RequestInvalid("choices should be a list of texts, none of them empty")
    return list(value)


def _bounded(grammar: str) -> str:
    if len(grammar) > MOST_GRAMMAR_CHARACTERS:
        raise RequestInvalid(f"the grammar has {len(grammar)} characters: at most {MOST_GRAMMAR_CHARACTERS} are read")
    return grammar


def _problem(error: str) -> str:
    """llguidance's complaint as a sentence."""
    if keywords := re.search(r"Unimplemented keys: \[\"([^\"]+)\"", error):
        return f"the schema keyword {keywords[1]!r} is not supported: leave it out"
    if format_ := re.search(r"Unknown format: (\S+)", error):
        return f"the schema keyword 'format: {format_[1]}' is not supported: leave it out"
    if "oneOf constraints are not supported" in error:
        return "the schema keyword 'oneOf' is not supported where its options overlap: write anyOf"
    return f"the grammar cannot be used: {error.partition('<state>')[0].strip()}"


class _Words:
    """What llguidance asks of a tokenizer: the exact bytes of every token, and text as the model reads it."""

    def __init__(self, tokenizer: Tokenizer, rows: int, end_id: int) -> None:
        self.eos_token_id = end_id
        self.bos_token_id = tokenizer.bos_id
        self.special_token_ids = sorted(tokenizer.special_ids)
        # A row of the embedding without a token has no bytes, so no grammar ever allows it.
        self.tokens = [tokenizer.known_bytes(token) for token in range(rows)]
        self._tokenizer = tokenizer
        inside = "|".join(f"(?<={re.escape(content[0])}){re.escape(content[1:])}" for content in tokenizer.special)
        self._inside_sentinel = re.compile(inside or "(?!)")

    def __call__(self, text: str) -> list[int]:
        """Sentinels in the text are plain text: a grammar names special tokens by themselves."""
        if not isinstance(text, str):
            raise TypeError("text is expected")  # by which the wrapper sees that bytes are not
        cuts = [0, *(match.start() for match in self._inside_sentinel.finditer(text)), len(text)]
        return [token for start, end in pairwise(cuts) for token in self._tokenizer.encode(text[start:end])]
