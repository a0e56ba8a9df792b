"""Curation: choosing which samples of some shards to train on. The entry is `run.curate`; `recipe.Curation` lists the steps."""
