"""Requests to tokens: queue, schedule, step, commit."""
