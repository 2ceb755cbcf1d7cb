"""A file for each format, or family of formats, that recordings come in: a path in, a Recording out."""
