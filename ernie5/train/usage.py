"""How often every expert is chosen by every kind of position: counted over a calibration stream, nothing is trained.

    usage[l, r, e] = positions of kind r that chose expert e in layer l          sum over e = positions * top_k

The stream is the first samples of every training source, so that a usage decides on no held-out data. The routing study reads it
(routing.py), and so does whoever keeps only the most used experts.
Report: §6.4.1 (activation frequency). Letters: L layers (the multi-token layer last), R kinds, E experts.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ernie5.data_pipelines.quarantine import Quarantine
from ernie5.generate.generator import Generator
from ernie5.model.elastic import FULL, SubModel
from ernie5.recipe import Recipe
from ernie5.run.folder import RunFolder
from ernie5.run.progress import progress
from ernie5.sequence import Kind
from ernie5.train.packed_samples import batches_of, num_samples
from ernie5.train.prepare import open_training_sources


@torch.no_grad()
def measure_usage(recipe: Recipe, folder: RunFolder, generator: Generator, at_most: int = 200, submodel: SubModel = FULL) -> Tensor:
    """Counts `L R E`, int64, on the CPU, over the first `at_most` samples of every training source.

    Layers that `submodel` leaves out count nothing. The model is left in evaluation mode. ValueError when a source is missing.
    """
    model, device = generator.model.eval(), next(generator.model.parameters()).device
    quarantine = Quarantine(folder.logs / "quarantine.jsonl", recipe.data.tolerance)
    corpus = open_training_sources(recipe, quarantine, generator.tokenizers)
    counts = torch.zeros(model.config.num_moe_layers, len(Kind), model.config.num_experts, dtype=torch.int64)
    with progress("expert usage", total=num_samples(corpus, at_most)) as bar:
        for batch in batches_of(corpus, generator, at_most):
            hidden = model(batch.to(device), submodel)
            counts.index_add_(0, torch.tensor(hidden.layers), hidden.load.cpu().to(torch.int64))
            bar.advance(sum(len(ids) for ids in batch.sample_ids))
    return counts
