"""Recipe and tokenizers -> model, layout of documents, loader, engine: how the parts of a run are put together."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from hashlib import blake2b

import torch

from ernie5.config import to_plain
from ernie5.data_pipelines.collate import Widths
from ernie5.data_pipelines.cost import Cost
from ernie5.data_pipelines.encode import Encoder, Tokenizers
from ernie5.data_pipelines.grouping import Grouping
from ernie5.data_pipelines.loader import Loader, SampleMaker, StreamConfig
from ernie5.data_pipelines.mixture import Mixture
from ernie5.data_pipelines.quarantine import Quarantine
from ernie5.data_pipelines.text_dropout import TextDropout
from ernie5.generate.generator import Bounds, Generator
from ernie5.model.bit_growth import begin_with
from ernie5.model.config import Vocabulary
from ernie5.model.count import ModelSize, count
from ernie5.model.elastic_space import ElasticSpace
from ernie5.model.router_balance import RouterBalance
from ernie5.model.unified_transformer import UnifiedTransformer
from ernie5.objectives.modality_weights import EqualWeights, PosteriorWeights
from ernie5.parallel.build import StepConfig, build_engine
from ernie5.parallel.world import World
from ernie5.recipe import Recipe
from ernie5.run.parts import load_part
from ernie5.tokenizers.remote.tokenizers import RemoteAudio, RemoteText, RemoteVision
from ernie5.tokenizers.vision.understanding import UnderstandingEncoder
from ernie5.train.bit_growth import check_growth
from ernie5.train.optimizer import make_optimizer
from ernie5.train.prepare import Corpus, served_tokenizer
from ernie5.train.training import Objective, Training


def vocabulary_of(recipe: Recipe, tokenizers: Tokenizers) -> Vocabulary:
    """The sizes that tables and heads take from the tokenizers."""
    return Vocabulary(
        text=tokenizers.text.vocab_size, bits=tokenizers.vision.quantizer.bits, num_codebooks=tokenizers.audio.num_codebooks,
        codebook_size=tokenizers.audio.codebook_size, feature_dim=tokenizers.vision.feature_dim, patch=tokenizers.vision.stride,
        speaker_dim=recipe.data.speaker.dim,
    )


def widths_of(vocabulary: Vocabulary, pack: bool = False, bits: int | None = None) -> Widths:
    """What batches hold when `bits` bits of a vision token are on; None = all. `pack`: understanding reads of all sizes together."""
    return Widths(bits or vocabulary.bits, vocabulary.num_codebooks, vocabulary.feature_dim, vocabulary.patch, pack, vocabulary.speaker_dim)


def build_model(recipe: Recipe, vocabulary: Vocabulary) -> UnifiedTransformer:
    """The model of a recipe with initial weights; the same for any plan and device."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.run.seed)  # a user's own modules draw from the global stream
        understanding = UnderstandingEncoder(recipe.understanding, vocabulary.feature_dim, recipe.model.dim)
        model = UnifiedTransformer(recipe.model, vocabulary, understanding, recipe.run.seed)
    if recipe.train.bits is not None:
        begin_with(model, recipe.train.bits)
    return model


def planned_vocabulary(recipe: Recipe) -> Vocabulary:
    """The sizes before there are tokenizers: what the recipe asks for, and what services tell. ConnectionError when none answers."""
    audio, vision = recipe.tokenizers.audio.codec, recipe.tokenizers.vision
    planned = Vocabulary(recipe.tokenizers.text.vocab_size, vision.bits, audio.num_codebooks, audio.codebook_size, vision.channels[-1],
                         speaker_dim=recipe.data.speaker.dim)
    for kind in recipe.tokenizers.services:
        match served_tokenizer(recipe, kind):
            case RemoteText() as text:
                planned = replace(planned, text=text.vocab_size)
            case RemoteVision() as seen:
                planned = replace(planned, bits=seen.quantizer.bits, feature_dim=seen.feature_dim, patch=seen.stride)
            case RemoteAudio() as heard:
                planned = replace(planned, num_codebooks=heard.num_codebooks, codebook_size=heard.codebook_size)
    return planned


def whole_on_meta(recipe: Recipe, vocabulary: Vocabulary) -> UnifiedTransformer:
    """All of the model without memory, for counting: engines may hold parts of it."""
    with torch.device("meta"):
        return build_model(recipe, vocabulary)


def planned_size(recipe: Recipe) -> ModelSize:
    """The size of a recipe's model before there are tokenizers: built on the meta device, with the vocabulary that was asked for."""
    return count(whole_on_meta(recipe, planned_vocabulary(recipe)), recipe.train.length)


def grouping_of(recipe: Recipe, tokenizers: Tokenizers) -> Grouping:
    """How documents of this run are laid out."""
    return Grouping(
        tokenizers.vision.quantizer, tokenizers.audio.num_codebooks, tokenizers.audio.codebook_size,
        history=recipe.data.history, prompt_weight=recipe.data.prompt_weight, chunk_frames=recipe.understanding.chunk,
    )


