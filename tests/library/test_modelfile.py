"""Modelfiles are read as Ollama reads them, with a sentence for what is not supported, and written back the same."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from headrace.engine.options import HONOURED, IGNORED, NEUTRAL
from headrace.errors import RequestInvalid, TemplateInvalid, Unsupported, UserError
from headrace.library import modelfile
from headrace.library.modelfile import LARGEST_BYTES, REFUSED, Message, Modelfile, looks_like_go, read, write

JINJA = "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{% endfor %}"


def said(text: str) -> Modelfile:
    return read(b"FROM foo\n" + text.encode())


def test_all_instructions() -> None:
    found = read(
        b"# what it is\n"
        b"FROM ./model.gguf\n"
        b"PARAMETER temperature 0.3\n"
        b'  PARAMETER stop "<|im_end|>"\n'
        b"\tPARAMETER stop ### User:\n"
        b"PARAMETER num_ctx 4096\n"
        b'TEMPLATE """' + JINJA.encode() + b'"""\n'
        b"SYSTEM You are # not a comment\n"
        b"LICENSE MIT\n"
        b'LICENSE """\nApache\n2.0\n"""\n'
        b"MESSAGE user Hi\n"
        b"MESSAGE assistant Hello: there\n"
        b"REQUIRES v0.14.0\n"
    )
    assert found == Modelfile(
        "./model.gguf",
        {"temperature": 0.3, "stop": ["<|im_end|>", "### User:"], "num_ctx": 4096},
        JINJA,
        "You are # not a comment",
        ("MIT", "\nApache\n2.0\n"),
        (Message("user", "Hi"), Message("assistant", "Hello: there")),
        "0.14.0",
    )


def test_what_is_not_said_is_none_and_an_empty_text_is_said() -> None:
    assert said("") == Modelfile("foo")
    assert said('SYSTEM ""\nTEMPLATE """"""') == Modelfile("foo", system="", template="")


# Names and expectations are those of the cases in Ollama's own test of its parser.
@pytest.mark.parametrize(
    ("text", "source"),
    [
        ('FROM "FOO  BAR  "', "FOO  BAR  "),
        ("FROM     FOOO BAR    ", "FOOO BAR"),
        ("FROM /what/is/the path ", "/what/is/the path"),
        ("FROM llama3:7b-instruct-q4_K_M", "llama3:7b-instruct-q4_K_M"),
        ("from foo", "foo"),
        ("FrOm foo", "foo"),
        ("PARAMETER top_k 1\nFROM lemons make lemonade ", "lemons make lemonade"),
        ("\ufeffFROM foo", "foo"),
        ("\r\n# c\rFROM foo\r\n", "foo"),
        ("\n\t# comment\nFROM foo\n\t", "foo"),
    ],
)
def test_from(text: str, source: str) -> None:
    assert read(text.encode()).source == source


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_utf16_as_windows_writes_it(encoding: str) -> None:
    text = "\ufeffFROM bob\nSYSTEM You are a utf16 file: ✓.\n"
    assert read(text.encode(encoding)) == Modelfile("bob", system="You are a utf16 file: ✓.")


@pytest.mark.parametrize(
    ("text", "system"),
    [
        ('SYSTEM """\nThis is a\nmultiline system.\n"""\n\t\t', "\nThis is a\nmultiline system.\n"),
        ('SYSTEM """This is a\nmultiline system."""', "This is a\nmultiline system."),
        ('SYSTEM """This is one line."""   \t\nPARAMETER top_k 1', "This is one line."),
        ('SYSTEM """\nwith "quotes".\n"""', '\nwith "quotes".\n'),
        ('SYSTEM """a """ b\n"""', 'a """ b\n'),
        ('SYSTEM """a"""" b\nc""""', 'a"""" b\nc"'),
        ('SYSTEM ""', ""),
        ('SYSTEM """"""', ""),
        ('SYSTEM "\'"', "'"),
        ("""SYSTEM \"\"\"''"'""'""'"'''''""'""'\"\"\"""", """''"'""'""'"'''''""'""'"""),
        ('SYSTEM "two\nlines"', "two\nlines"),
        ('SYSTEM "he said "hi" to me"', 'he said "hi" to me'),
        ('SYSTEM say "hi"', 'say "hi"'),
        ('SYSTEM "  kept  "', "  kept  "),
        ('SYSTEM   \t"""a\r\nb\r\n"""\r\n', "a\r\nb\r\n"),
        ("SYSTEM tab\tin it\r", "tab\tin it"),
        ("SYSTEM first\nSYSTEM second", "second"),
        ("SYSTEM a\u200db\u00a0c\x1b", "a\u200db\u00a0c\x1b"),
    ],
)
def test_values(text: str, system: str) -> None:
    assert said(text).system == system


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("temperature 1", 1),
        ("temperature 0.25", 0.25),
        ("temperature .5", 0.5),
        ("temperature 1e-2", 0.01),
        ("top_k +40", 40),
        ("seed -1", -1),
        ("num_predict -2", -2),
        ("num_ctx 32768", 32768),
        ("use_mmap true", True),
        ("use_mmap 0", False),
        ("numa F", False),
        ("num_gpu 99", 99),
        ("penalize_newline true", True),
        ("typical_p 1.0", 1.0),
        ("mirostat_tau 5.0", 5.0),
        ("stop 42", ["42"]),
        ('stop "### User: "', ["### User: "]),
        ('stop """### User:\n"""', ["### User:\n"]),
    ],
)
def test_parameters_are_typed(text: str, value: Any) -> None:
    name = text.split()[0]
    found = said(f"PARAMETER {text}").parameters
    assert found == {name: value}
    assert type(found[name]) is type(value)


