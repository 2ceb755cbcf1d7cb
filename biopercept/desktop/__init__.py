"""The desktop window: recordings looked at and corrected by hand, with the extra ``desktop``; the only room with Qt."""
