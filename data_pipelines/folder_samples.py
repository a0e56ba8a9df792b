"""Which files of a user's folder form which sample, decided from names and documents, before any media is opened.

    a.jpg a.txt       files that share folder and stem are one sample: text first, then images, clips, sounds
    d.txt             alone is text; media alone is media without a caption
    a.wav a.speaker.npy     the vector of who speaks in that sound (speaker.py)
    a.jpg a.json      a json object without segments beside other files: its plain values become attributes
    x.json            {"segments": [{"text": "…"}, {"image": "a.jpg"}, …]}: a document, in this order; its files belong to it

Every file ends in a sample, in the list of rejected ones with the reason, or in the list of hidden ones.
Ours: all of it.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

from ernie5.data_pipelines.media_limits import BadMedia, MediaLimits
from ernie5.data_pipelines.speaker import MAX_BYTES
from ernie5.data_pipelines.write_shards import MODALITY_OF_EXTENSION, SPEAKER, Member
from ernie5.sequence import Modality

_ORDER = tuple(Modality)
_KINDS = ", ".join(sorted(MODALITY_OF_EXTENSION)) + ", json"


@dataclass(frozen=True)
class FolderSample:
    """One sample to be: `name` is its path without ending; a part is a file (path from the folder) or a document's own text."""

    name: str
    parts: tuple[PurePosixPath | str, ...]
    files: tuple[PurePosixPath, ...]  # all that it takes, the json too
    attributes: dict[str, str | int | float | bool | None] = field(default_factory=dict)
    speakers: dict[PurePosixPath, PurePosixPath] = field(default_factory=dict)  # of sounds


@dataclass(frozen=True)
class FolderPlan:
    """What a folder holds. All paths are relative to it; `rejected` pairs a file with the reason."""

    samples: tuple[FolderSample, ...]
    rejected: tuple[tuple[str, str], ...]
    hidden: tuple[str, ...]


def plan_folder(folder: Path, limits: MediaLimits) -> FolderPlan:
    """Sort the files of a folder into samples. Reads only the json files."""
    files, rejected, hidden = _walk(folder)
    vectors = {str(f).removesuffix(f".{SPEAKER}"): f for f in files if is_speaker(f)}
    files = [f for f in files if not is_speaker(f)]
    groups: dict[str, list[PurePosixPath]] = {}
    for file in files:
        groups.setdefault(str(file.with_suffix("")), []).append(file)
    documents, taken = {}, {}
    facts: dict[str, dict] = {}
    for name, group in groups.items():
        for file in [f for f in group if extension(f) == "json"]:
            try:
                content = _read_json(folder, file, limits)
                if "segments" in content:
                    documents[file] = _document(folder, file, content)
                    taken.update(dict.fromkeys(documents[file].files, file))
                elif len(group) > 1:
                    facts[name] = content
                else:
                    raise BadMedia('the json has no "segments" and no file beside it that it could describe')
            except BadMedia as error:
                rejected[str(file)] = str(error)
    samples = list(documents.values())
    for name, group in groups.items():
        media = sorted((f for f in group if extension(f) != "json" and f not in taken), key=lambda f: (_rank(f), str(f)))
        described = [f for f in group if extension(f) == "json" and f not in documents]
        damaged = [str(f) for f in described if str(f) in rejected]
        if media and damaged:
            rejected.update({str(f): f"{damaged[0]}, which belongs to it, was rejected" for f in media})
        elif media:
            attributes = {k: v for k, v in facts.get(name, {}).items() if isinstance(v, str | int | float | bool | None)}
            samples.append(FolderSample(name, tuple(media), tuple(media + described), attributes))
        elif name in facts:
            rejected[str(described[0])] = 'the json has no "segments", and the files beside it belong to a document'
    samples = [_with_speakers(sample, vectors) for sample in samples]
    lost = set(vectors.values()) - {f for sample in samples for f in sample.speakers.values()}
    rejected.update({str(f): "no sound of its name lies beside it" for f in lost})
    samples.sort(key=lambda sample: sample.name)
    return FolderPlan(tuple(samples), tuple(sorted(rejected.items())), tuple(sorted(hidden)))


def extension(file: PurePosixPath) -> str:
    """The ending of a file in lower case, without the dot."""
    return file.suffix[1:].lower()


def is_speaker(file: PurePosixPath) -> bool:
    """Whether a file says who speaks in the sound of its name."""
    return file.name.endswith(f".{SPEAKER}")


def read_member(folder: Path, part: PurePosixPath | str, limits: MediaLimits, speaker: PurePosixPath | None = None) -> Member:
    """The bytes of one part, and of the file that says who speaks in it, never more than their caps. Raises BadMedia."""
    if isinstance(part, str):
        try:
            return Member(Modality.TEXT, "txt", part.encode())
        except UnicodeEncodeError as error:
            raise BadMedia(f"the document has text that is no Unicode: {error.reason}") from error
    modality = MODALITY_OF_EXTENSION[extension(part)]
    cap = limits.max_text_bytes if modality is Modality.TEXT else limits.max_bytes
    return Member(modality, extension(part), _read(folder, part, cap), None if speaker is None else _read(folder, speaker, MAX_BYTES))


