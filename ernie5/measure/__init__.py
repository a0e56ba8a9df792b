"""How well tokenizers keep what they encode: distances, rates, use of codes, baselines, and a page to look at."""
