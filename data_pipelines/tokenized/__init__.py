"""Shards whose samples hold codes beside, or instead of, their media: written once by `ernie5 data tokenize`, read by training."""
