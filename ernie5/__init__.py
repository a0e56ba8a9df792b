"""ERNIE 5.0 in plain PyTorch: one transformer that predicts the next group of tokens of text, images, video and audio."""

__version__ = "0.1.0"
