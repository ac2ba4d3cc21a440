"""The embedded model: its name, and its file."""

from __future__ import annotations

from pathlib import Path

NAME = "nano"
FILE = Path(__file__).parent / "nano.gguf"
