"""A model without a run: `model.safetensors` and `config.json`, for those who only want the network.

    from ernie5.family.export import load_model
    model = load_model("OUT")                  # UnifiedTransformer in eval mode, the weights bit for bit

config.json: sizes of model, vocabulary and understanding encoder, where the weights come from, and their SHA-256. No pickle, no recipe.
Ours.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ernie5.config import load_config, to_plain
from ernie5.model.config import ModelConfig, Vocabulary
from ernie5.model.unified_transformer import UnifiedTransformer
from ernie5.recipe import Recipe
from ernie5.run.files import atomic_write, read_regular, sync_and_hash
from ernie5.run.manifest import digest
from ernie5.run.tensor_files import decode, write
from ernie5.tokenizers.vision.understanding import UnderstandingConfig
from ernie5.train.assemble import build_model

FORMAT, VERSION = "ernie5-model", 1
CONFIG, WEIGHTS = "config.json", "model.safetensors"
LARGEST_CONFIG_BYTES = 2**24


@dataclass(frozen=True)
class Sizes:
    """What builds the network."""

    model: ModelConfig
    vocabulary: Vocabulary
    understanding: UnderstandingConfig

    def build(self) -> UnifiedTransformer:
        """The network with initial weights."""
        return build_model(Recipe(model=self.model, understanding=self.understanding), self.vocabulary)


def write_model(folder: Path, sizes: Sizes, weights: dict[str, Tensor], about: dict[str, Any]) -> None:
    """Both files; `about` (JSON) is kept beside the sizes."""
    write(folder / WEIGHTS, weights)
    sha256, num_bytes = sync_and_hash(folder / WEIGHTS)
    body = {"format": FORMAT, "version": VERSION, **to_plain(sizes), **about,
            "weights": {"file": WEIGHTS, "sha256": sha256, "num_bytes": num_bytes, "num_tensors": len(weights)}}
    atomic_write(folder / CONFIG, json.dumps(body, indent=1).encode())


def load_model(folder: str | Path, device: str | torch.device = "cpu") -> UnifiedTransformer:
    """The model that `ernie5 export` wrote into `folder`. ValueError when the folder is another's, incomplete or damaged."""
    folder = Path(folder)
    body = read_config(folder)
    try:
        sizes = load_config(Sizes, {key: body[key] for key in ("model", "vocabulary", "understanding")})
        promised, num_bytes, num_tensors = (body["weights"][key] for key in ("sha256", "num_bytes", "num_tensors"))
    except (KeyError, TypeError) as error:
        raise _damaged(folder / CONFIG, f"it lacks {error}") from None
    data = read_regular(folder / WEIGHTS, num_bytes)
    if digest(data) != promised:
        raise _damaged(folder / WEIGHTS, f"its SHA-256 is not the one in {CONFIG}")
    weights = decode(data, num_tensors)
    model = sizes.build()
    check_fits(weights, model, folder / WEIGHTS)
    model.load_state_dict(weights)
    return model.to(device).eval()


def check_fits(weights: dict[str, Tensor], model: UnifiedTransformer, where: Path) -> None:
    """ValueError naming the first tensor that is missing, unknown or of another shape; `model` may be on the meta device."""
    own = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    for name in sorted(own.keys() | found.keys()):
        if own.get(name) != found.get(name):
            raise _damaged(where, f"{name} should have the shape {own.get(name, 'of nothing')} and has {found.get(name, 'none')}")


def read_config(folder: Path) -> dict[str, Any]:
    """The content of config.json. ValueError saying what this folder is not."""
    path = folder / CONFIG
    if not path.is_file():
        raise ValueError(f"{folder} holds no exported model ({path} is missing); `ernie5 export RUN_DIR {folder}` makes one")
    try:
        body = json.loads(read_regular(path, min(path.stat().st_size, LARGEST_CONFIG_BYTES)))
        kind, version = body["format"], body["version"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise ValueError(f"{path} is not the config of an exported ernie5 model; "
                         f"export again: `ernie5 export RUN_DIR {folder}`") from None
    if kind != FORMAT or not isinstance(version, int):
        raise ValueError(f"{path} describes {str(kind)[:40]!r}, not {FORMAT!r}; this reads what `ernie5 export` writes")
    if version > VERSION:
        raise ValueError(f"{path} has format version {version}, this ernie5 reads up to {VERSION}; use the ernie5 that wrote it")
    return body


def _damaged(path: Path, why: str) -> ValueError:
    return ValueError(f"{path} is damaged: {why}; export the model again")
