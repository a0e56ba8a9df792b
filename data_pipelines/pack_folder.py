"""A folder of a user's own files to shards: `ernie5 data pack FOLDER OUT`.

Every file is decoded once under the limits, so that what is packed can be trained on; its bytes are stored unchanged. A sample
with one bad file is rejected whole (a caption without its picture would mean something else). What is not packed is listed with
its reason, in the report and in OUT/rejected.jsonl. How files form samples: `folder_samples`.
Ours: all of it.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from ernie5.data_pipelines.decode_media import decode_member
from ernie5.data_pipelines.folder_samples import FolderSample, plan_folder, read_member
from ernie5.data_pipelines.media_limits import BadMedia, MediaLimits
from ernie5.data_pipelines.speaker import read_speaker
from ernie5.data_pipelines.write_shards import Member, ShardWriter
from ernie5.run.files import atomic_write
from ernie5.run.progress import progress


@dataclass(frozen=True)
class PackReport:
    """What became of a folder. `accepted` counts samples per kind, e.g. {"text + image": 12}; paths are relative to the folder."""

    accepted: dict[str, int]
    rejected: tuple[tuple[str, str], ...]
    hidden: tuple[str, ...]
    shards: tuple[Path, ...]

    def __str__(self) -> str:
        lines = [f"packed {sum(self.accepted.values())} samples into {len(self.shards)} shards"]
        lines += [f"  {count:6d}  {kind}" for kind, count in sorted(self.accepted.items())]
        lines += [f"rejected {len(self.rejected)} files"] if self.rejected else []
        lines += [f"  {file}: {reason}" for file, reason in self.rejected]
        lines += [f"ignored {len(self.hidden)} hidden files and folders: {', '.join(self.hidden[:5])}" + ", …" * (len(self.hidden) > 5)] \
            if self.hidden else []
        return "\n".join(lines)


def pack_folder(folder: str | Path, out: str | Path, limits: MediaLimits | None = None, name: str = "folder",
                samples_per_shard: int = 1000, sample_rate_hz: int = 16000, overwrite: bool = False) -> PackReport:
    """Write `out/{name}-000000.tar` … from the files of `folder` and its sub-folders, and `out/rejected.jsonl` where some were bad.

    Raises ValueError when the folder is missing or empty, when nothing in it can be used, when `out` lies inside it, or when
    `out` already has shards of this name and `overwrite` is False.
    """
    folder, out, limits = Path(folder), Path(out), limits or MediaLimits()
    if not folder.is_dir():
        raise ValueError(f"{folder} is not a folder; give the folder that holds your files")
    if out.resolve().is_relative_to(folder.resolve()):
        raise ValueError(f"the shards cannot be written to {out}, which is inside {folder}; choose a folder beside it")
    plan = plan_folder(folder, limits)
    if not plan.samples and not plan.rejected:
        what = "only hidden files" if plan.hidden else "no files"
        raise ValueError(f"{folder} holds {what}; put pictures, clips, sounds or texts in it")
    accepted: Counter[str] = Counter()
    rejected = list(plan.rejected)
    with progress("packing", total=len(plan.samples)) as bar, ShardWriter(out, name, samples_per_shard, overwrite) as writer:
        for sample in plan.samples:
            members, bad = _members(folder, sample, limits, sample_rate_hz)
            if bad:
                rejected += bad
            else:
                writer.write(f"{sum(accepted.values()):08d}", members, {**sample.attributes, "file": sample.name})
                accepted[" + ".join(dict.fromkeys(m.modality.value for m in members))] += 1
            bar.advance(1, rejected=len(rejected))
    lines = [json.dumps({"file": file, "reason": reason}) + "\n" for file, reason in rejected]
    log = out / "rejected.jsonl"
    if lines:
        atomic_write(log, "".join(lines).encode())
    else:
        log.unlink(missing_ok=True)
    if not accepted:
        raise ValueError(f"nothing in {folder} can be used; {log} names each file with its reason, the first: {': '.join(rejected[0])}")
    return PackReport(dict(accepted), tuple(rejected), plan.hidden, tuple(writer.shards))


def _members(folder: Path, sample: FolderSample, limits: MediaLimits, sample_rate_hz: int) -> tuple[list[Member], list[tuple[str, str]]]:
    """The members of a sample, or (file, reason) for each of its files when one cannot be decoded."""
    members, bad = [], {}
    for part in sample.parts:
        try:
            member = read_member(folder, part, limits, None if isinstance(part, str) else sample.speakers.get(part))
            decode_member(member, limits, sample_rate_hz)
            if member.speaker is not None:
                read_speaker(member.speaker)
            members.append(member)
        except BadMedia as error:
            bad[str(sample.files[0] if isinstance(part, str) else part)] = str(error)
    if bad:
        culprit = next(iter(bad))
        bad |= {str(f): f"{culprit}, which belongs to it, was rejected" for f in sample.files if str(f) not in bad}
    return members, list(bad.items())
