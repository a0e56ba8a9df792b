"""Settings of the steps -> the functions that do the work, with what they need (eval sets, models) loaded once.

    Check    looks at one sample alone
    Search   makes a signature of each sample, then finds copies among all signatures at once

All of it can be sent to other processes and machines. Ours: the split; what can be decided alone costs no memory.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from ernie5.data_pipelines.curate import decontaminate, exact, media_rules, near_image, near_text, text_rules
from ernie5.data_pipelines.curate.copies import Copies
from ernie5.data_pipelines.curate.recipe import Curation, Settings
from ernie5.data_pipelines.curate.view import Reject, View
from ernie5.data_pipelines.media_limits import BadMedia
from ernie5.data_pipelines.quarantine import BadSample
from ernie5.data_pipelines.source import Source
from ernie5.data_pipelines.source_config import SourceConfig
from ernie5.data_pipelines.sources import open_source
from ernie5.data_pipelines.tokenized.source import TokenizedSource
from ernie5.run.progress import progress

Reread = Callable[[int], View]


@dataclass(frozen=True)
class Check:
    """`run(view)`: None, or why the sample goes. Raises BadMedia."""

    run: Callable[[View], Reject | None]


@dataclass(frozen=True)
class Search:
    """`sign(view)`: rows of the sample, one or several or none. `find(rows, owner, reread)`: the copies among all rows. Raises BadMedia."""

    reason: str
    sign: Callable[[View], np.ndarray]
    find: Callable[[np.ndarray, np.ndarray, Reread], Copies]


def prepare(curation: Curation) -> tuple[Check | Search, ...]:
    """One for every step. ValueError for what the steps need and do not find: eval shards, a tokenizer, a package."""
    done: list[Check | Search] = []
    for number, step in enumerate(curation.steps, 1):
        try:
            done.append(_prepare(step.settings, curation))
        except (ValueError, OSError) as error:
            raise ValueError(f"step {curation.label(number)}: {error}") from error
    return tuple(done)


def open_data(path: str | Path, fields: tuple[str, ...], disk_gib: float) -> Source:
    """The shards at a path, named after it. ValueError when there are none or one cannot be read."""
    place = str(path) if "://" in str(path) else os.path.abspath(path)  # other processes may have another working folder
    source = open_source(Path(place).name, SourceConfig(place, fields=fields, disk_gib=disk_gib))
    if isinstance(source, TokenizedSource):
        raise ValueError(f"{path} holds codes of ernie5 data tokenize; curate the shards that they were made from, then tokenize")
    return source


def open_eval(rule: decontaminate.EvalText | decontaminate.EvalImage, curation: Curation) -> Source:
    """The eval set of a step. ValueError when there is none or it cannot be read."""
    return open_data(rule.against, rule.fields, curation.disk_gib)


def _prepare(settings: Settings, curation: Curation) -> Check | Search:
    match settings:
        case text_rules.Length():
            if settings.tokenizer:
                text_rules.text_tokenizer(settings.tokenizer)
            return Check(partial(text_rules.check_length, rule=settings))
        case text_rules.Language():
            text_rules.check_languages_known(settings)
            return Check(partial(text_rules.check_language, rule=settings))
        case media_rules.ImageSize():
            return Check(partial(media_rules.check_images, rule=settings))
        case media_rules.ClipSize():
            return Check(partial(media_rules.check_clips, rule=settings))
        case media_rules.SoundSize():
            return Check(partial(media_rules.check_sounds, rule=settings))
        case exact.Exact():
            return Search("exact duplicate", partial(exact.sign, rule=settings), _find_exact)
        case near_text.NearText():
            return Search("near duplicate", partial(near_text.sign, rule=settings), partial(_find_near_text, rule=settings))
        case decontaminate.EvalText():
            return Check(decontaminate.EvalGrams(_eval_views(settings, curation), settings).check)
        case decontaminate.EvalImage():  # before NearImage, which it extends
            return Check(decontaminate.EvalPictures(_eval_views(settings, curation), settings).check)
        case near_image.NearImage():
            return Search("near duplicate", near_image.sign, partial(_find_near_image, rule=settings))
    raise AssertionError(settings)


def _find_exact(rows: np.ndarray, owner: np.ndarray, reread: Reread) -> Copies:
    return exact.find_copies(rows, owner)


def _find_near_text(rows: np.ndarray, owner: np.ndarray, reread: Reread, rule: near_text.NearText) -> Copies:
    return near_text.find_copies(rows, owner, rule, lambda number: near_text.grams_of(reread(number), rule))


def _find_near_image(rows: np.ndarray, owner: np.ndarray, reread: Reread, rule: near_image.NearImage) -> Copies:
    return near_image.find_copies(rows, owner, rule)


def _eval_views(rule: decontaminate.EvalText | decontaminate.EvalImage, curation: Curation) -> Iterator[View]:
    source = open_eval(rule, curation)
    with progress(f"reading eval set {source.name}", total=len(source)) as bar:
        for number in range(len(source)):
            bar.advance(1)
            try:
                view = View(source.read(number), curation.limits)
                view.verify(decode=True)
            except (BadSample, BadMedia) as error:
                raise ValueError(f"the eval set {rule.against} has a damaged sample: {error}; repair or remove it") from error
            yield view
