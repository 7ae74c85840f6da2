"""The machine: its identity, its rates and bandwidths, and the floors that they set."""
