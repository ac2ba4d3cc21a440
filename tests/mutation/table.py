"""What `make mutate` breaks: a line, what it becomes, and the tests that should notice."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Mutation:
    """`before` stands exactly once in `file`."""

    file: str
    before: str
    after: str
    tests: tuple[str, ...]

    @property
    def native(self) -> bool:
        return self.file.startswith("native/")

    def applied(self, whole: str) -> str:
        if whole.count(self.before) != 1:
            raise ValueError(f"{self.file}: {self.before!r} stands there {whole.count(self.before)} times, not once")
        return whole.replace(self.before, self.after)


ORACLE = ("tests/models/test_oracle.py",)
MODEL = ("tests/test_model.py",)
FOUND = ("tests/test_found.py",)
VOCABULARY = ("tests/test_vocabulary.py",)
ENGINE = ("tests/engine/test_engine.py",)
CACHE = ("tests/engine/test_cache.py",)
OUTPUTS = ("tests/test_outputs.py",)
CORE = ("tests/engine/test_core.py",)
RESIDENTS = ("tests/engine/test_residents.py",)
CONVERSATIONS = ("tests/cli/test_log.py",)
HISTORY = ("tests/cli/test_history.py",)
DOCTOR = ("tests/test_doctor.py", "tests/cli/test_doctor.py")
BUDGET = ("tests/test_budget.py",)
PS = ("tests/server/test_ollama_ps.py",)
TURNS = ("tests/engine/test_turns.py",)
LOOPS = ("tests/engine/test_repetition.py",)
WINDOW = ("tests/text/test_window.py",)
BATCH = ("tests/engine/test_batch.py",)
LIBRARY = ("tests/library",)
PACKING = ("tests/test_packing.py",)
ANSWERS = ("tests/library/test_answers.py",)
ANY_STEP = ("tests/library/test_any_step.py",)
CACHED = ("tests/library/test_cached.py",)
GGUF_WRITER = ("tests/weights/test_gguf_writer.py",)
HUB = ("tests/library/test_hub.py",)
LINKS = ("tests/library/test_links.py",)
MANIFEST = ("tests/library/test_manifest.py",)
MODELS = ("tests/library/test_models.py",)
PULL = ("tests/library/test_pull.py",)
STORE = ("tests/library/test_store.py",)
NATIVE = ("tests/native/test_steps.py", "tests/native/test_sampling.py", "tests/native/test_invariance.py")
DRAFTS = ("tests/native/test_drafts.py", "tests/native/test_batches.py")
NATIVE_OUTPUTS = ("tests/native/test_outputs.py",)
CHAT = ("tests/server/test_openai_chat.py",)
FRAMES = ("tests/server/test_openai_frames.py",)
COMPLETIONS = ("tests/server/test_openai_completions.py",)
EMBEDDINGS = ("tests/server/test_openai_embeddings.py",)
ERRORS = ("tests/server/test_openai_errors.py",)
OPENAPI = ("tests/server/test_openapi.py",)
OLLAMA = ("tests/server/test_ollama.py",)
OLLAMA_CLIENT = ("tests/server/test_ollama_client.py",)
OLLAMA_LIBRARY = ("tests/server/test_ollama_library.py",)
KEEPING = ("tests/server/test_ollama_keeping.py",)
MAKING = ("tests/server/test_ollama_making.py",)
BLOBS = ("tests/server/test_ollama_blobs.py",)
WORKS = ("tests/server/test_works.py",)
FOLLOWING = ("tests/text/test_following.py",)
TRANSPORT = ("tests/server/test_transport.py",)
GUARD = ("tests/server/test_guard.py",)
LOG = ("tests/server/test_log.py",)
SERVING = ("tests/server/test_serving.py",)
TOO_LONG = ("tests/server/test_too_long.py",)
DURATIONS = ("tests/server/test_durations.py",)

P = "src/headrace/"

MUTATIONS = (
    # the plan and the models
    Mutation(P + "plan.py", "for member in group),\n        )", "for member in group[::-1]),\n        )", ORACLE),
    Mutation(P + "models/lfm2.py", "if config.layer_types[layer] == ATTENTION:", "if layer % 2:", ORACLE),
    Mutation(P + "models/lfm2.py", '_positive(Fields(fields.source, nested), "rope_theta"', '_positive(fields, "rope_theta"', ORACLE),
    Mutation(P + "models/lfm2.py", "nested = nested.get(ATTENTION, nested)", "pass", FOUND),
    Mutation(P + "models/lfm2.py", "    if not any(heads):\n", "    if False:\n", FOUND),
    Mutation(P + "models/lfm2_moe.py", "return layer, router.shape[0]", "return layer, 1 + router.shape[0]", FOUND),
    Mutation(P + "models/lfm2_moe.py", '"num_experts" if "num_experts" in fields else "num_local_experts"', '"num_experts"', FOUND),
    Mutation(P + "models/lfm2.py", '"embed_tokens" if config.tied else "lm_head"', '"embed_tokens"', ORACLE),
    Mutation(P + "models/lfm2.py", 'for name in ("q_proj", "k_proj", "v_proj")', 'for name in ("k_proj", "q_proj", "v_proj")', ORACLE),
    Mutation(P + "models/lfm2.py", 'weights=[w + "w1"]), p.add("linear", h, weights=[w + "w3"])', 'weights=[w + "w3"]), p.add("linear", h, weights=[w + "w1"])', ORACLE),
    Mutation(P + "models/lfm2.py", "width = int(2 * width / 3)", "width = int(3 * width / 4)", ORACLE),
    Mutation(P + "models/lfm2.py", '"embedding_norm": ("token_embd_norm.weight", "output_norm.weight")', '"embedding_norm": ("token_embd_norm.weight",)', MODEL),
    Mutation(P + "models/lfm2_moe.py", "normalise=config.norm_topk_prob", "normalise=True", ORACLE),
    Mutation(P + "models/lfm2_moe.py", "scale=config.routed_scaling_factor", "scale=1.0", ORACLE),
    Mutation(P + "models/lfm2_moe.py", "if i < config.num_dense_layers else", "if i <= config.num_dense_layers else", ORACLE),
    Mutation(P + "models/lfm2_moe.py", "return matrix.rows(0, middle)", "return matrix.rows(middle, matrix.shape[0])", MODEL),
    # the interpreter
    Mutation(P + "reference.py", "np.sqrt(mean + np.float32(eps))", "np.sqrt(mean)", ("tests/engine/test_core.py", *ORACLE)),
    Mutation(P + "reference.py", "first * cos - second * sin", "first * cos + second * sin", ORACLE),
    Mutation(P + "reference.py", "taps[:, k] * u[k", "taps[:, -1 - k] * u[k", ORACLE),
    Mutation(P + "reference.py", "b, c, x = np.split(bcx, 3, axis=1)", "c, b, x = np.split(bcx, 3, axis=1)", ORACLE),
    Mutation(P + "reference.py", "np.take_along_axis(scores, chosen, axis=1)", "np.take_along_axis(preferred, chosen, axis=1)", ORACLE),
    Mutation(P + "reference.py", "context.state.position += len(tokens)", "context.state.position += 1", ORACLE),
    # weights
    Mutation(P + "weights/quantisation.py", ".view(np.int8) - np.int8(8)", ".view(np.int8) - np.int8(7)", ("tests/weights",)),
    Mutation(P + "weights/quantisation.py", "1, 32) >> np.array([0, 2, 4, 6], np.uint8).reshape(4, 1) & 3\n    nibbles", "1, 32) >> np.array([0, 4, 2, 6], np.uint8).reshape(4, 1) & 3\n    nibbles", ("tests/weights",)),
    Mutation(P + "weights/quantisation.py", "spare = first >> 6 << 4", "spare = first >> 6 << 5", ("tests/weights",)),
    Mutation(P + "weights/mixtures.py", "(layer - layers // 8) % 3 == 2", "layer % 3 == 2", ("tests/weights",)),
    Mutation("native/kernels/formats.h", "Move::move(twelve[4 * i + g - 4], 6, 2, s[i], 4);", "Move::move(twelve[4 * i + g - 4], 6, 2, s[i], 5);", ("tests/native/test_linear.py",)),
    Mutation("native/kernels/tile.h", "V::bit_and(V::shift_right(twelve[i], 2), upper)", "V::bit_and(V::shift_right(twelve[i], 1), upper)", ("tests/native/test_linear.py",)),
    Mutation("native/kernels/panels.h", "V::shift_left32(V::shift_right32(word[2], 24), 16)", "V::shift_left32(V::shift_right32(word[2], 24), 15)", ("tests/native/test_panels.py",)),
    Mutation(P + "weights/rounding.py", "(0x7FFF + (bits >> 16 & 1))", "0x7FFF", ("tests/weights",)),
    Mutation(P + "weights/rounding.py", "np.float32(8.5)", "np.float32(8.0)", ("tests/weights",)),
    Mutation(P + "weights/split.py", "if (is_, of) != (number, count):", "if of != count:", FOUND),
    Mutation(P + "weights/split.py", "if promised != len(held):", "if promised < len(held):", FOUND),
    Mutation(P + "weights/mapped.py", "(lost := len(file) - file.size()) > 0", "(lost := len(file) - file.size()) < 0", FOUND),
    Mutation(P + "weights/mapped.py", "if extent.stop > size_bytes:", "if extent.stop > 2 * size_bytes:", ("tests/weights",)),
    Mutation(P + "weights/mapped.py", "if extent.start < previous.stop:", "if extent.start < previous.start:", ("tests/weights",)),
    # words
    Mutation(P + "text/tokenizer.py", "return kinds[:first] + [_UNUSED] * count", "return kinds", FOUND),
    Mutation(P + "text/tokenizer.py", "if self.bos_id is None or not self.adds_bos or ids[:1] == [self.bos_id]:", "if self.bos_id is None or not self.adds_bos:", ("tests/text",)),
    Mutation(P + "text/prompt.py", "return tokenizer.with_bos(tokenizer.encode_guarded(text, guard))", "return tokenizer.encode(text, add_bos=True)", ("tests/text",)),
    Mutation(P + "text/stream.py", "cut = len(text) - overlap(text, self._stops)", "cut = len(text)", ("tests/text",)),
    Mutation(P + "text/stream.py", "return min(found)[1] if", "return max(found)[1] if", ("tests/text",)),
    Mutation(P + "text/window.py", "short - long > 1", "short - long > 2", WINDOW),
    Mutation(P + "text/window.py", "if i >= start or message", "if i > start or message", WINDOW),
    Mutation(P + "text/window.py", "min(window.room, free // 2)", "window.room", WINDOW),
    Mutation(P + "text/window.py", "if len(rest) < len(text) else text[1:]", "", WINDOW),
    Mutation(P + "text/window.py", "reverse=True)", "reverse=False)", WINDOW),
    Mutation(P + "text/tokenizer.py", "_encoding(_plain(self._backend), text).offsets", "_encoding(self._backend, text).offsets", ("tests/test_context.py",)),
    Mutation(P + "text/calls.py", 'text.removeprefix(THINK_START), "thinking"', 'text, "thinking"', ("tests/text",)),
    Mutation(P + "text/calls.py", 'any(echo.startswith(rest) for echo in echoes)', 'False', ("tests/text/test_replies.py",)),
    Mutation(P + "text/calls.py", "self._calls += len(told)", "pass", ("tests/text",)),
    Mutation(P + "text/bare.py", "_NOT_BEHIND.match(self._last) or self._code.open", "_NOT_BEHIND.match(self._last)", ("tests/text/test_replies.py",)),
    Mutation(P + "text/bare.py", "return [] if reader.peek() else calls", "return calls", ("tests/text/test_replies.py",)),
    Mutation(P + "text/offered.py", "if placed.keys() & keywords.keys():", "if False:", ("tests/text/test_replies.py",)),
    Mutation(P + "text/offered.py", "given.keys() <= properties.keys() or not", "not properties or not", ("tests/text/test_offered.py",)),
    Mutation(P + "text/sentinels.py", "    while count:", "    if count:", ("tests/text/test_replies.py",)),
    Mutation(P + "text/pythonic/literals.py", '"n": "\\n",', '"n": "n",', ("tests/text",)),
    Mutation(P + "text/pythonic/reader.py", 'if self.growing and self.at == len(self.text):', 'if False:', ("tests/text/test_deltas.py",)),
    Mutation(P + "text/pythonic/requote.py", "if len(found) > 1:", "if False:", ("tests/text/test_replies.py",)),
    Mutation(P + "text/pythonic/requote.py", 'elif mark == "," and depth <= 0 and', 'elif mark == "," and', ("tests/text/test_replies.py",)),
    Mutation(P + "text/pythonic/block.py", "if calls is not None and (whole or", "if calls is not None and (True or", ("tests/text/test_replies.py",)),
    Mutation(P + "text/pythonic/writing.py", r'r"<(?=\||/?think>)"', r'r"<(?=\|)"', ("tests/text/test_pythonic.py",)),
    Mutation(P + "text/repair.py", "block + prose if calls_first else prose + block", "prose + block", ("tests/text/test_repair.py",)),
    Mutation(P + "text/repair.py", 'if value or key != "tool_calls"}', '}', ("tests/text/test_repair.py",)),
    Mutation(P + "text/continuation.py", "prompt[:end] if prompt.startswith(_TAG, end) else", "", ("tests/test_words.py",)),
    # the engine
    Mutation(P + "engine/batch.py", "[sequence.computed for sequence in sequences]", "[0 for sequence in sequences]", ENGINE),
    Mutation(P + "engine/batch.py", "max(0, end - p.repeat_last_n)", "0", ENGINE),
    Mutation(P + "engine/batch.py", "part.sequence.computed + row + 1", "part.sequence.length", BATCH),
    Mutation(P + "engine/request.py", "self._bias.barred is not barred", "False", BATCH),
    Mutation(P + "engine/scheduler.py", "part_of(sequence, count, self.barred, draft)", "part_of(sequence, count, no_ids(), draft)", VOCABULARY),
    Mutation(P + "engine/scheduler.py", "if token in sequence.end_ids:", "if False:", ENGINE),
    Mutation(P + "engine/scheduler.py", "if sequence.length == sequence.limit:", "if sequence.length > sequence.limit:", ENGINE),
    Mutation(P + "engine/scheduler.py", "        sequence.computed += count\n", "        sequence.computed += 1\n", ENGINE),
    Mutation(P + "engine/scheduler.py", "while missing > self.cache.available:", "while missing > len(self.cache.free):", CACHE),
    Mutation(P + "engine/scheduler.py", "            last = self.running[-1]\n", "            last = self.running[0]\n", CACHE),
    Mutation(P + "engine/scheduler.py", "self.cache.give_back(sequence.blocks[len(sequence.held) :])", "self.cache.give_back(sequence.blocks)", CACHE),
    Mutation(P + "engine/scheduler.py", "sequence.rewind = len(draft) - held", "sequence.rewind = 0", CACHE),
    Mutation(P + "engine/scheduler.py", "            self.waiting.appendleft(first)\n", "", CACHE),
    Mutation(P + "engine/scheduler.py", "sequence.ids[: sequence.skippable])", "sequence.ids[: sequence.length])", CACHE),
    Mutation(P + "engine/request.py", "(self.followers and self.computed < before)", "False", CACHE),
    Mutation(P + "engine/outcome.py", "self.first_token + self.part.rows[row]", "self.first_token", OUTPUTS),
    Mutation(P + "engine/parts.py", "sequence.limit - sequence.length - 1", "sequence.limit - sequence.length", CACHE),
    Mutation(P + "engine/snapshot.py", "if file.read(DIGEST_BYTES) != digest.digest() or not", "if not", OUTPUTS),
    Mutation(P + "text/constraint.py", "            forced = forced[1:] if forced else trial.accept(token)\n", "            forced = trial.accept(token)\n", ("tests/engine", "tests/test_outputs.py")),
    Mutation(P + "engine/scheduler.py", "sequence.ids[sequence.prompt_tokens : sequence.length]", "sequence.ids[: sequence.length]", LOOPS),
    Mutation(P + "engine/repetition.py", "(LONGEST_UNIT + EVERY) * width", "LONGEST_UNIT * width", LOOPS),
    Mutation(P + "engine/repetition.py", "at + len(end) - 1)) >= 0", "at)) >= 0", LOOPS),
    Mutation(P + "engine/repetition.py", "tail[distance:] == tail[:-distance]", "tail[2 * distance:] == tail[distance:-distance]", LOOPS),
    Mutation(P + "engine/cache.py", "self.free.extend(reversed(numbers))", "pass", ENGINE),
    Mutation(P + "engine/cache.py", "for block in reversed(chain):  #", "for block in chain:  #", CACHE),
    Mutation(P + "engine/cache.py", "            self.free.append(number)\n        self.hold", "            pass\n        self.hold", CACHE),
    Mutation(P + "engine/cache.py", "            self.idle.pop(block, None)\n", "", CACHE),
    Mutation(P + "engine/cache.py", "popitem(last=False)", "popitem(last=True)", CACHE),
    # several models
    Mutation(P + "engine/turns.py", "key=lambda turn: turn.used_s, default", "key=lambda turn: 0, default", TURNS),
    Mutation(P + "engine/turns.py", "max(turn.used_s, self._least_used())", "turn.used_s", TURNS),
    Mutation(P + "engine/turns.py", "if first is None or first.used_s - self._least_used() <= LEAD_S:", "if True:", TURNS),
    Mutation(P + "engine/turns.py", "return first if self._clock() - self._since >= PATIENCE_S else None", "return None", TURNS),
    Mutation(P + "engine/turns.py", "        if self._stepping:\n", "        if False:\n", TURNS),
    Mutation(P + "engine/engine.py", "self._scheduler.counts()\n                self._turn.rest()\n", "self._scheduler.counts()\n", TURNS),
    Mutation(P + "engine/engine.py", "            with self._turn:\n                rows", "            if True:\n                rows", TURNS),
    Mutation(P + "engine/residents.py", "(not other.idle, other.used)", "(not other.idle, -other.used)", RESIDENTS),
    Mutation(P + "engine/residents.py", "(not other.idle, other.used)", "(other.used,)", RESIDENTS),
    Mutation(P + "engine/residents.py", 'if entry.state != "waiting"]', 'if entry.state == "loaded"]', RESIDENTS),
    Mutation(P + "engine/residents.py", 'if entry.state == "unloading" or entry in self._wanted:', 'if entry.state == "unloading":', RESIDENTS),
    Mutation(P + "engine/residents.py", "                if self._queue[0] is entry:\n                    self._wanted = []\n", "", RESIDENTS),
    Mutation(P + "engine/residents.py", "            if self._queue[0] is not entry:\n", "            if False:\n", RESIDENTS),
    Mutation(P + "engine/residents.py", "and not isinstance(error, Busy) else None", "else None", RESIDENTS),
    Mutation(P + "engine/residents.py", "            except BaseException:\n                entry.in_flight -= 1\n", "            except BaseException:\n", RESIDENTS),
    Mutation(P + "engine/residents.py", "victim for victim in victims if victim.idle)", "victim for victim in victims)", RESIDENTS),
    Mutation(P + "engine/residents.py", "if entry.idle and entry.keep_alive_s == 0", "if entry.keep_alive_s == 0", RESIDENTS),
    Mutation(P + "engine/residents.py", "if self.idle and 0 <= self.keep_alive_s", "if 0 <= self.keep_alive_s", RESIDENTS),
    Mutation(P + "engine/residents.py", "            entry.idle_since = self._clock.now()\n", "", RESIDENTS),
    Mutation(P + "engine/residents.py", "[entry] if self._abandoned else []", "[]", RESIDENTS),
    Mutation(P + "machine.py", "int(most) - int(used) + _cached_files(", "int(most) - int(used) + 0 * _cached_files(", ("tests/test_machine.py",)),
    Mutation(P + "machine.py", 'prefix = "total_" if', 'prefix = "" if', ("tests/test_machine.py",)),
    Mutation(P + "engine/core.py", 'return step.weights\n        case "linear"', 'return ()\n        case "linear"', CORE),
    # tools
    Mutation(P + "tools/calculator.py", "return _power(base, self.unary())", "return _power(base, self.postfix())", ("tests/tools",)),
    Mutation(P + "tools/calculator.py", "if growth * abs(exponent.numerator) > MAX_DIGITS", "if growth > MAX_DIGITS", ("tests/tools",)),
    Mutation(P + "tools/builtin.py", "min(start.day, calendar.monthrange(year, month + 1)[1])", "min(start.day, 28)", ("tests/tools",)),
    Mutation(P + "tools/loop.py", 'for argument in parameters["required"]:', "for argument in []:", ("tests/tools",)),
    # what holds it together
    Mutation(P + "defaults.py", "reversed(list(sources.items()))", "list(sources.items())", MODEL),
    Mutation(P + "jobs.py", "if len(self.prompt) >= self.num_ctx + (", "if len(self.prompt) > 2 * self.num_ctx + (", MODEL),
    Mutation(P + "tools/loop.py", "len(done) > rounds or", "len(done) >= 1 or", ("tests/nano",)),
    Mutation(P + "convert.py", "head=name == head", "head=False", ("tests/test_convert.py",)),
    Mutation(P + "cli/run.py", 'return "\\n".join(parts)', "return parts[0]", ("tests/cli/test_run.py",)),
    # the native core
    Mutation("native/attention.cpp", "const float angle = static_cast<float>(position) * a.frequencies[i];", "const float angle = static_cast<float>(position + 1) * a.frequencies[i] * 1.01f;", NATIVE),
    Mutation("native/attention.cpp", "const float scale = 1 / std::sqrt(static_cast<float>(n));", "const float scale = 1;", NATIVE),
    Mutation("native/operations.cpp", "weights[j] = scores[best];", "weights[j] = most;", NATIVE),
    Mutation("native/operations.cpp", "copy_rows(u + written * c.width, cache.inputs", "copy_rows(u, cache.inputs", NATIVE),
    Mutation("native/operations.cpp", "drafts.inputs(c.slot, slot, rewind)", "drafts.inputs(c.slot, slot, 0)", DRAFTS),
    Mutation("native/operations.cpp", "u + (n - kept) * c.width", "u + n * c.width", DRAFTS),
    Mutation("native/batch.cpp", "rewind <= last.tokens && b", "b", DRAFTS),
    Mutation("native/drafts.cpp", "{batch.positions[s] + tokens, tokens}", "{batch.positions[s], tokens}", DRAFTS),
    Mutation("native/logprobs.cpp", "logit <= best", "logit < best", NATIVE_OUTPUTS),
    Mutation("native/logprobs.h", "logit - largest - log_total", "logit - log_total", NATIVE_OUTPUTS),
    Mutation("native/model.cpp", "if (wanted >= 0) std::copy", "if (wanted >= 0 && target >= 0) std::copy", NATIVE_OUTPUTS),
    Mutation("native/model.cpp", "routings_.data() + (i * batch.token_count() + t) * width", "routings_.data() + (t * routes + i) * width", NATIVE_OUTPUTS),
    Mutation("native/sample.cpp", "logit > 0 ? logit / s.repeat_penalty", "logit < 0 ? logit / s.repeat_penalty", NATIVE),
    Mutation("native/sample.cpp", "before >= top_p * total", "before >= top_p", NATIVE),
    Mutation("native/sample.cpp", "mix(mix(seed) ^ mix(~position))", "mix(mix(seed))", NATIVE),
    Mutation("native/attention.cpp", "if (softmax[r].total == 0) continue;", "if (r == 0) continue;", NATIVE),
    Mutation("native/cache.cpp", "at = offset % kTile;", "at = offset % kTile / 2;", NATIVE),
    Mutation("native/cache.cpp", "Rounding{largest / 127, inverse}", "Rounding{largest / 126, inverse}", NATIVE),
    Mutation("native/kernels/scalar.cpp", "sum / static_cast<float>(n) + eps", "sum / static_cast<float>(n)", NATIVE),
    # OpenAI's API
    Mutation(P + "server/openai/chat.py", 'return "json" if schema is None else schema', 'return "json"', CHAT),
    Mutation(P + "server/openai/chat.py", 'effort = None if self.reasoning_effort is None else self.reasoning_effort != "none"', "effort = None if self.reasoning_effort is None else True", CHAT),
    Mutation(P + "server/openai/chat.py", "if think and not model.can_think:", "if False:", CHAT),
    Mutation(P + "server/openai/chat.py", "tokens = [] if stopped(running, index) else one.taken()", "tokens = one.taken()", CHAT),
    Mutation(P + "server/openai/chat.py", 'content = "" if isinstance(event, Text | Done) else None', 'content = ""', FRAMES),
    Mutation(P + "server/openai/chat.py", "case ToolCall(id, name, arguments) if id not in self.calls:", "case ToolCall(id, name, arguments):", FRAMES),
    Mutation(P + "server/openai/chat.py", '"id": f"call_{secrets.token_hex(12)}"', '"id": id_', CHAT),
    Mutation(P + "server/openai/chat.py", "return ids.index(end) + 1 if end in ids else len(ids)", "return 0", CHAT),
    Mutation(P + "server/openai/chat.py", '"deltas": self.stream,', '"deltas": False,', FRAMES),
    Mutation(P + "server/openai/messages.py", 'BETWEEN_PARTS = "\\n"', 'BETWEEN_PARTS = ""', CHAT),
    Mutation(P + "server/openai/messages.py", '"system" if role == "developer" else role', "role", CHAT),
    Mutation(P + "server/openai/messages.py", "[tool for name, tool in shown.items() if name in names], allowed.mode", "list(shown.values()), allowed.mode", CHAT),
    Mutation(P + "server/openai/facts.py", '"repetition": "length",', '"repetition": "stop",', CHAT),
    Mutation(P + "server/openai/facts.py", "return self._ended[:: self.per_prompt]", "return self._ended", COMPLETIONS),
    Mutation(P + "server/openai/completions.py", "if one.read > prompts.began[prompt]:", "if True:", COMPLETIONS),
    Mutation(P + "server/openai/completions.py", "ends=asked.logprobs is not None,", "ends=False,", COMPLETIONS),
    Mutation(P + "server/openai/completions.py", "one.waiting.clear()  # they are the stop sequence", "pass", COMPLETIONS),
    Mutation(P + "server/openai/completions.py", "whole = isinstance(one, str) and not answers.replies[place * asked.n].dropped", "whole = isinstance(one, str)", COMPLETIONS),
    Mutation(P + "server/openai/legacy_logprobs.py", "if token.of_prompt or token.id not in self.tokenizer.special_ids:", "if True:", COMPLETIONS),
    Mutation(P + "server/openai/legacy_logprobs.py", "for id_, text, logprob in (*token.top, (token.id, token.text, token.logprob)):", "for id_, text, logprob in token.top:", COMPLETIONS),
    Mutation(P + "server/openai/embeddings.py", "prompts = [model.prompt(one) for one in wanted(given, gone)]", "prompts = [model.tokenize(one) if isinstance(one, str) else one for one in given]", EMBEDDINGS),
    Mutation(P + "server/openai/replies.py", "if facts.complete and not include_usage else {}", "if facts.complete else {}", FRAMES),
    Mutation(P + "server/openai/sampling.py", "penalty = self.repetition_penalty if self.repeat_penalty is None else self.repeat_penalty", "penalty = self.repeat_penalty", CHAT),
    Mutation(P + "server/openai/errors.py", "return self.prompt", "return None", ERRORS),
    Mutation(P + "server/openai/errors.py", 'return "unsupported_parameter" if error.known else "unknown_parameter"', 'return "unknown_parameter"', ERRORS),
    Mutation(P + "server/lines.py", 'for end in "\\x85\\u2028\\u2029"', 'for end in "\\u2028\\u2029"', FRAMES),
    Mutation(P + "server/openapi.py", 'if not own or {"type": "null"} in options:', "if True:", OPENAPI),
    Mutation(P + "server/durations.py", "return math.inf if value < 0 else float(value)", "return float(value)", DURATIONS),
    Mutation(P + "server/ollama/answers.py", 'REASONS.get(done.reason, "stop")', '"stop"', OLLAMA),
    Mutation(P + "server/ollama/answers.py", 'goes_on = messages[-1]["role"] == "assistant" and bool(last.content) and not last.tool_calls', "goes_on = False", OLLAMA),
    Mutation(P + "server/ollama/requests.py", '"truncate" if asked.truncate else "shift" if asked.shift else "error"', '"truncate" if asked.truncate else "error"', OLLAMA),
    Mutation(P + "server/ollama/requests.py", 'if said != "truncate":', "if True:", OLLAMA),
    Mutation(P + "server/ollama/listing.py", "    if model is None:\n", "    if False:\n", PS),
    Mutation(P + "engine/engine.py", "self._counts = self._scheduler.counts()\n                if parts:", "if parts:", ENGINE),
    Mutation(P + "engine/residents.py", 'if entry and entry.state == "loaded" else None', "if entry else None", RESIDENTS),
    Mutation(P + "budget.py", "        left -= some.pop(0)\n", "        some.pop(0)\n", BUDGET),
    Mutation(P + "budget.py", "least = sum(sorted((other.least for other in others), reverse=True)[:count])", "least = sum(sorted(other.least for other in others)[:count])", BUDGET),
    Mutation(P + "keys.py", "return Key.of(first).secret or None", "return first or None", GUARD),
    Mutation(P + "server/ollama/answers.py", '"logprobs": asked.top_logprobs if asked.logprobs else None,', '"logprobs": asked.top_logprobs or None,', OLLAMA),
    Mutation(P + "server/ollama/answers.py", "waiting, self.logprobs = self.logprobs, []", "waiting = self.logprobs", OLLAMA_CLIENT),
    Mutation(P + "server/ollama/answers.py", "self.logprobs = []  # those", "pass  # those", OLLAMA_CLIENT),
    Mutation(P + "server/ollama/answers.py", '"after": asked.context,', '"after": (),', OLLAMA_CLIENT),
    Mutation(P + "server/ollama/answers.py", '_Told(began, options["num_ctx"], keeps_ids=not asked.raw)', '_Told(began, options["num_ctx"], keeps_ids=True)', OLLAMA_CLIENT),
    Mutation(P + "server/ollama/answers.py", "self.calls += 1", "pass", OLLAMA),
    Mutation(P + "server/ollama/answers.py", "if asked.tools and not (await asyncio.to_thread(call.house.shelf.facts, name)).can_call:", "if False:", OLLAMA_LIBRARY),
    Mutation(P + "server/ollama/answers.py", "if kept_s == 0:", "if False:", OLLAMA),
    Mutation(P + "server/ollama/embeddings.py", "if len(ids) > most and not truncate:", "if len(ids) > most and False:", OLLAMA),
    Mutation(P + "server/ollama/embeddings.py", "normalise=False, gone=gone", "gone=gone", OLLAMA_CLIENT),
    Mutation(P + "server/ollama/embeddings.py", "sum(map(len, prompts))", "len(prompts)", OLLAMA_CLIENT),
    Mutation(P + "engine/options.py", "return int(value) if isinstance(value, float) and value.is_integer() else value", "return value", OLLAMA),
    Mutation(P + "engine/options.py", 'if parameters.get("seed") == DRAWN_SEED:', "if False:", OLLAMA_CLIENT),
    Mutation(P + "engine/options.py", "isinstance(value, bool) != isinstance(neutral, bool)", "False", OLLAMA),
    Mutation(P + "server/ollama/requests.py", '"role": self.role.lower()', '"role": self.role', OLLAMA),
    Mutation(P + "server/ollama/dialect.py", 'one_line(value) + b"\\n"', '__import__("msgspec").json.encode(value) + b"\\n"', OLLAMA_CLIENT),
    Mutation(P + "server/ollama/listing.py", "except HeadraceError as error:  # one", "except KeyError as error:  # one", OLLAMA_LIBRARY),
    Mutation(P + "summary.py", "return FILE_TYPES[file_type]", "pass", OLLAMA_LIBRARY),
    Mutation(P + "server/works.py", "self._steps[step.status, step.digest] = step", "self._steps[step.status, str(len(self._steps))] = step", WORKS),
    Mutation(P + "server/works.py", "del self._steps[next(iter(self._steps))]", "pass", WORKS),
    Mutation(P + "server/works.py", "            if self._is_over:\n                return\n", "", WORKS),
    Mutation(P + "server/works.py", "            work.stop.set()\n\n    def close", "            pass\n\n    def close", WORKS),
    Mutation(P + "server/works.py", "            yield work\n        finally:\n            work.stop.set()", "            yield work\n        finally:\n            pass", WORKS),
    Mutation(P + "server/guard.py", 'if needed == "manage" and not is_near(scope):', "if False:", KEEPING),
    Mutation(P + "server/ollama/keeping.py", "loopback=call.is_near", "loopback=True", KEEPING),
    Mutation(P + "server/ollama/keeping.py", "if before and _digest(house.library.store, name) != before:", "if False:", KEEPING),
    Mutation(P + "server/ollama/keeping.py", "if before and _digest(house.library.store, name) != before:", "if before:", KEEPING),
    Mutation(P + "packing.py", "    pack(library, name, report)\n", "", PACKING),
    Mutation(P + "packing.py", "    collect(library.store)\n", "", PACKING),
    Mutation(P + "engine/packed.py", "else [*remains, packed]", "else remains", PACKING),
    Mutation(P + "engine/packed.py", "                with alone_at(there):\n                    there.unlink(missing_ok=True)\n", "", PACKING),
    Mutation(P + "server/ollama/keeping.py", "    call.house.serving.models.unload(plain(str(name)))\n    packing.collect(store)", "    packing.collect(store)", KEEPING),
    Mutation(P + "server/ollama/keeping.py", "fixed_path(str(name) if name else text)", "fixed_path(text)", KEEPING),
    Mutation(P + "server/ollama/keeping.py", "base = fixed or (find(made.source, None) if made.source else None)", "base = fixed or made.source", MAKING),
    Mutation(P + "server/ollama/making.py", 'return f"sha256:{found[1].lower()}"', "return text", BLOBS),
    Mutation(P + "server/ollama/listing.py", '"digest": model.digest or facts.digest,\n        "details": {**', '"digest": facts.digest,\n        "details": {**', KEEPING),
    Mutation(P + "server/ollama/listing.py", 'return name if ":" in name.rpartition("/")[2] else name + TAG', 'return name if ":" in name else name + TAG', KEEPING),
    Mutation(P + "server/ollama/blobs.py", "while size >= 0 and (piece", "while (piece", BLOBS),
    Mutation(P + "server/ollama/blobs.py", "if received > checked:", "if False:", BLOBS),
    Mutation(P + "server/ollama/blobs.py", 'if "expect" not in call.headers:', "if True:", BLOBS),
    Mutation(P + "server/wire.py", "while not self.is_over and len(piece) < SLOWEST_BYTES:", "while not self.is_over:", BLOBS),
    Mutation(P + "library/store.py", "os.utime(self.blob(digest), follow_symlinks=False)", "pass", BLOBS),
    Mutation(P + "library/registry/fetch.py", "            if is_left and not self._failure:\n                raise Stopped", "            if is_left and not self._failure:\n                return", ("tests/library/test_pull.py",)),
    Mutation(P + "server/ollama/listing.py", "call.house.num_ctx or facts", "facts", OLLAMA_LIBRARY),
    Mutation(P + "server/ollama/__init__.py", "made.methods = set(methods)  # no", "pass  # no", OLLAMA),
    Mutation(P + "server/transport.py", "except OSError:  # the client", "except KeyError:  # the client", TRANSPORT),
    Mutation(P + "server/transport.py", "if not self.transport.is_closing():", "if True:", TRANSPORT),
    Mutation(P + "server/start.py", "listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)", "pass", TRANSPORT),
    Mutation(P + "server/app.py", "app.router.redirect_slashes = False", "pass", GUARD),
    Mutation(P + "server/openai/replies.py", "**counts, reason=facts.reason", "**counts", LOG),
    Mutation(P + "server/endpoint.py", "note(self.scope, model=found.name)", "pass", LOG),
    Mutation(P + "server/vectors.py", "if gone():", "if False:", SERVING),
    Mutation(P + "server/too_long.py", "if window and error.a_larger_window_would_do:", "if window:", TOO_LONG),
    Mutation(P + "text/following.py", "if after[-1] in end_ids:", "if True:", FOLLOWING),
    Mutation(P + "text/following.py", "*prompt[len(tokenizer.with_bos([])) :]", "*prompt", FOLLOWING),
    # the library
    Mutation(P + "locks.py", "if _try(handle) and _is_still(path, handle):", "if _try(handle):", ("tests/test_locks.py",)),
    Mutation(P + "library/files.py", "    part.unlink(missing_ok=True)\n    handle =", "    part = path\n    handle =", LIBRARY),
    Mutation(P + "library/partial.py", "ranges, self._unwritten = list(self._ranges), 0", "ranges, self._unwritten = [(0, self.size)], 0", LIBRARY),
    Mutation(P + "library/partial.py", "            sync(self._handle)\n            self._write_journal(ranges)", "            self._write_journal(ranges)\n            sync(self._handle)", LIBRARY),
    Mutation(P + "library/partial.py", "or not is_plain_file(data, whole)", "", LIBRARY),
    Mutation(P + "library/partial.py", "self._starts[last] <= stop", "self._starts[last] < stop", LIBRARY),
    Mutation(P + "library/writing.py", "if not self._store.has(layer):\n                    raise", "if False:\n                    raise", LIBRARY),
    Mutation(P + "library/writing.py", "self.keep([layer.digest])\n        if", "if", LIBRARY),
    Mutation(P + "library/store.py", "- self._referred() - self._pinned()", "- self._referred()", LIBRARY),
    Mutation(P + "library/store.py", "- self._referred() - self._pinned()", "- self._pinned()", LIBRARY),
    Mutation(P + "library/store.py", "if not is_held(folder / PINS):\n                freed", "if True:\n                freed", LIBRARY),
    Mutation(P + "library/store.py", "if missing and _stamp(place) != stamp:", "if False:", LIBRARY),
    Mutation(P + "library/store.py", "with suppress(Busy), locked(lock, wait_s=0):", "if True:", LIBRARY),
    Mutation(P + "library/store.py", "follow=not self.can_write", "follow=True", LIBRARY),
    Mutation(P + "library/names.py", '".." not in part and ', "", LIBRARY),
    Mutation(P + "library/names.py", "if self.host != HOST or _names_a_host(self.namespace):", "if self.host != HOST:", LIBRARY),
    Mutation(P + "library/manifest.py", "if sizes[layer.digest] != layer.size:", "if False:", LIBRARY),
    Mutation(P + "cli/_log.py", '"PRAGMA secure_delete = ON"', '"PRAGMA secure_delete = OFF"', CONVERSATIONS),
    Mutation(P + "cli/_log.py", "ORDER BY max(t.id) DESC", "ORDER BY max(t.asked_at) DESC", CONVERSATIONS),
    Mutation(P + "cli/_log.py", "self.path.chmod(0o600)", "pass", CONVERSATIONS),
    Mutation(P + "cli/_recorder.py", 'if name != "thinking"', "if True", HISTORY),
    Mutation(P + "cli/_recorder.py", "self.recorded, self._anew = len(messages), False", "self.recorded = len(messages)", HISTORY),
    Mutation(P + "cli/_attached.py", "left -= len(content)", "pass", HISTORY),
    Mutation(P + "doctor.py", "free < largest.size_bytes", "free < 1", DOCTOR),
    Mutation(P + "cli/_settings.py", "(name not in ours or name in SECRET)", "name in SECRET", DOCTOR),
    Mutation(P + "library/manifest.py", "if sum(sizes.values()) > LARGEST_BLOB:", "if False:", MANIFEST),
    Mutation(P + "library/manifest.py", "type(size) is not int or ", "", LIBRARY),
    Mutation(P + "library/cached.py", "and _has_all_parts(files)", "", LIBRARY),
    Mutation(P + "library/models.py", "if _may_run(store, one.name):", "if True:", LIBRARY),
    Mutation(P + "locks.py", "handle = os.open(path, os.O_RDWR | os.O_NOFOLLOW)", "handle = os.open(path, os.O_RDWR)", LINKS),
    Mutation(P + "library/partial.py", "os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW", "os.O_RDWR | os.O_CREAT", LINKS),
    Mutation(P + "library/files.py", "os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW", "os.O_WRONLY | os.O_CREAT | os.O_TRUNC", LINKS),
    Mutation(P + "library/files.py", "if not stat.S_ISDIR(folder.lstat().st_mode):", "if False:", STORE),
    Mutation(P + "library/writing.py", "if not is_plain_file(path):", "if False:", LINKS),
    Mutation(P + "library/writing.py", "if not 0 <= size <= LARGEST_BLOB:", "if False:", LINKS),
    Mutation(P + "library/store.py", "if not is_digest(digest):", "if False:", LINKS),
    Mutation(P + "library/store.py", "return found.st_ino, found.st_mtime_ns", "return 0, 0", STORE),
    Mutation(P + "library/store.py", "if _is_folder(folder)]", "]", STORE),
    Mutation(P + "library/store.py", "            place.unlink()\n", "            self.blob(max(digests_in(raw))).unlink(missing_ok=True)\n            place.unlink()\n", ANY_STEP),
    Mutation(P + "library/writing.py", "if self._store.manifest(name).raw == manifest.raw:", "if True:", STORE),
    Mutation(P + "library/models.py", "if store.stamp(name) == stamp:", "if True:", MODELS),
    Mutation(P + "library/source.py", "        with work.session.scratch() as scratch:\n", "        for scratch in [work.store.blob(layer.digest)]:\n", ANY_STEP),
    Mutation(P + "library/source.py", "        with disk_errors(path):\n            make(", "        if True:\n            make(", ANY_STEP),
    Mutation(P + "library/pull.py", "MOST_AT_ONCE: Final = 100 ", "MOST_AT_ONCE: Final = 1000 ", PULL),
    Mutation(P + "library/hub.py", "unchecked.add(file.filename for file in plan)", "unchecked.names = [file.filename for file in plan]", HUB),
    Mutation(P + "library/hub.py", 'isinstance(name, str) and "/" not in name and', "isinstance(name, str) and", HUB),
    Mutation(P + "library/cached.py", "[entry for entry in snapshots if entry.name == main]", '[one for one in [repository / "snapshots" / main] if one.is_dir()]', CACHED),
    Mutation(P + "library/cached.py", "with suppress(RequestInvalid):  # a", "if True:  # a", MODELS),
    Mutation(P + "weights/gguf_writer.py", "offset += -(-entry.size_bytes // alignment) * alignment", "offset += entry.size_bytes", GGUF_WRITER),
    Mutation(P + "library/registry/web.py", "except (httpx.InvalidURL, UnicodeError) as error:", "except ZeroDivisionError as error:", ANSWERS),
    Mutation(P + "library/registry/access.py", "except (httpx.InvalidURL, UnicodeError):", "except ZeroDivisionError:", ANSWERS),
    Mutation(P + "library/registry/access.py", "if not isinstance(token, str) or not token.isascii()", "if not token.isascii()", ANSWERS),
    Mutation(P + "library/registry/span.py", "yield piece[:left]", "yield piece", ANSWERS),
    Mutation(P + "shapes.py", "inputs = 2 * 4 * member.hidden_size", "inputs = 2 * 2 * member.hidden_size", LIBRARY),
)  # fmt: skip
