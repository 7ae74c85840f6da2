"""Detection: boxes, and masks of instances."""
