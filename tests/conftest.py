"""What all tests share."""

from __future__ import annotations

import os

import hypothesis

# The same examples on every run and no deadline: a slow or unlucky machine must not turn a test red.
hypothesis.settings.register_profile("default", derandomize=True, deadline=None, database=None)
hypothesis.settings.register_profile("search", deadline=None)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))