def test_of_a_parameter_the_last_counts_and_of_stop_all() -> None:
    text = "PARAMETER stop a\nPARAMETER top_k 1\nPARAMETER stop b\nPARAMETER top_k 2\nPARAMETER stop a"
    assert said(text).parameters == {"stop": ["a", "b", "a"], "top_k": 2}


def test_every_option_of_the_server_is_a_parameter() -> None:
    values = {"stop": "x", **{name: str(value).lower() for name, value in NEUTRAL.items()}}
    for name in (*HONOURED, *IGNORED, *NEUTRAL, "num_ctx"):
        assert name in said(f"PARAMETER {name} {values.get(name, 1)}").parameters


@pytest.mark.parametrize(
    ("text", "kind", "sentence"),
    [
        ("", RequestInvalid, "M has no FROM: the model that it begins with, a GGUF file, or a folder"),
        ("SYSTEM x", RequestInvalid, "M has no FROM: the model that it begins with, a GGUF file, or a folder"),
        ("FROM", RequestInvalid, "M line 1: FROM needs a value"),
        ("FROM  \nfoo", RequestInvalid, "M line 1: FROM needs a value"),
        ('FROM ""', RequestInvalid, "M line 1: FROM should name a model, a GGUF file or a folder"),
        ("FROM a\nFROM b", Unsupported, "M has 2 FROMs: a model is made from one model, file or folder"),
        (
            "FROM foo\nBADCOMMAND param1 value1",
            RequestInvalid,
            "M line 2: there is no instruction 'BADCOMMAND': they are FROM, PARAMETER, TEMPLATE, SYSTEM, LICENSE, "
            "MESSAGE, REQUIRES",
        ),
        (
            "FROM foo\r\n\r\nADAPTER x",
            Unsupported,
            "M line 3: ADAPTER is not supported: merge the adapter into its model, and name that with FROM",
        ),
        ("FROM foo\nSYSTEM", RequestInvalid, 'M line 2: SYSTEM needs a value: write "" for an empty one'),
        (
            "FROM foo\nSYSTEM\nx",
            RequestInvalid,
            'M line 2: SYSTEM needs a value: write "" for an empty one',
        ),
        (
            'FROM foo\nSYSTEM """one\ntwo""',
            RequestInvalid,
            'M line 2: SYSTEM begins with """ and no line after it ends with """',
        ),
        ('FROM foo\nSYSTEM "', RequestInvalid, 'M line 2: SYSTEM begins with " and no line after it ends with "'),
        (
            "FROM foo\nPARAMETER",
            RequestInvalid,
            "M line 2: PARAMETER needs a name and a value, such as PARAMETER temperature 0.2",
        ),
        ("FROM foo\nPARAMETER top_k\n", RequestInvalid, "M line 2: PARAMETER top_k needs a value"),
        (
            "FROM foo\nPARAMETER topk 4",
            RequestInvalid,
            "M line 2: PARAMETER topk: there is no such option here: they are frequency_penalty, min_p, num_ctx, "
            "num_predict, presence_penalty, repeat_last_n, repeat_penalty, seed, stop, temperature, top_k, top_p",
        ),
        (
            "FROM foo\nPARAMETER temperature hot",
            RequestInvalid,
            "M line 2: temperature is 'hot' but should be a number from 0 to 100",
        ),
        (
            "FROM foo\nPARAMETER temperature nan",
            RequestInvalid,
            "M line 2: temperature is 'nan' but should be a number from 0 to 100",
        ),
        (
            "FROM foo\nPARAMETER temperature 1_0",
            RequestInvalid,
            "M line 2: temperature is '1_0' but should be a number from 0 to 100",
        ),
        (
            "FROM foo\n\nPARAMETER top_k 1.5",
            RequestInvalid,
            "M line 3: top_k is 1.5 but should be a whole number from 0 to 2.14748e+09",
        ),
        (
            "FROM foo\nPARAMETER num_ctx 0",
            RequestInvalid,
            "M line 2: num_ctx is 0 but should be a whole number from 1 to 2147483647",
        ),
        (
            'FROM foo\nPARAMETER stop ""',
            RequestInvalid,
            "M line 2: stop should be a text or a list of texts, none of them empty",
        ),
        (
            "FROM foo\nPARAMETER mirostat 2",
            RequestInvalid,
            "M line 2: PARAMETER mirostat is 2 but only 0 is supported: leave it out",
        ),
        (
            "FROM foo\nPARAMETER num_gpu all",
            RequestInvalid,
            "M line 2: PARAMETER num_gpu is 'all' but should be a number, true or false",
        ),
        (
            "FROM foo\nMESSAGE badguy I'm a bad guy!",
            RequestInvalid,
            "M line 2: MESSAGE has the role 'badguy': expected system, user, assistant",
        ),
        (
            "FROM foo\nMESSAGE system",
            RequestInvalid,
            'M line 2: MESSAGE system needs a value: write "" for an empty one',
        ),
        (
            "FROM foo\nMESSAGE\nx",
            RequestInvalid,
            "M line 2: MESSAGE needs a role and a text, such as MESSAGE user Hello",
        ),
        (
            "FROM foo\nREQUIRES soon",
            RequestInvalid,
            "M line 2: REQUIRES is 'soon' but should be a version, such as 0.14.0",
        ),
        (
            "FROM foo\nTEMPLATE {{ .Prompt }}",
            TemplateInvalid,
            "M line 2: TEMPLATE is a Go template, and should be Jinja: leave it out to use the model's own",
        ),
        (
            'FROM foo\n\nTEMPLATE """a\n{% if %}"""',
            TemplateInvalid,
            "M line 3: the chat template cannot be read: line 2: Expected an expression, got 'end of statement block'",
        ),
    ],
)
def test_what_is_wrong_is_a_sentence_with_its_line(text: str, kind: type[UserError], sentence: str) -> None:
    with pytest.raises(UserError) as raised:
        read(text.encode(), "M")
    assert type(raised.value) is kind
    assert str(raised.value) == sentence


