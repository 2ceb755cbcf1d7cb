"""What every kind of result holds: one frozen dataclass is the schema of each file, written and read here alone."""
