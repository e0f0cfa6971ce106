"""Prune neural networks: tensors in, tensors out."""