def _walk(folder: Path) -> tuple[list[PurePosixPath], dict[str, str], list[str]]:
    files, rejected, hidden = [], {}, []
    for at, subfolders, names in os.walk(folder, onerror=lambda error: rejected.update({str(error.filename): str(error.strerror)})):
        here = PurePosixPath(Path(at).relative_to(folder).as_posix())
        for name in list(subfolders):
            if name.startswith("."):
                hidden.append(f"{_shown(here / name)}/")
            elif (Path(at) / name).is_symlink():
                rejected[f"{_shown(here / name)}/"] = "a link to a folder; links to folders are not followed"
            else:
                continue
            subfolders.remove(name)
        subfolders.sort()
        for name in sorted(names):
            file = here / name
            reason = _refusal(folder, file)
            if name.startswith("."):
                hidden.append(_shown(file))
            elif reason:
                rejected[_shown(file)] = reason
            else:
                files.append(file)
    return files, rejected, hidden


def _refusal(folder: Path, file: PurePosixPath) -> str:
    path = folder / file
    if not path.resolve().is_relative_to(folder.resolve()):
        return "a link that leads out of the folder"
    if not path.is_file():
        return "a link to nothing" if path.is_symlink() else "not a plain file"
    if not str(file).isprintable():
        return "the name has unprintable characters; rename it"
    if extension(file) not in MODALITY_OF_EXTENSION and extension(file) != "json" and not is_speaker(file):
        return f"files that end in {file.suffix!r} are not read; known endings: {_KINDS}"
    return ""


def _shown(file: PurePosixPath) -> str:
    return str(file).encode(errors="replace").decode()  # names are bytes on disk and need not be text


def _read(folder: Path, file: PurePosixPath, cap: int) -> bytes:
    try:
        with open(folder / file, "rb") as opened:
            data = opened.read(cap + 1)
    except OSError as error:
        raise BadMedia(f"cannot be read: {error.strerror}") from error
    if len(data) > cap:
        raise BadMedia(f"has more than {cap} bytes")
    return data


def _read_json(folder: Path, file: PurePosixPath, limits: MediaLimits) -> dict:
    try:
        content = json.loads(_read(folder, file, limits.max_text_bytes))
        json.dumps(content, ensure_ascii=False, allow_nan=False).encode()  # not-a-number and half characters cannot be stored
    except (ValueError, RecursionError) as error:
        raise BadMedia(f"not readable as JSON: {error}") from error
    if not isinstance(content, dict):
        raise BadMedia('the json is no object; a document is {"segments": [{"text": "…"}, {"image": "a.jpg"}]}')
    return content


def _document(folder: Path, file: PurePosixPath, content: dict) -> FolderSample:
    segments = content["segments"]
    if not isinstance(segments, list) or not segments:
        raise BadMedia('"segments" must be a list with at least one entry')
    parts: list[PurePosixPath | str] = []
    for number, segment in enumerate(segments):
        where = f"segment {number}"
        if not isinstance(segment, dict) or len(segment) != 1 or next(iter(segment)) not in [m.value for m in Modality]:
            raise BadMedia(f'{where} must have exactly one of "text", "image", "video", "audio"')
        (kind, value), = segment.items()
        if not isinstance(value, str):
            raise BadMedia(f"{where}: {kind!r} must be a string")
        parts.append(value if kind == "text" else _inside(folder, file, Modality(kind), value, where))
    attributes = content.get("attributes", {})
    if not isinstance(attributes, dict) or not all(isinstance(v, str | int | float | bool | None) for v in attributes.values()):
        raise BadMedia('"attributes" must be an object of plain values')
    files = tuple(dict.fromkeys([file, *(p for p in parts if isinstance(p, PurePosixPath))]))
    return FolderSample(str(file.with_suffix("")), tuple(parts), files, attributes)


def _inside(folder: Path, document: PurePosixPath, kind: Modality, value: str, where: str) -> PurePosixPath:
    """A file that a document names, relative to the document; it must be a plain file inside the folder."""
    path = Path(os.path.normpath(document.parent / value)) if "\0" not in value else Path("..")
    if os.path.isabs(value) or ".." in path.parts or "\\" in value:
        raise BadMedia(f"{where} names {value[:80]!r}, which is not inside the folder")
    file = PurePosixPath(path.as_posix())
    try:
        found = (folder / file).is_file()
    except OSError:  # a name that no file system takes
        found = False
    if not found:
        raise BadMedia(f"{where} names {value[:80]!r}, which is not a file in the folder")
    reason = _refusal(folder, file)
    if reason or MODALITY_OF_EXTENSION.get(extension(file)) is not kind:
        raise BadMedia(f"{where} names {value[:80]!r} as {kind.value}: {reason or 'its ending is of another kind'}")
    return file


def _with_speakers(sample: FolderSample, vectors: dict[str, PurePosixPath]) -> FolderSample:
    sounds = [part for part in sample.parts if isinstance(part, PurePosixPath) and MODALITY_OF_EXTENSION[extension(part)] is Modality.AUDIO]
    found = {sound: vectors[stem] for sound in sounds if (stem := str(sound.with_suffix(""))) in vectors}
    return replace(sample, files=tuple(dict.fromkeys((*sample.files, *found.values()))), speakers=found) if found else sample


def _rank(file: PurePosixPath) -> int:
    return _ORDER.index(MODALITY_OF_EXTENSION[extension(file)])
