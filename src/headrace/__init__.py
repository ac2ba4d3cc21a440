"""Headrace runs Liquid AI's LFM2 mixture-of-experts models on the machine you have."""
