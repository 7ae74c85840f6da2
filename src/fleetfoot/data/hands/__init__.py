"""Hands to try networks on: poses from seeds, and pictures drawn from them."""

from fleetfoot.data.hands.scenes import open_hands

__all__ = ["open_hands"]
