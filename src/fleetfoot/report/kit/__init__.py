"""Drawing kit for pages and cards: markup, charts, colours, labels, the terminal."""
