"""What every page and card is drawn with: markup, charts, colours, labels, the terminal."""
