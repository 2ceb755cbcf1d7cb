"""The packaged sample study: made data, see README.md."""
