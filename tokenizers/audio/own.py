"""The audio tokenizers that are trained here, told apart by their files: the spectral one (codec.py), the causal one (causal_codec.py)."""

from __future__ import annotations

import json
from pathlib import Path

from ernie5.tokenizers.audio.causal_codec import KIND, CausalCodec
from ernie5.tokenizers.audio.codec import CONFIG_FILE, AudioCodec


class OwnAudioCodec:
    """Whichever a folder holds."""

    @staticmethod
    def load(folder: Path | str) -> AudioCodec | CausalCodec:
        """What `save` of either wrote. ValueError where files are missing or made for another version."""
        file = Path(folder) / CONFIG_FILE
        causal = file.is_file() and json.loads(file.read_text()).get("kind") == KIND
        return CausalCodec.load(folder) if causal else AudioCodec.load(folder)
