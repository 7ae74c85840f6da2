"""How right is it? Scores, measured here or published elsewhere."""
