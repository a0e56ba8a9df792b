"""The causal audio codec on real recordings: which ones, how it streams, what it costs. Quality: `ernie5 tokenizer eval` (last command).

    W=/tmp/audio_codec;  python docs/benchmarks/audio_codec.py data $W
    ernie5 tokenizer train recipes/tokenizers/audio_tiny.yaml --only audio run.dir=$W/causal \
        data.sources.audio.path=$W/recordings data.heldout.audio.path=$W/heldout
    python docs/benchmarks/audio_codec.py streams $W/causal/tokenizers/audio $W/heldout
    python docs/benchmarks/audio_codec.py usage $W/causal/tokenizers/audio $W/heldout [--drawn-loudness]
    ernie5 tokenizer eval $W/causal/tokenizers/audio $W/heldout

`data` fetches three Debian packages with apt-get (a Debian machine; nothing is installed): prompts read by one voice (G.722, 16 kHz),
letters and syllables in many languages (Ogg), channel names (WAV). Every tenth recording, by a checksum of its name, is held out.
`usage` encodes all that is held out and counts codes in frames that are not silent (above -50 dB of a full-scale sine).
`streams` encodes and decodes held-out recordings whole and in pieces, on one thread, changes what comes later, and times both.
"""

from __future__ import annotations

import argparse
import io
import math
import subprocess
import time
import zlib
from collections.abc import Sequence
from pathlib import Path

import av
import numpy as np
import soundfile
import torch

from ernie5.data_pipelines.decode_audio import decode_audio
from ernie5.data_pipelines.media_limits import BadMedia, MediaLimits
from ernie5.data_pipelines.source_config import SourceConfig
from ernie5.data_pipelines.sources import open_source
from ernie5.data_pipelines.write_shards import Member, ShardWriter
from ernie5.run.random_streams import stream
from ernie5.sequence import Modality
from ernie5.tokenizers.audio.causal_codec import CausalCodec
from ernie5.tokenizers.audio.causal_training import CausalTraining
from ernie5.tokenizers.audio.codec import AudioCodec
from ernie5.tokenizers.audio.own import OwnAudioCodec
from ernie5.tokenizers.audio.recordings import at_loudness
from ernie5.tokenizers.audio.streams import StreamDecoder, StreamEncoder

PACKAGES = ("asterisk-core-sounds-en-g722", "klettres-data", "alsa-utils")
KINDS = (".g722", ".ogg", ".wav")
RATE_HZ, SILENT_DB = 16_000, -50.0
LOUD = 1e-3  # a recording without any sample above is silence


def data(work: Path) -> None:
    """Packages -> shards `recordings` and `heldout`."""
    packages = work / "packages"
    packages.mkdir(parents=True, exist_ok=True)
    subprocess.run(["apt-get", "download", *PACKAGES], cwd=packages, check=True)
    for package in packages.glob("*.deb"):
        subprocess.run(["dpkg", "-x", package.name, "files"], cwd=packages, check=True)
    files = sorted(path for path in (packages / "files").rglob("*") if path.suffix in KINDS and path.is_file())
    seconds = {"recordings": 0.0, "heldout": 0.0}
    with ShardWriter(work / "recordings", "recordings") as train, ShardWriter(work / "heldout", "heldout") as heldout:
        for number, path in enumerate(files):
            content = wav_of_g722(path) if path.suffix == ".g722" else path.read_bytes()
            try:
                sound = decode_audio(content, MediaLimits(audio_seconds=600.0), RATE_HZ)
            except BadMedia as damage:
                print(f"{path.name} is left out: {damage}")
                continue
            if len(sound) < RATE_HZ / 12.5 or float(sound.abs().max()) < LOUD:
                continue
            out = zlib.crc32(path.relative_to(packages).as_posix().encode()) % 10 == 0
            extension = "wav" if path.suffix == ".g722" else path.suffix[1:]
            (heldout if out else train).write(f"{number:05d}", [Member(Modality.AUDIO, extension, content)], {})
            seconds["heldout" if out else "recordings"] += len(sound) / RATE_HZ
    print(", ".join(f"{name}: {length / 60:.1f} min" for name, length in seconds.items()))


def wav_of_g722(path: Path) -> bytes:
    """Headerless G.722 as a WAV file of 16 kHz."""
    with av.open(str(path), format="g722") as file:
        samples = np.concatenate([frame.to_ndarray().reshape(-1) for frame in file.decode(audio=0)])
    out = io.BytesIO()
    soundfile.write(out, samples, RATE_HZ, format="WAV", subtype="PCM_16")
    return out.getvalue()


def sounds_of(folder: str, rate_hz: int, at_most: int, seconds: float) -> list[torch.Tensor]:
    """The first held-out recordings of at least `seconds`, cut there; 0: all of them, whole."""
    limits = MediaLimits(audio_seconds=seconds or 600.0)
    source, sounds = open_source("heldout", SourceConfig(folder), None, limits), []
    for index in range(len(source)):
        sound = decode_audio(source.read(index).members[0].data, limits, rate_hz)
        if len(sound) >= seconds * rate_hz and len(sounds) < at_most:
            sounds.append(sound)
    return sounds