@pytest.mark.parametrize("instruction", REFUSED)
def test_every_other_instruction_of_ollamas_is_refused_by_name(instruction: str) -> None:
    with pytest.raises(Unsupported, match=rf"Modelfile line 2: {instruction} is not supported: \w"):
        said(f"{instruction.lower()} x")


def test_other_bytes_than_utf8_and_a_file_too_large() -> None:
    with pytest.raises(RequestInvalid, match="line 3: it should be UTF-8 text, and this is not"):
        read(b"FROM foo\r\nSYSTEM a\nSYSTEM \xff\n")
    with pytest.raises(RequestInvalid, match=f"and a Modelfile at most {LARGEST_BYTES}"):
        read(b"FROM foo" + b"\n" * LARGEST_BYTES)


# --- Go's templates and Jinja's

OLLAMA_CHAT = """{{- if or .System .Tools }}<|im_start|>system
{{- if .System }}
{{ .System }}
{{- end }}{{ end }}
{{- range $i, $_ := .Messages }}
{{- $last := eq (len (slice $.Messages $i)) 1 -}}
{{- if eq .Role "user" }}<|im_start|>user
{{ .Content }}<|im_end|>
{{ else if eq .Role "assistant" }}<|im_start|>assistant
{{ end }}{{ end }}"""


