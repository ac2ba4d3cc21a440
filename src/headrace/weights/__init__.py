"""Bytes on disk to named tensors."""