def usage(codec: CausalCodec | AudioCodec, sounds: list[torch.Tensor], drawn_loudness: bool) -> None:
    """Codes in use and their entropy, by level."""
    hop, codes, random = codec.config.hop_samples, [], stream(0, "loudness")
    for sound in sounds:
        sound = at_loudness(sound, float(random.uniform(*CausalTraining().loudness_db))) if drawn_loudness else sound
        padded = torch.nn.functional.pad(sound, (0, -len(sound) % hop))
        power = padded.view(-1, hop).square().mean(1)
        codes.append(codec.encode(sound)[10 * torch.log10(2 * power + 1e-20) > SILENT_DB])
    every = torch.cat(codes)
    print(f"{len(every)} frames that are not silent\nlevel | codes in use | entropy / most")
    for level, column in enumerate(every.unbind(1)):
        share = column.bincount(minlength=codec.codebook_size) / len(every)
        entropy = float(torch.special.entr(share).sum()) / math.log(codec.codebook_size)
        print(f"{level + 1:5} | {float((share > 0).float().mean()):11.1%} | {entropy:.3f}")


def streams(codec: CausalCodec, sounds: list[torch.Tensor]) -> None:
    """Two tables: streams against the whole, and times."""
    hop, rate_hz = codec.config.hop_samples, codec.sample_rate_hz
    seconds = sum(map(len, sounds)) / rate_hz
    whole = [codec.encode(sound) for sound in sounds]
    decoded = [codec.decode(codes) for codes in whole]
    print(f"{len(sounds)} recordings, {seconds:.0f} s; {sum(p.numel() for p in codec.parameters()) / 1e6:.2f} M parameters; "
          f"encoder looks ahead 0 samples, decoder is late by {1000 * codec.config.latency_samples / rate_hz:.0f} ms")
    print("\nsamples a push | largest difference of latents | codes that differ")
    for size in (1, 160, hop - 1, hop, hop + 1, 5 * hop):
        used = sounds[:1] if size == 1 else sounds
        most, differ = 0.0, 0
        for sound, codes in zip(used, whole, strict=False):
            pieces_of, cut = codec.stream_encoder(), sound[:len(sound) // hop * hop]
            latents = torch.cat([pieces_of.push_latents(piece) for piece in cut.split(size)])
            most = max(most, float((latents - codec.latents(cut[None])[0][0]).detach().abs().max()))
            pieces_of = codec.stream_encoder()
            differ += int((torch.cat([*(pieces_of.push(piece) for piece in sound.split(size)), pieces_of.flush()]) != codes).sum())
        print(f"{size:14} | {most:29.1e} | {differ} of {sum(c.numel() for c in whole[:len(used)])}")
    print("\nframes a push | largest difference of samples")
    for size in (1, 2, 3, 7, 50):
        most = 0.0
        for codes, sound in zip(whole, decoded, strict=True):
            pieces_of = codec.stream_decoder()
            pieces = [*(pieces_of.push(piece) for piece in codes.split(size)), pieces_of.flush()]
            most = max(most, float((torch.cat(pieces) - sound).abs().max()))
        print(f"{size:13} | {most:.1e}")
    changed = 0
    for sound, codes in zip(sounds, whole, strict=True):
        middle = len(codes) // 2
        other = torch.cat([sound[:middle * hop], sound[middle * hop:].flip(0)])
        changed += int((codec.encode(other)[:middle] != codes[:middle]).sum())
    print(f"\nthe second half played backwards changes {changed} codes of the first half")
    print("\nseconds of sound per second of CPU time")
    for name, work in {
        "encode, whole": lambda: [codec.encode(sound) for sound in sounds],
        "decode, whole": lambda: [codec.decode(codes) for codes in whole],
        "encode, 80 ms a push": lambda: [push_all(codec.stream_encoder(), sound.split(hop)) for sound in sounds],
        "decode, 1 frame a push": lambda: [push_all(codec.stream_decoder(), codes.split(1)) for codes in whole],
    }.items():
        work()
        start = time.process_time()
        work()
        print(f"{name:23} {seconds / (time.process_time() - start):6.1f}")


def push_all(pieces_of: StreamEncoder | StreamDecoder, pieces: Sequence[torch.Tensor]) -> None:
    """Everything through a stream."""
    for piece in pieces:
        pieces_of.push(piece)
    pieces_of.flush()


def main() -> None:
    """See above."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    actions = parser.add_subparsers(dest="action", required=True)
    actions.add_parser("data").add_argument("work", type=Path)
    live = actions.add_parser("streams")
    live.add_argument("codec", help="folder of a trained codec")
    live.add_argument("heldout", help="shards")
    live.add_argument("--at-most", type=int, default=12)
    live.add_argument("--seconds", type=float, default=4.0)
    use = actions.add_parser("usage")
    use.add_argument("codec", help="folder of a trained codec")
    use.add_argument("heldout", help="shards")
    use.add_argument("--drawn-loudness", action="store_true", help="bring every recording to a loudness as training does")
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.action == "data":
        data(args.work)
    elif args.action == "usage":
        own = OwnAudioCodec.load(args.codec)
        usage(own, sounds_of(args.heldout, own.sample_rate_hz, 10**6, 0.0), args.drawn_loudness)
    else:
        codec = CausalCodec.load(args.codec)
        streams(codec, sounds_of(args.heldout, codec.sample_rate_hz, args.at_most, args.seconds))


if __name__ == "__main__":
    main()
