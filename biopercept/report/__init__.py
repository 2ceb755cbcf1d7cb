"""Tables, figures and HTML pages of result files and recordings; nothing is measured or scored here."""
