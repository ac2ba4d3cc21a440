"""What all tests share."""

from __future__ import annotations

import os
from collections.abc import Iterator

import hypothesis
import pytest

# The same examples on every run and no deadline: a slow or unlucky machine must not turn a test red.
hypothesis.settings.register_profile("default", derandomize=True, deadline=None, database=None)
hypothesis.settings.register_profile("search", deadline=None)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


@pytest.fixture(scope="session", autouse=True)
def _nothing_of_the_user(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Models, conversations and caches of whoever runs the tests are neither seen nor changed."""
    folder = tmp_path_factory.mktemp("user")
    with pytest.MonkeyPatch.context() as patch:
        for variable in ("HEADRACE_HOME", "OLLAMA_MODELS", "HF_HOME"):
            patch.setenv(variable, str(folder / variable.lower()))
        patch.setenv("XDG_DATA_HOME", str(folder))  # of programs that are told nothing of ours
        yield
