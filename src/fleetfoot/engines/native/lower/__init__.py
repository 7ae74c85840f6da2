"""Lowering: from a network that torch exported to a graph of the native engine."""
