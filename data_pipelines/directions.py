"""From what to what a sample teaches: the (input modality, output modality) by which the report organises its data.

    text, image predicted -> "text->image"      image read, text -> "image->text"      text alone -> "text->text"
    image predicted without its prompt -> "nothing->image"             several join with +: "text+image->video"

Report: §3.1 (data by direction). Ours: the names.
"""

from __future__ import annotations

from collections.abc import Sequence

from ernie5.sequence import Modality, Role, Segment


def direction(segments: Sequence[Segment]) -> str:
    """The direction of a sample whose roles are given: outputs are its predicted media, or text where it has none."""
    present: set[Modality] = {s.modality for s in segments}
    made: set[Modality] = {s.modality for s in segments if s.role is Role.GENERATE} - {Modality.TEXT}
    if made:
        return f"{_names(present - made) or 'nothing'}->{_names(made)}"
    return f"{_names(present - {Modality.TEXT}) or Modality.TEXT.value}->{Modality.TEXT.value}"


def _names(modalities: set[Modality]) -> str:
    return "+".join(m.value for m in Modality if m in modalities)