@pytest.mark.parametrize(
    "text",
    [
        OLLAMA_CHAT,
        "{{ .Prompt }}",
        "{{.Prompt}}",
        "{{- .System -}}",
        "a {{- range .Messages }}b{{ end }}",
        "{{ if .System }}",
        "{{ if and .System (eq 1 2) }}",
        "{{ if (eq .Role 1) }}",
        "{{ else if not .Tools }}",
        "{{ $x }}",
        "{{/* a comment */}}",
        "{{- /* a comment */ -}}",
        "{{ with .X }}",
        "{{ json .Tools }}",
        "{{ not ( .X ) }}",
        "text{{ end }}",
    ],
)
def test_go_is_known_by_its_looks(text: str) -> None:
    assert looks_like_go(text)


@pytest.mark.parametrize(
    "text",
    [
        JINJA,
        "{{ bos_token }}{% if messages %}{{ messages[0].content }}{% endif %}",
        "{{ '.Prompt' }}",
        "{{- 'a' if x else 'b' -}}",
        "{{ not x }}{{ not (x and (y)) }}",
        "{% set end = 1 %}{{ end }}",
        "{{ range(3) | list }}{{ index + 1 }}{{ len }}",
        "{# {{ a comment }} #}",
        "no template at all. $.",
    ],
)
def test_jinja_is_not_taken_for_go(text: str) -> None:
    assert not looks_like_go(text)
    modelfile.check_template(text)


def test_the_projects_own_templates_are_jinja() -> None:
    from headrace.text.template import FALLBACK_LFM2, FALLBACK_LFM25

    for text in (FALLBACK_LFM2, FALLBACK_LFM25):
        assert said(f'TEMPLATE """{text}"""').template == text


# --- writing

texts = st.text(st.sampled_from('"" \n\r\tab#x{\u2028\x85'), max_size=12) | st.text(
    st.characters(exclude_categories=["Cs"]), max_size=30
)
numbers = st.floats(0, 1) | st.integers(0, 1)
modelfiles = st.builds(
    Modelfile,
    texts.filter(bool),
    st.fixed_dictionaries(
        {},
        optional={
            "temperature": numbers,
            "top_p": numbers,
            "top_k": st.integers(0, 2**31 - 1),
            "seed": st.integers(-1, 2**63),
            "num_ctx": st.integers(1, 2**31 - 1),
            "stop": st.lists(texts.filter(bool), min_size=1, max_size=3),
            "use_mmap": st.booleans(),
            "num_gpu": st.integers(-1, 100),
            "mirostat_tau": st.floats(0, 1e18),
        },
    ),
    st.none() | st.sampled_from([JINJA, '\n{{ "a" }}\n', "", '"""\n']) | texts.filter(lambda text: "{" not in text),
    st.none() | texts,
    st.lists(texts, max_size=3).map(tuple),
    st.lists(st.builds(Message, st.sampled_from(modelfile.ROLES), texts), max_size=3).map(tuple),
    st.none() | st.sampled_from(["0.14.0", "1.2.3-rc.1+b"]),
)


