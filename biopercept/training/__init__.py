"""Networks fitted, pretrained, adapted to a person, calibrated and saved."""
