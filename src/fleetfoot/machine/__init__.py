"""What can this machine do? Its identity, its rates and bandwidths, and the floors they set."""
