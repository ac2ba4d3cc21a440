"""What a sequence contributes to a step: which of its tokens, which rows of logits, and a draft of what may follow."""

from __future__ import annotations

import time
from collections.abc import Sequence as SequenceOf

import numpy as np
from numpy.typing import NDArray

from headrace.engine.batch import Part
from headrace.engine.request import Int32, Sequence
from headrace.engine.speculation import MOST_DRAFTED, StepCosts

Mask = NDArray[np.uint32]


def part_of(sequence: Sequence, count: int, barred: Int32, draft: SequenceOf[int] = ()) -> Part:
    """The next `count` tokens, and those of a draft behind them; ids that are `barred` are never sampled.

    Raises HeadraceError where the sequence's grammar is too much for its parser.
    """
    if sequence.wants != "tokens":
        return Part(sequence, count, range(count))
    slot = sequence.slot if draft or sequence.rewind else -1
    end, echoed = sequence.computed + count, sequence.asked.echo and sequence.told < sequence.prompt_tokens
    if end < sequence.length:
        targets = sequence.ids[sequence.computed + 1 : end + 1].tolist() if echoed else []
        rows = range(len(targets))
        return _part(sequence, count, rows, slot, targets=targets)
    draft, masks = _masks(sequence, draft)
    sequence.ids[end : end + len(draft)] = draft
    if echoed:
        targets = [*sequence.ids[sequence.computed + 1 : end].tolist(), -1]
        return _part(sequence, count, range(count), slot, [*[None] * (count - 1), *masks], barred, targets=targets)
    return _part(sequence, count + len(draft), range(count - 1, count + len(draft)), slot, masks, barred, draft)


def _part(
    sequence: Sequence,
    count: int,
    rows: range,
    slot: int,
    masks: SequenceOf[Mask | None] = (),
    barred: Int32 | None = None,
    draft: SequenceOf[int] = (),
    targets: SequenceOf[int] = (),
) -> Part:
    asked = sequence.asked
    return Part(
        sequence,
        count,
        rows,
        masks,
        np.zeros(0, np.int32) if barred is None else barred,
        slot=slot,
        rewind=sequence.rewind,
        draft=draft,
        targets=targets,
        top_logprobs=asked.logprobs,
        experts=asked.experts,
    )


def _masks(sequence: Sequence, draft: SequenceOf[int]) -> tuple[SequenceOf[int], list[Mask | None]]:
    """As much of the draft as the sequence's form allows, and what each row may become."""
    if not sequence.constraint:
        return draft, [None] * (1 + len(draft))
    if not draft:
        return draft, [sequence.constraint.mask()]
    return sequence.constraint.ahead(draft)


def draft_of(sequence: Sequence, costs: StepCosts, decoding: int) -> list[int]:
    """Tokens that may follow a sequence whose next step is one token, where they are worth their time.

    `decoding` sequences decode in this step, itself included; what that costs without drafts must be known.
    """
    if sequence.drafter is None or (plain := costs.seconds.get(decoding)) is None:
        return []
    context, token_s, ledger = sequence.ids[: sequence.length], plain / decoding, sequence.ledger
    most = min(MOST_DRAFTED, sequence.limit - sequence.length - 1)
    if most <= 0 or not ledger.allowed(token_s) or not sequence.drafter.read(context):
        return []
    started = time.perf_counter()
    draft = list[int]()
    if (trust := sequence.drafter.trust(context)) is not None:
        draft = sequence.drafter.propose(context, ledger.length(trust, token_s, costs.longer(decoding, most)))
    ledger.pay(time.perf_counter() - started, len(draft))
    return draft
