"""Memory levers on one process: what a step computes stays as it is."""

import dataclasses

import pytest
import torch
from parity import LENGTH, MODEL, make_engine
from tiny_world import batch, small_model

from ernie5.model.elastic import FULL, SubModel
from ernie5.model.elastic_samples import SamplesOf
from ernie5.model.unified_transformer import UnifiedTransformer
from ernie5.objectives.modality_weights import Weights
from ernie5.objectives.next_group import TargetCounts, next_group_loss
from ernie5.parallel.again import Recomputed
from ernie5.parallel.levers import apply_levers
from ernie5.parallel.memory import MemoryConfig
from ernie5.parallel.world import World
