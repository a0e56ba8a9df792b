"""What elasticity costs and saves: a masked slot against the same slot in its stand-alone model, and decoding with fewer experts.

    OMP_NUM_THREADS=1 python docs/benchmarks/elastic_cost.py [--rounds 9] [--dim 256] [--expert-dim 128] [--device cuda]

All variants take turns in every round (A B C A B C …); printed are medians of the ratios within a round, and their quartiles. The clock
is CPU time of one thread (or synchronised wall time on a GPU). Before anything is timed, logits of every pair are compared.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch

from ernie5.data_pipelines.collate import PackedSample, Widths, collate
from ernie5.data_pipelines.grouping import Coded, Grouping
from ernie5.data_pipelines.history import HistoryConfig
from ernie5.generate.choose import Sampling
from ernie5.generate.session import Session
from ernie5.generate.text import text_block
from ernie5.model.config import ModelConfig, Vocabulary
from ernie5.model.elastic import FULL, SubModel, thinned, touched
from ernie5.model.extract import extract
from ernie5.model.unified_transformer import UnifiedTransformer
from ernie5.objectives.modality_weights import Weights
from ernie5.objectives.next_group import TargetCounts, next_group_loss
from ernie5.parallel.parts import whole_parts
from ernie5.parallel.untouched import as_before
from ernie5.sequence import Modality, PackedSequence, Role
from ernie5.tokenizers.vision.multiscale_residual import MultiscaleResidualQuantizer
from ernie5.tokenizers.vision.understanding import UnderstandingConfig, UnderstandingEncoder
from ernie5.train.optimizer import OptimizerConfig, make_optimizer

VOCABULARY = Vocabulary(text=512, bits=8, num_codebooks=3, codebook_size=256, feature_dim=8)
WIDTHS = Widths(8, 3, 8, 8)


def build(config: ModelConfig, device: str) -> UnifiedTransformer:
    """A model whose heads are not zero."""
    torch.manual_seed(0)
    encoder = UnderstandingEncoder(UnderstandingConfig(dim=16, num_heads=2, num_layers=1), 8, config.dim)
    model = UnifiedTransformer(config, VOCABULARY, encoder)
    for parameter in model.heads.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return model.to(device)


def text_batch(rows: int, length: int, device: str) -> PackedSequence:
    """Full rows of random text documents."""
    grouping = Grouping(MultiscaleResidualQuantizer(num_scales=3, bits=8).eval(), 3, 256, HistoryConfig(flip_max=0.0, frame_drop=0.0))
    random = np.random.default_rng(0)

    def document(name: str, tokens: int) -> PackedSample:
        coded = Coded(Modality.TEXT, Role.GENERATE, torch.from_numpy(random.integers(16, 512, tokens)))
        return PackedSample(name, grouping.document([coded], random))

    extra = len(document("probe", 8)) - 8
    return collate([[document(f"{r}.{i}", length // 4 - extra) for i in range(4)] for r in range(rows)], length, WIDTHS).to(device)


def interleave(variants: dict[str, Callable[[], object]], rounds: int, device: str) -> dict[str, list[float]]:
    """Seconds of every variant in every round; one more round before, not counted."""
    clock = time.perf_counter if device != "cpu" else time.process_time
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for number in range(rounds + 1):
        names = list(variants)
        for name in names[number % len(names) :] + names[: number % len(names)]:  # each follows each other one in turn
            start = clock()
            variants[name]()
            if device != "cpu":
                torch.cuda.synchronize()
            if number:
                seconds[name].append(clock() - start)
    return seconds


def ratio(a: list[float], b: list[float]) -> str:
    """Median of a/b within a round, and the quartiles."""
    ratios = [x / y for x, y in zip(a, b, strict=True)]
    low, middle, high = statistics.quantiles(ratios, n=4)
    return f"{middle:.3f} ({low:.3f} – {high:.3f})"


def cost(config: ModelConfig, rows: int, length: int, rounds: int, device: str) -> None:
    """Masked slot / stand-alone model, forward + backward and the whole step; the plain full step for scale."""
    model, batch = build(config, device), text_batch(rows, length, device)
    half = tuple(tuple(range(layer % 2, config.num_experts, 2)) for layer in range(config.num_moe_layers))
    submodels = {
        "none (control)": FULL,
        "3/4 depth": SubModel(keep_layers=thinned(config.num_layers, 3, config.num_layers * 3 // 4)), "1/2 experts": SubModel(experts=half),
        "1/2 top-k": SubModel(top_k=config.top_k // 2),
        "all three": SubModel(thinned(config.num_layers, 3, config.num_layers * 3 // 4), half, config.top_k // 2),
    }
    counts = TargetCounts.of(batch)
    optimizers = {id(model): make_optimizer(model, OptimizerConfig())}

    def train(which: UnifiedTransformer, submodel: SubModel, step: bool) -> None:
        next_group_loss(which(batch, submodel), which.heads, batch, counts, Weights()).total.backward()
        if step:
            mask = touched([submodel], which.config) if submodel != FULL else None
            with as_before(which, optimizers[id(which)], mask, whole_parts(which, True)):
                optimizers[id(which)].step()
        which.zero_grad(set_to_none=True)

    print(f"{'cut':16}{'fwd+bwd: masked / alone':>34}{'whole step: masked / alone':>34}{'masked / full model':>34}")
    for name, submodel in submodels.items():
        small = extract(model, submodel)
        with torch.no_grad():
            torch.testing.assert_close(small(batch).text, model(batch, submodel).text, rtol=1e-4, atol=1e-4)
        optimizers[id(small)] = make_optimizer(small, OptimizerConfig())
        seconds = interleave({
            "masked": lambda s=submodel: train(model, s, False), "alone": lambda m=small: train(m, FULL, False),
            "full": lambda: train(model, FULL, False),
            "masked step": lambda s=submodel: train(model, s, True), "alone step": lambda m=small: train(m, FULL, True),
        }, rounds, device)
        print(f"{name:16}{ratio(seconds['masked'], seconds['alone']):>34}{ratio(seconds['masked step'], seconds['alone step']):>34}"
              f"{ratio(seconds['masked'], seconds['full']):>34}", flush=True)


@torch.no_grad()
def decoding(config: ModelConfig, rows: int, tokens: int, rounds: int, device: str) -> None:
    """Tokens per second of greedy text decoding through the cache, with fewer and fewer experts per token."""
    model = build(config, device).eval()

    def decode(top_k: int) -> None:
        session = Session(model, rows, WIDTHS, Sampling(temperature=0.0), torch.Generator(device).manual_seed(0), SubModel(top_k=top_k))
        for number in range(tokens):
            session.feed([[text_block(session, row, [20 + (row + number) % 400])] for row in range(rows)])

    sizes = [k for k in (config.top_k, config.top_k // 2, config.top_k // 4, 1) if k]
    seconds = interleave({str(k): lambda k=k: decode(k) for k in sizes}, rounds, device)
    for k in sizes:
        speed = rows * tokens / statistics.median(seconds[str(k)])
        print(f"top-{k:<3} {speed:9.1f} tokens/s   {ratio(seconds[str(sizes[0])], seconds[str(k)])} times the full top-k", flush=True)


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser()
    sizes = {"rounds": 9, "dim": 256, "expert-dim": 128, "layers": 8, "experts": 32, "top-k": 8, "rows": 4, "length": 256,
             "decode-rows": 16}
    for name, value in sizes.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    config = ModelConfig(dim=args.dim, num_layers=args.layers, num_heads=args.dim // 32, num_kv_heads=args.dim // 32,
                         num_experts=args.experts, top_k=args.top_k, expert_dim=args.expert_dim)
    print(f"{config}\ntorch {torch.__version__}, {torch.get_num_threads()} thread(s), {args.device}\n")
    cost(config, args.rows, args.length, args.rounds, args.device)
    print("\ndecoding")
    decoding(config, args.decode_rows, 24, max(3, args.rounds // 2), args.device)


if __name__ == "__main__":
    main()
