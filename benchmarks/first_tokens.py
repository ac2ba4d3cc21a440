"""`python first_tokens.py FILE THREADS WINDOW < PROMPTS`: how long llama.cpp takes to the first token of each prompt.

In a process of its own, which imports nothing of Headrace. PROMPTS is JSON, a list of lists of token ids; they are
asked one after another, of one `llama_cpp.Llama`, which keeps what it can of the one before. A line of JSON comes for
each: its seconds, and how many tokens were stepped.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path


def main() -> None:
    file, threads, window = sys.argv[1:]
    prompts = json.load(sys.stdin)
    sys.path = [path for path in sys.path if Path(path or ".").resolve() != Path(__file__).parent]
    import llama_cpp

    model = llama_cpp.Llama(
        file, n_ctx=int(window), n_threads=int(threads), n_threads_batch=int(threads), no_perf=False, verbose=False
    )
    for prompt in prompts:
        llama_cpp.llama_perf_context_reset(model.ctx)
        started = time.perf_counter()
        next(model.generate(prompt, temp=1.0))
        seconds = time.perf_counter() - started
        counts = llama_cpp.llama_perf_context(model.ctx)
        print(json.dumps({"seconds": seconds, "stepped": counts.n_p_eval + counts.n_eval}), flush=True)


if __name__ == "__main__":
    main()
