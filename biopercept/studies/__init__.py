"""Studies: a folder of tables, BIDS data sets, and the public data sets we know."""
