"""The store: one HDF5 file of prepared recordings per study."""
