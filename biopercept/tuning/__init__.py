"""Selection among candidates inside the training subjects, with a score of the whole procedure."""
