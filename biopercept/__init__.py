"""biopercept: recordings of the body in, predictions of human factors out, with scores that can be trusted."""

__version__ = "0.1.0"
