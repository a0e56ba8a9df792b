"""Lengths without media are the lengths of the documents that are packed later."""

import numpy as np
import pytest
import torch
from tiny_world import documents, grouping

from ernie5.data_pipelines.encode import CodedSample
from ernie5.data_pipelines.measure import Look, Measure
from ernie5.data_pipelines.mixture import Draw
from ernie5.data_pipelines.roles import RolesConfig
from ernie5.data_pipelines.sample_maker import SampleMaker
from ernie5.sequence import Modality, Sample, Segment


@pytest.mark.parametrize("name", sorted(documents()))
def test_a_measured_length_is_that_of_the_document(name: str) -> None:
    parts = documents()[name]
    media = [torch.zeros(1) if p.pixels is None and p.modality is Modality.AUDIO else p.pixels for p in parts]
    segments = tuple(Segment(p.modality, str(i) if m is None else m) for i, (p, m) in enumerate(zip(parts, media, strict=True)))
    coded = CodedSample(Sample(name, segments, {}), tuple(p.codes for p in parts))
    roles = RolesConfig()
    measure = Measure(grouping(), roles, seed=3)
    maker = SampleMaker(lambda *_: None, lambda *_: None, lambda: None, None, grouping(), roles, seed=3)  # type: ignore[arg-type]
    look = measure.learn("s/0", coded)
    assert isinstance(look, Look)
    for number in range(12):  # both roles
        assert measure.of(look, Draw(number, "s", 0)).length == len(maker.packed(coded, number)), number


def test_an_empty_text_has_no_length() -> None:
    coded = CodedSample(Sample("s/0", (Segment(Modality.TEXT, ""),), {}), (torch.zeros(0, dtype=torch.int64),))
    measure = Measure(grouping(), RolesConfig(), seed=0)
    look = measure.learn("s/0", coded)
    assert isinstance(look, Look)
    assert measure.of(look, Draw(0, "s", 0)).length == sum(len(b) for b in grouping().document([], np.random.default_rng(0)))
