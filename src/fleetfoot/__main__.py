"""``python -m fleetfoot`` is the command ``fleetfoot``."""

from fleetfoot.cli import main

main()
