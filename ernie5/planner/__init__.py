"""What a recipe would need and take on hardware that one does not have at hand: `ernie5 plan`. Nothing is allocated and nothing is run."""
