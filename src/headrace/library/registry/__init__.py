"""Registries that models come from and go to: who is asked, how, and for how long it is tried."""