def build_generator(recipe: Recipe, tokenizers: Tokenizers, model: UnifiedTransformer, bits: int | None) -> Generator:
    """Generation within the sizes that the recipe trains on, of the bits that are on (`train.bits_at`)."""
    limits, vision = recipe.data.limits, tokenizers.vision
    bounds = Bounds(
        grid=(limits.image_size.height // vision.stride, limits.image_size.width // vision.stride),
        latent_frames=1 + (limits.num_frames - 1) // vision.temporal_stride,
        codec_frames=round(limits.audio_seconds * tokenizers.audio.frame_rate_hz),
    )
    widths = widths_of(model.vocabulary, recipe.understanding.pack, bits)
    return Generator(model, tokenizers, grouping_of(recipe, tokenizers), widths, bounds)


def mixture_of(recipe: Recipe, sizes: dict[str, int]) -> Mixture:
    """What a recipe draws from, at its beginning; `sizes` samples per source."""
    sources = recipe.data.sources
    return Mixture(
        sizes, {name: source.weight for name, source in sources.items()}, recipe.run.seed,
        epochs={name: source.epochs for name, source in sources.items() if source.epochs is not None}, temperature=recipe.data.temperature,
    )


def stream_of(recipe: Recipe) -> StreamConfig:
    """How a recipe packs, and who reads ahead."""
    model = recipe.model
    cost = Cost.of_layer(model.dim, model.num_heads * model.head_dim, model.num_kv_heads * model.head_dim, model.expert_dim,
                         model.top_k + model.num_shared_experts)
    return StreamConfig(recipe.data.workers, recipe.data.pack_window, cost)


def layout_of(recipe: Recipe, tokenizers: Tokenizers) -> str:
    """A text that is another one when documents may have other lengths; what surely changes none is left out."""
    free = {"demo", "sources", "heldout", "tolerance", "cache_gib", "encode_ahead", "temperature", "workers", "pack_window"}
    if not recipe.data.augment.on:
        free.add("augment")
    if not recipe.data.text_dropout:
        free.add("text_dropout")
    data = {key: value for key, value in to_plain(recipe.data).items() if key not in free}
    prints = [getattr(tokenizers, kind).fingerprint for kind in ("text", "vision", "audio")]
    data["native"] = recipe.data.native
    return blake2b(json.dumps([data, prints, recipe.run.seed], sort_keys=True).encode(), digest_size=16).hexdigest()


def check_sizes(recipe: Recipe, tokenizers: Tokenizers) -> None:
    """ValueError when the vision tokenizer has fewer bits than the run switches on, was not trained for a size that images may get, or has
    cells that are no patches, and when the model is too shallow for a served audio tokenizer.
    """
    if "audio" in recipe.tokenizers.services:
        recipe.check_levels(tokenizers.audio.num_codebooks)
    vision, patch = tokenizers.vision, recipe.understanding.patch
    if vision.stride != patch:
        raise ValueError(f"understanding.patch = {patch} must be the stride of the vision tokenizer, {vision.stride}: a patch is seen by "
                         f"both; use understanding.patch = {vision.stride}")
    check_growth(recipe.train, vision.quantizer.bits)
    recipe.data.augment.check(recipe.data.limits.image_size, vision.stride)
    for i, size in enumerate(recipe.data.augment.aspect_buckets):
        try:
            vision.quantizer.scales(size.height // vision.stride, size.width // vision.stride)
        except ValueError as error:
            raise ValueError(f"data.augment.aspect_buckets[{i}] = {size.height} x {size.width}: {error}; or take this size away, "
                             "if no picture of data.sources gets it") from None


def build_training(recipe: Recipe, tokenizers: Tokenizers, corpus: Corpus, quarantine: Quarantine, world: World) -> Training:
    """Model, engine and loader at step 0."""
    check_sizes(recipe, tokenizers)
    model = build_model(recipe, vocabulary_of(recipe, tokenizers)).to(world.device)
    bf16 = recipe.train.precision == "bf16" or (recipe.train.precision == "auto" and world.device.type == "cuda")
    engine = build_engine(recipe.parallel, model, partial(make_optimizer, config=recipe.train.optimizer), world,
                          StepConfig(recipe.train.optimizer.clip, bf16, recipe.elastic.on))
    maker = SampleMaker(
        read=corpus.read, reject=quarantine.reject, accept=quarantine.accept, encoder=Encoder(tokenizers, recipe.data.cache_gib),
        grouping=grouping_of(recipe, tokenizers), roles=recipe.data.roles, seed=recipe.run.seed, layout=layout_of(recipe, tokenizers),
        views=corpus.views(),
        text_dropout=TextDropout(tokenizers.text, recipe.data.text_dropout, recipe.run.seed) if recipe.data.text_dropout else None,
    )
    mixture = mixture_of(recipe, {name: len(source) for name, source in corpus.sources.items()})
    weighting = PosteriorWeights if recipe.train.modality_weighting == "posterior" else EqualWeights
    widths = widths_of(model.vocabulary, recipe.understanding.pack)
    loader = Loader(maker, mixture, widths, engine.data_rank, engine.data_size, stream_of(recipe))
    return Training(
        model=model, engine=engine, loader=loader,
        balance=RouterBalance(model, recipe.train.balance_speed), modality_weights=weighting(recipe.train.loss_weights),
        objective=Objective(load_part(recipe.train.objective)(), model),
        elastic=ElasticSpace(recipe.elastic, recipe.model, model.vocabulary.num_codebooks), seed=recipe.run.seed,
    )
