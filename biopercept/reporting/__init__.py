"""Tables, figures and HTML pages: read results, compute nothing."""
