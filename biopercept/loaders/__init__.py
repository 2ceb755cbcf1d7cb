"""File formats: one file per family, each giving a Recording."""
