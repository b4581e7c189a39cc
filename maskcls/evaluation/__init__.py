"""How good predictions are. Everything here works on labels and logits, whatever model and head form made them."""
