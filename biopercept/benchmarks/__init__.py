"""What the network costs: its speed and memory beside other implementations, and its operations counted."""
