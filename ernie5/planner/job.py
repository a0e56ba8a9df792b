"""A recipe and some hardware as what is planned: the model is built on the meta device, with the vocabulary that was asked for. Ours."""

from __future__ import annotations

from ernie5.planner.estimate import Job
from ernie5.planner.hardware import Hardware
from ernie5.planner.parameters import ParameterTable
from ernie5.recipe import Recipe
from ernie5.train.assemble import planned_vocabulary, whole_on_meta
from ernie5.train.bit_growth import growth_words


def job_of(recipe: Recipe, hardware: Hardware, world_size: int) -> Job:
    """The stage of the run with the most positions in a row is planned: it needs the most memory."""
    vocabulary = planned_vocabulary(recipe)
    table = ParameterTable(whole_on_meta(recipe, vocabulary), recipe.model, vocabulary)
    bf16 = recipe.train.precision == "bf16" or (recipe.train.precision == "auto" and hardware.gpu)
    workload = max(recipe.workloads(), key=lambda work: work.length)
    return Job(table, recipe.model, vocabulary, workload, hardware, world_size, 2 if bf16 else 4,
               growth_words(recipe.train, vocabulary.bits))

