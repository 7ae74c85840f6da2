"""Why is it slow, and what do I change? Layers beside their floors, and rules priced in time."""
