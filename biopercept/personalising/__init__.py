"""Models of one subject: time split within a subject, adaptation of a network, and what a fit may see of a person."""
