"""What the Perceiver is claimed to do, shown by small experiments that run from a checkout on one processor core."""
