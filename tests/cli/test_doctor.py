"""`headrace doctor` as a user meets it, and the variables of the environment that it knows."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import headrace
from headrace.cli import _settings
from headrace.cli import headrace as cli
from headrace.cli.doctor import facts, page
from headrace.doctor import Candidate, Finding, Kernels, Memory, Processors, Report
from headrace.expectation import Speed
from headrace.library.home import Place

SOURCES = Path(headrace.__file__).parent
GB = 10**9
MEMORY = Memory(8 * GB, 6 * GB, 6 * GB, 5 * GB, GB, 0)
REPORT = Report(
    Processors("A Chip", "x86_64", 4, 4, 2.5, 3, 3),
    Kernels(("avx2", "scalar"), "avx2", ("avx2",)),
    MEMORY,
    {"read_gb_per_s": 32.04, "int8_tmac_per_s": 0.944, "threads": 3},
    (
        Place("models", Path("/nonesuch/models"), "default"),
        Place("Ollama's models", Path("/nonesuch"), "default", False),
    ),
    (
        Candidate("small", 700_000_000, {4096: GB, 32_768: 2 * GB}, Speed(8.04, 1234.0)),
        Candidate("middle", 5 * GB, {4096: 5 * GB, 32_768: 7 * GB}, Speed(28.4, 333.0)),
        Candidate("large", 20 * GB, {4096: 21 * GB, 32_768: 22 * GB}, Speed(1.0, 1.0)),
    ),
    (),
)
FINDINGS = [Finding("it is slow", "mend it"), Finding("it is so", wrong=False)]


def doctor(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    bare = {name: text for name, text in os.environ.items() if not name.startswith(("HEADRACE_", "OLLAMA_", "HF_"))}
    command = [sys.executable, "-c", "from headrace.cli import main; main()", "doctor", *arguments]
    return subprocess.run(
        command,
        env=bare | environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        stdin=subprocess.DEVNULL,
    )


def test_a_page() -> None:
    text = page(REPORT, {"HF_TOKEN": "set", "HF_HOME": None}, FINDINGS)
    for line in (
        "    processor        A Chip (x86_64), 4 cores",
        "    threads          3, of 4 cores that this process may use",
        "    instruction set  avx2 (the core has avx2, scalar)",
        "    memory           8.0 GB, 5.0 GB available, 6.0 GB allowed by a cgroup",
        "    quota            2.5 processors",
        "    memory reads     32.0 GB/s",
        "    int8 products    0.94 T multiply-adds/s",
        "    Ollama's models  /nonesuch (default, not there)",
        "    HF_TOKEN  set",
        "    HF_HOME   not set",
        "    small   700.00 MB  1.0 GB        2.0 GB   32k   8.0 tok/s         1,200 tok/s",
        "    middle  5.0 GB     5.0 GB        7.0 GB   4k    28 tok/s          330 tok/s",
        "    large   20.0 GB    21.0 GB       22.0 GB  no    -                 -",
        "  What is set up wrongly",
        "    ! it is slow: mend it",
        "    - it is so",
    ):
        assert line in text.splitlines(), line
    assert "To know" in page(REPORT, {}, FINDINGS[1:])
    assert "Nothing is set up wrongly." in page(REPORT, {}, [])


def test_json_is_plain() -> None:
    told = json.loads(json.dumps(facts(REPORT, {"HF_HOME": None}, FINDINGS)))
    assert told["models"][1] == {
        "name": "middle",
        "size_bytes": 5 * GB,
        "memory_bytes": {"4096": 5 * GB, "32768": 7 * GB},
        "fits_at": 4096,
        "decode_tokens_per_s": 28.4,
        "prefill_tokens_per_s": 333.0,
    }
    assert told["places"][0]["path"] == "/nonesuch/models"
    assert told["findings"][1] == {"what": "it is so", "remedy": "", "wrong": False}
    assert told["memory"]["limit_bytes"] == 6 * GB


def test_this_machine_in_both_forms(tmp_path: Path) -> None:
    home = str(tmp_path / "home")
    done = doctor("--json", HEADRACE_HOME=home)
    told = json.loads(done.stdout)
    assert done.returncode == any(finding["wrong"] for finding in told["findings"])
    assert told["measured"]["read_gb_per_s"] > 0
    assert told["settings"]["HEADRACE_HOME"] == home
    assert told["log"] == f"{home}/log.db"
    assert told["models"][-1]["name"] == "lfm2:24b"
    assert told["models"][0]["decode_tokens_per_s"] > 0
    assert not Path(home).exists(), "who looks changes nothing"
    text = doctor(HEADRACE_HOME=home).stdout
    assert "What to expect of Q4_0" in text
    assert f"{home}/log.db" in text


def test_what_is_wrong_is_the_exit_code(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = doctor(HEADRACE_HOME=str(tmp_path / "file"), HEADRACE_THRAEDS="secret?", HEADRACE_ISA="avx9")
    assert done.returncode == 1
    assert "is in the way of" in done.stdout
    assert "! HEADRACE_THRAEDS means nothing to Headrace: did you mean HEADRACE_THREADS?" in done.stdout
    assert "! HEADRACE_ISA is 'avx9' but this machine has" in done.stdout
    assert "secret?" not in done.stdout + done.stderr
    assert "instruction set  none" in done.stdout


def test_no_secret_is_shown() -> None:
    secrets = {
        "HF_TOKEN": "hf_hidden",
        "HEADRACE_API_KEY": "hidden",
        "HEADRACE_APIKEY": "hidden",
        "HTTPS_PROXY": "http://me:hidden@proxy:80",
        "OLLAMA_HOST": "https://me:hidden@there",
    }
    for form in ((), ("--json",)):
        done = doctor(*form, **secrets)
        assert "hidden" not in done.stdout + done.stderr
        assert "http://...@proxy:80" in done.stdout
        assert "https://...@there" in done.stdout


# --- variables


def test_every_variable_in_the_sources_is_known() -> None:
    named = set[str]()
    for path in SOURCES.rglob("*.py"):
        text = path.read_text()
        named |= set(re.findall(r"\bHEADRACE_[A-Z_]*[A-Z]\b", text))
        named |= {f"HEADRACE_{name}" for name in re.findall(r'set_by\("(\w+)"\)', text)}
    assert len(named) > 20
    assert named <= _settings.known(cli).keys()
    assert {"HEADRACE_NO_LOG", "HEADRACE_HOME", "HEADRACE_THREADS"} <= named


def test_settings_show_what_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HF_TOKEN", "HF_HOME"):
        monkeypatch.delenv(name, raising=False)
    environment = {"HEADRACE_KV": "int8", "OMP_NUM_THREADS": "3", "PATH": "/bin", "HEADRACE_NEW": "?"}
    found = _settings.settings(cli, environment)
    assert {name: found[name] for name in ("HEADRACE_KV", "OMP_NUM_THREADS", "HEADRACE_NEW", "HF_TOKEN")} == {
        "HEADRACE_KV": "int8",
        "OMP_NUM_THREADS": "3",
        "HEADRACE_NEW": "set",
        "HF_TOKEN": None,
    }
    assert "PATH" not in found
    assert found["OLLAMA_HOST"] is None


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("HEADRACE_NUM_CTX", "many", "HEADRACE_NUM_CTX: 'many' is not a valid integer"),
        ("HEADRACE_KEEP_ALIVE", "soon", "HEADRACE_KEEP_ALIVE: 'soon' is not a duration"),
        ("HEADRACE_CACHE_BYTES", "much", "HEADRACE_CACHE_BYTES: 'much' is not a size"),
        ("HEADRACE_NO_LOG", "maybe", "HEADRACE_NO_LOG: 'maybe' is not a valid boolean"),
        ("HEADRACE_QQQQQQQQ", "1", "HEADRACE_QQQQQQQQ means nothing to Headrace"),
    ],
)
def test_values_that_are_none(name: str, value: str, sentence: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, value)
    (finding,) = _settings.findings(cli, {name: value})
    assert finding.what.startswith(sentence)
    assert finding.wrong
    assert finding.remedy


def test_values_that_are_some(monkeypatch: pytest.MonkeyPatch) -> None:
    good: dict[str, Any] = {"NUM_CTX": "4096", "KEEP_ALIVE": "5m", "CACHE_BYTES": "2GB", "NO_LOG": "1", "KV": "int8"}
    environment = {f"HEADRACE_{name}": value for name, value in good.items()}
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert list(_settings.findings(cli, environment)) == []
