"""The other systems, one file each, behind the same interface as the Perceiver."""
