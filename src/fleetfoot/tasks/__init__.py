"""What a network is asked to do: decoding and metric, a file a task."""
