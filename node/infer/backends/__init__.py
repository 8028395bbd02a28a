"""What runs a model: one module for each `ModelCard.backend`, looked up when a model asks for it."""
