"""Published and own measurements: how far predictions are off, and constants that are fitted to a deployment."""
