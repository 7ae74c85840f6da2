"""Hands: joints and a mesh from one picture."""
