"""What could make a score better than it is: probes of the design, the inputs, the evaluation and the model itself."""