def lines_that_end_with_quotes(found: Modelfile) -> bool:
    """Whether a text has what no Modelfile can hold, found without a regular expression."""
    contents = [message.content for message in found.messages]
    values = [found.source, found.template, found.system, *found.licenses, *found.parameters.get("stop", ()), *contents]
    texts = [value.replace("\r", "\n") for value in values if value is not None]
    return any(line.rstrip(" \t").endswith('"""') for text in texts for line in text.split("\n")[:-1])


@given(modelfiles)
@example(Modelfile("a", system='"'))
@example(Modelfile("a", system='a"'))
@example(Modelfile('"a"', system='"""a'))
@example(Modelfile("a", system='x """ y\n'))
@example(Modelfile("a", system='x """'))
def test_what_is_written_reads_back_equal(wanted: Modelfile) -> None:
    if lines_that_end_with_quotes(wanted):
        with pytest.raises(RequestInvalid, match='has a line that ends with """: no Modelfile can hold that'):
            write(wanted)
    else:
        assert read(write(wanted).encode()) == wanted


def test_what_no_modelfile_can_hold() -> None:
    with pytest.raises(RequestInvalid, match='LICENSE has a line that ends with """'):
        write(Modelfile("a", licenses=('one """ \ntwo',)))


def test_a_plain_value_is_written_plainly() -> None:
    text = write(Modelfile("./m.gguf", {"top_k": 4, "stop": ["a", " b"]}, system="Be brief.", requires="0.14.0"))
    assert text.splitlines() == [
        "FROM ./m.gguf",
        "SYSTEM Be brief.",
        "PARAMETER top_k 4",
        "PARAMETER stop a",
        'PARAMETER stop " b"',
        "REQUIRES 0.14.0",
    ]


# --- hostile files

pieces = st.sampled_from(
    [
        *("FROM ", "from x\n", "PARAMETER ", "stop ", "temperature ", "1", "1e999", "-", "TEMPLATE ", "{{ .X }}"),
        *("{% ", "%}", "{{", "}}", "{{ x }}", "SYSTEM ", '"', '"""', "\n", "\r\n", "\r", " ", "#", "MESSAGE ", "user "),
        *("LICENSE ", "REQUIRES ", "0.1", "ADAPTER ", "\0", "\ufeff", "é", "{{ if ", "num_ctx ", "9" * 5000, "\u2028"),
    ]
)  # fmt: skip


def outcome(data: bytes) -> Modelfile | UserError:
    try:
        return read(data)
    except UserError as error:
        return error


@given(st.lists(pieces, max_size=30).map("".join).map(str.encode) | st.binary(max_size=200))
@example(b"FROM x\nPARAMETER num_gpu " + b"9" * 5000)
@example(b"FROM x\nPARAMETER mirostat_eta 1e999")
def test_of_hostile_files_only_user_errors_come(data: bytes) -> None:
    found = outcome(data)
    if isinstance(found, Modelfile):
        assert read(write(found).encode()) == found
    else:
        assert str(found).isprintable()


@pytest.mark.parametrize(
    "piece",
    [
        *(b"PARAMETER stop a\n", b'"""" ', b"#", b" \t", b'SYSTEM "a" b\n', b"LICENSE x\n", b'LICENSE """\n"""\n'),
        *(b'"', b"\r", b"\n\r", b'SYSTEM """ ', b"MESSAGE user "),
    ],
)  # fmt: skip
def test_large_hostile_files_take_no_time(piece: bytes) -> None:
    """A mebibyte or two: what took the square of that would not come back."""
    repeated = piece * ((LARGEST_BYTES // 2) // len(piece))
    for before, after in ((b"FROM x\n", b"\n"), (b'FROM x\nSYSTEM """', b'x\n"""'), (b"FROM x\nSYSTEM ", b"x")):
        outcome(before + repeated + after)
