"""How long does it take? The clock, the protocols, interleaved runs, and the records they leave."""
