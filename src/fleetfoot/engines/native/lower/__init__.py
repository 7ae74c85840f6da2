"""A network as torch exports it becomes a graph of the native engine."""
