"""The tokenizer: LFM2's special tokens and pre-tokenizer, every number of one to three digits a token, words after that.

What is copied is copied at once when it is one token; ten digits repeat so much that nobody can tell which to follow.
"""

# ruff: noqa: E501 (a wording stands on one line)

from __future__ import annotations

import json
import random
import re
from collections import Counter
from itertools import product
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel, Sequence, Split
from tokenizers.processors import TemplateProcessing
from tokenizers.trainers import BpeTrainer

from headrace.weights import gguf
from recipes.nano import dialogues, words
from recipes.nano.values import Values

SPECIAL = (
    "<|pad|>", "<|startoftext|>", "<|endoftext|>", "<|fim_pre|>", "<|fim_mid|>", "<|fim_suf|>", "<|im_start|>", "<|im_end|>",
    "<|tool_list_start|>", "<|tool_list_end|>", "<|tool_call_start|>", "<|tool_call_end|>", "<|tool_response_start|>", "<|tool_response_end|>",
)  # fmt: skip
PAD, BOS, EOS = 0, 1, 7
PATTERN = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_APART = r"'(?:s|t|re|ve|m|ll|d)\b|\p{Lu}?\p{Ll}+|\p{Lu}+(?!\p{Ll})|\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s+"
_DIGITS = "0123456789"
_SPACE = "Ġ"


def train(seed: int, vocab_size: int, prefixes: int = 1500) -> Tokenizer:
    """A tokenizer of exactly `vocab_size` ids, from dialogues and word lists.

    Merges are learnt on words without what stands before them and split at capitals; a space joins a word last of all.
    So a word is the same pieces in a sentence, in `snake_case` and in `camelCase`, but for the space before the first.
    """
    alphabet = sorted(ByteLevel.alphabet())
    numbers = ["".join(digits) for length in (2, 3) for digits in product(_DIGITS, repeat=length)]
    learnt = vocab_size - len(SPECIAL) - len(alphabet) - len(numbers)
    words_of = Tokenizer(BPE())
    words_of.pre_tokenizer = Sequence(
        [Split(Regex(_APART), "isolated"), ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    trainer = BpeTrainer(vocab_size=len(alphabet) + learnt, initial_alphabet=alphabet, show_progress=False)
    words_of.train_from_iterator(_corpus(seed, prefixes), trainer)
    merges: list[tuple[str, str]] = []
    spaced = [(_SPACE, letter) for letter in alphabet if letter.isascii() and letter.isalpha()]
    for first, second in (tuple(pair) for pair in json.loads(words_of.to_str())["model"]["merges"]):
        more = [(_SPACE, first + second)] if (first + second).isalpha() and (first + second).isascii() else []
        if len(merges) + len(spaced) + 1 + len(more) > learnt:
            break
        merges.append((first, second))
        spaced += more
    merges += spaced
    pieces = [*SPECIAL, *alphabet, *numbers, *(first + second for first, second in merges)]
    pieces += [f"<|reserved_{index}|>" for index in range(vocab_size - len(pieces))]
    return _assembled(pieces, [*_number_merges(), *merges])


def _number_merges() -> list[tuple[str, str]]:
    """Both ways to each number of three digits, for which pair of "123" is joined first depends on its rank."""
    pairs = list(product(_DIGITS, _DIGITS))
    triples = list(product(_DIGITS, _DIGITS, _DIGITS))
    return [*pairs, *((a + b, c) for a, b, c in triples), *((a, b + c) for a, b, c in triples)]


def _corpus(seed: int, prefixes: int) -> list[str]:
    """Text without digits: dialogues, prefixes, and every word as it stands at the start, after a space, and capitalised."""
    rng = random.Random(seed)
    texts: list[str] = []
    values = Values(rng)
    for _ in range(prefixes):
        prefix = dialogues.prefix(rng)
        texts.append(prefix.text())
        made = [dialogues.segments(dialogues.dialogue(rng, prefix, values)) for _ in range(12)]
        texts += ["".join(text for text, _ in parts) for parts in made]
    names = [*words.PLACES, *words.PEOPLE, *words.THINGS, *words.LANGUAGES, *words.NAMES]
    for word in [*words.COMMON, *" ".join(names).split()]:
        texts += [f"{word} {word} {word} {word}\n{word}\n{word.capitalize()} {word.capitalize()}"] * 20
    counted = Counter(word.lower() for text in texts for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", text))
    for word, count in counted.items():  # both forms of a word that is frequent in either
        if count >= 6 and len(word) > 1:
            texts += [f"{word}\n{word.capitalize()}"] * min(40, count)
    for rank, word in enumerate(words.frequent(6000)):  # whole words, though no dialogue may hold them
        texts += [f"{word}\n{word.capitalize()}" if rank < 2500 else word] * (60 - rank // 150)
    strip = str.maketrans("", "", _DIGITS)
    return [re.sub(r"<\|\w+\|>", "\n", text).translate(strip) for text in texts]


def _pre_tokenizer() -> Sequence:
    return Sequence([Split(Regex(PATTERN), "isolated"), ByteLevel(add_prefix_space=False, use_regex=False)])


def _assembled(pieces: list[str], merges: list[tuple[str, str]]) -> Tokenizer:
    vocabulary = {piece: index for index, piece in enumerate(pieces)}
    assert len(vocabulary) == len(pieces), "a piece occurs twice"
    tokenizer = Tokenizer(BPE(vocab=vocabulary, merges=merges, fuse_unk=False))
    tokenizer.pre_tokenizer = _pre_tokenizer()
    tokenizer.decoder = ByteLevelDecoder()
    tokenizer.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in SPECIAL])
    tokenizer.post_processor = TemplateProcessing(
        single=f"{SPECIAL[BOS]} $A", pair=f"{SPECIAL[BOS]} $A {SPECIAL[BOS]} $B", special_tokens=[(SPECIAL[BOS], BOS)]
    )
    return tokenizer


def of_gguf(path: Path) -> Tokenizer:
    """The tokenizer of a file that the recipe exported."""
    header = gguf.read(path).metadata
    merges = [tuple(merge.split(" ")) for merge in header["tokenizer.ggml.merges"]]
    return _assembled(list(header["tokenizer.ggml.tokens"]), merges)


def load(path: Path) -> Tokenizer:
    return Tokenizer.from_file(str(path))


def encode(tokenizer: Tokenizer, text: str) -> list[int]:
    return list(tokenizer.encode(text, add_special_tokens=False).ids)


def pieces_of(tokenizer: Tokenizer) -> list[str]:
    """All pieces in the order of their ids."""
    return sorted(tokenizer.get_vocab(), key=tokenizer.get_vocab().__getitem__)
