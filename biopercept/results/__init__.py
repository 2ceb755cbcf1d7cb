"""The result files: one frozen dataclass per kind of file, read and written here alone."""
