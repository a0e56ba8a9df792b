"""What `ernie5 data curate` finds of planted copies and contaminated samples, what it wrongly drops, and what it costs.

    OMP_NUM_THREADS=1 python docs/benchmarks/curation.py [--pairs 200] [--controls 1000] [--edits 8] [--seed 0]

1. A planted corpus (data_pipelines/curate/planted.py) with the default thresholds. Near copies of texts have 1 to `edits` changed words;
   their true similarity is computed here with plain Python sets, and recall is given below, at and above the threshold.
2. The demo world, whose captions and pictures are alike by construction: how many samples of *different* combinations are merged.
3. CPU time of signatures, beside datasketch's where it is installed.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ernie5.config import load_config
from ernie5.data_pipelines.curate import near_text
from ernie5.data_pipelines.curate.hashing import words
from ernie5.data_pipelines.curate.near_text import NearText
from ernie5.data_pipelines.curate.picture_signature import picture_signature
from ernie5.data_pipelines.curate.planted import measure, write_planted
from ernie5.data_pipelines.curate.planted_images import real_picture
from ernie5.data_pipelines.curate.planted_texts import real_text
from ernie5.data_pipelines.curate.recipe import Curation
from ernie5.data_pipelines.curate.run import curate
from ernie5.data_pipelines.curate.view import View
from ernie5.data_pipelines.media_limits import MediaLimits
from ernie5.data_pipelines.sources import Record, ShardSource
from ernie5.data_pipelines.synthetic.demo import DemoConfig, write_demo
from ernie5.data_pipelines.write_shards import Member
from ernie5.run.random_streams import stream
from ernie5.sequence import Modality


def triples(text: str) -> set[tuple[str, ...]]:
    """Word triples in plain Python."""
    found = words(text)
    return {tuple(found[i:i + 3]) for i in range(len(found) - 2)}


def rejected(out: Path) -> dict[str, dict]:
    """Rejects by key."""
    return {line["key"]: line for line in map(json.loads, (out / "rejects.jsonl").read_text(encoding="utf-8").splitlines())}


def planted(folder: Path, pairs: int, controls: int, edits: int, seed: int) -> None:
    """Recall by kind, and near texts by their true similarity."""
    write_planted(folder, pairs, controls, seed, edits=edits)
    evals = {"against": str(folder / "eval")}
    steps = [{"exact": {"by": "sample"}}, {"exact": {"by": "media", "media": "pixels"}}, {"near_text": {}}, {"near_image": {}},
             {"contaminated_text": evals}, {"contaminated_image": evals}]
    started = time.process_time()
    report = curate(load_config(Curation, {"steps": steps}), folder / "corpus", folder / "out")
    print(f"{report}\n{report.samples / (time.process_time() - started):.0f} samples a CPU-second, all steps and writing\n")
    print("| planted | number | found | recall | distinct samples dropped |\n|---|---|---|---|---|")
    for kind, found in measure(folder / "out" / "rejects.jsonl", pairs, controls).items():
        number = controls if kind.startswith("control") else pairs
        recall = "" if kind.startswith("control") else f"{found.recall:.3f}"
        print(f"| {kind} | {number} | {found.found} | {recall} | {found.lost} |")
    source, gone = ShardSource("corpus", folder / "corpus"), rejected(folder / "out")
    texts = {key: record.members[0].data.decode() for record in map(source.read, range(len(source)))
             if (key := record.id.rpartition("/")[2]).startswith("near_text")}
    alike, missed = [], []
    for i in range(pairs):
        a, b = (triples(texts[f"near_text-{i}-{which}"]) for which in "oc")
        alike.append(len(a & b) / len(a | b))
        missed.append(not {f"near_text-{i}-o", f"near_text-{i}-c"} & gone.keys())
    print("\n| similarity of near_text pairs | pairs | found |\n|---|---|---|")
    for low, high in ((0, 0.7), (0.7, 0.8), (0.8, 0.85), (0.85, 1.01)):
        inside = [not m for a, m in zip(alike, missed, strict=True) if low <= a < high]
        print(f"| {low} to {min(high, 1)} | {len(inside)} | {sum(inside)} |")


def demo_world(folder: Path, seed: int) -> None:
    """How many samples of another combination, or other lines of text, are taken for copies."""
    write_demo(folder / "demo", DemoConfig(1000, 0, 0, 1000, 0, 0, seed))
    for kind, steps in (("image", [{"near_image": {}}]), ("image", [{"near_image": {"distance": 2, "colour": 8}}]),
                        ("text", [{"exact": {}}, {"near_text": {}}]), ("text", [{"exact": {}}, {"near_text": {"threshold": 0.95}}])):
        out = Path(tempfile.mkdtemp(dir=folder)) / "out"
        curate(load_config(Curation, {"steps": steps}), str(folder / "demo" / "train" / f"{kind}-*.tar"), out)
        source = ShardSource("d", str(folder / "demo" / "train" / f"{kind}-*.tar"))
        told = {record.id.rpartition("/")[2]: record.attributes for record in map(source.read, range(len(source)))}
        lines = [line for line in rejected(out).values() if line["reason"] == "near duplicate"]
        other = sum(told[line["key"]] != told[line["of"].rpartition("/")[2]] for line in lines)
        print(f"demo world, {kind}, {steps}: {len(lines)} of {len(source)} near copies"
              + (f", {other} of them of another combination" if kind == "image" else ""))


def cost(seed: int) -> None:
    """Microseconds of CPU for one signature."""
    texts = [real_text(stream(seed, "cost", i)) for i in range(1000)]
    views = [View(Record("s/s/k", (Member(Modality.TEXT, "txt", t.encode()),), {}), MediaLimits()) for t in texts]
    pictures = [real_picture(stream(seed, "cost", i)) for i in range(50)]
    num_words = np.mean([len(words(text)) for text in texts])
    print(f"text signature ({num_words:.0f} words, 128 hashes): {spent_us(lambda v: near_text.sign(v, NearText()), views):.0f} us")
    print(f"picture signature (decoded, about 220 x 220): {spent_us(picture_signature, pictures):.0f} us")
    try:
        from datasketch import MinHash
    except ImportError:
        return

    def peer(text: str) -> None:
        found = words(text)
        MinHash(128).update_batch([" ".join(found[i:i + 3]).encode() for i in range(len(found) - 2)])

    print(f"the same text signature by datasketch: {spent_us(peer, texts):.0f} us")


def spent_us(function: Callable, items: list) -> float:
    """CPU microseconds an item."""
    started = time.process_time()
    for item in items:
        function(item)
    return (time.process_time() - started) / len(items) * 1e6


def main() -> None:
    """Run all three."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("pairs", 200), ("controls", 1000), ("edits", 8), ("seed", 0)):
        parser.add_argument(f"--{name}", type=int, default=default)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        planted(Path(folder), args.pairs, args.controls, args.edits, args.seed)
        print()
        demo_world(Path(folder), args.seed)
        print()
        cost(args.seed)


if __name__ == "__main__":
    main()
