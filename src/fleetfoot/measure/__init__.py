"""How long does it take? Clock, grid, pace, interleaved runs, and the records they leave."""
