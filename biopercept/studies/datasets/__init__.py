"""Public data sets that can be imported as studies, one file each."""
