"""The settings of every step joined: which there are, what reads each, and presets and files read into them."""
