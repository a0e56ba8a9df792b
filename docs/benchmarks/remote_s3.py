"""Shards on an S3 server: the same samples and losses as from the disk, a bounded cache, and a server that dies in mid-run.

    pip install s3fs 'moto[server]'
    OMP_NUM_THREADS=1 python docs/benchmarks/remote_s3.py [--samples 2000] [--steps 40] [--workers 2]

The server is moto's, on this machine. Shards are packed, put there, read in random order through a cache of a quarter of their size, and
compared with the files. Then `ernie5 train` reads them; after a few steps the server is killed, and the run must end with exit code 2 and a
sentence that names the file, without a sample counted as damaged. With the server back, the same command must reach the losses of a run
that read the same files from the disk.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from ernie5.config import load_config, to_yaml
from ernie5.data_pipelines.sources import SourceConfig, open_source
from ernie5.data_pipelines.write_shards import Member, ShardWriter
from ernie5.recipe import Recipe
from ernie5.run.metrics_log import MetricsLog
from ernie5.sequence import Modality

PER_SHARD = 100
PORT = 5987
SERVER = {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{PORT}", "AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x",
          "AWS_DEFAULT_REGION": "us-east-1"}
SMALL = {
    "tokenizers": {"text": {"vocab_size": 300}, "vision": {"channels": [8, 8, 16], "blocks": [0, 0, 0], "bits": 8},
                   "audio": {"codec": {"codebook_size": 16, "dim": 16, "frame_dim": 32, "num_blocks": 0, "latent_dim": 8}}},
    "understanding": {"dim": 16, "num_heads": 2, "num_layers": 1},
    "model": {"dim": 32, "num_layers": 4, "num_heads": 2, "num_kv_heads": 1, "num_experts": 4, "top_k": 2, "expert_dim": 16},
    "train": {"rows": 2, "length": 256, "checkpoint_every": 5, "threads": 1},
    "data": {"encode_ahead": 0, "cache_gib": 0.0},
    "evaluate": {"at_end": False},
}


def pack(folder: Path, samples: int) -> None:
    """Texts of many lengths."""
    draw = random.Random(0)
    with ShardWriter(folder, "far", samples_per_shard=PER_SHARD) as writer:
        for i in range(samples):
            words = " ".join(draw.choice(["red", "blue", "round", "square", "large", "far"]) for _ in range(draw.randrange(5, 200)))
            writer.write(f"{i:06d}", [Member(Modality.TEXT, "txt", words.encode())], {"number": i})


def serve(folder: Path) -> subprocess.Popen:
    """A server with all files of the folder in the bucket `shards`."""
    import s3fs

    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(PORT)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for _ in range(300):
        try:
            system = s3fs.S3FileSystem(skip_instance_cache=True)
            system.mkdir("shards")
            break
        except OSError:
            assert server.poll() is None, "the server did not start"
            time.sleep(0.1)
    for path in sorted(folder.iterdir()):
        if path.is_file():
            system.put_file(str(path), f"shards/{path.name}")
    return server


def read(folder: Path, room_gib: float, cache: Path) -> str:
    """Every sample, in random order."""
    here, there = (open_source("web", SourceConfig(path, disk_gib=room_gib)) for path in (f"{folder}/*.tar", "s3://shards/far-*.tar"))
    copies = [path for path in (cache / "ernie5" / "remote").rglob("*.copy") if path.read_bytes()[:1] != b"{"]
    assert len(here) == len(there) and here.fingerprints == there.fingerprints and not copies, "opening fetched shards"
    most, started = 0, time.perf_counter()
    order = random.Random(1).sample(range(len(here)), min(300, len(here)))
    for i in order:
        assert here.read(i) == there.read(i)
        most = max(most, sum(path.stat().st_size for path in (cache / "ernie5" / "remote").rglob("*.copy")))
    assert most <= room_gib * 2**30, "the cache outgrew its bound"
    seconds = time.perf_counter() - started
    return f"{len(order)} of {len(here)} samples as on the disk, {seconds:.1f} s; cache at most {most / 2**20:.2f} MiB"


def train(recipe: Path) -> subprocess.Popen:
    """`ernie5 train`."""
    return subprocess.Popen([sys.executable, "-m", "ernie5", "train", str(recipe)], stderr=subprocess.PIPE, text=True)


def losses(run: Path) -> list:
    """Of every step."""
    return [(line["step"], line["loss/total"], line["tokens"]) for line in MetricsLog(run / "metrics.jsonl").read()]


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=2000)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--workers", type=int, default=2)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        out, killed_after = Path(name), args.steps // 4
        os.environ.update(SERVER, XDG_CACHE_HOME=str(out / "cache"), PYTHONPATH=str(Path(__file__).parents[2]))
        pack(out / "shards", args.samples)
        total = sum(path.stat().st_size for path in (out / "shards").glob("*"))
        room_gib = total / 4 / 2**30
        server = serve(out / "shards")
        try:
            print(f"{total / 2**20:.1f} MiB in shards of {PER_SHARD}: {read(out / 'shards', room_gib, out / 'cache')}")
            for run, path in (("disk", f"{out / 'shards'}/*.tar"), ("far", "s3://shards/far-*.tar")):
                settings = [f"run.dir={out / run}", f"train.steps={args.steps}", f"data.workers={args.workers}",
                            f"data.sources={{web: {{path: '{path}', disk_gib: {room_gib}}}}}"]
                if run == "far":
                    settings.append(f"run.tokenizers={out / 'disk'}")
                (out / f"{run}.yaml").write_text(to_yaml(load_config(Recipe, SMALL, settings)))
            with train(out / "disk.yaml") as process:
                said = process.communicate()[1]
                assert process.returncode == 0, said
            with train(out / "far.yaml") as process:
                while len(losses(out / "far")) < killed_after:
                    assert process.poll() is None, process.communicate()[1]
                    time.sleep(0.02)
                server.kill()
                killed = time.perf_counter()
                said, seconds = process.communicate()[1], time.perf_counter() - killed
            last = said.strip().splitlines()[-1]
            assert process.returncode == 2 and "s3://shards/far-" in last and "Traceback" not in said, said
            assert not list((out / "far").glob("logs/quarantine.jsonl")), "an outage counted as damage"
            print(f"server killed: the run ended after {seconds:.1f} s at step {losses(out / 'far')[-1][0]}:\n  {last}")
            server = serve(out / "shards")
            with train(out / "far.yaml") as process:
                said = process.communicate()[1]
                assert process.returncode == 0, said
            assert losses(out / "far") == losses(out / "disk"), "the losses are not those of the run from the disk"
            print(f"server back: the same command reached step {args.steps} with the losses of the run from the disk, bit for bit")
        finally:
            server.kill()


if __name__ == "__main__":
    main()
