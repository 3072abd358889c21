"""Training: recipes in, encoder artefacts out. The only part that uses torch."""
