"""Tasks of networks: decoding and metric, one file for each task."""
