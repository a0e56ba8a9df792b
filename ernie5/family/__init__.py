"""The sub-models of a trained run: measure them, choose one, take it out."""
