"""How long does it take? The clock, the grid, the pace, interleaved runs, and the records they leave."""
