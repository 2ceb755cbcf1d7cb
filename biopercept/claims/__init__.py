"""What the Perceiver is claimed to do, shown by small experiments that anybody can repeat on one processor core."""
