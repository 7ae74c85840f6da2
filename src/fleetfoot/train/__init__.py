"""How do I get one? Recipes, the loop, and checkpoints that lose nothing."""
