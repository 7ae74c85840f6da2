"""From files to batches: finding pictures, opening them safely, and the exact preprocessing of each
network."""
