"""Tables, figures and HTML pages of result files; nothing is computed here."""
