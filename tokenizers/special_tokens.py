"""Control tokens: the first ids of the text vocabulary.

Report: Fig. 2-3 (BOI EOI BOV EOV BOA EOA SEP). Ours: one vocabulary holds them, so the text head alone decides when to leave text
(decision 4); NEXT_FRAME and EOV are the two answers at the end of a frame (decision 5); SPEAKER marks a speaker slot.
"""

from enum import IntEnum


class SpecialToken(IntEnum):
    """Ids 0..11; ordinary text starts at `NUM_SPECIAL_TOKENS`."""

    PAD = 0
    BOS = 1         # start of a document
    EOS = 2         # end of a document
    BOI = 3         # begin / end of image
    EOI = 4
    BOV = 5         # begin / end of video
    EOV = 6
    BOA = 7         # begin / end of audio
    EOA = 8
    SEP = 9         # between an understood medium and the text about it
    NEXT_FRAME = 10
    SPEAKER = 11


NUM_SPECIAL_TOKENS = len(SpecialToken)
