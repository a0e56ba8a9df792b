"""Numbers about a trained model, computed from counts and measurements alone; no model is run here."""
